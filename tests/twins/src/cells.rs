//! Cells of fixed lengths: table_cells.h, table_cells.c, table_cells_read.c, and the same loads in table_batch.c.
//!
//! K1 and K2 have equal tags: TAG in the header word says that the cell is used by one of them. A word of a narrow cell is the
//! number of its key; a wide cell has a key word and value words. Two promises are tried: a key whose put was never committed is
//! never found; a key that was removed before the reader began is not found.

use loom::{
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{self, Acquire, Relaxed, Release},
            fence,
        },
    },
    thread,
};

use crate::twin::{Weak, promise, prove};

pub(crate) const LABELS: &[(&str, &str)] = &[
    ("table_cells.c", "C0"),
    ("table_cells.c", "N1"),
    ("table_cells.c", "N2"),
    ("table_cells.c", "F1"),
    ("table_cells.c", "F2"),
    ("table_cells.c", "D1"),
    ("table_cells.c", "D2"),
    ("table_cells_read.c", "C1"),
    ("table_cells_read.c", "C2"),
    ("table_cells_read.c", "C3"),
    ("table_cells_read.c", "B1"),
    ("table_cells_read.c", "B2"),
    ("table_cells_read.c", "B3"),
    ("table_cells_read.c", "B4"),
    ("table_batch.c", "C1"),
    ("table_batch.c", "C2"),
    ("table_batch.c", "C3"),
    ("table_batch.c", "B1"),
    ("table_batch.c", "B2"),
    ("table_batch.c", "B3"),
    ("table_batch.c", "B4"),
    ("table_step.c", "V3"),
    ("table_step.c", "V4"),
];

const TAG: u64 = 0x80;
const K1: u64 = 1;
const K2: u64 = 2;
/// Another key with the same tag.
const K3: u64 = 3;

/// One bucket with K1 in its only cell, and the shard's version.
struct Bucket {
    shard_version: AtomicU64,
    header: AtomicU64,
    version: AtomicU64,
    key: AtomicU64,
    value: AtomicU64,
    /// Another word of the program, by which the writer tells what it has done.
    told: AtomicU64,
}

fn bucket() -> Arc<Bucket> {
    let word = AtomicU64::new;
    Arc::new(Bucket {
        shard_version: word(0),
        header: word(TAG),
        version: word(0),
        key: word(K1),
        value: word(K1),
        told: word(0),
    })
}

impl Bucket {
    fn remove(&self, weak: Weak) {
        self.header.store(0, weak.order("C0", Release)); // C0
    }

    fn tell(&self) {
        self.told.store(1, Release);
    }

    fn was_told(&self) -> bool {
        self.told.load(Acquire) == 1
    }

    fn write_narrow(&self, weak: Weak, key: u64) {
        self.key.store(key, weak.order("N2", Release)); // N2
    }

    fn write_wide(&self, weak: Weak, key: u64) {
        self.version.store(2, weak.order("N1", Release)); // N1
        weak.fence("F1", Release); // F1
        self.value.store(key, Relaxed);
        self.key.store(key, Relaxed);
    }

    fn publish(&self, weak: Weak) {
        self.header.store(TAG, weak.order("C0", Release)); // C0
    }

    /// Is the key there? `None`: the bucket has changed; the reader begins again.
    fn find_narrow(&self, weak: Weak, key: u64) -> Option<bool> {
        let header = self.header.load(weak.order("C1", Acquire)); // C1
        if header == 0 || self.key.load(weak.order("C2", Acquire)) != key {
            return Some(false); // C2
        }
        (weak.has("C3") || self.header.load(Relaxed) == header).then_some(true) // C3
    }

    fn find_wide(&self, weak: Weak, key: u64) -> Option<bool> {
        let version = self.version.load(weak.order("B1", Acquire)); // B1
        let header = self.header.load(weak.order("B2", Acquire)); // B2
        if header == 0 || self.key.load(Relaxed) != key {
            return Some(false);
        }
        let value = self.value.load(Relaxed);
        weak.fence("B3", Acquire); // B3
        let whole = weak.has("B4") || self.version.load(Relaxed) == version; // B4
        if whole {
            promise(value == key, "the value is its key's");
        }
        whole.then_some(true)
    }
}

/// K1 is removed. A writer writes K2 into its cell, and dies before the arm.
fn uncommitted(weak: Weak, wide: bool) {
    let bucket = bucket();
    let writer = {
        let bucket = bucket.clone();
        thread::spawn(move || {
            bucket.remove(weak);
            if wide { bucket.write_wide(weak, K2) } else { bucket.write_narrow(weak, K2) }
        })
    };
    let found = if wide { bucket.find_wide(weak, K2) } else { bucket.find_narrow(weak, K2) };
    promise(found != Some(true), "a put that was not committed is not found");
    writer.join().unwrap();
}

/// K1 is removed, which the reader may know of; then K2 gets the cell.
fn removed(weak: Weak, wide: bool) {
    let bucket = bucket();
    let writer = {
        let bucket = bucket.clone();
        thread::spawn(move || {
            bucket.remove(weak);
            bucket.tell();
            if wide {
                bucket.write_wide(weak, K2);
            } else {
                bucket.write_narrow(weak, K2);
            }
            bucket.publish(weak);
        })
    };
    if bucket.was_told() {
        let found = if wide { bucket.find_wide(weak, K1) } else { bucket.find_narrow(weak, K1) };
        promise(found != Some(true), "a key that was removed is not found");
    }
    writer.join().unwrap();
}

#[test]
fn narrow_cells_show_nothing_uncommitted() {
    prove(
        "narrow, uncommitted",
        |weak| uncommitted(weak, false),
        &[&["C2"], &["C3"], &["N2"]],
        &[(
            &["C0", "C1"],
            "the cell (N2, C2) brings the header that emptied it; C0 and C1: see the next twin",
        )],
    );
}

#[test]
fn narrow_cells_show_nothing_removed() {
    prove(
        "narrow, removed",
        |weak| removed(weak, false),
        &[&["C0"], &["C1"]],
        &[(&["C2", "C3", "N2"], "the tag (C0, C1) brings the cell; the others: see the twin before")],
    );
}

#[test]
fn wide_cells_show_nothing_uncommitted() {
    prove(
        "wide, uncommitted",
        |weak| uncommitted(weak, true),
        &[&["N1"], &["F1"], &["B1"], &["B3"], &["B4"]],
        &[(&["C0", "B2"], "N1 brings the header that emptied the cell; C0 and B2: see the next twin")],
    );
}

#[test]
fn wide_cells_show_nothing_removed() {
    prove("wide, removed", |weak| removed(weak, true), &[&["C0"], &["B2"]], &[]);
}

/// As `uncommitted`; then another takes the dead one's lock over and publishes K3 in this cell, with the same tag: C3 finds the
/// same header word. The shard's version, moved at the take-over, tells the reader.
fn taken_over(weak: Weak) {
    let bucket = bucket();
    let dead = Arc::new(AtomicU64::new(0));
    let first = {
        let (bucket, dead) = (bucket.clone(), dead.clone());
        thread::spawn(move || {
            bucket.remove(weak);
            bucket.write_narrow(weak, K2);
            dead.store(1, Release); // the kernel's edge: see the twin `lock`
        })
    };
    let second = {
        let (bucket, dead) = (bucket.clone(), dead);
        thread::spawn(move || {
            if dead.load(Acquire) == 1 {
                if !weak.has("move") {
                    bucket.shard_version.store(1, weak.order("V3", Release)); // V3
                    weak.fence("V4", Release); // V4
                }
                bucket.write_narrow(weak, K3);
                bucket.publish(weak);
            }
        })
    };
    let before = bucket.shard_version.load(weak.order("V1", Acquire)); // V1
    let found = bucket.find_narrow(weak, K2);
    weak.fence("V2 fence", Acquire);
    let holds = bucket.shard_version.load(Relaxed) == before; // V2
    promise(!holds || found != Some(true), "what a dead one did not commit is never found");
    first.join().unwrap();
    second.join().unwrap();
}

#[test]
fn a_take_over_ends_the_frames_that_are_open() {
    prove(
        "narrow, taken over",
        taken_over,
        &[&["move"], &["V1"], &["V2 fence"], &["V3"]],
        &[(&["V4"], "N2 and C0 behind it are release stores: they publish the version themselves")],
    );
}

/// A value over 8 bytes (two words here), replaced twice through the redo record. `die_at`: the writer dies before that store,
/// and who takes over does the armed step once more; both are one thread here (the edge between them: see the twin `lock`).
fn replaced(weak: Weak, die_at: usize) {
    const CELL: u64 = 77;

    #[derive(Default)]
    struct Words<T> {
        /// Of the bucket.
        version: T,
        cell: [T; 2],
        /// The cell that it names, and two words.
        redo: [T; 3],
        arm: T,
        shard_version: T,
    }

    /// Knows what it has stored, and loads nothing: see `crate` on loom.
    struct Writer {
        shared: Arc<Words<AtomicU64>>,
        known: Words<u64>,
        weak: Weak,
        left: usize,
    }

    impl Writer {
        fn store(
            &mut self,
            shared: fn(&Words<AtomicU64>) -> &AtomicU64,
            known: fn(&mut Words<u64>) -> &mut u64,
            value: u64,
            order: Ordering,
        ) -> Option<()> {
            self.left = self.left.checked_sub(1)?; // the death before the k-th store
            shared(&self.shared).store(value, order);
            *known(&mut self.known) = value;
            Some(())
        }

        fn apply(&mut self, version: u64) -> Option<()> {
            let redo = self.known.redo;
            self.store(|w| &w.version, |w| &mut w.version, version - 1, self.weak.order("D1", Release))?; // D1
            self.weak.fence("F2", Release); // F2
            self.store(|w| &w.cell[0], |w| &mut w.cell[0], redo[1], Relaxed)?;
            self.store(|w| &w.cell[1], |w| &mut w.cell[1], redo[2], Relaxed)?;
            self.store(|w| &w.version, |w| &mut w.version, version, self.weak.order("D2", Release)) // D2
        }

        fn replace(&mut self, value: u64) -> Option<()> {
            let version = (self.known.version + 2) & !1;
            self.weak.fence("F1", Release); // F1
            self.store(|w| &w.redo[0], |w| &mut w.redo[0], CELL, Relaxed)?;
            self.store(|w| &w.redo[1], |w| &mut w.redo[1], value, Relaxed)?;
            self.store(|w| &w.redo[2], |w| &mut w.redo[2], value, Relaxed)?;
            self.store(|w| &w.arm, |w| &mut w.arm, version, Relaxed)?;
            self.apply(version)?;
            self.store(|w| &w.arm, |w| &mut w.arm, 0, Relaxed)
        }

        fn take_over(&mut self) {
            self.left = usize::MAX;
            if self.known.arm != 0 {
                self.apply(self.known.arm).expect("nobody dies in it");
                self.shared.arm.store(0, Relaxed);
            }
            self.shared.shard_version.store(1, Release); // V3
            fence(Release); // V4
        }
    }

    let known = Words { cell: [10; 2], ..Words::default() };
    let shared: Arc<Words<AtomicU64>> = Arc::new(Words {
        version: AtomicU64::new(0),
        cell: [AtomicU64::new(10), AtomicU64::new(10)],
        redo: [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)],
        arm: AtomicU64::new(0),
        shard_version: AtomicU64::new(0),
    });
    let mut writer = Writer { shared: shared.clone(), known, weak, left: die_at };
    let writer = thread::spawn(move || {
        if writer.replace(11).and_then(|()| writer.replace(12)).is_none() {
            writer.take_over();
        }
    });
    let frame = shared.shard_version.load(Acquire); // V1
    let version = shared.version.load(weak.order("B1", Acquire)); // B1
    let odd = !version.is_multiple_of(2) && shared.redo[0].load(Relaxed) == CELL;
    let from = if odd { &shared.redo[1..] } else { &shared.cell[..] };
    let value = [from[0].load(Relaxed), from[1].load(Relaxed)];
    weak.fence("B3", Acquire); // B3
    let mut whole = weak.has("B4") || shared.version.load(Relaxed) == version; // B4
    fence(Acquire);
    whole &= shared.shard_version.load(Relaxed) == frame; // V2
    promise(!whole || value[0] == value[1], "a value is whole, the old one or the new one");
    writer.join().unwrap();
    promise(shared.version.load(Relaxed).is_multiple_of(2), "versions are even in the end");
    let end = [shared.cell[0].load(Relaxed), shared.cell[1].load(Relaxed)];
    promise(end[0] == end[1], "the value is whole in the end");
}

/// Stores of one replace.
const STORES: usize = 9;

#[test]
fn long_values_are_whole_beside_a_writer() {
    prove(
        "wide, redo",
        |weak| replaced(weak, usize::MAX),
        &[&["F1"], &["F2"], &["D1"], &["D2"], &["B1"], &["B3"], &["B4"]],
        &[],
    );
}

#[test]
fn long_values_are_whole_beside_a_writer_that_dies_at_any_store() {
    // Also the redo itself is done beside the reader: the version goes odd once more, with the same bytes.
    for die_at in 0..=STORES {
        prove("wide, redo, a death", move |weak| replaced(weak, die_at), &[], &[]);
    }
}
