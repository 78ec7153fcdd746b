//! Processes do every operation on shared tables, and are killed (SIGKILL) and stopped (SIGSTOP) at random times and
//! replaced; what they were told is compared with what is there, all the time and at the end.
//!
//! ```text
//! cargo run --release --example torture                                         # 10 seconds
//! cargo run --release --example torture -- --seconds 60 --procs 4 --seed 7
//! ```
//!
//! Each worker *slot* has a log outside of the tables (`log.rs`): what it is about to do, before each change, and what
//! became of it, after. When its process is killed another one takes the slot over: it reads the log, and finds out
//! whether the change under way has happened. So each slot knows exactly what must be there of the keys that it alone
//! changes, its byte of shared counters and its claims on shared keys; of all other values it knows that they are whole
//! and of their key. Every result of every call is judged, by the worker; now and then, and at the end, all workers are
//! brought to a halt, `check` is made, and the tables are compared with the logs, in both directions, by the first
//! process. Three verdicts:
//!
//! ```text
//! lost     a change that was acknowledged is not there
//! torn     a value is not whole, or not of its key
//! wrong    anything else that must not be: a removed key comes back, a UID names another key, a walk sees a key twice,
//!          a call returns what does not agree with the log, `check` finds a problem, a call fails
//! ```
//!
//! There are tables of variable lengths and of several fixed ones; two of them are also cleared. They grow, shrink, and
//! begin again. A process works on two of them in its life, which is short: so most processes die inside of a call.
//!
//! *Waits*: the longest time that an operation took, apart for times in which no process was stopped, and for those in
//! which one was (a stopped process may hold a lock: others wait for it, by contract, until their deadline). With more
//! processes than cores each of them stands still now and then, anyway: the longest time between two operations, without
//! any call, is printed beside, for comparison; and the longest wait without the time for which its process was ready to
//! run but had no core.
//!
//! The random choices come from the seed, which is printed. *The interleaving is the machine's*: the same seed does not
//! make the same run, but one like it.
//!
//! Exit code: 0 nothing lost, torn or wrong, and nobody waited too long or hung; 1 if not: then the files are kept, and
//! their folder is printed; 2 for bad arguments, or if it could not go on. However it ends otherwise, Ctrl-C and SIGKILL
//! included, the files are removed and no process stays.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![allow(clippy::cast_precision_loss, reason = "rates for people")]

mod clock;
mod compare;
mod control;
mod driver;
mod fault;
mod hot;
mod log;
mod model;
mod own;
mod plan;
mod processes;
mod random;
mod report;
mod run;
mod shared;
mod statistics;
mod values;
mod whole;
mod worker;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::driver::Driver;
use crate::fault::AnyError;
use crate::plan::{MOST_KEYS, Plan};
use crate::run::Common;
use crate::worker::Worker;

/// Kills and stops processes that work on shared tables, and shows that nothing is lost, torn or wrong.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Keys of each worker in each table
    #[arg(short, long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=MOST_KEYS))]
    keys: u64,
    /// Only tables of fixed lengths
    #[arg(long)]
    fixed: bool,
    /// Longest time that an operation may take while no process is stopped and it has a core, in milliseconds
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    max_wait: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    args.common.run(
        |slot, parent, seed| {
            let plan = plan(&args, &args.common.folder)?;
            Ok(processes::be_worker(&args.common.folder, slot, parent, || {
                Worker::open(plan, slot, seed)?.work()
            })?)
        },
        |folder, seed| torture(&args, folder, seed),
        "a table: shf::Table::open(path), check(), iter(); a log: examples/torture/log.rs",
    )
}

fn plan(args: &Args, folder: &Path) -> Result<Plan, AnyError> {
    Ok(Plan::new(folder, usize::try_from(args.common.procs)?, usize::try_from(args.keys)?, args.fixed))
}

fn torture(args: &Args, folder: &Path, seed: u64) -> Result<bool, AnyError> {
    println!(
        "seed {seed}: {} workers, {} seconds, {} own keys of each in a table, up to {} kills and stops a second",
        args.common.procs, args.common.seconds, args.keys, args.common.rate
    );
    let mut driver = Driver::new(args, plan(args, folder)?, seed)?;
    driver.run()?;
    report::print(&driver, args)
}
