//! RMS normalisation, alone and with the residual addition before it.

use super::arg::{MaybeTensor, Tensor};
use super::matmul::stored;
use super::quant::{quantize_row, round_to_i8};
use super::shape::{same_type, want_dims, want_float, want_type};
use crate::task::Error;
use crate::tensor::dtype::DType;
use crate::tensor::exec::Plan;
use crate::tensor::memory::{Memory, Slot};
use crate::tensor::refuse::invalid;
use crate::tensor::view::View;

/// Sum of squares in a fixed order of eight partial sums.
fn sum_squares(row: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    for part in row.chunks(8) {
        part.iter().zip(&mut sums).for_each(|(x, s)| *s += x * x);
    }
    ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]))
}

/// Normalises rows; returns the result and the factor of each row.
pub fn normalise(x: &[f32], gamma: &[f32], epsilon: f32) -> (Vec<f32>, Vec<f32>) {
    let n = gamma.len().max(1);
    let mut out = Vec::with_capacity(x.len());
    let mut factors = Vec::with_capacity(x.len() / n);
    for row in x.chunks_exact(n) {
        let factor = 1.0 / (sum_squares(row) / n as f32 + epsilon).sqrt();
        factors.push(factor);
        out.extend(row.iter().zip(gamma).map(|(x, g)| x * factor * g));
    }
    (out, factors)
}

/// Checks `x` against `gamma` and returns the shape of the factors.
fn check(x: &View, gamma: &View, y: &View) -> Result<Vec<usize>, Error> {
    want_float("x", x)?;
    want_float("gamma", gamma)?;
    let lead = x.rank().checked_sub(gamma.rank()).filter(|&lead| gamma.rank() > 0 && x.dims[lead..] == gamma.dims);
    let lead =
        lead.ok_or_else(|| invalid(format!("gamma {:?} must be the last dimensions of x {:?}", gamma.dims, x.dims)))?;
    want_dims("yOut", y, &x.dims)?;
    Ok(x.dims.iter().enumerate().map(|(i, &n)| if i < lead { n } else { 1 }).collect())
}

fn want_factors(name: &str, view: &View, dims: &[usize]) -> Result<(), Error> {
    want_type(name, view, &[DType::F32])?;
    want_dims(name, view, dims)
}

/// `x * rsqrt(mean(x^2) + epsilon) * gamma`.
pub fn rms_norm(x: Tensor, gamma: Tensor, epsilon: f64, y: Tensor, rstd: MaybeTensor) -> Result<Plan, Error> {
    let dims = check(&x, &gamma, &y)?;
    same_type(("x", &x), ("yOut", &y))?;
    if let Some(rstd) = &rstd {
        want_factors("rstdOut", rstd, &dims)?;
    }
    let mut plan = Plan::new("rms_norm");
    let (i, g) = (plan.input("x", &x), plan.input("gamma", &gamma));
    let (o, r) = (plan.output("yOut", &y), plan.maybe_output("rstdOut", rstd.as_deref()));
    Ok(plan.run(4, move |memory| {
        let (out, factors) = normalise(&memory.floats(i), &memory.floats(g), epsilon as f32);
        memory.put(o, &out);
        r.into_iter().for_each(|r| memory.put(r, &factors));
        Ok(())
    }))
}

/// The common start of the forms with a residual: the sum is written, rounded to its type, and normalised as written.
struct AddNorm {
    x1: Slot,
    x2: Slot,
    gamma: Slot,
    sum: Slot,
    epsilon: f32,
}

impl AddNorm {
    fn run(&self, memory: &Memory) -> (Vec<f32>, Vec<f32>) {
        let dtype = memory.view(self.sum).dtype;
        let (a, b) = (memory.floats(self.x1), memory.floats(self.x2));
        let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| stored(dtype, a + b)).collect();
        memory.put(self.sum, &sum);
        normalise(&sum, &memory.floats(self.gamma), self.epsilon)
    }
}

fn check_add(x1: &View, x2: &View, gamma: &View, sum: &View, y: &View) -> Result<Vec<usize>, Error> {
    let dims = check(x1, gamma, y)?;
    for (name, view) in [("x2", x2), ("xOut", sum)] {
        want_dims(name, view, &x1.dims)?;
        same_type(("x1", x1), (name, view))?;
    }
    Ok(dims)
}

/// `x = x1 + x2`, then RMS normalisation of `x`.
pub fn add_rms_norm(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    epsilon: f64,
    y: Tensor,
    rstd: MaybeTensor,
    sum: Tensor,
) -> Result<Plan, Error> {
    let dims = check_add(&x1, &x2, &gamma, &sum, &y)?;
    same_type(("x1", &x1), ("yOut", &y))?;
    if let Some(rstd) = &rstd {
        want_factors("rstdOut", rstd, &dims)?;
    }
    let mut plan = Plan::new("add_rms_norm");
    let (x1, x2, gamma) = (plan.input("x1", &x1), plan.input("x2", &x2), plan.input("gamma", &gamma));
    let (o, r) = (plan.output("yOut", &y), plan.maybe_output("rstdOut", rstd.as_deref()));
    let call = AddNorm { x1, x2, gamma, sum: plan.output("xOut", &sum), epsilon: epsilon as f32 };
    Ok(plan.run(4, move |memory| {
        let (out, factors) = call.run(memory);
        memory.put(o, &out);
        r.into_iter().for_each(|r| memory.put(r, &factors));
        Ok(())
    }))
}

/// The same with a second result in fp32.
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn add_rms_norm_cast(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    epsilon: f64,
    y1: Tensor,
    y2: Tensor,
    rstd: Tensor,
    sum: Tensor,
) -> Result<Plan, Error> {
    want_factors("y1Out", &y1, &x1.dims)?;
    let dims = check_add(&x1, &x2, &gamma, &sum, &y2)?;
    want_factors("rstdOut", &rstd, &dims)?;
    let mut plan = Plan::new("add_rms_norm_cast");
    let (x1, x2, gamma) = (plan.input("x1", &x1), plan.input("x2", &x2), plan.input("gamma", &gamma));
    let (o1, o2, r) = (plan.output("y1Out", &y1), plan.output("y2Out", &y2), plan.output("rstdOut", &rstd));
    let call = AddNorm { x1, x2, gamma, sum: plan.output("xOut", &sum), epsilon: epsilon as f32 };
    Ok(plan.run(4, move |memory| {
        let (out, factors) = call.run(memory);
        let dtype = memory.view(o2).dtype;
        memory.put(o1, &out.iter().map(|&x| stored(dtype, x)).collect::<Vec<_>>());
        memory.put(o2, &out);
        memory.put(r, &factors);
        Ok(())
    }))
}

/// The same with the result quantised by given scales; a second set of scales gives a second result.
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn add_rms_norm_quant(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    scales1: Tensor,
    scales2: MaybeTensor,
    zero1: MaybeTensor,
    zero2: MaybeTensor,
    axis: i64,
    epsilon: f64,
    divide: bool,
    y1: Tensor,
    y2: MaybeTensor,
    sum: Tensor,
) -> Result<Plan, Error> {
    if axis != -1 {
        return Err(invalid(format!("axis is {axis}, supported: -1")));
    }
    check_add(&x1, &x2, &gamma, &sum, &y1)?;
    want_type("y1Out", &y1, &[DType::I8])?;
    for (name, view) in [
        ("scales1", Some(&scales1)),
        ("scales2", scales2.as_ref()),
        ("zeroPoints1", zero1.as_ref()),
        ("zeroPoints2", zero2.as_ref()),
    ] {
        view.map_or(Ok(()), |view| want_dims(name, view, &gamma.dims))?;
    }
    if let Some(y2) = &y2 {
        want_type("y2Out", y2, &[DType::I8])?;
        want_dims("y2Out", y2, &x1.dims)?;
    }
    let mut plan = Plan::new("add_rms_norm_quant");
    let (x1, x2, gamma) = (plan.input("x1", &x1), plan.input("x2", &x2), plan.input("gamma", &gamma));
    let sets = [(plan.input("scales1", &scales1), plan.output("y1Out", &y1))];
    let second = plan.maybe("scales2", scales2.as_deref());
    let zeros = [plan.maybe("zeroPoints1", zero1.as_deref()), plan.maybe("zeroPoints2", zero2.as_deref())];
    let o2 = plan.maybe_output("y2Out", y2.as_deref().filter(|_| second.is_some()));
    let call = AddNorm { x1, x2, gamma, sum: plan.output("xOut", &sum), epsilon: epsilon as f32 };
    Ok(plan.run(6, move |memory| {
        let (out, _) = call.run(memory);
        for (i, (scale, to)) in sets.into_iter().chain(second.zip(o2)).enumerate() {
            let scale = memory.floats(scale);
            let zero = zeros[i].map_or(vec![0.0; scale.len()], |slot| memory.floats(slot));
            let n = scale.len();
            let quantised = out.iter().enumerate().map(|(k, x)| {
                let scaled = if divide { x / scale[k % n] } else { x * scale[k % n] };
                round_to_i8(scaled + zero[k % n])
            });
            memory.put_ints(to, &quantised.collect::<Vec<_>>());
        }
        Ok(())
    }))
}

/// The same with the result quantised by the largest value of each row.
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn add_rms_norm_dynamic_quant(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    smooth1: MaybeTensor,
    smooth2: MaybeTensor,
    epsilon: f64,
    y1: Tensor,
    y2: MaybeTensor,
    sum: Tensor,
    scale1: Tensor,
    scale2: MaybeTensor,
) -> Result<Plan, Error> {
    let factors = check_add(&x1, &x2, &gamma, &sum, &y1)?;
    want_type("y1Out", &y1, &[DType::I8])?;
    let rows: usize = factors.iter().product();
    for (name, view) in [("scale1Out", Some(&scale1)), ("scale2Out", scale2.as_ref().filter(|_| smooth2.is_some()))] {
        view.map_or(Ok(()), |view| super::shape::want_numel(name, view, rows))?;
    }
    for (name, view) in [("smooth1", &smooth1), ("smooth2", &smooth2)] {
        view.as_ref().map_or(Ok(()), |view| want_dims(name, view, &gamma.dims))?;
    }
    let n = gamma.numel();
    let mut plan = Plan::new("add_rms_norm_dynamic_quant");
    let (x1, x2, gamma) = (plan.input("x1", &x1), plan.input("x2", &x2), plan.input("gamma", &gamma));
    let (s1, s2) = (plan.maybe("smooth1", smooth1.as_deref()), plan.maybe("smooth2", smooth2.as_deref()));
    let o1 = plan.output("y1Out", &y1);
    let o2 = plan.maybe_output("y2Out", y2.as_deref().filter(|_| s2.is_some()));
    let call = AddNorm { x1, x2, gamma, sum: plan.output("xOut", &sum), epsilon: epsilon as f32 };
    let f1 = plan.output("scale1Out", &scale1);
    let f2 = plan.maybe_output("scale2Out", scale2.as_deref().filter(|_| s2.is_some()));
    Ok(plan.run(6, move |memory| {
        let (out, _) = call.run(memory);
        for (smooth, to, scale) in [(s1, Some(o1), Some(f1)), (s2, o2, f2)] {
            let (Some(to), Some(scale)) = (to, scale) else { continue };
            let smooth = smooth.map(|slot| memory.floats(slot));
            let rows: Vec<(Vec<i64>, f32)> =
                out.chunks(n.max(1)).map(|row| quantize_row(row, smooth.as_deref())).collect();
            memory.put_ints(to, &rows.iter().flat_map(|r| r.0.iter().copied()).collect::<Vec<_>>());
            memory.put(scale, &rows.iter().map(|r| r.1).collect::<Vec<_>>());
        }
        Ok(())
    }))
}
