//! Compresses the files of a folder in several processes, through three queues; and kills one of them half-way.
//!
//! ```text
//! cargo run --release --example pipeline -- ~/books                 # --workers 4, --no-kill, --output books.gz
//! ```
//!
//! ```text
//!           free              work               done
//!   reader ------> (block) --------> N workers --------> writer --> FILE.gz
//!      ^                                                    |
//!      +------------------------- free <--------------------+
//! ```
//!
//! The idea: *an item always has a home, so nobody has to be asked whether he is still alive.* A block of a file lies in
//! one item from the first process to the last; it is read into it, compressed beside itself, and written from it. The
//! home of an item is the queue that it was pulled from. A worker pulls from `work`: whatever it holds when it is killed
//! is in `work` again a moment later, and the next worker takes it. The reader pulls from `free`: were it killed, its
//! half-read items would be free again. Nothing is lost, and nothing is noticed but by the writer, which waits longer for
//! one block than for others.
//!
//! Two things make that safe. A worker leaves the block as it is and writes beside it; so a block that a dead worker had
//! half-compressed can be begun again, by anybody. And the writer, which needs the blocks in order, holds those that came
//! early, without fear that no item is left for the one it waits for: blocks are read in order, so the missing one came
//! into its item before them. It is in `work`, or in a worker's hands, or on its way home.
//!
//! Each block becomes a gzip member of its own: so the result is a plain .gz, `zcat` gives all files in a row. The first
//! process makes the same by itself, alone, and compares byte for byte. The set has no name: the processes, all of them
//! this program, are given it as their standard input. Exit code: 0 equal, 1 not equal, 2 if it could not go on.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![allow(clippy::cast_precision_loss, reason = "rates for people")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use flate2::{Compression, write::GzEncoder};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use shf::{Item, QueueOptions, QueueSet};

type AnyError = Box<dyn std::error::Error>;

/// So much of a file is one item's.
const BLOCK: usize = 64 << 10;
/// The block, compressed, beside it: the worst case of deflate is a little longer than its input.
const PACKED: usize = BLOCK + BLOCK / 16 + 1024;
/// A worker pulls so many at a time.
const HAND: usize = 4;

/// Compresses the files of a folder in several processes, and kills one of them half-way.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// All files in it and below it are compressed
    folder: PathBuf,
    /// Worker processes; default: the cores, at least 2
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(2..=100))]
    workers: Option<u32>,
    /// Let all workers live
    #[arg(long)]
    no_kill: bool,
    /// Keep the result in this file
    #[arg(short, long, value_name = "FILE.gz")]
    output: Option<PathBuf>,
    /// Internal: be one of the processes, of this parent
    #[arg(long, hide = true, value_name = "ROLE", requires = "parent")]
    role: Option<Role>,
    #[arg(long, hide = true, value_name = "PID")]
    parent: Option<i32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    Reader,
    Worker,
    Writer,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match (args.role, args.parent) {
        (Some(role), Some(parent)) => play(role, parent, &args.folder).map(|()| true),
        _ => first_process(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pipeline: {error}");
            ExitCode::from(2)
        }
    }
}

// ---- the three roles --------------------------------------------------------------------------------------

fn play(role: Role, parent: i32, folder: &Path) -> Result<(), AnyError> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        return Ok(()); // it died before it could send the signal
    }
    let set = QueueSet::from_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    match role {
        Role::Reader => read(&set, folder),
        Role::Worker => work(&set),
        Role::Writer => write(&set),
    }
}

fn read(set: &QueueSet, folder: &Path) -> Result<(), AnyError> {
    let (free, work) = (set.queue("free")?, set.queue("work")?);
    let mut blocks = Blocks::of(folder)?;
    loop {
        let Some(mut item) = free.pull_wait(Duration::MAX)? else { continue };
        if !blocks.next_into(&mut item)? {
            return Ok(()); // and the item goes home
        }
        work.push(item)?;
    }
}

fn work(set: &QueueSet) -> Result<(), AnyError> {
    let (work, done) = (set.queue("work")?, set.queue("done")?);
    loop {
        for mut item in work.pull_many_wait(HAND, Duration::MAX)? {
            if header(&item).more == More::Nothing {
                work.push(item)?; // for the other workers
                return Ok(());
            }
            compress(&mut item)?;
            done.push(item)?;
        }
    }
}

fn write(set: &QueueSet) -> Result<(), AnyError> {
    let (free, work, done) = (set.queue("free")?, set.queue("work")?, set.queue("done")?);
    let mut file = io::stdout().as_fd().try_clone_to_owned().map(File::from)?;
    let mut early: BTreeMap<(u32, u32), Item<'_>> = BTreeMap::new();
    let mut next = (0, 0);
    loop {
        let Some(item) = done.pull_wait(Duration::MAX)? else { continue };
        let found = header(&item);
        early.insert((found.file, found.block), item);
        while let Some(mut item) = early.remove(&next) {
            let Header { more, packed, .. } = header(&item);
            file.write_all(&item[PACKED_AT..][..packed])?;
            if more == More::Nowhere {
                // Not before now may the workers go: one might have died, and its blocks come home to nobody.
                set_more(&mut item, More::Nothing);
                return Ok(work.push(item)?);
            }
            free.push(item)?;
            next = if more == More::InFile { (next.0, next.1 + 1) } else { (next.0 + 1, 0) };
        }
    }
}

// ---- what lies in an item ---------------------------------------------------------------------------------

// 0 file number 4   4 block number 4   8 more 4   12 length 4   16 packed length 4   64 the block   then the packed one
const BLOCK_AT: usize = 64;
const PACKED_AT: usize = BLOCK_AT + BLOCK;
const ITEM_SIZE: usize = PACKED_AT + PACKED;

/// What follows on a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum More {
    InFile = 0,
    InNextFile = 1,
    /// It is the last.
    Nowhere = 2,
    /// It is no block: all is done.
    Nothing = 3,
}

struct Header {
    file: u32,
    block: u32,
    more: More,
    length: usize,
    packed: usize,
}

fn header(item: &[u8]) -> Header {
    let number = |at: usize| item[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
    let length = |at: usize| usize::try_from(number(at)).unwrap_or(0);
    let more = [More::InFile, More::InNextFile, More::Nowhere, More::Nothing][length(8) & 3];
    Header { file: number(0), block: number(4), more, length: length(12), packed: length(16) }
}

fn set_number(item: &mut [u8], at: usize, number: u32) {
    item[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

fn set_more(item: &mut [u8], more: More) {
    set_number(item, 8, more as u32);
}

/// Writes beside the block, and leaves the block as it is: whoever is given this item after a death begins again.
fn compress(item: &mut [u8]) -> Result<(), AnyError> {
    let length = header(item).length;
    let (before, packed) = item.split_at_mut(PACKED_AT);
    let mut encoder = GzEncoder::new(Cursor::new(packed), Compression::default());
    encoder.write_all(&before[BLOCK_AT..][..length])?;
    let end = encoder.finish()?.position();
    set_number(item, 16, u32::try_from(end)?);
    Ok(())
}

/// The files of a folder, block by block, in a fixed order.
struct Blocks {
    /// With their lengths; those of no length have no block.
    files: Vec<(PathBuf, u64)>,
    /// The file and the block that come next.
    next: (usize, u32),
    open: Option<File>,
    left: u64,
}

impl Blocks {
    fn of(folder: &Path) -> Result<Blocks, AnyError> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            for entry in entries {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() && entry.metadata()?.len() > 0 {
                    files.push((entry.path(), entry.metadata()?.len()));
                }
            }
        }
        if files.is_empty() {
            return Err(format!("{}: there is nothing to compress", folder.display()).into());
        }
        files.sort_by(|a, b| a.0.as_os_str().cmp(b.0.as_os_str())); // byte by byte, as LC_ALL=C sort
        Ok(Blocks { files, next: (0, 0), open: None, left: 0 })
    }

    /// Reads the next block into the item. False: there is none.
    fn next_into(&mut self, item: &mut [u8]) -> Result<bool, AnyError> {
        let (number, block) = self.next;
        let Some((path, size)) = self.files.get(number) else { return Ok(false) };
        let explain = |error: io::Error| format!("{}: {error}", path.display());
        let file = match &mut self.open {
            Some(file) => file,
            none => {
                self.left = *size;
                none.insert(File::open(path).map_err(explain)?)
            }
        };
        let length = usize::try_from(self.left)?.min(BLOCK);
        file.read_exact(&mut item[BLOCK_AT..][..length])
            .map_err(|error| format!("{}, which may have changed meanwhile: {error}", path.display()))?;
        self.left -= length as u64;
        let more = match self.left {
            0 if number + 1 == self.files.len() => More::Nowhere,
            0 => More::InNextFile,
            _ => More::InFile,
        };
        if self.left == 0 {
            self.open = None;
        }
        self.next = if self.left == 0 { (number + 1, 0) } else { (number, block + 1) };
        set_number(item, 0, u32::try_from(number)?);
        set_number(item, 4, block);
        set_more(item, more);
        set_number(item, 12, u32::try_from(length)?);
        Ok(true)
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }

    fn count(&self) -> u64 {
        self.files.iter().map(|(_, size)| size.div_ceil(BLOCK as u64)).sum()
    }
}

// ---- the first process ------------------------------------------------------------------------------------

fn first_process(args: &Args) -> Result<bool, AnyError> {
    let blocks = Blocks::of(&args.folder)?;
    let (bytes, count) = (blocks.bytes(), blocks.count());
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let workers = args.workers.unwrap_or(u32::try_from(cores)?.max(2));
    println!(
        "{} files, {:.1} MB in {count} blocks; {workers} workers",
        blocks.files.len(),
        bytes as f64 / 1e6
    );

    let start = Instant::now();
    let alone = one_process(blocks)?;
    print_rate("one process", bytes, start.elapsed());

    let set = QueueOptions::new()
        .items(usize::try_from(workers)? * 2 * HAND + 16)
        .item_size(ITEM_SIZE)
        .queues(&["free", "work", "done"])
        .anonymous("pipeline")?;
    let output = match &args.output {
        Some(path) => File::options().read(true).write(true).create(true).truncate(true).open(path)?,
        None => tempfile::tempfile()?,
    };
    let start = Instant::now();
    let killed = Processes::start(args, &set, &output, workers)?.run(&set, count, !args.no_kill)?;
    print_rate("the pipeline", bytes, start.elapsed());
    let (done, work) = (set.queue("done")?.stats()?, set.queue("work")?.stats()?);
    println!(
        "{} items through three queues; {killed} worker{} killed, {} items came home and were done by others",
        done.pulled,
        if killed == 1 { "" } else { "s" },
        work.returned
    );

    let report = set.check()?;
    let mut together = Vec::new();
    let mut output = output;
    output.rewind()?;
    output.read_to_end(&mut together)?;
    let equal = together == alone;
    println!(
        "{:.1} MB compressed, by one process and by all: {}",
        together.len() as f64 / 1e6,
        if equal { "equal" } else { "NOT EQUAL" }
    );
    if report.problems > 0 || report.in_queues != report.items {
        eprintln!("pipeline: an item is missing: {report:?}");
        return Ok(false);
    }
    Ok(equal)
}

/// The same work without queues: what must come out.
fn one_process(mut blocks: Blocks) -> Result<Vec<u8>, AnyError> {
    let (mut item, mut result) = (vec![0; ITEM_SIZE], Vec::new());
    while blocks.next_into(&mut item)? {
        compress(&mut item)?;
        result.extend_from_slice(&item[PACKED_AT..][..header(&item).packed]);
    }
    Ok(result)
}

fn print_rate(name: &str, bytes: u64, time: Duration) {
    let seconds = time.as_secs_f64();
    println!("{name:13} {seconds:.2} s, {:.1} MB/s", bytes as f64 / 1e6 / seconds);
}

struct Processes {
    workers: Vec<Child>,
    /// The reader and the writer.
    ends: Vec<Child>,
}

impl Processes {
    fn start(args: &Args, set: &QueueSet, output: &File, workers: u32) -> Result<Processes, AnyError> {
        let spawn = |role: &str, stdout: Stdio| -> Result<Child, AnyError> {
            Ok(Command::new(std::env::current_exe()?)
                .args(["--role", role, "--parent", &std::process::id().to_string()])
                .arg(&args.folder)
                .stdin(set.as_fd().try_clone_to_owned()?)
                .stdout(stdout)
                .spawn()?)
        };
        let mut this = Processes { workers: Vec::new(), ends: Vec::new() };
        for _ in 0..workers {
            this.workers.push(spawn("worker", Stdio::null())?);
        }
        this.ends.push(spawn("writer", output.try_clone()?.into())?);
        this.ends.push(spawn("reader", Stdio::null())?);
        Ok(this)
    }

    /// Waits for the end of all; half-way it kills a worker. How many it killed.
    fn run(mut self, set: &QueueSet, blocks: u64, kill: bool) -> Result<u32, AnyError> {
        let (work, done) = (set.queue("work")?, set.queue("done")?);
        let mut killed = 0;
        while !(self.workers.is_empty() && self.ends.is_empty()) {
            // One that held nothing has shown nothing: then another one goes.
            if kill
                && self.workers.len() > 1
                && work.stats()?.returned == 0
                && done.stats()?.pushed >= blocks / 2
                && let Some(mut worker) = self.workers.pop()
            {
                worker.kill()?; // SIGKILL
                worker.wait()?;
                killed += 1;
                // Those who wait would do it 40 ms later at the latest; here for the line that is printed.
                set.recover()?;
            }
            for children in [&mut self.workers, &mut self.ends] {
                let mut i = 0;
                while i < children.len() {
                    match children[i].try_wait()? {
                        None => i += 1,
                        Some(status) if status.success() => drop(children.swap_remove(i)),
                        Some(status) => return Err(format!("a process failed: {status}").into()),
                    }
                }
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(killed)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.workers.iter_mut().chain(&mut self.ends) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
