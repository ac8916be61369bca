//! Targets: all that the compiler knows of a device, as plain data.

use crate::kinds::KindName;
use aio_ir::DType;
use serde::{Deserialize, Serialize};

/// How a weight lies in the device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Layout {
    /// As in the model file: rows one after the other, innermost dimension contiguous.
    Plain,
    /// The back end's own form for matrix products; made once when the weights are uploaded.
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

/// One kind of task that a device can run.
#[derive(Clone, Debug, PartialEq)]
pub struct KindSupport {
    /// The kind.
    pub kind: KindName,
    /// Element types of its weight matrices; empty for kinds without any.
    pub weights: Vec<DType>,
    /// Layouts of its weight matrices ([`KindName::is_matrix`]), best first.
    pub layouts: Vec<Layout>,
}

/// A device as the compiler sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Device and level, as in `cpu-avx512-vnni`.
    pub name: String,
    /// What it can run.
    pub kinds: Vec<KindSupport>,
    /// Alignment of arena buffers in bytes.
    pub alignment: u64,
}

impl Target {
    /// Support for a kind of task.
    pub fn support(&self, kind: KindName) -> Option<&KindSupport> {
        self.kinds.iter().find(|s| s.kind == kind)
    }
}
