//! A server: holds one system, or one process' part of it, and does what it is told over its standard input.
//!
//! ```text
//! job LINE      prepares a job, answers "ready"; then "start NANOSECONDS", when it begins, answers with the times
//! bytes         bytes of the system's files, or "none"
//! ```

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::AnyError;
use crate::args::ServeArgs;
use crate::machine;
use crate::systems;
use crate::workloads::{Gate, Hosted, Job};

/// A thread that stays: the allocator's memory of a thread that ends would change hands.
struct Worker {
    jobs: Sender<(Job, usize)>,
    start: Sender<u64>,
    answers: Receiver<Result<Vec<u64>, AnyError>>,
}

pub(crate) fn run(args: &ServeArgs) -> Result<(), AnyError> {
    // A long job would outlive a controller that was killed, and keep its memory.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let store = systems::open(args)?;
    let workers: Vec<Worker> = args.cores.iter().map(|&core| Worker::start(core, args, &store)).collect();
    let mut out = std::io::stdout().lock();
    let mut lines = std::io::stdin().lock().lines();
    writeln!(out, "open")?;
    out.flush()?;
    while let Some(line) = lines.next() {
        let line = line?;
        let answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("job", text) => {
                let job = Job::parse(text)?;
                let workers = &workers[..job.workers];
                for (i, worker) in workers.iter().enumerate() {
                    worker.jobs.send((job, job.part + i))?;
                }
                for worker in workers {
                    worker.answers.recv()??;
                }
                writeln!(out, "ready")?;
                out.flush()?;
                let line = lines.next().ok_or("the controller is gone")??;
                let start = line.strip_prefix("start ").ok_or("no start after a job")?.parse()?;
                for worker in workers {
                    worker.start.send(start)?;
                }
                let mut answers = Vec::new();
                for worker in workers {
                    answers.push(worker.answers.recv()??);
                }
                // The slower one's time.
                let slowest = answers.into_iter().max().ok_or("no worker")?;
                slowest.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
            }
            ("bytes", _) => store.bytes()?.map_or_else(|| "none".into(), |bytes| bytes.to_string()),
            _ => return Err(format!("no command {line}").into()),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    // Taking a large map apart takes seconds, and nobody needs its memory in order.
    std::process::exit(0);
}

impl Worker {
    fn start(core: usize, args: &ServeArgs, store: &Arc<dyn Hosted>) -> Self {
        let (jobs, job_list) = channel::<(Job, usize)>();
        let (start, start_list) = channel();
        let (answer, answers) = channel();
        let (args, store) = (args.clone(), Arc::clone(store));
        std::thread::spawn(move || {
            machine::pin(core);
            for (job, part) in job_list {
                let gate = Gate { ready: &answer, start: &start_list };
                let result = store.work(&args, &job, part, &gate);
                if answer.send(result).is_err() {
                    break;
                }
            }
        });
        Self { jobs, start, answers }
    }
}
