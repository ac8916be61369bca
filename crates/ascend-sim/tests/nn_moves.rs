//! Operators that move elements: reads by index, writes by index into pages, cuts, joins, repetition, ranges.
#![allow(
    clippy::unwrap_used,
    clippy::macro_metavars_in_unsafe,
    reason = "a test's failure is its report; its macro calls C functions"
)]

mod nn_support;

use std::ffi::c_void;
use std::ptr::null_mut;

use aio_ascend_sim::nn::symbols;
use aio_ascend_sim::tensor::dtype::DType;
use aio_ascend_sim::tensor::exec::take;
use nn_support::*;

fn counting(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

#[test]
fn gathers_take_slices_of_any_dimension_by_an_index_of_any_shape() {
    let x = counting(2 * 4 * 3);
    let from = Dev::floats(DType::F32, &[2, 4, 3], &x);
    let index = [3i64, 0, -1, 2];
    let at = |d: usize, i: usize| if index[i] < 0 { [2, 4, 3][d] - 1 } else { index[i] as usize % [2, 4, 3][d] };
    let bounded = |d: usize| (0..4).map(|i| at(d, i) as i64).collect::<Vec<_>>();
    for d in 0..3 {
        let picks = Dev::ints(DType::I64, &[2, 2], &bounded(d));
        let mut dims = vec![2i64, 4, 3];
        dims.splice(d..=d, [2, 2]);
        let out = Dev::empty(DType::F32, &dims);
        let status =
            call!(aclnnGatherV2, aclnnGatherV2GetWorkspaceSize(from.handle, d as i64, picks.handle, out.handle));
        assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
        let inner: usize = [12, 3, 1][d];
        let n = [2, 4, 3][d];
        let want: Vec<f32> = (0..24 / (n * inner))
            .flat_map(|b| (0..4).flat_map(move |i| (0..inner).map(move |r| (b, i, r))))
            .map(|(b, i, r)| x[(b * n + at(d, i)) * inner + r])
            .collect();
        assert_eq!(out.read(), want, "dimension {d}");
    }
}

#[test]
fn rows_of_tables_are_selected_and_negative_indices_count_from_the_end() {
    let table = Dev::floats(DType::F16, &[5, 2], &counting(10));
    let picks = Dev::ints(DType::I32, &[3], &[4i32, -5, -1]);
    let out = Dev::empty(DType::F16, &[3, 2]);
    let want = [8.0, 9.0, 0.0, 1.0, 8.0, 9.0];
    assert_eq!(call!(aclnnIndexSelect, aclnnIndexSelectGetWorkspaceSize(table.handle, 0, picks.handle, out.handle)), 0);
    assert_eq!(out.read(), want);
    assert_eq!(call!(aclnnEmbedding, aclnnEmbeddingGetWorkspaceSize(table.handle, picks.handle, out.handle)), 0);
    assert_eq!(out.read(), want);
}

/// Plans a call and runs its task; gives the fault's code and message.
macro_rules! fault_of {
    ($op:ident, $first:ident($($arg:expr),*)) => {{
        let (mut bytes, mut executor) = (0u64, null_mut());
        // SAFETY: live results; all handles come from the library.
        assert_eq!(unsafe { symbols::$first($($arg,)* &mut bytes, &mut executor) }, 0);
        (take(stringify!($op), executor).unwrap().task(0).run)().unwrap_err()
    }};
}

#[test]
fn an_index_out_of_range_fails_on_the_device() {
    let table = Dev::floats(DType::F16, &[5, 2], &counting(10));
    let out = Dev::empty(DType::F16, &[1, 2]);
    for bad in [5i64, -6] {
        let pick = Dev::ints(DType::I64, &[1], &[bad]);
        let fault = fault_of!(aclnnEmbedding, aclnnEmbeddingGetWorkspaceSize(table.handle, pick.handle, out.handle));
        assert_eq!(fault.code, 507_015);
        assert!(fault.message.contains(&format!("index {bad} is out of range for 5 rows")), "{}", fault.message);
        let fault = fault_of!(
            aclnnInplaceIndexCopy,
            aclnnInplaceIndexCopyGetWorkspaceSize(table.handle, 0, pick.handle, out.handle)
        );
        assert_eq!(fault.code, 507_015);
    }
}

/// Pages (blocks, position, heads * size): one token's row goes to its slot in place, and nothing else changes.
#[test]
fn tokens_are_written_into_their_pages_in_place() {
    let (blocks, block, width) = (3usize, 4usize, 6usize);
    let before = noise(51, blocks * block * width);
    let rows = noise(52, 2 * width);
    let slots = [5usize, 11];
    let mut want = before.clone();
    for (i, slot) in slots.into_iter().enumerate() {
        want[slot * width..][..width].copy_from_slice(&rows[i * width..][..width]);
    }
    let dims = [blocks as i64, block as i64, width as i64];
    let updates = Dev::floats(DType::F16, &[2, width as i64], &rows);
    let flat = |pool: &Dev| describe(pool.addr(), DType::F16, &[12, width as i64], None, 2);

    let pool = Dev::floats(DType::F16, &dims, &before);
    let index = Dev::ints(DType::I64, &[2], &slots.map(|s| s as i64));
    let target = flat(&pool);
    let status =
        call!(aclnnInplaceIndexCopy, aclnnInplaceIndexCopyGetWorkspaceSize(target, 0, index.handle, updates.handle));
    assert_eq!((status, pool.read()), (0, want.clone()), "index copy");

    let pool = Dev::floats(DType::F16, &dims, &before);
    let pairs = Dev::ints(DType::I32, &[2, 2], &slots.map(|s| [(s / block) as i32, (s % block) as i32]).concat());
    let each = describe(updates.addr(), DType::F16, &[2, 1, width as i64], None, 2);
    let status = call!(
        aclnnInplaceScatterUpdate,
        aclnnInplaceScatterUpdateGetWorkspaceSize(pool.handle, pairs.handle, each, -2)
    );
    assert_eq!((status, pool.read()), (0, want.clone()), "scatter update by pairs of block and position");

    let pool = Dev::floats(DType::F16, &dims, &before);
    let status =
        call!(aclnnScatterNdUpdate, aclnnScatterNdUpdateGetWorkspaceSize(pool.handle, pairs.handle, updates.handle));
    assert_eq!((status, pool.read()), (0, want), "scatter by numbers of leading dimensions");
}

/// Pages (blocks, head, position, size): a token's row is strided in the pool.
#[test]
fn tokens_are_written_into_pages_with_heads_outermost() {
    let (blocks, heads, block, d) = (2usize, 3usize, 4usize, 2usize);
    let before = noise(53, blocks * heads * block * d);
    let row = noise(54, heads * d);
    let (page, position) = (1usize, 2usize);
    let mut want = before.clone();
    for (h, i) in (0..heads).flat_map(|h| (0..d).map(move |i| (h, i))) {
        want[((page * heads + h) * block + position) * d + i] = row[h * d + i];
    }
    let pool = Dev::floats(DType::F16, &[2, 3, 4, 2], &before);
    // The pool seen as (slot, head, size): slots of one page are `d` apart.
    let page_at = (pool.addr() as usize + page * heads * block * d * 2) as *mut c_void;
    let seen = describe(page_at, DType::F16, &[4, 3, 2], Some(&[2, 8, 1]), 2);
    let updates = Dev::floats(DType::F16, &[1, 3, 2], &row);
    let index = Dev::ints(DType::I64, &[1], &[position as i64]);
    let status =
        call!(aclnnInplaceIndexCopy, aclnnInplaceIndexCopyGetWorkspaceSize(seen, 0, index.handle, updates.handle));
    assert_eq!((status, pool.read()), (0, want));
}

#[test]
fn scatter_updates_start_where_each_batch_says() {
    let before = counting(2 * 3 * 5 * 2);
    let data = Dev::floats(DType::F32, &[2, 3, 5, 2], &before);
    let new: Vec<f32> = (0..2 * 3 * 2 * 2).map(|i| -1.0 - i as f32).collect();
    let updates = Dev::floats(DType::F32, &[2, 3, 2, 2], &new);
    let starts = Dev::ints(DType::I64, &[2], &[1i64, 3]);
    let status = call!(
        aclnnInplaceScatterUpdate,
        aclnnInplaceScatterUpdateGetWorkspaceSize(data.handle, starts.handle, updates.handle, 2)
    );
    assert_eq!(status, 0);
    let mut want = before;
    for (e, x) in new.into_iter().enumerate() {
        let (b, h, s, i) = (e / 12, e / 4 % 3, e / 2 % 2, e % 2);
        want[((b * 3 + h) * 5 + [1, 3][b] + s) * 2 + i] = x;
    }
    assert_eq!(data.read(), want);
    let past = Dev::ints(DType::I64, &[2], &[1i64, 4]);
    let fault = fault_of!(
        aclnnInplaceScatterUpdate,
        aclnnInplaceScatterUpdateGetWorkspaceSize(data.handle, past.handle, updates.handle, 2)
    );
    assert_eq!(fault.code, 507_015, "{}", fault.message);
}

#[test]
fn cuts_pads_rolls_and_tiles() {
    let x = Dev::floats(DType::F32, &[2, 5], &counting(10));
    let slice = |start, end, step, n| {
        let out = Dev::empty(DType::F32, &[2, n]);
        let status = call!(aclnnSlice, aclnnSliceGetWorkspaceSize(x.handle, 1, start, end, step, out.handle));
        assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
        out.read()
    };
    assert_eq!(slice(1, 4, 1, 3), [1.0, 2.0, 3.0, 6.0, 7.0, 8.0]);
    assert_eq!(slice(-4, 99, 2, 2), [1.0, 3.0, 6.0, 8.0]);
    let out = Dev::empty(DType::F32, &[3, 4]);
    let status = call!(
        aclnnConstantPadNd,
        aclnnConstantPadNdGetWorkspaceSize(x.handle, ints(&[-2, 1, 0, 1]), scalar(9.0), out.handle)
    );
    assert_eq!((status, out.read()), (0, vec![2.0, 3.0, 4.0, 9.0, 7.0, 8.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0]));
    let out = Dev::empty(DType::F32, &[2, 5]);
    let status = call!(aclnnRoll, aclnnRollGetWorkspaceSize(x.handle, ints(&[2, -1]), ints(&[1, 0]), out.handle));
    assert_eq!((status, out.read()), (0, vec![8.0, 9.0, 5.0, 6.0, 7.0, 3.0, 4.0, 0.0, 1.0, 2.0]));
    let out = Dev::empty(DType::F32, &[2, 2, 5]);
    assert_eq!(call!(aclnnRepeat, aclnnRepeatGetWorkspaceSize(x.handle, ints(&[2, 1, 1]), out.handle)), 0);
    assert_eq!(out.read(), [counting(10), counting(10)].concat());
}

#[test]
fn ranges_and_fills() {
    let range = |dtype, start, end, step, n| {
        let out = Dev::empty(dtype, &[n]);
        let status =
            call!(aclnnArange, aclnnArangeGetWorkspaceSize(scalar(start), scalar(end), scalar(step), out.handle));
        assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
        out.read()
    };
    assert_eq!(range(DType::F32, 1.0, 2.0, 0.25, 4), [1.0, 1.25, 1.5, 1.75]);
    assert_eq!(range(DType::I64, 5.0, 0.0, -2.0, 3), [5.0, 3.0, 1.0]);
    let x = Dev::floats(DType::F32, &[2, 3], &counting(6));
    let status = call!(
        aclnnInplaceIndexFillTensor,
        aclnnInplaceIndexFillTensorGetWorkspaceSize(x.handle, 1, ints(&[0, -1]), scalar(7.0))
    );
    assert_eq!((status, x.read()), (0, vec![7.0, 1.0, 7.0, 7.0, 4.0, 7.0]));
}
