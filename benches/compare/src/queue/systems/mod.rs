//! What is measured.

mod bare;
mod channels;
mod iceoryx2;
mod rtrb;
mod shf;
mod socket;

use super::args::{Job, ServeQueueArgs, Side, System};
use super::board::Board;
use super::loops::{End, Player};
use crate::AnyError;
use crate::server::Worker;
use crate::workloads::Gate;

/// A thread for each side that this process is.
pub(crate) fn start(args: &ServeQueueArgs) -> Result<Vec<Worker<Job>>, AnyError> {
    match args.system {
        System::Shf => apart(args, shf::Hand::open),
        System::Rtrb => pair(args, rtrb::pair(args)),
        System::ArrayQueue => pair(args, channels::array_queues(args)),
        System::Mpsc => pair(args, channels::mpsc(args)),
        System::Iceoryx2 => apart(args, iceoryx2::Ports::open),
        System::Stream => apart(args, socket::stream),
        System::Datagram => apart(args, socket::datagram),
        System::Pipe => apart(args, socket::pipe),
        System::Bare => apart(args, bare::Words::open),
    }
}

/// Each side opens the system for itself, in its thread.
fn apart<E: End + 'static>(
    args: &ServeQueueArgs,
    open: fn(&ServeQueueArgs, Side) -> Result<E, AnyError>,
) -> Result<Vec<Worker<Job>>, AnyError> {
    let mut workers = Vec::new();
    for (&side, &core) in args.sides.iter().zip(&args.cores) {
        let args = args.clone();
        workers.push(player(&args.clone(), side, core, move || open(&args, side))?);
    }
    Ok(workers)
}

/// Two sides that were made together.
fn pair<E: End + Send + 'static>(args: &ServeQueueArgs, ends: [E; 2]) -> Result<Vec<Worker<Job>>, AnyError> {
    let mut workers = Vec::new();
    for ((&side, &core), end) in args.sides.iter().zip(&args.cores).zip(ends) {
        workers.push(player(args, side, core, move || Ok(end))?);
    }
    Ok(workers)
}

fn player<E: End + 'static>(
    args: &ServeQueueArgs,
    side: Side,
    core: usize,
    open: impl FnOnce() -> Result<E, AnyError> + Send + 'static,
) -> Result<Worker<Job>, AnyError> {
    let (folder, one_core) = (args.folder.clone(), args.one_core);
    Worker::start(core, move || {
        let mut player = Player { end: open()?, side, board: Board::open(&folder)?, one_core };
        Ok(move |job: &Job, gate: &Gate<'_>| player.work(job, gate))
    })
}
