//! shf itself: one queue set, in which each side has a handle of its own.

use std::time::Duration;

use ::shf::{Batch, Item, Queue, QueueOptions, QueueSet};

use super::{End, Job, ServeQueueArgs};
use crate::AnyError;
use crate::queue::args::{Side, Way, Workload};
use crate::queue::loops::{self, Patience};

const ITEM_SIZE: usize = 64;

pub(crate) struct Hand {
    side: Side,
    /// These live as long as the process: items and batches that are held from call to call borrow from them.
    set: &'static QueueSet,
    free: &'static Queue,
    there: &'static Queue,
    back: &'static Queue,
    item: Option<Item<'static>>,
    batch: Option<Batch<'static>>,
    /// Bytes of an item that are written and read.
    bytes: usize,
    one: bool,
    way: Way,
    cycle: bool,
    wrong: u64,
}

impl Hand {
    pub(crate) fn open(args: &ServeQueueArgs, side: Side) -> Result<Self, AnyError> {
        let options = QueueOptions::new().items(args.items as usize).item_size(ITEM_SIZE);
        let options = options.queues(&["free", "a2b", "b2a"]);
        let set: &QueueSet = Box::leak(Box::new(options.open_or_create(args.folder.join("set.shf"))?));
        let queue =
            |name: &str| -> Result<&'static Queue, AnyError> { Ok(Box::leak(Box::new(set.queue(name)?))) };
        Ok(Self {
            side,
            set,
            free: queue("free")?,
            there: queue("a2b")?,
            back: queue("b2a")?,
            item: None,
            batch: None,
            bytes: 0,
            one: true,
            way: Way::Plain,
            cycle: false,
            wrong: 0,
        })
    }

    /// Where this side takes items from: if the first queue is empty, from the second.
    #[inline]
    fn sources(&self) -> [&'static Queue; 2] {
        match (self.side, self.cycle) {
            (Side::A, true) => [self.back, self.free],
            (Side::A, false) => [self.free, self.free],
            (Side::B, _) => [self.there, self.there],
        }
    }

    #[inline]
    fn destination(&self) -> &'static Queue {
        match (self.side, self.cycle) {
            (Side::A, _) => self.there,
            (Side::B, true) => self.back,
            (Side::B, false) => self.free,
        }
    }

    #[inline]
    fn pull(&self) -> Result<Option<Item<'static>>, AnyError> {
        let [first, second] = self.sources();
        let item = first.pull()?;
        Ok(if item.is_none() && self.cycle && self.side == Side::A { second.pull()? } else { item })
    }

    #[inline]
    fn pull_many(&self, batch: &mut Batch<'static>, n: usize) -> Result<(), AnyError> {
        let [first, second] = self.sources();
        if first.pull_many_into(batch, n)? == 0 && self.cycle && self.side == Side::A {
            second.pull_many_into(batch, n)?;
        }
        Ok(())
    }

    /// A writes what it sends, B reads what it gets.
    #[inline]
    fn visit(&mut self, item: &mut [u8], number: u64) {
        let message = &mut item[..self.bytes];
        match self.side {
            Side::A => loops::write(message, number),
            Side::B => self.wrong += loops::differs(message, number),
        }
    }

    #[inline]
    fn visit_all(&mut self, batch: &mut Batch<'static>, first: u64) {
        if self.bytes > 0 {
            for (item, number) in batch.iter_mut().zip(first..) {
                self.visit(item, number);
            }
        }
    }

    /// Moves an item, or as many as are there, from the source to the destination.
    #[inline]
    fn step(&mut self, first: u64, n: usize) -> Result<usize, AnyError> {
        match (self.way, self.one) {
            (Way::Exchange, true) => self.step_exchanging(first),
            (Way::Exchange, false) => self.step_exchanging_many(first, n),
            (Way::New, _) => {
                let [source, second] = self.sources();
                let mut batch = source.pull_many(n)?;
                if batch.is_empty() && self.cycle && self.side == Side::A {
                    batch = second.pull_many(n)?;
                }
                let moved = batch.len();
                if moved > 0 {
                    self.visit_all(&mut batch, first);
                    self.destination().push_many(batch)?;
                }
                Ok(moved)
            }
            (Way::Plain | Way::Chunks, true) => {
                let Some(mut item) = self.pull()? else { return Ok(0) };
                if self.bytes > 0 {
                    self.visit(&mut item, first);
                }
                self.destination().push(item)?;
                Ok(1)
            }
            (Way::Plain | Way::Chunks, false) => {
                let mut batch = self.batch.take().ok_or("no batch")?;
                self.pull_many(&mut batch, n)?;
                let moved = batch.len();
                if moved > 0 {
                    self.visit_all(&mut batch, first);
                    self.destination().push_many_from(&mut batch)?;
                }
                self.batch = Some(batch);
                Ok(moved)
            }
        }
    }

    /// The item of the step before is pushed in the call that pulls the next one. A's step is over when its item is
    /// pushed, B's when it has one.
    #[inline]
    fn step_exchanging(&mut self, number: u64) -> Result<usize, AnyError> {
        let ([source, _], destination) = (self.sources(), self.destination());
        if self.side == Side::A {
            let held = self.item.take();
            let Some(mut item) = (if held.is_some() { held } else { self.pull()? }) else { return Ok(0) };
            if self.bytes > 0 {
                self.visit(&mut item, number);
            }
            self.item = destination.exchange(item, source)?;
            return Ok(1);
        }
        let next = match self.item.take() {
            Some(item) => destination.exchange(item, source)?,
            None => source.pull()?,
        };
        let Some(mut item) = next else { return Ok(0) };
        if self.bytes > 0 {
            self.visit(&mut item, number);
        }
        self.item = Some(item);
        Ok(1)
    }

    #[inline]
    fn step_exchanging_many(&mut self, first: u64, n: usize) -> Result<usize, AnyError> {
        let ([source, _], destination) = (self.sources(), self.destination());
        let mut batch = self.batch.take().ok_or("no batch")?;
        if batch.is_empty() {
            self.pull_many(&mut batch, n)?;
        } else if self.side == Side::B {
            destination.exchange_many(&mut batch, source, n)?;
        }
        let moved = batch.len();
        if moved > 0 {
            self.visit_all(&mut batch, first);
            if self.side == Side::A {
                destination.exchange_many(&mut batch, source, n)?;
            }
        }
        self.batch = Some(batch);
        Ok(moved)
    }
}

fn spin_for(queue: &'static Queue, patience: &mut Patience) -> Result<Item<'static>, AnyError> {
    loop {
        if let Some(item) = queue.pull()? {
            return Ok(item);
        }
        patience.spin()?;
    }
}

impl End for Hand {
    fn prepare(&mut self, job: &Job) -> Result<(), AnyError> {
        let shape = &job.shape;
        self.bytes = if job.look && shape.bytes == 0 { 8 } else { shape.bytes as usize };
        (self.one, self.way) = (shape.batch == 1, shape.way);
        self.cycle = shape.workload == Workload::Cycle;
        self.wrong = 0;
        self.batch = Some(self.set.batch(shape.batch as usize)?);
        if self.side == Side::A {
            self.there.drain_to(self.free)?;
            self.back.drain_to(self.free)?;
        }
        Ok(())
    }

    #[inline]
    fn put(&mut self, first: u64, n: usize) -> Result<usize, AnyError> {
        self.step(first, n)
    }

    #[inline]
    fn take(&mut self, first: u64, n: usize) -> Result<usize, AnyError> {
        self.step(first, n)
    }

    fn take_asleep(&mut self, number: u64) -> Result<(), AnyError> {
        let mut item =
            self.there.pull_wait(Duration::from_secs(60))?.ok_or("no item came within a minute")?;
        self.visit(&mut item, number);
        Ok(self.free.push(item)?)
    }

    /// The same item goes there and back.
    fn ping(&mut self, n: u64, patience: &mut Patience, mut lap: impl FnMut()) -> Result<(), AnyError> {
        let mut item = self.free.pull()?.ok_or("no free item")?;
        for i in 0..n {
            loops::write(&mut item[..self.bytes], i);
            self.there.push(item)?;
            item = spin_for(self.back, patience)?;
            self.wrong += loops::differs(&item[..self.bytes], i);
            lap();
        }
        Ok(self.free.push(item)?)
    }

    fn pong(&mut self, n: u64, patience: &mut Patience) -> Result<(), AnyError> {
        for i in 0..n {
            let mut item = spin_for(self.there, patience)?;
            self.wrong += loops::differs(&item[..self.bytes], i);
            loops::write(&mut item[..self.bytes], i);
            self.back.push(item)?;
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.item = None;
        self.batch = None;
    }

    fn check(&mut self) -> Result<(), AnyError> {
        let report = self.set.check()?;
        if report.is_consistent() && report.in_queues == self.set.items() as u64 {
            return Ok(());
        }
        Err(format!("items are lost: {report:?}").into())
    }

    fn wrong(&self) -> u64 {
        self.wrong
    }
}
