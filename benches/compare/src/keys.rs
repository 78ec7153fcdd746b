//! The keys of a run, in files that all servers read: whom they measure gets the same keys in the same order.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::args::{Dist, Workload};
use crate::common::{self, Key, Random};
use crate::{AnyError, systems};

/// Which of the files a workload takes its keys from.
pub(crate) fn file_of(workload: Workload) -> &'static str {
    match workload {
        Workload::Put | Workload::PutBatch => "writes.keys",
        Workload::Absent => "absent.keys",
        _ => "reads.keys",
    }
}

/// Makes the three files for `n` keys.
pub(crate) fn write_files(folder: &Path, n: u32, dist: Dist) -> Result<(), AnyError> {
    let (writes, reads, absent) = match dist {
        Dist::Sequential => (sequence(0, n), sequence(0, n), sequence(n, n)),
        Dist::Random => {
            (common::shuffled_keys(0, n, 1), common::shuffled_keys(0, n, 2), common::shuffled_keys(n, n, 3))
        }
        Dist::Zipf => (common::shuffled_keys(0, n, 1), zipf(n, 0.99), common::shuffled_keys(n, n, 3)),
    };
    for (name, keys) in [("writes.keys", writes), ("reads.keys", reads), ("absent.keys", absent)] {
        std::fs::write(folder.join(name), keys.as_flattened())?;
    }
    Ok(())
}

/// Big-endian, so that the order is also that of an ordered tree.
fn sequence(from: u32, n: u32) -> Vec<Key> {
    (from..from + n).map(u32::to_be_bytes).collect()
}

/// `n` draws: Gray and others, "Quickly generating billion-record synthetic databases", 1994. Rank k is key number
/// k, which is anywhere in the order of puts.
fn zipf(n: u32, theta: f64) -> Vec<Key> {
    let count = f64::from(n);
    let zeta: f64 = (1..=n).map(|k| f64::from(k).powf(-theta)).sum();
    let zeta2 = 1.0 + 0.5f64.powf(theta);
    let alpha = 1.0 / (1.0 - theta);
    let eta = (1.0 - (2.0 / count).powf(1.0 - theta)) / (1.0 - zeta2 / zeta);
    let mut random = Random(4);
    let draw = |_| {
        let u = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let uz = u * zeta;
        let rank = if uz < 1.0 {
            0.0
        } else if uz < zeta2 {
            1.0
        } else {
            count * (eta * u - eta + 1.0).powf(alpha)
        };
        common::key((rank as u32).min(n - 1))
    };
    (0..n).map(draw).collect()
}

/// The keys `from..to` of a file.
pub(crate) fn read(folder: &Path, name: &str, from: usize, to: usize) -> Result<Vec<Key>, AnyError> {
    let mut keys = vec![Key::default(); to - from];
    let file = File::open(folder.join(name))?;
    file.read_exact_at(keys.as_flattened_mut(), (from * size_of::<Key>()) as u64)?;
    Ok(keys)
}

/// One worker's part of a slice.
pub(crate) fn share((from, to): (usize, usize), part: usize, parts: usize) -> (usize, usize) {
    let n = to - from;
    (from + n * part / parts, from + n * (part + 1) / parts)
}

/// A value: the key in the first four bytes, so that it can be told from another key's.
#[derive(Debug)]
pub(crate) struct Value {
    bytes: Vec<u8>,
    salt: u8,
}

impl Value {
    pub(crate) fn new(length: u32, salt: u8) -> Self {
        Self { bytes: vec![0x5a; systems::length(length)], salt }
    }

    /// The value of a key when it is first put.
    #[inline]
    pub(crate) fn of(&mut self, key: Key) -> &[u8] {
        self.bytes[..4].copy_from_slice(&key);
        &self.bytes
    }

    /// Another one of the same size.
    #[inline]
    pub(crate) fn other(&mut self, key: Key) -> &[u8] {
        self.bytes[..4].copy_from_slice(&[key[0], key[1], key[2], self.salt]);
        &self.bytes
    }
}
