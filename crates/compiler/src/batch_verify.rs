//! Verification batching: turns the decode step into one that verifies a run of drafts without the host.
//!
//! The rows of a sequence are its last token and its drafts. Every output row samples the next token. A draft is
//! accepted if the row before it sampled the same token, so the output equals that of plain decoding, token for token.
//! The device returns the number of accepted drafts, the token after them and the new length, so the host decides
//! nothing in between. The idea is speculative decoding (Leviathan et al., arXiv 2211.17192), comparing samples instead
//! of probabilities. Called by the pipeline after the tail.

use crate::CompileError;
use aio_ir::{Builder, DType, Def, Dim, Graph, Op, Shape, Sym, TensorType, ValueId};
use aio_plan::{StepInput, StepOutput};

/// Turns the step graph `graph`, whose output `token` is the sample of each row of its input `out_rows`, into a
/// verification graph. Symbols are unchanged: `k` drafts only need a bucket of `k + 1` rows per sequence.
///
/// New inputs, for each sequence of the step:
/// - `spans` u32\[seqs, 2\]: index among the output rows of its last token, and number of drafts after it;
/// - `lens` u32\[seqs\]: positions committed regardless of the drafts, including the last token.
///
/// Outputs that replace `token`, all u32\[seqs\]: the number of `accepted` drafts, the `next` token, and `lens`
/// including the accepted drafts.
///
/// # Errors
/// [`CompileError::NoInput`], [`CompileError::NoOutput`] and [`CompileError::OddOutput`] if the graph is not such a
/// step graph.
pub fn batch_verify(graph: &Graph) -> Result<Graph, CompileError> {
    const TOKEN: &str = StepOutput::Token.name();
    let sampled = graph.outputs.iter().find(|o| o.name == TOKEN).ok_or(CompileError::NoOutput(TOKEN))?.value;
    let [tokens, out_rows] = [input(graph, StepInput::Tokens)?, input(graph, StepInput::OutRows)?];
    let mut out = graph.clone();
    out.outputs.retain(|o| o.name != TOKEN);
    let mut b = Builder::from(out);
    let seqs = Dim::Sym(Sym::Seqs);
    let spans = b.input(StepInput::Spans.name(), TensorType::new(DType::U32, Shape::new([seqs, Dim::Const(2)])));
    let lens = b.input(StepInput::Lens.name(), TensorType::new(DType::U32, Shape::new([seqs])));
    let built = verified_rows(&mut b, [tokens, out_rows, sampled, spans, lens]);
    let [accepted, next, lens] = built.map_err(|source| CompileError::OddOutput { output: TOKEN, source })?;
    b.output(StepOutput::Accepted.name(), accepted);
    b.output(StepOutput::Next.name(), next);
    b.output(StepOutput::Lens.name(), lens);
    Ok(b.finish())
}

fn verified_rows(
    b: &mut Builder,
    [tokens, out_rows, sampled, spans, lens]: [ValueId; 5],
) -> Result<[ValueId; 3], aio_ir::graph::BuildError> {
    let drafts = b.op(Op::Gather, &[tokens, out_rows], &[])?;
    let verified = b.apply(Op::Verify, &[sampled, drafts, spans].map(Some), &[])?;
    let &[accepted, next] = &b.graph().node(verified).results[..] else { unreachable!("`verify` has two results") };
    let committed = b.op(Op::Add, &[lens, accepted], &[])?;
    Ok([accepted, next, committed])
}

fn input(graph: &Graph, input: StepInput) -> Result<ValueId, CompileError> {
    let name = input.name();
    let found = graph.find(name).filter(|&v| matches!(graph.value(v).def, Def::Input { .. }));
    found.ok_or(CompileError::NoInput(name))
}
