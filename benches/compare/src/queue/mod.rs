//! Queues: the plan of a run. As in `table`, servers hold the systems, all are alive at the same time, and each round
//! goes over everything, the next one backwards; the median of the rounds counts.

pub(crate) mod args;
mod board;
mod loops;
mod report;
pub(crate) mod server;
mod systems;
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::Path;

use clap::ValueEnum;

use self::args::{Job, Place, QueueArgs, Shape, System, Unit, Way, Workload};
use self::report::Report;
use crate::args::name;
use crate::folder::Folder;
use crate::host::{self, Remote};
use crate::measure::say;
use crate::{AnyError, machine};

/// What is measured here, as Cargo.lock names it.
const OURS: [&str; 4] = ["shf", "rtrb", "crossbeam-queue", "iceoryx2"];

pub(crate) fn measure(args: &QueueArgs) -> Result<(), AnyError> {
    let (rounds, seconds) = if args.quick { (2, 0.02) } else { (args.rounds, args.seconds) };
    let plan = plan(args)?;
    let cores = machine::cores();
    let pinned = match cores.as_slice() {
        [a, b, ..] => format!("side A is pinned to core {a}, side B to core {b}"),
        _ => "only one core: both sides share it, and take turns".into(),
    };
    let mut description = machine::describe(&OURS);
    description.insert("pinned".into(), pinned.clone().into());
    description.insert("items".into(), args.items.into());
    if args.json {
        println!("{}", serde_json::Value::Object(description.clone()));
    }
    say(args.json, &format!("{}\n{pinned}", crate::report::title(&description)));

    let folder = Folder::new(&args.folder)?;
    let mut hosts = BTreeMap::new();
    let units: BTreeSet<Unit> = plan.iter().map(|&(unit, _)| unit).collect();
    for unit in units {
        hosts.insert(unit, Host::start(unit, &cores, &folder.path, args.items)?);
    }
    let mut report = Report::new(args.items);
    let mut counts = Vec::new();
    for &(unit, shape) in &plan {
        progress(&format!("trying {unit} {shape}"));
        let host = hosts.get_mut(&unit).ok_or("no host")?;
        counts.push(
            calibrate(host, shape, seconds, args.items)
                .map_err(|error| format!("{unit} {shape}: {error}"))?,
        );
    }
    for round in 0..rounds {
        for turn in 0..plan.len() {
            let index = if round % 2 == 0 { turn } else { plan.len() - 1 - turn };
            let (unit, shape) = plan[index];
            progress(&format!("round {} {unit} {shape}", round + 1));
            let host = hosts.get_mut(&unit).ok_or("no host")?;
            let job = Job { shape, n: counts[index], look: false };
            let answer = host.run(job).map_err(|error| format!("{unit} {shape}: {error}"))?;
            report.add(unit, shape, &answer)?;
        }
    }
    progress("");
    for host in hosts.into_values() {
        host.end()?;
    }
    if args.json {
        for line in report.json() {
            println!("{line}");
        }
    }
    say(args.json, &report.to_string());
    Ok(())
}

/// Everything that is measured, what is compared side by side.
fn plan(args: &QueueArgs) -> Result<Vec<(Unit, Shape)>, AnyError> {
    let wanted = |shape: &Shape| {
        shape.batch <= args.items && (args.workloads.is_empty() || args.workloads.contains(&shape.workload))
    };
    let mut plan = Vec::new();
    for &system in System::value_variants() {
        if args.systems.is_empty() || args.systems.contains(&system) {
            for &place in system.places() {
                let unit = Unit { system, place };
                let mut batches = args.batches.clone();
                batches.sort_unstable();
                batches.dedup();
                plan.extend(unit.shapes(&batches).into_iter().filter(wanted).map(|shape| (unit, shape)));
            }
        }
    }
    if plan.is_empty() {
        return Err("none of these systems has any of these workloads".into());
    }
    plan.sort_by_key(|&(unit, shape)| (shape, unit));
    Ok(plan)
}

/// How many messages, or rounds, take about so long. The first run goes twice around all items and entries, with
/// numbered messages that are looked at: so all pages are touched, and a system that loses or mixes up any gets no
/// figure.
fn calibrate(host: &mut Host, shape: Shape, seconds: f64, items: u32) -> Result<u64, AnyError> {
    let each = |answer: &[u64], n: u64| {
        let ns = match shape.workload {
            Workload::WakeUp => answer[0],
            Workload::PingPong => answer[6],
            _ => answer[0].max(answer[3]),
        };
        ns as f64 / 1e9 / n as f64
    };
    let (n, least) = match (shape.workload, host.system) {
        (Workload::WakeUp | Workload::PingPong, _) => (50, 50),
        // The kernel has room for a few, whatever the number of items.
        (_, System::Stream | System::Datagram | System::Pipe) => (5000, 1000),
        _ => (u64::from(items) * 2 + 3, 1000),
    };
    let answer = host.run(Job { shape, n, look: true })?;
    let fitting = |seconds: f64, each: f64| ((seconds / each.max(1e-10)) as u64).max(least);
    let n = fitting(0.02, each(&answer, n));
    let answer = host.run(Job { shape, n, look: false })?;
    Ok(fitting(seconds, each(&answer, n)))
}

/// One line that is overwritten, for who waits at a terminal.
fn progress(text: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let _ = write!(terminal, "\r{text:<70}\r");
    }
}

/// The servers of one unit: one for each side, or one with a thread for each.
struct Host {
    system: System,
    servers: Vec<Remote>,
}

impl Host {
    fn start(unit: Unit, cores: &[usize], folder: &Path, items: u32) -> Result<Self, AnyError> {
        let folder = folder.join(format!("{}-{}", name(unit.system), name(unit.place)));
        std::fs::create_dir(&folder)?;
        let (a, b) = (cores.first().copied().unwrap_or(0), cores.last().copied().unwrap_or(0));
        let groups = match unit.place {
            Place::Processes => vec![("a", a.to_string()), ("b", b.to_string())],
            Place::Threads => vec![("a,b", format!("{a},{b}"))],
        };
        let mut servers = Vec::new();
        for (sides, cores) in groups {
            let words = ["serve-queue", "--system", &name(unit.system), "--items", &items.to_string()];
            let more = ["--sides", sides, "--cores", &cores, "--folder"];
            let mut arguments: Vec<OsString> = words.into_iter().chain(more).map(OsString::from).collect();
            arguments.push(folder.clone().into());
            if a == b {
                arguments.push("--one-core".into());
            }
            servers.push(Remote::start(&arguments).map_err(|error| format!("{unit}: {error}"))?);
        }
        Ok(Self { system: unit.system, servers })
    }

    /// The answers of both sides, A's first.
    fn run(&mut self, job: Job) -> Result<Vec<u64>, AnyError> {
        let answer = self.carry_out(job)?;
        if self.system == System::Shf {
            let shape = Shape { workload: Workload::Check, bytes: 0, batch: 1, way: Way::Plain };
            self.carry_out(Job { shape, n: 0, look: false })?;
        }
        Ok(answer)
    }

    fn carry_out(&mut self, job: Job) -> Result<Vec<u64>, AnyError> {
        let jobs = vec![job.line(); self.servers.len()];
        Ok(host::together(&mut self.servers, &jobs)?.concat())
    }

    fn end(self) -> Result<(), AnyError> {
        self.servers.into_iter().try_for_each(Remote::end)
    }
}
