//! What the first process tells the workers: a file of plain words.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::values::word;

/// Where the times of the kills begin, one word a slot.
const KILLS_AT: u64 = 64;

/// The words, as they are at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Words {
    /// Processes that are stopped now.
    pub(crate) stopped: u64,
    /// When the last stop ended.
    pub(crate) stop_ended: u64,
    /// 1: end, with nothing under way.
    pub(crate) halt: u64,
    /// 1: more removals than insertions.
    pub(crate) shrink: u64,
}

#[derive(Debug)]
pub(crate) struct Control {
    file: File,
}

impl Control {
    pub(crate) fn create(folder: &Path, slots: usize) -> io::Result<Control> {
        let path = folder.join("control");
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(path)?;
        file.set_len(KILLS_AT + 8 * slots as u64)?;
        Ok(Control { file })
    }

    pub(crate) fn open(folder: &Path) -> io::Result<Control> {
        Ok(Control { file: File::open(folder.join("control"))? })
    }

    pub(crate) fn write(&self, words: Words) -> io::Result<()> {
        let mut bytes = [0; 32];
        let fields = [words.stopped, words.stop_ended, words.halt, words.shrink];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        self.file.write_all_at(&bytes, 0)
    }

    pub(crate) fn read(&self) -> io::Result<Words> {
        let mut bytes = [0; 32];
        self.file.read_exact_at(&mut bytes, 0)?;
        let field = |i: usize| word(&bytes[8 * i..]);
        Ok(Words { stopped: field(0), stop_ended: field(1), halt: field(2), shrink: field(3) })
    }

    /// When the slot's last process was killed; 0: it ended by itself, or it was stopped when it was killed.
    pub(crate) fn killed(&self, slot: usize) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, KILLS_AT + 8 * slot as u64)?;
        Ok(word(&bytes))
    }

    pub(crate) fn set_killed(&self, slot: usize, time: u64) -> io::Result<()> {
        self.file.write_all_at(&time.to_le_bytes(), KILLS_AT + 8 * slot as u64)
    }
}
