//! The report as plain data. Its JSON form is documented in `SCHEMA.md` of this crate; [`SCHEMA`] is its version.

use crate::memory::Memory;
use crate::place::Block;
use crate::predict::{Bound, Work};
use crate::subject::{Machine, StepSize};
use serde::{Deserialize, Serialize};

/// Version of the JSON form. It rises when a field is removed or changes its meaning, not when one is added.
pub const SCHEMA: u32 = 1;

/// Everything that is known of a plan's step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The step as a whole.
    pub header: Header,
    /// Tasks in order of execution; those that a filter kept.
    pub tasks: Vec<TaskRow>,
    /// Tasks that a filter or a limit left out.
    pub omitted: usize,
    /// Sums over tasks that have something in common.
    pub groups: Groups,
    /// The arena.
    pub memory: Memory,
    /// All plans of the family.
    pub buckets: Vec<BucketRow>,
    /// What drafts cost.
    pub speculation: Vec<DraftRow>,
    /// Advice.
    pub lints: Vec<Lint>,
}

/// A step as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The model graph's name.
    pub model: String,
    /// The file or model that was inspected.
    pub source: String,
    /// What the plan was compiled for.
    pub target: String,
    /// The plan's bucket.
    pub plan: String,
    /// Size of the step.
    pub step: StepSize,
    /// The machine whose figures predict times.
    pub machine: Machine,
    /// Number of tasks of the plan.
    pub task_count: usize,
    /// Bytes of the weights that the step reads, each once, without tables of which rows are looked up.
    pub weight_bytes: u64,
    /// Bytes of all weights as stored in the model file.
    pub model_bytes: u64,
    /// Bytes of keys and values of one token, over all layers.
    pub kv_bytes_per_token: u64,
    /// Bytes of recurrent state of one sequence, over all layers.
    pub state_bytes_per_sequence: u64,
    /// Sums over all tasks.
    pub work: Work,
    /// Operations per byte.
    pub intensity: f64,
    /// Predicted seconds of the step.
    pub predicted_seconds: f64,
    /// What bounds most of the predicted time.
    pub bound: Bound,
    /// The step as it was measured.
    pub measured: Option<MeasuredStep>,
}

/// A measured step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredStep {
    /// Number of steps.
    pub steps: usize,
    /// Median seconds of a step.
    pub p50_seconds: f64,
    /// Seconds that 99 of 100 steps do not exceed.
    pub p99_seconds: f64,
    /// Seconds of each step, in order.
    pub seconds: Vec<f64>,
    /// Bytes per second that a large read reached between the steps.
    pub read_bandwidth: f64,
    /// Share of that bandwidth at which the median step read weights, keys and values.
    pub bandwidth_share: f64,
    /// Median over tasks of how far the prediction is from the measured median, relative to the latter.
    pub median_error: f64,
    /// Seconds of idle threads by cause, summed over threads, per step.
    pub idle: Vec<IdleSum>,
    /// What each thread did in the step of median time.
    pub threads: Vec<ThreadRow>,
}

/// A thread's step, without a gap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadRow {
    /// The thread's name.
    pub name: String,
    /// What it did, in order.
    pub stretches: Vec<StretchRow>,
}

/// A part of a thread's step: work on a task, or idle for a cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StretchRow {
    /// Seconds from the step's start to its own.
    pub start_seconds: f64,
    /// How long it lasted.
    pub seconds: f64,
    /// The task that it worked on; while idle, the one before.
    pub task: Option<u32>,
    /// Why it was idle.
    pub cause: Option<String>,
}

/// Idle time of one cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IdleSum {
    /// The cause's name.
    pub cause: String,
    /// Seconds per step, summed over threads.
    pub seconds: f64,
    /// Share of all threads' time in the step.
    pub share: f64,
}

/// A tensor of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorRow {
    /// Its name, or its place in the plan.
    pub name: String,
    /// Element type.
    #[serde(rename = "type")]
    pub dtype: String,
    /// Sizes of the dimensions, with names of symbols.
    pub shape: Vec<String>,
    /// Bytes in this step; of a pool, those of one page or slot.
    pub bytes: u64,
    /// How the device stores a weight.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub layout: Option<String>,
}

/// Which kernel runs a task, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelChoice {
    /// The kernel's name.
    pub name: String,
    /// Why it was chosen.
    pub why: String,
    /// The kernels that were timed against each other; empty if none were.
    pub candidates: Vec<Candidate>,
}

/// A kernel that was considered for a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The kernel's name.
    pub name: String,
    /// Microseconds that the task took with it; `None` if it was not timed.
    pub us: Option<f64>,
    /// Whether it is the one that runs.
    pub chosen: bool,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRow {
    /// Its index in the plan.
    pub index: usize,
    /// Its kind: a fused kind, or an op.
    pub kind: String,
    /// The names of its matrices, or of its state or result.
    pub name: String,
    /// Its layer.
    pub layer: Option<u32>,
    /// Its block.
    pub block: Block,
    /// The ops that it was fused from, in order.
    pub fused_from: Vec<String>,
    /// Element type of its largest weight, of the keys and values that it reads, or of its result.
    #[serde(rename = "type")]
    pub dtype: String,
    /// Weights.
    pub weights: Vec<TensorRow>,
    /// Other operands.
    pub operands: Vec<TensorRow>,
    /// Results.
    pub results: Vec<TensorRow>,
    /// Bytes and operations.
    #[serde(flatten)]
    pub work: Work,
    /// Operations per byte.
    pub intensity: f64,
    /// Predicted seconds.
    pub predicted_seconds: f64,
    /// The largest term of the prediction.
    pub bound: Bound,
    /// The kernel, if the device tells.
    pub kernel: Option<KernelChoice>,
    /// Measured times.
    pub measured: Option<MeasuredTask>,
}

/// A measured task.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredTask {
    /// Median seconds, from the end of the task before it to its own end on all threads.
    pub p50_seconds: f64,
    /// Seconds that 99 of 100 steps do not exceed.
    pub p99_seconds: f64,
    /// Weights, keys and values read per second at the median, in 10^9 bytes.
    pub gb_s: f64,
    /// Share of the read bandwidth of the same run.
    pub bandwidth_share: f64,
    /// How far the prediction is from the median, relative to the latter; negative if it is too short.
    pub error: f64,
}

/// Sums by what tasks have in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Groups {
    /// By kind of task.
    pub op: Vec<GroupRow>,
    /// By layer.
    pub layer: Vec<GroupRow>,
    /// By block.
    pub block: Vec<GroupRow>,
    /// By element type.
    #[serde(rename = "type")]
    pub dtype: Vec<GroupRow>,
}

/// Tasks with something in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupRow {
    /// What they have in common.
    pub key: String,
    /// Number of tasks.
    pub tasks: usize,
    /// Sums.
    #[serde(flatten)]
    pub work: Work,
    /// Sum of predicted seconds.
    pub predicted_seconds: f64,
    /// Share of the predicted seconds of all tasks.
    pub predicted_share: f64,
    /// Sum of measured medians.
    pub measured_seconds: Option<f64>,
}

/// A plan of the family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BucketRow {
    /// The bucket.
    pub plan: String,
    /// Maximum rows.
    pub rows: u32,
    /// Number of tasks.
    pub tasks: usize,
    /// Bytes of the arena that it uses.
    pub arena_bytes: u64,
    /// Peak bytes of live buffers.
    pub arena_lower_bound: u64,
    /// Bytes in an artefact, without weights.
    pub plan_bytes: Option<u64>,
    /// Milliseconds to compile it.
    pub compile_ms: Option<f64>,
    /// Steps of a run that it served.
    pub hits: Option<f64>,
    /// Share of the run's time that its padding took.
    pub padding_share: Option<f64>,
}

/// A number of drafts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DraftRow {
    /// Drafts of a step.
    pub drafts: u32,
    /// Predicted seconds of a step that verifies them.
    pub predicted_seconds: f64,
    /// These seconds relative to those of a step without drafts.
    pub cost: f64,
    /// The chance of acceptance of each draft, after accepted ones, from which the step gains; `None` if it never does.
    pub break_even: Option<f64>,
}

/// Advice on a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lint {
    /// A stable name.
    pub code: String,
    /// What was found and why it matters.
    pub message: String,
    /// How often.
    pub count: usize,
    /// Indices of tasks that it concerns, if any.
    pub tasks: Vec<usize>,
}
