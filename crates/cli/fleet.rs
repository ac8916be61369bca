//! Variants for `aio run` and `aio bench trace`: policies, probes, and loading within a budget.

use crate::args::{FleetArgs, LoadArgs, ModelArgs, ProbeArg};
use crate::{devices, input, models, output};
use aio::backend::Device;
use aio::compiler::{Options, compile};
use aio::devices::Opened;
use aio::engine::{Engine, EngineOptions, MemoryNeed, ModelWork, available_bytes};
use aio::fleet::{Ask, Fleet, FleetError, FleetOptions, LinearHead, Loader, Probe, Routed, VariantSpec, ZeroShot};
use aio::ir::verify;
use aio::orchestrator::routing::{Policy, ProbeKind, QualityTable, VariantRule};
use aio::plan::PoolSizes;
use anyhow::{Context, Result, anyhow, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Sequences that a probe keeps on the smallest variant: its question and a copy.
const PROBE_SEQUENCES: u32 = 2;
/// Categories of the zero-shot probe where none are given.
const CATEGORIES: [&str; 4] = ["code", "math", "knowledge", "chat"];
/// Tokens that are expected where none is asked for.
const OUTPUT: u32 = 256;

/// The policy of a name or a file, with measurements of the variants if there are any.
pub(crate) fn policy(name: &str, quality: Option<&Path>) -> Result<Policy> {
    let path = Path::new(name);
    let policy = if name.ends_with(".toml") || path.is_file() && Policy::built_in(name).is_err() {
        Policy::from_toml(&input::text(path, input::TEMPLATE)?).with_context(|| name.to_owned())?
    } else {
        Policy::built_in(name)?
    };
    Ok(quality.map(measured).transpose()?.map_or(policy.clone(), |table| policy.with_quality(&table)))
}

/// Reads measured quality.
fn measured(path: &Path) -> Result<QualityTable> {
    QualityTable::from_toml(&input::text(path, input::TEMPLATE)?).with_context(|| path.display().to_string())
}

/// Reads a head.
pub(crate) fn head(path: &Path) -> Result<LinearHead> {
    LinearHead::from_json(&input::text(path, input::TEXT)?).with_context(|| path.display().to_string())
}

/// Models that are loaded as one fleet.
pub(crate) struct Plan<'a> {
    pub paths: &'a [PathBuf],
    pub model: &'a ModelArgs,
    pub load: &'a LoadArgs,
    /// Of each variant; the smallest has room for a probe besides.
    pub options: EngineOptions,
    /// Whether the smallest gives hidden states, for a head.
    pub head: bool,
    /// Gigabytes for all; what is available if `None`.
    pub memory: Option<f64>,
}

/// The name of a variant: its file's, without folder and `.gguf`.
fn name(path: &Path) -> String {
    let name = path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
    name.strip_suffix(".gguf").map_or(name.clone(), str::to_owned)
}

/// The variant of a file: its name, and what it needs without a probe; and what the KV pages of a sequence take.
fn spec(path: &Path, plan: &Plan<'_>, device: &dyn Device) -> Result<(VariantSpec, u64)> {
    let model = models::open_path(path)?;
    let graph = models::graph(&model, plan.model)?;
    let buckets = plan.options.buckets(device);
    let family = compile(verify(&graph)?, &device.target(), &Options { buckets, fuse: true })?.family;
    let work = ModelWork::of(&family);
    let context = u64::from(plan.options.context.unwrap_or(model.hyper.context_length));
    let kv = work.kv_bytes_per_position.saturating_mul(context);
    let own = kv.saturating_mul(u64::from(plan.options.sequences));
    let need = MemoryNeed::of(&family, PoolSizes { pages: 0, slots: 1 }).total().saturating_add(own);
    Ok((VariantSpec { name: name(path), weight_bytes: work.weight_bytes, need }, kv))
}

/// Loads the variants and waits for all of them, with a line on the terminal for what is being loaded. Also returns the
/// chip's name.
pub(crate) fn load(plan: &Plan<'_>, policy: Policy) -> Result<(Fleet, String)> {
    let Opened { device, chip, .. } = devices::open(plan.model.device, plan.model.into())?;
    let of = |path: &PathBuf| spec(path, plan, &*device).with_context(|| format!("variant {}", path.display()));
    let mut specs: Vec<(VariantSpec, u64)> = plan.paths.iter().map(of).collect::<Result<_>>()?;
    // Probes run on the smallest.
    if let Some((spec, kv)) = specs.iter_mut().min_by_key(|(s, _)| s.weight_bytes) {
        spec.need = spec.need.saturating_add(kv.saturating_mul(PROBE_SEQUENCES.into()));
    }
    let specs: Vec<VariantSpec> = specs.into_iter().map(|(spec, _)| spec).collect();
    let smallest = specs.iter().min_by_key(|s| s.weight_bytes).map(|s| s.name.clone());
    let (paths, model, head) = (plan.paths.to_vec(), plan.model.clone(), plan.head);
    let (load, options) = (plan.load.clone(), plan.options.clone());
    let loader: Loader = Arc::new(move |wanted| {
        let path = paths.iter().find(|path| name(path) == wanted).cloned();
        let probed = smallest.as_deref() == Some(wanted);
        let sequences = options.sequences + if probed { PROBE_SEQUENCES } else { 0 };
        let options = EngineOptions { sequences, hidden: head && probed, ..options.clone() };
        let load = LoadArgs { no_cache: load.no_cache || options.hidden, ..load.clone() };
        let args = ModelArgs { model: path, ..model.clone() };
        Ok(models::load_on(&args, &load, Arc::clone(&device), &options)?.split().0)
    });
    let budget = plan.memory.map_or_else(|| available_bytes().unwrap_or(u64::MAX), |gb| (gb * 1e9) as u64);
    let spinner = output::spinner("loading variants");
    let fleet = Fleet::load(specs, policy, loader, FleetOptions { budget }).map_err(hint)?;
    fleet.wait(&mut |name, state| spinner.set_message(format!("{name}: {state}")));
    spinner.finish_and_clear();
    Ok((fleet, chip))
}

/// Says what takes less memory, where there is too little.
fn hint(error: FleetError) -> anyhow::Error {
    match error {
        FleetError::Budget { .. } => anyhow!("{error}; a shorter context takes less, as with --ctx 2048"),
        other => other.into(),
    }
}

/// The kind of the policy's probe, or of the one that a flag asks for.
fn kind(args: &FleetArgs, policy: &Policy) -> ProbeKind {
    match args.probe {
        _ if args.variant.is_some() => ProbeKind::None,
        Some(ProbeArg::None) => ProbeKind::None,
        Some(ProbeArg::ZeroShot) => ProbeKind::ZeroShot,
        Some(ProbeArg::Head) => ProbeKind::Head,
        None => policy.probe.clone(),
    }
}

/// The probe that the policy asks for.
fn probe(args: &FleetArgs, policy: &Policy, engine: &Engine) -> Result<Option<Box<dyn Probe>>> {
    let categories = || args.categories.clone().unwrap_or_else(|| CATEGORIES.map(str::to_owned).to_vec());
    Ok(match (&policy.probe, &args.head) {
        (ProbeKind::None | ProbeKind::Constant(_), _) => None,
        (ProbeKind::ZeroShot, _) => Some(Box::new(ZeroShot::new(engine, &categories())?)),
        (ProbeKind::Head, Some(path)) => Some(Box::new(head(path)?)),
        (ProbeKind::Head, None) => {
            note!("no --head, so the category comes from the zero-shot probe; `aio route train` makes a head");
            Some(Box::new(ZeroShot::new(engine, &categories())?))
        }
    })
}

/// Says why the largest variant will be taken, if nothing is known of the others.
fn note_unmeasured(fleet: &Fleet) {
    let policy = fleet.policy();
    let known = |name: &String| policy.quality.0.values().any(|variants| variants.contains_key(name));
    if policy.default.variant == VariantRule::Fastest && !fleet.states().iter().any(|(name, _)| known(name)) {
        note!(
            "no quality of these variants is known, so the largest answers if it is in time; --quality FILE says more"
        );
    }
}

/// Says which names of a file of measured quality are those of no variant, and which categories of a head it lacks.
pub(crate) fn note_unknown(quality: Option<&Path>, names: &[&str], head: Option<&LinearHead>) -> Result<()> {
    let Some(path) = quality else { return Ok(()) };
    let quality = measured(path)?.quality.0;
    let named = quality.values().flat_map(|variants| variants.keys());
    let mut unknown: Vec<&str> = named.map(String::as_str).filter(|name| !names.contains(name)).collect();
    unknown.sort_unstable();
    unknown.dedup();
    if !unknown.is_empty() {
        let (path, unknown, names) = (path.display(), unknown.join(", "), names.join(", "));
        note!("{path} has numbers for {unknown}, of which there is no variant; there are {names}");
    }
    let categories = head.map_or(&[][..], LinearHead::categories);
    let lacks = |category: &&String| !quality.contains_key(category.as_str());
    let missing: Vec<&str> = categories.iter().filter(lacks).map(String::as_str).collect();
    if !missing.is_empty() {
        note!(
            "{} has no numbers for {}, which the head knows: the largest answers there",
            path.display(),
            missing.join(", ")
        );
    }
    Ok(())
}

/// Refuses options about variants where there are none.
pub(crate) fn check(args: &FleetArgs) -> Result<()> {
    let given = [
        ("--policy", args.policy.is_some()),
        ("--variant", args.variant.is_some()),
        ("--probe", args.probe.is_some()),
        ("--head", args.head.is_some()),
        ("--quality", args.quality.is_some()),
        ("--categories", args.categories.is_some()),
        ("--within", args.within.is_some()),
        ("--memory", args.memory.is_some()),
    ];
    match given.iter().find(|(_, given)| *given && args.variants.is_empty()) {
        Some((flag, _)) => bail!("{flag} needs --variants"),
        None => Ok(()),
    }
}

/// Loads the variants and chooses one for the prompt.
pub(crate) fn choose(
    args: &FleetArgs,
    (model, load): (&ModelArgs, &LoadArgs),
    options: &EngineOptions,
    (prompt, output): (&str, Option<usize>),
) -> Result<(Fleet, Routed)> {
    let policy = policy(args.policy.as_deref().unwrap_or("adaptive"), args.quality.as_deref())?;
    if args.probe == Some(ProbeArg::Head) && args.head.is_none() {
        bail!("--probe head needs a head: make one with `aio route train` and give it with --head");
    }
    let head = args.head.as_deref().map(head).transpose()?;
    let names: Vec<String> = args.variants.iter().map(|path| name(path)).collect();
    if let Some(unknown) = args.variant.as_ref().filter(|name| !names.contains(name)) {
        bail!("there is no variant `{unknown}`; there are {}", names.join(", "));
    }
    let options = EngineOptions { sequences: 1, ..options.clone() };
    if args.variant.is_none() {
        note_unknown(args.quality.as_deref(), &names.iter().map(String::as_str).collect::<Vec<_>>(), head.as_ref())?;
    }
    let head = head.is_some();
    let plan = Plan { paths: &args.variants, model, load, options, head, memory: args.memory };
    // A flag goes before the policy's own.
    let policy = Policy { probe: kind(args, &policy), ..policy };
    let (fleet, _) = self::load(&plan, policy)?;
    let states = fleet.states();
    states.iter().filter(|(_, state)| state.is_missing()).for_each(|(name, state)| note!("{name}: {state}"));
    if args.variant.is_none() {
        note_unmeasured(&fleet);
    }
    let smallest = fleet.smallest().context("the smallest variant is not loaded")?;
    let probe = probe(args, fleet.policy(), &smallest)?;
    let mut fleet = fleet.with_probe(probe);
    let tokens = smallest.model().tokenizer.encode(prompt, true)?.len() as u32;
    let output = output.map_or(OUTPUT, |n| u32::try_from(n).unwrap_or(u32::MAX));
    let within = args.within.unwrap_or(f64::INFINITY);
    let variant = args.variant.as_deref();
    let routed = fleet.route(&Ask { within, variant, ..Ask::new(prompt, tokens, output) })?;
    Ok((fleet, routed))
}
