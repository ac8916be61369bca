//! Runs a graph with numbers bound by name.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_interp::{Data, EvalError, Tensor, evaluate};
use aio_ir::{DType, Dims, Graph, TensorType, quant, verify};

/// A tensor of the given type and numbers; without numbers, zeros.
pub fn tensor(ty: &TensorType, dims: &Dims, values: &[f64]) -> Tensor<'static> {
    let shape: Vec<usize> = ty.shape.resolve(dims).iter().map(|&d| d as usize).collect();
    let elems = shape.iter().product::<usize>();
    let values = if values.is_empty() { vec![0.0; elems] } else { values.to_vec() };
    assert_eq!(values.len(), elems, "{ty} takes {elems} numbers");
    if !ty.dtype.is_float() {
        return Tensor::int(ty.dtype, shape, values.iter().map(|&v| v as i64).collect());
    }
    let floats: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    if ty.dtype == DType::F32 {
        return Tensor::f32(shape, floats);
    }
    let mut bytes = vec![0; ty.bytes(dims).unwrap() as usize];
    if quant::has_encoder(ty.dtype) {
        quant::encode(ty.dtype, &floats, &mut bytes).unwrap();
    }
    Tensor { dtype: ty.dtype, shape, data: Data::Raw(bytes.into()) }
}

/// Results of a graph with declarations bound by name. Names without an entry are not bound.
#[allow(dead_code, reason = "each of the tests that share this file uses a part")]
pub fn run(graph: &Graph, dims: &Dims, inputs: &[(&str, &[f64])]) -> Result<Vec<Tensor<'static>>, EvalError> {
    let verified = verify(graph).unwrap_or_else(|e| panic!("{e}"));
    evaluate(verified, dims, |_, v| {
        let (_, values) = inputs.iter().find(|(name, _)| *name == v.name)?;
        Some(tensor(&v.ty, dims, values))
    })
}
