//! Step times of a variant on the simulated Ascend.

use super::work::{model, of_steps, step_work};
use crate::args::DispatchArg;
use crate::model_tables::constants::{Constants, Point};
use crate::model_tables::eager::{bytes, launched};
use crate::model_tables::operators::PANGU_GENERATE;
use crate::model_tables::walk::{Form, PAGE, Rows, Walk};
use aio::ascend::rounded_pages;
use aio::inspect::{Figures, Machine};
use aio::ir::DType;
use aio::model::synth::Preset;
use aio::orchestrator::simulate::{CapturedLengths, SequenceRows, SimVariant, TimedStep};
use aio::orchestrator::{Ceilings, StepWork};
use anyhow::Result;

/// Rows of one sequence in the steps of a table, and how many sequences of as many rows beside.
const STEPS: [(u32, u32); 10] = [(1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (2, 1), (4, 1), (16, 1), (8, 8), (512, 1)];
/// Positions of each sequence, for which graphs are captured without rounding up. Between and beyond them, times are linear.
const NEAR: u32 = 4 * PAGE;
const FAR: u32 = 31 * PAGE;

/// A variant on a chip. With `op`, a preset of openPangu has the operators of its published code, launched one by
/// one; other models have those of our unfused plan. The work of the former is taken to be that of one graph.
pub(super) fn variant(name: &str, chip: &str, host: &str, dispatch: DispatchArg) -> Result<SimVariant> {
    let model = model(name, DType::F16)?;
    let eager = dispatch == DispatchArg::Op;
    let pangu = Preset::find(name).filter(|p| eager && p.name.starts_with("pangu-"));
    let form = if eager && pangu.is_none() { Form { graphs: false, fuse: false, ..Form::GRAPH } } else { Form::GRAPH };
    let rows: Vec<u32> = STEPS.iter().map(|(rows, sequences)| rows * sequences).collect();
    let mut walk = Walk::of(chip, &model, form, &rows)?;
    walk.host(host)?;
    let constants = Constants::of(chip, host)?;
    let mut steps = Vec::new();
    for (plan, (rows, sequences)) in STEPS.into_iter().enumerate() {
        for len in [NEAR.max(rows), FAR] {
            let seconds = walk.step(plan, &vec![Rows { rows, len }; sequences as usize])?;
            steps.push(TimedStep { sequences, each: SequenceRows { rows, len }, seconds });
        }
    }
    let mut variant = of_steps(name, walk.family(), 0.0, ceilings(&constants)?, &steps)?;
    if form.graphs {
        let mut patched = Walk::of(chip, &model, Form::PATCH, &rows[..1])?;
        patched.host(host)?;
        let patch = (patched.decode(NEAR)? - walk.decode(NEAR)?).max(0.0);
        variant.costs.table = variant.costs.table.captured(CapturedLengths { bucket, patch });
    }
    if let Some(preset) = pangu {
        // An eager step takes as long as its launches, or as its work, whichever is longer.
        let costs = constants.costs(Point::Value)?;
        let [near, far] = [NEAR, FAR].map(|len| launched(&bytes(&PANGU_GENERATE, &preset, len), &costs));
        let each = (far - near) / f64::from(FAR - NEAR);
        variant.costs.table = variant.costs.table.at_least(near - each * f64::from(NEAR), each);
    }
    Ok(variant)
}

/// Positions that a graph is captured for.
fn bucket(len: u32) -> u32 {
    rounded_pages(len.div_ceil(PAGE), u32::MAX) * PAGE
}

fn ceilings(constants: &Constants) -> Result<Ceilings> {
    let bandwidth = constants.get("hbm_bytes_per_s")?.value;
    Ok(Ceilings { bandwidth, peak: constants.get("cube_flops_per_s")?.value / 2.0 })
}

/// What a model's steps read and compute. What one graph takes beyond that is the cost of a step.
pub(super) fn work(name: &str, chip: &str, host: &str) -> Result<StepWork> {
    let mut walk = Walk::of(chip, &model(name, DType::F16)?, Form::GRAPH, &[1])?;
    walk.host(host)?;
    let taken = walk.decode(NEAR)?;
    let work = step_work(walk.family(), 0.0, ceilings(&Constants::of(chip, host)?)?);
    let least = work.predict(1, 1, NEAR.into()).0;
    Ok(step_work(walk.family(), taken - least, work.ceilings))
}

/// The chip for predictions of tasks: each operator takes the gap before it and at least the shortest kernel. All products,
/// and attention, run on the cube cores.
pub(super) fn machine(chip: &str, host: &str) -> Result<Machine> {
    let constants = Constants::of(chip, host)?;
    let (costs, Ceilings { bandwidth, peak }) = (constants.costs(Point::Value)?, ceilings(&constants)?);
    Ok(Machine {
        figures: Figures::Modelled,
        cache_bandwidth: constants.get("l2_bytes_per_s")?.value,
        plain_macs: peak,
        norm_seconds: 0.0,
        task_seconds: 0.0,
        op_seconds: costs.gap + costs.floor + costs.replay_task,
        step_seconds: costs.replay + costs.sync,
        ..Machine::of_ceilings(&format!("Ascend {chip}"), Ceilings { bandwidth, peak })
    })
}
