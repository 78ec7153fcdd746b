//! hashbrown's map with its own default hasher (foldhash): the map of the standard library. For one thread; the
//! mutex is taken once a run of work.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Session, Store, look, number};
use crate::AnyError;
use crate::common::Key;

type BoxedMap = hashbrown::HashMap<Box<[u8]>, Box<[u8]>>;
type U32Map = hashbrown::HashMap<u32, u32>;

#[derive(Debug, Default)]
pub(crate) struct Boxed(Mutex<BoxedMap>);
#[derive(Debug, Default)]
pub(crate) struct U32(Mutex<U32Map>);

impl Store for Boxed {
    type Session<'s> = BoxedHand<'s>;

    fn session(&self) -> Result<BoxedHand<'_>, AnyError> {
        Ok(BoxedHand { map: self.0.lock().unwrap_or_else(PoisonError::into_inner), sum: 0 })
    }
}

impl Store for U32 {
    type Session<'s> = U32Hand<'s>;

    fn session(&self) -> Result<U32Hand<'_>, AnyError> {
        Ok(U32Hand { map: self.0.lock().unwrap_or_else(PoisonError::into_inner), sum: 0 })
    }
}

#[derive(Debug)]
pub(crate) struct BoxedHand<'s> {
    map: MutexGuard<'s, BoxedMap>,
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
        self.sum += value.map_or(0, |value| look(value));
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
    map: MutexGuard<'s, U32Map>,
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
        self.sum += value.map_or(0, |&value| u64::from(value));
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
