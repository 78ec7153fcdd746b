//! Plots (SVG): panels with bars, a row for each system, a panel for each workload. Each panel has its own scale.

use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::{Map, Value};

use crate::AnyError;
use crate::args::{self, Config, System, Workload};
use crate::host::Unit;
use crate::report::{Report, Subject, TAIL_NAMES, figure};

const PANEL_WIDTH: u32 = 380;
const ROW: i32 = 22;
const TITLE: i32 = 34;
const NAME_WIDTH: i32 = 116;
const VALUE_WIDTH: i32 = 92;

/// One row of a panel: who, and one or two figures of it.
struct Row {
    unit: Unit,
    values: Vec<f64>,
}

struct Panel {
    title: String,
    rows: Vec<Row>,
    /// The length of a bar is the logarithm of its value.
    logarithmic: bool,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws what was measured. Returns the files.
pub(crate) fn draw(
    report: &Report,
    folder: &Path,
    machine: &Map<String, Value>,
) -> Result<Vec<PathBuf>, AnyError> {
    let Subject { keys, value_bytes, dist } = report.subject;
    let suffix = format!("{keys}-{value_bytes}-{}", dist.name());
    let text = |name: &str| machine.get(name).and_then(Value::as_str).unwrap_or_default();
    let below = format!(
        "{keys} keys of 4 bytes, values of {value_bytes}, {} order; {}, {} cores; commit {}, {}",
        dist.name(),
        text("cpu"),
        machine.get("cores").map(Value::to_string).unwrap_or_default(),
        text("commit"),
        text("date"),
    );
    let pictures = [
        ("rates-any", "Keys and values of any length", rates(report, false)),
        ("rates-fixed", "Keys and values of 4 bytes each, known beforehand", rates(report, true)),
        ("tail", "The time of one put while the table grows, microseconds (logarithmic)", tails(report)),
    ];
    let mut files = Vec::new();
    for (name, title, panels) in pictures {
        if !panels.is_empty() {
            let file = folder.join(format!("{name}-{suffix}.svg"));
            picture(&file, title, &below, &panels).map_err(|error| format!("{}: {error}", file.display()))?;
            files.push(file);
        }
    }
    Ok(files)
}

/// The maps of numbers are so much faster that the others could not be told apart beside them.
fn rates(report: &Report, fixed: bool) -> Vec<Panel> {
    use Workload::{Absent, Batch, Get, Mix, Put};
    let mut units = report.units();
    units.retain(|unit| fixed == matches!(unit.config, Config::Fixed | Config::U32));
    let mut panels = Vec::new();
    for workload in [Put, Get, Absent, Batch, Mix] {
        let row = |unit: Unit| {
            let values: Vec<f64> = [1, 2].iter().filter_map(|&n| report.rate(unit, workload, n)).collect();
            (!values.is_empty()).then_some(Row { unit, values })
        };
        let rows: Vec<Row> = units.iter().copied().filter_map(row).collect();
        if !rows.is_empty() {
            let title = format!("{}, M/s: one worker / two", args::name(workload));
            panels.push(Panel { title, rows, logarithmic: false });
        }
    }
    let row = |unit: Unit| Some(Row { unit, values: vec![report.bytes_per_key(unit)?.0] });
    let rows: Vec<Row> = units.into_iter().filter_map(row).collect();
    if !rows.is_empty() {
        panels.push(Panel { title: "bytes a key".into(), rows, logarithmic: false });
    }
    panels
}

fn tails(report: &Report) -> Vec<Panel> {
    let panel = |(index, name): (usize, &&str)| {
        let row = |unit: Unit| Some(Row { unit, values: vec![report.tail_of(unit)?[index]] });
        let rows: Vec<Row> = report.units().into_iter().filter_map(row).collect();
        (!rows.is_empty()).then(|| Panel { title: (*name).into(), rows, logarithmic: true })
    };
    TAIL_NAMES.iter().enumerate().filter_map(panel).collect()
}

fn picture(file: &Path, title: &str, below: &str, panels: &[Panel]) -> Result<(), AnyError> {
    let columns = panels.len().min(3);
    let lines = panels.len().div_ceil(columns);
    let most = panels.iter().map(|panel| panel.rows.len()).max().unwrap_or(0);
    let height = TITLE + ROW * i32::try_from(most)? + 10;
    let size = (PANEL_WIDTH * u32::try_from(columns)?, u32::try_from(height * i32::try_from(lines)? + 70)?);
    let root = SVGBackend::new(file, size).into_drawing_area();
    let fail = |error| format!("{error:?}");
    root.fill(&WHITE).map_err(fail)?;
    let middle = i32::try_from(size.0 / 2)?;
    let centre = Pos::new(HPos::Center, VPos::Center);
    write(&root, title, (middle, 20), 17, centre)?;
    write(&root, below, (middle, i32::try_from(size.1)? - 16), 13, centre)?;
    for (i, panel) in panels.iter().enumerate() {
        let x = i32::try_from(PANEL_WIDTH)? * i32::try_from(i % columns)?;
        let y = 40 + height * i32::try_from(i / columns)?;
        panel.draw(&root, (x, y))?;
    }
    root.present().map_err(fail)?;
    Ok(())
}

impl Panel {
    fn draw(&self, root: &Area<'_>, (x, y): (i32, i32)) -> Result<(), AnyError> {
        let left = x + NAME_WIDTH;
        write(root, &self.title, (left, y + 16), 15, Pos::new(HPos::Left, VPos::Center))?;
        let most = self.rows.iter().flat_map(|row| row.values.iter().copied()).fold(0.0, f64::max);
        let least = self.rows.iter().flat_map(|row| row.values.iter().copied()).fold(f64::INFINITY, f64::min);
        let room = f64::from(PANEL_WIDTH.cast_signed() - NAME_WIDTH - VALUE_WIDTH);
        let length = |value: f64| {
            // The shortest bar of a logarithmic panel still shows.
            let share = if self.logarithmic {
                (value / least * 2.0).ln() / (most / least * 2.0).ln()
            } else {
                value / most
            };
            (share * room) as i32
        };
        for (i, row) in self.rows.iter().enumerate() {
            let top = y + TITLE + ROW * i32::try_from(i)?;
            let middle = top + ROW / 2 - 1;
            write(root, &row.unit.to_string(), (left - 6, middle), 13, Pos::new(HPos::Right, VPos::Center))?;
            let thickness = (ROW - 6) / i32::try_from(row.values.len())?;
            let mut end = left;
            for (k, &value) in row.values.iter().enumerate() {
                let from = top + 2 + thickness * i32::try_from(k)?;
                let to = left + length(value).max(1);
                end = end.max(to);
                let lighter = row.values.len() > 1 && k == 0;
                let style = colour(row.unit).mix(if lighter { 0.55 } else { 1.0 }).filled();
                root.draw(&Rectangle::new([(left, from), (to, from + thickness)], style))
                    .map_err(|error| format!("{error:?}"))?;
            }
            let label: Vec<String> = row.values.iter().map(|&value| figure(value)).collect();
            write(root, &label.join(" / "), (end + 5, middle), 13, Pos::new(HPos::Left, VPos::Center))?;
        }
        Ok(())
    }
}

/// shf stands out; maps and databases have a colour each.
fn colour(unit: Unit) -> RGBColor {
    match unit.system {
        System::Shf => RGBColor(200, 70, 40),
        system if system.is_database() => RGBColor(90, 140, 110),
        _ => RGBColor(90, 110, 160),
    }
}

fn write(root: &Area<'_>, text: &str, place: (i32, i32), size: i32, anchor: Pos) -> Result<(), AnyError> {
    let style = TextStyle::from(("sans-serif", size).into_font()).color(&BLACK).pos(anchor);
    root.draw_text(text, &style, place).map_err(|error| format!("{error:?}").into())
}
