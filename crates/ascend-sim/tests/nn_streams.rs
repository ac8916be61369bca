//! Operators on streams: both phases through the runtime, capture and replay, task groups, memory that goes away.
#![allow(
    clippy::unwrap_used,
    clippy::macro_metavars_in_unsafe,
    reason = "a test's failure is its report; its macro calls C functions"
)]

mod nn_support;
mod rt_support;

use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};

use aio_ascend_sim::nn::symbols;
use aio_ascend_sim::rt::{graph, group, malloc, stream};
use aio_ascend_sim::tensor::create::aclDestroyTensor;
use aio_ascend_sim::tensor::dtype::DType;
use aio_ascend_sim::tensor::exec::{aclDestroyAclOpExecutor, aclSetAclOpExecutorRepeatable};
use aio_ascend_sim::tensor::half::{f16_to_f32, f32_to_f16};
use aio_ascend_sim::tensor::rebind::{aclSetInputTensorAddr, aclSetOutputTensorAddr};
use nn_support::{describe, ints, list, scalar};
use rt_support::*;

/// Device memory with fp16 numbers.
fn halves(values: &[f32]) -> Ptr {
    let at = device_memory(2 * values.len());
    write(at, values);
    at
}

fn write(at: Ptr, values: &[f32]) {
    for (i, x) in values.iter().enumerate() {
        // SAFETY: the block holds all values.
        unsafe { at.cast::<u16>().add(i).write(f32_to_f16(*x)) }
    }
}

fn read(at: Ptr, n: usize) -> Vec<f32> {
    // SAFETY: tests read as many numbers as they wrote.
    (0..n).map(|i| f16_to_f32(unsafe { at.cast::<u16>().add(i).read() })).collect()
}

/// The executor of a first phase, and the bytes it asks for.
macro_rules! plan {
    ($first:ident($($arg:expr),* $(,)?)) => {{
        let (mut bytes, mut executor) = (0u64, null_mut());
        // SAFETY: live results; all handles come from the library.
        ok(unsafe { symbols::$first($($arg,)* &mut bytes, &mut executor) });
        (bytes, executor)
    }};
}

/// The vectors of `n` numbers at two addresses: to = from * by.
fn muls(from: Ptr, by: f32, to: Ptr, n: i64, on: Ptr) -> i32 {
    let [x, y] = [from, to].map(|at| describe(at, DType::F16, &[n], None, 2));
    let (bytes, executor) = plan!(aclnnMulsGetWorkspaceSize(x, scalar(by), y));
    let status = symbols::aclnnMuls(null_mut(), bytes, executor, on);
    // As ggml does: tensors go as soon as the second phase has returned.
    assert_eq!((aclDestroyTensor(x), aclDestroyTensor(y)), (0, 0));
    status
}

#[test]
fn an_operator_runs_when_its_stream_does_with_the_values_of_that_time() {
    let _one = fresh();
    let (s, x, y) = (new_stream(), halves(&[1.0, 2.0]), halves(&[0.0, 0.0]));
    ok(muls(x, 3.0, y, 2, s));
    assert_eq!(read(y, 2), [0.0, 0.0]);
    write(x, &[5.0, 6.0]);
    ok(stream::synchronize_stream(s));
    assert_eq!(read(y, 2), [15.0, 18.0]);
}

#[test]
fn a_captured_chain_of_operators_computes_at_each_replay() {
    let _one = fresh();
    let (s, x, y, z) = (new_stream(), halves(&[1.0, 2.0]), halves(&[0.0; 2]), halves(&[0.0; 2]));
    ok(begin(s, 0));
    ok(muls(x, 2.0, y, 2, s));
    ok(muls(y, 5.0, z, 2, s));
    let (status, g) = end(s);
    ok(status);
    ok(stream::synchronize_stream(s));
    assert_eq!((read(y, 2), read(z, 2)), (vec![0.0; 2], vec![0.0; 2]), "the capture computes nothing");
    for values in [[1.0, 2.0], [3.0, -4.0]] {
        write(x, &values);
        ok(graph::execute_async(g, s));
        ok(stream::synchronize_stream(s));
        assert_eq!(read(z, 2), values.map(|x| 10.0 * x));
    }
    let counters = counters();
    assert_eq!((counters.replays, counters.tasks, counters.launches), (2, 4, 2));
}

#[test]
fn any_operator_may_be_in_a_task_group_and_its_update_must_be_of_the_same_kind() {
    let _one = fresh();
    let (s, upd, x, y) = (new_stream(), new_stream(), halves(&[1.0, 2.0]), halves(&[0.0; 2]));
    let mut handle = null_mut();
    ok(begin(s, 0));
    ok(group::group_begin(s));
    ok(muls(x, 2.0, y, 2, s));
    // SAFETY: a live result.
    ok(unsafe { group::group_end(s, &mut handle) });
    let (status, g) = end(s);
    ok(status);
    ok(group::update_begin(upd, handle));
    ok(muls(x, 7.0, y, 2, upd));
    ok(group::update_end(upd));
    ok(stream::synchronize_stream(upd));
    ok(graph::execute_async(g, s));
    ok(stream::synchronize_stream(s));
    assert_eq!(read(y, 2), [7.0, 14.0]);
    ok(group::update_begin(upd, handle));
    let x_tensor = describe(x, DType::F16, &[2], None, 2);
    let (bytes, executor) = plan!(aclnnInplaceZeroGetWorkspaceSize(x_tensor));
    ok(symbols::aclnnInplaceZero(null_mut(), bytes, executor, upd));
    refused(group::update_end(upd), 107_040, "the group has [\"mul\"]");
}

#[test]
fn an_executor_serves_one_call() {
    let _one = fresh();
    let (s, x) = (new_stream(), halves(&[1.0, 2.0]));
    let tensor = describe(x, DType::F16, &[2], None, 2);
    let (bytes, executor) = plan!(aclnnInplaceMulsGetWorkspaceSize(tensor, scalar(2.0)));
    ok(symbols::aclnnInplaceMuls(null_mut(), bytes, executor, s));
    refused(symbols::aclnnInplaceMuls(null_mut(), bytes, executor, s), 561_103, "used already");
    refused(symbols::aclnnInplaceMuls(null_mut(), 0, null_mut(), s), 161_001, "executor");
    refused(symbols::aclnnInplaceMuls(null_mut(), 0, 0x1234 as Ptr, s), 561_103, "not one of a first phase");
    let (bytes, other) = plan!(aclnnInplaceZeroGetWorkspaceSize(tensor));
    refused(symbols::aclnnInplaceMuls(null_mut(), bytes, other, s), 161_002, "belongs to aclnnInplaceZero");
    ok(stream::synchronize_stream(s));
    assert_eq!(read(x, 2), [2.0, 4.0]);
}

#[test]
fn a_repeatable_executor_serves_many_calls_with_new_addresses() {
    let _one = fresh();
    let (s, x, y) = (new_stream(), halves(&[1.0, 2.0]), halves(&[3.0, 4.0]));
    let (p, q) = (halves(&[0.0; 2]), halves(&[0.0; 2]));
    let [from, to] = [x, p].map(|at| describe(at, DType::F16, &[2], None, 2));
    let (bytes, executor) = plan!(aclnnNegGetWorkspaceSize(from, to));
    ok(aclSetAclOpExecutorRepeatable(executor));
    ok(symbols::aclnnNeg(null_mut(), bytes, executor, s));
    ok(aclSetInputTensorAddr(executor, 0, from, y));
    ok(aclSetOutputTensorAddr(executor, 0, to, q));
    refused(aclSetInputTensorAddr(executor, 1, from, y), 161_002, "no such input");
    ok(symbols::aclnnNeg(null_mut(), bytes, executor, s));
    ok(aclDestroyAclOpExecutor(executor));
    refused(symbols::aclnnNeg(null_mut(), bytes, executor, s), 561_103, "destroyed");
    ok(stream::synchronize_stream(s));
    assert_eq!((read(p, 2), read(q, 2)), (vec![-1.0, -2.0], vec![-3.0, -4.0]));
}

#[test]
fn an_operator_names_memory_that_is_freed_or_too_small() {
    let _one = fresh();
    let (s, x, y) = (new_stream(), halves(&[1.0, 2.0]), halves(&[0.0; 2]));
    ok(muls(x, 2.0, y, 2, s));
    ok(malloc::free(x));
    refused(stream::synchronize_stream(s), 507_015, "use after free");
    ok(muls(y, 2.0, y, 40, s));
    refused(stream::synchronize_stream(s), 507_015, "past the end");
    ok(muls(pinned(4), 2.0, y, 2, s));
    refused(stream::synchronize_stream(s), 507_015, "not device memory");
    ok(muls((y as usize + 1) as Ptr, 2.0, y, 1, s));
    refused(stream::synchronize_stream(s), 507_015, "not aligned");
}

/// One query of 16 zeros in TND over keys and values of two positions: the plan and its workspace.
fn attention(total: i64, memory: [Ptr; 3]) -> (i32, u64, *mut c_void) {
    let [q, kv, out] = memory;
    let query = describe(q, DType::F16, &[1, 1, 16], None, 2);
    let result = describe(out, DType::F16, &[1, 1, 16], None, 2);
    let cache = || list(&[describe(kv, DType::F16, &[2, 1, 16], None, 2)]);
    let (n, layout): (*const c_void, _) = (null(), CString::new("TND").unwrap());
    let (mut bytes, mut executor) = (0u64, null_mut());
    // SAFETY: live results; all handles come from the library.
    let status = unsafe {
        symbols::aclnnFusedInferAttentionScoreGetWorkspaceSize(
            query,
            cache(),
            cache(),
            n,
            n,
            ints(&[total]),
            ints(&[2]),
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            1,
            1.0,
            i64::MAX,
            i64::MAX,
            layout.as_ptr(),
            1,
            0,
            0,
            0,
            0,
            0,
            result,
            n,
            &mut bytes,
            &mut executor,
        )
    };
    (status, bytes, executor)
}

#[test]
fn attention_needs_its_workspace_alive_and_its_list_of_lengths_whole() {
    let _one = fresh();
    let (s, values) = (new_stream(), (0..32).map(|i| if i < 16 { 1.0 } else { 2.0 }).collect::<Vec<_>>());
    let memory = [halves(&[0.0; 16]), halves(&values), halves(&[0.0; 16])];
    let (status, ..) = attention(2, memory);
    refused(status, 561_002, "queryT(1) must be equal to the last element of actualSequenceLengthQ(2)");
    let again = || {
        let (status, bytes, executor) = attention(1, memory);
        ok(status);
        (bytes, executor)
    };
    let run = symbols::aclnnFusedInferAttentionScore;
    let (bytes, executor) = again();
    refused(run(null_mut(), bytes, executor, s), 161_001, "workspace");
    let (bytes, executor) = again();
    let space = device_memory(bytes as usize);
    refused(run(space, bytes - 1, executor, s), 161_002, "needs a workspace");
    let (_, executor) = again();
    ok(run(space, bytes, executor, s));
    ok(stream::synchronize_stream(s));
    assert_eq!(read(memory[2], 16), [1.5; 16]);
    let (_, executor) = again();
    ok(run(space, bytes, executor, s));
    ok(malloc::free(space));
    refused(stream::synchronize_stream(s), 507_015, "use after free");
}

#[test]
fn a_second_phase_needs_a_live_stream_of_this_context() {
    let _one = fresh();
    let (s, x) = (new_stream(), halves(&[1.0, 2.0]));
    ok(stream::destroy_stream(s));
    refused(muls(x, 2.0, x, 2, s), 107_017, "not a live stream");
    ok(muls(x, 2.0, x, 2, null_mut()));
    ok(stream::synchronize_device());
    assert_eq!(read(x, 2), [2.0, 4.0], "null is the default stream");
    let status = elsewhere(|| muls(8 as Ptr, 2.0, 8 as Ptr, 2, null_mut()));
    refused(status, 107_002, "no current context");
}

#[test]
fn an_operator_without_a_kernel_says_so_in_both_phases() {
    let _one = fresh();
    refused(symbols::aclnnIm2colGetWorkspaceSize(), 561_003, "aclnnIm2col is not implemented");
    refused(symbols::aclnnIm2col(null_mut(), 0, null_mut(), null_mut()), 561_003, "aclnnIm2col is not implemented");
}
