//! Waiting for items in tokio's tasks: feature `tokio`.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    task::coop::consume_budget,
};

use super::{Batch, Item, Queue};
use crate::{
    error::{Detail, Error, Result},
    ffi,
};

/// A [`Queue`] whose items tasks of tokio wait for (feature `tokio`): `pull().await`.
///
/// A push never waits, so it needs no `async`: use [`queue`](AsyncQueue::queue)'s. A clone waits for the same queue, and
/// any number of tasks may wait at once; each item goes to one of them.
///
/// All calls are cancel-safe: a future that is dropped, in a `select!`, by a timeout, has pulled nothing.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> shf::Result<()> {
/// use shf::QueueOptions;
/// # let set = QueueOptions::new().items(2).item_size(8).queues(&["free", "jobs"]).anonymous("async")?;
/// let (free, jobs) = (set.queue("free")?, set.queue("jobs")?);
/// let worker = tokio::spawn({
///     let jobs = jobs.clone().into_async()?;
///     async move { jobs.pull().await.map(|item| item[0]) }
/// });
/// let mut item = free.pull()?.expect("there are two");
/// item[0] = 42;
/// jobs.push(item)?; // by any process
/// assert_eq!(worker.await.unwrap()?, 42);
/// # Ok(())
/// # }
/// ```
///
/// # Cost
/// While there are items: as [`Queue::pull`], with no system call. A wait is one of tokio's, on the descriptor of
/// [`Queue::wait_fd`]; a thread of this process sleeps in the kernel and makes it readable. Beside a process that was
/// stopped inside a call a pull may block its thread for [`QueueOptions::lock_timeout`](crate::QueueOptions::lock_timeout):
/// set it to what your runtime bears.
///
/// For several queues use `tokio::select!`: what is not chosen has pulled nothing.
///
/// # Death
/// Items of the dead come home to those who wait, as to [`Queue::pull_wait`].
///
/// # Fork
/// tokio's runtimes do not survive a `fork`: the child needs its own, and an `AsyncQueue` of its own.
#[derive(Clone, Debug)]
pub struct AsyncQueue {
    queue: Queue,
    /// A duplicate of the queue's descriptor, so that each `AsyncQueue` is registered on its own.
    readable: Arc<AsyncFd<OwnedFd>>,
}

impl AsyncQueue {
    /// Registers the queue with the runtime of this task.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it was not called in a runtime. [`Error::Io`], [`Error::NoMemory`]: there is no descriptor
    /// or thread for it.
    ///
    /// # Panics
    /// In a runtime that was built without I/O (`enable_io`), as everything of tokio that has a descriptor.
    pub fn new(queue: Queue) -> Result<AsyncQueue> {
        if tokio::runtime::Handle::try_current().is_err() {
            let message =
                "an AsyncQueue is made in a task of tokio, or inside of `Runtime::enter`".to_string();
            return Err(Error::local(ffi::SHF_ERR_INVALID, "AsyncQueue::new", message));
        }
        let fd = queue.wait_fd()?.as_fd().try_clone_to_owned().map_err(|why| failed(&queue, &why))?;
        // Deprecated because it lets types in whose descriptor changes or closes. An `OwnedFd`'s does neither, and what
        // replaces it, `register_with_interest`, is unsafe, and in no tokio before 1.54.
        #[allow(deprecated)]
        let readable = AsyncFd::with_interest(fd, Interest::READABLE).map_err(|why| failed(&queue, &why))?;
        Ok(AsyncQueue { queue, readable: Arc::new(readable) })
    }

    /// The queue itself: to push, to ask for its length, to pull without waiting.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The first item, as soon as there is one.
    ///
    /// # Errors
    /// As [`Queue::pull`]; [`Error::Io`].
    pub async fn pull(&self) -> Result<Item<'_>> {
        self.first(|| self.queue.pull()).await
    }

    /// The first items, at most `n`, as soon as there is one. With an `n` of 0 an empty batch, at once.
    ///
    /// # Errors
    /// As [`Queue::pull_many`]; [`Error::Io`].
    pub async fn pull_many(&self, n: usize) -> Result<Batch<'_>> {
        self.first(|| {
            let batch = self.queue.pull_many(n)?;
            Ok((n == 0 || !batch.is_empty()).then_some(batch))
        })
        .await
    }

    /// What `pull` gives as soon as it gives something. Nothing is awaited after that, so nothing can be lost by a
    /// cancellation.
    async fn first<T>(&self, pull: impl Fn() -> Result<Option<T>>) -> Result<T> {
        consume_budget().await; // a task that always finds something must not keep the others from running
        if let Some(pulled) = pull()? {
            return Ok(pulled);
        }
        loop {
            let mut readable = self.readable.readable().await.map_err(|why| failed(&self.queue, &why))?;
            // The descriptor is seen as unreadable only after a pull that found nothing, and if nothing was pushed
            // since: other tasks may wait for what is left.
            let tried = readable.try_io(|_| match pull() {
                Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
                Ok(Some(pulled)) => Ok(Ok(pulled)),
                Err(error) => Ok(Err(error)),
            });
            match tried {
                Ok(Ok(result)) => return result,
                Ok(Err(why)) => return Err(failed(&self.queue, &why)),
                Err(_nothing) => {}
            }
        }
    }
}

impl Queue {
    /// This queue for tasks of tokio (feature `tokio`): [`AsyncQueue::new`].
    ///
    /// # Errors
    /// As [`AsyncQueue::new`].
    ///
    /// # Panics
    /// As [`AsyncQueue::new`].
    pub fn into_async(self) -> Result<AsyncQueue> {
        AsyncQueue::new(self)
    }
}

#[cold]
fn failed(queue: &Queue, why: &io::Error) -> Error {
    let path = queue.set().path().to_path_buf();
    let message = format!("{}: waiting for the queue {}: {why}", path.display(), queue.name().escape_debug());
    let os_error = why.raw_os_error().unwrap_or_default();
    Error::from_detail(Detail::new(ffi::SHF_ERR_IO, message, "AsyncQueue".to_string(), path, os_error))
}
