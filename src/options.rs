//! How a table is opened: a builder with the verbs of `std::fs::OpenOptions`.

use std::{
    ffi::{CString, OsStr},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
    time::Duration,
};

use crate::{
    error::{Error, Result},
    ffi,
    raw::{RawTable, unset_options},
    table::Table,
};

/// The keyed hash functions a table may use, fixed at its creation.
///
/// Both are keyed with the table's own random seed, so nobody outside can prepare keys that collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashKind {
    /// SipHash-1-3 (Aumasson, Bernstein 2012).
    SipHash13,
    /// Keyed 64x64 -> 128 bit folded multiplies. The default: twice as fast on short keys.
    Folded,
}

/// How to open or create a [`Table`]: set what matters, then call one of [`create`](TableOptions::create),
/// [`open`](TableOptions::open), [`open_or_create`](TableOptions::open_or_create),
/// [`anonymous`](TableOptions::anonymous) or [`from_fd`](TableOptions::from_fd).
///
/// An option that is not set has its default when creating, and comes from the file when opening. One that is
/// set must agree with the file ([`Error::Incompatible`] names both), but for [`mode`](TableOptions::mode),
/// [`lock_timeout`](TableOptions::lock_timeout), [`huge_pages`](TableOptions::huge_pages) and
/// [`read_only`](TableOptions::read_only), which belong to the handle. The builder is `Clone`, and opening borrows it, so one may open many tables.
///
/// Opening takes a few system calls, under a millisecond whatever the size of the table.
///
/// ```
/// use shf::TableOptions;
/// let table = TableOptions::new().max_bytes(64 << 20).anonymous("cache")?;
/// table.put("key", "value")?;
/// assert_eq!(table.options().get_max_bytes(), Some(64 << 20));
/// # Ok::<(), shf::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "options do nothing until a table is opened with them"]
pub struct TableOptions {
    max_bytes: Option<u64>,
    fixed: Option<(u32, u32)>,
    mode: Option<u32>,
    lock_timeout_ms: Option<u32>,
    hash: Option<HashKind>,
    huge_pages: bool,
    read_only: bool,
}

impl TableOptions {
    /// Nothing set.
    pub fn new() -> TableOptions {
        TableOptions::default()
    }

    /// The hard limit of the file, in bytes, fixed at creation and rounded up to 4,096; at most 2 TiB. Default:
    /// 2 TiB or twice the memory of the machine, whichever is less. Address space is reserved for it, memory is
    /// not: a table takes what its content needs. 0 stands for the default.
    pub fn max_bytes(mut self, bytes: u64) -> TableOptions {
        self.max_bytes = (bytes != 0).then_some(bytes);
        self
    }

    /// Keys of exactly `key` bytes and values of exactly `value` bytes, fixed at creation. Default: variable lengths.
    ///
    /// Keys and values then lie in the index itself: about half the memory for small ones, and a
    /// [`get`](Table::get) reads one cache line in place of two. Nothing becomes garbage, so there is nothing to
    /// clean. All calls work as with variable lengths; one that is given a key or a value of another length fails with
    /// [`Error::WrongLength`], reads and removals too. (A value that is only compared may have any length.)
    ///
    /// `key` is at least 1 (else [`Error::Invalid`] when opening), `value` may be 0 (a set); together they are at most
    /// 120 ([`Error::TooLong`]). Opening a table of other lengths, or of variable ones, is [`Error::Incompatible`],
    /// which names both; without this option any table is opened, and [`Table::options`] tells its lengths. (0, 0)
    /// stands for the default.
    ///
    /// ```
    /// use shf::{Error, TableOptions};
    /// let table = TableOptions::new().fixed(4, 8).anonymous("counters")?;
    /// table.fetch_add(7u32.to_le_bytes(), 1)?;
    /// assert_eq!(table.get(7u32.to_le_bytes())?, Some(1i64.to_le_bytes().to_vec()));
    /// assert!(matches!(table.get("seven"), Err(Error::WrongLength(_))));
    /// assert_eq!(table.options().get_fixed(), Some((4, 8)));
    /// # Ok::<(), shf::Error>(())
    /// ```
    pub fn fixed(mut self, key: u32, value: u32) -> TableOptions {
        self.fixed = (key != 0 || value != 0).then_some((key, value));
        self
    }

    /// The file's permission bits at creation, exactly these, whatever the umask. Default: `0o600`, the owner
    /// alone. Whoever may write the file is trusted with the data.
    ///
    /// When opening a file of another user it says which of the group's and others' write bits are acceptable;
    /// a file that has more gives [`Error::Permission`].
    pub fn mode(mut self, bits: u32) -> TableOptions {
        self.mode = (bits != 0).then_some(bits);
        self
    }

    /// How long a change waits for a lock that a *live* process keeps, because it is stopped or in a debugger;
    /// then it is [`Error::Timeout`]. Default: 10 s. (The lock of a dead process is taken over at once.)
    ///
    /// In milliseconds: less than one counts as one, and the longest is about 49 days.
    pub fn lock_timeout(mut self, timeout: Duration) -> TableOptions {
        self.lock_timeout_ms = Some(milliseconds(timeout));
        self
    }

    /// The hash function, fixed at creation. Default: [`HashKind::Folded`].
    pub fn hash(mut self, kind: HashKind) -> TableOptions {
        self.hash = Some(kind);
        self
    }

    /// True: call [`Table::use_huge_pages`] once when the table is opened. What cannot be is no error then. Default:
    /// false. Opening takes longer then, about 0.5 ms for each MiB of the file that is not in huge pages yet.
    ///
    /// ```
    /// let table = shf::TableOptions::new().huge_pages(true).anonymous("large")?;
    /// assert!(table.options().get_huge_pages());
    /// # Ok::<(), shf::Error>(())
    /// ```
    pub fn huge_pages(mut self, huge_pages: bool) -> TableOptions {
        self.huge_pages = huge_pages;
        self
    }

    /// True: map the file read-only and take none of the 1,023 slots. Such a table cannot change data, whatever
    /// happens; changes give [`Error::ReadOnly`]. For [`open`](TableOptions::open): a read-only table cannot be
    /// created, which is [`Error::Invalid`].
    pub fn read_only(mut self, read_only: bool) -> TableOptions {
        self.read_only = read_only;
        self
    }

    /// The limit that is set, or in force (see [`Table::options`]).
    #[must_use]
    pub fn get_max_bytes(&self) -> Option<u64> {
        self.max_bytes
    }

    /// The fixed lengths of keys and values; `None`: variable.
    #[must_use]
    pub fn get_fixed(&self) -> Option<(u32, u32)> {
        self.fixed
    }

    /// The permission bits that are set, or in force.
    #[must_use]
    pub fn get_mode(&self) -> Option<u32> {
        self.mode
    }

    /// The deadline that is set, or in force.
    #[must_use]
    pub fn get_lock_timeout(&self) -> Option<Duration> {
        self.lock_timeout_ms.map(|milliseconds| Duration::from_millis(milliseconds.into()))
    }

    /// The hash function that is set, or in force.
    #[must_use]
    pub fn get_hash(&self) -> Option<HashKind> {
        self.hash
    }

    /// Whether the table is put into huge pages when it is opened.
    #[must_use]
    pub fn get_huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// Whether the table is opened read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Creates a table at `path`. Of several processes that create at once exactly one succeeds, and nobody ever
    /// opens half a table.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is anything at `path`; [`Error::InvalidPath`], [`Error::NotFound`] (the
    /// folder), [`Error::Permission`], [`Error::NoSpace`], [`Error::AddressSpace`], [`Error::Unsupported`] (a
    /// network file system), [`Error::Invalid`] and [`Error::TooLong`] (an option), [`Error::Io`].
    ///
    /// # Death
    /// A process that dies in here leaves no table at `path`, or a whole one.
    pub fn create<P: AsRef<Path>>(&self, path: P) -> Result<Table> {
        self.open_with(path.as_ref(), ffi::SHF_CREATE | ffi::SHF_EXCL)
    }

    /// Opens the table at `path`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InvalidPath`] if it is not a regular file, or a link; [`Error::Corrupt`] or
    /// [`Error::Incompatible`] if it is no table, one of another version, or one with other options;
    /// [`Error::Unclean`] if the machine went down under it; [`Error::Permission`]; [`Error::Busy`] if 1,023
    /// handles can write already; [`Error::AddressSpace`], [`Error::Unsupported`], [`Error::Io`].
    ///
    /// # Death
    /// A process that dies in here leaves nothing behind that matters.
    pub fn open<P: AsRef<Path>>(&self, path: P) -> Result<Table> {
        self.open_with(path.as_ref(), 0)
    }

    /// Opens the table at `path`, or creates it. Of several processes that do so at once one creates it, and all
    /// get the same table.
    ///
    /// # Errors
    /// As [`open`](TableOptions::open) and [`create`](TableOptions::create), without [`Error::Exists`].
    ///
    /// # Death
    /// As [`create`](TableOptions::create).
    pub fn open_or_create<P: AsRef<Path>>(&self, path: P) -> Result<Table> {
        self.open_with(path.as_ref(), ffi::SHF_CREATE)
    }

    /// Creates a table in an anonymous memory file, which vanishes with its last user. `name` only shows in
    /// `/proc`. To share it pass its descriptor on ([`AsFd`](std::os::fd::AsFd)), and use
    /// [`from_fd`](TableOptions::from_fd) on the other side; or fork.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name with a NUL byte or over 200 bytes; [`Error::AddressSpace`],
    /// [`Error::NoSpace`], [`Error::Unsupported`], [`Error::Io`].
    pub fn anonymous<N: AsRef<OsStr>>(&self, name: N) -> Result<Table> {
        let name = anonymous_name("table", name.as_ref(), self.read_only)?;
        RawTable::anonymous(&name, &self.to_ffi()).map(Table::from_raw)
    }

    /// Opens the table behind a descriptor that another process passed on. A descriptor opened read-only gives a
    /// read-only table; it must be one if [`read_only`](TableOptions::read_only) is set.
    ///
    /// # Errors
    /// As [`open`](TableOptions::open); [`Error::Permission`] or [`Error::Unsupported`] for a memory file that
    /// is not sealed against shrinking; [`Error::Invalid`] for a writable descriptor and `read_only(true)`.
    pub fn from_fd(&self, fd: OwnedFd) -> Result<Table> {
        let raw = RawTable::from_fd(&fd, &self.to_ffi())?;
        passed_on_as_asked("table", self.read_only, raw.is_read_only())?;
        drop(fd); // the engine has its own duplicate
        Ok(Table::from_raw(raw))
    }

    fn open_with(&self, path: &Path, flags: u32) -> Result<Table> {
        let flags = if self.read_only { flags | ffi::SHF_RDONLY } else { flags };
        RawTable::open(&c_path(path)?, flags, &self.to_ffi()).map(Table::from_raw)
    }

    fn to_ffi(&self) -> ffi::shf_table_options {
        let mut options = unset_options();
        options.mode = self.mode.unwrap_or_default();
        options.max_bytes = self.max_bytes.unwrap_or_default();
        (options.fixed_key, options.fixed_value) = self.fixed.unwrap_or_default();
        options.lock_timeout_ms = self.lock_timeout_ms.unwrap_or_default();
        options.hash = match self.hash {
            None => ffi::SHF_HASH_DEFAULT,
            Some(HashKind::SipHash13) => ffi::SHF_HASH_SIPHASH13,
            Some(HashKind::Folded) => ffi::SHF_HASH_FOLDED,
        };
        if self.huge_pages {
            options.flags |= ffi::SHF_OPTION_HUGE_PAGES;
        }
        options
    }

    /// The options in force, as the engine tells them.
    pub(crate) fn in_force(raw: &RawTable) -> TableOptions {
        let Ok(options) = raw.options() else {
            return TableOptions::new().read_only(raw.is_read_only()); // the size is right: cannot fail
        };
        TableOptions {
            max_bytes: (options.max_bytes != 0).then_some(options.max_bytes),
            fixed: (options.fixed_key != 0 || options.fixed_value != 0)
                .then_some((options.fixed_key, options.fixed_value)),
            mode: (options.mode != 0).then_some(options.mode),
            lock_timeout_ms: (options.lock_timeout_ms != 0).then_some(options.lock_timeout_ms),
            hash: match options.hash {
                ffi::SHF_HASH_SIPHASH13 => Some(HashKind::SipHash13),
                ffi::SHF_HASH_FOLDED => Some(HashKind::Folded),
                _ => None,
            },
            huge_pages: options.flags & ffi::SHF_OPTION_HUGE_PAGES != 0,
            read_only: raw.is_read_only(),
        }
    }
}

/// A path in C's form. Only the NUL byte is checked here; the engine checks the rest.
pub(crate) fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| {
        let message = format!("the path {} contains a NUL byte", path.display().to_string().escape_debug());
        Error::local(ffi::SHF_ERR_INVALID_PATH, "path", message)
    })
}

/// A deadline in C's form: rounded down, but never 0, which would mean the default.
pub(crate) fn milliseconds(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// The name of an anonymous `what` in C's form, if one may be created.
pub(crate) fn anonymous_name(what: &str, name: &OsStr, read_only: bool) -> Result<CString> {
    let invalid = |message| Error::local(ffi::SHF_ERR_INVALID, "anonymous", message);
    if read_only {
        return Err(invalid(format!(
            "an anonymous {what} cannot be created read-only: open it writable, then pass on a read-only \
             descriptor"
        )));
    }
    CString::new(name.as_bytes()).map_err(|_| {
        let name = name.display().to_string();
        invalid(format!("the name {} of an anonymous {what} contains a NUL byte", name.escape_debug()))
    })
}

/// A descriptor that can write gives a handle that can write, which is not what `read_only` asks for.
pub(crate) fn passed_on_as_asked(what: &str, read_only: bool, is_read_only: bool) -> Result<()> {
    if read_only && !is_read_only {
        let message = format!("a read-only {what} was asked for, but the descriptor is writable");
        return Err(Error::local(ffi::SHF_ERR_INVALID, "from_fd", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_timeouts_are_rounded_and_never_mean_the_default() {
        let rounded = |timeout| TableOptions::new().lock_timeout(timeout).to_ffi().lock_timeout_ms;
        assert_eq!(rounded(Duration::from_nanos(1)), 1);
        assert_eq!(rounded(Duration::ZERO), 1);
        assert_eq!(rounded(Duration::from_micros(2_999)), 2);
        assert_eq!(rounded(Duration::from_secs(5)), 5_000);
        assert_eq!(rounded(Duration::MAX), u32::MAX);
        assert_eq!(TableOptions::new().to_ffi().lock_timeout_ms, 0);
    }

    #[test]
    fn a_path_with_a_nul_byte_is_refused_before_c_cuts_it_off() {
        let error = c_path(Path::new("/dev/shm/a\0b")).unwrap_err();
        assert!(matches!(error, Error::InvalidPath(_)));
        assert!(error.to_string().contains("NUL"), "{error}");
    }
}
