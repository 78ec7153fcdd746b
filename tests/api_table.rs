//! Every call on a table: what it returns, what it leaves alone, and what others see meanwhile.

use std::{
    collections::{HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use shf::{CheckedUid, Error, Exchange, Inserted, Position, SHARDS, Table, TableOptions, Uid};

mod common;

fn table() -> Table {
    TableOptions::new().anonymous("api").unwrap()
}

fn key(i: u32) -> [u8; 4] {
    i.to_le_bytes()
}

#[test]
fn empty_keys_and_values_are_ordinary_ones() {
    let table = table();
    assert_eq!(table.get("").unwrap(), None);
    let uid = table.put("", "").unwrap();
    assert_eq!(table.get("").unwrap(), Some(vec![]));
    assert_eq!(table.get_by_uid(uid).unwrap(), Some(vec![]));
    assert_eq!(table.key_by_uid(uid).unwrap(), Some(vec![]));
    assert_eq!(table.insert("", "x").unwrap(), Inserted::Existing(uid));
    assert_eq!(table.compare_exchange("", Some(b""), Some(b"")).unwrap(), Exchange::Exchanged);
    assert_eq!(table.compare_exchange("", None, Some(b"")).unwrap(), Exchange::Unchanged(Some(vec![])));
    assert_eq!(table.update("", |old| old.map(<[u8]>::to_vec)).unwrap(), Some(uid));
    assert_eq!(table.take("").unwrap(), Some(vec![]));
    assert_eq!(table.compare_exchange("", None, Some(b"")).unwrap(), Exchange::Exchanged);
    assert!(table.remove_if_equal("", "").unwrap());
    assert_eq!(table.len().unwrap(), 0);
    common::assert_consistent(&table);
}

#[test]
fn an_empty_slice_at_any_address_is_a_value_not_an_absence() {
    let table = table();
    let bytes = [1u8, 2, 3];
    for start in 0..=bytes.len() {
        let empty = &bytes[start..start];
        table.put("key", "x").unwrap();
        assert_eq!(table.compare_exchange("key", Some(b"x"), Some(empty)).unwrap(), Exchange::Exchanged);
        assert_eq!(table.get("key").unwrap(), Some(vec![]));
        assert_eq!(table.compare_exchange("key", Some(empty), Some(b"x")).unwrap(), Exchange::Exchanged);
    }
    assert!(table.update("key", |_| Some(Vec::new())).unwrap().is_some());
    assert_eq!(table.get("key").unwrap(), Some(vec![]));
}

#[test]
fn keys_that_differ_in_one_byte_or_in_length_are_different_keys() {
    let table = table();
    let long = [7u8; 300];
    for len in 0..=300 {
        table.put(&long[..len], key(u32::try_from(len).unwrap())).unwrap();
    }
    for at in 0..300 {
        let mut other = long;
        other[at] = 8;
        table.put(other, "other").unwrap();
    }
    assert_eq!(table.len().unwrap(), 601);
    for len in 0..=300 {
        assert_eq!(table.get(&long[..len]).unwrap(), Some(key(u32::try_from(len).unwrap()).to_vec()));
    }
}

#[test]
fn insert_and_replace_respect_what_is_there() {
    let table = table();
    assert_eq!(table.replace("key", "x").unwrap(), None);
    assert!(!table.contains("key").unwrap());
    let first = table.insert("key", "1").unwrap();
    assert!(first.is_new());
    assert_eq!(table.insert("key", "2").unwrap(), Inserted::Existing(first.uid()));
    assert_eq!(table.get("key").unwrap(), Some(b"1".to_vec()));
    assert_eq!(table.replace("key", "3").unwrap(), Some(b"1".to_vec()));
    assert_eq!(table.get("key").unwrap(), Some(b"3".to_vec()));
    assert_eq!(table.put("key", "4").unwrap(), first.uid());
}

#[test]
fn removals_say_whether_there_was_something() {
    let table = table();
    assert!(!table.remove("key").unwrap());
    assert_eq!(table.take("key").unwrap(), None);
    assert!(!table.remove_if_equal("key", "").unwrap());
    table.put("key", "value").unwrap();
    assert!(!table.remove_if_equal("key", "valuf").unwrap());
    assert!(!table.remove_if_equal("key", "valu").unwrap());
    assert!(table.remove_if_equal("key", "value").unwrap());
    table.put("key", "value").unwrap();
    assert_eq!(table.take("key").unwrap(), Some(b"value".to_vec()));
    table.put("key", "value").unwrap();
    assert!(table.remove("key").unwrap());
    assert!(table.is_empty().unwrap());
}

#[test]
fn values_of_every_size_come_back_whole_through_every_call() {
    let table = table();
    let mut buffer = Vec::new();
    for len in [0, 1, 7, 8, 9, 511, 512, 513, 4_095, 8_180, 8_188, 8_192, 8_200, 65_536, 1 << 20, 5 << 20] {
        let (one, two) = (common::stamped(1, len), common::stamped(2, len));
        let uid = table.put("key", &one).unwrap();
        assert!(table.get("key").unwrap() == Some(one.clone()), "get, {len} bytes");
        assert!(table.get_into("key", &mut buffer).unwrap() && buffer == one, "get_into, {len} bytes");
        assert!(table.get_by_uid(uid).unwrap() == Some(one.clone()), "get_by_uid, {len} bytes");
        assert!(table.replace("key", &two).unwrap() == Some(one.clone()), "replace, {len} bytes");
        let unchanged = table.compare_exchange("key", None, Some(b"")).unwrap();
        assert!(unchanged == Exchange::Unchanged(Some(two.clone())), "compare_exchange, {len} bytes");
        let exchanged = table.compare_exchange("key", Some(&two), Some(&one)).unwrap();
        assert!(exchanged.is_exchanged(), "compare_exchange, {len} bytes");
        let mut entries = table.iter();
        assert!(entries.next().unwrap().unwrap().value == one, "iter, {len} bytes");
        assert!(entries.next().is_none());
        assert!(table.update("key", |old| Some(old.unwrap().to_vec())).unwrap() == Some(uid));
        assert!(table.take("key").unwrap() == Some(one), "take, {len} bytes");
    }
    common::assert_consistent(&table);
}

#[test]
fn a_key_of_any_size_can_be_found_by_its_uid() {
    let table = table();
    for len in [0, 1, 8, 100, 512, 513, 5_000, 8_191, 8_192, 16_383, 16_384, 70_000] {
        let key = common::stamped(len as u64, len);
        let uid = table.put(&key, "value").unwrap();
        assert!(table.key_by_uid(uid).unwrap() == Some(key.clone()), "{len} bytes");
        let checked = table.checked_uid(&key).unwrap().unwrap();
        assert!(table.key_by_uid(checked).unwrap() == Some(key), "{len} bytes");
    }
}

#[test]
fn a_key_and_value_beyond_four_gigabytes_are_too_long() {
    let available = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = available
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    if kilobytes.is_none_or(|kilobytes| kilobytes < 6 << 20) {
        eprintln!("SKIPPED: a value of 4 GiB needs 6 GiB of memory to be safe");
        return;
    }
    let value = vec![0u8; 1 << 32]; // zero pages that nobody touches
    let table = table();
    assert!(matches!(table.put("key", &value), Err(Error::TooLong(_))));
    assert!(matches!(table.put("key", &value[..(1 << 32) - 2]), Err(Error::TooLong(_))), "together");
    assert!(matches!(table.put(&value, ""), Err(Error::TooLong(_))));
    assert!(!table.contains(&value).unwrap(), "a key that can never be there is absent");
    assert!(table.is_empty().unwrap());
}

#[test]
fn a_counter_wraps_and_refuses_what_is_no_counter() {
    let table = table();
    assert_eq!(table.fetch_add("n", 5).unwrap(), 0);
    assert_eq!(table.fetch_add("n", -7).unwrap(), 5);
    assert_eq!(table.fetch_add("n", 0).unwrap(), -2);
    table.put("n", i64::MAX.to_le_bytes()).unwrap();
    assert_eq!(table.fetch_add("n", 1).unwrap(), i64::MAX);
    assert_eq!(table.fetch_add("n", 0).unwrap(), i64::MIN);
    for value in [&b""[..], b"1234567", b"123456789"] {
        table.put("s", value).unwrap();
        assert!(matches!(table.fetch_add("s", 1), Err(Error::NotACounter(_))));
        assert_eq!(table.get("s").unwrap().as_deref(), Some(value));
    }
}

/// Narrow cells, and wide ones with and without a redo record.
const FIXED: [(u32, u32); 6] = [(4, 4), (1, 7), (5, 0), (4, 8), (16, 24), (2, 118)];

#[test]
fn with_fixed_lengths_every_call_takes_these_alone_and_changes_nothing_for_others() {
    for (key_len, value_len) in FIXED {
        let table = TableOptions::new().fixed(key_len, value_len).anonymous("fixed").unwrap();
        let (key, value) = (common::stamped(1, key_len as usize), common::stamped(2, value_len as usize));
        let uid = table.put(&key, &value).unwrap();
        let checked = table.checked_uid(&key).unwrap().unwrap();
        let mut buffer = b"leftovers".to_vec();
        let wrong =
            |len: usize| [len + 1, len + 8, len + 100_000, len.saturating_sub(1)].map(|len| vec![3; len]);
        for other in wrong(key.len()) {
            let refused = [
                table.get(&other).map(drop),
                table.get_into(&other, &mut buffer).map(drop),
                table.contains(&other).map(drop),
                table.uid(&other).map(drop),
                table.checked_uid(&other).map(drop),
                table.put(&other, &value).map(drop),
                table.insert(&other, &value).map(drop),
                table.replace(&other, &value).map(drop),
                table.remove(&other).map(drop),
                table.take(&other).map(drop),
                table.remove_if_equal(&other, &value).map(drop),
                table.compare_exchange(&other, None, Some(&value)).map(drop),
                table.compare_exchange(&other, Some(&value), None).map(drop),
                table.update(&other, |_| Some(value.clone())).map(drop),
                table.get_many(&[&key, &other]).map(drop),
                table.put_many(&[(&other, &value)]).map(drop),
                table.remove_many(&[&other]).map(drop),
            ];
            for (call, result) in refused.into_iter().enumerate() {
                assert!(matches!(result, Err(Error::WrongLength(_))), "call {call}: {result:?}");
            }
            assert!(buffer.is_empty(), "after an error there is no value");
            let text = table.get(&other).unwrap_err().to_string();
            assert!(text.contains(&key_len.to_string()) && text.contains(&other.len().to_string()), "{text}");
        }
        for other in wrong(value.len()).into_iter().filter(|other| other.len() != value.len()) {
            let refused = [
                table.put(&key, &other).map(drop),
                table.put([9; 120].split_at(key.len()).0, &other).map(drop),
                table.insert(&key, &other).map(drop),
                table.replace(&key, &other).map(drop),
                table.compare_exchange(&key, Some(&value), Some(&other)).map(drop),
                table.update(&key, |_| Some(other.clone())).map(drop),
                table.put_by_uid(uid, &other).map(drop),
                table.put_by_uid(checked, &other).map(drop),
                table.put_many(&[(&key, &other)]).map(drop),
            ];
            for (call, result) in refused.into_iter().enumerate() {
                assert!(matches!(result, Err(Error::WrongLength(_))), "call {call}: {result:?}");
            }
            // What is only compared may have any length.
            assert!(!table.remove_if_equal(&key, &other).unwrap());
            let unchanged = table.compare_exchange(&key, Some(&other), None).unwrap();
            assert_eq!(unchanged, Exchange::Unchanged(Some(value.clone())));
        }
        assert_eq!(table.get(&key).unwrap().as_ref(), Some(&value));
        assert_eq!(table.get_by_uid(checked).unwrap().as_ref(), Some(&value));
        assert_eq!(table.key_by_uid(uid).unwrap().as_ref(), Some(&key));
        assert_eq!(table.len().unwrap(), 1);
        common::assert_consistent(&table);
    }
}

#[test]
fn with_fixed_lengths_only_values_of_eight_bytes_are_counters() {
    for (key_len, value_len) in FIXED {
        let table = TableOptions::new().fixed(key_len, value_len).anonymous("fixed").unwrap();
        let key = common::stamped(1, key_len as usize);
        if value_len == 8 {
            assert_eq!(table.fetch_add(&key, 5).unwrap(), 0);
            assert_eq!(table.fetch_add(&key, -7).unwrap(), 5);
            assert_eq!(table.get(&key).unwrap(), Some((-2i64).to_le_bytes().to_vec()));
        } else {
            assert!(matches!(table.fetch_add(&key, 1), Err(Error::NotACounter(_))));
            assert!(table.is_empty().unwrap());
        }
    }
}

#[test]
fn with_fixed_lengths_uids_stay_and_nothing_becomes_garbage() {
    for (key_len, value_len) in [(4, 4), (8, 8), (4, 40)] {
        let table = TableOptions::new().fixed(key_len, value_len).anonymous("fixed").unwrap();
        let key = |i: u32| {
            let mut key = i.to_le_bytes().to_vec();
            key.resize(key_len as usize, 0);
            key
        };
        let value = |i: u32| common::stamped(i.into(), value_len as usize);
        let early: Vec<Uid> = (0..200).map(|i| table.put(key(i), value(i)).unwrap()).collect();
        let all: HashSet<Uid> = (0..200_000).map(|i| table.put(key(i), value(i)).unwrap()).collect();
        assert_eq!(all.len(), 200_000, "two living keys have one UID");
        for (i, &uid) in (0..200).zip(&early) {
            assert_eq!(table.uid(key(i)).unwrap(), Some(uid));
            assert_eq!(table.get_by_uid(uid).unwrap(), Some(value(i)));
            assert_eq!(table.put(key(i), value(i + 1)).unwrap(), uid);
            assert_eq!(table.key_by_uid(uid).unwrap(), Some(key(i)));
        }
        let before = table.stats().unwrap();
        for round in 1..4 {
            for i in 0..200_000 {
                table.put(key(i), value(i + round)).unwrap();
            }
        }
        let after = table.stats().unwrap();
        assert_eq!(before.file_bytes, after.file_bytes, "replacing takes no room");
        assert_eq!((after.garbage_bytes, after.record_bytes, after.large_values), (0, 0, 0));
        assert_eq!(table.iter().count(), 200_000);
        for i in 0..200_000 {
            assert_eq!(table.take(key(i)).unwrap(), Some(value(i + 3)));
        }
        assert!(table.is_empty().unwrap());
        common::assert_consistent(&table);
    }
}

#[test]
fn compare_exchange_covers_presence_and_absence() {
    let table = table();
    let swap =
        |expected: Option<&[u8]>, new: Option<&[u8]>| table.compare_exchange("key", expected, new).unwrap();
    assert_eq!(swap(Some(b"a"), Some(b"b")), Exchange::Unchanged(None));
    assert_eq!(swap(None, None), Exchange::Exchanged);
    assert_eq!(swap(None, Some(b"a")), Exchange::Exchanged);
    assert_eq!(swap(None, None), Exchange::Unchanged(Some(b"a".to_vec())));
    assert_eq!(swap(Some(b"b"), None), Exchange::Unchanged(Some(b"a".to_vec())));
    assert_eq!(swap(Some(b"a"), Some(b"a")), Exchange::Exchanged);
    assert_eq!(swap(Some(b"a"), Some(b"longer than before")), Exchange::Exchanged);
    assert_eq!(swap(Some(b"longer than before"), None), Exchange::Exchanged);
    assert_eq!(swap(Some(b""), None), Exchange::Unchanged(None));
}

#[test]
fn update_inserts_changes_removes_and_leaves_alone() {
    let table = table();
    assert_eq!(table.update("key", |old| old.map(<[u8]>::to_vec)).unwrap(), None);
    assert!(!table.contains("key").unwrap());
    let uid = table.update("key", |_| Some(vec![1; 20_000])).unwrap();
    assert_eq!(uid, table.uid("key").unwrap());
    assert_eq!(table.update("key", |old| Some(old.unwrap()[..10].to_vec())).unwrap(), uid);
    assert_eq!(table.get("key").unwrap(), Some(vec![1; 10]));
    assert_eq!(table.update("key", |_| None).unwrap(), None);
    assert!(table.is_empty().unwrap());
}

#[test]
fn an_update_that_panics_leaves_the_old_value_and_a_usable_table() {
    let table = table();
    table.put("key", "old").unwrap();
    for present in ["key", "absent"] {
        let panic =
            catch_unwind(AssertUnwindSafe(|| table.update(present, |_| panic!("on purpose: {present}"))));
        let payload = panic.expect_err("the panic goes on to the caller");
        assert_eq!(payload.downcast_ref::<String>().unwrap(), &format!("on purpose: {present}"));
    }
    assert_eq!(table.get("key").unwrap(), Some(b"old".to_vec()));
    assert!(!table.contains("absent").unwrap());
    table.put("key", "new").unwrap();
    assert!(table.update("key", |_| Some(b"newer".to_vec())).unwrap().is_some());
    assert_eq!(table.len().unwrap(), 1);
    common::assert_consistent(&table);
}

#[test]
fn an_update_may_call_its_own_table() {
    let table = table();
    table.put("key", "a").unwrap();
    table
        .update("key", |old| {
            assert_eq!(table.get("key").unwrap().as_deref(), old);
            table.put("other", "b").unwrap();
            table.fetch_add("count", 1).unwrap();
            table.update("inner", |_| Some(b"c".to_vec())).unwrap();
            assert!(table.len().unwrap() >= 3);
            Some(b"z".to_vec())
        })
        .unwrap();
    assert_eq!(table.get("key").unwrap(), Some(b"z".to_vec()));
    assert_eq!(table.get("inner").unwrap(), Some(b"c".to_vec()));
    assert_eq!(table.fetch_add("count", 0).unwrap(), 1, "nobody else changed the key: one call");
}

#[test]
fn an_update_runs_again_if_somebody_was_faster() {
    let table = table();
    for (before, change) in [(Some(&b"1"[..]), Some(&b"2"[..])), (Some(b"1"), None), (None, Some(b"2"))] {
        table.remove("key").unwrap();
        if let Some(value) = before {
            table.put("key", value).unwrap();
        }
        let mut seen = Vec::new();
        table
            .update("key", |old| {
                seen.push(old.map(<[u8]>::to_vec));
                if seen.len() == 1 {
                    assert!(table.compare_exchange("key", before, change).unwrap().is_exchanged());
                }
                Some([old.unwrap_or(b"absent"), b"+"].concat())
            })
            .unwrap();
        assert_eq!(seen, [before.map(<[u8]>::to_vec), change.map(<[u8]>::to_vec)]);
        let expected = [change.unwrap_or(b"absent"), b"+"].concat();
        assert_eq!(table.get("key").unwrap(), Some(expected));
    }
}

#[test]
fn uids_stay_the_same_while_the_table_grows_a_thousandfold() {
    let table = table();
    let early: Vec<Uid> = (0..200).map(|i| table.put(key(i), key(i)).unwrap()).collect();
    let mut all = HashMap::new();
    for i in 200..200_000 {
        all.insert(table.put(key(i), key(i)).unwrap(), i);
    }
    assert_eq!(all.len(), 199_800, "two living keys have one UID");
    for i in 0..200 {
        let uid = early[i as usize];
        assert!(!all.contains_key(&uid));
        assert_eq!(table.uid(key(i)).unwrap(), Some(uid));
        assert_eq!(table.get_by_uid(uid).unwrap(), Some(key(i).to_vec()));
        assert_eq!(table.put(key(i), [0; 50]).unwrap(), uid);
        assert_eq!(table.key_by_uid(uid).unwrap(), Some(key(i).to_vec()));
    }
    for (uid, i) in all {
        assert_eq!(table.key_by_uid(uid).unwrap(), Some(key(i).to_vec()));
    }
    assert_eq!(table.len().unwrap(), 200_000);
    common::assert_consistent(&table);
}

#[test]
fn a_checked_uid_never_names_the_key_that_got_its_slot() {
    let table = table();
    table.put("first", "1").unwrap();
    let (plain, checked) =
        (table.uid("first").unwrap().unwrap(), table.checked_uid("first").unwrap().unwrap());
    assert_eq!(checked.uid(), plain);
    assert_eq!(table.get_by_uid(checked).unwrap(), Some(b"1".to_vec()));
    assert!(table.put_by_uid(checked, "2").unwrap());
    assert!(table.remove("first").unwrap());
    assert_eq!(table.get_by_uid(plain).unwrap(), None);
    assert_eq!(table.get_by_uid(checked).unwrap(), None);

    // What a slot that was given to another key looks like: the UID is that key's, the check is not. (Two keys
    // with one UID are one in 2^29, so the other key's UID is put together with the first one's check.)
    table.put("heir", "h").unwrap();
    let heir = table.checked_uid("heir").unwrap().unwrap();
    let stale = u64::from(heir.uid().to_u32()) << 32 | checked.to_u64() & 0xffff_ffff;
    let stale = CheckedUid::from_u64(stale).unwrap();
    assert_ne!(stale, heir);
    let mut buffer = Vec::new();
    assert_eq!(table.get_by_uid(stale).unwrap(), None);
    assert!(!table.get_by_uid_into(stale, &mut buffer).unwrap());
    assert_eq!(table.key_by_uid(stale).unwrap(), None);
    assert!(!table.put_by_uid(stale, "stolen").unwrap());
    assert!(!table.remove_by_uid(stale).unwrap());
    assert_eq!(table.get_by_uid(heir).unwrap(), Some(b"h".to_vec()));

    // Nor is it found among many others.
    for i in 0..100_000 {
        table.put(key(i), "other").unwrap();
    }
    assert_eq!(table.get_by_uid(checked).unwrap(), None);
    assert!(!table.put_by_uid(checked, "stolen").unwrap());
    assert!(table.remove_by_uid(heir).unwrap());
    assert_eq!(table.get_by_uid(heir).unwrap(), None);
}

#[test]
fn uids_that_nobody_gave_are_not_found() {
    let table = table();
    table.put("key", "value").unwrap();
    let known = table.uid("key").unwrap().unwrap().to_u32();
    let mut random = common::Random::new(common::seed("forged UIDs"));
    let numbers = (0..64).flat_map(|bit| [1u64 << bit, u64::MAX >> bit]);
    let numbers: Vec<u64> = numbers.chain((0..20_000).map(|_| random.next())).collect();
    for number in numbers {
        if let Some(uid) = CheckedUid::from_u64(number) {
            assert_eq!(table.get_by_uid(uid).unwrap(), None);
            assert!(!table.put_by_uid(uid, "x").unwrap());
            assert!(!table.remove_by_uid(uid).unwrap());
        }
        let lower = u32::try_from(number & 0xffff_ffff).unwrap();
        if let Some(uid) = Uid::from_u32(lower).filter(|_| lower != known) {
            // Only 15 bits of the hash are checked: one in 32,768 may name the one key that is there.
            let found = table.key_by_uid(uid).unwrap();
            assert!(found.is_none() || found.as_deref() == Some(b"key"));
        }
    }
    assert_eq!(table.get("key").unwrap(), Some(b"value".to_vec()));
}

#[test]
fn a_walk_sees_each_key_once_while_others_insert_and_remove() {
    const STABLE: u32 = 20_000;
    let table = table();
    for i in 0..STABLE {
        table.put(key(i), key(i)).unwrap();
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = common::Random::new(1);
            let mut i = STABLE;
            while !stop.load(Ordering::Relaxed) {
                table.put(key(i), "passing").unwrap();
                table.put(key(u32::try_from(random.below(STABLE.into())).unwrap()), [9; 40]).unwrap();
                if i.is_multiple_of(3) {
                    table.remove(key(STABLE + (i - STABLE) / 2)).unwrap();
                }
                i += 1;
                if i > 600_000 {
                    (STABLE..i).for_each(|i| assert!(table.remove(key(i)).is_ok()));
                    i = STABLE;
                }
            }
        });
        for _ in 0..8 {
            let mut seen = HashSet::new();
            for entry in &table {
                let entry = entry.unwrap();
                let number = u32::from_le_bytes(entry.key.as_slice().try_into().unwrap());
                assert!(number >= STABLE || seen.insert(number), "{number} was seen twice");
            }
            assert_eq!(seen.len(), STABLE as usize, "a key that was there throughout was not seen");
        }
        stop.store(true, Ordering::Relaxed);
    });
    common::assert_consistent(&table);
}

#[test]
fn the_parts_of_a_walk_are_disjoint_and_complete() {
    let table = table();
    for i in 0..30_000 {
        table.put(key(i), "").unwrap();
    }
    let whole: HashSet<Uid> = table.iter().map(|entry| entry.unwrap().uid).collect();
    assert_eq!(whole.len(), 30_000);
    let mut parts = HashSet::new();
    for shard in 0..SHARDS {
        for entry in table.iter_shards(shard..=shard) {
            assert!(parts.insert(entry.unwrap().uid), "shard {shard} gave an entry of another one");
        }
    }
    assert_eq!(parts, whole);
    assert_eq!(table.iter_shards(100..100).count(), 0);
    assert_eq!(table.iter_shards(SHARDS..).count(), 0);
    assert_eq!(table.iter_shards(1_000..2_000).count(), 0);
    assert_eq!(table.iter_shards(0..=u32::MAX).count(), 30_000);
    assert_eq!(table.iter_shards(..100).count() + table.iter_shards(100..).count(), 30_000);
    let few = TableOptions::new().anonymous("few").unwrap();
    few.put("only", "one").unwrap();
    assert_eq!((0..SHARDS).map(|shard| few.iter_shards(shard..=shard).count()).sum::<usize>(), 1);
}

#[test]
fn a_walk_goes_on_from_a_stored_position_with_another_handle() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let table = Table::create(&path).unwrap();
    for i in 0..5_000 {
        table.put(key(i), "value").unwrap();
    }
    let (mut entry_key, mut value) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    let mut position = Position::START.to_u64();
    loop {
        let other = TableOptions::new().read_only(seen.len() % 2 == 0).open(&path).unwrap();
        let mut cursor = other.cursor_at(Position::from_u64(position));
        let mut steps = 0;
        while steps < 333 && cursor.next_into(&mut entry_key, &mut value).unwrap().is_some() {
            assert!(seen.insert(entry_key.clone()));
            steps += 1;
        }
        position = cursor.position().to_u64();
        if steps < 333 {
            assert!(entry_key.is_empty() && value.is_empty());
            assert_eq!(cursor.next_into(&mut entry_key, &mut value).unwrap(), None, "the end stays the end");
            break;
        }
    }
    assert_eq!(seen.len(), 5_000);
}

#[test]
fn positions_that_nobody_gave_end_or_go_on_but_never_fail() {
    let table = table();
    for i in 0..2_000 {
        table.put(key(i), "value").unwrap();
    }
    let mut random = common::Random::new(common::seed("forged positions"));
    let (mut entry_key, mut value) = (Vec::new(), Vec::new());
    for i in 0..2_000u64 {
        let number = if i < 64 { u64::MAX << i } else { random.next() >> (i % 40) };
        let mut cursor = table.cursor_at(Position::from_u64(number));
        let mut steps = 0;
        while steps < 3_000 && matches!(cursor.next_into(&mut entry_key, &mut value), Ok(Some(_))) {
            assert_eq!(value, b"value");
            steps += 1;
        }
        assert!(steps <= 2_000, "position {number:#x} gave more entries than there are");
    }
}

#[test]
fn clear_removes_all_and_the_memory_is_used_again() {
    let table = table();
    let mut first = 0;
    for round in 0..20 {
        for i in 0..20_000 {
            table.put(key(i), common::stamped(i.into(), 100)).unwrap();
        }
        table.put("large", vec![1; 1 << 20]).unwrap();
        let bytes = table.stats().unwrap().file_bytes;
        if round == 0 {
            first = bytes;
        }
        assert!(bytes <= first * 2 + (4 << 20), "round {round}: {bytes} bytes after {first}");
        table.clear().unwrap();
        assert_eq!(table.len().unwrap(), 0);
        assert_eq!(table.iter().count(), 0);
        assert_eq!(table.get(key(1)).unwrap(), None);
        common::assert_consistent(&table);
    }
}

#[test]
fn replacing_values_for_long_keeps_the_file_small() {
    for (len, rounds) in [(8, 400_000u32), (100, 300_000), (3_300, 60_000), (9_000, 20_000), (200_000, 1_500)]
    {
        let table = table();
        let mut bytes = vec![0; len];
        for i in 0..rounds {
            bytes[..4].copy_from_slice(&key(i));
            table.put(key(i % 20), &bytes).unwrap();
        }
        let stats = table.stats().unwrap();
        let live = 20 * (len as u64 + 64);
        assert!(stats.file_bytes <= 8 * live + (8 << 20), "{len} bytes: {stats:?}");
        common::assert_consistent(&table);
    }
}

#[test]
fn stats_and_report_count_what_is_there() {
    let table = table();
    for i in 0..10_000 {
        table.put(key(i), [1; 50]).unwrap();
    }
    table.put("large", vec![1; 50_000]).unwrap();
    let stats = table.stats().unwrap();
    assert_eq!(stats.keys, 10_001);
    assert_eq!(stats.handles, 1);
    assert_eq!(stats.large_values, 1);
    assert!(stats.large_bytes >= 50_000 && stats.large_bytes < 100_000, "{stats:?}");
    assert!(stats.record_bytes >= 10_000 * 54, "{stats:?}");
    assert!(stats.index_bytes > 0 && stats.segments > 0 && stats.load_percent <= 100, "{stats:?}");
    assert!(stats.file_bytes <= stats.max_bytes, "{stats:?}");
    assert_eq!(stats.recoveries, 0);
    let report = table.check().unwrap();
    assert!(report.is_consistent(), "{report:?}");
    assert_eq!((report.keys, report.problems, report.leaked_pages), (10_001, 0, 0));
    assert_eq!(report.first, None);
    assert!(!report.structure_only);
}

#[test]
fn threads_that_share_a_handle_lose_no_addition() {
    let table = table();
    thread::scope(|scope| {
        for _ in 0..8 {
            let table = table.clone();
            scope.spawn(move || {
                for i in 0..20_000 {
                    table.fetch_add("one", 1).unwrap();
                    if i % 100 == 0 {
                        let step = |old: Option<&[u8]>| Some(vec![b'x'; old.map_or(0, <[u8]>::len) + 1]);
                        table.update("updates", step).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(table.fetch_add("one", 0).unwrap(), 160_000);
    assert_eq!(table.get("updates").unwrap().unwrap().len(), 1_600);
}

#[test]
fn a_reader_never_sees_half_of_a_value() {
    const SIZES: [usize; 7] = [8, 24, 100, 600, 5_000, 9_000, 100_000];
    let table = table();
    let value = |stamp: u64, size: usize| [&stamp.to_le_bytes()[..], &common::stamped(stamp, size)].concat();
    for (i, &size) in SIZES.iter().enumerate() {
        table.put(key(u32::try_from(i).unwrap()), value(0, size)).unwrap();
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = common::Random::new(5);
            let mut stamp = 0;
            while !stop.load(Ordering::Relaxed) {
                stamp += 1;
                let at = random.index(SIZES.len());
                let size = if random.below(4) == 0 { random.index(20_000) } else { SIZES[at] };
                table.put(key(u32::try_from(at).unwrap()), value(stamp, size)).unwrap();
            }
        });
        let mut buffer = Vec::new();
        for i in 0..40_000u32 {
            assert!(table.get_into(key(i % 7), &mut buffer).unwrap());
            let (stamp, rest) = buffer.split_at(8);
            let stamp = u64::from_le_bytes(stamp.try_into().unwrap());
            assert!(rest == common::stamped(stamp, rest.len()), "a torn value of {} bytes", rest.len());
        }
        stop.store(true, Ordering::Relaxed);
    });
}
