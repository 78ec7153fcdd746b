//! Walking over a table: a cursor that may be stored, and an iterator over it.

use std::{fmt, iter::FusedIterator};

use crate::{error::Result, ffi, table::Table, uid::Uid};

/// The parts of every table, for [`Table::iter_shards`].
pub const SHARDS: u32 = ffi::SHF_SHARDS;

/// Where a [`Cursor`] is: 8 bytes that may be stored, sent, and used with another handle of the same table, in
/// another process too. Any number is a legal position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// The beginning.
    pub const START: Position = Position(0);

    /// Where part `shard` of [`SHARDS`] begins; it ends where the next one begins. [`SHARDS`], and anything
    /// beyond, is the end of the table.
    #[must_use]
    pub fn of_shard(shard: u32) -> Position {
        Position(u64::from(shard.min(SHARDS)) << 48)
    }

    /// The position with this number.
    #[must_use]
    pub const fn from_u64(number: u64) -> Position {
        Position(number)
    }

    /// The number, to be stored or sent.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0
    }
}

/// One entry, copied out by [`Table::iter`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Entry {
    /// The key's UID.
    pub uid: Uid,
    /// The key.
    pub key: Vec<u8>,
    /// The value: with the key, as one operation left them.
    pub value: Vec<u8>,
}

/// A resumable walk over a table, without state in the table and without a lock between two steps: made by
/// [`Table::cursor`] or [`Table::cursor_at`].
///
/// A key that lives throughout is seen exactly once, whatever other processes do meanwhile; one that comes or goes
/// may or may not be seen. The order says nothing. A cursor keeps its table open.
///
/// ```
/// use shf::TableOptions;
/// let table = TableOptions::new().anonymous("walk")?;
/// for i in 0..100u32 {
///     table.put(i.to_le_bytes(), "value")?;
/// }
/// let (mut key, mut value) = (Vec::new(), Vec::new()); // grow once, then are reused
/// let mut cursor = table.cursor();
/// for _ in 0..60 {
///     assert!(cursor.next_into(&mut key, &mut value)?.is_some());
/// }
/// let mut rest = table.cursor_at(cursor.position()); // perhaps in another process, a week later
/// let mut seen = 60;
/// while rest.next_into(&mut key, &mut value)?.is_some() {
///     seen += 1;
/// }
/// assert_eq!(seen, 100);
/// # Ok::<(), shf::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "cursors are lazy"]
pub struct Cursor {
    table: Table,
    position: u64,
}

impl Cursor {
    pub(crate) fn new(table: Table, position: Position) -> Cursor {
        Cursor { table, position: position.0 }
    }

    /// Copies the next entry into the two buffers, and moves on. `None`: the end; the buffers are empty then.
    /// Does not allocate once the buffers have grown to the largest entry.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt); [`Error::Busy`](crate::Error::Busy) on a read-only table beside
    /// many writers. The cursor has not moved then, and the buffers' content is unspecified.
    ///
    /// # Cost
    /// Amortised a look at one slot of the index, and the copy. Stores nothing in shared memory.
    pub fn next_into(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<Option<Uid>> {
        match self.table.raw().next(&mut self.position, key, value)? {
            None => Ok(None),
            Some(number) => self.table.uid_from(number).map(Some),
        }
    }

    /// Where the next entry will be looked for.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.position)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("table", &self.table)
            .field("position", &format_args!("{:#x}", self.position))
            .finish()
    }
}

/// An iterator over a table's entries: [`Table::iter`], [`Table::iter_shards`]. See [`Cursor`] for what it sees.
///
/// It ends after an error. It keeps its table open, and may be sent to another thread.
#[derive(Clone)]
#[must_use = "iterators are lazy"]
pub struct Iter {
    cursor: Cursor,
    end: Position,
    finished: bool,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Iter {
    pub(crate) fn new(table: Table, start: Position, end: Position) -> Iter {
        let finished = start >= end;
        Iter { cursor: Cursor::new(table, start), end, finished, key: Vec::new(), value: Vec::new() }
    }

    /// Where the next entry will be looked for; to go on later with [`Table::cursor_at`].
    #[must_use]
    pub fn position(&self) -> Position {
        self.cursor.position()
    }
}

impl Iterator for Iter {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        if self.finished || self.cursor.position() >= self.end {
            return None;
        }
        match self.cursor.next_into(&mut self.key, &mut self.value) {
            // The entry of a later part moves the position beyond the end of this one.
            Ok(Some(uid)) if self.cursor.position() <= self.end => {
                Some(Ok(Entry { uid, key: self.key.as_slice().into(), value: self.value.as_slice().into() }))
            }
            Ok(_) => {
                self.finished = true;
                None
            }
            Err(error) => {
                self.finished = true;
                Some(Err(error))
            }
        }
    }
}

impl FusedIterator for Iter {}

impl fmt::Debug for Iter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter")
            .field("cursor", &self.cursor)
            .field("end", &format_args!("{:#x}", self.end.0))
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}
