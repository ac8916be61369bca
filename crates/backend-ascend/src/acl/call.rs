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

/// Runs a first phase: `$op` names both functions.
macro_rules! first {
    ($objects:expr, $first:ident, $second:ident, $($arg:expr),*) => {{
        let mut first = First { workspace: 0, executor: null_mut() };
        let api: &Api = $objects.runtime().api();
        // SAFETY: all handles are live objects of this call, texts end in a zero, and both results are live.
        let code = unsafe { (api.$first)($($arg,)* &mut first.workspace, &mut first.executor) };
        $objects.runtime().check(stringify!($first), code)?;
        Ok(Prepared::new($objects, (stringify!($second), api.$second), (first.executor, first.workspace)))
    }};
}

impl Call {
    /// What it writes.
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
        match self {
            Call::Unary(op, x, out) => unary(*op, x, out, o),
            Call::Binary(op, a, b, out) => binary(*op, [a, b, out], o),
            Call::AddInto(to, from) => {
                let (to, from, one) = (o.tensor(to)?, o.tensor(from)?, o.scalar(1.0)?);
                first!(o, aclnnInplaceAddGetWorkspaceSize, aclnnInplaceAdd, to, from, one)
            }
            Call::Copy { from, to } => {
                let (to, from) = (o.tensor(to)?, o.tensor(from)?);
                first!(o, aclnnInplaceCopyGetWorkspaceSize, aclnnInplaceCopy, to, from)
            }
            Call::Cast { from, to } => {
                let code = to.elem.code();
                let (from, to) = (o.tensor(from)?, o.tensor(to)?);
                first!(o, aclnnCastGetWorkspaceSize, aclnnCast, from, code, to)
            }
            Call::Fill { to, value } => {
                let (to, value) = (o.tensor(to)?, o.scalar(*value)?);
                first!(o, aclnnInplaceFillScalarGetWorkspaceSize, aclnnInplaceFillScalar, to, value)
            }
            Call::Count { to } => {
                let (start, end, step) = (o.scalar(0.0)?, o.scalar(to.elements() as f32)?, o.scalar(1.0)?);
                let to = o.tensor(to)?;
                first!(o, aclnnArangeGetWorkspaceSize, aclnnArange, start, end, step, to)
            }
            Call::Product { x, w, out } => {
                let (x, w, out) = (o.tensor(x)?, o.tensor(w)?, o.tensor(out)?);
                first!(o, aclnnMmGetWorkspaceSize, aclnnMm, x, w, out, KEEP_DTYPE)
            }
            Call::Products { x, w, out } => {
                let (x, w, out) = (o.tensor(x)?, o.tensor(w)?, o.tensor(out)?);
                first!(o, aclnnMatmulGetWorkspaceSize, aclnnMatmul, x, w, out, KEEP_DTYPE)
            }
            Call::GroupProduct { x, w, scale, group, out } => {
                let (none, group) = (null_mut(), *group);
                let (x, w, scale, out) = (o.tensor(x)?, o.tensor(w)?, o.tensor(scale)?, o.tensor(out)?);
                first!(
                    o,
                    aclnnWeightQuantBatchMatmulV2GetWorkspaceSize,
                    aclnnWeightQuantBatchMatmulV2,
                    x,
                    w,
                    scale,
                    none,
                    none,
                    none,
                    none,
                    group,
                    out
                )
            }
            Call::RmsNorm { x, weight, eps, out, factors } => {
                let eps = f64::from(*eps);
                let (x, weight, out, factors) = (o.tensor(x)?, o.tensor(weight)?, o.tensor(out)?, o.tensor(factors)?);
                first!(o, aclnnRmsNormGetWorkspaceSize, aclnnRmsNorm, x, weight, eps, out, factors)
            }
            Call::AddRmsNorm { a, b, weight, eps, out, factors, sum } => {
                let eps = f64::from(*eps);
                let (a, b, weight) = (o.tensor(a)?, o.tensor(b)?, o.tensor(weight)?);
                let (out, factors, sum) = (o.tensor(out)?, o.tensor(factors)?, o.tensor(sum)?);
                first!(o, aclnnAddRmsNormGetWorkspaceSize, aclnnAddRmsNorm, a, b, weight, eps, out, factors, sum)
            }
            Call::LayerNorm { x, weight, bias, eps, out } => {
                let (shape, eps) = (o.ints(&[x.last()])?, f64::from(*eps));
                let (weight, bias) = (o.optional(weight.as_ref())?, o.optional(bias.as_ref())?);
                let (x, out, none) = (o.tensor(x)?, o.tensor(out)?, null_mut());
                first!(o, aclnnLayerNormGetWorkspaceSize, aclnnLayerNorm, x, shape, weight, bias, eps, out, none, none)
            }
            Call::Softmax(x, out) => {
                let (x, out) = (o.tensor(x)?, o.tensor(out)?);
                first!(o, aclnnSoftmaxGetWorkspaceSize, aclnnSoftmax, x, -1, out)
            }
            Call::SwiGlu(x, out) => {
                let (x, out) = (o.tensor(x)?, o.tensor(out)?);
                first!(o, aclnnSwiGluGetWorkspaceSize, aclnnSwiGlu, x, -1, out)
            }
            Call::Rotate { q, k, cos, sin, pairs } => {
                let mode = if *pairs == Rotary::Halves { c"half" } else { c"interleave" };
                let (q, k, cos, sin) = (o.tensor(q)?, o.tensor(k)?, o.tensor(cos)?, o.tensor(sin)?);
                first!(
                    o,
                    aclnnApplyRotaryPosEmbV2GetWorkspaceSize,
                    aclnnApplyRotaryPosEmbV2,
                    q,
                    k,
                    cos,
                    sin,
                    TND,
                    mode.as_ptr()
                )
            }
            Call::Gather { x, index, out } => {
                let (x, index, out) = (o.tensor(x)?, o.tensor(index)?, o.tensor(out)?);
                first!(o, aclnnGatherV2GetWorkspaceSize, aclnnGatherV2, x, 0, index, out)
            }
            Call::Scatter { to, index, from } => {
                let (to, index, from) = (o.tensor(to)?, o.tensor(index)?, o.tensor(from)?);
                first!(o, aclnnInplaceIndexCopyGetWorkspaceSize, aclnnInplaceIndexCopy, to, 0, index, from)
            }
            Call::Attention(attention) => attention.prepare(o),
            Call::Largest { x, value, index } => {
                let (x, value, index) = (o.tensor(x)?, o.tensor(value)?, o.tensor(index)?);
                first!(o, aclnnMaxDimGetWorkspaceSize, aclnnMaxDim, x, -1, false, value, index)
            }
            Call::Above { x, bound, out } => {
                let (x, bound, out) = (o.tensor(x)?, o.scalar(*bound)?, o.tensor(out)?);
                first!(o, aclnnGtScalarGetWorkspaceSize, aclnnGtScalar, x, bound, out)
            }
            Call::Sum { x, axis, out } => {
                let code = out.elem.code();
                let (x, axis, out) = (o.tensor(x)?, o.ints(&[*axis])?, o.tensor(out)?);
                first!(o, aclnnReduceSumGetWorkspaceSize, aclnnReduceSum, x, axis, true, code, out)
            }
            Call::Mean { x, axis, out } => {
                let code = out.elem.code();
                let (x, axis, out) = (o.tensor(x)?, o.ints(&[*axis])?, o.tensor(out)?);
                first!(o, aclnnMeanGetWorkspaceSize, aclnnMean, x, axis, true, code, out)
            }
            Call::RunningSum(x, out) => {
                let code = out.elem.code();
                let (x, out) = (o.tensor(x)?, o.tensor(out)?);
                first!(o, aclnnCumsumGetWorkspaceSize, aclnnCumsum, x, -1, code, out)
            }
            Call::Concat { parts, axis, out } => {
                let (parts, axis, out) = (o.list(&parts.iter().collect::<Vec<_>>())?, *axis, o.tensor(out)?);
                first!(o, aclnnCatGetWorkspaceSize, aclnnCat, parts, axis, out)
            }
            Call::Tile(weight) => {
                let weight = o.tensor(weight)?;
                first!(o, aclnnTransMatmulWeightGetWorkspaceSize, aclnnTransMatmulWeight, weight)
            }
        }
    }
}

fn unary<'r>(op: Unary, x: &View, out: &View, mut o: Objects<'r>) -> Result<Prepared<'r>, AscendError> {
    /// `approximate` 1: by tanh.
    const BY_TANH: i64 = 1;
    let (x, out) = (o.tensor(x)?, o.tensor(out)?);
    match op {
        Unary::Abs => first!(o, aclnnAbsGetWorkspaceSize, aclnnAbs, x, out),
        Unary::Cos => first!(o, aclnnCosGetWorkspaceSize, aclnnCos, x, out),
        Unary::Exp => first!(o, aclnnExpGetWorkspaceSize, aclnnExp, x, out),
        Unary::Gelu => first!(o, aclnnGeluV2GetWorkspaceSize, aclnnGeluV2, x, BY_TANH, out),
        Unary::Log => first!(o, aclnnLogGetWorkspaceSize, aclnnLog, x, out),
        Unary::Neg => first!(o, aclnnNegGetWorkspaceSize, aclnnNeg, x, out),
        Unary::Relu => first!(o, aclnnReluGetWorkspaceSize, aclnnRelu, x, out),
        Unary::Sigmoid => first!(o, aclnnSigmoidGetWorkspaceSize, aclnnSigmoid, x, out),
        Unary::Silu => first!(o, aclnnSiluGetWorkspaceSize, aclnnSilu, x, out),
        Unary::Sin => first!(o, aclnnSinGetWorkspaceSize, aclnnSin, x, out),
        Unary::Sqrt => first!(o, aclnnSqrtGetWorkspaceSize, aclnnSqrt, x, out),
        Unary::Tanh => first!(o, aclnnTanhGetWorkspaceSize, aclnnTanh, x, out),
    }
}

fn binary<'r>(op: Binary, views: [&View; 3], mut o: Objects<'r>) -> Result<Prepared<'r>, AscendError> {
    let [a, b, out] = [o.tensor(views[0])?, o.tensor(views[1])?, o.tensor(views[2])?];
    match op {
        Binary::Add => {
            let one = o.scalar(1.0)?;
            first!(o, aclnnAddGetWorkspaceSize, aclnnAdd, a, b, one, out)
        }
        Binary::Sub => {
            let one = o.scalar(1.0)?;
            first!(o, aclnnSubGetWorkspaceSize, aclnnSub, a, b, one, out)
        }
        Binary::Mul => first!(o, aclnnMulGetWorkspaceSize, aclnnMul, a, b, out),
        Binary::Div => first!(o, aclnnDivGetWorkspaceSize, aclnnDiv, a, b, out),
    }
}

impl Attention {
    fn prepare<'r>(&self, mut o: Objects<'r>) -> Result<Prepared<'r>, AscendError> {
        let none = null_mut();
        let layout = CString::new(self.layout).unwrap_or_default();
        let (query, keys, values) = (o.tensor(&self.query)?, o.list(&[&self.keys])?, o.list(&[&self.values])?);
        let mask = o.optional(self.mask.as_ref())?;
        let rows = if self.rows.is_empty() { none } else { o.ints(&self.rows)? };
        let (positions, table, out) = (o.ints(&self.positions)?, o.tensor(&self.table)?, o.tensor(&self.out)?);
        let (scale, text) = (f64::from(self.scale), layout.as_ptr());
        let (heads, kv_heads, sparse, page) = (self.heads, self.kv_heads, self.sparse, self.page);
        first!(
            o,
            aclnnFusedInferAttentionScoreV2GetWorkspaceSize,
            aclnnFusedInferAttentionScoreV2,
            query,
            keys,
            values,
            none,
            mask,
            rows,
            positions,
            none,
            none,
            none,
            none,
            none,
            none,
            none,
            table,
            none,
            none,
            none,
            none,
            none,
            none,
            none,
            none,
            none,
            heads,
            scale,
            ALL,
            ALL,
            text,
            kv_heads,
            sparse,
            0,
            page,
            0,
            false,
            0,
            0,
            out,
            none
        )
    }

    /// With other lengths: running totals of rows if it is packed, positions of each sequence.
    pub(crate) fn of_lengths(&self, rows: Vec<i64>, positions: Vec<i64>) -> Attention {
        Attention { rows: if self.rows.is_empty() { Vec::new() } else { rows }, positions, ..self.clone() }
    }
}
