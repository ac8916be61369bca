//! Matrix products, accumulated in f64.

use super::args::{OpArgs, Results};
use crate::tensor::Tensor;

pub(crate) fn matmul<'w>(a: &OpArgs<'_, 'w>) -> Results<'w> {
    let (x, w) = (a.input(0), a.input(1));
    let shape = a.shape(0);
    let (k, n) = (x.last(), shape.last().copied().unwrap_or(1));
    let rows = x.shape[..x.shape.len() - 1].iter().product::<usize>();
    let xs = x.floats();
    let mut out = vec![0.0; rows * n];
    match a.optional(2) {
        None => {
            for j in 0..n {
                let weights = w.row(j);
                for i in 0..rows {
                    out[i * n + j] = dot(&xs[i * k..(i + 1) * k], &weights);
                }
            }
        }
        Some(experts) => {
            for (i, &e) in experts.ints().iter().enumerate() {
                let expert = a.checked("expert", e, w.shape[0])?;
                for j in 0..n {
                    out[i * n + j] = dot(&xs[i * k..(i + 1) * k], &w.row(expert * n + j));
                }
            }
        }
    }
    Ok(vec![Tensor::f32(shape, out)])
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    if a.is_empty() {
        // Rust's sum of an empty iterator is -0.
        return 0.0;
    }
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>() as f32
}
