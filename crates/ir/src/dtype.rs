//! Element types: plain numbers and the block formats of GGUF.
//!
//! A block format stores `block_elems` consecutive elements of the innermost dimension in `block_bytes` bytes. The
//! layouts are those of ggml (`ggml-common.h` of llama.cpp b11434); `crate::quant` decodes them. Used by every crate of
//! the workspace.

use std::fmt;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, ggml $ggml:expr, $elems:literal per $bytes:literal;)*) => {
        /// The type of a tensor's elements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DType { $($(#[$doc])* $variant,)* }

        impl DType {
            /// All types, in declaration order.
            pub const ALL: &'static [DType] = &[$(DType::$variant,)*];

            /// The name in the text form, such as `f32` or `q4_k`.
            pub const fn name(self) -> &'static str {
                match self { $(DType::$variant => $name,)* }
            }

            /// The type number that GGUF files use, if the format has one for it.
            pub const fn ggml_id(self) -> Option<u32> {
                match self { $(DType::$variant => $ggml,)* }
            }

            /// Elements in one block; 1 for plain types.
            pub const fn block_elems(self) -> usize {
                match self { $(DType::$variant => $elems,)* }
            }

            /// Bytes of one block; the element's size for plain types.
            pub const fn block_bytes(self) -> usize {
                match self { $(DType::$variant => $bytes,)* }
            }
        }
    };
}

dtypes! {
    /// IEEE 754 binary32.
    F32 = "f32", ggml Some(0), 1 per 4;
    /// IEEE 754 binary16.
    F16 = "f16", ggml Some(1), 1 per 2;
    /// The upper half of a binary32.
    BF16 = "bf16", ggml Some(30), 1 per 2;
    /// Signed 32-bit integer.
    I32 = "i32", ggml Some(26), 1 per 4;
    /// Unsigned 32-bit integer; token ids, positions, page numbers.
    U32 = "u32", ggml None, 1 per 4;
    /// Signed 8-bit integer.
    I8 = "i8", ggml Some(24), 1 per 1;
    /// Unsigned 8-bit integer.
    U8 = "u8", ggml None, 1 per 1;
    /// One byte, 0 or 1.
    Bool = "bool", ggml None, 1 per 1;
    /// 4 bits, one f16 scale per 32: `d * (q - 8)`.
    Q4_0 = "q4_0", ggml Some(2), 32 per 18;
    /// 4 bits, f16 scale and minimum per 32: `d * q + m`.
    Q4_1 = "q4_1", ggml Some(3), 32 per 20;
    /// 5 bits, one f16 scale per 32: `d * (q - 16)`.
    Q5_0 = "q5_0", ggml Some(6), 32 per 22;
    /// 5 bits, f16 scale and minimum per 32: `d * q + m`.
    Q5_1 = "q5_1", ggml Some(7), 32 per 24;
    /// 8 bits, one f16 scale per 32: `d * q`.
    Q8_0 = "q8_0", ggml Some(8), 32 per 34;
    /// 2 bits in super-blocks of 256, 4-bit scales and minimums per 16.
    Q2K = "q2_k", ggml Some(10), 256 per 84;
    /// 3 bits in super-blocks of 256, 6-bit scales per 16.
    Q3K = "q3_k", ggml Some(11), 256 per 110;
    /// 4 bits in super-blocks of 256, 6-bit scales and minimums per 32.
    Q4K = "q4_k", ggml Some(12), 256 per 144;
    /// 5 bits in super-blocks of 256, 6-bit scales and minimums per 32.
    Q5K = "q5_k", ggml Some(13), 256 per 176;
    /// 6 bits in super-blocks of 256, 8-bit scales per 16.
    Q6K = "q6_k", ggml Some(14), 256 per 210;
    /// 4-bit indices into a fixed table of 16 values, one f16 scale per 32.
    IQ4NL = "iq4_nl", ggml Some(20), 32 per 18;
}

impl DType {
    /// The type with this name, as the text form spells it.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.iter().copied().find(|t| t.name() == name)
    }

    /// The type with this GGUF type number, if aio reads it.
    pub fn from_ggml_id(id: u32) -> Option<DType> {
        DType::ALL.iter().copied().find(|t| t.ggml_id() == Some(id))
    }

    /// Whether elements are stored in blocks with shared scales.
    pub const fn is_quantized(self) -> bool {
        self.block_elems() > 1
    }

    /// Whether elements are real numbers (quantised types included).
    pub const fn is_float(self) -> bool {
        !matches!(self, DType::I32 | DType::U32 | DType::I8 | DType::U8 | DType::Bool)
    }

    /// Bytes of a row of `elems` elements; `None` if `elems` is not a whole number of blocks or the size overflows.
    pub const fn row_bytes(self, elems: u64) -> Option<u64> {
        let block = self.block_elems() as u64;
        if !elems.is_multiple_of(block) {
            return None;
        }
        (elems / block).checked_mul(self.block_bytes() as u64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ggml_ids_are_unique_and_round_trip() {
        for &t in DType::ALL {
            assert_eq!(DType::from_name(t.name()), Some(t));
            if let Some(id) = t.ggml_id() {
                assert_eq!(DType::from_ggml_id(id), Some(t));
            }
        }
    }

    #[test]
    fn row_bytes_refuses_partial_blocks() {
        assert_eq!(DType::Q4_1.row_bytes(576), Some(360));
        assert_eq!(DType::Q4K.row_bytes(576), None);
        assert_eq!(DType::F32.row_bytes(u64::MAX), None);
    }
}
