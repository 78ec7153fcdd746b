//! What a table, a queue and a queue set tell about themselves.

use crate::ffi;

/// Counters and sizes of a table: [`Table::stats`](crate::Table::stats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Keys, as [`Table::len`](crate::Table::len) counts them.
    pub keys: u64,
    /// Attached handles that can write (of at most 1,023).
    pub handles: u32,
    /// What the file takes.
    pub file_bytes: u64,
    /// Its hard limit.
    pub max_bytes: u64,
    /// Free pages inside the file.
    pub free_bytes: u64,
    /// Index segments: of 512 slots, 448 with fixed lengths.
    pub segments: u64,
    /// Segments and directories.
    pub index_bytes: u64,
    /// Chunks that hold records.
    pub record_bytes: u64,
    /// Bytes of dead records in them, not yet cleaned.
    pub garbage_bytes: u64,
    /// Values (with their keys) over 8 KiB: each takes pages of its own.
    pub large_values: u64,
    /// Those pages.
    pub large_bytes: u64,
    /// Keys outside of their two buckets.
    pub stashed_keys: u64,
    /// Locks taken over from dead processes, since creation.
    pub recoveries: u64,
    /// The deepest directory, in bits.
    pub max_depth: u32,
    /// Used slots of all segments, in percent.
    pub load_percent: u32,
}

impl Stats {
    pub(crate) fn from_ffi(stats: &ffi::shf_table_stats) -> Stats {
        Stats {
            keys: stats.keys,
            handles: stats.handles,
            file_bytes: stats.file_bytes,
            max_bytes: stats.max_bytes,
            free_bytes: stats.free_bytes,
            segments: stats.segments,
            index_bytes: stats.index_bytes,
            record_bytes: stats.record_bytes,
            garbage_bytes: stats.garbage_bytes,
            large_values: stats.large_values,
            large_bytes: stats.large_bytes,
            stashed_keys: stats.stashed_keys,
            recoveries: stats.recoveries,
            max_depth: stats.max_depth,
            load_percent: stats.load_percent,
        }
    }
}

/// What a check saw: [`Table::check`](crate::Table::check).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "the report says whether the table is consistent"]
pub struct Report {
    /// Entries walked.
    pub keys: u64,
    /// Pages walked.
    pub pages: u64,
    /// Pages that belong to nobody who can be reached: a problem.
    pub leaked_pages: u64,
    /// Problems in all; 0: consistent.
    pub problems: u64,
    /// The first problem, a sentence with its place; `None` if there is none.
    pub first: Option<String>,
    /// The check ran on a read-only table: live writers may hide a problem, or fake one.
    pub structure_only: bool,
}

impl Report {
    /// No problems.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.problems == 0
    }

    pub(crate) fn from_ffi(report: &ffi::shf_table_report, first: String) -> Report {
        Report {
            keys: report.keys,
            pages: report.pages,
            leaked_pages: report.leaked_pages,
            problems: report.problems,
            first: (!first.is_empty()).then_some(first),
            structure_only: report.structure_only != 0,
        }
    }
}

/// Counters of a queue: [`Queue::stats`](crate::Queue::stats). Exact when nobody pulls or pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Items in the queue now.
    pub len: u64,
    /// The items of the set: so many it can take, so it is never full.
    pub capacity: u64,
    /// Items that have come since creation, those that lay in the first queue at creation included.
    pub pushed: u64,
    /// Items that have gone.
    pub pulled: u64,
    /// Of `pushed`: items that were brought home from dead processes, and from handles that closed while they held them.
    pub returned: u64,
    /// Locks of this queue taken over from dead processes.
    pub recoveries: u64,
    /// Somebody sleeps until an item comes.
    pub sleepers: bool,
}

impl QueueStats {
    pub(crate) fn from_ffi(stats: &ffi::shf_queue_stats) -> QueueStats {
        QueueStats {
            len: stats.len,
            capacity: stats.capacity,
            pushed: stats.pushed,
            pulled: stats.pulled,
            returned: stats.returned,
            recoveries: stats.recoveries,
            sleepers: stats.sleepers != 0,
        }
    }
}

/// Where the items of a set are: [`QueueSet::check`](crate::QueueSet::check).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "the report says whether the set is consistent"]
pub struct QueueReport {
    /// Queues of the set.
    pub queues: u32,
    /// Items of the set: `in_queues + held + dead`, if there is no problem.
    pub items: u64,
    /// Items that lie in queues.
    pub in_queues: u64,
    /// Items that living handles hold.
    pub held: u64,
    /// Items that dead processes held, not yet brought home.
    pub dead: u64,
    /// Problems in all; 0: each item is in one place exactly.
    pub problems: u64,
    /// The first problem, a sentence; `None` if there is none.
    pub first: Option<String>,
}

impl QueueReport {
    /// No problems.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.problems == 0
    }

    pub(crate) fn from_ffi(report: &ffi::shf_queue_report, first: String) -> QueueReport {
        QueueReport {
            queues: report.queues,
            items: report.items,
            in_queues: report.in_queues,
            held: report.held,
            dead: report.dead,
            problems: report.problems,
            first: (!first.is_empty()).then_some(first),
        }
    }
}
