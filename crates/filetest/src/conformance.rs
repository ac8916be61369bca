//! Runs conformance cases: compiles a case for a device and for the oracle, and compares step by step.

use aio_backend::conformance::{Case, Compare, ResultTensor, Run, Timing, nmse};
use aio_backend::{Device, DeviceError};
use aio_compiler::{CompileError, Options, compile};
use aio_interp::InterpDevice;
use aio_ir::sampling::{NO_TOKEN, is_broken};
use aio_ir::{Graph, verify};
use aio_plan::{Bucket, PlanFamily, Tail};

/// What a device makes of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The error is within the bound.
    Pass {
        /// The largest error of a step.
        nmse: f64,
    },
    /// It is not, or the device failed.
    Fail(String),
    /// The device has no kernel for it.
    Unsupported(String),
}

impl Outcome {
    /// The word in support tables.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Pass { .. } => "pass",
            Outcome::Fail(_) => "fail",
            Outcome::Unsupported(_) => "unsupported",
        }
    }
}

/// What the oracle computed for a case; reused for every device.
#[derive(Debug)]
pub struct Reference {
    outputs: Vec<Vec<ResultTensor>>,
    /// For cases whose result is a token: the logits behind it.
    logits: Vec<Vec<ResultTensor>>,
    states: Vec<ResultTensor>,
}

/// Runs a case on the oracle.
///
/// # Panics
/// If the oracle refuses it: a fault of the list or of the oracle.
pub fn reference(case: &Case) -> Reference {
    let device = InterpDevice::default();
    let run = |tail| run(&Case { tail, ..case.clone() }, &device).unwrap_or_else(|e| panic!("{}: {e:?}", case.name));
    let (outputs, states) = run(case.tail);
    let logits = if case.tail == Tail::Logits { Vec::new() } else { run(Tail::Logits).0 };
    Reference { outputs, logits, states }
}

/// Runs a case on a device and compares with the oracle.
pub fn run_case(case: &Case, device: &dyn Device, reference: &Reference) -> Outcome {
    let (outputs, states) = match run(case, device) {
        Ok(done) => done,
        Err(other) => return other,
    };
    let mut worst = 0.0f64;
    for (i, got) in outputs.iter().enumerate() {
        match compare(case, got, reference, i) {
            Ok(error) if error <= case.max_nmse => worst = worst.max(error),
            Ok(error) => return Outcome::Fail(format!("step {i}: error {error:e} is over {:e}", case.max_nmse)),
            Err(reason) => return Outcome::Fail(format!("step {i}: {reason}")),
        }
    }
    for (got, want) in states.iter().zip(&reference.states) {
        match difference(got, want) {
            Ok(error) if error <= case.max_nmse => {}
            Ok(error) => return Outcome::Fail(format!("state: error {error:e} is over {:e}", case.max_nmse)),
            Err(reason) => return Outcome::Fail(format!("state: {reason}")),
        }
    }
    Outcome::Pass { nmse: worst }
}

/// Times a step of a case on a device: the median of some repetitions.
///
/// # Errors
/// The outcome, if the device does not run the case.
pub fn time_case(case: &Case, device: &dyn Device, step: usize, repetitions: usize) -> Result<Timing, Outcome> {
    let (graph, family) = compiled(case, device, case.bucket_of(step))?;
    let mut run = Run::new(case, &graph, &family, device).map_err(failed)?;
    run.time(step, repetitions).map_err(failed)
}

/// The error of a tensor of floats; any other must be the same.
fn difference(got: &ResultTensor, want: &ResultTensor) -> Result<f64, String> {
    match (got.floats(), want.floats()) {
        (Some(got), Some(want)) => Ok(nmse(&got, &want)),
        _ if got == want => Ok(0.0),
        _ => Err(format!("{} are {:?}, expected {:?}", got.dtype, first(got, want), first(want, got))),
    }
}

/// The first bytes in which a tensor differs.
fn first(a: &ResultTensor, b: &ResultTensor) -> Vec<u8> {
    let at = a.bytes.iter().zip(&b.bytes).position(|(a, b)| a != b).unwrap_or(0);
    a.bytes[at..].iter().copied().take(8).collect()
}

fn words(tensor: &ResultTensor) -> Vec<u32> {
    bytemuck::allocation::pod_collect_to_vec(&tensor.bytes)
}

fn compare(case: &Case, got: &[ResultTensor], reference: &Reference, index: usize) -> Result<f64, String> {
    let want = &reference.outputs[index];
    match case.compare {
        Compare::Numbers => got.iter().zip(want).try_fold(0.0f64, |worst, (g, w)| Ok(worst.max(difference(g, w)?))),
        Compare::Tokens if got == want => Ok(0.0),
        Compare::Tokens => Err(format!("tokens {:?}, expected {:?}", words(&got[0]), words(&want[0]))),
        Compare::BestToken => {
            let logits = reference.logits[index][0].floats().ok_or("logits are f32")?;
            let tokens = words(&got[0]);
            let rows = logits.chunks(logits.len() / tokens.len().max(1));
            tokens.iter().zip(rows).try_fold(0.0f64, |worst, (&token, row)| Ok(worst.max(regret(token, row)?)))
        }
    }
}

/// How far a token's logit lies below the best one, squared, by the mean square of the row. A row with a logit that is no
/// number has no token.
fn regret(token: u32, row: &[f32]) -> Result<f64, String> {
    if row.iter().copied().any(is_broken) {
        let said = if token == NO_TOKEN { Ok(0.0) } else { Err(format!("token {token} of a row that has none")) };
        return said;
    }
    let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let logit = row.get(token as usize).ok_or_else(|| format!("token {token} does not exist"))?;
    let energy: f64 = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / row.len() as f64;
    // The error of a difference of two logits reaches some deviations of one logit's error.
    Ok(f64::from(best - logit).powi(2) / energy / 64.0)
}

type Results = (Vec<Vec<ResultTensor>>, Vec<ResultTensor>);

/// Outputs of every step and the states after the last.
fn run(case: &Case, device: &dyn Device) -> Result<Results, Outcome> {
    let (graph, family) = compiled(case, device, case.bucket())?;
    let mut run = Run::new(case, &graph, &family, device).map_err(failed)?;
    let outputs = (0..case.steps.len()).map(|i| run.step(i).map_err(failed)).collect::<Result<_, _>>()?;
    Ok((outputs, run.states().map_err(failed)?))
}

fn compiled(case: &Case, device: &dyn Device, bucket: Bucket) -> Result<(Graph, PlanFamily), Outcome> {
    let graph = aio_ir::text::parse(&case.text).map_err(|e| Outcome::Fail(e.to_string()))?.graph;
    let verified = verify(&graph).map_err(|e| Outcome::Fail(e.to_string()))?;
    let options = Options { buckets: vec![bucket], fuse: case.fuse };
    let family = compile(verified, &device.target(), &options).map_err(refused)?.family;
    Ok((graph, family))
}

fn refused(e: CompileError) -> Outcome {
    match e {
        CompileError::Unsupported { reason, op, .. } => Outcome::Unsupported(format!("{op}: {reason}")),
        other => Outcome::Fail(other.to_string()),
    }
}

fn failed(e: DeviceError) -> Outcome {
    match e {
        DeviceError::Unsupported { kind, reason, .. } => Outcome::Unsupported(format!("{kind}: {reason}")),
        other => Outcome::Fail(other.to_string()),
    }
}
