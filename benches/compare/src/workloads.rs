//! The loops, the same for every system.

use std::hint::black_box;
use std::sync::mpsc::{Receiver, Sender};

use clap::ValueEnum;
use hdrhistogram::Histogram;

use crate::AnyError;
use crate::args::{ServeArgs, Workload};
use crate::common;
use crate::keys::{self, Value};
use crate::machine;
use crate::systems::{Session, Store};

/// In the mix every so many keys one is removed and put again.
pub(crate) const RENEW_EVERY: usize = 50;

/// Keys a call, in the batched workloads.
pub(crate) const BATCH: usize = 32;

/// A job, as the controller sends it to a server: one line of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) workload: Workload,
    /// The part of the key file, for all workers together.
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// How often it is gone through.
    pub(crate) rounds: usize,
    /// The server's first worker is this part of so many.
    pub(crate) part: usize,
    pub(crate) parts: usize,
    /// How many workers of this server take part.
    pub(crate) workers: usize,
    /// Makes the values of a replace other ones.
    pub(crate) salt: u8,
}

impl Job {
    pub(crate) fn line(&self) -> String {
        let Self { from, to, rounds, part, parts, workers, salt, .. } = self;
        format!("{} {from} {to} {rounds} {part} {parts} {workers} {salt}", crate::args::name(self.workload))
    }

    pub(crate) fn parse(line: &str) -> Result<Self, AnyError> {
        let mut words = line.split(' ');
        let workload = Workload::from_str(words.next().unwrap_or_default(), false)?;
        let mut number =
            || -> Result<usize, AnyError> { Ok(words.next().ok_or("a word is missing")?.parse()?) };
        Ok(Self {
            workload,
            from: number()?,
            to: number()?,
            rounds: number()?,
            part: number()?,
            parts: number()?,
            workers: number()?,
            salt: u8::try_from(number()?)?,
        })
    }
}

/// What a worker waits for between being ready and starting: the time to start at.
pub(crate) struct Gate<'a> {
    pub(crate) ready: &'a Sender<Result<Vec<u64>, AnyError>>,
    pub(crate) start: &'a Receiver<u64>,
}

impl Gate<'_> {
    /// Says that all is prepared, and returns at the instant that all workers start at, which it returns.
    pub(crate) fn wait(&self) -> Result<u64, AnyError> {
        self.ready.send(Ok(Vec::new()))?;
        let start = self.start.recv()?;
        while machine::now() < start {
            std::hint::spin_loop();
        }
        Ok(start)
    }
}

/// A store, whatever it is.
pub(crate) trait Hosted: Send + Sync {
    /// Does one worker's part of a job. The answer: nanoseconds since the start of all; for `put` then the bytes of
    /// memory that the process grew by, and at most; for `tail` the quantiles.
    fn work(&self, args: &ServeArgs, job: &Job, part: usize, gate: &Gate<'_>) -> Result<Vec<u64>, AnyError>;

    fn bytes(&self) -> Result<Option<u64>, AnyError>;
}

impl<S: Store> Hosted for S {
    fn work(&self, args: &ServeArgs, job: &Job, part: usize, gate: &Gate<'_>) -> Result<Vec<u64>, AnyError> {
        let (from, to) = keys::share((job.from, job.to), part, job.parts);
        let keys = if matches!(job.workload, Workload::Tail | Workload::Limit) {
            Vec::new()
        } else {
            keys::read(&args.folder, keys::file_of(job.workload), from, to)?
        };
        let mut value = Value::new(args.value_bytes, job.salt);
        if !matches!(job.workload, Workload::Put | Workload::PutBatch | Workload::Tail) {
            self.is_full()?;
        }
        let mut session = self.session()?;
        let uids = match job.workload {
            Workload::Uid | Workload::UidBatch => session.uids(&keys)?,
            _ => Vec::new(),
        };
        if job.workload == Workload::Tail {
            return tail(session, job.to, &mut value, gate);
        }

        let mut found = 0;
        let before = machine::own_memory("VmRSS");
        let start = gate.wait()?;
        for _ in 0..job.rounds {
            found += match job.workload {
                Workload::Put => done(session.put_all(&keys, &mut value))?,
                Workload::PutBatch => done(session.put_batches(&keys, &mut value))?,
                Workload::Get | Workload::Absent => session.get_all(&keys)?,
                Workload::Batch => session.get_batches(&keys)?,
                Workload::Uid => session.get_uids(&uids)?,
                Workload::UidBatch => session.get_uid_batches(&uids)?,
                Workload::Replace => done(session.replace_all(&keys, &mut value))?,
                Workload::Mix => session.mix_all(&keys, &mut value)?,
                // The number is also the seed: two workers must not read the same lines.
                Workload::Limit => done(session.read_lines(to - from + part))?,
                Workload::Tail => 0,
            };
        }
        black_box(session.finish()?);
        let time = machine::now() - start;

        // A system that lost a key, or found one that is not there, must not get a figure.
        let all = job.rounds * keys.len();
        let (least, most) = match job.workload {
            Workload::Get | Workload::Batch | Workload::Uid | Workload::UidBatch => (all, all),
            Workload::Mix => {
                let read = all - job.rounds * keys.len().div_ceil(RENEW_EVERY);
                // Popular keys come several times, to both workers: the other one may just have removed one.
                (if job.parts > 1 { read / 10 * 9 } else { read }, read)
            }
            _ => (0, 0),
        };
        if !(least..=most).contains(&found) {
            return Err(format!("found {found} keys instead of {least} to {most}").into());
        }
        let mut answer = vec![time];
        if job.workload == Workload::Put {
            let grown = |name: &str| machine::own_memory(name).saturating_sub(before);
            answer.extend([grown("VmRSS"), grown("VmHWM")]);
        }
        Ok(answer)
    }

    fn bytes(&self) -> Result<Option<u64>, AnyError> {
        self.file_bytes()
    }
}

fn done(result: Result<(), AnyError>) -> Result<usize, AnyError> {
    result.map(|()| 0)
}

/// The quantiles of `tail`, after the time for all: p50, p99, p99.9, p99.99, the longest.
pub(crate) const QUANTILES: [f64; 4] = [0.5, 0.99, 0.999, 0.9999];

/// Takes the time of each put of `n` new keys; a clock is read once a put, and is part of its time.
fn tail<S: Session>(
    mut session: S,
    n: usize,
    value: &mut Value,
    gate: &Gate<'_>,
) -> Result<Vec<u64>, AnyError> {
    let n = u32::try_from(n)?;
    let mut times = Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 3)?;
    let start = gate.wait()?;
    let mut last = machine::now();
    for key in (0..n).map(common::key) {
        session.put(key, value.of(key))?;
        let now = machine::now();
        times.record(now - last)?;
        last = now;
    }
    session.finish()?;
    let mut answer = vec![machine::now() - start];
    answer.extend(QUANTILES.map(|quantile| times.value_at_quantile(quantile)));
    answer.push(times.max());
    Ok(answer)
}
