//! Drafters for requests, as the flags of speculation ask.

use crate::args::{DrafterArg, LoadArgs, ModelArgs, SpeculateArgs};
use crate::models::{self, Loaded};
use aio::engine::{Engine, EngineOptions, ModelDrafter, Sampling, Speculation};
use aio::orchestrator::{Drafter, PromptLookup, SuffixDrafter};
use anyhow::{Result, bail};
use std::sync::{Arc, Mutex};

/// What drafters are made of.
pub(crate) struct Drafting {
    drafter: DrafterArg,
    model: Option<Arc<Mutex<Engine>>>,
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
            return Ok(Drafting { drafter, model: None });
        }
        let model = ModelArgs { model: args.draft_model.clone(), template: None, ..model.clone() };
        let Loaded { engine, .. } = models::load(&model, load, options)?;
        Ok(Drafting { drafter, model: Some(Arc::new(Mutex::new(engine))) })
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
