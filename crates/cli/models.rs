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

/// The device asked for.
pub(crate) fn device(args: &ModelArgs) -> Result<Arc<dyn Device>> {
    if args.device == DeviceArg::Interp {
        return Ok(Arc::new(InterpDevice::default()));
    }
    let isa = args.isa.map(|isa| match isa {
        IsaArg::Portable => IsaLevel::Portable,
        IsaArg::Avx2 => IsaLevel::Avx2,
        IsaArg::Avx512 => IsaLevel::Avx512Vnni,
    });
    let threads = args.threads.unwrap_or(0) as usize;
    Ok(Arc::new(CpuDevice::new(CpuOptions { threads, isa, pin: true })?))
}

/// The model's step graph.
pub(crate) fn graph(model: &Model, args: &ModelArgs) -> Result<Graph> {
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
    let text = model.graph_text(&templates, own.as_deref())?;
    let parsed = aio::ir::text::parse(&text).context("the rendered graph template")?;
    Ok(parsed.graph)
}

/// Opens, compiles and loads the model.
pub(crate) fn load(args: &ModelArgs) -> Result<Engine> {
    let path = path(args)?;
    let model = Model::open(&path).with_context(|| format!("cannot open model {}", path.display()))?;
    let graph = graph(&model, args)?;
    let options = EngineOptions { context: args.ctx, ..EngineOptions::default() };
    Ok(Engine::load(model, &graph, device(args)?, &options)?)
}
