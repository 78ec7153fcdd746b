//! The C API never differs from a `HashMap`, through several handles of several processes, while those die: at exactly
//! the k-th store of any call, again at a store of the repair, or between two calls.
//!
//! The processes are `csrc/tests/driver.c`, built with crash points: which store is the last one is part of the input, so a
//! failure shrinks, and is the same again. Once with the engine's constants, once with small ones, where a few hundred keys
//! split segments and double directories.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    io::{BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use proptest::{collection::vec, option::of, prelude::*, sample::select};
use tempfile::TempDir;

mod common;
#[path = "common/model.rs"]
mod model;

use model::{Change, FIXED, KEYS, Key, Lengths, Value, value};

// Outcomes and errors of shf.h.
const OK: i32 = 0;
const NOT_FOUND: i32 = 1;
const EXISTS: i32 = 2;
const TRUNCATED: i32 = 3;
const UNCHANGED: i32 = 4;
const STOPPED: i32 = 5;
const ERR_WRONG_LENGTH: i32 = -8;
const ERR_NOT_A_COUNTER: i32 = -9;
const ERR_UNSUPPORTED: i32 = -20;
/// `SHF_NO_VALUE`, and what `shf_table_cas` says of an absent key.
const NONE: u64 = u64::MAX;
/// The driver's word for an output that was left alone.
const UNSET: u64 = 0xfefe_fefe_fefe_fefe;
const CREATE: u64 = 1;
const READ_ONLY: u64 = 4;

const PROCESSES: usize = 3;
/// Of each process. The last one of the last process is read-only.
const HANDLES: usize = 2;
/// Larger than any value.
const ROOM: u64 = 100_000;

// ---- one process behind a pipe ----------------------------------------------------------------------------

/// The driver's path; `small`: with the small constants.
fn driver(small: bool) -> &'static Path {
    static BUILT: OnceLock<[PathBuf; 2]> = OnceLock::new();
    let [normal, few] = BUILT.get_or_init(|| {
        let build = Path::new(env!("CARGO_TARGET_TMPDIR")).join("csrc-model");
        let sanitized = std::env::var("SHF_SANITIZE").is_ok_and(|kind| !kind.is_empty());
        let flavour = if sanitized { "asan_crash" } else { "crash" };
        let programs = ["", "_small"].map(|small| build.join(format!("{flavour}{small}/driver")));
        let output = Command::new("make")
            .args(["-C", concat!(env!("CARGO_MANIFEST_DIR"), "/csrc"), "-j2"])
            .arg(format!("BUILD={}", build.display()))
            .args(&programs)
            .env_remove("MAKEFLAGS")
            .env_remove("CARGO_MAKEFLAGS")
            .output()
            .expect("make is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        programs
    });
    if small { few } else { normal }
}

/// A request to the driver; see there.
#[derive(Clone, Debug)]
struct Request {
    call: u8,
    arguments: Vec<u8>,
}

fn call(name: char) -> Request {
    Request { call: u8::try_from(name).expect("ASCII"), arguments: Vec::new() }
}

impl Request {
    fn number(mut self, number: u64) -> Request {
        self.arguments.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Request {
        self.arguments.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
        self.arguments.extend_from_slice(bytes);
        self
    }

    fn value_or_absent(self, value: Option<&[u8]>) -> Request {
        self.number(value.is_some().into()).bytes(value.unwrap_or_default())
    }
}

struct Answer {
    code: i32,
    results: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take(&mut self, len: usize) -> &[u8] {
        let from = self.at;
        self.at += len;
        &self.results[from..self.at]
    }

    fn number(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = u32::from_le_bytes(self.take(4).try_into().unwrap());
        self.take(usize::try_from(len).unwrap()).to_vec()
    }
}

struct Process {
    child: common::Reaped,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    open: [bool; HANDLES],
}

impl Process {
    fn start(small: bool) -> Process {
        let mut child = Command::new(driver(small))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the driver starts");
        let requests = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        Process { child: common::Reaped(child), requests, answers, open: [false; HANDLES] }
    }

    /// `None`: it died at store `die_at` of this call.
    fn ask(&mut self, handle: usize, die_at: Option<u64>, request: &Request) -> Option<Answer> {
        let len = u32::try_from(12 + request.arguments.len()).unwrap();
        let mut message = len.to_le_bytes().to_vec();
        message.extend_from_slice(&[request.call, u8::try_from(handle).unwrap(), 0, 0]);
        message.extend_from_slice(&die_at.unwrap_or(0).to_le_bytes());
        message.extend_from_slice(&request.arguments);
        self.requests.write_all(&message).expect("the driver reads");
        let mut len = [0; 4];
        if self.answers.read_exact(&mut len).is_err() {
            let status = self.child.0.wait().unwrap();
            let expected = die_at.is_some() && status.signal() == Some(9);
            assert!(expected, "the driver ended by itself in {:?}: {status}", char::from(request.call));
            return None;
        }
        let mut results = vec![0; usize::try_from(u32::from_le_bytes(len)).unwrap()];
        self.answers.read_exact(&mut results).expect("a whole answer");
        let code = i32::from_le_bytes(results[..4].try_into().unwrap());
        Some(Answer { code, results, at: 12 })
    }
}

// ---- what is done -----------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
enum Expected {
    Present,
    Other(Value),
    Absent,
}

#[derive(Clone, Debug)]
enum Op {
    Put(usize, Value),
    Insert(usize, Value),
    /// With room for the old value, or too little.
    Replace(usize, Value, bool),
    Get(usize, bool),
    Contains(usize),
    Del(usize),
    Take(usize, bool),
    /// The right value, or another.
    DelIfEqual(usize, Option<Value>),
    Add(usize, u64),
    /// With room for the present value, or too little.
    Cas(usize, Expected, Option<Value>, bool),
    Set(usize, Option<Value>),
    Append(usize, Value),
    Stop(usize),
    /// By the plain or the checked UID.
    GetByUid(usize, bool),
    KeyByUid(usize, bool),
    PutByUid(usize, bool, Value),
    DelByUid(usize, bool),
    /// Of a key that was removed: number, and whether the key or the value is asked for.
    Stale(usize, bool),
    PutMany(Vec<(usize, Value)>),
    DelMany(Vec<usize>),
    /// Keys, and the room for each value, or for the whole if `packed`.
    GetMany(Vec<usize>, u64, bool),
    ManyByUid(Vec<usize>, u64, bool, bool),
    /// Many small keys, one behind the other: segments split, directories double.
    Fill(usize, usize, u8),
    Drain(usize, usize),
    WrongLength(usize, Value),
    /// So many steps of the walk under way.
    Walk(usize),
    Len,
    Check,
    Stats,
    Options,
    /// Into huge pages, where the system has them.
    Collapse,
    Clear,
    /// This handle: closed, and opened at its next use.
    Close,
    /// This handle is made of the other one's descriptor.
    FromFd,
    /// All handles of all processes.
    CloseAll,
    /// Between two calls.
    Kill,
}

/// What the survivors do first after a death.
#[derive(Clone, Copy, Debug)]
enum Repair {
    /// `check` takes every lock.
    Check,
    /// A change that changes nothing takes the lock of each key concerned.
    Touch,
    /// A process that dies in turn, at this store of its repair; then another.
    DieAgain(u64),
    /// All the others are gone, too: the next one opens the file alone.
    Alone,
}

#[derive(Clone, Debug)]
struct Step {
    process: usize,
    handle: usize,
    /// Dies before this store of the call.
    die_at: Option<u64>,
    repair: Repair,
    op: Op,
}

fn operation() -> impl Strategy<Value = Op> {
    let k = || 0..KEYS;
    let expected = prop_oneof![
        3 => Just(Expected::Present),
        1 => value().prop_map(Expected::Other),
        1 => Just(Expected::Absent),
    ];
    let single = prop_oneof![
        12 => (k(), value()).prop_map(|(k, v)| Op::Put(k, v)),
        5 => (k(), value()).prop_map(|(k, v)| Op::Insert(k, v)),
        5 => (k(), value(), any::<bool>()).prop_map(|(k, v, room)| Op::Replace(k, v, room)),
        4 => (k(), any::<bool>()).prop_map(|(k, room)| Op::Get(k, room)),
        2 => k().prop_map(Op::Contains),
        4 => k().prop_map(Op::Del),
        3 => (k(), any::<bool>()).prop_map(|(k, room)| Op::Take(k, room)),
        3 => (k(), of(value())).prop_map(|(k, v)| Op::DelIfEqual(k, v)),
        4 => (k(), any::<u64>()).prop_map(|(k, delta)| Op::Add(k, delta)),
        6 => (k(), expected, of(value()), any::<bool>()).prop_map(|(k, e, n, room)| Op::Cas(k, e, n, room)),
        3 => (k(), of(value())).prop_map(|(k, v)| Op::Set(k, v)),
        3 => (k(), value()).prop_map(|(k, v)| Op::Append(k, v)),
        1 => k().prop_map(Op::Stop),
    ];
    let by_uid = prop_oneof![
        2 => (k(), any::<bool>()).prop_map(|(k, checked)| Op::GetByUid(k, checked)),
        2 => (k(), any::<bool>()).prop_map(|(k, checked)| Op::KeyByUid(k, checked)),
        3 => (k(), any::<bool>(), value()).prop_map(|(k, checked, v)| Op::PutByUid(k, checked, v)),
        2 => (k(), any::<bool>()).prop_map(|(k, checked)| Op::DelByUid(k, checked)),
        2 => (0..64usize, any::<bool>()).prop_map(|(n, key)| Op::Stale(n, key)),
    ];
    let batch = prop_oneof![
        4 => vec((k(), value()), 0..40).prop_map(Op::PutMany),
        3 => (vec(k(), 0..60), 0..9_000u64, any::<bool>()).prop_map(|(k, room, packed)| Op::GetMany(k, room, packed)),
        2 => vec(k(), 0..12).prop_map(Op::DelMany),
        3 => (vec(k(), 0..40), 0..9_000u64, any::<bool>(), any::<bool>())
            .prop_map(|(k, room, packed, checked)| Op::ManyByUid(k, room, packed, checked)),
        4 => (0..2_000usize, 0..400usize, any::<u8>()).prop_map(|(from, n, seed)| Op::Fill(from, n, seed)),
        2 => (0..2_000usize, 0..400usize).prop_map(|(from, n)| Op::Drain(from, n)),
    ];
    let rest = prop_oneof![
        2 => (k(), value()).prop_map(|(k, v)| Op::WrongLength(k, v)),
        6 => (1..60usize).prop_map(Op::Walk),
        1 => Just(Op::Len),
        1 => Just(Op::Check),
        1 => Just(Op::Stats),
        1 => Just(Op::Options),
        1 => Just(Op::Collapse),
        1 => Just(Op::Clear),
        2 => Just(Op::Close),
        1 => Just(Op::FromFd),
        1 => Just(Op::CloseAll),
        2 => Just(Op::Kill),
    ];
    prop_oneof![55 => single, 12 => by_uid, 16 => batch, 14 => rest]
}

fn step() -> impl Strategy<Value = Step> {
    let die_at = prop_oneof![
        5 => Just(None),
        5 => (1..14u64).prop_map(Some),
        2 => (1..60u64).prop_map(Some),
        1 => (1..400u64).prop_map(Some),
        1 => (1..6_000u64).prop_map(Some),
    ];
    let repair = prop_oneof![
        3 => Just(Repair::Check),
        3 => Just(Repair::Touch),
        3 => (1..20u64).prop_map(Repair::DieAgain),
        1 => Just(Repair::Alone),
    ];
    (0..PROCESSES, 0..HANDLES, die_at, repair, operation())
        .prop_map(|(process, handle, die_at, repair, op)| Step { process, handle, die_at, repair, op })
}

// ---- the model --------------------------------------------------------------------------------------------

/// What one result of a call must be.
#[derive(Debug)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
    /// The UID of this key: the one remembered, or one to be remembered.
    Uid(Key),
    AnyNumber,
}

/// A call, what it must answer, and what it changes. A death leaves some first part of the changes.
struct Plan {
    request: Request,
    code: i32,
    fields: Vec<Field>,
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Default)]
struct Uids {
    plain: Option<u64>,
    checked: Option<u64>,
}

/// A walk that goes on between other calls, from any handle.
#[derive(Default)]
struct Walk {
    position: u64,
    /// There since it began.
    throughout: HashSet<Key>,
    seen: HashSet<Key>,
}

#[derive(Default)]
struct Counts {
    cases: AtomicU64,
    calls: AtomicU64,
    killed: AtomicU64,
    repairing: AtomicU64,
    idle: AtomicU64,
}

struct Subject<'a> {
    small: bool,
    lengths: Lengths,
    hash: u64,
    path: PathBuf,
    processes: Vec<Option<Process>>,
    model: HashMap<Key, Vec<u8>>,
    uids: HashMap<Key, Uids>,
    /// Checked UIDs of removed keys.
    stale: Vec<(Key, u64)>,
    walk: Option<Walk>,
    counts: &'a Counts,
    _folder: TempDir,
}

fn small_key(lengths: Lengths, number: usize) -> Key {
    let number = u32::try_from(number).unwrap() + 0x8000;
    let mut key = number.to_le_bytes().to_vec();
    key.resize(lengths.map_or(4, |(len, _)| len), 7);
    key
}

impl<'a> Subject<'a> {
    fn new(small: bool, lengths: Lengths, hash: u64, counts: &'a Counts) -> Subject<'a> {
        let folder = common::folder();
        counts.cases.fetch_add(1, Relaxed);
        Subject {
            small,
            lengths,
            hash,
            path: folder.path().join("model.shf"),
            processes: (0..PROCESSES).map(|_| None).collect(),
            model: HashMap::new(),
            uids: HashMap::new(),
            stale: Vec::new(),
            walk: None,
            counts,
            _folder: folder,
        }
    }

    fn process(&mut self, process: usize) -> &mut Process {
        let small = self.small;
        self.processes[process].get_or_insert_with(|| Process::start(small))
    }

    fn is_read_only(process: usize, handle: usize) -> bool {
        process == PROCESSES - 1 && handle == HANDLES - 1
    }

    /// Starts the process and opens the handle, if need be. `None`: it died there.
    fn ready(&mut self, process: usize, handle: usize, die_at: Option<u64>) -> Option<()> {
        if self.process(process).open[handle] {
            return Some(());
        }
        let read_only = Self::is_read_only(process, handle);
        if read_only && !self.path.exists() {
            self.ready(0, 0, None);
        }
        let (key, value) = self.lengths.unwrap_or((0, 0));
        let request = call('O')
            .bytes(self.path.to_str().unwrap().as_bytes())
            .number(if read_only { READ_ONLY } else { CREATE })
            .number(key as u64)
            .number(value as u64)
            .number(self.hash);
        let answer = self.ask(process, handle, die_at, &request)?;
        assert_eq!(answer.code, OK, "open");
        self.process(process).open[handle] = true;
        Some(())
    }

    fn ask(
        &mut self,
        process: usize,
        handle: usize,
        die_at: Option<u64>,
        request: &Request,
    ) -> Option<Answer> {
        self.counts.calls.fetch_add(1, Relaxed);
        let answer = self.process(process).ask(handle, die_at, request);
        if answer.is_none() {
            self.processes[process] = None;
            self.counts.killed.fetch_add(1, Relaxed);
        }
        answer
    }

    /// A call that nobody dies in.
    fn asked(&mut self, process: usize, handle: usize, request: &Request) -> Answer {
        self.ready(process, handle, None).expect("nobody asked it to die");
        self.ask(process, handle, None, request).expect("nobody asked it to die")
    }

    fn key(&self, index: usize) -> Key {
        model::key(self.lengths, index)
    }

    fn value(&self, value: Value) -> Vec<u8> {
        value.bytes(self.lengths)
    }

    fn uids_of(&self, key: &[u8]) -> Uids {
        self.uids.get(key).copied().unwrap_or_default()
    }

    /// The fields of a value that went to a buffer of `room` bytes.
    fn got(value: Option<&Vec<u8>>, room: u64) -> (i32, Vec<Field>) {
        match value {
            None => (NOT_FOUND, vec![Field::Number(UNSET), Field::Bytes(Vec::new())]),
            Some(value) if value.len() as u64 > room => {
                (TRUNCATED, vec![Field::Number(value.len() as u64), Field::Bytes(Vec::new())])
            }
            Some(value) => (OK, vec![Field::Number(value.len() as u64), Field::Bytes(value.clone())]),
        }
    }

    /// The same in a batch, where an absent one has length 0.
    fn got_in_batch(value: Option<&Vec<u8>>, room: u64) -> Vec<Field> {
        let (code, mut fields) = Self::got(value, room);
        if code == NOT_FOUND {
            fields[0] = Field::Number(0);
        }
        fields.insert(0, Field::Number(u64::try_from(code).unwrap()));
        fields
    }

    fn got_packed(value: Option<&Vec<u8>>) -> [Field; 2] {
        let len = value.map_or(NONE, |value| value.len() as u64);
        [Field::Number(len), Field::Bytes(value.cloned().unwrap_or_default())]
    }

    /// Room for the value, or one byte less.
    fn room(value: Option<&Vec<u8>>, enough: bool) -> u64 {
        match value {
            Some(value) if !enough && !value.is_empty() => value.len() as u64 - 1,
            _ => ROOM,
        }
    }

    fn plan(&mut self, process: usize, handle: usize, op: &Op) -> Plan {
        let lengths = self.lengths;
        let plan = |request, code, fields, changes| Plan { request, code, fields, changes };
        let set = |key: &Key, value: Vec<u8>| vec![(key.clone(), Some(value))];
        match *op {
            Op::Put(k, v) => {
                let (key, value) = (self.key(k), self.value(v));
                let request = call('p').bytes(&key).bytes(&value);
                plan(request, OK, vec![Field::Uid(key.clone())], set(&key, value))
            }
            Op::Insert(k, v) => {
                let (key, value) = (self.key(k), self.value(v));
                let request = call('i').bytes(&key).bytes(&value);
                let (code, changes) =
                    if self.model.contains_key(&key) { (EXISTS, vec![]) } else { (OK, set(&key, value)) };
                plan(request, code, vec![Field::Uid(key)], changes)
            }
            Op::Replace(k, v, enough) => {
                let (key, value) = (self.key(k), self.value(v));
                let old = self.model.get(&key);
                let room = Self::room(old, enough);
                let request = call('r').bytes(&key).bytes(&value).number(room);
                let (code, fields) = Self::got(old, room);
                plan(request, code, fields, if code == OK { set(&key, value) } else { vec![] })
            }
            Op::Get(k, enough) => {
                let key = self.key(k);
                let room = Self::room(self.model.get(&key), enough);
                let (code, fields) = Self::got(self.model.get(&key), room);
                plan(call('g').bytes(&key).number(room), code, fields, vec![])
            }
            Op::Contains(k) => {
                let key = self.key(k);
                let code = if self.model.contains_key(&key) { OK } else { NOT_FOUND };
                plan(call('c').bytes(&key), code, vec![], vec![])
            }
            Op::Del(k) => {
                let key = self.key(k);
                let code = if self.model.contains_key(&key) { OK } else { NOT_FOUND };
                plan(call('d').bytes(&key), code, vec![], vec![(key, None)])
            }
            Op::Take(k, enough) => {
                let key = self.key(k);
                let room = Self::room(self.model.get(&key), enough);
                let (code, fields) = Self::got(self.model.get(&key), room);
                let changes = if code == OK { vec![(key.clone(), None)] } else { vec![] };
                plan(call('t').bytes(&key).number(room), code, fields, changes)
            }
            Op::DelIfEqual(k, other) => {
                let key = self.key(k);
                let present = self.model.get(&key);
                let value = other.map_or_else(|| present.cloned().unwrap_or_default(), |v| v.bytes(lengths));
                let code = match present {
                    Some(present) if *present == value => OK,
                    Some(_) => UNCHANGED,
                    None => NOT_FOUND,
                };
                let changes = if code == OK { vec![(key.clone(), None)] } else { vec![] };
                plan(call('q').bytes(&key).bytes(&value), code, vec![], changes)
            }
            Op::Add(k, delta) => {
                let key = self.key(k);
                let before = match self.model.get(&key) {
                    None if !model::takes(lengths, &[0; 8]) => None,
                    None => Some(0),
                    Some(value) => value.as_slice().try_into().ok().map(u64::from_le_bytes),
                };
                let request = call('a').bytes(&key).number(delta);
                match before {
                    None => plan(request, ERR_NOT_A_COUNTER, vec![Field::Number(UNSET)], vec![]),
                    Some(n) => {
                        let sum = n.wrapping_add(delta).to_le_bytes().to_vec();
                        plan(request, OK, vec![Field::Number(n)], set(&key, sum))
                    }
                }
            }
            Op::Cas(k, expected, desired, enough) => {
                let key = self.key(k);
                let present = self.model.get(&key).cloned();
                let expected = match expected {
                    Expected::Present => present.clone(),
                    Expected::Other(value) => Some(self.value(value)),
                    Expected::Absent => None,
                };
                let desired = desired.map(|v| self.value(v));
                let room = Self::room(present.as_ref(), enough);
                let request = call('x')
                    .bytes(&key)
                    .value_or_absent(expected.as_deref())
                    .value_or_absent(desired.as_deref())
                    .number(room);
                if expected == present {
                    return plan(
                        request,
                        OK,
                        vec![Field::Number(UNSET), Field::Bytes(vec![])],
                        vec![(key, desired)],
                    );
                }
                let len = present.as_ref().map_or(NONE, |value| value.len() as u64);
                let mut cut = present.unwrap_or_default();
                cut.truncate(usize::try_from(room).unwrap());
                plan(request, UNCHANGED, vec![Field::Number(len), Field::Bytes(cut)], vec![])
            }
            Op::Set(k, Some(v)) => {
                let (key, value) = (self.key(k), self.value(v));
                let request = call('u').bytes(&key).number(0).bytes(&value);
                plan(request, OK, vec![Field::Uid(key.clone())], set(&key, value))
            }
            Op::Set(k, None) => {
                let key = self.key(k);
                let request = call('u').bytes(&key).number(1).bytes(&[]);
                plan(request, OK, vec![Field::Number(0)], vec![(key, None)])
            }
            Op::Append(k, v) => {
                let (key, more) = (self.key(k), self.value(v));
                let old = self.model.get(&key).cloned().unwrap_or_default();
                let more = if old.len() + more.len() > 90_000 { Vec::new() } else { more };
                let request = call('u').bytes(&key).number(2).bytes(&more);
                let new = [old, more].concat();
                if model::takes(lengths, &new) {
                    plan(request, OK, vec![Field::Uid(key.clone())], set(&key, new))
                } else {
                    plan(request, ERR_WRONG_LENGTH, vec![Field::Number(0)], vec![])
                }
            }
            Op::Stop(k) => {
                let request = call('u').bytes(&self.key(k)).number(3).bytes(&[]);
                plan(request, STOPPED, vec![Field::AnyNumber], vec![])
            }
            Op::GetByUid(k, checked) => self.by_uid(process, handle, k, checked, 'G', None),
            Op::KeyByUid(k, checked) => self.by_uid(process, handle, k, checked, 'g', None),
            Op::PutByUid(k, checked, v) => self.by_uid(process, handle, k, checked, 'P', Some(v)),
            Op::DelByUid(k, checked) => self.by_uid(process, handle, k, checked, 'D', None),
            Op::PutMany(ref pairs) => {
                let pairs: Vec<_> = pairs.iter().map(|&(k, v)| (self.key(k), self.value(v))).collect();
                Self::put_many(pairs)
            }
            Op::DelMany(ref keys) => self.del_many(keys.iter().map(|&k| self.key(k)).collect()),
            Op::Fill(from, n, seed) => {
                let pair = |number: usize| {
                    let value = Value { len: (number + usize::from(seed)) % 30, seed };
                    (small_key(lengths, number), value.bytes(lengths))
                };
                Self::put_many((from..from + n).map(pair).collect())
            }
            Op::Drain(from, n) => self.del_many((from..from + n).map(|i| small_key(lengths, i)).collect()),
            Op::GetMany(ref keys, room, packed) => {
                let keys: Vec<_> = keys.iter().map(|&k| self.key(k)).collect();
                let request = call(if packed { '5' } else { '3' }).number(keys.len() as u64);
                let request = keys.iter().fold(request, |request, key| request.bytes(key)).number(room);
                let values = keys.iter().map(|key| self.model.get(key));
                let fields = if packed {
                    values.flat_map(Self::got_packed).collect()
                } else {
                    values.flat_map(|value| Self::got_in_batch(value, room)).collect()
                };
                plan(request, OK, fields, vec![])
            }
            Op::ManyByUid(ref keys, room, packed, checked) => {
                let mut uids = Vec::new();
                for &k in keys {
                    let key = self.key(k);
                    if let Some(uid) = self.uid(process, handle, &key, checked && packed) {
                        uids.push((uid, key));
                    }
                }
                let mut request = call(if packed { '6' } else { '4' });
                if packed {
                    request = request.number(checked.into());
                }
                request = request.number(uids.len() as u64);
                request = uids.iter().fold(request, |request, uid| request.number(uid.0)).number(room);
                let values = uids.iter().map(|(_, key)| self.model.get(key));
                let fields = if packed {
                    values.flat_map(Self::got_packed).collect()
                } else {
                    values.flat_map(|value| Self::got_in_batch(value, room)).collect()
                };
                plan(request, OK, fields, vec![])
            }
            Op::Len => plan(call('l'), OK, vec![Field::Number(self.model.len() as u64)], vec![]),
            Op::Check => {
                let fields = vec![
                    Field::Number(0),
                    Field::Number(0),
                    Field::Number(self.model.len() as u64),
                    Field::Bytes(vec![]),
                ];
                plan(call('k'), OK, fields, vec![])
            }
            Op::Stats => {
                let fields = vec![
                    Field::Number(self.model.len() as u64),
                    Field::AnyNumber,
                    Field::AnyNumber,
                    Field::AnyNumber,
                ];
                plan(call('s'), OK, fields, vec![])
            }
            Op::Options => {
                let (key, value) = lengths.unwrap_or((0, 0));
                let read_only = Self::is_read_only(process, handle);
                let numbers = [key as u64, value as u64, self.hash, read_only.into()];
                plan(call('z'), OK, numbers.map(Field::Number).into(), vec![])
            }
            Op::Clear => {
                let changes = self.model.keys().map(|key| (key.clone(), None)).collect();
                plan(call('e'), OK, vec![], changes)
            }
            ref other => unreachable!("{other:?} is not one call"),
        }
    }

    fn put_many(pairs: Vec<(Key, Vec<u8>)>) -> Plan {
        let request = call('1').number(pairs.len() as u64);
        let request = pairs.iter().fold(request, |request, (key, value)| request.bytes(key).bytes(value));
        let fields = vec![Field::Number(pairs.len() as u64)];
        let changes = pairs.into_iter().map(|(key, value)| (key, Some(value))).collect();
        Plan { request, code: OK, fields, changes }
    }

    fn del_many(&self, keys: Vec<Key>) -> Plan {
        let there: HashSet<_> = keys.iter().filter(|key| self.model.contains_key(*key)).collect();
        let fields = vec![Field::Number(there.len() as u64), Field::Number(keys.len() as u64)];
        let request = call('2').number(keys.len() as u64);
        let request = keys.iter().fold(request, |request, key| request.bytes(key));
        let changes = keys.into_iter().map(|key| (key, None)).collect();
        Plan { request, code: OK, fields, changes }
    }

    /// The UID of a key, remembered or asked for. `None`: the key is absent.
    fn uid(&mut self, process: usize, handle: usize, key: &[u8], checked: bool) -> Option<u64> {
        let there = self.model.contains_key(key);
        let mut answer = self.asked(process, handle, &call(if checked { 'K' } else { 'U' }).bytes(key));
        assert_eq!(answer.code, if there { OK } else { NOT_FOUND });
        let uid = answer.number();
        if !there {
            return None;
        }
        self.remember(key, uid, checked);
        Some(uid)
    }

    /// The UID of a living key never changes.
    fn remember(&mut self, key: &[u8], uid: u64, checked: bool) {
        let known = self.uids.entry(key.to_vec()).or_default();
        let plain = if checked { uid >> 32 } else { uid };
        assert_ne!(plain, 0);
        assert_eq!(*known.plain.get_or_insert(plain), plain, "the UID of a living key has changed");
        if checked {
            assert_eq!(*known.checked.get_or_insert(uid), uid, "the checked UID of a living key has changed");
        }
    }

    /// `g`: the key. A key that is not there has no UID: another call then.
    fn by_uid(
        &mut self,
        process: usize,
        handle: usize,
        k: usize,
        checked: bool,
        what: char,
        v: Option<Value>,
    ) -> Plan {
        let key = self.key(k);
        let Some(uid) = self.uid(process, handle, &key, checked) else {
            return self.plan(process, handle, &Op::Contains(k));
        };
        let request = |name| call(name).number(checked.into());
        let (request, fields, changes) = match what {
            'G' => (
                request('G').number(0).number(uid).number(ROOM),
                Self::got(self.model.get(&key), ROOM).1,
                vec![],
            ),
            'g' => (request('G').number(1).number(uid).number(ROOM), Self::got(Some(&key), ROOM).1, vec![]),
            'P' => {
                let value = self.value(v.expect("a value to be put"));
                (request('P').number(uid).bytes(&value), vec![], vec![(key, Some(value))])
            }
            _ => (request('D').number(uid), vec![], vec![(key, None)]),
        };
        Plan { request, code: OK, fields, changes }
    }

    fn change(&mut self, (key, value): Change) {
        if let Some(value) = value {
            self.model.insert(key, value);
            return;
        }
        self.model.remove(&key);
        if let Some(uid) = self.uids.remove(&key).and_then(|uids| uids.checked) {
            self.stale.push((key.clone(), uid));
        }
        if let Some(walk) = &mut self.walk {
            walk.throughout.remove(&key);
        }
    }

    fn compare(&mut self, mut answer: Answer, plan: Plan) {
        let name = char::from(plan.request.call);
        assert_eq!(answer.code, plan.code, "code of {name}");
        for change in plan.changes {
            self.change(change);
        }
        for (place, field) in plan.fields.into_iter().enumerate() {
            match field {
                Field::Number(expected) => assert_eq!(answer.number(), expected, "result {place} of {name}"),
                Field::Bytes(expected) => {
                    assert!(answer.bytes() == expected, "result {place} of {name} has other bytes");
                }
                Field::Uid(key) => {
                    let uid = answer.number();
                    self.remember(&key, uid, false);
                }
                Field::AnyNumber => drop(answer.number()),
            }
        }
    }

    fn apply(&mut self, step: &Step) {
        let (process, handle) = (step.process, step.handle);
        match step.op {
            Op::Kill => {
                if self.processes[process].take().is_some() {
                    self.counts.idle.fetch_add(1, Relaxed); // Reaped has killed it
                }
            }
            Op::CloseAll => {
                for process in 0..PROCESSES {
                    (0..HANDLES).for_each(|handle| self.close(process, handle));
                }
            }
            Op::Close => self.close(process, handle),
            Op::FromFd if Self::is_read_only(process, 1) => {}
            Op::FromFd => {
                self.ready(process, 0, None).expect("nobody asked it to die");
                self.close(process, 1);
                let answer = self.ask(process, 1, step.die_at, &call('o').number(0));
                if let Some(answer) = answer {
                    assert_eq!(answer.code, OK);
                    self.process(process).open[1] = true;
                }
            }
            Op::Stale(n, key) => self.stale(process, handle, n, key),
            Op::WrongLength(k, v) => self.wrong_length(process, handle, k, v),
            Op::Walk(steps) => self.walk(process, handle, steps),
            Op::Collapse => {
                let answer = self.asked(process, handle, &call('h'));
                assert!([OK, ERR_UNSUPPORTED].contains(&answer.code), "collapse: {}", answer.code);
            }
            ref op => {
                if self.ready(process, handle, step.die_at).is_some() {
                    self.one_call(step, op);
                }
            }
        }
    }

    fn one_call(&mut self, step: &Step, op: &Op) {
        // Read-only handles read.
        let handle = if Self::is_read_only(step.process, step.handle)
            && !matches!(
                op,
                Op::Options
                    | Op::Get(..)
                    | Op::Contains(_)
                    | Op::GetMany(..)
                    | Op::GetByUid(..)
                    | Op::KeyByUid(..)
                    | Op::ManyByUid(..)
            ) {
            0
        } else {
            step.handle
        };
        self.ready(step.process, handle, None).expect("nobody asked it to die");
        if matches!(op, Op::Clear) && step.die_at.is_some() {
            for key in self.model.keys().cloned().collect::<Vec<_>>() {
                self.uid(step.process, handle, &key, false); // it tells the shard
            }
        }
        let plan = self.plan(step.process, handle, op);
        match self.ask(step.process, handle, step.die_at, &plan.request) {
            Some(answer) => self.compare(answer, plan),
            None => self.after_a_death(step, plan, matches!(op, Op::Clear)),
        }
    }

    fn close(&mut self, process: usize, handle: usize) {
        if self.processes[process].as_ref().is_some_and(|process| process.open[handle]) {
            self.asked(process, handle, &call('C'));
            self.process(process).open[handle] = false;
        }
    }

    /// Each key concerned: as a reader finds it.
    fn look(&mut self, process: usize, keys: &[Key]) -> Vec<Option<Vec<u8>>> {
        let read = |key: &Key| call('g').bytes(key).number(ROOM);
        keys.iter()
            .map(|key| {
                let mut answer = self.asked(process, 0, &read(key));
                assert!([OK, NOT_FOUND].contains(&answer.code), "get: {}", answer.code);
                answer.number();
                let value = answer.bytes();
                (answer.code == OK).then_some(value)
            })
            .collect()
    }

    /// The call had any first part of its changes, or all, or none, as a whole; a reader that looks before the repair
    /// never sees more than one that looks afterwards.
    fn after_a_death(&mut self, step: &Step, plan: Plan, clear: bool) {
        let survivor = (step.process + 1) % PROCESSES;
        let keys = model::keys_of(&plan.changes);
        if matches!(step.repair, Repair::Alone) {
            self.processes.iter_mut().for_each(|process| *process = None);
        }
        let before = self.look(survivor, &keys);
        self.repair(step, survivor, &keys);
        let after = self.look(survivor, &keys);
        if clear {
            self.after_a_clear(&keys, &before, &after);
            return;
        }
        let name = char::from(plan.request.call).to_string();
        let made = model::made(&name, &self.model, &plan.changes, &before, &after);
        for change in plan.changes.into_iter().take(made) {
            self.change(change);
        }
    }

    /// Each shard is cleared as a whole, or not at all.
    fn after_a_clear(&mut self, keys: &[Key], before: &[Option<Vec<u8>>], after: &[Option<Vec<u8>>]) {
        for seen in [before, after] {
            let mut there: HashMap<u64, bool> = HashMap::new();
            for (key, value) in keys.iter().zip(seen) {
                let shard = self.uids_of(key).plain.expect("asked for before the clear") >> 24;
                assert_eq!(
                    *there.entry(shard).or_insert(value.is_some()),
                    value.is_some(),
                    "half a shard is cleared"
                );
                assert!(value.is_none() || value.as_ref() == self.model.get(key));
            }
        }
        for ((key, before), after) in keys.iter().zip(before).zip(after) {
            assert!(before.is_some() || after.is_none(), "a key that was cleared is back");
            if after.is_none() {
                self.change((key.clone(), None));
            }
        }
    }

    fn repair(&mut self, step: &Step, survivor: usize, keys: &[Key]) {
        if let Repair::DieAgain(store) = step.repair {
            // At its first change, or while it opens the file.
            let (other, killed) = ((step.process + 2) % PROCESSES, self.counts.killed.load(Relaxed));
            if self.ready(other, 0, (store % 3 == 0).then_some(store)).is_some() {
                self.ask(other, 0, Some(store), &call('k'));
            }
            self.counts.repairing.fetch_add(self.counts.killed.load(Relaxed) - killed, Relaxed);
        }
        match step.repair {
            Repair::Check | Repair::DieAgain(_) | Repair::Alone => {
                let mut answer = self.asked(survivor, 0, &call('k'));
                let (code, problems) = (answer.code, answer.number());
                let (_, _, first) = (answer.number(), answer.number(), answer.bytes());
                assert_eq!((code, problems), (OK, 0), "{}", String::from_utf8_lossy(&first));
            }
            Repair::Touch => {
                for key in keys {
                    let other = self.lengths.map_or(Vec::new(), |(_, len)| vec![0xa5; len]);
                    let absent =
                        call('x').bytes(key).number(1).bytes(&other).number(1).bytes(&other).number(0);
                    let answer = self.asked(survivor, 0, &absent);
                    // An empty value is the expected one here, and stays.
                    assert!([OK, UNCHANGED].contains(&answer.code), "cas: {}", answer.code);
                }
            }
        }
    }

    /// The checked UID of a removed key names that key, if it is back, or nothing.
    fn stale(&mut self, process: usize, handle: usize, n: usize, want_key: bool) {
        let Some((key, uid)) = self.stale.get(n).cloned() else { return };
        let request = call('G').number(1).number(want_key.into()).number(uid).number(ROOM);
        let mut answer = self.asked(process, handle, &request);
        answer.number();
        let found = answer.bytes();
        if answer.code == OK {
            let expected = if want_key { Some(&key) } else { self.model.get(&key) };
            assert!(
                self.model.contains_key(&key) && Some(&found) == expected,
                "a stale UID names another key"
            );
        } else {
            assert_eq!(answer.code, NOT_FOUND);
        }
    }

    /// With fixed lengths every call refuses it; nothing changes.
    fn wrong_length(&mut self, process: usize, handle: usize, k: usize, v: Value) {
        if self.lengths.is_none() || Self::is_read_only(process, handle) {
            return;
        }
        let (key, value) = (self.key(k), self.value(v));
        let (wrong_key, wrong_value) = ([&key[..], b"+"].concat(), [&value[..], b"+"].concat());
        let refused = [
            call('g').bytes(&wrong_key).number(ROOM),
            call('c').bytes(&wrong_key),
            call('U').bytes(&wrong_key),
            call('p').bytes(&wrong_key).bytes(&value),
            call('p').bytes(&key).bytes(&wrong_value),
            call('i').bytes(&key).bytes(&wrong_value),
            call('r').bytes(&key).bytes(&wrong_value).number(ROOM),
            call('d').bytes(&wrong_key),
            call('t').bytes(&wrong_key).number(ROOM),
            call('1').number(1).bytes(&wrong_key).bytes(&value),
            call('3').number(1).bytes(&wrong_key).number(ROOM),
        ];
        for request in refused {
            let answer = self.asked(process, handle, &request);
            assert_eq!(answer.code, ERR_WRONG_LENGTH, "{:?}", char::from(request.call));
        }
    }

    fn walk(&mut self, process: usize, handle: usize, steps: usize) {
        let mut walk = self
            .walk
            .take()
            .unwrap_or_else(|| Walk { throughout: self.model.keys().cloned().collect(), ..Walk::default() });
        for _ in 0..steps {
            let request = call('n').number(walk.position).number(ROOM).number(ROOM);
            let mut answer = self.asked(process, handle, &request);
            let (position, uid) = (answer.number(), answer.number());
            if answer.code == NOT_FOUND {
                let missed = walk.throughout.difference(&walk.seen).count();
                assert_eq!(missed, 0, "a walk has missed keys that were there all the time");
                return;
            }
            assert_eq!(answer.code, OK);
            assert!(position > walk.position, "a walk goes on");
            walk.position = position;
            answer.number();
            let key = answer.bytes();
            answer.number();
            assert!(self.model.get(&key) == Some(&answer.bytes()), "a walk has seen another value");
            self.remember(&key, uid, false);
            let again = !walk.seen.insert(key.clone());
            assert!(!again || !walk.throughout.contains(&key), "a walk has seen a key twice");
        }
        self.walk = Some(walk);
    }

    /// Everything once more, by a process of its own.
    fn finish(&mut self) {
        self.processes.iter_mut().for_each(|process| *process = None);
        let (mut keys, mut model): (Vec<_>, _) = (self.model.keys().cloned().collect(), self.model.clone());
        keys.extend((0..KEYS).map(|k| self.key(k)).filter(|key| !self.model.contains_key(key)));
        for (key, seen) in keys.iter().zip(self.look(0, &keys)) {
            assert!(seen == model.remove(key), "a key of {} bytes in the end", key.len());
        }
        self.walk = None;
        self.walk(0, 0, usize::MAX);
        for op in [Op::Check, Op::Len] {
            let plan = self.plan(0, 0, &op);
            let answer = self.asked(0, 0, &plan.request);
            self.compare(answer, plan);
        }
    }
}

fn model<L: Strategy<Value = Lengths>>(name: &str, small: bool, lengths: L)
where
    L::Value: Debug,
{
    let counts = Counts::default();
    let input = (lengths, prop_oneof![3 => Just(2u64), 1 => Just(1u64)], vec(step(), 1..120));
    model::run(name, file!(), 40, &input, |(lengths, hash, steps)| {
        let mut subject = Subject::new(small, lengths, hash, &counts);
        for step in &steps {
            subject.apply(step);
        }
        subject.finish();
    });
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    println!(
        "# total: {name}: {} sequences of {} calls from {PROCESSES} processes, {} of those killed at a chosen store, {} \
         while repairing, {} between two calls; 0 lost, 0 torn, 0 wrong",
        count(&counts.cases),
        count(&counts.calls),
        count(&counts.killed),
        count(&counts.repairing),
        count(&counts.idle),
    );
}

fn some_fixed() -> impl Strategy<Value = Lengths> {
    select(&FIXED[..]).prop_map(Some)
}

#[test]
fn variable_lengths() {
    model("variable lengths", false, Just(None));
}

#[test]
fn variable_lengths_and_small_constants() {
    model("variable lengths, small constants", true, Just(None));
}

#[test]
fn fixed_lengths() {
    model("fixed lengths", false, some_fixed());
}

#[test]
fn fixed_lengths_and_small_constants() {
    model("fixed lengths, small constants", true, some_fixed());
}
