//! What the host hands to a kernel: one struct a kernel, passed by value, and what lies at its pointers.
//!
//! Everything that differs from step to step is read from device memory, for a captured graph is replayed with the same
//! arguments: counts from `StepHeader`, tokens, positions and page tables from arrays at fixed addresses. Fields have a
//! fixed width, pointers 64 bits; pointers come first, so no struct has a hole. The emulation exports sizes and offsets
//! of all fields (`fields.inc`), which the host checks against its own structs. README.md has the launch rules.
#pragma once

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;
typedef float f32;

/// Counts of the step under way, in device memory; the first thing that a step copies there.
struct StepHeader {
    u32 rows;   // token rows
    u32 seqs;   // sequences
    u32 outs;   // output rows
    u32 pages;  // pages of the pool
    u32 recent; // recent tokens of an output row
    u32 flags;  // FLAG_*
    u32 stride; // entries of a sequence in the page table
    u32 spare0;
};
/// The optional input `bias` of `sample` is bound in this step.
#define FLAG_BIAS 1u
/// The token of a row that has none: `ir::sampling::NO_TOKEN`.
#define NO_TOKEN 0xFFFFFFFFu

/// By which count of the header a dimension grows.
enum Symbol { SYM_ONE = 0, SYM_ROWS = 1, SYM_SEQS = 2, SYM_OUTS = 3, SYM_PAGES = 4, SYM_RECENT = 5, SYM_STRIDE = 6 };

/// How activations are prepared for products (README, "Activations").
enum ActKind { ACT_NONE = 0, ACT_Q8 = 1, ACT_BF16 = 2, ACT_F16 = 3 };

/// `prepare_q8`, `prepare_bf16`, `prepare_f16`: norm of a row, then its form for products.
struct PrepareArgs {
    const StepHeader* step;
    const f32* x;         // [rows][k]
    const f32* norm;      // [k], or null: no norm
    const u32* row_index; // which row of x is row i of the result, or null: row i
    void* acts;           // result
    u32 k;
    f32 eps;
    u32 symbol; // SYM_ROWS or SYM_OUTS: rows of the result
    u32 spare;
};

/// `linear_T`: product, bias, residual.
struct LinearArgs {
    const StepHeader* step;
    const void* w;       // packed [n][k]
    const void* acts;    // prepared rows of k
    const f32* bias;     // [n] or null
    const f32* residual; // [rows][n] or null; may be `out`
    f32* out;            // [rows][n]
    u32 n;
    u32 k;
    u32 symbol; // SYM_ROWS or SYM_OUTS
    u32 spare;
};

/// `gate_up_T`: act(gate product) * (up product). At least one of the results is not null.
struct GateUpArgs {
    const StepHeader* step;
    const void* gate; // packed [n][k]
    const void* up;   // packed [n][k]
    const void* acts; // prepared rows of k
    f32* out;         // [rows][n] or null
    void* acts_out;   // the result prepared for the next product, or null
    u32 n;
    u32 k;
    u32 activation; // 0 silu, 1 gelu (tanh form)
    u32 acts_kind;  // of acts_out: ACT_Q8 or ACT_BF16; ACT_NONE without
};

/// `head_T`: logits, or their arg-max.
struct HeadArgs {
    const StepHeader* step;
    const void* w;    // packed [n][k]
    const void* acts; // prepared output rows of k
    f32* logits;      // [outs][n] or null
    u32* tokens;      // [outs] or null: the arg-max
    u64* best;        // [outs at most], zero before and after; used with `tokens`
    u32* tickets;     // [row passes], zero before and after; used with `tokens`
    u32 n;
    u32 k;
};

/// `qkv_T`: projections, head norms, rotation, page write; a launch does the parts whose weights have type T.
struct QkvArgs {
    const StepHeader* step;
    const void* wq; // packed [heads * head_dim][k]
    const void* wk; // packed [kv_heads * head_dim][k]
    const void* wv; // like wk
    const void* acts;
    const f32* bq; // biases or null
    const f32* bk;
    const f32* bv;
    const f32* q_norm; // [head_dim] or null
    const f32* k_norm;
    const f32* rope;    // table of `rope_table` for these rows
    f32* q;             // [rows][heads][head_dim]
    u16* kv;            // f16 pool of the layer, page 0
    const u32* table;   // [seqs][pages]
    const u32* row_seq; // [rows]
    const u32* positions;
    f32* raw;     // scratch: [rows at most][(heads + 2 kv_heads) * head_dim]
    u32* tickets; // [row passes][heads + 2 kv_heads], zero before and after
    u64 page_stride; // elements from a page to the next
    u32 heads;
    u32 kv_heads;
    u32 head_dim;
    u32 k;
    u32 rope_dims;
    u32 rope_pairs; // 0 adjacent, 1 halves
    u32 parts;      // bit 0 queries, bit 1 keys, bit 2 values
    f32 qk_eps;
};

/// `norm_gate_up_T`, `norm_head_T`, `norm_qkv_T`: norm and product in one launch, for up to 4 rows. `prepare` and the
/// product's own arguments are those of two launches; both `acts` are not used.
struct NormGateUpArgs {
    PrepareArgs prepare;
    GateUpArgs product;
};
struct NormHeadArgs {
    PrepareArgs prepare;
    HeadArgs product;
};
struct NormQkvArgs {
    PrepareArgs prepare;
    QkvArgs product;
};

/// `rope_table`: cosine and sine of each row's angles, times the magnitude.
struct RopeTableArgs {
    const StepHeader* step;
    const u32* positions;
    const f32* frequencies; // [half]
    f32* table;             // [rows][half][2]
    u32 half;
    f32 magnitude;
};

/// Some rows of one sequence that read its pages together.
struct AttendBlock {
    u32 first_row;
    u32 rows;
    u32 seq;
    u32 first_split; // splits of 256 positions in which any row sees something
    u32 splits;
    u32 last_position; // of all its rows
    u32 items_before;  // splits of all blocks before it
    u32 spare;
};

/// What `attend_plan` writes: how a step's rows are cut. Followed by up to `rows` blocks.
struct AttendPlan {
    u32 blocks;
    u32 items; // splits of all blocks
    u32 spare0, spare1;
};

/// `attend_plan`: once a step for each window and each count of rows that go together.
struct AttendPlanArgs {
    const StepHeader* step;
    const u32* positions;
    const u32* row_seq;
    AttendPlan* plan;
    u32 window;     // 0: all positions
    u32 block_rows; // rows of a block at most: max(1, 24 / (heads / kv_heads))
};

/// `attend`: attention over pages.
struct AttendArgs {
    const StepHeader* step;
    const AttendPlan* plan;
    const f32* q;   // [rows][heads][head_dim]
    const u16* kv;  // f16 pool of the layer, page 0
    const u32* table;
    const u32* positions;
    const f32* sinks; // [heads] or null
    f32* out;         // [rows][heads][head_dim] or null
    void* acts_out;   // the result prepared for the next product, or null
    f32* partials;    // split mode: [rows at most][heads][splits at most][head_dim + 2]
    u32* tickets;     // split mode: [rows at most][heads], zero before and after
    u64 page_stride;  // elements from a page to the next
    u32 heads;
    u32 kv_heads;
    u32 head_dim;
    u32 window; // 0: all positions
    f32 scale;
    f32 soft_cap;   // 0: none
    u32 max_splits; // there is room for; 0: one thread block walks all splits of its rows (prefill)
    u32 acts_kind;  // of acts_out: ACT_Q8 or ACT_BF16; ACT_NONE without
};

/// `embed_T`: rows of a packed table, decoded.
struct EmbedArgs {
    const StepHeader* step;
    const void* w;  // packed [n][k]
    const u32* ids; // [count]
    f32* out;       // [count][k]
    u32 n;
    u32 k;
    u32 per;    // ids for each unit of the symbol
    u32 symbol; // count of ids: per * header[symbol]
};

/// `sample`: a token per output row by the chain of `ir::sampling`.
struct SampleArgs {
    const StepHeader* step;
    const f32* logits; // [outs][n]
    const f32* params; // [outs][7]
    const u32* noise;  // [outs][4]
    const i32* recent; // [outs][recent]
    const f32* bias;   // [outs][n]; read only if FLAG_BIAS
    u64* keys;         // scratch: [outs at most][n]
    u32* tokens;       // [outs]
    u32 n;
    u32 spare;
};

/// `verify`: accepted drafts and the next token of each sequence.
struct VerifyArgs {
    const StepHeader* step;
    const u32* sampled; // [outs]
    const u32* drafts;  // [outs]
    const u32* spans;   // [seqs][2]: first row, drafts
    u32* accepted;      // [seqs]
    u32* next;          // [seqs]
};

/// A task of a burst: a launch of a lowered plan.
struct BurstTask {
    u32 kernel; // which of those that the burst was compiled for
    u32 flags;  // TASK_*
    u64 args[46];
};
/// All of its work is block 0's.
#define TASK_SOLO 1u
/// What comes after it reads results of other blocks.
#define TASK_BARRIER 2u

/// A plan that verifies drafts of one sequence, and where it reads and writes what differs from step to step.
struct BurstProgram {
    const BurstTask* tasks;
    StepHeader* step;
    u32* tokens;         // [rows]
    u32* positions;      // [rows]
    u32* noise;          // [rows][4], or null: nothing is sampled
    i32* recent;         // [rows][recent], or null
    u32* spans;          // [2]
    u32* lens;           // [1]
    const u32* accepted; // [1]
    const u32* next;     // [1]
    u32 count;           // of tasks
    u32 rows;            // of a step at most
};

/// What the host reads while a burst runs and after it, in memory of the host.
struct BurstMail {
    u32 count;  // tokens so far; each is there before the count that has it
    u32 end;    // 0 while it runs, then END_*; the last thing that is written
    u32 steps;
    u32 drafts; // how many the next step would have tried
    u32 stop;   // written by the host: end after this step
    u32 spare0, spare1, spare2;
};
#define END_BUDGET 1u
#define END_TOKEN 2u
#define END_STOPPED 3u

/// `burst`: steps of one sequence until a condition ends them, in one launch of blocks that are all there at once.
struct BurstArgs {
    BurstProgram few;  // for steps of few rows
    BurstProgram many; // for all others
    u32* history;      // [capacity + rows of a step]: prompt and output; the last token has not run
    u32* index;        // [2][entries]: ends of runs of LONG_RUN and of SHORT_RUN tokens, by hash
    const u32* stops;  // [stop_count]: tokens that end the output
    u32* barrier;      // a counter, zero before the launch
    u32* program;      // which program the step under way runs
    BurstMail* mail;
    u32* out;     // [budget] in memory of the host: the tokens
    u32* taken;   // [budget] in memory of the host: of each step drafts + 65536 * accepted drafts
    u32 entries;  // a power of two
    u32 length;   // tokens of the history
    u32 reserved; // positions with pages
    u32 budget;   // tokens at most, at least 1
    u32 most;     // drafts of a step at most; 0: a plain loop
    u32 first;    // drafts that the first step tries
    u32 stop_count;
    u32 pages; // width of the page table
    u32 recent;   // tokens that penalties look back on; 0 without penalties
    u32 seed_low;
    u32 seed_high;
    u32 choice;
};

/// A dimension: `value` times the header's count.
struct Dim {
    u32 value;
    u32 symbol;
};
#define MAX_RANK 8

/// Element types of the op kernels.
enum Element { EL_F32 = 0, EL_F16 = 1, EL_BF16 = 2, EL_I32 = 3, EL_U32 = 4, EL_I8 = 5, EL_U8 = 6, EL_BOOL = 7 };

/// A tensor of an op kernel, row-major.
struct Tensor {
    void* data; // null: absent
    u32 element;
    u32 rank;
    Dim dims[MAX_RANK];
};

/// Codes of `op_map`, one output element from one element of each operand (broadcasting).
enum MapCode {
    MAP_COPY, MAP_NEG, MAP_SILU, MAP_GELU, MAP_RELU, MAP_TANH, MAP_SIGMOID, MAP_EXP, MAP_LOG, MAP_SQRT, MAP_RSQRT,
    MAP_SIN, MAP_COS, MAP_ADD, MAP_SUB, MAP_MUL, MAP_DIV, MAP_MIN, MAP_MAX, MAP_EQ, MAP_NE, MAP_LT, MAP_LE, MAP_GT,
    MAP_GE, MAP_SELECT, MAP_CAST, MAP_FILL, MAP_IOTA
};

/// `op_map`: element-wise ops. MAP_COPY is `broadcast` and `reshape`, MAP_CAST converts, MAP_SELECT takes c ? a : b.
struct MapArgs {
    const StepHeader* step;
    Tensor out;
    Tensor a;
    Tensor b;
    Tensor c;
    u32 code;
    f32 value; // MAP_FILL
};

/// `op_gather`: slices of the first dimension of x picked by index; those out of range are zeros.
struct GatherArgs {
    const StepHeader* step;
    Tensor out; // index shape, then the rest of x's
    Tensor x;
    Tensor index;
};

/// `op_copy`: a box of x to a box of out. Element i of the box is `i[d] + to[d]` in out and, in x's dimension `perm[d]`,
/// `i[d] + from[d]`. Slices and transposed tensors are boxes of out's size, parts of a concatenation of x's.
struct CopyArgs {
    const StepHeader* step;
    Tensor out;
    Tensor x;
    Dim from[MAX_RANK];
    Dim to[MAX_RANK];
    u32 perm[MAX_RANK];
    u32 box_of_x; // 0: the box has out's sizes, 1: x's, permuted
    u32 spare;
};

/// `op_scatter`: a copy of x whose slices at the indices are replaced; the last one wins.
struct ScatterArgs {
    const StepHeader* step;
    Tensor out;
    Tensor x;
    Tensor index;
    Tensor updates;
};

/// `op_matmul`: x times the transpose of a plain matrix `[n][k]`, or of `[experts][n][k]`, summed in f32 by one warp.
struct MatmulArgs {
    const StepHeader* step;
    Tensor out;
    Tensor x;
    Tensor w;
    Tensor experts; // which matrix for each row of x, or absent
};

/// `op_rope`: rotation of each head of each row.
struct RopeArgs {
    const StepHeader* step;
    const f32* x;    // [rows][heads][head_dim]
    const f32* rope; // table of `rope_table`
    f32* out;        // like x, may be x
    u32 heads;
    u32 head_dim;
    u32 rope_dims;
    u32 rope_pairs; // 0 adjacent, 1 halves
};

/// `op_page_write`: keys and values of the rows to their pages.
struct PageWriteArgs {
    const StepHeader* step;
    const f32* k; // [rows][kv_heads][head_dim]
    const f32* v;
    u16* kv; // f16 pool of the layer, page 0
    const u32* table;
    const u32* row_seq;
    const u32* positions;
    u64 page_stride;
    u32 kv_heads;
    u32 head_dim;
};

/// Codes of `op_fold`.
enum FoldCode { FOLD_SUM, FOLD_MAX, FOLD_MIN, FOLD_MEAN, FOLD_CUMSUM };

/// `op_fold`: a dimension folded to 1, or its running sum.
struct FoldArgs {
    const StepHeader* step;
    Tensor out;
    Tensor x;
    u32 code;
    u32 axis;
};

/// `op_top_k`: the k largest of the last dimension, by rank.
struct TopKArgs {
    const StepHeader* step;
    Tensor values;
    Tensor indices; // u32
    Tensor x;       // floats
    u32 k;
    u32 spare;
};

/// Codes of `op_rows`, which work along the last dimension.
enum RowsCode { ROWS_RMS_NORM, ROWS_LAYER_NORM, ROWS_SOFTMAX, ROWS_ARGMAX };

/// `op_rows`: norms, softmax, arg-max (out is u32 without the last dimension).
struct RowsArgs {
    const StepHeader* step;
    Tensor out;
    Tensor x;
    const f32* weight; // or null
    const f32* bias;   // or null
    u32 code;
    f32 eps;
};

/// `probe_read`, `probe_int8`, `probe_bf16`: what the device can do at best.
struct ProbeArgs {
    const void* from; // probe_read: what is read
    u32* sink;        // one word
    u64 count;        // runs of 16 bytes that all blocks read, or rounds of 8 products of each warp
    u32 never;        // a result that does not come, but for one time in 2^32, and then does no harm
    u32 spare;
};
