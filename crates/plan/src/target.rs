//! Targets: everything the compiler knows about a device, as plain data.

use crate::kinds::KindName;
use aio_ir::{DType, Op, PAGE_POSITIONS};
use serde::{Deserialize, Serialize};

/// How a weight is stored in the device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Layout {
    /// As in the model file: row by row, innermost dimension contiguous.
    Plain,
    /// The back end's own form for matrix products, made once when weights are uploaded.
    Packed,
}

impl Layout {
    /// The name in plans and tables.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Plain => "plain",
            Layout::Packed => "packed",
        }
    }
}

/// Limits of a kind's kernels. What exceeds one runs unfused, or is refused with the reason when it is compiled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Maximum rows of a step; `None` for any number.
    pub rows: Option<u32>,
    /// Sizes of attention heads; `None` for any.
    pub head: Option<HeadSizes>,
    /// Maximum query heads of each key and value head; `None` for any number.
    pub group: Option<u32>,
    /// Positions of a KV page; empty for any number.
    pub page: &'static [u32],
}

/// Head sizes that kernels take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadSizes {
    /// They are multiples of this.
    pub multiple_of: u32,
    /// The largest.
    pub max: u32,
}

/// A kind of task that a device can run.
#[derive(Clone, Debug, PartialEq)]
pub struct KindSupport {
    /// The kind.
    pub kind: KindName,
    /// Element types of its weight matrices; empty if it has none.
    pub weights: Vec<DType>,
    /// Layouts of its weight matrices ([`KindName::is_matrix`]), best first.
    pub layouts: Vec<Layout>,
    /// Limits of its kernels.
    pub limits: Limits,
}

/// A device as the compiler sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Device and level, such as `cpu-avx512-vnni`.
    pub name: String,
    /// The kinds it can run.
    pub kinds: Vec<KindSupport>,
    /// Alignment of arena buffers in bytes.
    pub alignment: u64,
    /// Row counts at or below which the device uses different kernels, so a separate plan is worth its memory. Empty
    /// if all sizes use the same kernels.
    pub step_rows: &'static [u32],
    /// Element type of the values between fused tasks. Errors of conformance are judged by its rounding.
    pub activations: DType,
    /// Maximum plans of a family, where a device has room for few captured graphs or streams; `None` for any number.
    pub plans: Option<u32>,
}

impl KindSupport {
    /// Support for a kind without limits, with weight matrices of these types in this layout.
    pub fn new(kind: KindName, weights: &[DType], layout: Layout) -> KindSupport {
        KindSupport { kind, weights: weights.to_vec(), layouts: vec![layout], limits: Limits::default() }
    }

    /// The same with limits.
    pub fn within(self, limits: Limits) -> KindSupport {
        KindSupport { limits, ..self }
    }
}

impl Target {
    /// A target whose buffers are aligned to 64 bytes, with room for any number of plans.
    pub fn new(name: impl Into<String>, kinds: Vec<KindSupport>) -> Target {
        Target { name: name.into(), kinds, alignment: 64, step_rows: &[], activations: DType::F32, plans: None }
    }

    /// Positions of the KV pages that suit the device: [`PAGE_POSITIONS`] where its attention takes them.
    pub fn page_positions(&self) -> u64 {
        let kinds = [KindName::Attend, KindName::Op(Op::Attend)];
        let pages = kinds.iter().find_map(|&kind| self.support(kind)).map_or(&[][..], |s| s.limits.page);
        let fits = pages.is_empty() || pages.iter().any(|&page| u64::from(page) == PAGE_POSITIONS);
        if fits { PAGE_POSITIONS } else { pages.iter().copied().min().map_or(PAGE_POSITIONS, u64::from) }
    }

    /// The device's support for a kind, if any.
    pub fn support(&self, kind: KindName) -> Option<&KindSupport> {
        self.kinds.iter().find(|s| s.kind == kind)
    }
}
