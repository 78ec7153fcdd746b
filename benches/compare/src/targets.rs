//! What shf wants to reach, as ratios of figures of one run.

use std::fmt;

use crate::args::{Config, System, Workload};
use crate::host::Unit;
use crate::report::{Report, figure};

pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) measured: Option<f64>,
    pub(crate) floor: f64,
    pub(crate) aim: f64,
    pub(crate) unit: &'static str,
    /// The less the better.
    pub(crate) at_most: bool,
}

const fn unit(system: System, config: Config) -> Unit {
    Unit { system, config }
}

const VAR: Unit = unit(System::Shf, Config::Var);
const FIXED: Unit = unit(System::Shf, Config::Fixed);
const HASHBROWN: Unit = unit(System::Hashbrown, Config::Boxed);
const HASHBROWN_U32: Unit = unit(System::Hashbrown, Config::U32);
const LMDB: Unit = unit(System::Lmdb, Config::Var);

/// The maps that threads share.
const MAPS: [System; 3] = [System::Dashmap, System::Papaya, System::Scc];

pub(crate) fn targets(r: &Report) -> Vec<Target> {
    use Workload::{Absent, Batch, Get, Put, PutBatch, Replace, Uid, UidBatch};
    let ratio = |(a, aw, an): (Unit, Workload, usize), (b, bw, bn): (Unit, Workload, usize)| {
        Some(r.rate(a, aw, an)? / r.rate(b, bw, bn)?)
    };
    let best = |config: Config, workload: Workload| {
        MAPS.into_iter().filter_map(|map| r.rate(unit(map, config), workload, 2)).reduce(f64::max)
    };
    let to_best =
        |a: Unit, workload: Workload, config: Config| Some(r.rate(a, workload, 2)? / best(config, workload)?);
    let tail = |unit: Unit, index: usize| r.tail_of(unit).map(|tail| tail[index]);
    let file = |unit: Unit| r.bytes_per_key(unit).map(|bytes| bytes.0);
    let share = r.rate(FIXED, Batch, 1).and_then(|rate| Some(rate * 100.0 / r.limit(1)?));
    let dashmap_u32 = unit(System::Dashmap, Config::U32);
    let scc_u32 = unit(System::Scc, Config::U32);

    let at_least =
        |name, measured, floor, aim| Target { name, measured, floor, aim, unit: "x", at_most: false };
    let at_most =
        |name, measured, floor, aim, unit| Target { name, measured, floor, aim, unit, at_most: true };
    vec![
        at_least("get, variable / hashbrown boxed", ratio((VAR, Get, 1), (HASHBROWN, Get, 1)), 0.65, 1.0),
        at_least("get, variable / best boxed map, 2 workers", to_best(VAR, Get, Config::Boxed), 0.9, 1.3),
        at_least("put, variable / hashbrown boxed", ratio((VAR, Put, 1), (HASHBROWN, Put, 1)), 1.6, 2.2),
        at_least("put, variable / best boxed map, 2 workers", to_best(VAR, Put, Config::Boxed), 1.2, 1.8),
        at_least("get, fixed / hashbrown u32", ratio((FIXED, Get, 1), (HASHBROWN_U32, Get, 1)), 0.33, 0.6),
        at_least("get, fixed / best u32 map, 2 workers", to_best(FIXED, Get, Config::U32), 0.9, 1.3),
        at_least("put, fixed / DashMap u32", ratio((FIXED, Put, 1), (dashmap_u32, Put, 1)), 0.4, 0.8),
        at_least("put, fixed / scc u32, 2 workers", ratio((FIXED, Put, 2), (scc_u32, Put, 2)), 0.5, 0.8),
        at_least(
            "batched get, variable / hashbrown boxed in a loop",
            ratio((VAR, Batch, 1), (HASHBROWN, Batch, 1)),
            1.6,
            2.5,
        ),
        at_least(
            "batched get, fixed / hashbrown u32 in a loop",
            ratio((FIXED, Batch, 1), (HASHBROWN_U32, Batch, 1)),
            0.75,
            1.2,
        ),
        at_least("batched put / own put, variable", ratio((VAR, PutBatch, 1), (VAR, Put, 1)), 1.7, 2.5),
        at_least("batched put / own put, fixed", ratio((FIXED, PutBatch, 1), (FIXED, Put, 1)), 1.7, 2.5),
        Target {
            name: "batched get, fixed / independent random line reads",
            measured: share,
            floor: 45.0,
            aim: 65.0,
            unit: "%",
            at_most: false,
        },
        at_least(
            "absent, variable / hashbrown boxed",
            ratio((VAR, Absent, 1), (HASHBROWN, Absent, 1)),
            0.5,
            0.8,
        ),
        at_least("replace / own put, variable", ratio((VAR, Replace, 1), (VAR, Put, 1)), 0.5, 0.8),
        at_least("replace / own put, fixed", ratio((FIXED, Replace, 1), (FIXED, Put, 1)), 0.9, 1.2),
        at_least("get by UID / own get, variable", ratio((VAR, Uid, 1), (VAR, Get, 1)), 1.15, 1.6),
        at_least("get by UID / own get, fixed", ratio((FIXED, Uid, 1), (FIXED, Get, 1)), 1.1, 1.5),
        at_least(
            "batched UID / own batched get, variable",
            ratio((VAR, UidBatch, 1), (VAR, Batch, 1)),
            1.1,
            1.3,
        ),
        at_least(
            "batched UID / own batched get, fixed",
            ratio((FIXED, UidBatch, 1), (FIXED, Batch, 1)),
            1.1,
            1.3,
        ),
        at_least("get, variable / LMDB", ratio((VAR, Get, 1), (LMDB, Get, 1)), 10.0, 18.0),
        at_least("put, variable / LMDB", ratio((VAR, Put, 1), (LMDB, Put, 1)), 12.0, 20.0),
        at_least("batched get, variable / LMDB", ratio((VAR, Batch, 1), (LMDB, Batch, 1)), 25.0, 40.0),
        at_least("2 processes / 1, get, variable", ratio((VAR, Get, 2), (VAR, Get, 1)), 1.85, 1.95),
        at_least("2 processes / 1, get, fixed", ratio((FIXED, Get, 2), (FIXED, Get, 1)), 1.85, 1.95),
        at_least("2 processes / 1, put, variable", ratio((VAR, Put, 2), (VAR, Put, 1)), 1.5, 1.85),
        at_least("2 processes / 1, put, fixed", ratio((FIXED, Put, 2), (FIXED, Put, 1)), 1.5, 1.85),
        at_most("insert tail, p99.99, variable", tail(VAR, 3), 20.0, 7.0, "us"),
        at_most("insert tail, p99.99, fixed", tail(FIXED, 3), 20.0, 7.0, "us"),
        at_most("insert tail, the longest, variable", tail(VAR, 4), 2000.0, 500.0, "us"),
        at_most("insert tail, the longest, fixed", tail(FIXED, 4), 2000.0, 500.0, "us"),
        at_most("file bytes a key, variable", file(VAR), 34.0, 28.0, "B"),
        at_most("file bytes a key, fixed", file(FIXED), 17.0, 14.0, "B"),
    ]
}

impl Target {
    fn verdict(&self) -> &'static str {
        let reached =
            |measured: f64, wanted: f64| if self.at_most { measured <= wanted } else { measured >= wanted };
        match self.measured {
            None => "not measured",
            Some(measured) if reached(measured, self.aim) => "aim reached",
            Some(measured) if reached(measured, self.floor) => "reached",
            Some(_) => "MISSED",
        }
    }
}

/// The table of targets, if anything of them was measured.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, title: &str, targets: Vec<Target>) -> fmt::Result {
    let (targets, others): (Vec<Target>, Vec<Target>) =
        targets.into_iter().partition(|target| target.measured.is_some());
    if targets.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title:<54}{:>11}{:>9}{:>9}  verdict", "measured", "floor", "aim")?;
    for target in targets {
        let with_unit = |value: f64| {
            format!("{}{}{}", figure(value), if target.unit == "x" { "" } else { " " }, target.unit)
        };
        let plain = |value: f64| format!("{value}");
        let measured = target.measured.map_or_else(|| "-".into(), with_unit);
        let (floor, aim) = (plain(target.floor), plain(target.aim));
        writeln!(f, "{:<54}{measured:>11}{floor:>9}{aim:>9}  {}", target.name, target.verdict())?;
    }
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|target| target.name).collect();
        writeln!(f, "not measured in this run: {}", names.join("; "))?;
    }
    Ok(())
}
