//! The loops, the same for every system. An [`End`] is one side's hand on a system; the loops are compiled once for
//! each, so that no call through a pointer stands between a loop and a system.

use std::hint::black_box;

use hdrhistogram::Histogram;

use super::args::{Job, Side, Workload};
use super::board::Board;
use crate::AnyError;
use crate::machine;
use crate::workloads::Gate;

pub(crate) trait End {
    /// Called before a job; not timed.
    fn prepare(&mut self, job: &Job) -> Result<(), AnyError>;

    /// Puts up to `n` messages, numbered from `first` on. How many it were; 0: there was no room, or no free item.
    fn put(&mut self, first: u64, n: usize) -> Result<usize, AnyError>;

    /// Takes up to `n` messages, which should be numbered from `first` on. How many it were; 0: there was none.
    fn take(&mut self, first: u64, n: usize) -> Result<usize, AnyError>;

    /// Sleeps until there is a message, and takes it.
    fn take_asleep(&mut self, _number: u64) -> Result<(), AnyError> {
        Err("this system cannot sleep".into())
    }

    /// Sends `n` messages, each after the answer to the one before; `lap` is called at each answer.
    fn ping(&mut self, n: u64, patience: &mut Patience, mut lap: impl FnMut()) -> Result<(), AnyError> {
        for i in 0..n {
            until(patience, || Ok(self.put(i, 1)? == 1))?;
            until(patience, || Ok(self.take(i, 1)? == 1))?;
            lap();
        }
        Ok(())
    }

    /// Answers `n` messages.
    fn pong(&mut self, n: u64, patience: &mut Patience) -> Result<(), AnyError> {
        for i in 0..n {
            until(patience, || Ok(self.take(i, 1)? == 1))?;
            until(patience, || Ok(self.put(i, 1)? == 1))?;
        }
        Ok(())
    }

    /// Called after a job; not timed. What is still held is given back.
    fn finish(&mut self) {}

    /// Whether all items are there; asked of side A when both sides are done.
    fn check(&mut self) -> Result<(), AnyError> {
        Ok(())
    }

    /// Messages that were not those expected, in this job.
    fn wrong(&self) -> u64;
}

/// For who spins: it ends when nothing moves, so that a lost item is an error and not a hang.
pub(crate) struct Patience {
    spins: u32,
    deadline: u64,
    one_core: bool,
}

impl Patience {
    pub(crate) fn new(one_core: bool) -> Self {
        Self { spins: 0, deadline: machine::now() + 60_000_000_000, one_core }
    }

    #[inline]
    pub(crate) fn spin(&mut self) -> Result<(), AnyError> {
        std::hint::spin_loop();
        self.spins = self.spins.wrapping_add(1);
        if self.spins.is_multiple_of(4096) || self.one_core { self.look_up() } else { Ok(()) }
    }

    #[cold]
    fn look_up(&self) -> Result<(), AnyError> {
        if self.one_core {
            std::thread::yield_now();
        }
        if machine::now() > self.deadline {
            return Err("a message did not come within a minute".into());
        }
        Ok(())
    }
}

#[inline]
pub(crate) fn until(
    patience: &mut Patience,
    mut ready: impl FnMut() -> Result<bool, AnyError>,
) -> Result<(), AnyError> {
    while !ready()? {
        patience.spin()?;
    }
    Ok(())
}

/// What a message holds: its number, in each 8 bytes.
#[inline]
pub(crate) fn write(message: &mut [u8], number: u64) {
    for word in message.chunks_exact_mut(8) {
        word.copy_from_slice(&number.to_le_bytes());
    }
}

/// Reads all of it. 1 if it is another one, 0 if all is well.
#[inline]
pub(crate) fn differs(message: &[u8], number: u64) -> u64 {
    let words = message.chunks_exact(8).filter_map(|word| word.first_chunk::<8>());
    u64::from(words.fold(0, |bits, word| bits | (u64::from_le_bytes(*word) ^ number)) != 0)
}

/// How long the pusher waits, when the sleeper has taken the item before, until it pushes the next: longer than
/// anybody spins before sleeping.
const PAUSE: u64 = 100_000;

/// Of latencies, in the order of an answer.
pub(crate) const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// One side of a system at work.
pub(crate) struct Player<E> {
    pub(crate) end: E,
    pub(crate) side: Side,
    pub(crate) board: Board,
    pub(crate) one_core: bool,
}

impl<E: End> Player<E> {
    /// The answer is, of a cycle and of one way: nanoseconds since the start of all, messages, calls that moved any. Of
    /// latencies: at the side that takes them the quantiles, the longest, their number, how often this thread slept;
    /// at the other the nanoseconds.
    pub(crate) fn work(&mut self, job: &Job, gate: &Gate<'_>) -> Result<Vec<u64>, AnyError> {
        self.end.prepare(job)?;
        let start = gate.wait()?;
        let patience = &mut Patience::new(self.one_core);
        let answer = match (job.shape.workload, self.side) {
            (Workload::Cycle | Workload::OneWay, Side::A) => {
                transfer(job, patience, start, |first, n| self.end.put(first, n))?
            }
            (Workload::Cycle | Workload::OneWay, Side::B) => {
                transfer(job, patience, start, |first, n| self.end.take(first, n))?
            }
            (Workload::PingPong, Side::A) => {
                let mut times = histogram()?;
                let mut last = machine::now();
                self.end.ping(job.n, patience, || {
                    let now = machine::now();
                    times.saturating_record(now - last);
                    last = now;
                })?;
                answer(&times, 0)
            }
            (Workload::PingPong, Side::B) => {
                self.end.pong(job.n, patience)?;
                vec![machine::now() - start]
            }
            (Workload::WakeUp, Side::A) => self.wake(job, patience, start)?,
            (Workload::WakeUp, Side::B) => self.sleep(job)?,
            (Workload::Check, Side::A) => {
                self.end.check()?;
                vec![0]
            }
            (Workload::Check, Side::B) => vec![0],
        };
        self.end.finish();
        match self.end.wrong() {
            0 => Ok(answer),
            wrong => Err(format!("{wrong} of {} messages were other ones than expected", job.n).into()),
        }
    }

    fn wake(&mut self, job: &Job, patience: &mut Patience, start: u64) -> Result<Vec<u64>, AnyError> {
        for i in 0..job.n {
            until(patience, || Ok(self.board.taken() == i))?;
            let from = machine::now();
            while machine::now() < from + PAUSE {
                std::hint::spin_loop();
            }
            self.board.send();
            until(patience, || Ok(self.end.put(i, 1)? == 1))?;
        }
        until(patience, || Ok(self.board.taken() == job.n))?;
        self.board.take(0);
        Ok(vec![machine::now() - start])
    }

    fn sleep(&mut self, job: &Job) -> Result<Vec<u64>, AnyError> {
        let mut times = histogram()?;
        let before = machine::sleeps();
        for i in 0..job.n {
            self.end.take_asleep(i)?;
            times.saturating_record(machine::now().saturating_sub(self.board.sent()));
            self.board.take(i + 1);
        }
        Ok(answer(&times, machine::sleeps() - before))
    }
}

/// Calls `step` until all messages have been moved.
fn transfer(
    job: &Job,
    patience: &mut Patience,
    start: u64,
    mut step: impl FnMut(u64, usize) -> Result<usize, AnyError>,
) -> Result<Vec<u64>, AnyError> {
    let (n, batch) = (job.n, u64::from(job.shape.batch));
    let (mut moved, mut calls) = (0, 0);
    while moved < n {
        match step(moved, (n - moved).min(batch) as usize)? {
            0 => patience.spin()?,
            now => {
                moved += now as u64;
                calls += 1;
            }
        }
    }
    Ok(vec![machine::now() - start, moved, calls])
}

fn histogram() -> Result<Histogram<u64>, AnyError> {
    Ok(Histogram::new_with_bounds(1, 3_600_000_000_000, 3)?)
}

fn answer(times: &Histogram<u64>, sleeps: u64) -> Vec<u64> {
    let quantiles = QUANTILES.iter().map(|&quantile| times.value_at_quantile(quantile));
    quantiles.chain([times.max(), times.len(), sleeps]).collect()
}

/// For numbers that a loop took and nobody asks for.
#[inline]
pub(crate) fn seen(numbers: &[u32]) {
    black_box(numbers);
}
