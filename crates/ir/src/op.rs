//! The op table: each op is declared once.
//!
//! An entry generates the enum variant, the parser's keyword, the printer, arity and attribute checks, the shape rule,
//! the cost rule, the DOT colour and `aio graph ops`. To add an op, add one entry here, its shape rule in
//! [`crate::infer`] and its meaning in `aio-interp`; the walkthrough in ARCHITECTURE.md lists the other places.

use crate::attr::{Attr, AttrKind, AttrSpec, Default as D};
use crate::cost::{self, CostRule};
use crate::infer::{self, InferRule};
use crate::infer_state;

/// The category of an op. Ops of one group share rules and a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Creates a value from attributes alone.
    Source,
    /// Picks rows by index.
    Lookup,
    /// Matrix products.
    Linear,
    /// Computes each output element from one element of each operand.
    Elementwise,
    /// Normalisation over a dimension.
    Norm,
    /// Rotary positions.
    Position,
    /// The paged KV cache.
    Cache,
    /// Recurrent state of sequences, in slots.
    Slots,
    /// Moves elements without computing.
    Layout,
    /// Changes the element type.
    Convert,
    /// Reduces a dimension.
    Reduce,
    /// Chooses tokens.
    Choose,
}

/// One operand of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Name in messages and documentation.
    pub name: &'static str,
    /// Whether `_`, or an optional input that is not bound, may take its place.
    pub optional: bool,
}

/// The declaration of an op.
#[derive(Debug)]
pub struct OpSpec {
    /// Keyword in the text form.
    pub mnemonic: &'static str,
    /// Its category.
    pub group: Group,
    /// Operands in order, optional ones last.
    pub operands: &'static [Operand],
    /// Names of the results in order.
    pub results: &'static [&'static str],
    /// Attributes in order.
    pub attrs: &'static [AttrSpec],
    /// For ops that return an updated state: the operand that result 0 replaces.
    pub updates: Option<usize>,
    /// Description, one sentence.
    pub summary: &'static str,
    /// Result types from operand types and attributes.
    pub infer: InferRule,
    /// Cost rule.
    pub cost: CostRule,
    /// Further documentation.
    pub notes: Notes,
}

/// Reference documentation of an op besides its summary. Each text is one or more sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notes {
    /// Element types allowed.
    pub types: &'static str,
    /// Shapes, broadcasting and layouts.
    pub shapes: &'static str,
    /// NaN, overflow and rounding.
    pub numbers: &'static str,
    /// Ranges of indices; empty if the op takes none.
    pub indices: &'static str,
}

const fn req(name: &'static str) -> Operand {
    Operand { name, optional: false }
}

const fn opt(name: &'static str) -> Operand {
    Operand { name, optional: true }
}

/// `a == b`, usable in constants.
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

const fn attr(name: &'static str, kind: AttrKind, default: D) -> AttrSpec {
    AttrSpec { name, kind, default }
}

const fn notes(types: &'static str, shapes: &'static str, numbers: &'static str, indices: &'static str) -> Notes {
    Notes { types, shapes, numbers, indices }
}

/// The types not stored in blocks: [`DType::is_quantized`](crate::DType::is_quantized) is false.
const PLAIN_X: &str = "x: any plain type (f32, f16, bf16, i32, u32, i8, u8, bool).";
const SAME_PLAIN: &str = "a and b: any plain type (f32, f16, bf16, i32, u32, i8, u8, bool), the same for both.";
const F32_X: &str = "x and out: f32.";
const SAME_SHAPE: &str = "out has x's shape.";
const BROADCAST: &str =
    "Shapes broadcast as in numpy: aligned at the last dimension, equal or one of them 1 (0 and 1 give 0).";
const SLOT_NUMBERS: &str = "The state is rounded to f32 after each row and sums have the row's own order, so results do not depend on which rows were pending, certain or drafts. The oracle adds in f64; kernels differ in the last bits. NaN stays.";
const SLOT_INDICES: &str = "slots has the slot that a sequence reads and the one that it writes; slot_rows how many pending rows of the first are accepted and how many of its rows in the step are certain. A sequence's rows are adjacent and in order; those after the certain ones are drafts, at most `room`. The op applies accepted rows, then certain rows, stores the state in the written slot, computes the drafts without storing them and keeps their operands there as pending rows. Slot 0 is the empty state and is never written; no other sequence of the step uses a written slot. Anything else fails the step.";
const ARITHMETIC: &str =
    "Integers wrap; bool is one bit. f16 and bf16 are computed in f32 and rounded to nearest even. NaN stays.";
const EITHER_ZERO: &str = "NaN where a or b is NaN. Of +0 and -0, either may be the result.";

macro_rules! op_table {
    ($($variant:ident $mnemonic:literal $group:ident $summary:literal
        ($($operand:ident $oname:literal),*) -> ($($result:literal),*) $(updates $updates:literal)?
        [$($aname:literal $akind:expr, $adefault:expr);*] $infer:path, $cost:path, $notes:expr;)*) => {
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
            notes: $notes,
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
/// Positions of the two members of a rotated pair in a head: adjacent, or half a head apart.
const ROPE_PAIRS: AttrKind = AttrKind::Word(&["adjacent", "halves"]);
const ROPE_SCALING: AttrKind = AttrKind::Word(&["none", "linear", "yarn"]);

op_table! {
    Fill "fill" Source "A tensor of one number." () -> ("out") ["shape" SHAPE, D::Required; "value" EXTENDED, D::Required; "dtype" DTYPE, D::Required] infer::fill, cost::moved,
        notes("`dtype` is any plain type.", "out has `shape`.", "A float type takes the number nearest to `value`; an integer type takes only values that it holds exactly. inf and -inf are for float types; NaN cannot be written.", "");
    Iota "iota" Source "0, 1, 2, ... along the last dimension." () -> ("out") ["shape" SHAPE, D::Required; "dtype" DTYPE, D::Required] infer::iota, cost::moved,
        notes("`dtype` is any plain type.", "out has `shape`; without dimensions it is 0.", "Numbers that the type cannot hold: integers and bool saturate, floats take the nearest (f32 counts exactly to 2^24).", "");

    Embed "embed" Lookup "Rows of a table picked by id, decoded to f32." (req "table", req "ids") -> ("out") [] infer::embed, cost::picked,
        notes("table: any float type; ids: u32 or i32; out: f32.", "table is [entries, columns]; out has ids' shape with columns appended.", "Decoded to f32; NaN stays.", "ids are 0 to entries - 1; any other fails the step.");
    Gather "gather" Lookup "Slices of the first dimension picked by index." (req "x", req "index") -> ("out") [] infer::gather, cost::picked,
        notes("x: any type; index: u32 or i32; out: x's type.", "x has rank 1 or more (2 of a block type), index rank 1; out is x with as many slices as there are indices.", "Copies bits.", "Indices are 0 to x's first dimension - 1; any other fails the step.");
    Scatter "scatter" Lookup "A copy of x whose slices at the indices are replaced; the last write wins." (req "x", req "index", req "updates") -> ("out") [] infer::scatter, cost::moved,
        notes("x and updates: any type, the same; index: u32 or i32; out: x's type.", "x has rank 1 or more (2 of a block type), index rank 1; updates is a slice for each index; out has x's shape.", "Copies bits.", "Indices are 0 to x's first dimension - 1; any other fails the step. Where one repeats, the last slice stays.");

    Matmul "matmul" Linear "x times the transpose of w (rows of w are outputs); with `experts`, row i uses the matrix that `experts` names for it." (req "x", req "w", opt "experts") -> ("out") [] infer::matmul, cost::matmul,
        notes("x: f32; w: any float type; experts: u32; out: f32.", "x is [..., k]; where k is 0, out is 0; w is [outputs, k], with experts [matrices, outputs, k]; experts has x's shape without k; out is [..., outputs].", "The oracle adds in f64 and rounds once; kernels add in f32 in other orders, and some round x first, for instance to 8-bit blocks, so their results are near it, not equal. A NaN in a row of x makes its row of out NaN.", "experts are 0 to matrices - 1; any other fails the step.");

    Add "add" Elementwise "a + b, broadcasting." (req "a", req "b") -> ("out") [] infer::binary, cost::per_element,
        notes(SAME_PLAIN, BROADCAST, ARITHMETIC, "");
    Sub "sub" Elementwise "a - b, broadcasting." (req "a", req "b") -> ("out") [] infer::binary, cost::per_element,
        notes(SAME_PLAIN, BROADCAST, ARITHMETIC, "");
    Mul "mul" Elementwise "a * b, broadcasting." (req "a", req "b") -> ("out") [] infer::binary, cost::per_element,
        notes(SAME_PLAIN, BROADCAST, ARITHMETIC, "");
    Div "div" Elementwise "a / b, broadcasting." (req "a", req "b") -> ("out") [] infer::binary, cost::per_element,
        notes(SAME_PLAIN, BROADCAST, "Integers truncate, wrap, and give 0 where b is 0; floats then give an infinity or NaN. f16 and bf16 are computed in f32 and rounded to nearest even. NaN stays.", "");
    Min "min" Elementwise "The smaller, broadcasting; NaN if either is." (req "a", req "b") -> ("out") [] infer::binary, cost::per_element,
        notes(SAME_PLAIN, BROADCAST, EITHER_ZERO, "");
    Max "max" Elementwise "The larger, broadcasting; NaN if either is." (req "a", req "b") -> ("out") [] infer::binary, cost::per_element,
        notes(SAME_PLAIN, BROADCAST, EITHER_ZERO, "");
    Compare "compare" Elementwise "A comparison as bool, broadcasting." (req "a", req "b") -> ("out") ["kind" COMPARE, D::Required] infer::compare, cost::per_element,
        notes("a and b: any plain type, the same; out: bool.", BROADCAST, "`kind` eq, ne, lt, le, gt, ge is =, !=, <, <=, >, >=. With NaN, all are false except ne; +0 and -0 are equal.", "");
    Select "select" Elementwise "a where the condition holds, else b; broadcasting." (req "condition", req "a", req "b") -> ("out") [] infer::select, cost::per_element,
        notes("condition: bool; a, b and out: any plain type, the same.", "All three shapes broadcast as in numpy.", "Copies the number; a NaN that is not chosen has no effect.", "");

    Neg "neg" Elementwise "-x." (req "x") -> ("out") [] infer::unary, cost::per_element,
        notes(PLAIN_X, SAME_SHAPE, "Integers wrap: -1 of an unsigned type is its largest; bool stays as it is. NaN stays NaN.", "");
    Silu "silu" Elementwise "x * sigmoid(x)." (req "x") -> ("out") [] infer::unary_float, cost::per_element,
        notes(F32_X, SAME_SHAPE, "NaN stays. Kernels may differ in the last bits.", "");
    Gelu "gelu" Elementwise "The tanh form of the Gaussian error linear unit." (req "x") -> ("out") [] infer::unary_float, cost::per_element,
        notes(F32_X, SAME_SHAPE, "NaN stays. Kernels may differ in the last bits.", "");
    Relu "relu" Elementwise "max(x, 0); NaN stays." (req "x") -> ("out") [] infer::unary_float, cost::per_element,
        notes(F32_X, SAME_SHAPE, "NaN stays; the rest is exact.", "");
    Tanh "tanh" Elementwise "Hyperbolic tangent." (req "x") -> ("out") [] infer::unary_float, cost::per_element,
        notes(F32_X, SAME_SHAPE, "NaN stays. Infinities give 1 and -1. Kernels may differ in the last bits.", "");
    Sigmoid "sigmoid" Elementwise "1 / (1 + exp(-x))." (req "x") -> ("out") [] infer::unary_float, cost::per_element,
        notes(F32_X, SAME_SHAPE, "NaN stays. Infinities give 1 and 0. Kernels may differ in the last bits.", "");
    Exp "exp" Elementwise "e to the x." (req "x") -> ("out") [] infer::unary_float, cost::per_element,
        notes(F32_X, SAME_SHAPE, "NaN stays. Overflow gives infinity. Kernels may differ in the last bits.", "");
    Log "log" Elementwise "Natural logarithm." (req "x") -> ("out") [] infer::unary_float, cost::per_element,
        notes(F32_X, SAME_SHAPE, "NaN stays. 0 gives -inf, a negative number NaN. Kernels may differ in the last bits.", "");
    Sqrt "sqrt" Elementwise "Square root." (req "x") -> ("out") [] infer::unary_float, cost::per_element,
        notes(F32_X, SAME_SHAPE, "NaN stays. A negative number gives NaN. Kernels may differ in the last bits.", "");
    Rsqrt "rsqrt" Elementwise "1 / sqrt(x)." (req "x") -> ("out") [] infer::unary_float, cost::per_element,
        notes(F32_X, SAME_SHAPE, "NaN stays. 0 gives infinity, a negative number NaN. Kernels may differ in the last bits.", "");
    Sin "sin" Elementwise "Sine of radians." (req "x") -> ("out") [] infer::unary_float, cost::per_element,
        notes(F32_X, SAME_SHAPE, "NaN stays. Infinities give NaN. Kernels may differ in the last bits.", "");
    Cos "cos" Elementwise "Cosine of radians." (req "x") -> ("out") [] infer::unary_float, cost::per_element,
        notes(F32_X, SAME_SHAPE, "NaN stays. Infinities give NaN. Kernels may differ in the last bits.", "");

    RmsNorm "rms_norm" Norm "x / sqrt(mean(x^2) + eps) over the last dimension, times the weight." (req "x", opt "weight") -> ("out") ["eps" NUM, D::Required] infer::norm, cost::per_element,
        notes("x, weight and out: f32.", "x has rank 1 or more, the last dimension not 0; weight has its last dimension; out has x's shape.", "The oracle computes in f64; kernels differ in the last bits. A NaN makes its row NaN; an infinity becomes NaN and the rest of its row 0.", "");
    LayerNorm "layer_norm" Norm "(x - mean) / sqrt(variance + eps) over the last dimension, times the weight, plus the bias." (req "x", opt "weight", opt "bias") -> ("out") ["eps" NUM, D::Required] infer::norm, cost::per_element,
        notes("x, weight, bias and out: f32.", "x has rank 1 or more, the last dimension not 0; weight and bias have its last dimension; out has x's shape.", "The variance divides by the count. The oracle computes in f64; kernels differ in the last bits. A NaN or infinity makes its row NaN.", "");
    Softmax "softmax" Norm "exp(x) / sum(exp(x)) over the last dimension." (req "x") -> ("out") [] infer::softmax, cost::per_element,
        notes(F32_X, "out has x's shape. The last dimension is not 0.", "The row's largest element is subtracted first, so finite rows do not overflow. NaN, inf, or a row of -inf alone makes the row NaN; else -inf gives 0.", "");

    Rope "rope" Position "Rotates pairs of the first `dims` elements of each head by position * base^(-2i/dims)." (req "x", req "positions", opt "freq_factors") -> ("out")
        ["pairs" ROPE_PAIRS, D::Required; "dims" INT, D::Required; "base" NUM, D::F32(10000.0); "scaling" ROPE_SCALING, D::Word("none"); "factor" NUM, D::F32(1.0); "original_context" INT, D::Int(0); "attn_factor" NUM, D::F32(1.0); "beta_fast" NUM, D::F32(32.0); "beta_slow" NUM, D::F32(1.0)]
        infer::rope, cost::per_element,
        notes("x: f32; positions: u32; freq_factors: f32; out: f32.", "x is [rows, heads, head size], positions [rows], freq_factors [dims / 2]; `dims` is even, 2 to head size, and elements from `dims` on are copied; out has x's shape. Pair i is elements 2i and 2i + 1 (`adjacent`) or i and i + dims / 2 (`halves`).", "`scaling` linear divides positions by `factor`; yarn is that of the YaRN paper (arXiv 2309.00071) with `factor`, `original_context`, `beta_fast` and `beta_slow`, and its magnitude times `attn_factor`. Angles are f32 numbers; kernels differ in the last bits. freq_factors divide the frequencies. NaN stays in its pair. A position may be any u32.", "");

    PageWrite "page_write" Cache "Stores a row's key and value at its position of its sequence's pages." (req "kv", req "k", req "v", req "table", req "row_seq", req "positions") -> ("kv") updates 0 [] infer_state::page_write, cost::page_write,
        notes("kv: f16; k and v: f32; table, row_seq and positions: u32; out: f16.", "kv is [pages, 2, kv heads, page size, head size], the 2 being keys, values, the page size a power of two up to 4096, heads and head size not 0; k and v are [rows, kv heads, head size]; table is [seqs, stride], row_seq and positions [rows]. Position p of sequence s lies in page table[s, p / page size] at p % page size.", "Rounded to f16, to nearest even; from 65520 on to infinity. NaN stays. Where several rows write one place, the last one stays.", "row_seq is below seqs, p / page size below the table's width, the page below kv's pages; any other fails the step.");
    Attend "attend" Cache "Causal attention of each row over its sequence's pages, positions 0 to its own." (req "q", req "kv", req "table", req "row_seq", req "positions", opt "sinks") -> ("out")
        ["scale" NUM, D::Required; "window" INT, D::Int(0); "soft_cap" NUM, D::F32(0.0)] infer_state::attend, cost::attend,
        notes("q: f32; kv: f16; table, row_seq and positions: u32; sinks: f32; out: f32.", "q is [rows, heads, head size], heads a multiple of kv heads, none of the sizes 0; kv is as for page_write; table is [seqs, stride], row_seq and positions [rows], sinks [heads]; out has q's shape. Position p of sequence s lies in page table[s, p / page size] at p % page size. Head h reads kv head h / (heads / kv heads).", "Scores are `scale` times the products, then `soft_cap` * tanh(score / `soft_cap`) if that is not 0. A row reads the last `window` positions up to its own, all if 0. A sink is one more score, without a value. The oracle computes in f64; kernels add in f32 in other orders. A NaN in what a head reads makes its result NaN.", "row_seq is below seqs, p / page size below the table's width, pages read below kv's; any other fails the step.");
    Commit "commit" Cache "Committed lengths plus the accepted counts." (req "lens", req "accepted") -> ("lens") updates 0 [] infer_state::commit, cost::moved,
        notes("lens, accepted and out: u32.", "All are [seqs].", "Wraps at 2^32.", "");

    Conv "conv" Slots "Causal depthwise convolution over the rows of each sequence; a slot keeps the raw inputs that later rows need." (req "state", req "x", req "weight", req "slots", req "slot_rows", req "row_seq", opt "bias") -> ("state", "out") updates 0 [] infer_state::conv, cost::conv,
        notes("slots, slot_rows and row_seq: u32; all else: f32.", "state is [slots, taps - 1 + room, channels], x and out [rows, channels], weight [channels, taps], bias [channels]; slots and slot_rows are [seqs, 2], row_seq [rows]. weight[c, taps - 1] multiplies the row itself, weight[c, 0] the oldest. A slot holds inputs, oldest first: the taps - 1 before the next row, then the pending rows, so the tail after n accepted rows begins at n.", SLOT_NUMBERS, SLOT_INDICES);
    DeltaRule "delta_rule" Slots "Gated delta rule, head by head: S = gate * S; S = S + beta * k (v - S^T k)^T; out = S^T q." (req "state", req "q", req "k", req "v", req "gate", req "beta", req "slots", req "slot_rows", req "row_seq") -> ("state", "out") updates 0 [] infer_state::delta_rule, cost::delta_rule,
        notes("slots, slot_rows and row_seq: u32; all else: f32.", "q and k are [rows, key heads, key size], v and out [rows, heads, value size], gate and beta [rows, heads]; heads is a multiple of key heads, and head h reads key head h / (heads / key heads). state is [slots, heads, key size * value size + room * (key size + value size + 2)]: the matrix S [key size, value size], then for each pending row its k, v, gate and beta. slots and slot_rows are [seqs, 2], row_seq [rows].", SLOT_NUMBERS, SLOT_INDICES);

    Slice "slice" Layout "Elements start to start + len of a dimension." (req "x") -> ("out") ["axis" INT, D::Required; "start" INT, D::Required; "len" INT, D::Required] infer::slice, cost::picked,
        notes(PLAIN_X, "`axis` is below x's rank and of known size; out is x with `len` there.", "Copies bits.", "`start` and `len` are 0 or more, start + len at most the dimension's size.");
    Concat "concat" Layout "a, then b, along a dimension." (req "a", req "b") -> ("out") ["axis" INT, D::Required] infer::concat, cost::moved,
        notes(SAME_PLAIN, "a and b agree except in `axis`, whose size is known in both; out has the sum there.", "Copies bits.", "");
    Reshape "reshape" Layout "The same elements under another shape." (req "x") -> ("out") ["shape" SHAPE, D::Required] infer::reshape, cost::free,
        notes(PLAIN_X, "`shape` has as many elements as x for every value of its symbols.", "Copies bits.", "");
    Transpose "transpose" Layout "Dimensions in another order: result dimension i is the operand's dimension that `perm` lists at i." (req "x") -> ("out") ["perm" INTS, D::Required] infer::transpose, cost::moved,
        notes(PLAIN_X, "`perm` lists each dimension of x once.", "Copies bits.", "");
    Broadcast "broadcast" Layout "Repeats dimensions of 1 up to the shape." (req "x") -> ("out") ["shape" SHAPE, D::Required] infer::broadcast, cost::moved,
        notes(PLAIN_X, "x's dimensions, aligned at the last, are those of `shape` or 1.", "Copies bits.", "");

    Cast "cast" Convert "The nearest value of another plain type; floats to integers truncate and saturate." (req "x") -> ("out") ["to" DTYPE, D::Required] infer::cast, cost::moved,
        notes(PLAIN_X, SAME_SHAPE, "Floats round to nearest even and overflow to infinity. To an integer type: the fraction is dropped, what is too large or small becomes the nearest limit, NaN becomes 0. To bool: 0 is false, all else true, NaN too.", "");
    Quantize "quantize" Convert "Blocks of a quantised type." (req "x") -> ("out") ["to" DTYPE, D::Required] infer::quantize, cost::moved,
        notes("x: f32; `to` is a block type with an encoder: q4_0, q4_1 or q8_0.", "The last dimension is known and whole blocks; out has x's shape.", "Each block has its own scale (and minimum), in f16. Finite numbers are expected.", "");
    Dequantize "dequantize" Convert "f32 from any float type." (req "x") -> ("out") [] infer::dequantize, cost::moved,
        notes("x: any float type; out: f32.", SAME_SHAPE, "Decoded to f32; NaN stays.", "");

    Reduce "reduce" Reduce "Folds a dimension to 1; NaN if an element is." (req "x") -> ("out") ["kind" REDUCE, D::Required; "axis" INT, D::Required] infer::reduce, cost::per_element,
        notes(F32_X, "`axis` is below x's rank; out has 1 there.", "`kind` is the fold. NaN where an element is NaN. The oracle adds in f64; kernels may differ in the last bits. The sum of no elements is 0; max, min and mean along an axis without elements are refused, since they have no value (numpy: an error, NaN for the mean).", "");
    Cumsum "cumsum" Reduce "Running sum along the last dimension." (req "x") -> ("out") [] infer::unary, cost::per_element,
        notes(PLAIN_X, SAME_SHAPE, "Added from left to right; integers wrap, bool is one bit. f16 and bf16 add in f32 and round each result. After a NaN all are NaN.", "");

    Argmax "argmax" Choose "Index of the largest element of the last dimension; the lowest on ties; 4294967295 (no token) where an element is NaN or positive infinity, unlike numpy." (req "x") -> ("index") [] infer::argmax, cost::per_element,
        notes("x: f32; index: u32.", "x has rank 1 or more; index has its shape without the last dimension.", "Zeros of both signs are equal. A row of -inf gives 0. A last dimension of 0 is refused.", "");
    TopK "top_k" Choose "The k largest of the last dimension, largest first, lowest index first on ties; NaN is larger than any number." (req "x") -> ("values", "indices") ["k" INT, D::Required] infer::top_k, cost::per_element,
        notes("x and values: f32; indices: u32.", "`k` is 1 to x's last dimension, which is known and not 0; both results have `k` there.", "NaN ranks before inf; zeros of both signs are equal. Values are copied.", "");
    Sample "sample" Choose "A token per row: bias, penalties, top-k, top-p, min-p, temperature, then arg-max under counter-based Gumbel noise; 4294967295 (no token) where a logit is NaN or positive infinity." (req "logits", req "params", req "noise", req "recent", opt "bias") -> ("token") [] infer::sample, cost::per_element,
        notes("logits, params and bias: f32; noise: u32; recent: i32; token: u32.", "logits and bias are [rows, vocabulary], the vocabulary not 0; token is [rows]. params is [rows, 7]: temperature, top-k, top-p, min-p, repetition, presence and frequency penalty; 0, 0, 1, 0, 1, 0, 0 is the arg-max. noise is [rows, 4]: seed low, seed high, choice, position. recent is [rows, recent].", "The same token to the bit on each device: crates/ir/src/sampling.rs is the definition. Ties go to the lowest id. -inf bars a token; where all are barred the token is 0.", "recent has token ids; others (-1 by convention) are padding.");
    Verify "verify" Choose "Accepted drafts per sequence and the next token, from each row's own sample; a row without a token agrees with no draft." (req "sampled", req "drafts", req "spans") -> ("accepted", "next") [] infer::verify, cost::moved,
        notes("All are u32.", "sampled and drafts are [rows]; spans is [seqs, 2]: a sequence's first row and how many drafts follow it; accepted and next are [seqs]. Row i samples what row i + 1 drafted; the first draft that differs ends the sequence's count, and next is the sample of the last row that agreed.", "Exact. 4294967295 (no token) agrees with nothing.", "Rows of a span are below rows; any other that is reached fails the step.");
}

impl Op {
    /// The op's declaration.
    pub fn spec(self) -> &'static OpSpec {
        &SPECS[self as usize]
    }

    /// The index of an operand. Meant for constants, where a name that the op lacks is a compile error.
    ///
    /// # Panics
    /// If the op has no such operand.
    pub const fn place(self, operand: &str) -> usize {
        let operands = SPECS[self as usize].operands;
        let mut place = 0;
        while place < operands.len() {
            if same(operands[place].name, operand) {
                return place;
            }
            place += 1;
        }
        panic!("the op has no operand of this name")
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
    /// The index of an attribute in a node's list.
    pub fn attr_index(&self, name: &str) -> Option<usize> {
        self.attrs.iter().position(|a| a.name == name)
    }

    /// The defaults of all attributes; `None` for a required one.
    pub fn default_attrs(&self) -> impl Iterator<Item = Option<Attr>> + '_ {
        self.attrs.iter().map(|a| a.default.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Shape, TensorType};
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

    /// Operands and attributes that index into another tensor.
    const PLACES: [&str; 7] = ["ids", "index", "experts", "row_seq", "recent", "spans", "start"];

    #[test]
    fn every_op_has_complete_entries_in_the_reference() {
        for spec in Op::ALL.iter().map(|op| op.spec()) {
            let n = spec.notes;
            for text in [spec.summary, n.types, n.shapes, n.numbers] {
                assert!(text.ends_with('.') && text.len() > 2, "{}: {text:?}", spec.mnemonic);
            }
            let names = spec.operands.iter().map(|o| o.name).chain(spec.attrs.iter().map(|a| a.name));
            assert_eq!(n.indices.ends_with('.'), names.clone().any(|n| PLACES.contains(&n)), "{}", spec.mnemonic);
            let all = [spec.summary, n.types, n.shapes, n.numbers, n.indices].join(" ");
            let told = |name: &str| all.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
            for name in names {
                assert!(told(name) || told("All"), "{}: {name}", spec.mnemonic);
            }
        }
    }

    /// An attribute value that fits an operand of 2 x 256 elements.
    fn fitting(op: Op, a: &AttrSpec) -> Attr {
        match a.kind {
            AttrKind::Int => Attr::Int(1),
            AttrKind::F32 | AttrKind::Extended => Attr::F32(1.0),
            AttrKind::Word(words) => Attr::Word(words[0]),
            AttrKind::Shape => Attr::Shape(Shape::consts(&[2, 256])),
            AttrKind::Ints => Attr::Ints(vec![1, 0]),
            AttrKind::DType => Attr::DType(if op == Op::Quantize { DType::Q8_0 } else { DType::F32 }),
        }
    }

    #[test]
    fn the_reference_admits_the_types_that_the_shape_rules_admit() {
        let mut seen = 0;
        for &op in Op::ALL {
            let spec = op.spec();
            let needed: Vec<_> = spec.operands.iter().filter(|o| !o.optional).map(|o| o.name).collect();
            if ![&["x"][..], &["a", "b"]].contains(&&needed[..]) {
                continue;
            }
            seen += 1;
            let attrs: Vec<Attr> = spec.attrs.iter().map(|a| fitting(op, a)).collect();
            for &dtype in DType::ALL {
                let ty = TensorType::new(dtype, Shape::consts(&[2, 256]));
                let inputs = vec![Some(&ty); needed.len()];
                let told = match spec.notes.types {
                    text if text.contains("any plain type") => !dtype.is_quantized(),
                    text if text.contains("x: any float type") => dtype.is_float(),
                    text => dtype == DType::F32 && text.contains("f32"),
                };
                let rule = (spec.infer)(&infer::Args { op, inputs: &inputs, attrs: &attrs });
                assert_eq!(rule.is_ok(), told, "{} of {dtype}: {rule:?}", spec.mnemonic);
            }
        }
        assert!(seen > 30, "{seen}");
    }
}
