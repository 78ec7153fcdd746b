//! The values of a batch: one buffer for all of them.

use std::{fmt, iter::FusedIterator, slice};

/// In [`Values::ends`]: the key is absent; the other bits say where the value before it ends.
const ABSENT: usize = 1 << (usize::BITS - 1);

/// What [`Table::get_many`](crate::Table::get_many) found: for each key its value, or that it is absent, in the order
/// of the keys. All values lie in one buffer, one behind the other: with
/// [`Table::get_many_into`](crate::Table::get_many_into) it is used again, and nothing is allocated once it has grown.
///
/// It has [`get`](Values::get) in place of an index: `values[i]` would have to be a place in memory of the type
/// `Option<[u8]>`, and there is no such type.
///
/// ```
/// # let table = shf::TableOptions::new().anonymous("values")?;
/// table.put("a", "1")?;
/// table.put("c", "")?;
/// let values = table.get_many(&["a", "b", "c"])?;
/// assert_eq!(values.len(), 3);
/// assert_eq!(values.get(0), Some(&b"1"[..]));
/// assert_eq!(values.get(1), None); // absent
/// assert_eq!(values.get(2), Some(&b""[..])); // there, and empty
/// assert_eq!(values.iter().flatten().count(), 2);
/// for (key, value) in ["a", "b", "c"].iter().zip(&values) {
///     println!("{key}: {value:?}");
/// }
/// # Ok::<(), shf::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Values {
    bytes: Vec<u8>,
    /// Where each value ends in `bytes`; it begins where the one before it ends.
    ends: Vec<usize>,
}

impl Values {
    /// No values. Allocates nothing.
    #[must_use]
    pub const fn new() -> Values {
        Values { bytes: Vec::new(), ends: Vec::new() }
    }

    /// The value of the key with this index; `None`: the key is absent, or there is no such index. (That the index is
    /// right is for the caller to know: it is the one of the keys, and [`len`](Values::len) is their number.)
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        if end & ABSENT != 0 {
            return None;
        }
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] & !ABSENT);
        Some(&self.bytes[start..end])
    }

    /// How many keys were asked for, the absent ones included.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no key was asked for. If keys were, and all of them are absent, it is false.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// For each key its value, or `None`.
    #[inline]
    pub fn iter(&self) -> ValuesIter<'_> {
        ValuesIter { bytes: &self.bytes, ends: self.ends.iter(), start: 0 }
    }

    /// Forgets the values; the buffers stay.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// For `raw`, which appends values to the first, and to the second their lengths, out of which
    /// [`ends_of_lengths`] makes what belongs there.
    #[inline]
    pub(crate) fn buffers(&mut self) -> (&mut Vec<u8>, &mut Vec<usize>) {
        (&mut self.bytes, &mut self.ends)
    }
}

/// Turns the lengths from index `from` on, `usize::MAX` for an absent key, into ends. Gives the last one: so many bytes
/// are in use.
#[inline]
pub(crate) fn ends_of_lengths(ends: &mut [usize], from: usize) -> usize {
    let mut end = from.checked_sub(1).map_or(0, |last| ends[last] & !ABSENT);
    for place in &mut ends[from..] {
        let absent = *place == usize::MAX;
        end += if absent { 0 } else { *place };
        *place = end | if absent { ABSENT } else { 0 };
    }
    end
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Values {
    type Item = Option<&'a [u8]>;
    type IntoIter = ValuesIter<'a>;

    #[inline]
    fn into_iter(self) -> ValuesIter<'a> {
        self.iter()
    }
}

/// The values of a batch in the order of its keys: [`Values::iter`].
#[derive(Clone)]
#[must_use = "iterators are lazy"]
pub struct ValuesIter<'a> {
    bytes: &'a [u8],
    ends: slice::Iter<'a, usize>,
    /// Where the first value of `ends` begins.
    start: usize,
}

impl<'a> ValuesIter<'a> {
    #[inline]
    fn value(&self, start: usize, end: usize) -> Option<&'a [u8]> {
        (end & ABSENT == 0).then(|| &self.bytes[start..end])
    }
}

impl<'a> Iterator for ValuesIter<'a> {
    type Item = Option<&'a [u8]>;

    #[inline]
    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        let end = *self.ends.next()?;
        let value = self.value(self.start, end);
        self.start = end & !ABSENT;
        Some(value)
    }

    #[inline]
    fn nth(&mut self, n: usize) -> Option<Option<&'a [u8]>> {
        if let Some(last) = n.checked_sub(1) {
            self.start = *self.ends.nth(last)? & !ABSENT;
        }
        self.next()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ends.size_hint()
    }
}

impl<'a> DoubleEndedIterator for ValuesIter<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<Option<&'a [u8]>> {
        let end = *self.ends.next_back()?;
        let start = self.ends.as_slice().last().map_or(self.start, |before| before & !ABSENT);
        Some(self.value(start, end))
    }
}

impl ExactSizeIterator for ValuesIter<'_> {}

impl FusedIterator for ValuesIter<'_> {}

impl fmt::Debug for ValuesIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the engine fills it: in several parts.
    fn filled(parts: &[&[Option<&[u8]>]]) -> Values {
        let mut values = Values::new();
        for part in parts {
            let (bytes, ends) = values.buffers();
            let from = ends.len();
            for value in *part {
                bytes.extend_from_slice(value.unwrap_or_default());
                ends.push(value.map_or(usize::MAX, <[u8]>::len));
            }
            assert_eq!(ends_of_lengths(ends, from), bytes.len());
        }
        values
    }

    #[test]
    fn absent_empty_and_long_values_keep_their_places() {
        let parts: &[&[Option<&[u8]>]] =
            &[&[None, None], &[Some(b"ab"), None, Some(b"")], &[], &[None, Some(b"c"), Some(b"")], &[None]];
        let values = filled(parts);
        let expected = parts.concat();
        assert_eq!(values.len(), expected.len());
        assert!(!values.is_empty());
        assert_eq!(values.iter().collect::<Vec<_>>(), expected);
        let mut backwards: Vec<_> = values.iter().rev().collect();
        backwards.reverse();
        assert_eq!(backwards, expected);
        for first in 0..=expected.len() {
            // From both ends, meeting anywhere.
            let mut both = values.iter();
            let mut met: Vec<_> = both.by_ref().take(first).collect();
            let from = met.len();
            met.extend(both.rev());
            met[from..].reverse();
            assert_eq!(met, expected);
        }
        for (index, value) in expected.iter().enumerate() {
            assert_eq!(values.get(index), *value);
            assert_eq!(values.iter().nth(index), Some(*value));
            assert_eq!(values.iter().skip(index).len(), expected.len() - index);
        }
        assert!(values.iter().nth(expected.len()).is_none());
        assert_eq!(values.get(expected.len()), None);
        assert_eq!(values.get(usize::MAX), None);
        assert_eq!(format!("{:?}", filled(&[&[Some(b"a"), None]])), "[Some([97]), None]");
        assert_eq!(format!("{:?}", filled(&[&[Some(b"a"), None]]).iter()), "[Some([97]), None]");
    }

    #[test]
    fn cleared_values_are_as_new() {
        let mut values = filled(&[&[Some(b"abc"), None]]);
        assert_ne!(values, Values::new());
        values.clear();
        assert_eq!(values, Values::new());
        assert!(values.is_empty() && values.iter().next().is_none());
    }
}
