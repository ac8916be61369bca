//! Layer normalisation.

use super::arg::{Ints, MaybeTensor, Tensor};
use super::shape::{want_dims, want_float, want_numel};
use crate::task::Error;
use crate::tensor::exec::Plan;
use crate::tensor::refuse::invalid;

/// Normalises the last dimensions to mean 0 and variance 1, then scales and shifts.
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn layer_norm(
    x: Tensor,
    shape: Ints,
    weight: MaybeTensor,
    bias: MaybeTensor,
    epsilon: f64,
    out: Tensor,
    mean: MaybeTensor,
    rstd: MaybeTensor,
) -> Result<Plan, Error> {
    want_float("input", &x)?;
    want_dims("out", &out, &x.dims)?;
    let tail: Vec<usize> = shape.iter().map(|&n| n.max(0) as usize).collect();
    if tail.is_empty() || !x.dims.ends_with(&tail) {
        return Err(invalid(format!("normalizedShape {shape:?} must be the last dimensions of input {:?}", x.dims)));
    }
    let n: usize = tail.iter().product::<usize>().max(1);
    for (name, view) in [("weight", &weight), ("bias", &bias)] {
        view.as_ref().map_or(Ok(()), |view| want_dims(name, view, &tail))?;
    }
    for (name, view) in [("meanOut", &mean), ("rstdOut", &rstd)] {
        view.as_ref().map_or(Ok(()), |view| want_numel(name, view, x.numel() / n))?;
    }
    let mut plan = Plan::new("layer_norm");
    let (i, w, b) =
        (plan.input("input", &x), plan.maybe("weight", weight.as_deref()), plan.maybe("bias", bias.as_deref()));
    let o = plan.output("out", &out);
    let (mo, ro) = (plan.maybe_output("meanOut", mean.as_deref()), plan.maybe_output("rstdOut", rstd.as_deref()));
    Ok(plan.run(6, move |memory| {
        let (weight, bias) = (w.map(|slot| memory.floats(slot)), b.map(|slot| memory.floats(slot)));
        let (mut means, mut factors, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for row in memory.floats(i).chunks(n) {
            let mean = row.iter().sum::<f32>() / n as f32;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n as f32;
            let factor = 1.0 / (variance + epsilon as f32).sqrt();
            all.extend(row.iter().enumerate().map(|(k, x)| {
                (x - mean) * factor * weight.as_ref().map_or(1.0, |w| w[k]) + bias.as_ref().map_or(0.0, |b| b[k])
            }));
            means.push(mean);
            factors.push(factor);
        }
        memory.put(o, &all);
        mo.into_iter().for_each(|slot| memory.put(slot, &means));
        ro.into_iter().for_each(|slot| memory.put(slot, &factors));
        Ok(())
    }))
}
