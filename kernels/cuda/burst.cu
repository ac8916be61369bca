//! `burst`: many steps of one sequence in one launch, with no host in between. README, "Bursts", has the contract.
//!
//! Its blocks are all there at once and go through the launches of a lowered plan as tasks, with a barrier of the grid where
//! one needs what others wrote. As between launches, a task asks for its first weights before it waits. Block 0 drafts and
//! writes what a step binds before it, and after it takes the outcome, shows it to the host and decides whether to go on.
//!
//! Compiled for a model: `BURST_TASKS` names the kernels of its plans, which the number in a task picks. Without it, those of
//! the default model. Under emulation the number is that of the table of all kernels.
#ifndef AIO_EMULATE
#define AIO_BURST
#ifndef BURST_TASKS
#define FOR_EACH_FORMAT(KERNEL) KERNEL(q8_0, FormatQ8_0) KERNEL(q4_1, FormatQ4_1)
#define BURST_TASKS(TASK)                                                                                              \
    TASK(0, rope_table) TASK(1, attend_plan) TASK(2, embed_q8_0) TASK(3, norm_qkv_q4_1) TASK(4, attend)                \
    TASK(5, linear_q4_1) TASK(6, norm_gate_up_q4_1) TASK(7, norm_head_q8_0) TASK(8, sample) TASK(9, op_gather)         \
    TASK(10, verify) TASK(11, op_map) TASK(12, prepare_q8) TASK(13, qkv_q4_1) TASK(14, gate_up_q4_1) TASK(15, head_q8_0)
#endif
#include "attend.cu"
#include "choose.cu"
#include "embed.cu"
#include "fold.cu"
#include "gate_up.cu"
#include "head.cu"
#include "layout.cu"
#include "linear.cu"
#include "ops.cu"
#include "prepare.cu"
#include "qkv.cu"
#include "unfused.cu"
#endif
#include "drafts.cuh"

/// What block 0 knows of the burst.
struct BurstState {
    u32 length; // tokens of the history
    u32 count;  // tokens given to the host
    u32 steps;
    u32 tries;   // drafts that the next step tries
    u32 drafted; // drafts of the step under way
    u32 program; // its program, or PROGRAM_END
    u32 end;     // END_*
    u32 begun;   // whether a step is under way
};
#define PROGRAM_FEW 0u
#define PROGRAM_MANY 1u
#define PROGRAM_END 2u

__device__ inline const BurstProgram& program_of(const BurstArgs& a, u32 which) {
    return which == PROGRAM_FEW ? a.few : a.many;
}

/// Recent tokens of each row, as many as the last row has; those of shorter prefixes are filled up with what is no token.
__device__ inline u32 bind_recent(const BurstArgs& a, const BurstProgram& p, u32 length, u32 rows) {
    u32 width = p.recent ? least(a.recent, length + rows - 1) : 0;
    for (u32 i = threadIdx.x; i < rows * width; i += THREADS) {
        u32 prefix = length + i / width, own = least(width, prefix), place = i % width;
        p.recent[i] = place < own ? i32(a.history[prefix - own + place]) : -1;
    }
    return width;
}

/// Drafts, and writes what the step binds. Block 0 together.
__device__ inline void begin_step(const BurstArgs& a, BurstState& s) {
    u32 length = s.length, left = a.budget - s.count;
    // No more than tokens are wanted and positions have pages.
    u32 drafts = make_drafts(a, length, least(s.tries, least(left - 1, a.reserved - length))), rows = 1 + drafts;
    u32 which = rows <= a.few.rows ? PROGRAM_FEW : PROGRAM_MANY, row = threadIdx.x;
    const BurstProgram& p = program_of(a, which);
    if (row < rows) {
        p.tokens[row] = a.history[length - 1 + row];
        p.positions[row] = length - 1 + row;
    }
    if (row < rows && p.noise) {
        u32* noise = p.noise + 4 * row;
        noise[0] = a.seed_low, noise[1] = a.seed_high, noise[2] = a.choice, noise[3] = length - 1 + row;
    }
    u32 width = bind_recent(a, p, length, rows);
    if (threadIdx.x != 0) return;
    *p.step = StepHeader{rows, 1, rows, a.pages, width, 0, a.pages, 0};
    p.spans[0] = 0, p.spans[1] = drafts, p.lens[0] = length;
    s.drafted = drafts, s.program = which;
    *a.program = which;
}

__device__ inline bool ends_output(const BurstArgs& a, u32 token) {
    // Without a token nothing can go on; the host says why.
    bool found = token == NO_TOKEN;
    for (u32 i = 0; i < a.stop_count; i++) found = found || a.stops[i] == token;
    return found;
}

/// One lane: takes `taken` tokens over, tells the host, decides whether to go on. `told` is what the host wrote to
/// `mail.stop`, `stopped` whether the last token ends the output.
__device__ inline void go_on_or_end(const BurstArgs& a, BurstState& s, u32 taken, u32 accepted, bool stopped, u32 told) {
    a.taken[s.steps] = s.drafted | accepted << 16;
    s.length += taken, s.count += taken, s.steps += 1;
    s.tries = next_drafts(s.tries, s.drafted, accepted, a.most);
    if (stopped) s.end = END_TOKEN;
    else if (s.count == a.budget) s.end = END_BUDGET;
    else if (told) s.end = END_STOPPED;
    store_for_host(&a.mail->count, s.count);
    if (!s.end) return;
    a.mail->steps = s.steps, a.mail->drafts = s.tries;
    store_for_host(&a.mail->end, s.end);
}

/// The step's outcome: accepted drafts and the token after them, up to the end of the output. The first warp of block 0.
__device__ inline void end_step(const BurstArgs& a, BurstState& s) {
    const BurstProgram& p = program_of(a, s.program);
    // First of all, for it crosses the bus, a microsecond that all the rest hides in.
    u32 told = threadIdx.x == 0 ? load_from_host(&a.mail->stop) : 0;
    u32 lane = threadIdx.x, length = s.length, accepted = *p.accepted, token = *p.next;
    u32 taken = least(accepted + 1, a.budget - s.count);
    if (lane < accepted) token = a.history[length + lane];
    if (lane == accepted) a.history[length + lane] = token;
    u32 ends = __ballot_sync(ALL_LANES, lane < taken && ends_output(a, token));
    for (u32 i = taken; i-- > 0;) {
        if (ends >> i & 1) taken = i + 1;
    }
    if (lane < taken) a.out[s.count + lane] = token;
    __syncwarp();
    if (lane < taken && a.most > 0) note_runs(a, length + lane);
    __syncwarp();
    if (lane == 0) go_on_or_end(a, s, taken, accepted, ends != 0, told);
}

/// The task under way, in the block's shared memory.
__device__ inline BurstTask& task_under_way() {
    AIO_SHARED(BurstTask, task, 1);
    return task[0];
}

#ifdef AIO_EMULATE
__device__ inline void run_kernel(u32 kernel) { emulate::run_task(kernel, task_under_way().args); }
#else
/// The struct that a kernel takes.
template <class Args>
__device__ Args args_of(void (&)(const Args&));

#define TASK(N, KERNEL)                                                                                                \
    AIO_APART void run_##N() {                                                                                         \
        KERNEL(*reinterpret_cast<const decltype(args_of(KERNEL))*>(task_under_way().args));                            \
    }
BURST_TASKS(TASK)
#undef TASK

__device__ inline void run_kernel(u32 kernel) {
#define TASK(N, KERNEL) case N: return run_##N();
    switch (kernel) { BURST_TASKS(TASK) }
#undef TASK
}
#endif

/// The tasks that are left of a step, in shared memory: registers are the kernels'.
struct Tasks {
    const BurstTask* next;
    u32 left;
};

/// Takes the next task: false if there is none. The block together.
__device__ inline bool take_task(Tasks& tasks) {
    if (tasks.left == 0) return false;
    const u64* from = reinterpret_cast<const u64*>(tasks.next);
    u32 thread = thread_read_anew();
    if (thread < sizeof(BurstTask) / 8) reinterpret_cast<u64*>(&task_under_way())[thread] = from[thread];
    __syncthreads();
    if (thread == 0) tasks.next += 1, tasks.left -= 1;
    return true;
}

/// The tasks of a step. All blocks together.
__device__ inline void run_tasks(const BurstProgram& p) {
    AIO_SHARED(Tasks, tasks, 1);
    if (threadIdx.x == 0) tasks[0] = Tasks{p.tasks, p.count};
    __syncthreads();
    while (take_task(tasks[0])) {
        const BurstTask& task = task_under_way();
        if (blockIdx.x == 0 || !(task.flags & TASK_SOLO)) run_kernel(task.kernel);
        if (task.flags & TASK_BARRIER) come_to_grid_barrier();
        else __syncthreads();
    }
}

/// Block 0: what is between two steps.
AIO_APART void between_steps(const BurstArgs& a, BurstState& s) {
    if (s.begun && threadIdx.x < 32) end_step(a, s);
    __syncthreads();
    if (threadIdx.x == 0) s.begun = 1;
    if (!s.end) return begin_step(a, s);
    if (threadIdx.x == 0) *a.program = PROGRAM_END;
}

AIO_WHOLE_KERNEL(burst, BurstArgs) {
    AIO_SHARED(BurstState, state, 1);
    if (threadIdx.x == 0) {
        state[0] = BurstState{a.length, 0, 0, a.first, 0, PROGRAM_FEW, 0, 0};
        grid_barrier() = GridBarrier{a.barrier, 0, 0};
    }
    __syncthreads();
    if (a.most > 0) {
        build_index(a);
        come_to_grid_barrier();
        wait_for_grid_barrier();
    }
    for (;;) {
        if (blockIdx.x == 0) between_steps(a, state[0]);
        come_to_grid_barrier();
        wait_for_grid_barrier();
        u32 which = *a.program;
        if (which == PROGRAM_END) return;
        run_tasks(program_of(a, which));
        wait_for_grid_barrier();
    }
}
