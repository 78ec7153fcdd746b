//! Kills counting processes at random with SIGKILL and shows that no acknowledged count is lost.
//!
//! ```text
//! cargo run --release --example survive                    # 10 seconds
//! cargo run --release --example survive -- --seconds 60 --workers 4 --seed 7
//! ```
//!
//! Each worker adds 1 to a random *word* that all workers share, then 1 to a counter of its own, and then
//! acknowledges the pair by writing the number of pairs so far into a file. What was written to a file stays
//! there when the writer dies, so this is the record to compare with. A new worker with a counter of its own
//! takes the place of each one that is killed. At the end must hold, for every worker:
//!
//! ```text
//! acknowledged <= its own counter <= acknowledged + 1      (the one it was at when it died)
//! ```
//!
//! and for the words of all workers: sum of the own counters <= sum of the words <= acknowledged + kills. Between
//! the counts every worker also puts, replaces and removes *notes* of many lengths, which must be whole at the
//! end. Exit code: 0 all of it holds and nobody waited too long, 1 if not, 2 bad arguments or a failure.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![allow(clippy::cast_precision_loss, reason = "rates for people")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use shf::{Table, TableOptions};

type AnyError = Box<dyn std::error::Error>;

const WORDS: u64 = 300_000;
const NOTES: u64 = 20_000;

/// Kills counting processes at random and shows that no acknowledged count is lost.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// How long to go on
    #[arg(short, long, default_value_t = 10.0, value_name = "S")]
    seconds: f64,
    /// Workers at any time; default: the cores, at least 2
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=500))]
    workers: Option<u32>,
    /// Seed of the random choices; default: the clock
    #[arg(long)]
    seed: Option<u64>,
    /// Longest time that any operation of any worker may take, in milliseconds
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    max_wait: u64,
    /// Internal: be this worker, in the folder given
    #[arg(long, hide = true, value_names = ["FOLDER", "NUMBER"], num_args = 2)]
    worker: Option<Vec<String>>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.worker {
        Some(w) => {
            w[1].parse().map_err(Into::into).and_then(|number| work(Path::new(&w[0]), number)).map(|()| true)
        }
        None => survive(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("survive: {error}");
            ExitCode::from(2)
        }
    }
}

// ---- a worker ---------------------------------------------------------------------------------------------

/// What a worker writes over and over at its own place in the file.
#[derive(Debug, Clone, Copy, Default)]
struct Acknowledged {
    pairs: u64,
    longest: Duration,
}

impl Acknowledged {
    const SIZE: u64 = 16;

    fn write(self, file: &File, worker: u64) -> std::io::Result<()> {
        let mut bytes = [0u8; 16];
        bytes[..8].copy_from_slice(&self.pairs.to_le_bytes());
        bytes[8..].copy_from_slice(&u64::try_from(self.longest.as_nanos()).unwrap_or(u64::MAX).to_le_bytes());
        file.write_all_at(&bytes, worker * Self::SIZE)
    }

    /// A worker that was killed before its first pair may have left nothing: zeros.
    fn read(file: &File, worker: u64) -> std::io::Result<Self> {
        let mut bytes = [0u8; 16];
        let mut got = 0;
        while got < bytes.len() {
            match file.read_at(&mut bytes[got..], worker * Self::SIZE + got as u64)? {
                0 => break,
                n => got += n,
            }
        }
        let (pairs, longest) = bytes.split_at(8);
        let word = |b: &[u8]| b.iter().rev().fold(0u64, |v, &byte| v << 8 | u64::from(byte));
        Ok(Self { pairs: word(pairs), longest: Duration::from_nanos(word(longest)) })
    }
}

fn work(folder: &Path, number: u64) -> Result<(), AnyError> {
    let table = Table::open(folder.join("counts.shf"))?;
    let file = OpenOptions::new().write(true).open(folder.join("acknowledged"))?;
    let own = own_key(number);
    let mut random = Random(number);
    let mut acknowledged = Acknowledged::default();
    while !table.contains("stop")? {
        for _ in 0..100 {
            let start = Instant::now();
            table.fetch_add(word_key(random.below(WORDS)), 1)?;
            let middle = Instant::now();
            table.fetch_add(&own, 1)?;
            let end = Instant::now();
            change_note(&table, &mut random)?;
            acknowledged.pairs += 1;
            acknowledged.longest =
                acknowledged.longest.max(middle - start).max(end - middle).max(end.elapsed());
            acknowledged.write(&file, number)?;
        }
    }
    Ok(())
}

/// Puts a note of up to 40 bytes, sometimes of 400 or 40,000; or removes one. All bytes of a note are equal.
fn change_note(table: &Table, random: &mut Random) -> Result<(), AnyError> {
    let key = note_key(random.below(NOTES));
    let longest = match random.below(1000) {
        0 => 40_000,
        1..100 => 400,
        100..200 => {
            table.remove(key)?;
            return Ok(());
        }
        _ => 40,
    };
    let byte = random.next().to_le_bytes()[0];
    let length = usize::try_from(random.below(longest))?;
    table.put(key, vec![byte; length])?;
    Ok(())
}

fn note_is_whole(note: &[u8]) -> bool {
    note.iter().all(|&byte| byte == note[0])
}

fn note_key(note: u64) -> String {
    format!("note {note}")
}

fn own_key(worker: u64) -> String {
    format!("worker {worker}")
}

fn word_key(word: u64) -> String {
    format!("word {word}")
}

// ---- the first process ------------------------------------------------------------------------------------

fn survive(args: &Args) -> Result<bool, AnyError> {
    if !(args.seconds > 0.0 && args.seconds <= 86_400.0) {
        return Err("--seconds must be above 0 and at most 86400".into());
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    let seed = args.seed.unwrap_or_else(|| u64::from(clock));
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let workers = args.workers.unwrap_or(u32::try_from(cores)?.max(2));
    println!("{workers} workers, {} seconds, seed {seed}", args.seconds);

    let folder = tempfile::Builder::new()
        .prefix("survive-")
        .tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())?;
    let table = TableOptions::new().create(folder.path().join("counts.shf"))?;
    let file = OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .open(folder.path().join("acknowledged"))?;

    let mut run = Run { folder: folder.path().into(), started: 0, running: Vec::new() };
    for _ in 0..workers {
        run.start_one()?;
    }
    let mut random = Random(seed);
    let mut kills = 0u64;
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(args.seconds);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        let victim = usize::try_from(random.below(run.running.len() as u64))?;
        run.kill(victim)?;
        kills += 1;
        run.start_one()?;
    }
    table.put("stop", "")?;
    run.finish()?;
    let elapsed = begin.elapsed();
    judge(&table, &file, &run, kills, elapsed, Duration::from_millis(args.max_wait))
}

/// The workers that run now.
#[derive(Debug)]
struct Run {
    folder: PathBuf,
    started: u64,
    running: Vec<Child>,
}

impl Run {
    fn start_one(&mut self) -> Result<(), AnyError> {
        let child = Command::new(std::env::current_exe()?)
            .arg("--worker")
            .arg(&self.folder)
            .arg(self.started.to_string())
            .stdin(Stdio::null())
            .spawn()?;
        self.started += 1;
        self.running.push(child);
        Ok(())
    }

    /// SIGKILL. A worker that had ended by itself is a failure.
    fn kill(&mut self, victim: usize) -> Result<(), AnyError> {
        let mut child = self.running.swap_remove(victim);
        let killed = child.kill();
        let status = child.wait()?;
        killed?;
        if status.code().is_some() {
            return Err(format!("a worker ended by itself: {status}").into());
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), AnyError> {
        for mut child in self.running.drain(..) {
            let status = child.wait()?;
            if !status.success() {
                return Err(format!("a worker failed: {status}").into());
            }
        }
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Compares the record with the table, prints the result.
fn judge(
    table: &Table,
    file: &File,
    run: &Run,
    kills: u64,
    elapsed: Duration,
    max_wait: Duration,
) -> Result<bool, AnyError> {
    let mut acknowledged = 0u64;
    let mut own = 0u64;
    let mut in_flight = 0u64;
    let mut longest = Duration::ZERO;
    let mut good = true;
    for worker in 0..run.started {
        let said = Acknowledged::read(file, worker)?;
        let stored = counter(table, &own_key(worker))?;
        acknowledged += said.pairs;
        own += stored;
        longest = longest.max(said.longest);
        match stored.checked_sub(said.pairs) {
            Some(0) => {}
            Some(1) => in_flight += 1,
            _ => {
                eprintln!("survive: worker {worker} acknowledged {}, stored are {stored}", said.pairs);
                good = false;
            }
        }
    }
    let mut words = 0u64;
    let mut different = 0u64;
    for word in 0..WORDS {
        let count = counter(table, &word_key(word))?;
        words += count;
        different += u64::from(count > 0);
    }
    let mut notes = 0u64;
    for note in 0..NOTES {
        let Some(value) = table.get(note_key(note))? else { continue };
        notes += 1;
        if !note_is_whole(&value) {
            eprintln!("survive: note {note} is a mixture of two");
            good = false;
        }
    }
    let stats = table.stats()?;
    println!("kills            {kills}");
    println!(
        "acknowledged     {acknowledged} pairs, {:.2} M/s",
        acknowledged as f64 / 1e6 / elapsed.as_secs_f64()
    );
    println!("own counters     {own}: {in_flight} more, each the one its worker was at when it died");
    println!("shared words     {words} in {different} words");
    println!(
        "notes            {notes}, {} KB of records and pages",
        (stats.record_bytes + stats.large_bytes) / 1000
    );
    println!(
        "recoveries       {} changes that a death had cut off, finished or taken back by the next",
        stats.recoveries
    );
    println!("longest wait     {:.3} ms for one operation of any worker", longest.as_secs_f64() * 1e3);

    if !(own <= words && words <= acknowledged + kills) {
        eprintln!("survive: {words} in the shared words is not between {own} and {}", acknowledged + kills);
        good = false;
    }
    // The words, the notes, the counters of workers that stored anything, and "stop": nothing else may be there.
    let counters = (0..run.started)
        .try_fold(0u64, |n, w| Ok::<_, shf::Error>(n + u64::from(table.contains(own_key(w))?)))?;
    let keys = table.len()?;
    let expected_keys = different + notes + counters + 1;
    if keys != expected_keys {
        eprintln!("survive: {keys} keys in the table, {expected_keys} expected");
        good = false;
    }
    let report = table.check()?;
    if report.problems > 0 {
        eprintln!("survive: check found {report:?}");
        good = false;
    }
    if longest > max_wait {
        eprintln!("survive: an operation took longer than {} ms", max_wait.as_millis());
        good = false;
    }
    println!(
        "{}",
        if good { "exact: nothing acknowledged was lost, nothing was counted twice" } else { "FAILED" }
    );
    Ok(good)
}

fn counter(table: &Table, key: &str) -> Result<u64, AnyError> {
    match table.get(key)? {
        None => Ok(0),
        Some(value) => {
            Ok(u64::from_le_bytes(value[..].try_into().map_err(|_| format!("{key}: not a counter"))?))
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough to choose words and victims, and repeatable.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}
