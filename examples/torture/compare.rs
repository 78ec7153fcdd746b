//! The full comparison, while no worker runs: everything in the tables against everything in the logs, both ways.

use shf::Table;

use crate::fault::{AnyError, Fault, Verdicts};
use crate::log::Log;
use crate::model::{Target, hex, holder_of};
use crate::plan::{Class, Name, Plan};
use crate::values::stamp_of;

/// Findings that are told, of one comparison.
const MOST_TOLD: u64 = 10;

#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) verdicts: Verdicts,
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    pub(crate) recoveries: u64,
    told: u64,
}

impl Comparison {
    fn note(&mut self, result: Result<(), Fault>) {
        if let Err(fault) = result {
            self.verdicts.count(&fault);
            if self.told < MOST_TOLD {
                eprintln!("torture: comparison: {fault}");
            }
            self.told += 1;
        }
    }

    /// Compares all tables.
    pub(crate) fn make(plan: &Plan) -> Result<Comparison, AnyError> {
        let mut this = Comparison::default();
        let mut logs = (0..plan.slots)
            .map(|slot| Log::open(&plan.folder, slot, plan.places))
            .collect::<Result<Vec<_>, _>>()?;
        for table in 0..plan.tables.len() {
            let done = this.table(plan, table, &mut logs);
            this.note(done);
        }
        Ok(this)
    }

    fn table(&mut self, plan: &Plan, table: usize, logs: &mut [Log]) -> Result<(), Fault> {
        let name = plan.tables[table].name;
        let handle = plan.open(table)?;
        // First the check: it takes every lock, so what the dead had committed is there afterwards.
        let report = handle.check()?;
        if !report.is_consistent() {
            self.note(Err(Fault::Wrong(format!("check of table {name}: {report:?}"))));
        }
        let mut seen = vec![vec![false; plan.places]; plan.slots];
        let walked = self.walk(plan, table, &handle, logs, &mut seen)?;
        let (len, stats) = (handle.len()?, handle.stats()?);
        if [len, stats.keys, report.keys] != [walked; 3] {
            self.note(Err(Fault::Wrong(format!(
                "table {name}: a walk saw {walked} keys, len is {len}, stats says {}, check {}",
                stats.keys, report.keys
            ))));
        }
        self.keys += walked;
        self.bytes += stats.file_bytes;
        self.recoveries += stats.recoveries;
        for (slot, log) in logs.iter_mut().enumerate() {
            for area in plan.areas_of(slot).filter(|area| area.table == table) {
                for place in area.places.clone() {
                    let target = Target::new(plan, slot, place, log.state(place)?);
                    let result = look_up(plan, &target, log, &handle, seen[slot][place]);
                    self.note(result);
                }
            }
        }
        Ok(())
    }

    /// Every entry of the table is somebody's, and as its slot's log says. Returns their number.
    fn walk(
        &mut self,
        plan: &Plan,
        table: usize,
        handle: &Table,
        logs: &mut [Log],
        seen: &mut [Vec<bool>],
    ) -> Result<u64, Fault> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let (mut cursor, mut walked) = (handle.cursor(), 0);
        while let Some(uid) = cursor.next_into(&mut key, &mut value)? {
            walked += 1;
            let Some(name) = plan.name_of(table, &key) else {
                let text = format!("table {}: key {} is nobody's", plan.tables[table].name, hex(&key));
                self.note(Err(Fault::Wrong(text)));
                continue;
            };
            let result = entry(plan, table, name, &key, &value, uid.to_u32(), logs);
            if let (Class::Own, Some(place)) = (name.class, plan.place_of(table, name))
                && std::mem::replace(&mut seen[name.slot][place], true)
            {
                let text = format!("table {}: a walk saw key {} twice", plan.tables[table].name, hex(&key));
                self.note(Err(Fault::Wrong(text)));
            }
            self.note(result);
        }
        Ok(walked)
    }
}

fn entry(
    plan: &Plan,
    table: usize,
    name: Name,
    key: &[u8],
    value: &[u8],
    uid: u32,
    logs: &mut [Log],
) -> Result<(), Fault> {
    let place = plan.place_of(table, name);
    let what = || format!("table {}, {:?} key {}", plan.tables[table].name, name.class, hex(key));
    match (name.class, place) {
        (Class::Lane, _) if value.len() == 8 => Ok(()), // each slot's byte is looked at from the other side
        (Class::Own, Some(place)) => {
            let log = &mut logs[name.slot];
            let target = Target::new(plan, name.slot, place, log.state(place)?);
            if target.key != key {
                return Err(Fault::Wrong(format!("{}: nobody's", what())));
            }
            judge(plan, &target, log, Some(value), "the walk saw")?;
            if target.now.uid != 0 && !log.in_flight(place) && target.now.uid != uid {
                let text = format!("the walk saw UID {uid} of {}", target.describe(plan));
                return Err(Fault::Wrong(text));
            }
            Ok(())
        }
        (Class::Claim, Some(place)) => {
            if stamp_of(value, key).is_err() {
                return Err(Fault::Torn(format!("{}: {}", what(), hex(value))));
            }
            let slot = holder_of(value);
            let Some(log) = logs.get_mut(slot) else {
                return Err(Fault::Wrong(format!("{} is held by slot {slot}", what())));
            };
            let target = Target::new(plan, slot, place, log.state(place)?);
            judge(plan, &target, log, Some(value), "the walk saw")
        }
        (Class::Free, _) => match stamp_of(value, key) {
            Err(()) => Err(Fault::Torn(format!("{}: {} bytes {}", what(), value.len(), hex(value)))),
            Ok(Some(stamp)) => {
                let slot = usize::try_from(stamp & 255).unwrap_or(usize::MAX);
                match logs.get(slot) {
                    Some(log) if stamp >> 8 <= log.intent.number => Ok(()),
                    _ => Err(Fault::Wrong(format!("{} has a value that nobody put", what()))),
                }
            }
            Ok(None) => Ok(()),
        },
        _ => Err(Fault::Wrong(format!("{} is nobody's, with {} bytes", what(), value.len()))),
    }
}

/// Every place of a log is in the table as it says.
fn look_up(plan: &Plan, target: &Target, log: &Log, handle: &Table, seen: bool) -> Result<(), Fault> {
    let value = handle.get(&target.key)?;
    judge(plan, target, log, value.as_deref(), "get")?;
    if target.class != Class::Own {
        return Ok(());
    }
    if value.is_some() != seen {
        let text = format!("the walk and get do not agree about {}", target.describe(plan));
        return Err(Fault::Wrong(text));
    }
    let uid = handle.checked_uid(&target.key)?;
    let Some(uid) = uid else {
        return if seen { Err(Fault::Wrong(format!("no UID: {}", target.describe(plan)))) } else { Ok(()) };
    };
    if target.place.is_multiple_of(8)
        && (handle.get_by_uid(uid)? != value || handle.key_by_uid(uid.uid())?.as_ref() != Some(&target.key))
    {
        return Err(Fault::Wrong(format!("by UID {uid}: not {}", target.describe(plan))));
    }
    Ok(())
}

/// What a slot was about to do may have happened, or not.
fn judge(plan: &Plan, target: &Target, log: &Log, seen: Option<&[u8]>, what: &str) -> Result<(), Fault> {
    if log.in_flight(target.place) && target.agrees(plan, log.intent.new, seen) {
        return Ok(());
    }
    target.judge(plan, seen, what)
}
