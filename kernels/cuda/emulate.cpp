//! The emulation as one shared library: the scheduler of fibers, all kernels, and what a host calls.
//!
//! Built as one translation unit, since shared memory and the view of a thread are per thread of the machine:
//! `c++ -std=c++17 -O2 -march=native -ffp-contract=off -fPIC -shared -pthread -DAIO_EMULATE emulate.cpp -o libaio_cuda_emulation.so`
//!
//! A host's thread runs one block at a time; blocks of a launch may be spread over several threads.
#include "device.cuh"

#include "fibers.h"
#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <thread>
#include <vector>

#include "mma_twins.h"

namespace emulate {

constexpr u32 MAX_THREADS = 1024;
constexpr u32 MAX_SHARED_BYTES = 232448;

/// In which order runnable threads go on.
enum Order : u32 { ASCENDING = 0, DESCENDING = 1, RANDOM = 2 };

enum class State { RUNS, AT_WARP, AT_BLOCK, DONE };

/// A copy that was begun.
struct Copy {
    void* to;
    const void* from;
    u32 bytes, group;
};

struct Fiber {
    Thread thread;
    State state;
    Context context;
    void* brings;
    const char* kind;
    std::vector<Copy> copies;
    u32 group;
};

/// One block under way, and what it takes to run one; kept by a thread of the host.
struct Machine {
    Context scheduler;
    std::vector<Fiber> fibers{MAX_THREADS};
    u8* stacks = map_stacks(MAX_THREADS);
    std::vector<u8> shared = std::vector<u8>(MAX_SHARED_BYTES + 2048);
    Fiber* running = nullptr;
    u32 threads = 0, at_block = 0, done = 0;
    u32 at_warp[MAX_THREADS / 32];
    void (*kernel)(const void*) = nullptr;
    const void* args = nullptr;
    u64 random = 1;
    u32 order = ASCENDING;
    const char* error = nullptr;
    const std::atomic<const char*>* launch_error = nullptr;
};
static thread_local Machine* machine = nullptr;
static const Entry* entries = nullptr;
static std::vector<const Entry*> table; // the same by number, for bursts

Entry::Entry(const char* name, size_t args_bytes, void (*run)(const void*))
    : name(name), args_bytes(args_bytes), run(run), next(entries) {
    entries = this;
}

/// A step of a generator of pseudo-random numbers (xorshift64, Marsaglia 2003).
static u32 random_below(Machine& m, u32 n) {
    m.random ^= m.random << 13;
    m.random ^= m.random >> 7;
    m.random ^= m.random << 17;
    return u32(m.random >> 33) % n;
}

/// Leaves the running fiber to the scheduler.
static void leave(State state) {
    Machine& m = *machine;
    m.running->state = state;
    switch_context(m.running->context, m.scheduler);
}

static void fiber_main() {
    machine->kernel(machine->args);
    machine->done++;
    leave(State::DONE);
}

void meet_warp(const char* kind, void* brings, void (*act)(Meeting&)) {
    Machine& m = *machine;
    Fiber& me = *m.running;
    me.brings = brings;
    me.kind = kind;
    u32 index = me.thread.thread.x / 32;
    if (++m.at_warp[index] < 32) return leave(State::AT_WARP);
    m.at_warp[index] = 0;
    Fiber* warp = &m.fibers[index * 32];
    Meeting meeting;
    for (u32 l = 0; l < 32; l++) {
        if (warp[l].kind != kind) m.error = "lanes of a warp meet at different places";
        meeting.brought[l] = warp[l].brings;
        warp[l].state = State::RUNS;
    }
    if (!m.error) act(meeting);
    leave(State::RUNS);
}

void meet_block() {
    Machine& m = *machine;
    m.at_block++;
    leave(State::AT_BLOCK);
}

void wait_for_other_blocks() {
    Machine& m = *machine;
    if (*m.launch_error) m.error = "a block waits for another one that failed";
    std::this_thread::yield();
    leave(State::RUNS);
}

void give_up(const char* error) {
    machine->error = error;
    leave(State::RUNS);
}

/// Some blocks come late to a task, in random order.
static void loiter(Machine& m) {
    if (m.order != RANDOM || view.thread->thread.x != 0 || random_below(m, 8)) return;
    std::this_thread::sleep_for(std::chrono::microseconds(random_below(m, 200)));
}

void run_task(u32 index, const void* args) {
    loiter(*machine);
    if (index < table.size()) return table[index]->run(args);
    give_up("no kernel of this number");
}

void copy_begin(void* to, const void* from, u32 bytes) {
    Fiber& f = *machine->running;
    std::memset(to, 0x5A, bytes);
    f.copies.push_back({to, from, bytes, f.group});
}
void copies_close() { machine->running->group++; }
void copies_wait(u32 groups) {
    Fiber& f = *machine->running;
    size_t landed = 0;
    while (landed < f.copies.size() && f.copies[landed].group + groups < f.group) {
        const Copy& c = f.copies[landed++];
        std::memcpy(c.to, c.from, c.bytes);
    }
    f.copies.erase(f.copies.begin(), f.copies.begin() + landed);
}

/// The threads of a warp, or the warps of a block, in the launch's order.
static void arrange(Machine& m, u32* list, u32 n) {
    for (u32 i = 0; i < n; i++) list[i] = m.order == DESCENDING ? n - 1 - i : i;
    if (m.order != RANDOM) return;
    for (u32 i = n; i > 1; i--) std::swap(list[i - 1], list[random_below(m, i)]);
}

/// Runs a warp's threads until none can go on, or, in random order, until another warp has its turn.
static bool run_warp(Machine& m, u32 warp) {
    Fiber* fibers = &m.fibers[warp * 32];
    u32 lanes[32];
    bool ran = false;
    for (bool again = true; again && !m.error;) {
        again = false;
        arrange(m, lanes, 32);
        for (u32 i = 0; i < 32; i++) {
            Fiber& f = fibers[lanes[i]];
            if (f.state != State::RUNS) continue;
            m.running = &f;
            view.thread = &f.thread;
            switch_context(m.scheduler, f.context);
            ran = again = true;
        }
        if (m.order == RANDOM && random_below(m, 4) == 0) break;
    }
    return ran;
}

/// Lets all threads go on from the block's barrier once none runs before it.
static bool open_barrier(Machine& m) {
    if (m.at_block == 0 || m.at_block + m.done < m.threads) return false;
    for (u32 t = 0; t < m.threads; t++) {
        if (m.fibers[t].state == State::AT_BLOCK) m.fibers[t].state = State::RUNS;
    }
    m.at_block = 0;
    return true;
}

constexpr u32 GUARD_BYTES = 1024;
constexpr u8 GARBAGE = 0xA5;

/// Whether a block wrote beyond the shared memory that its launch asked for.
static bool guard_is_broken(u32 shared_bytes) {
    const u8* guard = view.dynamic_shared + shared_bytes;
    for (u32 i = 0; i < GUARD_BYTES; i++) {
        if (guard[i] != GARBAGE) return true;
    }
    return false;
}

static void run_block(Machine& m, u32 threads, u32 shared_bytes, Index3 block) {
    m.threads = threads;
    m.at_block = m.done = 0;
    std::memset(m.at_warp, 0, sizeof m.at_warp);
    view.block = block;
    std::memset(view.dynamic_shared, GARBAGE, shared_bytes + GUARD_BYTES);
    for (u32 t = 0; t < threads; t++) {
        Fiber& f = m.fibers[t];
        f.thread = {{t, 0, 0}, t % 32};
        f.state = State::RUNS;
        f.copies.clear();
        f.group = 0;
        make_context(f.context, m.stacks + t * STACK_BYTES, fiber_main);
    }
    u32 warps[MAX_THREADS / 32];
    while (m.done < threads && !m.error) {
        bool ran = false;
        arrange(m, warps, threads / 32);
        for (u32 i = 0; i < threads / 32; i++) ran |= run_warp(m, warps[i]);
        if (!open_barrier(m) && !ran && m.done < threads) m.error = "threads wait for others that do not come";
    }
    if (guard_is_broken(shared_bytes)) m.error = "a write beyond the shared memory of the launch";
    for (u32 t = 0; t < threads && !m.error; t++) {
        if (!m.fibers[t].copies.empty() && m.fibers[t].copies[0].group >= m.fibers[t].group) {
            m.error = "a copy was begun and never closed";
        }
    }
}

static std::mutex spare_lock;
static std::vector<Machine*> spare;

static Machine* take_machine() {
    std::lock_guard<std::mutex> hold(spare_lock);
    if (spare.empty()) return new Machine;
    Machine* m = spare.back();
    spare.pop_back();
    return m;
}

/// A launch as the host asks for it.
struct Launch {
    const char* name;
    const void* args;
    u32 args_bytes;
    u32 grid[3];
    u32 threads;
    u32 shared_bytes;
    u32 order;
    u32 host_threads; // 0: a burst, whose blocks wait for one another: a thread for each
    u64 seed;
};

/// Blocks from `next` on until there are none left.
static void run_blocks(const Launch& l, void (*kernel)(const void*), std::atomic<u32>& next, std::atomic<const char*>& error) {
    Machine* m = take_machine();
    machine = m;
    m->kernel = kernel;
    m->args = l.args;
    m->order = l.order;
    m->error = nullptr;
    m->launch_error = &error;
    view.burst = l.host_threads == 0;
    auto shared = reinterpret_cast<uintptr_t>(m->shared.data()) + 63;
    view.dynamic_shared = reinterpret_cast<u8*>(shared & ~uintptr_t(63));
    view.grid = {l.grid[0], l.grid[1], l.grid[2]};
    view.block_size = {l.threads, 1, 1};
    u32 blocks = l.grid[0] * l.grid[1] * l.grid[2];
    for (u32 i = next++; i < blocks && !error; i = next++) {
        u32 b = l.order == DESCENDING ? blocks - 1 - i : i;
        m->random = (l.seed * 0x9E3779B97F4A7C15ull + b) | 1;
        run_block(*m, l.threads, l.shared_bytes, {b % l.grid[0], b / l.grid[0] % l.grid[1], b / l.grid[0] / l.grid[1]});
        const char* none = nullptr; // the first error counts
        if (m->error) error.compare_exchange_strong(none, m->error);
    }
    std::lock_guard<std::mutex> hold(spare_lock);
    spare.push_back(m);
}

static const Entry* find(const char* name) {
    const Entry* e = entries;
    while (e && std::strcmp(e->name, name) != 0) e = e->next;
    return e;
}

/// The kernels by number.
static void fill_table() {
    for (const Entry* e = entries; e; e = e->next) table.push_back(e);
}

static const char* launch(const Launch& l) {
    static std::once_flag filled;
    std::call_once(filled, fill_table);
    const Entry* e = find(l.name);
    if (!e) return "no kernel of this name";
    if (e->args_bytes != l.args_bytes) return "the arguments have another size";
    if (l.threads == 0 || l.threads % 32 || l.threads > MAX_THREADS) return "a block has whole warps, at most 1024 threads";
    if (l.shared_bytes > MAX_SHARED_BYTES) return "more shared memory than a block can have";
    std::atomic<u32> next{0};
    std::atomic<const char*> error{nullptr};
    std::vector<std::thread> helpers;
    u64 blocks = u64(l.grid[0]) * l.grid[1] * l.grid[2], threads = l.host_threads ? l.host_threads : blocks;
    for (u64 i = 1; i < threads && i < blocks; i++) {
        helpers.emplace_back([&] { run_blocks(l, e->run, next, error); });
    }
    run_blocks(l, e->run, next, error);
    for (std::thread& t : helpers) t.join();
    return error;
}

} // namespace emulate

/// Runs a kernel to its end. Null, or what went wrong.
extern "C" const char* aio_emulate_launch(const emulate::Launch* l) { return emulate::launch(*l); }

/// Kernel `index` of the table: its name (null past the end) and the bytes of its arguments.
extern "C" const char* aio_emulate_kernel(u32 index, u32* args_bytes) {
    const emulate::Entry* e = emulate::entries;
    while (e && index--) e = e->next;
    if (e) *args_bytes = u32(e->args_bytes);
    return e ? e->name : nullptr;
}

/// A field of an arguments' struct; the struct itself under the name "".
struct ArgsField {
    const char* type;
    const char* field;
    u32 offset, bytes;
};

#define SIZE(T) {#T, "", 0, sizeof(T)},
#define FIELD(T, F) {#T, #F, offsetof(T, F), sizeof(T::F)},
static const ArgsField args_fields[] = {
#include "fields.inc"
};

/// Field `index` of the table; null past the end.
extern "C" const ArgsField* aio_emulate_field(u32 index) {
    return index < sizeof args_fields / sizeof *args_fields ? &args_fields[index] : nullptr;
}

#include "attend.cu"
#include "burst.cu"
#include "choose.cu"
#include "embed.cu"
#include "fold.cu"
#include "gate_up.cu"
#include "head.cu"
#include "layout.cu"
#include "linear.cu"
#include "ops.cu"
#include "prepare.cu"
#include "probe.cu"
#include "qkv.cu"
#include "unfused.cu"
