//! Where the head vectors of queries, keys, values and results lie.

use crate::task::Error;
use crate::tensor::refuse::{invalid, tiling};
use crate::tensor::view::View;

/// Order of dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Batch, position, heads and size in one.
    Bsh,
    /// Batch, position, head, size.
    Bsnd,
    /// Batch, head, position, size.
    Bnsd,
    /// Token of any sequence, head, size.
    Tnd,
    /// Head, token, size.
    Ntd,
}

impl Order {
    /// The orders of query and result that an `inputLayout` names.
    pub fn pair(layout: &str) -> Result<(Self, Self), Error> {
        Ok(match layout {
            "BSH" => (Self::Bsh, Self::Bsh),
            "BSND" => (Self::Bsnd, Self::Bsnd),
            "BNSD" => (Self::Bnsd, Self::Bnsd),
            "BNSD_BSND" => (Self::Bnsd, Self::Bsnd),
            "TND" => (Self::Tnd, Self::Tnd),
            "TND_NTD" => (Self::Tnd, Self::Ntd),
            "NTD_TND" => (Self::Ntd, Self::Tnd),
            other => {
                let known = "BSH, BSND, BNSD, BNSD_BSND, TND, TND_NTD, NTD_TND";
                return Err(invalid(format!("inputLayout is \"{other}\", supported: {known}")));
            }
        })
    }

    /// Whether sequences are packed one after the other.
    pub fn packed(self) -> bool {
        matches!(self, Self::Tnd | Self::Ntd)
    }

    /// Number of dimensions.
    pub fn rank(self) -> usize {
        if matches!(self, Self::Bsnd | Self::Bnsd) { 4 } else { 3 }
    }
}

/// Sizes and strides of head vectors, in elements from the view's first element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Sequences; 1 when packed.
    pub batch: usize,
    /// Positions; tokens when packed.
    pub len: usize,
    /// Heads.
    pub heads: usize,
    /// Size of a head.
    pub d: usize,
    steps: [usize; 4],
}

impl Heads {
    /// Head vectors of a view with `heads` heads.
    pub fn of(name: &str, view: &View, order: Order, heads: usize) -> Result<Self, Error> {
        if view.rank() != order.rank() {
            return Err(tiling(format!(
                "{name} {:?} has {} dimensions, {order:?} needs {}",
                view.dims,
                view.rank(),
                order.rank()
            )));
        }
        let (n, s) = (&view.dims, &view.strides);
        let (batch, len, have, d, steps) = match order {
            Order::Bsh => {
                let d = n[2] / heads.max(1);
                (n[0], n[1], if d * heads == n[2] { heads } else { 0 }, d, [s[0], s[1], d * s[2], s[2]])
            }
            Order::Bsnd => (n[0], n[1], n[2], n[3], [s[0], s[1], s[2], s[3]]),
            Order::Bnsd => (n[0], n[2], n[1], n[3], [s[0], s[2], s[1], s[3]]),
            Order::Tnd => (1, n[0], n[1], n[2], [0, s[0], s[1], s[2]]),
            Order::Ntd => (1, n[1], n[0], n[2], [0, s[1], s[0], s[2]]),
        };
        if have != heads {
            return Err(tiling(format!("{name} {:?} does not hold {heads} heads in {order:?}", view.dims)));
        }
        Ok(Self { batch, len, heads, d, steps })
    }

    /// First element of a head vector.
    #[inline(always)]
    pub fn at(&self, b: usize, s: usize, n: usize) -> usize {
        b * self.steps[0] + s * self.steps[1] + n * self.steps[2]
    }

    /// Distance of the elements of a head vector.
    pub fn step(&self) -> usize {
        self.steps[3]
    }
}
