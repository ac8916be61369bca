//! `aio graph run`: runs any text graph on .npy tensors, on the oracle or on a device as a compiled plan.
//!
//! Names, types, shapes, symbols and memory are checked before anything runs.

use crate::args::{GraphRunArgs, NamedFile};
use crate::devices;
use crate::graph_device;
use crate::graph_job::{Job, list};
use crate::graph_source::Source;
use crate::npy::{self, Npy};
use crate::outcome::Outcome;
use crate::output::print_now;
use aio::interp::{EvalError, Tensor, evaluate};
use aio::ir::{DType, Def, Dims, Graph, TensorType, Verified};
use anyhow::{Context, Result};
use std::borrow::Cow;

pub(crate) fn main(args: GraphRunArgs) -> Result<Outcome> {
    devices::check(args.device, (&args).into())?;
    let source = Source::file(&args.file)?;
    let parsed = source.parse()?;
    let graph = source.verify(&parsed)?;
    let roots = check_outputs(graph.graph(), &args.outputs)?;
    let job = Job::new(&parsed, &args)?;
    let results = if args.device.is_oracle() {
        interpret(graph, &job).map_err(|e| source.placed(&parsed, e))?
    } else {
        graph_device::run(graph, &job, &args)?
    };
    let mut shown = String::new();
    for ((name, ty), bytes) in named_roots(graph.graph()).zip(&results) {
        let dims: Vec<String> = ty.shape.resolve(&job.dims).iter().map(ToString::to_string).collect();
        shown.push_str(&format!("{name} : {}[{}], {} bytes\n", ty.dtype, dims.join(", "), bytes.len()));
    }
    for (file, &root) in args.outputs.iter().zip(&roots) {
        let (_, ty) = named_roots(graph.graph()).nth(root).context("a root has a name")?;
        npy::write(&file.path, &to_npy(ty, &job.dims, &results[root])?)?;
    }
    print_now(&shown)?;
    Ok(Outcome::Fine)
}

/// Outputs, then final states, with their names.
fn named_roots(graph: &Graph) -> impl Iterator<Item = (&str, &TensorType)> {
    let outputs = graph.outputs.iter().map(|o| (o.name.as_str(), graph.ty(o.value)));
    let finals = graph.finals.iter().map(|f| (graph.value(f.state).name.as_str(), graph.ty(f.value)));
    outputs.chain(finals)
}

/// Index of each wanted result among the roots.
fn check_outputs(graph: &Graph, wanted: &[NamedFile]) -> Result<Vec<usize>> {
    let names: Vec<&str> = named_roots(graph).map(|(name, _)| name).collect();
    let place = |file: &NamedFile| {
        let place = names.iter().position(|n| *n == file.name);
        place.with_context(|| {
            format!("the graph has no output or updated state `{}`; expected one of {}", file.name, list(&names))
        })
    };
    wanted.iter().map(place).collect()
}

/// Runs the graph on the oracle and returns the bytes of outputs and final states.
fn interpret(graph: Verified<'_>, job: &Job) -> Result<Vec<Vec<u8>>, EvalError> {
    let results = evaluate(graph, &job.dims, |_, value| {
        let bytes = match job.given.get(&value.name) {
            Some(npy) => Cow::Borrowed(npy.bytes.as_slice()),
            None if value.def == Def::State => Cow::Owned(vec![0; value.ty.bytes(&job.dims)? as usize]),
            None => return None,
        };
        Tensor::from_bytes(&value.ty, &job.dims, bytes)
    })?;
    Ok(results.iter().map(Tensor::to_bytes).collect())
}

fn to_npy(ty: &TensorType, dims: &Dims, bytes: &[u8]) -> Result<Npy> {
    let mut shape = ty.shape.resolve(dims).to_vec();
    let mut dtype = ty.dtype;
    if !npy::has(dtype) {
        let last = shape.last_mut().context("a block type has a dimension")?;
        *last = dtype.row_bytes(*last).context("rows are whole blocks")?;
        dtype = DType::U8;
    }
    Ok(Npy { dtype, shape, bytes: bytes.to_vec() })
}
