//! Kernel arguments: the structs of `kernels/cuda/args.h`, field by field.
//!
//! Addresses are 64-bit words here. A test compares sizes and offsets with those of the C++ compiler, so the two files
//! cannot diverge.

use bytemuck::{Pod, Zeroable};

/// Position of a field in its struct. An empty field name stands for the struct itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    /// The struct.
    pub kind: &'static str,
    /// The field.
    pub field: &'static str,
    /// Byte offset.
    pub offset: usize,
    /// Size in bytes.
    pub bytes: usize,
}

macro_rules! args {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $ty:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, PartialEq, Zeroable, Pod)]
            pub(crate) struct $name { $(pub $field: $ty),* }
        )*

        /// All fields of all structs.
        pub const FIELDS: &[Field] = &[$(
            Field { kind: stringify!($name), field: "", offset: 0, bytes: size_of::<$name>() },
            $(Field {
                kind: stringify!($name),
                field: stringify!($field),
                offset: std::mem::offset_of!($name, $field),
                bytes: size_of::<$ty>(),
            },)*
        )*];
    };
}

/// Maximum dimensions of an op kernel's tensor.
pub(crate) const MAX_RANK: usize = 8;
/// Words of a burst task for its kernel's arguments.
pub(crate) const TASK_WORDS: usize = 46;

args! {
    /// Counts of the current step.
    StepHeader { rows: u32, seqs: u32, outs: u32, pages: u32, recent: u32, flags: u32, stride: u32, spare0: u32 }

    /// `prepare_*`.
    PrepareArgs {
        step: u64, x: u64, norm: u64, row_index: u64, acts: u64, k: u32, eps: f32, symbol: u32, spare: u32,
    }

    /// `linear_T`.
    LinearArgs {
        step: u64, w: u64, acts: u64, bias: u64, residual: u64, out: u64, n: u32, k: u32, symbol: u32, spare: u32,
    }

    /// `gate_up_T`.
    GateUpArgs {
        step: u64, gate: u64, up: u64, acts: u64, out: u64, acts_out: u64, n: u32, k: u32, activation: u32,
        acts_kind: u32,
    }

    /// `head_T`.
    HeadArgs {
        step: u64, w: u64, acts: u64, logits: u64, tokens: u64, best: u64, tickets: u64, n: u32, k: u32,
    }

    /// `qkv_T`.
    QkvArgs {
        step: u64, wq: u64, wk: u64, wv: u64, acts: u64, bq: u64, bk: u64, bv: u64, q_norm: u64, k_norm: u64,
        rope: u64, q: u64, kv: u64, table: u64, row_seq: u64, positions: u64, raw: u64, tickets: u64,
        page_stride: u64, heads: u32, kv_heads: u32, head_dim: u32, k: u32, rope_dims: u32, rope_pairs: u32,
        parts: u32, qk_eps: f32,
    }

    /// `norm_gate_up_T`.
    NormGateUpArgs { prepare: PrepareArgs, product: GateUpArgs }

    /// `norm_head_T`.
    NormHeadArgs { prepare: PrepareArgs, product: HeadArgs }

    /// `norm_qkv_T`.
    NormQkvArgs { prepare: PrepareArgs, product: QkvArgs }

    /// `rope_table`.
    RopeTableArgs { step: u64, positions: u64, frequencies: u64, table: u64, half: u32, magnitude: f32 }

    /// Rows of one sequence that read its pages together.
    AttendBlock {
        first_row: u32, rows: u32, seq: u32, first_split: u32, splits: u32, last_position: u32, items_before: u32,
        spare: u32,
    }

    /// The partition of a step's rows; the blocks follow.
    AttendPlan { blocks: u32, items: u32, spare0: u32, spare1: u32 }

    /// `attend_plan`.
    AttendPlanArgs { step: u64, positions: u64, row_seq: u64, plan: u64, window: u32, block_rows: u32 }

    /// `attend`.
    AttendArgs {
        step: u64, plan: u64, q: u64, kv: u64, table: u64, positions: u64, sinks: u64, out: u64, acts_out: u64,
        partials: u64, tickets: u64, page_stride: u64, heads: u32, kv_heads: u32, head_dim: u32, window: u32,
        scale: f32, soft_cap: f32, max_splits: u32, acts_kind: u32,
    }

    /// `embed_T`.
    EmbedArgs { step: u64, w: u64, ids: u64, out: u64, n: u32, k: u32, per: u32, symbol: u32 }

    /// `sample`.
    SampleArgs {
        step: u64, logits: u64, params: u64, noise: u64, recent: u64, bias: u64, keys: u64, tokens: u64, n: u32,
        spare: u32,
    }

    /// `verify`.
    VerifyArgs { step: u64, sampled: u64, drafts: u64, spans: u64, accepted: u64, next: u64 }

    /// A launch of a lowered plan, as run by a burst.
    BurstTask { kernel: u32, flags: u32, args: [u64; TASK_WORDS] }

    /// A plan of a burst, with the addresses of everything that differs between steps.
    BurstProgram {
        tasks: u64, step: u64, tokens: u64, positions: u64, noise: u64, recent: u64, spans: u64, lens: u64,
        accepted: u64, next: u64, count: u32, rows: u32,
    }

    /// Messages between host and burst.
    BurstMail {
        count: u32, end: u32, steps: u32, drafts: u32, stop: u32, spare0: u32, spare1: u32, spare2: u32,
    }

    /// `burst`.
    BurstArgs {
        few: BurstProgram, many: BurstProgram, history: u64, index: u64, stops: u64, barrier: u64, program: u64,
        mail: u64, out: u64, taken: u64, entries: u32, length: u32, reserved: u32, budget: u32, most: u32, first: u32,
        stop_count: u32, pages: u32, recent: u32, seed_low: u32, seed_high: u32, choice: u32,
    }

    /// A dimension: `value` times a count of the header.
    Dim { value: u32, symbol: u32 }

    /// A tensor of an op kernel, row-major.
    Tensor { data: u64, element: u32, rank: u32, dims: [Dim; MAX_RANK] }

    /// `op_map`.
    MapArgs { step: u64, out: Tensor, a: Tensor, b: Tensor, c: Tensor, code: u32, value: f32 }

    /// `op_gather`.
    GatherArgs { step: u64, out: Tensor, x: Tensor, index: Tensor }

    /// `op_copy`.
    CopyArgs {
        step: u64, out: Tensor, x: Tensor, from: [Dim; MAX_RANK], to: [Dim; MAX_RANK], perm: [u32; MAX_RANK],
        box_of_x: u32, spare: u32,
    }

    /// `op_scatter`.
    ScatterArgs { step: u64, out: Tensor, x: Tensor, index: Tensor, updates: Tensor }

    /// `op_matmul`.
    MatmulArgs { step: u64, out: Tensor, x: Tensor, w: Tensor, experts: Tensor }

    /// `op_rope`.
    RopeArgs { step: u64, x: u64, rope: u64, out: u64, heads: u32, head_dim: u32, rope_dims: u32, rope_pairs: u32 }

    /// `op_page_write`.
    PageWriteArgs {
        step: u64, k: u64, v: u64, kv: u64, table: u64, row_seq: u64, positions: u64, page_stride: u64, kv_heads: u32,
        head_dim: u32,
    }

    /// `op_fold`.
    FoldArgs { step: u64, out: Tensor, x: Tensor, code: u32, axis: u32 }

    /// `op_top_k`.
    TopKArgs { step: u64, values: Tensor, indices: Tensor, x: Tensor, k: u32, spare: u32 }

    /// `probe_read`, `probe_int8`, `probe_bf16`.
    ProbeArgs { from: u64, sink: u64, count: u64, never: u32, spare: u32 }

    /// `op_rows`.
    RowsArgs { step: u64, out: Tensor, x: Tensor, weight: u64, bias: u64, code: u32, eps: f32 }
}

/// The header count that scales a dimension: `Symbol` of args.h.
pub(crate) mod symbol {
    pub const ONE: u32 = 0;
    pub const ROWS: u32 = 1;
    pub const SEQS: u32 = 2;
    pub const OUTS: u32 = 3;
    pub const PAGES: u32 = 4;
    pub const RECENT: u32 = 5;
    pub const STRIDE: u32 = 6;
}

/// The optional bias of `sample` is bound in this step.
pub(crate) const FLAG_BIAS: u32 = 1;

/// The first block does all work of the task.
pub(crate) const TASK_SOLO: u32 = 1;
/// Tasks after this one read results of other blocks.
pub(crate) const TASK_BARRIER: u32 = 2;

/// Reasons why a burst ended, in its mail.
pub(crate) mod end {
    pub const BUDGET: u32 = 1;
    pub const TOKEN: u32 = 2;
    pub const STOPPED: u32 = 3;
}
