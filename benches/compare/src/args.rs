//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::queue::args::{QueueArgs, ServeQueueArgs};

/// Measures shf beside its rivals, on the same keys, in one run.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hash tables: shf, maps of one process, databases
    Table(TableArgs),
    /// Queues: shf, rings and channels of one process, iceoryx2, sockets, a pipe
    Queue(QueueArgs),
    /// Internal: hold one system and do what the standard input says
    #[command(hide = true)]
    Serve(ServeArgs),
    /// Internal: be one side of a queue, or both, and do what the standard input says
    #[command(hide = true)]
    ServeQueue(ServeQueueArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct TableArgs {
    /// Keys in the table, such as 100k or 10M; several: one run after the other
    #[arg(long, value_delimiter = ',', value_parser = count, default_value = "10M", value_name = "N,..")]
    pub(crate) keys: Vec<u32>,
    /// Bytes of a value, at least 4; keys have 4
    #[arg(long, value_delimiter = ',', default_value = "4", value_name = "BYTES,..",
          value_parser = clap::value_parser!(u32).range(4..=1 << 20))]
    pub(crate) values: Vec<u32>,
    /// The order of the keys
    #[arg(long, value_delimiter = ',', value_enum, default_value = "random", value_name = "DIST,..")]
    pub(crate) dist: Vec<Dist>,
    /// What to measure; default: all systems
    #[arg(long, value_delimiter = ',', value_enum, value_name = "SYSTEM,..")]
    pub(crate) systems: Vec<System>,
    /// Which work; default: all of it
    #[arg(long, value_delimiter = ',', value_enum, value_name = "WORKLOAD,..")]
    pub(crate) workloads: Vec<Workload>,
    /// Threads, or processes for the systems that processes share
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_name = "N,..",
          value_parser = clap::value_parser!(u32).range(1..=2))]
    pub(crate) workers: Vec<u32>,
    /// Measurements of each figure; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) passes: u32,
    /// Keys put while the time of each put is taken; default: twice the keys
    #[arg(long, value_parser = count, value_name = "N")]
    pub(crate) tail_keys: Option<u32>,
    /// shf's tables use huge pages when they are read, as after `Table::use_huge_pages`
    #[arg(long)]
    pub(crate) huge_pages: bool,
    /// Print one JSON object a line; the tables for people go to standard error
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw plots (SVG) into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) plot: Option<PathBuf>,
    /// Where the files of shf and the databases are
    #[arg(long, default_value = "/dev/shm", value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServeArgs {
    #[arg(long, value_enum)]
    pub(crate) system: System,
    #[arg(long, value_enum)]
    pub(crate) config: Config,
    /// The folder of the run: key files, and the system's own files
    #[arg(long)]
    pub(crate) folder: PathBuf,
    /// Create the system's files; else open them
    #[arg(long)]
    pub(crate) create: bool,
    /// Keys it must have room for
    #[arg(long)]
    pub(crate) keys: u32,
    #[arg(long)]
    pub(crate) value_bytes: u32,
    #[arg(long)]
    pub(crate) huge_pages: bool,
    /// One worker for each core, pinned to it
    #[arg(long, value_delimiter = ',')]
    pub(crate) cores: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum System {
    /// This crate
    Shf,
    /// A map for one thread
    Hashbrown,
    Dashmap,
    Papaya,
    Scc,
    /// Through heed
    Lmdb,
    Libmdbx,
    Redb,
    /// No system: the reads of random lines that the memory allows
    #[value(hide = true)]
    Memory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Config {
    /// Keys and values of any length
    Var,
    /// Lengths fixed when the table is created
    Fixed,
    /// `Box<[u8]>` to `Box<[u8]>`
    Boxed,
    /// `u32` to `u32`
    U32,
    /// 64-byte lines of a 256-MB array
    Lines,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Workload {
    /// From empty to all keys, in new memory
    Put,
    /// The same with 32 keys a call
    #[value(name = "putbatch32")]
    PutBatch,
    /// Present keys, in another order than they were put
    Get,
    /// Absent keys
    Absent,
    /// As get, 32 keys a call; a loop where there is no such call
    #[value(name = "batch32")]
    Batch,
    /// By UID
    Uid,
    /// By UID, 32 a call
    #[value(name = "uidbatch32")]
    UidBatch,
    /// Another value of the same size for present keys
    Replace,
    /// 98 % get, 2 % remove and put again
    Mix,
    /// Reads of random 64-byte lines that do not depend on each other
    Limit,
    /// The time of each put while growing from empty
    Tail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Dist {
    /// 0, 1, 2, ..., put and read in this order
    Sequential,
    /// Random keys, put in one random order and read in another
    Random,
    /// Random keys, put in random order; a read takes the k-th most popular key with probability ~ 1/k^0.99
    Zipf,
}

/// The name on the command line and in JSON.
pub(crate) fn name<T: ValueEnum>(value: T) -> String {
    value.to_possible_value().map_or_else(String::new, |v| v.get_name().to_string())
}

/// A number of keys: 2000000, 100k, 10M.
fn count(text: &str) -> Result<u32, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => match text.strip_suffix(['m', 'M']) {
            Some(digits) => (digits, 1_000_000),
            None => (text, 1),
        },
    };
    let number: u64 = digits.replace('_', "").parse().map_err(|_| "not a number of keys".to_string())?;
    // As many again are absent keys, and a key has 32 bits.
    match number.checked_mul(factor) {
        Some(keys @ 1..=2_000_000_000) => Ok(keys as u32),
        _ => Err("between 1 and 2,000 million keys".into()),
    }
}
