//! Keys that meet: own keys that belong to few of a table's shards, found by trying. A table's hash is keyed with a seed of
//! its own, so an empty table is made first, of which copies are used then: they have the same seed.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use shf::SHARDS;

use crate::fault::AnyError;
use crate::plan::{Class, Name, Plan, SALTS};

/// Own keys of all slots for each of these shards: enough for a segment to split twice.
const KEYS_A_SHARD: usize = 1000;
/// Salts that are tried at once.
const TRIED: u32 = 16;

/// The empty table that others are copied from.
pub(crate) fn empty(plan: &Plan, table: usize) -> PathBuf {
    plan.path(table).with_extension("empty")
}

/// Makes the empty tables, and finds the salts for all places of all slots.
pub(crate) fn prepare(plan: &Plan) -> Result<Vec<Vec<u32>>, AnyError> {
    let mut salts = vec![vec![0; plan.places]; plan.slots];
    let found = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..plan.tables.len()).map(|table| scope.spawn(move || find(plan, table))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("panic".into())))
            .collect::<Vec<_>>()
    });
    for (table, found) in found.into_iter().enumerate() {
        let start = plan.own_area(table).places.start;
        for ((slot, index), salt) in found? {
            salts[slot][start + index] = salt;
        }
    }
    Ok(salts)
}

/// The salt for each slot and index.
fn find(plan: &Plan, table: usize) -> Result<HashMap<(usize, usize), u32>, AnyError> {
    drop(plan.options(table).create(empty(plan, table))?);
    let path = plan.path(table).with_extension("tried");
    fs::copy(empty(plan, table), &path)?;
    let handle = plan.options(table).open(&path)?;
    let keys = plan.own_area(table).places.len();
    let slots = match plan.tables[table].cleared_by {
        Some(slot) => slot..slot + 1,
        None => 0..plan.slots,
    };
    let shards = u32::try_from(slots.len() * keys / KEYS_A_SHARD)?.clamp(1, SHARDS);
    let value = vec![0; plan.tables[table].fixed.map_or(0, |(_, value)| value)];
    let mut open: Vec<(usize, usize)> =
        slots.flat_map(|slot| (0..keys).map(move |index| (slot, index))).collect();
    let mut found = HashMap::new();
    for first in (0..SALTS).step_by(usize::try_from(TRIED)?) {
        let pairs: Vec<(Vec<u8>, &[u8])> = open
            .iter()
            .flat_map(|&(slot, index)| {
                (first..first + TRIED).map(move |salt| Name { class: Class::Own, slot, index, salt })
            })
            .map(|name| (plan.key_of(table, name), &value[..]))
            .collect();
        if handle.put_many(&pairs)? < pairs.len() {
            return Err("no room to look for keys".into());
        }
        for entry in handle.iter_shards(..shards) {
            if let Some(name) = plan.name_of(table, &entry?.key) {
                found.entry((name.slot, name.index)).or_insert(name.salt);
            }
        }
        handle.clear()?;
        open.retain(|place| !found.contains_key(place));
        if open.is_empty() {
            break;
        }
    }
    drop(handle);
    fs::remove_file(path)?;
    Ok(found)
}
