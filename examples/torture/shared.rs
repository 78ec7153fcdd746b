//! Operations on the keys that all slots change at the same time.

use shf::{Exchange, Inserted};

use crate::clock::now;
use crate::fault::Fault;
use crate::model::{Target, hex, holder_of};
use crate::plan::{Area, Class, FREE, Name, lane_of, lane_shift};
use crate::statistics::Op;
use crate::values::{stamp_of, word};
use crate::worker::Worker;

impl Worker {
    // ---- lanes: counters of all, a byte for each ----------------------------------------------------------

    /// Adds to the slot's own byte of a counter, which must be as the slot left it, whatever the others do beside.
    pub(crate) fn change_lane(&mut self, area: &Area) -> Result<(), Fault> {
        let t = self.pick(area)?;
        let before = t.now.value;
        // Up to 200, and back to 0: no carry ever reaches the neighbour's byte.
        let new = if before < 200 { before + 1 + self.random.below(40) } else { 0 };
        match self.random.below(8) {
            0 => {
                let seen = self.call(Op::Get, t.table, |table| table.get(&t.key))?.flatten();
                t.judge(&self.plan, seen.as_deref(), "get")
            }
            1 | 2 => self.exchange_lane(&t, new),
            3 => {
                let (slot, mut wrong) = (self.slot, None);
                let done = self.change(Op::Update, &t, new, |table| {
                    table.update(&t.key, |old| {
                        let old = old.unwrap_or(&[]);
                        if lane_of(old, slot) != before {
                            wrong = Some(old.to_vec());
                        }
                        Some(with_lane(old, slot, new))
                    })
                })?;
                if let Some(counter) = wrong {
                    return self.lane_must_be(&t, &counter, "update was given");
                }
                if done.is_some() { self.done(&t, new, 0) } else { Ok(()) }
            }
            _ => {
                let shift = lane_shift(self.slot);
                let delta = new.wrapping_sub(before) << shift;
                let Some(previous) = self.change(Op::FetchAdd, &t, new, |table| {
                    table.fetch_add(&t.key, i64::from_le_bytes(delta.to_le_bytes()))
                })?
                else {
                    return Ok(());
                };
                self.lane_must_be(&t, &previous.to_le_bytes(), "fetch_add returned")?;
                self.done(&t, new, 0)
            }
        }
    }

    fn exchange_lane(&mut self, t: &Target, new: u64) -> Result<(), Fault> {
        let seen = self.call(Op::Get, t.table, |table| table.get(&t.key))?.flatten();
        t.judge(&self.plan, seen.as_deref(), "get")?;
        let desired = with_lane(seen.as_deref().unwrap_or(&[]), self.slot, new);
        let Some(exchange) = self.change(Op::CompareExchange, t, new, |table| {
            table.compare_exchange(&t.key, seen.as_deref(), Some(&desired))
        })?
        else {
            return Ok(());
        };
        match exchange {
            Exchange::Exchanged => self.done(t, new, 0),
            Exchange::Unchanged(present) => {
                t.judge(&self.plan, present.as_deref(), "compare_exchange found")?;
                Ok(self.log.settled()?) // another slot was faster
            }
        }
    }

    // ---- claims: one slot holds a key ---------------------------------------------------------------------

    /// Inserts a claim that it does not hold: or looks at, renews or takes one that it holds.
    pub(crate) fn change_claim(&mut self, area: &Area) -> Result<(), Fault> {
        let t = self.pick(area)?;
        let stamp = self.next_stamp();
        let mine = t.value(&self.plan, stamp).unwrap_or_default();
        if t.now.value == 0 {
            let Some(inserted) = self.change(Op::Insert, &t, stamp, |table| table.insert(&t.key, &mine))?
            else {
                return Ok(());
            };
            return match inserted {
                Inserted::New(uid) => self.done(&t, stamp, uid.to_u32()),
                Inserted::Existing(_) => Ok(self.log.settled()?),
            };
        }
        let known = t.value(&self.plan, t.now.value).unwrap_or_default();
        match self.random.below(6) {
            0 => {
                let seen = self.call(Op::Get, t.table, |table| table.get(&t.key))?.flatten();
                t.judge(&self.plan, seen.as_deref(), "get")
            }
            1 => {
                let Some(old) = self.change(Op::Replace, &t, stamp, |table| table.replace(&t.key, &mine))?
                else {
                    return Ok(());
                };
                t.judge(&self.plan, old.as_deref(), "replace returned")?;
                self.done(&t, stamp, 0)
            }
            2 => {
                let Some(removed) =
                    self.change(Op::RemoveIfEqual, &t, 0, |table| table.remove_if_equal(&t.key, &known))?
                else {
                    return Ok(());
                };
                if !removed {
                    let text = t.describe(&self.plan);
                    return Err(Fault::Lost(format!("remove_if_equal did not find the claim: {text}")));
                }
                self.done(&t, 0, 0)
            }
            _ => {
                let Some(old) = self.change(Op::Take, &t, 0, |table| table.take(&t.key))? else {
                    return Ok(());
                };
                t.judge(&self.plan, old.as_deref(), "take returned")?;
                self.done(&t, 0, 0)
            }
        }
    }

    // ---- free keys: any whole value -----------------------------------------------------------------------

    /// Anything, with a key for which all that can be known is that its value is whole.
    pub(crate) fn change_free(&mut self, table: usize) -> Result<(), Fault> {
        if self.random.one_in(6) {
            return self.free_burst(table);
        }
        let key = self.free_key(table);
        let stamp = self.next_stamp();
        let value = self.plan.value(table, Class::Free, &key, stamp);
        let choice = self.random.below(14);
        let changes = [0..4, 5..12].iter().any(|range| range.contains(&choice));
        if changes {
            // No place is known afterwards: but no value may have a higher number than this.
            self.log.intend(0, 0, 0, 0, now())?;
        }
        let seen = match choice {
            0 | 1 => {
                self.call(Op::Put, table, |table| table.put(&key, &value))?;
                None
            }
            2 => {
                self.call(Op::Insert, table, |table| table.insert(&key, &value))?;
                None
            }
            3 => self.call(Op::Replace, table, |table| table.replace(&key, &value))?.flatten(),
            4 => self.call(Op::Get, table, |table| table.get(&key))?.flatten(),
            5 => self.call(Op::Take, table, |table| table.take(&key))?.flatten(),
            6 => {
                self.call(Op::Remove, table, |table| table.remove(&key))?;
                None
            }
            7 => {
                let seen = self.call(Op::Get, table, |table| table.get(&key))?.flatten();
                if let Some(seen) = &seen {
                    self.call(Op::RemoveIfEqual, table, |table| table.remove_if_equal(&key, seen))?;
                }
                seen
            }
            8 => {
                let seen = self.call(Op::Get, table, |table| table.get(&key))?.flatten();
                let exchange = self.call(Op::CompareExchange, table, |table| {
                    table.compare_exchange(&key, seen.as_deref(), Some(&value))
                })?;
                match exchange {
                    Some(Exchange::Unchanged(present)) => present,
                    _ => seen,
                }
            }
            9 => {
                let mut seen = None;
                self.call(Op::Update, table, |table| {
                    table.update(&key, |old| {
                        seen = old.map(<[u8]>::to_vec);
                        Some(value.clone())
                    })
                })?;
                seen
            }
            10 => return self.free_by_uid(table, &key, &value),
            11 => return self.free_many(table, stamp),
            12 => {
                self.call(Op::Contains, table, |table| table.contains(&key))?;
                None
            }
            _ => {
                let keys: Vec<Vec<u8>> = (0..20).map(|_| self.free_key(table)).collect();
                let values = self.call(Op::GetMany, table, |table| table.get_many(&keys))?;
                let values = values.unwrap_or_default();
                return keys.iter().zip(&values).try_for_each(|(key, seen)| self.whole(table, key, seen));
            }
        };
        self.whole(table, &key, seen.as_deref())
    }

    /// Many changes in a row, with values made before: so a process that is killed is mostly in a call.
    fn free_burst(&mut self, table: usize) -> Result<(), Fault> {
        let stamp = self.next_stamp();
        self.log.intend(0, 0, 0, 0, now())?;
        let pairs: Vec<(Vec<u8>, Vec<u8>)> = (0..8)
            .map(|_| {
                let key = self.free_key(table);
                let value = self.plan.value(table, Class::Free, &key, stamp);
                (key, value)
            })
            .collect();
        for _ in 0..80 {
            let choice = self.random.next();
            let (key, value) = &pairs[self.random.index(pairs.len())];
            match choice % 8 {
                0..3 => drop(self.call(Op::Put, table, |table| table.put(key, value))?),
                3 => drop(self.call(Op::Insert, table, |table| table.insert(key, value))?),
                4 | 5 => drop(self.call(Op::Remove, table, |table| table.remove(key))?),
                6 => {
                    let seen = self.call(Op::Take, table, |table| table.take(key))?.flatten();
                    self.whole(table, key, seen.as_deref())?;
                }
                _ => {
                    let seen = self.call(Op::Replace, table, |table| table.replace(key, value))?.flatten();
                    self.whole(table, key, seen.as_deref())?;
                }
            }
        }
        Ok(())
    }

    fn free_by_uid(&mut self, table: usize, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let uid = self.call(Op::Uid, table, |table| table.checked_uid(key))?.flatten();
        let Some(uid) = uid else { return Ok(()) };
        let seen = self.call(Op::GetByUid, table, |table| table.get_by_uid(uid))?.flatten();
        self.whole(table, key, seen.as_deref())?;
        let named = self.call(Op::KeyByUid, table, |table| table.key_by_uid(uid))?.flatten();
        if named.as_ref().is_some_and(|named| named != key) {
            return Err(Fault::Wrong(format!(
                "table {}: {uid:?} of key {} names key {named:?}",
                self.plan.tables[table].name,
                hex(key)
            )));
        }
        // With the check: the number may be an own key's of another slot by now.
        if self.random.one_in(3) {
            self.call(Op::RemoveByUid, table, |table| table.remove_by_uid(uid))?;
        } else {
            self.call(Op::PutByUid, table, |table| table.put_by_uid(uid, value))?;
        }
        Ok(())
    }

    fn free_many(&mut self, table: usize, stamp: u64) -> Result<(), Fault> {
        let keys: Vec<Vec<u8>> = (0..=self.random.index(40)).map(|_| self.free_key(table)).collect();
        if self.random.one_in(2) {
            self.call(Op::RemoveMany, table, |table| table.remove_many(&keys))?;
            return Ok(());
        }
        let pairs: Vec<(Vec<u8>, Vec<u8>)> = keys
            .into_iter()
            .map(|key| {
                let value = self.plan.value(table, Class::Free, &key, stamp);
                (key, value)
            })
            .collect();
        self.call(Op::PutMany, table, |table| table.put_many(&pairs))?;
        Ok(())
    }

    fn free_key(&mut self, table: usize) -> Vec<u8> {
        let index = self.random.index(FREE);
        self.plan.key_of(table, Name { class: Class::Free, slot: 0, index, salt: 0 })
    }

    /// A value of a key that others change: nothing, or whole and of this key.
    pub(crate) fn whole(&self, table: usize, key: &[u8], seen: Option<&[u8]>) -> Result<(), Fault> {
        let Some(seen) = seen else { return Ok(()) };
        let name = self.plan.tables[table].name;
        match stamp_of(seen, key) {
            Ok(_) if seen.len() < 8 || holder_of(seen) < self.plan.slots => Ok(()),
            Ok(_) => Err(Fault::Wrong(format!("table {name}: key {} has a value of no slot", hex(key)))),
            Err(()) => Err(Fault::Torn(format!(
                "table {name}: key {} has {} bytes that are no whole value of it: {}",
                hex(key),
                seen.len(),
                hex(seen)
            ))),
        }
    }
}

/// The counter with another value in this slot's byte.
fn with_lane(counter: &[u8], slot: usize, lane: u64) -> Vec<u8> {
    let shift = lane_shift(slot);
    (word(counter) & !(255 << shift) | lane << shift).to_le_bytes().to_vec()
}
