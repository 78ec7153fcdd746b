//! An armed step, and its owner's death before any of its stores; then a second death in the repair (table.h: A STEP; A1, A3;
//! T1 of pages.c). The taker's view is a prefix, in program order, of the dead one's stores: the kernel has taken it off its
//! CPU (K1, see the twin `lock`). So orders have no say here; what the compiler fences around arm and disarm keep in place has,
//! and is tried by moving a store over the fence.

use loom::{
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    thread,
};

use crate::twin::{Weak, promise, prove};

pub(crate) const LABELS: &[(&str, &str)] =
    &[("table.h", "A1"), ("table.h", "A3"), ("table_step.c", "A2"), ("pages.c", "T1"), ("pages.c", "T4")];

const FREE: u64 = 0;
const MINE: u64 = 1;

#[derive(Default)]
struct Shard {
    run: AtomicU64,
    arm: AtomicU64,
    /// The intent: new slot word, new count.
    new: [AtomicU64; 2],
    slot: AtomicU64,
    count: AtomicU64,
    page: AtomicU64,
    /// Says that the owner has ended.
    ended: AtomicU64,
}

struct Life {
    left: usize,
}

impl Life {
    fn store(&mut self, word: &AtomicU64, value: u64) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        word.store(value, Relaxed);
        Some(())
    }
}

/// A2: the same stores by the living and by recovery.
fn apply(shard: &Shard, life: &mut Life) -> Option<()> {
    life.store(&shard.slot, shard.new[0].load(Relaxed))?; // A2
    life.store(&shard.count, shard.new[1].load(Relaxed))
}

/// Takes a page, then links it: the slot names it and the count says one.
fn put(shard: &Shard, weak: Weak, life: &mut Life) -> Option<()> {
    if weak.has("T1 before T4") {
        life.store(&shard.page, MINE)?;
        life.store(&shard.run, 1)?;
    } else {
        life.store(&shard.run, 1)?; // T1
        life.store(&shard.page, MINE)?; // T4
    }
    let arm = |life: &mut Life| life.store(&shard.arm, 1);
    if weak.has("A1") {
        arm(life)?; // moved before the last of the intent
    }
    life.store(&shard.new[0], 7)?;
    life.store(&shard.new[1], 1)?;
    if !weak.has("A1") {
        arm(life)?; // A1
    }
    if weak.has("A3") {
        life.store(&shard.arm, 0)?; // moved before A2's last
    }
    apply(shard, life)?;
    life.store(&shard.run, 0)?;
    life.store(&shard.arm, 0) // A3
}

fn recover(shard: &Shard, weak: Weak, life: &mut Life) -> Option<()> {
    if shard.arm.load(Relaxed) != 0 {
        apply(shard, life)?;
        life.store(&shard.run, 0)?;
        life.store(&shard.arm, 0)?; // A3
    }
    if shard.run.load(Relaxed) != 0 {
        if shard.page.load(Relaxed) == MINE && !weak.has("give back") {
            life.store(&shard.page, FREE)?;
        }
        life.store(&shard.run, 0)?;
    }
    Some(())
}

/// A thread's end, as the kernel tells it.
fn end(shard: &Shard, who: u64) {
    fence(SeqCst);
    shard.ended.store(who, Relaxed);
}

fn has_ended(shard: &Shard, who: u64) -> bool {
    let ended = shard.ended.load(Relaxed) >= who;
    fence(SeqCst); // K1
    ended
}

const PUT_STORES: usize = 9;
const RECOVERY_STORES: usize = 4;

fn deaths(weak: Weak) {
    for first in 0..=PUT_STORES {
        for second in 0..=RECOVERY_STORES {
            let shard = Shard::default();
            // One after the other: the edge is the verdict's, which the threads below try.
            let done = put(&shard, weak, &mut Life { left: first }).is_some();
            let armed = shard.arm.load(Relaxed) != 0;
            let _ = recover(&shard, weak, &mut Life { left: second });
            recover(&shard, weak, &mut Life { left: usize::MAX }).unwrap();
            look(&shard, done || armed, done);
        }
    }
}

fn look(shard: &Shard, committed: bool, done: bool) {
    let (slot, count, page) = (shard.slot.load(Relaxed), shard.count.load(Relaxed), shard.page.load(Relaxed));
    let (old, new) = ((0, 0, FREE), (7, 1, MINE));
    promise([old, new].contains(&(slot, count, page)), "as a whole or not at all");
    promise(!done || slot == 7, "what was acknowledged is there");
    promise(!committed || slot == 7, "what was armed is done");
    promise(shard.arm.load(Relaxed) == 0 && shard.run.load(Relaxed) == 0, "nothing is left to be done");
}

#[test]
fn a_step_is_done_as_a_whole_or_not_at_all_whoever_dies_where() {
    prove("step", deaths, &[&["A1"], &["A3"], &["T1 before T4"], &["give back"]], &[]);
}

/// The same with threads: the owner dies before its `k`-th store, the next one asks for its life and repairs.
fn beside(weak: Weak, k: usize) {
    let shard = Arc::new(Shard::default());
    let owner = {
        let shard = shard.clone();
        thread::spawn(move || {
            let done = put(&shard, Weak(&[]), &mut Life { left: k }).is_some();
            if weak.has("edge") {
                shard.ended.store(1, Relaxed);
            } else {
                end(&shard, 1);
            }
            done
        })
    };
    let taken = has_ended(&shard, 1);
    if taken {
        recover(&shard, Weak(&[]), &mut Life { left: usize::MAX }).unwrap();
    }
    let done = owner.join().unwrap();
    if taken {
        look(&shard, done, done);
    }
}

#[test]
fn who_repairs_sees_the_dead_ones_stores() {
    for k in 0..=PUT_STORES {
        // Before the count was stored; later the step is whole without a repair.
        let needed: &[&[&str]] = if k == 6 { &[&["edge"]] } else { &[] };
        prove("repair", move |weak| beside(weak, k), needed, &[]);
    }
}
