//! What a report is about: a plan of a family, the size of its step, and the machine that runs it. All plain data.

use aio_ir::Dims;
use aio_orchestrator::DeviceProfile;
use aio_plan::{Bucket, Ceilings, Plan, PlanFamily};
use serde::{Deserialize, Serialize};

/// A plan and what is known of it from its compilation.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The family.
    pub family: &'a PlanFamily,
    /// Index of the plan in the family.
    pub plan: usize,
    /// Size of the step.
    pub step: StepSize,
    /// Fusions that were missed, a printed line each with the reason, if the plan was compiled here.
    pub missed: &'a [String],
    /// Byte offset of each weight's data in the model file, by name, if there is a file.
    pub offsets: &'a [(String, u64)],
}

impl<'a> Subject<'a> {
    /// The plan.
    pub fn plan(&self) -> &'a Plan {
        &self.family.plans[self.plan]
    }
}

/// The size of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSize {
    /// Token rows.
    pub rows: u32,
    /// Sequences.
    pub seqs: u32,
    /// Rows that return a token or logits.
    pub outs: u32,
    /// Positions that each row sees.
    pub context: u32,
}

impl Subject<'_> {
    /// The dimensions of the step.
    pub fn dims(&self) -> Dims {
        self.step.bucket(self.plan().bucket).bounds()
    }
}

impl StepSize {
    /// A bucket of exactly this size, for the costs of tasks.
    pub(crate) fn bucket(self, of: Bucket) -> Bucket {
        Bucket { rows: self.rows, seqs: self.seqs, outs: self.outs, ..of }
    }
}

/// Where the figures of a machine come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figures {
    /// Assumed: the device has no profile.
    Assumed,
    /// A profile that calibration wrote.
    Profile,
    /// Constants of a modelled chip.
    Modelled,
    /// Measured in the same run as the tasks.
    Measured,
}

/// How fast products go through weights in a cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelRate {
    /// Element type of the weights.
    #[serde(rename = "type")]
    pub dtype: String,
    /// Bytes of weights per second, as stored in the model file.
    pub bytes_per_second: f64,
}

/// Rates and costs of a machine, from which times are predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub name: String,
    /// Threads that it uses; 0 if unknown.
    pub threads: u32,
    /// Where the figures come from.
    pub figures: Figures,
    /// Bytes per second read from memory.
    pub bandwidth: f64,
    /// Bytes per second of values that stay in a cache between two tasks.
    pub cache_bandwidth: f64,
    /// Multiply-adds per second with weights in block formats, in steps of few rows.
    pub block_macs: f64,
    /// Multiply-adds per second with plain numbers, as in attention.
    pub plain_macs: f64,
    /// What products reach with weights that lie in a cache, by their type, at the rows of the step; empty if unknown.
    pub kernels: Vec<KernelRate>,
    /// Seconds of an element that a norm scales and rounds, where threads norm rows by themselves.
    pub norm_seconds: f64,
    /// Seconds of a task besides its work: the barrier after it and its start.
    pub task_seconds: f64,
    /// Seconds of each op of a task besides its work, on devices that run a task as several operators; else 0.
    #[serde(default)]
    pub op_seconds: f64,
    /// Seconds of a step besides its tasks: the submission.
    pub step_seconds: f64,
    /// Share of these rates that tasks reach at present; 1 unless steps before the measured ones taught it.
    pub level: f64,
}

/// A cache delivers at least this multiple of memory's bandwidth.
const CACHE_OVER_MEMORY: f64 = 4.0;
/// Kernels on plain numbers reach about this share of what block formats reach.
const PLAIN_OVER_BLOCK: f64 = 0.25;
/// Share of the register peak that kernels of few rows reach.
const FEW_ROWS_SHARE: f64 = 1.0 / 3.0;
/// Seconds of a task besides its work and the barrier: finding its operands, uneven shares.
const TASK_SECONDS: f64 = 0.3e-6;
/// Seconds of an element of a norm, with its rounding to 8 bits.
const NORM_SECONDS: f64 = 3e-9;
/// Seconds of a barrier and of a submission where no profile has measured them.
const BARRIER_SECONDS: f64 = 0.5e-6;
const SUBMISSION_SECONDS: f64 = 10e-6;

/// On a processor each thread norms rows by itself; other devices spread them.
fn norm_seconds(device: &str) -> f64 {
    if device.starts_with("cpu") { NORM_SECONDS } else { 0.0 }
}

impl Machine {
    /// The machine of a profile; `None` if it lacks the memory's bandwidth or a peak.
    pub fn of_profile(profile: &DeviceProfile) -> Option<Machine> {
        let Ceilings { bandwidth, peak } = profile.ceilings()?;
        let cache = profile.reads.iter().filter(|r| r.level == "L2").max_by_key(|r| r.threads);
        let plain = profile.peak_gmac_s("f32").map(|gmac_s| FEW_ROWS_SHARE * gmac_s * 1e9);
        Some(Machine {
            name: profile.processor.clone(),
            threads: profile.threads,
            figures: Figures::Profile,
            bandwidth,
            cache_bandwidth: cache.map_or(CACHE_OVER_MEMORY * bandwidth, |r| r.gb_s.median * 1e9),
            block_macs: peak,
            plain_macs: plain.unwrap_or(PLAIN_OVER_BLOCK * peak),
            kernels: Vec::new(),
            norm_seconds: norm_seconds(&profile.device),
            task_seconds: TASK_SECONDS + profile.costs.barrier_us.median * 1e-6,
            op_seconds: 0.0,
            step_seconds: profile.costs.submission_us.median * 1e-6,
            level: 1.0,
        })
    }

    /// A machine of which only ceilings are known, or assumed.
    pub fn of_ceilings(name: &str, Ceilings { bandwidth, peak }: Ceilings) -> Machine {
        Machine {
            name: name.to_owned(),
            threads: 0,
            figures: Figures::Assumed,
            bandwidth,
            cache_bandwidth: CACHE_OVER_MEMORY * bandwidth,
            block_macs: peak,
            plain_macs: PLAIN_OVER_BLOCK * peak,
            kernels: Vec::new(),
            norm_seconds: norm_seconds(name),
            task_seconds: TASK_SECONDS + BARRIER_SECONDS,
            op_seconds: 0.0,
            step_seconds: SUBMISSION_SECONDS,
            level: 1.0,
        }
    }

    /// The rate of products with weights of a type.
    pub(crate) fn kernel(&self, dtype: &str) -> Option<f64> {
        self.kernels.iter().find(|k| k.dtype == dtype).map(|k| k.bytes_per_second)
    }

    /// The same machine at rates that were measured in the same run: bytes read per second, and multiply-adds per second
    /// with operands in registers, 8-bit and plain.
    pub fn measured(self, bandwidth: f64, int8: f64, plain: f64) -> Machine {
        let (block_macs, plain_macs) = (FEW_ROWS_SHARE * int8, FEW_ROWS_SHARE * plain);
        let cache_bandwidth = self.cache_bandwidth.max(CACHE_OVER_MEMORY * bandwidth);
        Machine { bandwidth, cache_bandwidth, block_macs, plain_macs, figures: Figures::Measured, ..self }
    }
}
