//! One item, held by this process.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use crate::raw::queue::RawItem;

/// An item that was pulled: its bytes, in shared memory, this holder's alone until it is pushed or dropped.
///
/// It derefs to `[u8]`, as long as [`QueueSet::item_size`](crate::QueueSet::item_size) says, and begins at a multiple of
/// 64 bytes. The bytes are as the last holder left them. (The feature `zerocopy` adds `view`, for typed ones.)
///
/// Dropped unpushed it goes home: to the end of the queue it was pulled from. In a child made by `fork` after the pull
/// dropping it does nothing, because the parent holds it. The drop takes the lock of the item's home: if a stopped process
/// keeps that one, the item stays held, after 0.2 s, until the handle closes. So does one given to [`std::mem::forget`].
///
/// An item borrows the queue it came from, so it outlives neither that nor its set. (Owning both would cost two atomic
/// operations an item. A thread or task that shall have an item pulls it from its own clone of the queue, or lives in a
/// [`std::thread::scope`].)
///
/// ```compile_fail,E0505
/// # let set = shf::QueueOptions::new().items(2).item_size(8).queues(&["free"]).anonymous("item").unwrap();
/// let free = set.queue("free").unwrap();
/// let item = free.pull().unwrap();
/// drop(free);
/// println!("{item:?}");
/// ```
///
/// A push takes it away, so nobody writes into what somebody else may hold by now:
///
/// ```compile_fail,E0382
/// # let set = shf::QueueOptions::new().items(2).item_size(8).queues(&["free", "jobs"]).anonymous("item").unwrap();
/// # let (free, jobs) = (set.queue("free").unwrap(), set.queue("jobs").unwrap());
/// let mut item = free.pull().unwrap().unwrap();
/// jobs.push(item).unwrap();
/// item[0] = 1;
/// ```
///
/// And so do its bytes:
///
/// ```compile_fail,E0505
/// # let set = shf::QueueOptions::new().items(2).item_size(8).queues(&["free", "jobs"]).anonymous("item").unwrap();
/// # let (free, jobs) = (set.queue("free").unwrap(), set.queue("jobs").unwrap());
/// let item = free.pull().unwrap().unwrap();
/// let bytes: &[u8] = &item;
/// jobs.push(item).unwrap();
/// println!("{bytes:?}");
/// ```
///
/// What is meant:
///
/// ```
/// # let set = shf::QueueOptions::new().items(2).item_size(8).queues(&["free", "jobs"]).anonymous("item")?;
/// # let (free, jobs) = (set.queue("free")?, set.queue("jobs")?);
/// let mut item = free.pull()?.expect("there are two");
/// item.fill(7);
/// assert_eq!(item.len(), 8);
/// jobs.push(item)?;
///
/// let item = jobs.pull()?.expect("just pushed");
/// assert_eq!(item[..], [7; 8]);
/// drop(item); // home, to `jobs`
/// assert_eq!(jobs.len()?, 1);
/// # Ok::<(), shf::Error>(())
/// ```
pub struct Item<'q> {
    raw: RawItem<'q>,
}

impl<'q> Item<'q> {
    #[inline]
    pub(super) fn from_raw(raw: RawItem<'q>) -> Item<'q> {
        Item { raw }
    }

    #[inline]
    pub(super) fn into_raw(self) -> RawItem<'q> {
        self.raw
    }

    /// Which item of the set it is: below [`QueueSet::items`](crate::QueueSet::items), the same in all processes.
    #[must_use]
    #[inline]
    pub fn number(&self) -> usize {
        self.raw.number()
    }

    /// The index of the queue it was pulled from ([`Queue::index`](crate::Queue::index)), where it goes when it is
    /// dropped.
    #[must_use]
    #[inline]
    pub fn home(&self) -> usize {
        self.raw.home()
    }
}

impl Deref for Item<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.raw.bytes()
    }
}

impl DerefMut for Item<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.raw.bytes_mut()
    }
}

impl AsRef<[u8]> for Item<'_> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for Item<'_> {
    #[inline]
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// Its number, home and length; not its bytes, which may be a GiB.
impl fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("number", &self.number())
            .field("home", &self.home())
            .field("len", &self.len())
            .finish()
    }
}
