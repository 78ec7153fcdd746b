//! Queues in one thread and between two: what a call costs, beside the standard library's channel.
//!
//! ```text
//! cargo bench --bench queue                # everything, a minute
//! cargo bench --bench queue -- 'one way'   # only the figures with two threads
//! ```
//!
//! *one thread*: a pull from one queue and a push to another, so nothing but the call is in the time: no cache line
//! changes hands, nobody waits. *one way*: one thread pulls free items and pushes them to `q`, another pulls them from
//! `q` and pushes them to `free`, each with a handle of its own; both spin when there is nothing. *cycle*: as the
//! original's test, in two threads: one moves items from `b2a` to `a2b`, the other moves them back; each item counts
//! once a round. Throughput is items per second, of each side. Between processes, beside rtrb, iceoryx2, sockets and
//! pipes, with latencies: `cargo run --release --manifest-path benches/compare/Cargo.toml -- queue`.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

mod common;

use std::path::Path;
use std::sync::Barrier;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use shf::{Queue, QueueOptions, QueueSet};

const ITEMS: usize = 16_384;
const BATCHES: [usize; 4] = [1, 16, 64, 1000];

/// Items that one pass moves: each there and back, some times. `cargo test --benches` runs each pass once, to see that
/// it works.
fn moves() -> usize {
    ITEMS * if std::env::args().any(|arg| arg == "--bench") { 64 } else { 2 }
}

fn open(path: &Path) -> QueueSet {
    let options = QueueOptions::new().items(ITEMS).item_size(64).queues(&["free", "a2b", "b2a"]);
    options.open_or_create(path).expect("open")
}

/// What one side does: moves `n` items from the first of the sources that has any, at most `batch` a call.
struct Mover<'q> {
    sources: Vec<&'q Queue>,
    to: &'q Queue,
}

impl Mover<'_> {
    fn run(&self, set: &QueueSet, n: usize, batch: usize) {
        let mut room = set.batch(batch).expect("batch");
        let mut moved = 0;
        while moved < n {
            let now = self.sources.iter().map(|from| {
                if batch == 1 {
                    let item = from.pull().expect("pull");
                    return item.map_or(0, |item| {
                        self.to.push(item).expect("push");
                        1
                    });
                }
                let pulled = from.pull_many_into(&mut room, batch.min(n - moved)).expect("pull_many");
                if pulled > 0 {
                    self.to.push_many_from(&mut room).expect("push_many");
                }
                pulled
            });
            match now.into_iter().find(|&now| now > 0) {
                Some(now) => moved += now,
                None => std::thread::yield_now(),
            }
        }
    }
}

/// The time of the slower side, from the moment both are ready.
fn both(a: impl FnOnce() + Send, b: impl FnOnce() + Send) -> Duration {
    let barrier = Barrier::new(2);
    let timed = |side: Box<dyn FnOnce() + Send + '_>| {
        barrier.wait();
        let start = Instant::now();
        side();
        start.elapsed()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| timed(Box::new(b)));
        let own = timed(Box::new(a));
        own.max(other.join().expect("the other side"))
    })
}

/// `pass` moves so many items and returns the time.
fn bench(group: &mut BenchmarkGroup<'_, WallTime>, id: &str, mut pass: impl FnMut(usize) -> Duration) {
    let n = moves();
    group.throughput(Throughput::Elements(n as u64));
    group.bench_function(id, |b| b.iter_custom(|passes| (0..passes).map(|_| pass(n)).sum()));
}

/// Each item is in a queue: else a figure would mean nothing.
fn check(set: &QueueSet) {
    let report = set.check().expect("check");
    assert!(report.is_consistent() && report.in_queues == ITEMS as u64, "{report:?}");
}

fn one_thread(c: &mut Criterion, path: &Path) {
    let mut group = c.benchmark_group("one thread");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(2));
    let set = open(path);
    let (free, a2b) = (set.queue("free").expect("free"), set.queue("a2b").expect("a2b"));
    for batch in BATCHES {
        let there = Mover { sources: vec![&free], to: &a2b };
        let back = Mover { sources: vec![&a2b], to: &free };
        bench(&mut group, &format!("shf/{batch} a call"), |n| {
            let start = Instant::now();
            for _ in 0..n / ITEMS / 2 {
                there.run(&set, ITEMS, batch);
                back.run(&set, ITEMS, batch);
            }
            start.elapsed()
        });
    }
    check(&set);
    group.finish();
}

fn two_threads(c: &mut Criterion, path: &Path) {
    let sets = [open(path), open(path)];
    let queues =
        sets.each_ref().map(|set| ["free", "a2b", "b2a"].map(|name| set.queue(name).expect("queue")));
    let [[free_a, there_a, back_a], [free_b, there_b, back_b]] = &queues;
    for cycle in [false, true] {
        let mut group = c.benchmark_group(if cycle { "cycle" } else { "one way" });
        group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(2));
        for batch in BATCHES {
            bench(&mut group, &format!("shf/{batch} a call"), |n| {
                let a =
                    Mover { sources: if cycle { vec![back_a, free_a] } else { vec![free_a] }, to: there_a };
                let b = Mover { sources: vec![there_b], to: if cycle { back_b } else { free_b } };
                let time = both(|| a.run(&sets[0], n, batch), || b.run(&sets[1], n, batch));
                back_a.drain_to(free_a).expect("drain");
                time
            });
            check(&sets[0]);
        }
        if !cycle {
            bench(&mut group, "mpsc::sync_channel", |n| {
                let (sender, receiver) = sync_channel(ITEMS);
                let send = move || (0..n).for_each(|i| sender.send(i).expect("send"));
                both(send, move || assert_eq!(receiver.iter().count(), n))
            });
        }
        group.finish();
    }
}

fn all(c: &mut Criterion) {
    let folder = common::folder().expect("folder");
    one_thread(c, &folder.path().join("one.shf"));
    two_threads(c, &folder.path().join("two.shf"));
}

criterion_group!(benches, all);
criterion_main!(benches);
