//! Looks into compiled plans: what each task reads, computes and should take, and what it took.
//!
//! [`inspect`] turns a plan family, one of its plans, the size of a step and a machine's rates into a [`Report`], which is
//! plain data with a versioned JSON form (`SCHEMA.md`). It needs no device and no weights. [`Report::measure`] adds times
//! that a device took. Used by `aio graph inspect` and by whoever wants the figures in a program.
//!
//! **Invariant:** no device, no clock, no environment; equal inputs give equal reports.
#![forbid(unsafe_code)]

mod diff;
mod dot;
mod group;
mod html;
mod lint;
mod measured;
mod memory;
mod onnx;
mod place;
mod predict;
pub mod rank;
mod report;
mod run;
mod shrink;
mod speculation;
mod subject;
mod svg;
mod task;
mod trace;
mod view;

pub use diff::{Budget, Change, ChangeKind, DIFF_SCHEMA, Diff, MeasuredDiff, Total, diff};
pub use dot::dot;
pub use html::{escaped, html};
pub use measured::Samples;
pub use memory::{Interval, Memory};
pub use onnx::onnx;
pub use place::Block;
pub use predict::{Bound, Work};
pub use report::{
    BucketRow, Candidate, DraftRow, GroupRow, Groups, Header, IdleSum, KernelChoice, Lint, MeasuredStep, MeasuredTask,
    Report, SCHEMA, StretchRow, TaskRow, TensorRow, ThreadRow,
};
pub use run::{RunStep, run_of_trace};
pub use shrink::{Shrunk, shrink};
pub use subject::{Figures, KernelRate, Machine, StepSize, Subject};
pub use svg::svg;
pub use task::plan_ops;
pub use trace::{chrome, idle};
pub use view::{Pattern, PatternError};

use aio_ir::Dims;
use aio_plan::{Plan, Traffic};
use std::collections::BTreeMap;

/// Reports on a plan's step.
pub fn inspect(subject: &Subject<'_>, source: &str, machine: &Machine) -> Report {
    let tasks = task::rows(subject, machine);
    let header = header(subject, source, machine, &tasks);
    let lints = lint::lints(subject, &header, &tasks);
    Report {
        schema: SCHEMA,
        omitted: 0,
        groups: group::groups(&tasks),
        memory: memory::memory(subject.plan()),
        buckets: subject.family.plans.iter().map(bucket).collect(),
        speculation: speculation::table(subject, machine),
        lints,
        header,
        tasks,
    }
}

fn header(subject: &Subject<'_>, source: &str, machine: &Machine, tasks: &[TaskRow]) -> Header {
    let (family, plan, step) = (subject.family, subject.plan(), subject.step);
    let traffic = Traffic::of(family, plan);
    let work = tasks.iter().fold(Work::default(), |sum, t| sum.plus(&t.work));
    let predicted: f64 = tasks.iter().map(|t| t.predicted_seconds).sum();
    let mut bounds: BTreeMap<Bound, f64> = BTreeMap::new();
    for task in tasks {
        *bounds.entry(task.bound).or_default() += task.predicted_seconds;
    }
    let bound = bounds.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(Bound::Launch, |(bound, _)| bound);
    let bytes = |w: &aio_plan::WeightDesc| w.ty.bytes(&Dims::default()).unwrap_or(0);
    Header {
        model: family.model.clone(),
        source: source.to_owned(),
        target: family.target.clone(),
        plan: plan.bucket.to_string(),
        step,
        machine: machine.clone(),
        task_count: plan.tasks.len(),
        weight_bytes: traffic.weights_of(step.rows.into()),
        model_bytes: family.weights.iter().map(bytes).sum(),
        kv_bytes_per_token: traffic.kv_per_position,
        state_bytes_per_sequence: traffic.slots_per_sequence,
        intensity: work.intensity(),
        work,
        predicted_seconds: predicted + machine.step_seconds,
        bound,
        measured: None,
    }
}

fn bucket(plan: &Plan) -> BucketRow {
    BucketRow {
        plan: plan.bucket.to_string(),
        rows: plan.bucket.rows,
        tasks: plan.tasks.len(),
        arena_bytes: plan.arena_bytes,
        arena_lower_bound: plan.arena_lower_bound,
        plan_bytes: None,
        compile_ms: None,
        hits: None,
        padding_share: None,
    }
}

/// Parses the JSON form of a report.
///
/// # Errors
/// A sentence, for a text that is no report or one of another version.
pub fn parse(text: &str) -> Result<Report, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("not a report: {e}"))?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        None => Err("not a report: it has no schema version".to_owned()),
        Some(found) if found != u64::from(SCHEMA) => {
            Err(format!("a report of schema {found}; this program reads {SCHEMA}"))
        }
        Some(_) => serde_json::from_value(value).map_err(|e| format!("not a report: {e}")),
    }
}

impl Report {
    /// Adds the kernels of the tasks, as a device tells them. The report must be of all tasks.
    pub fn choose(&mut self, kernels: Vec<Option<aio_backend::KernelChoice>>) {
        for (row, kernel) in self.tasks.iter_mut().zip(kernels) {
            row.kernel = kernel.map(|k| KernelChoice { name: k.name, why: k.why, candidates: Vec::new() });
        }
    }

    /// The JSON form, on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a report has string keys and no foreign values")
    }
}
