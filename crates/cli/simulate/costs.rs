//! What steps of each variant cost: from the simulated Ascend, or from a calibrated profile.

use super::modelled;
use crate::args::{DeviceArg, DispatchArg, SimulateArgs};
use crate::devices::DeviceFlags;
use crate::models::open_path;
use crate::registry::registry;
use crate::{devices, profiles};
use aio::compiler::{Options, compile};
use aio::engine::ModelWork;
use aio::ir::{DType, verify};
use aio::model::Model;
use aio::model::gguf::Gguf;
use aio::model::synth::{Preset, Synth};
use aio::orchestrator::simulate::{SequenceRows, SimVariant, StepTable, TimedStep, VariantCosts};
use aio::orchestrator::{Ceilings, DeviceProfile, StepCost};
use aio::plan::{Bucket, PlanFamily, Tail, Task, TaskKind};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

/// Rows of the steps in a table.
const ROWS: [u32; 7] = [1, 2, 4, 8, 16, 64, 512];
/// Chips that are modelled.
const CHIPS: [&str; 4] = ["910B1", "910B2", "910B3", "910B4"];

/// The variants, with what their steps cost.
pub(super) fn fleet(args: &SimulateArgs, dispatch: DispatchArg) -> Result<Vec<SimVariant>> {
    ensure!(!args.variants.is_empty(), "there are no variants");
    let chip = CHIPS.into_iter().find(|chip| chip.eq_ignore_ascii_case(&args.device));
    let profile = if chip.is_none() { Some(profile(&args.device)?) } else { None };
    if profile.is_some() && dispatch == DispatchArg::Op {
        bail!("a profile says nothing of eager operators; --dispatch op needs a modelled chip");
    }
    let variant = |name: &String| match (chip, &profile) {
        (Some(chip), _) => modelled::variant(name, chip, &args.host, dispatch),
        (None, Some(profile)) => of_profile(name, profile),
        (None, None) => bail!("there is no device `{}`", args.device),
    };
    args.variants.iter().map(|name| variant(name).with_context(|| name.clone())).collect()
}

/// The profile of this machine's device, or of a file.
fn profile(device: &str) -> Result<DeviceProfile> {
    let known = registry().entries().find(|e| e.name() == device);
    let Some(entry) = known else {
        let path = Path::new(device);
        if path.is_file() {
            return profiles::read(path);
        }
        bail!(
            "there is no device `{device}`: not a chip ({}), a device of this machine, or a profile",
            CHIPS.join(", ")
        );
    };
    let found = entry.list()?;
    let found = found.first().with_context(|| format!("this machine has no device `{device}`"))?;
    let path = profiles::path_of(entry, &found.target, found.threads)?.filter(|path| path.is_file());
    profiles::read(&path.context("this machine has no profile; `aio device calibrate` makes one")?)
}

/// A model by the name of a preset or of a file, and its name.
pub(super) fn model(name: &str, dtype: DType) -> Result<Model> {
    match Preset::find(name) {
        Some(preset) => Ok(Model::from_gguf(Gguf::from_head(Synth::new(&preset, dtype, 1)?.head()?)?)?),
        None if Path::new(name).exists() => open_path(Path::new(name)),
        None => bail!("neither a preset of `aio synth` nor a file"),
    }
}

/// The name of a variant: a file's without folder and ending.
pub(super) fn short(name: &str) -> String {
    let path = Path::new(name);
    match Preset::find(name) {
        Some(_) => name.to_owned(),
        None => path.file_stem().map_or(name.to_owned(), |stem| stem.to_string_lossy().into_owned()),
    }
}

/// A variant on a device with a profile, by the roofline.
fn of_profile(name: &str, profile: &DeviceProfile) -> Result<SimVariant> {
    let model = model(name, DType::Q4_0)?;
    let graph = model.graph(&aio::templates(), None)?;
    let target = devices::open(DeviceArg::CPU, DeviceFlags::default())?.device.target();
    let options = Options { buckets: vec![Bucket::new(1, 1, Tail::Argmax)], fuse: true };
    let family = compile(verify(&graph)?, &target, &options)?.family;
    let ceilings = profile.ceilings().context("the profile lacks memory bandwidth or a peak")?;
    let submission = profile.costs.submission_us.median * 1e-6;
    let work = ModelWork::of(&family);
    let (cost, kv_bytes) = (cost(&work, submission), work.kv_bytes_per_position as f64);
    let time = |rows: u32, len: u32| TimedStep {
        sequences: 1,
        each: SequenceRows { rows, len },
        seconds: cost.time(&ceilings, rows, f64::from(len) * kv_bytes),
    };
    let steps: Vec<_> = ROWS.into_iter().flat_map(|rows| [time(rows, rows), time(rows, 1 << 14)]).collect();
    of_steps(name, &family, submission, ceilings, &steps)
}

/// The cost of a model's steps, which take `seconds` besides their work.
fn cost(work: &ModelWork, seconds: f64) -> StepCost {
    StepCost {
        bytes: work.weight_bytes as f64,
        bytes_per_row: work.kv_bytes_per_position as f64,
        macs_per_row: (work.int8_macs + work.f32_macs) as f64,
        seconds,
    }
}

/// Multiply-adds of a row's attention for each position.
fn attention_macs(family: &PlanFamily) -> f64 {
    let Some(plan) = family.plans.first() else { return 0.0 };
    let macs = |task: &Task| match task.kind {
        TaskKind::Attend(spec) => 2.0 * f64::from(spec.heads) * f64::from(spec.head_dim),
        _ => 0.0,
    };
    plan.tasks.iter().map(macs).sum()
}

/// A variant whose steps took so long.
pub(super) fn of_steps(
    name: &str,
    family: &PlanFamily,
    seconds: f64,
    ceilings: Ceilings,
    steps: &[TimedStep],
) -> Result<SimVariant> {
    let work = ModelWork::of(family);
    let costs = VariantCosts {
        table: StepTable::of(steps).context("too few step times")?,
        cost: cost(&work, seconds),
        ceilings,
        kv_bytes: work.kv_bytes_per_position as f64,
        kv_macs: attention_macs(family),
    };
    Ok(SimVariant { name: short(name), costs, weight_bytes: work.weight_bytes })
}
