//! The plan of a run: what is measured, in which order.
//!
//! Each pass goes over all systems, forwards and then backwards in turn (A B C, C B A, A B C, ...), so that a
//! machine that gets slower or faster meanwhile does so for all; the median of the passes counts. First the puts, in
//! new processes with empty tables each time; those of the last pass stay for the reads, then for the changes.

use std::io::{IsTerminal, Write};
use std::path::Path;

use crate::args::{self, Dist, System, TableArgs, Workload};
use crate::folder::Folder;
use crate::host::{Host, Setting, Unit, Window};
use crate::report::{Report, Subject};
use crate::{AnyError, common, keys, machine, plot, room};

/// In the order of the passes; see `Run::measure`.
const PUTS: [Workload; 2] = [Workload::PutBatch, Workload::Put];
const READS: [Workload; 6] =
    [Workload::Limit, Workload::Get, Workload::Absent, Workload::Batch, Workload::Uid, Workload::UidBatch];
const CHANGES: [Workload; 2] = [Workload::Replace, Workload::Mix];

/// What is measured here, as Cargo.lock names it.
const OURS: [&str; 10] =
    ["shf", "hashbrown", "dashmap", "papaya", "scc", "heed", "libmdbx", "redb", "mimalloc", "foldhash"];

pub(crate) fn table(args: &TableArgs) -> Result<(), AnyError> {
    let cores = machine::cores();
    let workers: Vec<usize> =
        args.workers.iter().map(|&n| n as usize).filter(|&n| n <= cores.len()).collect();
    if workers.len() < args.workers.len() {
        eprintln!("compare: only {} core: nothing is measured with 2 workers", cores.len());
    }
    let mut runs = Vec::new();
    for &dist in &args.dist {
        for &value_bytes in &args.values {
            for &keys in &args.keys {
                runs.push(Run::new(args, &workers, &cores, Subject { keys, value_bytes, dist })?);
            }
        }
    }
    let most = runs.iter().map(|run| run.need.files + run.need.full + run.need.growing).max().unwrap_or(0);
    if let Some(folder) = &args.plot {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }

    let mut description = machine::describe(&OURS);
    description.insert("shf_in_huge_pages".into(), args.huge_pages.into());
    if args.json {
        println!("{}", serde_json::Value::Object(description.clone()));
    }
    say(args.json, &crate::report::title(&description));
    // On a virtual machine the first touch of a page costs 1-12 us, once: whoever comes first would pay for all.
    common::warm_machine(most.max(2 << 30).min(machine::available() / 8 * 7));
    for run in runs {
        let report = run.measure()?;
        if args.json {
            for line in report.json() {
                println!("{line}");
            }
        }
        say(args.json, &report.to_string());
        if let Some(folder) = &args.plot {
            for file in plot::draw(&report, folder, &description)? {
                eprintln!("wrote {}", file.display());
            }
        }
    }
    Ok(())
}

/// Text for people: on standard output, unless that is for machines.
pub(crate) fn say(json: bool, text: &str) {
    if json { eprintln!("{text}") } else { println!("{text}") }
}

/// The figures of one size, value length and order of keys.
struct Run<'a> {
    args: &'a TableArgs,
    subject: Subject,
    units: Vec<Unit>,
    workloads: Vec<Workload>,
    workers: Vec<usize>,
    cores: Vec<usize>,
    tail_keys: u32,
    need: room::Need,
}

impl<'a> Run<'a> {
    /// Decides what is measured, and refuses what has no room.
    fn new(
        args: &'a TableArgs,
        workers: &[usize],
        cores: &[usize],
        subject: Subject,
    ) -> Result<Self, AnyError> {
        let all = [PUTS.as_slice(), &READS, &CHANGES, &[Workload::Tail]].concat();
        let wanted = |workload: &Workload| args.workloads.is_empty() || args.workloads.contains(workload);
        let workloads: Vec<Workload> = all.into_iter().filter(wanted).collect();
        let mut systems = args.systems.clone();
        if systems.is_empty() {
            systems = <System as clap::ValueEnum>::value_variants().to_vec();
        }
        systems.push(System::Memory);
        systems.sort_unstable();
        systems.dedup();
        let units: Vec<Unit> = systems
            .iter()
            .flat_map(|&system| {
                system.configs(subject.value_bytes).into_iter().map(move |config| Unit { system, config })
            })
            .filter(|&unit| workloads.iter().any(|&workload| supports(unit, workload, 1)))
            .collect();
        if units.is_empty() {
            return Err("none of these systems has any of these workloads".into());
        }

        let Subject { keys, value_bytes, .. } = subject;
        let tail_keys = args.tail_keys.unwrap_or(keys.saturating_mul(2));
        let mut need = room::together(&units, keys, value_bytes);
        room::check(need, &args.folder, keys, value_bytes)?;
        if workloads.contains(&Workload::Tail) {
            let with_tail: Vec<Unit> = units.iter().copied().filter(|&unit| has_tail(args, unit)).collect();
            let tail = room::largest(&with_tail, tail_keys, value_bytes);
            room::check(tail, &args.folder, tail_keys, value_bytes)?;
            need.full = need.full.max(tail.full);
        }
        let (workers, cores) = (workers.to_vec(), cores.to_vec());
        Ok(Self { args, subject, units, workloads, workers, cores, tail_keys, need })
    }

    fn measure(self) -> Result<Report, AnyError> {
        let folder = Folder::new(&self.args.folder)?;
        keys::write_files(&folder.path, self.subject.keys, self.subject.dist)?;
        let mut report = Report::new(self.subject, self.tail_keys);
        let mut hosts = self.puts(&folder.path, &mut report)?;
        self.passes(&READS, &mut hosts, &mut report)?;
        self.passes(&CHANGES, &mut hosts, &mut report)?;
        drop(hosts);
        if self.wants(Workload::Tail) {
            self.tails(&folder.path, &mut report)?;
        }
        self.progress("");
        Ok(report)
    }

    fn wants(&self, workload: Workload) -> bool {
        self.workloads.contains(&workload)
    }

    /// All units: forwards in even passes, backwards in odd ones.
    fn order(&self, pass: u32) -> Vec<Unit> {
        let mut units = self.units.clone();
        if pass % 2 == 1 {
            units.reverse();
        }
        units
    }

    fn setting<'f>(&self, folder: &'f Path, keys: u32) -> Setting<'f> {
        let huge_pages = self.args.huge_pages;
        Setting { folder, keys, value_bytes: self.subject.value_bytes, huge_pages }
    }

    fn host(&self, unit: Unit, workers: usize, folder: &Path) -> Result<Host, AnyError> {
        Host::start(unit, &self.cores[..workers], &self.setting(folder, self.subject.keys))
    }

    /// Puts from empty, in new processes. Returns full hosts for what comes after.
    fn puts(&self, folder: &Path, report: &mut Report) -> Result<Vec<(Unit, Host)>, AnyError> {
        let all = Window { from: 0, to: self.subject.keys as usize, rounds: 1 };
        let mut hosts = Vec::new();
        for pass in 0..self.args.passes {
            for workload in PUTS.into_iter().filter(|&workload| self.wants(workload)) {
                for unit in self.order(pass) {
                    if pass > 0 && self.is_put_once(unit) {
                        continue;
                    }
                    let last =
                        workload == Workload::Put && (pass + 1 == self.args.passes || self.is_put_once(unit));
                    // The one with one worker comes last, and stays.
                    for &workers in self.workers.iter().rev().filter(|&&n| supports(unit, workload, n)) {
                        self.progress(&format!(
                            "pass {} {unit} {} x{workers}",
                            pass + 1,
                            args::name(workload)
                        ));
                        let stays = if last { self.workers_later(unit) } else { None };
                        let mut host = self.host(unit, stays.unwrap_or(0).max(workers), folder)?;
                        let answer = host.run(workload, all, workers, 0)?;
                        report.add(unit, workload, workers, all.operations(), answer[0]);
                        if workload == Workload::Put && workers == 1 {
                            let file = host.bytes()?;
                            report.bytes(unit, file.unwrap_or(answer[1]), file.unwrap_or(answer[2]));
                        }
                        if stays.is_some() {
                            hosts.retain(|(other, _)| *other != unit);
                            hosts.push((unit, host));
                        }
                    }
                }
            }
        }
        // What was not measured must still be full.
        for &unit in &self.units {
            let Some(workers) = self.workers_later(unit) else { continue };
            if !hosts.iter().any(|(other, _)| *other == unit) {
                self.progress(&format!("filling {unit}"));
                let mut host = self.host(unit, workers, folder)?;
                if unit.system != System::Memory {
                    host.run(Workload::Put, all, 1, 0)?;
                }
                hosts.push((unit, host));
            }
        }
        hosts.sort_by_key(|(unit, _)| *unit);
        // A process that did not fill the file has not mapped its pages yet, and would do so, fault by fault, in the
        // first workload that reads with two. So each reads once before anything is timed.
        for (unit, host) in &mut hosts {
            if let Some(workers) = self.workers_later(*unit).filter(|_| unit.system.is_shared()) {
                self.progress(&format!("mapping {unit}"));
                host.run(Workload::Get, all, workers, 0)?;
            }
        }
        Ok(hosts)
    }

    /// The workers it needs for what comes after the puts.
    fn workers_later(&self, unit: Unit) -> Option<usize> {
        let later = |&n: &usize| READS.iter().chain(&CHANGES).any(|&w| self.wants(w) && supports(unit, w, n));
        self.workers.iter().copied().filter(later).max()
    }

    /// These take so long that one measurement must do, unless they are asked for by name.
    fn is_put_once(&self, unit: Unit) -> bool {
        matches!(unit.system, System::Libmdbx | System::Redb) && !self.args.systems.contains(&unit.system)
    }

    fn passes(
        &self,
        workloads: &[Workload],
        hosts: &mut [(Unit, Host)],
        report: &mut Report,
    ) -> Result<(), AnyError> {
        for pass in 0..self.args.passes {
            for &workload in workloads.iter().filter(|&&workload| self.wants(workload)) {
                for turn in 0..hosts.len() {
                    let index = if pass % 2 == 0 { turn } else { hosts.len() - 1 - turn };
                    let (unit, host) = &mut hosts[index];
                    for &workers in self.workers.iter().filter(|&&n| supports(*unit, workload, n)) {
                        self.progress(&format!(
                            "pass {} {unit} {} x{workers}",
                            pass + 1,
                            args::name(workload)
                        ));
                        let window = self.window(*unit, pass * 2 + workers as u32);
                        let salt = (pass as u8).wrapping_mul(2).wrapping_add(workers as u8);
                        let times = host.run(workload, window, workers, salt)?;
                        report.add(*unit, workload, workers, window.operations(), times[0]);
                    }
                }
            }
        }
        Ok(())
    }

    /// Long enough for a figure, another part of the keys each time. Databases are slow: a quarter is enough.
    fn window(&self, unit: Unit, turn: u32) -> Window {
        if unit.system == System::Memory {
            // As many reads as there are lines: most of them are of lines that are not in a cache.
            return Window { from: 0, to: 4 << 20, rounds: 1 };
        }
        let keys = self.subject.keys as usize;
        let mut operations = (keys / 5).clamp(400_000, 2_000_000);
        if unit.system.is_database() {
            operations /= 4;
        }
        if operations >= keys {
            return Window { from: 0, to: keys, rounds: operations.div_ceil(keys) };
        }
        let from = turn as usize % (keys / operations) * operations;
        Window { from, to: from + operations, rounds: 1 }
    }

    /// The time of each put, one worker. Three runs for shf, whose targets they are; one for the others.
    fn tails(&self, folder: &Path, report: &mut Report) -> Result<(), AnyError> {
        let all = Window { from: 0, to: self.tail_keys as usize, rounds: 1 };
        for pass in 0..3 {
            for unit in self.order(pass) {
                if !has_tail(self.args, unit) || (pass > 0 && unit.system != System::Shf) {
                    continue;
                }
                self.progress(&format!("pass {} {unit} tail", pass + 1));
                let mut host = Host::start(unit, &self.cores[..1], &self.setting(folder, self.tail_keys))?;
                let answer = host.run(Workload::Tail, all, 1, 0)?;
                report.tail(unit, &answer);
            }
        }
        Ok(())
    }

    /// One line that is overwritten, for who waits at a terminal.
    fn progress(&self, text: &str) {
        let mut terminal = std::io::stderr();
        if terminal.is_terminal() {
            let keys = self.subject.keys;
            let text = if text.is_empty() { String::new() } else { format!("{keys} keys, {text}") };
            let _ = write!(terminal, "\r{text:<70}\r");
        }
    }
}

/// What a system has. Only shf has batches and UIDs; a plain loop stands for `batch32` in the others.
fn supports(unit: Unit, workload: Workload, workers: usize) -> bool {
    let system = unit.system;
    match workload {
        Workload::Limit => system == System::Memory,
        _ if system == System::Memory => false,
        _ if system == System::Hashbrown && workers > 1 => false,
        Workload::PutBatch | Workload::Uid | Workload::UidBatch => system == System::Shf,
        Workload::Put | Workload::Replace if system.is_database() => workers == 1, // one writer at a time
        // Their puts are made in bulk only: a single one would be a transaction.
        Workload::Tail => workers == 1 && !matches!(system, System::Redb | System::Libmdbx),
        _ => true,
    }
}

/// Databases take long for it, and have one only if they are named.
fn has_tail(args: &TableArgs, unit: Unit) -> bool {
    let left_out = unit.system.is_database() && !args.systems.contains(&unit.system);
    supports(unit, Workload::Tail, 1) && !left_out
}

impl Dist {
    pub(crate) fn name(self) -> String {
        args::name(self)
    }
}
