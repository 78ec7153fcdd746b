//! What was measured of queues, as tables for people and as JSON lines.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use super::args::{Place, Shape, System, Unit, Way, Workload};
use super::targets;
use crate::AnyError;
use crate::args::name;
use crate::report::{figure, median, rounded};

#[derive(Debug)]
pub(crate) struct Report {
    items: u32,
    rates: BTreeMap<(Shape, Unit), Vec<Rate>>,
    latencies: BTreeMap<(Shape, Unit), Vec<Latency>>,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    /// M messages a second.
    mops: f64,
    /// Messages that a call moved, on average.
    put: f64,
    taken: f64,
}

/// Nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) quantiles: [f64; 3],
    longest: f64,
    /// In all rounds.
    rounds: f64,
    /// Of a hundred rounds.
    slept: f64,
}

const NAMES: [&str; 3] = ["p50", "p99", "p99.9"];

impl Report {
    pub(crate) fn new(items: u32) -> Self {
        Self { items, rates: BTreeMap::new(), latencies: BTreeMap::new() }
    }

    /// The answers of both sides, A's first.
    pub(crate) fn add(&mut self, unit: Unit, shape: Shape, answer: &[u64]) -> Result<(), AnyError> {
        let numbers: Vec<f64> = answer.iter().map(|&number| number as f64).collect();
        match (shape.workload, numbers.as_slice()) {
            (Workload::Cycle | Workload::OneWay, &[ns_a, put, puts, ns_b, taken, takes]) => {
                let rate = Rate { mops: taken * 1e3 / ns_a.max(ns_b), put: put / puts, taken: taken / takes };
                self.rates.entry((shape, unit)).or_default().push(rate);
            }
            (Workload::PingPong, &[p50, p99, p999, longest, rounds, sleeps, _])
            | (Workload::WakeUp, &[_, p50, p99, p999, longest, rounds, sleeps]) => {
                let slept = (sleeps * 100.0 / rounds).min(100.0);
                let latency = Latency { quantiles: [p50, p99, p999], longest, rounds, slept };
                self.latencies.entry((shape, unit)).or_default().push(latency);
            }
            _ => return Err(format!("no answer: {answer:?}").into()),
        }
        Ok(())
    }

    /// The median rate.
    pub(crate) fn rate(&self, unit: Unit, shape: Shape) -> Option<f64> {
        median(self.rates.get(&(shape, unit))?.iter().map(|rate| rate.mops))
    }

    /// Medians of the rounds' quantiles.
    pub(crate) fn latency(&self, unit: Unit, workload: Workload) -> Option<Latency> {
        let (_, rounds) = self.latencies.iter().find(|((s, u), _)| s.workload == workload && *u == unit)?;
        let mid = |of: fn(&Latency) -> f64| median(rounds.iter().map(of));
        Some(Latency {
            quantiles: [mid(|l| l.quantiles[0])?, mid(|l| l.quantiles[1])?, mid(|l| l.quantiles[2])?],
            longest: rounds.iter().map(|l| l.longest).fold(0.0, f64::max),
            rounds: rounds.iter().map(|l| l.rounds).sum(),
            slept: mid(|l| l.slept)?,
        })
    }

    /// One object a line.
    pub(crate) fn json(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for (&(shape, unit), rates) in &self.rates {
            let mut line = self.line(unit, shape, rates.len());
            let mops = || rates.iter().map(|rate| rate.mops);
            line.insert("mops".into(), rounded(median(mops()).unwrap_or(0.0)));
            line.insert("low".into(), rounded(mops().fold(f64::INFINITY, f64::min)));
            line.insert("high".into(), rounded(mops().fold(0.0, f64::max)));
            let mean = |of: fn(&Rate) -> f64| rounded(median(rates.iter().map(of)).unwrap_or(0.0));
            line.insert("items_a_push".into(), mean(|rate| rate.put));
            line.insert("items_a_pull".into(), mean(|rate| rate.taken));
            lines.push(Value::Object(line));
        }
        for (&(shape, unit), rounds) in &self.latencies {
            let Some(latency) = self.latency(unit, shape.workload) else { continue };
            let mut line = self.line(unit, shape, rounds.len());
            for (name, ns) in NAMES.iter().zip(latency.quantiles) {
                line.insert(format!("{name}_ns"), rounded(ns));
            }
            line.insert("longest_ns".into(), rounded(latency.longest));
            line.insert("rounds".into(), rounded(latency.rounds));
            if shape.workload == Workload::WakeUp {
                line.insert("slept_percent".into(), rounded(latency.slept));
            }
            lines.push(Value::Object(line));
        }
        lines
    }

    fn line(&self, unit: Unit, shape: Shape, samples: usize) -> Map<String, Value> {
        let line = json!({
            "system": name(unit.system),
            "place": name(unit.place),
            "workload": name(shape.workload),
            "way": name(shape.way),
            "batch": shape.batch,
            "message_bytes": shape.bytes,
            "items": self.items,
            "samples": samples,
        });
        line.as_object().cloned().unwrap_or_default()
    }

    fn rates_table(&self, f: &mut fmt::Formatter<'_>, workload: Workload, title: &str) -> fmt::Result {
        let figures = || self.rates.keys().filter(|(shape, _)| shape.workload == workload);
        let mut batches: Vec<u32> = figures().map(|(shape, _)| shape.batch).collect();
        let mut rows: Vec<(u32, Unit, Way)> =
            figures().map(|(shape, unit)| (shape.bytes, *unit, shape.way)).collect();
        batches.sort_unstable();
        batches.dedup();
        rows.sort_unstable();
        rows.dedup();
        if rows.is_empty() {
            return Ok(());
        }
        write!(f, "\n{title:<40}")?;
        for batch in &batches {
            write!(f, "{:>14}", format!("x{batch}"))?;
        }
        writeln!(f)?;
        for (bytes, unit, way) in rows {
            write!(f, "{:<40}", label(unit, bytes, way))?;
            for &batch in &batches {
                let shape = Shape { workload, bytes, batch, way };
                let cell = self.rates.get(&(shape, unit)).and_then(|rates| {
                    let taken = median(rates.iter().map(|rate| rate.taken))?;
                    Some(format!("{} @{taken:.0}", figure(self.rate(unit, shape)?)))
                });
                write!(f, "{:>14}", cell.unwrap_or_default())?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn latencies_table(&self, f: &mut fmt::Formatter<'_>, workload: Workload, title: &str) -> fmt::Result {
        let mut units: Vec<Unit> =
            self.latencies.keys().filter(|key| key.0.workload == workload).map(|key| key.1).collect();
        units.sort_unstable();
        if units.is_empty() {
            return Ok(());
        }
        write!(f, "\n{title:<40}")?;
        for name in NAMES.iter().chain(&["longest", "rounds"]) {
            write!(f, "{name:>11}")?;
        }
        let wake_up = workload == Workload::WakeUp;
        writeln!(f, "{}", if wake_up { "      slept" } else { "" })?;
        for unit in units {
            let Some(latency) = self.latency(unit, workload) else { continue };
            write!(f, "{unit:<40}")?;
            for ns in latency.quantiles.iter().chain(&[latency.longest]) {
                write!(f, "{:>11}", figure(*ns))?;
            }
            write!(f, "{:>11.0}", latency.rounds)?;
            writeln!(f, "{}", if wake_up { format!("{:>10.0}%", latency.slept) } else { String::new() })?;
        }
        Ok(())
    }

    /// shf beside each of the others that did the same. In a cycle the others are threads, shf is two processes.
    fn beside(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shf = |place| Unit { system: System::Shf, place };
        let mut lines: BTreeMap<Shape, Vec<String>> = BTreeMap::new();
        for &(shape, unit) in self.rates.keys().filter(|(_, unit)| unit.system != System::Shf) {
            let own = if shape.workload == Workload::Cycle { Place::Processes } else { unit.place };
            if let (Some(a), Some(b)) = (self.rate(shf(own), shape), self.rate(unit, shape)) {
                lines.entry(shape).or_default().push(format!("{} {}x", name(unit.system), figure(a / b)));
            }
        }
        for &(shape, unit) in self.latencies.keys().filter(|(_, unit)| unit.system != System::Shf) {
            let own = self
                .latency(shf(unit.place), shape.workload)
                .or_else(|| self.latency(shf(Place::Processes), shape.workload));
            if let (Some(a), Some(b)) = (own, self.latency(unit, shape.workload)) {
                let ratio = a.quantiles[0] / b.quantiles[0];
                lines.entry(shape).or_default().push(format!("{} {}x", name(unit.system), figure(ratio)));
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nshf's figure / the other's: of rates more is better, of latencies (p50) less")?;
        for (shape, texts) in lines {
            let Shape { workload, bytes, batch, .. } = shape;
            let what = if matches!(workload, Workload::PingPong | Workload::WakeUp) {
                name(workload)
            } else {
                format!("{}{} x{batch}", name(workload), of_bytes(bytes))
            };
            writeln!(f, "{what:<40}{}", texts.join(", "))?;
        }
        Ok(())
    }
}

fn of_bytes(bytes: u32) -> String {
    if bytes == 0 { String::new() } else { format!(", {bytes} bytes") }
}

fn label(unit: Unit, bytes: u32, way: Way) -> String {
    let way = match way {
        Way::Plain => "",
        Way::New => ", new batches",
        Way::Exchange => ", exchange",
        Way::Chunks => ", chunks",
    };
    format!("{unit}{}{way}", of_bytes(bytes))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{} items; M/s @ items that a pull got; without bytes: only numbers of items move",
            self.items
        )?;
        self.rates_table(f, Workload::Cycle, "cycle: M items/s of each side")?;
        self.rates_table(f, Workload::OneWay, "one way: M messages/s")?;
        self.latencies_table(f, Workload::PingPong, "there and back, spinning, ns")?;
        self.latencies_table(f, Workload::WakeUp, "wake-up, ns")?;
        self.beside(f)?;
        crate::targets::write(f, "targets", targets::targets(self))
    }
}
