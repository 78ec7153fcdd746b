//! A page of memory that both sides share: when the last message was sent, which was taken, a futex. Whatever the
//! system, the times of wake-ups are taken with it in the same way.

use std::fs::OpenOptions;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

use crate::AnyError;
use crate::machine;

/// Each word has a cache line pair of its own.
#[derive(Debug, Default)]
#[repr(C, align(128))]
struct Line<T>(T);

#[derive(Debug, Default)]
#[repr(C)]
struct Page {
    sent: Line<AtomicU64>,
    taken: Line<AtomicU64>,
    futex: Line<AtomicU32>,
    there: Line<AtomicU64>,
    back: Line<AtomicU64>,
}

#[derive(Debug)]
pub(crate) struct Board(&'static Page);

impl Board {
    /// The page of this folder; made by who comes first. It stays mapped.
    #[allow(unsafe_code, reason = "words that processes share are in mapped memory")]
    pub(crate) fn open(folder: &Path) -> Result<Self, AnyError> {
        let path = folder.join("board");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(4096)?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping, where the kernel wants it.
        let address = unsafe { rustix::mm::mmap(std::ptr::null_mut(), 4096, protection, flags, &file, 0) }?;
        let page = NonNull::new(address.cast::<Page>()).ok_or("no address")?;
        // SAFETY: page-aligned, longer than a Page, never unmapped; its fields are atomic, and 0 is a value of them.
        Ok(Self(unsafe { page.as_ref() }))
    }

    /// A message is about to be sent.
    pub(crate) fn send(&self) {
        self.0.sent.0.store(machine::now(), Ordering::Release);
    }

    /// When that was.
    pub(crate) fn sent(&self) -> u64 {
        self.0.sent.0.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self, count: u64) {
        self.0.taken.0.store(count, Ordering::Release);
    }

    /// Messages taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.0.taken.0.load(Ordering::Acquire)
    }

    pub(crate) fn futex(&self) -> &AtomicU32 {
        &self.0.futex.0
    }

    /// A word that A writes, and one that B writes.
    pub(crate) fn words(&self) -> (&AtomicU64, &AtomicU64) {
        (&self.0.there.0, &self.0.back.0)
    }
}
