//! Twins of the C engine's protocols, small enough for [loom](https://docs.rs/loom) to try every schedule and every value
//! that the C11 memory model lets a load see.
//!
//! Each twin has the operations, orders and labels of the C source that it names. Each label is taken away in turn (an order
//! becomes relaxed, a fence or a second look is left out): loom must find a failure then, or the twin says why it does not.
//! `labels` compares the labels with those in `csrc/src`, both ways.
//!
//! What loom cannot say: it runs loads in program order and never lets one see a store of the future; it treats SeqCst
//! accesses as AcqRel (nothing here needs more: the only SeqCst are fences). A compiler fence is nothing to it: what that
//! keeps in order is tried by the twin `step` with the stores swapped. The kernel's part (byte locks, futex, the end of a
//! process) is played by a relaxed word or by a mutex; each twin says which.
//!
//! Loom remembers only the last access to a word when it looks for schedules to try: a load by the thread that stores next
//! hides the load of the other thread. So writers here know what they have stored, and do not load it.
//!
//! `LOOM_MAX_PREEMPTIONS` bounds the switches of thread that are not forced; without it 3.

#[cfg(test)]
mod cells;
#[cfg(test)]
mod labels;
#[cfg(test)]
mod lock;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod reader;
#[cfg(test)]
mod step;

/// How a twin is run, and what is taken from it.
#[cfg(test)]
mod twin {
    use std::{
        any::Any,
        cell::Cell,
        collections::BTreeSet,
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{Mutex, Once},
    };

    use loom::sync::atomic::{Ordering, fence};

    /// The labels that are taken away.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Weak(pub(crate) &'static [&'static str]);

    impl Weak {
        pub(crate) fn has(self, label: &str) -> bool {
            self.0.contains(&label)
        }

        /// The order of the operation at a label.
        pub(crate) fn order(self, label: &str, order: Ordering) -> Ordering {
            if self.has(label) { Ordering::Relaxed } else { order }
        }

        /// The fence at a label.
        pub(crate) fn fence(self, label: &str, order: Ordering) {
            if !self.has(label) {
                fence(order);
            }
        }
    }

    thread_local! {
        static VIOLATED: Cell<bool> = const { Cell::new(false) };
        static EXPECTED: Cell<bool> = const { Cell::new(false) };
    }

    /// What the protocol promises. (Loom's own complaints are told apart from it.)
    #[track_caller]
    pub(crate) fn promise(kept: bool, what: &str) {
        if !kept {
            VIOLATED.set(true);
            panic!("broken promise: {what}");
        }
    }

    #[derive(Debug, PartialEq)]
    enum Outcome {
        Kept,
        Broken,
        /// Everybody waits: a lost wake.
        Deadlock,
        Other(String),
    }

    fn text(payload: &(dyn Any + Send)) -> String {
        let text = payload.downcast_ref::<String>().cloned();
        text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    }

    fn explore(twin: impl Fn(Weak) + Sync + Send + Copy + 'static, weak: &'static [&'static str]) -> Outcome {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(3));
        builder.max_branches = 20_000;
        VIOLATED.set(false);
        EXPECTED.set(!weak.is_empty());
        let outcome = catch_unwind(AssertUnwindSafe(|| builder.check(move || twin(Weak(weak)))));
        EXPECTED.set(false);
        match outcome {
            Ok(()) => Outcome::Kept,
            Err(_) if VIOLATED.get() => Outcome::Broken,
            Err(payload) => match text(&*payload) {
                text if text.contains("deadlock") => Outcome::Deadlock,
                text => Outcome::Other(text),
            },
        }
    }

    /// Names of those tried, and what was taken from them.
    static TRIED: Mutex<(BTreeSet<&str>, usize, usize)> = Mutex::new((BTreeSet::new(), 0, 0));

    /// All twins: the total is printed when the last one has been tried.
    const NAMES: [&str; 29] = [
        "split",
        "double",
        "replace",
        "reuse",
        "narrow, uncommitted",
        "narrow, removed",
        "narrow, taken over",
        "wide, uncommitted",
        "wide, removed",
        "wide, redo",
        "wide, redo, a death",
        "handover",
        "wakes of two",
        "wakes of three",
        "take-over",
        "verdict",
        "growth",
        "beyond",
        "step",
        "repair",
        "queue, items",
        "queue, length",
        "queue, added",
        "queue, a sleeper",
        "queue, two sleepers",
        "queue, deaths",
        "queue, late",
        "queue, armed at the end",
        "queue, quiet",
    ];

    /// The twin keeps its promise; without any one set of `needed` it does not; without any one set of `spare` it still
    /// does, for the reason that stands beside the set.
    pub(crate) fn prove(
        name: &'static str,
        twin: impl Fn(Weak) + Sync + Send + Copy + 'static,
        needed: &[&'static [&'static str]],
        spare: &[(&'static [&'static str], &str)],
    ) {
        mute();
        assert!(NAMES.contains(&name), "{name} is not in NAMES");
        assert_eq!(explore(twin, &[]), Outcome::Kept, "{name}, as it is");
        for &labels in needed {
            let outcome = explore(twin, labels);
            let found = matches!(outcome, Outcome::Broken | Outcome::Deadlock);
            assert!(found, "{name} without {labels:?}: {outcome:?}");
        }
        for &(labels, reason) in spare {
            assert_eq!(explore(twin, labels), Outcome::Kept, "{name} without {labels:?}; yet: {reason}");
        }
        let mut tried = TRIED.lock().unwrap();
        let first = tried.0.insert(name);
        tried.1 += needed.len();
        tried.2 += spare.len();
        if first && tried.0.len() == NAMES.len() {
            let (needed, spare) = (tried.1, tried.2);
            println!(
                "# total: {} twins; {needed} orders, fences and second looks taken away, each one missed at once; {spare} \
                 that others stand in for",
                NAMES.len()
            );
        }
    }

    /// A promise that is broken on purpose says nothing.
    fn mute() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let tell = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if !EXPECTED.get() {
                    tell(info);
                }
            }));
        });
    }
}
