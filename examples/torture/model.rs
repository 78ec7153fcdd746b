//! What must be at a place, and the verdict if it is not.

use crate::fault::Fault;
use crate::log::State;
use crate::plan::{Class, Plan, lane_of};
use crate::values::{stamp_of, word};

/// A place of a slot, its key, and what the slot knows of it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) slot: usize,
    pub(crate) table: usize,
    pub(crate) class: Class,
    pub(crate) place: usize,
    pub(crate) key: Vec<u8>,
    pub(crate) now: State,
}

impl Target {
    pub(crate) fn new(plan: &Plan, slot: usize, place: usize, now: State) -> Target {
        let area = plan.area(place);
        Target {
            slot,
            table: area.table,
            class: area.class,
            place,
            key: plan.key(slot, place, now.salt),
            now,
        }
    }

    /// The value that belongs to a state of an own key or a claim.
    pub(crate) fn value(&self, plan: &Plan, state: u64) -> Option<Vec<u8>> {
        (state != 0).then(|| plan.value(self.table, self.class, &self.key, state))
    }

    /// Does what is seen belong to this state?
    pub(crate) fn agrees(&self, plan: &Plan, state: u64, seen: Option<&[u8]>) -> bool {
        match (self.class, seen) {
            (Class::Lane, _) => lane_of(seen.unwrap_or(&[]), self.slot) == state,
            (Class::Claim, Some(seen)) if state == 0 => {
                stamp_of(seen, &self.key).is_ok() && holder_of(seen) != self.slot
            }
            (Class::Claim, None) => state == 0,
            _ => self.value(plan, state).as_deref() == seen,
        }
    }

    /// The verdict on what was seen in place of the known state.
    pub(crate) fn judge(&self, plan: &Plan, seen: Option<&[u8]>, what: &str) -> Result<(), Fault> {
        if self.agrees(plan, self.now.value, seen) {
            return Ok(());
        }
        let text = format!(
            "{what}: {}: known is {}, seen is {}",
            self.describe(plan),
            describe_state(self.class, self.now.value),
            self.describe_value(seen)
        );
        Err(match (self.class, seen) {
            (Class::Lane, _) => Fault::Lost(text),
            (_, Some(seen)) if stamp_of(seen, &self.key).is_err() => Fault::Torn(text),
            _ if self.now.value == 0 => Fault::Wrong(text),
            _ => Fault::Lost(text),
        })
    }

    pub(crate) fn describe(&self, plan: &Plan) -> String {
        format!(
            "table {}, {:?} key {} of slot {} (uid {}, key {})",
            plan.tables[self.table].name,
            self.class,
            self.place - plan.area(self.place).places.start,
            self.slot,
            self.now.uid,
            hex(&self.key)
        )
    }

    fn describe_value(&self, seen: Option<&[u8]>) -> String {
        match (self.class, seen) {
            (_, None) => "nothing".into(),
            (Class::Lane, Some(seen)) => {
                format!("{} in counter {:#018x}", lane_of(seen, self.slot), word(seen))
            }
            (_, Some(seen)) => match stamp_of(seen, &self.key) {
                Err(()) => format!("no whole value of this key, {} bytes {}", seen.len(), hex(seen)),
                Ok(Some(stamp)) => format!("the whole value {}", describe_state(self.class, stamp)),
                Ok(None) => format!("the whole value {}", hex(seen)),
            },
        }
    }
}

/// The slot that a claim's value names.
pub(crate) fn holder_of(value: &[u8]) -> usize {
    let stamp = if value.len() >= 16 { word(value) } else { word(value) >> 32 };
    usize::try_from(stamp & 255).unwrap_or(usize::MAX)
}

fn describe_state(class: Class, state: u64) -> String {
    match (class, state) {
        (Class::Lane, n) => format!("{n}"),
        (_, 0) => "nothing".into(),
        (_, stamp) => format!("of change {} of slot {}", stamp >> 8, stamp & 255),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().take(24).flat_map(|byte| [byte >> 4, byte & 15]);
    let mut text: String = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
    if bytes.len() > 24 {
        text.push_str("...");
    }
    text
}
