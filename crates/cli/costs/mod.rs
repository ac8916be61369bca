//! What steps of a model cost: from the simulated Ascend, or from a calibrated profile.

#[cfg(feature = "ascend")]
mod modelled;
#[cfg(not(feature = "ascend"))]
mod modelled {
    //! Without the simulated Ascend.

    use crate::args::DispatchArg;
    use aio::inspect::Machine;
    use aio::orchestrator::StepWork;
    use aio::orchestrator::simulate::SimVariant;
    use anyhow::{Result, bail};

    pub(super) fn variant(_: &str, _: &str, _: &str, _: DispatchArg) -> Result<SimVariant> {
        bail!("this build has no simulated Ascend (feature `ascend`)")
    }

    pub(super) fn work(_: &str, _: &str, _: &str) -> Result<StepWork> {
        bail!("this build has no simulated Ascend (feature `ascend`)")
    }

    pub(super) fn machine(_: &str, _: &str) -> Result<Machine> {
        bail!("this build has no simulated Ascend (feature `ascend`)")
    }
}

mod work;

pub(crate) use work::{by_roofline, short, step_work};

use crate::args::{DeviceArg, DispatchArg};
use crate::devices::DeviceFlags;
use crate::registry::registry;
use crate::{devices, profiles};
use aio::compiler::{Options, compile};
use aio::devices::DeviceOptions;
use aio::inspect::Machine;
use aio::ir::{DType, verify};
use aio::orchestrator::simulate::SimVariant;
use aio::orchestrator::{DeviceProfile, StepWork};
use aio::plan::{Bucket, PlanFamily, Tail};
use anyhow::{Context, Result, bail};
use std::path::Path;
use work::model;

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
        let found = entry.list(&DeviceOptions::new())?;
        let found = found.first().with_context(|| format!("this machine has no device `{device}`"))?;
        let path = profiles::path_of(entry, &found.target, found.threads)?.filter(|path| path.is_file());
        let path = path.context("this machine has no profile; `aio device calibrate` makes one")?;
        Ok(On::Profile(Box::new(profiles::read(&path)?)))
    }

    /// Rates and costs from which the times of tasks are predicted.
    pub(crate) fn machine(&self) -> Result<Machine> {
        match self {
            On::Chip { chip, host } => modelled::machine(chip, host),
            On::Profile(profile) => Machine::of_profile(profile).with_context(|| {
                format!("the profile of {} lacks the memory's bandwidth or a peak", profile.processor)
            }),
        }
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
