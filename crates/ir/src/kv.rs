//! The shape of a layer's keys and values: the one place that knows which states are KV pages.
//!
//! Used by the shape rules, the plan and the back ends.

use crate::DType;
use crate::shape::{Dim, Sym, TensorType};

/// Largest number of positions in a page.
pub const MAX_PAGE_POSITIONS: u64 = 4096;

/// What [`KvShape::of`] accepts, in messages.
pub(crate) const EXPECTED: &str =
    "f16[pages, 2, kv heads, page size, head size], the page size a power of two up to 4096, none of them 0";

/// Shape of one layer's KV state: `[pages, 2, heads, positions, head_dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KvShape {
    /// Element type; f16 at present.
    pub dtype: DType,
    /// Key and value heads.
    pub heads: u32,
    /// Positions in a page, a power of two up to [`MAX_PAGE_POSITIONS`].
    pub positions: u32,
    /// Elements of a head.
    pub head_dim: u32,
}

impl KvShape {
    /// The shape of keys and values of this type; `None` if it is another tensor.
    pub fn of(ty: &TensorType) -> Option<KvShape> {
        let [
            Dim::Sym(Sym::Pages),
            Dim::Const(2),
            Dim::Const(heads @ 1..),
            Dim::Const(positions @ 1..=MAX_PAGE_POSITIONS),
            Dim::Const(size @ 1..),
        ] = *ty.shape.dims()
        else {
            return None;
        };
        let known = ty.dtype == DType::F16 && positions.is_power_of_two();
        let (heads, head_dim) = (u32::try_from(heads).ok()?, u32::try_from(size).ok()?);
        known.then_some(KvShape { dtype: ty.dtype, heads, positions: positions as u32, head_dim })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    fn shape(dtype: DType, positions: u64) -> Option<KvShape> {
        let dims = [Sym::Pages.into(), 2.into(), 3.into(), positions.into(), Dim::Const(8)];
        KvShape::of(&TensorType::new(dtype, Shape::new(dims)))
    }

    #[test]
    fn the_page_size_is_a_power_of_two() {
        for positions in [1, 16, 64, 128, 4096] {
            let kv = KvShape { dtype: DType::F16, heads: 3, positions: positions as u32, head_dim: 8 };
            assert_eq!(shape(DType::F16, positions), Some(kv));
        }
        for positions in [0, 3, 96, 8192] {
            assert_eq!(shape(DType::F16, positions), None, "{positions}");
        }
        assert_eq!(shape(DType::F32, 64), None);
    }
}
