//! Values that check themselves and are bound to their key: what they say, the *stamp*, is in them together with a sum
//! over key, length and stamp; a mixture of two values, or the value of another key, does not fit.
//!
//! A stamp is `number << 8 | slot`: each number is used by one change of one worker slot. From 16 bytes on a value holds
//! the whole stamp, and bytes made from it; from 8 bytes on 32 bits of it and a sum of 32; shorter ones hold less.

use crate::random::{Random, mix};

/// The stamp's bits in the first word of a short value, by its length; the sum takes the rest.
const STAMP_BITS: [u32; 8] = [0, 2, 5, 8, 12, 12, 12, 12];

/// The largest length that [`length_for`] gives.
pub(crate) const LONGEST: usize = 49_000;

pub(crate) fn hash(key: &[u8], start: u64) -> u64 {
    key.chunks(8)
        .fold(mix(start ^ key.len() as u64), |sum, part| mix(sum ^ word(part)).wrapping_add(sum << 1))
}

/// Little endian; the bytes that are not there are 0.
pub(crate) fn word(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    let n = bytes.len().min(8);
    whole[..n].copy_from_slice(&bytes[..n]);
    u64::from_le_bytes(whole)
}

/// Lengths of values of variable length: mostly short, some of one word, some that take pages of their own.
pub(crate) fn length_for(stamp: u64) -> usize {
    let mut random = Random(stamp);
    match random.below(1000) {
        0..=2 => 9_000 + random.index(LONGEST - 9_000),
        3..=30 => random.index(4_000),
        31..=180 => random.index(400),
        181..=280 => 8,
        _ => random.index(64),
    }
}

/// Makes the value of this key, stamp and length in `value`.
pub(crate) fn fill(value: &mut Vec<u8>, key: &[u8], stamp: u64, length: usize) {
    value.clear();
    if length >= 16 {
        let mut bytes = Random(hash(key, stamp ^ mix(length as u64)));
        value.extend_from_slice(&stamp.to_le_bytes());
        while value.len() < length {
            value.extend_from_slice(&bytes.next().to_le_bytes());
        }
        value.truncate(length);
    } else if length > 0 {
        let (bytes, bits) = short_form(length);
        // A narrow value has no room for the slot: the number is what tells its versions apart.
        let said = if length >= 8 { stamp } else { stamp >> 8 } & low(bits);
        let mut sum = Random(hash(key, said ^ mix(length as u64)));
        let first = said << (8 * bytes - usize_of(bits)) | (sum.next() & low(8 * u32_of(bytes) - bits));
        value.extend_from_slice(&first.to_le_bytes()[..bytes]);
        value.extend_from_slice(&sum.next().to_le_bytes()[..length - bytes]);
    }
}

/// What a value says: its stamp, if it is long enough to hold all of it. `Err`: it is torn, or of another key.
pub(crate) fn stamp_of(value: &[u8], key: &[u8]) -> Result<Option<u64>, ()> {
    let mut again = Vec::with_capacity(value.len() + 8);
    if value.len() >= 16 {
        fill(&mut again, key, word(&value[..8]), value.len());
        return if again == value { Ok(Some(word(&value[..8]))) } else { Err(()) };
    }
    if !value.is_empty() {
        let (bytes, bits) = short_form(value.len());
        let said = word(&value[..bytes]) >> (8 * bytes - usize_of(bits));
        fill(&mut again, key, if value.len() >= 8 { said } else { said << 8 }, value.len());
    }
    if again == value { Ok(None) } else { Err(()) }
}

/// Bytes of the word with the stamp and the sum, and bits of the stamp in it.
fn short_form(length: usize) -> (usize, u32) {
    match length {
        8.. => (8, 32),
        4..=7 => (4, STAMP_BITS[length]),
        _ => (length, STAMP_BITS[length]),
    }
}

fn low(bits: u32) -> u64 {
    (1 << bits) - 1
}

fn usize_of(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn u32_of(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
