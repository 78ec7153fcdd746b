//! Queues of items that processes share: the work is done by `raw::queue` and the C engine.

#[cfg(feature = "tokio")]
mod asynchronous;
mod batch;
mod drain;
mod item;
mod options;
mod set;
#[cfg(feature = "zerocopy")]
mod typed;

#[cfg(feature = "tokio")]
pub use asynchronous::AsyncQueue;
pub use batch::{Batch, BatchItems, BatchIter, BatchIterMut};
pub use drain::Drain;
pub use item::Item;
pub use options::QueueOptions;
pub use set::QueueSet;

use std::{fmt, os::fd::BorrowedFd, sync::Arc, time::Duration};

use crate::{error::Result, raw::queue::RawQueue, report::QueueStats};

/// One queue of a [`QueueSet`]: first in, first out.
///
/// A clone is the same queue of the same handle. It keeps its set open.
///
/// *Order*: a queue gives its items out in the order of their pushes, so those of one producer in its order. Items that
/// come home join at the end.
///
/// *Full*: there is no full queue. Each has room for all items of the set, so a push never waits and never fails for
/// want of room. What bounds the flow is the number of items: a producer that finds no free item waits for one, in
/// [`pull_wait`](Queue::pull_wait).
///
/// # Errors of all calls
///
/// Besides what each call says: [`Error::ReadOnly`](crate::Error::ReadOnly) through a read-only set,
/// [`Error::Timeout`](crate::Error::Timeout) if a process that was stopped inside a call keeps a lock,
/// [`Error::Corrupt`](crate::Error::Corrupt), [`Error::Forked`](crate::Error::Forked) if a child could not register,
/// [`Error::Io`](crate::Error::Io), [`Error::AddressSpace`](crate::Error::AddressSpace). Nothing was changed then, but
/// as said at each call for the items it was given.
///
/// # Death
///
/// A process that dies inside a call has done it as a whole or not at all: see [`QueueSet`](QueueSet#death).
///
/// # Cost
///
/// A pull and a push together take about 25 ns, and the transfer of the cache lines; in a [`Batch`] about a nanosecond an
/// item. A push makes a system call only if somebody sleeps on its queue.
///
/// ```
/// use shf::QueueOptions;
/// use std::time::Duration;
///
/// let set = QueueOptions::new().items(4).item_size(64).queues(&["free", "jobs", "done"]).anonymous("work")?;
/// let [free, jobs, done] = ["free", "jobs", "done"].map(|name| set.queue(name).unwrap());
///
/// std::thread::scope(|threads| {
///     threads.spawn(|| -> shf::Result<()> {
///         for number in 1..=100u64 {
///             let mut item = free.pull_wait(Duration::MAX)?.expect("for ever"); // at most 4 are under way
///             item[..8].copy_from_slice(&number.to_le_bytes());
///             jobs.push(item)?;
///         }
///         Ok(())
///     });
///     let mut sum = 0;
///     for _ in 1..=100 {
///         let item = jobs.pull_wait(Duration::from_secs(10))?.expect("the other thread pushes");
///         sum += u64::from_le_bytes(item[..8].try_into().unwrap());
///         free.push(item)?;
///     }
///     assert_eq!(sum, 5050);
///     Ok::<(), shf::Error>(())
/// })?;
/// assert_eq!(free.len()?, 4);
/// # assert!(done.is_empty()?);
/// # Ok::<(), shf::Error>(())
/// ```
#[derive(Clone)]
pub struct Queue {
    raw: RawQueue,
    name: Arc<str>,
}

/// Which queue it is.
impl Queue {
    fn from_raw(raw: RawQueue) -> Queue {
        let name = raw.name().into();
        Queue { raw, name }
    }

    fn raw(&self) -> &RawQueue {
        &self.raw
    }

    /// Its name. (Of one that a C program named with bytes that are no UTF-8, a replacement stands for each of them.)
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place in [`QueueSet::queues`], the same in all processes: what [`Item::home`] tells.
    #[must_use]
    pub fn index(&self) -> usize {
        self.raw.index() as usize
    }

    /// The set it belongs to: the same handle.
    #[must_use]
    pub fn set(&self) -> QueueSet {
        QueueSet::from_raw(Arc::clone(self.raw.set()))
    }
}

/// One item at a time.
impl Queue {
    /// Takes the first item of the queue; `None`: it is empty. Its bytes are as its last holder left them.
    ///
    /// # Errors
    /// See [above](Queue#errors-of-all-calls).
    ///
    /// # Death
    /// A process that dies with the item gives it back, to the end of this queue.
    #[inline]
    pub fn pull(&self) -> Result<Option<Item<'_>>> {
        Ok(self.raw.pull()?.map(Item::from_raw))
    }

    /// The same, waiting for an item; `None`: none came for that long, or a stopped process kept the queue locked all that
    /// time. [`Duration::MAX`] waits for ever.
    ///
    /// # Errors
    /// See [above](Queue#errors-of-all-calls): [`Error::Timeout`](crate::Error::Timeout) if a stopped process keeps the
    /// queue locked for [`QueueOptions::lock_timeout`].
    ///
    /// # Cost
    /// Spins for some microseconds, then sleeps in the kernel until a push wakes it. While it sleeps it looks after the
    /// dead every 40 ms.
    pub fn pull_wait(&self, timeout: Duration) -> Result<Option<Item<'_>>> {
        Ok(self.raw.pull_wait(nanoseconds(timeout))?.map(Item::from_raw))
    }

    /// Puts the item at the end of this queue, and wakes somebody who sleeps on it.
    ///
    /// # Errors
    /// [`Error::InvalidItem`](crate::Error::InvalidItem): the item was pulled through another handle, or by the parent of
    /// this forked child. Else see [above](Queue#errors-of-all-calls). An item whose push failed is dropped: it
    /// goes home, with what was written into it. To try again keep it in a [`Batch`]:
    /// [`push_many_from`](Queue::push_many_from) leaves it there.
    ///
    /// # Cost
    /// A system call only if somebody sleeps on the queue.
    #[inline]
    pub fn push(&self, item: Item<'_>) -> Result<()> {
        self.raw.push(item.into_raw())
    }

    /// Pushes the item to this queue, then takes the first one of `from`: one call for a worker's step.
    ///
    /// ```
    /// # let set = shf::QueueOptions::new().items(3).item_size(8).queues(&["free", "in", "out"]).anonymous("exchange")?;
    /// # let (free, inbox, out) = (set.queue("free")?, set.queue("in")?, set.queue("out")?);
    /// # inbox.push_many(free.pull_many(3)?)?;
    /// let mut next = inbox.pull()?;
    /// while let Some(mut item) = next {
    ///     item[0] += 1;
    ///     next = out.exchange(item, &inbox)?;
    /// }
    /// assert_eq!((inbox.len()?, out.len()?), (0, 3));
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`push`](Queue::push), of this queue: nothing was pulled, and the item goes home. As [`pull`](Queue::pull), of
    /// `from`: the item was pushed. [`Error::Invalid`](crate::Error::Invalid): `from` belongs to another handle; the item goes
    /// home.
    #[inline]
    pub fn exchange<'f>(&self, item: Item<'_>, from: &'f Queue) -> Result<Option<Item<'f>>> {
        Ok(self.raw.exchange(item.into_raw(), &from.raw)?.map(Item::from_raw))
    }
}

/// Many items at a time.
impl Queue {
    /// Takes the first items of the queue, at most `n`, in one step. The batch is empty if the queue is.
    ///
    /// # Errors
    /// See [above](Queue#errors-of-all-calls); [`Error::NoMemory`](crate::Error::NoMemory).
    ///
    /// # Cost
    /// An allocation of 4 bytes an `n`; without: [`pull_many_into`](Queue::pull_many_into).
    pub fn pull_many(&self, n: usize) -> Result<Batch<'_>> {
        let mut batch = self.room(n)?;
        self.pull_many_into(&mut batch, n)?;
        Ok(batch)
    }

    /// The same, waiting for at least one item; the batch is empty if none came for that long.
    ///
    /// # Errors
    /// As [`pull_many`](Queue::pull_many).
    ///
    /// # Cost
    /// As [`pull_many`](Queue::pull_many) and [`pull_wait`](Queue::pull_wait).
    pub fn pull_many_wait(&self, n: usize, timeout: Duration) -> Result<Batch<'_>> {
        let mut batch = self.room(n)?;
        self.pull_many_wait_into(&mut batch, n, timeout)?;
        Ok(batch)
    }

    /// Puts all items of the batch at the end of this queue, in their order, in one step; wakes as many who sleep on it.
    /// An empty batch is legal.
    ///
    /// # Errors
    /// As [`push`](Queue::push). The items of a batch whose push failed go home.
    pub fn push_many(&self, mut batch: Batch<'_>) -> Result<()> {
        self.push_many_from(&mut batch)
    }

    /// Fills an empty batch with the first items of the queue, at most `n` and at most its capacity, in one step: how
    /// many.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid): the batch is not empty. [`Error::InvalidItem`](crate::Error::InvalidItem):
    /// it belongs to another handle. Else see [above](Queue#errors-of-all-calls).
    #[inline]
    pub fn pull_many_into(&self, batch: &mut Batch<'_>, n: usize) -> Result<usize> {
        self.raw.pull_many(batch.raw(), n)
    }

    /// The same, waiting for at least one item.
    ///
    /// # Errors
    /// As [`pull_many_into`](Queue::pull_many_into).
    pub fn pull_many_wait_into(&self, batch: &mut Batch<'_>, n: usize, timeout: Duration) -> Result<usize> {
        self.raw.pull_many_wait(batch.raw(), n, nanoseconds(timeout))
    }

    /// As [`push_many`](Queue::push_many); the batch is empty then, and can be filled again.
    ///
    /// # Errors
    /// As [`push`](Queue::push); the batch is as before.
    #[inline]
    pub fn push_many_from(&self, batch: &mut Batch<'_>) -> Result<()> {
        self.raw.push_many(batch.raw())
    }

    /// Pushes all items of the batch to this queue, then fills it with the first ones of `from`, at most `n`: how many.
    /// One call for a worker's step.
    ///
    /// # Errors
    /// As [`push`](Queue::push), of this queue: nothing was done. As [`pull`](Queue::pull), of `from`: the batch was
    /// pushed, and is empty.
    #[inline]
    pub fn exchange_many(&self, batch: &mut Batch<'_>, from: &Queue, n: usize) -> Result<usize> {
        self.raw.exchange_many(batch.raw(), &from.raw, n)
    }

    /// An empty batch for `n` items, or as many as there are.
    fn room(&self, n: usize) -> Result<Batch<'_>> {
        let set = self.raw.set();
        set.batch(n.clamp(1, set.items())).map(Batch::from_raw)
    }
}

/// Waiting, and the whole queue.
impl Queue {
    /// A descriptor for epoll, poll and event loops: readable when the queue may have items.
    ///
    /// Each time it is readable [`pull`](Queue::pull) until there is nothing: that makes it unreadable, and asks for the
    /// next wake-up. It is of this process only: a forked child asks for its own. (For tokio: the feature `tokio`.)
    ///
    /// ```
    /// use rustix::event::{PollFd, PollFlags, poll};
    /// # let set = shf::QueueOptions::new().items(2).item_size(8).queues(&["free", "jobs"]).anonymous("wait_fd")?;
    /// # let (free, jobs) = (set.queue("free")?, set.queue("jobs")?);
    /// # let timeout = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    /// let fd = jobs.wait_fd()?;
    /// assert!(jobs.pull()?.is_none());
    /// jobs.push(free.pull()?.expect("there are two"))?; // by any process
    /// poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap();
    /// assert!(jobs.pull()?.is_some());
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::NoMemory`](crate::Error::NoMemory).
    ///
    /// # Cost
    /// The first call starts a thread that sleeps in the kernel until the handle closes.
    pub fn wait_fd(&self) -> Result<BorrowedFd<'_>> {
        self.raw.wait_fd()
    }

    /// How many items lie in the queue: exact when nobody pulls or pushes.
    ///
    /// # Errors
    /// See [above](Queue#errors-of-all-calls).
    ///
    /// # Cost
    /// Two loads; and a look after the dead, at most every 20 ms.
    pub fn len(&self) -> Result<u64> {
        self.raw.len()
    }

    /// Whether there are none. As [`len`](Queue::len).
    ///
    /// # Errors
    /// As [`len`](Queue::len).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The items of the set: so many it can take, so it is never full.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.raw.set().items() as u64
    }

    /// Counters.
    ///
    /// # Errors
    /// See [above](Queue#errors-of-all-calls).
    pub fn stats(&self) -> Result<QueueStats> {
        self.raw.stats().map(|stats| QueueStats::from_ffi(&stats))
    }

    /// Pulls the items that lie in the queue now, one by one. It ends after as many as there were when the first was
    /// asked for, so also if they are dropped and come home meanwhile; or earlier, if the queue is empty; and after an
    /// error.
    ///
    /// ```
    /// # let set = shf::QueueOptions::new().items(3).item_size(8).queues(&["free", "jobs"]).anonymous("drain")?;
    /// # let (free, jobs) = (set.queue("free")?, set.queue("jobs")?);
    /// # jobs.push_many(free.pull_many(3)?)?;
    /// for item in jobs.drain() {
    ///     let item = item?;
    ///     println!("not done: {:?}", &item[..]);
    ///     free.push(item)?;
    /// }
    /// assert!(jobs.is_empty()?);
    /// # Ok::<(), shf::Error>(())
    /// ```
    pub fn drain(&self) -> Drain<'_> {
        Drain::new(self)
    }

    /// Moves all items that lie in this queue now to the end of another one of the same set: how many. In steps, beside
    /// others' pulls and pushes.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid): the other queue belongs to another handle. Else see
    /// [above](Queue#errors-of-all-calls); some items may be moved then.
    ///
    /// # Death
    /// A process that dies in here leaves the rest where it was.
    pub fn drain_to(&self, to: &Queue) -> Result<u64> {
        self.raw.drain_to(&to.raw)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("name", &self.name).field("set", &self.set()).finish_non_exhaustive()
    }
}

/// A timeout in C's form; what is longer than 584 years is for ever.
fn nanoseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)
}
