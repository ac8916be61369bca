//! The variants: loading within a budget, and the variant of each request.

use crate::{Answer, FleetError, Probe};
use aio_engine::Engine;
use aio_orchestrator::routing::{Policy, Probed, Route, RouteRequest, VariantNow};
use aio_orchestrator::{Predicted, StepSize};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A variant before it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariantSpec {
    /// Its name.
    pub name: String,
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// Bytes that it takes when loaded: weights, KV pages, working memory.
    pub need: u64,
}

/// Loads a variant by its name.
pub type Loader = Arc<dyn Fn(&str) -> Result<Engine, LoadError> + Send + Sync>;

/// Why a loader has no engine.
pub type LoadError = Box<dyn std::error::Error + Send + Sync>;

/// How a fleet is loaded.
#[derive(Clone, Copy, Debug)]
pub struct FleetOptions {
    /// Bytes for all variants together.
    pub budget: u64,
}

/// Where a variant is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariantState {
    /// It will be loaded in the background.
    Waiting,
    /// It is being loaded.
    Loading,
    /// It serves requests.
    Ready,
    /// The budget has no room for it.
    NoRoom {
        /// Bytes that it needs.
        need: u64,
        /// Bytes that the others leave.
        left: u64,
    },
    /// It was dropped to free its memory.
    Evicted,
    /// It could not be loaded.
    Failed(String),
}

impl fmt::Display for VariantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VariantState::Waiting => f.write_str("waiting to be loaded"),
            VariantState::Loading => f.write_str("being loaded"),
            VariantState::Ready => f.write_str("ready"),
            VariantState::NoRoom { need, left } => write!(f, "needs {need} bytes, and the others leave {left}"),
            VariantState::Evicted => f.write_str("dropped to free its memory"),
            VariantState::Failed(reason) => write!(f, "cannot be loaded: {reason}"),
        }
    }
}

struct Variant {
    spec: VariantSpec,
    state: VariantState,
    engine: Option<Arc<Engine>>,
}

/// What the loading thread shares with the fleet.
struct Shared {
    variants: Mutex<Vec<Variant>>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Variant>> {
        self.variants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads a variant, and keeps it or the reason.
    fn load(&self, at: usize, loader: &Loader) -> Result<(), LoadError> {
        let name = {
            let mut variants = self.lock();
            variants[at].state = VariantState::Loading;
            variants[at].spec.name.clone()
        };
        let guard = Unloaded { shared: self, at };
        let loaded = loader(&name);
        std::mem::forget(guard);
        let mut variants = self.lock();
        let failed = match loaded {
            Ok(engine) => {
                variants[at].engine = Some(Arc::new(engine));
                variants[at].state = VariantState::Ready;
                None
            }
            Err(e) => {
                variants[at].state = VariantState::Failed(e.to_string());
                Some(e)
            }
        };
        drop(variants);
        self.changed.notify_all();
        failed.map_or(Ok(()), Err)
    }
}

/// Marks a variant as failed if its loader panics, so that nobody waits for it.
struct Unloaded<'a> {
    shared: &'a Shared,
    at: usize,
}

impl Drop for Unloaded<'_> {
    fn drop(&mut self) {
        self.shared.lock()[self.at].state = VariantState::Failed("its loader panicked".to_owned());
        self.shared.changed.notify_all();
    }
}

/// Several variants of a model. See the crate's front page.
pub struct Fleet {
    shared: Arc<Shared>,
    policy: Policy,
    probe: Option<Box<dyn Probe>>,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("states", &self.states()).field("policy", &self.policy.name).finish()
    }
}

/// Where a request goes.
#[derive(Debug)]
pub struct Routed {
    /// The variant's name.
    pub name: String,
    /// It.
    pub engine: Arc<Engine>,
    /// The choice and the variants that were not taken, by index in [`Fleet::states`].
    pub route: Route,
    /// What the probe said, if the policy has one.
    pub answer: Option<Answer>,
    /// Seconds that the probe took.
    pub probe_seconds: f64,
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
        let mut left = options.budget;
        let mut variants: Vec<Variant> =
            specs.into_iter().map(|spec| Variant { spec, state: VariantState::Waiting, engine: None }).collect();
        for &i in &order {
            let need = variants[i].spec.need;
            match left.checked_sub(need) {
                Some(rest) => left = rest,
                None => variants[i].state = VariantState::NoRoom { need, left },
            }
        }
        let VariantSpec { name, need, .. } = variants[smallest].spec.clone();
        if variants[smallest].state != VariantState::Waiting {
            return Err(FleetError::Budget { name, need, budget: options.budget });
        }
        let waiting: Vec<usize> =
            others.iter().copied().filter(|&i| variants[i].state == VariantState::Waiting).collect();
        let shared = Arc::new(Shared { variants: Mutex::new(variants), changed: Condvar::new() });
        shared.load(smallest, &loader).map_err(|e| FleetError::Load { name, reason: e.to_string() })?;
        in_background(&shared, waiting, &loader);
        Ok(Fleet { shared, policy, probe: None })
    }

    /// Sets the probe that the policy asks for.
    pub fn with_probe(self, probe: Option<Box<dyn Probe>>) -> Fleet {
        Fleet { probe, ..self }
    }

    /// Waits until no variant is waiting or being loaded.
    pub fn wait(&self) {
        let busy = |v: &Variant| matches!(v.state, VariantState::Waiting | VariantState::Loading);
        let mut variants = self.shared.lock();
        while variants.iter().any(busy) {
            variants = self.shared.changed.wait(variants).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Names and states of the variants.
    pub fn states(&self) -> Vec<(String, VariantState)> {
        self.shared.lock().iter().map(|v| (v.spec.name.clone(), v.state.clone())).collect()
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The smallest variant, which probes run on.
    pub fn smallest(&self) -> Option<Arc<Engine>> {
        self.shared.lock().iter().min_by_key(|v| v.spec.weight_bytes)?.engine.clone()
    }

    /// Drops a variant that no request uses, and returns whether it did. Its memory is free again.
    pub fn evict(&self, name: &str) -> bool {
        let mut variants = self.shared.lock();
        let found = variants.iter_mut().find(|v| v.spec.name == name);
        let Some(variant) = found.filter(|v| v.engine.as_ref().is_some_and(|e| Arc::strong_count(e) == 1)) else {
            return false;
        };
        let engine = variant.engine.take();
        variant.state = VariantState::Evicted;
        // Freeing takes a while, in which others may route.
        drop(variants);
        drop(engine);
        true
    }

    /// Chooses the variant of a request of `prompt` tokens, to which about `output` tokens are expected, within `within`
    /// seconds. A variant has room for it if its context holds the prompt and a token more.
    ///
    /// # Errors
    /// Those of the probe; [`FleetError::NoRoom`].
    pub fn route(&mut self, text: &str, prompt: u32, output: u32, within: f64) -> Result<Routed, FleetError> {
        let started = Instant::now();
        let answer = match (&mut self.probe, self.shared.lock().iter().min_by_key(|v| v.spec.weight_bytes)) {
            (Some(probe), Some(Variant { engine: Some(engine), .. })) => Some((probe, Arc::clone(engine))),
            _ => None,
        };
        let answer = answer.map(|(probe, engine)| probe.probe(&engine, text)).transpose()?;
        let probe_seconds = if answer.is_some() { started.elapsed().as_secs_f64() } else { 0.0 };
        let variants = self.shared.lock();
        let speed = present_speed(&variants);
        let now: Vec<VariantNow<'_>> = variants.iter().map(|v| present(v, (prompt, output), speed)).collect();
        let probed = answer.as_ref().map(|a| a.best()).map(|(category, margin)| Probed { category, margin });
        let context = prompt.saturating_add(output);
        let request = RouteRequest { probed, context, within: within - probe_seconds };
        let Some(route) = self.policy.route(&request, &now) else { return Err(no_room(&variants, context)) };
        let Variant { spec, engine, .. } = &variants[route.variant];
        let Some(engine) = engine.clone() else { return Err(no_room(&variants, context)) };
        Ok(Routed { name: spec.name.clone(), engine, route, answer, probe_seconds })
    }
}

/// Loads variants on a thread of its own; on this one if there can be none.
fn in_background(shared: &Arc<Shared>, waiting: Vec<usize>, loader: &Loader) {
    let load_all = |shared: &Shared, waiting: &[usize], loader: &Loader| {
        // A failure is kept as the variant's state.
        waiting.iter().for_each(|&i| drop(shared.load(i, loader)));
    };
    let (own, list, with) = (Arc::clone(shared), waiting.clone(), Arc::clone(loader));
    let spawned = std::thread::Builder::new().name("aio-fleet".to_owned()).spawn(move || load_all(&own, &list, &with));
    if spawned.is_err() {
        load_all(shared, &waiting, loader);
    }
}

fn no_room(variants: &[Variant], positions: u32) -> FleetError {
    let why = |v: &Variant| match &v.engine {
        Some(engine) => format!("{} has a context of {}", v.spec.name, engine.context()),
        None => format!("{}: {}", v.spec.name, v.state),
    };
    FleetError::NoRoom { positions, why: variants.iter().map(why).collect::<Vec<_>>().join("; ") }
}

/// How fast the machine is at present, by the smallest variant that has run steps. Variants that have run none take it
/// from there, since they share the machine.
fn present_speed(variants: &[Variant]) -> f64 {
    let engines = variants.iter().filter_map(|v| Some((v.spec.weight_bytes, v.engine.as_ref()?)));
    let measured = engines.filter(|(_, engine)| engine.cost_errors().is_some());
    measured.min_by_key(|(bytes, _)| *bytes).map_or(1.0, |(_, engine)| engine.speed())
}

/// What a variant would take now.
fn present(variant: &Variant, (prompt, output): (u32, u32), speed: f64) -> VariantNow<'_> {
    let VariantSpec { name, weight_bytes, .. } = &variant.spec;
    let engine = variant.engine.as_deref();
    let fits = engine.is_some_and(|e| (prompt as usize) < e.context());
    let other = |e: &Engine| if e.cost_errors().is_some() { 1.0 } else { speed };
    let seconds = engine.map_or(f64::INFINITY, |e| expected(e, prompt, output) / other(e));
    VariantNow { name, weight_bytes: *weight_bytes, seconds, fits }
}

/// Expected seconds of a request that runs alone, at the machine's present speed.
fn expected(engine: &Engine, prompt: u32, output: u32) -> f64 {
    let chunk = (engine.prefill_rows() as u32).clamp(1, prompt.max(1));
    let step = |rows: u32, positions: u32| {
        let Predicted(seconds) = engine.predict(StepSize { sequences: 1, rows, positions: positions.into() });
        seconds
    };
    let prefill = f64::from(prompt) / f64::from(chunk) * step(chunk, (prompt / 2).max(chunk));
    prefill + f64::from(output) * step(1, prompt.saturating_add(output / 2))
}

impl Routed {
    /// What was chosen and why, a line each. `names` are those of [`Fleet::states`].
    pub fn explain(&self, names: &[String]) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(answer) = &self.answer {
            let (best, margin) = answer.best();
            let scores: Vec<String> =
                answer.scores.iter().map(|(name, score)| format!("{name} {:.0} %", score * 100.0)).collect();
            let ms = self.probe_seconds * 1e3;
            lines.push(format!(
                "probe: {best}, ahead by {:.0} points ({}), from {} tokens in {ms:.1} ms",
                margin * 100.0,
                scores.join(", "),
                answer.tokens
            ));
        }
        lines.push(format!("variant: {} ({}), {:.2} s expected", self.name, self.route.reason, self.route.seconds));
        for other in &self.route.rejected {
            let name = names.get(other.variant).map_or("", String::as_str);
            let time =
                if other.seconds.is_finite() { format!(", {:.2} s expected", other.seconds) } else { String::new() };
            lines.push(format!("  not {name}: {}{time}", other.why));
        }
        lines
    }
}
