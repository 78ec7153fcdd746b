//! scc's HashMap, hashed by foldhash.

use foldhash::fast::RandomState;
use scc::HashMap;

use super::{Session, Store, look, number};
use crate::AnyError;
use crate::common::Key;

type BoxedMap = HashMap<Box<[u8]>, Box<[u8]>, RandomState>;
type U32Map = HashMap<u32, u32, RandomState>;

#[derive(Debug)]
pub(crate) struct Boxed(BoxedMap);
#[derive(Debug)]
pub(crate) struct U32(U32Map);

impl Boxed {
    pub(crate) fn new() -> Self {
        Self(HashMap::with_hasher(RandomState::default()))
    }
}

impl U32 {
    pub(crate) fn new() -> Self {
        Self(HashMap::with_hasher(RandomState::default()))
    }
}

impl Store for Boxed {
    type Session<'s> = BoxedHand<'s>;

    fn session(&self) -> Result<BoxedHand<'_>, AnyError> {
        Ok(BoxedHand { map: &self.0, sum: 0 })
    }
}

impl Store for U32 {
    type Session<'s> = U32Hand<'s>;

    fn session(&self) -> Result<U32Hand<'_>, AnyError> {
        Ok(U32Hand { map: &self.0, sum: 0 })
    }
}

#[derive(Debug)]
pub(crate) struct BoxedHand<'s> {
    map: &'s BoxedMap,
    sum: u64,
}

impl Session for BoxedHand<'_> {
    #[inline]
    fn put(&mut self, key: Key, value: &[u8]) -> Result<(), AnyError> {
        self.map.upsert_sync(key[..].into(), value.into());
        Ok(())
    }

    #[inline]
    fn get(&mut self, key: Key) -> Result<bool, AnyError> {
        let value = self.map.read_sync(&key[..], |_, value| look(value));
        self.sum += value.unwrap_or(0);
        Ok(value.is_some())
    }

    #[inline]
    fn remove(&mut self, key: Key) -> Result<(), AnyError> {
        self.map.remove_sync(&key[..]);
        Ok(())
    }

    #[inline]
    fn replace(&mut self, key: Key, value: &[u8]) -> Result<(), AnyError> {
        self.map.update_sync(&key[..], |_, old| *old = value.into()).ok_or("a key is lost")?;
        Ok(())
    }

    fn finish(&mut self) -> Result<u64, AnyError> {
        Ok(self.sum)
    }
}

#[derive(Debug)]
pub(crate) struct U32Hand<'s> {
    map: &'s U32Map,
    sum: u64,
}

impl Session for U32Hand<'_> {
    #[inline]
    fn put(&mut self, key: Key, value: &[u8]) -> Result<(), AnyError> {
        self.map.upsert_sync(number(&key), number(value));
        Ok(())
    }

    #[inline]
    fn get(&mut self, key: Key) -> Result<bool, AnyError> {
        let value = self.map.read_sync(&number(&key), |_, &value| value);
        self.sum += value.map_or(0, u64::from);
        Ok(value.is_some())
    }

    #[inline]
    fn remove(&mut self, key: Key) -> Result<(), AnyError> {
        self.map.remove_sync(&number(&key));
        Ok(())
    }

    fn finish(&mut self) -> Result<u64, AnyError> {
        Ok(self.sum)
    }
}
