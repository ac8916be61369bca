//! The packed form of every weight type: the layout of a group of 16 output rows.
//!
//! One form serves all instruction sets. A group is a run of *units*; a unit is a head of scales and
//! 1 or 8 *blocks* of 32 columns; a block is 512 codes of 16 rows. Decoded, a block is eight vectors of
//! 64 bytes: vector `g` holds in bytes `4r..4r+4` the codes of row `r`, columns `4g..4g+4`, as one
//! dot-product instruction wants them. The codes are stored in planes of whole 64-byte vectors:
//!
//! - nibble plane, 4 vectors: vector `h` has codes `h` in its low nibbles, `h + 4` in its high ones;
//! - two-bit plane, 2 vectors: vector `c` has codes `4c + j` in bits `2j..2j+2`;
//! - one-bit plane, 8 words of 64 bits: bit `i` of word `g` belongs to byte `i` of vector `g`;
//! - byte plane, 8 vectors.
//!
//! Used by packing, which writes this form, and by the kernels, which read it.

use aio_ir::DType;

/// Interleaved output rows.
pub const GROUP_ROWS: usize = 16;
/// Columns of a block.
pub const BLOCK_COLS: usize = 32;

/// How the codes of a block are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// Nibble plane.
    Nibble,
    /// Nibble plane of indices into the iq4_nl table, whose values are stored plus 128.
    Table,
    /// Nibble plane, then a one-bit plane for bit 4.
    Five,
    /// Nibble plane, then a two-bit plane for bits 4 and 5.
    Six,
    /// Two-bit plane, then a one-bit plane for bit 2.
    Three,
    /// Two-bit plane.
    Two,
    /// Byte plane.
    Byte,
}

impl Codes {
    /// Bytes of a block's codes.
    pub const fn bytes(self) -> usize {
        match self {
            Codes::Nibble | Codes::Table => 256,
            Codes::Five => 320,
            Codes::Six => 384,
            Codes::Three => 192,
            Codes::Two => 128,
            Codes::Byte => 512,
        }
    }
}

/// What a unit's head holds; all arrays run over the 16 rows innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scales {
    /// `f16 d[16]`, one block a unit: `d * code`.
    D,
    /// `f16 d[16], f16 m[16]`, one block a unit: `d * code + m`.
    DMin,
    /// `f16 d[16], f16 dmin[16], u8 s[8][16], u8 m[8][16]`, 8 blocks: `d * s * code - dmin * m`.
    Super32,
    /// `f16 d[16], i8 s[16][16]`, 8 blocks, a scale for 16 columns: `d * s * code`.
    Super16,
    /// `f16 d[16], f16 dmin[16], u8 sm[16][16]`, 8 blocks, 16 columns each: scale in the low
    /// nibble, minimum in the high one.
    Super16Min,
}

impl Scales {
    /// Bytes of the head.
    pub const fn bytes(self) -> usize {
        match self {
            Scales::D => 32,
            Scales::DMin => 64,
            Scales::Super32 | Scales::Super16Min => 320,
            Scales::Super16 => 288,
        }
    }

    /// Blocks in a unit.
    pub const fn blocks(self) -> usize {
        match self {
            Scales::D | Scales::DMin => 1,
            _ => 8,
        }
    }

    /// Whether scales change after 16 columns instead of 32.
    pub const fn per_16(self) -> bool {
        matches!(self, Scales::Super16 | Scales::Super16Min)
    }

    /// Whether a multiple of the activations' sum is added.
    pub const fn has_min(self) -> bool {
        matches!(self, Scales::DMin | Scales::Super32 | Scales::Super16Min)
    }
}

/// The packed form of a block-format weight type, known to the compiler.
pub trait Format: 'static {
    /// How codes are stored.
    const CODES: Codes;
    /// What the unit's head holds.
    const SCALES: Scales;
    /// Codes are stored plus `1 << SHIFT`; 0 means no offset.
    const SHIFT: u32;
    /// Bytes of a unit.
    const UNIT_BYTES: usize = Self::SCALES.bytes() + Self::SCALES.blocks() * Self::CODES.bytes();
}

/// Code that is compiled once for each format.
pub trait FormatVisitor {
    /// What a visit yields.
    type Out;
    /// The visit to one format.
    fn visit<F: Format>(self) -> Self::Out;
}

macro_rules! formats {
    ($($name:ident: $codes:ident, $scales:ident, shift $shift:literal;)*) => {
        $(
            #[doc = concat!("Packed form of `DType::", stringify!($name), "`.")]
            #[derive(Clone, Copy, Debug)]
            pub enum $name {}
            impl Format for $name {
                const CODES: Codes = Codes::$codes;
                const SCALES: Scales = Scales::$scales;
                const SHIFT: u32 = $shift;
            }
        )*
        /// The same table as data; `None` for types that are not block formats.
        pub const fn layout(dtype: DType) -> Option<Layout> {
            match dtype {
                $(DType::$name => Some(Layout {
                    codes: Codes::$codes,
                    scales: Scales::$scales,
                    unit_bytes: $name::UNIT_BYTES,
                }),)*
                _ => None,
            }
        }
        /// Calls `visitor` with the format of a type; `None` for types that are not block formats.
        pub fn with_format<V: FormatVisitor>(dtype: DType, visitor: V) -> Option<V::Out> {
            match dtype {
                $(DType::$name => Some(visitor.visit::<$name>()),)*
                _ => None,
            }
        }
    };
}

formats! {
    Q4_0: Nibble, D, shift 3;
    Q4_1: Nibble, DMin, shift 0;
    Q5_0: Five, D, shift 4;
    Q5_1: Five, DMin, shift 0;
    Q8_0: Byte, D, shift 7;
    Q2K: Two, Super16Min, shift 0;
    Q3K: Three, Super16, shift 2;
    Q4K: Nibble, Super32, shift 0;
    Q5K: Five, Super32, shift 0;
    Q6K: Six, Super16, shift 5;
    IQ4NL: Table, D, shift 7;
}

/// A row of the table of packed forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How codes are stored.
    pub codes: Codes,
    /// What the unit's head holds.
    pub scales: Scales,
    /// Bytes of a unit.
    pub unit_bytes: usize,
}

/// Bytes of a packed group of 16 rows with `cols` columns; `None` if the type is not a float type or `cols` is not a
/// multiple of its block length.
pub const fn group_bytes(dtype: DType, cols: usize) -> Option<usize> {
    if !dtype.is_float() || !cols.is_multiple_of(dtype.block_elems()) {
        return None;
    }
    match layout(dtype) {
        Some(layout) => Some(cols / (BLOCK_COLS * layout.scales.blocks()) * layout.unit_bytes),
        None => Some(cols * dtype.block_bytes() * GROUP_ROWS),
    }
}
