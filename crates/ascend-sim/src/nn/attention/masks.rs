//! Which scores count: the mask tensor, the sparse modes, and the additive shift.

use super::params::Params;
use super::rules::Sizes;
use crate::nn::shape::want_type;
use crate::task::Error;
use crate::tensor::dtype::DType;
use crate::tensor::refuse::tiling;
use crate::tensor::view::View;

/// Side of the triangle that the compressed modes take.
const TRIANGLE: usize = 2048;

/// The rule for positions that are not visited at all.
#[derive(Clone, Copy, Debug)]
pub struct Band {
    before: i64,
    after: i64,
    /// Whether the last row faces the last position (else the first row the first position).
    from_end: bool,
}

impl Band {
    /// Whether row `i` of `rows` visits position `p` of `kv`.
    #[inline]
    pub fn sees(&self, i: usize, rows: usize, p: usize, kv: usize) -> bool {
        let diagonal = i as i64 + if self.from_end { kv as i64 - rows as i64 } else { 0 };
        let distance = p as i64 - diagonal;
        distance <= self.after && -distance <= self.before
    }
}

/// How the scores of a call are masked.
#[derive(Clone, Debug)]
pub struct Masking {
    /// Positions not visited.
    pub band: Option<Band>,
    /// The mask, broadcast to (batch, rows, positions).
    pub mask: Option<View>,
    /// The shift, broadcast to (batch, heads, rows, positions).
    pub pse: Option<View>,
}

fn longest(sizes: &Sizes) -> (usize, usize) {
    let rows = sizes.rows.iter().map(|r| r.1).max().unwrap_or(0);
    (rows, sizes.lens_kv.iter().copied().max().unwrap_or(0))
}

/// A mask of the whole matrix as (batch, rows, positions).
fn whole(p: &Params, mask: &View, sizes: &Sizes) -> Result<View, Error> {
    let (rows, kv) = longest(sizes);
    let bad = || {
        tiling(format!(
            "attenMask {:?} does not cover Q_S {rows} and KV_S {kv} of {} sequences",
            mask.dims, sizes.batch
        ))
    };
    let (mut dims, mut strides) = (mask.dims.clone(), mask.strides.clone());
    if rows == 1 && dims.len() == 2 {
        // (B, KV_S): one row for each sequence.
        dims.insert(1, 1);
        strides.insert(1, 0);
    }
    if dims.len() == 4 {
        if dims[1] != 1 {
            return Err(bad());
        }
        dims.remove(1);
        strides.remove(1);
    }
    if dims.len() == 2 {
        dims.insert(0, 1);
        strides.insert(0, 0);
    }
    if dims.len() != 3 || (dims[0] != 1 && dims[0] != sizes.batch) {
        return Err(bad());
    }
    let need = p.block_table.as_ref().map_or(kv, |table| table.dims[1] * sizes.block);
    if dims[1] < rows || dims[1] > rows.next_multiple_of(32) || dims[2] < need.max(kv) {
        return Err(bad());
    }
    if dims[0] == 1 {
        strides[0] = 0;
    }
    Ok(View { dims: vec![sizes.batch, rows, dims[2]], strides, ..mask.clone() })
}

fn shift(pse: &View, p: &Params, sizes: &Sizes) -> Result<View, Error> {
    let (rows, kv) = longest(sizes);
    want_type("pseShift", pse, &[p.query.dtype])?;
    let n = &pse.dims;
    let fits = pse.rank() == 4
        && (n[0] == 1 || n[0] == sizes.batch)
        && n[1] == sizes.query.heads
        && n[2] >= rows
        && n[3] >= kv;
    if !fits || sizes.order.packed() {
        return Err(tiling(format!(
            "pseShift {n:?} does not cover ({} or 1, {}, {rows}, {kv})",
            sizes.batch, sizes.query.heads
        )));
    }
    let mut wide = pse.clone();
    if n[0] == 1 {
        (wide.dims[0], wide.strides[0]) = (sizes.batch, 0);
    }
    Ok(wide)
}

/// Checks mask, sparse mode and shift.
pub fn check(p: &Params, sizes: &Sizes) -> Result<Masking, Error> {
    let pse = p.pse.as_ref().map(|pse| shift(pse, p, sizes)).transpose()?;
    if let Some(mask) = &p.mask {
        want_type("attenMask", mask, &[DType::Bool, DType::I8, DType::U8])?;
    }
    let single = !sizes.order.packed() && longest(sizes).0 == 1;
    if p.sparse <= 1 || single {
        if sizes.order.packed() && p.mask.is_some() {
            return Err(tiling(
                "TND takes no attenMask in sparseMode 0; use sparseMode 3 with the 2048 x 2048 triangle",
            ));
        }
        let mask = p.mask.as_ref().map(|mask| whole(p, mask, sizes)).transpose()?;
        let band = (mask.is_some() && !single && p.sparse == 0).then_some(Band {
            before: p.pre,
            after: p.next,
            from_end: false,
        });
        return Ok(Masking { band, mask, pse });
    }
    let side = p.mask.as_ref().map(|mask| {
        let n = mask.rank();
        (n >= 2).then(|| (mask.dims[n - 2], mask.dims[n - 1]))
    });
    if side != Some(Some((TRIANGLE, TRIANGLE))) {
        return Err(tiling(format!("sparseMode {} needs an attenMask of 2048 x 2048", p.sparse)));
    }
    if sizes.order.packed() && p.sparse != 3 {
        return Err(tiling(format!("TND takes sparseMode 0 or 3, got {}", p.sparse)));
    }
    let band = match p.sparse {
        2 => Band { before: i64::MAX, after: 0, from_end: false },
        3 => Band { before: i64::MAX, after: 0, from_end: true },
        _ => Band { before: p.pre, after: p.next, from_end: true },
    };
    Ok(Masking { band: Some(band), mask: None, pse })
}
