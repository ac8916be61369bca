//! Element types with the numbers that AscendCL gives them.

/// An element type that the simulator computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// bfloat16.
    Bf16,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit signed integer.
    I16,
    /// 32-bit signed integer.
    I32,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit signed integer.
    I64,
    /// 64-bit unsigned integer.
    U64,
    /// One byte, 0 or 1.
    Bool,
    /// 4-bit signed integer, two in a byte, the first in the low half.
    I4,
}

/// Type, number in `aclDataType`, bits, name.
const TABLE: [(DType, i32, usize, &str); 12] = [
    (DType::F32, 0, 32, "FLOAT"),
    (DType::F16, 1, 16, "FLOAT16"),
    (DType::I8, 2, 8, "INT8"),
    (DType::I32, 3, 32, "INT32"),
    (DType::U8, 4, 8, "UINT8"),
    (DType::I16, 6, 16, "INT16"),
    (DType::U32, 8, 32, "UINT32"),
    (DType::I64, 9, 64, "INT64"),
    (DType::U64, 10, 64, "UINT64"),
    (DType::Bool, 12, 8, "BOOL"),
    (DType::Bf16, 27, 16, "BFLOAT16"),
    (DType::I4, 29, 4, "INT4"),
];

impl DType {
    /// The type of a number in `aclDataType`, or `None` if the simulator does not compute with it.
    pub fn from_acl(code: i32) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    fn row(self) -> (DType, i32, usize, &'static str) {
        TABLE.into_iter().find(|row| row.0 == self).unwrap_or(TABLE[0])
    }

    /// The number in `aclDataType`.
    pub fn acl(self) -> i32 {
        self.row().1
    }

    /// Bits of one element.
    pub fn bits(self) -> usize {
        self.row().2
    }

    /// Bytes of `elems` consecutive elements, rounded up.
    pub fn bytes(self, elems: usize) -> usize {
        elems.saturating_mul(self.bits()).div_ceil(8)
    }

    /// Whether values are floats.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.row().3)
    }
}
