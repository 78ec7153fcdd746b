//! DashMap with 256 shards, hashed by foldhash as hashbrown is (its own default is SipHash, which is slower).

use dashmap::DashMap;
use foldhash::fast::RandomState;

use super::{Session, Store, look, number};
use crate::AnyError;
use crate::common::Key;

type BoxedMap = DashMap<Box<[u8]>, Box<[u8]>, RandomState>;
type U32Map = DashMap<u32, u32, RandomState>;

const SHARDS: usize = 256;

#[derive(Debug)]
pub(crate) struct Boxed(BoxedMap);
#[derive(Debug)]
pub(crate) struct U32(U32Map);

impl Boxed {
    pub(crate) fn new() -> Self {
        Self(DashMap::with_capacity_and_hasher_and_shard_amount(0, RandomState::default(), SHARDS))
    }
}

impl U32 {
    pub(crate) fn new() -> Self {
        Self(DashMap::with_capacity_and_hasher_and_shard_amount(0, RandomState::default(), SHARDS))
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
        self.map.insert(key[..].into(), value.into());
        Ok(())
    }

    #[inline]
    fn get(&mut self, key: Key) -> Result<bool, AnyError> {
        let value = self.map.get(&key[..]);
        self.sum += value.as_ref().map_or(0, |value| look(value));
        Ok(value.is_some())
    }

    #[inline]
    fn remove(&mut self, key: Key) -> Result<(), AnyError> {
        self.map.remove(&key[..]);
        Ok(())
    }

    #[inline]
    fn replace(&mut self, key: Key, value: &[u8]) -> Result<(), AnyError> {
        *self.map.get_mut(&key[..]).ok_or("a key is lost")? = value.into();
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
        self.map.insert(number(&key), number(value));
        Ok(())
    }

    #[inline]
    fn get(&mut self, key: Key) -> Result<bool, AnyError> {
        let value = self.map.get(&number(&key));
        self.sum += value.as_ref().map_or(0, |value| u64::from(**value));
        Ok(value.is_some())
    }

    #[inline]
    fn remove(&mut self, key: Key) -> Result<(), AnyError> {
        self.map.remove(&number(&key));
        Ok(())
    }

    fn finish(&mut self) -> Result<u64, AnyError> {
        Ok(self.sum)
    }
}
