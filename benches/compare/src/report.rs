//! What was measured, as a table for people and as JSON lines.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use crate::args::{self, Config, Dist, System, Workload};
use crate::host::Unit;
use crate::targets;

/// What a table holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) keys: u32,
    pub(crate) value_bytes: u32,
    pub(crate) dist: Dist,
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) subject: Subject,
    pub(crate) tail_keys: u32,
    /// M operations a second, one for each pass.
    rates: BTreeMap<(Unit, Workload, usize), Vec<f64>>,
    /// Bytes a key when full, and at most while growing; one for each pass.
    bytes: BTreeMap<Unit, Vec<(f64, f64)>>,
    tails: BTreeMap<Unit, Vec<Tail>>,
}

/// Of one run of puts.
#[derive(Debug, Clone, Copy)]
struct Tail {
    mops: f64,
    /// p50, p99, p99.9, p99.99, the longest, in microseconds.
    quantiles: [f64; 5],
}

pub(crate) const TAIL_NAMES: [&str; 5] = ["p50", "p99", "p99.9", "p99.99", "longest"];

/// The columns of the table.
pub(crate) const COLUMNS: [Workload; 9] = [
    Workload::Put,
    Workload::PutBatch,
    Workload::Get,
    Workload::Absent,
    Workload::Batch,
    Workload::Uid,
    Workload::UidBatch,
    Workload::Replace,
    Workload::Mix,
];

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(sorted[n / 2]),
        _ => Some(f64::midpoint(sorted[n / 2 - 1], sorted[n / 2])),
    }
}

impl Report {
    pub(crate) fn new(subject: Subject, tail_keys: u32) -> Self {
        Self { subject, tail_keys, rates: BTreeMap::new(), bytes: BTreeMap::new(), tails: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, unit: Unit, workload: Workload, workers: usize, operations: usize, ns: u64) {
        let rate = operations as f64 * 1e3 / ns.max(1) as f64;
        self.rates.entry((unit, workload, workers)).or_default().push(rate);
    }

    pub(crate) fn bytes(&mut self, unit: Unit, full: u64, most: u64) {
        let keys = f64::from(self.subject.keys);
        self.bytes.entry(unit).or_default().push((full as f64 / keys, most as f64 / keys));
    }

    /// The answer of a tail job: the time of all, then the quantiles, in nanoseconds.
    pub(crate) fn tail(&mut self, unit: Unit, answer: &[u64]) {
        let mut quantiles = [0.0; 5];
        for (quantile, &ns) in quantiles.iter_mut().zip(&answer[1..]) {
            *quantile = ns as f64 / 1e3;
        }
        let mops = f64::from(self.tail_keys) * 1e3 / answer[0].max(1) as f64;
        self.tails.entry(unit).or_default().push(Tail { mops, quantiles });
    }

    /// The median rate.
    pub(crate) fn rate(&self, unit: Unit, workload: Workload, workers: usize) -> Option<f64> {
        median(self.rates.get(&(unit, workload, workers))?.iter().copied())
    }

    /// Median bytes a key: when full, and at most while growing.
    pub(crate) fn bytes_per_key(&self, unit: Unit) -> Option<(f64, f64)> {
        let bytes = self.bytes.get(&unit)?;
        Some((median(bytes.iter().map(|b| b.0))?, median(bytes.iter().map(|b| b.1))?))
    }

    /// Median microseconds, in the order of `TAIL_NAMES`.
    pub(crate) fn tail_of(&self, unit: Unit) -> Option<[f64; 5]> {
        let tails = self.tails.get(&unit)?;
        let mut result = [0.0; 5];
        for (i, quantile) in result.iter_mut().enumerate() {
            *quantile = median(tails.iter().map(|tail| tail.quantiles[i]))?;
        }
        Some(result)
    }

    /// All that were measured, but for the memory itself.
    pub(crate) fn units(&self) -> Vec<Unit> {
        let mut units: Vec<Unit> =
            self.rates.keys().map(|key| key.0).chain(self.tails.keys().copied()).collect();
        units.retain(|unit| unit.system != System::Memory);
        units.sort_unstable();
        units.dedup();
        units
    }

    pub(crate) fn limit(&self, workers: usize) -> Option<f64> {
        self.rate(Unit { system: System::Memory, config: Config::Lines }, Workload::Limit, workers)
    }

    /// One object a line.
    pub(crate) fn json(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for (&(unit, workload, workers), rates) in &self.rates {
            let mut line = self.line(unit, workload, workers, median(rates.iter().copied()).unwrap_or(0.0));
            line.insert("low".into(), rounded(rates.iter().copied().fold(f64::INFINITY, f64::min)));
            line.insert("high".into(), rounded(rates.iter().copied().fold(0.0, f64::max)));
            line.insert("samples".into(), rates.len().into());
            if let (Workload::Put, 1, Some((full, most))) = (workload, workers, self.bytes_per_key(unit)) {
                line.insert("bytes_per_key".into(), rounded(full));
                line.insert("most_bytes_per_key".into(), rounded(most));
            }
            lines.push(Value::Object(line));
        }
        for (&unit, tails) in &self.tails {
            let mops = median(tails.iter().map(|tail| tail.mops)).unwrap_or(0.0);
            let mut line = self.line(unit, Workload::Tail, 1, mops);
            line.insert("keys".into(), self.tail_keys.into());
            line.insert("samples".into(), tails.len().into());
            for (name, us) in TAIL_NAMES.iter().zip(self.tail_of(unit).unwrap_or_default()) {
                line.insert(format!("{name}_us"), rounded(us));
            }
            lines.push(Value::Object(line));
        }
        lines
    }

    fn line(&self, unit: Unit, workload: Workload, workers: usize, mops: f64) -> Map<String, Value> {
        let line = json!({
            "system": args::name(unit.system),
            "config": args::name(unit.config),
            "workload": args::name(workload),
            "keys": self.subject.keys,
            "workers": workers,
            "mops": rounded(mops),
            "value_bytes": self.subject.value_bytes,
            "dist": self.subject.dist.name(),
        });
        line.as_object().cloned().unwrap_or_default()
    }

    fn rates_table(&self, f: &mut fmt::Formatter<'_>, workers: usize) -> fmt::Result {
        let units: Vec<Unit> = self.units();
        let measured =
            |unit: &Unit| COLUMNS.iter().any(|&workload| self.rate(*unit, workload, workers).is_some());
        if !units.iter().any(measured) {
            return Ok(());
        }
        let heading = if workers == 1 { "one worker, M/s" } else { "two workers, M/s" };
        write!(f, "\n{heading:<18}")?;
        for workload in COLUMNS {
            write!(f, "{:>11}", args::name(workload))?;
        }
        writeln!(f)?;
        for unit in units.into_iter().filter(measured) {
            write!(f, "{unit:<18}")?;
            for workload in COLUMNS {
                match self.rate(unit, workload, workers) {
                    Some(rate) => write!(f, "{:>11}", figure(rate))?,
                    None => write!(f, "{:>11}", "")?,
                }
            }
            writeln!(f)?;
        }
        if let Some(limit) = self.limit(workers) {
            writeln!(f, "independent random 64-byte reads over 256 MB: {}", figure(limit))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subject { keys, value_bytes, dist } = self.subject;
        writeln!(f, "\n{keys} keys of 4 bytes, values of {value_bytes}, {} order", dist.name())?;
        self.rates_table(f, 1)?;
        self.rates_table(f, 2)?;
        if !self.bytes.is_empty() {
            writeln!(f, "\n{:<18}{:>11}{:>11}", "bytes a key", "full", "at most")?;
            for unit in self.units() {
                if let Some((full, most)) = self.bytes_per_key(unit) {
                    writeln!(f, "{unit:<18}{full:>11.1}{most:>11.1}")?;
                }
            }
        }
        if !self.tails.is_empty() {
            write!(f, "\n{:<18}", "one put, us")?;
            for name in TAIL_NAMES {
                write!(f, "{name:>11}")?;
            }
            writeln!(f, "   (growing from 0 to {} keys)", self.tail_keys)?;
            for unit in self.units() {
                if let Some(quantiles) = self.tail_of(unit) {
                    write!(f, "{unit:<18}")?;
                    for quantile in quantiles {
                        write!(f, "{:>11}", figure(quantile))?;
                    }
                    writeln!(f)?;
                }
            }
        }
        targets::write(f, "targets (meant for 10 M random keys, 4+4)", targets::targets(self))
    }
}

/// The machine and the versions in a few lines.
pub(crate) fn title(description: &Map<String, Value>) -> String {
    let text = |name: &str| match description.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let versions = description.get("versions").and_then(Value::as_object);
    let versions: Vec<String> = versions
        .into_iter()
        .flatten()
        .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or_default()))
        .collect();
    let changed = if text("uncommitted_changes") == "true" { " with uncommitted changes" } else { "" };
    format!(
        "{}, {} cores, {} MB, Linux {}, {}\ncommit {}{changed}; {}",
        text("cpu"),
        text("cores"),
        text("memory_mb"),
        text("kernel"),
        text("date"),
        text("commit"),
        versions.join(", ")
    )
}

/// Three digits or more.
pub(crate) fn figure(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

pub(crate) fn rounded(value: f64) -> Value {
    json!((value * 1e4).round() / 1e4)
}
