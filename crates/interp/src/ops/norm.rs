//! Ops over a dimension: norms, softmax, rotation, reductions.

use super::args::{OpArgs, Results};
use crate::tensor::{Tensor, wrap};
use aio_ir::Op;
use aio_ir::float::{maximum, minimum};
use aio_plan::{RopePairs, RopeSpec};

pub(crate) fn apply<'w>(a: &OpArgs<'_, 'w>) -> Results<'w> {
    let shape = a.shape(0);
    match a.node.op {
        Op::Rope => rope(a),
        Op::Reduce => reduce(a),
        Op::Cumsum if !a.input(0).dtype.is_float() => {
            let x = a.input(0);
            let out = by_row(x.ints(), x.last(), cumsum);
            let out = out.into_iter().map(|v| wrap(x.dtype, v)).collect();
            Ok(vec![Tensor::int(x.dtype, shape, out)])
        }
        _ => {
            let x = a.input(0).floats();
            let out = by_row(&x, a.input(0).last(), |row| match a.node.op {
                Op::RmsNorm => rms_norm(a, row),
                Op::LayerNorm => layer_norm(a, row),
                Op::Softmax => softmax(row),
                _ => cumsum(row),
            });
            Ok(vec![Tensor::stored(a.input(0).dtype, shape, &out)])
        }
    }
}

fn by_row<T: Copy>(x: &[T], n: usize, f: impl Fn(&[T]) -> Vec<T>) -> Vec<T> {
    x.chunks(n.max(1)).flat_map(f).collect()
}

fn cumsum<T: Copy + std::ops::Add<Output = T>>(row: &[T]) -> Vec<T> {
    let mut sum: Option<T> = None;
    row.iter().map(|&v| *sum.insert(sum.map_or(v, |s| s + v))).collect()
}

fn mean(row: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = row.len() as f64;
    row.sum::<f64>() / n
}

fn scaled(values: impl Iterator<Item = f64>, weight: Option<&Tensor<'_>>, bias: Option<&Tensor<'_>>) -> Vec<f32> {
    let (weight, bias) = (weight.map(Tensor::floats), bias.map(Tensor::floats));
    let scale = |i: usize| weight.as_ref().map_or(1.0, |w| f64::from(w[i]));
    let shift = |i: usize| bias.as_ref().map_or(0.0, |b| f64::from(b[i]));
    values.enumerate().map(|(i, v)| (v * scale(i) + shift(i)) as f32).collect()
}

fn rms_norm(a: &OpArgs<'_, '_>, row: &[f32]) -> Vec<f32> {
    let square = mean(row.iter().map(|&v| f64::from(v) * f64::from(v)));
    let factor = 1.0 / (square + f64::from(a.node.f32("eps"))).sqrt();
    scaled(row.iter().map(|&v| f64::from(v) * factor), a.optional(1), None)
}

fn layer_norm(a: &OpArgs<'_, '_>, row: &[f32]) -> Vec<f32> {
    let centre = mean(row.iter().map(|&v| f64::from(v)));
    let variance = mean(row.iter().map(|&v| (f64::from(v) - centre).powi(2)));
    let factor = 1.0 / (variance + f64::from(a.node.f32("eps"))).sqrt();
    scaled(row.iter().map(|&v| (f64::from(v) - centre) * factor), a.optional(1), a.optional(2))
}

fn softmax(row: &[f32]) -> Vec<f32> {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = row.iter().map(|&v| f64::from(v - top).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| (w / total) as f32).collect()
}

fn reduce<'w>(a: &OpArgs<'_, 'w>) -> Results<'w> {
    let x = a.input(0);
    let axis = a.node.int("axis") as usize;
    let size = x.shape[axis];
    let inner: usize = x.shape[axis + 1..].iter().product();
    let outer: usize = x.shape[..axis].iter().product();
    let values = x.floats();
    let fold = |column: &mut dyn Iterator<Item = f32>| match a.node.word("kind") {
        "max" => column.fold(f32::NEG_INFINITY, maximum),
        "min" => column.fold(f32::INFINITY, minimum),
        // Rust's sum of an empty iterator is -0.
        "sum" if size == 0 => 0.0,
        "sum" => column.map(f64::from).sum::<f64>() as f32,
        _ => (column.map(f64::from).sum::<f64>() / size as f64) as f32,
    };
    let mut out = Vec::with_capacity(outer * inner);
    for o in 0..outer {
        for i in 0..inner {
            out.push(fold(&mut (0..size).map(|s| values[(o * size + s) * inner + i])));
        }
    }
    Ok(vec![Tensor::f32(a.shape(0), out)])
}

fn rope<'w>(a: &OpArgs<'_, 'w>) -> Results<'w> {
    let x = a.input(0);
    let spec = RopeSpec::from_node(a.node);
    let factors = a.optional(2).map(Tensor::floats);
    let (frequencies, magnitude) = spec.frequencies(factors.as_deref());
    let positions = a.input(1).ints();
    let (heads, size) = (x.shape[1], x.shape[2]);
    let mut out = x.floats().into_owned();
    for (row, &position) in positions.iter().enumerate() {
        for head in out[row * heads * size..(row + 1) * heads * size].chunks_mut(size) {
            rotate(head, position, &spec, &frequencies, magnitude);
        }
    }
    Ok(vec![Tensor::f32(a.shape(0), out)])
}

fn rotate(head: &mut [f32], position: i64, spec: &RopeSpec, frequencies: &[f32], magnitude: f32) {
    let half = spec.dims as usize / 2;
    for (i, &frequency) in frequencies.iter().enumerate() {
        let (j, k) = match spec.pairs {
            RopePairs::Adjacent => (2 * i, 2 * i + 1),
            RopePairs::Halves => (i, i + half),
        };
        let angle = position as f32 * frequency;
        let (sin, cos) = (angle.sin() * magnitude, angle.cos() * magnitude);
        let (x, y) = (head[j], head[k]);
        head[j] = x * cos - y * sin;
        head[k] = x * sin + y * cos;
    }
}
