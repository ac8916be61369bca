//! The other forms of products: with an addend, of vectors and stacks, with rounded operands, with tiled int8 and int4
//! weights; and rotation of queries and keys in place.
#![allow(
    clippy::unwrap_used,
    clippy::macro_metavars_in_unsafe,
    reason = "a test's failure is its report; its macro calls C functions"
)]

mod nn_support;

use std::ffi::{CString, c_void};
use std::ptr::null;

use aio_ascend_sim::task::last_message;
use aio_ascend_sim::tensor::dtype::DType;
use aio_ascend_sim::tensor::half::{f16_to_f32, f32_to_f16};
use nn_support::*;

const NZ: i32 = 29;

#[test]
fn a_product_with_an_addend_scales_both() {
    let (m, k, n) = (3usize, 20usize, 7usize);
    let (c, x, w) = (noise(101, n), noise(102, m * k), noise(103, k * n));
    let row = Dev::floats(DType::F16, &[n as i64], &c);
    let left = Dev::floats(DType::F16, &[m as i64, k as i64], &x);
    let right = Dev::floats(DType::F16, &[k as i64, n as i64], &w);
    let out = Dev::empty(DType::F32, &[m as i64, n as i64]);
    let status = call!(
        aclnnAddmm,
        aclnnAddmmGetWorkspaceSize(row.handle, left.handle, right.handle, scalar(0.5), scalar(-2.0), out.handle, 0)
    );
    assert_eq!(status, 0, "{}", last_message());
    let want: Vec<f64> =
        product(&x, &w, m, k, n).iter().enumerate().map(|(e, p)| 0.5 * f64::from(c[e % n]) - 2.0 * p).collect();
    close(&out.read(), &want, 1e-5, "addmm");
}

#[test]
fn vectors_and_stacks_are_products_too() {
    let (x, w) = (noise(104, 2 * 3 * 16), noise(105, 2 * 16 * 5));
    let out = Dev::empty(DType::F32, &[3]);
    let (matrix, vector) = (Dev::floats(DType::F16, &[3, 16], &x[..48]), Dev::floats(DType::F16, &[16], &w[..16]));
    assert_eq!(call!(aclnnMv, aclnnMvGetWorkspaceSize(matrix.handle, vector.handle, out.handle, 0)), 0);
    close(&out.read(), &product(&x[..48], &w[..16], 3, 16, 1), 1e-5, "matrix times vector");
    let (a, b) = (Dev::floats(DType::F16, &[2, 3, 16], &x), Dev::floats(DType::F16, &[2, 16, 5], &w));
    let out = Dev::empty(DType::F32, &[2, 3, 5]);
    let want = [product(&x[..48], &w[..80], 3, 16, 5), product(&x[48..], &w[80..], 3, 16, 5)].concat();
    assert_eq!(call!(aclnnBatchMatMul, aclnnBatchMatMulGetWorkspaceSize(a.handle, b.handle, out.handle, 0)), 0);
    close(&out.read(), &want, 1e-5, "stacks");
    let row = Dev::floats(DType::F16, &[16], &x[..16]);
    let out = Dev::empty(DType::F32, &[2, 5]);
    assert_eq!(call!(aclnnMatmul, aclnnMatmulGetWorkspaceSize(row.handle, b.handle, out.handle, 0)), 0);
    let want = [product(&x[..16], &w[..80], 1, 16, 5), product(&x[..16], &w[80..], 1, 16, 5)].concat();
    close(&out.read(), &want, 1e-5, "vector times stack");
}

/// fp32 operands are kept, cut to fp16, or to the 11 bits of HF32, by the math type.
#[test]
fn the_math_type_says_how_fp32_operands_are_rounded() {
    // 24 bits of mantissa in every number, so that each rounding shows.
    let fine = |seed: u64, n: usize| noise(seed, n).iter().map(|x| x * 1.000_123_4 + 1e-5).collect::<Vec<f32>>();
    let (x, w) = (fine(106, 2 * 64), fine(107, 64 * 3));
    let (left, right) = (Dev::floats(DType::F32, &[2, 64], &x), Dev::floats(DType::F32, &[64, 3], &w));
    let run = |math: i8| {
        let out = Dev::empty(DType::F32, &[2, 3]);
        assert_eq!(call!(aclnnMm, aclnnMmGetWorkspaceSize(left.handle, right.handle, out.handle, math)), 0);
        out.read()
    };
    let cut = |v: &[f32], f: fn(f32) -> f32| v.iter().map(|&x| f(x)).collect::<Vec<_>>();
    let half = |x: f32| f16_to_f32(f32_to_f16(x));
    close(&run(0), &product(&x, &w, 2, 64, 3), 2e-6, "kept");
    close(&run(2), &product(&cut(&x, half), &cut(&w, half), 2, 64, 3), 2e-6, "fp16");
    let hf32 = |x: f32| f32::from_bits((x.to_bits() + 0x7ff + (x.to_bits() >> 12 & 1)) & !0xfff);
    let want = product(&cut(&x, hf32), &cut(&w, hf32), 2, 64, 3);
    for math in [1, 3] {
        close(&run(math), &want, 2e-6, "HF32");
    }
    assert_ne!(run(0), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_weight_that_must_be_tiled_gives_the_same_numbers() {
    let (m, k, n) = (3usize, 40usize, 24usize);
    let (x, w) = (noise(108, m * k), noise(109, k * n));
    let left = Dev::floats(DType::F16, &[m as i64, k as i64], &x);
    let dense = Dev::floats(DType::F16, &[k as i64, n as i64], &w);
    assert_eq!(call!(aclnnTransMatmulWeight, aclnnTransMatmulWeightGetWorkspaceSize(dense.handle)), 0);
    let tiled = describe(dense.addr(), DType::F16, &[k as i64, n as i64], None, NZ);
    let out = Dev::empty(DType::F32, &[m as i64, n as i64]);
    let status = call!(aclnnMatmulWeightNz, aclnnMatmulWeightNzGetWorkspaceSize(left.handle, tiled, out.handle, 0));
    assert_eq!(status, 0, "{}", last_message());
    close(&out.read(), &product(&x, &w, m, k, n), 1e-5, "tiled");
}

/// The order of a tiled matrix: tiles of 16 rows by 32 bytes, one column of tiles after the other.
#[test]
fn tiles_lie_column_by_column() {
    for (dtype, c0) in [(DType::F16, 16usize), (DType::I8, 32)] {
        let (rows, cols) = (20usize, 40usize);
        let numbers: Vec<f32> = (0..rows * cols).map(|i| (i % 120) as f32).collect();
        let matrix = if dtype == DType::F16 {
            Dev::floats(dtype, &[20, 40], &numbers)
        } else {
            Dev::padded(dtype, &[20, 40], &numbers.iter().map(|x| *x as u8).collect::<Vec<_>>(), 1 << 12)
        };
        assert_eq!(call!(aclnnTransMatmulWeight, aclnnTransMatmulWeightGetWorkspaceSize(matrix.handle)), 0);
        let padded = cols.div_ceil(c0) * c0 * 32;
        let flat = Dev { dims: vec![padded as i64], memory: matrix.memory.clone(), handle: matrix.handle, dtype };
        let got = flat.read();
        std::mem::forget(flat);
        for (e, x) in got.into_iter().take(padded).enumerate() {
            let (tile, row, col) = (e / (16 * c0), e / c0 % 16, e % c0);
            let (row, col) = (tile % 2 * 16 + row, tile / 2 * c0 + col);
            let want = if row < rows && col < cols { numbers[row * cols + col] } else { 0.0 };
            assert_eq!(x, want, "{dtype}: element {e} is row {row}, column {col}");
        }
    }
}

#[test]
fn quantised_weights_work_transposed_per_column_and_in_tiles() {
    let (m, k, n) = (2usize, 128usize, 32usize);
    let x = noise(110, m * k);
    let left = Dev::floats(DType::F16, &[m as i64, k as i64], &x);
    let numbers: Vec<i8> = (0..k * n).map(|i| (i * 37 % 251) as u8 as i8).collect();
    let columns: Vec<f32> = (0..n).map(|j| 0.0078125 * (1 + j % 4) as f32).collect();
    let groups: Vec<f32> = (0..2 * n).map(|j| 0.0078125 * (1 + j % 5) as f32).collect();
    let want = |scale: &dyn Fn(usize) -> f32| {
        let restored: Vec<f32> = (0..k * n).map(|e| f32::from(numbers[e]) * scale(e)).collect();
        product(&x, &restored, m, k, n)
    };
    let run = |weight: *const c_void, scale: &Dev, group: i32, want: &[f64], what: &str| {
        let (out, no) = (Dev::empty(DType::F16, &[m as i64, n as i64]), null());
        let status = call!(
            aclnnWeightQuantBatchMatmulV3,
            aclnnWeightQuantBatchMatmulV3GetWorkspaceSize(
                left.handle,
                weight,
                scale.handle,
                no,
                no,
                no,
                no,
                group,
                1,
                out.handle
            )
        );
        assert_eq!(status, 0, "{what}: {}", last_message());
        close(&out.read(), want, 0.01, what);
    };
    let per_column = Dev::floats(DType::F16, &[1, n as i64], &columns);
    let per_group = Dev::floats(DType::F16, &[2, n as i64], &groups);
    let whole = Dev::floats(DType::F16, &[1], &[0.0078125]);
    let dims = [k as i64, n as i64];
    let dense = Dev::ints(DType::I8, &dims, &numbers);
    let turned: Vec<i8> = (0..k * n).map(|e| numbers[e % k * n + e / k]).collect();
    let turned = Dev::ints(DType::I8, &[n as i64, k as i64], &turned);
    let across = describe(turned.addr(), DType::I8, &dims, Some(&[1, k as i64]), 2);
    for (weight, what) in [(dense.handle, "dense"), (across, "transposed")] {
        run(weight, &whole, 0, &want(&|_| 0.0078125), what);
        run(weight, &per_column, 0, &want(&|e| columns[e % n]), what);
        run(weight, &per_group, 64, &want(&|e| groups[e / n / 64 * n + e % n]), what);
    }
    assert_eq!(call!(aclnnTransMatmulWeight, aclnnTransMatmulWeightGetWorkspaceSize(dense.handle)), 0);
    let tiled = describe(dense.addr(), DType::I8, &dims, None, NZ);
    run(tiled, &per_column, 0, &want(&|e| columns[e % n]), "tiled");
    run(tiled, &per_group, 64, &want(&|e| groups[e / n / 64 * n + e % n]), "tiled");
}

/// An element's partner and the sign of the partner's part.
type Pairs<'a> = &'a dyn Fn(usize) -> (usize, f64);

/// One head vector turned by angles, in f64.
fn turn(x: &[f32], angles: &[f64], pairs: Pairs) -> Vec<f64> {
    let one = |i: usize| {
        let (partner, sign) = pairs(i);
        f64::from(x[i]) * angles[i].cos() + sign * f64::from(x[partner]) * angles[i].sin()
    };
    (0..x.len()).map(one).collect()
}

#[test]
fn queries_and_keys_are_turned_in_place_in_every_layout() {
    const D: usize = 8;
    let (batch, len, heads) = (2usize, 3usize, 2usize);
    let halves = |i: usize| if i < D / 2 { (i + D / 2, -1.0) } else { (i - D / 2, 1.0) };
    let neighbours = |i: usize| if i.is_multiple_of(2) { (i + 1, -1.0) } else { (i - 1, 1.0) };
    let quarters = |i: usize| {
        let (base, j) = (i / 4 * 4, i % 4);
        if j < 2 { (base + j + 2, -1.0) } else { (base + j - 2, 1.0) }
    };
    let modes: [(&str, Pairs); 3] = [("half", &halves), ("interleave", &neighbours), ("quarter", &quarters)];
    // Layouts: the dimensions of queries, of tables, and of which dimension the position is.
    let (b, s, n, d) = (batch as i64, len as i64, heads as i64, D as i64);
    let layouts = [
        (1, vec![b, s, n, d], vec![b, s, 1, d], 1usize),
        (2, vec![s, b, n, d], vec![s, b, 1, d], 0),
        (3, vec![b, n, s, d], vec![b, 1, s, d], 2),
        (4, vec![b * s, n, d], vec![b * s, 1, d], 0),
    ];
    for (layout, dims, table_dims, position) in layouts {
        for (mode, pairs) in modes {
            let size: i64 = dims.iter().product();
            let x = noise(111, size as usize);
            let (query, key) = (Dev::floats(DType::F32, &dims, &x), Dev::floats(DType::F32, &dims, &x));
            let inner: usize = dims[position + 1..dims.len() - 1].iter().product::<i64>() as usize;
            let place = |vector: usize| vector / inner % dims[position] as usize;
            let angle = |place: usize, i: usize| 0.2 * place as f64 + 0.05 * i as f64;
            let table_inner: usize = table_dims[position + 1..dims.len() - 1].iter().product::<i64>() as usize;
            let rows: i64 = table_dims.iter().product();
            let table = |f: fn(f64) -> f64| {
                let at = |e: usize| f(angle(e / D / table_inner % dims[position] as usize, e % D)) as f32;
                Dev::floats(DType::F32, &table_dims, &(0..rows as usize).map(at).collect::<Vec<_>>())
            };
            let (cos, sin, name) = (table(f64::cos), table(f64::sin), CString::new(mode).unwrap());
            let status = call!(
                aclnnApplyRotaryPosEmbV2,
                aclnnApplyRotaryPosEmbV2GetWorkspaceSize(
                    query.handle,
                    key.handle,
                    cos.handle,
                    sin.handle,
                    layout,
                    name.as_ptr()
                )
            );
            assert_eq!(status, 0, "{}", last_message());
            let want: Vec<f64> = x
                .chunks(D)
                .enumerate()
                .flat_map(|(v, head)| {
                    let angles: Vec<f64> = (0..D).map(|i| angle(place(v), i)).collect();
                    turn(head, &angles, pairs)
                })
                .collect();
            close(&query.read(), &want, 1e-6, &format!("query, layout {layout}, {mode}"));
            close(&key.read(), &want, 1e-6, &format!("key, layout {layout}, {mode}"));
        }
    }
}

#[test]
fn the_first_version_turns_halves() {
    let x = noise(112, 3 * 8);
    let dims = [1i64, 3, 1, 8];
    let tables = [noise(113, 24), noise(114, 24)].map(|t| Dev::floats(DType::F16, &dims, &t));
    let run = |version: u8| {
        let [query, key] = [&x, &x].map(|x| Dev::floats(DType::F16, &dims, x));
        let (q, k, cos, sin, half) =
            (query.handle, key.handle, tables[0].handle, tables[1].handle, CString::new("half").unwrap());
        let status = match version {
            1 => call!(aclnnApplyRotaryPosEmb, aclnnApplyRotaryPosEmbGetWorkspaceSize(q, k, cos, sin, 1)),
            _ => {
                let mode = half.as_ptr();
                call!(aclnnApplyRotaryPosEmbV2, aclnnApplyRotaryPosEmbV2GetWorkspaceSize(q, k, cos, sin, 1, mode))
            }
        };
        assert_eq!(status, 0, "{}", last_message());
        (query.read(), key.read())
    };
    assert_ne!(run(1).0, x);
    assert_eq!(run(1), run(2));
}

#[test]
fn an_int8_product_takes_tiled_weights() {
    let (m, k, n) = (3usize, 40usize, 36usize);
    let a: Vec<i8> = (0..m * k).map(|i| (i * 29 % 251) as u8 as i8).collect();
    let b: Vec<i8> = (0..k * n).map(|i| (i * 53 % 249) as u8 as i8).collect();
    let floats = |v: &[i8]| v.iter().map(|&x| f32::from(x)).collect::<Vec<_>>();
    let (x1, scale) = (Dev::ints(DType::I8, &[3, 40], &a), Dev::floats(DType::F32, &[1], &[1.0]));
    let bytes: Vec<u8> = b.iter().map(|&x| x as u8).collect();
    let x2 = Dev::padded(DType::I8, &[40, 36], &bytes, 1 << 12);
    let out = Dev::empty(DType::I32, &[3, 36]);
    let run = |weight: *const c_void| {
        let no = null();
        call!(
            aclnnQuantMatmulWeightNz,
            aclnnQuantMatmulWeightNzGetWorkspaceSize(
                x1.handle,
                weight,
                no,
                scale.handle,
                no,
                no,
                no,
                no,
                no,
                0,
                0,
                0,
                out.handle
            )
        )
    };
    assert_eq!(run(x2.handle), 161_002, "not tiled yet");
    assert_eq!(call!(aclnnTransMatmulWeight, aclnnTransMatmulWeightGetWorkspaceSize(x2.handle)), 0);
    let tiled = describe(x2.addr(), DType::I8, &[40, 36], None, NZ);
    assert_eq!(run(tiled), 0, "{}", last_message());
    close(&out.read(), &product(&floats(&a), &floats(&b), m, k, n), 0.0, "tiled");
}
