//! Any sequence of operations on a queue set gives what a `VecDeque` for each queue gives: one by one, in batches, draining,
//! resetting, through two handles, reopened, beside a process that is killed while it holds items.
//!
//! `SHF_MODEL_CASES` (150); `SHF_SEED` repeats a run.

use std::{
    collections::VecDeque,
    path::Path,
    slice,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use proptest::{collection::vec, prelude::*, sample::select};
use shf::{Batch, Error, Item, Queue, QueueOptions, QueueSet};

mod common;
#[path = "common/helper.rs"]
mod helper;
#[path = "common/model.rs"]
mod model;

use helper::{Helper, commands, say};

/// What a process that is killed does before: pulls so many items of a queue in a batch, pulls one of another, and pushes one
/// of the batch to a third.
#[derive(Clone, Copy, Debug)]
struct Elsewhere {
    batch: (usize, usize),
    single: usize,
    push: usize,
}

/// Numbers of items and batches count modulo what is there; the first number is the handle.
#[derive(Clone, Debug)]
enum Op {
    Pull(usize, usize),
    PullWait(usize, usize),
    Write(usize, usize, u64),
    Push(usize, usize, usize),
    PushToAnotherHandle(usize, usize, usize),
    Drop(usize, usize),
    Exchange(usize, usize, usize, usize),
    PullMany(usize, usize, usize),
    PullManyInto(usize, usize, usize, usize),
    WriteMany(usize, usize, u64),
    PushMany(usize, usize, usize),
    PushManyToAnotherHandle(usize, usize, usize),
    DropBatch(usize, usize),
    ExchangeMany(usize, usize, usize, usize, usize),
    Take(usize, usize),
    /// Every second one of a batch is pushed, the others are dropped.
    OneByOne(usize, usize, usize),
    /// To a queue, or home.
    Drain(usize, usize, Option<usize>),
    DrainTo(usize, usize, usize),
    WaitAny(usize, usize, usize),
    Reset(usize),
    Recover(usize),
    Check(usize),
    AddQueue(usize),
    Killed(Elsewhere),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let h = || 0..2usize;
    let q = || 0..6usize;
    let i = || 0..20usize;
    let n = || prop_oneof![6 => 0..6usize, 2 => 6..60usize, 1 => 900..1200usize, 1 => Just(usize::MAX)];
    let elsewhere =
        (q(), n(), q(), q()).prop_map(|(q, n, single, push)| Elsewhere { batch: (q, n), single, push });
    prop_oneof![
        10 => (h(), q()).prop_map(|(h, q)| Op::Pull(h, q)),
        2 => (h(), q()).prop_map(|(h, q)| Op::PullWait(h, q)),
        5 => (h(), i(), any::<u64>()).prop_map(|(h, i, v)| Op::Write(h, i, v)),
        8 => (h(), i(), q()).prop_map(|(h, i, q)| Op::Push(h, i, q)),
        1 => (h(), i(), q()).prop_map(|(h, i, q)| Op::PushToAnotherHandle(h, i, q)),
        3 => (h(), i()).prop_map(|(h, i)| Op::Drop(h, i)),
        4 => (h(), i(), q(), q()).prop_map(|(h, i, a, b)| Op::Exchange(h, i, a, b)),
        8 => (h(), q(), n()).prop_map(|(h, q, n)| Op::PullMany(h, q, n)),
        3 => (h(), i(), q(), n()).prop_map(|(h, i, q, n)| Op::PullManyInto(h, i, q, n)),
        4 => (h(), i(), any::<u64>()).prop_map(|(h, i, v)| Op::WriteMany(h, i, v)),
        6 => (h(), i(), q()).prop_map(|(h, i, q)| Op::PushMany(h, i, q)),
        1 => (h(), i(), q()).prop_map(|(h, i, q)| Op::PushManyToAnotherHandle(h, i, q)),
        2 => (h(), i()).prop_map(|(h, i)| Op::DropBatch(h, i)),
        3 => (h(), i(), q(), q(), n()).prop_map(|(h, i, a, b, n)| Op::ExchangeMany(h, i, a, b, n)),
        4 => (h(), i()).prop_map(|(h, i)| Op::Take(h, i)),
        2 => (h(), i(), q()).prop_map(|(h, i, q)| Op::OneByOne(h, i, q)),
        2 => (h(), q(), proptest::option::of(q())).prop_map(|(h, a, b)| Op::Drain(h, a, b)),
        2 => (h(), q(), q()).prop_map(|(h, a, b)| Op::DrainTo(h, a, b)),
        2 => (h(), q(), q()).prop_map(|(h, a, b)| Op::WaitAny(h, a, b)),
        1 => h().prop_map(Op::Reset),
        1 => h().prop_map(Op::Recover),
        1 => h().prop_map(Op::Check),
        1 => h().prop_map(Op::AddQueue),
        1 => elsewhere.prop_map(Op::Killed),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Debug)]
struct Input {
    items: usize,
    item_size: usize,
    queues: usize,
    ops: Vec<Op>,
}

fn input() -> impl Strategy<Value = Input> {
    let items = select(vec![1, 2, 3, 7, 40, 40, 1500]);
    (items, select(vec![8, 64, 100]), 1..5usize, vec(op(), 1..150))
        .prop_map(|(items, item_size, queues, ops)| Input { items, item_size, queues, ops })
}

// ---- the other process --------------------------------------------------------------------------------------------

#[test]
fn child_process() {
    let Some((_, arguments)) = common::role() else { return };
    let set = QueueSet::open(&arguments[0]).unwrap();
    let queues = set.queues();
    let numbers: Vec<usize> = arguments[1].split(' ').map(|number| number.parse().unwrap()).collect();
    let [from, n, single, push] = numbers[..] else { panic!("{numbers:?}") };
    let mut batch = queues[from].pull_many(n).unwrap();
    for bytes in &mut batch {
        set_value(bytes, 77);
    }
    if let Some(item) = batch.take() {
        queues[push].push(item).unwrap();
    }
    let item = queues[single].pull().unwrap().map(|mut item| {
        set_value(&mut item, 78);
        item
    });
    say("holding");
    commands().next();
    drop(item);
}

fn value(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

fn set_value(bytes: &mut [u8], value: u64) {
    bytes[..8].copy_from_slice(&value.to_le_bytes());
}

// ---- the model ----------------------------------------------------------------------------------------------------

struct Handle {
    set: QueueSet,
    queues: Vec<Queue>,
}

impl Handle {
    fn open(path: &Path) -> Handle {
        let set = QueueSet::open(path).unwrap();
        let queues = set.queues();
        Handle { set, queues }
    }
}

/// What a handle holds: items, and batches with the queue they came from.
#[derive(Default)]
struct Held<'h> {
    items: Vec<Item<'h>>,
    batches: Vec<(Batch<'h>, usize)>,
}

struct Model {
    /// The numbers of the items in each queue.
    queues: Vec<VecDeque<usize>>,
    /// What is written in each item.
    values: Vec<u64>,
}

impl Model {
    #[track_caller]
    fn pulled(&mut self, queue: usize, item: Option<&Item<'_>>) {
        let expected = self.queues[queue].pop_front();
        assert_eq!(item.map(Item::number), expected);
        if let Some(item) = item {
            assert_eq!((value(item), item.home()), (self.values[item.number()], queue));
        }
    }

    #[track_caller]
    fn pulled_many(&mut self, queue: usize, batch: &Batch<'_>, n: usize) {
        let n = n.min(batch.capacity()).min(self.queues[queue].len());
        let expected: Vec<usize> = self.queues[queue].drain(..n).collect();
        assert_eq!(batch.numbers().collect::<Vec<_>>(), expected);
        assert_eq!(batch.len(), n);
        for (number, bytes) in batch.numbers().zip(batch) {
            assert_eq!(value(bytes), self.values[number]);
        }
    }

    /// The items of a queue as they lie there. Through a batch, which brings them back in the same order.
    fn there(queue: &Queue) -> Vec<usize> {
        let batch = queue.pull_many(usize::MAX).unwrap();
        let numbers = batch.numbers().collect();
        queue.push_many(batch).unwrap();
        numbers
    }

    #[track_caller]
    fn same(&self, handle: &Handle) {
        for (queue, expected) in handle.set.queues().iter().zip(&self.queues) {
            assert_eq!(VecDeque::from(Model::there(queue)), *expected, "{}", queue.name());
        }
    }

    /// Items came to the end of a queue, in an order that nobody promises.
    #[track_caller]
    fn joined(&mut self, queue: &Queue, mut numbers: Vec<usize>) {
        let model = &mut self.queues[queue.index()];
        let there = Model::there(queue);
        let mut new = there[model.len().min(there.len())..].to_vec();
        new.sort_unstable();
        numbers.sort_unstable();
        assert_eq!(new, numbers, "{}", queue.name());
        assert_eq!(there[..model.len()], *model.make_contiguous());
        *model = there.into();
    }
}

#[derive(Default)]
struct Counts {
    ops: AtomicU64,
    killed: AtomicU64,
    reopened: AtomicU64,
}

/// Does operations until the handles are to be opened anew. False: there are no more.
#[allow(clippy::cognitive_complexity)] // one arm an operation
fn epoch(
    path: &Path,
    handles: &[Handle; 2],
    ops: &mut slice::Iter<'_, Op>,
    model: &mut Model,
    counts: &Counts,
) -> bool {
    let count = handles[0].queues.len();
    assert_eq!(count, model.queues.len());
    let mut held = [Held::default(), Held::default()];
    let mut more = false;
    for op in ops {
        counts.ops.fetch_add(1, Relaxed);
        match *op {
            Op::Pull(h, q) | Op::PullWait(h, q) => {
                let q = q % count;
                let queue = &handles[h].queues[q];
                let item = match op {
                    Op::Pull(..) => queue.pull(),
                    _ => queue.pull_wait(Duration::ZERO),
                };
                let item = item.unwrap();
                model.pulled(q, item.as_ref());
                held[h].items.extend(item);
            }
            Op::Write(h, i, v) => {
                let len = held[h].items.len();
                if len > 0 {
                    let item = &mut held[h].items[i % len];
                    set_value(item, v);
                    model.values[item.number()] = v;
                }
            }
            Op::Push(h, i, q) => {
                if let Some(item) = one_of(&mut held[h].items, i) {
                    model.queues[q % count].push_back(item.number());
                    handles[h].queues[q % count].push(item).unwrap();
                }
            }
            Op::PushToAnotherHandle(h, i, q) => {
                if let Some(item) = one_of(&mut held[h].items, i) {
                    model.queues[item.home()].push_back(item.number());
                    let refused = handles[1 - h].queues[q % count].push(item);
                    assert!(matches!(refused, Err(Error::InvalidItem(_))), "{refused:?}");
                }
            }
            Op::Drop(h, i) => {
                if let Some(item) = one_of(&mut held[h].items, i) {
                    model.queues[item.home()].push_back(item.number());
                }
            }
            Op::Exchange(h, i, to, from) => {
                if let Some(item) = one_of(&mut held[h].items, i) {
                    let (to, from) = (to % count, from % count);
                    model.queues[to].push_back(item.number());
                    let item = handles[h].queues[to].exchange(item, &handles[h].queues[from]).unwrap();
                    model.pulled(from, item.as_ref());
                    held[h].items.extend(item);
                }
            }
            Op::PullMany(h, q, n) => {
                let q = q % count;
                let batch = handles[h].queues[q].pull_many(n).unwrap();
                model.pulled_many(q, &batch, n);
                held[h].batches.push((batch, q));
            }
            Op::PullManyInto(h, i, q, n) => {
                if let Some((mut batch, home)) = one_of(&mut held[h].batches, i) {
                    let q = q % count;
                    let queue = &handles[h].queues[q];
                    if batch.is_empty() {
                        assert_eq!(queue.pull_many_into(&mut batch, n).unwrap(), batch.len());
                        model.pulled_many(q, &batch, n);
                        held[h].batches.push((batch, q));
                    } else {
                        let refused = queue.pull_many_into(&mut batch, 1);
                        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
                        held[h].batches.push((batch, home));
                    }
                }
            }
            Op::WriteMany(h, i, v) => {
                let len = held[h].batches.len();
                if len > 0 {
                    let (batch, _) = &mut held[h].batches[i % len];
                    let numbers: Vec<usize> = batch.numbers().collect();
                    for (number, bytes) in numbers.into_iter().zip(batch.iter_mut()) {
                        let v = v.wrapping_add(number as u64);
                        set_value(bytes, v);
                        model.values[number] = v;
                    }
                }
            }
            Op::PushMany(h, i, q) => {
                if let Some((mut batch, home)) = one_of(&mut held[h].batches, i) {
                    model.queues[q % count].extend(batch.numbers());
                    handles[h].queues[q % count].push_many_from(&mut batch).unwrap();
                    assert!(batch.is_empty());
                    if i % 2 == 0 {
                        held[h].batches.push((batch, home)); // to be filled again
                    }
                }
            }
            Op::PushManyToAnotherHandle(h, i, q) => {
                if let Some((batch, home)) = one_of(&mut held[h].batches, i) {
                    model.queues[home].extend(batch.numbers());
                    let refused = handles[1 - h].queues[q % count].push_many(batch);
                    assert!(matches!(refused, Err(Error::InvalidItem(_))), "{refused:?}");
                }
            }
            Op::DropBatch(h, i) => {
                if let Some((batch, home)) = one_of(&mut held[h].batches, i) {
                    model.queues[home].extend(batch.numbers());
                }
            }
            Op::ExchangeMany(h, i, to, from, n) => {
                if let Some((mut batch, _)) = one_of(&mut held[h].batches, i) {
                    let (to, from) = (to % count, from % count);
                    model.queues[to].extend(batch.numbers());
                    let queues = &handles[h].queues;
                    let got = queues[to].exchange_many(&mut batch, &queues[from], n).unwrap();
                    assert_eq!(got, batch.len());
                    model.pulled_many(from, &batch, n);
                    held[h].batches.push((batch, from));
                }
            }
            Op::Take(h, i) => {
                let len = held[h].batches.len();
                if len > 0 {
                    let (batch, home) = &mut held[h].batches[i % len];
                    let expected = batch.numbers().next();
                    let item = batch.take();
                    assert_eq!(item.as_ref().map(Item::number), expected);
                    if let Some(item) = item {
                        assert_eq!((value(&item), item.home()), (model.values[item.number()], *home));
                        held[h].items.push(item);
                    }
                }
            }
            Op::OneByOne(h, i, q) => {
                if let Some((batch, home)) = one_of(&mut held[h].batches, i) {
                    for (i, item) in batch.into_iter().enumerate() {
                        if i % 2 == 0 {
                            model.queues[q % count].push_back(item.number());
                            handles[h].queues[q % count].push(item).unwrap();
                        } else {
                            model.queues[home].push_back(item.number());
                        }
                    }
                }
            }
            Op::Drain(h, from, to) => {
                let from = from % count;
                let mut left = model.queues[from].len();
                for item in handles[h].queues[from].drain() {
                    let item = item.unwrap();
                    model.pulled(from, Some(&item));
                    model.queues[to.map_or(from, |to| to % count)].push_back(item.number());
                    if let Some(to) = to {
                        handles[h].queues[to % count].push(item).unwrap();
                    }
                    left -= 1;
                }
                assert_eq!(left, 0);
            }
            Op::DrainTo(h, from, to) => {
                let (from, to) = (from % count, to % count);
                let moved = handles[h].queues[from].drain_to(&handles[h].queues[to]).unwrap();
                assert_eq!(moved, model.queues[from].len() as u64);
                let numbers: Vec<usize> = model.queues[from].drain(..).collect();
                model.queues[to].extend(numbers);
            }
            Op::WaitAny(h, a, b) => {
                let queues = [a % count, b % count];
                let expected = queues.iter().position(|&q| !model.queues[q].is_empty());
                let queues = queues.map(|q| &handles[h].queues[q]);
                assert_eq!(handles[h].set.wait_any(&queues, Duration::ZERO).unwrap(), expected);
            }
            Op::Reset(h) => {
                handles[h].set.reset().unwrap();
                let others = model.queues[1..].iter_mut().flat_map(|queue| queue.drain(..)).collect();
                model.joined(&handles[h].queues[0], others);
            }
            Op::Recover(h) => handles[h].set.recover().unwrap(),
            Op::Check(h) => {
                let report = handles[h].set.check().unwrap();
                assert!(report.is_consistent(), "{report:?}");
                let items = |held: &Held<'_>| {
                    held.items.len() + held.batches.iter().map(|(batch, _)| batch.len()).sum::<usize>()
                };
                assert_eq!(report.held, held.iter().map(items).sum::<usize>() as u64);
                assert_eq!(report.in_queues, model.queues.iter().map(VecDeque::len).sum::<usize>() as u64);
                assert_eq!((report.dead, report.items), (0, model.values.len() as u64));
                for (queue, numbers) in handles[h].queues.iter().zip(&model.queues) {
                    let stats = queue.stats().unwrap();
                    assert_eq!((stats.len, stats.pushed - stats.pulled), (numbers.len() as u64, stats.len));
                }
            }
            Op::AddQueue(h) => {
                if model.queues.len() < 6 {
                    let name = format!("queue {}", model.queues.len());
                    assert!(matches!(handles[1 - h].set.queue(&name), Err(Error::NotFound(_))));
                    assert_eq!(handles[h].set.add_queue(&name).unwrap().index(), model.queues.len());
                    assert_eq!(handles[1 - h].set.queue(&name).unwrap().index(), model.queues.len());
                    model.queues.push(VecDeque::new()); // used from the next time of opening on
                }
            }
            Op::Killed(elsewhere) => {
                killed(path, &handles[0], elsewhere, model);
                counts.killed.fetch_add(1, Relaxed);
            }
            Op::Reopen => {
                more = true;
                counts.reopened.fetch_add(1, Relaxed);
                break;
            }
        }
        for handle in handles {
            for (queue, numbers) in handle.queues.iter().zip(&model.queues) {
                assert_eq!(queue.len().unwrap(), numbers.len() as u64, "{} after {op:?}", queue.name());
            }
        }
    }
    for handle in handles {
        model.same(handle);
    }
    for Held { items, batches } in held {
        for item in items {
            model.queues[item.home()].push_back(item.number());
        }
        for (batch, home) in batches {
            model.queues[home].extend(batch.numbers());
        }
    }
    model.same(&handles[0]);
    more
}

/// The i-th, counted round and round.
fn one_of<T>(all: &mut Vec<T>, i: usize) -> Option<T> {
    (!all.is_empty()).then(|| all.swap_remove(i % all.len()))
}

/// Another process pulls, writes, pushes, and is killed with what it holds.
fn killed(path: &Path, handle: &Handle, elsewhere: Elsewhere, model: &mut Model) {
    let count = handle.queues.len();
    let (from, n) = (elsewhere.batch.0 % count, elsewhere.batch.1);
    let (single, push) = (elsewhere.single % count, elsewhere.push % count);
    let arguments = [from, n, single, push].map(|number| number.to_string());
    let mut child = Helper::new(common::child("hold", &[&path, &arguments.join(" ")]));
    assert_eq!(child.hear(), "holding");
    let n = n.min(model.queues[from].len());
    let mut batch: VecDeque<usize> = model.queues[from].drain(..n).collect();
    for &number in &batch {
        model.values[number] = 77;
    }
    model.queues[push].extend(batch.pop_front());
    let item = model.queues[single].pop_front();
    if let Some(number) = item {
        model.values[number] = 78;
    }
    child.kill();
    handle.set.recover().unwrap();
    let mut home = vec![Vec::new(); count];
    home[from].extend(batch);
    home[single].extend(item);
    for (queue, numbers) in handle.queues.iter().zip(home) {
        model.joined(queue, numbers);
    }
}

#[test]
fn any_operations_do_what_a_vec_deque_does() {
    let counts = Counts::default();
    model::run("any_operations_do_what_a_vec_deque_does", file!(), 150, &input(), |input| {
        let folder = common::folder();
        let path = folder.path().join("q.shf");
        let names = (0..input.queues).map(|i| format!("queue {i}"));
        let options = QueueOptions::new().items(input.items).item_size(input.item_size).queues(names);
        let keeper = options.create(&path).unwrap();
        let mut model = Model { queues: vec![VecDeque::new(); input.queues], values: vec![0; input.items] };
        model.queues[0].extend(0..input.items);
        let mut ops = input.ops.iter();
        loop {
            let handles = [Handle::open(&path), Handle::open(&path)];
            if !epoch(&path, &handles, &mut ops, &mut model, &counts) {
                break;
            }
        }
        let report = keeper.check().unwrap();
        assert!(report.is_consistent(), "{report:?}");
        assert_eq!(report.in_queues, input.items as u64, "{report:?}");
    });
    println!(
        "# total: {} operations, {} processes killed while they held items, {} times reopened; 0 lost, 0 twice",
        counts.ops.load(Relaxed),
        counts.killed.load(Relaxed),
        counts.reopened.load(Relaxed)
    );
}
