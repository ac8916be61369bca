//! Runs conformance cases: compiles a case for a device and for the oracle, and compares step by step.
//!
//! Called by each back end's tests, and by whoever brings a back end of their own.

use crate::outcome::{Difference, Fault, Outcome, Place};
use crate::{Case, Compare, ResultTensor, Run, Timing, nmse};
use aio_backend::{Device, DeviceError};
use aio_compiler::{CompileError, Options, compile};
use aio_interp::InterpDevice;
use aio_ir::sampling::{NO_TOKEN, is_broken};
use aio_ir::{Graph, verify};
use aio_plan::{Bucket, KindName, PlanFamily, Tail};

/// What a device made of a case of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The case's name.
    pub case: String,
    /// The kind of task that it is about.
    pub kind: KindName,
    /// The result.
    pub outcome: Outcome,
}

/// What the oracle computed for a case; reused for every device.
#[derive(Debug)]
pub struct Reference {
    outputs: Vec<Vec<ResultTensor>>,
    /// For cases whose result is a token: the logits behind it.
    logits: Vec<Vec<ResultTensor>>,
    states: Vec<ResultTensor>,
}

/// Runs cases on a device, one after the other. The oracle runs only those that the device supports.
pub fn run_cases<'a>(cases: &'a [Case], device: &'a dyn Device) -> impl Iterator<Item = Report> + 'a {
    let target = device.target();
    cases.iter().map(move |case| {
        let case = &case.on(&target);
        let outcome = run_case_once(case, device, &mut None);
        Report { case: case.name.clone(), kind: case.kind, outcome }
    })
}

/// Runs a case on the oracle.
///
/// # Errors
/// [`Fault::Oracle`] if the oracle refuses it.
pub fn reference(case: &Case) -> Result<Reference, Fault> {
    let device = InterpDevice::default();
    let refused = |outcome: Outcome| Fault::Oracle(outcome.to_string());
    let run = |tail| run(&Case { tail, ..case.clone() }, &device).map_err(refused);
    let Results { outputs, states } = run(case.tail)?;
    let logits = if case.tail == Tail::Logits { Vec::new() } else { run(Tail::Logits)?.outputs };
    Ok(Reference { outputs, logits, states })
}

/// Runs a case on a device and compares with the oracle.
pub fn run_case(case: &Case, device: &dyn Device, reference: &Reference) -> Outcome {
    match run(case, device) {
        Ok(results) => judge(case, &results, reference),
        Err(outcome) => outcome,
    }
}

/// Like [`run_case`]; runs the oracle when a device first has results, and keeps its own for the next device.
pub fn run_case_once(case: &Case, device: &dyn Device, kept: &mut Option<Result<Reference, Fault>>) -> Outcome {
    match run(case, device) {
        Ok(results) => match kept.get_or_insert_with(|| reference(case)) {
            Ok(reference) => judge(case, &results, reference),
            Err(fault) => Outcome::Fail(fault.clone()),
        },
        Err(outcome) => outcome,
    }
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

/// Outputs of every step and the states after the last.
struct Results {
    outputs: Vec<Vec<ResultTensor>>,
    states: Vec<ResultTensor>,
}

fn judge(case: &Case, results: &Results, reference: &Reference) -> Outcome {
    let outputs = results.outputs.iter().enumerate();
    let outputs = outputs.map(|(i, got)| (Place::Step(i), compare(case, got, reference, i)));
    let states = results.states.iter().zip(&reference.states);
    let states = states.map(|(got, want)| (Place::State, difference(got, want)));
    let mut worst = 0.0f64;
    for (place, error) in outputs.chain(states) {
        match error {
            Ok(nmse) if nmse <= case.max_nmse => worst = worst.max(nmse),
            Ok(nmse) => return Outcome::Fail(Fault::Error { place, nmse, bound: case.max_nmse }),
            Err(difference) => return Outcome::Fail(Fault::Differs { place, difference }),
        }
    }
    Outcome::Pass { nmse: worst }
}

/// The error of a tensor of floats; any other must be the same.
fn difference(got: &ResultTensor, want: &ResultTensor) -> Result<f64, Difference> {
    match (got.floats(), want.floats()) {
        (Some(got), Some(want)) => Ok(nmse(&got, &want)),
        _ if got == want => Ok(0.0),
        _ => Err(Difference::Bytes { dtype: got.dtype, got: first(got, want), want: first(want, got) }),
    }
}

/// The first bytes in which a tensor differs.
fn first(a: &ResultTensor, b: &ResultTensor) -> Vec<u8> {
    let at = a.bytes.iter().zip(&b.bytes).position(|(a, b)| a != b).unwrap_or(0);
    a.bytes.get(at..).unwrap_or_default().iter().copied().take(8).collect()
}

fn words(tensors: &[ResultTensor]) -> Vec<u32> {
    tensors.first().map(|t| bytemuck::allocation::pod_collect_to_vec(&t.bytes)).unwrap_or_default()
}

fn compare(case: &Case, got: &[ResultTensor], reference: &Reference, index: usize) -> Result<f64, Difference> {
    let want = &reference.outputs[index];
    match case.compare {
        Compare::Numbers => got.iter().zip(want).try_fold(0.0f64, |worst, (g, w)| Ok(worst.max(difference(g, w)?))),
        Compare::Tokens if got == want => Ok(0.0),
        Compare::Tokens => Err(Difference::Tokens { got: words(got), want: words(want) }),
        Compare::BestToken => {
            let logits = reference.logits[index].first().and_then(ResultTensor::floats).ok_or(Difference::NoLogits)?;
            let tokens = words(got);
            let rows = logits.chunks((logits.len() / tokens.len().max(1)).max(1));
            tokens.iter().zip(rows).try_fold(0.0f64, |worst, (&token, row)| Ok(worst.max(regret(token, row)?)))
        }
    }
}

/// How far a token's logit lies below the best one, squared, by the mean square of the row. A row with a logit that is no
/// number has no token.
fn regret(token: u32, row: &[f32]) -> Result<f64, Difference> {
    if row.iter().copied().any(is_broken) {
        return if token == NO_TOKEN { Ok(0.0) } else { Err(Difference::TokenOfNone { token }) };
    }
    let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let logit = row.get(token as usize).ok_or(Difference::NoSuchToken { token })?;
    let energy: f64 = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / row.len() as f64;
    // The error of a difference of two logits reaches some deviations of one logit's error.
    Ok(f64::from(best - logit).powi(2) / energy / 64.0)
}

fn run(case: &Case, device: &dyn Device) -> Result<Results, Outcome> {
    let (graph, family) = compiled(case, device, case.bucket())?;
    let mut run = Run::new(case, &graph, &family, device).map_err(failed)?;
    let outputs = (0..case.steps.len()).map(|i| run.step(i).map_err(failed)).collect::<Result<_, _>>()?;
    Ok(Results { outputs, states: run.states().map_err(failed)? })
}

/// A case's graph, and its plan for the device.
pub(crate) fn compiled(case: &Case, device: &dyn Device, bucket: Bucket) -> Result<(Graph, PlanFamily), Outcome> {
    let graph = aio_ir::text::parse(&case.text).map_err(|e| Outcome::Fail(e.into()))?.graph;
    let verified = verify(&graph).map_err(|e| Outcome::Fail(e.into()))?;
    let options = Options { buckets: vec![bucket], fuse: case.fuse };
    let family = compile(verified, &device.target(), &options).map_err(refused)?.family;
    Ok((graph, family))
}

fn refused(e: CompileError) -> Outcome {
    match e {
        CompileError::Unsupported { reason, op, .. } => Outcome::Unsupported { kind: op, reason },
        other => Outcome::Fail(Fault::Compile(other)),
    }
}

fn failed(e: DeviceError) -> Outcome {
    match e {
        DeviceError::Unsupported { kind, reason, .. } => Outcome::Unsupported { kind, reason },
        other => Outcome::Fail(Fault::Device(other)),
    }
}
