//! Any sequence of operations gives what a `HashMap` gives: by key, by UID, in batches, walking, through several
//! handles of this process and one of another, which is killed at any moment, after reopening, in files and in memory, with
//! either hash, with variable and fixed lengths.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{BufRead, BufReader, Write},
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use proptest::{collection::vec, option::of, prelude::*, sample::select};
use shf::{
    AnyUid, CheckedUid, Error, Exchange, HashKind, Inserted, Position, Table, TableOptions, Uid, Values,
};
use tempfile::TempDir;

mod common;
#[path = "common/model.rs"]
mod model;

use model::{Change, FIXED, KEYS, Key, Value, value};

const HANDLES: usize = 3;

/// What is fixed at a table's creation.
#[derive(Clone, Copy, Debug)]
struct Kind {
    anonymous: bool,
    hash: HashKind,
    /// `None`: variable.
    lengths: Option<(usize, usize)>,
}

impl Kind {
    fn options(self) -> TableOptions {
        let options = TableOptions::new().hash(self.hash);
        match self.lengths {
            None => options,
            Some((key, value)) => options.fixed(key.try_into().unwrap(), value.try_into().unwrap()),
        }
    }

    fn key(self, index: usize) -> Key {
        model::key(self.lengths, index)
    }

    fn value(self, value: Value) -> Vec<u8> {
        value.bytes(self.lengths)
    }

    /// Whether the table takes this value.
    fn takes(self, value: &[u8]) -> bool {
        model::takes(self.lengths, value)
    }
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
    /// So many steps of a walk that goes on between other operations.
    WalkOn(usize),
    /// Another process does these, one after the other; it is killed so many microseconds after it was told to.
    Elsewhere(Vec<Remote>, Option<u16>),
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

/// What another process is told to do, in one line.
#[derive(Clone, Debug)]
enum Remote {
    Put(usize, Value),
    Append(usize, Value),
    Remove(usize),
    PutMany(Vec<(usize, Value)>),
    RemoveMany(Vec<usize>),
}

fn remote() -> impl Strategy<Value = Remote> {
    let k = || 0..KEYS;
    prop_oneof![
        3 => (k(), value()).prop_map(|(k, v)| Remote::Put(k, v)),
        1 => (k(), value()).prop_map(|(k, v)| Remote::Append(k, v)),
        2 => k().prop_map(Remote::Remove),
        2 => vec((k(), value()), 1..20).prop_map(Remote::PutMany),
        1 => vec(k(), 1..10).prop_map(Remote::RemoveMany),
    ]
}

impl Remote {
    fn line(&self) -> String {
        let pair = |&(k, v): &(usize, Value)| [k, v.len, v.seed.into()];
        let (name, numbers): (_, Vec<usize>) = match self {
            Remote::Put(k, v) => ("put", pair(&(*k, *v)).to_vec()),
            Remote::Append(k, v) => ("append", pair(&(*k, *v)).to_vec()),
            Remote::Remove(k) => ("remove", vec![*k]),
            Remote::PutMany(pairs) => ("put_many", pairs.iter().flat_map(pair).collect()),
            Remote::RemoveMany(keys) => ("remove_many", keys.clone()),
        };
        let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        format!("{name} {}\n", words.join(" "))
    }

    fn changes(&self, kind: Kind, model: &HashMap<Key, Vec<u8>>) -> Vec<Change> {
        match self {
            Remote::Put(k, v) => vec![(kind.key(*k), Some(kind.value(*v)))],
            Remote::Append(k, v) => {
                let old = model.get(&kind.key(*k)).cloned().unwrap_or_default();
                let new = appended(&old, &kind.value(*v));
                if kind.takes(&new) { vec![(kind.key(*k), Some(new))] } else { vec![] }
            }
            Remote::Remove(k) => vec![(kind.key(*k), None)],
            Remote::PutMany(pairs) => {
                pairs.iter().map(|&(k, v)| (kind.key(k), Some(kind.value(v)))).collect()
            }
            Remote::RemoveMany(keys) => keys.iter().map(|&k| (kind.key(k), None)).collect(),
        }
    }
}

/// Bounded: a value that is appended to again and again.
fn appended(old: &[u8], more: &[u8]) -> Vec<u8> {
    if old.len() + more.len() > 100_000 { old.to_vec() } else { [old, more].concat() }
}

#[test]
fn child_process() {
    let Some((_, arguments)) = common::role() else { return };
    let [path, klen, vlen] = &arguments[..] else { panic!("three arguments") };
    let path = Path::new(path);
    let table = if path.starts_with("/proc") {
        Table::from_fd(File::options().read(true).write(true).open(path).unwrap().into()).unwrap()
    } else {
        Table::open(path).unwrap()
    };
    let lengths: (usize, usize) = (klen.parse().unwrap(), vlen.parse().unwrap());
    let kind = Kind { anonymous: false, hash: HashKind::Folded, lengths: (lengths.0 > 0).then_some(lengths) };
    println!("done"); // with opening
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let numbers: Vec<usize> = words.map(|word| word.parse().unwrap()).collect();
        let pairs = || {
            numbers.chunks_exact(3).map(|n| {
                let value = Value { len: n[1], seed: u8::try_from(n[2]).unwrap() };
                (kind.key(n[0]), kind.value(value))
            })
        };
        match name {
            "put" => {
                for (key, value) in pairs() {
                    table.put(key, value).unwrap();
                }
            }
            "append" => {
                for (key, value) in pairs() {
                    let longer = |old: Option<&[u8]>| Some(appended(old.unwrap_or_default(), &value));
                    match table.update(key, longer) {
                        Ok(_) | Err(Error::WrongLength(_)) => {}
                        Err(why) => panic!("{why}"),
                    }
                }
            }
            "remove" => assert!(numbers.len() == 1 && table.remove(kind.key(numbers[0])).is_ok()),
            "put_many" => {
                table.put_many(&pairs().collect::<Vec<_>>()).unwrap();
            }
            _ => {
                let keys: Vec<_> = numbers.iter().map(|&k| kind.key(k)).collect();
                table.remove_many(&keys).unwrap();
            }
        }
        println!("done");
    }
}

/// A handle in another process.
struct Elsewhere {
    child: common::Reaped,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Elsewhere {
    fn start(path: &Path, kind: Kind) -> Elsewhere {
        let (key, value) = kind.lengths.unwrap_or((0, 0));
        let mut child = common::child("model", &[&path, &key.to_string(), &value.to_string()]);
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut other = Elsewhere { child: common::Reaped(child), input, output };
        assert!(other.is_done(), "the other process does not open the table");
        other
    }

    /// `false`: it has died. (The test harness says things, too.)
    fn is_done(&mut self) -> bool {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if line == "done\n" {
                return true;
            }
            line.clear();
        }
        false
    }
}

#[derive(Default)]
struct Counts {
    cases: AtomicU64,
    operations: AtomicU64,
    elsewhere: AtomicU64,
    killed: AtomicU64,
    /// Of those killed, how many had something under way.
    in_doubt: AtomicU64,
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
    // Microseconds: to wake up, and into the first of them; or later.
    let kill_after = prop_oneof![4 => 10..250u16, 1 => 0..2_000u16];
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
        6 => (k(), expected, of(value())).prop_map(|(k, e, n)| Op::CompareExchange(k, e, n)),
        4 => (k(), of(value())).prop_map(|(k, n)| Op::Update(k, n)),
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
        3 => (1..40usize).prop_map(Op::WalkOn),
        2 => (vec(remote(), 1..40), of(kill_after)).prop_map(|(ops, kill)| Op::Elsewhere(ops, kill)),
    ]
}

/// The tables under test, and what they should hold.
struct Subject<'a> {
    kind: Kind,
    /// `None`: anonymous.
    path: Option<PathBuf>,
    handles: Vec<Table>,
    model: HashMap<Vec<u8>, Vec<u8>>,
    uids: HashMap<Vec<u8>, (Uid, CheckedUid)>,
    /// Checked UIDs of removed keys.
    stale: Vec<(Vec<u8>, CheckedUid)>,
    walk: Option<UnderWay>,
    elsewhere: Option<Elsewhere>,
    counts: &'a Counts,
    _folder: TempDir,
}

/// A walk that goes on between other operations, from any handle.
struct UnderWay {
    position: Position,
    /// There since it began.
    throughout: HashSet<Key>,
    seen: HashSet<Key>,
}

impl<'a> Subject<'a> {
    fn new(kind: Kind, counts: &'a Counts) -> Subject<'a> {
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
            walk: None,
            elsewhere: None,
            counts,
            _folder: folder,
        };
        while subject.handles.len() < HANDLES {
            subject.attach();
        }
        subject
    }

    fn attach(&mut self) {
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
        if let Some(walk) = &mut self.walk {
            walk.throughout.remove(key);
        }
    }

    /// Another process does it, and lives on, or is killed in the middle.
    fn elsewhere(&mut self, table: &Table, operations: &[Remote], kill_after: Option<u16>) {
        let kind = self.kind;
        let path = self.path.clone().unwrap_or_else(|| {
            format!("/proc/{}/fd/{}", std::process::id(), self.handles[0].as_fd().as_raw_fd()).into()
        });
        let mut other = self.elsewhere.take().unwrap_or_else(|| Elsewhere::start(&path, kind));
        let lines: String = operations.iter().map(Remote::line).collect();
        other.input.write_all(lines.as_bytes()).unwrap();
        self.counts.elsewhere.fetch_add(1, Relaxed);
        if let Some(after) = kill_after {
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(after.into()) {
                std::hint::spin_loop();
            }
            other.child.0.kill().unwrap();
            other.child.0.wait().unwrap();
            self.counts.killed.fetch_add(1, Relaxed);
        }
        let mut touched = HashSet::new();
        for operation in operations {
            let mut changes = operation.changes(kind, &self.model);
            let done = other.is_done();
            if !done {
                assert!(kill_after.is_some(), "the other process has ended by itself");
                self.counts.in_doubt.fetch_add(1, Relaxed);
                // This one in part, or whole, or not at all; those behind it not.
                let keys = model::keys_of(&changes);
                let look = || keys.iter().map(|key| table.get(key).unwrap()).collect::<Vec<_>>();
                let before = look();
                common::assert_consistent(table);
                let made = model::made(&operation.line(), &self.model, &changes, &before, &look());
                changes.truncate(made);
            }
            for (key, value) in changes {
                match value {
                    Some(value) => drop(self.model.insert(key.clone(), value)),
                    None => self.removed(&key),
                }
                touched.insert(key);
            }
            if !done {
                break;
            }
        }
        // UIDs only now: the table was in this state all the time.
        for key in touched {
            if let Some(value) = self.model.get(&key).cloned() {
                self.stored(table, &key, value, None);
            }
        }
        self.elsewhere = kill_after.is_none().then_some(other);
    }

    fn walk_on(&mut self, table: &Table, steps: usize) {
        let mut walk = self.walk.take().unwrap_or_else(|| UnderWay {
            position: Position::START,
            throughout: self.model.keys().cloned().collect(),
            seen: HashSet::new(),
        });
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut cursor = table.cursor_at(walk.position);
        for _ in 0..steps {
            let Some(uid) = cursor.next_into(&mut key, &mut value).unwrap() else {
                assert!(
                    walk.throughout.is_subset(&walk.seen),
                    "a walk has missed keys that were there all the time"
                );
                return;
            };
            assert_eq!(self.model.get(&key), Some(&value));
            assert_eq!(self.uids[&key].0, uid);
            let again = !walk.seen.insert(key.clone());
            assert!(!again || !walk.throughout.contains(&key), "a walk has seen a key twice");
        }
        walk.position = cursor.position();
        self.walk = Some(walk);
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
            Op::WalkOn(steps) => self.walk_on(table, steps),
            Op::Elsewhere(ref operations, kill_after) => self.elsewhere(table, operations, kill_after),
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

fn run(kind: Kind, operations: &[(usize, Op)], counts: &Counts) {
    let mut subject = Subject::new(kind, counts);
    counts.cases.fetch_add(1, Relaxed);
    counts.operations.fetch_add(operations.len() as u64, Relaxed);
    for (handle, op) in operations {
        let table = subject.handles[*handle].clone();
        subject.apply(op, &table);
    }
    subject.finish();
}

fn model(name: &str, kinds: &impl Strategy<Value = Kind>) {
    let counts = Counts::default();
    let input = (kinds, vec((0..HANDLES, operation()), 1..250));
    model::run(name, file!(), 64, &input, |(kind, operations)| run(kind, &operations, &counts));
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    println!(
        "# total: {name}: {} sequences of {} operations on {HANDLES} handles, {} turns of another process, which was killed \
         in {} of them, {} times with an operation under way; 0 lost, 0 torn, 0 wrong",
        count(&counts.cases),
        count(&counts.operations),
        count(&counts.elsewhere),
        count(&counts.killed),
        count(&counts.in_doubt),
    );
}

const VARIABLE: Kind = Kind { anonymous: false, hash: HashKind::Folded, lengths: None };

#[test]
fn a_file_never_differs_from_a_hash_map() {
    model("a file", &Just(VARIABLE));
}

#[test]
fn a_memory_file_never_differs_from_a_hash_map() {
    model("a memory file", &Just(Kind { anonymous: true, ..VARIABLE }));
}

#[test]
fn a_file_with_the_other_hash_never_differs_from_a_hash_map() {
    model("the other hash", &Just(Kind { hash: HashKind::SipHash13, ..VARIABLE }));
}

#[test]
fn a_file_of_fixed_lengths_never_differs_from_a_hash_map() {
    let hashes = select(&[HashKind::Folded, HashKind::Folded, HashKind::SipHash13][..]);
    let kinds = (select(&FIXED[..]), any::<bool>(), hashes).prop_map(|(lengths, anonymous, hash)| Kind {
        anonymous,
        hash,
        lengths: Some(lengths),
    });
    model("fixed lengths", &kinds);
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
