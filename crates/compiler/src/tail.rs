//! The tail: replaces the output `logits` by the result that a bucket asks for.

use crate::CompileError;
use aio_ir::{Builder, DType, Dim, Graph, Op, SAMPLE_PARAMS, Shape, Sym, TensorType, ValueId};
use aio_plan::{StepInput, StepOutput, Tail};

/// Adds the tail to a step graph.
///
/// # Errors
/// [`CompileError::NoOutput`] if a tail other than `Logits` is wanted and the graph has no logits,
/// [`CompileError::OddOutput`] if they are not f32 rows, [`CompileError::NoHidden`] if no product makes them.
pub(crate) fn with_tail(graph: &Graph, tail: Tail) -> Result<Graph, CompileError> {
    if tail == Tail::Logits {
        return Ok(graph.clone());
    }
    const LOGITS: &str = StepOutput::Logits.name();
    let logits = graph.outputs.iter().find(|o| o.name == LOGITS).ok_or(CompileError::NoOutput(LOGITS))?.value;
    let hidden = if tail == Tail::Hidden { Some(hidden(graph, logits).ok_or(CompileError::NoHidden)?) } else { None };
    let mut out = graph.clone();
    out.outputs.retain(|o| o.name != LOGITS);
    let mut b = Builder::from(out);
    if let Some(hidden) = hidden {
        b.output(StepOutput::Hidden.name(), hidden);
        return Ok(b.finish());
    }
    let token = match tail {
        Tail::Argmax => b.op(Op::Argmax, &[logits], &[]),
        _ => sample(&mut b, logits),
    };
    let token = token.map_err(|source| CompileError::OddOutput { output: LOGITS, source })?;
    b.output(StepOutput::Token.name(), token);
    Ok(b.finish())
}

/// What the product that makes the logits multiplies. Ops of one operand, or with constants, may follow the product.
fn hidden(graph: &Graph, logits: ValueId) -> Option<ValueId> {
    let mut value = logits;
    loop {
        let (_, node) = graph.def_node(value)?;
        if node.op == Op::Matmul {
            return Some(node.input(0));
        }
        value = node.used().next()?;
    }
}

fn sample(b: &mut Builder, logits: ValueId) -> Result<ValueId, aio_ir::graph::BuildError> {
    let ty = b.graph().ty(logits).clone();
    let rows = ty.shape.dims().first().copied().unwrap_or(Dim::Const(1));
    let of = |dtype, last: Dim| TensorType::new(dtype, Shape::new([rows, last]));
    let params = b.input(StepInput::Sampling.name(), of(DType::F32, Dim::Const(SAMPLE_PARAMS)));
    let noise = b.input(StepInput::Noise.name(), of(DType::U32, Dim::Const(4)));
    let recent = b.input(StepInput::Recent.name(), of(DType::I32, Dim::Sym(Sym::Recent)));
    let bias = b.optional_input(StepInput::LogitBias.name(), ty);
    b.op(Op::Sample, &[logits, params, noise, recent, bias], &[])
}
