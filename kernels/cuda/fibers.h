//! Fibers of the emulation: stacks, and the switch from one to another.
//!
//! On x86-64 the switch is a dozen instructions, since a token of a small model takes millions of them; elsewhere, or with
//! AIO_EMULATE_UCONTEXT defined, it is that of the C library. Used by `emulate.cpp` alone.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <sys/mman.h>
#if defined(__x86_64__) && !defined(AIO_EMULATE_UCONTEXT)
#define AIO_OWN_SWITCH
#else
#include <ucontext.h>
#endif

namespace emulate {

constexpr size_t STACK_BYTES = 128 << 10;

#ifdef AIO_OWN_SWITCH
extern "C" void aio_switch_fiber(void** save_stack, void* to_stack);
asm(R"(
    .text
    .p2align 4
    .globl aio_switch_fiber
    .hidden aio_switch_fiber
    .type aio_switch_fiber, @function
aio_switch_fiber:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size aio_switch_fiber, .-aio_switch_fiber
)");

struct Context {
    void* stack_top = nullptr;
};

/// A context that will begin with `entry`, which never returns.
inline void make_context(Context& c, u8* stack, void (*entry)()) {
    auto top = reinterpret_cast<uintptr_t>(stack + STACK_BYTES) & ~uintptr_t(15);
    auto* words = reinterpret_cast<void**>(top) - 8;
    // Six registers, then where to return to; the stack is then as it is after a call.
    for (int i = 0; i < 6; i++) words[i] = nullptr;
    words[6] = reinterpret_cast<void*>(entry);
    words[7] = nullptr;
    c.stack_top = words;
}
inline void switch_context(Context& from, Context& to) { aio_switch_fiber(&from.stack_top, to.stack_top); }
#else
struct Context {
    ucontext_t context;
};
inline void make_context(Context& c, u8* stack, void (*entry)()) {
    getcontext(&c.context);
    c.context.uc_stack.ss_sp = stack;
    c.context.uc_stack.ss_size = STACK_BYTES;
    c.context.uc_link = nullptr;
    makecontext(&c.context, entry, 0);
}
inline void switch_context(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
#endif

/// Stacks of a block's threads; pages that are never touched take no memory.
inline u8* map_stacks(u32 count) {
    void* at = mmap(nullptr, count * STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) abort();
    return static_cast<u8*>(at);
}

} // namespace emulate
