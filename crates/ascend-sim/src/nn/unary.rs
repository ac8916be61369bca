//! Operators on one tensor, element by element.

use super::arg::{MaybeNum, Num, Tensor};
use super::shape::{want_dims, want_float};
use crate::task::Error;
use crate::tensor::exec::Plan;
use crate::tensor::memory::Values;
use crate::tensor::refuse::invalid;
use crate::tensor::view::View;

/// A float operator: reads `from`, writes `to`.
fn float(
    name: &'static str,
    from: &View,
    to: &View,
    ops: u64,
    f: impl Fn(f32) -> f32 + Send + Sync + 'static,
) -> Result<Plan, Error> {
    want_float("out", to)?;
    want_dims("out", to, &from.dims)?;
    let mut plan = Plan::new(name);
    let (i, o) = (plan.input("self", from), plan.output("out", to));
    Ok(plan.run(ops, move |memory| {
        let values: Vec<f32> = memory.floats(i).into_iter().map(&f).collect();
        memory.put(o, &values);
        Ok(())
    }))
}

/// An operator with a float and an integer form.
fn either(
    name: &'static str,
    from: &View,
    to: &View,
    f: impl Fn(f32) -> f32 + Send + Sync + 'static,
    g: impl Fn(i64) -> i64 + Send + Sync + 'static,
) -> Result<Plan, Error> {
    want_dims("out", to, &from.dims)?;
    let mut plan = Plan::new(name);
    let (i, o) = (plan.input("self", from), plan.output("out", to));
    Ok(plan.run(1, move |memory| {
        let values = match memory.values(i) {
            Values::Float(x) => Values::Float(x.into_iter().map(&f).collect()),
            Values::Int(x) => Values::Int(x.into_iter().map(&g).collect()),
        };
        memory.put_values(o, &values);
        Ok(())
    }))
}

/// `1 / (1 + exp(-x))`.
pub fn sigmoid_of(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The error function, to f32 precision: a series near zero and a continued fraction away from it, in f64.
fn erf(x: f32) -> f32 {
    let t = f64::from(x).abs();
    if t.is_nan() || t > 6.0 {
        return if t.is_nan() { x } else { x.signum() };
    }
    let near = || {
        let (mut term, mut sum, mut n) = (t, t, 0.0);
        while term.abs() > 1e-18 {
            n += 1.0;
            term *= -t * t / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    };
    let far = || {
        let fraction = (1..=60).rev().fold(t, |f, k| t + f64::from(k) / 2.0 / f);
        1.0 - (-t * t).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    (if t < 2.5 { near() } else { far() }) as f32 * x.signum()
}

fn gelu_erf(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// GELU by the tanh approximation.
pub fn gelu_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh())
}

macro_rules! unary {
    ($($name:ident $ops:literal $f:expr;)*) => {$(
        #[doc = concat!("Element-wise `", stringify!($name), "`.")]
        pub fn $name(this: Tensor, out: Tensor) -> Result<Plan, Error> {
            float(stringify!($name), &this, &out, $ops, $f)
        }
    )*};
}

unary! {
    cos 8 f32::cos;
    sin 8 f32::sin;
    exp 4 f32::exp;
    log 4 f32::ln;
    sqrt 2 f32::sqrt;
    tanh 6 f32::tanh;
    sigmoid 4 sigmoid_of;
    silu 5 |x| x * sigmoid_of(x);
    gelu 8 gelu_tanh;
    hardsigmoid 3 |x| (x / 6.0 + 0.5).clamp(0.0, 1.0);
    hardswish 4 |x| x * ((x + 3.0).clamp(0.0, 6.0) / 6.0);
}

macro_rules! in_place {
    ($($name:ident = $of:ident;)*) => {$(
        #[doc = concat!("`", stringify!($of), "` in place.")]
        pub fn $name(this: Tensor) -> Result<Plan, Error> {
            $of(this.clone(), this)
        }
    )*};
}

in_place! {
    inplace_cos = cos;
    inplace_sin = sin;
    inplace_exp = exp;
}

macro_rules! unary_either {
    ($($name:ident $f:expr, $g:expr;)*) => {$(
        #[doc = concat!("Element-wise `", stringify!($name), "`, floats and integers.")]
        pub fn $name(this: Tensor, out: Tensor) -> Result<Plan, Error> {
            either(stringify!($name), &this, &out, $f, $g)
        }
    )*};
}

unary_either! {
    abs f32::abs, i64::wrapping_abs;
    neg |x: f32| -x, i64::wrapping_neg;
    relu |x: f32| if x > 0.0 || x.is_nan() { x } else { 0.0 }, |x| x.max(0);
    sign |x: f32| if x == 0.0 || x.is_nan() { x } else { x.signum() }, i64::signum;
}

/// GELU, exact (`approximate` 0) or by tanh (1).
pub fn gelu_v2(this: Tensor, approximate: i64, out: Tensor) -> Result<Plan, Error> {
    match approximate {
        0 => float("gelu", &this, &out, 10, gelu_erf),
        1 => float("gelu", &this, &out, 8, gelu_tanh),
        other => Err(invalid(format!("approximate is {other}, supported: 0, 1"))),
    }
}

/// `scale * (x > 0 ? x : alpha * (exp(input_scale * x) - 1))`.
pub fn elu(this: Tensor, alpha: Num, scale: Num, input_scale: Num, out: Tensor) -> Result<Plan, Error> {
    let (a, s, i) = (alpha.float as f32, scale.float as f32, input_scale.float as f32);
    float("elu", &this, &out, 6, move |x| s * if x > 0.0 { x } else { a * ((i * x).exp() - 1.0) })
}

/// `x > 0 ? x : slope * x`.
pub fn leaky_relu(this: Tensor, slope: Num, out: Tensor) -> Result<Plan, Error> {
    let slope = slope.float as f32;
    float("leaky_relu", &this, &out, 2, move |x| if x > 0.0 { x } else { slope * x })
}

/// `ln(1 + exp(beta * x)) / beta`, `x` above the threshold.
pub fn softplus(this: Tensor, beta: Num, threshold: Num, out: Tensor) -> Result<Plan, Error> {
    let (b, t) = (beta.float as f32, threshold.float as f32);
    float("softplus", &this, &out, 8, move |x| if b * x > t { x } else { (b * x).exp().ln_1p() / b })
}

/// Limits values to a range; a missing limit does not bind.
pub fn clamp(this: Tensor, low: MaybeNum, high: MaybeNum, out: Tensor) -> Result<Plan, Error> {
    let (fl, fh) = (low.map(|s| s.float as f32), high.map(|s| s.float as f32));
    let (il, ih) = (low.map(|s| s.int), high.map(|s| s.int));
    let f = move |x: f32| {
        let x = fl.map_or(x, |l| if x < l { l } else { x });
        fh.map_or(x, |h| if x > h { h } else { x })
    };
    let g = move |x: i64| {
        let x = il.map_or(x, |l| x.max(l));
        ih.map_or(x, |h| x.min(h))
    };
    either("clamp", &this, &out, f, g)
}

/// Limits values from below.
pub fn clamp_min(this: Tensor, low: Num, out: Tensor) -> Result<Plan, Error> {
    clamp(this, Some(low), None, out)
}

/// Limits values from above, in place.
pub fn inplace_clamp_max(this: Tensor, high: Num) -> Result<Plan, Error> {
    clamp(this.clone(), None, Some(high), this)
}

/// Replaces values at or below the threshold, in place.
pub fn inplace_threshold(this: Tensor, threshold: Num, value: Num) -> Result<Plan, Error> {
    let (t, v) = (threshold.float as f32, value.float as f32);
    either(
        "threshold",
        &this,
        &this,
        move |x| if x > t { x } else { v },
        move |x| if x > threshold.int { x } else { value.int },
    )
}

/// `base ^ x` with a scalar base.
pub fn pow_scalar_tensor(base: Num, exponent: Tensor, out: Tensor) -> Result<Plan, Error> {
    float("pow", &exponent, &out, 8, move |x| (base.float as f32).powf(x))
}

/// Converts to another element type.
pub fn cast(this: Tensor, dtype: i32, out: Tensor) -> Result<Plan, Error> {
    if dtype != out.dtype.acl() {
        return Err(invalid(format!("dtype {dtype} is not that of out ({})", out.dtype)));
    }
    want_dims("out", &out, &this.dims)?;
    let mut plan = Plan::new("cast");
    let (i, o) = (plan.input("self", &this), plan.output("out", &out));
    Ok(plan.run(1, move |memory| {
        memory.put_values(o, &memory.values(i));
        Ok(())
    }))
}
