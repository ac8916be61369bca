//! The variants as one: loading within a budget, and the variant of each request.

use crate::resident::{Loader, Resident, Variant, VariantSpec, VariantState};
use crate::routed::{Ask, Routed, Running};
use crate::{Answer, FleetError, Probe};
use aio_engine::Engine;
use aio_orchestrator::routing::{
    Expected, Levels, Policy, ProbeKind, Probed, Room, RouteRequest, SpeculationRule, VariantNow,
};
use aio_orchestrator::{Predicted, PresentSpeed, StepSize};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// How a fleet is loaded.
#[derive(Clone, Copy, Debug)]
pub struct FleetOptions {
    /// Bytes for all variants together.
    pub budget: u64,
}

/// Several variants of a model. See the crate's front page.
pub struct Fleet {
    resident: Arc<Resident>,
    loader: Loader,
    policy: Policy,
    probe: Option<Box<dyn Probe>>,
    /// Present speeds of variants that have not run lately.
    levels: Levels,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("states", &self.states()).field("policy", &self.policy.name).finish()
    }
}

/// A request for which variants are compared.
#[derive(Clone, Copy)]
struct Wanted {
    /// Tokens to compute on another variant, and on the one that has them already.
    prompt: u32,
    output: u32,
    /// The variant that has the prompt in its cache, if one has, and the positions that it counts for the request.
    holds: Option<(usize, u64)>,
    /// Whether it is speculated on.
    drafts: bool,
}

impl Fleet {
    /// Loads the smallest variant, and the others in the background as far as the budget goes, in the order of their size.
    ///
    /// # Errors
    /// [`FleetError::NoVariant`], [`FleetError::SameName`], [`FleetError::Policy`]; [`FleetError::Budget`] and
    /// [`FleetError::Load`] if the smallest variant cannot be loaded.
    pub fn load(
        specs: Vec<VariantSpec>,
        policy: Policy,
        loader: Loader,
        options: FleetOptions,
    ) -> Result<Fleet, FleetError> {
        let names: Vec<&str> = specs.iter().map(|s| s.name.as_str()).collect();
        if let Some(i) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
            return Err(FleetError::SameName { name: names[i].to_owned() });
        }
        policy.check(&names)?;
        let mut order: Vec<usize> = (0..specs.len()).collect();
        order.sort_by_key(|&i| specs[i].weight_bytes);
        let Some((&smallest, others)) = order.split_first() else { return Err(FleetError::NoVariant) };
        let (levels, resident) = (Levels::new(specs.len()), Arc::new(Resident::new(specs, options.budget)));
        let waits = |&i: &usize| resident.lock()[i].state == VariantState::Waiting;
        let VariantSpec { name, need, .. } = resident.lock()[smallest].spec.clone();
        if !waits(&smallest) {
            return Err(FleetError::Budget { name, need, budget: options.budget });
        }
        let others: Vec<usize> = others.iter().copied().filter(waits).collect();
        resident.load(smallest, &loader).map_err(|e| FleetError::Load { name, reason: e.to_string() })?;
        resident.load_in_background(others, &loader);
        Ok(Fleet { resident, loader, policy, probe: None, levels })
    }

    /// Sets the probe. It is asked for requests whose policy has `probe = "zero-shot"` or `"head"`, whichever of the two it is.
    pub fn with_probe(self, probe: Option<Box<dyn Probe>>) -> Fleet {
        Fleet { probe, ..self }
    }

    /// Waits until no variant is waiting or being loaded. `each` is called with a variant's name and its new state.
    pub fn wait(&self, each: &mut dyn FnMut(&str, &VariantState)) {
        let busy = |v: &Variant| matches!(v.state, VariantState::Waiting | VariantState::Loading);
        let mut variants = self.resident.lock();
        let mut known: Vec<VariantState> = variants.iter().map(|v| v.state.clone()).collect();
        while variants.iter().any(busy) {
            variants = self.resident.changed(variants);
            for (variant, known) in variants.iter().zip(&mut known).filter(|(v, known)| v.state != **known) {
                known.clone_from(&variant.state);
                each(&variant.spec.name, known);
            }
        }
    }

    /// Names and states of the variants.
    pub fn states(&self) -> Vec<(String, VariantState)> {
        self.resident.lock().iter().map(|v| (v.spec.name.clone(), v.state.clone())).collect()
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The smallest variant, which probes run on.
    pub fn smallest(&self) -> Option<Arc<Engine>> {
        self.resident.lock().iter().min_by_key(|v| v.spec.weight_bytes)?.engine.clone()
    }

    /// A variant that is loaded.
    pub fn engine(&self, name: &str) -> Option<Arc<Engine>> {
        self.resident.lock().iter().find(|v| v.spec.name == name)?.engine.clone()
    }

    /// Drops a variant that no request uses, and returns whether it did. Its memory is free again. The smallest stays if
    /// there is a probe, which runs on it.
    pub fn evict(&self, name: &str) -> bool {
        let mut variants = self.resident.lock();
        let smallest = variants.iter().min_by_key(|v| v.spec.weight_bytes).is_some_and(|v| v.spec.name == name);
        if smallest && self.probe.is_some() {
            return false;
        }
        let found = variants.iter_mut().find(|v| v.spec.name == name);
        let Some(variant) = found.filter(|v| v.engine.as_ref().is_some_and(|e| Arc::strong_count(e) == 1)) else {
            return false;
        };
        let engine = variant.engine.take();
        variant.state = VariantState::Evicted;
        // Freeing takes a while, in which requests may end.
        drop(variants);
        drop(engine);
        true
    }

    /// Loads a variant in the background that was dropped, had no room or could not be loaded, if the budget has room for
    /// it now, and returns its state. `None` if there is no such variant.
    pub fn restore(&self, name: &str) -> Option<VariantState> {
        let at = self.resident.lock().iter().position(|v| v.spec.name == name)?;
        let missing = self.resident.lock()[at].state.is_missing();
        let state = self.resident.admit(at);
        if missing && state == VariantState::Waiting {
            self.resident.load_in_background(vec![at], &self.loader);
        }
        Some(state)
    }

    /// Chooses the variant of a request. A variant has room for it if its context holds the prompt and a token more.
    ///
    /// # Errors
    /// Those of the probe; [`FleetError::NoSuchVariant`], [`FleetError::NoRoom`].
    pub fn route(&mut self, ask: &Ask<'_>) -> Result<Routed, FleetError> {
        let started = Instant::now();
        let answer = match &ask.policy.unwrap_or(&self.policy).probe {
            _ if ask.category.is_some() || ask.variant.is_some() => None,
            ProbeKind::None => None,
            ProbeKind::Constant(category) => Some(Answer { scores: vec![(category.clone(), 1.0)], tokens: 0 }),
            ProbeKind::ZeroShot | ProbeKind::Head => self.answer(ask.text)?,
        };
        let probe_seconds = if answer.is_some() { started.elapsed().as_secs_f64() } else { 0.0 };
        let ask = Ask { within: ask.within - probe_seconds, ..*ask };
        let wanted = Wanted { prompt: ask.prompt, output: ask.output, holds: None, drafts: true };
        self.choose(&ask, wanted, (answer, probe_seconds))
    }

    /// Chooses again for a request of which `done` positions are computed and `left` tokens are expected. `None` if it
    /// stays where it is; otherwise its positions have to be computed on the new variant first, which is part of the
    /// expected seconds.
    ///
    /// # Errors
    /// [`FleetError::NoSuchVariant`], [`FleetError::NoRoom`].
    pub fn move_request(
        &mut self,
        ask: &Ask<'_>,
        routed: &Routed,
        done: u32,
        left: u32,
    ) -> Result<Option<Routed>, FleetError> {
        let holds = Some((routed.running.at, routed.running.positions));
        let wanted = Wanted { prompt: done, output: left, holds, drafts: true };
        let ask = Ask { prompt: done, output: left, ..*ask };
        let moved = self.choose(&ask, wanted, (routed.answer.clone(), 0.0))?;
        Ok(Some(moved).filter(|moved| moved.running.at != routed.running.at))
    }

    /// Seconds that a request is expected to take yet where it is, if `done` positions are computed and `left` tokens are
    /// expected.
    pub fn remaining(&mut self, routed: &Routed, done: u32, left: u32) -> f64 {
        let Running { at, positions, .. } = routed.running;
        let variants = self.resident.lock();
        let levels = self.levels.update(&speeds(&variants));
        let drafts = routed.route.speculation != SpeculationRule::Off;
        let wanted = Wanted { prompt: done, output: left, holds: Some((at, positions)), drafts };
        present(&variants, at, wanted, levels[at]).seconds
    }

    /// Asks the probe for a request's category.
    fn answer(&mut self, text: &str) -> Result<Option<Answer>, FleetError> {
        let smallest = self.smallest();
        let Some((probe, engine)) = self.probe.as_mut().zip(smallest) else { return Ok(None) };
        Ok(Some(probe.probe(&engine, text)?))
    }

    fn choose(
        &mut self,
        ask: &Ask<'_>,
        wanted: Wanted,
        (answer, probe_seconds): (Option<Answer>, f64),
    ) -> Result<Routed, FleetError> {
        let variants = self.resident.lock();
        check_variant(ask.variant, &variants)?;
        let speeds = speeds(&variants);
        let levels = self.levels.update(&speeds);
        let known = ask.category.map(|category| Probed { category, margin: 1.0 });
        let probed = answer.as_ref().map(|a| a.best()).map(|(category, margin)| Probed { category, margin });
        let context = ask.prompt.saturating_add(ask.output);
        let (probed, policy) = (known.or(probed), ask.policy.unwrap_or(&self.policy));
        let rule = policy.treatment(probed.map(|p| p.category), context).speculation;
        let wanted = Wanted { drafts: rule != SpeculationRule::Off, ..wanted };
        let now: Vec<VariantNow<'_>> =
            (0..variants.len()).map(|at| present(&variants, at, wanted, levels[at])).collect();
        let route = policy.route(&RouteRequest { probed, variant: ask.variant, context, within: ask.within }, &now);
        let Some(route) = route else { return Err(no_room(&variants, ask.variant, context)) };
        let Variant { spec, engine, .. } = &variants[route.variant];
        let Some(engine) = engine.clone() else { return Err(no_room(&variants, ask.variant, context)) };
        let (name, at) = (spec.name.clone(), route.variant);
        let bandwidth = speeds[at].map_or(0.0, |s| s.bandwidth) * levels[at];
        let positions = u64::from(context).min(engine.context() as u64);
        drop(variants);
        let running = Running::new(&self.resident, at, positions);
        let tokens = [wanted.prompt, wanted.output];
        Ok(Routed { name, engine, route, answer, probe_seconds, bandwidth, tokens, running })
    }
}

/// Present speeds of those that are loaded.
fn speeds(variants: &[Variant]) -> Vec<Option<PresentSpeed>> {
    variants.iter().map(|v| v.engine.as_ref().map(|e| e.speed())).collect()
}

/// Refuses a variant that is none of these.
fn check_variant(name: Option<&str>, variants: &[Variant]) -> Result<(), FleetError> {
    match name.filter(|name| variants.iter().all(|v| v.spec.name != *name)) {
        Some(name) => {
            let known = variants.iter().map(|v| v.spec.name.as_str()).collect::<Vec<_>>().join(", ");
            Err(FleetError::NoSuchVariant { name: name.to_owned(), known })
        }
        None => Ok(()),
    }
}

/// No variant has room, or the one that was asked for has not.
fn no_room(variants: &[Variant], asked: Option<&str>, positions: u32) -> FleetError {
    let of = variants.iter().filter(|v| asked.is_none_or(|name| v.spec.name == name));
    let why = |v: &Variant| match &v.engine {
        Some(engine) => format!("{} has a context of {}", v.spec.name, engine.context()),
        None => format!("{}: {}", v.spec.name, v.state),
    };
    FleetError::NoRoom { positions, why: of.map(why).collect::<Vec<_>>().join("; ") }
}

/// What a variant would take now. `level` is how much faster it is than its cost model says.
fn present(variants: &[Variant], at: usize, wanted: Wanted, level: f64) -> VariantNow<'_> {
    let variant = &variants[at];
    let VariantSpec { name, weight_bytes, .. } = &variant.spec;
    let (name, weight_bytes) = (name.as_str(), *weight_bytes);
    let Some(engine) = variant.engine.as_deref() else {
        return VariantNow { name, weight_bytes, seconds: f64::INFINITY, room: Room::Never };
    };
    // The request itself is none of those that run.
    let running = |i: usize, v: &Variant| match wanted.holds.filter(|(at, _)| *at == i) {
        Some((_, own)) => (v.requests.saturating_sub(1), v.positions.saturating_sub(own)),
        None => (v.requests, v.positions),
    };
    let holds = wanted.holds.is_some_and(|(own, _)| own == at);
    let others = variants.iter().enumerate().filter(|(i, v)| *i != at && running(*i, v).0 > 0);
    let shares = 1 + others.count() as u32;
    let (prompt, done) = if holds { (0, wanted.prompt) } else { (wanted.prompt, 0) };
    let (requests, positions) = running(at, variant);
    let gain = if wanted.drafts { engine.draft_gain() } else { 1.0 };
    let expected = Expected { prompt, done, output: wanted.output, rows: engine.prefill_rows() as u32, gain, shares };
    let seconds = expected.seconds(|rows, len| {
        let step = StepSize { sequences: requests + 1, rows: requests + rows, positions: positions + u64::from(len) };
        let Predicted(seconds) = engine.predict(step);
        seconds / level
    });
    let context = u64::from(wanted.prompt.saturating_add(wanted.output)).min(engine.context() as u64);
    let room = match wanted.prompt as usize {
        prompt if prompt >= engine.context() => Room::Never,
        _ if positions + context > engine.positions() as u64 => Room::Later,
        _ => Room::Now,
    };
    VariantNow { name, weight_bytes, seconds, room }
}
