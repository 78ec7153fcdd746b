//! A Rust program and a C program use one table; this is the Rust half, `peer.c` the C half.
//!
//! `examples/share_with_c/run.sh` installs the C library into a temporary folder, builds `peer.c` with
//! pkg-config, and runs both programs in both directions. By hand:
//!
//! ```text
//! cargo run --example share_with_c -- write /dev/shm/both.shf     then: ./peer read /dev/shm/both.shf
//! ./peer write /dev/shm/both.shf     then: cargo run --example share_with_c -- read /dev/shm/both.shf
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shf::{Table, TableOptions};

type AnyError = Box<dyn std::error::Error>;

const NUMBERS: u32 = 10_000;
const LONG_VALUE: usize = 100_000;

/// The Rust half of two programs that share one table.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Put the entries that the C program reads
    Write { table: PathBuf },
    /// Check the entries that the C program wrote
    Read { table: PathBuf },
    /// Add 1 to the shared counter N times
    Count { table: PathBuf, n: u32 },
    /// Check the table and that the shared counter is N
    Verify { table: PathBuf, n: i64 },
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(done) => {
            println!("rust: {done} done");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("share_with_c: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Cmd) -> Result<&'static str, AnyError> {
    match command {
        Cmd::Write { table } => {
            let table = TableOptions::new().open_or_create(table)?;
            for (name, value) in entries() {
                table.put(format!("from rust: {name}"), value)?;
            }
            let uid = table.uid("from rust: greeting")?.ok_or("the greeting has no UID")?;
            table.put("from rust: uid", uid.to_u32().to_le_bytes())?;
            Ok("write")
        }
        Cmd::Read { table } => {
            let table = Table::open(table)?;
            for (name, value) in entries() {
                expect(&table, &name, &value)?;
            }
            let uid = table.uid("from c: greeting")?.ok_or("the greeting has no UID")?;
            expect(&table, "uid", &uid.to_u32().to_le_bytes())?;
            Ok("read")
        }
        Cmd::Count { table, n } => {
            let table = TableOptions::new().open_or_create(table)?;
            for _ in 0..n {
                table.fetch_add("shared counter", 1)?;
            }
            Ok("count")
        }
        Cmd::Verify { table, n } => {
            let table = Table::open(table)?;
            let counted = table.fetch_add("shared counter", 0)?;
            if counted != n {
                return Err(format!("the shared counter is {counted}, not {n}").into());
            }
            let report = table.check()?;
            if report.problems > 0 {
                return Err(format!("check: {report:?}").into());
            }
            Ok("verify")
        }
    }
}

fn expect(table: &Table, name: &str, value: &[u8]) -> Result<(), AnyError> {
    match table.get(format!("from c: {name}"))? {
        Some(found) if found == value => Ok(()),
        Some(found) => Err(format!("{name}: another value than expected ({} bytes)", found.len()).into()),
        None => Err(format!("{name}: not there").into()),
    }
}

/// What each program writes under its own prefix, and the other expects.
fn entries() -> impl Iterator<Item = (String, Vec<u8>)> {
    let long = (0..LONG_VALUE).map(|i| (i * 31 + i / 251).to_le_bytes()[0]).collect();
    let named = [
        ("greeting", b"hello".to_vec()),
        ("empty", Vec::new()),
        ("zeros", b"a\0b\0".to_vec()),
        ("long", long),
    ];
    let numbers = (0..NUMBERS).map(|i| (i.to_string(), (i * 7).to_string().into_bytes()));
    named.into_iter().map(|(name, value)| (name.to_string(), value)).chain(numbers)
}
