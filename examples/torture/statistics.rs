//! What each slot counts: operations by kind, and how long they took. It is kept in the slot's log, so the next process of
//! the slot goes on with it.

use std::time::Duration;

use crate::values::word;

/// All kinds of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Put,
    Insert,
    Replace,
    Remove,
    Take,
    RemoveIfEqual,
    FetchAdd,
    CompareExchange,
    Update,
    PutByUid,
    RemoveByUid,
    PutMany,
    RemoveMany,
    Get,
    Contains,
    GetByUid,
    KeyByUid,
    Uid,
    GetMany,
    GetManyByUid,
    // From here on: calls that look at a whole table.
    Walk,
    Clear,
    Len,
    Stats,
    Check,
    Open,
    HugePages,
}

pub(crate) const OPS: usize = 27;
const NAMES: [&str; OPS] = [
    "put",
    "insert",
    "replace",
    "remove",
    "take",
    "remove_if_equal",
    "fetch_add",
    "compare_exchange",
    "update",
    "put_by_uid",
    "remove_by_uid",
    "put_many",
    "remove_many",
    "get",
    "contains",
    "get_by_uid",
    "key_by_uid",
    "uid",
    "get_many",
    "get_many_by_uid",
    "walk",
    "clear",
    "len",
    "stats",
    "check",
    "open",
    "use_huge_pages",
];

pub(crate) fn name(op: usize) -> &'static str {
    NAMES.get(op).copied().unwrap_or("?")
}

impl Op {
    pub(crate) fn is_of_one_key(self) -> bool {
        (self as usize) < Op::Walk as usize
    }

    pub(crate) fn is_read(self) -> bool {
        (Op::Get as usize..Op::Walk as usize).contains(&(self as usize))
    }
}

/// Kinds of waits. The first two are of operations on single keys and batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// No process was stopped meanwhile.
    AfterKills,
    /// A process, perhaps this one, was stopped at some time of it.
    BesideStops,
    /// After kills, the long ones, without the time that the process stood ready to run but did not.
    Running,
    /// Of a process that was killed in it, while no process was stopped.
    Unfinished,
    /// A call that goes over a whole table; or opening one.
    Whole,
    /// Between two operations, outside of any call: what the machine's scheduler takes by itself.
    Outside,
}
pub(crate) const WAITS: usize = 6;
/// Four steps for each power of two.
const STEPS: usize = 160;

/// The longest wait of a kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Longest {
    pub(crate) nanoseconds: u64,
    pub(crate) op: u64,
    pub(crate) table: u64,
    /// So long of it the process stood ready to run, but did not.
    pub(crate) not_running: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Statistics {
    pub(crate) ops: [u64; OPS],
    pub(crate) steps: [[u64; STEPS]; WAITS],
    pub(crate) longest: [Longest; WAITS],
    /// Calls that gave up on a lock.
    pub(crate) timeouts: u64,
    /// Nanoseconds inside of calls, and in all.
    pub(crate) inside: u64,
    pub(crate) alive: u64,
    /// Changes that were under way at a death: not done, done, of those only their first keys.
    pub(crate) cut_off: [u64; 3],
    pub(crate) partial_walks: u64,
    pub(crate) full_walks: u64,
}

impl Default for Statistics {
    fn default() -> Self {
        Statistics {
            ops: [0; OPS],
            steps: [[0; STEPS]; WAITS],
            longest: [Longest::default(); WAITS],
            timeouts: 0,
            inside: 0,
            alive: 0,
            cut_off: [0; 3],
            partial_walks: 0,
            full_walks: 0,
        }
    }
}

impl Statistics {
    /// True: it is the longest of its kind so far.
    pub(crate) fn add(&mut self, kind: Wait, op: usize, table: usize, nanoseconds: u64) -> bool {
        let kind = kind as usize;
        self.steps[kind][step_of(nanoseconds)] += 1;
        let longest = nanoseconds > self.longest[kind].nanoseconds;
        if longest {
            let (op, table) = (op as u64, table as u64);
            self.longest[kind] = Longest { nanoseconds, op, table, ..Longest::default() };
        }
        longest
    }

    pub(crate) fn total(&self) -> u64 {
        self.ops.iter().sum()
    }

    /// At least `share` of the waits of this kind were at most so long.
    pub(crate) fn quantile(&self, kind: Wait, one_in: u64) -> Duration {
        let steps = &self.steps[kind as usize];
        let mut beyond = steps.iter().sum::<u64>() / one_in;
        for (step, &count) in steps.iter().enumerate().rev() {
            if count > beyond {
                return Duration::from_nanos(end_of_step(step));
            }
            beyond -= count;
        }
        Duration::ZERO
    }

    pub(crate) fn merge(&mut self, other: &Statistics) {
        let sum = |a: &mut [u64], b: &[u64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        sum(&mut self.ops, &other.ops);
        sum(&mut self.cut_off, &other.cut_off);
        for kind in 0..WAITS {
            sum(&mut self.steps[kind], &other.steps[kind]);
            if other.longest[kind].nanoseconds > self.longest[kind].nanoseconds {
                self.longest[kind] = other.longest[kind];
            }
        }
        self.timeouts += other.timeouts;
        self.inside += other.inside;
        self.alive += other.alive;
        self.partial_walks += other.partial_walks;
        self.full_walks += other.full_walks;
    }

    /// Calls `f` with each number in turn.
    fn each(&mut self, mut f: impl FnMut(&mut u64)) {
        self.ops.iter_mut().chain(&mut self.cut_off).for_each(&mut f);
        self.steps.iter_mut().flatten().for_each(&mut f);
        for l in &mut self.longest {
            [&mut l.nanoseconds, &mut l.op, &mut l.table, &mut l.not_running].into_iter().for_each(&mut f);
        }
        [
            &mut self.timeouts,
            &mut self.inside,
            &mut self.alive,
            &mut self.partial_walks,
            &mut self.full_walks,
        ]
        .into_iter()
        .for_each(&mut f);
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.clone().each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Statistics {
        let mut statistics = Statistics::default();
        let mut words = bytes.chunks_exact(8);
        statistics.each(|number| *number = words.next().map_or(0, word));
        statistics
    }
}

fn step_of(nanoseconds: u64) -> usize {
    let n = nanoseconds.max(4);
    let power = n.ilog2();
    let quarter = (n >> (power - 2)) & 3;
    usize::try_from(u64::from(power) * 4 + quarter).unwrap_or(0).min(STEPS - 1)
}

fn end_of_step(step: usize) -> u64 {
    let (power, quarter) = (step / 4, step as u64 % 4);
    (5 + quarter) << power >> 2
}
