//! The first process: starts the workers, kills and stops them, brings all to a halt now and then, and compares.

use std::fs;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Args;
use crate::compare::Comparison;
use crate::control::{Control, Words, now};
use crate::fault::{AnyError, Fault, Verdicts};
use crate::hot;
use crate::log::{self, Log};
use crate::plan::Plan;
use crate::random::Random;
use crate::statistics::{self, Statistics};
use crate::worker::findings;

const SECOND: u64 = 1_000_000_000;
/// Between two halts.
const ROUND: u64 = 3 * SECOND;
/// The beginning of each cycle has kills alone, the rest stops too.
const CYCLE: u64 = 3 * SECOND / 2;
const KILLS_ALONE: u64 = SECOND;
/// A worker that does not come to a halt in so long hangs.
const HANG: u64 = 10 * SECOND;

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) kills: u64,
    /// Of those, while it was stopped.
    pub(crate) killed_stopped: u64,
    pub(crate) stops: u64,
    pub(crate) comparisons: u64,
    pub(crate) compared_keys: u64,
    pub(crate) largest: u64,
    pub(crate) recoveries: u64,
    pub(crate) renewed: u64,
    /// Without the halts.
    pub(crate) running: u64,
    pub(crate) elapsed: u64,
}

#[derive(Debug, Default)]
struct Slot {
    child: Option<Child>,
    /// It was killed, but has not been waited for yet.
    killed: bool,
    /// It is stopped, until then.
    until: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Driver<'a> {
    args: &'a Args,
    plan: Plan,
    control: Control,
    words: Words,
    slots: Vec<Slot>,
    random: Random,
    pub(crate) counts: Counts,
    pub(crate) verdicts: Verdicts,
    recoveries_before: u64,
    /// For each slot.
    salts: Vec<Vec<u32>>,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(args: &'a Args, plan: Plan, seed: u64) -> Result<Driver<'a>, AnyError> {
        let control = Control::create(&plan.folder, plan.slots)?;
        control.write(Words::default())?;
        let slots = (0..plan.slots).map(|_| Slot::default()).collect();
        let salts = hot::prepare(&plan)?;
        let this = Driver {
            args,
            plan,
            control,
            words: Words::default(),
            slots,
            random: Random(seed),
            counts: Counts::default(),
            verdicts: Verdicts::default(),
            recoveries_before: 0,
            salts,
        };
        this.make_tables()?;
        Ok(this)
    }

    fn make_tables(&self) -> Result<(), AnyError> {
        for slot in 0..self.plan.slots {
            log::create(&self.plan.folder, slot, &self.salts[slot])?;
        }
        for table in 0..self.plan.tables.len() {
            fs::copy(hot::empty(&self.plan, table), self.plan.path(table))?;
        }
        Ok(())
    }

    /// All of it. It ends early with the first finding.
    pub(crate) fn run(&mut self) -> Result<(), AnyError> {
        let begin = now();
        let end = begin + u64::try_from(Duration::from_secs_f64(self.args.seconds).as_nanos())?;
        for round in 0.. {
            let start = now();
            let round_end = if end.saturating_sub(start) < ROUND * 3 / 2 { end } else { start + ROUND };
            self.round(start, round_end)?;
            let last = round_end == end;
            if self.verdicts.none() {
                self.halt(round % 2 == 0 && !last)?;
            } else {
                self.kill_all()?;
            }
            self.counts.running += now() - start;
            self.compare()?;
            if last || !self.verdicts.none() {
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
        for slot in 0..self.slots.len() {
            self.start(slot)?;
        }
        let mut next = start;
        while now() < end && self.verdicts.none() {
            let time = now();
            let shrink = u64::from((time - start) * 3 > ROUND * 2);
            if shrink != self.words.shrink {
                self.words.shrink = shrink;
                self.control.write(self.words)?;
            }
            let stops = (time - start) % CYCLE >= KILLS_ALONE;
            self.wake(if stops { time } else { u64::MAX })?;
            self.replace_the_dead()?;
            if time < next {
                std::thread::sleep(Duration::from_nanos((next - time).min(SECOND / 2000)));
                continue;
            }
            // What could not be done in time is not made up for in a burst.
            next =
                next.max(time.saturating_sub(SECOND / 20)) + self.random.below(2 * SECOND / self.args.rate);
            let slot = self.random.index(self.slots.len());
            if self.slots[slot].killed || self.slots[slot].until.is_some() {
                continue; // one that is stopped shall mostly go on, and find what it left as it was
            }
            if stops && self.random.one_in(2) {
                self.stop(slot)?;
            } else {
                self.kill(slot)?;
            }
        }
        self.wake(u64::MAX)
    }

    // ---- processes ----------------------------------------------------------------------------------------

    fn start(&mut self, slot: usize) -> Result<(), AnyError> {
        if !self.verdicts.none() {
            return Ok(());
        }
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--procs", &self.plan.slots.to_string(), "--keys", &self.args.keys.to_string()])
            .arg("--folder")
            .arg(&self.plan.folder)
            .args(["--worker", &slot.to_string(), &std::process::id().to_string()])
            .arg(self.random.next().to_string())
            .stdin(Stdio::null());
        if self.args.fixed {
            command.arg("--fixed");
        }
        self.slots[slot].child = Some(command.spawn()?);
        Ok(())
    }

    fn pid(&self, slot: usize) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.slots[slot].child.as_ref()?.id()).ok()?)
    }

    fn kill(&mut self, slot: usize) -> Result<(), AnyError> {
        let Some(pid) = self.pid(slot) else { return Ok(()) };
        let stopped = self.slots[slot].until.is_some();
        self.control.set_killed(slot, if stopped { 0 } else { now() })?;
        kill_process(pid, Signal::KILL)?;
        self.counts.kills += 1;
        self.counts.killed_stopped += u64::from(stopped);
        self.slots[slot].killed = true;
        Ok(())
    }

    /// Waits for the end of a process that was killed.
    fn reap(&mut self, slot: usize) -> Result<(), AnyError> {
        let Some(mut child) = self.slots[slot].child.take() else { return Ok(()) };
        let status = child.wait()?;
        self.reaped(slot, status)
    }

    fn reaped(&mut self, slot: usize, status: ExitStatus) -> Result<(), AnyError> {
        self.not_stopped(slot)?;
        let killed = std::mem::take(&mut self.slots[slot].killed);
        if killed && status.signal() == Some(Signal::KILL.as_raw()) {
            return Ok(());
        }
        self.counts.kills -= u64::from(killed); // it was faster
        self.ended(slot, status)
    }

    fn stop(&mut self, slot: usize) -> Result<(), AnyError> {
        let Some(pid) = self.pid(slot) else { return Ok(()) };
        self.words.stopped += 1;
        self.control.write(self.words)?;
        kill_process(pid, Signal::STOP)?;
        self.counts.stops += 1;
        let most = if self.random.one_in(8) { SECOND * 4 / 10 } else { SECOND / 12 };
        self.slots[slot].until = Some(now() + self.random.below(most));
        Ok(())
    }

    /// Those whose time has come go on; or are killed where they stand.
    fn wake(&mut self, time: u64) -> Result<(), AnyError> {
        for slot in 0..self.slots.len() {
            if self.slots[slot].killed || self.slots[slot].until.is_none_or(|until| until > time) {
                continue;
            }
            if self.random.one_in(3) {
                self.kill(slot)?;
            } else {
                if let Some(pid) = self.pid(slot) {
                    kill_process(pid, Signal::CONT)?;
                }
                self.not_stopped(slot)?;
            }
        }
        Ok(())
    }

    fn not_stopped(&mut self, slot: usize) -> Result<(), AnyError> {
        if self.slots[slot].until.take().is_some() {
            self.words.stopped -= 1;
            self.words.stop_ended = now();
            self.control.write(self.words)?;
        }
        Ok(())
    }

    /// On a loaded machine it takes its time until a killed process is dead: others are killed meanwhile.
    fn replace_the_dead(&mut self) -> Result<(), AnyError> {
        for slot in 0..self.slots.len() {
            let Some(child) = &mut self.slots[slot].child else { continue };
            if let Some(status) = child.try_wait()? {
                self.slots[slot].child = None;
                self.reaped(slot, status)?;
                self.start(slot)?;
            }
        }
        Ok(())
    }

    /// A process that ended by itself: it has found something, or it failed.
    fn ended(&mut self, slot: usize, status: ExitStatus) -> Result<(), AnyError> {
        let path = findings(&self.plan.folder, slot);
        let found = fs::read_to_string(&path).unwrap_or_default();
        for line in found.lines() {
            let fault = Fault::parse(line);
            eprintln!("torture: slot {slot}: {fault}");
            self.verdicts.count(&fault);
        }
        if found.is_empty() {
            eprintln!("torture: the worker of slot {slot} ended by itself: {status}");
            self.verdicts.failed += 1;
        } else {
            fs::rename(&path, path.with_extension("told"))?;
        }
        Ok(())
    }

    // ---- halts --------------------------------------------------------------------------------------------

    fn kill_all(&mut self) -> Result<(), AnyError> {
        for slot in 0..self.slots.len() {
            if !self.slots[slot].killed && self.slots[slot].child.is_some() {
                self.kill(slot)?;
            }
        }
        (0..self.slots.len()).try_for_each(|slot| self.reap(slot))
    }

    /// No worker runs afterwards: they are killed at once, or they end by themselves.
    fn halt(&mut self, by_kills: bool) -> Result<(), AnyError> {
        if by_kills {
            return self.kill_all();
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].killed {
                self.reap(slot)?;
            }
        }
        self.words.halt = 1;
        self.control.write(self.words)?;
        let deadline = now() + HANG;
        for slot in 0..self.slots.len() {
            let Some(mut child) = self.slots[slot].child.take() else { continue };
            let status = loop {
                match child.try_wait()? {
                    Some(status) => break Some(status),
                    None if now() > deadline => break None,
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            match status {
                Some(status) if status.success() => self.control.set_killed(slot, 0)?,
                Some(status) => self.ended(slot, status)?,
                None => {
                    self.hangs(slot, child.id());
                    child.kill()?;
                    child.wait()?;
                }
            }
        }
        self.words.halt = 0;
        Ok(self.control.write(self.words)?)
    }

    fn hangs(&mut self, slot: usize, pid: u32) {
        self.verdicts.failed += 1;
        eprintln!("torture: the worker of slot {slot}, process {pid}, has not come to a halt in 10 s");
        for file in ["wchan", "syscall", "stack", "status"] {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}"));
            let text = text.unwrap_or_else(|error| error.to_string());
            for line in text.lines().filter(|line| file != "status" || line.starts_with("State")) {
                eprintln!("torture:     {file}: {line}");
            }
        }
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

    fn compare(&mut self) -> Result<(), AnyError> {
        let comparison = Comparison::make(&self.plan)?;
        let found = comparison.verdicts;
        self.verdicts.lost += found.lost;
        self.verdicts.torn += found.torn;
        self.verdicts.wrong += found.wrong;
        self.verdicts.failed += found.failed;
        self.counts.comparisons += 1;
        self.counts.compared_keys += comparison.keys;
        self.counts.largest = self.counts.largest.max(comparison.bytes);
        self.counts.recoveries = self.recoveries_before + comparison.recoveries;
        Ok(())
    }

    /// Empty tables, that have yet to grow.
    fn renew(&mut self) -> Result<(), AnyError> {
        self.recoveries_before = self.counts.recoveries;
        for table in 0..self.plan.tables.len() {
            shf::remove(self.plan.path(table))?;
        }
        self.counts.renewed += 1;
        self.make_tables()
    }

    /// What all slots have counted.
    pub(crate) fn statistics(&self) -> Result<Statistics, AnyError> {
        let mut sum = Statistics::default();
        for slot in 0..self.plan.slots {
            let log = Log::open(&self.plan.folder, slot, self.plan.places)?;
            sum.merge(&Statistics::from_bytes(&log.read_statistics()?));
        }
        Ok(sum)
    }

    pub(crate) fn table_name(&self, table: u64) -> &'static str {
        let index = usize::try_from(table).unwrap_or(usize::MAX);
        self.plan.tables.get(index).map_or("?", |kind| kind.name)
    }
}

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            if let Some(child) = &mut slot.child {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// A process that outlives this one, and removes the folder then, however this one ends: Ctrl-C and SIGKILL included.
#[derive(Debug)]
pub(crate) struct Cleaner(Child);

impl Cleaner {
    pub(crate) fn start(folder: &std::path::Path) -> Result<Cleaner, AnyError> {
        // In a group of its own: Ctrl-C is not for it.
        let child = Command::new(std::env::current_exe()?)
            .arg("--cleaner")
            .arg(folder)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        Ok(Cleaner(child))
    }

    /// Lets it go, with or without the folder.
    pub(crate) fn finish(mut self, keep: bool) -> Result<(), AnyError> {
        if let Some(mut pipe) = self.0.stdin.take()
            && keep
        {
            pipe.write_all(b"keep")?;
        }
        self.0.wait()?;
        Ok(())
    }

    /// What it does: waits for the end of the pipe.
    pub(crate) fn run(folder: &std::path::Path) -> Result<(), AnyError> {
        if std::io::read_to_string(std::io::stdin())? != "keep" {
            // The workers die with the first process; what they still write is gone with the names.
            while fs::remove_dir_all(folder).is_err() && folder.exists() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}
