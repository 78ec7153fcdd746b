//! rtrb: two rings between two threads, one there and one back. Its elements are what shf's queues move: the numbers of
//! items.

use ::rtrb::{Consumer, Producer, RingBuffer};

use super::{End, Job, ServeQueueArgs};
use crate::AnyError;
use crate::queue::args::{Side, Way, Workload};
use crate::queue::loops;

pub(crate) struct Ring {
    side: Side,
    to: Producer<u32>,
    from: Consumer<u32>,
    /// Numbers that are in no ring; of A, in a cycle.
    free: Vec<u32>,
    items: u32,
    /// What is sent, or was taken.
    numbers: Vec<u32>,
    one: bool,
    /// Chunks, gone through element by element; else whole slices are copied.
    chunks: bool,
    cycle: bool,
    look: bool,
    wrong: u64,
}

pub(crate) fn pair(args: &ServeQueueArgs) -> [Ring; 2] {
    let items = args.items;
    let (to_b, from_a) = RingBuffer::new(items as usize);
    let (to_a, from_b) = RingBuffer::new(items as usize);
    [(Side::A, to_b, from_b), (Side::B, to_a, from_a)].map(|(side, to, from)| Ring {
        side,
        to,
        from,
        free: Vec::new(),
        items,
        numbers: Vec::new(),
        one: true,
        chunks: false,
        cycle: false,
        look: false,
        wrong: 0,
    })
}

impl Ring {
    /// The numbers that B should have got are those from `first` on.
    #[inline]
    fn look_at(&mut self, first: u64, n: usize) {
        if self.look {
            let expected = first as u32..;
            let wrong = self.numbers[..n].iter().zip(expected).filter(|(number, want)| *number != want);
            self.wrong += wrong.count() as u64;
        }
        loops::seen(&self.numbers[..n]);
    }

    #[inline]
    fn pop(&mut self, n: usize) -> usize {
        if self.one {
            return self.from.pop().map_or(0, |number| {
                self.numbers[0] = number;
                1
            });
        }
        if self.chunks {
            let Ok(chunk) = self.from.read_chunk(n.min(self.from.slots())) else { return 0 };
            let n = chunk.len();
            for (number, value) in self.numbers[..n].iter_mut().zip(chunk) {
                *number = value;
            }
            return n;
        }
        self.from.pop_partial_slice(&mut self.numbers[..n]).0.len()
    }

    #[inline]
    fn push(&mut self, n: usize) -> usize {
        if self.one {
            return usize::from(self.to.push(self.numbers[0]).is_ok());
        }
        if self.chunks {
            let Ok(chunk) = self.to.write_chunk_uninit(n.min(self.to.slots())) else { return 0 };
            return chunk.fill_from_iter(self.numbers[..n].iter().copied());
        }
        self.to.push_partial_slice(&self.numbers[..n]).0.len()
    }
}

impl End for Ring {
    fn prepare(&mut self, job: &Job) -> Result<(), AnyError> {
        self.one = job.shape.batch == 1;
        self.chunks = job.shape.way == Way::Chunks;
        self.cycle = job.shape.workload == Workload::Cycle;
        self.look = job.look;
        self.wrong = 0;
        self.numbers = (0..job.shape.batch).collect();
        if self.side == Side::A {
            // Of a cycle, numbers are left in the way back.
            while self.from.pop().is_ok() {}
            self.free = if self.cycle { (0..self.items).collect() } else { Vec::new() };
        }
        Ok(())
    }

    #[inline]
    fn put(&mut self, first: u64, n: usize) -> Result<usize, AnyError> {
        let mut n = n;
        if self.cycle {
            n = match self.pop(n) {
                0 => {
                    let n = n.min(self.free.len());
                    let rest = self.free.len() - n;
                    self.numbers[..n].copy_from_slice(&self.free[rest..]);
                    self.free.truncate(rest);
                    n
                }
                popped => popped,
            };
        }
        if self.look {
            for (number, value) in self.numbers[..n].iter_mut().zip(first as u32..) {
                *number = value;
            }
        }
        // In a cycle there is always room: as many entries as numbers.
        Ok(if n == 0 { 0 } else { self.push(n) })
    }

    #[inline]
    fn take(&mut self, first: u64, n: usize) -> Result<usize, AnyError> {
        let n = self.pop(n);
        if n > 0 {
            self.look_at(first, n);
            if self.cycle {
                self.push(n);
            }
        }
        Ok(n)
    }

    fn wrong(&self) -> u64 {
        self.wrong
    }
}
