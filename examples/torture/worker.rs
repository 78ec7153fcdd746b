//! A worker process: goes on where the last one of its slot died, and then does one operation after the other until it is
//! killed, or told to end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use shf::Table;

use crate::clock::now;
use crate::control::Control;
use crate::fault::Fault;
use crate::log::Log;
use crate::model::Target;
use crate::plan::{Area, Class, Plan, lane_of};
use crate::random::Random;
use crate::statistics::{Op, Statistics, Wait};

/// Waits from here on are looked at: was a process stopped meanwhile?
const LONG_NS: u64 = 500_000;
/// No table has this value: what it is compared with is looked at under the lock, and not changed.
const NO_VALUE: &[u8] = &[0xee; 77];
/// How often the statistics are written: what a process counts after that dies with it.
const FLUSH_NS: u64 = 1_000_000;
/// The places that a process mostly works on, of each area.
const WINDOW: usize = 1024;

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) slot: usize,
    pub(crate) plan: Plan,
    /// Opened when first used.
    pub(crate) tables: Vec<Option<Table>>,
    pub(crate) log: Log,
    pub(crate) random: Random,
    pub(crate) statistics: Statistics,
    pub(crate) shrink: bool,
    control: Control,
    /// The end of the last call.
    left: u64,
    flushed: u64,
    sched: File,
    not_running: u64,
    /// In parts of 2^32: where the windows begin.
    window: u64,
}

impl Worker {
    pub(crate) fn open(plan: Plan, slot: usize, seed: u64) -> Result<Worker, Fault> {
        let tables = vec![None; plan.tables.len()];
        let log = Log::open(&plan.folder, slot, plan.places)?;
        let control = Control::open(&plan.folder)?;
        let statistics = Statistics::from_bytes(&log.read_statistics()?);
        let mut random = Random(seed);
        let window = random.below(1 << 32);
        let start = now();
        Ok(Worker {
            slot,
            tables,
            log,
            random,
            statistics,
            shrink: control.read()?.shrink != 0,
            control,
            left: start,
            flushed: start,
            sched: File::open("/proc/self/schedstat")?,
            not_running: 0,
            window,
            plan,
        })
    }

    pub(crate) fn work(&mut self) -> Result<(), Fault> {
        self.waited_until_death()?;
        self.settle()?;
        // Two tables in a life: opening and touching more of them would be most of it.
        let mut tables =
            [self.random.index(self.plan.tables.len()), self.random.index(self.plan.tables.len())];
        let to_clear = self.plan.tables.iter().position(|table| table.cleared_by == Some(self.slot));
        if let (Some(table), true) = (to_clear, self.random.one_in(2)) {
            tables[0] = table;
        }
        let areas: Vec<Area> =
            self.plan.areas_of(self.slot).filter(|area| tables.contains(&area.table)).cloned().collect();
        let own: Vec<&Area> = areas.iter().filter(|area| area.class == Class::Own).collect();
        for round in 0u64.. {
            if round % 64 == 0 {
                let words = self.control.read()?;
                self.shrink = words.shrink != 0;
                if words.halt != 0 {
                    break;
                }
            }
            if round % 8 == 7 {
                self.flush(false)?;
            }
            let choice = self.random.below(8000);
            if own.is_empty() || (6000..7980).contains(&choice) {
                let table = tables[self.random.index(2)];
                let area = areas.get(self.random.index(areas.len().max(1)));
                match area {
                    Some(area) if area.class == Class::Lane => self.change_lane(area)?,
                    Some(area) if area.class == Class::Claim => self.change_claim(area)?,
                    _ => self.change_free(table)?,
                }
                continue;
            }
            let area = own[self.random.index(own.len())];
            match choice {
                0..4960 => self.change_own(area)?,
                4960..5000 => self.clear(area.table)?,
                5000..6000 => self.read_own(area)?,
                _ => self.whole_table(area)?,
            }
        }
        self.flush(true)
    }

    pub(crate) fn table(&mut self, table: usize) -> Result<Table, Fault> {
        if let Some(handle) = &self.tables[table] {
            return Ok(handle.clone());
        }
        let start = now();
        // Some give up on the lock of a stopped process soon, others wait for it.
        let patience = if self.random.one_in(2) { 100 } else { 10_000 };
        let options = self.plan.options(table).lock_timeout(Duration::from_millis(patience));
        let handle = options.open(self.plan.path(table))?;
        self.tables[table] = Some(handle.clone());
        self.measured(Op::Open, table, start, now())?;
        Ok(handle)
    }

    // ---- calls and their times ----------------------------------------------------------------------------

    /// Makes a call and measures it. `None`: it gave up on a lock that another process kept; nothing was changed.
    pub(crate) fn call<T>(
        &mut self,
        op: Op,
        table: usize,
        f: impl FnOnce(&Table) -> shf::Result<T>,
    ) -> Result<Option<T>, Fault> {
        let handle = self.table(table)?;
        let start = now();
        let result = f(&handle);
        let end = now();
        self.measured(op, table, start, end)?;
        match result {
            Ok(result) => Ok(Some(result)),
            // A read takes no lock, and does not give up; but len, stats and check look at each shard under its lock.
            Err(shf::Error::Timeout(_)) if !(op.is_of_one_key() && op.is_read()) => {
                self.statistics.timeouts += 1;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn measured(&mut self, op: Op, table: usize, start: u64, end: u64) -> Result<(), Fault> {
        let (outside, took) = (start.saturating_sub(self.left), end - start);
        let mut kind = if op.is_of_one_key() { Wait::AfterKills } else { Wait::Whole };
        let (mut stops, mut not_running) = (false, 0);
        if took.max(outside) >= LONG_NS {
            let words = self.control.read()?;
            let since = if took >= LONG_NS { start } else { self.left };
            stops = words.stopped > 0 || words.stop_ended >= since;
            if stops && op.is_of_one_key() {
                kind = Wait::BesideStops;
            }
            let counted = self.read_not_running()?;
            let since = counted - std::mem::replace(&mut self.not_running, counted);
            not_running = since.saturating_sub(outside).min(took);
        }
        self.statistics.ops[op as usize] += 1;
        self.statistics.inside += took;
        let mut news = self.statistics.add(kind, op as usize, table, took) && took >= LONG_NS;
        if news {
            self.statistics.longest[kind as usize].not_running = not_running;
        }
        if kind == Wait::AfterKills && took >= LONG_NS {
            news |= self.statistics.add(Wait::Running, op as usize, table, took - not_running);
        }
        if !stops {
            news |= self.statistics.add(Wait::Outside, op as usize, table, outside) && outside >= LONG_NS;
        }
        self.left = end;
        if news { self.flush(true) } else { Ok(()) }
    }

    /// The second number of schedstat: nanoseconds on the run queue.
    fn read_not_running(&self) -> io::Result<u64> {
        let mut bytes = [0; 64];
        let n = self.sched.read_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(&bytes[..n]);
        Ok(text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0))
    }

    fn flush(&mut self, at_once: bool) -> Result<(), Fault> {
        let time = now();
        if at_once || time - self.flushed >= FLUSH_NS {
            self.statistics.alive += time - self.flushed;
            self.flushed = time;
            self.not_running = self.read_not_running()?;
            self.log.write_statistics(&self.statistics.to_bytes())?;
        }
        Ok(())
    }

    // ---- after a death ------------------------------------------------------------------------------------

    /// A process that was killed in a call had waited there so long; its own measurement died with it.
    fn waited_until_death(&mut self) -> Result<(), Fault> {
        let (intent, killed) = (self.log.intent, self.control.killed(self.slot)?);
        if intent.count == 0 || killed <= intent.started || intent.op >= Op::Walk as usize {
            return Ok(());
        }
        if self.log.state(intent.first)?.value == intent.new {
            return Ok(()); // acknowledged
        }
        let words = self.control.read()?;
        if words.stopped > 0 || words.stop_ended >= intent.started {
            return Ok(());
        }
        let table = self.plan.area(intent.first).table;
        self.statistics.add(Wait::Unfinished, intent.op, table, killed - intent.started);
        Ok(())
    }

    /// Decides what became of the change that was under way: each of its places has the old state or the new one, and
    /// in a batch all before a new one are new. It looks under the lock: so what the dead one had committed is there.
    pub(crate) fn settle(&mut self) -> Result<(), Fault> {
        let intent = self.log.intent;
        let ordered = intent.op != Op::Clear as usize;
        let mut states = Vec::with_capacity(intent.count);
        let (mut done, mut undone) = (0, 0);
        for place in intent.first..intent.first + intent.count {
            let target = self.target(place)?;
            let seen = self.look(&target)?;
            let old = target.agrees(&self.plan, target.now.value, seen.as_deref());
            let new = target.agrees(&self.plan, intent.new, seen.as_deref());
            if !old && !new {
                let what = format!("after a death in {}", crate::statistics::name(intent.op));
                target.judge(&self.plan, seen.as_deref(), &what)?;
            }
            done += u64::from(new && !old);
            undone += u64::from(old && !new);
            if ordered && undone > 0 && new && !old {
                return Err(Fault::Wrong(format!(
                    "after a death in {}: {} is done, and one before it is not",
                    crate::statistics::name(intent.op),
                    target.describe(&self.plan)
                )));
            }
            let state = if new { intent.new } else { target.now.value };
            let uid = if state != 0 && target.now.value != 0 { target.now.uid } else { 0 };
            states.push((state, uid));
        }
        if done + undone > 0 {
            let kind = if undone == 0 { 1 } else { 2 * usize::from(done > 0) };
            self.statistics.cut_off[kind] += 1;
        }
        if intent.count > 0 {
            self.log.acknowledge(intent.first, &states)?;
            self.log.settled()?;
        }
        Ok(())
    }

    /// The value, looked at under the lock.
    fn look(&mut self, target: &Target) -> Result<Option<Vec<u8>>, Fault> {
        loop {
            let found = self.call(Op::CompareExchange, target.table, |table| {
                table.compare_exchange(&target.key, Some(NO_VALUE), None)
            })?;
            match found {
                None => {}
                Some(shf::Exchange::Unchanged(value)) => return Ok(value),
                Some(shf::Exchange::Exchanged) => {
                    return Err(Fault::Wrong(format!(
                        "compare_exchange: {} had a value that nobody put",
                        target.describe(&self.plan)
                    )));
                }
            }
        }
    }

    // ---- what all operations share ------------------------------------------------------------------------

    pub(crate) fn target(&mut self, place: usize) -> Result<Target, Fault> {
        let now = self.log.state(place)?;
        Ok(Target::new(&self.plan, self.slot, place, now))
    }

    /// One of the places of an area: mostly out of this process' window.
    pub(crate) fn pick(&mut self, area: &Area) -> Result<Target, Fault> {
        let count = area.places.len();
        let window = WINDOW.min(count);
        let index = if self.random.one_in(5) {
            self.random.index(count)
        } else {
            let start = usize::try_from(self.window).unwrap_or(0) % (count - window + 1);
            start + self.random.index(window)
        };
        self.target(area.places.start + index)
    }

    /// What the next change stamps its values with.
    pub(crate) fn next_stamp(&self) -> u64 {
        (self.log.intent.number + 1) << 8 | self.slot as u64
    }

    /// A change of one place: says so before. `None`: nothing has happened.
    pub(crate) fn change<T>(
        &mut self,
        op: Op,
        target: &Target,
        new: u64,
        f: impl FnOnce(&Table) -> shf::Result<T>,
    ) -> Result<Option<T>, Fault> {
        self.log.intend(op as usize, target.place, 1, new, now())?;
        let result = self.call(op, target.table, f)?;
        if result.is_none() {
            self.log.settled()?;
        }
        Ok(result)
    }

    /// The change is done. `uid` 0: the call did not tell it.
    pub(crate) fn done(&mut self, target: &Target, state: u64, uid: u32) -> Result<(), Fault> {
        let known = if target.now.value == 0 { 0 } else { target.now.uid };
        if known != 0 && uid != 0 && known != uid {
            return Err(Fault::Wrong(format!("{} has UID {uid} now", target.describe(&self.plan))));
        }
        let uid = if state == 0 { 0 } else { known.max(uid) };
        Ok(self.log.acknowledge(target.place, &[(state, uid)])?)
    }

    pub(crate) fn lane_must_be(&self, target: &Target, counter: &[u8], what: &str) -> Result<(), Fault> {
        if lane_of(counter, self.slot) == target.now.value {
            return Ok(());
        }
        target.judge(&self.plan, Some(counter), what)
    }
}
