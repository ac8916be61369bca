//! What the steps of a model read and compute, and tables of their times.

use crate::models::open_path;
use aio::engine::ModelWork;
use aio::ir::DType;
use aio::model::Model;
use aio::model::gguf::Gguf;
use aio::model::synth::{Preset, Synth};
use aio::orchestrator::simulate::{SequenceRows, SimVariant, StepTable, TimedStep, VariantCosts};
use aio::orchestrator::{Ceilings, Predicted, StepCost, StepWork};
use aio::plan::PlanFamily;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Rows of the steps in a table.
const ROWS: [u32; 7] = [1, 2, 4, 8, 16, 64, 512];

/// A model by the name of a preset or of a file, and its name.
pub(crate) fn model(name: &str, dtype: DType) -> Result<Model> {
    match Preset::find(name) {
        Some(preset) => Ok(Model::from_gguf(Gguf::from_head(Synth::new(&preset, dtype, 1)?.head()?)?)?),
        None if Path::new(name).exists() => open_path(Path::new(name)),
        None => bail!("`{name}` is neither a preset of `aio synth` nor a file"),
    }
}

/// The name of a variant: a file's without folder and ending.
pub(crate) fn short(name: &str) -> String {
    let path = Path::new(name);
    match Preset::find(name) {
        Some(_) => name.to_owned(),
        None => path.file_stem().map_or(name.to_owned(), |stem| stem.to_string_lossy().into_owned()),
    }
}

/// A variant whose step times are the roofline's.
pub(crate) fn by_roofline(name: &str, family: &PlanFamily, work: StepWork) -> Result<SimVariant> {
    let time = |rows: u32, len: u32| {
        let Predicted(seconds) = work.predict(1, rows, len.into());
        TimedStep { sequences: 1, each: SequenceRows { rows, len }, seconds }
    };
    let steps: Vec<_> = ROWS.into_iter().flat_map(|rows| [time(rows, rows), time(rows, 1 << 14)]).collect();
    of_steps(name, family, work.cost.seconds, work.ceilings, &steps)
}

/// What a model's steps read and compute on a device, whose steps take `seconds` besides.
pub(crate) fn step_work(family: &PlanFamily, seconds: f64, ceilings: Ceilings) -> StepWork {
    let work = ModelWork::of(family).on(ceilings);
    StepWork { cost: StepCost { seconds, ..work.cost }, ..work }
}

/// A variant whose steps took so long.
pub(crate) fn of_steps(
    name: &str,
    family: &PlanFamily,
    seconds: f64,
    ceilings: Ceilings,
    steps: &[TimedStep],
) -> Result<SimVariant> {
    let weight_bytes = ModelWork::of(family).weight_bytes;
    let work = step_work(family, seconds, ceilings);
    let costs = VariantCosts { table: StepTable::of(steps).context("too few step times")?, work };
    Ok(SimVariant { name: short(name), costs, weight_bytes })
}
