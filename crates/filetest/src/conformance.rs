//! Runs conformance cases: compiles a case for a device and for the oracle, and compares step by step.

use aio_backend::conformance::{Case, Compare, POOL_PAGES, Weights, nmse};
use aio_backend::{Bindings, Data, Device, DeviceError, Executable, LoadOptions, WeightSet};
use aio_compiler::{CompileError, Options, compile};
use aio_interp::InterpDevice;
use aio_ir::{DType, Graph, TensorType, verify};
use aio_plan::{Plan, Tail};

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
    outputs: Vec<Vec<u32>>,
    /// For cases whose result is a token: the logits behind it.
    logits: Vec<Vec<u32>>,
    states: Vec<Vec<u8>>,
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
    for (i, output) in outputs.iter().enumerate() {
        match compare(case, output, reference, i) {
            Ok(error) if error <= case.max_nmse => worst = worst.max(error),
            Ok(error) => return Outcome::Fail(format!("step {i}: error {error:e} is over {:e}", case.max_nmse)),
            Err(reason) => return Outcome::Fail(format!("step {i}: {reason}")),
        }
    }
    for (got, want) in states.iter().zip(&reference.states) {
        let error = nmse(&halves(got), &halves(want));
        if error > case.max_nmse {
            return Outcome::Fail(format!("state: error {error:e} is over {:e}", case.max_nmse));
        }
    }
    Outcome::Pass { nmse: worst }
}

fn halves(bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; bytes.len() / 2];
    aio_ir::quant::dequantize(DType::F16, bytes, &mut out).expect("states are f16");
    out
}

fn floats(words: &[u32]) -> Vec<f32> {
    words.iter().map(|&w| f32::from_bits(w)).collect()
}

fn compare(case: &Case, got: &[u32], reference: &Reference, index: usize) -> Result<f64, String> {
    let want = &reference.outputs[index];
    match case.compare {
        Compare::Numbers => Ok(nmse(&floats(got), &floats(want))),
        Compare::Tokens if got == want => Ok(0.0),
        Compare::Tokens => Err(format!("tokens {got:?}, expected {want:?}")),
        Compare::BestToken => {
            let logits = floats(&reference.logits[index]);
            let rows = logits.chunks(logits.len() / got.len().max(1));
            got.iter().zip(rows).try_fold(0.0f64, |worst, (&token, row)| Ok(worst.max(regret(token, row)?)))
        }
    }
}

/// How far a token's logit lies below the best one, squared, by the mean square of the row.
fn regret(token: u32, row: &[f32]) -> Result<f64, String> {
    let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let logit = row.get(token as usize).ok_or_else(|| format!("token {token} does not exist"))?;
    let energy: f64 = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / row.len() as f64;
    // The error of a difference of two logits reaches some deviations of one logit's error.
    Ok(f64::from(best - logit).powi(2) / energy / 64.0)
}

type Results = (Vec<Vec<u32>>, Vec<Vec<u8>>);

/// Outputs of every step and the states after the last.
fn run(case: &Case, device: &dyn Device) -> Result<Results, Outcome> {
    let graph = aio_ir::text::parse(&case.text).map_err(|e| Outcome::Fail(e.to_string()))?.graph;
    let verified = verify(&graph).map_err(|e| Outcome::Fail(e.to_string()))?;
    let options = Options { buckets: vec![case.bucket()], fuse: true };
    let family = compile(verified, &device.target(), &options).map_err(refused)?.family;
    let weights = device.upload(&family, &Weights::of(&graph), POOL_PAGES).map_err(failed)?;
    let plan = &family.plans[0];
    let mut executable = device.load(&family, plan, &weights, &LoadOptions::default()).map_err(failed)?;
    let steps = 0..case.steps.len();
    let outputs = steps.map(|i| step(case, i, plan, &mut *executable).map_err(failed)).collect::<Result<_, _>>()?;
    Ok((outputs, states(&graph, device, &weights).map_err(failed)?))
}

fn states(graph: &Graph, device: &dyn Device, weights: &WeightSet) -> Result<Vec<Vec<u8>>, DeviceError> {
    let count = graph.values().filter(|(_, v)| v.def == aio_ir::Def::State).count();
    (0..count).map(|i| device.download_state(weights, i)).collect()
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

/// Words behind an output, to show that a device writes no further.
const SENTINEL: u32 = 0x7fc0_dead;

fn step(case: &Case, index: usize, plan: &Plan, executable: &mut dyn Executable) -> Result<Vec<u32>, DeviceError> {
    let dims = case.steps[index].dims();
    let words = |ty: &TensorType| ty.bytes(&dims).map_or(0, |b| b as usize / 4);
    let values: Vec<Vec<u32>> = plan.inputs.iter().map(|b| case.input(&b.name, &b.ty, index)).collect();
    let data = plan.inputs.iter().zip(&values).map(|(b, v)| match b.ty.dtype {
        _ if b.optional => None,
        DType::F32 => Some(Data::F32(bytemuck::cast_slice(v))),
        DType::I32 => Some(Data::I32(bytemuck::cast_slice(v))),
        _ => Some(Data::U32(v)),
    });
    let data: Vec<_> = data.collect();
    let len = words(&plan.outputs[0].ty);
    let mut output = vec![SENTINEL; len + 16];
    let mut bindings = Bindings { dims, inputs: &data, outputs: &mut [&mut output] };
    executable.submit(&mut bindings)?.wait()?;
    if output[len..].iter().any(|&w| w != SENTINEL) {
        return Err(DeviceError::Failed("the device wrote behind its output".to_owned()));
    }
    output.truncate(len);
    Ok(output)
}
