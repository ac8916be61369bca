//! Forms in which weights lie on the device, with the numbers of `kernels/cuda/README.md` that go with each.
//!
//! Packing writes these forms, lowering chooses kernels and sizes by them.

use aio_ir::DType;

/// Output rows of a packed tile.
pub(crate) const TILE_ROWS: usize = 16;
/// Token rows that go over the weights together.
const PASS_ROWS: u32 = 24;
/// Token rows that do in the kernels for many (`wide.cuh`).
const WIDE_ROWS: u32 = 48;
/// Tiles of output rows that a block of those takes together.
const WIDE_TILES: u64 = 8;
/// Token rows up to which a product can take the norm itself.
pub(crate) const NORM_ROWS: u32 = 4;
/// Columns of a step of activations.
pub(crate) const ACT_COLS: u64 = 64;
/// Token rows of a tile of activations.
const ACT_ROWS: u64 = 8;

/// How activations are prepared for a product: `ActKind` of args.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Acts {
    Q8 = 1,
    Bf16 = 2,
    F16 = 3,
}

impl Acts {
    /// The kernel that prepares rows.
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

    /// Shared memory for `rows` rows of `k` columns that a product prepares for itself.
    pub(crate) fn shared_bytes(self, rows: u64, k: u64) -> u64 {
        k.div_ceil(ACT_COLS) * if self == Acts::Q8 { 64 * rows + 128 } else { 256 * rows + 32 }
    }

    /// Whether `gate_up` and `attend` can write it themselves.
    pub(crate) fn chains(self) -> bool {
        self != Acts::F16
    }
}

/// How a product goes through rows and matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    /// What comes before the kernel's name.
    pub prefix: &'static str,
    /// Pieces that blocks share.
    pub pieces: u64,
    /// Passes of rows.
    pub passes: u32,
    pub shared_bytes: u32,
}

impl Format {
    /// The walk of a product of up to `rows` token rows with one matrix of `tiles` tiles of output rows, or with two at once;
    /// `most` is the shared memory that a block can have. Bits do not depend on it.
    pub(crate) fn walk(self, rows: u32, tiles: u64, matrices: u64, most: u32) -> Walk {
        let wide = self.shared_for_many();
        if rows > PASS_ROWS && wide <= most && !matches!(self, Format::Q4K | Format::Q6K) {
            let pieces = (matrices * tiles).div_ceil(WIDE_TILES);
            return Walk { prefix: "wide_", pieces, passes: rows.div_ceil(WIDE_ROWS), shared_bytes: wide };
        }
        let shared_bytes = if matrices == 1 { self.shared_for_one() } else { self.shared_for_two() };
        // Kernels of two matrices take two tiles of each at a time.
        Walk { prefix: "", pieces: tiles.div_ceil(matrices), passes: passes(rows), shared_bytes }
    }
}

/// Passes of rows over the weights.
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
    /// All of them.
    pub(crate) const ALL: [Format; 7] =
        [Format::Bf16, Format::F16, Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Q4K, Format::Q6K];

    /// The suffix of kernels' names.
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

    /// Columns of a step.
    pub(crate) fn step_cols(self) -> usize {
        match self {
            Format::Q4K => 256,
            Format::Q6K => 128,
            _ => 64,
        }
    }

    /// Bytes of a step.
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

    /// Shared memory of a kernel that goes through one matrix.
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

    /// Shared memory of a kernel that goes through two matrices together.
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

    /// Shared memory of a kernel for many rows: stages of weights of 8 tiles and activations of 48 rows, or their totals.
    pub(crate) fn shared_for_many(self) -> u32 {
        let acts = self.step_cols() as u32 / ACT_COLS as u32 * if self.acts() == Acts::Q8 { 640 } else { 2080 };
        let stage = 8 * self.step_bytes() as u32 + 6 * acts;
        let stages = if 3 * stage <= 100_000 { 3 } else { 2 };
        (stages * stage).max(4 * (8 * 16 * 56 + 48 * 32))
    }

    /// What it is multiplied with.
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
    /// Element by element, without loss.
    Same(Format),
    /// Types without kernels of their own, f32 among them: decoded, and each row laid out as its nearest bf16 numbers
    /// followed by the nearest of what is left. Multiplied with each row of activations twice over, that keeps 16 bits of a
    /// weight. Rounding to one bf16 would keep 8, which tests against the oracle and whoever stores f32 would notice.
    Split,
}

impl Form {
    /// The form of a type; `None` for types that are no real numbers.
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

    /// The form that kernels see.
    pub(crate) fn format(self) -> Format {
        match self {
            Form::Same(format) => format,
            Form::Split => Format::Bf16,
        }
    }

    /// The columns that kernels see of a matrix with `cols` columns.
    pub(crate) fn kernel_cols(self, cols: u64) -> u64 {
        if self == Form::Split { 2 * cols } else { cols }
    }

    /// Bytes of a packed matrix.
    pub(crate) fn bytes(self, rows: usize, cols: usize) -> usize {
        rows.div_ceil(TILE_ROWS) * self.tile_bytes(cols)
    }

    /// Bytes of 16 rows.
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

    /// `kernels/cuda/README.md` has them too.
    #[test]
    fn shared_memory_is_what_the_kernels_take() {
        let all = [Format::Bf16, Format::F16, Format::Q8_0, Format::Q4_0, Format::Q4_1];
        assert_eq!(all.map(Format::shared_for_many), [86592, 86592, 37632, 34816, 34816]);
    }
}
