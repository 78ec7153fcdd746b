//! Worker processes, one a slot: started, killed, stopped, replaced, brought to a halt; and what they found.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use crate::clock::now;
use crate::fault::{AnyError, Fault, Verdicts};
use crate::random::Random;

pub(crate) const SECOND: u64 = 1_000_000_000;
/// A worker that does not come to a halt in so long hangs.
const HANG: u64 = 10 * SECOND;

/// What a program's workers are told, and how.
pub(crate) trait Workers {
    /// The arguments of the slot's next process.
    fn prepare(&mut self, slot: usize, command: &mut Command) -> Result<(), AnyError>;
    /// Not every slot may be killed.
    fn may_be_killed(&self, slot: usize) -> bool;
    /// The slot's process is killed next. It stands still already, if `stopped`.
    fn will_be_killed(&mut self, slot: usize, stopped: bool) -> io::Result<()>;
    /// So many processes stand still: one more than before, from now on; or one less, since a moment ago.
    fn set_stopped(&mut self, count: u64) -> io::Result<()>;
    /// Workers shall end; or not any more.
    fn set_halt(&mut self, halt: bool) -> io::Result<()>;
    /// The slot's process has ended by itself, as it was told.
    fn has_ended(&mut self, _slot: usize) -> io::Result<()> {
        Ok(())
    }
    /// More about a process that hangs.
    fn describe(&self, slot: usize);
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
pub(crate) struct Processes<W> {
    pub(crate) workers: W,
    pub(crate) random: Random,
    pub(crate) verdicts: Verdicts,
    pub(crate) kills: u64,
    /// Of those, while it was stopped.
    pub(crate) killed_stopped: u64,
    pub(crate) stops: u64,
    folder: PathBuf,
    slots: Vec<Slot>,
    stopped: u64,
    /// Of the next kill or stop.
    next: u64,
}

impl<W: Workers> Processes<W> {
    pub(crate) fn new(workers: W, folder: &Path, count: usize, seed: u64) -> Processes<W> {
        Processes {
            workers,
            random: Random(seed),
            verdicts: Verdicts::default(),
            kills: 0,
            killed_stopped: 0,
            stops: 0,
            folder: folder.to_path_buf(),
            slots: (0..count).map(|_| Slot::default()).collect(),
            stopped: 0,
            next: 0,
        }
    }

    pub(crate) fn start_all(&mut self) -> Result<(), AnyError> {
        self.next = now();
        (0..self.slots.len()).try_for_each(|slot| self.start(slot))
    }

    fn start(&mut self, slot: usize) -> Result<(), AnyError> {
        if !self.verdicts.none() {
            return Ok(());
        }
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("--folder")
            .arg(&self.folder)
            .args(["--worker", &slot.to_string(), &std::process::id().to_string()])
            .arg(self.random.next().to_string())
            .stdin(Stdio::null());
        self.workers.prepare(slot, &mut command)?;
        self.slots[slot].child = Some(command.spawn()?);
        Ok(())
    }

    /// One turn: replaces the dead, and kills or stops a process if it is time; else sleeps for a moment. True: it killed.
    pub(crate) fn turn(&mut self, rate: u64, stops: bool) -> Result<bool, AnyError> {
        let time = now();
        self.wake(if stops { time } else { u64::MAX })?;
        self.replace_the_dead()?;
        if time < self.next {
            std::thread::sleep(Duration::from_nanos((self.next - time).min(SECOND / 2000)));
            return Ok(false);
        }
        // What could not be done in time is not made up for in a burst.
        self.next = self.next.max(time.saturating_sub(SECOND / 20)) + self.random.below(2 * SECOND / rate);
        let slot = self.random.index(self.slots.len());
        if self.slots[slot].killed || self.slots[slot].until.is_some() {
            return Ok(false); // one that is stopped shall mostly go on, and find what it left as it was
        }
        if stops && self.random.one_in(2) {
            self.stop(slot)?;
            return Ok(false);
        }
        let kill = self.workers.may_be_killed(slot);
        if kill {
            self.kill(slot)?;
        }
        Ok(kill)
    }

    fn pid(&self, slot: usize) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.slots[slot].child.as_ref()?.id()).ok()?)
    }

    fn kill(&mut self, slot: usize) -> Result<(), AnyError> {
        let Some(pid) = self.pid(slot) else { return Ok(()) };
        let stopped = self.slots[slot].until.is_some();
        self.workers.will_be_killed(slot, stopped)?;
        kill_process(pid, Signal::KILL)?;
        self.kills += 1;
        self.killed_stopped += u64::from(stopped);
        self.slots[slot].killed = true;
        Ok(())
    }

    /// Waits for the end of a process that was killed.
    fn reap(&mut self, slot: usize) -> Result<(), AnyError> {
        let Some(mut child) = self.slots[slot].child.take() else { return Ok(()) };
        let status = child.wait()?;
        self.reaped(slot, status)
    }

    /// Waits until all that were killed are dead.
    pub(crate) fn reap_killed(&mut self) -> Result<(), AnyError> {
        (0..self.slots.len())
            .filter(|&slot| self.slots[slot].killed)
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|slot| self.reap(slot))
    }

    fn reaped(&mut self, slot: usize, status: ExitStatus) -> Result<(), AnyError> {
        self.not_stopped(slot)?;
        let killed = std::mem::take(&mut self.slots[slot].killed);
        if killed && status.signal() == Some(Signal::KILL.as_raw()) {
            return Ok(());
        }
        self.kills -= u64::from(killed); // it was faster
        self.ended(slot, status)
    }

    fn stop(&mut self, slot: usize) -> Result<(), AnyError> {
        let Some(pid) = self.pid(slot) else { return Ok(()) };
        self.stopped += 1;
        self.workers.set_stopped(self.stopped)?;
        kill_process(pid, Signal::STOP)?;
        self.stops += 1;
        let most = if self.random.one_in(8) { SECOND * 4 / 10 } else { SECOND / 12 };
        self.slots[slot].until = Some(now() + self.random.below(most));
        Ok(())
    }

    /// Those whose time has come go on; or are killed where they stand.
    pub(crate) fn wake(&mut self, time: u64) -> Result<(), AnyError> {
        for slot in 0..self.slots.len() {
            if self.slots[slot].killed || self.slots[slot].until.is_none_or(|until| until > time) {
                continue;
            }
            if self.workers.may_be_killed(slot) && self.random.one_in(3) {
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
            self.stopped -= 1;
            self.workers.set_stopped(self.stopped)?;
        }
        Ok(())
    }

    /// On a loaded machine it takes its time until a killed process is dead: others are killed meanwhile.
    fn replace_the_dead(&mut self) -> Result<(), AnyError> {
        for slot in 0..self.slots.len() {
            if let Some(child) = &mut self.slots[slot].child {
                let Some(status) = child.try_wait()? else { continue };
                self.slots[slot].child = None;
                self.reaped(slot, status)?;
            }
            self.start(slot)?;
        }
        Ok(())
    }

    /// A process that ended by itself: it has found something, or it failed.
    fn ended(&mut self, slot: usize, status: ExitStatus) -> Result<(), AnyError> {
        let path = findings(&self.folder, slot);
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

    /// No worker runs afterwards: they are killed at once, or they end by themselves. With a finding they are killed.
    pub(crate) fn halt(&mut self, by_kills: bool) -> Result<(), AnyError> {
        let finding = !self.verdicts.none();
        for slot in 0..self.slots.len() {
            let kill = finding || by_kills && self.workers.may_be_killed(slot);
            if kill && !self.slots[slot].killed && self.slots[slot].child.is_some() {
                self.kill(slot)?;
            }
        }
        self.reap_killed()?;
        self.workers.set_halt(true)?;
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
                Some(status) if status.success() => self.workers.has_ended(slot)?,
                Some(status) => self.ended(slot, status)?,
                None => {
                    self.hangs(slot, child.id());
                    child.kill()?;
                    child.wait()?;
                }
            }
        }
        Ok(self.workers.set_halt(false)?)
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
        self.workers.describe(slot);
    }
}

impl<W> Drop for Processes<W> {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            if let Some(child) = &mut slot.child {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

// ---- in the worker ----------------------------------------------------------------------------------------

/// The worker of this slot, which dies with its parent. A finding goes into a file; the exit code says that there is one.
pub(crate) fn be_worker(
    folder: &Path,
    slot: usize,
    parent: i32,
    work: impl FnOnce() -> Result<(), Fault>,
) -> io::Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        return Ok(true); // it died before it could send the signal
    }
    let Err(fault) = work() else { return Ok(true) };
    let mut file = OpenOptions::new().create(true).append(true).open(findings(folder, slot))?;
    writeln!(file, "{fault}")?;
    Ok(false)
}

fn findings(folder: &Path, slot: usize) -> PathBuf {
    folder.join(format!("findings-{slot}"))
}
