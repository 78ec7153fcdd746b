//! Calls that look at a whole table, beside all others that work on it.

use std::collections::HashSet;

use shf::{Position, SHARDS, Table};

use crate::clock::now;
use crate::fault::Fault;
use crate::model::hex;
use crate::plan::{Area, Class};
use crate::statistics::Op;
use crate::worker::Worker;

impl Worker {
    pub(crate) fn whole_table(&mut self, area: &Area) -> Result<(), Fault> {
        let table = area.table;
        match self.random.below(40) {
            0..16 => self.walk_a_part(table, false),
            16..18 => self.walk_all(area),
            18..22 => self.clear(table),
            22..26 => {
                self.call(Op::Len, table, Table::len)?;
                Ok(())
            }
            26..28 => {
                self.call(Op::Stats, table, Table::stats)?;
                Ok(())
            }
            28 => self.check(table),
            29 => {
                self.call(Op::HugePages, table, |table| match table.use_huge_pages() {
                    Err(shf::Error::Unsupported(_)) => Ok(0),
                    other => other,
                })?;
                Ok(())
            }
            30..33 => self.open_read_only(table),
            _ => self.open_again(table),
        }
    }

    fn check(&mut self, table: usize) -> Result<(), Fault> {
        match self.call(Op::Check, table, Table::check)? {
            Some(report) if !report.is_consistent() => Err(Fault::Wrong(format!(
                "check of table {} beside others: {report:?}",
                self.plan.tables[table].name
            ))),
            _ => Ok(()),
        }
    }

    fn open_again(&mut self, table: usize) -> Result<(), Fault> {
        let start = now();
        if self.random.one_in(2) {
            self.tables[table] = None; // first the old one: so the last handle closes now and then
        }
        self.tables[table] = Some(self.plan.open(table)?);
        self.measured(Op::Open, table, start, now())
    }

    /// The same reads through a handle that cannot write.
    fn open_read_only(&mut self, table: usize) -> Result<(), Fault> {
        let reader = self.plan.options(table).read_only(true).open(self.plan.path(table))?;
        let writer = self.tables[table].replace(reader);
        let result = self.walk_a_part(table, true);
        self.tables[table] = writer;
        result
    }

    /// Some neighbouring shards: what is there of the slot's own must be exactly so; all else is whole.
    fn walk_a_part(&mut self, table: usize, read_only: bool) -> Result<(), Fault> {
        let start = now();
        let first = u32::try_from(self.random.below(u64::from(SHARDS))).unwrap_or(0);
        let mut seen = HashSet::new();
        if self.random.one_in(2) {
            let entries = self.table(table)?.iter_shards(first..first + 8);
            for entry in entries {
                match entry {
                    Err(shf::Error::Busy(_)) if read_only => break, // the only way out of a read beside writers
                    entry => {
                        let entry = entry?;
                        self.entry(table, &entry.key, &entry.value, entry.uid.to_u32(), &mut seen)?;
                    }
                }
            }
        } else {
            let (mut key, mut value) = (Vec::new(), Vec::new());
            let mut cursor = self.table(table)?.cursor_at(Position::of_shard(first));
            let end = Position::of_shard(first + 4);
            while cursor.position() < end {
                match cursor.next_into(&mut key, &mut value) {
                    Err(shf::Error::Busy(_)) if read_only => break,
                    Ok(None) => break,
                    other => {
                        let uid = other?.map_or(0, shf::Uid::to_u32);
                        self.entry(table, &key, &value, uid, &mut seen)?;
                    }
                }
                if self.random.one_in(100) {
                    let position = Position::from_u64(cursor.position().to_u64());
                    cursor = self.table(table)?.cursor_at(position);
                }
            }
        }
        self.statistics.partial_walks += 1;
        self.measured(Op::Walk, table, start, now())
    }

    /// All of the table: each own key that is there is seen exactly once.
    fn walk_all(&mut self, area: &Area) -> Result<(), Fault> {
        let start = now();
        let mut seen = HashSet::new();
        for entry in &self.table(area.table)? {
            let entry = entry?;
            self.entry(area.table, &entry.key, &entry.value, entry.uid.to_u32(), &mut seen)?;
        }
        for place in area.places.clone() {
            if self.log.state(place)?.value != 0 && !seen.contains(&place) {
                let t = self.target(place)?;
                return Err(Fault::Lost(format!("a walk did not see {}", t.describe(&self.plan))));
            }
        }
        self.statistics.full_walks += 1;
        self.measured(Op::Walk, area.table, start, now())
    }

    fn entry(
        &mut self,
        table: usize,
        key: &[u8],
        value: &[u8],
        uid: u32,
        seen: &mut HashSet<usize>,
    ) -> Result<(), Fault> {
        let Some(name) = self.plan.name_of(table, key) else {
            let name = self.plan.tables[table].name;
            return Err(Fault::Wrong(format!("table {name}: a walk saw key {}, nobody's", hex(key))));
        };
        match (name.class, self.plan.place_of(table, name)) {
            (Class::Lane, _) if value.len() == 8 => Ok(()),
            (Class::Own, Some(place)) if name.slot == self.slot => {
                let t = self.target(place)?;
                if t.key != key {
                    let name = self.plan.tables[table].name;
                    return Err(Fault::Wrong(format!("table {name}: a walk saw key {}, nobody's", hex(key))));
                }
                t.judge(&self.plan, Some(value), "a walk saw")?;
                if t.now.uid != 0 && t.now.uid != uid {
                    let text = format!("a walk saw UID {uid} of {}", t.describe(&self.plan));
                    return Err(Fault::Wrong(text));
                }
                if !seen.insert(place) {
                    return Err(Fault::Wrong(format!("a walk saw twice {}", t.describe(&self.plan))));
                }
                Ok(())
            }
            _ => self.whole(table, key, Some(value)),
        }
    }

    /// Clears the table, if it is this slot's to clear.
    pub(crate) fn clear(&mut self, table: usize) -> Result<(), Fault> {
        if self.plan.tables[table].cleared_by != Some(self.slot) {
            return Ok(());
        }
        let places = self.plan.own_area(table).places.clone();
        self.log.intend(Op::Clear as usize, places.start, places.len(), 0, now())?;
        if self.call(Op::Clear, table, Table::clear)?.is_none() {
            return self.settle(); // it gave up on a lock: some shards may be cleared
        }
        self.log.acknowledge(places.start, &vec![(0, 0); places.len()])?;
        Ok(self.log.settled()?)
    }
}
