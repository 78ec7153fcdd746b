//! Queue sets: each documented call and error, in one process. Deaths are in `processes_queue`.

use std::{
    collections::{HashSet, VecDeque},
    fs,
    os::{fd::AsFd, unix::fs::PermissionsExt},
    panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shf::{
    Batch, BatchItems, BatchIter, BatchIterMut, Drain, Error, Item, Queue, QueueOptions, QueueReport,
    QueueSet, QueueStats, Table, TableOptions,
};

mod common;

use common::HANG;

fn options(items: usize) -> QueueOptions {
    QueueOptions::new().items(items).item_size(24).queues(["free", "a", "b"])
}

/// A set in memory, and its queues.
fn set(items: usize) -> (QueueSet, [Queue; 3]) {
    let set = options(items).anonymous("api_queue").unwrap();
    let queues = ["free", "a", "b"].map(|name| set.queue(name).unwrap());
    (set, queues)
}

/// The numbers of the items in a queue, in their order. Leaves them there, in the same order.
fn numbers(queue: &Queue) -> Vec<usize> {
    let batch = queue.pull_many(usize::MAX).unwrap();
    let numbers = batch.numbers().collect();
    queue.push_many(batch).unwrap();
    numbers
}

#[track_caller]
fn assert_whole(set: &QueueSet) {
    let report = set.check().unwrap();
    assert!(report.is_consistent(), "{report:?}");
    assert_eq!(report.items, set.items() as u64);
    assert_eq!(report.in_queues + report.held + report.dead, report.items, "{report:?}");
}

#[track_caller]
fn assert_at_home(set: &QueueSet) {
    assert_whole(set);
    assert_eq!(set.check().unwrap().in_queues, set.items() as u64);
}

// ---- types --------------------------------------------------------------------------------------------------------

#[test]
fn what_is_handed_out_may_cross_threads_and_panics() {
    fn sent<T: Send + Sync + std::fmt::Debug>() {}
    fn owned<T: Send + Sync + Clone + std::fmt::Debug + UnwindSafe + RefUnwindSafe + 'static>() {}
    fn builder<T: Clone + std::fmt::Debug + Default + Eq>() {}
    owned::<QueueSet>();
    owned::<Queue>();
    owned::<QueueOptions>();
    owned::<QueueStats>();
    owned::<QueueReport>();
    builder::<QueueOptions>();
    sent::<Item<'_>>();
    sent::<Batch<'_>>();
    sent::<BatchItems<'_>>();
    sent::<BatchIter<'_>>();
    sent::<BatchIterMut<'_>>();
    sent::<Drain<'_>>();
    assert!(size_of::<Option<Item<'_>>>() <= 32);
}

// ---- options and opening ------------------------------------------------------------------------------------------

#[test]
fn what_cannot_be_created_says_why_and_leaves_nothing() {
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    let good = || options(4);
    let many: Vec<String> = (0..256).map(|i| format!("queue {i}")).collect();
    let invalid = [
        ("nothing", QueueOptions::new()),
        ("no items", QueueOptions::new().item_size(8).queues(["q"])),
        ("no size", QueueOptions::new().items(8).queues(["q"])),
        ("no queue", QueueOptions::new().items(8).item_size(8)),
        ("an empty list of queues", good().queues::<[&str; 0]>([])),
        ("zero items", good().items(0)),
        ("zero bytes", good().item_size(0)),
        ("too many items", good().items((1 << 24) + 1)),
        ("far too many items", good().items(usize::MAX)),
        ("an empty name", good().queues(["q", ""])),
        ("a long name", good().queues(["q".repeat(64)])),
        ("one name twice", good().queues(["q", "r", "q"])),
        ("a name with a NUL byte", good().queues(["q\0r"])),
        ("256 queues", good().queues(&many)),
        ("a mode that is none", good().mode(0o1000)),
        ("2^54 bytes", good().items(1 << 24).item_size(1 << 30)),
    ];
    for (what, options) in invalid {
        for result in [options.create(&path), options.open_or_create(&path), options.anonymous("bad")] {
            let error = result.expect_err(what);
            assert!(matches!(error, Error::Invalid(_)), "{what}: {error:?}");
        }
    }
    for bytes in [(1 << 30) + 1, usize::MAX] {
        let error = good().item_size(bytes).create(&path).unwrap_err();
        assert!(matches!(error, Error::TooLong(_)), "{error:?}");
    }
    assert!(matches!(good().read_only(true).anonymous("bad"), Err(Error::Invalid(_))));
    assert!(matches!(good().read_only(true).create(&path), Err(Error::Invalid(_))));
    assert!(matches!(good().anonymous("a\0b"), Err(Error::Invalid(_))));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn the_smallest_and_odd_sizes_work() {
    for (items, size) in [(1, 1), (1, 1 << 20), (3, 63), (3, 64), (3, 65), (1000, 1), (5000, 24)] {
        let set =
            QueueOptions::new().items(items).item_size(size).queues(["only"]).anonymous("sizes").unwrap();
        assert_eq!((set.items(), set.item_size()), (items, size));
        let only = set.queue("only").unwrap();
        assert_eq!((only.capacity(), only.len().unwrap()), (items as u64, items as u64));
        let mut batch = only.pull_many(usize::MAX).unwrap();
        assert_eq!((batch.len(), batch.capacity()), (items, items));
        let places: HashSet<usize> = batch.iter().map(|bytes| bytes.as_ptr().addr()).collect();
        assert_eq!(places.len(), items, "two items at one place");
        assert!(places.iter().all(|place| place % 64 == 0));
        for (i, bytes) in batch.iter_mut().enumerate() {
            assert_eq!(bytes.len(), size);
            assert!(bytes.iter().all(|&byte| byte == 0), "a new item is zeroed");
            bytes.fill(u8::try_from(i % 251).unwrap());
        }
        for (i, bytes) in batch.iter().enumerate() {
            assert!(bytes.iter().all(|&byte| usize::from(byte) == i % 251), "items overlap");
        }
        only.push_many(batch).unwrap();
        assert_at_home(&set);
    }
}

#[test]
fn two_hundred_and_fifty_five_queues_fit_and_no_more() {
    let names: Vec<String> = (0..255).map(|i| format!("{i:063}")).collect();
    let set = QueueOptions::new().items(2).item_size(8).queues(&names).anonymous("many").unwrap();
    assert_eq!(set.queues().iter().map(Queue::name).collect::<Vec<_>>(), names);
    assert!(set.queues().iter().enumerate().all(|(i, queue)| queue.index() == i));
    assert!(matches!(set.add_queue("one more"), Err(Error::Full(_))));
    assert_eq!(set.add_queue(&names[254]).unwrap().index(), 254);
    let (first, last) = (set.queue(&names[0]).unwrap(), set.queue(&names[254]).unwrap());
    last.push(first.pull().unwrap().unwrap()).unwrap();
    let item = last.pull().unwrap().unwrap();
    assert_eq!(item.home(), 254);
    drop(item);
    assert_eq!(last.len().unwrap(), 1);
    assert_at_home(&set);
}

#[test]
fn opening_takes_what_is_not_set_from_the_file_and_compares_the_rest() {
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    assert!(matches!(QueueSet::open(&path), Err(Error::NotFound(_))));
    let first = options(7).create(&path).unwrap();
    assert_eq!(first.path(), path);
    assert!(matches!(options(7).create(&path), Err(Error::Exists(_))));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    for options in
        [QueueOptions::new(), options(7), QueueOptions::new().queues(["b"]), QueueOptions::new().items(7)]
    {
        for set in [options.open(&path).unwrap(), options.open_or_create(&path).unwrap()] {
            assert_eq!((set.items(), set.item_size(), set.queues().len()), (7, 24, 3));
        }
    }
    let wrong = [
        ("items", QueueOptions::new().items(8)),
        ("bytes", QueueOptions::new().item_size(25)),
        ("c", QueueOptions::new().queues(["a", "c"])),
    ];
    for (what, options) in wrong {
        let error = options.open(&path).expect_err(what);
        assert!(matches!(error, Error::Incompatible(_)), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    }
    assert!(matches!(QueueOptions::new().items(0).open(&path), Err(Error::Invalid(_))));
    shf::remove(&path).unwrap();
    assert!(matches!(QueueSet::open(&path), Err(Error::NotFound(_))));
    assert_eq!(first.queue("free").unwrap().len().unwrap(), 7, "who has it open keeps it");
}

#[test]
fn the_mode_is_exact() {
    let folder = common::folder();
    for mode in [0o660, 0o600, 0o644] {
        let path = folder.path().join(format!("{mode:o}"));
        options(1).mode(mode).create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn tables_and_queue_sets_are_told_apart() {
    let folder = common::folder();
    let (table, queues) = (folder.path().join("t.shf"), folder.path().join("q.shf"));
    Table::create(&table).unwrap();
    options(3).create(&queues).unwrap();
    for error in [
        QueueSet::open(&table).unwrap_err(),
        options(3).open_or_create(&table).unwrap_err(),
        Table::open(&queues).unwrap_err(),
        TableOptions::new().open_or_create(&queues).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Incompatible(_)), "{error:?}");
    }
    let (in_memory, _) = set(3);
    let fd = in_memory.as_fd().try_clone_to_owned().unwrap();
    assert!(matches!(Table::from_fd(fd), Err(Error::Incompatible(_))));

    let empty = folder.path().join("empty");
    fs::write(&empty, "").unwrap();
    let noise = folder.path().join("noise");
    fs::write(&noise, common::stamped(5, 1 << 20)).unwrap();
    for path in [&empty, &noise] {
        let error = QueueSet::open(path).unwrap_err();
        assert!(matches!(error, Error::Corrupt(_) | Error::Incompatible(_)), "{error:?}");
    }
}

#[test]
fn a_descriptor_is_enough_for_another_handle() {
    let (here, [free, a, _]) = set(4);
    let fd = here.as_fd().try_clone_to_owned().unwrap();
    let there = QueueSet::from_fd(fd).unwrap();
    let mut item = free.pull().unwrap().unwrap();
    item.fill(9);
    a.push(item).unwrap();
    let item = there.queue("a").unwrap();
    let item = item.pull().unwrap().unwrap();
    assert_eq!(item[..], [9; 24]);
    let fd = here.as_fd().try_clone_to_owned().unwrap();
    assert!(matches!(QueueOptions::new().read_only(true).from_fd(fd), Err(Error::Invalid(_))));
}

#[test]
fn a_read_only_handle_tells_names_and_numbers_and_nothing_else() {
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    let writer = options(5).create(&path).unwrap();
    let free = writer.queue("free").unwrap();
    let held = free.pull().unwrap();
    let reader = QueueOptions::new().read_only(true).open(&path).unwrap();
    assert!(reader.is_read_only() && !writer.is_read_only());
    assert_eq!(reader.queues().iter().map(|q| q.name().to_string()).collect::<Vec<_>>(), ["free", "a", "b"]);
    let queue = reader.queue("free").unwrap();
    assert_eq!((queue.len().unwrap(), queue.capacity()), (4, 5));
    let stats = queue.stats().unwrap();
    assert_eq!((stats.pushed, stats.pulled), (5, 1));
    let a = reader.queue("a").unwrap();
    let refused = [
        queue.pull().map(drop),
        queue.pull_wait(Duration::ZERO).map(drop),
        queue.pull_many(2).map(drop),
        a.pull().map(drop),
        queue.drain_to(&a).map(drop),
        reader.reset(),
        reader.add_queue("c").map(drop),
        reader.check().map(drop),
    ];
    for (i, result) in refused.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::ReadOnly(_))), "{i}: {result:?}");
    }
    writer.add_queue("later").unwrap();
    assert_eq!(reader.queue("later").unwrap().index(), 3);
    drop(held);
    assert_eq!(queue.len().unwrap(), 5);
}

// ---- queues -------------------------------------------------------------------------------------------------------

#[test]
fn an_unknown_queue_is_not_found_and_the_message_names_those_there_are() {
    let (set, _) = set(1);
    let error = set.queue("fre").unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
    for name in ["free", "a", "b"] {
        assert!(error.to_string().contains(name), "{error}");
    }
    for name in ["", &"x".repeat(64), "a\0"] {
        let error = set.queue(name).unwrap_err();
        assert!(matches!(error, Error::Invalid(_) | Error::NotFound(_)), "{error:?}");
        assert!(matches!(set.add_queue(name), Err(Error::Invalid(_))));
    }
}

#[test]
fn queues_that_one_handle_adds_others_find() {
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    let one = options(3).create(&path).unwrap();
    let two = QueueSet::open(&path).unwrap();
    let added = one.add_queue("added").unwrap();
    assert_eq!(one.add_queue("added").unwrap().index(), added.index());
    assert_eq!(two.add_queue("added").unwrap().index(), added.index());
    assert_eq!(two.queue("added").unwrap().name(), "added");
    added.push(one.queue("free").unwrap().pull().unwrap().unwrap()).unwrap();
    assert_eq!(two.queue("added").unwrap().len().unwrap(), 1);
    let names: Vec<_> = two.queues().iter().map(|queue| queue.name().to_string()).collect();
    assert_eq!(names, ["free", "a", "b", "added"]);
    drop((one, two, added));
    let again = QueueOptions::new().queues(["added"]).open(&path).unwrap();
    assert_eq!(again.queue("added").unwrap().len().unwrap(), 1);
    assert_at_home(&again);
}

#[test]
fn a_queue_keeps_its_set_open_and_clones_are_the_same_handle() {
    let (set, [free, a, _]) = set(4);
    let clone = set.clone();
    drop(set);
    let other = clone.queue("a").unwrap();
    drop(clone);
    let again = a.clone();
    again.push(free.pull().unwrap().unwrap()).unwrap();
    assert_eq!(other.len().unwrap(), 1);
    let set = other.set();
    drop((free, a, again, other));
    assert_at_home(&set);
    assert!(format!("{set:?}").contains("memfd:api_queue"), "{set:?}");
}

// ---- one item -----------------------------------------------------------------------------------------------------

#[test]
fn first_in_first_out() {
    let (set, [free, a, _]) = set(10);
    for i in 0..10u8 {
        let mut item = free.pull().unwrap().unwrap();
        item[0] = i;
        a.push(item).unwrap();
    }
    assert!(free.pull().unwrap().is_none());
    for i in 0..10u8 {
        let item = a.pull().unwrap().unwrap();
        assert_eq!(item[0], i);
        free.push(item).unwrap();
    }
    assert!(a.pull().unwrap().is_none());
    assert_at_home(&set);
}

#[test]
fn a_dropped_item_goes_to_the_end_of_the_queue_it_came_from() {
    let (set, [free, a, _]) = set(3);
    let item = free.pull().unwrap().unwrap();
    assert_eq!((item.number(), item.home(), item.len()), (0, free.index(), 24));
    assert_eq!(set.check().unwrap().held, 1);
    drop(item);
    assert_eq!(numbers(&free), [1, 2, 0]);
    a.push(free.pull().unwrap().unwrap()).unwrap();
    let item = a.pull().unwrap().unwrap();
    assert_eq!((item.number(), item.home()), (1, a.index()));
    drop(item);
    assert_eq!((numbers(&free), numbers(&a)), (vec![2, 0], vec![1]));
    assert_at_home(&set);
}

#[test]
fn a_panic_beside_an_item_sends_it_home() {
    let (set, [free, _, _]) = set(3);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut item = free.pull().unwrap().unwrap();
        let _batch = free.pull_many(2).unwrap();
        item[24] = 1;
    }));
    assert!(result.is_err());
    assert_eq!(free.len().unwrap(), 3);
    assert_at_home(&set);
}

#[test]
#[allow(clippy::mem_forget)] // what it is about
fn a_forgotten_item_is_held_until_the_handle_closes() {
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    let keeper = options(5).create(&path).unwrap();
    let other = QueueSet::open(&path).unwrap();
    let free = other.queue("free").unwrap();
    std::mem::forget(free.pull().unwrap());
    std::mem::forget(free.pull_many(2).unwrap());
    assert_eq!(keeper.check().unwrap().held, 3);
    drop((other, free));
    assert_at_home(&keeper);
    assert_eq!(keeper.queue("free").unwrap().len().unwrap(), 5);
}

#[test]
fn an_item_of_another_set_is_refused_and_goes_home() {
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    let one = options(4).create(&path).unwrap();
    // The same file through another handle, and a set that looks the same: same slot, same places, same numbers.
    for other in [QueueSet::open(&path).unwrap(), options(4).anonymous("twin").unwrap()] {
        let [free, a] = ["free", "a"].map(|name| one.queue(name).unwrap());
        let [other_free, other_a] = ["free", "a"].map(|name| other.queue(name).unwrap());
        let before = other_a.len().unwrap();

        let same_number = other_free.pull().unwrap();
        let item = free.pull().unwrap().unwrap();
        assert!(matches!(other_a.push(item), Err(Error::InvalidItem(_))));
        let item = free.pull().unwrap().unwrap();
        assert!(matches!(other_a.exchange(item, &other_free), Err(Error::InvalidItem(_))));
        let item = free.pull().unwrap().unwrap();
        assert!(matches!(a.exchange(item, &other_free), Err(Error::Invalid(_))));

        let mut batch = one.batch(2).unwrap();
        assert!(matches!(other_free.pull_many_into(&mut batch, 2), Err(Error::InvalidItem(_))));
        assert_eq!(free.pull_many_into(&mut batch, 2).unwrap(), 2);
        assert!(matches!(other_a.push_many_from(&mut batch), Err(Error::InvalidItem(_))));
        assert!(matches!(a.exchange_many(&mut batch, &other_free, 2), Err(Error::Invalid(_))));
        assert_eq!(batch.len(), 2, "the batch is as before");
        assert!(matches!(other_a.push_many(batch), Err(Error::InvalidItem(_))));

        assert!(matches!(free.drain_to(&other_a), Err(Error::Invalid(_))));
        assert!(matches!(one.wait_any(&[&free, &other_free], Duration::ZERO), Err(Error::Invalid(_))));
        assert_eq!(other_a.len().unwrap(), before);
        drop(same_number);
        assert_eq!(free.len().unwrap(), 4, "all at home");
        assert_at_home(&one);
        assert_at_home(&other);
    }
}

#[test]
fn an_exchange_pushes_and_pulls() {
    let (set, [free, a, b]) = set(3);
    a.push(free.pull().unwrap().unwrap()).unwrap();
    let item = free.pull().unwrap().unwrap(); // 1
    let next = b.exchange(item, &a).unwrap().unwrap();
    assert_eq!((next.number(), next.home()), (0, a.index()));
    assert!(b.exchange(next, &a).unwrap().is_none());
    assert_eq!(numbers(&b), [1, 0]);
    let item = free.pull().unwrap().unwrap(); // 2, through one queue: the first comes out, or itself
    let next = free.exchange(item, &free).unwrap().unwrap();
    assert_eq!(next.number(), 2);
    drop(next);
    assert_at_home(&set);
}

// ---- batches ------------------------------------------------------------------------------------------------------

#[test]
fn batches_of_all_lengths_keep_the_order() {
    const ITEMS: usize = 5000;
    let (set, [free, a, _]) = set(ITEMS);
    for length in [1, 2, 7, 64, 1000, 1008, 1009, 1024, 1025, 3000, ITEMS] {
        let mut batch = set.batch(length).unwrap();
        let mut expected = VecDeque::new();
        loop {
            let n = free.pull_many_into(&mut batch, usize::MAX).unwrap();
            assert_eq!(n, batch.len());
            assert_eq!(n, length.min(ITEMS - expected.len()));
            if n == 0 {
                break;
            }
            for (number, bytes) in batch.numbers().collect::<Vec<_>>().into_iter().zip(batch.iter_mut()) {
                bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
                expected.push_back(number);
            }
            a.push_many_from(&mut batch).unwrap();
            assert!(batch.is_empty());
        }
        assert_eq!(expected.len(), ITEMS);
        while a.pull_many_into(&mut batch, 777).unwrap() > 0 {
            for (bytes, number) in batch.iter().zip(batch.numbers()) {
                assert_eq!(bytes[..8], (number as u64).to_le_bytes());
                assert_eq!(expected.pop_front(), Some(number));
            }
            free.push_many_from(&mut batch).unwrap();
        }
        assert!(expected.is_empty());
    }
    assert_at_home(&set);
}

#[test]
fn a_batch_reads_and_writes_like_a_slice_of_slices() {
    let (set, [free, a, _]) = set(5);
    let mut batch = free.pull_many(3).unwrap();
    assert_eq!((batch.len(), batch.capacity(), batch.is_empty()), (3, 3, false));
    for (i, bytes) in (&mut batch).into_iter().enumerate() {
        bytes[0] = u8::try_from(i).unwrap();
    }
    batch[1][0] = 11;
    batch.get_mut(2).unwrap()[0] = 12;
    assert!(batch.get(3).is_none() && batch.get_mut(3).is_none() && batch.get(usize::MAX).is_none());
    assert_eq!((batch[0][0], &batch[1][..1], batch.get(2).unwrap()[0]), (0, &[11][..], 12));
    assert_eq!(batch.iter().map(|bytes| bytes[0]).collect::<Vec<_>>(), [0, 11, 12]);
    assert_eq!(batch.iter().rev().map(|bytes| bytes[0]).collect::<Vec<_>>(), [12, 11, 0]);
    let mut both = batch.iter_mut();
    let (first, last) = (both.next().unwrap(), both.next_back().unwrap());
    std::mem::swap(&mut first[0], &mut last[0]);
    assert_eq!((both.len(), both.next().map(|bytes| bytes[0])), (1, Some(11)));
    assert!(both.next().is_none() && both.next_back().is_none());
    assert_eq!((&batch).into_iter().map(|bytes| bytes[0]).collect::<Vec<_>>(), [12, 11, 0]);
    assert_eq!(batch.iter().len(), 3);
    for index in [3, usize::MAX] {
        assert!(catch_unwind(AssertUnwindSafe(|| batch[index].len())).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| batch[index][0] = 1)).is_err());
    }
    a.push_many(batch).unwrap();
    assert_eq!(numbers(&a), [0, 1, 2]);
    assert_at_home(&set);
}

#[test]
fn a_batch_gives_its_items_out_one_by_one() {
    let (set, [free, a, b]) = set(8);
    let mut batch = free.pull_many(8).unwrap();
    let first = batch.take().unwrap();
    let second = batch.take().unwrap();
    assert_eq!((first.number(), second.number(), second.home()), (0, 1, free.index()));
    assert_eq!((batch.len(), batch.numbers().next()), (6, Some(2)));
    batch[0][0] = 2;
    b.push(second).unwrap();
    let mut items = batch.into_iter();
    assert_eq!(items.size_hint().1, Some(6));
    let third = items.next().unwrap();
    assert_eq!((third.number(), third[0]), (2, 2));
    a.push(third).unwrap();
    drop(items); // what is left goes home
    a.push(first).unwrap();
    assert_eq!((numbers(&a), numbers(&b), numbers(&free)), (vec![2, 0], vec![1], vec![3, 4, 5, 6, 7]));

    let batch = free.pull_many(2).unwrap();
    for item in batch {
        a.push(item).unwrap();
    }
    let mut empty = set.batch(1).unwrap();
    assert!(empty.take().is_none());
    assert_eq!(numbers(&a), [2, 0, 3, 4]);
    assert_at_home(&set);
}

#[test]
fn what_was_taken_out_of_a_batch_is_held_beside_later_fills() {
    let (set, [free, a, _]) = set(3000);
    let mut batch = set.batch(100).unwrap();
    let mut taken = Vec::new();
    for round in 0..20 {
        assert_eq!(free.pull_many_into(&mut batch, 100).unwrap(), 100, "round {round}");
        taken.push(batch.take().unwrap());
        taken.push(batch.take().unwrap());
        a.push_many_from(&mut batch).unwrap();
    }
    assert_whole(&set);
    assert_eq!(set.check().unwrap().held, 40);
    let held: HashSet<usize> = taken.iter().map(Item::number).collect();
    assert_eq!(held.len(), 40);
    drop(taken.split_off(20));
    for item in taken {
        a.push(item).unwrap();
    }
    assert_eq!((a.len().unwrap(), free.len().unwrap()), (98 * 20 + 20, 1000 + 20));
    assert_at_home(&set);
}

#[test]
fn many_batches_and_many_items_of_one_handle_at_a_time() {
    let (set, [free, a, _]) = set(8000);
    let mut batches: Vec<_> = (1..=12).map(|i| free.pull_many(i * 50).unwrap()).collect();
    let mut items = Vec::new();
    while let Some(item) = free.pull().unwrap() {
        items.push(item);
    }
    assert_eq!(items.len(), 8000 - 50 * 78);
    let mut seen: HashSet<usize> = items.iter().map(Item::number).collect();
    seen.extend(batches.iter().flat_map(Batch::numbers));
    assert_eq!(seen.len(), 8000);
    assert_eq!(set.check().unwrap().held, 8000);
    assert_whole(&set);
    let mut sum = 0;
    for (i, mut batch) in batches.drain(..).enumerate() {
        sum += batch.len();
        if i % 3 == 0 {
            drop(batch);
        } else {
            a.push_many_from(&mut batch).unwrap();
        }
    }
    assert_eq!(sum, 50 * 78);
    for (i, item) in items.into_iter().enumerate() {
        if i % 2 == 0 {
            a.push(item).unwrap();
        }
    }
    assert_at_home(&set);
    assert_eq!(free.len().unwrap() + a.len().unwrap(), 8000);
}

#[test]
fn a_batch_that_is_not_empty_is_not_filled() {
    let (set, [free, a, _]) = set(4);
    let mut batch = set.batch(2).unwrap();
    free.pull_many_into(&mut batch, 1).unwrap();
    assert!(matches!(free.pull_many_into(&mut batch, 1), Err(Error::Invalid(_))));
    assert!(matches!(free.pull_many_wait_into(&mut batch, 1, HANG), Err(Error::Invalid(_))));
    assert_eq!((batch.len(), free.len().unwrap()), (1, 3));
    assert_eq!(a.exchange_many(&mut batch, &free, 9).unwrap(), 2, "at most its capacity");
    assert_eq!(batch.numbers().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(a.exchange_many(&mut batch, &a, 1).unwrap(), 1);
    assert_eq!((batch.numbers().collect::<Vec<_>>(), numbers(&a)), (vec![0], vec![1, 2]));
    assert_eq!(free.exchange_many(&mut batch, &set.queue("b").unwrap(), 1).unwrap(), 0);
    assert!(batch.is_empty());
    a.push_many_from(&mut batch).unwrap(); // nothing, legally
    a.push_many(set.batch(1).unwrap()).unwrap();
    assert_eq!((numbers(&a), numbers(&free)), (vec![1, 2], vec![3, 0]));
    drop(batch);
    assert_at_home(&set);
}

#[test]
fn none_asked_for_is_none_pulled() {
    let (set, [free, a, _]) = set(4);
    assert!(free.pull_many(0).unwrap().is_empty());
    assert!(free.pull_many_wait(0, HANG).unwrap().is_empty());
    let mut batch = set.batch(2).unwrap();
    assert_eq!(free.pull_many_into(&mut batch, 0).unwrap(), 0);
    free.pull_many_into(&mut batch, 2).unwrap();
    assert_eq!(a.exchange_many(&mut batch, &free, 0).unwrap(), 0);
    assert_eq!((batch.len(), a.len().unwrap(), free.len().unwrap()), (0, 2, 2));
    for capacity in [0, 5, usize::MAX] {
        assert!(matches!(set.batch(capacity), Err(Error::Invalid(_))), "{capacity}");
    }
}

// ---- waiting ------------------------------------------------------------------------------------------------------

#[test]
fn a_wait_for_nothing_ends() {
    let (set, [free, a, b]) = set(1);
    let start = Instant::now();
    let timeout = Duration::from_millis(60);
    assert!(a.pull_wait(timeout).unwrap().is_none());
    assert!(a.pull_many_wait(3, timeout).unwrap().is_empty());
    assert_eq!(set.wait_any(&[&a, &b], timeout).unwrap(), None);
    let time = start.elapsed();
    assert!(time >= timeout * 3, "{time:?}");
    assert!(a.pull_wait(Duration::ZERO).unwrap().is_none());
    assert!(a.pull_wait(Duration::from_nanos(1)).unwrap().is_none());
    assert!(matches!(set.wait_any(&[], timeout), Err(Error::Invalid(_))));
    // There is something: no time passes.
    assert_eq!(set.wait_any(&[&a, &free, &b], Duration::MAX).unwrap(), Some(1));
    assert!(free.pull_wait(Duration::MAX).unwrap().is_some());
    assert_eq!(free.pull_many_wait(5, Duration::MAX).unwrap().len(), 1);
    assert!(time < HANG);
}

#[test]
fn a_push_wakes_who_sleeps() {
    let (set, [free, a, b]) = set(64);
    let woken = AtomicU64::new(0);
    let rounds = 200;
    thread::scope(|threads| {
        threads.spawn(|| {
            for _ in 0..rounds {
                free.push(a.pull_wait(HANG).unwrap().expect("an item comes")).unwrap();
                woken.fetch_add(1, Relaxed);
            }
        });
        threads.spawn(|| {
            for _ in 0..rounds {
                let batch = b.pull_many_wait(4, HANG).unwrap();
                assert!(!batch.is_empty());
                free.push_many(batch).unwrap();
                woken.fetch_add(1, Relaxed);
            }
        });
        let mut random = common::Random::new(common::seed("a_push_wakes_who_sleeps"));
        for round in 0..rounds {
            if random.below(3) == 0 {
                thread::sleep(Duration::from_micros(random.below(300)));
            }
            a.push(free.pull_wait(HANG).unwrap().expect("the others give them back")).unwrap();
            common::until("the first wakes", || woken.load(Relaxed) > round * 2);
            b.push(free.pull_wait(HANG).unwrap().expect("the others give them back")).unwrap();
            common::until("the second wakes", || woken.load(Relaxed) > round * 2 + 1);
        }
    });
    assert_at_home(&set);
}

#[test]
fn one_push_of_many_wakes_many() {
    let (set, [free, a, _]) = set(16);
    thread::scope(|threads| {
        let sleepers: Vec<_> =
            (0..8).map(|_| threads.spawn(|| a.pull_wait(HANG).unwrap().map(|item| item.number()))).collect();
        common::until("somebody sleeps", || a.stats().unwrap().sleepers);
        a.push_many(free.pull_many(8).unwrap()).unwrap();
        // Each drops its item, which goes home to `a`: it may wake another one again.
        assert!(sleepers.into_iter().all(|sleeper| sleeper.join().unwrap().is_some()));
    });
    assert_eq!(a.len().unwrap(), 8);
    assert_at_home(&set);
}

#[test]
fn wait_any_sees_each_of_its_queues() {
    let (set, [free, a, b]) = set(8);
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut random = common::Random::new(common::seed("wait_any"));
            for _ in 0..300 {
                let item = free.pull_wait(HANG).unwrap().expect("they come back");
                if random.below(2) == 0 { a.push(item).unwrap() } else { b.push(item).unwrap() }
            }
            done.store(true, Relaxed);
        });
        let mut seen = [0, 0];
        while seen[0] + seen[1] < 300 {
            let which = set.wait_any(&[&a, &b], HANG).unwrap().expect("something comes");
            let item = [&a, &b][which].pull().unwrap().expect("nobody else pulls");
            seen[which] += 1;
            free.push(item).unwrap();
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    });
    assert!(done.load(Relaxed));
    assert_at_home(&set);
}

fn is_readable(queue: &Queue, timeout: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap(),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    poll(&mut [PollFd::new(&queue.wait_fd().unwrap(), PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

#[test]
fn the_descriptor_is_readable_while_there_may_be_items() {
    let (set, [free, a, b]) = set(4);
    assert!(is_readable(&free, HANG), "there are items from the beginning");
    assert!(a.pull().unwrap().is_none());
    // It may be readable at first; a pull of nothing ends that.
    common::until("it is unreadable", || a.pull().unwrap().is_none() && !is_readable(&a, Duration::ZERO));
    for _ in 0..50 {
        a.push(free.pull().unwrap().unwrap()).unwrap();
        assert!(is_readable(&a, HANG));
        free.push(a.pull().unwrap().unwrap()).unwrap();
        assert!(a.pull().unwrap().is_none());
        assert!(!is_readable(&a, Duration::from_millis(1)), "empty, and nothing was pushed");
    }
    assert!(b.pull().unwrap().is_none());
    thread::scope(|threads| {
        let sleeper = threads.spawn(|| is_readable(&b, HANG));
        thread::sleep(Duration::from_millis(30));
        b.push_many(free.pull_many(2).unwrap()).unwrap();
        assert!(sleeper.join().unwrap());
    });
    let other = options(1).anonymous("other").unwrap();
    drop(other.queue("free").unwrap().wait_fd().unwrap().try_clone_to_owned().unwrap());
    drop(other); // ends its thread
    assert_at_home(&set);
}

// ---- the whole ----------------------------------------------------------------------------------------------------

#[test]
fn stats_count_what_came_and_went() {
    let (_set, [free, a, _]) = set(6);
    a.push_many(free.pull_many(4).unwrap()).unwrap();
    drop(a.pull().unwrap());
    let (of_free, of_a) = (free.stats().unwrap(), a.stats().unwrap());
    assert_eq!((of_free.len, of_free.capacity, of_free.pushed, of_free.pulled), (2, 6, 6, 4));
    assert_eq!((of_a.len, of_a.capacity, of_a.pushed, of_a.pulled), (4, 6, 5, 1));
    assert_eq!((of_a.returned, of_a.recoveries, of_a.sleepers), (0, 0, false));
    assert_eq!((a.len().unwrap(), a.is_empty().unwrap()), (4, false));
}

#[test]
fn drain_gives_what_lies_there_now() {
    let (set, [free, a, b]) = set(5);
    let mut seen = Vec::new();
    for item in free.drain().take(20) {
        let item = item.unwrap();
        seen.push(item.number());
        if item.number() % 2 == 0 {
            a.push(item).unwrap(); // the others go home, and are not seen again
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert_eq!((numbers(&a), numbers(&free)), (vec![0, 2, 4], vec![1, 3]));
    assert_eq!(b.drain().count(), 0);
    let mut drain = a.drain();
    b.push(drain.next().unwrap().unwrap()).unwrap();
    drop(drain);
    assert_eq!(numbers(&a), [2, 4]);
    assert_eq!(a.drain_to(&b).unwrap(), 2);
    assert_eq!(a.drain_to(&b).unwrap(), 0);
    assert_eq!(b.drain_to(&b).unwrap(), 3);
    assert_eq!(numbers(&b), [0, 2, 4]);
    assert_eq!(free.drain_to(&b).unwrap(), 2);
    assert_eq!(numbers(&b), [0, 2, 4, 1, 3]);
    assert_at_home(&set);
}

#[test]
fn a_long_queue_drains_in_order() {
    let (set, [free, a, _]) = set(5000);
    assert_eq!(free.drain_to(&a).unwrap(), 5000);
    assert_eq!(numbers(&a), (0..5000).collect::<Vec<_>>());
    assert_at_home(&set);
}

#[test]
fn reset_brings_all_but_the_held_to_the_first_queue() {
    let (set, [free, a, b]) = set(4000);
    a.push_many(free.pull_many(1500).unwrap()).unwrap();
    b.push_many(free.pull_many(1500).unwrap()).unwrap();
    let item = a.pull().unwrap().unwrap();
    let batch = b.pull_many(9).unwrap();
    set.reset().unwrap();
    assert_eq!((free.len().unwrap(), a.len().unwrap(), b.len().unwrap()), (3990, 0, 0));
    assert_whole(&set);
    drop((item, batch));
    assert_eq!((free.len().unwrap(), a.len().unwrap(), b.len().unwrap()), (3990, 1, 9));
    set.recover().unwrap();
    assert_at_home(&set);
}

#[test]
fn threads_on_one_handle_and_on_handles_of_their_own_lose_nothing() {
    const ITEMS: usize = 300;
    const ROUNDS: u64 = 3000;
    let folder = common::folder();
    let path = folder.path().join("q.shf");
    let shared =
        QueueOptions::new().items(ITEMS).item_size(16).queues(["free", "a", "b"]).create(&path).unwrap();
    let seed = common::seed("threads");
    let pushed = AtomicU64::new(0);
    thread::scope(|threads| {
        for me in 0..6u64 {
            let (shared, path, pushed) = (&shared, &path, &pushed);
            threads.spawn(move || {
                let set = if me % 2 == 0 { shared.clone() } else { QueueSet::open(path).unwrap() };
                let queues = set.queues();
                let mut random = common::Random::new(seed ^ me);
                let mut batch = set.batch(40).unwrap();
                for _ in 0..ROUNDS {
                    let (from, to) = (&queues[random.index(3)], &queues[random.index(3)]);
                    match random.below(4) {
                        0 => {
                            let n = from.pull_many_into(&mut batch, 1 + random.index(40)).unwrap();
                            for bytes in &mut batch {
                                stamp(bytes, me);
                            }
                            for bytes in &batch {
                                check_stamp(bytes, me);
                            }
                            to.push_many_from(&mut batch).unwrap();
                            pushed.fetch_add(n as u64, Relaxed);
                        }
                        1 => drop(from.pull().unwrap()),
                        _ => {
                            let Some(mut item) = from.pull().unwrap() else { continue };
                            stamp(&mut item, me);
                            check_stamp(&item, me);
                            match random.below(3) {
                                0 => drop(to.exchange(item, from).unwrap()),
                                _ => to.push(item).unwrap(),
                            }
                            pushed.fetch_add(1, Relaxed);
                        }
                    }
                }
            });
        }
    });
    assert_at_home(&shared);
    let mut seen = HashSet::new();
    for queue in shared.queues() {
        seen.extend(numbers(&queue));
    }
    assert_eq!(seen.len(), ITEMS);
    println!("# total: {} items pushed by 6 threads; 0 lost, 0 twice", pushed.load(Relaxed));
}

/// One's own number, written over the whole item: another holder would show.
fn stamp(bytes: &mut [u8], me: u64) {
    for word in bytes.chunks_exact_mut(8) {
        word.copy_from_slice(&me.to_le_bytes());
    }
}

#[track_caller]
fn check_stamp(bytes: &[u8], me: u64) {
    for word in bytes.chunks_exact(8) {
        assert_eq!(word, me.to_le_bytes(), "somebody else holds the item, too");
    }
}
