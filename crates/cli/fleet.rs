//! Variants for `aio run`: loads them within a budget and chooses one for the prompt.

use crate::args::{FleetArgs, LoadArgs, ModelArgs, ProbeArg};
use crate::{input, models};
use aio::backend::Device;
use aio::compiler::{Options, compile};
use aio::engine::{Engine, EngineOptions, ModelWork, available_bytes};
use aio::fleet::{Fleet, FleetOptions, LinearHead, Loader, Probe, Routed, VariantSpec, ZeroShot};
use aio::ir::verify;
use aio::orchestrator::routing::{Policy, ProbeKind};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Sequences of the smallest variant: the request's, the zero-shot probe's question and its copy.
const SEQUENCES: u32 = 3;
/// Tokens that are expected where none is asked for.
const OUTPUT: u32 = 256;

/// The policy of a name or a file.
pub(crate) fn policy(name: &str) -> Result<Policy> {
    let path = Path::new(name);
    if name.ends_with(".toml") || path.is_file() {
        return Policy::from_toml(&input::text(path, input::TEMPLATE)?).with_context(|| name.to_owned());
    }
    Ok(Policy::built_in(name)?)
}

/// Reads a head.
pub(crate) fn head(path: &Path) -> Result<LinearHead> {
    LinearHead::from_json(&input::text(path, input::TEXT)?).with_context(|| path.display().to_string())
}

/// The variant of a file: its name, and what it needs.
fn spec(path: &Path, args: &ModelArgs, device: &dyn Device, options: &EngineOptions) -> Result<VariantSpec> {
    let model = models::open_path(path)?;
    let graph = models::graph(&model, args)?;
    let buckets = options.buckets(device);
    let family = compile(verify(&graph)?, &device.target(), &Options { buckets, fuse: true })?.family;
    let work = ModelWork::of(&family);
    let context = options.context.unwrap_or(model.hyper.context_length);
    let kv = work.kv_bytes_per_position * u64::from(context) * u64::from(options.sequences);
    let file = std::fs::metadata(path).map_or(0, |m| m.len());
    let name = path.file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned());
    Ok(VariantSpec { name, weight_bytes: work.weight_bytes, need: file + kv + family.arena_bytes })
}

/// The probe of a policy, or the one that the flags ask for.
fn probe(args: &FleetArgs, policy: &Policy, engine: &Engine) -> Result<Option<Box<dyn Probe>>> {
    let kind = match args.probe {
        Some(ProbeArg::None) => ProbeKind::None,
        Some(ProbeArg::ZeroShot) => ProbeKind::ZeroShot,
        Some(ProbeArg::Head) => ProbeKind::Head,
        None => policy.probe.clone(),
    };
    Ok(match (kind, &args.head) {
        (ProbeKind::None, _) => None,
        (ProbeKind::Constant(category), _) => Some(Box::new(aio::fleet::Constant(category))),
        (ProbeKind::ZeroShot, _) => Some(Box::new(ZeroShot::new(engine, &args.categories)?)),
        (ProbeKind::Head, Some(path)) => Some(Box::new(head(path)?)),
        (ProbeKind::Head, None) => {
            note!("no --head, so the category comes from the zero-shot probe; `aio route train` makes a head");
            Some(Box::new(ZeroShot::new(engine, &args.categories)?))
        }
    })
}

/// Loads the variants and chooses one for the prompt.
pub(crate) fn choose(
    args: &FleetArgs,
    (model, load): (&ModelArgs, &LoadArgs),
    options: &EngineOptions,
    (prompt, output): (&str, Option<usize>),
) -> Result<(Fleet, Routed)> {
    let policy = policy(args.policy.as_deref().unwrap_or("adaptive"))?;
    if args.probe == Some(ProbeArg::Head) && args.head.is_none() {
        bail!("--probe head needs a head: make one with `aio route train` and give it with --head");
    }
    let device = models::model_device(model)?;
    let wants_head = args.head.is_some();
    let options = EngineOptions { sequences: SEQUENCES, hidden: wants_head, ..options.clone() };
    let specs = args
        .variants
        .iter()
        .map(|path| spec(path, model, &*device, &options).with_context(|| format!("variant {}", path.display())));
    let specs: Vec<VariantSpec> = specs.collect::<Result<_>>()?;
    let paths: Vec<(String, PathBuf)> = specs.iter().map(|s| s.name.clone()).zip(args.variants.clone()).collect();
    let (own, load) = (model.clone(), LoadArgs { mmap: load.mmap, no_cache: load.no_cache || wants_head });
    let loader: Loader = Arc::new(move |name| {
        let path = paths.iter().find(|(known, _)| known == name).map(|(_, path)| path.clone());
        let args = ModelArgs { model: path, ..own.clone() };
        Ok(models::load_on(&args, &load, Arc::clone(&device), &options)?.split().0)
    });
    let budget = args.memory.map_or_else(|| available_bytes().unwrap_or(u64::MAX), |gb| (gb * 1e9) as u64);
    let fleet = Fleet::load(specs, policy, loader, FleetOptions { budget })?;
    let smallest = fleet.smallest().context("the smallest variant is not loaded")?;
    let probe = probe(args, fleet.policy(), &smallest)?;
    let mut fleet = fleet.with_probe(probe);
    // One prompt alone waits for what it may need.
    fleet.wait();
    let tokens = smallest.model().tokenizer.encode(prompt, true)?.len() as u32;
    let output = output.map_or(OUTPUT, |n| u32::try_from(n).unwrap_or(u32::MAX));
    let routed = fleet.route(prompt, tokens, output, args.within.unwrap_or(f64::INFINITY))?;
    Ok((fleet, routed))
}
