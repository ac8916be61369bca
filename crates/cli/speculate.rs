//! Drafters for requests, as the flags of speculation ask.

use crate::args::{DrafterArg, LoadArgs, ModelArgs, SpeculateArgs};
use crate::models::{self, Keep};
use aio::backend::Counters;
use aio::engine::{Engine, EngineOptions, ModelDrafter, Sampling, Speculation};
use aio::orchestrator::{Drafter, PromptLookup, SuffixDrafter};
use anyhow::{Result, bail};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What drafters are made of.
pub(crate) struct Drafting {
    drafter: DrafterArg,
    model: Option<Arc<Mutex<Engine>>>,
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
        let default = if args.draft_model.is_some() { DrafterArg::Model } else { DrafterArg::Suffix };
        let drafter = args.drafter.unwrap_or(default);
        let (asked, given) = (drafter == DrafterArg::Model, args.draft_model.is_some());
        if asked != given {
            bail!("--drafter model and --draft-model FILE belong together");
        }
        if !asked || args.spec == Speculation::Off {
            return Ok(Drafting { drafter, model: None, keep: None });
        }
        let model = ModelArgs { model: args.draft_model.clone(), template: None, ..model.clone() };
        let (engine, keep) = models::load(&model, load, options)?.split();
        Ok(Drafting { drafter, model: Some(Arc::new(Mutex::new(engine))), keep: Some(keep) })
    }

    /// Puts the draft model into the cache, as the model is: when the work is done.
    pub(crate) fn keep(&mut self) {
        if let Some(mut keep) = self.keep.take()
            && let Some(engine) = self.engine()
        {
            keep.keep(&engine);
        }
    }

    /// What the draft model has done so far.
    pub(crate) fn counters(&self) -> Counters {
        self.engine().map_or_else(Counters::default, |e| e.counters())
    }

    /// Bytes of weights that a step of the draft model reads.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.engine().map_or(0, |e| e.work().weight_bytes)
    }

    fn engine(&self) -> Option<MutexGuard<'_, Engine>> {
        self.model.as_ref().map(|m| m.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A drafter for a request.
    pub(crate) fn drafter(&self, engine: &Engine, sampling: &Sampling) -> Result<Box<dyn Drafter>> {
        Ok(match (self.drafter, &self.model) {
            (DrafterArg::Lookup, _) => Box::new(PromptLookup::default()),
            (DrafterArg::Model, Some(model)) => {
                Box::new(ModelDrafter::new(Arc::clone(model), engine, sampling.clone())?)
            }
            _ => Box::new(SuffixDrafter::default()),
        })
    }
}
