//! Targets: everything the compiler knows about a device, as plain data.

use crate::kinds::KindName;
use aio_ir::DType;
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

/// A kind of task that a device can run.
#[derive(Clone, Debug, PartialEq)]
pub struct KindSupport {
    /// The kind.
    pub kind: KindName,
    /// Element types of its weight matrices; empty if it has none.
    pub weights: Vec<DType>,
    /// Layouts of its weight matrices ([`KindName::is_matrix`]), best first.
    pub layouts: Vec<Layout>,
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
}

impl Target {
    /// The device's support for a kind, if any.
    pub fn support(&self, kind: KindName) -> Option<&KindSupport> {
        self.kinds.iter().find(|s| s.kind == kind)
    }
}
