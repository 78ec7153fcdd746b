//! Hash tables and queues shared between processes, at memory speed, without a server.
//!
//! A [`Table`] is one file, on tmpfs (`/dev/shm`) or on a local file system, or an anonymous memory file. Any
//! number of processes, written in Rust, C or C++, open it and work on it at the same time. Any of them may be
//! killed at any instant: the others go on at once, and no acknowledged operation is lost.
//!
//! # Quick start
//!
//! ```
//! use shf::{Inserted, Table, TableOptions};
//!
//! # let path = format!("/dev/shm/shf-doc-{}.shf", std::process::id());
//! # let _ = shf::remove(&path);
//! # let path = path.as_str();
//! # /*
//! let path = "/dev/shm/users.shf";
//! # */
//! let users = Table::create(path)?; // or Table::open(path), in as many processes as you like
//!
//! users.put("alice", "red")?;
//! assert_eq!(users.get("alice")?.as_deref(), Some(&b"red"[..]));
//! assert!(matches!(users.insert("alice", "blue")?, Inserted::Existing(_)));
//!
//! // Atomic across all processes:
//! assert_eq!(users.fetch_add("visits", 1)?, 0);
//! users.update("alice", |old| old.map(|old| [old, b"dish"].concat()))?;
//!
//! // A second handle, as another process would have it:
//! let elsewhere = TableOptions::new().read_only(true).open(path)?;
//! assert_eq!(elsewhere.get("alice")?.as_deref(), Some(&b"reddish"[..]));
//! for entry in elsewhere.iter() {
//!     let entry = entry?;
//!     println!("{}: {} bytes", String::from_utf8_lossy(&entry.key), entry.value.len());
//! }
//!
//! shf::remove(path)?; // the name; who has it open keeps the table
//! # Ok::<(), shf::Error>(())
//! ```
//!
//! Many keys at once, two to four times as fast as one by one on a table that is larger than the caches; and fixed
//! lengths, with half the memory and one cache line a get:
//!
//! ```
//! use shf::TableOptions;
//!
//! let squares = TableOptions::new().fixed(4, 8).anonymous("squares")?;
//! let pairs: Vec<_> = (0..1000u32).map(|i| (i.to_le_bytes(), (u64::from(i) * u64::from(i)).to_le_bytes())).collect();
//! assert_eq!(squares.put_many(&pairs)?, 1000);
//!
//! let values = squares.get_many(&[3u32, 5000, 999].map(u32::to_le_bytes))?;
//! assert_eq!(values.get(0), Some(&9u64.to_le_bytes()[..]));
//! assert_eq!(values.get(1), None);
//! assert_eq!(values.iter().flatten().count(), 2);
//! # Ok::<(), shf::Error>(())
//! ```
//!
//! Queues of items that are made once, in shared memory, and never copied: see [`QueueSet`].
//!
//! ```
//! use shf::QueueOptions;
//! use std::time::Duration;
//!
//! let set = QueueOptions::new().items(1000).item_size(256).queues(&["free", "jobs"]).anonymous("work")?;
//! let (free, jobs) = (set.queue("free")?, set.queue("jobs")?);
//!
//! let mut item = free.pull_wait(Duration::from_secs(1))?.expect("there are 1,000");
//! item[..5].copy_from_slice(b"hello");
//! jobs.push(item)?; // wakes who sleeps on `jobs`, in any process
//!
//! let item = jobs.pull()?.expect("just pushed");
//! assert_eq!(&item[..5], b"hello");
//! free.push(item)?; // dropped, or after kill -9, it would go home: to `jobs`, from where it was pulled
//! # Ok::<(), shf::Error>(())
//! ```
//!
//! # Cost
//!
//! A [`get`](Table::get) stores nothing in shared memory, takes no lock and makes no system call; readers disturb
//! nobody. A change takes one lock of 256 and writes one or two cache lines beside the data. The table grows in
//! small steps inside the operations that need it; there are no pauses. An empty table takes at most 128 KiB.
//!
//! # When a process dies
//!
//! By any signal, inside any call: its operation has then happened as a whole or not at all, and the next process
//! that needs its lock notices the death, finishes or forgets the step, and goes on. What a call acknowledged, by
//! returning `Ok`, is there. A *stopped* process (SIGSTOP, a debugger) that holds a lock keeps it: others get
//! [`Error::Timeout`] at their deadline ([`TableOptions::lock_timeout`]). A table in `/dev/shm` does not outlive
//! the machine. On a disk it does if it was closed; one that was open when the machine went down is refused
//! ([`Error::Unclean`]), never recovered silently.
//!
//! # Trust
//!
//! Processes that may write the file are trusted to run shf's code, not to stay alive. Who lacks the permission
//! of the file's mode gets nothing. A file that was damaged or forged gives errors, not memory unsafety: nothing
//! that is read from it is followed unchecked, and of tables no reference into shared memory ever leaves this crate:
//! values are copied out. An [`Item`] is one: its bytes are its holder's alone as long as all processes run shf's code
//! ([`QueueSet`](QueueSet#trust)). A process that scribbles over the file while others run can make them return wrong data
//! or [`Error::Corrupt`], but not read or write outside of the mapping. *Truncating* a path's file under its users
//! kills them (SIGBUS); anonymous tables and queue sets are sealed against that.
//!
//! # Threads and fork
//!
//! [`Table`] is `Clone + Send + Sync`; a clone is the same handle. So are [`QueueSet`] and [`Queue`]; an [`Item`] is `Send`. After
//! `fork` the child may go on using its copies: each registers anew at its first change, or gives [`Error::Forked`] if it
//! cannot. The items that the parent holds stay the parent's. Do not call shf from a signal handler, or in a `vfork` child.
//!
//! # Limits
//!
//! Linux, 64 bits, little-endian. Key and value at most 2^32 - 1 bytes together, fixed ones 120; 1,023 handles that can write per
//! file, any number of read-only ones; 2 TiB a file. 2^24 items of at most 2^30 bytes and 255 queues a set.
//!
//! # Features
//!
//! - `bindgen` (default): make the bindings from `shf.h` when building, if libclang is there; else, or without the
//!   feature, the checked-in ones are used.
//! - `zerocopy`: typed views of queues' items, `Item::view` and `Item::view_mut`, by the crate of that name.
//! - `tokio`: `AsyncQueue`, whose items tasks wait for: `pull().await`.

#![warn(clippy::print_stdout, clippy::print_stderr)] // a library does not print

mod cursor;
mod error;
mod ffi;
mod options;
mod queue;
mod raw;
mod report;
mod table;
mod uid;
mod values;

pub use cursor::{Cursor, Entry, Iter, Position, SHARDS};
pub use error::{Detail, Error, Result};
pub use options::{HashKind, TableOptions};
#[cfg(feature = "tokio")]
pub use queue::AsyncQueue;
pub use queue::{Batch, BatchItems, BatchIter, BatchIterMut, Drain, Item, Queue, QueueOptions, QueueSet};
pub use report::{QueueReport, QueueStats, Report, Stats};
pub use table::{Exchange, Inserted, Table};
pub use uid::{AnyUid, CheckedUid, Uid};
pub use values::{Values, ValuesIter};

use std::path::Path;

/// Removes the name `path`. Processes that have the table open keep it; its memory comes back with the last one.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::InvalidPath`] if it is no file of this crate; [`Error::Permission`]; [`Error::Io`].
pub fn remove<P: AsRef<Path>>(path: P) -> Result<()> {
    raw::unlink(&options::c_path(path.as_ref())?)
}

/// The version of the C engine, such as "0.1.0".
///
/// ```
/// assert!(shf::version().starts_with("0."));
/// ```
#[must_use]
pub fn version() -> String {
    raw::version()
}
