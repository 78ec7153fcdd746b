//! Files of plain words, outside of the sets: what the first process tells the workers, and what each slot leaves.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::plan::{QUEUES, SETS};

#[derive(Debug)]
struct Words(File);

impl Words {
    /// New ones are 0.
    fn open(path: &Path, count: usize) -> io::Result<Words> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        if file.metadata()?.len() == 0 {
            file.set_len(8 * count as u64)?;
        }
        Ok(Words(file))
    }

    fn get(&self, at: usize) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 8 * at as u64)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn set(&self, at: usize, word: u64) -> io::Result<()> {
        self.0.write_all_at(&word.to_le_bytes(), 8 * at as u64)
    }
}

/// What all read, and the first process writes.
#[derive(Debug)]
pub(crate) struct Lives(Words);

impl Lives {
    pub(crate) fn open(folder: &Path, slots: usize) -> io::Result<Lives> {
        Words::open(&folder.join("lives"), 1 + slots).map(Lives)
    }

    /// Workers shall end.
    pub(crate) fn halt(&self) -> io::Result<bool> {
        Ok(self.0.get(0)? != 0)
    }

    pub(crate) fn set_halt(&self, halt: bool) -> io::Result<()> {
        self.0.set(0, u64::from(halt))
    }

    /// This life of the slot is killed next: said before the signal, so before any of its items is home.
    pub(crate) fn set_killed(&self, slot: usize, life: u64) -> io::Result<()> {
        self.0.set(1 + slot, life)
    }

    pub(crate) fn is_dead(&self, slot: usize, life: u64) -> io::Result<bool> {
        Ok(self.0.get(1 + slot)? >= life)
    }
}

/// What a slot has counted. It outlives its processes, but for the last moment of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Pull,
    Push,
    Exchange,
    PullMany,
    PushMany,
    ExchangeMany,
    Take,
    Return,
    Wait,
    WaitAny,
    WaitFd,
    Drain,
    Reset,
    Add,
    Look,
    Check,
    Open,
    // From here on: no operations.
    Items,
    Bare,
    LargeBatches,
    Waited,
    GaveUp,
    CutOff,
    FoundHeld,
    OutOfOrder,
}
pub(crate) const COUNTS: usize = 25;
pub(crate) const OPERATIONS: usize = Count::Items as usize;
pub(crate) const COUNT_NAMES: [&str; OPERATIONS] = [
    "pull",
    "push",
    "exchange",
    "pull_many",
    "push_many",
    "exchange_many",
    "take",
    "return",
    "pull_wait",
    "wait_any",
    "wait_fd",
    "drain",
    "reset",
    "add_queue",
    "len, stats",
    "check",
    "open",
];

pub(crate) const THREADS: usize = 2;
const REGRESSED_AT: usize = THREADS;
const COUNTS_AT: usize = REGRESSED_AT + SETS.len() * QUEUES;

/// One slot's.
///
/// Its *intents*: which queue each thread pulls from next, and how many items at most until it says otherwise. When it is
/// killed so many may come home as the last pusher marked them, and stand behind others that were pushed after them.
#[derive(Debug)]
pub(crate) struct Log {
    words: Words,
    counts: [AtomicU64; COUNTS],
}

impl Log {
    pub(crate) fn open(folder: &Path, slot: usize) -> io::Result<Log> {
        let words = Words::open(&folder.join(format!("log-{slot}")), COUNTS_AT + COUNTS)?;
        let counts = std::array::from_fn(|i| words.get(COUNTS_AT + i).unwrap_or(0).into());
        Ok(Log { words, counts })
    }

    /// The thread pulls up to `n` items from this queue.
    pub(crate) fn intend(&self, thread: usize, set: usize, queue: usize, n: usize) -> io::Result<()> {
        self.words.set(thread, ((set * QUEUES + queue) as u64) << 32 | n as u64)
    }

    /// Set, queue and items of the intent, which is over then.
    pub(crate) fn take_intent(&self, thread: usize) -> io::Result<(usize, usize, u64)> {
        let word = self.words.get(thread)?;
        self.words.set(thread, 0)?;
        let place = usize::try_from(word >> 32).unwrap_or(0);
        Ok((place / QUEUES, place % QUEUES, word & 0xffff_ffff))
    }

    /// An item stood behind one that its producer had pushed later. Written at once. (That one of two
    /// at the same time is not counted does no harm.)
    pub(crate) fn add_regressed(&self, set: usize, queue: usize) -> io::Result<()> {
        let at = REGRESSED_AT + set * QUEUES + queue;
        self.words.set(at, self.words.get(at)? + 1)
    }

    pub(crate) fn regressed(&self, set: usize, queue: usize) -> io::Result<u64> {
        self.words.get(REGRESSED_AT + set * QUEUES + queue)
    }

    pub(crate) fn count(&self, what: Count, n: usize) {
        self.counts[what as usize].fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn counted(&self, what: usize) -> u64 {
        self.counts[what].load(Ordering::Relaxed)
    }

    /// Writes the counts.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let bytes: Vec<u8> =
            self.counts.iter().flat_map(|count| count.load(Ordering::Relaxed).to_le_bytes()).collect();
        self.words.0.write_all_at(&bytes, 8 * COUNTS_AT as u64)
    }
}
