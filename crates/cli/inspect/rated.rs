//! The machine that times are predicted for: of a profile, modelled, or with assumed rates.

use super::found::Found;
use crate::args::ModelArgs;
use crate::costs::On;
use crate::{machine, profiles};
use aio::engine::EngineOptions;
use aio::inspect::{Machine, plan_ops};
use aio::plan::artefact::is_artefact;
use anyhow::Result;

/// Host of a modelled chip.
const HOST: &str = "native";

/// A machine, and whether the plan would be loaded on this one.
pub(super) struct Rated {
    pub machine: Machine,
    /// Whether the rates are those of the device here that the plan is for.
    pub here: bool,
}

/// The machine of the profile or chip named, or of the profile of `model.device` here, or one with assumed rates.
pub(super) fn rated(model: &ModelArgs, named: Option<&str>, found: &Found) -> Result<Rated> {
    let Some(named) = named else {
        let own = profiles::of_target(model.device, &found.family.target, model.threads.unwrap_or(0));
        let assumed = || Machine::of_ceilings(&found.family.target, found.ceilings.unwrap_or(EngineOptions::ASSUMED));
        return Ok(Rated { machine: own.as_ref().and_then(Machine::of_profile).unwrap_or_else(assumed), here: true });
    };
    let on = On::find(named, HOST)?;
    let here = matches!(&on, On::Profile(p) if p.host == machine::host() && p.device == found.family.target);
    let rates = on.machine()?;
    let machine = if let On::Chip { .. } = on { walked(rates, &on, found) } else { rates };
    Ok(Rated { machine, here })
}

/// A modelled chip whose ops take what a walk of the model's decode step on it says, beyond its work. Constants have to do
/// for a graph without a model, and for one that does not run there.
fn walked(machine: Machine, on: &On, found: &Found) -> Machine {
    let path = found.path.as_ref().filter(|path| !is_artefact(path)).and_then(|path| path.to_str());
    let ops = plan_ops(&found.family.plans[found.plan]) as f64;
    let fixed = path.and_then(|path| on.work(path).ok()).map(|work| work.cost.seconds - machine.step_seconds);
    match fixed {
        Some(fixed) if fixed > 0.0 && ops > 0.0 => Machine { op_seconds: fixed / ops, ..machine },
        _ => machine,
    }
}
