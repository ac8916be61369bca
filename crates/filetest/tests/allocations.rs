//! A decode step allocates nothing after the first step of its size.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_engine::{Dispatch, Engine, EngineOptions, OutputBuffer, Sampling, Sequence, Step, StepRow, StepWants};
use aio_filetest::tiny;
use aio_ir::DType;
use aio_ir::sampling::SampleParams;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system allocator with a counter.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is forwarded to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts allocations of decode steps at these positions, one row each.
fn decode(
    engine: &Engine,
    sequence: &mut Sequence,
    run: Range<usize>,
    sampling: &Sampling,
    out: &mut OutputBuffer,
) -> u64 {
    let recent = [1u32, 2, 3];
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for position in run {
        let wants = StepWants::Token { sampling, recent: &recent, bias: None };
        let rows = [StepRow { token: position as u32, sequence: 0, position, wants }];
        engine.step(Step { sequences: &mut [&mut *sequence], rows: &rows, drafts: &[] }, out).unwrap();
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// Runs as a whole process without a test harness, since that could allocate too, for example to record test times.
fn main() {
    let device = Arc::new(CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap());
    for dispatch in [Dispatch::Graph, Dispatch::Op] {
        check(Arc::clone(&device), dispatch);
    }
    println!("test decode_steps_allocate_nothing ... ok");
}

fn check(device: Arc<CpuDevice>, dispatch: Dispatch) {
    let options = EngineOptions { context: Some(192), prefill_rows: 32, dispatch, ..EngineOptions::default() };
    let engine = tiny::engine("llama-1b", DType::Q4_0, device, &options);
    let mut sequence = Sequence::new();
    engine.reserve(&mut sequence, 192).unwrap();
    let mut out = OutputBuffer::new();
    let greedy = Sampling::greedy();
    let params = SampleParams {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.9,
        min_p: 0.05,
        repeat_penalty: 1.1,
        ..SampleParams::GREEDY
    };
    let noisy = Sampling { params, seed: 5, ..Sampling::greedy() };
    for sampling in [greedy, noisy] {
        decode(&engine, &mut sequence, 0..3, &sampling, &mut out);
        let count = decode(&engine, &mut sequence, 3..150, &sampling, &mut out);
        assert_eq!(count, 0, "allocations in 147 steps, {dispatch:?}, temperature {}", sampling.params.temperature);
    }
    assert_eq!(engine.counters().step_allocations, 0);
}
