//! The original's own test: processes on one table go through all keys three times, and say every second how far
//! they are.
//!
//! ```text
//! cargo run --release --example shf-bench                                   # 2 processes, 10 million keys
//! cargo run --release --example shf-bench -- --procs 2 --keys 100000000     # 100 million
//! cargo run --release --example shf-bench -- --procs 4 --fixed --seconds 30 # fixed lengths, 30 s a phase at most
//! ```
//!
//! PUT puts every key once, from an empty table. MIX goes over the keys in another order: 98 of 100 are read, 2 are
//! removed and put again. GET reads every key, in a third order; each process reads the keys that its neighbour put.
//! A line a second: the time, the phase, operations so far in millions, each process' share of them, the millions of
//! this second, and a bar, one `#` for each half million a process. (A key of the mix that is removed and put again
//! counts as one operation.) Every key must be found: else it ends with an error.
//!
//! The processes tell their progress through a second, small table. Both tables lose their names as soon as all
//! processes have opened them: so their memory comes back however this program ends, Ctrl-C and SIGKILL included.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![allow(clippy::cast_precision_loss, reason = "rates for people")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use shf::{Table, TableOptions};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Processes put, mix and get the keys of one shared table.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// Processes
    #[arg(short, long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=500))]
    procs: u32,
    /// Keys, of 4 bytes, with values of 4 bytes
    #[arg(short, long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// A table of fixed lengths
    #[arg(long)]
    fixed: bool,
    /// A phase but the first ends after so many seconds
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Where the table is
    #[arg(long, default_value = "/dev/shm", value_name = "FOLDER")]
    folder: std::path::PathBuf,
    /// Internal: be this process, in this folder
    #[arg(long, hide = true, value_names = ["FOLDER", "NUMBER"], num_args = 2)]
    worker: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Phase {
    Put,
    Mix,
    Get,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.worker {
        Some(words) => words[1]
            .parse()
            .map_err(Into::into)
            .and_then(|number| Worker::open(&args, Path::new(&words[0]), number))
            .and_then(Worker::run),
        None => measure(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shf-bench: {error}");
            ExitCode::from(2)
        }
    }
}

// ---- a worker ---------------------------------------------------------------------------------------------

/// Operations between two looks at the clock.
const STRIDE: u32 = 1024;

struct Worker {
    table: Table,
    progress: Table,
    number: u32,
    procs: u32,
    keys: u32,
    limit: Option<Duration>,
}

impl Worker {
    fn open(args: &Args, folder: &Path, number: u32) -> Result<Self, AnyError> {
        // Nobody is there to end it if the first process is killed.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        pin(number);
        let &Args { procs, keys, seconds, .. } = args;
        let table = Table::open(folder.join("keys.shf"))?;
        let progress = Table::open(folder.join("progress.shf"))?;
        Ok(Self { table, progress, number, procs, keys, limit: seconds.map(Duration::from_secs) })
    }

    /// Does the phases that it is told, and answers each with its operations and the keys it did not find.
    fn run(self) -> Result<(), AnyError> {
        println!("open");
        for line in std::io::stdin().lock().lines() {
            let (operations, absent) = self.phase(Phase::from_str(&line?, true)?)?;
            println!("{operations} {absent}");
        }
        Ok(())
    }

    fn phase(&self, phase: Phase) -> Result<(u64, u64), AnyError> {
        // In the last phase everybody reads what another one wrote.
        let owner = if phase == Phase::Get { (self.number + 1) % self.procs } else { self.number };
        let (from, to) = (share(self.keys, owner, self.procs), share(self.keys, owner + 1, self.procs));
        let order = Order::new(to - from, phase);
        let limit = if phase == Phase::Put { None } else { self.limit };
        let start = Instant::now();
        let mut told = start;
        let mut value = Vec::with_capacity(64);
        let mut absent = 0;
        let mut done = 0u32;
        while done < to - from {
            let end = (to - from).min(done + STRIDE);
            for i in done..end {
                let key = key(from + order.place(i));
                match phase {
                    Phase::Put => {
                        self.table.put(key, key)?;
                    }
                    Phase::Mix if i % 50 == 0 => {
                        absent += u64::from(!self.table.remove(key)?);
                        self.table.put(key, key)?;
                    }
                    _ => absent += u64::from(!self.table.get_into(key, &mut value)? || value != key),
                }
            }
            done = end;
            let now = Instant::now();
            if now - told > Duration::from_millis(10) {
                told = now;
                self.progress.put(self.number.to_le_bytes(), u64::from(done).to_le_bytes())?;
            }
            if limit.is_some_and(|limit| now - start > limit) {
                break;
            }
        }
        self.progress.put(self.number.to_le_bytes(), u64::from(done).to_le_bytes())?;
        Ok((u64::from(done), absent))
    }
}

/// The first key of a process' part; that of the one after the last is the end.
fn share(keys: u32, number: u32, procs: u32) -> u32 {
    u32::try_from(u64::from(keys) * u64::from(number) / u64::from(procs)).unwrap_or(keys)
}

/// The numbers below `n` in an order of the phase's own, without a list of them: the multiples of a number that has
/// no common divisor with `n`.
struct Order {
    step: u64,
    n: u64,
}

impl Order {
    fn new(n: u32, phase: Phase) -> Self {
        let n = u64::from(n.max(1));
        let mut step = match phase {
            Phase::Put => 1,
            Phase::Mix => n * 618 / 1000 + 1,
            Phase::Get => n * 414 / 1000 + 1,
        };
        while common_divisor(step, n) != 1 {
            step += 1;
        }
        Self { step, n }
    }

    fn place(&self, i: u32) -> u32 {
        u32::try_from(u64::from(i) * self.step % self.n).unwrap_or(0)
    }
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// The key number `i`: a bijection of 32 bits (the finaliser of MurmurHash3).
fn key(i: u32) -> [u8; 4] {
    let mut h = i;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    (h ^ (h >> 16)).to_le_bytes()
}

/// Best effort: without it the figures are only less steady.
fn pin(number: u32) {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return };
    let cores: Vec<usize> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect();
    if let Some(&core) = cores.get(number as usize % cores.len().max(1)) {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

// ---- the first process ------------------------------------------------------------------------------------

fn measure(args: &Args) -> Result<(), AnyError> {
    room(args)?;
    let folder = tempfile::Builder::new().prefix("shf-bench-").tempdir_in(&args.folder)?;
    let options = if args.fixed { TableOptions::new().fixed(4, 4) } else { TableOptions::new() };
    let table = options.create(folder.path().join("keys.shf"))?;
    let progress = Table::create(folder.path().join("progress.shf"))?;
    let mut workers = Vec::new();
    for number in 0..args.procs {
        workers.push(Remote::start(args, folder.path(), number)?);
    }
    for worker in &mut workers {
        line(worker.output.as_mut().ok_or("no pipe")?)?;
    }
    folder.close()?; // all have it open: from here on nothing can be left behind

    let lengths = if args.fixed { "fixed" } else { "variable" };
    let Args { procs, keys, .. } = args;
    println!("{procs} processes on one table of {lengths} lengths in {}, {keys} keys", args.folder.display());
    let mut results = Vec::new();
    let begin = Instant::now();
    for phase in [Phase::Put, Phase::Mix, Phase::Get] {
        results.push(follow(phase, &mut workers, &progress, begin)?);
    }

    println!();
    for (phase, result) in [Phase::Put, Phase::Mix, Phase::Get].into_iter().zip(&results) {
        let rate = result.operations as f64 / 1e6 / result.time.as_secs_f64();
        println!(
            "{}  {:9.2} M operations in {:7.2} s  {rate:7.2} M/s",
            name(phase),
            result.operations as f64 / 1e6,
            result.time.as_secs_f64()
        );
    }
    let stats = table.stats()?;
    println!(
        "file {:.1} MB, {:.1} bytes a key",
        stats.file_bytes as f64 / 1e6,
        stats.file_bytes as f64 / f64::from(args.keys)
    );
    let absent: u64 = results.iter().map(|result| result.absent).sum();
    let present = table.len()?;
    if absent > 0 || present != u64::from(args.keys) {
        let message = format!("{absent} keys were not found, and {present} of {} are there", args.keys);
        return Err(message.into());
    }
    Ok(())
}

/// Refuses a table that the machine cannot hold.
fn room(args: &Args) -> Result<(), AnyError> {
    let need = u64::from(args.keys) * if args.fixed { 20 } else { 38 } + (16 << 20);
    let folder = &args.folder;
    let info =
        rustix::fs::statvfs(folder).map_err(|error| format!("{}: {error} (--folder)", folder.display()))?;
    let free = info.f_bavail * info.f_frsize;
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let available = kilobytes.map_or(u64::MAX, |kilobytes| kilobytes << 10).min(free);
    if need > available {
        return Err(format!(
            "{} keys need about {} MB, and {} MB are free in {} and memory: nothing was done; take fewer --keys",
            args.keys,
            need / 1_000_000,
            available / 1_000_000,
            folder.display()
        )
        .into());
    }
    Ok(())
}

/// A worker as seen from here.
struct Remote {
    child: Child,
    input: ChildStdin,
    output: Option<Output>,
}

type Output = BufReader<ChildStdout>;

impl Remote {
    fn start(args: &Args, folder: &Path, number: u32) -> Result<Self, AnyError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--procs", &args.procs.to_string(), "--keys", &args.keys.to_string()]);
        if let Some(seconds) = args.seconds {
            command.args(["--seconds", &seconds.to_string()]);
        }
        command.arg("--worker").arg(folder).arg(number.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("no pipe")?;
        let output = child.stdout.take().map(BufReader::new);
        Ok(Self { child, input, output })
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(output: &mut Output) -> Result<String, AnyError> {
    let mut line = String::new();
    if output.read_line(&mut line)? == 0 {
        return Err("a process ended (its message, if any, is above)".into());
    }
    Ok(line.trim_end().to_string())
}

/// What all processes did in one phase.
#[derive(Debug, Default)]
struct Outcome {
    operations: u64,
    absent: u64,
    time: Duration,
}

/// Starts a phase, prints a line a second until all processes are done.
fn follow(
    phase: Phase,
    workers: &mut [Remote],
    progress: &Table,
    begin: Instant,
) -> Result<Outcome, AnyError> {
    progress.clear()?;
    let start = Instant::now();
    let (sender, answers) = channel();
    for (number, worker) in workers.iter_mut().enumerate() {
        writeln!(worker.input, "{}", name(phase))?;
        // Each answer is waited for by a thread, so that the first failure is heard first.
        let mut output = worker.output.take().ok_or("no pipe")?;
        let sender = sender.clone();
        std::thread::spawn(move || {
            let answer = line(&mut output);
            let _ = sender.send((number, output, answer));
        });
    }
    let mut outcome = Outcome::default();
    let mut second = Second { phase, at: start, operations: 0 };
    let mut left = workers.len();
    while left > 0 {
        let wait = (second.at + Duration::from_secs(1)).saturating_duration_since(Instant::now());
        match answers.recv_timeout(wait) {
            Ok((number, output, answer)) => {
                workers[number].output = Some(output);
                let answer = answer?;
                let (operations, absent) = answer.split_once(' ').ok_or("no two numbers")?;
                outcome.operations += operations.parse::<u64>()?;
                outcome.absent += absent.parse::<u64>()?;
                left -= 1;
            }
            Err(RecvTimeoutError::Timeout) => second.print(progress, workers.len(), begin)?,
            Err(error) => return Err(error.into()),
        }
    }
    outcome.time = start.elapsed();
    second.print(progress, workers.len(), begin)?;
    Ok(outcome)
}

/// Where the last line was printed.
struct Second {
    phase: Phase,
    at: Instant,
    operations: u64,
}

impl Second {
    /// A line about the time since the last one.
    fn print(&mut self, progress: &Table, procs: usize, begin: Instant) -> Result<(), AnyError> {
        let mut shares = Vec::new();
        for number in 0..u32::try_from(procs)? {
            let value = progress.get(number.to_le_bytes())?.unwrap_or_default();
            shares.push(value.try_into().map_or(0, u64::from_le_bytes));
        }
        let operations: u64 = shares.iter().sum();
        let now = Instant::now();
        let rate = operations.saturating_sub(self.operations) as f64 / 1e6 / (now - self.at).as_secs_f64();
        let percent: Vec<String> =
            shares.iter().map(|&n| format!("{:3.0}%", n as f64 * 100.0 / operations.max(1) as f64)).collect();
        let bar: String =
            (1..=60).take_while(|&i| f64::from(i) <= rate * 2.0 / procs as f64).map(|_| '#').collect();
        println!(
            "{:6.1} s  {}  {:9.2} M-OPS  {}  {rate:7.2} M/s  {bar}",
            (now - begin).as_secs_f64(),
            name(self.phase),
            operations as f64 / 1e6,
            percent.join(" ")
        );
        (self.at, self.operations) = (now, operations);
        Ok(())
    }
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Put => "PUT",
        Phase::Mix => "MIX",
        Phase::Get => "GET",
    }
}
