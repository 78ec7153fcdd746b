//! Whether there is room for a run: asked before anything is made.

use std::path::Path;

use crate::AnyError;
use crate::args::{Config, System};
use crate::host::Unit;
use crate::machine;

/// What a system needs for a table, in bytes. Generous: measured values and a quarter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// In the folder for files, which is memory too if it is tmpfs.
    pub(crate) files: u64,
    /// Of the process, when all keys are in.
    pub(crate) full: u64,
    /// More of the process for a moment, while it grows.
    pub(crate) growing: u64,
}

impl Need {
    pub(crate) fn of(unit: Unit, keys: u32, value_bytes: u32) -> Self {
        let value = u64::from(value_bytes);
        let (files, full, growing) = match (unit.system, unit.config) {
            (System::Shf, Config::Fixed) => (14 + value + value / 2, 0, 0),
            (System::Shf, _) => (34 + value + value / 4, 0, 0),
            (System::Lmdb | System::Libmdbx, _) => (60 + 3 * value, 0, 0),
            (System::Redb, _) => (150 + 4 * value, 150 + 2 * value, 0),
            (System::Papaya, Config::U32) => (0, 90, 40),
            (System::Papaya, _) => (0, 170 + value + value / 4, 40),
            (System::Memory, _) => (0, 0, 0),
            (_, Config::U32) => (0, 45, 25),
            (_, _) => (0, 130 + value + value / 4, 70),
        };
        // Files begin with more than nothing; a process has some memory of its own.
        let keys = u64::from(keys);
        Self { files: files * keys + (4 << 20), full: full * keys + (16 << 20), growing: growing * keys }
    }
}

/// What all of them need at the same time, and the key files.
pub(crate) fn together(units: &[Unit], keys: u32, value_bytes: u32) -> Need {
    let mut sum = Need { files: 12 * u64::from(keys), full: 512 << 20, growing: 0 };
    for &unit in units {
        let need = Need::of(unit, keys, value_bytes);
        sum.files += need.files;
        sum.full += need.full;
        sum.growing = sum.growing.max(need.growing);
    }
    sum
}

/// The one that needs most, alone.
pub(crate) fn largest(units: &[Unit], keys: u32, value_bytes: u32) -> Need {
    let each = units.iter().map(|&unit| together(&[unit], keys, value_bytes));
    each.max_by_key(|need| need.files + need.full + need.growing).unwrap_or_default()
}

/// Refuses what does not fit, with the numbers.
pub(crate) fn check(need: Need, folder: &Path, keys: u32, value_bytes: u32) -> Result<(), AnyError> {
    let gb = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let what = format!("{keys} keys with values of {value_bytes} bytes");
    let advice = "nothing was started; take fewer --keys or fewer --systems";
    let free = machine::free_in(folder)
        .map_err(|error| format!("{}: {error}: no folder for the files (--folder)", folder.display()))?;
    if need.files > free {
        let folder = folder.display();
        return Err(format!(
            "{what} need about {} of files in {folder}, where {} are free: {advice}",
            gb(need.files),
            gb(free)
        )
        .into());
    }
    // The files count as memory: a folder on a disk is not what this is for.
    let all = need.files + need.full + need.growing;
    let available = machine::available();
    if all > available / 16 * 15 {
        return Err(format!(
            "{what} need about {} of memory in all systems together, and {} are available: {advice}",
            gb(all),
            gb(available)
        )
        .into());
    }
    Ok(())
}
