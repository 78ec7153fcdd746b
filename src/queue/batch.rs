//! Many items, held by this process.

use std::{
    fmt,
    iter::FusedIterator,
    ops::{Index, IndexMut, Range},
};

use super::Item;
use crate::raw::queue::{RawBatch, SlicesMut};

/// Up to [`capacity`](Batch::capacity) items, in the order they were pulled: as indexable as a slice of slices.
///
/// From [`Queue::pull_many`](crate::Queue::pull_many), or, to be used again and again,
/// [`QueueSet::batch`](crate::QueueSet::batch). Dropped unpushed its items go home (where a stopped process keeps that queue locked, when the handle is closed), as [`Item`]s do; in a forked child
/// dropping it does nothing. It outlives neither its queue nor its set:
///
/// ```compile_fail,E0505
/// # let set = shf::QueueOptions::new().items(2).item_size(8).queues(&["free"]).anonymous("batch").unwrap();
/// let free = set.queue("free").unwrap();
/// let batch = free.pull_many(2).unwrap();
/// drop(free);
/// println!("{batch:?}");
/// ```
///
/// And its bytes do not outlive a push:
///
/// ```compile_fail,E0502
/// # let set = shf::QueueOptions::new().items(2).item_size(8).queues(&["free", "jobs"]).anonymous("batch").unwrap();
/// # let (free, jobs) = (set.queue("free").unwrap(), set.queue("jobs").unwrap());
/// # let mut batch = free.pull_many(2).unwrap();
/// let first = &batch[0];
/// jobs.push_many_from(&mut batch).unwrap();
/// println!("{first:?}");
/// ```
///
/// What is meant:
///
/// ```
/// # let set = shf::QueueOptions::new().items(9).item_size(8).queues(&["free", "jobs"]).anonymous("batch")?;
/// # let (free, jobs) = (set.queue("free")?, set.queue("jobs")?);
/// let mut batch = set.batch(4)?;
/// while free.pull_many_into(&mut batch, 4)? > 0 { // 4, 4 and 1
///     for (i, bytes) in batch.iter_mut().enumerate() {
///         bytes.fill(i as u8);
///     }
///     batch[0][0] = 99;
///     jobs.push_many_from(&mut batch)?;
/// }
/// let jobs: Vec<u8> = jobs.pull_many(100)?.iter().map(|bytes| bytes[0]).collect();
/// assert_eq!(jobs, [99, 1, 2, 3, 99, 1, 2, 3, 99]);
/// # Ok::<(), shf::Error>(())
/// ```
pub struct Batch<'q> {
    raw: RawBatch<'q>,
}

impl<'q> Batch<'q> {
    #[inline]
    pub(super) fn from_raw(raw: RawBatch<'q>) -> Batch<'q> {
        Batch { raw }
    }

    #[inline]
    pub(super) fn raw(&mut self) -> &mut RawBatch<'q> {
        &mut self.raw
    }

    /// How many items are in it.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether there are none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many it can hold.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.raw.capacity()
    }

    /// The bytes of the item at `index`; `None` beyond the last one.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.raw.get(index)
    }

    /// The same, to be written.
    #[must_use]
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        self.raw.get_mut(index)
    }

    /// The numbers of the items ([`Item::number`]), in their order.
    #[must_use]
    #[inline]
    pub fn numbers(&self) -> impl ExactSizeIterator<Item = usize> + DoubleEndedIterator {
        self.raw.numbers().iter().map(|&number| number as usize)
    }

    /// The bytes of each item, in their order.
    #[must_use]
    #[inline]
    pub fn iter(&self) -> BatchIter<'_> {
        BatchIter { raw: &self.raw, range: 0..self.len() }
    }

    /// The same, to be written.
    #[inline]
    pub fn iter_mut(&mut self) -> BatchIterMut<'_> {
        BatchIterMut { slices: self.raw.slices_mut() }
    }

    /// Takes the first item out, to be pushed or dropped on its own; `None` if there is none, or in a forked child,
    /// whose parent holds them. Costs no lock.
    ///
    /// ```
    /// # let set = shf::QueueOptions::new().items(3).item_size(8).queues(&["free", "odd", "even"]).anonymous("take")?;
    /// # let (free, odd, even) = (set.queue("free")?, set.queue("odd")?, set.queue("even")?);
    /// let mut batch = free.pull_many(3)?;
    /// while let Some(item) = batch.take() {
    ///     if item.number() % 2 == 0 { even.push(item)? } else { odd.push(item)? }
    /// }
    /// assert_eq!((even.len()?, odd.len()?), (2, 1));
    /// # Ok::<(), shf::Error>(())
    /// ```
    #[inline]
    pub fn take(&mut self) -> Option<Item<'q>> {
        self.raw.take().map(Item::from_raw)
    }
}

/// Panics beyond the last item, as a slice does.
impl Index<usize> for Batch<'_> {
    type Output = [u8];

    #[inline]
    #[track_caller]
    fn index(&self, index: usize) -> &[u8] {
        let len = self.len();
        // No closure: it would hide the caller's place.
        match self.get(index) {
            Some(bytes) => bytes,
            None => beyond(index, len),
        }
    }
}

impl IndexMut<usize> for Batch<'_> {
    #[inline]
    #[track_caller]
    fn index_mut(&mut self, index: usize) -> &mut [u8] {
        let len = self.len();
        match self.get_mut(index) {
            Some(bytes) => bytes,
            None => beyond(index, len),
        }
    }
}

#[cold]
#[track_caller]
fn beyond(index: usize, len: usize) -> ! {
    panic!("item {index} of a batch of {len}");
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

impl<'b> IntoIterator for &'b Batch<'_> {
    type Item = &'b [u8];
    type IntoIter = BatchIter<'b>;

    #[inline]
    fn into_iter(self) -> BatchIter<'b> {
        self.iter()
    }
}

impl<'b> IntoIterator for &'b mut Batch<'_> {
    type Item = &'b mut [u8];
    type IntoIter = BatchIterMut<'b>;

    #[inline]
    fn into_iter(self) -> BatchIterMut<'b> {
        self.iter_mut()
    }
}

/// The items one by one: [`Batch::take`] until it is empty.
impl<'q> IntoIterator for Batch<'q> {
    type Item = Item<'q>;
    type IntoIter = BatchItems<'q>;

    #[inline]
    fn into_iter(self) -> BatchItems<'q> {
        BatchItems { batch: self }
    }
}

/// The bytes of a batch's items: [`Batch::iter`].
#[derive(Clone)]
pub struct BatchIter<'b> {
    raw: &'b RawBatch<'b>,
    range: Range<usize>,
}

impl<'b> Iterator for BatchIter<'b> {
    type Item = &'b [u8];

    #[inline]
    fn next(&mut self) -> Option<&'b [u8]> {
        self.range.next().and_then(|index| self.raw.get(index))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.range.size_hint()
    }
}

impl DoubleEndedIterator for BatchIter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.range.next_back().and_then(|index| self.raw.get(index))
    }
}

impl ExactSizeIterator for BatchIter<'_> {}
impl FusedIterator for BatchIter<'_> {}

impl fmt::Debug for BatchIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIter").field("range", &self.range).finish_non_exhaustive()
    }
}

/// The bytes of a batch's items, to be written: [`Batch::iter_mut`].
pub struct BatchIterMut<'b> {
    slices: SlicesMut<'b>,
}

impl<'b> Iterator for BatchIterMut<'b> {
    type Item = &'b mut [u8];

    #[inline]
    fn next(&mut self) -> Option<&'b mut [u8]> {
        self.slices.next()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.slices.len(), Some(self.slices.len()))
    }
}

impl DoubleEndedIterator for BatchIterMut<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.slices.next_back()
    }
}

impl ExactSizeIterator for BatchIterMut<'_> {}
impl FusedIterator for BatchIterMut<'_> {}

impl fmt::Debug for BatchIterMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIterMut").field("len", &self.slices.len()).finish_non_exhaustive()
    }
}

/// The items of a batch, one by one: what [`Batch`] becomes in a `for` loop. What is left goes home.
#[derive(Debug)]
pub struct BatchItems<'q> {
    batch: Batch<'q>,
}

impl<'q> Iterator for BatchItems<'q> {
    type Item = Item<'q>;

    #[inline]
    fn next(&mut self) -> Option<Item<'q>> {
        self.batch.take()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.batch.len()))
    }
}

impl FusedIterator for BatchItems<'_> {}
