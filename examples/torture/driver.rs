//! The first process: starts the workers, kills and stops them, brings all to a halt now and then, and compares.

use std::fs;
use std::io;
use std::process::Command;
use std::time::Duration;

use crate::Args;
use crate::clock::now;
use crate::compare::Comparison;
use crate::control::{Control, Words};
use crate::fault::{AnyError, Verdicts};
use crate::hot;
use crate::log::{self, Log};
use crate::plan::Plan;
use crate::processes::{Processes, SECOND, Workers};
use crate::statistics::{self, Statistics};

/// Between two halts.
const ROUND: u64 = 3 * SECOND;
/// The beginning of each cycle has kills alone, the rest stops too.
const CYCLE: u64 = 3 * SECOND / 2;
const KILLS_ALONE: u64 = SECOND;

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) comparisons: u64,
    pub(crate) compared_keys: u64,
    pub(crate) largest: u64,
    pub(crate) recoveries: u64,
    pub(crate) renewed: u64,
    /// Without the halts.
    pub(crate) running: u64,
    pub(crate) elapsed: u64,
}

/// How workers on the tables are told what to do.
#[derive(Debug)]
pub(crate) struct Tables<'a> {
    args: &'a Args,
    plan: Plan,
    control: Control,
    words: Words,
}

impl Workers for Tables<'_> {
    fn prepare(&mut self, _slot: usize, command: &mut Command) -> Result<(), AnyError> {
        command.args(["--procs", &self.plan.slots.to_string(), "--keys", &self.args.keys.to_string()]);
        if self.args.fixed {
            command.arg("--fixed");
        }
        Ok(())
    }

    fn may_be_killed(&self, _slot: usize) -> bool {
        true
    }

    fn will_be_killed(&mut self, slot: usize, stopped: bool) -> io::Result<()> {
        self.control.set_killed(slot, if stopped { 0 } else { now() })
    }

    fn set_stopped(&mut self, count: u64) -> io::Result<()> {
        if count < self.words.stopped {
            self.words.stop_ended = now();
        }
        self.words.stopped = count;
        self.control.write(self.words)
    }

    fn set_halt(&mut self, halt: bool) -> io::Result<()> {
        self.words.halt = u64::from(halt);
        self.control.write(self.words)
    }

    fn has_ended(&mut self, slot: usize) -> io::Result<()> {
        self.control.set_killed(slot, 0)
    }

    fn describe(&self, slot: usize) {
        if let Ok(log) = Log::open(&self.plan.folder, slot, self.plan.places) {
            let intent = log.intent;
            let place = self.plan.area(intent.first);
            eprintln!(
                "torture:     its last change: {} in table {}, {intent:?}",
                statistics::name(intent.op),
                self.plan.tables[place.table].name
            );
        }
    }
}

#[derive(Debug)]
pub(crate) struct Driver<'a> {
    pub(crate) processes: Processes<Tables<'a>>,
    pub(crate) counts: Counts,
    recoveries_before: u64,
    /// For each slot.
    salts: Vec<Vec<u32>>,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(args: &'a Args, plan: Plan, seed: u64) -> Result<Driver<'a>, AnyError> {
        let control = Control::create(&plan.folder, plan.slots)?;
        control.write(Words::default())?;
        let salts = hot::prepare(&plan)?;
        let (folder, slots) = (plan.folder.clone(), plan.slots);
        let tables = Tables { args, plan, control, words: Words::default() };
        let this = Driver {
            processes: Processes::new(tables, &folder, slots, seed),
            counts: Counts::default(),
            recoveries_before: 0,
            salts,
        };
        this.make_tables()?;
        Ok(this)
    }

    fn plan(&self) -> &Plan {
        &self.processes.workers.plan
    }

    fn make_tables(&self) -> Result<(), AnyError> {
        for slot in 0..self.plan().slots {
            log::create(&self.plan().folder, slot, &self.salts[slot])?;
        }
        for table in 0..self.plan().tables.len() {
            fs::copy(hot::empty(self.plan(), table), self.plan().path(table))?;
        }
        Ok(())
    }

    /// All of it. It ends early with the first finding.
    pub(crate) fn run(&mut self) -> Result<(), AnyError> {
        let begin = now();
        let seconds = Duration::from_secs_f64(self.processes.workers.args.common.seconds);
        let end = begin + u64::try_from(seconds.as_nanos())?;
        for round in 0.. {
            let start = now();
            let round_end = if end.saturating_sub(start) < ROUND * 3 / 2 { end } else { start + ROUND };
            self.round(start, round_end)?;
            let last = round_end == end;
            self.processes.halt(round % 2 == 0 && !last)?;
            self.counts.running += now() - start;
            self.compare()?;
            if last || !self.verdicts().none() {
                break;
            }
            if round % 2 == 1 {
                self.renew()?;
            }
        }
        self.counts.elapsed = now() - begin;
        Ok(())
    }

    /// Kills, and in a part of the time stops, until then.
    fn round(&mut self, start: u64, end: u64) -> Result<(), AnyError> {
        self.processes.start_all()?;
        while now() < end && self.verdicts().none() {
            let time = now();
            let shrink = u64::from((time - start) * 3 > ROUND * 2);
            let tables = &mut self.processes.workers;
            if shrink != tables.words.shrink {
                tables.words.shrink = shrink;
                tables.control.write(tables.words)?;
            }
            let rate = tables.args.common.rate;
            self.processes.turn(rate, (time - start) % CYCLE >= KILLS_ALONE)?;
        }
        self.processes.wake(u64::MAX)
    }

    pub(crate) fn verdicts(&self) -> Verdicts {
        self.processes.verdicts
    }

    fn compare(&mut self) -> Result<(), AnyError> {
        let comparison = Comparison::make(self.plan())?;
        self.processes.verdicts.add(comparison.verdicts);
        self.counts.comparisons += 1;
        self.counts.compared_keys += comparison.keys;
        self.counts.largest = self.counts.largest.max(comparison.bytes);
        self.counts.recoveries = self.recoveries_before + comparison.recoveries;
        Ok(())
    }

    /// Empty tables, that have yet to grow.
    fn renew(&mut self) -> Result<(), AnyError> {
        self.recoveries_before = self.counts.recoveries;
        for table in 0..self.plan().tables.len() {
            shf::remove(self.plan().path(table))?;
        }
        self.counts.renewed += 1;
        self.make_tables()
    }

    /// What all slots have counted.
    pub(crate) fn statistics(&self) -> Result<Statistics, AnyError> {
        let mut sum = Statistics::default();
        for slot in 0..self.plan().slots {
            let log = Log::open(&self.plan().folder, slot, self.plan().places)?;
            sum.merge(&Statistics::from_bytes(&log.read_statistics()?));
        }
        Ok(sum)
    }

    pub(crate) fn table_name(&self, table: u64) -> &'static str {
        let index = usize::try_from(table).unwrap_or(usize::MAX);
        self.plan().tables.get(index).map_or("?", |kind| kind.name)
    }
}
