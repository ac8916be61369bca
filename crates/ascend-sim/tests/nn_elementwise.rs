//! Element-wise operators against plain f64 functions, in fp16 and fp32, and their integer forms.
#![allow(
    clippy::unwrap_used,
    clippy::macro_metavars_in_unsafe,
    reason = "a test's failure is its report; its macro calls C functions"
)]

mod nn_support;

use std::ffi::c_void;

use aio_ascend_sim::tensor::dtype::DType;
use nn_support::*;

type Handle = *const c_void;
/// An operator: its name, a call on input and output, and the function.
type Unary = (&'static str, fn(Handle, Handle) -> i32, fn(f64) -> f64);

macro_rules! unary {
    ($($op:ident $first:ident [$($arg:expr),*] $f:expr;)*) => {
        &[$((stringify!($op), |x, y| call!($op, $first(x $(, $arg)*, y)), $f)),*]
    };
}

macro_rules! in_place {
    ($($op:ident $first:ident [$($arg:expr),*] $f:expr;)*) => {
        &[$((stringify!($op), |x, _| call!($op, $first(x $(, $arg)*)), $f)),*]
    };
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// The normal distribution's function by integration, which shares nothing with the operator.
fn gelu_exact(x: f64) -> f64 {
    let steps = 20_000;
    let width = x / f64::from(steps);
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let area: f64 = (0..steps).map(|i| density((f64::from(i) + 0.5) * width) * width).sum();
    x * (0.5 + area)
}

const OPERATORS: &[Unary] = unary! {
    aclnnAbs aclnnAbsGetWorkspaceSize [] f64::abs;
    aclnnNeg aclnnNegGetWorkspaceSize [] |x| -x;
    aclnnRelu aclnnReluGetWorkspaceSize [] |x| x.max(0.0);
    aclnnSign aclnnSignGetWorkspaceSize [] |x| if x == 0.0 { 0.0 } else { x.signum() };
    aclnnCos aclnnCosGetWorkspaceSize [] f64::cos;
    aclnnSin aclnnSinGetWorkspaceSize [] f64::sin;
    aclnnExp aclnnExpGetWorkspaceSize [] f64::exp;
    aclnnTanh aclnnTanhGetWorkspaceSize [] f64::tanh;
    aclnnSigmoid aclnnSigmoidGetWorkspaceSize [] sigmoid;
    aclnnSilu aclnnSiluGetWorkspaceSize [] |x| x * sigmoid(x);
    aclnnGelu aclnnGeluGetWorkspaceSize [] gelu_tanh;
    aclnnGeluV2 aclnnGeluV2GetWorkspaceSize [0] gelu_exact;
    aclnnHardsigmoid aclnnHardsigmoidGetWorkspaceSize [] |x| (x / 6.0 + 0.5).clamp(0.0, 1.0);
    aclnnHardswish aclnnHardswishGetWorkspaceSize [] |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0;
    aclnnElu aclnnEluGetWorkspaceSize [scalar(1.5), scalar(2.0), scalar(0.5)]
        |x| 2.0 * if x > 0.0 { x } else { 1.5 * ((0.5 * x).exp() - 1.0) };
    aclnnLeakyRelu aclnnLeakyReluGetWorkspaceSize [scalar(0.125)] |x| if x > 0.0 { x } else { 0.125 * x };
    aclnnSoftplus aclnnSoftplusGetWorkspaceSize [scalar(2.0), scalar(5.0)]
        |x| if 2.0 * x > 5.0 { x } else { (2.0 * x).exp().ln_1p() / 2.0 };
    aclnnClamp aclnnClampGetWorkspaceSize [scalar(-0.5), scalar(0.75)] |x| x.clamp(-0.5, 0.75);
    aclnnClampMin aclnnClampMinGetWorkspaceSize [scalar(0.25)] |x| x.max(0.25);
    aclnnMuls aclnnMulsGetWorkspaceSize [scalar(-3.0)] |x| -3.0 * x;
};

const IN_PLACE: &[Unary] = in_place! {
    aclnnInplaceCos aclnnInplaceCosGetWorkspaceSize [] f64::cos;
    aclnnInplaceSin aclnnInplaceSinGetWorkspaceSize [] f64::sin;
    aclnnInplaceExp aclnnInplaceExpGetWorkspaceSize [] f64::exp;
    aclnnInplaceMuls aclnnInplaceMulsGetWorkspaceSize [scalar(0.5)] |x| 0.5 * x;
    aclnnInplaceDivs aclnnInplaceDivsGetWorkspaceSize [scalar(4.0)] |x| x / 4.0;
    aclnnInplaceAdds aclnnInplaceAddsGetWorkspaceSize [scalar(2.0), scalar(0.5)] |x| x + 1.0;
    aclnnInplaceSubs aclnnInplaceSubsGetWorkspaceSize [scalar(2.0), scalar(0.5)] |x| x - 1.0;
    aclnnInplaceClampMax aclnnInplaceClampMaxGetWorkspaceSize [scalar(0.5)] |x| x.min(0.5);
    aclnnInplaceThreshold aclnnInplaceThresholdGetWorkspaceSize [scalar(0.25), scalar(-1.0)]
        |x| if x > 0.25 { x } else { -1.0 };
    aclnnInplaceZero aclnnInplaceZeroGetWorkspaceSize [] |_| 0.0;
    aclnnInplaceFillScalar aclnnInplaceFillScalarGetWorkspaceSize [scalar(1.5)] |_| 1.5;
};

/// Inputs from about -4 to 4, with the values where the functions bend.
fn inputs() -> Vec<f32> {
    let mut x: Vec<f32> = noise(11, 90).into_iter().map(|x| 4.0 * x).collect();
    x.extend([0.0, 0.25, -0.5, 3.0, -3.0, 2.5]);
    x
}

#[test]
fn operators_on_one_tensor_agree_with_f64() {
    for dtype in [DType::F32, DType::F16, DType::Bf16] {
        let x = inputs();
        let bound = match dtype {
            DType::F32 => 3e-6,
            DType::F16 => 6e-4,
            _ => 5e-3,
        };
        for (name, call, f) in OPERATORS.iter().chain(IN_PLACE) {
            let from = Dev::floats(dtype, &[4, 24], &x);
            let want: Vec<f64> = from.read().iter().map(|&x| f(f64::from(x))).collect();
            let to = Dev::empty(dtype, &[4, 24]);
            assert_eq!(call(from.handle, to.handle), 0, "{name}: {}", aio_ascend_sim::task::last_message());
            let out = if IN_PLACE.iter().any(|o| o.0 == *name) { &from } else { &to };
            close(&out.read(), &want, bound, &format!("{name} {dtype}"));
        }
    }
}

#[test]
fn roots_and_logarithms_agree_with_f64() {
    let x: Vec<f32> = (1..=64).map(|i| i as f32 * 0.375).collect();
    let from = Dev::floats(DType::F32, &[64], &x);
    let out = Dev::empty(DType::F32, &[64]);
    assert_eq!(call!(aclnnSqrt, aclnnSqrtGetWorkspaceSize(from.handle, out.handle)), 0);
    close(&out.read(), &x.iter().map(|&x| f64::from(x).sqrt()).collect::<Vec<_>>(), 1e-6, "sqrt");
    assert_eq!(call!(aclnnLog, aclnnLogGetWorkspaceSize(from.handle, out.handle)), 0);
    close(&out.read(), &x.iter().map(|&x| f64::from(x).ln()).collect::<Vec<_>>(), 1e-6, "log");
    let base = scalar(1.5);
    assert_eq!(call!(aclnnPowScalarTensor, aclnnPowScalarTensorGetWorkspaceSize(base, from.handle, out.handle)), 0);
    close(&out.read(), &x.iter().map(|&x| 1.5f64.powf(f64::from(x))).collect::<Vec<_>>(), 2e-6, "pow");
}

/// An operator on two tensors with a result, or in place.
type Binary = (&'static str, fn(Handle, Handle, Handle) -> i32, fn(f64, f64) -> f64);

const PAIRS: &[Binary] = &[
    ("add", |a, b, o| call!(aclnnAdd, aclnnAddGetWorkspaceSize(a, b, scalar(0.5), o)), |a, b| a + 0.5 * b),
    ("sub", |a, b, o| call!(aclnnSub, aclnnSubGetWorkspaceSize(a, b, scalar(2.0), o)), |a, b| a - 2.0 * b),
    ("mul", |a, b, o| call!(aclnnMul, aclnnMulGetWorkspaceSize(a, b, o)), |a, b| a * b),
    ("div", |a, b, o| call!(aclnnDiv, aclnnDivGetWorkspaceSize(a, b, o)), |a, b| a / b),
];

const PAIRS_IN_PLACE: &[Binary] = &[
    ("add", |a, b, _| call!(aclnnInplaceAdd, aclnnInplaceAddGetWorkspaceSize(a, b, scalar(0.5))), |a, b| a + 0.5 * b),
    ("sub", |a, b, _| call!(aclnnInplaceSub, aclnnInplaceSubGetWorkspaceSize(a, b, scalar(2.0))), |a, b| a - 2.0 * b),
    ("mul", |a, b, _| call!(aclnnInplaceMul, aclnnInplaceMulGetWorkspaceSize(a, b)), |a, b| a * b),
    ("div", |a, b, _| call!(aclnnInplaceDiv, aclnnInplaceDivGetWorkspaceSize(a, b)), |a, b| a / b),
    (
        "pow",
        |a, b, _| call!(aclnnInplacePowTensorTensor, aclnnInplacePowTensorTensorGetWorkspaceSize(a, b)),
        |a, b| a.powf(b),
    ),
];

#[test]
fn operators_on_two_tensors_broadcast() {
    let (a, b) = (noise(21, 2 * 3 * 8), noise(22, 3));
    let positive = |x: &[f32]| x.iter().map(|x| x.abs() + 0.25).collect::<Vec<_>>();
    let (a, b) = (positive(&a), positive(&b));
    let (big, row) = (Dev::floats(DType::F32, &[2, 3, 8], &a), Dev::floats(DType::F32, &[3, 1], &b));
    let pair = |e: usize| (f64::from(a[e]), f64::from(b[e / 8 % 3]));
    for (name, call, f) in PAIRS {
        let out = Dev::empty(DType::F32, &[2, 3, 8]);
        assert_eq!(call(big.handle, row.handle, out.handle), 0, "{name}");
        close(&out.read(), &(0..48).map(|e| f(pair(e).0, pair(e).1)).collect::<Vec<_>>(), 1e-6, name);
        assert_eq!(call(row.handle, big.handle, out.handle), 0, "{name}, the first operand is broadcast");
        close(&out.read(), &(0..48).map(|e| f(pair(e).1, pair(e).0)).collect::<Vec<_>>(), 1e-6, name);
    }
    for (name, call, f) in PAIRS_IN_PLACE {
        let target = Dev::floats(DType::F32, &[2, 3, 8], &a);
        assert_eq!(call(target.handle, row.handle, target.handle), 0, "{name} in place");
        close(&target.read(), &(0..48).map(|e| f(pair(e).0, pair(e).1)).collect::<Vec<_>>(), 1e-6, name);
        assert_eq!(
            call(row.handle, target.handle, target.handle),
            161_002,
            "{name}: in place, the target keeps its shape"
        );
    }
}

#[test]
fn integers_stay_integers() {
    let a = Dev::ints(DType::I64, &[4], &[7i64, -7, 1 << 40, 0]);
    let b = Dev::ints(DType::I64, &[4], &[2i64, 2, 3, 5]);
    let words =
        |dev: &Dev| dev.bytes()[..32].chunks(8).map(|w| i64::from_le_bytes(w.try_into().unwrap())).collect::<Vec<_>>();
    let run = |call: &dyn Fn(Handle) -> i32| {
        let out = Dev::empty(DType::I64, &[4]);
        assert_eq!(call(out.handle), 0, "{}", aio_ascend_sim::task::last_message());
        words(&out)
    };
    let one = || {
        let mut value = 1i64;
        // SAFETY: an integer of type INT64.
        (unsafe { aio_ascend_sim::tensor::create::aclCreateScalar((&raw mut value).cast(), 9) }) as Handle
    };
    let sum = run(&|o| call!(aclnnAdd, aclnnAddGetWorkspaceSize(a.handle, b.handle, one(), o)));
    assert_eq!(sum, [9, -5, (1 << 40) + 3, 5], "beyond what a float holds");
    assert_eq!(run(&|o| call!(aclnnMul, aclnnMulGetWorkspaceSize(a.handle, b.handle, o))), [14, -14, 3 << 40, 0]);
    assert_eq!(run(&|o| call!(aclnnAbs, aclnnAbsGetWorkspaceSize(a.handle, o))), [7, 7, 1 << 40, 0]);
    assert_eq!(run(&|o| call!(aclnnNeg, aclnnNegGetWorkspaceSize(a.handle, o))), [-7, 7, -(1 << 40), 0]);
    assert_eq!(run(&|o| call!(aclnnSign, aclnnSignGetWorkspaceSize(a.handle, o))), [1, -1, 1, 0]);
    assert_eq!(run(&|o| call!(aclnnRelu, aclnnReluGetWorkspaceSize(a.handle, o))), [7, 0, 1 << 40, 0]);
}

#[test]
fn comparisons_give_ones_and_zeros() {
    let a = Dev::floats(DType::F16, &[4], &[1.0, 2.0, -1.0, 0.5]);
    let b = Dev::floats(DType::F16, &[4], &[1.0, 1.0, -1.0, 1.0]);
    let out = Dev::empty(DType::Bool, &[4]);
    assert_eq!(call!(aclnnEqTensor, aclnnEqTensorGetWorkspaceSize(a.handle, b.handle, out.handle)), 0);
    assert_eq!(out.read(), [1.0, 0.0, 1.0, 0.0]);
    assert_eq!(call!(aclnnGtScalar, aclnnGtScalarGetWorkspaceSize(a.handle, scalar(0.5), out.handle)), 0);
    assert_eq!(out.read(), [1.0, 1.0, 0.0, 0.0]);
}

#[test]
fn casts_round_as_the_target_type_does() {
    let x = [1.0f32, -2.75, 3.5, 65504.0, 65520.0, 1e-8, 0.1, 300.7];
    let from = Dev::floats(DType::F32, &[8], &x);
    let cast = |dtype: DType| {
        let out = Dev::empty(dtype, &[8]);
        assert_eq!(call!(aclnnCast, aclnnCastGetWorkspaceSize(from.handle, dtype.acl(), out.handle)), 0);
        out.read()
    };
    let half = cast(DType::F16);
    assert_eq!(half[..4], [1.0, -2.75, 3.5, 65504.0]);
    assert_eq!((half[4], half[5], half[6]), (f32::INFINITY, 0.0, 0.099_975_586), "overflow, underflow, nearest");
    assert_eq!(cast(DType::Bf16)[6], 0.100_097_656);
    assert_eq!(cast(DType::I32), [1.0, -2.0, 3.0, 65504.0, 65520.0, 0.0, 0.0, 300.0], "towards zero");
    let bools = cast(DType::Bool);
    assert_eq!(bools, [1.0; 8], "everything but zero is true");
    assert_eq!(call!(aclnnCast, aclnnCastGetWorkspaceSize(from.handle, 1, from.handle)), 161_002, "dtype is out's");
}

#[test]
fn views_with_strides_are_read_and_written_in_place() {
    let x = Dev::floats(DType::F32, &[3, 4], &(0..12).map(|i| i as f32).collect::<Vec<_>>());
    let columns = describe(x.addr(), DType::F32, &[3, 2], Some(&[4, 2]), 2);
    assert_eq!(call!(aclnnInplaceMuls, aclnnInplaceMulsGetWorkspaceSize(columns, scalar(10.0))), 0);
    assert_eq!(x.read(), [0.0, 1.0, 20.0, 3.0, 40.0, 5.0, 60.0, 7.0, 80.0, 9.0, 100.0, 11.0]);
    let turned = describe(x.addr(), DType::F32, &[4, 3], Some(&[1, 4]), 2);
    let out = Dev::empty(DType::F32, &[4, 3]);
    assert_eq!(call!(aclnnInplaceCopy, aclnnInplaceCopyGetWorkspaceSize(out.handle, turned)), 0);
    assert_eq!(out.read()[..6], [0.0, 40.0, 80.0, 1.0, 5.0, 9.0]);
}
