//! Any sequence of operations gives what a `HashMap` gives: by key, by UID, in batches, walking, through several
//! handles, after reopening, in files and in memory, with either hash, with variable and fixed lengths.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use proptest::{collection::vec, prelude::*, sample::select, test_runner::Config};
use shf::{AnyUid, CheckedUid, Error, Exchange, HashKind, Inserted, Table, TableOptions, Uid, Values};
use tempfile::TempDir;

mod common;

const HANDLES: usize = 3;
const KEYS: usize = 28;

/// What is fixed at a table's creation.
#[derive(Clone, Copy, Debug)]
struct Kind {
    anonymous: bool,
    hash: HashKind,
    /// `None`: variable.
    lengths: Option<(usize, usize)>,
}

/// Cells of one word and wider, up to the longest; values of 8 bytes, which are counters; sets.
const FIXED: [(usize, usize); 13] = [
    (4, 4),
    (2, 0),
    (2, 6),
    (8, 0),
    (3, 5),
    (4, 8),
    (8, 8),
    (9, 1),
    (16, 16),
    (7, 33),
    (20, 100),
    (2, 118),
    (120, 0),
];

impl Kind {
    fn options(self) -> TableOptions {
        let options = TableOptions::new().hash(self.hash);
        match self.lengths {
            None => options,
            Some((key, value)) => options.fixed(key.try_into().unwrap(), value.try_into().unwrap()),
        }
    }

    /// Empty, short, word-sized ones, around each border of the record format, and up to 9 KiB.
    fn key(self, index: usize) -> Vec<u8> {
        const LENGTHS: [usize; KEYS] = [
            0, 1, 1, 2, 3, 4, 4, 5, 7, 8, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 64, 100, 255, 256, 1000,
            4096, 8191, 9216,
        ];
        match self.lengths {
            None => common::stamped(1_000 + index as u64, LENGTHS[index]),
            Some((len, _)) => {
                let mut key = common::stamped(1_000 + index as u64, len);
                key[0] = u8::try_from(index).unwrap(); // short keys differ, too
                key
            }
        }
    }

    fn value(self, value: Value) -> Vec<u8> {
        let len = self.lengths.map_or(value.len, |(_, len)| len);
        common::stamped(value.seed.into(), len)
    }

    /// Whether the table takes this value.
    fn takes(self, value: &[u8]) -> bool {
        self.lengths.is_none_or(|(_, len)| len == value.len())
    }
}

/// A value: its length decides how the engine stores it, the seed what it says. With fixed lengths the seed alone counts.
#[derive(Clone, Copy, Debug)]
struct Value {
    len: usize,
    seed: u8,
}

#[derive(Clone, Debug)]
enum Op {
    Put(usize, Value),
    Insert(usize, Value),
    Replace(usize, Value),
    Get(usize),
    GetInto(usize),
    Contains(usize),
    Remove(usize),
    Take(usize),
    /// Right or wrong value.
    RemoveIfEqual(usize, bool, Value),
    FetchAdd(usize, i64),
    /// Expected: the present value (or absence), or another value, or absence.
    CompareExchange(usize, Expected, Option<Value>),
    Update(usize, Option<Value>),
    Append(usize, Value),
    ByUid(usize, ByUid),
    StaleChecked(usize),
    PutMany(Vec<(usize, Value)>),
    GetMany(Vec<usize>),
    RemoveMany(Vec<usize>),
    /// Each by its plain or its checked UID.
    ManyByUid(Vec<(usize, bool)>),
    /// A key or a value that is longer than fixed ones.
    WrongLength(usize, Value),
    Walk,
    WalkInParts(u32),
    Len,
    Check,
    Clear,
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Expected {
    Present,
    Other(Value),
    Absent,
}

#[derive(Clone, Copy, Debug)]
enum ByUid {
    Get,
    Key,
    Put(Value),
    Remove,
    CheckedGet,
    CheckedKey,
    CheckedPut(Value),
    CheckedRemove,
}

fn value() -> impl Strategy<Value = Value> {
    let len = prop_oneof![
        2 => Just(0usize),
        6 => 1usize..=40,
        6 => Just(8usize),
        4 => 41usize..=600,
        2 => 600usize..=5_000,
        2 => 8_150usize..=8_210, // the border of a record of its own, for short keys
        1 => 16_370usize..=16_400,
        1 => 8_210usize..=40_960,
    ];
    (len, any::<u8>()).prop_map(|(len, seed)| Value { len, seed })
}

fn operation() -> impl Strategy<Value = Op> {
    let k = || 0..KEYS;
    let by_uid = prop_oneof![
        Just(ByUid::Get),
        Just(ByUid::Key),
        value().prop_map(ByUid::Put),
        Just(ByUid::Remove),
        Just(ByUid::CheckedGet),
        Just(ByUid::CheckedKey),
        value().prop_map(ByUid::CheckedPut),
        Just(ByUid::CheckedRemove),
    ];
    let expected = prop_oneof![
        3 => Just(Expected::Present),
        1 => value().prop_map(Expected::Other),
        1 => Just(Expected::Absent),
    ];
    prop_oneof![
        12 => (k(), value()).prop_map(|(k, v)| Op::Put(k, v)),
        5 => (k(), value()).prop_map(|(k, v)| Op::Insert(k, v)),
        5 => (k(), value()).prop_map(|(k, v)| Op::Replace(k, v)),
        4 => k().prop_map(Op::Get),
        4 => k().prop_map(Op::GetInto),
        2 => k().prop_map(Op::Contains),
        4 => k().prop_map(Op::Remove),
        3 => k().prop_map(Op::Take),
        3 => (k(), any::<bool>(), value()).prop_map(|(k, right, v)| Op::RemoveIfEqual(k, right, v)),
        4 => (k(), any::<i64>()).prop_map(|(k, delta)| Op::FetchAdd(k, delta)),
        6 => (k(), expected, proptest::option::of(value())).prop_map(|(k, e, n)| Op::CompareExchange(k, e, n)),
        4 => (k(), proptest::option::of(value())).prop_map(|(k, n)| Op::Update(k, n)),
        3 => (k(), value()).prop_map(|(k, v)| Op::Append(k, v)),
        12 => (k(), by_uid).prop_map(|(k, op)| Op::ByUid(k, op)),
        3 => k().prop_map(Op::StaleChecked),
        4 => vec((k(), value()), 0..40).prop_map(Op::PutMany),
        4 => vec(k(), 0..80).prop_map(Op::GetMany),
        2 => vec(k(), 0..12).prop_map(Op::RemoveMany),
        3 => vec((k(), any::<bool>()), 0..50).prop_map(Op::ManyByUid),
        2 => (k(), value()).prop_map(|(k, v)| Op::WrongLength(k, v)),
        2 => Just(Op::Walk),
        1 => (1u32..256).prop_map(Op::WalkInParts),
        1 => Just(Op::Len),
        1 => Just(Op::Check),
        1 => Just(Op::Clear),
        1 => Just(Op::Reopen),
    ]
}

/// The tables under test, and what they should hold.
struct Subject {
    kind: Kind,
    /// `None`: anonymous.
    path: Option<PathBuf>,
    handles: Vec<Table>,
    model: HashMap<Vec<u8>, Vec<u8>>,
    uids: HashMap<Vec<u8>, (Uid, CheckedUid)>,
    /// Checked UIDs of removed keys.
    stale: Vec<(Vec<u8>, CheckedUid)>,
    _folder: TempDir,
}

impl Subject {
    fn new(kind: Kind) -> Subject {
        let folder = common::folder();
        let path = (!kind.anonymous).then(|| folder.path().join("model.shf"));
        let first = match &path {
            Some(path) => kind.options().create(path).unwrap(),
            None => kind.options().anonymous("model").unwrap(),
        };
        let mut subject = Subject {
            kind,
            path,
            handles: vec![first],
            model: HashMap::new(),
            uids: HashMap::new(),
            stale: Vec::new(),
            _folder: folder,
        };
        while subject.handles.len() < HANDLES {
            subject.attach();
        }
        subject
    }

    fn attach(&mut self) {
        use std::os::fd::AsFd;
        let table = match &self.path {
            Some(path) => Table::open(path).unwrap(),
            None => Table::from_fd(self.handles[0].as_fd().try_clone_to_owned().unwrap()).unwrap(),
        };
        self.handles.push(table);
    }

    /// A file survives without users; an anonymous table needs one.
    fn reopen(&mut self) {
        if self.path.is_some() {
            self.handles.clear();
        } else {
            self.handles.truncate(1);
        }
        while self.handles.len() < HANDLES {
            self.attach();
        }
    }

    /// The key is there with this value, and this UID if it is given: the UID must not have changed.
    fn stored(&mut self, table: &Table, key: &[u8], value: Vec<u8>, uid: Option<Uid>) {
        self.model.insert(key.to_vec(), value);
        let now = table.uid(key).unwrap().expect("a stored key has a UID");
        let checked = table.checked_uid(key).unwrap().expect("a stored key has a checked UID");
        assert_eq!(checked.uid(), now);
        if let Some(uid) = uid {
            assert_eq!(uid, now);
        }
        if let Some(&before) = self.uids.get(key) {
            assert_eq!(before, (now, checked), "the UID of a living key changed");
        }
        self.uids.insert(key.to_vec(), (now, checked));
    }

    fn removed(&mut self, key: &[u8]) {
        self.model.remove(key);
        if let Some((_, checked)) = self.uids.remove(key) {
            self.stale.push((key.to_vec(), checked));
        }
    }

    fn apply(&mut self, op: &Op, table: &Table) {
        let kind = self.kind;
        let (key, bytes) = (|k: usize| kind.key(k), |v: Value| kind.value(v));
        match *op {
            Op::Put(k, v) => {
                let uid = table.put(key(k), bytes(v)).unwrap();
                self.stored(table, &key(k), bytes(v), Some(uid));
            }
            Op::Insert(k, v) => match table.insert(key(k), bytes(v)).unwrap() {
                Inserted::New(uid) => {
                    assert!(!self.model.contains_key(&key(k)));
                    self.stored(table, &key(k), bytes(v), Some(uid));
                }
                Inserted::Existing(uid) => {
                    assert!(self.model.contains_key(&key(k)));
                    assert_eq!(uid, self.uids[&key(k)].0);
                }
            },
            Op::Replace(k, v) => {
                let old = table.replace(key(k), bytes(v)).unwrap();
                assert_eq!(old.as_ref(), self.model.get(&key(k)));
                if old.is_some() {
                    self.stored(table, &key(k), bytes(v), None);
                }
            }
            Op::Get(k) => assert_eq!(table.get(key(k)).unwrap().as_ref(), self.model.get(&key(k))),
            Op::GetInto(k) => {
                let mut buffer = b"leftovers".to_vec();
                let found = table.get_into(key(k), &mut buffer).unwrap();
                assert_eq!(found.then_some(&buffer), self.model.get(&key(k)));
                assert!(found || buffer.is_empty());
            }
            Op::Contains(k) => assert_eq!(table.contains(key(k)).unwrap(), self.model.contains_key(&key(k))),
            Op::Remove(k) => {
                assert_eq!(table.remove(key(k)).unwrap(), self.model.contains_key(&key(k)));
                self.removed(&key(k));
            }
            Op::Take(k) => {
                assert_eq!(table.take(key(k)).unwrap().as_ref(), self.model.get(&key(k)));
                self.removed(&key(k));
            }
            Op::RemoveIfEqual(k, right, other) => {
                let present = self.model.get(&key(k)).cloned();
                let value = if right { present.clone().unwrap_or_default() } else { bytes(other) };
                let equal = present.as_ref() == Some(&value);
                assert_eq!(table.remove_if_equal(key(k), &value).unwrap(), equal);
                if equal {
                    self.removed(&key(k));
                }
            }
            Op::FetchAdd(k, delta) => self.fetch_add(table, &key(k), delta),
            Op::CompareExchange(k, expected, new) => {
                self.compare_exchange(table, &key(k), expected, new.map(bytes));
            }
            Op::Update(k, new) => {
                let present = self.model.get(&key(k)).cloned();
                let new = new.map(bytes);
                let uid = table
                    .update(key(k), |old| {
                        assert_eq!(old, present.as_deref());
                        new.clone()
                    })
                    .unwrap();
                assert_eq!(uid.is_some(), new.is_some());
                self.exchanged(table, &key(k), new);
            }
            Op::Append(k, v) => {
                let longer = |old: Option<&[u8]>| Some([old.unwrap_or_default(), &bytes(v)].concat());
                let new = longer(self.model.get(&key(k)).map(Vec::as_slice)).unwrap();
                if !kind.takes(&new) {
                    assert!(matches!(table.update(key(k), longer), Err(Error::WrongLength(_))));
                    assert_eq!(table.get(key(k)).unwrap().as_ref(), self.model.get(&key(k)));
                } else if new.len() <= 100_000 {
                    let uid = table.update(key(k), longer).unwrap();
                    self.stored(table, &key(k), new, uid);
                }
            }
            Op::ByUid(k, op) => self.by_uid(table, &key(k), op),
            Op::StaleChecked(k) => {
                if let Some((key, uid)) = self.stale.get(k).cloned() {
                    // The key itself may be back, in the same slot; never another key.
                    let found = table.key_by_uid(uid).unwrap();
                    assert!(found.is_none() || found.as_ref() == Some(&key));
                    assert!(found.is_none() || self.model.contains_key(&key));
                    let value = table.get_by_uid(uid).unwrap();
                    assert!(value.is_none() || value.as_ref() == self.model.get(&key));
                }
            }
            Op::PutMany(ref pairs) => {
                let pairs: Vec<_> = pairs.iter().map(|&(k, v)| (key(k), bytes(v))).collect();
                assert_eq!(table.put_many(&pairs).unwrap(), pairs.len());
                for (key, value) in pairs.clone() {
                    self.model.insert(key, value);
                }
                for (key, _) in pairs {
                    let value = self.model[&key].clone();
                    self.stored(table, &key, value, None);
                }
            }
            Op::GetMany(ref keys) => {
                let keys: Vec<_> = keys.iter().map(|&k| key(k)).collect();
                let values = table.get_many(&keys).unwrap();
                let expected: Vec<_> =
                    keys.iter().map(|key| self.model.get(key).map(Vec::as_slice)).collect();
                assert_eq!(values.iter().collect::<Vec<_>>(), expected);
            }
            Op::RemoveMany(ref keys) => {
                let keys: Vec<_> = keys.iter().map(|&k| key(k)).collect();
                let there: HashSet<_> = keys.iter().filter(|key| self.model.contains_key(*key)).collect();
                assert_eq!(table.remove_many(&keys).unwrap(), there.len());
                for key in keys {
                    self.removed(&key);
                }
            }
            Op::ManyByUid(ref keys) => {
                let (mut uids, mut expected) = (Vec::<AnyUid>::new(), Vec::new());
                for &(k, with_check) in keys {
                    let Some(&(plain, checked)) = self.uids.get(&key(k)) else { continue };
                    uids.push(if with_check { checked.into() } else { plain.into() });
                    expected.push(self.model.get(&key(k)).map(Vec::as_slice));
                }
                let mut values = Values::new();
                table.get_many_by_uid_into(&uids, &mut values).unwrap();
                assert_eq!(values.iter().collect::<Vec<_>>(), expected);
            }
            Op::WrongLength(k, v) => self.wrong_length(table, k, v),
            Op::Walk => {
                let entries: Vec<_> = table.iter().map(Result::unwrap).collect();
                self.compare_walk(entries);
            }
            Op::WalkInParts(middle) => {
                let parts = table.iter_shards(..middle).chain(table.iter_shards(middle..));
                let entries: Vec<_> = parts.map(Result::unwrap).collect();
                self.compare_walk(entries);
            }
            Op::Len => {
                assert_eq!(table.len().unwrap(), self.model.len() as u64);
                assert_eq!(table.is_empty().unwrap(), self.model.is_empty());
                assert_eq!(table.stats().unwrap().keys, self.model.len() as u64);
            }
            Op::Check => common::assert_consistent(table),
            Op::Clear => {
                table.clear().unwrap();
                for key in self.model.keys().cloned().collect::<Vec<_>>() {
                    self.removed(&key);
                }
                assert_eq!(table.len().unwrap(), 0);
            }
            Op::Reopen => self.reopen(),
        }
    }

    fn exchanged(&mut self, table: &Table, key: &[u8], new: Option<Vec<u8>>) {
        match new {
            Some(value) => self.stored(table, key, value, None),
            None => self.removed(key),
        }
    }

    /// With fixed lengths every call refuses it; nothing changes.
    fn wrong_length(&mut self, table: &Table, k: usize, v: Value) {
        if self.kind.lengths.is_none() {
            return;
        }
        let (key, value) = (self.kind.key(k), self.kind.value(v));
        let (wrong_key, wrong_value) = ([&key[..], b"+"].concat(), [&value[..], b"+"].concat());
        let refused = [
            table.get(&wrong_key).map(drop),
            table.contains(&key[1..]).map(drop),
            table.uid(&wrong_key).map(drop),
            table.put(&wrong_key, &value).map(drop),
            table.put(&key, &wrong_value).map(drop),
            table.insert(&key, &wrong_value).map(drop),
            table.replace(&key, &wrong_value).map(drop),
            table.remove(&wrong_key).map(drop),
            table.take(&key[1..]).map(drop),
            table.compare_exchange(&key, None, Some(&wrong_value)).map(drop),
            table.put_many(&[(&key, &wrong_value)]).map(drop),
            table.get_many(&[&key, &wrong_key]).map(drop),
        ];
        for (call, result) in refused.into_iter().enumerate() {
            assert!(matches!(result, Err(Error::WrongLength(_))), "call {call}: {result:?}");
        }
        assert!(!table.remove_if_equal(&key, &wrong_value).unwrap(), "no value has this length");
        assert_eq!(table.get(&key).unwrap().as_ref(), self.model.get(&key));
    }

    fn fetch_add(&mut self, table: &Table, key: &[u8], delta: i64) {
        let present = match self.model.get(key) {
            None if !self.kind.takes(&[0; 8]) => None,
            None => Some(0),
            Some(value) => value.as_slice().try_into().ok().map(i64::from_le_bytes),
        };
        match table.fetch_add(key, delta) {
            Ok(previous) => {
                assert_eq!(Some(previous), present);
                self.stored(table, key, previous.wrapping_add(delta).to_le_bytes().to_vec(), None);
            }
            Err(shf::Error::NotACounter(_)) => assert_eq!(present, None),
            Err(error) => panic!("{error:?}"),
        }
    }

    fn compare_exchange(&mut self, table: &Table, key: &[u8], expected: Expected, new: Option<Vec<u8>>) {
        let present = self.model.get(key).cloned();
        let expected = match expected {
            Expected::Present => present.clone(),
            Expected::Other(value) => Some(self.kind.value(value)),
            Expected::Absent => None,
        };
        match table.compare_exchange(key, expected.as_deref(), new.as_deref()).unwrap() {
            Exchange::Exchanged => {
                assert_eq!(expected, present);
                self.exchanged(table, key, new);
            }
            Exchange::Unchanged(found) => {
                assert_ne!(expected, present);
                assert_eq!(found, present);
            }
        }
    }

    fn by_uid(&mut self, table: &Table, key: &[u8], op: ByUid) {
        assert_eq!(table.uid(key).unwrap(), self.uids.get(key).map(|uids| uids.0));
        assert_eq!(table.checked_uid(key).unwrap(), self.uids.get(key).map(|uids| uids.1));
        let Some(&(uid, checked)) = self.uids.get(key) else { return };
        let present = self.model.get(key);
        let mut buffer = Vec::new();
        match op {
            ByUid::Get => {
                assert_eq!(table.get_by_uid(uid).unwrap().as_ref(), present);
                assert!(table.get_by_uid_into(uid, &mut buffer).unwrap());
                assert_eq!(Some(&buffer), present);
            }
            ByUid::CheckedGet => {
                assert_eq!(table.get_by_uid(checked).unwrap().as_ref(), present);
                assert!(table.get_by_uid_into(checked, &mut buffer).unwrap());
                assert_eq!(Some(&buffer), present);
            }
            ByUid::Key => assert_eq!(table.key_by_uid(uid).unwrap().as_deref(), Some(key)),
            ByUid::CheckedKey => assert_eq!(table.key_by_uid(checked).unwrap().as_deref(), Some(key)),
            ByUid::Put(value) => {
                assert!(table.put_by_uid(uid, self.kind.value(value)).unwrap());
                self.stored(table, key, self.kind.value(value), Some(uid));
            }
            ByUid::CheckedPut(value) => {
                assert!(table.put_by_uid(checked, self.kind.value(value)).unwrap());
                self.stored(table, key, self.kind.value(value), Some(uid));
            }
            ByUid::Remove => {
                assert!(table.remove_by_uid(uid).unwrap());
                self.removed(key);
            }
            ByUid::CheckedRemove => {
                assert!(table.remove_by_uid(checked).unwrap());
                self.removed(key);
            }
        }
    }

    fn compare_walk(&self, entries: Vec<shf::Entry>) {
        let mut seen = HashSet::new();
        for entry in entries {
            assert_eq!(self.model.get(&entry.key), Some(&entry.value));
            assert_eq!(self.uids[&entry.key].0, entry.uid);
            assert!(seen.insert(entry.key), "an entry was seen twice");
        }
        assert_eq!(seen.len(), self.model.len());
    }

    fn finish(&mut self) {
        self.reopen();
        let table = self.handles[1].clone();
        self.compare_walk(table.iter().map(Result::unwrap).collect());
        for index in 0..KEYS {
            let key = self.kind.key(index);
            assert_eq!(table.get(&key).unwrap().as_ref(), self.model.get(&key));
        }
        assert_eq!(table.options().get_fixed().is_some(), self.kind.lengths.is_some());
        assert_eq!(table.len().unwrap(), self.model.len() as u64);
        common::assert_consistent(&table);
    }
}

fn run(kind: Kind, operations: &[(usize, Op)]) {
    let mut subject = Subject::new(kind);
    for (handle, op) in operations {
        let table = subject.handles[*handle].clone();
        subject.apply(op, &table);
    }
    subject.finish();
}

fn cases() -> Config {
    // No file for failures: the seed is printed, and PROPTEST_CASES=... PROPTEST_RNG_SEED=... repeat it.
    let default = u32::try_from(common::setting("SHF_MODEL_CASES", 96)).expect("a number of cases");
    Config { cases: default, failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_file_never_differs_from_a_hash_map(operations in vec((0..HANDLES, operation()), 1..250)) {
        run(Kind { anonymous: false, hash: HashKind::Folded, lengths: None }, &operations);
    }

    #[test]
    fn a_memory_file_never_differs_from_a_hash_map(operations in vec((0..HANDLES, operation()), 1..250)) {
        run(Kind { anonymous: true, hash: HashKind::Folded, lengths: None }, &operations);
    }

    #[test]
    fn a_file_with_the_other_hash_never_differs_from_a_hash_map(
        operations in vec((0..HANDLES, operation()), 1..250)
    ) {
        run(Kind { anonymous: false, hash: HashKind::SipHash13, lengths: None }, &operations);
    }

    #[test]
    fn a_file_of_fixed_lengths_never_differs_from_a_hash_map(
        lengths in select(&FIXED[..]),
        anonymous in any::<bool>(),
        hash in select(&[HashKind::Folded, HashKind::Folded, HashKind::SipHash13][..]),
        operations in vec((0..HANDLES, operation()), 1..250),
    ) {
        run(Kind { anonymous, hash, lengths: Some(lengths) }, &operations);
    }
}

/// Enough keys to split and double many times, with every key checked at the end of each round.
fn grow_and_shrink(lengths: Option<(usize, usize)>, hash: HashKind) {
    const KEYS: u64 = 250_000;
    let kind = Kind { anonymous: true, hash, lengths };
    let mut random = common::Random::new(common::seed("large model"));
    let table = kind.options().anonymous("large model").unwrap();
    let key = |number: u64| {
        let mut key = number.to_le_bytes().to_vec();
        key.resize(lengths.map_or(8, |(key, _)| key), 1);
        key
    };
    let value = |stamp: u64| {
        let len = lengths.map_or(usize::try_from(stamp % 61).unwrap(), |(_, value)| value);
        common::stamped(stamp, len)
    };
    let mut model: HashMap<u64, u64> = HashMap::new();
    for round in 0..4 {
        let puts = if round % 2 == 0 { 8 } else { 3 }; // of 10: grow, shrink, grow, shrink
        for _ in 0..KEYS {
            let (number, stamp) = (random.below(KEYS), random.next());
            if random.below(10) < puts {
                table.put(key(number), value(stamp)).unwrap();
                model.insert(number, stamp);
            } else {
                let removed = table.remove(key(number)).unwrap();
                assert_eq!(removed, model.remove(&number).is_some());
            }
        }
        assert_eq!(table.len().unwrap(), model.len() as u64);
        let mut found = Vec::new();
        for number in 0..KEYS {
            let there = table.get_into(key(number), &mut found).unwrap();
            let expected = model.get(&number).map(|&stamp| value(stamp));
            assert_eq!(there.then_some(&found), expected.as_ref(), "key {number} in round {round}");
        }
        common::assert_consistent(&table);
    }
    assert!(table.stats().unwrap().segments > 300, "it has split: {:?}", table.stats());
}

#[test]
fn growth_and_shrinking_lose_no_key_of_a_large_model() {
    grow_and_shrink(None, HashKind::Folded);
}

#[test]
fn growth_and_shrinking_lose_no_key_of_a_large_model_with_the_other_hash() {
    grow_and_shrink(None, HashKind::SipHash13);
}

#[test]
fn growth_and_shrinking_lose_no_narrow_cell_of_a_large_model() {
    grow_and_shrink(Some((4, 4)), HashKind::Folded);
}

#[test]
fn growth_and_shrinking_lose_no_wide_cell_of_a_large_model() {
    grow_and_shrink(Some((9, 24)), HashKind::Folded);
}
