//! Reductions, softmax, running sums, norms, sorting and the largest elements against plain f64 code.
#![allow(
    clippy::unwrap_used,
    clippy::macro_metavars_in_unsafe,
    reason = "a test's failure is its report; its macro calls C functions"
)]

mod nn_support;

use std::ffi::c_void;
use std::ptr::null;

use aio_ascend_sim::tensor::dtype::DType;
use nn_support::*;

/// Shape of the reduced tensors.
const DIMS: [usize; 3] = [2, 3, 5];

/// Values of a (2, 3, 5) tensor grouped by the dimensions that stay: for each result, what is reduced.
fn groups(x: &[f32], drop: &[usize]) -> Vec<Vec<f64>> {
    let mut out = std::collections::BTreeMap::<Vec<usize>, Vec<f64>>::new();
    for (e, &x) in x.iter().enumerate() {
        let index = [e / 15, e / 5 % 3, e % 5];
        let key = (0..3).filter(|d| !drop.contains(d)).map(|d| index[d]).collect();
        out.entry(key).or_default().push(f64::from(x));
    }
    out.into_values().collect()
}

fn shape(drop: &[usize], keep: bool) -> Vec<i64> {
    let size = |d: usize| match (drop.contains(&d), keep) {
        (true, true) => Some(1),
        (true, false) => None,
        _ => Some(DIMS[d] as i64),
    };
    (0..3).filter_map(size).collect()
}

#[test]
fn reductions_agree_with_f64_for_every_set_of_dimensions() {
    type Reduce = (&'static str, fn(*const c_void, &[i64], u8, *const c_void) -> i32, fn(&[f64]) -> f64);
    const SUM: Reduce = (
        "sum",
        |x, dims, keep, out| call!(aclnnReduceSum, aclnnReduceSumGetWorkspaceSize(x, ints(dims), keep, 0, out)),
        |run| run.iter().sum(),
    );
    const MEAN: Reduce = (
        "mean",
        |x, dims, keep, out| call!(aclnnMean, aclnnMeanGetWorkspaceSize(x, ints(dims), keep, 0, out)),
        |run| run.iter().sum::<f64>() / run.len() as f64,
    );
    const NORM: Reduce = (
        "norm 2",
        |x, dims, keep, out| call!(aclnnNorm, aclnnNormGetWorkspaceSize(x, scalar(2.0), ints(dims), keep, out)),
        |run| run.iter().map(|x| x * x).sum::<f64>().sqrt(),
    );
    const ABSOLUTE: Reduce = (
        "norm 1",
        |x, dims, keep, out| call!(aclnnNorm, aclnnNormGetWorkspaceSize(x, scalar(1.0), ints(dims), keep, out)),
        |run| run.iter().map(|x| x.abs()).sum(),
    );
    const LARGEST: Reduce = (
        "norm infinity",
        |x, dims, keep, out| {
            call!(aclnnNorm, aclnnNormGetWorkspaceSize(x, scalar(f32::INFINITY), ints(dims), keep, out))
        },
        |run| run.iter().fold(0.0, |top, x| top.max(x.abs())),
    );
    const CUBIC: Reduce = (
        "norm 3",
        |x, dims, keep, out| call!(aclnnNorm, aclnnNormGetWorkspaceSize(x, scalar(3.0), ints(dims), keep, out)),
        |run| run.iter().map(|x| x.abs().powi(3)).sum::<f64>().cbrt(),
    );
    let x = noise(31, 30);
    let from = Dev::floats(DType::F32, &DIMS.map(|n| n as i64), &x);
    for (name, call, f) in [SUM, MEAN, NORM, ABSOLUTE, LARGEST, CUBIC] {
        for dims in [&[0i64][..], &[1], &[-1], &[0, 2], &[2, 1], &[]] {
            let drop: Vec<usize> =
                if dims.is_empty() { vec![0, 1, 2] } else { dims.iter().map(|&d| d.rem_euclid(3) as usize).collect() };
            for keep in [0, 1] {
                let out = Dev::empty(DType::F32, &shape(&drop, keep == 1));
                assert_eq!(call(from.handle, dims, keep, out.handle), 0, "{}", aio_ascend_sim::task::last_message());
                let want: Vec<f64> = groups(&x, &drop).iter().map(|run| f(run)).collect();
                close(&out.read(), &want, 1e-6, &format!("{name} over {dims:?}"));
            }
        }
    }
    let out = Dev::empty(DType::F32, &[3, 5]);
    let twice = ints(&[0, -3]);
    assert_eq!(call!(aclnnReduceSum, aclnnReduceSumGetWorkspaceSize(from.handle, twice, 0, 0, out.handle)), 161_002);
}

#[test]
fn softmax_and_running_sums_go_along_their_dimension() {
    let x: &[f32] = &noise(32, 30).into_iter().map(|x| 30.0 * x).collect::<Vec<_>>();
    let from = Dev::floats(DType::F32, &[2, 3, 5], x);
    for (dim, stride, n) in [(0i64, 15usize, 2usize), (1, 5, 3), (-1, 1, 5)] {
        let run = |e: usize| {
            let first = e - e / stride % n * stride;
            (0..n).map(move |k| f64::from(x[first + k * stride])).collect::<Vec<_>>()
        };
        let out = Dev::empty(DType::F32, &[2, 3, 5]);
        assert_eq!(call!(aclnnSoftmax, aclnnSoftmaxGetWorkspaceSize(from.handle, dim, out.handle)), 0);
        let soft = |e: usize| {
            let run = run(e);
            let top = run.iter().copied().fold(f64::MIN, f64::max);
            let total: f64 = run.iter().map(|x| (x - top).exp()).sum();
            (run[e / stride % n] - top).exp() / total
        };
        close(&out.read(), &(0..30).map(soft).collect::<Vec<_>>(), 3e-6, "softmax");
        assert_eq!(call!(aclnnCumsum, aclnnCumsumGetWorkspaceSize(from.handle, dim, 0, out.handle)), 0);
        let sum = |e: usize| run(e)[..=e / stride % n].iter().sum();
        close(&out.read(), &(0..30).map(sum).collect::<Vec<_>>(), 1e-6, "cumsum");
    }
}

#[test]
fn layer_norm_gives_mean_zero_and_variance_one_then_scales_and_shifts() {
    let (rows, n) = (4, 30);
    let (x, weight, bias) = (noise(33, rows * n), noise(34, n), noise(35, n));
    let from = Dev::floats(DType::F16, &[4, 5, 6], &x);
    let (w, b) = (Dev::floats(DType::F16, &[5, 6], &weight), Dev::floats(DType::F16, &[5, 6], &bias));
    for given in [true, false] {
        let (scale, shift) = if given { (w.handle.cast_const(), b.handle.cast_const()) } else { (null(), null()) };
        let out = Dev::empty(DType::F16, &[4, 5, 6]);
        let (mean, rstd) = (Dev::empty(DType::F32, &[4, 1, 1]), Dev::empty(DType::F32, &[4, 1, 1]));
        let status = call!(
            aclnnLayerNorm,
            aclnnLayerNormGetWorkspaceSize(
                from.handle,
                ints(&[5, 6]),
                scale,
                shift,
                1e-5,
                out.handle,
                mean.handle,
                rstd.handle
            )
        );
        assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
        let (mut want, mut means, mut factors) = (Vec::new(), Vec::new(), Vec::new());
        for row in x.chunks(n) {
            let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
            let mean = row.iter().sum::<f64>() / n as f64;
            let factor = (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64 + 1e-5).sqrt().recip();
            let scaled = |k: usize| if given { f64::from(weight[k]) } else { 1.0 };
            let shifted = |k: usize| if given { f64::from(bias[k]) } else { 0.0 };
            want.extend((0..n).map(|k| (row[k] - mean) * factor * scaled(k) + shifted(k)));
            means.push(mean);
            factors.push(factor);
        }
        close(&out.read(), &want, 1e-3, "layer norm");
        close(&mean.read(), &means, 1e-6, "mean");
        close(&rstd.read(), &factors, 1e-5, "factor");
    }
    let status = call!(
        aclnnLayerNorm,
        aclnnLayerNormGetWorkspaceSize(from.handle, ints(&[6, 5]), null(), null(), 1e-5, from.handle, null(), null())
    );
    assert_eq!(status, 161_002, "the shape is that of the last dimensions");
}

#[test]
fn rms_norm_agrees_with_f64_and_gives_its_factors() {
    let (x, gamma) = (noise(36, 3 * 40), noise(37, 40));
    for (dtype, bound) in [(DType::F32, 2e-6), (DType::F16, 1e-3), (DType::Bf16, 8e-3)] {
        let (from, g) = (Dev::floats(dtype, &[3, 40], &x), Dev::floats(dtype, &[40], &gamma));
        let (out, rstd) = (Dev::empty(dtype, &[3, 40]), Dev::empty(DType::F32, &[3, 1]));
        let status =
            call!(aclnnRmsNorm, aclnnRmsNormGetWorkspaceSize(from.handle, g.handle, 1e-6, out.handle, rstd.handle));
        assert_eq!(status, 0);
        let (from, g) = (from.read(), g.read());
        let factor =
            |row: &[f32]| (row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 40.0 + 1e-6).sqrt().recip();
        let want: Vec<f64> = from
            .chunks(40)
            .flat_map(|row| (0..40).map(|k| f64::from(row[k]) * factor(row) * f64::from(g[k])).collect::<Vec<_>>())
            .collect();
        close(&out.read(), &want, bound, &format!("rms norm {dtype}"));
        close(&rstd.read(), &from.chunks(40).map(factor).collect::<Vec<_>>(), 1e-5, "factors");
    }
}

#[test]
fn sorting_is_stable_and_puts_nan_at_the_large_end() {
    let x = [3.0, 1.0, f32::NAN, 3.0, -2.0, 1.0];
    let from = Dev::floats(DType::F32, &[1, 6], &x);
    let out = Dev::empty(DType::I64, &[1, 6]);
    let sort = |descending: u8| {
        assert_eq!(call!(aclnnArgsort, aclnnArgsortGetWorkspaceSize(from.handle, 1, descending, out.handle)), 0);
        out.read()
    };
    assert_eq!(sort(0), [4.0, 1.0, 5.0, 0.0, 3.0, 2.0]);
    assert_eq!(sort(1), [2.0, 0.0, 3.0, 1.0, 5.0, 4.0]);
}

#[test]
fn sorting_along_the_first_dimension_sorts_columns() {
    let x = noise(38, 7 * 4);
    let from = Dev::floats(DType::F16, &[7, 4], &x);
    let out = Dev::empty(DType::I32, &[7, 4]);
    assert_eq!(call!(aclnnArgsort, aclnnArgsortGetWorkspaceSize(from.handle, 0, 0, out.handle)), 0);
    for column in 0..4 {
        let order: Vec<usize> = (0..7).map(|k| out.read()[k * 4 + column] as usize).collect();
        let sorted: Vec<f32> = order.iter().map(|&k| x[k * 4 + column]).collect();
        assert!(sorted.windows(2).all(|w| w[0] <= w[1]), "{sorted:?}");
        assert_eq!(order.iter().copied().collect::<std::collections::BTreeSet<_>>().len(), 7, "a permutation");
    }
}

#[test]
fn the_largest_and_smallest_elements_come_in_order_with_their_places() {
    let x = noise(39, 2 * 9 * 3);
    let from = Dev::floats(DType::F16, &[2, 9, 3], &x);
    for largest in [1u8, 0] {
        let (values, places) = (Dev::empty(DType::F16, &[2, 4, 3]), Dev::empty(DType::I64, &[2, 4, 3]));
        let status =
            call!(aclnnTopk, aclnnTopkGetWorkspaceSize(from.handle, 4, 1, largest, 1, values.handle, places.handle));
        assert_eq!(status, 0);
        for (b, i) in (0..2).flat_map(|b| (0..3).map(move |i| (b, i))) {
            let mut run: Vec<(f32, usize)> = (0..9).map(|k| (x[(b * 9 + k) * 3 + i], k)).collect();
            run.sort_by(|a, b| if largest == 1 { b.0.total_cmp(&a.0) } else { a.0.total_cmp(&b.0) });
            for (k, (value, place)) in run.into_iter().take(4).enumerate() {
                let at = (b * 4 + k) * 3 + i;
                assert_eq!((values.read()[at], places.read()[at]), (value, place as f32));
            }
        }
    }
    let status = call!(aclnnTopk, aclnnTopkGetWorkspaceSize(from.handle, 10, 1, 1, 1, from.handle, from.handle));
    assert_eq!(status, 161_002, "more than there are");
}

#[test]
fn the_largest_element_of_a_dimension_comes_with_its_place() {
    let x = [1.0, 5.0, 5.0, f32::NAN, 0.0, 9.0];
    let from = Dev::floats(DType::F32, &[2, 3], &x);
    let (values, places) = (Dev::empty(DType::F32, &[2, 1]), Dev::empty(DType::I32, &[2, 1]));
    let status = call!(aclnnMaxDim, aclnnMaxDimGetWorkspaceSize(from.handle, 1, 1, values.handle, places.handle));
    assert_eq!(status, 0);
    assert_eq!((values.read()[0], places.read()), (5.0, vec![1.0, 0.0]));
    assert!(values.read()[1].is_nan(), "NaN counts as the largest");
    let columns = Dev::empty(DType::I64, &[3]);
    let ordered = Dev::floats(DType::F32, &[2, 3], &[1.0, 5.0, 5.0, 2.0, 0.0, 9.0]);
    assert_eq!(call!(aclnnArgMax, aclnnArgMaxGetWorkspaceSize(ordered.handle, 0, 0, columns.handle)), 0);
    assert_eq!(columns.read(), [1.0, 0.0, 1.0]);
}

#[test]
fn triangles_keep_their_side_of_a_diagonal() {
    let x = noise(40, 2 * 4 * 5);
    let from = Dev::floats(DType::F32, &[2, 4, 5], &x);
    for diagonal in -3i64..=3 {
        let keep = |upper: bool| {
            let kept = move |e: usize| {
                let (row, col) = ((e / 5 % 4) as i64, (e % 5) as i64);
                if upper { col >= row + diagonal } else { col <= row + diagonal }
            };
            (0..40).map(|e| if kept(e) { x[e] } else { 0.0 }).collect::<Vec<_>>()
        };
        let out = Dev::empty(DType::F32, &[2, 4, 5]);
        assert_eq!(call!(aclnnTril, aclnnTrilGetWorkspaceSize(from.handle, diagonal, out.handle)), 0);
        assert_eq!(out.read(), keep(false));
        assert_eq!(call!(aclnnTriu, aclnnTriuGetWorkspaceSize(from.handle, diagonal, out.handle)), 0);
        assert_eq!(out.read(), keep(true));
        let target = Dev::floats(DType::F32, &[2, 4, 5], &x);
        assert_eq!(call!(aclnnInplaceTriu, aclnnInplaceTriuGetWorkspaceSize(target.handle, diagonal)), 0);
        assert_eq!(target.read(), keep(true));
    }
}
