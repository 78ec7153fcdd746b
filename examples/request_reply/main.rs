//! A service that is asked through shared memory, in Rust; asked by a program in C (`client.c`), and by one in Rust.
//!
//! `examples/request_reply/run.sh` builds all, lets clients ask, and kills the service while they wait. By hand:
//!
//! ```text
//! cargo run --release --example request_reply -- serve /dev/shm/counting.shf
//! cargo run --release --example request_reply -- ask /dev/shm/counting.shf me 100000
//! ```
//!
//! The idea: *a request is an item that goes round.* The client takes an item from `free`, writes its request into it
//! and pushes it to `requests`. The service pulls it there, writes the reply into the same item, and pushes it to the
//! queue that the request names, which the client made (`add_queue`). Nothing is copied, and nobody needs a connection.
//!
//! If the service dies, each request that it held goes home, which is where it was pulled from: `requests`. The next
//! service finds it there, and the client, which waits in `pull_wait`, has its reply a little later. It never learns of
//! the death. So two things are needed of a service: the request stays as it is while the reply is written beside it, and
//! it does no harm to answer one twice. (If it does: put the request's number into a `Table`, with the reply.)
//!
//! A client that dies leaves its reply in its queue: the next client of that name drains it. Requests that it had not
//! pushed go home to `free`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use shf::{Error, Queue, QueueOptions, QueueSet};

type AnyError = Box<dyn std::error::Error>;

const ITEMS: usize = 256;
const ITEM_SIZE: usize = 4096;
/// How long a client waits for its reply before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service in shared memory that counts lines, words and bytes.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Answer requests until killed; makes the set if it is not there
    Serve { set: PathBuf },
    /// Be a client: ask COUNT times
    Ask { set: PathBuf, name: String, count: u32 },
    /// When nobody works any more: check that no item is missing
    Check { set: PathBuf },
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Cmd::Serve { set } => serve(&set),
        Cmd::Ask { set, name, count } => ask(&set, &name, count),
        Cmd::Check { set } => check(&set),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("request_reply: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What lies where in an item; little-endian. The same as `struct message` in `client.c`.
mod message {
    use std::ops::Range;

    pub(crate) const STATE: Range<usize> = 0..4;
    pub(crate) const NUMBER: Range<usize> = 4..8;
    /// Milliseconds that the service shall take.
    pub(crate) const PAUSE: Range<usize> = 8..12;
    pub(crate) const LENGTH: Range<usize> = 12..16;
    /// Name of the queue for the reply, filled with zeros.
    pub(crate) const REPLY_TO: Range<usize> = 16..80;
    /// The reply: lines, words, bytes.
    pub(crate) const COUNTS: [Range<usize>; 3] = [80..88, 88..96, 96..104];
    pub(crate) const SERVICE: Range<usize> = 104..108;
    /// How many services have begun with it.
    pub(crate) const TRIES: Range<usize> = 108..112;
    pub(crate) const HEADER: Range<usize> = 0..128;
    pub(crate) const TEXT: usize = HEADER.end;

    pub(crate) const REQUEST: u32 = 1;
    pub(crate) const REPLY: u32 = 2;

    pub(crate) fn number(item: &[u8], at: Range<usize>) -> u32 {
        item[at].try_into().map_or(0, u32::from_le_bytes)
    }

    pub(crate) fn set_number(item: &mut [u8], at: Range<usize>, number: u32) {
        item[at].copy_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn counts(item: &[u8]) -> [u64; 3] {
        COUNTS.map(|at| item[at].try_into().map_or(0, u64::from_le_bytes))
    }

    pub(crate) fn set_counts(item: &mut [u8], counts: [u64; 3]) {
        for (at, count) in COUNTS.into_iter().zip(counts) {
            item[at].copy_from_slice(&count.to_le_bytes());
        }
    }

    /// The client wrote the length: a text never reaches beyond its item, whatever it says.
    pub(crate) fn text(item: &[u8]) -> &[u8] {
        let length = usize::try_from(number(item, LENGTH)).unwrap_or(usize::MAX);
        &item[TEXT..TEXT.saturating_add(length).min(item.len())]
    }

    pub(crate) fn reply_to(item: &[u8]) -> String {
        let name = item[REPLY_TO].split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }
}

/// Lines, words, bytes.
fn count(text: &[u8]) -> [u64; 3] {
    let lines = text.split(|&byte| byte == b'\n').count() - 1;
    let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count();
    [lines as u64, words as u64, text.len() as u64]
}

// ---- the service ------------------------------------------------------------------------------------------

fn serve(path: &Path) -> Result<(), AnyError> {
    let set = QueueOptions::new()
        .items(ITEMS)
        .item_size(ITEM_SIZE)
        .queues(&["free", "requests"])
        .open_or_create(path)?;
    let (free, requests) = (set.queue("free")?, set.queue("requests")?);
    let mut clients: HashMap<String, Queue> = HashMap::new();
    println!("service {}: ready", std::process::id());
    loop {
        let Some(mut item) = requests.pull_wait(Duration::MAX)? else { continue };
        let name = message::reply_to(&item);
        let known = match clients.get(&name) {
            Some(queue) => Ok(queue.clone()),
            None => set.queue(&name),
        };
        match known {
            Ok(queue) => {
                answer(&mut item)?;
                queue.push(item)?;
                clients.insert(name, queue);
            }
            // Nobody waits for it: whoever reads replies makes the queue first.
            Err(Error::NotFound(_)) => free.push(item)?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// A death anywhere in here leaves the request as it was; but for the tries, which the next service counts on.
fn answer(item: &mut [u8]) -> Result<(), AnyError> {
    let tries = message::number(item, message::TRIES) + 1;
    message::set_number(item, message::TRIES, tries);
    let pause = message::number(item, message::PAUSE);
    if pause > 0 {
        println!("service {}: begins with a long request, for the {tries}. time", std::process::id());
        std::io::stdout().flush()?;
        std::thread::sleep(Duration::from_millis(pause.into()));
    }
    let counts = count(message::text(item));
    message::set_counts(item, counts);
    message::set_number(item, message::SERVICE, std::process::id());
    message::set_number(item, message::STATE, message::REPLY);
    Ok(())
}

// ---- a client ---------------------------------------------------------------------------------------------

fn ask(path: &Path, name: &str, count: u32) -> Result<(), AnyError> {
    let set = QueueSet::open(path)?;
    let (free, requests) = (set.queue("free")?, set.queue("requests")?);
    let replies = set.add_queue(format!("replies to {name}"))?;
    // Replies that a client of this name did not live to see.
    replies.drain_to(&free)?;
    let start = Instant::now();
    let mut repeated = 0;
    for number in 0..count {
        let text = format!("{number} {name}\n\n");
        let mut item = free.pull_wait(PATIENCE)?.ok_or("no free item")?;
        compose(&mut item, number, replies.name(), &text)?;
        requests.push(item)?;

        // The service may die meanwhile, and the next one answer: all that a client needs is patience.
        let item = replies.pull_wait(PATIENCE)?.ok_or("no reply")?;
        let right = message::number(&item, message::STATE) == message::REPLY
            && message::number(&item, message::NUMBER) == number
            && message::counts(&item) == [2, 1 + name.split_whitespace().count() as u64, text.len() as u64];
        if !right {
            return Err(format!("a wrong reply to request {number}: {:?}", &item[message::HEADER]).into());
        }
        repeated += u32::from(message::number(&item, message::TRIES) > 1);
        free.push(item)?;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    println!(
        "rust: {count} replies, {rate:.0} a second, {repeated} of them to requests that a service died with"
    );
    Ok(())
}

fn compose(item: &mut [u8], number: u32, reply_to: &str, text: &str) -> Result<(), AnyError> {
    item[message::HEADER].fill(0);
    message::set_number(item, message::STATE, message::REQUEST);
    message::set_number(item, message::NUMBER, number);
    message::set_number(item, message::LENGTH, u32::try_from(text.len())?);
    item[message::REPLY_TO][..reply_to.len()].copy_from_slice(reply_to.as_bytes());
    item[message::TEXT..][..text.len()].copy_from_slice(text.as_bytes());
    Ok(())
}

// ---- at the end -------------------------------------------------------------------------------------------

fn check(path: &Path) -> Result<(), AnyError> {
    let set = QueueSet::open(path)?;
    set.recover()?;
    let report = set.check()?;
    let free = set.queue("free")?.len()?;
    println!("rust: {free} of {} items are free, {} queues", set.items(), report.queues);
    // One more reply for each client that was killed: it lies where the client would have pulled it.
    let in_queues = set.queues().iter().map(Queue::len).sum::<Result<u64, Error>>()?;
    if report.problems > 0 || in_queues != ITEMS as u64 {
        return Err(format!("{in_queues} of {ITEMS} items in queues: {report:?}").into());
    }
    Ok(())
}
