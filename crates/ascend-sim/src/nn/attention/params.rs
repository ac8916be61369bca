//! Parameters of fused attention, common to all versions of the call.

use crate::nn::arg::{MaybeTensor, Tensor, Tensors};
use crate::task::Error;
use crate::tensor::refuse::no_kernel;

/// One attention call.
pub struct Params {
    /// Queries.
    pub query: Tensor,
    /// Keys: one tensor with a batch dimension, one a sequence, or the page pool.
    pub keys: Tensors,
    /// Values, as the keys.
    pub values: Tensors,
    /// Added to the scaled scores.
    pub pse: MaybeTensor,
    /// 1 where a score is masked.
    pub mask: MaybeTensor,
    /// Lengths of the queries; running totals in TND.
    pub lens_q: Option<Vec<i64>>,
    /// Lengths of keys and values.
    pub lens_kv: Option<Vec<i64>>,
    /// Pages of each sequence.
    pub block_table: MaybeTensor,
    /// Query heads.
    pub heads: i64,
    /// Factor of the scores.
    pub scale: f64,
    /// Positions visible before the diagonal.
    pub pre: i64,
    /// Positions visible after the diagonal.
    pub next: i64,
    /// `inputLayout`.
    pub layout: String,
    /// Heads of keys and values; 0 means as many as query heads.
    pub kv_heads: i64,
    /// `sparseMode`.
    pub sparse: i64,
    /// `innerPrecise`.
    pub inner: i64,
    /// Positions in a page.
    pub block: i64,
    /// Whether log-sum-exp is wanted.
    pub lse_flag: bool,
    /// Result.
    pub out: Tensor,
    /// Log-sum-exp of each row.
    pub lse: MaybeTensor,
}

impl Params {
    /// A call with its tensors alone: no masks, lengths or pages, every position visible. Each version of the call sets
    /// what it has beside these.
    pub fn new(query: Tensor, keys: Tensors, values: Tensors, layout: String, out: Tensor) -> Self {
        Self {
            query,
            keys,
            values,
            pse: None,
            mask: None,
            lens_q: None,
            lens_kv: None,
            block_table: None,
            heads: 0,
            scale: 1.0,
            pre: i64::MAX,
            next: i64::MAX,
            layout,
            kv_heads: 0,
            sparse: 0,
            inner: 0,
            block: 0,
            lse_flag: false,
            out,
            lse: None,
        }
    }
}

/// Refuses parameters for which the simulated device has no kernel.
pub fn absent(extras: &[(&str, bool)]) -> Result<(), Error> {
    match extras.iter().find(|extra| extra.1) {
        Some((name, _)) => {
            Err(no_kernel(format!("fused attention with {name} is not implemented by the simulated device")))
        }
        None => Ok(()),
    }
}
