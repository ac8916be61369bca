//! The table of fused task kinds: the operands and results of each, declared once.
//!
//! [`crate::body`] builds a task's body from it, the verifier checks slots against it, and it says which operands are matrices
//! that a back end may lay out its own way. A task of one op has the operands of the op table instead.

use crate::kind::KindName;

/// What an operand may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// f32 elements, from anywhere.
    Values,
    /// A weight of f32 elements and one dimension.
    Vector,
    /// A weight of any float type and two dimensions: rows are outputs. May lie in the back end's own layout.
    Matrix,
    /// u32 elements, from anywhere.
    Index,
    /// A layer's keys and values.
    Pages,
}

/// One operand of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperandSpec {
    /// Its name in messages.
    pub name: &'static str,
    /// What it may be.
    pub class: Class,
    /// Whether [`Slot::Absent`](crate::Slot::Absent) may stand in its place.
    pub optional: bool,
}

/// The declaration of a fused kind.
#[derive(Debug)]
pub struct KindSpec {
    /// Operands in order.
    pub operands: &'static [OperandSpec],
    /// How many results it has; an updated state comes last.
    pub results: usize,
}

const fn req(name: &'static str, class: Class) -> OperandSpec {
    OperandSpec { name, class, optional: false }
}

const fn opt(name: &'static str, class: Class) -> OperandSpec {
    OperandSpec { name, class, optional: true }
}

macro_rules! kind_table {
    ($($(#[$doc:meta])* $module:ident $results:literal {
        $($place:ident $need:ident $name:literal $class:ident;)*
    })*) => {$(
        $(#[$doc])*
        pub mod $module {
            use super::{Class, KindSpec};

            #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "variants only count the constants below")]
            enum Place { $($place,)* }

            $(#[doc = concat!("Place of the operand `", $name, "`.")] pub const $place: usize = Place::$place as usize;)*

            pub(super) static SPEC: KindSpec =
                KindSpec { operands: &[$(super::$need($name, Class::$class),)*], results: $results };
        }
    )*};
}

kind_table! {
    /// Operands of [`TaskKind::Qkv`](crate::TaskKind::Qkv).
    qkv 2 {
        X req "x" Values;
        NORM req "norm" Vector;
        WQ req "wq" Matrix;
        WK req "wk" Matrix;
        WV req "wv" Matrix;
        BQ opt "bq" Vector;
        BK opt "bk" Vector;
        BV opt "bv" Vector;
        Q_NORM opt "q norm" Vector;
        K_NORM opt "k norm" Vector;
        POSITIONS req "positions" Index;
        FREQ_FACTORS opt "frequency factors" Values;
        KV req "kv" Pages;
        TABLE req "page table" Index;
        ROW_SEQ req "row sequences" Index;
    }
    /// Operands of [`TaskKind::Attend`](crate::TaskKind::Attend).
    attend 1 {
        Q req "q" Values;
        KV req "kv" Pages;
        TABLE req "page table" Index;
        ROW_SEQ req "row sequences" Index;
        POSITIONS req "positions" Index;
        SINKS opt "sinks" Values;
    }
    /// Operands of [`TaskKind::Linear`](crate::TaskKind::Linear).
    linear 1 {
        X req "x" Values;
        NORM opt "norm" Vector;
        W req "w" Matrix;
        BIAS opt "bias" Vector;
        RESIDUAL opt "residual" Values;
    }
    /// Operands of [`TaskKind::GateUp`](crate::TaskKind::GateUp).
    gate_up 1 {
        X req "x" Values;
        NORM req "norm" Vector;
        GATE req "gate" Matrix;
        UP req "up" Matrix;
    }
    /// Operands of [`TaskKind::Head`](crate::TaskKind::Head).
    head 1 {
        X req "x" Values;
        INDEX req "row index" Index;
        NORM req "norm" Vector;
        W req "w" Matrix;
    }
}

impl KindName {
    /// The declaration of a fused kind; `None` for a task of one op.
    pub fn spec(self) -> Option<&'static KindSpec> {
        match self {
            KindName::Qkv => Some(&qkv::SPEC),
            KindName::Attend => Some(&attend::SPEC),
            KindName::Linear => Some(&linear::SPEC),
            KindName::GateUp => Some(&gate_up::SPEC),
            KindName::Head => Some(&head::SPEC),
            KindName::Op(_) => None,
        }
    }
}
