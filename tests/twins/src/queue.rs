//! Queue sets (queue.c): an item's way through a ring (T1, T2, seen_tail), lengths (H1), new queues (C1, C2), sleepers, armed
//! pulls and pushes, and those who look after the dead beside each other and beside a new life in the dead one's slot (V1-V4).
//!
//! The tail lock is a mutex where nobody dies within it, the futex a list of sleepers under a mutex, as in the twin `lock`; ticks
//! are left out: whoever sleeps needs a wake.

use std::collections::VecDeque;

use loom::{
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    thread::{self, Thread},
};

use crate::twin::{Weak, promise, prove};

pub(crate) const LABELS: &[(&str, &str)] = &[
    ("queue.h", "T2"),
    ("queue.c", "C1"),
    ("queue.c", "C2"),
    ("queue_move.c", "T1"),
    ("queue_move.c", "T2"),
    ("queue_move.c", "H1"),
    ("queue_move.c", "A1"),
    ("queue_move.c", "A2"),
    ("queue_move.c", "V3"),
    ("queue_move.c", "V4"),
    ("queue_home.c", "V1"),
    ("queue_home.c", "V2"),
    ("queue_home.c", "V3"),
    ("queue_home.c", "D4"),
];

const NONE: u64 = 0;

/// Two items are pushed at once; two pull. Whoever pulls first looks at the tail; the other one goes by what that one has seen.
fn items(weak: Weak) {
    #[derive(Default)]
    struct Queue {
        ring: [AtomicU64; 2],
        data: [AtomicU64; 2],
        tail: AtomicU64,
        head_word: AtomicU64,
        head: AtomicU64,
        seen_tail: AtomicU64,
    }
    let pull = move |q: &Queue| {
        if q.head_word.compare_exchange(0, 1, weak.order("L1", Acquire), Relaxed).is_err() {
            return; // L1: the other one has it
        }
        let head = q.head.load(Relaxed);
        if q.seen_tail.load(Relaxed) == head {
            q.seen_tail.store(q.tail.load(weak.order("T2", Acquire)), Relaxed); // T2
        }
        if q.seen_tail.load(Relaxed) != head {
            let at = usize::try_from(head).unwrap();
            let item = q.ring[at].load(Relaxed);
            promise(item == head + 1, "the ring's entry is there");
            promise(q.data[at].load(Relaxed) == 7, "the item's bytes are there");
            q.head.store(head + 1, Release); // H1
        }
        q.head_word.swap(0, weak.order("L2", Release)); // L2
    };
    let queue = Arc::new(Queue::default());
    let pusher = {
        let queue = queue.clone();
        thread::spawn(move || {
            for at in 0..2 {
                queue.data[at].store(7, Relaxed);
                queue.ring[at].store(at as u64 + 1, Relaxed);
            }
            queue.tail.store(2, weak.order("T1", Release)); // T1
        })
    };
    let other = {
        let queue = queue.clone();
        thread::spawn(move || pull(&queue))
    };
    pull(&queue);
    pusher.join().unwrap();
    other.join().unwrap();
}

#[test]
fn who_pulls_sees_the_item() {
    prove("queue, items", items, &[&["T1"], &["T2"], &["L1"], &["L2"]], &[]);
}

/// Without a lock: head first, then tail.
fn length(weak: Weak) {
    let ends = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let pusher = {
        let ends = ends.clone();
        thread::spawn(move || ends.1.store(1, Release)) // T1
    };
    let puller = {
        let ends = ends.clone();
        thread::spawn(move || {
            if ends.1.load(weak.order("T2", Acquire)) == 1 {
                ends.0.store(1, weak.order("H1", Release)); // T2, H1
            }
        })
    };
    let head = ends.0.load(weak.order("is_empty", Acquire));
    let tail = ends.1.load(Acquire); // T2
    promise(tail >= head, "head is never seen newer than tail");
    pusher.join().unwrap();
    puller.join().unwrap();
}

#[test]
fn a_queue_is_never_shorter_than_empty() {
    prove(
        "queue, length",
        length,
        &[&["H1"], &["is_empty"]],
        &[(&["T2"], "coherence: who sees the head sees no older tail than whoever moved it")],
    );
}

/// A queue is added: its name and ring are there when the number says so.
fn added(weak: Weak) {
    let set = Arc::new((AtomicU64::new(1), AtomicU64::new(NONE)));
    let adder = {
        let set = set.clone();
        thread::spawn(move || {
            set.1.store(30, Relaxed); // the ring's page
            set.0.store(2, weak.order("C1", Release)); // C1
        })
    };
    if set.0.load(weak.order("C2", Acquire)) == 2 {
        promise(set.1.load(Relaxed) == 30, "a queue that is counted has its ring"); // C2
    }
    adder.join().unwrap();
}

#[test]
fn a_counted_queue_is_whole() {
    prove("queue, added", added, &[&["C1"], &["C2"]], &[]);
}

/// A queue's tail line under its lock, and the futex of its sleepers. Its head is never behind: `tail` counts what lies there.
struct Sleep {
    line: Mutex<Line>,
    wake: AtomicU64,
    bucket: Mutex<VecDeque<Thread>>,
}

#[derive(Default)]
struct Line {
    there: u64,
    pushed: u64,
    flag: bool,
}

impl Sleep {
    /// Never freed: where all sleep for ever, nobody is left to do it.
    fn leaked() -> &'static Self {
        Box::leak(Box::new(Self {
            line: Mutex::new(Line::default()),
            wake: AtomicU64::new(0),
            bucket: Mutex::new(VecDeque::new()),
        }))
    }

    fn pull(&self, weak: Weak) {
        loop {
            let mut line = self.line.lock().unwrap();
            if line.there != 0 {
                line.there -= 1;
                return;
            }
            let seen = self.wake.load(Relaxed);
            if weak.has("flag under the lock") {
                drop(line);
                self.line.lock().unwrap().flag = true;
            } else {
                line.flag = true;
                drop(line);
            }
            let mut sleepers = self.bucket.lock().unwrap();
            if self.wake.load(Relaxed) != seen {
                continue;
            }
            sleepers.push_back(thread::current());
            drop(sleepers);
            thread::park();
        }
    }

    fn wake_one(&self) -> u64 {
        let sleeper = self.bucket.lock().unwrap().pop_front();
        sleeper.map_or(0, |sleeper| {
            sleeper.unpark();
            1
        })
    }

    fn push(&self, weak: Weak) {
        let mut line = self.line.lock().unwrap();
        line.there += 1;
        line.pushed += 1;
        let mut pushed = line.pushed;
        if !line.flag {
            return;
        }
        line.flag = false;
        if !weak.has("wake moves") {
            self.wake.store(self.wake.load(Relaxed) + 1, Relaxed);
        }
        drop(line);
        let mut came = 1;
        loop {
            let woken = (0..came).map(|_| self.wake_one()).sum::<u64>();
            if woken < came || weak.has("flag again") {
                return; // nobody sleeps any more
            }
            let mut line = self.line.lock().unwrap();
            came = line.pushed - pushed;
            pushed = line.pushed;
            if came == 0 || weak.has("what came meanwhile") {
                line.flag = true;
                return;
            }
        }
    }
}

fn sleep_of_one(weak: Weak) {
    let queue = Sleep::leaked();
    let sleeper = thread::spawn(move || queue.pull(weak));
    queue.push(weak);
    sleeper.join().unwrap();
}

#[test]
fn no_wake_is_lost() {
    prove("queue, a sleeper", sleep_of_one, &[&["flag under the lock"], &["wake moves"]], &[]);
}

fn sleep_of_two(weak: Weak) {
    let queue = Sleep::leaked();
    let sleepers = [thread::spawn(move || queue.pull(weak)), thread::spawn(move || queue.pull(weak))];
    let other = thread::spawn(move || queue.push(weak));
    queue.push(weak);
    other.join().unwrap();
    for sleeper in sleepers {
        sleeper.join().unwrap();
    }
}

#[test]
fn two_pushes_wake_two() {
    prove("queue, two sleepers", sleep_of_two, &[&["flag again"], &["what came meanwhile"]], &[]);
}

/// One item, a ring, a hand; what a death after any store leaves, then a death in the repair.
#[derive(Default)]
struct Moves {
    ring: AtomicU64,
    head: AtomicU64,
    new_head: AtomicU64,
    tail: AtomicU64,
    new_tail: AtomicU64,
    hand: AtomicU64,
}

const ITEM: u64 = 5;

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

impl Moves {
    fn pull(&self, weak: Weak, life: &mut Life) -> Option<()> {
        if weak.has("A1") {
            life.store(&self.hand, ITEM)?; // moved before the arm
        }
        life.store(&self.new_head, 1)?; // A1
        life.store(&self.hand, ITEM)?;
        life.store(&self.head, 1) // H1
    }

    fn push(&self, weak: Weak, life: &mut Life) -> Option<()> {
        let arm = |life: &mut Life| life.store(&self.new_tail, 1);
        if weak.has("ring first") {
            arm(life)?;
        }
        if weak.has("A2") {
            life.store(&self.hand, NONE)?; // moved before the arm
        }
        life.store(&self.ring, ITEM)?;
        arm(life)?; // A2
        life.store(&self.hand, NONE)?;
        life.store(&self.tail, 1) // T1
    }

    fn repair(&self, weak: Weak, life: &mut Life) -> Option<()> {
        if self.head.load(Relaxed) != self.new_head.load(Relaxed) {
            if self.hand.load(Relaxed) == self.ring.load(Relaxed) && !weak.has("undo") {
                life.store(&self.hand, NONE)?;
            }
            life.store(&self.new_head, self.head.load(Relaxed))?;
        }
        if self.tail.load(Relaxed) != self.new_tail.load(Relaxed) {
            if weak.has("T1 first") {
                life.store(&self.tail, 1)?;
            }
            if self.hand.load(Relaxed) == self.ring.load(Relaxed) && !weak.has("redo") {
                life.store(&self.hand, NONE)?;
            }
            life.store(&self.tail, 1)?; // T1
        }
        Some(())
    }

    fn places(&self) -> u64 {
        self.tail.load(Relaxed) - self.head.load(Relaxed) + u64::from(self.hand.load(Relaxed) == ITEM)
    }
}

fn deaths(weak: Weak) {
    const STORES: usize = 5;
    for push in [false, true] {
        for first in 0..=STORES {
            for second in 0..=STORES {
                let moves = Moves::default();
                let mut life = Life { left: first };
                let done = if push {
                    moves.hand.store(ITEM, Relaxed);
                    moves.push(weak, &mut life)
                } else {
                    moves.ring.store(ITEM, Relaxed);
                    moves.tail.store(1, Relaxed);
                    moves.new_tail.store(1, Relaxed);
                    moves.pull(weak, &mut life)
                };
                let _ = moves.repair(weak, &mut Life { left: second });
                moves.repair(weak, &mut Life { left: STORES }).unwrap();
                promise(moves.places() == 1, "the item is in one place");
                promise(
                    moves.ring.load(Relaxed) == ITEM || !push || moves.tail.load(Relaxed) == 0,
                    "the ring has it",
                );
                promise(
                    done.is_none()
                        || (moves.tail.load(Relaxed) == 1) == (push || moves.head.load(Relaxed) == 1),
                    "done is done",
                );
            }
        }
    }
}

#[test]
fn a_death_leaves_the_item_in_one_place() {
    prove(
        "queue, deaths",
        deaths,
        &[&["A1"], &["A2"], &["ring first"], &["undo"], &["redo"], &["T1 first"]],
        &[],
    );
}

/// A dead life's item, in its hand; who looks after it, twice: a late one, and the next life of the slot, which then pulls the very
/// item into the very place. `lives`: the dead one's generation 1, nobody 0, the new one's 2.
struct Slot {
    lives: AtomicU64,
    hand: AtomicU64,
    /// The queue's ring has it; the tail lock.
    ring: Mutex<u64>,
    tail: AtomicU64,
    new_tail: AtomicU64,
}

impl Slot {
    fn new() -> Self {
        Self {
            lives: AtomicU64::new(1),
            hand: AtomicU64::new(ITEM),
            ring: Mutex::new(0),
            tail: AtomicU64::new(0),
            new_tail: AtomicU64::new(0),
        }
    }

    /// D3, D4. `true`: it brought the item home.
    fn bring_home(&self, weak: Weak) -> bool {
        let held = self.hand.load(Relaxed);
        let mut brought = false;
        if held != NONE {
            let mut ring = self.ring.lock().unwrap();
            let same = self.hand.load(Relaxed) == held || weak.has("second look");
            weak.fence("V2", Acquire); // V2
            if same && (self.lives.load(Acquire) == 1 || weak.has("lives")) {
                *ring += 1;
                self.hand.store(NONE, Relaxed);
                self.tail.fetch_add(1, Release); // T1
                brought = true;
            }
        }
        if self.hand.load(Relaxed) == NONE {
            let _ = self.lives.compare_exchange(1, 0, AcqRel, Relaxed); // D4
        }
        brought
    }
}

fn late(weak: Weak) {
    let slot = Arc::new(Slot::new());
    let repairer = {
        let slot = slot.clone();
        thread::spawn(move || slot.bring_home(weak))
    };
    if slot.lives.load(Acquire) != 0 {
        slot.bring_home(weak);
    }
    slot.lives.store(2, Release); // V1
    weak.fence("V1", Release);
    if slot.tail.load(Acquire) == 1 {
        slot.hand.store(ITEM, Relaxed); // pulls; under the head lock, which nobody else takes here
    }
    let pulled = slot.hand.load(Relaxed) == ITEM;
    repairer.join().unwrap();
    let ring = *slot.ring.lock().unwrap();
    promise(ring == 1, "it came home once");
    promise(!pulled || slot.hand.load(Relaxed) == ITEM, "nobody takes from a new life what it holds");
    promise(slot.lives.load(Relaxed) == 2, "nobody ends a new life");
}

#[test]
fn a_late_repairer_takes_nothing_from_a_new_life() {
    prove("queue, late", late, &[&["V1"], &["V2"], &["second look"], &["lives"]], &[]);
}

/// One brings the last item home and dies before T1. Another finds an empty hand: before it ends the life (D4), it must see
/// that a push is armed.
fn armed_at_the_end(weak: Weak) {
    let slot = Arc::new(Slot::new());
    let dying = {
        let slot = slot.clone();
        thread::spawn(move || {
            slot.new_tail.store(1, Release); // A2
            weak.fence("V3 behind A2", Release); // V3
            slot.hand.store(NONE, Relaxed);
        })
    };
    if slot.hand.load(Relaxed) == NONE {
        weak.fence("V3 before the look", Acquire); // V3
        let armed = slot.new_tail.load(Acquire) != slot.tail.load(Acquire);
        promise(armed, "who finds the hand empty finds the push");
    }
    dying.join().unwrap();
}

#[test]
fn an_armed_push_is_seen_before_the_life_is_ended() {
    prove("queue, armed at the end", armed_at_the_end, &[&["V3 behind A2"], &["V3 before the look"]], &[]);
}

/// A dead one's armed push is repaired; whoever repaired it arms a push of its own. One who looks for steps about the dead one's
/// things without the lock: if it sees the later step's `from`, it sees what was repaired before.
fn quiet(weak: Weak) {
    const OTHER: u64 = 2;
    let slot = Arc::new((Slot::new(), AtomicU64::new(1)));
    let repairer = {
        let slot = slot.clone();
        thread::spawn(move || {
            let (slot, from) = &*slot;
            slot.new_tail.store(1, Release); // A2, by the dead one
            slot.hand.store(NONE, Relaxed);
            slot.tail.store(1, Release); // T1
            from.store(OTHER, weak.order("V4", Release)); // V4
            slot.new_tail.store(2, Release); // A2
        })
    };
    let (slot, from) = &*slot;
    let armed = slot.new_tail.load(Acquire);
    let of_other = from.load(weak.order("is_quiet", Acquire)) == OTHER;
    if armed != slot.tail.load(Relaxed) && of_other {
        promise(slot.hand.load(Relaxed) == NONE, "the dead one's push has been repaired");
    }
    repairer.join().unwrap();
}

#[test]
fn who_sees_a_later_step_sees_the_repair_before_it() {
    prove("queue, quiet", quiet, &[&["V4"], &["is_quiet"]], &[]);
}
