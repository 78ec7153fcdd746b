//! What a thread does in a step.

use std::time::Duration;

use shf::Queue;

use crate::clock::now;
use crate::fault::Fault;
use crate::lives::Count;
use crate::plan::{self, BARE, CAREFUL, FREE, NAMES, QUEUES, STRICT};
use crate::worker::{Filled, Held, Open, Thread};

/// Batches up to so long take another path in the engine than longer ones.
const FAST: usize = 1008;
const MOST_BATCHES: usize = 6;
/// How often each of the steps is done, in the order of [`Thread::step`].
const WEIGHTS: [u64; 9] = [30, 15, 25, 8, 6, 3, 1, 2, 10];

impl<'q> Thread<'q> {
    pub(crate) fn step(&mut self) -> Result<(), Fault> {
        let set = self.random.index(self.sets.len());
        if self.open(set).kind == BARE {
            return self.bare(set);
        }
        self.dispose(set)?;
        match self.random.weighted(&WEIGHTS) {
            0 => self.singles(set),
            1 => self.exchanges(set),
            2 => self.batch(set),
            3 => self.wait(set),
            4 => self.wait_any(set),
            5 => self.drain(set),
            6 => self.add(set),
            7 => self.hoard(set),
            _ => self.look(set),
        }
    }

    fn open(&self, set: usize) -> &'q Open {
        &self.sets[set]
    }

    /// Its index, of one that is there; mostly of a few.
    fn any(&mut self, set: usize, strict: bool) -> Result<(usize, &'q Queue), Fault> {
        let most = if self.random.one_in(2) { 4 } else { QUEUES };
        let index = self.random.index(most);
        let open = self.open(set);
        match open.queue(index)? {
            Some(queue) if strict || !STRICT.contains(&index) => Ok((index, queue)),
            _ => Ok((FREE, open.first(FREE)?)),
        }
    }

    /// A queue to pull from.
    fn source(&mut self, set: usize) -> Result<(usize, &'q Queue), Fault> {
        if self.worker.slot != CAREFUL {
            return self.any(set, false);
        }
        if self.random.one_in(4) {
            return self.any(set, true);
        }
        let index = STRICT.start + self.random.index(STRICT.len());
        Ok((index, self.open(set).first(index)?))
    }

    /// A queue to push to.
    fn target(&mut self, set: usize) -> Result<(usize, &'q Queue), Fault> {
        self.any(set, true)
    }

    /// So many items a thread keeps.
    fn hand(&self, set: usize) -> usize {
        (self.open(set).items() / 12).min(40)
    }

    // ---- without marks ------------------------------------------------------------------------------------

    fn bare(&mut self, set: usize) -> Result<(), Fault> {
        let open = self.open(set);
        let n = [16, FAST, open.items()][self.random.index(3)];
        let mut batch = open.set.batch(n)?;
        for _ in 0..50 {
            let ((_, from), (_, to)) = (self.any(set, true)?, self.any(set, true)?);
            match self.random.below(4) {
                0 => {
                    let mut held = self.done(Count::Pull, from.pull())?.flatten();
                    for _ in 0..20 {
                        let Some(item) = held.take() else { break };
                        held = self.done(Count::Exchange, to.exchange(item, from))?.flatten();
                    }
                    if let Some(item) = held {
                        self.done(Count::Push, to.push(item))?;
                    }
                }
                1 if batch.is_empty() => {
                    self.done(Count::PullMany, from.pull_many_into(&mut batch, n))?;
                }
                1 => {
                    self.done(Count::PushMany, to.push_many_from(&mut batch))?;
                }
                _ => {
                    self.done(Count::ExchangeMany, to.exchange_many(&mut batch, from, n))?;
                }
            }
            self.worker.log.count(Count::Bare, batch.len());
        }
        if self.random.one_in(10) { self.add(set) } else { Ok(()) }
    }

    // ---- one at a time ------------------------------------------------------------------------------------

    fn pull(&mut self, set: usize, (index, queue): (usize, &'q Queue)) -> Result<Option<Held<'q>>, Fault> {
        let item = self.done(Count::Pull, queue.pull())?.flatten();
        item.map(|item| self.pulled(set, index, item)).transpose()
    }

    fn push(&mut self, set: usize, mut held: Held<'q>) -> Result<(), Fault> {
        let (to, queue) = self.target(set)?;
        self.ready(&mut held, to)?;
        self.done(Count::Push, queue.push(held.item))?;
        Ok(())
    }

    /// Pushed, kept or given back.
    fn part_with(&mut self, set: usize, held: Held<'q>) -> Result<(), Fault> {
        match self.random.below(8) {
            0 if self.hands[set].len() < self.hand(set) => self.hands[set].push(held),
            1 => self.give_back(held),
            _ => self.push(set, held)?,
        }
        Ok(())
    }

    fn singles(&mut self, set: usize) -> Result<(), Fault> {
        let from = self.source(set)?;
        self.intend(set, from.0, 1)?;
        for _ in 0..=self.random.index(30) {
            let Some(held) = self.pull(set, from)? else { break };
            self.part_with(set, held)?;
        }
        Ok(())
    }

    fn exchanges(&mut self, set: usize) -> Result<(), Fault> {
        let (from, to) = (self.source(set)?, self.target(set)?);
        self.intend(set, from.0, 1)?;
        let mut held = self.pull(set, from)?;
        for _ in 0..=self.random.index(30) {
            let Some(mut one) = held.take() else { return Ok(()) };
            self.ready(&mut one, to.0)?;
            let next = self.done(Count::Exchange, to.1.exchange(one.item, from.1))?.flatten();
            held = next.map(|item| self.pulled(set, from.0, item)).transpose()?;
        }
        held.map_or(Ok(()), |held| self.part_with(set, held))
    }

    /// Some of what is kept from earlier steps.
    fn dispose(&mut self, set: usize) -> Result<(), Fault> {
        while self.hands[set].len() > self.hand(set) || !self.hands[set].is_empty() && self.random.one_in(6) {
            let index = self.random.index(self.hands[set].len());
            let held = self.hands[set].swap_remove(index);
            self.push(set, held)?;
        }
        if !self.batches[set].is_empty() && self.random.one_in(6) {
            let index = self.random.index(self.batches[set].len());
            let filled = self.batches[set].swap_remove(index);
            self.part_with_many(set, filled)?;
        }
        Ok(())
    }

    /// More single items than the engine has places for at hand.
    fn hoard(&mut self, set: usize) -> Result<(), Fault> {
        if self.open(set).items() < 2000 {
            return self.singles(set);
        }
        let from = self.source(set)?;
        self.intend(set, from.0, 1)?;
        for _ in 0..1200 {
            let Some(held) = self.pull(set, from)? else { break };
            self.hands[set].push(held);
        }
        Ok(())
    }

    // ---- many at a time -----------------------------------------------------------------------------------

    fn batch(&mut self, set: usize) -> Result<(), Fault> {
        let open = self.open(set);
        let n = match self.random.below(8) {
            0 => open.items(),
            1 => FAST,
            2 | 3 => 500,
            _ => 1 + self.random.index(64),
        };
        let n = n.min(open.items());
        let from = self.source(set)?;
        self.intend(set, from.0, n)?;
        let batch = if self.random.one_in(2) {
            let mut batch = open.set.batch(n)?;
            self.done(Count::PullMany, from.1.pull_many_into(&mut batch, n))?;
            batch
        } else {
            let Some(batch) = self.done(Count::PullMany, from.1.pull_many(n))? else { return Ok(()) };
            batch
        };
        let mut filled = self.pulled_many(set, from.0, batch)?;
        for _ in 0..self.random.index(4) {
            self.worker.log.count(Count::LargeBatches, usize::from(filled.batch.len() > FAST));
            let to = self.target(set)?;
            self.ready_many(&mut filled, to.0)?;
            let result = to.1.exchange_many(&mut filled.batch, from.1, n);
            if self.done(Count::ExchangeMany, result)?.is_none() {
                self.give_back_many(filled);
                return Ok(());
            }
            filled = self.pulled_many(set, from.0, filled.batch)?;
        }
        self.part_with_many(set, filled)
    }

    fn part_with_many(&mut self, set: usize, mut filled: Filled<'q>) -> Result<(), Fault> {
        self.worker.log.count(Count::LargeBatches, usize::from(filled.batch.len() > FAST));
        if self.random.one_in(3) {
            for _ in 0..self.random.index(8) {
                let Some(held) = self.take(&mut filled) else { break };
                self.part_with(set, held)?;
            }
        }
        match self.random.below(10) {
            0 => self.give_back_many(filled),
            1 if filled.batch.len() <= self.hand(set) && self.batches[set].len() < MOST_BATCHES => {
                self.batches[set].push(filled);
            }
            2 if filled.batch.len() < 100 => {
                while let Some(held) = self.take(&mut filled) {
                    self.push(set, held)?;
                }
            }
            3 => {
                let (to, queue) = self.target(set)?;
                self.ready_many(&mut filled, to)?;
                if self.done(Count::PushMany, queue.push_many_from(&mut filled.batch))?.is_none() {
                    self.give_back_many(filled);
                }
            }
            _ => {
                let (to, queue) = self.target(set)?;
                self.ready_many(&mut filled, to)?;
                self.done(Count::PushMany, queue.push_many(filled.batch))?;
            }
        }
        Ok(())
    }

    // ---- waiting ------------------------------------------------------------------------------------------

    /// Whoever waited in vain has waited as long as he said.
    fn in_vain(&self, what: &str, start: u64, timeout: Duration) -> Result<(), Fault> {
        self.worker.log.count(Count::Waited, 1);
        let waited = Duration::from_nanos(now() - start);
        if waited >= timeout {
            return Ok(());
        }
        Err(Fault::Wrong(format!("{what} gave up after {waited:?} of {timeout:?}")))
    }

    fn patience(&mut self) -> Duration {
        let most = if self.random.one_in(4) { 60_000 } else { 2_000 };
        Duration::from_micros(self.random.below(most))
    }

    fn wait(&mut self, set: usize) -> Result<(), Fault> {
        let (from, timeout) = (self.source(set)?, self.patience());
        if self.random.one_in(20) {
            // From now on a thread of the engine waits as well, until the handle closes.
            self.done(Count::WaitFd, from.1.wait_fd())?;
        }
        let many = self.random.one_in(2);
        let n = self.hand(set).max(1);
        self.intend(set, from.0, if many { n } else { 1 })?;
        let start = now();
        if many {
            let batch = self.done(Count::Wait, from.1.pull_many_wait(n, timeout))?;
            let Some(batch) = batch else { return Ok(()) };
            if batch.is_empty() {
                return self.in_vain("pull_many_wait", start, timeout);
            }
            let filled = self.pulled_many(set, from.0, batch)?;
            return self.part_with_many(set, filled);
        }
        match self.done(Count::Wait, from.1.pull_wait(timeout))? {
            Some(Some(item)) => {
                let held = self.pulled(set, from.0, item)?;
                self.part_with(set, held)
            }
            Some(None) => self.in_vain("pull_wait", start, timeout),
            None => Ok(()),
        }
    }

    fn wait_any(&mut self, set: usize) -> Result<(), Fault> {
        let timeout = self.patience();
        let sources: Vec<_> =
            (0..=self.random.index(6)).map(|_| self.source(set)).collect::<Result<_, _>>()?;
        let queues: Vec<&Queue> = sources.iter().map(|&(_, queue)| queue).collect();
        let start = now();
        match self.done(Count::WaitAny, self.open(set).set.wait_any(&queues, timeout))? {
            Some(Some(which)) => {
                let Some(&from) = sources.get(which) else {
                    let text = format!("wait_any of {} queues says {which}", queues.len());
                    return Err(Fault::Wrong(text));
                };
                self.intend(set, from.0, 1)?;
                let held = self.pull(set, from)?; // another may have been faster
                held.map_or(Ok(()), |held| self.part_with(set, held))
            }
            Some(None) => self.in_vain("wait_any", start, timeout),
            None => Ok(()),
        }
    }

    // ---- the whole ----------------------------------------------------------------------------------------

    fn is_impatient(&self) -> bool {
        plan::is_impatient(self.worker.slot, self.worker.life)
    }

    fn drain(&mut self, set: usize) -> Result<(), Fault> {
        let open = self.open(set);
        let from = self.source(set)?;
        if self.random.one_in(2) {
            self.intend(set, from.0, 1)?;
            for item in from.1.drain().take(50) {
                let Some(item) = self.done(Count::Drain, item)? else { break };
                let held = self.pulled(set, from.0, item)?;
                self.part_with(set, held)?;
            }
            return Ok(());
        }
        // What comes home alive is not told apart: so the impatient do not drain, and only the careful resets.
        if from.0 == FREE || self.is_impatient() {
            return Ok(());
        }
        let free = open.first(FREE)?;
        if self.worker.slot == CAREFUL && self.random.one_in(8) {
            self.done(Count::Reset, open.set.reset())?;
        } else {
            self.intend(set, from.0, open.items())?;
            self.done(Count::Drain, from.1.drain_to(free))?;
        }
        Ok(())
    }

    fn add(&mut self, set: usize) -> Result<(), Fault> {
        let index = STRICT.end + self.random.index(QUEUES - STRICT.end);
        self.worker.log.count(Count::Add, 1);
        if self.is_impatient() {
            return Ok(()); // there is no saying what it would add
        }
        self.open(set).add(index)
    }

    fn look(&mut self, set: usize) -> Result<(), Fault> {
        let open = self.open(set);
        let items = open.items() as u64;
        let (index, queue) = self.any(set, true)?;
        let wrong = |text: String| Err(Fault::Wrong(format!("set {}: {text}", open.name())));
        match self.random.below(40) {
            0 if !self.is_impatient() => {
                let report = self.done(Count::Check, open.set.check())?;
                if let Some(report) = report.filter(|report| !report.is_consistent()) {
                    return wrong(format!("check: {report:?}"));
                }
            }
            1..4 => {
                self.done(Count::Look, open.set.recover())?;
            }
            4..6 => {
                let strange = open
                    .set
                    .queues()
                    .iter()
                    .map(Queue::name)
                    .find(|name| !NAMES.contains(name))
                    .map(String::from);
                if let Some(name) = strange {
                    return wrong(format!("a queue {name:?}"));
                }
            }
            6..12 => {
                if let Some(stats) = self.done(Count::Look, queue.stats())?
                    && (stats.len > items || stats.capacity != items || stats.returned > stats.pushed)
                {
                    return wrong(format!("{}: {stats:?}", NAMES[index]));
                }
            }
            _ => {
                if let Some(len) = self.done(Count::Look, queue.len())?
                    && len > items
                {
                    return wrong(format!("{} has {len} items", NAMES[index]));
                }
            }
        }
        Ok(())
    }
}
