//! One error type: the C engine's pinned codes as an enum, with the engine's own sentence in each.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::ffi;

/// What the crate's calls return.
pub type Result<T> = std::result::Result<T, Error>;

/// What is known about one failure: carried by every variant of [`Error`].
#[derive(Debug)]
pub struct Detail {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    code: i32,
    message: String,
    place: String,
    path: PathBuf,
    source: Option<io::Error>,
}

impl Detail {
    pub(crate) fn new(code: i32, message: String, place: String, path: PathBuf, os_error: i32) -> Detail {
        let source = (os_error != 0).then(|| io::Error::from_raw_os_error(os_error));
        Detail { inner: Box::new(Inner { code, message, place, path, source }) }
    }

    /// One sentence that names the thing and what to do; what [`Error`]'s `Display` prints.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// Where in the engine, or in the file. For a bug report; the text is no promise.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// The file concerned, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        let path = self.inner.path.as_path();
        (!path.as_os_str().is_empty()).then_some(path)
    }

    /// The system call's error, if a system call failed. Also through [`std::error::Error::source`].
    #[must_use]
    pub fn io_error(&self) -> Option<&io::Error> {
        self.inner.source.as_ref()
    }
}

macro_rules! errors {
    ($( $(#[doc = $doc:literal])* $variant:ident = $code:ident, )*) => {
        /// Everything that can go wrong, one variant for each `SHF_ERR_*` of `shf.h`.
        ///
        /// Not finding a key is no error: those calls return an `Option` or a `bool`. After an error nothing
        /// was changed, but by a call for many keys or for the whole table, which says how far it came. Match on the variant, print with `Display` (the engine's sentence), and find the
        /// system call's error with [`std::error::Error::source`].
        ///
        /// ```
        /// use shf::{Error, Table};
        /// match Table::open("/dev/shm/no-such-table.shf") {
        ///     Err(Error::NotFound(_)) => {}
        ///     other => panic!("{other:?}"),
        /// }
        /// ```
        #[derive(Debug)]
        #[non_exhaustive]
        pub enum Error {
            $( $(#[doc = $doc])* $variant(Detail), )*
            /// A code that this version of the crate does not know. [`Error::code`] tells which.
            Other(Detail),
        }

        impl Error {
            /// The error for a code of the C engine.
            pub(crate) fn from_detail(detail: Detail) -> Error {
                match detail.inner.code {
                    $( ffi::$code => Error::$variant(detail), )*
                    _ => Error::Other(detail),
                }
            }

            /// The message, place, path and system error behind this error.
            #[must_use]
            pub fn detail(&self) -> &Detail {
                match self {
                    $( Error::$variant(detail) => detail, )*
                    Error::Other(detail) => detail,
                }
            }
        }

        /// Every code with its variant's name.
        #[cfg(test)]
        const KNOWN: &[(i32, &str)] = &[ $( (ffi::$code, stringify!($variant)), )* ];
    };
}

errors! {
    /// An argument is not legal: an unknown permission bit, a name with a NUL byte, a fixed key of 0 bytes.
    Invalid = SHF_ERR_INVALID,
    /// [`TableOptions::create`](crate::TableOptions::create): the path exists already.
    Exists = SHF_ERR_EXISTS,
    /// There is no such file, or no queue of that name.
    NotFound = SHF_ERR_NOT_FOUND,
    /// A change through a read-only table or queue set.
    ReadOnly = SHF_ERR_READ_ONLY,
    /// The file system is full, or `max_bytes` or `RLIMIT_FSIZE` is reached. Reads and removals still work,
    /// and so do puts after removals.
    NoSpace = SHF_ERR_NO_SPACE,
    /// The index has no room for this key: its part of the hash space is full. Or a set has 255 queues already.
    Full = SHF_ERR_FULL,
    /// Key and value are longer than 2^32 - 1 bytes together. When creating: fixed lengths of more than 120 bytes
    /// together; items of more than 2^30.
    TooLong = SHF_ERR_TOO_LONG,
    /// A table of fixed lengths ([`TableOptions::fixed`](crate::TableOptions::fixed)) was given a key or a value of
    /// another length. The message names both.
    WrongLength = SHF_ERR_WRONG_LENGTH,
    /// [`Table::fetch_add`](crate::Table::fetch_add): the value is not 8 bytes long.
    NotACounter = SHF_ERR_NOT_A_COUNTER,
    /// A live process kept a lock beyond the deadline: it is stopped, or in a debugger. (A dead one never
    /// makes others wait.)
    Timeout = SHF_ERR_TIMEOUT,
    /// The file's content breaks the format's rules: it was damaged or forged.
    Corrupt = SHF_ERR_CORRUPT,
    /// Another format, version, kind or machine; or the file was created with other options than those set.
    Incompatible = SHF_ERR_INCOMPATIBLE,
    /// The machine or the file's storage went down while the table was open, or the file is a copy of a live
    /// one. Never recovered silently.
    Unclean = SHF_ERR_UNCLEAN,
    /// All 1,023 slots for writing handles are taken; or a read-only get could not finish beside writers.
    Busy = SHF_ERR_BUSY,
    /// No address space for the mapping (`RLIMIT_AS`).
    AddressSpace = SHF_ERR_ADDRESS_SPACE,
    /// This handle came through `fork` and could not register again.
    Forked = SHF_ERR_FORKED,
    /// No right to the file, or it belongs to somebody who is not trusted.
    Permission = SHF_ERR_PERMISSION,
    /// Not a regular file (folder, symbolic link, FIFO, device, hard link), or too long, or with a NUL byte.
    InvalidPath = SHF_ERR_INVALID_PATH,
    /// A system call failed: see [`std::error::Error::source`].
    Io = SHF_ERR_IO,
    /// This kernel, file system or version cannot do it.
    Unsupported = SHF_ERR_UNSUPPORTED,
    /// No private memory for a handle or a buffer.
    NoMemory = SHF_ERR_NO_MEMORY,
    /// A queue's item or batch that this handle does not hold: it was pulled through another
    /// [`QueueSet`](crate::QueueSet), or before a `fork`, whose parent still holds it.
    InvalidItem = SHF_ERR_INVALID_ITEM,
}

impl Error {
    /// The pinned number, `SHF_ERR_*` in `shf.h`: negative, never reused.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.detail().inner.code
    }

    /// An error that is found before the engine is asked.
    pub(crate) fn local(code: i32, place: &str, message: String) -> Error {
        Error::from_detail(Detail::new(code, message, place.to_string(), PathBuf::new(), 0))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail().message())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.detail().io_error().map(|error| error as _)
    }
}

/// For programs that work with [`std::io::Result`]: the nearest kind, with the error inside.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            Error::Invalid(_)
            | Error::InvalidPath(_)
            | Error::TooLong(_)
            | Error::WrongLength(_)
            | Error::InvalidItem(_) => io::ErrorKind::InvalidInput,
            Error::Exists(_) => io::ErrorKind::AlreadyExists,
            Error::NotFound(_) => io::ErrorKind::NotFound,
            Error::ReadOnly(_) | Error::Permission(_) => io::ErrorKind::PermissionDenied,
            Error::NoSpace(_) | Error::Full(_) => io::ErrorKind::StorageFull,
            Error::Timeout(_) => io::ErrorKind::TimedOut,
            Error::NotACounter(_) | Error::Corrupt(_) | Error::Incompatible(_) | Error::Unclean(_) => {
                io::ErrorKind::InvalidData
            }
            Error::Busy(_) => io::ErrorKind::ResourceBusy,
            Error::AddressSpace(_) | Error::NoMemory(_) => io::ErrorKind::OutOfMemory,
            Error::Unsupported(_) => io::ErrorKind::Unsupported,
            Error::Forked(_) | Error::Io(_) | Error::Other(_) => {
                error.detail().io_error().map_or(io::ErrorKind::Other, io::Error::kind)
            }
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32, os_error: i32) -> Error {
        Error::from_detail(Detail::new(code, "why".into(), "where".into(), PathBuf::from("p"), os_error))
    }

    #[test]
    fn each_code_has_its_own_variant_and_keeps_its_number() {
        for (index, &(code, name)) in KNOWN.iter().enumerate() {
            assert_eq!(code, -1 - i32::try_from(index).unwrap(), "{name}: the codes are -1, -2, ...");
            let error = error(code, 0);
            assert_eq!(error.code(), code);
            assert!(format!("{error:?}").starts_with(&format!("{name}(")), "{error:?}");
        }
    }

    #[test]
    fn an_unknown_code_is_kept() {
        let error = error(-1000, 0);
        assert!(matches!(error, Error::Other(_)));
        assert_eq!(error.code(), -1000);
    }

    #[test]
    fn message_path_and_system_error_come_through() {
        use std::error::Error as _;
        let error = error(ffi::SHF_ERR_IO, 28);
        assert_eq!(error.to_string(), "why");
        assert_eq!(error.detail().place(), "where");
        assert_eq!(error.detail().path(), Some(Path::new("p")));
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>()).unwrap();
        assert_eq!(source.raw_os_error(), Some(28));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn without_a_system_error_there_is_no_source() {
        use std::error::Error as _;
        let error = error(ffi::SHF_ERR_TIMEOUT, 0);
        assert!(error.source().is_none());
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
    }
}
