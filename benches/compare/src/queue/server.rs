//! A server of queues: one side of a system, or both as threads.

use super::args::{Job, ServeQueueArgs};
use super::systems;
use crate::AnyError;
use crate::server::{self, Talk, Worker};

pub(crate) fn run(args: &ServeQueueArgs) -> Result<(), AnyError> {
    server::die_with_the_controller()?;
    let workers: Vec<Worker<Job>> = systems::start(args)?;
    let mut talk = Talk::begin()?;
    while let Some((word, text)) = talk.next()? {
        if word != "job" {
            return Err(format!("no command {word}").into());
        }
        let job = Job::parse(&text)?;
        let answers = talk.carry_out(&workers, std::iter::repeat_n(job, workers.len()))?;
        // One side after the other.
        talk.say(&server::line_of(&answers.concat()))?;
    }
    Ok(())
}
