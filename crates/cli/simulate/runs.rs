//! Runs of traces as flags say.

use crate::args::{DispatchArg, MixArg, SimulateArgs, TraceMakeArgs};
use crate::costs::On;
use crate::fleet::policy;
use crate::{input, trace};
use aio::orchestrator::routing::Policy;
use aio::orchestrator::simulate::{SimOptions, SimProbe, SimReport, SimVariant, Verification, simulate};
use aio::orchestrator::trace::{TraceRequest, make, parse};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;

/// Rows of a prefill step, most drafts of a sequence, rows of a probe: the engine's own, and a short question.
const PREFILL_ROWS: u32 = 512;
const DRAFTS: u32 = 16;
const PROBE_ROWS: u32 = 64;
/// Largest trace that is read, in bytes.
const MOST_TRACE: u64 = 1 << 28;

/// Steps of a trace's requests on one variant with its context, by their rows.
pub(crate) fn steps(trace: &Path, (variant, context): (SimVariant, u32), sequences: u32) -> Result<BTreeMap<u32, u64>> {
    let (requests, policy, fleet) = (requests(Some(trace))?, policy("static-small", None)?, [variant]);
    let positions = |r: &TraceRequest| r.prompt.saturating_add(r.output);
    if let Some(long) = requests.iter().find(|r| positions(r) > context) {
        let (trace, positions) = (trace.display(), positions(long));
        bail!("{trace}: a request has {positions} positions, and the model a context of {context}");
    }
    let mut report = simulate(
        &requests,
        &SimOptions {
            variants: &fleet,
            policy: &policy,
            verification: Verification::Batch,
            speculation: None,
            sequences,
            prefill_rows: PREFILL_ROWS,
            drafts: DRAFTS,
            kv_bytes: f64::INFINITY,
            within: f64::INFINITY,
            probe: SimProbe { rows: PROBE_ROWS, accuracy: 1.0 },
            busy: &[],
            seed: 1,
        },
    );
    Ok(std::mem::take(&mut report.variants[0].rows))
}

/// The variants, with what their steps cost.
pub(super) fn fleet(args: &SimulateArgs, dispatch: DispatchArg) -> Result<Vec<SimVariant>> {
    let twice = (1..args.variants.len()).find(|&i| args.variants[..i].contains(&args.variants[i]));
    if let Some(i) = twice {
        anyhow::bail!("two variants are named `{}`", args.variants[i]);
    }
    let on = On::find(&args.device, &args.host)?;
    args.variants.iter().map(|name| on.variant(name, dispatch)).collect()
}

/// The trace of a file, or the default one.
pub(super) fn requests(path: Option<&Path>) -> Result<Vec<TraceRequest>> {
    match path {
        Some(path) => parse(&input::text(path, MOST_TRACE)?).with_context(|| path.display().to_string()),
        None => {
            let args = TraceMakeArgs { mix: MixArg::Mixed, context: 2048, requests: 200, rate: 0.0, seed: 1 };
            Ok(make(&trace::options(&args)))
        }
    }
}

/// Runs a trace as the flags say.
pub(super) fn run(
    args: &SimulateArgs,
    trace: &[TraceRequest],
    fleet: &[SimVariant],
    policy: &Policy,
) -> Result<SimReport> {
    let weights: f64 = fleet.iter().map(|v| v.weight_bytes as f64).sum();
    let kv_bytes = args.memory * 1e9 - weights;
    anyhow::ensure!(kv_bytes > 0.0, "the variants' weights alone take {:.1} GB; --memory allows less", weights / 1e9);
    Ok(simulate(
        trace,
        &SimOptions {
            variants: fleet,
            policy,
            verification: if args.dispatch == DispatchArg::Token { Verification::Token } else { Verification::Batch },
            speculation: args.spec,
            sequences: args.sequences,
            // An eager engine computes a prompt in one step.
            prefill_rows: if args.dispatch == DispatchArg::Op { u32::MAX } else { PREFILL_ROWS },
            drafts: DRAFTS,
            kv_bytes,
            within: args.within.unwrap_or(f64::INFINITY),
            probe: SimProbe { rows: PROBE_ROWS, accuracy: args.probe_accuracy },
            busy: &args.busy,
            seed: args.seed,
        },
    ))
}
