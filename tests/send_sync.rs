//! What may cross threads, and how small the names are. Most of it fails to compile rather than to run.

use std::{
    os::fd::AsFd,
    panic::{RefUnwindSafe, UnwindSafe},
};

use shf::{
    AnyUid, CheckedUid, Cursor, Entry, Error, Exchange, HashKind, Inserted, Iter, Position, Report, Stats,
    Table, TableOptions, Uid, Values, ValuesIter,
};

fn sent<T: Send + Sync + 'static>() {}
fn plain<T: Copy + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync + 'static>() {}

#[test]
fn handles_errors_and_iterators_may_cross_threads() {
    sent::<Table>();
    sent::<TableOptions>();
    sent::<Error>();
    sent::<Cursor>();
    sent::<Iter>();
    sent::<Entry>();
    sent::<Exchange>();
    sent::<Stats>();
    sent::<Report>();
    sent::<Values>();
    sent::<ValuesIter<'static>>();
}

#[test]
fn handles_are_cloned_printed_and_passed_on() {
    fn handle<T: Clone + std::fmt::Debug + AsFd>() {}
    fn builder<T: Clone + std::fmt::Debug + Default + Eq>() {}
    handle::<Table>();
    builder::<TableOptions>();
}

#[test]
fn values_are_cloned_compared_and_walked_from_both_ends() {
    fn values<T: Clone + std::fmt::Debug + Default + Eq>() {}
    fn walk<T: Clone + std::fmt::Debug + ExactSizeIterator + DoubleEndedIterator>() {}
    values::<Values>();
    walk::<ValuesIter<'static>>();
}

#[test]
fn a_panic_beside_a_table_may_be_caught() {
    fn caught<T: UnwindSafe + RefUnwindSafe>() {}
    caught::<Table>();
}

#[test]
fn an_error_fits_the_error_traits_and_a_register_pair() {
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    error::<Error>();
    assert!(size_of::<Error>() <= 16);
}

#[test]
fn names_of_keys_stay_small() {
    fn ordered<T: Ord + std::fmt::Display>() {}
    plain::<Uid>();
    plain::<CheckedUid>();
    plain::<AnyUid>();
    plain::<Position>();
    plain::<Inserted>();
    plain::<HashKind>();
    ordered::<Uid>();
    ordered::<CheckedUid>();
    assert_eq!(size_of::<Uid>(), 4);
    assert_eq!(size_of::<Option<Uid>>(), 4);
    assert_eq!(size_of::<Option<CheckedUid>>(), 8);
}
