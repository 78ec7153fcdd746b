//! No system: what the memory allows. Reads of random 64-byte lines of 256 MB that do not depend on each other.

use super::{Session, Store};
use crate::AnyError;
use crate::common::{Key, Probe};

pub(crate) struct Lines(Probe);

impl Lines {
    pub(crate) fn new() -> Self {
        Self(Probe::new(256 << 20))
    }
}

impl Store for Lines {
    type Session<'s> = Reader<'s>;

    fn session(&self) -> Result<Reader<'_>, AnyError> {
        Ok(Reader(&self.0))
    }
}

pub(crate) struct Reader<'s>(&'s Probe);

const NO_KEYS: &str = "the memory holds no keys";

impl Session for Reader<'_> {
    fn put(&mut self, _: Key, _: &[u8]) -> Result<(), AnyError> {
        Err(NO_KEYS.into())
    }

    fn get(&mut self, _: Key) -> Result<bool, AnyError> {
        Err(NO_KEYS.into())
    }

    fn remove(&mut self, _: Key) -> Result<(), AnyError> {
        Err(NO_KEYS.into())
    }

    fn finish(&mut self) -> Result<u64, AnyError> {
        Ok(0)
    }

    fn read_lines(&mut self, n: usize) -> Result<(), AnyError> {
        self.0.run(u32::try_from(n)?);
        Ok(())
    }
}
