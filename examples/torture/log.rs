//! The log of one worker slot: a file outside of the tables, written with `pwrite`, which stays when its writer is killed.
//!
//! Before a change the slot writes its *intent*: the places it changes and the state they are to have. After the change
//! it writes the new state of these places: that is the *acknowledgement*. Both are smaller than a page and lie within
//! one, so each is there as a whole or not at all (but for a batch, whose places may be acknowledged in part: then the
//! intent speaks for the rest). After a death the next process of the slot, or the first process, reads on: the places
//! of the intent have the old state or the new one, all others exactly theirs.
//!
//! A place's state: 0 for an own key that is absent, else the stamp of its value; the byte of a lane; 0 for a claim that
//! others may hold, else the stamp of the value by which the slot holds it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::values::word;

const INTENT_SIZE: usize = 64;
const STATISTICS_AT: u64 = 4096;
const PLACES_AT: u64 = 32_768;
const PLACE_SIZE: usize = 16;
/// Places that are read at once.
const PART: usize = 256;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) value: u64,
    /// Of the key; 0: not known.
    pub(crate) uid: u32,
    /// Of an own key: never changes.
    pub(crate) salt: u32,
}

/// What a slot is about to do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Intent {
    /// Of the change: counts up in each slot.
    pub(crate) number: u64,
    pub(crate) op: usize,
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) new: u64,
    /// In nanoseconds of the monotonic clock.
    pub(crate) started: u64,
}

#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    pub(crate) intent: Intent,
    parts: Vec<Option<Vec<State>>>,
}

pub(crate) fn path(folder: &Path, slot: usize) -> PathBuf {
    folder.join(format!("log-{slot}"))
}

/// Makes the slot's log anew: all places are 0, with these salts. The statistics of an old one stay.
pub(crate) fn create(folder: &Path, slot: usize, salts: &[u32]) -> io::Result<()> {
    let places = salts.len();
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path(folder, slot))?;
    let mut intent = [0; INTENT_SIZE];
    // Numbers go on: a stamp is used once.
    let number = if file.metadata()?.len() > 0 { Log::open(folder, slot, places)?.intent.number } else { 0 };
    intent[..8].copy_from_slice(&number.to_le_bytes());
    file.set_len(PLACES_AT)?;
    file.write_all_at(&intent, 0)?;
    let mut bytes: Vec<u8> =
        salts.iter().flat_map(|&salt| State { salt, ..State::default() }.to_bytes()).collect();
    bytes.resize(places.div_ceil(PART) * PART * PLACE_SIZE, 0);
    file.write_all_at(&bytes, PLACES_AT)
}

impl State {
    fn to_bytes(self) -> [u8; PLACE_SIZE] {
        let mut bytes = [0; PLACE_SIZE];
        bytes[..8].copy_from_slice(&self.value.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.uid.to_le_bytes());
        bytes[12..].copy_from_slice(&self.salt.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> State {
        let half = |at: usize| u32::try_from(word(&bytes[at..at + 4])).unwrap_or(0);
        State { value: word(bytes), uid: half(8), salt: half(12) }
    }
}

impl Log {
    pub(crate) fn open(folder: &Path, slot: usize, places: usize) -> io::Result<Log> {
        let file = OpenOptions::new().read(true).write(true).open(path(folder, slot))?;
        let mut bytes = [0; INTENT_SIZE];
        file.read_exact_at(&mut bytes, 0)?;
        let field = |i: usize| word(&bytes[8 * i..]);
        let size = |i: usize| usize::try_from(field(i)).unwrap_or(usize::MAX);
        let intent = Intent {
            number: field(0),
            op: size(1),
            first: size(2),
            count: size(3),
            new: field(4),
            started: field(5),
        };
        Ok(Log { file, intent, parts: vec![None; places.div_ceil(PART)] })
    }

    /// What the slot knows of a place.
    pub(crate) fn state(&mut self, place: usize) -> io::Result<State> {
        let part = &mut self.parts[place / PART];
        if part.is_none() {
            let mut bytes = vec![0; PART * PLACE_SIZE];
            let at = place / PART * PART * PLACE_SIZE;
            self.file.read_exact_at(&mut bytes, PLACES_AT + at as u64)?;
            *part = Some(bytes.chunks_exact(PLACE_SIZE).map(State::from_bytes).collect());
        }
        Ok(part.as_ref().map_or(State::default(), |part| part[place % PART]))
    }

    /// Says what comes next: `count` places from `first` on are to have the state `new`.
    pub(crate) fn intend(
        &mut self,
        op: usize,
        first: usize,
        count: usize,
        new: u64,
        now: u64,
    ) -> io::Result<()> {
        self.intent = Intent { number: self.intent.number + 1, op, first, count, new, started: now };
        let mut bytes = [0; INTENT_SIZE];
        let fields = [self.intent.number, op as u64, first as u64, count as u64, new, now];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        self.file.write_all_at(&bytes, 0)
    }

    /// Acknowledges: these places have these states and UIDs from now on.
    pub(crate) fn acknowledge(&mut self, first: usize, states: &[(u64, u32)]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(states.len() * PLACE_SIZE);
        for (place, &(state, uid)) in (first..).zip(states) {
            let new = State { value: state, uid, ..self.state(place)? };
            if let Some(part) = &mut self.parts[place / PART] {
                part[place % PART] = new;
            }
            bytes.extend_from_slice(&new.to_bytes());
        }
        self.file.write_all_at(&bytes, PLACES_AT + (first * PLACE_SIZE) as u64)
    }

    /// The intended change is over, or has not happened: its places are as acknowledged.
    pub(crate) fn settled(&mut self) -> io::Result<()> {
        self.intent.count = 0;
        self.file.write_all_at(&0u64.to_le_bytes(), 3 * 8)
    }

    pub(crate) fn in_flight(&self, place: usize) -> bool {
        (self.intent.first..self.intent.first + self.intent.count).contains(&place)
    }

    pub(crate) fn write_statistics(&self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, STATISTICS_AT)
    }

    pub(crate) fn read_statistics(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(PLACES_AT - STATISTICS_AT).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, STATISTICS_AT)?;
        Ok(bytes)
    }
}
