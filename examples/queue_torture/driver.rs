//! The first process: starts the workers, kills and stops them, brings all to a halt now and then, and counts the items.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use shf::{Batch, Queue, QueueReport, QueueSet};

use crate::Args;
use crate::clock::now;
use crate::fault::{AnyError, Fault, Verdicts};
use crate::lives::{COUNTS, Lives, Log, THREADS};
use crate::mark::MOST_LIVES;
use crate::plan::{self, CAREFUL, NAMES, QUEUES, SETS};
use crate::processes::{Processes, SECOND, Workers};

/// Between two halts.
const ROUND: u64 = 3 * SECOND;
/// The beginning of each cycle has kills alone, the rest stops too.
const CYCLE: u64 = 3 * SECOND / 2;
const KILLS_ALONE: u64 = SECOND;
/// Between two measurements of how long the items of the dead take to come home.
const MEASURE: u64 = SECOND / 4;
/// They never come.
const HANG: u64 = 10 * SECOND;

/// How workers on the sets are told what to do.
#[derive(Debug)]
pub(crate) struct Sets {
    slots: usize,
    lives: Lives,
    life: Vec<u64>,
    pub(crate) logs: Vec<Log>,
    /// Items that may have come home as their last pusher marked them, by set and queue.
    excused: Vec<[u64; QUEUES]>,
}

impl Sets {
    /// What the slot's dead process was about to pull.
    fn settle(&mut self, slot: usize) -> io::Result<()> {
        for thread in 0..THREADS {
            let (set, queue, items) = self.logs[slot].take_intent(thread)?;
            self.excused[set][queue] += items;
        }
        Ok(())
    }
}

impl Workers for Sets {
    fn prepare(&mut self, slot: usize, command: &mut Command) -> Result<(), AnyError> {
        self.settle(slot)?;
        self.life[slot] += 1;
        if self.life[slot] >= MOST_LIVES {
            return Err(format!("slot {slot} has had {MOST_LIVES} lives: end of the marks").into());
        }
        command.args(["--procs", &self.slots.to_string(), "--life", &self.life[slot].to_string()]);
        Ok(())
    }

    fn may_be_killed(&self, slot: usize) -> bool {
        slot != CAREFUL
    }

    fn will_be_killed(&mut self, slot: usize, _stopped: bool) -> io::Result<()> {
        self.lives.set_killed(slot, self.life[slot])
    }

    fn set_stopped(&mut self, _count: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_halt(&mut self, halt: bool) -> io::Result<()> {
        self.lives.set_halt(halt)
    }

    fn describe(&self, slot: usize) {
        let intents: Vec<_> =
            (0..THREADS).filter_map(|thread| self.logs[slot].take_intent(thread).ok()).collect();
        eprintln!("torture:     it pulled from (set, queue, items): {intents:?}");
    }
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) counts: u64,
    pub(crate) counted_items: u64,
    pub(crate) renewed: u64,
    /// From a kill until all items of the dead were home, in nanoseconds.
    pub(crate) home: Vec<u64>,
    /// The longest of these times, without that which the kernel took for the death.
    pub(crate) after_death: u64,
    pub(crate) returned: u64,
    pub(crate) recoveries: u64,
    pub(crate) queues: u64,
    /// Without the halts.
    pub(crate) running: u64,
}

#[derive(Debug)]
pub(crate) struct Driver<'a> {
    args: &'a Args,
    folder: PathBuf,
    pub(crate) processes: Processes<Sets>,
    sets: Vec<QueueSet>,
    pub(crate) totals: Totals,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(args: &'a Args, folder: &Path, seed: u64) -> Result<Driver<'a>, AnyError> {
        let slots = usize::try_from(args.common.procs)?;
        let sets = Sets {
            slots,
            lives: Lives::open(folder, slots)?,
            life: vec![0; slots],
            logs: (0..slots).map(|slot| Log::open(folder, slot)).collect::<Result<_, _>>()?,
            excused: vec![[0; QUEUES]; SETS.len()],
        };
        Ok(Driver {
            args,
            folder: folder.to_path_buf(),
            processes: Processes::new(sets, folder, slots, seed),
            sets: make_sets(folder)?,
            totals: Totals::default(),
        })
    }

    /// All of it. It ends early with the first finding.
    pub(crate) fn run(&mut self) -> Result<(), AnyError> {
        let seconds = Duration::from_secs_f64(self.args.common.seconds);
        let end = now() + u64::try_from(seconds.as_nanos())?;
        for round in 0.. {
            let start = now();
            let round_end = if end.saturating_sub(start) < ROUND * 3 / 2 { end } else { start + ROUND };
            self.round(start, round_end)?;
            let last = round_end == end;
            self.processes.halt(round % 2 == 0 && !last)?;
            self.totals.running += now() - start;
            self.count_all()?;
            let renew = round % 2 == 1;
            if last || renew || !self.verdicts().none() {
                self.add_up()?;
            }
            if last || !self.verdicts().none() {
                break;
            }
            if renew {
                (0..SETS.len()).try_for_each(|set| shf::remove(plan::path(&self.folder, set)))?;
                self.sets = make_sets(&self.folder)?;
                self.totals.renewed += 1;
            }
        }
        Ok(())
    }

    pub(crate) fn verdicts(&self) -> Verdicts {
        self.processes.verdicts
    }

    /// Kills, and in a part of the time stops, until then.
    fn round(&mut self, start: u64, end: u64) -> Result<(), AnyError> {
        self.processes.start_all()?;
        let mut next = start + MEASURE;
        while now() < end && self.verdicts().none() {
            let time = now();
            let stops = (time - start) % CYCLE >= KILLS_ALONE;
            let killed = self.processes.turn(self.args.common.rate, stops)?;
            if killed && !stops && time >= next {
                self.measure(time)?;
                next = now() + MEASURE;
            }
        }
        self.processes.wake(u64::MAX)
    }

    // ---- while they run -----------------------------------------------------------------------------------

    /// A process was killed: nobody else is, and nobody takes its place, until all that it held is home.
    fn measure(&mut self, killed: u64) -> Result<(), AnyError> {
        self.processes.reap_killed()?;
        let died = now();
        loop {
            let mut dead = 0;
            for (set, kind) in self.sets.iter().zip(SETS) {
                let report = set.check()?;
                dead += report.dead;
                self.processes.verdicts.add(judge(kind.name, &report));
            }
            let took = now() - killed;
            if dead == 0 {
                self.totals.home.push(took);
                self.totals.after_death = self.totals.after_death.max(now() - died);
                return Ok(());
            }
            if took > HANG {
                note(&mut self.processes.verdicts, &Fault::Lost(format!("{dead} items do not come home")));
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    // ---- while nobody runs --------------------------------------------------------------------------------

    /// Each item of each set is somewhere, once.
    fn count_all(&mut self) -> Result<(), AnyError> {
        let mut verdicts = Verdicts::default();
        for (set, kind) in self.sets.iter().zip(SETS) {
            // For what those who were killed at last held.
            set.recover()?;
            let report = set.check()?;
            verdicts.add(judge(kind.name, &report));
            if (report.in_queues, report.held, report.dead) != (kind.items as u64, 0, 0) {
                let text = format!("set {}: not all items are in queues: {report:?}", kind.name);
                note(&mut verdicts, &Fault::Lost(text));
            }
            count(set, kind, &mut verdicts)?;
            self.totals.counted_items += kind.items as u64;
        }
        self.judge_order(&mut verdicts)?;
        self.totals.counts += 1;
        self.processes.verdicts.add(verdicts);
        Ok(())
    }

    /// No more items stood behind others of their producer than came home unmarked.
    fn judge_order(&mut self, verdicts: &mut Verdicts) -> Result<(), AnyError> {
        let workers = &mut self.processes.workers;
        (0..workers.slots).try_for_each(|slot| workers.settle(slot))?;
        for (set, kind) in SETS.iter().enumerate() {
            for (queue, name) in NAMES.iter().enumerate() {
                let found =
                    workers.logs.iter().map(|log| log.regressed(set, queue)).sum::<io::Result<u64>>()?;
                let excused = workers.excused[set][queue];
                if found > excused {
                    let text = format!(
                        "set {}, queue {name}: {found} items out of their order, but at most {excused} have come home",
                        kind.name
                    );
                    note(verdicts, &Fault::Wrong(text));
                }
            }
        }
        Ok(())
    }

    /// Before the sets are made anew.
    fn add_up(&mut self) -> Result<(), AnyError> {
        for set in &self.sets {
            for queue in set.queues() {
                let stats = queue.stats()?;
                self.totals.returned += stats.returned;
                self.totals.recoveries += stats.recoveries;
                self.totals.queues += 1;
            }
        }
        Ok(())
    }

    /// What all slots have counted.
    pub(crate) fn counted(&self) -> Result<[u64; COUNTS], AnyError> {
        let mut sums = [0; COUNTS];
        for slot in 0..self.processes.workers.slots {
            let log = Log::open(&self.folder, slot)?;
            for (what, sum) in sums.iter_mut().enumerate() {
                *sum += log.counted(what);
            }
        }
        Ok(sums)
    }
}

fn make_sets(folder: &Path) -> Result<Vec<QueueSet>, AnyError> {
    Ok((0..SETS.len()).map(|set| plan::create(folder, set)).collect::<Result<_, _>>()?)
}

fn note(verdicts: &mut Verdicts, fault: &Fault) {
    eprintln!("torture: {fault}");
    verdicts.count(fault);
}

fn judge(name: &str, report: &QueueReport) -> Verdicts {
    let mut verdicts = Verdicts::default();
    if !report.is_consistent() || report.in_queues + report.held + report.dead != report.items {
        note(&mut verdicts, &Fault::Wrong(format!("set {name}: check: {report:?}")));
    }
    verdicts
}

/// Pulls all items of all queues, and pushes them back.
fn count(set: &QueueSet, kind: plan::Kind, verdicts: &mut Verdicts) -> Result<(), AnyError> {
    let queues = set.queues();
    let mut seen = vec![0; kind.items];
    let mut all: Vec<(&Queue, Batch<'_>)> = Vec::new();
    for queue in &queues {
        let (len, before) = (queue.len()?, queue.stats()?);
        let mut pulled = 0;
        loop {
            let batch = queue.pull_many(997)?;
            if batch.is_empty() {
                break;
            }
            pulled += batch.len() as u64;
            for number in batch.numbers() {
                seen[number] += 1;
            }
            all.push((queue, batch));
        }
        if pulled != len || before.len != len || before.pushed - before.pulled != len {
            let text = format!(
                "set {}: {pulled} items came from {}, {len} were in it: {before:?}",
                kind.name,
                queue.name()
            );
            note(verdicts, &Fault::Wrong(text));
        }
    }
    for (number, times) in seen.into_iter().enumerate() {
        let text = format!("set {}: item {number} was found {times} times", kind.name);
        match times {
            0 => note(verdicts, &Fault::Lost(text)),
            1 => {}
            _ => note(verdicts, &Fault::Twice(text)),
        }
    }
    all.into_iter().try_for_each(|(queue, batch)| queue.push_many(batch))?;
    Ok(())
}
