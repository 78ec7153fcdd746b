//! Names of keys: 32 bits, or 64 bits with a check.

use std::{
    fmt,
    num::{NonZeroU32, NonZeroU64},
};

/// The number of a key: 32 bits, never 0, the same for every process and for as long as the key lives.
///
/// A look-up by UID skips hashing and comparing, and 4 bytes are all there is to store or send
/// (`Option<Uid>` takes 4 bytes too). After a removal the number **may be given to another key**: whoever keeps
/// UIDs beyond the life of a key keeps a [`CheckedUid`] instead.
///
/// ```
/// use shf::Uid;
/// let uid = Uid::from_u32(7).unwrap();
/// assert_eq!(uid.to_u32(), 7);
/// assert_eq!(Uid::from_u32(0), None);
/// assert_eq!(std::mem::size_of::<Option<Uid>>(), 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(NonZeroU32);

impl Uid {
    /// The UID with this number; `None` for 0. Any other number is legal, and at worst not found.
    #[must_use]
    #[inline]
    pub const fn from_u32(number: u32) -> Option<Uid> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Uid(number)),
            None => None,
        }
    }

    /// The number, to be stored or sent.
    #[must_use]
    #[inline]
    pub const fn to_u32(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A [`Uid`] with a 32-bit check of its key: 64 bits that name a key even after it was removed.
///
/// If the slot was given to another key the calls find nothing (but for one key in 2^32). A key that was
/// removed and put again may be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckedUid(NonZeroU64);

impl CheckedUid {
    /// The checked UID with this number; `None` if its upper half, the UID, is 0.
    #[must_use]
    #[inline]
    pub const fn from_u64(number: u64) -> Option<CheckedUid> {
        match NonZeroU64::new(number) {
            Some(value) if number >> 32 != 0 => Some(CheckedUid(value)),
            _ => None,
        }
    }

    /// The number, `UID << 32 | check`, to be stored or sent.
    #[must_use]
    #[inline]
    pub const fn to_u64(self) -> u64 {
        self.0.get()
    }

    /// The UID alone, without the check.
    #[must_use]
    pub fn uid(self) -> Uid {
        let upper = u32::try_from(self.0.get() >> 32).unwrap_or(u32::MAX);
        Uid(NonZeroU32::new(upper).unwrap_or(NonZeroU32::MIN))
    }
}

impl fmt::Display for CheckedUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the calls by UID take: a [`Uid`] or a [`CheckedUid`], by `Into`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnyUid {
    /// The plain form: after a removal it may name another key.
    Plain(Uid),
    /// The checked form: it never names another key (but for one in 2^32).
    Checked(CheckedUid),
}

impl From<Uid> for AnyUid {
    #[inline]
    fn from(uid: Uid) -> AnyUid {
        AnyUid::Plain(uid)
    }
}

impl From<CheckedUid> for AnyUid {
    #[inline]
    fn from(uid: CheckedUid) -> AnyUid {
        AnyUid::Checked(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checked_uid_without_a_uid_is_refused() {
        assert_eq!(CheckedUid::from_u64(0), None);
        assert_eq!(CheckedUid::from_u64(0xffff_ffff), None);
        let uid = CheckedUid::from_u64(7 << 32 | 9).unwrap();
        assert_eq!(uid.uid().to_u32(), 7);
        assert_eq!(uid.to_u64(), 7 << 32 | 9);
        assert_eq!(size_of::<Option<CheckedUid>>(), 8);
    }

    #[test]
    fn uids_print_as_numbers() {
        assert_eq!(Uid::from_u32(12).unwrap().to_string(), "12");
        assert_eq!(format!("{:>4}", Uid::from_u32(12).unwrap()), "  12");
        assert_eq!(CheckedUid::from_u64(1 << 32).unwrap().to_string(), "4294967296");
    }
}
