//! Drafters for requests, as the flags of speculation ask.

use crate::args::{DrafterArg, LoadArgs, ModelArgs, SpeculateArgs};
use crate::models::{self, Keep};
use aio::backend::Counters;
use aio::engine::{Dispatch, Engine, EngineOptions, ModelDrafter, Sampling, Speculation};
use aio::orchestrator::{Drafter, PromptLookup, SuffixDrafter};
use anyhow::{Result, bail};
use std::sync::Arc;

/// What drafters are made of.
pub(crate) struct Drafting {
    /// `None`: whatever the engine takes by itself.
    drafter: Option<DrafterArg>,
    model: Option<Arc<Engine>>,
    keep: Option<Keep>,
}

impl Drafting {
    /// Checks the flags, and loads the draft model if there is one, onto a device of its own.
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
        if !asked || matches!(args.spec, Speculation::Off | Speculation::Fixed(0)) {
            return Ok(Drafting { drafter, model: None, keep: None });
        }
        let model = ModelArgs { model: args.draft_model.clone(), template: None, ..model.clone() };
        let (engine, keep) = models::load(&model, load, options)?.split();
        Ok(Drafting { drafter, model: Some(Arc::new(engine)), keep: Some(keep) })
    }

    /// Puts the draft model into the cache, as the model is: when the work is done.
    pub(crate) fn keep(&mut self) {
        if let Some(mut keep) = self.keep.take()
            && let Some(engine) = &self.model
        {
            keep.keep(engine);
        }
    }

    /// What the draft model has done so far.
    fn counters(&self) -> Counters {
        self.model.as_ref().map_or_else(Counters::default, |e| e.counters())
    }

    /// Bytes of weights that a step of the draft model reads.
    fn weight_bytes(&self) -> u64 {
        self.model.as_ref().map_or(0, |e| e.work().weight_bytes)
    }

    /// A drafter for a request; `None` where none was asked for.
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

/// What a model and the one that drafts for it have done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    own: Counters,
    drafts: Counters,
}

impl Spent {
    /// Since they were loaded.
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

    /// Bytes of weights that were read in `steps` steps of the engine.
    pub(crate) fn weight_bytes(&self, engine: &Engine, drafting: Option<&Drafting>, steps: u64) -> u64 {
        // Verifying token by token takes more than one pass over the weights in a step.
        let passes = if engine.dispatch() == Dispatch::Token { self.own.submissions } else { steps };
        passes * engine.work().weight_bytes + self.drafts.submissions * drafting.map_or(0, Drafting::weight_bytes)
    }
}
