//! The command line of `queue`, and what can be measured.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::AnyError;
use crate::args::name;

#[derive(Debug, clap::Args)]
pub(crate) struct QueueArgs {
    /// What to measure; default: all systems
    #[arg(long, value_delimiter = ',', value_enum, value_name = "SYSTEM,..")]
    pub(crate) systems: Vec<System>,
    /// Which work; default: all of it
    #[arg(long, value_delimiter = ',', value_enum, value_name = "WORKLOAD,..")]
    pub(crate) workloads: Vec<Workload>,
    /// Items a call
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,1000", value_name = "N,..",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batches: Vec<u32>,
    /// Items of a set, entries of a ring, room of a channel
    #[arg(long, default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(64..=1 << 20))]
    pub(crate) items: u32,
    /// Measurements of each figure; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// How long one measurement takes, about
    #[arg(long, default_value_t = 0.3, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// A short run, to see that everything works: 2 rounds of 0.02 seconds
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    pub(crate) quick: bool,
    /// Print one JSON object a line; the tables for people go to standard error
    #[arg(long)]
    pub(crate) json: bool,
    /// Where the files of shf and iceoryx2, the sockets and pipes are
    #[arg(long, default_value = "/dev/shm", value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServeQueueArgs {
    #[arg(long, value_enum)]
    pub(crate) system: System,
    #[arg(long)]
    pub(crate) folder: PathBuf,
    #[arg(long)]
    pub(crate) items: u32,
    /// The sides that this process is, each a thread, pinned to its core
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) sides: Vec<Side>,
    #[arg(long, value_delimiter = ',')]
    pub(crate) cores: Vec<usize>,
    /// Both sides have the same core: nobody gets on while the other spins
    #[arg(long)]
    pub(crate) one_core: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum System {
    /// This crate
    Shf,
    /// A ring of two threads, with its calls for many at a time
    Rtrb,
    /// crossbeam's
    ArrayQueue,
    /// The standard library's `sync_channel`
    Mpsc,
    /// Publish/subscribe; its event for the wake-up
    Iceoryx2,
    /// A Unix stream socket
    Stream,
    /// A Unix datagram socket
    Datagram,
    Pipe,
    /// No queue: a word of shared memory, and a futex on it
    Bare,
}

/// Where the two sides are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Place {
    Processes,
    Threads,
}

/// A begins, B answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Side {
    A,
    B,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Workload {
    /// A moves items from b2a (at first from free) to a2b, B moves them back
    Cycle,
    /// A sends, B receives
    #[value(name = "oneway")]
    OneWay,
    /// The time of one message there and one back; both spin
    #[value(name = "pingpong")]
    PingPong,
    /// From before the push until the sleeper has the item
    #[value(name = "wakeup")]
    WakeUp,
    /// Whether the system still has all its items; not timed
    #[value(hide = true)]
    Check,
}

/// How shf or rtrb is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Way {
    /// One batch, used again and again; the others: their own way
    Plain,
    /// A new batch each time
    New,
    /// Push and pull in one call
    Exchange,
    /// rtrb: chunks, element by element, where plain copies slices
    Chunks,
}

/// What is measured: a system in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Unit {
    pub(crate) system: System,
    pub(crate) place: Place,
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shape {
    pub(crate) workload: Workload,
    /// Bytes of a message that are written and read; 0: only the item's number moves.
    pub(crate) bytes: u32,
    /// Items a call.
    pub(crate) batch: u32,
    pub(crate) way: Way,
}

/// A job, as the controller sends it to a server: one line of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) shape: Shape,
    /// Messages, or rounds.
    pub(crate) n: u64,
    /// A numbers its messages, and B looks at the numbers, even where only numbers of items move.
    pub(crate) look: bool,
}

impl Job {
    pub(crate) fn line(&self) -> String {
        let Shape { workload, bytes, batch, way } = self.shape;
        let Self { n, look, .. } = self;
        format!("{} {bytes} {batch} {} {n} {}", name(workload), name(way), u8::from(*look))
    }

    pub(crate) fn parse(line: &str) -> Result<Self, AnyError> {
        let words: Vec<&str> = line.split(' ').collect();
        let &[workload, bytes, batch, way, n, look] = words.as_slice() else {
            return Err(format!("no job: {line}").into());
        };
        let shape = Shape {
            workload: Workload::from_str(workload, false)?,
            bytes: bytes.parse()?,
            batch: batch.parse()?,
            way: Way::from_str(way, false)?,
        };
        Ok(Self { shape, n: n.parse()?, look: look == "1" })
    }
}

impl System {
    pub(crate) fn places(self) -> &'static [Place] {
        match self {
            System::Shf => &[Place::Processes, Place::Threads],
            System::Rtrb | System::ArrayQueue | System::Mpsc => &[Place::Threads],
            _ => &[Place::Processes],
        }
    }
}

/// Which batches a shape is measured with.
type Fits = fn(u32) -> bool;

impl Unit {
    /// Everything it can do, with these batches.
    pub(crate) fn shapes(self, batches: &[u32]) -> Vec<Shape> {
        use Workload::{Cycle, OneWay, PingPong, WakeUp};
        let mut shapes = Vec::new();
        let mut add = |workload, bytes, only: Fits, way| {
            let fitting = batches.iter().copied().filter(|&batch| only(batch));
            shapes.extend(fitting.map(|batch| Shape { workload, bytes, batch, way }));
        };
        let any: Fits = |_| true;
        let one: Fits = |batch| batch == 1;
        let many: Fits = |batch| batch > 1;
        let some: Fits = |batch| batch == 1 || batch == 64;
        match (self.system, self.place) {
            (System::Shf, Place::Processes) => {
                add(Cycle, 0, any, Way::Plain);
                add(Cycle, 0, many, Way::New);
                add(Cycle, 0, any, Way::Exchange);
                add(OneWay, 0, any, Way::Plain);
                add(OneWay, 8, some, Way::Plain);
                add(OneWay, 64, some, Way::Plain);
            }
            (System::Shf, Place::Threads) => add(OneWay, 0, any, Way::Plain),
            (System::Rtrb, _) => {
                add(Cycle, 0, any, Way::Plain);
                add(OneWay, 0, any, Way::Plain);
                add(OneWay, 0, many, Way::Chunks);
            }
            (System::ArrayQueue | System::Mpsc, _) => {
                add(Cycle, 0, one, Way::Plain);
                add(OneWay, 0, one, Way::Plain);
            }
            (System::Iceoryx2 | System::Datagram, _) => {
                add(OneWay, 8, one, Way::Plain);
                add(OneWay, 64, one, Way::Plain);
            }
            (System::Stream | System::Pipe, _) => {
                add(OneWay, 8, some, Way::Plain);
                add(OneWay, 64, some, Way::Plain);
            }
            (System::Bare, _) => {}
        }
        shapes.push(Shape { workload: PingPong, bytes: 8, batch: 1, way: Way::Plain });
        let can_sleep = !matches!(self.system, System::Rtrb | System::ArrayQueue);
        if can_sleep && (self.system, self.place) != (System::Shf, Place::Threads) {
            shapes.push(Shape { workload: WakeUp, bytes: 8, batch: 1, way: Way::Plain });
        }
        shapes
    }
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}, {}", name(self.system), name(self.place)))
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { workload, bytes, batch, way } = self;
        write!(f, "{} {bytes} B x{batch} {}", name(*workload), name(*way))
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds @ 0.001..=60.0) => Ok(seconds),
        _ => Err("between 0.001 and 60 seconds".into()),
    }
}
