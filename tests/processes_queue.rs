//! Queue sets between processes: races, order, items of the dead, the stopped and the forked. The processes are this test
//! binary, started again with a role.
//!
//! `SHF_QUEUE_KILLS` (150): how many processes are killed at work; `SHF_SEED` repeats a run's choices.

use std::{
    collections::HashSet,
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use shf::{Error, Queue, QueueOptions, QueueSet};

mod common;
#[path = "common/helper.rs"]
mod helper;

use common::{HANG, until};
use helper::{Helper, commands, say, start};

const SIZE: usize = 64;

#[test]
fn child_process() {
    let Some((role, arguments)) = common::role() else { return };
    let path = PathBuf::from(&arguments[0]);
    match role.as_str() {
        "create" => racing_creator(&path, &arguments[1]),
        "hold" => holder(&path, &arguments[1]),
        "produce" => producer(&path, arguments[1].parse().unwrap(), arguments[2].parse().unwrap()),
        "consume" => consumer(&path, arguments[1].parse().unwrap()),
        "echo" => echo(&path),
        "work" => worker(&path, arguments[1].parse().unwrap()),
        "fork" => forker(&path),
        "leak" => leaker(&path),
        other => panic!("no role {other}"),
    }
}

fn set(path: &Path, items: usize, queues: &[&str]) -> QueueSet {
    QueueOptions::new().items(items).item_size(SIZE).queues(queues).create(path).unwrap()
}

#[track_caller]
fn assert_at_home(set: &QueueSet) {
    let report = set.check().unwrap();
    assert!(report.is_consistent(), "{report:?}");
    assert_eq!((report.in_queues, report.held, report.dead), (set.items() as u64, 0, 0), "{report:?}");
}

/// Each item once, in all queues together.
#[track_caller]
fn assert_each_once(set: &QueueSet) {
    let mut seen = HashSet::new();
    for queue in set.queues() {
        seen.extend(queue.pull_many(usize::MAX).unwrap().numbers());
    }
    assert_eq!(seen.len(), set.items());
    assert!(seen.iter().all(|&number| number < set.items()));
}

fn word(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[index * 8..][..8].try_into().unwrap())
}

fn set_word(bytes: &mut [u8], index: usize, word: u64) {
    bytes[index * 8..][..8].copy_from_slice(&word.to_le_bytes());
}

// ---- races --------------------------------------------------------------------------------------------------------

fn racing_creator(folder: &Path, me: &str) {
    say("ready");
    for command in commands() {
        let (round, start) = command.split_once(' ').unwrap();
        let path = folder.join(round);
        common::sleep_until(start.parse().unwrap());
        let options = QueueOptions::new().items(64).item_size(SIZE).queues(["free"]);
        let set = options.open_or_create(&path).unwrap();
        let (mine, all) = (set.add_queue(me).unwrap(), set.add_queue("all").unwrap());
        let item = set.queue("free").unwrap();
        let item = item.pull().unwrap().expect("one for each");
        mine.push(item).unwrap();
        all.push(mine.pull().unwrap().unwrap()).unwrap();
        say("done");
    }
}

#[test]
fn sixteen_creators_and_adders_at_once_make_one_set() {
    const PROCESSES: usize = 16;
    let folder = common::folder();
    let mut helpers: Vec<_> = (0..PROCESSES)
        .map(|i| Helper::new(common::child("create", &[&folder.path(), &format!("queue {i}")])))
        .collect();
    for helper in &mut helpers {
        assert_eq!(helper.hear(), "ready");
    }
    for round in 0..10 {
        let start = common::since_epoch() + 4_000_000;
        for helper in &mut helpers {
            helper.tell(&format!("{round} {start}"));
        }
        for helper in &mut helpers {
            assert_eq!(helper.hear(), "done");
        }
        let path = folder.path().join(round.to_string());
        let set = QueueSet::open(&path).unwrap();
        let names: HashSet<String> = set.queues().iter().map(|queue| queue.name().to_string()).collect();
        assert_eq!((set.queues().len(), names.len()), (PROCESSES + 2, PROCESSES + 2), "{names:?}");
        assert_eq!(set.queue("all").unwrap().len().unwrap(), PROCESSES as u64);
        assert_at_home(&set);
        shf::remove(&path).unwrap();
    }
    helpers.into_iter().for_each(Helper::finish);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "private names were left behind");
}

// ---- order --------------------------------------------------------------------------------------------------------

fn producer(path: &Path, me: u64, count: u64) {
    let set = QueueSet::open(path).unwrap();
    let (free, jobs) = (set.queue("free").unwrap(), set.queue("jobs").unwrap());
    let mut random = common::Random::new(common::setting("SHF_SEED", 1) ^ me);
    say("ready");
    commands().next();
    let mut next = 0;
    while next < count {
        if random.below(2) == 0 {
            let mut item = free.pull_wait(HANG).unwrap().expect("consumers give them back");
            set_word(&mut item, 0, me);
            set_word(&mut item, 1, next);
            next += 1;
            jobs.push(item).unwrap();
        } else {
            let left = usize::try_from(count - next).unwrap();
            let mut batch = free.pull_many_wait(left.min(1 + random.index(20)), HANG).unwrap();
            assert!(!batch.is_empty(), "consumers give them back");
            for bytes in &mut batch {
                set_word(bytes, 0, me);
                set_word(bytes, 1, next);
                next += 1;
            }
            jobs.push_many(batch).unwrap();
        }
    }
    say("done");
}

/// Sees each producer's numbers grow.
fn consumer(path: &Path, producers: usize) {
    let set = QueueSet::open(path).unwrap();
    let (free, jobs) = (set.queue("free").unwrap(), set.queue("jobs").unwrap());
    say("ready");
    commands().next();
    let mut last = vec![None; producers];
    let (mut seen, mut batch) = (0u64, set.batch(15).unwrap());
    loop {
        jobs.pull_many_wait_into(&mut batch, 15, HANG).unwrap();
        let mut end = false;
        for bytes in &batch {
            if word(bytes, 0) == u64::MAX {
                end = true;
                continue;
            }
            let producer = usize::try_from(word(bytes, 0)).unwrap();
            assert!(last[producer] < Some(word(bytes, 1)), "an order that no producer pushed in");
            last[producer] = Some(word(bytes, 1));
            seen += 1;
        }
        if end {
            break;
        }
        free.push_many_from(&mut batch).unwrap();
    }
    for item in batch {
        // The mark of the end is left to the next one.
        if word(&item, 0) == u64::MAX { jobs.push(item).unwrap() } else { free.push(item).unwrap() }
    }
    say(&seen.to_string());
}

#[test]
fn the_items_of_each_producer_come_in_its_order() {
    const PRODUCERS: u64 = 3;
    const CONSUMERS: u64 = 2;
    const COUNT: u64 = 20_000;
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    let set = set(&path, 50, &["free", "jobs"]);
    let (free, jobs) = (set.queue("free").unwrap(), set.queue("jobs").unwrap());
    let mut consumers: Vec<_> = (0..CONSUMERS)
        .map(|_| Helper::new(common::child("consume", &[&path, &PRODUCERS.to_string()])))
        .collect();
    let mut producers: Vec<_> = (0..PRODUCERS)
        .map(|i| Helper::new(common::child("produce", &[&path, &i.to_string(), &COUNT.to_string()])))
        .collect();
    start(&mut consumers);
    start(&mut producers);
    for producer in &mut producers {
        assert_eq!(producer.hear(), "done");
    }
    let mut end = free.pull_wait(HANG).unwrap().expect("consumers give them back");
    set_word(&mut end, 0, u64::MAX);
    jobs.push(end).unwrap();
    let mut seen = 0;
    for consumer in &mut consumers {
        seen += consumer.hear().parse::<u64>().unwrap();
    }
    assert_eq!(seen, PRODUCERS * COUNT);
    consumers.into_iter().chain(producers).for_each(Helper::finish);
    assert_at_home(&set);
    assert_each_once(&set);
    println!(
        "# total: {seen} items from {PRODUCERS} producers to {CONSUMERS} consumers, in order; 0 lost, 0 twice"
    );
}

// ---- the dead and the stopped -------------------------------------------------------------------------------------

/// Holds three items of `jobs`, as told: one by one, in a batch, or as a large batch's first.
fn holder(path: &Path, how: &str) {
    let set = QueueSet::open(path).unwrap();
    let (free, jobs) = (set.queue("free").unwrap(), set.queue("jobs").unwrap());
    let mut batch = set.batch(set.items()).unwrap();
    let mut items = Vec::new();
    match how {
        "items" => items.extend((0..3).map(|_| jobs.pull().unwrap().unwrap())),
        "batch" => assert_eq!(jobs.pull_many_into(&mut batch, 3).unwrap(), 3),
        "taken" => {
            assert_eq!(jobs.pull_many_into(&mut batch, 3).unwrap(), 3);
            items.extend(batch.take());
        }
        other => panic!("hold {other}?"),
    }
    for bytes in items.iter_mut().map(|item| &mut item[..]).chain(&mut batch) {
        let old = word(bytes, 0);
        set_word(bytes, 1, old + 1000);
    }
    say("holding");
    for command in commands() {
        match command.as_str() {
            "push" => {
                for item in items.drain(..) {
                    free.push(item).unwrap();
                }
                free.push_many_from(&mut batch).unwrap();
                say("pushed");
            }
            other => panic!("no command {other}"),
        }
    }
}

/// `jobs` has just these three, numbered 1 to 3 in word 0.
fn three_jobs(path: &Path, items: usize) -> (QueueSet, Queue, Queue) {
    let set = set(path, items, &["free", "jobs"]);
    let (free, jobs) = (set.queue("free").unwrap(), set.queue("jobs").unwrap());
    for i in 1..=3 {
        let mut item = free.pull().unwrap().unwrap();
        set_word(&mut item, 0, i);
        jobs.push(item).unwrap();
    }
    (set, free, jobs)
}

fn is_readable(queue: &Queue) -> bool {
    let timeout = Timespec { tv_sec: i64::try_from(HANG.as_secs()).unwrap(), tv_nsec: 0 };
    poll(&mut [PollFd::new(&queue.wait_fd().unwrap(), PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

#[test]
fn what_the_dead_held_comes_home_as_it_was_to_whoever_waits() {
    type Wait = fn(&QueueSet, &Queue);
    let waits: [(&str, Wait); 7] = [
        ("pull_wait", |_, jobs| drop(jobs.pull_wait(HANG).unwrap().expect("it comes home"))),
        ("pull_many_wait", |_, jobs| assert!(!jobs.pull_many_wait(2, HANG).unwrap().is_empty())),
        ("wait_any", |set, jobs| assert_eq!(set.wait_any(&[jobs], HANG).unwrap(), Some(0))),
        ("wait_fd", |_, jobs| {
            // As an event loop does: pull until there is nothing, then sleep.
            while jobs.pull().unwrap().is_none() {
                assert!(is_readable(jobs));
            }
        }),
        ("pull", |_, jobs| until("pull", || jobs.pull().unwrap().is_some())),
        ("len", |_, jobs| until("len", || jobs.len().unwrap() == 3)),
        ("recover", |set, _| {
            until("recover", || {
                set.recover().unwrap();
                let report = set.check().unwrap();
                report.held + report.dead == 0
            });
        }),
    ];
    let folder = common::folder();
    let mut kills = 0;
    for how in ["items", "batch", "taken"] {
        for (name, wait) in waits {
            // More than 1,024: the child's batch is a slow one.
            for items in [5, 3000] {
                let path = folder.path().join(format!("{how} {name} {items}"));
                let (set, free, jobs) = three_jobs(&path, items);
                let mut child = Helper::new(common::child("hold", &[&path, &how]));
                assert_eq!(child.hear(), "holding");
                assert!(jobs.is_empty().unwrap());
                assert_eq!(set.check().unwrap().held, 3);
                thread::scope(|threads| {
                    let sleeper = threads.spawn(|| wait(&set, &jobs));
                    if items == 5 {
                        thread::sleep(Duration::from_millis(20)); // it sleeps when the child dies; else it comes later
                    }
                    child.kill();
                    sleeper.join().unwrap_or_else(|_| panic!("{name}, {how}, {items} items"));
                });
                set.recover().unwrap();
                let batch = jobs.pull_many(9).unwrap();
                let mut ids: Vec<u64> = batch.iter().map(|bytes| word(bytes, 0)).collect();
                assert!(
                    batch.iter().all(|bytes| word(bytes, 1) == word(bytes, 0) + 1000),
                    "not as they were"
                );
                ids.sort_unstable();
                assert_eq!(ids, [1, 2, 3], "{name}, {how}");
                free.push_many(batch).unwrap();
                assert!(jobs.stats().unwrap().returned >= 3);
                assert_at_home(&set);
                assert_each_once(&set);
                kills += 1;
            }
        }
    }
    println!("# total: {kills} holders killed, {} of their items came home; 0 lost, 0 twice", kills * 3);
}

#[test]
fn a_stopped_holder_keeps_its_items() {
    let folder = common::folder();
    for how in ["items", "batch", "taken"] {
        let path = folder.path().join(how);
        let (set, free, jobs) = three_jobs(&path, 10);
        let mut child = Helper::new(common::child("hold", &[&path, &how]));
        assert_eq!(child.hear(), "holding");
        child.signal(Signal::STOP);
        assert!(jobs.pull_wait(Duration::from_millis(150)).unwrap().is_none());
        set.recover().unwrap();
        set.reset().unwrap();
        let report = set.check().unwrap();
        assert!(report.is_consistent(), "{report:?}");
        assert_eq!((report.held, report.in_queues), (3, 7));
        child.signal(Signal::CONT);
        child.tell("push");
        assert_eq!(child.hear(), "pushed");
        assert_eq!(free.len().unwrap(), 10);
        child.finish();
        assert_at_home(&set);
    }
}

// ---- back and forth -----------------------------------------------------------------------------------------------

fn echo(path: &Path) {
    let set = QueueSet::open(path).unwrap();
    let (there, back) = (set.queue("there").unwrap(), set.queue("back").unwrap());
    say("ready");
    commands().next();
    let mut next = there.pull_wait(HANG).unwrap();
    while let Some(mut item) = next {
        let value = word(&item, 0);
        set_word(&mut item, 0, value + 1);
        if value == u64::MAX - 1 {
            back.push(item).unwrap();
            break;
        }
        next = match back.exchange(item, &there).unwrap() {
            Some(item) => Some(item),
            None => there.pull_wait(HANG).unwrap(),
        };
    }
    say("done");
}

#[test]
fn an_item_goes_back_and_forth_between_two_sleepers() {
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    let set = set(&path, 2, &["free", "there", "back"]);
    let [free, there, back] = ["free", "there", "back"].map(|name| set.queue(name).unwrap());
    let mut helpers = [Helper::new(common::child("echo", &[&path]))];
    start(&mut helpers);
    let rounds = 3_000;
    let mut item = free.pull().unwrap().unwrap();
    set_word(&mut item, 0, 0);
    for round in 0..rounds {
        assert_eq!(word(&item, 0), round);
        if round % 100 == 0 {
            thread::sleep(Duration::from_millis(1)); // let it fall asleep
        }
        there.push(item).unwrap();
        item = back.pull_wait(HANG).unwrap().expect("the other one answers");
    }
    set_word(&mut item, 0, u64::MAX - 1);
    there.push(item).unwrap();
    let item = back.pull_wait(HANG).unwrap().expect("the other one answers");
    assert_eq!(word(&item, 0), u64::MAX);
    drop(item);
    let [mut helper] = helpers;
    assert_eq!(helper.hear(), "done");
    helper.finish();
    assert_at_home(&set);
}

// ---- killed at work -----------------------------------------------------------------------------------------------

/// Does everything, and sees that what it holds nobody else writes.
fn worker(path: &Path, seed: u64) {
    let set = QueueSet::open(path).unwrap();
    let queues = set.queues();
    let mut random = common::Random::new(seed);
    let sizes = [1, 3, 40, 1024, 1500];
    say("ready");
    let mark = |bytes: &mut [u8]| (0..SIZE / 8).for_each(|i| set_word(bytes, i, seed));
    let mine = |bytes: &[u8]| assert!((0..SIZE / 8).all(|i| word(bytes, i) == seed), "held twice");
    loop {
        let (from, to) = (&queues[random.index(queues.len())], &queues[random.index(queues.len())]);
        match random.below(8) {
            0 | 1 => {
                let Some(mut item) = from.pull().unwrap() else { continue };
                mark(&mut item);
                mine(&item);
                match random.below(4) {
                    0 => drop(item),
                    1 => drop(to.exchange(item, from).unwrap()),
                    _ => to.push(item).unwrap(),
                }
            }
            2..=4 => {
                let mut batch = set.batch(sizes[random.index(sizes.len())].min(set.items())).unwrap();
                from.pull_many_into(&mut batch, usize::MAX).unwrap();
                batch.iter_mut().for_each(mark);
                let taken = (random.below(2) == 0).then(|| batch.take());
                batch.iter().for_each(mine);
                match random.below(3) {
                    0 => to.push_many_from(&mut batch).unwrap(),
                    1 => drop(to.exchange_many(&mut batch, from, 10).unwrap()),
                    _ => drop(batch),
                }
                drop(taken);
            }
            5 => drop(from.drain_to(to).unwrap()),
            6 => drop(from.pull_many_wait(2, Duration::from_micros(50)).unwrap()),
            _ => drop(QueueSet::open(path).unwrap().queue("free").unwrap().pull().unwrap()),
        }
    }
}

#[test]
fn workers_killed_at_any_moment_lose_nothing() {
    let kills = common::setting("SHF_QUEUE_KILLS", 150);
    let seed = common::seed("workers_killed_at_any_moment_lose_nothing");
    let mut random = common::Random::new(seed);
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    let items = 2000;
    let set = set(&path, items, &["free", "a", "b", "c"]);
    let mut workers = Vec::new();
    let spawn = |random: &mut common::Random| {
        Helper::new(common::child("work", &[&path, &random.next().to_string()]))
    };
    for _ in 0..3 {
        workers.push(spawn(&mut random));
    }
    for killed in 0..kills {
        let mut victim = workers.remove(random.index(workers.len()));
        workers.push(spawn(&mut random));
        assert_eq!(victim.hear(), "ready");
        thread::sleep(Duration::from_micros(random.below(3_000)));
        assert!(
            victim.child.0.try_wait().unwrap().is_none(),
            "a worker failed after {killed} kills, seed {seed}"
        );
        victim.kill();
        if killed % 10 == 0 {
            let report = set.check().unwrap();
            assert!(report.is_consistent(), "{report:?}, seed {seed}");
        }
    }
    for mut worker in workers {
        assert!(worker.child.0.try_wait().unwrap().is_none(), "a worker failed, seed {seed}");
        worker.kill();
    }
    set.recover().unwrap();
    assert_at_home(&set);
    assert_each_once(&set);
    let returned: u64 = set.queues().iter().map(|queue| queue.stats().unwrap().returned).sum();
    println!("# total: {} processes killed at work, {returned} items came home; 0 lost, 0 twice", kills + 3);
}

// ---- fork ---------------------------------------------------------------------------------------------------------

// There is no fork in Rust's library, nor a safe one anywhere. The child of this test, alone in its process but for the
// harness' waiting thread, forks as a C program would.
#[allow(unsafe_code)]
mod forking {
    unsafe extern "C" {
        fn fork() -> i32;
        fn _exit(code: i32) -> !;
    }

    /// Runs `child` in a forked child: its exit code.
    pub(super) fn forked(child: impl FnOnce() -> i32) -> i32 {
        // SAFETY: no other thread of this process works, so none holds a lock that the child would miss.
        let pid = unsafe { fork() };
        if pid == 0 {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(101);
            // SAFETY: ends the child without the parent's destructors and exit handlers.
            unsafe { _exit(code) }
        }
        let pid = rustix::process::Pid::from_raw(pid).expect("a child");
        let (_, status) = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
            .expect("the child can be waited for")
            .expect("it has ended");
        status.exit_status().unwrap_or(-1)
    }
}

fn forker(path: &Path) {
    let set = QueueSet::open(path).unwrap();
    let (free, jobs) = (set.queue("free").unwrap(), set.queue("jobs").unwrap());
    let mut kept = free.pull().unwrap().unwrap(); // item 0
    kept.fill(7);
    let mut items = Some([(); 3].map(|()| free.pull().unwrap().unwrap())); // 1 to 3
    let mut dropped = Some(free.pull_many(2).unwrap()); // 4 and 5
    let mut batch = free.pull_many(2).unwrap(); // 6 and 7
    // A handle that the child closes, with an item that only the handle knows of any more.
    let other = QueueSet::open(path).unwrap();
    #[allow(clippy::mem_forget)] // so that no lifetime keeps the child from closing it
    std::mem::forget(other.queue("free").unwrap().pull().unwrap()); // 8
    let mut closed = Some(other);

    let code = forking::forked(|| {
        let [one, two, three] = items.take().unwrap();
        drop(one);
        assert!(matches!(jobs.push(two), Err(Error::InvalidItem(_))));
        assert!(matches!(jobs.exchange(three, &free), Err(Error::InvalidItem(_))));
        drop(dropped.take());
        assert!(matches!(jobs.push_many_from(&mut batch), Err(Error::InvalidItem(_))));
        assert!(batch.take().is_none());
        drop(closed.take());
        assert!(jobs.is_empty().unwrap(), "something of the parent's was pushed");
        // The child may use the handle for items of its own. What it holds at its end comes home.
        let mut own = free.pull().unwrap().expect("one is left");
        assert_eq!(own.number(), 9, "something of the parent's came home");
        own.fill(9);
        jobs.push(own).unwrap();
        assert_eq!(jobs.pull_many(5).unwrap().len(), 1);
        assert_eq!(jobs.pull_wait(HANG).unwrap().unwrap()[..], [9; SIZE]);
        let end = jobs.pull().unwrap();
        std::hint::black_box(&end);
        42
    });
    assert_eq!(code, 42, "the child failed");

    set.recover().unwrap();
    let report = set.check().unwrap();
    assert!(report.is_consistent(), "{report:?}");
    assert_eq!((report.held, report.in_queues, report.dead), (9, 1, 0), "{report:?}");
    assert_eq!(kept[..], [7; SIZE]);
    jobs.push(kept).unwrap();
    for item in items.unwrap() {
        jobs.push(item).unwrap();
    }
    jobs.push_many(dropped.unwrap()).unwrap();
    jobs.push_many(batch).unwrap();
    drop(closed);
    let numbers: Vec<usize> = jobs.pull_many(20).unwrap().numbers().collect();
    assert_eq!(numbers, [9, 0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(free.pull().unwrap().unwrap().number(), 8);
    say("done");
}

#[test]
fn a_forked_child_leaves_its_parents_items_alone() {
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    let set = set(&path, 10, &["free", "jobs"]);
    let mut helper = Helper::new(common::child("fork", &[&path]));
    assert_eq!(helper.hear(), "done");
    helper.finish();
    assert_at_home(&set);
    assert_each_once(&set);
}

// ---- leaks --------------------------------------------------------------------------------------------------------

/// Descriptors, mappings of queue sets, threads of this process.
fn belongings() -> [usize; 3] {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    [
        fs::read_dir("/proc/self/fd").unwrap().count(),
        maps.lines().filter(|line| line.contains("q.shf") || line.contains("memfd:")).count(),
        fs::read_dir("/proc/self/task").unwrap().count(),
    ]
}

fn leaker(path: &Path) {
    let round = |i: u32| {
        let set = QueueSet::open(path).unwrap();
        let queue = set.queue("free").unwrap();
        let item = queue.pull().unwrap();
        let batch = queue.pull_many(3).unwrap();
        let fd = if i.is_multiple_of(4) { queue.wait_fd().unwrap().try_clone_to_owned().ok() } else { None };
        assert!(QueueOptions::new().items(7).open(path).is_err());
        drop((item, batch, fd));
        if i.is_multiple_of(10) {
            let memory = QueueOptions::new().items(1).item_size(1).queues(["q"]).anonymous("leaks").unwrap();
            drop(QueueSet::from_fd(memory.as_fd().try_clone_to_owned().unwrap()).unwrap());
        }
    };
    (0..20).for_each(round);
    let before = belongings();
    (0..2_000).for_each(round);
    // A thread that has ended may show for a moment.
    until("no thread is left", || belongings() == before);
    say("done");
}

#[test]
fn two_thousand_rounds_of_open_and_close_leak_nothing() {
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    let set = set(&path, 10, &["free", "jobs"]);
    let before = fs::metadata(&path).unwrap().len();
    let mut helper = Helper::new(common::child("leak", &[&path]));
    assert_eq!(helper.hear(), "done");
    helper.finish();
    assert_at_home(&set);
    assert!(fs::metadata(&path).unwrap().len() <= before + (64 << 10), "the file grew with each handle");
}
