//! The versions of the attention calls, each with the argument list of its C function.

use super::params::{Params, absent};
use super::plan::plan;
use crate::nn::arg::{Ints, MaybeInts, MaybeTensor, Tensor, Tensors, Text};
use crate::task::Error;
use crate::tensor::exec::Plan;

fn list(values: Option<Ints>) -> Option<Vec<i64>> {
    values.map(|values| values.to_vec())
}

/// Refuses optional tensors that the simulated device has no kernel for: each parameter with its documented name.
macro_rules! refuse_given {
    ($($arg:ident $name:literal),* $(,)?) => {
        absent(&[$(($name, $arg.is_some())),*])?
    };
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
            refuse_given!(
                deq_scale1 "deqScale1", quant_scale1 "quantScale1", deq_scale2 "deqScale2", quant_scale2 "quantScale2",
                quant_offset2 "quantOffset2", antiquant_scale "antiquantScale", antiquant_offset "antiquantOffset",
                query_padding "queryPaddingSize", kv_padding "kvPaddingSize",
            );
            absent(&[$((stringify!($middle), $middle.is_some())),*])?;
            plan(&Params {
                pse, mask, lens_q: list(lens_q), lens_kv: list(lens_kv), block_table, heads, scale, pre, next, kv_heads,
                sparse, inner, block, lse_flag, lse, ..Params::new(query, keys, values, layout, out)
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
    let base = Params::new(query, keys, values, layout, out);
    plan(&Params { pse, mask, lens_kv: list(lens), heads, scale, kv_heads, ..base })
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
    refuse_given!(
        deq_scale1 "deqScale1",
        quant_scale1 "quantScale1",
        deq_scale2 "deqScale2",
        quant_scale2 "quantScale2",
        quant_offset2 "quantOffset2",
        antiquant_scale "antiquantScale",
        antiquant_offset "antiquantOffset",
        kv_padding "kvPaddingSize",
    );
    let base = Params::new(query, keys, values, layout, out);
    let lens_kv = list(lens);
    plan(&Params { pse, mask, lens_kv, block_table: table, heads, scale, kv_heads, inner, block, ..base })
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
    refuse_given!(
        deq_scale1 "deqScale1",
        quant_scale1 "quantScale1",
        deq_scale2 "deqScale2",
        quant_scale2 "quantScale2",
        quant_offset2 "quantOffset2",
    );
    let (lens_q, lens_kv) = (list(lens_q), list(lens_kv));
    let base = Params::new(query, vec![key], vec![value], layout, out);
    plan(&Params { pse, mask, lens_q, lens_kv, heads, scale, pre, next, kv_heads, sparse, inner, ..base })
}
