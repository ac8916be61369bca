//! A step of a context allocates nothing, once one of its size has run.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

#[path = "common/host.rs"]
mod host;

use aio_capi::api::API;
use aio_capi::step::{Row, StepParams, WANT_TOKEN};
use aio_capi::verify::VerifyParams;
use bytemuck::Zeroable;
use host::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread asks for.
struct Counting;

// SAFETY: passes everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread in a call.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn steps_and_verifications_allocate_nothing() {
    let (_, engine) = engine(4);
    let (context, sequences) = (context(engine), [(); 3].map(|()| sequence(engine)));
    for &s in &sequences {
        append(context, s, &[1, 2, 3]);
    }
    let row = |sequence: u32, position: u32| Row { token: 7, sequence, position, want: WANT_TOKEN, ..Row::zeroed() };
    let step = |position: u32| {
        let rows = [row(0, position), row(1, position), row(2, position)];
        let params = StepParams {
            struct_size: size_of::<StepParams>() as u32,
            sequences: sequences.as_ptr(),
            n_sequences: 3,
            rows: rows.as_ptr(),
            n_rows: 3,
            ..StepParams::zeroed()
        };
        let mut out = outputs();
        // SAFETY: all pointers are of live values.
        assert_eq!(unsafe { (API.step)(context, &params, &mut out, std::ptr::null_mut()) }, 0);
    };
    step(3);
    step(4);
    assert_eq!(allocations(|| step(5)), 0);
    let drafts = [9, 9, 9];
    let verify = || {
        let params = VerifyParams {
            struct_size: size_of::<VerifyParams>() as u32,
            n_drafts: 3,
            token: 7,
            drafts: drafts.as_ptr(),
            ..VerifyParams::zeroed()
        };
        let (mut accepted, mut next) = (0, 0);
        // SAFETY: all pointers are of live values.
        let status =
            unsafe { (API.verify)(context, sequences[0], &params, &mut accepted, &mut next, std::ptr::null_mut()) };
        assert_eq!(status, 0);
    };
    verify();
    verify();
    assert_eq!(allocations(verify), 0);
    assert!(allocations(|| drop(Box::new(1))) > 0, "the counter counts");
}
