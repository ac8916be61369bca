//! Keys and values as attention reads them: contiguous, one tensor a sequence, or pages named by a table.

use super::layout::{Heads, Order};
use super::params::Params;
use super::rules::Sizes;
use crate::task::{Error, Fault};
use crate::tensor::memory::Slot;
use crate::tensor::refuse::{fault, invalid, tiling};
use crate::tensor::view::View;

/// How positions map to storage.
#[derive(Clone, Debug)]
pub enum Source {
    /// One tensor for all sequences; in packed layouts the start of each sequence.
    Whole(Heads, Vec<usize>),
    /// One tensor for each sequence.
    Each(Vec<Heads>),
    /// Pages of `size` positions; the table has `width` pages a sequence.
    Pages {
        /// Blocks as batch entries.
        heads: Heads,
        /// Positions in a page.
        size: usize,
        /// Pages in a row of the table.
        width: usize,
    },
}

fn starts(lens: &[usize]) -> Vec<usize> {
    lens.iter()
        .scan(0, |at, &n| {
            let start = *at;
            *at += n;
            Some(start)
        })
        .collect()
}

fn paged(p: &Params, table: &View, view: &View, sizes: &Sizes) -> Result<Source, Error> {
    let size = sizes.block;
    let order = if view.rank() == 4 { Order::Bnsd } else { Order::Bsh };
    if order == Order::Bnsd && matches!(sizes.order, Order::Bsh | Order::Bsnd) {
        return Err(tiling(format!(
            "inputLayout {} reads pages as (blocks, block size, H) only, got {:?}",
            p.layout, view.dims
        )));
    }
    let heads = Heads::of("key/value", view, order, sizes.kv_heads)?;
    if heads.len != size {
        return Err(tiling(format!("blockSize is {size}, the pages {:?} hold {} positions", view.dims, heads.len)));
    }
    if !view.is_dense() {
        return Err(tiling("key and value pages must be contiguous"));
    }
    Ok(Source::Pages { heads, size, width: table.dims[1] })
}

impl Source {
    /// The keys' or values' source.
    pub fn of(p: &Params, list: &[std::sync::Arc<View>], sizes: &Sizes) -> Result<Self, Error> {
        let Some(first) = list.first() else { return Err(invalid("key and value lists must not be empty")) };
        if let Some(table) = &p.block_table {
            return paged(p, table, first, sizes);
        }
        let heads = list.iter().map(|view| Heads::of("key/value", view, sizes.order, sizes.kv_heads));
        let heads = heads.collect::<Result<Vec<_>, _>>()?;
        match heads[..] {
            [one] if sizes.order.packed() => Ok(Self::Whole(one, starts(&sizes.lens_kv))),
            [one] if one.batch == sizes.batch => Ok(Self::Whole(one, vec![0; sizes.batch])),
            _ if heads.len() == sizes.batch && heads.iter().all(|h| h.batch == 1) => Ok(Self::Each(heads)),
            _ => Err(tiling(format!("{} key tensors do not serve {} sequences", heads.len(), sizes.batch))),
        }
    }

    /// Size of a head.
    pub fn d(&self) -> usize {
        match self {
            Self::Whole(heads, _) | Self::Pages { heads, .. } => heads.d,
            Self::Each(heads) => heads[0].d,
        }
    }

    /// Reads the vectors of positions `0..len` of one head of a sequence, as f32.
    pub fn read(
        &self,
        data: &[&[u16]],
        table: &[i64],
        b: usize,
        n: usize,
        len: usize,
        convert: fn(u16) -> f32,
    ) -> Result<Vec<f32>, Fault> {
        let mut out = Vec::with_capacity(len * self.d());
        let mut take = |from: &[u16], heads: &Heads, at: usize| {
            let (d, step) = (heads.d, heads.step());
            if step == 1 {
                out.extend(from[at..at + d].iter().map(|&x| convert(x)));
            } else {
                out.extend((0..d).map(|i| convert(from[at + i * step])));
            }
        };
        for s in 0..len {
            match self {
                Self::Whole(heads, starts) if starts.get(b).is_some_and(|&at| at > 0) => {
                    take(data[0], heads, heads.at(0, starts[b] + s, n))
                }
                Self::Whole(heads, _) => take(data[0], heads, heads.at(if heads.batch == 1 { 0 } else { b }, s, n)),
                Self::Each(heads) => take(data[b], &heads[b], heads[b].at(0, s, n)),
                Self::Pages { heads, size, width } => {
                    let id = table[b * width + s / size];
                    let page = usize::try_from(id).ok().filter(|&page| page < heads.batch);
                    let page = page.ok_or_else(|| {
                        fault(format!("blockTable[{b}][{}] is {id}, the pool has {} pages", s / size, heads.batch))
                    })?;
                    take(data[0], heads, heads.at(page, s % size, n));
                }
            }
        }
        Ok(out)
    }
}

/// The operands of a source.
pub struct Bound {
    /// Where vectors lie.
    pub source: Source,
    /// The tensors.
    pub slots: Vec<Slot>,
}
