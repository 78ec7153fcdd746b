//! Growth: the words of new pages are written beyond `end`, then `end` moves (G3 of pages_grow.c). A thread sees it (E2) and
//! moves its handle's size (S1 of region.c); other threads of that handle go by the size (S2 of pages_impl.h), and step from
//! head to head by length: so no load of a page number stands between.

use loom::{
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    thread,
};

use crate::twin::{Weak, promise, prove};

pub(crate) const LABELS: &[(&str, &str)] = &[
    ("pages_grow.c", "G3"),
    ("region.c", "E2"),
    ("region.c", "S1"),
    ("pages_impl.h", "S2"),
    ("check.c", "S2"),
];

fn growth(weak: Weak) {
    const FREE: u64 = 1;
    struct File {
        end: AtomicU64,
        map_word: AtomicU64,
        /// Of the handle, private memory.
        size: AtomicU64,
    }
    let file =
        Arc::new(File { end: AtomicU64::new(1), map_word: AtomicU64::new(0), size: AtomicU64::new(1) });
    let grower = {
        let file = file.clone();
        thread::spawn(move || {
            file.map_word.store(FREE, Relaxed); // G2
            file.end.store(2, weak.order("G3", Release)); // G3
        })
    };
    let refresher = {
        let file = file.clone();
        thread::spawn(move || {
            let end = file.end.load(weak.order("E2", Acquire)); // E2
            if end > 1 {
                let moved = file.size.compare_exchange(1, end, weak.order("S1", AcqRel), Relaxed); // S1
                assert!(moved.is_ok());
            }
        })
    };
    if file.size.load(weak.order("S2", Acquire)) > 1 {
        let word = file.map_word.load(Acquire); // the head behind the last one known before
        promise(word == FREE, "the page map is there as far as the handle's size goes");
    }
    grower.join().unwrap();
    refresher.join().unwrap();
}

#[test]
fn growth_is_published_with_its_map() {
    prove("growth", growth, &[&["G3"], &["E2"], &["S1"], &["S2"]], &[]);
}

/// A page number that lies beyond the handle's size as it was: the file has grown. Another thread of the handle may be the one
/// that moves the size, between two looks; what it was before decides, not who has moved it.
fn beyond(weak: Weak) {
    struct File {
        end: AtomicU64,
        entry: AtomicU64,
        size: AtomicU64,
    }
    /// `true`: this thread has moved the size.
    fn refresh(weak: Weak, file: &File) -> bool {
        let end = file.end.load(weak.order("E2", Acquire)); // E2
        end > 1 && file.size.compare_exchange(1, end, AcqRel, Relaxed).is_ok() // S1
    }
    let file = Arc::new(File { end: AtomicU64::new(1), entry: AtomicU64::new(0), size: AtomicU64::new(1) });
    let writer = {
        let file = file.clone();
        thread::spawn(move || {
            file.end.store(2, Release); // G3
            file.entry.store(2, weak.order("A2", Release)); // A2: a segment in the new pages
        })
    };
    let other = {
        let file = file.clone();
        thread::spawn(move || refresh(weak, &file))
    };
    let size = file.size.load(Relaxed);
    let page = file.entry.load(weak.order("entry", Acquire));
    if page > size {
        let moved = refresh(weak, &file);
        let grown = if weak.has("what it was") { moved } else { file.size.load(Relaxed) > size };
        promise(grown, "a page of a whole file is not called damage");
    }
    writer.join().unwrap();
    other.join().unwrap();
}

#[test]
fn pages_beyond_the_size_that_was_known_are_found() {
    prove(
        "beyond",
        beyond,
        &[&["what it was"], &["A2"], &["entry"]],
        &[(&["E2"], "who found the page by an acquire load sees the end before it")],
    );
}
