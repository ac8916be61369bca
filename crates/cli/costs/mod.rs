//! What steps of a model cost: from the simulated Ascend, or from a calibrated profile.

#[cfg(feature = "ascend")]
mod modelled;
#[cfg(not(feature = "ascend"))]
mod modelled {
    //! Without the simulated Ascend.

    use crate::args::DispatchArg;
    use aio::orchestrator::StepWork;
    use aio::orchestrator::simulate::SimVariant;
    use anyhow::{Result, bail};

    pub(super) fn variant(_: &str, _: &str, _: &str, _: DispatchArg) -> Result<SimVariant> {
        bail!("this build has no simulated Ascend (feature `ascend`)")
    }

    pub(super) fn work(_: &str, _: &str, _: &str) -> Result<StepWork> {
        bail!("this build has no simulated Ascend (feature `ascend`)")
    }
}

use crate::args::{DeviceArg, DispatchArg};
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
use aio::orchestrator::{Ceilings, DeviceProfile, Predicted, StepCost, StepWork};
use aio::plan::{Bucket, PlanFamily, Tail, Task, TaskKind};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Rows of the steps in a table.
const ROWS: [u32; 7] = [1, 2, 4, 8, 16, 64, 512];
/// Chips that are modelled.
const CHIPS: [&str; 4] = ["910B1", "910B2", "910B3", "910B4"];

/// Where steps run.
pub(crate) enum On {
    /// On a modelled chip, with a modelled host.
    Chip { chip: &'static str, host: String },
    /// On a device whose profile is known.
    Profile(Box<DeviceProfile>),
}

impl On {
    /// A chip's name, a device of this machine, or a profile's file.
    pub(crate) fn find(device: &str, host: &str) -> Result<On> {
        if let Some(chip) = CHIPS.into_iter().find(|chip| chip.eq_ignore_ascii_case(device)) {
            return Ok(On::Chip { chip, host: host.to_owned() });
        }
        let Some(entry) = registry().entries().find(|e| e.name() == device) else {
            let path = Path::new(device);
            if path.is_file() {
                return Ok(On::Profile(Box::new(profiles::read(path)?)));
            }
            let chips = CHIPS.join(", ");
            bail!("there is no device `{device}`: not a chip ({chips}), a device of this machine, or a profile");
        };
        let found = entry.list()?;
        let found = found.first().with_context(|| format!("this machine has no device `{device}`"))?;
        let path = profiles::path_of(entry, &found.target, found.threads)?.filter(|path| path.is_file());
        let path = path.context("this machine has no profile; `aio device calibrate` makes one")?;
        Ok(On::Profile(Box::new(profiles::read(&path)?)))
    }

    /// A variant, by the name of a preset or of a file.
    pub(crate) fn variant(&self, name: &str, dispatch: DispatchArg) -> Result<SimVariant> {
        match self {
            On::Chip { chip, host } => modelled::variant(name, chip, host, dispatch),
            On::Profile(_) if dispatch == DispatchArg::Op => {
                bail!("a profile says nothing of eager operators; --dispatch op needs a modelled chip")
            }
            On::Profile(profile) => of_profile(name, profile),
        }
    }

    /// What a model's steps read and compute.
    pub(crate) fn work(&self, name: &str) -> Result<StepWork> {
        match self {
            On::Chip { chip, host } => modelled::work(name, chip, host),
            On::Profile(profile) => Ok(work_of_profile(name, profile)?.1),
        }
    }
}

/// A model by the name of a preset or of a file, and its name.
pub(crate) fn model(name: &str, dtype: DType) -> Result<Model> {
    match Preset::find(name) {
        Some(preset) => Ok(Model::from_gguf(Gguf::from_head(Synth::new(&preset, dtype, 1)?.head()?)?)?),
        None if Path::new(name).exists() => open_path(Path::new(name)),
        None => bail!("neither a preset of `aio synth` nor a file"),
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

/// A model's plans and work on a device with a profile.
fn work_of_profile(name: &str, profile: &DeviceProfile) -> Result<(PlanFamily, StepWork)> {
    let graph = model(name, DType::Q4_0)?.graph(&aio::templates(), None)?;
    let target = devices::open(DeviceArg::CPU, DeviceFlags::default())?.device.target();
    let options = Options { buckets: vec![Bucket::new(1, 1, Tail::Argmax)], fuse: true };
    let family = compile(verify(&graph)?, &target, &options)?.family;
    let ceilings = profile.ceilings().context("the profile lacks memory bandwidth or a peak")?;
    let work = step_work(&family, profile.costs.submission_us.median * 1e-6, ceilings);
    Ok((family, work))
}

/// A variant on a device with a profile.
fn of_profile(name: &str, profile: &DeviceProfile) -> Result<SimVariant> {
    let (family, work) = work_of_profile(name, profile)?;
    by_roofline(name, &family, work)
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

/// What a model's steps read and compute on a device, whose steps take `seconds` besides.
pub(crate) fn step_work(family: &PlanFamily, seconds: f64, ceilings: Ceilings) -> StepWork {
    let work = ModelWork::of(family);
    let kv_bytes = work.kv_bytes_per_position as f64;
    StepWork { cost: cost(&work, seconds), ceilings, kv_bytes, kv_macs: attention_macs(family) }
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
