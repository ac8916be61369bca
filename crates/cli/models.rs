//! Finding and loading models for the subcommands.

use crate::args::{DeviceArg, IsaArg, ModelArgs};
use crate::pull;
use aio::backend::Device;
use aio::cpu::{CpuDevice, CpuOptions, IsaLevel};
use aio::engine::{Engine, EngineOptions};
use aio::interp::InterpDevice;
use aio::ir::Graph;
use aio::model::Model;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// The model file to use: the one named, or the default one, fetched if it is not there.
pub(crate) fn path(args: &ModelArgs) -> Result<PathBuf> {
    match &args.model {
        Some(path) => Ok(path.clone()),
        None => pull::default_model(false),
    }
}

/// The device asked for; `threads` 0 means one a core.
pub(crate) fn device(device: DeviceArg, isa: Option<IsaArg>, threads: Option<u32>) -> Result<Arc<dyn Device>> {
    if device == DeviceArg::Interp {
        return Ok(Arc::new(InterpDevice::default()));
    }
    Ok(Arc::new(cpu(isa, threads)?))
}

/// The CPU; `threads` 0 means one a core.
pub(crate) fn cpu(isa: Option<IsaArg>, threads: Option<u32>) -> Result<CpuDevice> {
    let isa = isa.map(|isa| match isa {
        IsaArg::Portable => IsaLevel::Portable,
        IsaArg::Avx2 => IsaLevel::Avx2,
        IsaArg::Avx512 => IsaLevel::Avx512Vnni,
    });
    let threads = threads.unwrap_or(0) as usize;
    Ok(CpuDevice::new(CpuOptions { threads, isa, pin: true })?)
}

/// The device of a model.
pub(crate) fn model_device(args: &ModelArgs) -> Result<Arc<dyn Device>> {
    device(args.device, args.isa, args.threads)
}

/// Opens the model file.
pub(crate) fn open(args: &ModelArgs) -> Result<Model> {
    let path = path(args)?;
    Model::open(&path).with_context(|| format!("cannot open model {}", path.display()))
}

/// The text of the model's step graph.
pub(crate) fn graph_text(model: &Model, args: &ModelArgs) -> Result<String> {
    let mut templates = aio::templates();
    let own = match &args.template {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.display().to_string();
            templates.set(&name, &text);
            Some(name)
        }
    };
    Ok(model.graph_text(&templates, own.as_deref())?)
}

/// The model's step graph.
fn graph(model: &Model, args: &ModelArgs) -> Result<Graph> {
    let text = graph_text(model, args)?;
    Ok(aio::ir::text::parse(&text).context("the rendered graph template")?.graph)
}

/// Opens, compiles and loads the model on the device that its arguments name.
pub(crate) fn load(args: &ModelArgs, options: &EngineOptions) -> Result<Engine> {
    load_on(args, model_device(args)?, options)
}

/// As [`load`], on a device that is open already.
pub(crate) fn load_on(args: &ModelArgs, device: Arc<dyn Device>, options: &EngineOptions) -> Result<Engine> {
    let model = open(args)?;
    let graph = graph(&model, args)?;
    let trained = model.hyper.context_length;
    if let Some(ctx) = options.context.filter(|&c| c > trained) {
        note!("warning: a context of {ctx} is longer than the model's {trained}; its text may degrade beyond that");
    }
    Ok(Engine::load(model, &graph, device, options)?)
}
