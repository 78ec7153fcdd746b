//! Processes do every operation on shared queues, and are killed (SIGKILL) and stopped (SIGSTOP) at random times and
//! replaced; the items say themselves what has become of them, and are counted.
//!
//! ```text
//! cargo run --release --example queue_torture                                         # 10 seconds
//! cargo run --release --example queue_torture -- --seconds 60 --procs 4 --seed 7
//! ```
//!
//! Each item bears a mark (`mark.rs`): who has it, or who pushed it, where to, and the number of that push. Whoever pulls
//! an item knows from it what must have happened before, and judges whether it may have; what another writes into an item
//! that one holds is seen at its push. Now and then a process is killed and not replaced until all its items are home,
//! which is timed; and all workers are brought to a halt, `check` is made, and all items of all queues are pulled and
//! counted. Verdicts:
//!
//! ```text
//! lost     an item is in no queue; its mark is gone; it does not come home
//! twice    an item is in two places; it is held by two
//! torn     an item is not as its pusher left it
//! wrong    an item is in a queue to which nobody has pushed it and which is not its home; the pushes of one producer come
//!          in another order; a wait ends too soon; `check` finds a problem; a call fails
//! ```
//!
//! ORDER. An item that comes home joins at the end, behind what was pushed after it. It then says that its holder had it:
//! unless that one was killed after the pull and before it could mark the item. So each worker says before it pulls from
//! which queue and how many, outside of the set; an item that comes out of its order is counted, and there may be no more
//! of them than those words explain. From two queues only one slot pulls, whose processes are stopped, but not killed: there
//! any item out of its order is wrong, whoever of its pushers dies.
//!
//! There are four sets: with few items, so that workers wait and wake each other; with some small ones; with many, for
//! batches longer than the engine's fast path takes, and for more single items in one hand than it has room for; and one
//! with items that bear no marks, and are only counted: who works on it makes one call after the other, and dies in one.
//!
//! The random choices come from the seed, which is printed. *The interleaving is the machine's*: the same seed does not
//! make the same run, but one like it. Exit code and files: as in `examples/torture`, whose processes, folder and seed
//! these are.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![allow(clippy::cast_precision_loss, reason = "rates for people")]

#[path = "../torture/clock.rs"]
mod clock;
mod driver;
#[path = "../torture/fault.rs"]
mod fault;
mod lives;
mod mark;
mod operations;
mod plan;
#[path = "../torture/processes.rs"]
mod processes;
#[path = "../torture/random.rs"]
mod random;
mod report;
#[path = "../torture/run.rs"]
mod run;
mod worker;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::driver::Driver;
use crate::fault::AnyError;
use crate::run::Common;
use crate::worker::Worker;

/// Kills and stops processes that work on shared queues, and shows that no item is lost or in two places.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Internal: the worker's life
    #[arg(long, hide = true, default_value_t = 0)]
    life: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.common.procs < 2 {
        eprintln!("torture: --procs 2 at least: one of them is never killed");
        return ExitCode::from(2);
    }
    args.common.run(
        |slot, parent, seed| {
            let (folder, slots) = (&args.common.folder, usize::try_from(args.common.procs)?);
            Ok(processes::be_worker(folder, slot, parent, || {
                Worker::open(folder, slots, slot, args.life, seed)?.work()
            })?)
        },
        |folder, seed| torture(&args, folder, seed),
        "a set: shf::QueueSet::open(path), check(); a mark: examples/queue_torture/mark.rs",
    )
}

fn torture(args: &Args, folder: &Path, seed: u64) -> Result<bool, AnyError> {
    println!(
        "seed {seed}: {} workers, {} seconds, up to {} kills and stops a second",
        args.common.procs, args.common.seconds, args.common.rate
    );
    let mut driver = Driver::new(args, folder, seed)?;
    driver.run()?;
    report::print(&mut driver)
}
