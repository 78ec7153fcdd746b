//! Many keys in one call: the same answers as one by one, in any number, and nothing lost when it ends early.
//!
//! `SHF_BATCH_KEYS` (300,000): keys of the largest batch; 10,000,000 need about 3 GB.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use proptest::{collection::vec, prelude::*, test_runner::Config};
use shf::{AnyUid, CheckedUid, Error, HashKind, Table, TableOptions, Uid, Values};

mod common;

/// Around the number of keys that the engine and the crate take at once.
const SIZES: [usize; 14] = [0, 1, 2, 15, 16, 17, 31, 32, 33, 64, 127, 128, 129, 1_000];

/// A kind of table, and what belongs into it.
struct Kind {
    name: &'static str,
    options: TableOptions,
    /// `None`: variable.
    lengths: Option<(usize, usize)>,
}

impl Kind {
    fn table(&self) -> Table {
        self.options.anonymous(self.name).unwrap()
    }

    /// The same number gives the same key, other numbers other ones.
    fn key(&self, i: u64) -> Vec<u8> {
        let (len, _) = self.lengths.unwrap_or((8 + usize::try_from(i % 23).unwrap(), 0));
        let mut key = i.to_le_bytes().to_vec();
        assert!(len >= 4);
        key.resize(len, 7);
        key
    }

    fn value(&self, i: u64) -> Vec<u8> {
        let len = match self.lengths {
            Some((_, len)) => len,
            None if i % 997 == 5 => 9_000,
            None => usize::try_from(i % 41).unwrap(),
        };
        common::stamped(i, len)
    }
}

fn kinds() -> [Kind; 6] {
    let new = TableOptions::new;
    let fixed = |name, key: u32, value: u32| Kind {
        name,
        options: new().fixed(key, value),
        lengths: Some((key as usize, value as usize)),
    };
    [
        Kind { name: "variable", options: new(), lengths: None },
        Kind { name: "SipHash", options: new().hash(HashKind::SipHash13), lengths: None },
        fixed("fixed 4, 4", 4, 4),
        fixed("fixed 8, 8", 8, 8),
        fixed("fixed 9, 37", 9, 37),
        fixed("fixed 5, 0", 5, 0),
    ]
}

fn owned(values: &Values) -> Vec<Option<Vec<u8>>> {
    values.iter().map(|value| value.map(<[u8]>::to_vec)).collect()
}

#[test]
fn batches_of_every_size_do_what_single_calls_do() {
    for kind in kinds() {
        let mut values = Values::new();
        for size in SIZES {
            let (batched, single) = (kind.table(), kind.table());
            let count = size as u64;
            let pairs: Vec<_> = (0..count).map(|i| (kind.key(i), kind.value(i))).collect();
            assert_eq!(batched.put_many(&pairs).unwrap(), size, "{}", kind.name);
            for (key, value) in &pairs {
                single.put(key, value).unwrap();
            }
            assert_eq!(batched.len().unwrap(), count);
            common::assert_consistent(&batched);

            // Every second of these keys is absent.
            let keys: Vec<_> = (0..count).map(|i| kind.key(i / 2 + i % 2 * 1_000_000)).collect();
            let expected: Vec<_> = keys.iter().map(|key| single.get(key).unwrap()).collect();
            batched.get_many_into(&keys, &mut values).unwrap();
            assert_eq!(owned(&values), expected, "{} of {}", size, kind.name);
            assert_eq!((values.len(), values.is_empty()), (size, size == 0));
            assert_eq!(batched.get_many(&keys).unwrap(), values);

            let uids: Vec<Uid> = keys.iter().filter_map(|key| batched.uid(key).unwrap()).collect();
            let checked: Vec<CheckedUid> =
                keys.iter().filter_map(|key| batched.checked_uid(key).unwrap()).collect();
            let present: Vec<_> = expected.iter().flatten().cloned().map(Some).collect();
            batched.get_many_by_uid_into(&uids, &mut values).unwrap();
            assert_eq!(owned(&values), present, "{} of {}", size, kind.name);
            batched.get_many_by_uid_into(&checked, &mut values).unwrap();
            assert_eq!(owned(&values), present, "{} of {}", size, kind.name);

            assert_eq!(batched.remove_many(&keys).unwrap(), present.len());
            for key in &keys {
                single.remove(key).unwrap();
            }
            let left =
                owned(&batched.get_many(&pairs.iter().map(|(key, _)| key).collect::<Vec<_>>()).unwrap());
            let expected: Vec<_> = pairs.iter().map(|(key, _)| single.get(key).unwrap()).collect();
            assert_eq!(left, expected, "{} of {}", size, kind.name);
            assert_eq!(batched.len().unwrap(), single.len().unwrap());
            common::assert_consistent(&batched);
        }
    }
}

#[test]
fn one_batch_may_be_as_long_as_the_table() {
    let count = common::setting("SHF_BATCH_KEYS", 300_000);
    for kind in [&kinds()[0], &kinds()[2]] {
        let table = kind.table();
        let pairs: Vec<_> = (0..count).map(|i| (kind.key(i), kind.value(i))).collect();
        assert_eq!(table.put_many(&pairs).unwrap() as u64, count);
        assert_eq!(table.len().unwrap(), count);
        let keys: Vec<_> = pairs.iter().map(|(key, _)| key).collect();
        let values = table.get_many(&keys).unwrap();
        for (i, value) in values.iter().enumerate() {
            assert!(value == Some(&pairs[i].1), "key {i} of {}", kind.name);
        }
        let uids: Vec<_> = keys.iter().map(|key| table.uid(key).unwrap().unwrap()).collect();
        assert!(table.get_many_by_uid(&uids).unwrap() == values);
        assert_eq!(table.remove_many(&keys[1..]).unwrap() as u64, count - 1);
        assert_eq!(table.iter().count(), 1);
        common::assert_consistent(&table);
    }
}

#[test]
fn a_key_that_comes_twice_is_treated_twice() {
    for kind in kinds() {
        let table = kind.table();
        // Far more than one: each later value wins, at every distance within and between the parts of a batch.
        let pairs: Vec<_> = (0..2_000u64).map(|i| (kind.key(i * i % 53), kind.value(i))).collect();
        assert_eq!(table.put_many(&pairs).unwrap(), pairs.len());
        let last: HashMap<_, _> = pairs.iter().cloned().collect();
        let keys: Vec<_> = pairs.iter().map(|(key, _)| key).collect();
        let values = table.get_many(&keys).unwrap();
        for (key, value) in keys.iter().zip(&values) {
            assert_eq!(value, Some(&last[*key][..]), "{}", kind.name);
        }
        assert_eq!(table.len().unwrap(), last.len() as u64);
        common::assert_consistent(&table);
        assert_eq!(
            table.remove_many(&keys).unwrap(),
            last.len(),
            "{}: only the first removal finds it",
            kind.name
        );
        assert!(table.is_empty().unwrap());

        let same = vec![(kind.key(1), kind.value(1)); 100];
        assert_eq!(table.put_many(&same).unwrap(), 100);
        assert_eq!(table.len().unwrap(), 1);
        let keys = vec![kind.key(1); 100];
        assert_eq!(table.get_many(&keys).unwrap().iter().flatten().count(), 100);
        assert_eq!(table.remove_many(&keys).unwrap(), 1);
    }
}

#[test]
fn empty_and_huge_values_come_back_whole() {
    let table = TableOptions::new().anonymous("sizes").unwrap();
    let lengths = [0, 1, 8, 3_000_000, 0, 8_192, 8, 1 << 20, 100, 0, 65_536, 511];
    let pairs: Vec<_> = lengths
        .iter()
        .enumerate()
        .map(|(i, &len)| (common::stamped(i as u64, i * 900), common::stamped(len as u64, len)))
        .collect();
    assert_eq!(pairs[0].0, b"", "one key is empty");
    assert_eq!(table.put_many(&pairs).unwrap(), pairs.len());
    let keys: Vec<_> = pairs.iter().map(|(key, _)| key.as_slice()).collect();
    let mut values = Values::new();
    for _ in 0..3 {
        table.get_many_into(&keys, &mut values).unwrap();
        for (value, (_, expected)) in values.iter().zip(&pairs) {
            assert!(value == Some(expected), "a value of {} bytes", expected.len());
        }
    }
    assert_eq!(values.get(keys.len()), None);
    assert_eq!(table.remove_many(&keys).unwrap(), keys.len());
    table.get_many_into(&keys, &mut values).unwrap();
    assert!(values.iter().all(|value| value.is_none()) && values.len() == keys.len());
}

#[test]
fn buffers_that_have_grown_are_used_again() {
    let table = TableOptions::new().anonymous("buffers").unwrap();
    let keys: Vec<_> = (0..500u32).map(u32::to_le_bytes).collect();
    for key in &keys {
        table.put(key, [key[0]; 300]).unwrap();
    }
    let mut values = Values::new();
    table.get_many_into(&keys, &mut values).unwrap();
    let place = values.get(0).unwrap().as_ptr();
    for _ in 0..10 {
        table.get_many_into(&keys, &mut values).unwrap();
        assert_eq!(values.get(0).unwrap().as_ptr(), place, "the buffer moved");
        table.get_many_into(&keys[..7], &mut values).unwrap();
        assert_eq!(values.get(0).unwrap().as_ptr(), place, "the buffer moved");
        assert_eq!((values.len(), values.get(7)), (7, None), "what was there before shows through");
    }
}

#[test]
fn plain_and_checked_uids_may_be_mixed() {
    for kind in kinds() {
        let table = kind.table();
        let mut expected = Vec::new();
        let mut uids: Vec<AnyUid> = Vec::new();
        for i in 0..1_000 {
            let plain = table.put(kind.key(i), kind.value(i)).unwrap();
            let checked = table.checked_uid(kind.key(i)).unwrap().unwrap();
            // Runs of 1 to 300 of one kind.
            uids.push(if i % 600 < 300 || i % 2 == 0 { plain.into() } else { checked.into() });
            let gone = i % 10 == 3;
            if gone {
                table.remove(kind.key(i)).unwrap();
            }
            expected.push((!gone).then(|| kind.value(i)));
        }
        // A slot whose key was removed may be another key's by now: only a checked UID can tell.
        for (i, uid) in uids.iter_mut().enumerate().filter(|(i, _)| i % 10 == 3) {
            if let AnyUid::Plain(plain) = *uid {
                expected[i] = table.get_by_uid(plain).unwrap();
            }
        }
        let values = table.get_many_by_uid(&uids).unwrap();
        assert_eq!(owned(&values), expected, "{}", kind.name);
        let nobody = [Uid::from_u32(1).unwrap(), Uid::from_u32(u32::MAX).unwrap()];
        assert_eq!(owned(&kind.table().get_many_by_uid(&nobody).unwrap()), [None, None]);
        assert!(table.get_many_by_uid::<Uid>(&[]).unwrap().is_empty());
    }
}

#[test]
fn a_wrong_length_ends_a_batch_where_it_stands() {
    for (key_len, value_len) in [(4, 4), (10, 30)] {
        let options = TableOptions::new().fixed(key_len, value_len);
        let (key_len, value_len) = (key_len as usize, value_len as usize);
        for wrong in [0, 1, 31, 32, 33, 127, 128, 200] {
            let table = options.anonymous("fixed").unwrap();
            let mut pairs: Vec<_> =
                (0..300u64).map(|i| (common::stamped(i, key_len), common::stamped(i, value_len))).collect();
            pairs[wrong].1.push(0);
            let put = table.put_many(&pairs);
            match (wrong, put) {
                (0, Err(Error::WrongLength(_))) => {}
                (_, Ok(put)) => assert_eq!(put, wrong),
                (_, result) => panic!("{result:?}"),
            }
            assert!(matches!(table.put_many(&pairs[wrong..]), Err(Error::WrongLength(_))));
            assert_eq!(table.len().unwrap(), wrong as u64);
            pairs[wrong].1.pop();
            assert_eq!(table.put_many(&pairs[wrong..]).unwrap(), 300 - wrong);

            let mut keys: Vec<_> = pairs.iter().map(|(key, _)| key.clone()).collect();
            keys[wrong].pop();
            let mut values = table.get_many(&keys[..wrong]).unwrap();
            assert_eq!(values.iter().flatten().count(), wrong);
            assert!(matches!(table.get_many_into(&keys, &mut values), Err(Error::WrongLength(_))));
            assert!(values.is_empty(), "after an error there are no values");
            assert!(matches!(table.remove_many(&keys), Err(Error::WrongLength(_))));
            assert_eq!(
                table.len().unwrap(),
                300 - wrong as u64,
                "those before it are removed, the others are not"
            );
            keys.remove(wrong);
            assert_eq!(table.remove_many(&keys).unwrap(), 299 - wrong);
            common::assert_consistent(&table);
        }
    }
}

#[test]
fn a_batch_that_finds_no_room_tells_how_far_it_came() {
    for kind in kinds() {
        let table = kind.options.clone().max_bytes(8 << 20).anonymous("small").unwrap();
        let pairs: Vec<_> = (0..1_000_000).map(|i| (kind.key(i), kind.value(i))).collect();
        let mut put = 0;
        let error = loop {
            match table.put_many(&pairs[put..]) {
                Ok(0) => panic!("no progress and no error"),
                Ok(more) => put += more,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::NoSpace(_) | Error::Full(_)), "{}: {error:?}", kind.name);
        assert!(put > 1_000 && put < pairs.len(), "{put} of {}", kind.name);
        let keys: Vec<_> = pairs.iter().map(|(key, _)| key).collect();
        let values = table.get_many(&keys).unwrap();
        for (i, value) in values.iter().enumerate() {
            let expected = (i < put).then_some(pairs[i].1.as_slice());
            assert!(value == expected, "{}: key {i}, {put} were put", kind.name);
        }
        assert_eq!(table.len().unwrap(), put as u64);
        common::assert_consistent(&table);
        assert_eq!(table.remove_many(&keys).unwrap(), put, "removing needs no room");
        assert!(table.put_many(&pairs[..500]).unwrap() == 500, "and makes some");
        common::assert_consistent(&table);
    }
}

#[test]
fn a_read_only_table_gives_many_values_and_takes_none() {
    let folder = common::folder();
    for (i, kind) in kinds().iter().enumerate() {
        let path = folder.path().join(i.to_string());
        let writable = kind.options.create(&path).unwrap();
        let pairs: Vec<_> = (0..100).map(|i| (kind.key(i), kind.value(i))).collect();
        assert_eq!(writable.put_many(&pairs).unwrap(), 100);
        let table = TableOptions::new().read_only(true).open(&path).unwrap();
        let keys: Vec<_> = pairs.iter().map(|(key, _)| key).collect();
        assert!(matches!(table.put_many(&pairs), Err(Error::ReadOnly(_))));
        assert!(matches!(table.remove_many(&keys), Err(Error::ReadOnly(_))));
        let values = table.get_many(&keys).unwrap();
        assert!(values.iter().zip(&pairs).all(|(value, (_, expected))| value == Some(expected)));
        assert_eq!(writable.len().unwrap(), 100);
        assert_eq!(table.put_many::<&str, &str>(&[]).unwrap(), 0);
    }
}

/// Two writers split and empty the table under two readers: a key that is there throughout is never absent, a value
/// is one that was put, whole.
#[test]
fn batches_beside_batches_never_miss_a_key_or_tear_a_value() {
    const STABLE: u64 = 2_000;
    for kind in kinds() {
        let table = kind.table();
        let stable: Vec<_> = (0..STABLE).map(|i| (kind.key(i), kind.value(i))).collect();
        assert_eq!(table.put_many(&stable).unwrap() as u64, STABLE);
        let allowed = |i: u64| [kind.value(i), kind.value(i + STABLE)];
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for reader in 0..2u64 {
                let (kind, table, stop, stable) = (&kind, &table, &stop, &stable);
                scope.spawn(move || {
                    let mut random = common::Random::new(reader);
                    let uids: Vec<_> =
                        stable.iter().map(|(key, _)| table.uid(key).unwrap().unwrap()).collect();
                    let mut values = Values::new();
                    while !stop.load(Ordering::Relaxed) {
                        let wanted: Vec<_> = (0..100).map(|_| random.below(STABLE)).collect();
                        let by_uid: Vec<_> =
                            wanted.iter().map(|&i| uids[usize::try_from(i).unwrap()]).collect();
                        let keys: Vec<_> = wanted.iter().map(|&i| kind.key(i)).collect();
                        table.get_many_into(&keys, &mut values).unwrap();
                        for (&i, value) in wanted.iter().zip(&values) {
                            let value = value.unwrap_or_else(|| panic!("{}: key {i} is absent", kind.name));
                            assert!(allowed(i).iter().any(|allowed| allowed == value), "{}: torn", kind.name);
                        }
                        table.get_many_by_uid_into(&by_uid, &mut values).unwrap();
                        for (&i, value) in wanted.iter().zip(&values) {
                            let value =
                                value.unwrap_or_else(|| panic!("{}: UID of {i} is absent", kind.name));
                            assert!(allowed(i).iter().any(|allowed| allowed == value), "{}: torn", kind.name);
                        }
                    }
                });
            }
            let writers: Vec<_> = (0..2u64)
                .map(|writer| {
                    let (kind, table) = (&kind, &table);
                    scope.spawn(move || {
                        for round in 0..6 {
                            let from = 10_000 + writer * 100_000;
                            let passing: Vec<_> =
                                (from..from + 20_000).map(|i| (kind.key(i), kind.value(i))).collect();
                            assert_eq!(table.put_many(&passing).unwrap(), passing.len());
                            let other: Vec<_> = (0..STABLE)
                                .map(|i| (kind.key(i), kind.value(i + (round + writer) % 2 * STABLE)))
                                .collect();
                            assert_eq!(table.put_many(&other).unwrap() as u64, STABLE);
                            let keys: Vec<_> = passing.iter().map(|(key, _)| key).collect();
                            assert_eq!(table.remove_many(&keys).unwrap(), keys.len());
                        }
                    })
                })
                .collect();
            let results: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            stop.store(true, Ordering::Relaxed);
            for result in results {
                result.unwrap();
            }
        });
        assert_eq!(table.len().unwrap(), STABLE);
        common::assert_consistent(&table);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<(u64, u64)>),
    Get(Vec<u64>),
    Remove(Vec<u64>),
    ByUid(Vec<(u64, bool)>),
}

fn operation() -> impl Strategy<Value = Op> {
    let key = || 0..120u64;
    prop_oneof![
        4 => vec((key(), any::<u64>()), 0..200).prop_map(Op::Put),
        3 => vec(key(), 0..200).prop_map(Op::Get),
        2 => vec(key(), 0..60).prop_map(Op::Remove),
        2 => vec((key(), any::<bool>()), 0..100).prop_map(Op::ByUid),
    ]
}

fn same_as_single_calls(kind: &Kind, operations: &[Op]) {
    let (batched, single) = (kind.table(), kind.table());
    for op in operations {
        match op {
            Op::Put(pairs) => {
                let pairs: Vec<_> = pairs.iter().map(|&(k, v)| (kind.key(k), kind.value(v))).collect();
                assert_eq!(batched.put_many(&pairs).unwrap(), pairs.len());
                for (key, value) in pairs {
                    single.put(key, value).unwrap();
                }
            }
            Op::Get(keys) => {
                let keys: Vec<_> = keys.iter().map(|&k| kind.key(k)).collect();
                let expected: Vec<_> = keys.iter().map(|key| single.get(key).unwrap()).collect();
                assert_eq!(owned(&batched.get_many(&keys).unwrap()), expected);
            }
            Op::Remove(keys) => {
                let keys: Vec<_> = keys.iter().map(|&k| kind.key(k)).collect();
                let there = keys.iter().filter(|key| single.remove(key).unwrap()).count();
                assert_eq!(batched.remove_many(&keys).unwrap(), there);
            }
            Op::ByUid(keys) => {
                let (mut uids, mut expected) = (Vec::<AnyUid>::new(), Vec::new());
                for &(k, checked) in keys {
                    let key = kind.key(k);
                    let (plain, with_check) =
                        (batched.uid(&key).unwrap(), batched.checked_uid(&key).unwrap());
                    let Some((plain, with_check)) = plain.zip(with_check) else { continue };
                    uids.push(if checked { with_check.into() } else { plain.into() });
                    expected.push(single.get(key).unwrap());
                }
                assert_eq!(owned(&batched.get_many_by_uid(&uids).unwrap()), expected);
            }
        }
    }
    assert_eq!(batched.len().unwrap(), single.len().unwrap());
    let entries = |table: &Table| -> HashSet<_> {
        table.iter().map(Result::unwrap).map(|entry| (entry.key, entry.value)).collect()
    };
    assert_eq!(entries(&batched), entries(&single));
    common::assert_consistent(&batched);
}

proptest! {
    #![proptest_config(Config {
        cases: u32::try_from(common::setting("SHF_MODEL_CASES", 64)).unwrap(),
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn any_batches_leave_what_single_calls_leave(kind in 0..6usize, operations in vec(operation(), 1..30)) {
        same_as_single_calls(&kinds()[kind], &operations);
    }
}
