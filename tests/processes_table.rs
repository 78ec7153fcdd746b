//! Many processes on one table: races, sums, and `kill -9`. The processes are this test binary, started again with
//! a role.
//!
//! `SHF_RACE_ROUNDS` (50): rounds of the race to create; `SHF_TORTURE_SECONDS` (5): how long processes are killed;
//! `SHF_SEED` repeats a run's choices.

use std::{
    collections::HashMap,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use shf::{Error, Inserted, Table, TableOptions};

mod common;
#[path = "common/helper.rs"]
mod helper;

use helper::{Helper, commands, say, start};

/// Nobody may wait longer for the lock of a dead process, but where the machine has no time for the one who waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// Not even there.
const HANG: Duration = Duration::from_secs(60);

/// On a loaded machine a process stands still now and then: one late call proves nothing, many do.
#[derive(Default)]
struct Waits {
    all: u32,
    late: u32,
}

impl Waits {
    fn took(&mut self, time: Duration, what: impl FnOnce() -> String) {
        self.all += 1;
        self.late += u32::from(time >= PATIENCE);
        assert!(
            time < HANG && self.late <= 2 + self.all / 4,
            "{}: waited {time:?}; {} of {} waited for more than {PATIENCE:?}",
            what(),
            self.late,
            self.all
        );
    }
}

#[test]
fn child_process() {
    let Some((role, arguments)) = common::role() else { return };
    let path = PathBuf::from(&arguments[0]);
    match role.as_str() {
        "create" => racing_creator(&path, &arguments[1]),
        "add" => adder(&path, arguments[1].parse().unwrap()),
        "insert" => inserter(&path, &arguments[1], arguments[2].parse().unwrap()),
        "torture" => torture_writer(
            &path,
            Path::new(&arguments[1]),
            arguments[2].parse().unwrap(),
            arguments[3].parse().unwrap(),
        ),
        "busy" => busy_writer(&path),
        "hold" => holder(&path),
        other => panic!("no role {other}"),
    }
}

// ---- the race to create ------------------------------------------------------------------------------------------

fn racing_creator(folder: &Path, me: &str) {
    say("ready");
    let mut keep = Vec::new();
    for command in commands() {
        let (round, start) = command.split_once(' ').unwrap();
        let path = folder.join(round);
        common::sleep_until(start.parse().unwrap());
        let either = round.parse::<u64>().unwrap() % 2 == 1;
        let (table, won) = if either {
            (Table::open_or_create(&path).unwrap(), false)
        } else {
            match Table::create(&path) {
                Ok(table) => (table, true),
                Err(Error::Exists(_)) => (Table::open(&path).unwrap(), false),
                Err(error) => panic!("{error:?}"),
            }
        };
        table.put(me, round).unwrap();
        table.fetch_add("sum", 1).unwrap();
        keep.clear(); // let go of the table of the last round only now
        keep.push(table);
        say(if won { "won" } else { "lost" });
    }
}

#[test]
fn sixty_four_creators_at_once_make_one_table_with_one_winner() {
    const PROCESSES: usize = 64;
    let rounds = common::setting("SHF_RACE_ROUNDS", 50);
    let folder = common::folder();
    let mut helpers: Vec<_> = (0..PROCESSES)
        .map(|i| Helper::new(common::child("create", &[&folder.path(), &i.to_string()])))
        .collect();
    for helper in &mut helpers {
        assert_eq!(helper.hear(), "ready");
    }
    for round in 0..rounds {
        let start = common::since_epoch() + 4_000_000;
        for helper in &mut helpers {
            helper.tell(&format!("{round} {start}"));
        }
        let winners = helpers.iter_mut().filter_map(|helper| (helper.hear() == "won").then_some(())).count();
        let expected = usize::from(round % 2 == 0);
        assert_eq!(winners, expected, "round {round}: `create` succeeded {winners} times");
        let path = folder.path().join(round.to_string());
        let table = Table::open(&path).unwrap();
        assert_eq!(table.len().unwrap(), PROCESSES as u64 + 1, "round {round}: not all have the same table");
        assert_eq!(table.fetch_add("sum", 0).unwrap(), 64);
        common::assert_consistent(&table);
        shf::remove(&path).unwrap();
    }
    helpers.into_iter().for_each(Helper::finish);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "private names were left behind");
}

// ---- sums and inserts ---------------------------------------------------------------------------------------------

fn adder(path: &Path, times: u32) {
    let table = Table::open(path).unwrap();
    say("ready");
    commands().next();
    let mut last = [i64::MIN; 4];
    for i in 0..times {
        let slot = (i % 4) as usize;
        let previous = table.fetch_add(format!("counter {slot}"), 1).unwrap();
        assert!(previous > last[slot], "a counter went back");
        last[slot] = previous;
    }
    say("done");
}

#[test]
fn processes_that_add_at_once_lose_nothing() {
    const PROCESSES: usize = 6;
    const TIMES: u32 = 40_000;
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let table = Table::create(&path).unwrap();
    let mut helpers: Vec<_> =
        (0..PROCESSES).map(|_| Helper::new(common::child("add", &[&path, &TIMES.to_string()]))).collect();
    start(&mut helpers);
    for helper in &mut helpers {
        assert_eq!(helper.hear(), "done");
    }
    helpers.into_iter().for_each(Helper::finish);
    let sum: i64 = (0..4).map(|slot| table.fetch_add(format!("counter {slot}"), 0).unwrap()).sum();
    assert_eq!(sum, 6 * i64::from(TIMES));
}

fn inserter(path: &Path, me: &str, keys: u32) {
    let table = Table::open(path).unwrap();
    say("ready");
    commands().next();
    let mut mine = 0;
    for i in 0..keys {
        if let Inserted::New(uid) = table.insert(i.to_le_bytes(), me).unwrap() {
            mine += 1;
            assert_eq!(table.get_by_uid(uid).unwrap(), Some(me.as_bytes().to_vec()));
        } else {
            assert_ne!(table.get(i.to_le_bytes()).unwrap(), Some(me.as_bytes().to_vec()));
        }
    }
    say(&mine.to_string());
}

#[test]
fn processes_that_insert_the_same_keys_never_both_win() {
    const KEYS: u32 = 60_000;
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let table = Table::create(&path).unwrap();
    let names = ["north", "east", "south", "west"];
    let mut helpers: Vec<_> = names
        .iter()
        .map(|name| Helper::new(common::child("insert", &[&path, name, &KEYS.to_string()])))
        .collect();
    start(&mut helpers);
    let wins: Vec<u64> = helpers.iter_mut().map(|helper| helper.hear().parse().unwrap()).collect();
    helpers.into_iter().for_each(Helper::finish);
    assert_eq!(wins.iter().sum::<u64>(), u64::from(KEYS), "each key is new exactly once: {wins:?}");
    let mut owned: HashMap<Vec<u8>, u64> = HashMap::new();
    for entry in &table {
        *owned.entry(entry.unwrap().value).or_default() += 1;
    }
    for (name, wins) in names.iter().zip(wins) {
        assert_eq!(owned.get(name.as_bytes()).copied().unwrap_or_default(), wins, "{name}");
    }
    common::assert_consistent(&table);
}

// ---- kill -9 ------------------------------------------------------------------------------------------------------

/// Fixed lengths or variable ones: what keys and values look like.
#[derive(Clone, Copy, Debug)]
struct Kind {
    lengths: Option<(usize, usize)>,
}

impl Kind {
    const VARIABLE: Kind = Kind { lengths: None };

    fn of(table: &Table) -> Kind {
        let lengths = table.options().get_fixed();
        Kind { lengths: lengths.map(|(key, value)| (key as usize, value as usize)) }
    }

    fn options(self) -> TableOptions {
        let options = TableOptions::new().max_bytes(1 << 30);
        match self.lengths {
            None => options,
            Some((key, value)) => options.fixed(key.try_into().unwrap(), value.try_into().unwrap()),
        }
    }

    /// A key of a life. Short fixed ones have 4 bytes of its seed.
    fn key(self, seed: u64, key: u64) -> Vec<u8> {
        let Some((len, _)) = self.lengths else { return format!("{seed:016x}:{key}").into_bytes() };
        let mut bytes = vec![u8::try_from(key).unwrap()];
        bytes.extend_from_slice(&seed.to_le_bytes());
        bytes.resize(len, 0);
        bytes
    }

    /// A key of nobody's life.
    fn shared(self, number: u8) -> Vec<u8> {
        vec![255 - number; self.lengths.map_or(8, |(len, _)| len)]
    }

    fn value(self, random: &mut common::Random) -> Vec<u8> {
        let len = match (self.lengths, random.below(40)) {
            (Some((_, len)), _) => len as u64,
            (None, 0) => random.below(60_000),
            (None, 1..6) => random.below(9_000),
            (None, 6..12) => 8,
            (None, _) => random.below(120),
        };
        common::stamped(random.next(), usize::try_from(len).unwrap())
    }

    /// What a step makes of an old value: longer if it can be, but bounded, so that a long life stays fast.
    fn appended(self, old: Option<&[u8]>) -> Vec<u8> {
        if let Some((_, len)) = self.lengths {
            return old.map_or_else(
                || vec![1; len],
                |old| old.iter().map(|byte| byte.wrapping_mul(5) ^ 3).collect(),
            );
        }
        let mut value = old.unwrap_or_default().to_vec();
        if value.len() > 3_000 {
            value.clear();
        }
        value.extend_from_slice(&(value.len() as u64).to_le_bytes());
        value
    }

    /// A little-endian number that is one larger, in the bytes that there are.
    fn counted(self, old: Option<&[u8]>) -> Vec<u8> {
        let len = self.lengths.map_or(8, |(_, len)| len.min(8));
        let mut bytes = old.map_or_else(|| vec![0; self.lengths.map_or(8, |(_, len)| len)], <[u8]>::to_vec);
        let mut number = [0; 8];
        number[..len].copy_from_slice(&bytes[..len]);
        let number = u64::from_le_bytes(number).wrapping_add(1).to_le_bytes();
        bytes[..len].copy_from_slice(&number[..len]);
        bytes
    }

    /// Counts, by the call for it where there is one.
    fn count(self, table: &Table, key: &[u8]) {
        if self.lengths.is_none_or(|(_, len)| len == 8) {
            table.fetch_add(key, 1).unwrap();
        } else {
            table.update(key, |old| Some(self.counted(old))).unwrap();
        }
    }
}

/// What step `n` of the life with this seed does: the same in the writer and in the judge.
#[derive(Debug)]
enum Step {
    Put(u64, Vec<u8>),
    Remove(u64),
    Add(u64),
    Append(u64),
    PutMany(Vec<(u64, Vec<u8>)>),
    RemoveMany(Vec<u64>),
}

fn step(kind: Kind, seed: u64, n: u64) -> Step {
    let mut random = common::Random::new(seed ^ n.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let key = random.below(48);
    match random.below(18) {
        0..8 => Step::Put(key, kind.value(&mut random)),
        8..12 => Step::Remove(key),
        12..14 => Step::Add(48 + key % 4),
        14..16 => Step::Append(52 + key % 4),
        16 => {
            let count = random.below(50);
            Step::PutMany((0..count).map(|_| (random.below(48), kind.value(&mut random))).collect())
        }
        _ => {
            let count = random.below(20);
            Step::RemoveMany((0..count).map(|_| random.below(48)).collect())
        }
    }
}

impl Step {
    /// The changes of which each happens as a whole, in order.
    fn parts(self) -> Vec<Step> {
        match self {
            Step::PutMany(pairs) => pairs.into_iter().map(|(key, value)| Step::Put(key, value)).collect(),
            Step::RemoveMany(keys) => keys.into_iter().map(Step::Remove).collect(),
            whole => vec![whole],
        }
    }
}

/// Works until it is killed, and writes before and after each step how far it is: 8 bytes "begun", 8 bytes "done".
fn torture_writer(path: &Path, log: &Path, seed: u64, reopen: u64) {
    let log = File::options().write(true).open(log).unwrap();
    let mut table = Table::open(path).unwrap();
    let kind = Kind::of(&table);
    let life_key = |key: u64| kind.key(seed, key);
    let mut waits = Waits::default();
    for n in 1.. {
        if n % reopen == 0 {
            table = Table::open(path).unwrap(); // deaths in attach and detach, too
        }
        log.write_at(&n.to_le_bytes(), 0).unwrap();
        let started = Instant::now();
        match step(kind, seed, n) {
            Step::Put(key, value) => drop(table.put(life_key(key), value).unwrap()),
            Step::Remove(key) => drop(table.remove(life_key(key)).unwrap()),
            Step::Add(key) => kind.count(&table, &life_key(key)),
            Step::Append(key) => drop(table.update(life_key(key), |old| Some(kind.appended(old))).unwrap()),
            Step::PutMany(pairs) => {
                let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| (life_key(key), value)).collect();
                assert_eq!(table.put_many(&pairs).unwrap(), pairs.len());
            }
            Step::RemoveMany(keys) => {
                let keys: Vec<_> = keys.into_iter().map(life_key).collect();
                table.remove_many(&keys).unwrap();
            }
        }
        kind.count(&table, &kind.shared(TOTAL));
        waits.took(started.elapsed(), || format!("step {n} of {seed:#x}"));
        log.write_at(&n.to_le_bytes(), 8).unwrap();
    }
}

/// Names of shared keys.
const TOTAL: u8 = 0;
const SURVIVOR: u8 = 1;

fn apply(kind: Kind, state: &mut HashMap<u64, Vec<u8>>, step: Step) {
    match step {
        Step::Put(key, value) => drop(state.insert(key, value)),
        Step::Remove(key) => drop(state.remove(&key)),
        Step::Add(key) => {
            let value = kind.counted(state.get(&key).map(Vec::as_slice));
            state.insert(key, value);
        }
        Step::Append(key) => {
            let value = kind.appended(state.get(&key).map(Vec::as_slice));
            state.insert(key, value);
        }
        many => many.parts().into_iter().for_each(|part| apply(kind, state, part)),
    }
}

struct Life {
    child: common::Reaped,
    seed: u64,
    log: PathBuf,
}

impl Life {
    fn begin(folder: &Path, path: &Path, random: &mut common::Random) -> Life {
        let seed = random.next();
        let log = folder.join(format!("{seed:016x}.log"));
        fs::write(&log, [0; 16]).unwrap();
        let reopen = if random.below(3) == 0 { 5 } else { 1_000_000 };
        let child = common::child("torture", &[&path, &log, &seed.to_string(), &reopen.to_string()]);
        Life { child: common::Reaped(child), seed, log }
    }

    /// Kills the writer, and compares what is stored with what it had acknowledged. Gives the number of steps.
    fn end(mut self, table: &Table, waits: &mut Waits) -> (u64, u64) {
        if let Some(status) = self.child.0.try_wait().unwrap() {
            panic!("writer {:#x} ended by itself: {status}", self.seed);
        }
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
        let log = fs::read(&self.log).unwrap();
        let begun = u64::from_le_bytes(log[..8].try_into().unwrap());
        let done = u64::from_le_bytes(log[8..].try_into().unwrap());
        fs::remove_file(&self.log).unwrap();

        let kind = Kind::of(table);
        let keys: Vec<_> = (0..56).map(|key| kind.key(self.seed, key)).collect();
        let started = Instant::now();
        let values = table.get_many(&keys).unwrap();
        let reading = started.elapsed();
        let stored: HashMap<u64, Vec<u8>> =
            (0..).zip(&values).filter_map(|(key, value)| value.map(|value| (key, value.to_vec()))).collect();
        let mut expected = HashMap::new();
        (1..=done).for_each(|n| apply(kind, &mut expected, step(kind, self.seed, n)));
        if stored != expected {
            assert_eq!(begun, done + 1, "writer {:#x} lost an acknowledged step up to {done}", self.seed);
            // A batch may have come to any of its keys.
            let fits = step(kind, self.seed, begun).parts().into_iter().any(|part| {
                apply(kind, &mut expected, part);
                stored == expected
            });
            assert!(
                fits,
                "writer {:#x}: neither {done} nor {begun} steps give what is stored (the last: {:?})",
                self.seed,
                step(kind, self.seed, begun)
            );
        }
        let started = Instant::now();
        // A step that was armed shows to readers only when somebody takes its lock, as this does.
        let removed = table.remove_many(&keys).unwrap();
        assert!(
            removed.abs_diff(stored.len()) <= usize::from(begun > done),
            "writer {:#x}: {} keys were there, {removed} were removed",
            self.seed,
            stored.len()
        );
        table.put(kind.shared(SURVIVOR), kind.counted(None)).unwrap();
        waits.took(reading + started.elapsed(), || format!("the survivor of {:#x}", self.seed));
        (begun, done)
    }
}

/// `writers` processes at a time work on one table, are killed at random, and are replaced.
fn torture(kind: Kind, writers: usize, seconds: u64) {
    let seed = common::seed("kill -9");
    let mut random = common::Random::new(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let table = kind.options().create(&path).unwrap();
    let mut lives: Vec<_> = (0..writers).map(|_| Life::begin(folder.path(), &path, &mut random)).collect();
    let (mut deaths, mut begun, mut done, mut waits) = (0u32, 0, 0, Waits::default());
    while Instant::now() < end {
        thread::sleep(Duration::from_micros(random.below(60_000)));
        let life = lives.swap_remove(random.index(lives.len()));
        let steps = life.end(&table, &mut waits);
        begun += steps.0;
        done += steps.1;
        deaths += 1;
        if deaths % 8 == 0 {
            common::assert_consistent(&table);
        }
        lives.push(Life::begin(folder.path(), &path, &mut random));
    }
    for life in lives {
        let steps = life.end(&table, &mut waits);
        begun += steps.0;
        done += steps.1;
        deaths += 1;
    }
    let mut total = table.get(kind.shared(TOTAL)).unwrap().unwrap_or_default();
    total.resize(8, 0);
    let total = u64::from_le_bytes(total.try_into().unwrap());
    eprintln!("{kind:?}: {deaths} deaths, {done} steps acknowledged, {total} counted, {begun} begun");
    assert!(done <= total && total <= begun, "{done} acknowledged <= {total} counted <= {begun} begun");
    let left = 1 + u64::from(total != 0);
    assert_eq!(table.len().unwrap(), left, "all that the dead had stored was removed");
    common::assert_consistent(&table);
    drop(table);
    let table = Table::open(&path).unwrap();
    common::assert_consistent(&table);
    assert_eq!(table.stats().unwrap().handles, 1, "the slots of the dead came back");
}

#[test]
fn processes_killed_at_random_lose_no_acknowledged_step_and_stop_nobody() {
    torture(Kind::VARIABLE, 4, common::setting("SHF_TORTURE_SECONDS", 5));
}

/// Cells of one word; values of one word; values that take a redo record.
#[test]
fn processes_killed_at_random_on_a_table_of_fixed_lengths_lose_no_acknowledged_step() {
    for lengths in [(5, 3), (9, 8), (13, 40)] {
        torture(Kind { lengths: Some(lengths) }, 2, common::setting("SHF_TORTURE_SECONDS", 9) / 3);
    }
}

fn check_beside_writers(kind: Kind, seconds: u64) {
    let mut random = common::Random::new(common::seed("check beside writers"));
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let table = kind.options().create(&path).unwrap();
    let lives: Vec<_> = (0..4).map(|_| Life::begin(folder.path(), &path, &mut random)).collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut alarm = None;
    while Instant::now() < end && alarm.is_none() {
        alarm = Some(table.check().unwrap()).filter(|report| !report.is_consistent());
    }
    for life in lives {
        life.end(&table, &mut Waits::default());
    }
    let quiet = table.check().unwrap();
    assert!(quiet.is_consistent(), "{quiet:?} when nobody writes; beside writers: {alarm:?}");
    assert!(alarm.is_none(), "a false alarm, all is well when nobody writes: {alarm:?}");
}

#[test]
fn a_check_beside_live_writers_gives_no_false_alarm() {
    let seconds = common::setting("SHF_TORTURE_SECONDS", 3);
    check_beside_writers(Kind::VARIABLE, seconds);
    check_beside_writers(Kind { lengths: Some((13, 40)) }, seconds.div_ceil(2));
}

/// All keys at once die with their handle: the next user need not wait for anybody.
fn holder(path: &Path) {
    let _table = Table::open(path).unwrap();
    say("ready");
    commands().next();
}

#[test]
fn a_table_whose_last_user_was_killed_opens_at_once_and_whole() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    {
        let table = Table::create(&path).unwrap();
        for i in 0..10_000u32 {
            table.put(i.to_le_bytes(), "value").unwrap();
        }
    }
    let mut waits = Waits::default();
    for _ in 0..5 {
        let mut helper = Helper::new(common::child("hold", &[&path]));
        assert_eq!(helper.hear(), "ready");
        helper.signal(Signal::KILL);
        drop(helper);
        let started = Instant::now();
        let table = Table::open(&path).unwrap();
        waits.took(started.elapsed(), || "open".to_string());
        assert_eq!(table.len().unwrap(), 10_000);
        common::assert_consistent(&table);
    }
}

// ---- stopped, not dead --------------------------------------------------------------------------------------------

/// Replaces a long value as fast as it can: much of its time it holds one lock.
fn busy_writer(path: &Path) {
    let table = Table::open(path).unwrap();
    let kind = Kind::of(&table);
    say("ready");
    for n in 0u64.. {
        if kind.lengths.is_none() {
            table.put(kind.shared(0), n.to_le_bytes()).unwrap();
        }
        table.put(kind.shared(0), busy_value(kind, n)).unwrap();
    }
}

/// A value all of whose bytes are the same.
fn busy_value(kind: Kind, n: u64) -> Vec<u8> {
    vec![n.to_le_bytes()[0]; kind.lengths.map_or(6_000, |(_, len)| len)]
}

fn stop_the_owner(kind: Kind) {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let table = kind.options().lock_timeout(Duration::from_millis(40)).create(&path).unwrap();
    let key = kind.shared(0);
    table.put(&key, busy_value(kind, 0)).unwrap();
    let mut helper = Helper::new(common::child("busy", &[&path]));
    assert_eq!(helper.hear(), "ready");
    let (mut timeouts, mut reads, mut gave_up) = (0, Waits::default(), Waits::default());
    for _ in 0..400 {
        thread::sleep(Duration::from_micros(700));
        helper.signal(Signal::STOP);
        thread::sleep(Duration::from_millis(1));
        let started = Instant::now();
        let seen = table.get(&key).unwrap().expect("readers need no lock");
        reads.took(started.elapsed(), || "a reader beside a stopped writer".to_string());
        assert!(seen.len() == 8 || seen.iter().all(|&byte| byte == seen[0]), "torn: {seen:?}");
        let started = Instant::now();
        let result = table.replace(&key, busy_value(kind, 1));
        let waited = started.elapsed();
        match result {
            Ok(old) => assert!(old.is_some()),
            Err(Error::Timeout(_)) => {
                assert!(waited >= Duration::from_millis(30), "{waited:?}");
                gave_up.took(waited, || "a writer beside a stopped one".to_string());
                timeouts += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
        helper.signal(Signal::CONT);
        if timeouts == 3 {
            break;
        }
    }
    if timeouts == 0 {
        eprintln!("{kind:?}: the writer was never stopped inside its lock: nothing was proved");
    }
    helper.signal(Signal::STOP);
    helper.signal(Signal::KILL);
    drop(helper);
    // A dead owner is not waited for, even if it was stopped before: not for the 40 ms that a live one would be.
    table.put(&key, busy_value(kind, 2)).unwrap();
    common::assert_consistent(&table);
}

#[test]
fn a_stopped_owner_is_waited_for_and_never_robbed() {
    stop_the_owner(Kind::VARIABLE);
    stop_the_owner(Kind { lengths: Some((4, 116)) });
}
