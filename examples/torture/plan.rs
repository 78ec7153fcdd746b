//! What is in which table: the same for the first process and all workers.
//!
//! The **keys** of a table are of four classes. `Own` keys belong to one worker slot, which alone changes them. The others
//! are changed by all at the same time: a `Lane` is a counter of 8 bytes, in which each of up to 8 slots has a byte of its
//! own and adds to that alone; a `Claim` is inserted by the one slot that holds it, with a value that names it, and taken
//! by that one; a `Free` key has any whole value. So of all but the last each slot knows exactly what must be there, from
//! its log. What one slot knows about one key is a *place* of its log.
//!
//! Own keys meet in few of a table's 256 shards (`hot.rs` finds such keys): there they fill segment after segment, so
//! that the index splits and doubles all the time, and a process that dies is missed soon.

use std::ops::Range;
use std::path::{Path, PathBuf};

use shf::{Table, TableOptions};

use crate::values::{self, hash, word};

/// Own keys of a slot in a table, at most: a key of 4 bytes has 12 bits for their number, and 12 for the salt.
pub(crate) const MOST_KEYS: u64 = 4096;
pub(crate) const SALTS: u32 = 4096;
/// Contended keys of each class in each table that has them.
const LANES: usize = 16;
const CLAIMS: usize = 32;
pub(crate) const FREE: usize = 64;
/// Slots that share a counter: one byte each.
const LANES_IN_WORD: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Own = 1,
    Lane,
    Claim,
    Free,
}

/// One table of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) fixed: Option<(usize, usize)>,
    /// Values of 8 bytes are possible.
    counters: bool,
    /// Claims need values that name their slot.
    claims: bool,
    /// This slot alone has own keys here, and clears the table.
    pub(crate) cleared_by: Option<usize>,
}

const fn kind(name: &'static str, fixed: Option<(usize, usize)>) -> Kind {
    let (counters, claims) = match fixed {
        None => (true, true),
        Some((_, value)) => (value == 8, value >= 8),
    };
    Kind { name, fixed, counters, claims, cleared_by: None }
}

const KINDS: [Kind; 6] = [
    kind("variable", None),
    kind("narrow", Some((4, 4))),
    kind("pairs", Some((8, 8))),
    kind("wide", Some((16, 40))),
    Kind { cleared_by: Some(0), ..kind("cleared", None) },
    Kind { cleared_by: Some(1), ..kind("cleared-pairs", Some((8, 8))) },
];

/// The places of one class in one table: a range of the places of each slot.
#[derive(Debug, Clone)]
pub(crate) struct Area {
    pub(crate) table: usize,
    pub(crate) class: Class,
    pub(crate) places: Range<usize>,
}

/// A key's class, and which one of them it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) class: Class,
    /// Of an own key.
    pub(crate) slot: usize,
    pub(crate) index: usize,
    /// Of an own key: chosen so that the key belongs to one of few shards.
    pub(crate) salt: u32,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) folder: PathBuf,
    pub(crate) slots: usize,
    pub(crate) tables: Vec<Kind>,
    pub(crate) areas: Vec<Area>,
    /// Of each slot.
    pub(crate) places: usize,
}

impl Plan {
    /// `keys`: own keys of each slot in each table.
    pub(crate) fn new(folder: &Path, slots: usize, keys: usize, fixed_only: bool) -> Plan {
        let tables: Vec<Kind> = KINDS
            .into_iter()
            .filter(|kind| !fixed_only || kind.fixed.is_some())
            .map(|kind| Kind { cleared_by: kind.cleared_by.map(|slot| slot % slots), ..kind })
            .collect();
        let (mut areas, mut places) = (Vec::new(), 0);
        for (table, kind) in tables.iter().enumerate() {
            let counts = [
                (Class::Own, keys),
                (Class::Lane, if kind.counters { LANES } else { 0 }),
                (Class::Claim, if kind.claims { CLAIMS } else { 0 }),
            ];
            for (class, count) in counts {
                // What vanishes by a clear cannot be claimed.
                if count > 0 && (class == Class::Own || kind.cleared_by.is_none()) {
                    areas.push(Area { table, class, places: places..places + count });
                    places += count;
                }
            }
        }
        Plan { folder: folder.into(), slots, tables, areas, places }
    }

    /// The areas of this slot.
    pub(crate) fn areas_of(&self, slot: usize) -> impl Iterator<Item = &Area> {
        self.areas.iter().filter(move |area| {
            area.class != Class::Own || self.tables[area.table].cleared_by.is_none_or(|by| by == slot)
        })
    }

    pub(crate) fn area(&self, place: usize) -> &Area {
        self.areas.iter().find(|area| area.places.contains(&place)).unwrap_or(&self.areas[0])
    }

    pub(crate) fn own_area(&self, table: usize) -> &Area {
        self.area_of(table, Class::Own).unwrap_or(&self.areas[0])
    }

    pub(crate) fn area_of(&self, table: usize, class: Class) -> Option<&Area> {
        self.areas.iter().find(|area| area.table == table && area.class == class)
    }

    /// The place of a name in its slot's log; none for free keys, and for names that are nobody's.
    pub(crate) fn place_of(&self, table: usize, name: Name) -> Option<usize> {
        let area = self.area_of(table, name.class)?;
        (name.index < area.places.len()).then(|| area.places.start + name.index)
    }

    pub(crate) fn path(&self, table: usize) -> PathBuf {
        self.folder.join(format!("{}.shf", self.tables[table].name))
    }

    pub(crate) fn options(&self, table: usize) -> TableOptions {
        let fixed = self.tables[table].fixed.unwrap_or((0, 0));
        let bytes = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        TableOptions::new().fixed(bytes(fixed.0), bytes(fixed.1))
    }

    pub(crate) fn open(&self, table: usize) -> shf::Result<Table> {
        self.options(table).open(self.path(table))
    }

    /// The key at a place of this slot.
    pub(crate) fn key(&self, slot: usize, place: usize, salt: u32) -> Vec<u8> {
        let area = self.area(place);
        let index = place - area.places.start;
        let name = match area.class {
            Class::Lane => {
                let index = index + LANES * (slot / LANES_IN_WORD);
                Name { class: Class::Lane, slot: 0, index, salt }
            }
            class => Name { class, slot: if class == Class::Own { slot } else { 0 }, index, salt },
        };
        self.key_of(area.table, name)
    }

    /// Fixed lengths: the name, and bytes made from it up to the length. Variable: a length made from it, too.
    pub(crate) fn key_of(&self, table: usize, name: Name) -> Vec<u8> {
        let (class, slot, index) = (name.class as u64, name.slot as u64, name.index as u64);
        let salt = u64::from(name.salt);
        if let Some((4, _)) = self.tables[table].fixed {
            return (class << 30 | slot << 24 | salt << 12 | index).to_le_bytes()[..4].to_vec();
        }
        let mut key = (class << 56 | slot << 48 | salt << 24 | index).to_le_bytes().to_vec();
        let mut bytes = crate::random::Random(hash(&key, 7));
        let length = match self.tables[table].fixed {
            Some((length, _)) => length,
            None if bytes.one_in(200) => 8 + bytes.index(1500),
            None => 8 + bytes.index(40),
        };
        while key.len() < length {
            key.extend_from_slice(&bytes.next().to_le_bytes());
        }
        key.truncate(length);
        key
    }

    /// The name in a key; `None`: nobody puts such a key.
    pub(crate) fn name_of(&self, table: usize, key: &[u8]) -> Option<Name> {
        let number = word(key);
        let (class, slot, salt, index) = if key.len() == 4 {
            (number >> 30, number >> 24 & 63, number >> 12 & 0xfff, number & 0xfff)
        } else {
            (number >> 56, number >> 48 & 255, number >> 24 & 0xff_ffff, number & 0xff_ffff)
        };
        let class = [Class::Own, Class::Lane, Class::Claim, Class::Free]
            .into_iter()
            .find(|&each| each as u64 & if key.len() == 4 { 3 } else { 255 } == class)?;
        let salt = u32::try_from(salt).ok()?;
        let name =
            Name { class, slot: usize::try_from(slot).ok()?, index: usize::try_from(index).ok()?, salt };
        (name.slot < self.slots && self.key_of(table, name) == key).then_some(name)
    }

    /// The length of the value with this stamp. Claims name their holder in full where they can.
    pub(crate) fn length(&self, table: usize, class: Class, stamp: u64) -> usize {
        match (self.tables[table].fixed, class) {
            (Some((_, length)), _) => length,
            (None, Class::Claim) => 24,
            (None, _) => values::length_for(stamp),
        }
    }

    pub(crate) fn value(&self, table: usize, class: Class, key: &[u8], stamp: u64) -> Vec<u8> {
        let mut value = Vec::new();
        values::fill(&mut value, key, stamp, self.length(table, class, stamp));
        value
    }
}

/// The byte of a counter that belongs to this slot.
pub(crate) fn lane_shift(slot: usize) -> usize {
    8 * (slot % LANES_IN_WORD)
}
pub(crate) fn lane_of(counter: &[u8], slot: usize) -> u64 {
    word(counter) >> lane_shift(slot) & 255
}
