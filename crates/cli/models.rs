//! Finds and loads models for the subcommands.

use crate::args::{DeviceArg, LoadArgs, ModelArgs};
use crate::devices;
use crate::input;
use crate::profiles;
use crate::pull;
use crate::store::CacheEntry;
use aio::backend::{Device, ImageAccess};
use aio::engine::{Engine, EngineOptions};
use aio::ir::{Graph, PAGE_POSITIONS};
use aio::model::Model;
use aio::model::template::Templates;
use aio::plan::artefact::{Artefact, is_artefact};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Path of the model file: the one named, or the default model, downloaded if it is missing.
pub(crate) fn path(args: &ModelArgs) -> Result<PathBuf> {
    match &args.model {
        Some(path) => Ok(path.clone()),
        None => pull::default_model(false),
    }
}

/// Opens the device for a model.
pub(crate) fn model_device(args: &ModelArgs) -> Result<Arc<dyn Device>> {
    Ok(devices::open(args.device, args.into())?.device)
}

/// Positions of the KV pages that suit the device. One that cannot be opened has its error where it is used.
fn pages(args: &ModelArgs) -> u64 {
    match args.device {
        DeviceArg::CPU => PAGE_POSITIONS,
        _ => model_device(args).map_or(PAGE_POSITIONS, |device| device.target().page_positions()),
    }
}

/// Opens the model file.
pub(crate) fn open(args: &ModelArgs) -> Result<Model> {
    open_path(&path(args)?)
}

pub(crate) fn open_path(path: &Path) -> Result<Model> {
    if is_artefact(path) {
        bail!("{} is a compiled artefact; this command needs the original model file", path.display());
    }
    Model::open(path).with_context(|| format!("cannot open model {}", path.display()))
}

/// Prints the file's warnings: what it specifies and aio does not follow exactly.
pub(crate) fn warn(model: &Model) {
    for warning in model.warnings() {
        note!("warning: {warning}");
    }
}

/// The model's name in messages.
pub(crate) fn name(model: &Model) -> String {
    model.gguf.path().map_or_else(|| model.hyper.architecture.clone(), |p| p.display().to_string())
}

/// The graph templates, and the name of the one selected by the arguments.
fn templates(args: &ModelArgs) -> Result<(Templates, Option<String>)> {
    let mut templates = aio::templates();
    let own = match &args.template {
        None => None,
        Some(path) => {
            let text = input::text(path, input::TEMPLATE)?;
            let name = path.display().to_string();
            templates.set(&name, &text);
            Some(name)
        }
    };
    Ok((templates, own))
}

/// The text of the model's step graph, so that faults can be shown with their positions.
pub(crate) fn graph_text(model: &Model, args: &ModelArgs) -> Result<String> {
    let (templates, own) = templates(args)?;
    model.paged_graph_text(&templates, own.as_deref(), pages(args)).with_context(|| name(model))
}

/// The model's step graph.
pub(crate) fn graph(model: &Model, args: &ModelArgs) -> Result<Graph> {
    graph_with(model, args, pages(args))
}

fn graph_with(model: &Model, args: &ModelArgs, pages: u64) -> Result<Graph> {
    let (templates, own) = templates(args)?;
    model.paged_graph(&templates, own.as_deref(), pages).with_context(|| name(model))
}

/// A loaded model, and its place in the cache if it has yet to be stored there.
pub(crate) struct Loaded {
    pub engine: Engine,
    /// The device that it is on.
    pub device: Arc<dyn Device>,
    entry: Option<CacheEntry>,
}

/// A cache entry to fill.
pub(crate) struct Keep(Option<CacheEntry>);

impl Keep {
    /// See [`Loaded::keep`].
    pub(crate) fn keep(&mut self, engine: &Engine) {
        if let Some(entry) = self.0.take() {
            entry.fill(engine);
        }
    }
}

impl Loaded {
    /// Splits off the engine; [`Keep`] does what [`Loaded::keep`] would.
    pub(crate) fn split(self) -> (Engine, Keep) {
        (self.engine, Keep(self.entry))
    }

    /// Adds the model to the cache if it is missing. Call when the work is done, so the user never waits for it.
    pub(crate) fn keep(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.fill(&self.engine);
        }
    }
}

/// Loads the model on the device that its arguments name: from an artefact, the cache, or its file.
pub(crate) fn load(args: &ModelArgs, load: &LoadArgs, options: &EngineOptions) -> Result<Loaded> {
    load_on(args, load, model_device(args)?, options)
}

/// Like [`load`], on a device that is already open.
pub(crate) fn load_on(
    args: &ModelArgs,
    load: &LoadArgs,
    device: Arc<dyn Device>,
    options: &EngineOptions,
) -> Result<Loaded> {
    let known = profiles::ceilings(args.device, &device.target().name, args.threads.unwrap_or(0));
    let options = &EngineOptions { ceilings: known.or(options.ceilings), ..options.clone() };
    let path = path(args)?;
    let access = if load.mmap { ImageAccess::Map } else { ImageAccess::Read };
    let entry = CacheEntry::of(&path, args, load, &*device, options);
    let kept = entry.as_ref().map(|s| s.load(Arc::clone(&device), options, access)).transpose()?.flatten();
    // Tries the cache first: on a hit, the model file is not read.
    let own = Arc::clone(&device);
    let loaded = if let Some(engine) = kept {
        Loaded { engine, device: own, entry: None }
    } else if is_artefact(&path) {
        if args.template.is_some() {
            bail!("{} is already compiled; --template needs the original model file", path.display());
        }
        let named = || format!("cannot load {}", path.display());
        let artefact = Artefact::open(&path).with_context(named)?;
        let engine = Engine::from_artefact(artefact, device, options, access).with_context(named)?;
        Loaded { engine, device: own, entry: None }
    } else {
        let model = open_path(&path)?;
        let graph = graph_with(&model, args, device.target().page_positions())?;
        Loaded { engine: Engine::load(model, &graph, device, options)?, device: own, entry }
    };
    warn(loaded.engine.model());
    let trained = loaded.engine.model().hyper.context_length;
    if let Some(ctx) = options.context.filter(|&c| c > trained) {
        note!("warning: the context of {ctx} exceeds the model's {trained}; the text may degrade beyond that");
    }
    Ok(loaded)
}
