//! No queue: what the machine allows. A word of shared memory there and one back; a futex, and nothing around it.

use std::sync::atomic::Ordering;

use rustix::thread::futex;

use super::{End, Job, ServeQueueArgs};
use crate::AnyError;
use crate::queue::args::{Side, Workload};
use crate::queue::board::Board;

pub(crate) struct Words {
    side: Side,
    board: Board,
    wake_up: bool,
}

impl Words {
    pub(crate) fn open(args: &ServeQueueArgs, side: Side) -> Result<Self, AnyError> {
        Ok(Self { side, board: Board::open(&args.folder)?, wake_up: false })
    }
}

impl End for Words {
    fn prepare(&mut self, job: &Job) -> Result<(), AnyError> {
        self.wake_up = job.shape.workload == Workload::WakeUp;
        if self.side == Side::A {
            let (there, back) = self.board.words();
            there.store(0, Ordering::Release);
            back.store(0, Ordering::Release);
            self.board.futex().store(0, Ordering::Release);
        }
        Ok(())
    }

    #[inline]
    fn put(&mut self, first: u64, _: usize) -> Result<usize, AnyError> {
        if self.wake_up {
            let word = self.board.futex();
            word.store(first as u32 + 1, Ordering::Release);
            futex::wake(word, futex::Flags::empty(), 1)?;
            return Ok(1);
        }
        let (there, back) = self.board.words();
        let to = if self.side == Side::A { there } else { back };
        to.store(first + 1, Ordering::Release);
        Ok(1)
    }

    #[inline]
    fn take(&mut self, first: u64, _: usize) -> Result<usize, AnyError> {
        let (there, back) = self.board.words();
        let from = if self.side == Side::A { back } else { there };
        Ok(usize::from(from.load(Ordering::Acquire) == first + 1))
    }

    fn take_asleep(&mut self, number: u64) -> Result<(), AnyError> {
        let (word, before) = (self.board.futex(), number as u32);
        while word.load(Ordering::Acquire) == before {
            match futex::wait(word, futex::Flags::empty(), before, None) {
                Ok(()) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wrong(&self) -> u64 {
        0
    }
}
