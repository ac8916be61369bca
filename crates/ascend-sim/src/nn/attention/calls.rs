//! The versions of the attention calls, each with the argument list of its C function.

use super::params::{Params, absent};
use super::plan::plan;
use crate::nn::arg::{Ints, MaybeInts, MaybeTensor, Tensor, Tensors, Text};
use crate::task::Error;
use crate::tensor::exec::Plan;

fn list(values: Option<Ints>) -> Option<Vec<i64>> {
    values.map(|values| values.to_vec())
}

macro_rules! fused {
    ($(#[$doc:meta])* $name:ident middle($($middle:ident: $m:ty),*) after($($after:ident),*)) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
        pub fn $name(
            query: Tensor, keys: Tensors, values: Tensors, pse: MaybeTensor, mask: MaybeTensor, lens_q: MaybeInts,
            lens_kv: MaybeInts, deq_scale1: MaybeTensor, quant_scale1: MaybeTensor, deq_scale2: MaybeTensor,
            quant_scale2: MaybeTensor, quant_offset2: MaybeTensor, antiquant_scale: MaybeTensor,
            antiquant_offset: MaybeTensor, block_table: MaybeTensor, query_padding: MaybeTensor,
            kv_padding: MaybeTensor, $($middle: $m,)* heads: i64, scale: f64, pre: i64, next: i64, layout: Text,
            kv_heads: i64, sparse: i64, inner: i64, block: i64, antiquant_mode: i64, lse_flag: bool,
            $($after: i64,)* out: Tensor, lse: MaybeTensor,
        ) -> Result<Plan, Error> {
            // Modes of quantisation matter only beside scales, which are refused.
            let _ = (antiquant_mode, $($after),*);
            absent(&[
                ("deqScale1", deq_scale1.is_some()), ("quantScale1", quant_scale1.is_some()),
                ("deqScale2", deq_scale2.is_some()), ("quantScale2", quant_scale2.is_some()),
                ("quantOffset2", quant_offset2.is_some()), ("antiquantScale", antiquant_scale.is_some()),
                ("antiquantOffset", antiquant_offset.is_some()), ("queryPaddingSize", query_padding.is_some()),
                ("kvPaddingSize", kv_padding.is_some()), $((stringify!($middle), $middle.is_some()),)*
            ])?;
            plan(&Params {
                query, keys, values, pse, mask, lens_q: list(lens_q), lens_kv: list(lens_kv), block_table, heads,
                scale, pre, next, layout, kv_heads, sparse, inner, block, lse_flag, out, lse,
            })
        }
    };
}

fused! {
    /// `aclnnFusedInferAttentionScore`.
    fused_v1 middle() after()
}

fused! {
    /// `aclnnFusedInferAttentionScoreV2`.
    fused_v2 middle(key_antiquant_scale: MaybeTensor, key_antiquant_offset: MaybeTensor, value_antiquant_scale: MaybeTensor,
        value_antiquant_offset: MaybeTensor, key_shared_prefix: MaybeTensor, value_shared_prefix: MaybeTensor,
        actual_shared_prefix_len: MaybeInts)
    after(key_antiquant_mode, value_antiquant_mode)
}

fused! {
    /// `aclnnFusedInferAttentionScoreV3`.
    fused_v3 middle(key_antiquant_scale: MaybeTensor, key_antiquant_offset: MaybeTensor, value_antiquant_scale: MaybeTensor,
        value_antiquant_offset: MaybeTensor, key_shared_prefix: MaybeTensor, value_shared_prefix: MaybeTensor,
        actual_shared_prefix_len: MaybeInts, query_rope: MaybeTensor, key_rope: MaybeTensor,
        key_rope_antiquant_scale: MaybeTensor)
    after(key_antiquant_mode, value_antiquant_mode)
}

fused! {
    /// `aclnnFusedInferAttentionScoreV4`.
    fused_v4 middle(key_antiquant_scale: MaybeTensor, key_antiquant_offset: MaybeTensor, value_antiquant_scale: MaybeTensor,
        value_antiquant_offset: MaybeTensor, key_shared_prefix: MaybeTensor, value_shared_prefix: MaybeTensor,
        actual_shared_prefix_len: MaybeInts, query_rope: MaybeTensor, key_rope: MaybeTensor,
        key_rope_antiquant_scale: MaybeTensor, dequant_scale_query: MaybeTensor)
    after(key_antiquant_mode, value_antiquant_mode, query_quant_mode)
}

/// Numbers of an incremental call: one query row a sequence.
struct Incremental {
    heads: i64,
    scale: f64,
    layout: Text,
    kv_heads: i64,
    block: i64,
    inner: i64,
}

fn incremental(
    tensors: (Tensor, Tensors, Tensors),
    pse: MaybeTensor,
    mask: MaybeTensor,
    lens: MaybeInts,
    table: MaybeTensor,
    n: Incremental,
    out: Tensor,
) -> Result<Plan, Error> {
    let (query, keys, values) = tensors;
    plan(&Params {
        query,
        keys,
        values,
        pse,
        mask,
        lens_q: None,
        lens_kv: list(lens),
        block_table: table,
        heads: n.heads,
        scale: n.scale,
        pre: i64::MAX,
        next: i64::MAX,
        layout: n.layout,
        kv_heads: n.kv_heads,
        sparse: 0,
        inner: n.inner,
        block: n.block,
        lse_flag: false,
        out,
        lse: None,
    })
}

/// `aclnnIncreFlashAttention`.
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn incre(
    query: Tensor,
    keys: Tensors,
    values: Tensors,
    pse: MaybeTensor,
    mask: MaybeTensor,
    lens: MaybeInts,
    heads: i64,
    scale: f64,
    layout: Text,
    kv_heads: i64,
    out: Tensor,
) -> Result<Plan, Error> {
    let n = Incremental { heads, scale, layout, kv_heads, block: 0, inner: 0 };
    incremental((query, keys, values), pse, mask, lens, None, n, out)
}

/// `aclnnIncreFlashAttentionV4`.
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn incre_v4(
    query: Tensor,
    keys: Tensors,
    values: Tensors,
    pse: MaybeTensor,
    mask: MaybeTensor,
    lens: MaybeInts,
    deq_scale1: MaybeTensor,
    quant_scale1: MaybeTensor,
    deq_scale2: MaybeTensor,
    quant_scale2: MaybeTensor,
    quant_offset2: MaybeTensor,
    antiquant_scale: MaybeTensor,
    antiquant_offset: MaybeTensor,
    table: MaybeTensor,
    kv_padding: MaybeTensor,
    heads: i64,
    scale: f64,
    layout: Text,
    kv_heads: i64,
    block: i64,
    inner: i64,
    out: Tensor,
) -> Result<Plan, Error> {
    absent(&[
        ("deqScale1", deq_scale1.is_some()),
        ("quantScale1", quant_scale1.is_some()),
        ("deqScale2", deq_scale2.is_some()),
        ("quantScale2", quant_scale2.is_some()),
        ("quantOffset2", quant_offset2.is_some()),
        ("antiquantScale", antiquant_scale.is_some()),
        ("antiquantOffset", antiquant_offset.is_some()),
        ("kvPaddingSize", kv_padding.is_some()),
    ])?;
    let n = Incremental { heads, scale, layout, kv_heads, block, inner };
    incremental((query, keys, values), pse, mask, lens, table, n, out)
}

/// `aclnnPromptFlashAttentionV3`.
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn prompt_v3(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pse: MaybeTensor,
    mask: MaybeTensor,
    lens_q: MaybeInts,
    lens_kv: MaybeInts,
    deq_scale1: MaybeTensor,
    quant_scale1: MaybeTensor,
    deq_scale2: MaybeTensor,
    quant_scale2: MaybeTensor,
    quant_offset2: MaybeTensor,
    heads: i64,
    scale: f64,
    pre: i64,
    next: i64,
    layout: Text,
    kv_heads: i64,
    sparse: i64,
    inner: i64,
    out: Tensor,
) -> Result<Plan, Error> {
    absent(&[
        ("deqScale1", deq_scale1.is_some()),
        ("quantScale1", quant_scale1.is_some()),
        ("deqScale2", deq_scale2.is_some()),
        ("quantScale2", quant_scale2.is_some()),
        ("quantOffset2", quant_offset2.is_some()),
    ])?;
    plan(&Params {
        query,
        keys: vec![key],
        values: vec![value],
        pse,
        mask,
        lens_q: list(lens_q),
        lens_kv: list(lens_kv),
        block_table: None,
        heads,
        scale,
        pre,
        next,
        layout,
        kv_heads,
        sparse,
        inner,
        block: 0,
        lse_flag: false,
        out,
        lse: None,
    })
}
