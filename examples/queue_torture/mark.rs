//! What an item says of itself: its *mark*, one word at its beginning, written with one store, so that it is there as a
//! whole or not at all, whenever its writer dies; and a body that is made from the mark.
//!
//! The holder writes `Held` when it has pulled the item, `Returned` before it gives it back, and before a push first the
//! body and then `Pushed`. So whoever pulls it next knows what must have happened: a `Held` one was a dead one's; one that
//! is `Pushed` to another queue than it was found in came home from a push that its pusher did not live to do; and a
//! `Pushed` one is whole. Each mark is used once.

use std::sync::atomic::{Ordering, compiler_fence};

use crate::random::mix;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Held = 1,
    Returned = 2,
    Pushed = 3,
}

/// Nobody has had the item since creation, or since it was last counted.
pub(crate) const FRESH: u64 = 0;

/// From high bits to low ones; together 64.
const BITS: [u32; 8] = [2, 1, 1, 6, 17, 4, 4, 29];
/// Lives of a slot that can be told apart.
pub(crate) const MOST_LIVES: u64 = 1 << BITS[4];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) kind: Kind,
    /// Of a push: not to the queue it came from, so it shows the order of its producer.
    pub(crate) ordered: bool,
    pub(crate) thread: usize,
    pub(crate) slot: usize,
    pub(crate) life: u64,
    /// Of a push.
    pub(crate) to: usize,
    /// The queue it was pulled from.
    pub(crate) home: usize,
    /// Counts up in each thread.
    pub(crate) number: u64,
}

/// Slot, life and thread: whose numbers count up.
pub(crate) type Producer = (usize, u64, usize);

impl Mark {
    pub(crate) fn word(self) -> u64 {
        let fields = [
            self.kind as u64,
            u64::from(self.ordered),
            self.thread as u64,
            self.slot as u64,
            self.life,
            self.to as u64,
            self.home as u64,
            self.number,
        ];
        fields.into_iter().zip(BITS).fold(0, |word, (field, bits)| word << bits | field & ((1 << bits) - 1))
    }

    /// `None`: no mark at all.
    pub(crate) fn of(mut word: u64) -> Option<Mark> {
        let mut fields = [0; 8];
        for (field, bits) in fields.iter_mut().zip(BITS).rev() {
            *field = word & ((1 << bits) - 1);
            word >>= bits;
        }
        let small = |i: usize| usize::try_from(fields[i]).unwrap_or(0);
        let kind = match fields[0] {
            1 => Kind::Held,
            2 => Kind::Returned,
            3 => Kind::Pushed,
            _ => return None,
        };
        Some(Mark {
            kind,
            ordered: fields[1] != 0,
            thread: small(2),
            slot: small(3),
            life: fields[4],
            to: small(5),
            home: small(6),
            number: fields[7],
        })
    }

    pub(crate) fn producer(self) -> Producer {
        (self.slot, self.life, self.thread)
    }
}

pub(crate) fn read(item: &[u8]) -> u64 {
    item[..8].try_into().map_or(0, u64::from_le_bytes)
}

/// What was written before is there before, in a process that dies after this too.
pub(crate) fn write(item: &mut [u8], word: u64) {
    compiler_fence(Ordering::SeqCst);
    item[..8].copy_from_slice(&word.to_le_bytes());
    compiler_fence(Ordering::SeqCst);
}

/// Makes the body of the item with this number.
pub(crate) fn fill(item: &mut [u8], number: usize, word: u64) {
    for (i, place) in item[8..].chunks_exact_mut(8).enumerate() {
        place.copy_from_slice(&body(number, word, i).to_le_bytes());
    }
}

pub(crate) fn is_whole(item: &[u8], number: usize, word: u64) -> bool {
    item[8..].chunks_exact(8).enumerate().all(|(i, place)| place == body(number, word, i).to_le_bytes())
}

fn body(number: usize, word: u64, i: usize) -> u64 {
    mix(word ^ ((number as u64) << 40)).wrapping_add(i as u64)
}
