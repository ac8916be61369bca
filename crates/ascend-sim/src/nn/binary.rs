//! Operators on two tensors with broadcasting, and on a tensor and a scalar.

use super::arg::{Num, Tensor};
use super::shape::want_dims;
use crate::task::Error;
use crate::tensor::exec::Plan;
use crate::tensor::memory::Values;
use crate::tensor::view::{View, broadcast_dims};

type Float = fn(f32, f32) -> f32;
type Int = fn(i64, i64) -> i64;

/// A binary operator in its two forms.
#[derive(Clone, Copy)]
struct Op {
    name: &'static str,
    float: Float,
    int: Int,
}

const ADD: Op = Op { name: "add", float: |a, b| a + b, int: i64::wrapping_add };
const SUB: Op = Op { name: "sub", float: |a, b| a - b, int: i64::wrapping_sub };
const MUL: Op = Op { name: "mul", float: |a, b| a * b, int: i64::wrapping_mul };
const DIV: Op = Op { name: "div", float: |a, b| a / b, int: |a, b| if b == 0 { 0 } else { a.wrapping_div(b) } };
const POW: Op = Op { name: "pow", float: f32::powf, int: |a, b| a.wrapping_pow(u32::try_from(b).unwrap_or(0)) };
const EQ: Op = Op { name: "equal", float: |a, b| f32::from(u8::from(a == b)), int: |a, b| i64::from(a == b) };
const GT: Op = Op { name: "greater", float: |a, b| f32::from(u8::from(a > b)), int: |a, b| i64::from(a > b) };

fn apply(op: Op, a: Values, b: Values) -> Values {
    match (a, b) {
        (Values::Int(a), Values::Int(b)) => Values::Int(a.into_iter().zip(b).map(|(a, b)| (op.int)(a, b)).collect()),
        (a, b) => {
            let (a, b) = (to_float(a), to_float(b));
            Values::Float(a.into_iter().zip(b).map(|(a, b)| (op.float)(a, b)).collect())
        }
    }
}

fn to_float(values: Values) -> Vec<f32> {
    match values {
        Values::Float(x) => x,
        Values::Int(x) => x.into_iter().map(|x| x as f32).collect(),
    }
}

fn scale(values: Values, by: Num) -> Values {
    match values {
        x if by.float == 1.0 => x,
        Values::Int(x) if by.float == by.int as f64 => {
            Values::Int(x.into_iter().map(|x| x.wrapping_mul(by.int)).collect())
        }
        x => Values::Float(to_float(x).into_iter().map(|x| x * by.float as f32).collect()),
    }
}

const ONE: Num = Num { float: 1.0, int: 1, dtype: None };

fn binary(op: Op, a: &View, b: &View, alpha: Num, out: &View) -> Result<Plan, Error> {
    let dims = broadcast_dims(&a.dims, &b.dims)?;
    want_dims("out", out, &dims)?;
    let (wide_a, wide_b) = (a.broadcast(&dims)?, b.broadcast(&dims)?);
    let mut plan = Plan::new(op.name);
    let (i, j, o) = (plan.input("self", a), plan.input("other", b), plan.output("out", out));
    Ok(plan.run(1, move |memory| {
        // The addresses may have been set anew since.
        let at = |slot, wide: &View| View { addr: memory.view(slot).addr, ..wide.clone() };
        let (a, b) = (memory.values_of(&at(i, &wide_a)), memory.values_of(&at(j, &wide_b)));
        memory.put_values(o, &apply(op, a, scale(b, alpha)));
        Ok(())
    }))
}

fn with_scalar(op: Op, a: &View, b: Num, out: &View) -> Result<Plan, Error> {
    want_dims("out", out, &a.dims)?;
    let mut plan = Plan::new(op.name);
    let (i, o) = (plan.input("self", a), plan.output("out", out));
    let whole = b.dtype.is_some_and(|t| !t.is_float());
    Ok(plan.run(1, move |memory| {
        let values = match memory.values(i) {
            Values::Int(x) if whole => Values::Int(x.into_iter().map(|x| (op.int)(x, b.int)).collect()),
            x => Values::Float(to_float(x).into_iter().map(|x| (op.float)(x, b.float as f32)).collect()),
        };
        memory.put_values(o, &values);
        Ok(())
    }))
}

fn times(a: Num, b: Num) -> Num {
    let dtype = if a.dtype.is_none_or(|t| t.is_float()) { a.dtype } else { b.dtype };
    Num { float: a.float * b.float, int: a.int.wrapping_mul(b.int), dtype }
}

macro_rules! binary_ops {
    ($($name:ident $op:ident;)*) => {$(
        #[doc = concat!("Element-wise `", stringify!($name), "` with broadcasting.")]
        pub fn $name(this: Tensor, other: Tensor, out: Tensor) -> Result<Plan, Error> {
            binary($op, &this, &other, ONE, &out)
        }
    )*};
}

binary_ops! {
    mul MUL;
    div DIV;
    eq EQ;
}

macro_rules! inplace_ops {
    ($($name:ident $op:ident;)*) => {$(
        #[doc = concat!("In-place operator `", stringify!($name), "`.")]
        pub fn $name(this: Tensor, other: Tensor) -> Result<Plan, Error> {
            binary($op, &this, &other, ONE, &this)
        }
    )*};
}

inplace_ops! {
    inplace_mul MUL;
    inplace_div DIV;
    inplace_pow POW;
}

/// `self + alpha * other`.
pub fn add(this: Tensor, other: Tensor, alpha: Num, out: Tensor) -> Result<Plan, Error> {
    binary(ADD, &this, &other, alpha, &out)
}

/// `self - alpha * other`.
pub fn sub(this: Tensor, other: Tensor, alpha: Num, out: Tensor) -> Result<Plan, Error> {
    binary(SUB, &this, &other, alpha, &out)
}

/// `self += alpha * other`.
pub fn inplace_add(this: Tensor, other: Tensor, alpha: Num) -> Result<Plan, Error> {
    binary(ADD, &this, &other, alpha, &this)
}

/// `self -= alpha * other`.
pub fn inplace_sub(this: Tensor, other: Tensor, alpha: Num) -> Result<Plan, Error> {
    binary(SUB, &this, &other, alpha, &this)
}

/// `self * scalar`.
pub fn muls(this: Tensor, other: Num, out: Tensor) -> Result<Plan, Error> {
    with_scalar(MUL, &this, other, &out)
}

/// `self *= scalar`.
pub fn inplace_muls(this: Tensor, other: Num) -> Result<Plan, Error> {
    with_scalar(MUL, &this, other, &this)
}

/// `self /= scalar`.
pub fn inplace_divs(this: Tensor, other: Num) -> Result<Plan, Error> {
    with_scalar(DIV, &this, other, &this)
}

/// `self += alpha * scalar`.
pub fn inplace_adds(this: Tensor, other: Num, alpha: Num) -> Result<Plan, Error> {
    with_scalar(ADD, &this, times(other, alpha), &this)
}

/// `self -= alpha * scalar`.
pub fn inplace_subs(this: Tensor, other: Num, alpha: Num) -> Result<Plan, Error> {
    with_scalar(SUB, &this, times(other, alpha), &this)
}

/// `self > scalar`.
pub fn gts(this: Tensor, other: Num, out: Tensor) -> Result<Plan, Error> {
    with_scalar(GT, &this, other, &out)
}
