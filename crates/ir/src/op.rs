//! The op table: each op declared once.
//!
//! From one entry come the enum variant, the parser's keyword, the printer, arity and attribute checks, the
//! shape rule, the cost rule, the DOT colour and `aio graph ops`. To add an op: one entry here, its shape
//! rule in [`crate::infer`], its meaning in `aio-interp`; the compiler points at every place left.

use crate::attr::{Attr, AttrKind, AttrSpec, Default as D};
use crate::cost::{self, CostRule};
use crate::infer::{self, InferRule};

/// What an op is about; ops of one group share rules and a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Makes a value from attributes alone.
    Source,
    /// Picks rows by index.
    Lookup,
    /// Matrix products.
    Linear,
    /// One output element from one element of each operand.
    Elementwise,
    /// Normalisation over a dimension.
    Norm,
    /// Rotary positions.
    Position,
    /// The paged KV cache.
    Cache,
    /// Moves elements, computes nothing.
    Layout,
    /// Changes the element type.
    Convert,
    /// Folds a dimension.
    Reduce,
    /// Chooses tokens.
    Choose,
}

/// One operand of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Name in messages and documentation.
    pub name: &'static str,
    /// Whether `_` may stand in its place, or an optional input that is not bound.
    pub optional: bool,
}

/// The declaration of an op.
#[derive(Debug)]
pub struct OpSpec {
    /// Keyword in the text form.
    pub mnemonic: &'static str,
    /// What it is about.
    pub group: Group,
    /// Operands in order; optional ones come last.
    pub operands: &'static [Operand],
    /// Names of the results in order.
    pub results: &'static [&'static str],
    /// Attributes in order.
    pub attrs: &'static [AttrSpec],
    /// For ops that return an updated state: the operand it replaces (always result 0).
    pub updates: Option<usize>,
    /// One sentence.
    pub summary: &'static str,
    /// Result types from operand types and attributes.
    pub infer: InferRule,
    /// Bytes and flops.
    pub cost: CostRule,
}

const fn req(name: &'static str) -> Operand {
    Operand { name, optional: false }
}

const fn opt(name: &'static str) -> Operand {
    Operand { name, optional: true }
}

const fn attr(name: &'static str, kind: AttrKind, default: D) -> AttrSpec {
    AttrSpec { name, kind, default }
}

macro_rules! op_table {
    ($($variant:ident $mnemonic:literal $group:ident $summary:literal
        ($($operand:ident $oname:literal),*) -> ($($result:literal),*) $(updates $updates:literal)?
        [$($aname:literal $akind:expr, $adefault:expr);*] $infer:path, $cost:path;)*) => {
        /// An operation. [`Op::spec`] has its declaration.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Op { $(#[doc = $summary] $variant,)* }

        impl Op {
            /// All ops, in table order.
            pub const ALL: &'static [Op] = &[$(Op::$variant,)*];
        }

        static SPECS: &[OpSpec] = &[$(OpSpec {
            mnemonic: $mnemonic,
            group: Group::$group,
            operands: &[$($operand($oname)),*],
            results: &[$($result),*],
            attrs: &[$(attr($aname, $akind, $adefault)),*],
            updates: op_table!(@updates $($updates)?),
            summary: $summary,
            infer: $infer,
            cost: $cost,
        },)*];
    };
    (@updates) => { None };
    (@updates $index:literal) => { Some($index) };
}

const INT: AttrKind = AttrKind::Int;
const NUM: AttrKind = AttrKind::F32;
const EXTENDED: AttrKind = AttrKind::Extended;
const SHAPE: AttrKind = AttrKind::Shape;
const INTS: AttrKind = AttrKind::Ints;
const DTYPE: AttrKind = AttrKind::DType;
const COMPARE: AttrKind = AttrKind::Word(&["eq", "ne", "lt", "le", "gt", "ge"]);
const REDUCE: AttrKind = AttrKind::Word(&["sum", "max", "min", "mean"]);
/// How the two members of a rotated pair lie in a head: neighbours, or half a head apart.
const ROPE_PAIRS: AttrKind = AttrKind::Word(&["adjacent", "halves"]);
const ROPE_SCALING: AttrKind = AttrKind::Word(&["none", "linear", "yarn"]);

op_table! {
    Fill "fill" Source "A tensor of one number." () -> ("out") ["shape" SHAPE, D::Required; "value" EXTENDED, D::Required; "dtype" DTYPE, D::Required] infer::fill, cost::moved;
    Iota "iota" Source "0, 1, 2, ... along the last dimension." () -> ("out") ["shape" SHAPE, D::Required; "dtype" DTYPE, D::Required] infer::iota, cost::moved;

    Embed "embed" Lookup "Rows of a table picked by id, decoded to f32." (req "table", req "ids") -> ("out") [] infer::embed, cost::picked;
    Gather "gather" Lookup "Slices of the first dimension picked by index." (req "x", req "index") -> ("out") [] infer::gather, cost::picked;
    Scatter "scatter" Lookup "A copy of x whose slices at the indices are replaced; the last write wins." (req "x", req "index", req "updates") -> ("out") [] infer::scatter, cost::moved;

    Matmul "matmul" Linear "x times the transpose of w (rows of w are outputs); with `experts`, row i uses the matrix that `experts` names for it." (req "x", req "w", opt "experts") -> ("out") [] infer::matmul, cost::matmul;

    Add "add" Elementwise "a + b, broadcasting." (req "a", req "b") -> ("out") [] infer::binary, cost::per_element;
    Sub "sub" Elementwise "a - b, broadcasting." (req "a", req "b") -> ("out") [] infer::binary, cost::per_element;
    Mul "mul" Elementwise "a * b, broadcasting." (req "a", req "b") -> ("out") [] infer::binary, cost::per_element;
    Div "div" Elementwise "a / b, broadcasting." (req "a", req "b") -> ("out") [] infer::binary, cost::per_element;
    Min "min" Elementwise "The smaller, broadcasting; NaN if either is." (req "a", req "b") -> ("out") [] infer::binary, cost::per_element;
    Max "max" Elementwise "The larger, broadcasting; NaN if either is." (req "a", req "b") -> ("out") [] infer::binary, cost::per_element;
    Compare "compare" Elementwise "A comparison as bool, broadcasting." (req "a", req "b") -> ("out") ["kind" COMPARE, D::Required] infer::compare, cost::per_element;
    Select "select" Elementwise "a where the condition holds, else b; broadcasting." (req "condition", req "a", req "b") -> ("out") [] infer::select, cost::per_element;

    Neg "neg" Elementwise "-x." (req "x") -> ("out") [] infer::unary, cost::per_element;
    Silu "silu" Elementwise "x * sigmoid(x)." (req "x") -> ("out") [] infer::unary_float, cost::per_element;
    Gelu "gelu" Elementwise "The tanh form of the Gaussian error linear unit." (req "x") -> ("out") [] infer::unary_float, cost::per_element;
    Relu "relu" Elementwise "max(x, 0); NaN stays." (req "x") -> ("out") [] infer::unary_float, cost::per_element;
    Tanh "tanh" Elementwise "Hyperbolic tangent." (req "x") -> ("out") [] infer::unary_float, cost::per_element;
    Sigmoid "sigmoid" Elementwise "1 / (1 + exp(-x))." (req "x") -> ("out") [] infer::unary_float, cost::per_element;
    Exp "exp" Elementwise "e to the x." (req "x") -> ("out") [] infer::unary_float, cost::per_element;
    Log "log" Elementwise "Natural logarithm." (req "x") -> ("out") [] infer::unary_float, cost::per_element;
    Sqrt "sqrt" Elementwise "Square root." (req "x") -> ("out") [] infer::unary_float, cost::per_element;
    Rsqrt "rsqrt" Elementwise "1 / sqrt(x)." (req "x") -> ("out") [] infer::unary_float, cost::per_element;
    Sin "sin" Elementwise "Sine of radians." (req "x") -> ("out") [] infer::unary_float, cost::per_element;
    Cos "cos" Elementwise "Cosine of radians." (req "x") -> ("out") [] infer::unary_float, cost::per_element;

    RmsNorm "rms_norm" Norm "x / sqrt(mean(x^2) + eps) over the last dimension, times the weight." (req "x", opt "weight") -> ("out") ["eps" NUM, D::Required] infer::norm, cost::per_element;
    LayerNorm "layer_norm" Norm "(x - mean) / sqrt(variance + eps) over the last dimension, times the weight, plus the bias." (req "x", opt "weight", opt "bias") -> ("out") ["eps" NUM, D::Required] infer::norm, cost::per_element;
    Softmax "softmax" Norm "exp(x) / sum(exp(x)) over the last dimension." (req "x") -> ("out") [] infer::unary_float, cost::per_element;

    Rope "rope" Position "Rotates pairs of the first `dims` elements of each head by position * base^(-2i/dims)." (req "x", req "positions", opt "freq_factors") -> ("out")
        ["pairs" ROPE_PAIRS, D::Required; "dims" INT, D::Required; "base" NUM, D::F32(10000.0); "scaling" ROPE_SCALING, D::Word("none"); "factor" NUM, D::F32(1.0); "original_context" INT, D::Int(0); "attn_factor" NUM, D::F32(1.0); "beta_fast" NUM, D::F32(32.0); "beta_slow" NUM, D::F32(1.0)]
        infer::rope, cost::per_element;

    PageWrite "page_write" Cache "Stores a row's key and value at its position of its sequence's pages." (req "kv", req "k", req "v", req "table", req "row_seq", req "positions") -> ("kv") updates 0 [] infer::page_write, cost::page_write;
    Attend "attend" Cache "Causal attention of each row over its sequence's pages, positions 0 to its own." (req "q", req "kv", req "table", req "row_seq", req "positions", opt "sinks") -> ("out")
        ["scale" NUM, D::Required; "window" INT, D::Int(0); "soft_cap" NUM, D::F32(0.0)] infer::attend, cost::attend;
    Commit "commit" Cache "Committed lengths plus the accepted counts." (req "lens", req "accepted") -> ("lens") updates 0 [] infer::commit, cost::moved;

    Slice "slice" Layout "Elements start to start + len of a dimension." (req "x") -> ("out") ["axis" INT, D::Required; "start" INT, D::Required; "len" INT, D::Required] infer::slice, cost::picked;
    Concat "concat" Layout "a, then b, along a dimension." (req "a", req "b") -> ("out") ["axis" INT, D::Required] infer::concat, cost::moved;
    Reshape "reshape" Layout "The same elements under another shape." (req "x") -> ("out") ["shape" SHAPE, D::Required] infer::reshape, cost::free;
    Transpose "transpose" Layout "Dimensions in another order: result dimension i is the operand's dimension that `perm` lists at i." (req "x") -> ("out") ["perm" INTS, D::Required] infer::transpose, cost::moved;
    Broadcast "broadcast" Layout "Repeats dimensions of 1 up to the shape." (req "x") -> ("out") ["shape" SHAPE, D::Required] infer::broadcast, cost::moved;

    Cast "cast" Convert "The nearest value of another plain type; floats to integers truncate and saturate." (req "x") -> ("out") ["to" DTYPE, D::Required] infer::cast, cost::moved;
    Quantize "quantize" Convert "Blocks of a quantised type." (req "x") -> ("out") ["to" DTYPE, D::Required] infer::quantize, cost::moved;
    Dequantize "dequantize" Convert "f32 from any float type." (req "x") -> ("out") [] infer::dequantize, cost::moved;

    Reduce "reduce" Reduce "Folds a dimension to 1; NaN if an element is." (req "x") -> ("out") ["kind" REDUCE, D::Required; "axis" INT, D::Required] infer::reduce, cost::per_element;
    Cumsum "cumsum" Reduce "Running sum along the last dimension." (req "x") -> ("out") [] infer::unary, cost::per_element;

    Argmax "argmax" Choose "Index of the largest element of the last dimension; the lowest on ties; 4294967295 (no token) where an element is NaN or positive infinity, unlike numpy." (req "x") -> ("index") [] infer::argmax, cost::per_element;
    TopK "top_k" Choose "The k largest of the last dimension, largest first, lowest index first on ties; NaN is larger than any number." (req "x") -> ("values", "indices") ["k" INT, D::Required] infer::top_k, cost::per_element;
    Sample "sample" Choose "A token per row: bias, penalties, top-k, top-p, min-p, temperature, then arg-max under counter-based Gumbel noise; 4294967295 (no token) where a logit is NaN or positive infinity." (req "logits", req "params", req "noise", req "recent", opt "bias") -> ("token") [] infer::sample, cost::per_element;
    Verify "verify" Choose "Accepted drafts per sequence and the next token, from each row's own sample; a row without a token agrees with no draft." (req "sampled", req "drafts", req "spans") -> ("accepted", "next") [] infer::verify, cost::moved;
}

impl Op {
    /// The op's declaration.
    pub fn spec(self) -> &'static OpSpec {
        &SPECS[self as usize]
    }

    /// The keyword in the text form.
    pub fn mnemonic(self) -> &'static str {
        self.spec().mnemonic
    }

    /// The op with this keyword.
    pub fn from_mnemonic(word: &str) -> Option<Op> {
        Op::ALL.iter().copied().find(|op| op.mnemonic() == word)
    }
}

impl OpSpec {
    /// Where an attribute lies in a node's list.
    pub fn attr_index(&self, name: &str) -> Option<usize> {
        self.attrs.iter().position(|a| a.name == name)
    }

    /// The attributes with their defaults; `None` where one is required.
    pub fn default_attrs(&self) -> impl Iterator<Item = Option<Attr>> + '_ {
        self.attrs.iter().map(|a| a.default.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_is_consistent() {
        let words: HashSet<_> = Op::ALL.iter().map(|op| op.mnemonic()).collect();
        assert_eq!(words.len(), Op::ALL.len(), "mnemonics are unique");
        for &op in Op::ALL {
            let spec = op.spec();
            assert_eq!(Op::from_mnemonic(spec.mnemonic), Some(op));
            let first_optional = spec.operands.iter().position(|o| o.optional).unwrap_or(spec.operands.len());
            assert!(spec.operands[first_optional..].iter().all(|o| o.optional), "{}: optional last", spec.mnemonic);
            assert!(spec.summary.ends_with('.'), "{}", spec.mnemonic);
            for a in spec.attrs {
                assert!(a.default.value().is_none_or(|v| a.kind.admits(&v)), "{}.{}", spec.mnemonic, a.name);
            }
        }
    }
}
