//! Element types by ggml's numbers, including those that aio does not read.

use std::fmt;

use aio_ir::DType;

/// The element type of a tensor in a file: one that aio knows, or another number.
///
/// Unknown numbers are kept so that tools can show every file; only using the tensor fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GgmlType {
    /// A type that aio reads.
    Known(DType),
    /// A type number of ggml that aio does not read.
    Unknown(u32),
}

impl GgmlType {
    /// The type, if aio reads it.
    pub fn dtype(self) -> Option<DType> {
        match self {
            GgmlType::Known(t) => Some(t),
            GgmlType::Unknown(_) => None,
        }
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GgmlType::Known(t) => t.fmt(f),
            GgmlType::Unknown(id) => match UNREAD.iter().find(|(number, _)| number == id) {
                Some((_, name)) => f.write_str(name),
                None => write!(f, "unknown({id})"),
            },
        }
    }
}

/// Type numbers that aio does not read, with their names in llama.cpp b11434 (`ggml.h`), including types removed from
/// the format.
const UNREAD: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (25, "I16"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];

/// Weight types that aio reads, as listed in messages.
pub(super) fn supported() -> String {
    let names = DType::ALL.iter().filter(|t| t.is_float() && t.ggml_id().is_some()).map(|t| t.name().to_uppercase());
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_number_has_one_name() {
        for (id, name) in UNREAD {
            assert_eq!(DType::from_ggml_id(*id), None, "{name} is read");
            assert_eq!(UNREAD.iter().filter(|(other, n)| other == id || n == name).count(), 1, "{name}");
        }
        let named = |id: u32| DType::from_ggml_id(id).is_some() || UNREAD.iter().any(|(n, _)| *n == id);
        assert!((0..=42).all(named));
        assert_eq!(GgmlType::Unknown(23).to_string(), "IQ4_XS");
        assert_eq!(GgmlType::Unknown(99).to_string(), "unknown(99)");
    }
}
