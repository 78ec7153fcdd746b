//! papaya, hashed by foldhash. A worker stays pinned for a thousand operations at a time: pinning for each costs
//! time, and for ever keeps the memory of replaced entries.

use foldhash::fast::RandomState;
use papaya::{HashMap, HashMapRef, LocalGuard};

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
        Ok(BoxedHand { pin: Pin::new(&self.0), sum: 0 })
    }
}

impl Store for U32 {
    type Session<'s> = U32Hand<'s>;

    fn session(&self) -> Result<U32Hand<'_>, AnyError> {
        Ok(U32Hand { pin: Pin::new(&self.0), sum: 0 })
    }
}

type Pinned<'s, K, V> = HashMapRef<'s, K, V, RandomState, LocalGuard<'s>>;

pub(crate) struct Pin<'s, K, V> {
    map: &'s HashMap<K, V, RandomState>,
    pinned: Pinned<'s, K, V>,
    left: u32,
}

impl<'s, K: std::hash::Hash + Eq, V> Pin<'s, K, V> {
    fn new(map: &'s HashMap<K, V, RandomState>) -> Self {
        Self { map, pinned: map.pin(), left: 1000 }
    }

    #[inline]
    fn map(&mut self) -> &Pinned<'s, K, V> {
        self.left -= 1;
        if self.left == 0 {
            *self = Self::new(self.map);
        }
        &self.pinned
    }
}

pub(crate) struct BoxedHand<'s> {
    pin: Pin<'s, Box<[u8]>, Box<[u8]>>,
    sum: u64,
}

impl Session for BoxedHand<'_> {
    #[inline]
    fn put(&mut self, key: Key, value: &[u8]) -> Result<(), AnyError> {
        self.pin.map().insert(key[..].into(), value.into());
        Ok(())
    }

    #[inline]
    fn get(&mut self, key: Key) -> Result<bool, AnyError> {
        let value = self.pin.map().get(&key[..]).map(|value| look(value));
        self.sum += value.unwrap_or(0);
        Ok(value.is_some())
    }

    #[inline]
    fn remove(&mut self, key: Key) -> Result<(), AnyError> {
        self.pin.map().remove(&key[..]);
        Ok(())
    }

    fn finish(&mut self) -> Result<u64, AnyError> {
        Ok(self.sum)
    }
}

pub(crate) struct U32Hand<'s> {
    pin: Pin<'s, u32, u32>,
    sum: u64,
}

impl Session for U32Hand<'_> {
    #[inline]
    fn put(&mut self, key: Key, value: &[u8]) -> Result<(), AnyError> {
        self.pin.map().insert(number(&key), number(value));
        Ok(())
    }

    #[inline]
    fn get(&mut self, key: Key) -> Result<bool, AnyError> {
        let value = self.pin.map().get(&number(&key)).copied();
        self.sum += value.map_or(0, u64::from);
        Ok(value.is_some())
    }

    #[inline]
    fn remove(&mut self, key: Key) -> Result<(), AnyError> {
        self.pin.map().remove(&number(&key));
        Ok(())
    }

    fn finish(&mut self) -> Result<u64, AnyError> {
        Ok(self.sum)
    }
}
