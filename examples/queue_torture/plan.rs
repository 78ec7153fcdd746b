//! Which sets and queues there are: the same for the first process and all workers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use shf::{QueueOptions, QueueSet};

/// A set of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) items: usize,
    /// A multiple of 8, if its items are marked.
    pub(crate) item_size: usize,
}

/// In the first one queues are empty most of the time: workers wait, and are woken. The items of the last one bear no
/// marks: whoever works on it does nothing but calls, so he mostly dies in one.
pub(crate) const SETS: [Kind; 4] = [
    Kind { name: "few", items: 24, item_size: 4096 },
    Kind { name: "some", items: 700, item_size: 16 },
    Kind { name: "many", items: 6000, item_size: 200 },
    Kind { name: "bare", items: 4000, item_size: 1 },
];

pub(crate) const BARE: usize = 3;

/// All items begin here, and may be brought here from anywhere: by `drain_to` and `reset`.
pub(crate) const FREE: usize = 0;
/// Only the careful slot pulls from these: so nothing ever comes home to them from the dead, and the order of each
/// producer must be kept, without an exception.
pub(crate) const STRICT: std::ops::Range<usize> = 6..8;
/// These are there from the beginning; the others are added by workers.
const FIRST: usize = 8;
pub(crate) const QUEUES: usize = 16;
pub(crate) const NAMES: [&str; QUEUES] = [
    "free", "a", "b", "c", "d", "e", "strict-1", "strict-2", "added-0", "added-1", "added-2", "added-3",
    "added-4", "added-5", "added-6", "added-7",
];

/// The slot whose processes are stopped, but not killed.
pub(crate) const CAREFUL: usize = 0;

/// Some lives give up on a lock soon; what they could not push goes home while they live.
pub(crate) fn is_impatient(slot: usize, life: u64) -> bool {
    slot != CAREFUL && life % 4 == 3
}

pub(crate) fn path(folder: &Path, set: usize) -> PathBuf {
    folder.join(format!("{}.shf", SETS[set].name))
}

pub(crate) fn create(folder: &Path, set: usize) -> shf::Result<QueueSet> {
    let kind = SETS[set];
    QueueOptions::new()
        .items(kind.items)
        .item_size(kind.item_size)
        .queues(&NAMES[..FIRST])
        .create(path(folder, set))
}

pub(crate) fn open(folder: &Path, set: usize, impatient: bool) -> shf::Result<QueueSet> {
    let patience = if impatient { 1 } else { 10_000 };
    QueueOptions::new().lock_timeout(Duration::from_millis(patience)).open(path(folder, set))
}
