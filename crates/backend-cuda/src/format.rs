//! The forms of weights on the device, with the numbers from `kernels/cuda/README.md` for each.
//!
//! Packing writes these forms; lowering chooses kernels and sizes accordingly.

use aio_ir::DType;

/// Output rows of a packed tile.
pub(crate) const TILE_ROWS: usize = 16;
/// Token rows processed in one pass over the weights.
const PASS_ROWS: u32 = 24;
/// The same for the kernels for many rows (`wide.cuh`).
const WIDE_ROWS: u32 = 48;
/// Tiles of output rows that a block of those kernels processes together.
const WIDE_TILES: u64 = 8;
/// Maximum token rows for which a product computes the norm itself.
pub(crate) const NORM_ROWS: u32 = 4;
/// Columns per step of activations.
pub(crate) const ACT_COLS: u64 = 64;
/// Token rows per tile of activations.
const ACT_ROWS: u64 = 8;

/// The prepared form of activations for a product: `ActKind` of args.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Acts {
    Q8 = 1,
    Bf16 = 2,
    F16 = 3,
}

impl Acts {
    /// The kernel that prepares rows in this form.
    pub(crate) fn kernel(self) -> &'static str {
        match self {
            Acts::Q8 => "prepare_q8",
            Acts::Bf16 => "prepare_bf16",
            Acts::F16 => "prepare_f16",
        }
    }

    /// Bytes of `rows` rows of `k` columns.
    pub(crate) fn bytes(self, rows: u64, k: u64) -> u64 {
        let step = if self == Acts::Q8 { 640 } else { 2080 };
        rows.div_ceil(ACT_ROWS) * k.div_ceil(ACT_COLS) * step
    }

    /// Shared memory in bytes for `rows` rows of `k` columns that a product prepares itself.
    pub(crate) fn shared_bytes(self, rows: u64, k: u64) -> u64 {
        k.div_ceil(ACT_COLS) * if self == Acts::Q8 { 64 * rows + 128 } else { 256 * rows + 32 }
    }

    /// Whether `gate_up` and `attend` can write this form directly.
    pub(crate) fn chains(self) -> bool {
        self != Acts::F16
    }
}

/// How a product iterates over rows and matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Prefix of the kernel's name.
    pub prefix: &'static str,
    /// Pieces of work shared by the blocks.
    pub pieces: u64,
    /// Passes over the rows.
    pub passes: u32,
    pub shared_bytes: u32,
}

impl Format {
    /// The walk of a product of up to `rows` token rows with one matrix, or two matrices at once, of `tiles` tiles of
    /// output rows. `most` is the maximum shared memory of a block. Results do not depend on the walk, to the bit.
    pub(crate) fn walk(self, rows: u32, tiles: u64, matrices: u64, most: u32) -> Walk {
        let wide = self.shared_for_many();
        if rows > PASS_ROWS && wide <= most && !matches!(self, Format::Q4K | Format::Q6K) {
            let pieces = (matrices * tiles).div_ceil(WIDE_TILES);
            return Walk { prefix: "wide_", pieces, passes: rows.div_ceil(WIDE_ROWS), shared_bytes: wide };
        }
        let shared_bytes = if matrices == 1 { self.shared_for_one() } else { self.shared_for_two() };
        // Kernels for two matrices process two tiles of each at a time.
        Walk { prefix: "", pieces: tiles.div_ceil(matrices), passes: passes(rows), shared_bytes }
    }
}

/// Number of passes over the weights.
pub(crate) fn passes(rows: u32) -> u32 {
    rows.div_ceil(PASS_ROWS).max(1)
}

/// A packed form that kernels read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    Bf16,
    F16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q4K,
    Q6K,
}

impl Format {
    /// All formats.
    pub(crate) const ALL: [Format; 7] =
        [Format::Bf16, Format::F16, Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Q4K, Format::Q6K];

    /// The suffix of kernel names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Bf16 => "bf16",
            Format::F16 => "f16",
            Format::Q8_0 => "q8_0",
            Format::Q4_0 => "q4_0",
            Format::Q4_1 => "q4_1",
            Format::Q4K => "q4_k",
            Format::Q6K => "q6_k",
        }
    }

    /// Columns per step.
    pub(crate) fn step_cols(self) -> usize {
        match self {
            Format::Q4K => 256,
            Format::Q6K => 128,
            _ => 64,
        }
    }

    /// Bytes per step.
    pub(crate) fn step_bytes(self) -> usize {
        match self {
            Format::Bf16 | Format::F16 => 2048,
            Format::Q8_0 => 1088,
            Format::Q4_0 => 576,
            Format::Q4_1 => 640,
            Format::Q4K => 2368,
            Format::Q6K => 1696,
        }
    }

    /// Shared memory of a kernel that reads one matrix.
    pub(crate) fn shared_for_one(self) -> u32 {
        let ring = match self {
            Format::Bf16 | Format::F16 => 49152,
            Format::Q8_0 => 43520,
            Format::Q4_0 => 36864,
            Format::Q4_1 => 40960,
            Format::Q4K => 37888,
            Format::Q6K => 40704,
        };
        ring + 12288
    }

    /// Shared memory of a kernel that reads two matrices together.
    pub(crate) fn shared_for_two(self) -> u32 {
        let ring = match self {
            Format::Bf16 | Format::F16 => 65536,
            Format::Q8_0 => 52224,
            Format::Q4_0 => 46080,
            Format::Q4_1 => 40960,
            Format::Q4K => 75776,
            Format::Q6K => 54272,
        };
        ring + 24576
    }

    /// Shared memory of a kernel for many rows: stages with weights of 8 tiles and activations of 48 rows, or their
    /// totals.
    pub(crate) fn shared_for_many(self) -> u32 {
        let acts = self.step_cols() as u32 / ACT_COLS as u32 * if self.acts() == Acts::Q8 { 640 } else { 2080 };
        let stage = 8 * self.step_bytes() as u32 + 6 * acts;
        let stages = if 3 * stage <= 100_000 { 3 } else { 2 };
        (stages * stage).max(4 * (8 * 16 * 56 + 48 * 32))
    }

    /// The form of the activations it is multiplied with.
    pub(crate) fn acts(self) -> Acts {
        match self {
            Format::Bf16 => Acts::Bf16,
            Format::F16 => Acts::F16,
            _ => Acts::Q8,
        }
    }
}

/// How a matrix of the model file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// Element by element, lossless.
    Same(Format),
    /// Types without dedicated kernels, including f32: each row is decoded and stored as its nearest bf16 numbers,
    /// followed by the nearest bf16 numbers of the remainder. Multiplied with each row of activations repeated, this
    /// keeps 16 bits of a weight. Rounding to a single bf16 would keep 8, which would be noticeable in tests against
    /// the oracle and for f32 models.
    Split,
}

impl Form {
    /// The form of a type; `None` for types other than real numbers.
    pub(crate) fn of(dtype: DType) -> Option<Form> {
        let same = match dtype {
            DType::BF16 => Format::Bf16,
            DType::F16 => Format::F16,
            DType::Q8_0 => Format::Q8_0,
            DType::Q4_0 => Format::Q4_0,
            DType::Q4_1 => Format::Q4_1,
            DType::Q4K => Format::Q4K,
            DType::Q6K => Format::Q6K,
            other => return other.is_float().then_some(Form::Split),
        };
        Some(Form::Same(same))
    }

    /// The format that kernels see.
    pub(crate) fn format(self) -> Format {
        match self {
            Form::Same(format) => format,
            Form::Split => Format::Bf16,
        }
    }

    /// The number of columns that kernels see for a matrix with `cols` columns.
    pub(crate) fn kernel_cols(self, cols: u64) -> u64 {
        if self == Form::Split { 2 * cols } else { cols }
    }

    /// Size of a packed matrix in bytes.
    pub(crate) fn bytes(self, rows: usize, cols: usize) -> usize {
        rows.div_ceil(TILE_ROWS) * self.tile_bytes(cols)
    }

    /// Bytes per tile of 16 rows.
    pub(crate) fn tile_bytes(self, cols: usize) -> usize {
        let format = self.format();
        (self.kernel_cols(cols as u64) as usize).div_ceil(format.step_cols()) * format.step_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_take_wide_passes_where_they_can() {
        let walk = |format: Format, rows, most| {
            let w = format.walk(rows, 512, 2, most);
            (w.prefix, w.pieces, w.passes)
        };
        let (h100, small) = (227 << 10, 64 << 10);
        assert_eq!(walk(Format::Bf16, 24, h100), ("", 256, 1));
        assert_eq!(walk(Format::Bf16, 25, h100), ("wide_", 128, 1));
        assert_eq!(walk(Format::Bf16, 512, h100), ("wide_", 128, 11));
        assert_eq!(walk(Format::Bf16, 512, small), ("", 256, 22));
        assert_eq!(walk(Format::Q8_0, 512, small), ("wide_", 128, 11));
        assert_eq!(walk(Format::Q4K, 512, h100), ("", 256, 22));
        assert_eq!(Format::Bf16.walk(512, 513, 1, h100).pieces, 65);
    }

    /// `kernels/cuda/README.md` lists the same numbers.
    #[test]
    fn shared_memory_is_what_the_kernels_take() {
        let all = [Format::Bf16, Format::F16, Format::Q8_0, Format::Q4_0, Format::Q4_1];
        assert_eq!(all.map(Format::shared_for_many), [86592, 86592, 37632, 34816, 34816]);
    }
}
