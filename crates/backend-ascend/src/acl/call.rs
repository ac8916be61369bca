//! The operators that lowering uses, as plain data, and their first phases.

use super::api::{Api, Ptr};
use super::objects::{Objects, Prepared};
use crate::error::AscendError;
use crate::view::View;
use std::ffi::CString;
use std::ptr::null_mut;

/// `cubeMathType` 0: operands keep their type.
const KEEP_DTYPE: i8 = 0;
/// Positions on either side that attention visits without a mask.
const ALL: i64 = i32::MAX as i64;
/// `layout` 4 of rotations: rows, heads, elements.
const TND: i64 = 4;

/// An operator of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Abs,
    Cos,
    Exp,
    Gelu,
    Log,
    Neg,
    Relu,
    Sigmoid,
    Silu,
    Sin,
    Sqrt,
    Tanh,
}

/// An operator of two operands that broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
}

/// Pairs of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotary {
    Halves,
    Adjacent,
}

/// Fused attention over pages. Queries are `[sequences, heads, rows, size]` or, packed, `[rows, heads, size]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attention {
    /// Group of sequences that it is for.
    pub group: usize,
    pub query: View,
    /// `[pages, heads, positions, size]`.
    pub keys: View,
    pub values: View,
    /// `[sequences, 1, rows, positions]`, true where a position is hidden.
    pub mask: Option<View>,
    /// `[sequences, pages]`.
    pub table: View,
    pub out: View,
    pub layout: &'static str,
    pub heads: i64,
    pub kv_heads: i64,
    pub scale: f32,
    /// Running totals of rows; empty without packing.
    pub rows: Vec<i64>,
    /// Positions of each sequence, or of all.
    pub positions: Vec<i64>,
    /// `sparseMode`: 0 for a mask of all positions, 3 for the triangle.
    pub sparse: i64,
    /// Positions in a page.
    pub page: i64,
}

/// An operator and its operands.
#[allow(clippy::large_enum_variant, reason = "a captured shape has some hundred calls, and boxes would be noise")]
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Unary(Unary, View, View),
    Binary(Binary, View, View, View),
    /// `x += y`.
    AddInto(View, View),
    /// Elements in order, converted and broadcast.
    Copy {
        from: View,
        to: View,
    },
    Cast {
        from: View,
        to: View,
    },
    Fill {
        to: View,
        value: f32,
    },
    /// 0, 1, 2, ...
    Count {
        to: View,
    },
    /// `[m, k]` by `[k, n]`.
    Product {
        x: View,
        w: View,
        out: View,
    },
    /// Stacks of products.
    Products {
        x: View,
        w: View,
        out: View,
    },
    /// The same with a quantised weight and a scale for each group of its rows.
    GroupProduct {
        x: View,
        w: View,
        scale: View,
        group: i32,
        out: View,
    },
    RmsNorm {
        x: View,
        weight: View,
        eps: f32,
        out: View,
        factors: View,
    },
    /// `sum = a + b; out = norm(sum)`.
    AddRmsNorm {
        a: View,
        b: View,
        weight: View,
        eps: f32,
        out: View,
        factors: View,
        sum: View,
    },
    LayerNorm {
        x: View,
        weight: Option<View>,
        bias: Option<View>,
        eps: f32,
        out: View,
    },
    Softmax(View, View),
    /// `silu(first half) * second half` of the last dimension.
    SwiGlu(View, View),
    /// In place.
    Rotate {
        q: View,
        k: View,
        cos: View,
        sin: View,
        pairs: Rotary,
    },
    /// Rows of the first dimension by index.
    Gather {
        x: View,
        index: View,
        out: View,
    },
    /// Rows of the first dimension to an index, in place.
    Scatter {
        to: View,
        index: View,
        from: View,
    },
    Attention(Box<Attention>),
    /// Largest of the last dimension, and its index.
    Largest {
        x: View,
        value: View,
        index: View,
    },
    /// `x > bound`.
    Above {
        x: View,
        bound: f32,
        out: View,
    },
    Sum {
        x: View,
        axis: i64,
        out: View,
    },
    Mean {
        x: View,
        axis: i64,
        out: View,
    },
    RunningSum(View, View),
    Concat {
        parts: Vec<View>,
        axis: i64,
        out: View,
    },
    /// A dense matrix to the cube's own layout, in place.
    Tile(View),
}

/// Results of a first phase.
struct First {
    workspace: u64,
    executor: Ptr,
}

/// An argument of a first phase: `t` a tensor, `m` one that may be absent, `l` a list of tensors, `s` a scalar, `i`
/// integers, `v` a plain value.
macro_rules! argument {
    ($o:ident t $view:expr) => {
        $o.tensor($view)?
    };
    ($o:ident m $view:expr) => {
        $o.optional($view.as_ref())?
    };
    ($o:ident l $views:expr) => {
        $o.list($views)?
    };
    ($o:ident s $value:expr) => {
        $o.scalar($value)?
    };
    ($o:ident i $values:expr) => {
        $o.ints($values)?
    };
    ($o:ident v $value:expr) => {
        $value
    };
}

/// Runs a first phase with these arguments.
macro_rules! first {
    ($o:ident, $first:ident, $second:ident; $($kind:ident $arg:expr),* $(,)?) => {{
        let mut first = First { workspace: 0, executor: null_mut() };
        let api: &Api = $o.runtime().api();
        // SAFETY: all handles are live objects of this call, texts end in a zero, and both results are live. The arguments
        // are made inside the block, but by safe methods of `Objects`: nothing in them needs it.
        let code = unsafe {
            (api.$first)($(argument!($o $kind $arg),)* &mut first.workspace, &mut first.executor)
        };
        $o.runtime().check(stringify!($first), code)?;
        Ok(Prepared::new($o, (stringify!($second), api.$second), (first.executor, first.workspace)))
    }};
}

impl Call {
    /// A tensor as large as what it writes, from which to tell whether there is work.
    pub(crate) fn written(&self) -> &View {
        match self {
            Call::Unary(_, _, out) | Call::Binary(_, _, _, out) | Call::Softmax(_, out) | Call::SwiGlu(_, out) => out,
            Call::AddInto(to, _) | Call::Tile(to) | Call::RunningSum(_, to) => to,
            Call::Copy { to, .. } | Call::Cast { to, .. } | Call::Fill { to, .. } | Call::Count { to } => to,
            Call::Scatter { from, .. } => from,
            Call::Rotate { q, .. } => q,
            Call::Attention(a) => &a.out,
            Call::Largest { index, .. } => index,
            Call::Product { out, .. }
            | Call::Products { out, .. }
            | Call::GroupProduct { out, .. }
            | Call::RmsNorm { out, .. }
            | Call::AddRmsNorm { out, .. }
            | Call::LayerNorm { out, .. }
            | Call::Gather { out, .. }
            | Call::Above { out, .. }
            | Call::Sum { out, .. }
            | Call::Mean { out, .. }
            | Call::Concat { out, .. } => out,
        }
    }

    /// The first phase: checks, shapes, tiling.
    pub(super) fn prepare<'r>(&self, mut o: Objects<'r>) -> Result<Prepared<'r>, AscendError> {
        let none: Ptr = null_mut();
        match self {
            Call::Unary(op, x, out) => unary(*op, x, out, o),
            Call::Binary(op, a, b, out) => binary(*op, [a, b, out], o),
            Call::Attention(attention) => attention.prepare(o),
            Call::AddInto(to, from) => {
                first!(o, aclnnInplaceAddGetWorkspaceSize, aclnnInplaceAdd; t to, t from, s 1.0)
            }
            Call::Copy { from, to } => first!(o, aclnnInplaceCopyGetWorkspaceSize, aclnnInplaceCopy; t to, t from),
            Call::Cast { from, to } => {
                first!(o, aclnnCastGetWorkspaceSize, aclnnCast; t from, v to.elem.code(), t to)
            }
            Call::Fill { to, value } => {
                first!(o, aclnnInplaceFillScalarGetWorkspaceSize, aclnnInplaceFillScalar; t to, s *value)
            }
            Call::Count { to } => {
                let end = to.elements() as f32;
                first!(o, aclnnArangeGetWorkspaceSize, aclnnArange; s 0.0, s end, s 1.0, t to)
            }
            Call::Product { x, w, out } => {
                first!(o, aclnnMmGetWorkspaceSize, aclnnMm; t x, t w, t out, v KEEP_DTYPE)
            }
            Call::Products { x, w, out } => {
                first!(o, aclnnMatmulGetWorkspaceSize, aclnnMatmul; t x, t w, t out, v KEEP_DTYPE)
            }
            Call::GroupProduct { x, w, scale, group, out } => first!(
                o, aclnnWeightQuantBatchMatmulV2GetWorkspaceSize, aclnnWeightQuantBatchMatmulV2;
                t x, t w, t scale, v none, v none, v none, v none, v *group, t out
            ),
            Call::RmsNorm { x, weight, eps, out, factors } => first!(
                o, aclnnRmsNormGetWorkspaceSize, aclnnRmsNorm;
                t x, t weight, v f64::from(*eps), t out, t factors
            ),
            Call::AddRmsNorm { a, b, weight, eps, out, factors, sum } => first!(
                o, aclnnAddRmsNormGetWorkspaceSize, aclnnAddRmsNorm;
                t a, t b, t weight, v f64::from(*eps), t out, t factors, t sum
            ),
            Call::LayerNorm { x, weight, bias, eps, out } => first!(
                o, aclnnLayerNormGetWorkspaceSize, aclnnLayerNorm;
                t x, i &[x.last()], m weight, m bias, v f64::from(*eps), t out, v none, v none
            ),
            Call::Softmax(x, out) => first!(o, aclnnSoftmaxGetWorkspaceSize, aclnnSoftmax; t x, v -1, t out),
            Call::SwiGlu(x, out) => first!(o, aclnnSwiGluGetWorkspaceSize, aclnnSwiGlu; t x, v -1, t out),
            Call::Rotate { q, k, cos, sin, pairs } => rotate([q, k, cos, sin], *pairs, o),
            Call::Gather { x, index, out } => {
                first!(o, aclnnGatherV2GetWorkspaceSize, aclnnGatherV2; t x, v 0, t index, t out)
            }
            Call::Scatter { to, index, from } => {
                first!(o, aclnnInplaceIndexCopyGetWorkspaceSize, aclnnInplaceIndexCopy; t to, v 0, t index, t from)
            }
            Call::Largest { x, value, index } => {
                first!(o, aclnnMaxDimGetWorkspaceSize, aclnnMaxDim; t x, v -1, v false, t value, t index)
            }
            Call::Above { x, bound, out } => {
                first!(o, aclnnGtScalarGetWorkspaceSize, aclnnGtScalar; t x, s *bound, t out)
            }
            Call::Sum { x, axis, out } => first!(
                o, aclnnReduceSumGetWorkspaceSize, aclnnReduceSum; t x, i &[*axis], v true, v out.elem.code(), t out
            ),
            Call::Mean { x, axis, out } => {
                first!(o, aclnnMeanGetWorkspaceSize, aclnnMean; t x, i &[*axis], v true, v out.elem.code(), t out)
            }
            Call::RunningSum(x, out) => {
                first!(o, aclnnCumsumGetWorkspaceSize, aclnnCumsum; t x, v -1, v out.elem.code(), t out)
            }
            Call::Concat { parts, axis, out } => {
                let parts: Vec<_> = parts.iter().collect();
                first!(o, aclnnCatGetWorkspaceSize, aclnnCat; l &parts, v *axis, t out)
            }
            Call::Tile(weight) => {
                first!(o, aclnnTransMatmulWeightGetWorkspaceSize, aclnnTransMatmulWeight; t weight)
            }
        }
    }
}

fn unary<'r>(op: Unary, x: &View, out: &View, mut o: Objects<'r>) -> Result<Prepared<'r>, AscendError> {
    /// `approximate` 1: by tanh.
    const BY_TANH: i64 = 1;
    match op {
        Unary::Abs => first!(o, aclnnAbsGetWorkspaceSize, aclnnAbs; t x, t out),
        Unary::Cos => first!(o, aclnnCosGetWorkspaceSize, aclnnCos; t x, t out),
        Unary::Exp => first!(o, aclnnExpGetWorkspaceSize, aclnnExp; t x, t out),
        Unary::Gelu => first!(o, aclnnGeluV2GetWorkspaceSize, aclnnGeluV2; t x, v BY_TANH, t out),
        Unary::Log => first!(o, aclnnLogGetWorkspaceSize, aclnnLog; t x, t out),
        Unary::Neg => first!(o, aclnnNegGetWorkspaceSize, aclnnNeg; t x, t out),
        Unary::Relu => first!(o, aclnnReluGetWorkspaceSize, aclnnRelu; t x, t out),
        Unary::Sigmoid => first!(o, aclnnSigmoidGetWorkspaceSize, aclnnSigmoid; t x, t out),
        Unary::Silu => first!(o, aclnnSiluGetWorkspaceSize, aclnnSilu; t x, t out),
        Unary::Sin => first!(o, aclnnSinGetWorkspaceSize, aclnnSin; t x, t out),
        Unary::Sqrt => first!(o, aclnnSqrtGetWorkspaceSize, aclnnSqrt; t x, t out),
        Unary::Tanh => first!(o, aclnnTanhGetWorkspaceSize, aclnnTanh; t x, t out),
    }
}

fn binary<'r>(op: Binary, [a, b, out]: [&View; 3], mut o: Objects<'r>) -> Result<Prepared<'r>, AscendError> {
    match op {
        Binary::Add => first!(o, aclnnAddGetWorkspaceSize, aclnnAdd; t a, t b, s 1.0, t out),
        Binary::Sub => first!(o, aclnnSubGetWorkspaceSize, aclnnSub; t a, t b, s 1.0, t out),
        Binary::Mul => first!(o, aclnnMulGetWorkspaceSize, aclnnMul; t a, t b, t out),
        Binary::Div => first!(o, aclnnDivGetWorkspaceSize, aclnnDiv; t a, t b, t out),
    }
}

/// CANN 8.1 lacks the operator; lowering then has others ([`Runtime::rotates`]).
fn rotate<'r>([q, k, cos, sin]: [&View; 4], pairs: Rotary, mut o: Objects<'r>) -> Result<Prepared<'r>, AscendError> {
    const FIRST: &str = "aclnnApplyRotaryPosEmbV2GetWorkspaceSize";
    const SECOND: &str = "aclnnApplyRotaryPosEmbV2";
    let api = o.runtime().api();
    let phase = api.aclnnApplyRotaryPosEmbV2GetWorkspaceSize.ok_or(AscendError::Symbol { name: FIRST })?;
    let second = api.aclnnApplyRotaryPosEmbV2.ok_or(AscendError::Symbol { name: SECOND })?;
    let mode = if pairs == Rotary::Halves { c"half" } else { c"interleave" };
    let [q, k, cos, sin] = [o.tensor(q)?, o.tensor(k)?, o.tensor(cos)?, o.tensor(sin)?];
    let mut first = First { workspace: 0, executor: null_mut() };
    // SAFETY: live tensors of this call, a text that ends in a zero, live results.
    let code = unsafe { phase(q, k, cos, sin, TND, mode.as_ptr(), &mut first.workspace, &mut first.executor) };
    o.runtime().check(FIRST, code)?;
    Ok(Prepared::new(o, (SECOND, second), (first.executor, first.workspace)))
}

impl Attention {
    fn prepare<'r>(&self, mut o: Objects<'r>) -> Result<Prepared<'r>, AscendError> {
        let none: Ptr = null_mut();
        let layout = CString::new(self.layout).unwrap_or_default();
        let rows = if self.rows.is_empty() { none } else { o.ints(&self.rows)? };
        let (scale, text) = (f64::from(self.scale), layout.as_ptr());
        first!(
            o, aclnnFusedInferAttentionScoreV2GetWorkspaceSize, aclnnFusedInferAttentionScoreV2;
            t &self.query, l &[&self.keys], l &[&self.values], v none, m self.mask, v rows, i &self.positions,
            v none, v none, v none, v none, v none, v none, v none, t &self.table, v none, v none, v none, v none,
            v none, v none, v none, v none, v none, v self.heads, v scale, v ALL, v ALL, v text, v self.kv_heads,
            v self.sparse, v 0, v self.page, v 0, v false, v 0, v 0, t &self.out, v none,
        )
    }

    /// With other lengths: running totals of rows if it is packed, positions of each sequence.
    pub(crate) fn of_lengths(&self, rows: Vec<i64>, positions: Vec<i64>) -> Attention {
        Attention { rows: if self.rows.is_empty() { Vec::new() } else { rows }, positions, ..self.clone() }
    }
}
