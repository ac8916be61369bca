//! The documented rules of fused attention, checked in the first phase. A broken rule of lengths or shapes is a tiling
//! error (561002), as on the hardware.

use super::layout::{Heads, Order};
use super::params::Params;
use crate::nn::shape::{want_dims, want_type};
use crate::task::Error;
use crate::tensor::dtype::DType;
use crate::tensor::refuse::{invalid, tiling};
use crate::tensor::view::View;

/// Sizes of a call that passed the rules.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Order of the query's dimensions.
    pub order: Order,
    /// Query vectors.
    pub query: Heads,
    /// Result vectors.
    pub out: Heads,
    /// Sequences.
    pub batch: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// First query row of each sequence (packed) and number of rows.
    pub rows: Vec<(usize, usize)>,
    /// KV length of each sequence.
    pub lens_kv: Vec<usize>,
    /// Positions in a page; 0 without pages.
    pub block: usize,
}

fn lengths(values: &[i64], name: &str) -> Result<Vec<usize>, Error> {
    let size = |&v: &i64| usize::try_from(v).ok();
    values
        .iter()
        .map(size)
        .collect::<Option<_>>()
        .ok_or_else(|| tiling(format!("{name} {values:?} has a negative length")))
}

fn heads_of(p: &Params) -> Result<(usize, usize), Error> {
    let kv = if p.kv_heads == 0 { p.heads } else { p.kv_heads };
    if p.heads <= 0 || kv < 0 || p.heads % kv != 0 || p.heads / kv > 64 {
        return Err(tiling(format!(
            "numHeads ({}) must be a positive multiple of numKeyValueHeads ({kv}), at most 64 times as many",
            p.heads
        )));
    }
    Ok((p.heads as usize, kv as usize))
}

/// Running totals as differences.
fn differences(totals: &[usize], name: &str) -> Result<Vec<usize>, Error> {
    let mut last = 0;
    let step = |&total: &usize| {
        let n = total.checked_sub(last)?;
        last = total;
        Some(n)
    };
    totals
        .iter()
        .map(step)
        .collect::<Option<_>>()
        .ok_or_else(|| tiling(format!("{name} {totals:?} must not decrease in TND")))
}

/// Row ranges in a packed layout: the list of running totals must end at T.
fn packed_rows(p: &Params, tokens: usize) -> Result<Vec<(usize, usize)>, Error> {
    let totals = p.lens_q.as_ref().filter(|l| !l.is_empty());
    let totals = totals.ok_or_else(|| tiling(format!("layout {} needs actualSeqLengths", p.layout)))?;
    let totals = lengths(totals, "actualSeqLengths")?;
    let last = totals[totals.len() - 1];
    if last != tokens {
        return Err(tiling(format!(
            "When layout is TND, queryT({tokens}) must be equal to the last element of actualSequenceLengthQ({last})"
        )));
    }
    let counts = differences(&totals, "actualSeqLengths")?;
    Ok(totals.iter().zip(counts).map(|(&end, n)| (end - n, n)).collect())
}

/// Row ranges with a batch dimension.
fn batched_rows(p: &Params, query: &Heads) -> Result<Vec<(usize, usize)>, Error> {
    let uneven = |lens: &Vec<i64>| lens.iter().any(|&n| n != query.len as i64);
    if query.len > 1 && p.lens_q.as_ref().is_some_and(uneven) {
        return Err(tiling(format!("actualSeqLengths with Q_S > 1 ({}) needs the TND layout", query.len)));
    }
    Ok(vec![(0, query.len); query.batch])
}

/// KV lengths of each sequence; `have` is what each can hold.
fn kv_lengths(p: &Params, order: Order, batch: usize, have: &[usize]) -> Result<Vec<usize>, Error> {
    let Some(lens) = &p.lens_kv else {
        if p.block_table.is_some() || order.packed() {
            return Err(tiling("actualSeqLengthsKv must be given with a block table or in TND"));
        }
        return Ok(have.to_vec());
    };
    let mut lens = lengths(lens, "actualSeqLengthsKv")?;
    if order.packed() && p.block_table.is_none() {
        if lens.len() != batch {
            return Err(tiling(format!("actualSeqLengthsKv has {} elements for {batch} sequences", lens.len())));
        }
        lens = differences(&lens, "actualSeqLengthsKv")?;
        let total: usize = lens.iter().sum();
        return if total == have[0] {
            Ok(lens)
        } else {
            Err(tiling(format!(
                "When layout is TND, keyT({}) must be equal to the last element of actualSequenceLengthKV({total})",
                have[0]
            )))
        };
    }
    if lens.len() == 1 {
        lens = vec![lens[0]; batch];
    }
    if lens.len() < batch {
        return Err(tiling(format!(
            "actualSeqLengthsKv has {} elements, fewer than the batch size {batch}",
            lens.len()
        )));
    }
    lens.truncate(batch);
    match lens.iter().zip(have).position(|(n, have)| n > have) {
        Some(b) => {
            Err(tiling(format!("actualSeqLengthsKv[{b}] is {}, more than the {} positions of key", lens[b], have[b])))
        }
        None => Ok(lens),
    }
}

/// Rules of pages; returns the page size.
fn page_rules(p: &Params, table: &View, batch: usize, longest: usize) -> Result<usize, Error> {
    want_type("blockTable", table, &[DType::I32])?;
    if table.rank() != 2 || table.dims[0] != batch {
        return Err(tiling(format!("blockTable has shape {:?}, expected ({batch}, pages)", table.dims)));
    }
    let good = if longest > 1 {
        p.block % 128 == 0 && (128..=512).contains(&p.block)
    } else {
        p.block % 16 == 0 && p.block > 0
    };
    if !good {
        let rule =
            if longest > 1 { "a multiple of 128 from 128 to 512 when Q_S > 1" } else { "a positive multiple of 16" };
        return Err(tiling(format!("blockSize is {}, must be {rule}", p.block)));
    }
    Ok(p.block as usize)
}

/// Positions that each sequence can hold.
fn capacity(p: &Params, order: Order, batch: usize, kv_heads: usize, block: usize) -> Result<Vec<usize>, Error> {
    if let Some(table) = &p.block_table {
        return Ok(vec![table.dims[1].saturating_mul(block); batch]);
    }
    let lens = p
        .keys
        .iter()
        .map(|view| Heads::of("key", view, order, kv_heads).map(|h| h.len))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(match lens[..] {
        [one] => vec![one; batch],
        _ if lens.len() == batch => lens,
        _ => return Err(tiling(format!("{} key tensors do not serve {batch} sequences", lens.len()))),
    })
}

fn type_rules(p: &Params) -> Result<(), Error> {
    want_type("query", &p.query, &[DType::F16, DType::Bf16])?;
    want_type("attentionOut", &p.out, &[p.query.dtype])?;
    for view in p.keys.iter().chain(&p.values) {
        want_type("key/value", view, &[p.query.dtype])?;
    }
    if p.keys.is_empty() || p.keys.len() != p.values.len() {
        return Err(invalid(format!("key has {} tensors, value {}", p.keys.len(), p.values.len())));
    }
    for (key, value) in p.keys.iter().zip(&p.values) {
        want_dims("value", value, &key.dims)?;
    }
    if !(0..=4).contains(&p.sparse) || !(0..=3).contains(&p.inner) {
        return Err(invalid(format!("sparseMode is {} (0 to 4), innerPrecise {} (0 to 3)", p.sparse, p.inner)));
    }
    Ok(())
}

/// Checks every rule except those of masks.
pub fn check(p: &Params) -> Result<Sizes, Error> {
    type_rules(p)?;
    let (heads, kv_heads) = heads_of(p)?;
    let (order, out_order) = Order::pair(&p.layout)?;
    let query = Heads::of("query", &p.query, order, heads)?;
    let out = Heads::of("attentionOut", &p.out, out_order, heads)?;
    if (out.batch, out.len, out.d) != (query.batch, query.len, query.d) {
        return Err(tiling(format!("attentionOut {:?} does not fit query {:?}", p.out.dims, p.query.dims)));
    }
    if query.d == 0 || query.d > 512 || !query.d.is_multiple_of(16) {
        return Err(tiling(format!("the head size is {}, must be a multiple of 16 up to 512", query.d)));
    }
    let rows = if order.packed() { packed_rows(p, query.len)? } else { batched_rows(p, &query)? };
    let batch = rows.len();
    let longest = rows.iter().map(|r| r.1).max().unwrap_or(0);
    let block = p.block_table.as_ref().map_or(Ok(0), |table| page_rules(p, table, batch, longest))?;
    let have = capacity(p, order, batch, kv_heads, block)?;
    let lens_kv = kv_lengths(p, order, batch, &have)?;
    Ok(Sizes { order, query, out, batch, kv_heads, rows, lens_kv, block })
}
