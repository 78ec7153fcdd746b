//! How a queue set is opened: the builder.

use std::{
    ffi::{CString, OsStr},
    os::fd::OwnedFd,
    path::Path,
    time::Duration,
};

use super::QueueSet;
use crate::{
    error::{Error, Result},
    ffi,
    options::{anonymous_name, c_path, milliseconds, passed_on_as_asked},
    raw::queue::{RawSet, SetOptions},
};

/// How to open or create a [`QueueSet`]: set what matters, then call one of [`create`](QueueOptions::create),
/// [`open`](QueueOptions::open), [`open_or_create`](QueueOptions::open_or_create),
/// [`anonymous`](QueueOptions::anonymous) or [`from_fd`](QueueOptions::from_fd).
///
/// Creating needs [`items`](QueueOptions::items), [`item_size`](QueueOptions::item_size) and at least one queue. When
/// opening, what is not set comes from the file, and what is set must agree with it ([`Error::Incompatible`] names
/// both): the number of items, their size, and that the named queues are there. The other options belong to the handle.
/// The builder is `Clone`, and opening borrows it, so one may open many sets.
///
/// ```
/// use shf::QueueOptions;
/// let options = QueueOptions::new().items(1000).item_size(256).queues(&["free", "a2b", "b2a"]);
/// let set = options.anonymous("example")?;
/// assert_eq!((set.items(), set.item_size()), (1000, 256));
/// assert_eq!(set.queue("free")?.len()?, 1000); // all items begin in the first queue
/// assert_eq!(set.queue("a2b")?.len()?, 0);
/// # Ok::<(), shf::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "options do nothing until a queue set is opened with them"]
pub struct QueueOptions {
    items: Option<usize>,
    item_size: Option<usize>,
    queues: Vec<String>,
    mode: Option<u32>,
    lock_timeout_ms: Option<u32>,
    read_only: bool,
}

impl QueueOptions {
    /// Nothing set.
    pub fn new() -> QueueOptions {
        QueueOptions::default()
    }

    /// How many items the set has, for ever: 1 to 2^24 (16,777,216).
    pub fn items(mut self, items: usize) -> QueueOptions {
        self.items = Some(items);
        self
    }

    /// The bytes of an item, for ever: 1 to 2^30 (1 GiB). An item begins at a multiple of 64 bytes, so no two share a
    /// cache line.
    pub fn item_size(mut self, bytes: usize) -> QueueOptions {
        self.item_size = Some(bytes);
        self
    }

    /// The names of the queues, each 1 to 63 bytes, no two alike, at most 255. At creation all items lie in the first.
    /// When opening, those that must be there. [`QueueSet::add_queue`] makes more later. The last call counts.
    ///
    /// ```
    /// use shf::{Error, QueueOptions};
    /// let options = QueueOptions::new().items(1).item_size(1);
    /// let names: Vec<String> = (0..3).map(|i| format!("worker {i}")).collect();
    /// assert_eq!(options.clone().queues(&names).anonymous("workers")?.queues().len(), 3);
    /// assert!(matches!(options.queues(["twice", "twice"]).anonymous("names"), Err(Error::Invalid(_))));
    /// # Ok::<(), shf::Error>(())
    /// ```
    pub fn queues<N: IntoIterator<Item: AsRef<str>>>(mut self, names: N) -> QueueOptions {
        self.queues = names.into_iter().map(|name| name.as_ref().to_string()).collect();
        self
    }

    /// The file's permission bits at creation, as [`TableOptions::mode`](crate::TableOptions::mode). Default: `0o600`,
    /// the owner alone. Whoever may write the file is trusted with the items.
    pub fn mode(mut self, bits: u32) -> QueueOptions {
        self.mode = (bits != 0).then_some(bits);
        self
    }

    /// How long a call waits for a lock that a *live* process keeps, because it was stopped inside a call or is in a
    /// debugger; then it is [`Error::Timeout`]. Default: 10 s. (The lock of a dead process is taken over at once, and
    /// this is not how long [`Queue::pull_wait`](crate::Queue::pull_wait) waits for an item.)
    ///
    /// In milliseconds: less than one counts as one, and the longest is about 49 days.
    pub fn lock_timeout(mut self, timeout: Duration) -> QueueOptions {
        self.lock_timeout_ms = Some(milliseconds(timeout));
        self
    }

    /// True: map the file read-only and take none of the 1,023 slots. Such a handle tells names, lengths and
    /// [`stats`](crate::Queue::stats); everything else gives [`Error::ReadOnly`]. For [`open`](QueueOptions::open): a
    /// set cannot be created read-only, which is [`Error::Invalid`].
    pub fn read_only(mut self, read_only: bool) -> QueueOptions {
        self.read_only = read_only;
        self
    }

    /// Creates a queue set at `path`. Of several processes that create at once exactly one succeeds, and nobody ever
    /// opens half a set.
    ///
    /// All memory that the items and queues will ever need is taken now: a file system that is full later stops neither
    /// pull nor push.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is anything at `path`; [`Error::Invalid`] (no or too many items, no size, no queue, a name
    /// that is empty, too long, there twice, or has a NUL byte); [`Error::TooLong`] (items of more than 1 GiB);
    /// [`Error::NoSpace`];
    /// [`Error::InvalidPath`], [`Error::NotFound`] (the folder), [`Error::Permission`], [`Error::AddressSpace`],
    /// [`Error::Unsupported`] (a network file system), [`Error::Io`].
    ///
    /// # Death
    /// A process that dies in here leaves no set at `path`, or a whole one.
    pub fn create<P: AsRef<Path>>(&self, path: P) -> Result<QueueSet> {
        self.open_with(path.as_ref(), ffi::SHF_CREATE | ffi::SHF_EXCL)
    }

    /// Opens the queue set at `path`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InvalidPath`] if it is not a regular file, or a link; [`Error::Corrupt`] or
    /// [`Error::Incompatible`] if it is no queue set, one of another version, or one with other options;
    /// [`Error::Unclean`] if the machine went down under it; [`Error::Permission`]; [`Error::Busy`] if 1,023 handles can
    /// write already; [`Error::AddressSpace`], [`Error::Unsupported`], [`Error::Io`].
    ///
    /// # Death
    /// A process that dies in here leaves nothing behind that matters.
    pub fn open<P: AsRef<Path>>(&self, path: P) -> Result<QueueSet> {
        self.open_with(path.as_ref(), 0)
    }

    /// Opens the queue set at `path`, or creates it. Of several processes that do so at once one creates it, and all
    /// get the same set.
    ///
    /// # Errors
    /// As [`open`](QueueOptions::open) and [`create`](QueueOptions::create), without [`Error::Exists`].
    ///
    /// # Death
    /// As [`create`](QueueOptions::create).
    pub fn open_or_create<P: AsRef<Path>>(&self, path: P) -> Result<QueueSet> {
        self.open_with(path.as_ref(), ffi::SHF_CREATE)
    }

    /// Creates a queue set in an anonymous memory file, which vanishes with its last user. `name` only shows in
    /// `/proc`. To share it pass its descriptor on ([`AsFd`](std::os::fd::AsFd)), and use
    /// [`from_fd`](QueueOptions::from_fd) on the other side; or fork.
    ///
    /// # Errors
    /// As [`create`](QueueOptions::create), but for those about the path; [`Error::Invalid`] for a name with a NUL byte
    /// or over 200 bytes.
    pub fn anonymous<N: AsRef<OsStr>>(&self, name: N) -> Result<QueueSet> {
        let name = anonymous_name("queue set", name.as_ref(), self.read_only)?;
        RawSet::anonymous(&name, &self.to_raw()?).map(QueueSet::from_raw)
    }

    /// Opens the queue set behind a descriptor that another process passed on. A descriptor opened read-only gives a
    /// read-only set; it must be one if [`read_only`](QueueOptions::read_only) is set.
    ///
    /// # Errors
    /// As [`open`](QueueOptions::open); [`Error::Permission`] or [`Error::Unsupported`] for a memory file that is not
    /// sealed against shrinking; [`Error::Invalid`] for a writable descriptor and `read_only(true)`.
    pub fn from_fd(&self, fd: OwnedFd) -> Result<QueueSet> {
        let raw = RawSet::from_fd(&fd, &self.to_raw()?)?;
        passed_on_as_asked("queue set", self.read_only, raw.is_read_only())?;
        drop(fd); // the engine has its own duplicate
        Ok(QueueSet::from_raw(raw))
    }

    fn open_with(&self, path: &Path, flags: u32) -> Result<QueueSet> {
        let flags = if self.read_only { flags | ffi::SHF_RDONLY } else { flags };
        RawSet::open(&c_path(path)?, flags, &self.to_raw()?).map(QueueSet::from_raw)
    }

    /// 0 would mean "not set" to the engine, so it is refused here; and what is too large for C's field.
    fn to_raw(&self) -> Result<SetOptions> {
        let number = |what: &str, value: Option<usize>| match value {
            None => Ok(0),
            Some(0) => {
                let message = format!("a queue set with {what} 0: it must be at least 1");
                Err(Error::local(ffi::SHF_ERR_INVALID, "options", message))
            }
            Some(value) => u32::try_from(value).map_err(|_| {
                let code = if what == "items" { ffi::SHF_ERR_INVALID } else { ffi::SHF_ERR_TOO_LONG };
                Error::local(
                    code,
                    "options",
                    format!("a queue set with {what} {value}: more than a set can have"),
                )
            }),
        };
        Ok(SetOptions {
            items: number("items", self.items)?,
            item_size: number("item_size", self.item_size)?,
            mode: self.mode.unwrap_or_default(),
            lock_timeout_ms: self.lock_timeout_ms.unwrap_or_default(),
            queues: self.queues.iter().map(|name| c_name(name)).collect::<Result<_>>()?,
        })
    }
}

/// A queue's name in C's form. Only the NUL byte is checked here; the engine checks the rest.
pub(super) fn c_name(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| {
        let message = format!("the name {} of a queue contains a NUL byte", name.escape_debug());
        Error::local(ffi::SHF_ERR_INVALID, "queue", message)
    })
}
