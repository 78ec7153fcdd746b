//! Counts words in many processes at once, all into one shared table.
//!
//! ```text
//! cargo run --release --example wordcount                    # this crate's sources and the texts of /usr/share
//! cargo run --release --example wordcount -- ~/books notes.txt --processes 4
//! ```
//!
//! The first process makes a list of pieces of files and puts it into a small *control* table. Every worker is
//! this program again; it opens the same two tables, takes the next piece with `fetch_add` on a shared counter,
//! and adds each word it sees to the *words* table with another `fetch_add`. At the end the first process counts
//! the same pieces alone, with a `HashMap`, and compares word by word. Exit code: 0 equal, 1 a difference or a
//! worker that failed, 2 bad arguments or nothing to count.
//!
//! A word is a run of ASCII letters and digits and of bytes above 127 (so UTF-8 words stay whole), with ASCII
//! letters made small. Both counts use the same function.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![allow(clippy::cast_precision_loss, reason = "rates for people")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shf::Table;

type AnyError = Box<dyn std::error::Error>;

/// What one hand-out covers at most. Small enough to share a single big file between the workers.
const PIECE: u64 = 4 << 20;
/// The default input is cut off here; files that are named are counted whole.
const DEFAULT_LIMIT: u64 = 200 << 20;
/// Words between two reports of progress.
const REPORT_WORDS: u64 = 1 << 16;

/// Counts words in several processes into one shared table.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// Files and folders; default: this crate's sources and the text files under /usr/share
    paths: Vec<PathBuf>,
    /// Worker processes; default: the cores, at least 2
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=500))]
    processes: Option<u32>,
    /// Words to print
    #[arg(short, long, default_value_t = 20)]
    top: usize,
    /// Count into a table at this new path and keep it
    #[arg(long, value_name = "PATH")]
    table: Option<PathBuf>,
    /// Internal: be a worker of the process that made this control table
    #[arg(long, hide = true, value_name = "PATH")]
    worker_of: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.worker_of {
        Some(control) => work(control).map(|()| ExitCode::SUCCESS),
        None => count(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("wordcount: {error}");
        ExitCode::from(2)
    })
}

// ---- the first process ------------------------------------------------------------------------------------

fn count(args: &Args) -> Result<ExitCode, AnyError> {
    let input = Input::collect(&args.paths)?;
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let processes = args.processes.unwrap_or(u32::try_from(cores)?.max(2));
    println!(
        "{} files, {:.1} MB, {processes} processes{}",
        input.files.len(),
        input.bytes as f64 / 1e6,
        if input.cut {
            " (the default input is cut off at 200 MB; name paths to count all of them)"
        } else {
            ""
        }
    );

    // The tables live in a folder of their own, which goes away as soon as every worker has opened them: what is
    // open stays usable, and nothing is left behind however this program ends.
    let folder = shared_folder()?;
    let control_path = folder.path().join("control.shf");
    let words_path = args.table.clone().unwrap_or_else(|| folder.path().join("words.shf"));
    let control = Control(Table::create(&control_path)?);
    let words = Table::create(&words_path)?;
    control.0.put("words table", std::path::absolute(&words_path)?.as_os_str().as_bytes())?;
    let pieces = input.pieces();
    control.put_list(&input.files, &pieces)?;

    let start = Instant::now();
    let mut workers = Vec::new();
    for _ in 0..processes {
        let worker = Command::new(std::env::current_exe()?)
            .arg("--worker-of")
            .arg(&control_path)
            .stdin(Stdio::null())
            .spawn()?;
        workers.push(worker);
    }
    let failed = watch(&mut workers, &control, &input, folder)?;
    let elapsed = start.elapsed();
    if failed > 0 {
        eprintln!("wordcount: {failed} of {processes} workers failed");
        return Ok(ExitCode::FAILURE);
    }

    let total = control.counter("words")?;
    print_top(&words, args.top)?;
    println!(
        "\n{total} words, {} different, in {:.2} s: {:.2} M words/s in {processes} processes",
        words.len()?,
        elapsed.as_secs_f64(),
        total as f64 / 1e6 / elapsed.as_secs_f64()
    );
    println!("{:#?}", words.stats()?);
    let report = words.check()?;
    if report.problems > 0 {
        eprintln!("wordcount: the table is damaged: {report:?}");
        return Ok(ExitCode::FAILURE);
    }
    if args.table.is_some() {
        println!("the table stays in {}", words_path.display());
    }
    compare(&words, &control, &input.files, &pieces)
}

/// Shows progress until the last worker has ended. Returns how many failed.
fn watch(
    workers: &mut Vec<Child>,
    control: &Control,
    input: &Input,
    folder: tempfile::TempDir,
) -> Result<usize, AnyError> {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(input.bytes), target);
    bar.set_style(ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}")?);
    let mut folder = Some(folder);
    let all = u64::try_from(workers.len())?;
    let mut failed = 0;
    while !workers.is_empty() {
        std::thread::sleep(Duration::from_millis(5));
        bar.set_position(control.counter("bytes")?);
        if control.counter("workers")? == all {
            folder = None;
        }
        let mut running = Vec::new();
        for mut worker in workers.drain(..) {
            match worker.try_wait()? {
                None => running.push(worker),
                Some(status) if status.success() => {}
                Some(status) => {
                    bar.suspend(|| eprintln!("wordcount: worker {} ended with {status}", worker.id()));
                    failed += 1;
                }
            }
        }
        *workers = running;
    }
    drop(folder);
    bar.finish_and_clear();
    Ok(failed)
}

fn print_top(words: &Table, top: usize) -> Result<(), AnyError> {
    let mut counts = Vec::new();
    for entry in words {
        let entry = entry?;
        counts.push((number(&entry.value)?, entry.key));
    }
    counts.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    for (count, word) in counts.iter().take(top) {
        println!("{count:>12}  {}", String::from_utf8_lossy(word));
    }
    Ok(())
}

/// Counts the same pieces in this process alone and compares.
fn compare(
    words: &Table,
    control: &Control,
    files: &[Source],
    pieces: &[Piece],
) -> Result<ExitCode, AnyError> {
    let start = Instant::now();
    let mut expected: HashMap<Box<[u8]>, u64> = HashMap::new();
    let mut reader = PieceReader::default();
    let mut total = 0u64;
    let mut changed = 0u64;
    for (index, piece) in pieces.iter().enumerate() {
        if control.0.contains(format!("skipped {index}"))? {
            continue;
        }
        let source = &files[piece.file];
        let read = reader.for_each_word(&source.path, piece.offset, piece.length, |word| {
            total += 1;
            match expected.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(expected.insert(word.into(), 1)),
            }
            Ok(())
        });
        if read.is_err() || Source::modified(&source.path) != source.modified {
            eprintln!("wordcount: {} changed while it was counted", source.path.display());
            changed += 1;
        }
    }
    let elapsed = start.elapsed();

    let mut differences = 0u64;
    let mut report = |word: &[u8], shared: u64, alone: u64| {
        differences += 1;
        if differences <= 10 {
            eprintln!("wordcount: {:?}: {shared} in the table, {alone} alone", String::from_utf8_lossy(word));
        }
    };
    for entry in words {
        let entry = entry?;
        let shared = number(&entry.value)?;
        let alone = expected.remove(&entry.key[..]).unwrap_or(0);
        if shared != alone {
            report(&entry.key, shared, alone);
        }
    }
    for (word, alone) in &expected {
        report(word, 0, *alone);
    }
    println!(
        "one process, HashMap: {total} words in {:.2} s, {:.2} M words/s",
        elapsed.as_secs_f64(),
        total as f64 / 1e6 / elapsed.as_secs_f64()
    );
    if differences == 0 {
        println!("equal: every word has the same count in both");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("wordcount: {differences} words differ");
    if changed > 0 {
        eprintln!(
            "wordcount: {changed} pieces of files changed meanwhile, so the counts cannot be compared; run it again"
        );
    }
    Ok(ExitCode::FAILURE)
}

fn number(value: &[u8]) -> Result<u64, AnyError> {
    Ok(u64::from_le_bytes(value.try_into().map_err(|_| "a value in the table is not a counter")?))
}

/// A new folder in shared memory, or in the temporary folder where there is none.
fn shared_folder() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("wordcount-").tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

// ---- a worker ---------------------------------------------------------------------------------------------

fn work(control_path: &Path) -> Result<(), AnyError> {
    let control = Control(Table::open(control_path)?);
    let words_path = control.0.get("words table")?.ok_or("the control table names no table")?;
    let words = Table::open(OsStr::from_bytes(&words_path))?;
    control.0.fetch_add("workers", 1)?;
    let mut reader = PieceReader::default();
    loop {
        let index = control.0.fetch_add("next piece", 1)?;
        let Some((path, piece)) = control.piece(index)? else {
            return Ok(());
        };
        let mut counted = 0i64;
        let read = reader.for_each_word(&path, piece.offset, piece.length, |word| {
            words.fetch_add(word, 1)?;
            counted += 1;
            if counted.unsigned_abs().is_multiple_of(REPORT_WORDS) {
                control.0.fetch_add("words", REPORT_WORDS.cast_signed())?;
            }
            Ok(())
        });
        control.0.fetch_add("words", counted % REPORT_WORDS.cast_signed())?;
        control.0.fetch_add("bytes", piece.length.cast_signed())?;
        match read {
            Ok(()) => {}
            // The file could not be read: no word of this piece was counted, and the comparison skips it too.
            Err(PieceError::File(error)) => {
                eprintln!("wordcount: skipped {}: {error}", path.display());
                control.0.put(format!("skipped {index}"), "")?;
            }
            Err(PieceError::Word(error)) => return Err(error.into()),
        }
    }
}

// ---- the control table ------------------------------------------------------------------------------------

/// What the processes tell each other besides the words: the list of pieces and a few counters.
struct Control(Table);

impl Control {
    fn put_list(&self, files: &[Source], pieces: &[Piece]) -> Result<(), AnyError> {
        for (index, file) in files.iter().enumerate() {
            self.0.put(format!("file {index}"), file.path.as_os_str().as_bytes())?;
        }
        for (index, piece) in pieces.iter().enumerate() {
            let mut value = [0u8; 24];
            value[..8].copy_from_slice(&u64::try_from(piece.file)?.to_le_bytes());
            value[8..16].copy_from_slice(&piece.offset.to_le_bytes());
            value[16..].copy_from_slice(&piece.length.to_le_bytes());
            self.0.put(format!("piece {index}"), value)?;
        }
        Ok(())
    }

    fn piece(&self, index: i64) -> Result<Option<(PathBuf, Piece)>, AnyError> {
        let Some(value) = self.0.get(format!("piece {index}"))? else {
            return Ok(None);
        };
        let (file, offset, length) = (number(&value[..8])?, number(&value[8..16])?, number(&value[16..])?);
        let path = self.0.get(format!("file {file}"))?.ok_or("the list of files is incomplete")?;
        Ok(Some((
            PathBuf::from(OsStr::from_bytes(&path)),
            Piece { file: usize::try_from(file)?, offset, length },
        )))
    }

    fn counter(&self, key: &str) -> Result<u64, AnyError> {
        self.0.get(key)?.map_or(Ok(0), |value| number(&value))
    }
}

// ---- the input --------------------------------------------------------------------------------------------

#[derive(Debug)]
struct Source {
    path: PathBuf,
    size: u64,
    modified: Option<SystemTime>,
}

impl Source {
    fn modified(path: &Path) -> Option<SystemTime> {
        path.metadata().and_then(|m| m.modified()).ok()
    }
}

#[derive(Debug)]
struct Piece {
    file: usize,
    offset: u64,
    length: u64,
}

#[derive(Debug)]
struct Input {
    files: Vec<Source>,
    bytes: u64,
    limit: u64,
    cut: bool,
    skipped: u64,
}

impl Input {
    fn collect(paths: &[PathBuf]) -> Result<Self, AnyError> {
        let mut input = Self { files: Vec::new(), bytes: 0, limit: u64::MAX, cut: false, skipped: 0 };
        if paths.is_empty() {
            input.limit = DEFAULT_LIMIT;
            input.add(Path::new(env!("CARGO_MANIFEST_DIR")), false);
            input.add(Path::new("/usr/share"), false);
        }
        for path in paths {
            path.symlink_metadata().map_err(|error| format!("{}: {error}", path.display()))?;
            input.add(path, true);
        }
        if input.skipped > 0 {
            println!("skipped {} files that are not text", input.skipped);
        }
        if input.files.is_empty() {
            return Err("no text file to count".into());
        }
        Ok(input)
    }

    /// Adds a file, or what is below a folder, in a fixed order. Symbolic links are followed only when named.
    fn add(&mut self, path: &Path, named: bool) {
        if self.cut {
            return;
        }
        let metadata = if named { path.metadata() } else { path.symlink_metadata() };
        match metadata {
            Err(error) => eprintln!("wordcount: skipped {}: {error}", path.display()),
            Ok(m) if m.is_dir() => {
                let build_output = path.join("CACHEDIR.TAG").exists();
                let hidden = path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"."));
                if !named && (build_output || hidden) {
                    return;
                }
                let mut inside: Vec<PathBuf> = match std::fs::read_dir(path) {
                    Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
                    Err(error) => return eprintln!("wordcount: skipped {}: {error}", path.display()),
                };
                inside.sort_unstable();
                for path in inside {
                    self.add(&path, false);
                }
            }
            Ok(m) if m.is_file() && m.len() > 0 => match is_text(path) {
                Ok(true) if self.bytes.saturating_add(m.len()) > self.limit => self.cut = true,
                Ok(true) => {
                    self.bytes += m.len();
                    self.files.push(Source { path: path.into(), size: m.len(), modified: m.modified().ok() });
                }
                Ok(false) if named => eprintln!("wordcount: skipped {}: not a text file", path.display()),
                Ok(false) => self.skipped += 1,
                Err(error) => eprintln!("wordcount: skipped {}: {error}", path.display()),
            },
            Ok(m) if named && !m.is_file() => {
                eprintln!("wordcount: skipped {}: not a file or folder", path.display());
            }
            Ok(_) => {}
        }
    }

    /// The files cut into pieces, the largest first, so that the workers end together.
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (file, source) in self.files.iter().enumerate() {
            let mut offset = 0;
            while offset < source.size {
                let length = (source.size - offset).min(PIECE);
                pieces.push(Piece { file, offset, length });
                offset += length;
            }
        }
        pieces.sort_by_key(|piece| std::cmp::Reverse(piece.length));
        pieces
    }
}

/// Text: the first 4 KiB are UTF-8 (perhaps cut within a character) without a NUL.
fn is_text(path: &Path) -> std::io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(4096).read_to_end(&mut head)?;
    let valid = match std::str::from_utf8(&head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    Ok(valid && !head.contains(&0))
}

// ---- words ------------------------------------------------------------------------------------------------

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

#[derive(Debug)]
enum PieceError {
    File(std::io::Error),
    Word(shf::Error),
}

/// Reads pieces of files through one buffer.
#[derive(Debug, Default)]
struct PieceReader {
    buffer: Vec<u8>,
}

impl PieceReader {
    /// Calls `f` for each word that begins in `[offset, offset + length)` of the file. A word that began before
    /// belongs to the piece before, one that reaches beyond the end is read to its end. All is read before `f` is
    /// called for the first time.
    fn for_each_word(
        &mut self,
        path: &Path,
        offset: u64,
        length: u64,
        mut f: impl FnMut(&[u8]) -> Result<(), shf::Error>,
    ) -> Result<(), PieceError> {
        let mut file = File::open(path).map_err(PieceError::File)?;
        let buffer = &mut self.buffer;
        buffer.clear();
        let from = offset.saturating_sub(1);
        file.seek(SeekFrom::Start(from)).map_err(PieceError::File)?;
        let wanted = offset + length - from;
        file.by_ref().take(wanted).read_to_end(buffer).map_err(PieceError::File)?;
        // Read on to the end of the last word.
        let mut end = buffer.len();
        while end > 0 && in_word(buffer[end - 1]) {
            let more = file.by_ref().take(4096).read_to_end(buffer).map_err(PieceError::File)?;
            let word_end = buffer[end..].iter().position(|&b| !in_word(b)).map_or(buffer.len(), |n| end + n);
            if more == 0 || word_end < buffer.len() {
                end = word_end;
                break;
            }
            end = word_end;
        }
        buffer.truncate(end);
        buffer.make_ascii_lowercase();
        let mut rest = &buffer[..];
        if offset > 0 {
            let skip = rest.iter().position(|&b| !in_word(b)).unwrap_or(rest.len());
            rest = &rest[skip..];
        }
        for word in rest.split(|&b| !in_word(b)).filter(|word| !word.is_empty()) {
            f(word).map_err(PieceError::Word)?;
        }
        Ok(())
    }
}
