//! The lock word of lock.c and lock.h, and the verdict "dead" of registry.c.
//!
//! The futex is a list of sleepers under a mutex, as the kernel's hash bucket; naps that end by themselves are left out where
//! lost wakes are looked for, and are yields where they are not. The byte lock that proves a life is a relaxed word where the
//! edge from the dead is looked for: C11 knows none, so the fences at the verdict have to do.

use std::collections::VecDeque;

use loom::{
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
        },
    },
    thread::{self, Thread},
};

use crate::twin::{Weak, promise, prove};

pub(crate) const LABELS: &[(&str, &str)] = &[
    ("lock.h", "L1"),
    ("lock.h", "L2"),
    ("lock.c", "L3"),
    ("lock.c", "L4"),
    ("lock.c", "L5"),
    ("lock.c", "L6"),
    ("lock.c", "W1"),
    ("registry.c", "G1"),
    ("registry.c", "G2"),
    ("registry.c", "G3"),
    ("registry.c", "K1"),
];

const WAITERS: u64 = 2;

fn owner(slot: u64) -> u64 {
    slot << 2
}

/// What the lock protects: a plain load and a plain store lose nothing if the lock orders them.
fn add_one(count: &AtomicU64) {
    count.store(count.load(Relaxed) + 1, Relaxed);
}

fn unlock(weak: Weak, word: &AtomicU64) -> u64 {
    word.swap(0, weak.order("L2", Release)) // L2
}

/// Two takers, by the fast way and, if that fails, by the spinning one.
fn handover(weak: Weak) {
    let lock = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let work = move |lock: &(AtomicU64, AtomicU64), me: u64| {
        let (word, count) = lock;
        if word.compare_exchange(0, owner(me), weak.order("L1", Acquire), Relaxed).is_err() {
            // L1
            while word.load(Relaxed) != 0
                || word.compare_exchange(0, owner(me), weak.order("L3", Acquire), Relaxed).is_err()
            {
                thread::yield_now(); // L3
            }
        }
        add_one(count);
        unlock(weak, word);
    };
    let other = {
        let lock = lock.clone();
        thread::spawn(move || work(&lock, 2))
    };
    work(&lock, 1);
    other.join().unwrap();
    promise(lock.1.load(Relaxed) == 2, "each holder sees the last one's stores, and is alone");
}

#[test]
fn a_taker_sees_the_last_owners_stores() {
    prove("handover", handover, &[&["L1"], &["L2"], &["L3"]], &[]);
}

/// FUTEX_WAIT and FUTEX_WAKE of one word.
struct Futex {
    word: AtomicU64,
    count: AtomicU64,
    /// The kernel's hash bucket: who sleeps.
    bucket: Mutex<VecDeque<Thread>>,
}

impl Futex {
    fn wait(&self, seen: u64) {
        let mut sleepers = self.bucket.lock().unwrap();
        if self.word.load(Relaxed) != seen {
            return;
        }
        sleepers.push_back(thread::current());
        drop(sleepers);
        thread::park();
    }

    fn wake_one(&self) {
        if let Some(sleeper) = self.bucket.lock().unwrap().pop_front() {
            sleeper.unpark();
        }
    }

    /// Without naps that end by themselves: whoever sleeps needs a wake.
    fn lock(&self, weak: Weak, me: u64) {
        let mut mine = owner(me);
        loop {
            let mut seen = self.word.load(Acquire); // L6
            if seen == 0 {
                if self.word.compare_exchange(0, mine, Acquire, Relaxed).is_ok() {
                    return;
                }
                thread::yield_now();
                continue;
            }
            if seen & WAITERS == 0 && !weak.has("W1") {
                if self.word.compare_exchange(seen, seen | WAITERS, Relaxed, Relaxed).is_err() {
                    thread::yield_now();
                    continue; // W1
                }
                seen |= WAITERS;
            }
            self.wait(seen);
            if !weak.has("retake with W") {
                mine = owner(me) | WAITERS; // others may still sleep
            }
        }
    }

    fn unlock(&self, weak: Weak) {
        if unlock(weak, &self.word) & WAITERS != 0 && !weak.has("wake") {
            self.wake_one();
        }
    }
}

fn wakes(weak: Weak, takers: u64) {
    // Never freed: where all sleep for ever, nobody is left to do it.
    let futex: &'static Futex = Box::leak(Box::new(Futex {
        word: AtomicU64::new(0),
        count: AtomicU64::new(0),
        bucket: Mutex::new(VecDeque::new()),
    }));
    let work = move |futex: &Futex, me: u64| {
        futex.lock(weak, me);
        add_one(&futex.count);
        futex.unlock(weak);
    };
    let others: Vec<_> = (2..=takers).map(|me| thread::spawn(move || work(futex, me))).collect();
    work(futex, 1);
    for other in others {
        other.join().unwrap();
    }
    promise(futex.count.load(Relaxed) == takers, "nobody is lost");
}

#[test]
fn no_wake_is_lost_between_two() {
    prove("wakes of two", |weak| wakes(weak, 2), &[&["W1"], &["wake"]], &[]);
}

#[test]
fn no_wake_is_lost_between_three() {
    prove("wakes of three", |weak| wakes(weak, 3), &[&["retake with W"]], &[]);
}

/// The owner dies in the middle; two others look at the word, ask for its life, and take over. The count is the protected data:
/// the dead owner added one before its end.
fn take_over(weak: Weak) {
    struct File {
        word: AtomicU64,
        /// The byte lock of the dead one's life: 1 = locked. The kernel drops it after the owner's last store.
        byte: AtomicU64,
        count: AtomicU64,
    }
    let file =
        Arc::new(File { word: AtomicU64::new(owner(1)), byte: AtomicU64::new(1), count: AtomicU64::new(0) });
    let work = move |file: &File, me: u64| -> bool {
        let seen = file.word.load(weak.order("L6", Acquire)); // L6
        let taken = if seen == owner(1) {
            if file.byte.load(Relaxed) != 0 {
                return false; // it lives: later again
            }
            weak.fence("K1", SeqCst); // K1
            let taken = if weak.has("exact word") {
                file.word.store(owner(me), Release);
                true
            } else {
                file.word.compare_exchange(seen, owner(me), weak.order("L4", AcqRel), Acquire).is_ok() // L4
            };
            weak.fence("L5", SeqCst); // L5
            taken
        } else {
            seen == 0 && file.word.compare_exchange(0, owner(me), Acquire, Relaxed).is_ok() // L3
        };
        if taken {
            add_one(&file.count);
            unlock(weak, &file.word);
        }
        taken
    };
    let dying = {
        let file = file.clone();
        thread::spawn(move || {
            add_one(&file.count);
            file.byte.store(0, Release); // its end
        })
    };
    let other = {
        let file = file.clone();
        thread::spawn(move || work(&file, 2))
    };
    let took = u64::from(work(&file, 3)) + u64::from(other.join().unwrap());
    dying.join().unwrap();
    promise(file.count.load(Relaxed) == 1 + took, "who takes over sees the dead one's stores, and is alone");
}

#[test]
fn who_takes_over_sees_the_dead_ones_stores_and_is_alone() {
    prove(
        "take-over",
        take_over,
        &[&["K1", "L5"], &["exact word"], &["L2"]],
        &[
            (
                &["K1"],
                "L5 is a fence behind the same question; K1 serves the callers that have none of their own",
            ),
            (&["L5"], "K1 is a fence behind the same question"),
            (
                &["L4"],
                "the dead one never released, so there is nothing to acquire; a release is G2's and L2's",
            ),
            (&["L6"], "here the generation is no matter: see the next twin"),
        ],
    );
}

/// A life begins and takes a lock at once; another asks about the owner that it finds: a live one is never found dead.
fn verdict(weak: Weak) {
    struct File {
        /// The byte lock: locked or not, asked by a system call.
        byte: Mutex<bool>,
        generation: AtomicU64,
        word: AtomicU64,
    }
    const LIFE: u64 = 2;
    let file = Arc::new(File {
        byte: Mutex::new(false),
        generation: AtomicU64::new(LIFE - 1),
        word: AtomicU64::new(0),
    });
    let life = {
        let file = file.clone();
        thread::spawn(move || {
            *file.byte.lock().unwrap() = true;
            file.generation.store(LIFE, weak.order("G1", Release)); // G1
            weak.fence("G2", SeqCst); // G2
            file.word.compare_exchange(0, owner(LIFE), Acquire, Relaxed).unwrap(); // L1
        })
    };
    let owner = file.word.load(weak.order("L6", Acquire)) >> 2; // L6
    if owner != 0 {
        weak.fence("G3", Acquire); // G3
        let dead = file.generation.load(Acquire) != owner
            || !*file.byte.lock().unwrap()
            || file.generation.load(Acquire) != owner;
        promise(!dead, "a life that goes on is not found dead");
    }
    life.join().unwrap();
}

#[test]
fn the_living_are_never_found_dead() {
    prove(
        "verdict",
        verdict,
        &[&["G2"], &["L6", "G3"]],
        &[
            (&["G1"], "G2 stands between it and the lock word"),
            (&["L6"], "G3 stands behind it"),
            (&["G3"], "L6 is an acquire load of the same word; G3 serves callers that loaded it relaxed"),
        ],
    );
}
