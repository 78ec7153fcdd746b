//! The twins' labels are the engine's: each one that a twin names stands in the C source, and each that stands in the sources
//! that have twins belongs to a twin, or is named here with the reason.

use std::{collections::BTreeSet, fs, path::Path};

/// File, label, why no twin.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("lock.c", "W2", "relaxed: only S is cleared; a deadline, tried by csrc/tests/validate_lock.c"),
    ("pages.c", "M1", "allocator lock; what a death leaves: csrc/tests/crash_pages.c"),
    ("pages.c", "M2", "as M1"),
    ("pages.c", "M3", "as M1"),
    ("pages.c", "T3", "as M1"),
    ("pages.c", "T5", "as M1"),
    ("pages.c", "H3", "an invariant"),
    ("queue.c", "E1", "of region.c: the twin `growth`"),
    ("registry.c", "F1", "of one process: fork, csrc/tests/validate_registry.c"),
    ("registry.c", "F2", "as F1"),
    ("registry.c", "F3", "as F1"),
    ("registry.c", "H1", "under byte R, a system call"),
    ("registry.c", "H2", "as H1"),
    ("registry.c", "R1", "as H1"),
];

/// The words of a comment that are labels: `/* C1, B2 */`, `/* E2; more */`.
fn labels_of(comment: &str) -> Vec<String> {
    let mut labels = Vec::new();
    for word in comment.split_whitespace() {
        let bare = word.trim_end_matches([',', ';', ':', '.']);
        let mut letters = bare.chars();
        let is_label = letters.next().is_some_and(|first| first.is_ascii_uppercase())
            && (2..=3).contains(&bare.len())
            && letters.all(|digit| digit.is_ascii_digit());
        if !is_label {
            break;
        }
        labels.push(bare.to_string());
        if !word.ends_with(',') {
            break;
        }
    }
    labels
}

/// The labels that stand beside code.
fn in_source(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../csrc/src").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let beside_code = |line: &str| -> Option<String> {
        let (code, comment) = line.split_once("/* ")?;
        (!code.trim().is_empty()).then(|| comment.split("*/").next().unwrap_or_default().to_string())
    };
    text.lines().filter_map(beside_code).flat_map(|comment| labels_of(&comment)).collect()
}

#[test]
fn the_twins_labels_are_the_engines() {
    let twins = [
        crate::cells::LABELS,
        crate::lock::LABELS,
        crate::pages::LABELS,
        crate::queue::LABELS,
        crate::reader::LABELS,
        crate::step::LABELS,
    ]
    .concat();
    let files: BTreeSet<&str> = twins.iter().map(|(file, _)| *file).collect();
    let named: BTreeSet<(&str, &str)> =
        twins.iter().copied().chain(ELSEWHERE.iter().map(|&(file, label, _)| (file, label))).collect();
    // Where a file is in a list for one label of a few only.
    let partly = ["table_ops.c", "pages_grow.c", "pages_impl.h"];
    let mut wrong = Vec::new();
    for file in &files {
        let present = in_source(file);
        for (_, label) in named.iter().filter(|(of, _)| of == file) {
            if !present.contains(*label) {
                wrong.push(format!("{file} has no {label} any more"));
            }
        }
        for label in &present {
            if !named.contains(&(*file, label.as_str())) && !partly.contains(file) {
                wrong.push(format!("{file}: {label} has no twin"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!(
        "# total: {} labels in {} files have a twin, {} a reason",
        twins.len(),
        files.len(),
        ELSEWHERE.len()
    );
}
