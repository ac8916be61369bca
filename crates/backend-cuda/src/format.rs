//! Forms in which weights lie on the device, with the numbers of `kernels/cuda/README.md` that go with each.
//!
//! Packing writes these forms, lowering chooses kernels and sizes by them.

use aio_ir::DType;

/// Output rows of a packed tile.
pub(crate) const TILE_ROWS: usize = 16;
/// Token rows that go over the weights together.
pub(crate) const PASS_ROWS: u32 = 24;
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
