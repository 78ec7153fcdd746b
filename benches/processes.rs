//! Several processes on one table: rates, ratios, bytes per key, latencies while growing, opening, recovery.
//!
//! ```text
//! cargo bench --bench processes                                  # all, 10 M keys, some minutes
//! cargo bench --bench processes -- --keys 1000000 --rounds 5 rates memory
//! cargo bench --bench processes -- --json > figures.json
//! ```
//!
//! **How it measures.** This process measures little itself. It starts *servers*, which are this program again,
//! each pinned to a core, and tells them over pipes what to do; each does it at once and answers with the time.
//! So a table and its rival are measured in turn, A B B A A B B A, in the same seconds of the same machine, and
//! the figure is the median. Two processes get their command at the same instant; each does its half of the keys,
//! and the slower one's time counts. Keys and values have 4 bytes; keys come in random order, reads in another
//! order than writes. The rival is hashbrown's map of boxed keys and values, with its own default hasher.
//!
//! **Warm memory.** On a virtual machine the first touch of a page costs 1-12 us, once per boot, whoever does it:
//! so this process touches a few GB first and gives them back. Then there are two kinds of put. *put, new memory*:
//! a new process, an empty table or map; everything comes from the kernel, page by page, and that is in the time.
//! *put, own memory*: the same process did it once before; the table was cleared and keeps its file, the map was
//! dropped and the allocator keeps its heap (M_TRIM_THRESHOLD and M_MMAP_MAX say so); both grow from empty again,
//! without page faults. Compare like with like.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod common;

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use common::{BoxedMap, Histogram, Key, Probe, Random};
use shf::{Table, Uid};

type AnyError = Box<dyn std::error::Error>;

/// Several processes on one table: rates, ratios, bytes per key, latencies, opening, recovery.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure; default: everything
    parts: Vec<Part>,
    /// Keys in the table
    #[arg(long)]
    keys: Option<u32>,
    /// Keys put while latencies are taken
    #[arg(long)]
    tail_keys: Option<u32>,
    /// Size of the table that is opened, in MB
    #[arg(long)]
    open_mb: Option<u64>,
    /// Rounds of A B B A; each side is measured twice a round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Cargo says so when it runs benches
    #[arg(long, hide = true)]
    bench: bool,
    /// Internal: be a server for this side, on this core
    #[arg(long, hide = true, value_names = ["SIDE", "CORE"], num_args = 2)]
    serve: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Operations a second: one process, two processes, hashbrown
    Rates,
    /// Bytes of file per key; the size of an empty table
    Memory,
    /// Latencies of put while growing from empty
    Tail,
    /// Opening a large table
    Open,
    /// The longest operation of a survivor after a death inside a lock
    Recovery,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.serve {
        Some(serve) => {
            serve[1].parse().map_err(Into::into).and_then(|core| Server::new(&serve[0], core).run())
        }
        None => measure(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("processes: {error}");
            ExitCode::from(2)
        }
    }
}

// ---- a server ---------------------------------------------------------------------------------------------

/// Does what it is told on its standard input, a command a line; answers each with one line of numbers.
struct Server {
    side: Side,
    writes: Vec<Key>,
    reads: Vec<Key>,
    absent: Vec<Key>,
    uids: Vec<Uid>,
    change: u8,
}

enum Side {
    Shf(Option<Table>),
    Map(BoxedMap),
}

impl Server {
    fn new(side: &str, core: usize) -> Self {
        pin(core);
        let side = if side == "shf" { Side::Shf(None) } else { Side::Map(BoxedMap::new()) };
        Self { side, writes: Vec::new(), reads: Vec::new(), absent: Vec::new(), uids: Vec::new(), change: 0 }
    }

    fn run(mut self) -> Result<(), AnyError> {
        let mut out = std::io::stdout().lock();
        for line in std::io::stdin().lock().lines() {
            let line = line?;
            let words: Vec<&str> = line.split(' ').collect();
            let answer = self.command(&words)?;
            writeln!(out, "{answer}")?;
            out.flush()?;
        }
        Ok(())
    }

    fn command(&mut self, words: &[&str]) -> Result<String, AnyError> {
        let part = || -> Result<(usize, usize), AnyError> { Ok((words[1].parse()?, words[2].parse()?)) };
        let time = match words[0] {
            "keys" => {
                let n = words[1].parse()?;
                self.writes = common::shuffled_keys(0, n, 1);
                if words[2] == "all" {
                    self.reads = common::shuffled_keys(0, n, 2);
                    self.absent = common::shuffled_keys(n, n, 3);
                }
                Duration::ZERO
            }
            "create" => self.create(Path::new(words[1]))?,
            "open" => {
                self.side = Side::Shf(Some(Table::open(words[1])?));
                Duration::ZERO
            }
            "close" => {
                self.close();
                Duration::ZERO
            }
            "clear" => match &mut self.side {
                Side::Shf(table) => timed(|| Ok(table.as_ref().ok_or("no table")?.clear()?))?,
                Side::Map(map) => timed(|| {
                    *map = BoxedMap::new();
                    Ok(())
                })?,
            },
            "put" => self.put(part()?)?,
            "get" => self.get(part()?, false)?,
            "absent" => self.get(part()?, true)?,
            "replace" => {
                self.change = self.change.wrapping_add(1);
                self.replace(part()?)?
            }
            "uids" => {
                let table = self.table()?;
                let uids: Result<Vec<_>, _> = self.reads.iter().map(|key| table.uid(key)).collect();
                self.uids = uids?.into_iter().flatten().collect();
                Duration::ZERO
            }
            "uid" => self.get_by_uid(part()?)?,
            "bytes" => return Ok(self.table()?.stats()?.file_bytes.to_string()),
            "recoveries" => return Ok(self.table()?.stats()?.recoveries.to_string()),
            "fill" => return self.fill(words[1].parse()?),
            "tail" => return self.tail(words[1].parse()?),
            "sweep" => self.sweep(words[1].parse()?)?,
            "spin" => self.spin(words[1].parse()?, words[2].parse()?)?,
            other => return Err(format!("no command {other}").into()),
        };
        Ok(time.as_nanos().to_string())
    }

    fn table(&self) -> Result<&Table, AnyError> {
        match &self.side {
            Side::Shf(Some(table)) => Ok(table),
            _ => Err("no table is open".into()),
        }
    }

    fn create(&mut self, path: &Path) -> Result<Duration, AnyError> {
        self.close();
        if matches!(self.side, Side::Shf(_)) {
            self.side = Side::Shf(Some(Table::create(path)?));
        }
        Ok(Duration::ZERO)
    }

    fn close(&mut self) {
        self.side = match self.side {
            Side::Shf(_) => Side::Shf(None),
            Side::Map(_) => Side::Map(BoxedMap::new()),
        };
    }

    fn put(&mut self, part: (usize, usize)) -> Result<Duration, AnyError> {
        let keys = share(&self.writes, part);
        match &mut self.side {
            Side::Shf(Some(table)) => timed(|| {
                for key in keys {
                    table.put(key, key)?;
                }
                Ok(())
            }),
            Side::Shf(None) => Err("no table is open".into()),
            Side::Map(map) => timed(|| {
                for key in keys {
                    map.insert(key[..].into(), key[..].into());
                }
                Ok(())
            }),
        }
    }

    fn replace(&mut self, part: (usize, usize)) -> Result<Duration, AnyError> {
        let keys = share(&self.reads, part);
        let change = self.change;
        match &mut self.side {
            Side::Shf(Some(table)) => timed(|| {
                for key in keys {
                    table.put(key, [key[0], key[1], key[2], change])?;
                }
                Ok(())
            }),
            Side::Shf(None) => Err("no table is open".into()),
            Side::Map(map) => timed(|| {
                for key in keys {
                    *map.get_mut(&key[..]).ok_or("lost")? = [key[0], key[1], key[2], change][..].into();
                }
                Ok(())
            }),
        }
    }

    fn get(&self, part: (usize, usize), absent: bool) -> Result<Duration, AnyError> {
        let keys = share(if absent { &self.absent } else { &self.reads }, part);
        let mut found = 0;
        let time = match &self.side {
            Side::Shf(Some(table)) => timed(|| {
                let mut value = Vec::with_capacity(64);
                for key in keys {
                    found += usize::from(table.get_into(key, &mut value)?);
                }
                Ok(())
            }),
            Side::Shf(None) => Err("no table is open".into()),
            Side::Map(map) => timed(|| {
                let mut sum = 0u64;
                for key in keys {
                    if let Some(value) = map.get(&key[..]) {
                        sum += u64::from(value[0]);
                        found += 1;
                    }
                }
                black_box(sum);
                Ok(())
            }),
        }?;
        if found != if absent { 0 } else { keys.len() } {
            return Err(format!("{found} of {} keys found", keys.len()).into());
        }
        Ok(time)
    }

    fn get_by_uid(&self, part: (usize, usize)) -> Result<Duration, AnyError> {
        let table = self.table()?;
        let uids = share(&self.uids, part);
        timed(|| {
            let mut value = Vec::with_capacity(64);
            for &uid in uids {
                if !table.get_by_uid_into(uid, &mut value)? {
                    return Err("a UID was lost".into());
                }
            }
            Ok(())
        })
    }

    /// Puts 112-byte values until the file has so many bytes. Answers with the keys.
    fn fill(&self, bytes: u64) -> Result<String, AnyError> {
        let table = self.table()?;
        let mut n = 0u32;
        while table.stats()?.file_bytes < bytes {
            for _ in 0..100_000 {
                table.put(common::key(n), [7u8; 112])?;
                n += 1;
            }
        }
        Ok(n.to_string())
    }

    /// Times each put of `n` new keys. Answers with p50, p99, p99.9, p99.99 and the longest.
    fn tail(&mut self, n: u32) -> Result<String, AnyError> {
        let mut times = Histogram::new();
        let mut last = Instant::now();
        let mut lap = |times: &mut Histogram| {
            let now = Instant::now();
            times.add(u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX));
            last = now;
        };
        match &mut self.side {
            Side::Shf(Some(table)) => {
                for key in (0..n).map(common::key) {
                    table.put(key, key)?;
                    lap(&mut times);
                }
            }
            Side::Shf(None) => return Err("no table is open".into()),
            Side::Map(map) => {
                for key in (0..n).map(common::key) {
                    map.insert(key[..].into(), key[..].into());
                    lap(&mut times);
                }
            }
        }
        let quantiles = [0.5, 0.99, 0.999, 0.9999].map(|share| times.quantile(share).to_string());
        Ok(format!("{} {}", quantiles.join(" "), times.max()))
    }

    /// One replace of each of 4,096 keys, which lie in all shards. Answers with the longest.
    fn sweep(&self, n: u32) -> Result<Duration, AnyError> {
        let table = self.table()?;
        let mut longest = Duration::ZERO;
        for i in 0..4096 {
            let key = common::key(i % n);
            let start = Instant::now();
            table.put(key, [0, 0, 0, 1])?;
            longest = longest.max(start.elapsed());
        }
        Ok(longest)
    }

    /// Replaces random ones of the first `n` keys until it is killed. Says first that it is there.
    fn spin(&self, n: u32, seed: u64) -> Result<Duration, AnyError> {
        let table = self.table()?;
        let mut random = Random(seed);
        println!("spinning");
        loop {
            let i = u32::try_from(random.below(u64::from(n)))?;
            table.put(common::key(i), [0, 0, 0, 2])?;
        }
    }
}

fn share<T>(all: &[T], (part, parts): (usize, usize)) -> &[T] {
    &all[all.len() * part / parts..all.len() * (part + 1) / parts]
}

fn timed(f: impl FnOnce() -> Result<(), AnyError>) -> Result<Duration, AnyError> {
    let start = Instant::now();
    f()?;
    Ok(start.elapsed())
}

/// Best effort: without it the figures are only less steady.
fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

// ---- the process that measures ----------------------------------------------------------------------------

/// A server as seen from here.
struct Remote {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Remote {
    /// `keep_heap`: the allocator never gives memory back, so that a second map finds its pages touched.
    fn start(side: &str, core: usize, keep_heap: bool) -> Result<Self, AnyError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--serve", side, &core.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if keep_heap {
            command.envs([
                ("MALLOC_TRIM_THRESHOLD_", "1000000000000"),
                ("MALLOC_MMAP_MAX_", "0"),
                ("MALLOC_ARENA_MAX", "1"),
            ]);
        }
        let mut child = command.spawn()?;
        let input = child.stdin.take().ok_or("no pipe")?;
        let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        Ok(Self { child, input, output })
    }

    fn send(&mut self, command: &str) -> Result<(), AnyError> {
        writeln!(self.input, "{command}")?;
        Ok(self.input.flush()?)
    }

    fn line(&mut self) -> Result<String, AnyError> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("a server ended (its message is above)".into());
        }
        Ok(line.trim_end().to_string())
    }

    fn ask(&mut self, command: &str) -> Result<String, AnyError> {
        self.send(command)?;
        self.line()
    }

    fn number(&mut self, command: &str) -> Result<u64, AnyError> {
        Ok(self.ask(command)?.parse()?)
    }

    fn kill(mut self) -> Result<(), AnyError> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both do their half of `op` at once. The slower one's time.
fn both(servers: &mut [Remote; 2], op: &str) -> Result<u64, AnyError> {
    for (part, server) in servers.iter_mut().enumerate() {
        server.send(&format!("{op} {part} 2"))?;
    }
    let [a, b] = servers;
    Ok(a.line()?.parse::<u64>()?.max(b.line()?.parse()?))
}

/// What was measured, in the order it was measured.
#[derive(Default)]
struct Figures(Vec<Figure>);

struct Figure {
    name: String,
    unit: &'static str,
    median: f64,
    low: f64,
    high: f64,
    samples: usize,
}

impl Figures {
    /// Adds the median of the values and returns it.
    fn add(&mut self, name: impl Into<String>, unit: &'static str, values: &[f64]) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        let median = if n % 2 == 1 { sorted[n / 2] } else { f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]) };
        let figure =
            Figure { name: name.into(), unit, median, low: sorted[0], high: sorted[n - 1], samples: n };
        eprintln!("{figure}");
        self.0.push(figure);
        median
    }

    /// M operations a second out of the nanoseconds that `n` of them took.
    fn rate(&mut self, name: impl Into<String>, n: u32, nanoseconds: &[u64]) -> f64 {
        let rates: Vec<f64> = nanoseconds.iter().map(|&ns| f64::from(n) * 1e3 / ns as f64).collect();
        self.add(name, "M/s", &rates)
    }

    fn json(&self) -> String {
        let mut text = String::from("[\n");
        for (i, f) in self.0.iter().enumerate() {
            let comma = if i + 1 == self.0.len() { "" } else { "," };
            let _ = writeln!(
                text,
                "  {{\"name\": \"{}\", \"unit\": \"{}\", \"median\": {:.4}, \"low\": {:.4}, \"high\": {:.4}, \"samples\": {}}}{comma}",
                f.name, f.unit, f.median, f.low, f.high, f.samples
            );
        }
        text + "]"
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:<48} {:>9.2} {:<5}", self.name, self.median, self.unit)?;
        if self.samples > 1 {
            write!(f, "  {:.2} .. {:.2}, {} samples", self.low, self.high, self.samples)?;
        }
        Ok(())
    }
}

struct Setup {
    folder: PathBuf,
    keys: u32,
    tail_keys: u32,
    open_bytes: u64,
    rounds: u32,
    /// Deaths that must have cut off a change.
    deaths: usize,
    cores: [usize; 2],
    figures: Figures,
}

fn measure(args: &Args) -> Result<(), AnyError> {
    // `cargo test --benches`: only to see that it works.
    let (keys, tail_keys, open_mb) =
        if args.bench { (10_000_000, 20_000_000, 1024) } else { (20_000, 50_000, 16) };
    let folder = common::folder()?;
    let cores = std::thread::available_parallelism()?.get();
    let mut setup = Setup {
        folder: folder.path().into(),
        keys: args.keys.unwrap_or(keys).max(2),
        tail_keys: args.tail_keys.unwrap_or(tail_keys).max(1),
        open_bytes: args.open_mb.unwrap_or(open_mb) << 20,
        rounds: args.rounds,
        deaths: if args.bench { 20 } else { 1 },
        cores: [cores - 1, cores.saturating_sub(2)],
        figures: Figures::default(),
    };
    let wanted = |part| args.parts.is_empty() || args.parts.contains(&part);
    eprintln!("{} keys of 4+4 bytes, {} cores, {}", setup.keys, cores, machine());
    if cores < 2 {
        eprintln!("warning: with one core, two processes share it");
    }
    common::warm_machine(u64::from(setup.keys.max(setup.tail_keys)) * 300);
    if wanted(Part::Rates) {
        setup.rates()?;
    }
    if wanted(Part::Memory) {
        setup.memory()?;
    }
    if wanted(Part::Tail) {
        setup.tail()?;
    }
    if wanted(Part::Open) {
        setup.open()?;
    }
    if wanted(Part::Recovery) {
        setup.recovery()?;
    }
    if args.json {
        println!("{}", setup.figures.json());
    }
    Ok(())
}

/// The processor's name, for the record.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    name.unwrap_or("unknown processor").trim().to_string()
}

impl Setup {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// For puts alone, in a new process.
    fn writer(&self, side: &str, core: usize) -> Result<Remote, AnyError> {
        let mut server = Remote::start(side, self.cores[core], false)?;
        server.ask(&format!("keys {} put", self.keys))?;
        Ok(server)
    }

    /// For everything, in a process that stays and keeps its memory.
    fn server(&self, side: &str, core: usize) -> Result<Remote, AnyError> {
        let mut server = Remote::start(side, self.cores[core], true)?;
        server.ask(&format!("keys {} all", self.keys))?;
        Ok(server)
    }

    /// The order of one round: A B B A.
    fn order(&self) -> impl Iterator<Item = bool> + use<> {
        (0..self.rounds).flat_map(|_| [true, false, false, true])
    }

    fn rates(&mut self) -> Result<(), AnyError> {
        let n = self.keys;
        self.probe();

        // Puts with new memory: a new process each time.
        let (mut table_times, mut map_times, mut pair_times) = (Vec::new(), Vec::new(), Vec::new());
        for table in self.order() {
            let mut server = self.writer(if table { "shf" } else { "map" }, 0)?;
            let path = self.path("new.shf");
            server.ask(&format!("create {}", path.display()))?;
            let time = server.number("put 0 1")?;
            if table { &mut table_times } else { &mut map_times }.push(time);
            if table {
                server.ask("close")?;
                shf::remove(&path)?;
                let mut servers = [server, self.writer("shf", 1)?];
                servers[0].ask(&format!("create {}", path.display()))?;
                servers[1].ask(&format!("open {}", path.display()))?;
                pair_times.push(both(&mut servers, "put")?);
                drop(servers);
                shf::remove(&path)?;
            }
        }
        self.compare("put, new memory", n, &table_times, &map_times, &pair_times);

        // Everything else in processes that stay.
        let path = self.path("rates.shf");
        let mut servers = [self.server("shf", 0)?, self.server("shf", 1)?];
        let mut map = self.server("map", 0)?;
        servers[0].ask(&format!("create {}", path.display()))?;
        servers[1].ask(&format!("open {}", path.display()))?;
        servers[0].ask("put 0 1")?;
        map.ask("put 0 1")?;
        let (mut table_times, mut map_times, mut pair_times) = (Vec::new(), Vec::new(), Vec::new());
        for table in self.order() {
            if table {
                servers[0].ask("clear")?;
                table_times.push(servers[0].number("put 0 1")?);
                servers[0].ask("clear")?;
                pair_times.push(both(&mut servers, "put")?);
            } else {
                map.ask("clear")?;
                map_times.push(map.number("put 0 1")?);
            }
        }
        self.compare("put, own memory", n, &table_times, &map_times, &pair_times);

        for server in &mut servers {
            server.ask("uids")?;
        }
        for op in ["get", "absent", "uid", "replace"] {
            let (mut table_times, mut map_times, mut pair_times) = (Vec::new(), Vec::new(), Vec::new());
            for table in self.order() {
                if table {
                    table_times.push(servers[0].number(&format!("{op} 0 1"))?);
                    pair_times.push(both(&mut servers, op)?);
                } else if op != "uid" {
                    map_times.push(map.number(&format!("{op} 0 1"))?);
                }
            }
            let name = match op {
                "absent" => "get, absent",
                "uid" => "get by UID",
                op => op,
            };
            self.compare(name, n, &table_times, &map_times, &pair_times);
        }
        drop(servers);
        shf::remove(&path)?;
        Ok(())
    }

    /// The figures of one operation: both sides, two processes, and the ratios of the medians.
    fn compare(&mut self, name: &str, n: u32, table: &[u64], map: &[u64], pair: &[u64]) {
        let one = self.figures.rate(format!("{name}: shf"), n, table);
        if !map.is_empty() {
            let rival = self.figures.rate(format!("{name}: hashbrown, boxed"), n, map);
            self.figures.add(format!("{name}: shf / hashbrown"), "x", &[one / rival]);
        }
        let two = self.figures.rate(format!("{name}: shf, 2 processes"), n, pair);
        self.figures.add(format!("{name}: 2 processes / 1"), "x", &[two / one]);
    }

    fn probe(&mut self) {
        pin(self.cores[0]);
        let probe = Probe::new(u64::from(self.keys) * 33);
        let n = self.keys.max(1_000_000);
        let times: Vec<u64> =
            (0..5).map(|_| u64::try_from(probe.run(n).as_nanos()).unwrap_or(u64::MAX)).collect();
        self.figures.rate("memory: independent random 64-byte reads", n, &times);
    }

    fn memory(&mut self) -> Result<(), AnyError> {
        let path = self.path("memory.shf");
        let mut server = self.writer("shf", 0)?;
        server.ask(&format!("create {}", path.display()))?;
        let empty = server.number("bytes")?;
        server.ask("put 0 1")?;
        let full = server.number("bytes")?;
        drop(server);
        shf::remove(&path)?;
        self.figures.add("file of an empty table", "KiB", &[empty as f64 / 1024.0]);
        self.figures.add("file per key", "B", &[full as f64 / f64::from(self.keys)]);
        Ok(())
    }

    fn tail(&mut self) -> Result<(), AnyError> {
        const NAMES: [&str; 5] = ["p50", "p99", "p99.9", "p99.99", "longest"];
        let path = self.path("tail.shf");
        for (side, label) in [("shf", "shf"), ("map", "hashbrown, boxed")] {
            let mut runs = [const { Vec::new() }; 5];
            for _ in 0..3 {
                let mut server = Remote::start(side, self.cores[0], false)?;
                server.ask(&format!("create {}", path.display()))?;
                let answer = server.ask(&format!("tail {}", self.tail_keys))?;
                for (run, ns) in runs.iter_mut().zip(answer.split(' ')) {
                    run.push(ns.parse::<f64>()? / 1e3);
                }
                drop(server);
                if side == "shf" {
                    shf::remove(&path)?;
                }
            }
            for (name, run) in NAMES.iter().zip(&runs) {
                self.figures.add(format!("put while growing, {name}: {label}"), "us", run);
            }
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), AnyError> {
        let path = self.path("open.shf");
        let mut server = Remote::start("shf", self.cores[0], false)?;
        server.ask(&format!("create {}", path.display()))?;
        server.ask(&format!("fill {}", self.open_bytes))?;
        let mut times = Vec::new();
        for _ in 0..21 {
            let start = Instant::now();
            let table = Table::open(&path)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            drop(table);
        }
        self.figures.add(format!("open of a table of {} MB", self.open_bytes >> 20), "ms", &times);
        drop(server);
        shf::remove(&path)?;
        Ok(())
    }

    /// Kills a process that writes without pause; each time the death cut off a change (`recoveries` moved), the
    /// longest of a survivor's next operations (4,096, in all shards) is a sample. The other kills show a lock
    /// that was held outside of the critical part, and the machine's own noise.
    fn recovery(&mut self) -> Result<(), AnyError> {
        for n in [1000, self.keys] {
            let path = self.path("recovery.shf");
            let mut survivor = Remote::start("shf", self.cores[0], false)?;
            survivor.ask(&format!("keys {n} put"))?;
            survivor.ask(&format!("create {}", path.display()))?;
            survivor.ask("put 0 1")?;
            survivor.ask(&format!("sweep {n}"))?;
            let (mut with, mut without) = (Vec::new(), Vec::new());
            let mut random = Random(u64::from(n));
            let mut before = survivor.number("recoveries")?;
            for _ in 0..self.deaths * 20 {
                let mut victim = Remote::start("shf", self.cores[1], false)?;
                victim.ask(&format!("open {}", path.display()))?;
                // Few keys, so that its time goes into changes and not into waiting for memory.
                victim.ask(&format!("spin 1000 {}", random.next()))?;
                std::thread::sleep(Duration::from_micros(1000 + random.below(2000)));
                victim.kill()?;
                let longest = survivor.number(&format!("sweep {n}"))? as f64 / 1e3;
                let now = survivor.number("recoveries")?;
                if now > before { &mut with } else { &mut without }.push(longest);
                before = now;
                if with.len() == self.deaths {
                    break;
                }
            }
            for (name, times) in [
                ("longest operation after a death", &with),
                ("the same, nothing cut off by the death", &without),
            ] {
                if times.is_empty() {
                    eprintln!("{name}, {n} keys: no such death");
                } else {
                    self.figures.add(format!("{name}, {n} keys"), "us", times);
                }
            }
            drop(survivor);
            shf::remove(&path)?;
        }
        Ok(())
    }
}
