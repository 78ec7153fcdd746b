//! A server: holds one system, or one process' part of it, and does what it is told over its standard input.
//!
//! ```text
//! job LINE      prepares a job, answers "ready"; then "start NANOSECONDS", when it begins, answers with the times
//! bytes         bytes of the system's files, or "none"
//! ```

use std::io::{BufRead, Lines, StdinLock, StdoutLock, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::AnyError;
use crate::args::ServeArgs;
use crate::machine;
use crate::systems;
use crate::workloads::{Gate, Job};

/// A thread that stays: the allocator's memory of a thread that ends would change hands.
pub(crate) struct Worker<J> {
    jobs: Option<Sender<J>>,
    start: Sender<u64>,
    answers: Receiver<Result<Vec<u64>, AnyError>>,
    thread: Option<JoinHandle<()>>,
}

impl<J: Send + 'static> Worker<J> {
    /// `make` is called in the thread, which is pinned to the core, and returns what does the jobs.
    pub(crate) fn start<D>(
        core: usize,
        make: impl FnOnce() -> Result<D, AnyError> + Send + 'static,
    ) -> Result<Self, AnyError>
    where
        D: FnMut(&J, &Gate<'_>) -> Result<Vec<u64>, AnyError>,
    {
        let (jobs, job_list) = channel::<J>();
        let (start, start_list) = channel();
        let (answer, answers) = channel();
        let thread = std::thread::spawn(move || {
            machine::pin(core);
            let (made, mut work) = match make() {
                Ok(work) => (Ok(Vec::new()), Some(work)),
                Err(error) => (Err(error), None),
            };
            if answer.send(made).is_err() {
                return;
            }
            let Some(work) = &mut work else { return };
            for job in job_list {
                let gate = Gate { ready: &answer, start: &start_list };
                let result = work(&job, &gate);
                if answer.send(result).is_err() {
                    break;
                }
            }
        });
        answers.recv()??;
        Ok(Self { jobs: Some(jobs), start, answers, thread: Some(thread) })
    }

    fn prepare(&self, job: J) -> Result<(), AnyError> {
        let sent = self.jobs.as_ref().map(|jobs| jobs.send(job));
        if matches!(sent, Some(Ok(()))) { Ok(()) } else { Err("a worker has ended".into()) }
    }
}

impl<J> Drop for Worker<J> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The controller, at the other end of the standard input and output.
pub(crate) struct Talk {
    lines: Lines<StdinLock<'static>>,
    out: StdoutLock<'static>,
}

impl Talk {
    /// Everything is open.
    pub(crate) fn begin() -> Result<Self, AnyError> {
        let mut talk = Self { lines: std::io::stdin().lock().lines(), out: std::io::stdout().lock() };
        talk.say("open")?;
        Ok(talk)
    }

    /// What is to be done next: a word, and what belongs to it.
    pub(crate) fn next(&mut self) -> Result<Option<(String, String)>, AnyError> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        let line = line?;
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        Ok(Some((word.into(), rest.into())))
    }

    pub(crate) fn say(&mut self, answer: &str) -> Result<(), AnyError> {
        writeln!(self.out, "{answer}")?;
        Ok(self.out.flush()?)
    }

    /// A job of each worker: all prepare, start at the same instant, and their answers come back.
    pub(crate) fn carry_out<J: Send + 'static>(
        &mut self,
        workers: &[Worker<J>],
        jobs: impl IntoIterator<Item = J>,
    ) -> Result<Vec<Vec<u64>>, AnyError> {
        for (worker, job) in workers.iter().zip(jobs) {
            worker.prepare(job)?;
        }
        for worker in workers {
            worker.answers.recv()??;
        }
        self.say("ready")?;
        let (word, start) = self.next()?.ok_or("the controller is gone")?;
        if word != "start" {
            return Err("no start after a job".into());
        }
        let start = start.parse()?;
        for worker in workers {
            worker.start.send(start)?;
        }
        workers.iter().map(|worker| worker.answers.recv()?).collect()
    }
}

/// Numbers as they go through a pipe.
pub(crate) fn line_of(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// A job that runs long would outlive a controller that was killed, and keep its memory.
pub(crate) fn die_with_the_controller() -> Result<(), AnyError> {
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}

pub(crate) fn run(args: &ServeArgs) -> Result<(), AnyError> {
    die_with_the_controller()?;
    let store = systems::open(args)?;
    let mut workers = Vec::new();
    for &core in &args.cores {
        let (args, store) = (args.clone(), Arc::clone(&store));
        workers.push(Worker::start(core, move || {
            Ok(move |(job, part): &(Job, usize), gate: &Gate<'_>| store.work(&args, job, *part, gate))
        })?);
    }
    let mut talk = Talk::begin()?;
    while let Some((word, text)) = talk.next()? {
        let answer = match word.as_str() {
            "job" => {
                let job = Job::parse(&text)?;
                let jobs = (0..job.workers).map(|i| (job, job.part + i));
                // The slower one's time.
                let answers = talk.carry_out(&workers[..job.workers], jobs)?;
                line_of(&answers.into_iter().max().ok_or("no worker")?)
            }
            "bytes" => store.bytes()?.map_or_else(|| "none".into(), |bytes| bytes.to_string()),
            _ => return Err(format!("no command {word}").into()),
        };
        talk.say(&answer)?;
    }
    // Taking a large map apart takes seconds, and nobody needs its memory in order.
    std::process::exit(0);
}
