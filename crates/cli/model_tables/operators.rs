//! Operators of a decode step, enumerated from published model code: openPangu under PyTorch, Qwen2.5 under llama.cpp.
//!
//! One entry for each line of the code that launches kernels; views launch none. The count of an entry is the number of
//! words in its list, so that a count cannot differ from what is listed.

use super::setting::Setting;
use crate::section::{Section, cells};
use crate::table::Table;
use aio::model::synth::Preset;
use anyhow::Result;

/// What an operator reads and writes that is large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moves {
    /// So little that the kernel floor covers it.
    Little,
    /// Query and output projections.
    Query,
    /// Key or value projection.
    Key,
    /// One matrix of the feed-forward layer.
    Forward,
    /// The head.
    Head,
    /// Keys or values of the context are copied into a longer tensor.
    Grow,
    /// Keys and values of the context.
    Context,
}

impl Moves {
    /// Bytes, with 16-bit weights, keys and values.
    pub(crate) fn bytes(self, p: &Preset, context: f64) -> f64 {
        let [width, forward, vocab] = [p.embedding_length, p.feed_forward_length, p.vocab_size].map(f64::from);
        let [query, key] = [p.head_count, p.head_count_kv].map(|n| f64::from(n) * f64::from(p.head_length));
        2.0 * match self {
            Moves::Little => 0.0,
            Moves::Query => width * query,
            Moves::Key => width * key,
            Moves::Forward => width * forward,
            Moves::Head => width * vocab,
            Moves::Grow | Moves::Context => 2.0 * key * context,
        }
    }
}

/// Operators of one line of model code.
pub(crate) struct Line {
    pub module: &'static str,
    /// Names, comma-separated, in order.
    pub operators: &'static str,
    /// What each of them moves.
    pub moves: Moves,
}

const fn line(module: &'static str, operators: &'static str, moves: Moves) -> Line {
    Line { module, operators, moves }
}

impl Line {
    /// How many operators it launches.
    pub(crate) fn count(&self) -> usize {
        self.operators.split(", ").count()
    }
}

/// The operators of a step: what is before the layers, one layer, what is after them.
pub(crate) struct Operators {
    pub before: &'static [Line],
    pub layer: &'static [Line],
    pub after: &'static [Line],
}

impl Operators {
    /// How many a step launches, by its number of layers.
    pub(crate) fn count(&self, layers: u32) -> usize {
        let sum = |lines: &[Line]| lines.iter().map(Line::count).sum::<usize>();
        sum(self.before) + sum(self.layer) * layers as usize + sum(self.after)
    }
}

const NORM: &str = "to float32, pow, mean, add, rsqrt, mul, to half, mul";
const ROTATE: &str = "neg, cat, mul, mul, add";

/// openPangu's layer in PyTorch (modeling_openpangu_dense.py): biased projections, one decoded token, no mask.
const PANGU_LAYER: &[Line] = &[
    line("input norm", NORM, Moves::Little),
    line("q_proj, with bias", "linear", Moves::Query),
    line("k_proj and v_proj, with bias", "linear, linear", Moves::Key),
    line("rotary of q, rotate_half", ROTATE, Moves::Little),
    line("rotary of k, rotate_half", ROTATE, Moves::Little),
    line("cache update", "cat, cat", Moves::Grow),
    line("attention", "npu_fused_infer_attention_score", Moves::Context),
    line("o_proj, with bias", "linear", Moves::Query),
    line("residual", "add", Moves::Little),
    line("post-attention norm", NORM, Moves::Little),
    line("gate_proj", "linear", Moves::Forward),
    line("activation", "silu", Moves::Little),
    line("up_proj", "linear", Moves::Forward),
    line("gating", "mul", Moves::Little),
    line("down_proj", "linear", Moves::Forward),
    line("residual", "add", Moves::Little),
];

const EMBEDDING: Line = line("embedding", "embedding", Moves::Little);
const ANGLES: Line =
    line("rotary angles", "to float32, matmul, cat, cos, mul, sin, mul, to half, to half", Moves::Little);
const FINAL_NORM: Line = line("final norm", NORM, Moves::Little);
const HEAD: Line = line("head", "linear", Moves::Head);

/// One forward pass of openPangu.
pub(crate) const PANGU_FORWARD: Operators =
    Operators { before: &[EMBEDDING, ANGLES], layer: PANGU_LAYER, after: &[FINAL_NORM, HEAD] };

/// One token of `generate`: the forward pass, and the loop around it.
pub(crate) const PANGU_GENERATE: Operators = Operators {
    before: &[
        line("generate: positions from the mask", "to long, cumsum, sub, eq, masked_fill", Moves::Little),
        EMBEDDING,
        ANGLES,
    ],
    layer: PANGU_LAYER,
    after: &[
        FINAL_NORM,
        HEAD,
        line("generate: logits", "to float32", Moves::Little),
        line("generate: greedy choice", "argmax", Moves::Little),
        line("generate: finished rows", "mul, rsub, mul, add", Moves::Little),
        line("generate: tokens, mask, position", "cat, ones, cat, add", Moves::Little),
        line("generate: stopping criteria", "full, isin, or, not, and, max, eq", Moves::Little),
    ],
};

/// Qwen2.5 under llama.cpp's CANN back end (build_qwen2, ggml-cann), F16 weights, flash attention.
pub(crate) const GGML_QWEN2: Operators = Operators {
    before: &[line("embedding", "GatherV2", Moves::Little)],
    layer: &[
        line("attn_norm", "RmsNorm, Mul", Moves::Little),
        line("wq", "Mm", Moves::Query),
        line("wk and wv", "Mm, Mm", Moves::Key),
        line("biases of q, k, v", "Add, Add, Add", Moves::Little),
        line("rotary of q and k", "RotaryPositionEmbedding, RotaryPositionEmbedding", Moves::Little),
        line("cache update", "Cast, InplaceIndexCopy, Cast, InplaceIndexCopy", Moves::Little),
        line("attention: query to half", "Cast", Moves::Little),
        line("attention", "FusedInferAttentionScoreV2", Moves::Context),
        line("attention: result to float", "Cast", Moves::Little),
        line("wo", "Mm", Moves::Query),
        line("residual", "Add", Moves::Little),
        line("ffn_norm", "RmsNorm, Mul", Moves::Little),
        line("ffn_gate, ffn_up", "Mm, Mm", Moves::Forward),
        line("swiglu", "Silu, InplaceMul", Moves::Little),
        line("ffn_down", "Mm", Moves::Forward),
        line("residual", "Add", Moves::Little),
    ],
    after: &[line("output norm", "RmsNorm, Mul", Moves::Little), line("head", "Mm", Moves::Head)],
};

/// Operators as a table.
pub(crate) fn sections(_: &Setting<'_>) -> Result<Vec<Section>> {
    let pangu = section(
        "Modelled: operators of an eager decode step, openPangu under PyTorch",
        &PANGU_GENERATE,
        &[("openPangu-1B", 26), ("openPangu-7B", 34)],
    );
    let ggml = section(
        "Modelled: operators of a decode step, Qwen2.5 under llama.cpp CANN",
        &GGML_QWEN2,
        &[("Qwen2.5-0.5B", 24)],
    );
    Ok(vec![pangu, ggml])
}

fn section(title: &'static str, operators: &Operators, models: &[(&str, u32)]) -> Section {
    let Operators { before, layer, after } = operators;
    let parts = [("step", before), ("layer", layer), ("step", after)];
    let row = |(per, line): (&str, &Line)| cells![per, line.module, line.operators, line.count()];
    let rows = parts.iter().flat_map(|(per, lines)| lines.iter().map(|l| row((per, l)))).collect();
    let heads = vec!["per", "line of the model", "operators", ">count"];
    let each = operators.count(1) - operators.count(0);
    let totals: Vec<String> = models
        .iter()
        .map(|(name, layers)| {
            format!("{name}: {layers} x {each} + {} = {}", operators.count(0), operators.count(*layers))
        })
        .collect();
    let note = format!(
        "Counted from the model's code, one kernel for each operator, views not counted. {}.",
        totals.join("; ")
    );
    Section { table: Table { title, heads, rows }, notes: vec![note] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_lists() {
        assert_eq!(PANGU_FORWARD.count(1) - PANGU_FORWARD.count(0), 40);
        assert_eq!(GGML_QWEN2.count(1) - GGML_QWEN2.count(0), 27);
        assert!(PANGU_GENERATE.count(26) > PANGU_FORWARD.count(26));
    }
}
