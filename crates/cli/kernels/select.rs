//! The cases that the flags of `aio kernels` select, and the devices to run them on.

use crate::args::{CaseArgs, KernelDeviceArgs, ModelArgs};
use crate::devices::{self, DeviceFlags};
use crate::models;
use aio::compiler::{Options, compile};
use aio::conformance::{Case, PlannedCase, Purpose, cases, extract, planned_cases};
use aio::devices::Opened;
use aio::ir::verify;
use aio::plan::{Bucket, PlanFamily, Tail, Target};
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;

/// Most rows of a step: the sequences of cases have a little more room.
pub(super) const MOST_ROWS: u32 = 1024;

/// A case, and what it stands for in a model's plan.
pub(super) struct Selected {
    pub case: Case,
    /// Tasks of the plan that it stands for.
    pub count: Option<usize>,
    /// Rows of the plan's steps.
    pub rows: Option<u32>,
    /// The task alone, to take its time.
    pub alone: Option<PlanFamily>,
}

/// Opens the device once for each instruction set.
pub(super) fn open(args: &KernelDeviceArgs) -> Result<Vec<Opened>> {
    let levels: Vec<_> = match &distinct(&args.isa)[..] {
        [] => vec![None],
        some => some.iter().copied().map(Some).collect(),
    };
    let flags = |isa| DeviceFlags { isa, threads: args.threads, ascend: Some(&args.ascend) };
    levels.into_iter().map(|isa| devices::open(args.device, flags(isa))).collect()
}

/// The items of a list, each where it is first.
pub(super) fn distinct<T: Copy + PartialEq>(list: &[T]) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    for &item in list {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    all
}

/// Rows of the model's steps, or of steps that are timed.
pub(super) fn row_counts(args: &CaseArgs) -> Vec<u32> {
    args.rows.as_ref().map_or_else(|| vec![1], |rows| distinct(&rows.0))
}

/// The selected cases, as the target runs them.
pub(super) fn selected(
    args: &CaseArgs,
    device: &KernelDeviceArgs,
    target: &Target,
    purpose: Purpose,
) -> Result<Vec<Selected>> {
    if args.rows.is_some() && args.from.is_none() && purpose == Purpose::Compare {
        bail!("--rows is for the steps of a model: add --from MODEL; the cases of the list have steps of their own");
    }
    let mut all = match &args.from {
        Some(path) => from_model(path.clone(), args, device, target, purpose)?,
        None => listed(target),
    };
    all.retain(|s| wanted(args, &s.case));
    ensure!(!all.is_empty(), "no case is selected; `aio kernels list` without filters prints all");
    Ok(all)
}

fn listed(target: &Target) -> Vec<Selected> {
    let all = cases().into_iter().map(|case| case.on(target));
    all.map(|case| Selected { case, count: None, rows: None, alone: None }).collect()
}

fn wanted(args: &CaseArgs, case: &Case) -> bool {
    (args.op.is_empty() || args.op.contains(&case.kind))
        && (args.types.is_empty() || args.types.contains(&case.weights))
        && args.case.as_ref().is_none_or(|pattern| pattern.matches(&case.full()))
}

/// The tasks of a model's plans for steps of each number of rows. Only the head of the model's file is read.
fn from_model(
    path: Option<PathBuf>,
    args: &CaseArgs,
    device: &KernelDeviceArgs,
    target: &Target,
    purpose: Purpose,
) -> Result<Vec<Selected>> {
    let KernelDeviceArgs { device, threads, isa, ascend } = device.clone();
    let isa = isa.first().copied();
    let model = ModelArgs { model: path, threads, isa, device, template: None, ascend };
    let opened = models::open(&model)?;
    let graph = models::graph(&opened, &model)?;
    let verified = verify(&graph).with_context(|| models::name(&opened))?;
    let mut all = Vec::new();
    for rows in row_counts(args) {
        ensure!((1..=MOST_ROWS).contains(&rows), "--rows {rows}: expected 1 to {MOST_ROWS}");
        let buckets = vec![Bucket::new(rows, rows, Tail::Argmax)];
        let compiled = compile(verified, target, &Options { buckets, fuse: true })?;
        for plan in &compiled.family.plans {
            let alone = |p: &PlannedCase| match purpose {
                Purpose::Compare => None,
                Purpose::Time { .. } => Some(extract(&compiled.family, plan, p.first, p.case.bucket_of(0))),
            };
            all.extend(planned_cases(&compiled.family, plan, purpose)?.into_iter().map(|p| Selected {
                count: Some(p.count),
                rows: Some(rows),
                alone: alone(&p),
                case: p.case.on(target),
            }));
        }
    }
    Ok(all)
}
