//! Row-major tensors of the oracle, in a few representations.

use aio_ir::{DType, Dims, TensorType, quant};
use std::borrow::Cow;

/// Elements of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Data<'a> {
    /// f32.
    F32(Vec<f32>),
    /// i32, u32, i8, u8 and bool, widened.
    Int(Vec<i64>),
    /// Any other type, as stored bytes.
    Raw(Cow<'a, [u8]>),
}

/// A tensor with resolved dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Data<'a>,
}

impl<'a> Tensor<'a> {
    /// A tensor of numbers rounded to a float type.
    ///
    /// # Panics
    /// If the type has no encoder, which V006 rules out.
    pub(crate) fn stored(dtype: DType, shape: Vec<usize>, values: &[f32]) -> Tensor<'a> {
        if dtype == DType::F32 {
            return Tensor::f32(shape, values.to_vec());
        }
        let mut bytes = vec![0; values.len() / dtype.block_elems() * dtype.block_bytes()];
        quant::encode(dtype, values, &mut bytes).expect("V006: the type has an encoder");
        Tensor { dtype, shape, data: Data::Raw(bytes.into()) }
    }

    /// An f32 tensor.
    pub fn f32(shape: Vec<usize>, values: Vec<f32>) -> Tensor<'a> {
        Tensor { dtype: DType::F32, shape, data: Data::F32(values) }
    }

    /// A tensor of integers or bools.
    pub fn int(dtype: DType, shape: Vec<usize>, values: Vec<i64>) -> Tensor<'a> {
        Tensor { dtype, shape, data: Data::Int(values) }
    }

    /// A tensor from its stored bytes; `None` if their number does not match the type.
    pub fn from_bytes(ty: &TensorType, dims: &Dims, bytes: Cow<'a, [u8]>) -> Option<Tensor<'a>> {
        if ty.bytes(dims)? != bytes.len() as u64 {
            return None;
        }
        let shape = ty.shape.resolve(dims).iter().map(|&d| d as usize).collect();
        let data = match ty.dtype {
            DType::F32 => Data::F32(bytemuck::allocation::pod_collect_to_vec(&bytes)),
            DType::I32 => Data::Int(words(&bytes).map(|w| i64::from(w as i32)).collect()),
            DType::U32 => Data::Int(words(&bytes).map(i64::from).collect()),
            DType::I8 => Data::Int(bytes.iter().map(|&b| i64::from(b as i8)).collect()),
            DType::U8 | DType::Bool => Data::Int(bytes.iter().map(|&b| i64::from(b)).collect()),
            _ => Data::Raw(bytes),
        };
        Some(Tensor { dtype: ty.dtype, shape, data })
    }

    /// The stored bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.data {
            Data::F32(v) => bytemuck::cast_slice(v).to_vec(),
            Data::Raw(b) => b.to_vec(),
            Data::Int(v) => match self.dtype {
                DType::I32 => v.iter().flat_map(|&n| (n as i32).to_le_bytes()).collect(),
                DType::U32 => v.iter().flat_map(|&n| (n as u32).to_le_bytes()).collect(),
                _ => v.iter().map(|&n| n as u8).collect(),
            },
        }
    }

    /// Number of elements.
    pub fn elems(&self) -> usize {
        self.shape.iter().product()
    }

    /// The innermost dimension; 1 for a scalar.
    pub fn last(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// All elements of a float tensor as f32.
    pub fn floats(&self) -> Cow<'_, [f32]> {
        match &self.data {
            Data::F32(v) => Cow::Borrowed(v),
            Data::Int(v) => Cow::Owned(v.iter().map(|&n| n as f32).collect()),
            Data::Raw(bytes) => {
                let mut out = vec![0.0; self.elems()];
                quant::dequantize(self.dtype, bytes, &mut out).expect("V013: rows are whole blocks");
                Cow::Owned(out)
            }
        }
    }

    /// Row `i` (of the innermost dimension) of a float tensor as f32.
    pub fn row(&self, i: usize) -> Cow<'_, [f32]> {
        let n = self.last();
        match &self.data {
            Data::F32(v) => Cow::Borrowed(&v[i * n..(i + 1) * n]),
            Data::Int(v) => Cow::Owned(v[i * n..(i + 1) * n].iter().map(|&x| x as f32).collect()),
            Data::Raw(bytes) => {
                let row_bytes = self.dtype.row_bytes(n as u64).expect("V013: rows are whole blocks") as usize;
                let mut out = vec![0.0; n];
                let row = &bytes[i * row_bytes..(i + 1) * row_bytes];
                quant::dequantize(self.dtype, row, &mut out).expect("V013: rows are whole blocks");
                Cow::Owned(out)
            }
        }
    }

    /// The elements of an integer tensor.
    pub fn ints(&self) -> &[i64] {
        match &self.data {
            Data::Int(v) => v,
            _ => unreachable!("V006: the operand has integer elements"),
        }
    }
}

/// Wraps an integer at the type's width.
pub(crate) fn wrap(dtype: DType, v: i64) -> i64 {
    match dtype {
        DType::I32 => i64::from(v as i32),
        DType::U32 => i64::from(v as u32),
        DType::I8 => i64::from(v as i8),
        DType::U8 => i64::from(v as u8),
        _ => v & 1,
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]))
}
