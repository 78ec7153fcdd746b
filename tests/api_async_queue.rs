//! `AsyncQueue`: tasks of tokio that wait for items. Needs the feature `tokio`.
#![cfg(feature = "tokio")]

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use shf::{AsyncQueue, Error, Queue, QueueOptions, QueueSet};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

mod common;
#[path = "common/helper.rs"]
mod helper;

use common::HANG;
use helper::{Helper, commands, say};

#[test]
fn child_process() {
    let Some((role, arguments)) = common::role() else { return };
    match role.as_str() {
        "hold" => {
            let set = QueueSet::open(&arguments[0]).unwrap();
            let jobs = set.queue("jobs").unwrap();
            let mut item = jobs.pull().unwrap().unwrap();
            item[1] = 7;
            say("holding");
            commands().next();
        }
        "answer" => {
            let set = QueueSet::open(&arguments[0]).unwrap();
            let (jobs, done) = (set.queue("jobs").unwrap(), set.queue("done").unwrap());
            say("ready");
            for _ in 0..arguments[1].parse::<u32>().unwrap() {
                let mut item = jobs.pull_wait(HANG).unwrap().expect("the parent asks");
                item[0] = item[0].wrapping_add(1);
                done.push(item).unwrap();
            }
            say("done");
        }
        other => panic!("no role {other}"),
    }
}

fn set(items: usize) -> (QueueSet, [Queue; 3]) {
    let set = QueueOptions::new().items(items).item_size(16).queues(["free", "jobs", "done"]);
    let set = set.anonymous("api_async_queue").unwrap();
    let queues = ["free", "jobs", "done"].map(|name| set.queue(name).unwrap());
    (set, queues)
}

#[track_caller]
fn assert_at_home(set: &QueueSet) {
    let report = set.check().unwrap();
    assert!(report.is_consistent(), "{report:?}");
    assert_eq!((report.in_queues, report.held), (set.items() as u64, 0), "{report:?}");
}

/// A hang of anything that is awaited is a failure.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(HANG, what).await.expect("it does not hang")
}

#[test]
fn what_tasks_need_may_cross_threads() {
    fn owned<T: Send + Sync + Clone + std::fmt::Debug + 'static>() {}
    fn sent<T: Send>(_: &T) {}
    owned::<AsyncQueue>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let (_set, [free, _, _]) = set(2);
    let free = free.into_async().unwrap();
    sent(&free.pull());
    sent(&free.pull_many(2));
}

#[test]
fn outside_of_a_runtime_there_is_an_error() {
    let (_set, [free, _, _]) = set(1);
    assert!(matches!(free.into_async(), Err(Error::Invalid(_))));
}

#[tokio::test]
async fn what_is_there_comes_at_once() {
    let (set, [free, jobs, _]) = set(5);
    let waiting = free.clone().into_async().unwrap();
    jobs.push(soon(waiting.pull()).await.unwrap()).unwrap();
    jobs.push_many(soon(waiting.pull_many(3)).await.unwrap()).unwrap();
    assert!(soon(waiting.pull_many(0)).await.unwrap().is_empty());
    assert_eq!((free.len().unwrap(), jobs.len().unwrap(), waiting.queue().name()), (1, 4, "free"));
    assert_eq!(soon(jobs.into_async().unwrap().pull_many(100)).await.unwrap().len(), 4);
    assert_at_home(&set);
}

/// Pushes the numbers below `rounds`, and rests at one of `rests` of them.
fn producer(free: &Queue, jobs: &Queue, rounds: u64, seed: u64, rests: u64) -> thread::JoinHandle<()> {
    let (free, jobs) = (free.clone(), jobs.clone());
    thread::spawn(move || {
        let mut random = common::Random::new(seed);
        for round in 0..rounds {
            let mut item = free.pull_wait(HANG).unwrap().expect("the task gives them back");
            item[..8].copy_from_slice(&round.to_le_bytes());
            jobs.push(item).unwrap();
            if random.below(rests) == 0 {
                thread::sleep(Duration::from_micros(random.below(500)));
            }
        }
    })
}

#[tokio::test]
async fn a_push_wakes_a_task_again_and_again() {
    let (set, [free, jobs, _]) = set(4);
    let waiting = jobs.clone().into_async().unwrap();
    let seed = common::seed("a_push_wakes_a_task_again_and_again");
    let rounds = 2_000u64;
    let producer = producer(&free, &jobs, rounds, seed, 20);
    for round in 0..rounds {
        let item = soon(waiting.pull()).await.unwrap();
        assert_eq!(item[..8], round.to_le_bytes());
        free.push(item).unwrap();
    }
    producer.join().unwrap();
    assert_at_home(&set);
}

/// Tasks on several threads, on clones and on registrations of their own, one handle and several: each item goes to one of
/// them, and none lies there while somebody waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn many_tasks_share_one_queue() {
    const ITEMS: u64 = 20_000;
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    let set = QueueOptions::new().items(40).item_size(16).queues(["free", "jobs"]).create(&path).unwrap();
    let (free, jobs) = (set.queue("free").unwrap(), set.queue("jobs").unwrap());
    let seed = common::seed("many_tasks_share_one_queue");
    let (sum, count) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let shared = jobs.clone().into_async().unwrap();
    let mut tasks = JoinSet::new();
    for me in 0..9usize {
        let waiting = match me % 3 {
            0 => shared.clone(),
            1 => jobs.clone().into_async().unwrap(),
            _ => QueueSet::open(&path).unwrap().queue("jobs").unwrap().into_async().unwrap(),
        };
        let (sum, count) = (Arc::clone(&sum), Arc::clone(&count));
        tasks.spawn(async move {
            let free = waiting.queue().set().queue("free").unwrap();
            loop {
                let batch = waiting.pull_many(1 + me % 2).await.unwrap();
                for item in batch {
                    let value = u64::from_le_bytes(item[..8].try_into().unwrap());
                    free.push(item).unwrap();
                    if value == u64::MAX {
                        return;
                    }
                    sum.fetch_add(value, Relaxed);
                    count.fetch_add(1, Relaxed);
                }
            }
        });
    }
    let producer = tokio::task::spawn_blocking(move || {
        let mut random = common::Random::new(seed);
        let push = |value: u64| {
            let mut item = free.pull_wait(HANG).unwrap().expect("the tasks give them back");
            item[..8].copy_from_slice(&value.to_le_bytes());
            jobs.push(item).unwrap();
        };
        let mut next = 0;
        while next < ITEMS {
            // Two at once, then a rest: an item that nobody was woken for would lie there.
            let burst = 1 + random.below(4);
            for value in (next..next + burst).take_while(|&value| value < ITEMS) {
                push(value);
            }
            next += burst;
            while random.below(2) == 0 && !jobs.is_empty().unwrap() {
                thread::yield_now();
            }
        }
        // One end for each, given out one by one: whoever waits must be woken.
        for _ in 0..9 {
            push(u64::MAX);
            common::until("somebody is woken", || jobs.is_empty().unwrap());
        }
    });
    soon(producer).await.unwrap();
    while let Some(ended) = soon(tasks.join_next()).await {
        ended.unwrap();
    }
    assert_eq!(count.load(Relaxed), ITEMS);
    assert_eq!(sum.load(Relaxed), ITEMS * (ITEMS - 1) / 2);
    drop(shared);
    assert_at_home(&set);
    println!("# total: {ITEMS} items awaited by 9 tasks on 3 threads; 0 lost, 0 twice");
}

/// Each task takes one item and ends, so nobody comes later and finds what a task was not woken for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_many_tasks_wake_as_items_come() {
    const TASKS: usize = 6;
    let (set, [free, jobs, _]) = set(TASKS);
    let waiting = jobs.clone().into_async().unwrap();
    let mut random = common::Random::new(common::seed("as_many_tasks_wake_as_items_come"));
    for _ in 0..5_000 {
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let waiting = waiting.clone();
            let free = free.clone();
            tasks.spawn(async move { free.push(waiting.pull().await.unwrap()).unwrap() });
        }
        let mut left = TASKS;
        while left > 0 {
            let batch = free.pull_many(1 + random.index(left)).unwrap();
            left -= batch.len();
            jobs.push_many(batch).unwrap();
        }
        while let Some(ended) = soon(tasks.join_next()).await {
            ended.unwrap();
        }
        assert_eq!(free.len().unwrap(), TASKS as u64);
    }
    assert_at_home(&set);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_pull_takes_nothing() {
    let (set, [free, jobs, _]) = set(8);
    let waiting = jobs.clone().into_async().unwrap();
    let seed = common::seed("a_cancelled_pull_takes_nothing");
    let rounds = 3_000u64;
    let producer = producer(&free, &jobs, rounds, seed, 4);
    let (mut next, mut cancelled) = (0, 0);
    let mut random = common::Random::new(!seed);
    while next < rounds {
        let patience = Duration::from_micros(random.below(100));
        let pulled = tokio::select! {
            biased;
            () = sleep(patience), if random.below(2) == 0 => None,
            item = waiting.pull() => Some(item.unwrap()),
        };
        match pulled {
            Some(item) => {
                assert_eq!(item[..8], next.to_le_bytes(), "an item was lost by a cancellation");
                next += 1;
                free.push(item).unwrap();
            }
            None => cancelled += 1,
        }
    }
    producer.join().unwrap();
    assert!(cancelled > 0);
    assert_at_home(&set);
}

/// A task that always finds something lets the others run.
#[tokio::test]
async fn a_busy_task_does_not_starve_the_others() {
    let (set, [free, _, _]) = set(4);
    let waiting = free.clone().into_async().unwrap();
    let busy = tokio::spawn(async move {
        for _ in 0..1_000_000 {
            drop(waiting.pull().await.unwrap());
        }
    });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!busy.is_finished(), "it ran to its end before this task's turn came");
    busy.abort();
    assert!(busy.await.unwrap_err().is_cancelled());
    assert_at_home(&set);
}

#[tokio::test]
async fn what_a_dead_process_held_comes_to_a_waiting_task() {
    let folder = common::folder();
    for round in 0..5 {
        let path = folder.path().join(round.to_string());
        let options = QueueOptions::new().items(3).item_size(16).queues(["free", "jobs"]);
        let set = options.create(&path).unwrap();
        let (free, jobs) = (set.queue("free").unwrap(), set.queue("jobs").unwrap());
        jobs.push(free.pull().unwrap().unwrap()).unwrap();
        let waiting = jobs.clone().into_async().unwrap();
        let mut child = Helper::new(common::child("hold", &[&path]));
        assert_eq!(child.hear(), "holding");
        assert!(timeout(Duration::from_millis(20), waiting.pull()).await.is_err(), "the living keep theirs");
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(10 * round));
            child.kill();
        });
        let item = soon(waiting.pull()).await.unwrap();
        assert_eq!(item[1], 7);
        drop(item);
        killer.join().unwrap();
        assert_at_home(&set);
    }
}

#[tokio::test]
async fn another_process_answers() {
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    let options = QueueOptions::new().items(3).item_size(16).queues(["free", "jobs", "done"]);
    let set = options.create(&path).unwrap();
    let (jobs, free) = (set.queue("jobs").unwrap(), set.queue("free").unwrap());
    let done = set.queue("done").unwrap().into_async().unwrap();
    let mut child = Helper::new(common::child("answer", &[&path, &"500"]));
    assert_eq!(child.hear(), "ready");
    for i in 0..500u32 {
        let mut item = free.pull().unwrap().unwrap();
        item[0] = i.to_le_bytes()[0];
        jobs.push(item).unwrap();
        let item = soon(done.pull()).await.unwrap();
        assert_eq!(item[0], i.to_le_bytes()[0].wrapping_add(1));
        free.push(item).unwrap();
    }
    assert_eq!(child.hear(), "done");
    child.finish();
    assert_at_home(&set);
}

#[test]
fn closing_ends_threads_and_descriptors() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    // Of queue sets: threads and descriptors of other tests come and go.
    let sets = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains("closing_ends_threads")).count()
    };
    for _ in 0..200 {
        let options = QueueOptions::new().items(2).item_size(16).queues(["free", "jobs"]);
        let set = options.anonymous("closing_ends_threads").unwrap();
        let waiting = set.queue("jobs").unwrap().into_async().unwrap();
        let clone = waiting.clone();
        drop((set, waiting));
        assert!(clone.queue().is_empty().unwrap());
        assert!(sets() > 0);
        drop(clone);
    }
    assert_eq!(sets(), 0);
}
