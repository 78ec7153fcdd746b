//! Readers beside writers, variable lengths: the frame of table_read.c (V1, V2) against the steps of table_step.c (A2, V3,
//! V4), and pages that another shard takes (F1, T0 of pages.c).
//!
//! V1 version (acquire) | directory word, entry, slot (acquire), record (relaxed) | fence(acquire) "V2 fence" |
//! V2 version (relaxed) equals: only then a verdict. table_batch.c has the same loads in the same order for each lane.
//! Unlabelled loads of the C source have names here: "directory", "entry", "slot", "word".

use loom::{
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    thread,
};

use crate::twin::{Weak, promise, prove};

pub(crate) const LABELS: &[(&str, &str)] = &[
    ("table_read.c", "V1"),
    ("table_read.c", "V2"),
    ("table_batch.c", "V1"),
    ("table_batch.c", "V2"),
    ("table_cells_read.c", "V1"),
    ("table_cells_read.c", "V2"),
    ("table_step.c", "A2"),
    ("table_cells.c", "A2"),
    ("table_ops.c", "A2"),
    ("table.h", "V3"),
    ("table.h", "V4"),
    ("pages.c", "T0"),
    ("pages.c", "T4"),
    ("pages.c", "F1"),
];

const OLD: u64 = 1;
const NEW: u64 = 2;

fn word(value: u64) -> AtomicU64 {
    AtomicU64::new(value)
}

/// One try of a reader: the body between V1 and V2. `None`: the version has moved; the reader begins again.
fn framed<T>(weak: Weak, version: &AtomicU64, body: impl FnOnce() -> T) -> Option<T> {
    let before = version.load(weak.order("V1", Acquire)); // V1
    let verdict = body();
    weak.fence("V2 fence", Acquire);
    (weak.has("V2") || version.load(Relaxed) == before).then_some(verdict) // V2
}

fn move_version(weak: Weak, version: &AtomicU64, to: u64) {
    version.store(to, weak.order("V3", Release)); // V3
    weak.fence("V4", Release); // V4
}

/// A segment splits: the key moves to another segment, the directory entry and the version follow, its old slot is cleared.
/// A key that is there all the time is found.
fn split(weak: Weak) {
    struct Shard {
        version: AtomicU64,
        entry: AtomicU64,
        slots: [AtomicU64; 2],
    }
    let shard = Arc::new(Shard { version: word(0), entry: word(OLD), slots: [word(7), word(0)] });
    let writer = {
        let shard = shard.clone();
        thread::spawn(move || {
            shard.slots[1].store(7, Relaxed); // the new segment is filled before the arm
            shard.entry.store(NEW, weak.order("A2", Release)); // A2
            move_version(weak, &shard.version, 1);
            shard.slots[0].store(0, weak.order("A2 clear", Release)); // A2
        })
    };
    let slot = || {
        let segment = usize::from(shard.entry.load(weak.order("entry", Acquire)) != OLD);
        shard.slots[segment].load(Relaxed) // the filter of tags; an absent verdict stands on it alone
    };
    let found = if weak.has("V1 first") {
        // The version taken when the bucket is known already, as for a whole group of a batch.
        let slot = slot();
        framed(weak, &shard.version, || slot)
    } else {
        framed(weak, &shard.version, slot)
    };
    promise(found.is_none_or(|slot| slot == 7), "a present key is found beside a split");
    writer.join().unwrap();
}

#[test]
fn a_split_loses_no_key() {
    prove(
        "split",
        split,
        &[&["V1"], &["V3"], &["A2"], &["entry"], &["V2 fence"], &["V2"], &["V1 first"], &["V4", "A2 clear"]],
        &[
            (
                &["V4"],
                "each store behind it is a release store, of this thread: it publishes the version itself",
            ),
            (&["A2 clear"], "V4 stands before it"),
        ],
    );
}

/// A directory doubles: the array is filled, the directory word names it.
fn double(weak: Weak) {
    struct Shard {
        version: AtomicU64,
        directory: AtomicU64,
        arrays: [AtomicU64; 2],
    }
    let shard = Arc::new(Shard { version: word(0), directory: word(0), arrays: [word(OLD), word(0)] });
    let writer = {
        let shard = shard.clone();
        thread::spawn(move || {
            shard.arrays[1].store(NEW, Relaxed);
            shard.directory.store(1, weak.order("A2", Release)); // A2
            move_version(weak, &shard.version, 1);
        })
    };
    let entry = framed(weak, &shard.version, || {
        let directory = shard.directory.load(weak.order("directory", Acquire));
        shard.arrays[usize::try_from(directory).unwrap()].load(weak.order("entry", Acquire))
    });
    promise(entry.is_none_or(|entry| entry != 0), "an entry of the new directory is there");
    writer.join().unwrap();
}

#[test]
fn a_doubling_shows_whole_directories() {
    prove(
        "double",
        double,
        &[&["A2"], &["directory"]],
        &[(
            &["V1", "V2 fence", "V2"],
            "nothing is reused here: the directory word alone publishes its array",
        )],
    );
}

/// A value is replaced: a new record, then the slot names it. The key is there all the time.
fn replace(weak: Weak) {
    struct Shard {
        slot: AtomicU64,
        records: [AtomicU64; 2],
    }
    let shard = Arc::new(Shard { slot: word(0), records: [word(11), word(0)] });
    let writer = {
        let shard = shard.clone();
        thread::spawn(move || {
            shard.records[1].store(12, Relaxed);
            shard.slot.store(1, weak.order("A2", Release)); // A2
        })
    };
    let slot = shard.slot.load(weak.order("slot", Acquire));
    let record = shard.records[usize::try_from(slot).unwrap()].load(Relaxed);
    promise(record != 0, "the record that a slot names is whole");
    writer.join().unwrap();
}

#[test]
fn a_slot_names_whole_records_only() {
    prove("replace", replace, &[&["A2"], &["slot"]], &[]);
}

/// A chunk is emptied and freed, another shard's writer takes its page and writes there. The reader may be at the old record:
/// it never returns foreign bytes.
fn reuse(weak: Weak) {
    const FREE: u64 = 1;
    const TAKEN: u64 = 2;
    struct File {
        version: AtomicU64,
        slot: AtomicU64,
        page: AtomicU64,
        /// Of the old chunk: key, value.
        old: [AtomicU64; 2],
        new: [AtomicU64; 2],
    }
    let file = Arc::new(File {
        version: word(0),
        slot: word(OLD),
        page: word(0),
        old: [word(1), word(10)],
        new: [word(0), word(0)],
    });
    let owner = {
        let file = file.clone();
        thread::spawn(move || {
            file.new[0].store(1, Relaxed);
            file.new[1].store(10, Relaxed);
            file.slot.store(NEW, weak.order("A2", Release)); // A2: the cleaner has moved the record
            move_version(weak, &file.version, 1); // UNCHUNK
            file.page.store(FREE, weak.order("F1", Release)); // F1
        })
    };
    let taker = {
        let file = file.clone();
        thread::spawn(move || {
            if file.page.load(weak.order("word", Acquire)) == FREE {
                weak.fence("T0", Release); // T0
                file.page.store(TAKEN, weak.order("T4", Release)); // T4
                file.old[1].store(99, Relaxed); // bytes of another key
            }
        })
    };
    let value = framed(weak, &file.version, || {
        let slot = file.slot.load(weak.order("slot", Acquire));
        let record = if slot == OLD { &file.old } else { &file.new };
        if record[0].load(Relaxed) == 1 { record[1].load(Relaxed) } else { 0 }
    });
    promise(value.is_none_or(|value| value == 10), "no bytes of the page's next owner");
    owner.join().unwrap();
    taker.join().unwrap();
}

#[test]
fn a_page_that_is_used_again_shows_no_foreign_bytes() {
    prove(
        "reuse",
        reuse,
        &[&["T0"], &["word"], &["V2 fence"], &["V2"], &["A2"], &["slot"], &["V4", "F1"]],
        &[
            (&["V4"], "F1 is a release store behind the version: it publishes it itself"),
            (&["F1"], "V4 stands before it"),
            (&["T4"], "what the page holds is published by the step that links it (A2), not by its map word"),
        ],
    );
}
