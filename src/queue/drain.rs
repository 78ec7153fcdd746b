//! What lies in a queue now, item by item.

use std::iter::FusedIterator;

use super::{Item, Queue};
use crate::error::Result;

/// The items that lay in a queue when it was asked for the first: [`Queue::drain`].
#[derive(Clone, Debug)]
#[must_use = "nothing is pulled until it is iterated"]
pub struct Drain<'q> {
    queue: &'q Queue,
    /// How many items it may still pull. `None`: it was not asked yet.
    left: Option<u64>,
}

impl<'q> Drain<'q> {
    pub(super) fn new(queue: &'q Queue) -> Drain<'q> {
        Drain { queue, left: None }
    }

    fn step(&mut self) -> Result<Option<Item<'q>>> {
        let left = match self.left {
            Some(left) => left,
            None => self.queue.len()?,
        };
        if left == 0 {
            return Ok(None);
        }
        self.left = Some(left - 1);
        self.queue.pull()
    }
}

impl<'q> Iterator for Drain<'q> {
    type Item = Result<Item<'q>>;

    fn next(&mut self) -> Option<Result<Item<'q>>> {
        let step = self.step().transpose();
        if !matches!(step, Some(Ok(_))) {
            self.left = Some(0);
        }
        step
    }
}

impl FusedIterator for Drain<'_> {}
