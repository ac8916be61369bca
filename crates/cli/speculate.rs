//! Creates drafters for requests according to the speculation flags.

use crate::args::{DrafterArg, LoadArgs, ModelArgs, SpeculateArgs};
use crate::models::{self, Keep};
use aio::backend::Counters;
use aio::engine::{Dispatch, Engine, EngineOptions, ModelDrafter, Sampling, Speculation};
use aio::orchestrator::routing::{DraftRule, SpeculationRule};
use aio::orchestrator::{Drafter, PromptLookup, SuffixDrafter};
use anyhow::{Result, bail};
use std::sync::Arc;

/// The drafter's settings, and the draft model if there is one.
pub(crate) struct Drafting {
    /// `None` uses the engine's default.
    drafter: Option<DrafterArg>,
    model: Option<Arc<Engine>>,
    keep: Option<Keep>,
}

impl Drafting {
    /// Validates the flags and, if given, loads the draft model on a separate device.
    pub(crate) fn new(
        args: &SpeculateArgs,
        model: &ModelArgs,
        load: &LoadArgs,
        options: &EngineOptions,
    ) -> Result<Drafting> {
        let drafter = args.drafter.or(args.draft_model.as_ref().map(|_| DrafterArg::Model));
        let (asked, given) = (drafter == Some(DrafterArg::Model), args.draft_model.is_some());
        if asked != given {
            bail!("--drafter model and --draft-model FILE belong together");
        }
        if !asked || matches!(args.speculation(), Speculation::Off | Speculation::Fixed(0)) {
            return Ok(Drafting { drafter, model: None, keep: None });
        }
        let model = ModelArgs { model: args.draft_model.clone(), template: None, ..model.clone() };
        let (engine, keep) = models::load(&model, load, options)?.split();
        Ok(Drafting { drafter, model: Some(Arc::new(engine)), keep: Some(keep) })
    }

    /// Adds the draft model to the cache, like the model. Call when the work is done.
    pub(crate) fn keep(&mut self) {
        if let Some(mut keep) = self.keep.take()
            && let Some(engine) = &self.model
        {
            keep.keep(engine);
        }
    }

    /// The draft model's counters so far.
    fn counters(&self) -> Counters {
        self.model.as_ref().map_or_else(Counters::default, |e| e.counters())
    }

    /// Bytes of weights that a step of the draft model reads.
    fn weight_bytes(&self) -> u64 {
        self.model.as_ref().map_or(0, |e| e.work().weight_bytes)
    }

    /// Uses the policy's source of drafts if no flag names one.
    pub(crate) fn prefer(&mut self, rule: DraftRule) {
        self.drafter = self.drafter.or(Some(match rule {
            DraftRule::Suffix => DrafterArg::Suffix,
            DraftRule::Lookup => DrafterArg::Lookup,
        }));
    }

    /// A drafter for a request; `None` if none was requested.
    pub(crate) fn drafter(&self, engine: &Engine, sampling: &Sampling) -> Result<Option<Box<dyn Drafter>>> {
        Ok(Some(match (self.drafter, &self.model) {
            (Some(DrafterArg::Lookup), _) => Box::new(PromptLookup::default()),
            (Some(DrafterArg::Suffix), _) => Box::new(SuffixDrafter::default()),
            (Some(DrafterArg::Model), Some(model)) => {
                Box::new(ModelDrafter::new(Arc::clone(model), engine, sampling.clone())?)
            }
            _ => return Ok(None),
        }))
    }
}

/// Speculation as a policy says.
pub(crate) fn by_rule(rule: SpeculationRule) -> Speculation {
    match rule {
        SpeculationRule::Off => Speculation::Off,
        SpeculationRule::Auto => Speculation::Auto,
        SpeculationRule::Fixed(n) => Speculation::Fixed(n as usize),
    }
}

/// A policy's source of drafts.
pub(crate) fn drafter_by_rule(rule: DraftRule) -> Box<dyn Drafter> {
    match rule {
        DraftRule::Suffix => Box::new(SuffixDrafter::default()),
        DraftRule::Lookup => Box::new(PromptLookup::default()),
    }
}

/// Counters of a model and its draft model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    own: Counters,
    drafts: Counters,
}

impl Spent {
    /// The counters since loading.
    pub(crate) fn now(engine: &Engine, drafting: Option<&Drafting>) -> Spent {
        Spent { own: engine.counters(), drafts: drafting.map(Drafting::counters).unwrap_or_default() }
    }

    pub(crate) fn since(self, before: Spent) -> Spent {
        Spent { own: self.own - before.own, drafts: self.drafts - before.drafts }
    }

    pub(crate) fn submissions(&self) -> u64 {
        self.own.submissions + self.drafts.submissions
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.own.syncs + self.drafts.syncs
    }

    /// Seconds of all steps by the device's model; `None` if they were measured.
    pub(crate) fn modelled(&self) -> Option<f64> {
        let ns = self.own.modelled_ns + self.drafts.modelled_ns;
        (ns > 0).then_some(ns as f64 * 1e-9)
    }

    /// Graphs captured for new shapes of steps, and the seconds that took.
    pub(crate) fn captures(&self) -> (u64, f64) {
        let ns = self.own.capture_ns + self.drafts.capture_ns;
        (self.own.captures + self.drafts.captures, ns as f64 * 1e-9)
    }

    /// Bytes of weights read in `steps` steps of the engine.
    pub(crate) fn weight_bytes(&self, engine: &Engine, drafting: Option<&Drafting>, steps: u64) -> u64 {
        // Verifying token by token makes more than one pass over the weights per step.
        let passes = if engine.dispatch() == Dispatch::Token { self.own.submissions } else { steps };
        passes * engine.work().weight_bytes + self.drafts.submissions * drafting.map_or(0, Drafting::weight_bytes)
    }
}
