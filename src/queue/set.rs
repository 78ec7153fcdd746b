//! The queue set: one open handle.

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use super::{Batch, Queue, QueueOptions, nanoseconds, options::c_name};
use crate::{
    error::Result,
    raw::queue::{RawQueue, RawSet},
    report::QueueReport,
};

/// A set of queues that processes share, and the items that lie in them: one open handle on it.
///
/// The items are made once, in shared memory, all of one size, and never copied. Each lies in one [`Queue`], or is held
/// by one handle, as an [`Item`](crate::Item) or in a [`Batch`], which then reads and writes its bytes in place. Any
/// number of processes, written in Rust, C or C++, pull and push at the same time.
///
/// A clone is the same handle, for another thread; it closes with the last clone, and with the last of its queues.
/// Opening the set again makes a handle of its own, with one of the set's 1,023 slots (none if read-only). Threads that
/// share a handle also share its slot: faster with a handle each.
///
/// ```
/// use shf::{QueueOptions, QueueSet};
///
/// # let path = format!("/dev/shm/shf-doc-queue-{}.shf", std::process::id());
/// # let _ = shf::remove(&path);
/// # let path = path.as_str();
/// # /*
/// let path = "/dev/shm/jobs.shf";
/// # */
/// // One process:
/// let set = QueueOptions::new().items(100).item_size(4096).queues(&["free", "jobs"]).create(path)?;
/// let (free, jobs) = (set.queue("free")?, set.queue("jobs")?);
/// if let Some(mut item) = free.pull()? {
///     item[..5].copy_from_slice(b"hello");
///     jobs.push(item)?;
/// }
///
/// // Another one:
/// let set = QueueSet::open(path)?;
/// let (free, jobs) = (set.queue("free")?, set.queue("jobs")?);
/// let item = jobs.pull()?.expect("somebody has pushed one");
/// assert_eq!(&item[..5], b"hello");
/// free.push(item)?;
///
/// shf::remove(path)?;
/// # Ok::<(), shf::Error>(())
/// ```
///
/// # Home
///
/// An item's home is the queue it was last pulled from. It goes home, to the end of that queue, when it is dropped
/// unpushed, when its handle closes, and when its holder dies.
///
/// # Death
///
/// A process that dies inside a call, by any signal, has done it as a whole or not at all. The items it held come home
/// with their bytes as they were: whoever pulls from an empty queue, waits, asks for a length or opens the set looks after
/// the dead, at most every 20 ms, and a waiting process does so within 40 ms. No item is ever lost, nobody has to call
/// [`recover`](QueueSet::recover). So an item that comes home may have been worked on half-way: write what tells that
/// into the item.
///
/// A process that is *stopped* (SIGSTOP, a debugger) keeps its items. One that was stopped inside a call keeps a lock,
/// too: others get [`Error::Timeout`](crate::Error::Timeout) at their deadline
/// ([`QueueOptions::lock_timeout`]).
///
/// # Trust
///
/// Processes that may write the file are trusted with its items: an item's bytes are shared memory, and its holder has
/// `&mut` to them. A process that writes what it does not hold, or writes into a queue that an item lies in two places,
/// breaks what Rust is promised of such a reference. Numbers and positions in the file are checked before they are
/// followed, so a damaged file gives [`Error::Corrupt`](crate::Error::Corrupt), or an item that somebody else has too, but
/// nothing outside of the items is ever read or written through it.
///
/// # Fork
///
/// The child may go on using its copies of sets and queues. The items and batches that the parent holds stay the
/// parent's: pushed by the child they give [`Error::InvalidItem`](crate::Error::InvalidItem), and dropped there nothing
/// happens. The child must not touch their bytes.
#[derive(Clone)]
pub struct QueueSet {
    raw: Arc<RawSet>,
}

/// Opening, and what belongs to the handle.
impl QueueSet {
    pub(super) fn from_raw(raw: Arc<RawSet>) -> QueueSet {
        QueueSet { raw }
    }

    /// Opens the queue set at `path`, as it was created: [`QueueOptions::open`].
    ///
    /// # Errors
    /// As [`QueueOptions::open`]; [`Error::NotFound`](crate::Error::NotFound) if there is none.
    pub fn open<P: AsRef<Path>>(path: P) -> Result<QueueSet> {
        QueueOptions::new().open(path)
    }

    /// Opens the queue set behind a descriptor that another process passed on: [`QueueOptions::from_fd`].
    ///
    /// ```
    /// use shf::{QueueOptions, QueueSet};
    /// use std::os::fd::AsFd;
    /// let here = QueueOptions::new().items(1).item_size(8).queues(&["free"]).anonymous("passed on")?;
    /// let fd = here.as_fd().try_clone_to_owned().unwrap(); // sent through a socket, say
    /// let there = QueueSet::from_fd(fd)?;
    /// assert!(there.queue("free")?.pull()?.is_some());
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`QueueOptions::from_fd`].
    pub fn from_fd(fd: OwnedFd) -> Result<QueueSet> {
        QueueOptions::new().from_fd(fd)
    }

    /// How many items there are, in all queues and held.
    #[must_use]
    pub fn items(&self) -> usize {
        self.raw.items()
    }

    /// The bytes of an item.
    #[must_use]
    pub fn item_size(&self) -> usize {
        self.raw.item_size()
    }

    /// The path the set was opened with; `memfd:NAME` for an anonymous one. Somebody may have removed or renamed it
    /// since.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.raw.path()
    }

    /// Whether it was opened read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.raw.is_read_only()
    }
}

/// Queues.
impl QueueSet {
    /// The queue of that name. Others may have added it after this handle was opened.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound): there is none; the message names those that there are.
    /// [`Error::Invalid`](crate::Error::Invalid): it cannot be a name. [`Error::Corrupt`](crate::Error::Corrupt).
    ///
    /// # Cost
    /// Compares the names. Look it up once, not for each item.
    pub fn queue<N: AsRef<str>>(&self, name: N) -> Result<Queue> {
        self.raw.find(&c_name(name.as_ref())?).map(Queue::from_raw)
    }

    /// The queue of that name; makes it if it is not there. Of several processes that add the same name at once one
    /// makes it, and all get the same queue. Queues are never removed.
    ///
    /// ```
    /// # let set = shf::QueueOptions::new().items(2).item_size(8).queues(&["free"]).anonymous("add_queue")?;
    /// let replies = set.add_queue("replies of 4711")?;
    /// assert!(replies.is_empty()?);
    /// assert_eq!(set.queues().len(), 2);
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Full`](crate::Error::Full): there are 255 already. [`Error::NoSpace`](crate::Error::NoSpace): the file
    /// grows by 4 to 8 bytes an item. [`Error::Invalid`](crate::Error::Invalid): it cannot be a name. Also
    /// [`Error::ReadOnly`](crate::Error::ReadOnly), [`Error::Timeout`](crate::Error::Timeout),
    /// [`Error::Forked`](crate::Error::Forked), [`Error::AddressSpace`](crate::Error::AddressSpace),
    /// [`Error::Corrupt`](crate::Error::Corrupt), [`Error::Io`](crate::Error::Io).
    ///
    /// # Death
    /// A process that dies in here has made the queue, or has not.
    pub fn add_queue<N: AsRef<str>>(&self, name: N) -> Result<Queue> {
        self.raw.add(&c_name(name.as_ref())?).map(Queue::from_raw)
    }

    /// All queues, in the order they were made, at the index that [`Queue::index`] and [`Item::home`](crate::Item::home)
    /// tell. Of a damaged file those that can be read.
    #[must_use]
    pub fn queues(&self) -> Vec<Queue> {
        (0..self.raw.count()).map_while(|index| self.raw.at(index).ok()).map(Queue::from_raw).collect()
    }

    /// An empty batch for up to `capacity` items (1 to [`items`](QueueSet::items)), to be filled and emptied over and
    /// over: [`Queue::pull_many_into`] and [`Queue::push_many_from`]. It borrows the set:
    ///
    /// ```compile_fail,E0505
    /// # let set = shf::QueueOptions::new().items(2).item_size(8).queues(&["free"]).anonymous("batch").unwrap();
    /// let batch = set.batch(10).unwrap();
    /// drop(set);
    /// println!("{batch:?}");
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid): no such capacity. [`Error::NoMemory`](crate::Error::NoMemory).
    ///
    /// # Cost
    /// 4 bytes of private memory an item. A batch of a capacity up to 1,024 takes the fastest path, and 4 of a handle at a time;
    /// longer ones, and more of them, cost about a nanosecond an item more.
    pub fn batch(&self, capacity: usize) -> Result<Batch<'_>> {
        self.raw.batch(capacity).map(Batch::from_raw)
    }

    /// Waits until one of the queues, all of this set, is not empty: the index in `queues` of the first such. `None`:
    /// all stayed empty for that long ([`Duration::MAX`]: wait for ever). Nothing is pulled: another process may be
    /// faster.
    ///
    /// ```
    /// use std::time::Duration;
    /// # let set = shf::QueueOptions::new().items(2).item_size(8).queues(&["free", "a", "b"]).anonymous("wait_any")?;
    /// # let (free, a, b) = (set.queue("free")?, set.queue("a")?, set.queue("b")?);
    /// b.push(free.pull()?.unwrap())?;
    /// assert_eq!(set.wait_any(&[&a, &b], Duration::from_secs(1))?, Some(1));
    /// assert_eq!(set.wait_any(&[&a], Duration::ZERO)?, None);
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid): no queue, or one of another handle; and those of
    /// [`Queue`](Queue#errors-of-all-calls).
    ///
    /// # Cost
    /// Spins for some microseconds, then sleeps in the kernel.
    pub fn wait_any(&self, queues: &[&Queue], timeout: Duration) -> Result<Option<usize>> {
        RawQueue::wait_any(&self.raw, queues.iter().map(|queue| queue.raw()), nanoseconds(timeout))
    }
}

/// The whole.
impl QueueSet {
    /// Brings the items of all queues, and those that dead processes held, to the first queue. Those that the living
    /// hold stay held. In steps, beside others' pulls and pushes: it empties what it finds.
    ///
    /// # Errors
    /// [`Error::ReadOnly`](crate::Error::ReadOnly), [`Error::Timeout`](crate::Error::Timeout),
    /// [`Error::Forked`](crate::Error::Forked), [`Error::Corrupt`](crate::Error::Corrupt). Some queues may be emptied
    /// then.
    ///
    /// # Death
    /// A process that dies in here leaves the rest where it was.
    pub fn reset(&self) -> Result<()> {
        self.raw.reset()
    }

    /// Looks for the dead and brings their items home, now. Nobody has to call it: empty pulls and waits do it.
    ///
    /// # Errors
    /// As [`reset`](QueueSet::reset).
    ///
    /// # Cost
    /// A look at each slot that holds items; with a death a pass over its hand, and over the words of all items if it held more than fits there.
    pub fn recover(&self) -> Result<()> {
        self.raw.recover()
    }

    /// Counts every item: each must be in one place exactly. What a death left is repaired, as by any other call. A
    /// problem is **not** an `Err`: look at [`QueueReport::problems`], or [`QueueReport::is_consistent`].
    ///
    /// ```
    /// # let set = shf::QueueOptions::new().items(3).item_size(8).queues(&["free"]).anonymous("check")?;
    /// # let free = set.queue("free")?;
    /// let item = free.pull()?;
    /// let report = set.check()?;
    /// assert!(report.is_consistent(), "{report:?}");
    /// assert_eq!((report.items, report.in_queues, report.held), (3, 2, 1));
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only if the count could not be made: [`Error::ReadOnly`](crate::Error::ReadOnly),
    /// [`Error::Timeout`](crate::Error::Timeout), [`Error::NoMemory`](crate::Error::NoMemory),
    /// [`Error::Forked`](crate::Error::Forked), [`Error::Corrupt`](crate::Error::Corrupt) if not even the beginning is
    /// right.
    ///
    /// # Cost
    /// About 10 ns an item, under all locks of the set: others wait meanwhile.
    pub fn check(&self) -> Result<QueueReport> {
        self.raw.check().map(|(report, first)| QueueReport::from_ffi(&report, first))
    }
}

/// The descriptor, borrowed, to be passed on to [`QueueSet::from_fd`] in another process.
impl AsFd for QueueSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.fd()
    }
}

impl fmt::Debug for QueueSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueSet")
            .field("path", &self.path())
            .field("items", &self.items())
            .field("item_size", &self.item_size())
            .finish_non_exhaustive()
    }
}
