//! A worker process: one or two threads that do one operation after the other on one or two sets, until the process is
//! killed or told to end. Now and then they close everything, and begin again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use shf::{Batch, Error, Item, Queue, QueueSet};

use crate::fault::Fault;
use crate::lives::{Count, Lives, Log, THREADS};
use crate::mark::{self, FRESH, Kind, Mark, Producer};
use crate::plan::{self, BARE, CAREFUL, FREE, NAMES, QUEUES, SETS, STRICT};
use crate::random::Random;

/// What all threads of a process share.
#[derive(Debug)]
pub(crate) struct Worker {
    folder: PathBuf,
    pub(crate) slot: usize,
    slots: usize,
    pub(crate) life: u64,
    seed: u64,
    pub(crate) lives: Lives,
    pub(crate) log: Log,
    /// All threads close their sets, and begin again.
    again: AtomicBool,
}

/// A set that is open, and those of its queues that this process has met.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) kind: usize,
    pub(crate) set: QueueSet,
    queues: [OnceLock<Queue>; QUEUES],
}

impl Worker {
    pub(crate) fn open(
        folder: &Path,
        slots: usize,
        slot: usize,
        life: u64,
        seed: u64,
    ) -> Result<Worker, Fault> {
        let (lives, log) = (Lives::open(folder, slots)?, Log::open(folder, slot)?);
        let folder = folder.to_path_buf();
        Ok(Worker { folder, slot, slots, life, seed, lives, log, again: AtomicBool::new(false) })
    }

    pub(crate) fn work(&self) -> Result<(), Fault> {
        let mut random = Random(self.seed);
        let mut numbers = [0; THREADS];
        while !self.lives.halt()? {
            self.again.store(false, Ordering::Relaxed);
            let sets = self.open_sets(&mut random)?;
            let threads = if random.one_in(4) { THREADS } else { 1 };
            let seeds: Vec<u64> = (0..threads).map(|_| random.next()).collect();
            thread::scope(|scope| {
                let running: Vec<_> = numbers
                    .iter_mut()
                    .zip(seeds)
                    .enumerate()
                    .map(|(index, (number, seed))| {
                        let sets = &sets;
                        scope.spawn(move || {
                            let mut thread = Thread::new(self, index, sets, seed, *number);
                            let result = thread.run();
                            self.again.store(true, Ordering::Relaxed);
                            *number = thread.finish();
                            result
                        })
                    })
                    .collect();
                // A panic is a failure of the torture itself.
                running.into_iter().try_for_each(|thread| {
                    thread.join().unwrap_or_else(|_| Err(Fault::Failed("a thread has panicked".into())))
                })
            })?;
        }
        for thread in 0..THREADS {
            self.log.take_intent(thread)?;
        }
        Ok(self.log.flush()?)
    }

    /// The careful slot alone pulls from the strict queues: so it is in all sets.
    fn open_sets(&self, random: &mut Random) -> Result<Vec<Open>, Fault> {
        let one = if random.one_in(2) { BARE } else { random.index(BARE) };
        let two = if random.one_in(4) { random.index(SETS.len()) } else { one };
        (0..SETS.len())
            .filter(|&kind| self.slot == CAREFUL || kind == one || kind == two)
            .map(|kind| {
                let set = self.open_set(kind)?;
                Ok(Open { kind, set, queues: std::array::from_fn(|_| OnceLock::new()) })
            })
            .collect()
    }

    /// Who opens takes a lock too: the impatient try again.
    fn open_set(&self, kind: usize) -> Result<QueueSet, Fault> {
        let impatient = plan::is_impatient(self.slot, self.life);
        loop {
            self.log.count(Count::Open, 1);
            match plan::open(&self.folder, kind, impatient) {
                Err(Error::Timeout(_)) if impatient => self.log.count(Count::GaveUp, 1),
                other => return Ok(other?),
            }
        }
    }
}

impl Open {
    /// `None`: nobody has added it yet.
    pub(crate) fn queue(&self, index: usize) -> Result<Option<&Queue>, Fault> {
        if let Some(queue) = self.queues[index].get() {
            return Ok(Some(queue));
        }
        match self.set.queue(NAMES[index]) {
            Ok(queue) => Ok(Some(self.queues[index].get_or_init(|| queue))),
            Err(Error::NotFound(_)) if index >= STRICT.end => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// One that is there from the beginning.
    pub(crate) fn first(&self, index: usize) -> Result<&Queue, Fault> {
        self.queue(index)?.ok_or_else(|| Fault::Wrong(format!("queue {} is gone", NAMES[index])))
    }

    pub(crate) fn name(&self) -> &'static str {
        SETS[self.kind].name
    }

    pub(crate) fn items(&self) -> usize {
        SETS[self.kind].items
    }

    pub(crate) fn add(&self, index: usize) -> Result<(), Fault> {
        let queue = self.set.add_queue(NAMES[index])?;
        let queue = self.queues[index].get_or_init(|| queue);
        if queue.name() == NAMES[index] {
            Ok(())
        } else {
            Err(Fault::Wrong(format!("add_queue({}) gave {}", NAMES[index], queue.name())))
        }
    }
}

/// An item in this thread's hands, and what it wrote into it.
#[derive(Debug)]
pub(crate) struct Held<'q> {
    pub(crate) item: Item<'q>,
    pub(crate) mark: Mark,
}

/// A batch with items: the mark of its first item; those of the others count up from it.
#[derive(Debug)]
pub(crate) struct Filled<'q> {
    pub(crate) batch: Batch<'q>,
    pub(crate) first: Mark,
}

#[derive(Debug)]
pub(crate) struct Thread<'q> {
    pub(crate) worker: &'q Worker,
    pub(crate) index: usize,
    pub(crate) sets: &'q [Open],
    pub(crate) random: Random,
    /// Of the next mark.
    number: u64,
    /// Items that are kept over many operations, of each set.
    pub(crate) hands: Vec<Vec<Held<'q>>>,
    pub(crate) batches: Vec<Vec<Filled<'q>>>,
    /// The last number seen of each producer, in each queue of each set.
    seen: HashMap<(usize, usize, Producer), u64>,
    steps: u64,
}

impl<'q> Thread<'q> {
    fn new(worker: &'q Worker, index: usize, sets: &'q [Open], seed: u64, number: u64) -> Thread<'q> {
        Thread {
            worker,
            index,
            sets,
            random: Random(seed),
            number,
            hands: sets.iter().map(|_| Vec::new()).collect(),
            batches: sets.iter().map(|_| Vec::new()).collect(),
            seen: HashMap::new(),
            steps: 0,
        }
    }

    fn run(&mut self) -> Result<(), Fault> {
        while !self.worker.again.load(Ordering::Relaxed) {
            self.steps += 1;
            if self.steps.is_multiple_of(16) {
                self.worker.log.flush()?;
                if self.worker.lives.halt()? {
                    break;
                }
            }
            if self.random.one_in(600) {
                break; // closes all
            }
            self.step()?;
        }
        Ok(())
    }

    /// Gives back what it has. The number of the next mark.
    fn finish(&mut self) -> u64 {
        for held in self.hands.iter_mut().flat_map(|hand| hand.drain(..)).collect::<Vec<_>>() {
            self.give_back(held);
        }
        for filled in self.batches.iter_mut().flat_map(|batches| batches.drain(..)).collect::<Vec<_>>() {
            self.give_back_many(filled);
        }
        self.number
    }

    // ---- calls --------------------------------------------------------------------------------------------

    /// `None`: it gave up on a lock; only the impatient may.
    pub(crate) fn done<T>(&self, what: Count, result: shf::Result<T>) -> Result<Option<T>, Fault> {
        let log = &self.worker.log;
        log.count(what, 1);
        match result {
            Ok(result) => Ok(Some(result)),
            Err(Error::Timeout(_)) if plan::is_impatient(self.worker.slot, self.worker.life) => {
                log.count(Count::GaveUp, 1);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Says that up to `n` items are pulled from there next.
    pub(crate) fn intend(&self, set: usize, queue: usize, n: usize) -> Result<(), Fault> {
        Ok(self.worker.log.intend(self.index, self.sets[set].kind, queue, n)?)
    }

    // ---- marks --------------------------------------------------------------------------------------------

    fn next_mark(&mut self, kind: Kind, home: usize, to: usize, n: usize) -> Mark {
        let number = self.number;
        self.number += n as u64;
        let Worker { slot, life, .. } = *self.worker;
        // In `free` no order is kept: a drain puts others' items there.
        let ordered = kind == Kind::Pushed && to != home && to != FREE;
        Mark { kind, ordered, thread: self.index, slot, life, to, home, number }
    }

    /// Judges what was just pulled, and marks it as held.
    pub(crate) fn pulled(&mut self, set: usize, queue: usize, mut item: Item<'q>) -> Result<Held<'q>, Fault> {
        let mark = self.next_mark(Kind::Held, queue, 0, 1);
        let number = item.number();
        if Some(item.home()) != self.sets[set].queues[queue].get().map(Queue::index) {
            let text = format!("an item from {} says that its home is queue {}", NAMES[queue], item.home());
            return Err(Fault::Wrong(text));
        }
        let before = mark::read(&item);
        mark::write(&mut item, mark.word());
        self.judge(set, queue, number, before, &item)?;
        Ok(Held { item, mark })
    }

    pub(crate) fn pulled_many(
        &mut self,
        set: usize,
        queue: usize,
        mut batch: Batch<'q>,
    ) -> Result<Filled<'q>, Fault> {
        let first = self.next_mark(Kind::Held, queue, 0, batch.len());
        // First all marks: so few come home as they were pulled.
        let before: Vec<u64> = (first.number..)
            .zip(batch.iter_mut())
            .map(|(number, item)| {
                let before = mark::read(item);
                mark::write(item, Mark { number, ..first }.word());
                before
            })
            .collect();
        let numbers: Vec<usize> = batch.numbers().collect();
        if numbers.len() != batch.len() {
            return Err(Fault::Wrong("a batch has more items than numbers".into()));
        }
        for ((item, number), before) in batch.iter().zip(numbers).zip(before) {
            self.judge(set, queue, number, before, item)?;
        }
        Ok(Filled { batch, first })
    }

    /// Nobody has written into what this thread holds; then the body and the mark of a push.
    fn mark_pushed(held: Mark, pushed: Mark, number: usize, item: &mut [u8]) -> Result<(), Fault> {
        let found = mark::read(item);
        if found != held.word() {
            return Err(Fault::Twice(format!(
                "item {number} was written by another while it was held: {held:?}, then {:?}",
                Mark::of(found)
            )));
        }
        mark::fill(item, number, pushed.word());
        mark::write(item, pushed.word());
        Ok(())
    }

    pub(crate) fn ready(&mut self, held: &mut Held<'q>, to: usize) -> Result<(), Fault> {
        let pushed = self.next_mark(Kind::Pushed, held.mark.home, to, 1);
        let number = held.item.number();
        Self::mark_pushed(held.mark, pushed, number, &mut held.item)
    }

    pub(crate) fn ready_many(&mut self, filled: &mut Filled<'q>, to: usize) -> Result<(), Fault> {
        let Filled { batch, first } = filled;
        let pushed = self.next_mark(Kind::Pushed, first.home, to, batch.len());
        let numbers: Vec<usize> = batch.numbers().collect();
        for (i, (item, number)) in (0..).zip(batch.iter_mut().zip(numbers)) {
            let held = Mark { number: first.number + i, ..*first };
            Self::mark_pushed(held, Mark { number: pushed.number + i, ..pushed }, number, item)?;
        }
        Ok(())
    }

    /// The first item of a batch, on its own.
    pub(crate) fn take(&mut self, filled: &mut Filled<'q>) -> Option<Held<'q>> {
        let item = filled.batch.take()?;
        self.worker.log.count(Count::Take, 1);
        let mark = filled.first;
        filled.first.number += 1;
        Some(Held { item, mark })
    }

    pub(crate) fn give_back(&mut self, mut held: Held<'q>) {
        self.worker.log.count(Count::Return, 1);
        let mark = self.next_mark(Kind::Returned, held.mark.home, 0, 1);
        mark::write(&mut held.item, mark.word());
    }

    pub(crate) fn give_back_many(&mut self, mut filled: Filled<'q>) {
        self.worker.log.count(Count::Return, 1);
        let first = self.next_mark(Kind::Returned, filled.first.home, 0, filled.batch.len());
        for (number, item) in (first.number..).zip(filled.batch.iter_mut()) {
            mark::write(item, Mark { number, ..first }.word());
        }
    }

    // ---- judging ------------------------------------------------------------------------------------------

    /// Is it right that this item, as it was, lay in this queue? It bears this holder's mark already.
    fn judge(
        &mut self,
        set: usize,
        queue: usize,
        number: usize,
        before: u64,
        item: &[u8],
    ) -> Result<(), Fault> {
        let open = &self.sets[set];
        let log = &self.worker.log;
        log.count(Count::Items, 1);
        let place = || format!("set {}: item {number} in {}", open.name(), NAMES[queue]);
        if number >= open.items() {
            return Err(Fault::Wrong(format!("{} has no such number", place())));
        }
        if before == FRESH {
            // Before the first push of it.
            return if queue == FREE { Ok(()) } else { Err(Fault::Lost(format!("{}: its mark", place()))) };
        }
        let Some(mark) = Mark::of(before).filter(|mark| mark.slot < self.worker.slots) else {
            return Err(Fault::Torn(format!("{}: {before:#x} is no mark", place())));
        };
        let is_dead = || self.worker.lives.is_dead(mark.slot, mark.life);
        match mark.kind {
            Kind::Held => {
                log.count(Count::FoundHeld, 1);
                if !is_dead()? {
                    return Err(Fault::Twice(format!("{}, but its holder lives: {mark:?}", place())));
                }
            }
            Kind::Returned => {}
            Kind::Pushed => {
                if !mark::is_whole(item, number, before) {
                    return Err(Fault::Torn(format!("{}: its body is not that of {mark:?}", place())));
                }
                if mark.to == queue {
                    return self.judge_order(set, queue, number, mark);
                }
                if queue != FREE {
                    log.count(Count::CutOff, 1);
                    if !plan::is_impatient(mark.slot, mark.life) && !is_dead()? {
                        let text = format!("{}, but its pusher lives: {mark:?}", place());
                        return Err(Fault::Wrong(text));
                    }
                }
            }
        }
        // It was not pushed here: so it has come home; or was brought to `free`.
        if mark.home == queue || queue == FREE {
            Ok(())
        } else {
            Err(Fault::Wrong(format!("{}, which is not its home: {mark:?}", place())))
        }
    }

    /// The pushes of one producer come in their order. An item that has come home, as its last pusher marked it, stands at
    /// the end: that takes a death between a pull and the marks. The first process counts both. In the strict queues
    /// nobody who pulls is killed.
    fn judge_order(&mut self, set: usize, queue: usize, number: usize, mark: Mark) -> Result<(), Fault> {
        if !mark.ordered {
            return Ok(());
        }
        if self.seen.len() > 50_000 {
            self.seen.clear();
        }
        let last = self.seen.entry((set, queue, mark.producer())).or_default();
        // Its first number is above 0: that one was used for the pull.
        if *last < mark.number {
            *last = mark.number;
            return Ok(());
        }
        if *last == mark.number {
            return Err(Fault::Twice(format!("item {number} came twice by one push: {mark:?}")));
        }
        if STRICT.contains(&queue) {
            return Err(Fault::Wrong(format!(
                "set {}: item {number} in {}, {mark:?}, came after number {last}",
                self.sets[set].name(),
                NAMES[queue]
            )));
        }
        self.worker.log.count(Count::OutOfOrder, 1);
        Ok(self.worker.log.add_regressed(self.sets[set].kind, queue)?)
    }
}
