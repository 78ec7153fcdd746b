//! Operations on the keys that only this slot changes: what each must return is known exactly.

use shf::{AnyUid, Exchange, Uid};

use crate::clock::now;
use crate::fault::Fault;
use crate::model::Target;
use crate::plan::Area;
use crate::statistics::Op;
use crate::worker::Worker;

const CHANGES: [(Op, u64, u64); 13] = [
    // with the weights when the tables grow, and when they shrink
    (Op::Put, 12, 6),
    (Op::Insert, 12, 3),
    (Op::Replace, 8, 8),
    (Op::Remove, 3, 12),
    (Op::Take, 2, 8),
    (Op::RemoveIfEqual, 2, 8),
    (Op::CompareExchange, 8, 8),
    (Op::Update, 6, 6),
    (Op::PutByUid, 6, 6),
    (Op::RemoveByUid, 2, 6),
    (Op::PutMany, 24, 8),
    (Op::RemoveMany, 4, 16),
    (Op::FetchAdd, 1, 1),
];

impl Worker {
    pub(crate) fn change_own(&mut self, area: &Area) -> Result<(), Fault> {
        let weights = CHANGES.map(|(_, grow, shrink)| if self.shrink { shrink } else { grow });
        let op = CHANGES[self.random.weighted(&weights)].0;
        let t = self.pick(area)?;
        match op {
            Op::PutMany | Op::RemoveMany => self.many(area, &t, op),
            Op::PutByUid | Op::RemoveByUid => self.change_by_uid(&t, op),
            Op::CompareExchange | Op::Update => self.exchange(&t, op),
            Op::FetchAdd => self.not_a_counter(&t),
            _ => self.change_one(&t, op),
        }
    }

    fn change_one(&mut self, t: &Target, op: Op) -> Result<(), Fault> {
        let (stamp, there) = (self.next_stamp(), t.now.value != 0);
        let value = t.value(&self.plan, stamp).unwrap_or_default();
        let wrong = |w: &Worker, text: &str| Err(Fault::Wrong(format!("{text}: {}", t.describe(&w.plan))));
        match op {
            Op::Put => {
                let Some(uid) = self.change(op, t, stamp, |table| table.put(&t.key, &value))? else {
                    return Ok(());
                };
                self.done(t, stamp, uid.to_u32())
            }
            Op::Insert => {
                let new = if there { t.now.value } else { stamp };
                let Some(inserted) = self.change(op, t, new, |table| table.insert(&t.key, &value))? else {
                    return Ok(());
                };
                match (inserted.is_new(), there) {
                    (true, true) => {
                        return Err(Fault::Lost(format!("insert found no key: {}", t.describe(&self.plan))));
                    }
                    (false, false) => return wrong(self, "insert says Existing"),
                    _ => {}
                }
                self.done(t, new, inserted.uid().to_u32())
            }
            Op::Replace => {
                let new = if there { stamp } else { 0 };
                let Some(old) = self.change(op, t, new, |table| table.replace(&t.key, &value))? else {
                    return Ok(());
                };
                t.judge(&self.plan, old.as_deref(), "replace returned")?;
                self.done(t, new, 0)
            }
            Op::Remove => {
                let Some(removed) = self.change(op, t, 0, |table| table.remove(&t.key))? else {
                    return Ok(());
                };
                match (removed, there) {
                    (true, false) => wrong(self, "remove found a key"),
                    (false, true) => {
                        Err(Fault::Lost(format!("remove found no key: {}", t.describe(&self.plan))))
                    }
                    _ => self.done(t, 0, 0),
                }
            }
            Op::Take => {
                let Some(old) = self.change(op, t, 0, |table| table.take(&t.key))? else { return Ok(()) };
                t.judge(&self.plan, old.as_deref(), "take returned")?;
                self.done(t, 0, 0)
            }
            _ => {
                let known = t.value(&self.plan, t.now.value);
                let guess = if self.random.one_in(2) { value } else { known.clone().unwrap_or(value) };
                let equal = known.as_ref() == Some(&guess);
                let new = if equal { 0 } else { t.now.value };
                let Some(removed) = self.change(op, t, new, |table| table.remove_if_equal(&t.key, &guess))?
                else {
                    return Ok(());
                };
                match (removed, equal) {
                    (true, false) => wrong(self, "remove_if_equal removed another value"),
                    (false, true) => Err(Fault::Lost(format!(
                        "remove_if_equal did not find the value: {}",
                        t.describe(&self.plan)
                    ))),
                    _ => self.done(t, new, 0),
                }
            }
        }
    }

    fn exchange(&mut self, t: &Target, op: Op) -> Result<(), Fault> {
        let stamp = self.next_stamp();
        let (known, other) = (t.value(&self.plan, t.now.value), t.value(&self.plan, stamp));
        let new = if self.random.one_in(if self.shrink { 2 } else { 6 }) { 0 } else { stamp };
        let desired = if new == 0 { None } else { other.clone() };
        if op == Op::Update {
            let mut seen = None;
            let Some(uid) = self.change(op, t, new, |table| {
                table.update(&t.key, |old| {
                    seen = old.map(<[u8]>::to_vec);
                    desired.clone()
                })
            })?
            else {
                return Ok(());
            };
            t.judge(&self.plan, seen.as_deref(), "update was given")?;
            if uid.is_some() != (new != 0) {
                let text = format!("update returned UID {uid:?}: {}", t.describe(&self.plan));
                return Err(Fault::Wrong(text));
            }
            return self.done(t, new, uid.map_or(0, Uid::to_u32));
        }
        let expected = match self.random.below(4) {
            0 => None,
            1 => other,
            _ => known.clone(),
        };
        let new = if expected == known { new } else { t.now.value };
        let Some(exchange) = self.change(op, t, new, |table| {
            table.compare_exchange(&t.key, expected.as_deref(), desired.as_deref())
        })?
        else {
            return Ok(());
        };
        match exchange {
            Exchange::Exchanged if expected != known => {
                return Err(Fault::Wrong(format!(
                    "compare_exchange exchanged another value: {}",
                    t.describe(&self.plan)
                )));
            }
            Exchange::Exchanged => {}
            Exchange::Unchanged(present) => {
                t.judge(&self.plan, present.as_deref(), "compare_exchange found")?;
                if expected == known {
                    return Err(Fault::Wrong(format!(
                        "compare_exchange exchanged nothing: {}",
                        t.describe(&self.plan)
                    )));
                }
            }
        }
        self.done(t, new, 0)
    }

    /// An own value of another length than 8 is no counter; one of 8 bytes is left alone.
    fn not_a_counter(&mut self, t: &Target) -> Result<(), Fault> {
        let Some(known) = t.value(&self.plan, t.now.value) else { return Ok(()) };
        if known.len() == 8 {
            return Ok(());
        }
        let result = self.call(Op::FetchAdd, t.table, |table| match table.fetch_add(&t.key, 1) {
            Err(shf::Error::NotACounter(_)) => Ok(None),
            other => other.map(Some),
        })?;
        match result {
            Some(Some(n)) => {
                let text = format!("fetch_add on no counter gave {n}: {}", t.describe(&self.plan));
                Err(Fault::Wrong(text))
            }
            _ => Ok(()),
        }
    }

    /// The checked UID, or the plain one if the slot knows it: only this slot removes the key.
    fn uid_for(&mut self, t: &Target) -> Result<Option<AnyUid>, Fault> {
        if let (Some(uid), true) = (Uid::from_u32(t.now.uid), self.random.one_in(2)) {
            return Ok(Some(uid.into()));
        }
        let Some(uid) = self.call(Op::Uid, t.table, |table| table.checked_uid(&t.key))? else {
            return Ok(None);
        };
        if uid.is_some() != (t.now.value != 0) {
            let seen = self.call(Op::Get, t.table, |table| table.get(&t.key))?.flatten();
            t.judge(&self.plan, seen.as_deref(), "get after checked_uid")?;
            let text = format!("checked_uid found {uid:?}: {}", t.describe(&self.plan));
            return Err(Fault::Wrong(text));
        }
        if uid.is_some_and(|uid| t.now.uid != 0 && uid.uid().to_u32() != t.now.uid) {
            return Err(Fault::Wrong(format!("checked_uid is {uid:?}: {}", t.describe(&self.plan))));
        }
        Ok(uid.map(AnyUid::from))
    }

    fn change_by_uid(&mut self, t: &Target, op: Op) -> Result<(), Fault> {
        let Some(uid) = self.uid_for(t)? else { return Ok(()) };
        let stamp = self.next_stamp();
        let value = t.value(&self.plan, stamp).unwrap_or_default();
        let new = if op == Op::PutByUid { stamp } else { 0 };
        let Some(found) = self.change(op, t, new, |table| {
            if new == 0 { table.remove_by_uid(uid) } else { table.put_by_uid(uid, &value) }
        })?
        else {
            return Ok(());
        };
        if !found {
            return Err(Fault::Lost(format!(
                "{} found no key: {}",
                crate::statistics::name(op as usize),
                t.describe(&self.plan)
            )));
        }
        self.done(t, new, 0)?;
        match uid {
            // The UID of a removed key names nobody, with its check.
            AnyUid::Checked(_) if new == 0 => self.names_nobody(t, uid),
            _ => Ok(()),
        }
    }

    fn names_nobody(&mut self, t: &Target, uid: AnyUid) -> Result<(), Fault> {
        let found = self.call(Op::GetByUid, t.table, |table| table.get_by_uid(uid))?.flatten();
        let key = self.call(Op::KeyByUid, t.table, |table| table.key_by_uid(uid))?.flatten();
        let removed = self.call(Op::RemoveByUid, t.table, |table| table.remove_by_uid(uid))?;
        if found.is_some() || key.is_some() || removed == Some(true) {
            let text = format!("{uid:?} of a removed key names one: {}", t.describe(&self.plan));
            return Err(Fault::Wrong(text));
        }
        Ok(())
    }

    /// A batch of neighbours of `t`: mostly short, sometimes of several hundred.
    fn many(&mut self, area: &Area, t: &Target, op: Op) -> Result<(), Fault> {
        let most = if self.random.one_in(3) { 400 } else { 48 };
        let count = (1 + self.random.index(most)).min(area.places.end - t.place);
        let new = if op == Op::PutMany { self.next_stamp() } else { 0 };
        let targets: Vec<Target> =
            (t.place..t.place + count).map(|place| self.target(place)).collect::<Result<_, _>>()?;
        let there = targets.iter().filter(|t| t.now.value != 0).count();
        let (mut keys, mut pairs) = (Vec::new(), Vec::new());
        for t in targets {
            match t.value(&self.plan, new) {
                Some(value) => pairs.push((t.key, value)),
                None => keys.push(t.key),
            }
        }
        self.log.intend(op as usize, t.place, count, new, now())?;
        let done = if op == Op::PutMany {
            self.call(op, t.table, |table| table.put_many(&pairs))?.unwrap_or(0)
        } else {
            match self.call(op, t.table, |table| table.remove_many(&keys))? {
                None => return self.settle(), // it gave up on a lock, and does not tell where
                Some(removed) if removed == there => count,
                Some(removed) => {
                    let text = format!("remove_many: {there} of {count} were there, it says {removed}, from");
                    let text = format!("{text} {}", t.describe(&self.plan));
                    return Err(if removed < there { Fault::Lost(text) } else { Fault::Wrong(text) });
                }
            }
        };
        let mut states = Vec::with_capacity(done);
        for place in t.place..t.place + done {
            let before = self.log.state(place)?;
            states.push((new, if new != 0 && before.value != 0 { before.uid } else { 0 }));
        }
        self.log.acknowledge(t.place, &states)?;
        self.log.settled()?;
        Ok(())
    }

    // ---- reads --------------------------------------------------------------------------------------------

    pub(crate) fn read_own(&mut self, area: &Area) -> Result<(), Fault> {
        let t = self.pick(area)?;
        match self.random.below(8) {
            0 | 1 => {
                let seen = self.call(Op::Get, t.table, |table| table.get(&t.key))?.flatten();
                t.judge(&self.plan, seen.as_deref(), "get")
            }
            2 => {
                let mut seen = Vec::new();
                let found = self.call(Op::Get, t.table, |table| table.get_into(&t.key, &mut seen))?;
                t.judge(&self.plan, (found == Some(true)).then_some(&seen), "get_into")
            }
            3 => {
                let found = self.call(Op::Contains, t.table, |table| table.contains(&t.key))?;
                if found == Some(t.now.value != 0) {
                    return Ok(());
                }
                let text = format!("contains says {found:?}: {}", t.describe(&self.plan));
                Err(if t.now.value != 0 { Fault::Lost(text) } else { Fault::Wrong(text) })
            }
            4 | 5 => self.read_by_uid(&t),
            _ => self.read_many(area, &t),
        }
    }

    fn read_by_uid(&mut self, t: &Target) -> Result<(), Fault> {
        let Some(uid) = self.uid_for(t)? else { return Ok(()) };
        let seen = self.call(Op::GetByUid, t.table, |table| table.get_by_uid(uid))?.flatten();
        t.judge(&self.plan, seen.as_deref(), "get_by_uid")?;
        let key = self.call(Op::KeyByUid, t.table, |table| table.key_by_uid(uid))?.flatten();
        if key.as_ref() != Some(&t.key) {
            let text = format!("key_by_uid is {key:?}: {}", t.describe(&self.plan));
            return Err(Fault::Wrong(text));
        }
        let plain = self.call(Op::Uid, t.table, |table| table.uid(&t.key))?.flatten();
        let Some(plain) = plain else {
            return Err(Fault::Lost(format!("uid found no key: {}", t.describe(&self.plan))));
        };
        // Now it is known, whoever forgot it.
        self.done(t, t.now.value, plain.to_u32())
    }

    fn read_many(&mut self, area: &Area, t: &Target) -> Result<(), Fault> {
        let count = (1 + self.random.index(64)).min(area.places.end - t.place);
        let targets: Vec<Target> =
            (t.place..t.place + count).map(|place| self.target(place)).collect::<Result<_, _>>()?;
        if self.random.one_in(2) {
            let keys: Vec<&[u8]> = targets.iter().map(|t| &t.key[..]).collect();
            let Some(values) = self.call(Op::GetMany, t.table, |table| table.get_many(&keys))? else {
                return Ok(());
            };
            return targets
                .iter()
                .zip(&values)
                .try_for_each(|(t, seen)| t.judge(&self.plan, seen, "get_many"));
        }
        let (uids, targets): (Vec<Uid>, Vec<Target>) =
            targets.into_iter().filter_map(|t| Some((Uid::from_u32(t.now.uid)?, t))).unzip();
        let Some(values) = self.call(Op::GetManyByUid, t.table, |table| table.get_many_by_uid(&uids))? else {
            return Ok(());
        };
        targets.iter().zip(&values).try_for_each(|(t, seen)| t.judge(&self.plan, seen, "get_many_by_uid"))
    }
}
