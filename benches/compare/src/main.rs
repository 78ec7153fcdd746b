//! shf and its rivals, measured on the same keys in one run: see README.md.
mod args;
mod folder;
mod host;
mod keys;
mod machine;
mod measure;
mod plot;
mod queue;
mod report;
mod room;
mod server;
mod systems;
mod targets;
mod workloads;

/// What shf's own benches share: keys, the random numbers, the memory probe.
#[path = "../../common/mod.rs"]
mod common;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

pub(crate) type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// For the maps of one process: with glibc's allocator those that allocate each key are up to a third slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Table(table) => measure::table(&table),
        Command::Queue(queue) => queue::measure(&queue),
        Command::Serve(serve) => server::run(&serve),
        Command::ServeQueue(serve) => queue::server::run(&serve),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::from(2)
        }
    }
}
