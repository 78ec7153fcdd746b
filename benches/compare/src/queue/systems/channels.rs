//! Channels of two threads that move one number at a time: crossbeam's `ArrayQueue` and the standard library's
//! `sync_channel`. Two of them, one there and one back.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crossbeam_queue::ArrayQueue;

use super::{End, Job, ServeQueueArgs};
use crate::AnyError;
use crate::queue::args::{Side, Workload};

/// One side's hand on both.
pub(crate) trait Both {
    /// False: there is no room.
    fn push(&mut self, number: u32) -> bool;

    fn pop(&mut self) -> Option<u32>;

    fn pop_asleep(&mut self) -> Result<u32, AnyError> {
        Err("this system cannot sleep".into())
    }
}

impl Both for (Arc<ArrayQueue<u32>>, Arc<ArrayQueue<u32>>) {
    #[inline]
    fn push(&mut self, number: u32) -> bool {
        self.0.push(number).is_ok()
    }

    #[inline]
    fn pop(&mut self) -> Option<u32> {
        self.1.pop()
    }
}

impl Both for (SyncSender<u32>, Receiver<u32>) {
    #[inline]
    fn push(&mut self, number: u32) -> bool {
        self.0.try_send(number).is_ok()
    }

    #[inline]
    fn pop(&mut self) -> Option<u32> {
        self.1.try_recv().ok()
    }

    fn pop_asleep(&mut self) -> Result<u32, AnyError> {
        Ok(self.1.recv()?)
    }
}

pub(crate) struct Channels<C> {
    side: Side,
    channels: C,
    items: u32,
    /// Numbers that are in no channel; of A, in a cycle.
    free: u32,
    cycle: bool,
    look: bool,
    wrong: u64,
}

pub(crate) fn array_queues(args: &ServeQueueArgs) -> [impl End + use<>; 2] {
    let [there, back] = [0, 1].map(|_| Arc::new(ArrayQueue::new(args.items as usize)));
    Channels::new(args, [(Arc::clone(&there), Arc::clone(&back)), (back, there)])
}

pub(crate) fn mpsc(args: &ServeQueueArgs) -> [impl End + use<>; 2] {
    let (to_b, from_a) = sync_channel(args.items as usize);
    let (to_a, from_b) = sync_channel(args.items as usize);
    Channels::new(args, [(to_b, from_b), (to_a, from_a)])
}

impl<C: Both> Channels<C> {
    fn new(args: &ServeQueueArgs, [a, b]: [C; 2]) -> [Self; 2] {
        let items = args.items;
        [(Side::A, a), (Side::B, b)].map(|(side, channels)| Self {
            side,
            channels,
            items,
            free: 0,
            cycle: false,
            look: false,
            wrong: 0,
        })
    }

    #[inline]
    fn look_at(&mut self, number: u32, expected: u64) {
        if self.look && number != expected as u32 {
            self.wrong += 1;
        }
        black_box(number);
    }
}

impl<C: Both> End for Channels<C> {
    fn prepare(&mut self, job: &Job) -> Result<(), AnyError> {
        self.cycle = job.shape.workload == Workload::Cycle;
        self.look = job.look;
        self.wrong = 0;
        if self.side == Side::A {
            // A cycle leaves numbers in the way back.
            while self.channels.pop().is_some() {}
            self.free = self.items;
        }
        Ok(())
    }

    #[inline]
    fn put(&mut self, first: u64, _: usize) -> Result<usize, AnyError> {
        let mut number = first as u32;
        if self.cycle {
            match self.channels.pop() {
                Some(popped) if !self.look => number = popped,
                Some(_) => {}
                None if self.free > 0 => self.free -= 1,
                None => return Ok(0),
            }
        }
        Ok(usize::from(self.channels.push(number)))
    }

    #[inline]
    fn take(&mut self, first: u64, _: usize) -> Result<usize, AnyError> {
        let Some(number) = self.channels.pop() else { return Ok(0) };
        self.look_at(number, first);
        if self.cycle && !self.channels.push(number) {
            return Err("no room for a number that was there before".into());
        }
        Ok(1)
    }

    fn take_asleep(&mut self, number: u64) -> Result<(), AnyError> {
        let popped = self.channels.pop_asleep()?;
        self.look_at(popped, number);
        Ok(())
    }

    fn wrong(&self) -> u64 {
        self.wrong
    }
}
