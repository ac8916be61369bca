//! Bindings: the data a step supplies for a plan's inputs and outputs.

use crate::DeviceError;
use aio_ir::{DType, Dims};
use aio_plan::Plan;

/// A tensor's elements in host memory, row-major, innermost dimension last.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// f32 elements.
    F32(&'a [f32]),
    /// i32 elements.
    I32(&'a [i32]),
    /// u32 elements.
    U32(&'a [u32]),
    /// Elements of any other type, as bytes; they need no alignment.
    Bytes(DType, &'a [u8]),
}

impl<'a> Data<'a> {
    /// Element type.
    pub fn dtype(&self) -> DType {
        match self {
            Data::F32(_) => DType::F32,
            Data::I32(_) => DType::I32,
            Data::U32(_) => DType::U32,
            Data::Bytes(t, _) => *t,
        }
    }

    /// The elements as bytes.
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Data::F32(d) => bytemuck::cast_slice(d),
            Data::I32(d) => bytemuck::cast_slice(d),
            Data::U32(d) => bytemuck::cast_slice(d),
            Data::Bytes(_, d) => d,
        }
    }
}

/// An output buffer: 4-byte aligned words, since every output is f32, i32 or u32.
pub type OutputWords<'a> = &'a mut [u32];

/// One step's dimensions, inputs and outputs, in the plan's order.
#[derive(Debug)]
pub struct Bindings<'a, 'b> {
    /// The step's dimensions, at most the bucket's.
    pub dims: Dims,
    /// Inputs by [`InputId`](aio_plan::InputId); `None` omits an optional one.
    pub inputs: &'b [Option<Data<'a>>],
    /// Outputs by [`OutputId`](aio_plan::OutputId), as 32-bit words, at least as long as the step's dimensions require.
    pub outputs: &'b mut [OutputWords<'a>],
}

impl Bindings<'_, '_> {
    /// Checks dimensions, presence, element types and sizes.
    pub(crate) fn fit(&self, plan: &Plan) -> Result<(), DeviceError> {
        let bad = |name: &str, message: String| Err(DeviceError::Binding { name: name.to_owned(), message });
        if !plan.bucket.holds(&self.dims) {
            return bad("dims", format!("{:?} does not fit bucket {}", self.dims, plan.bucket));
        }
        if self.inputs.len() != plan.inputs.len() || self.outputs.len() != plan.outputs.len() {
            let message = format!("{} inputs and {} outputs", self.inputs.len(), self.outputs.len());
            return bad(
                "bindings",
                format!("{message}, the plan has {} and {}", plan.inputs.len(), plan.outputs.len()),
            );
        }
        for (input, spec) in self.inputs.iter().zip(&plan.inputs) {
            match input {
                None if spec.optional => {}
                None => return bad(&spec.name, "is not bound".to_owned()),
                Some(data) => {
                    let want = spec.ty.bytes(&self.dims);
                    if data.dtype() != spec.ty.dtype || want != Some(data.bytes().len() as u64) {
                        let message = format!("{} bytes of {}, expected {}", data.bytes().len(), data.dtype(), spec.ty);
                        return bad(&spec.name, message);
                    }
                    let words = matches!(spec.ty.dtype, DType::F32 | DType::I32 | DType::U32);
                    if words && matches!(data, Data::Bytes(..)) {
                        return bad(&spec.name, format!("elements of {} are bound as bytes", spec.ty.dtype));
                    }
                }
            }
        }
        for (output, spec) in self.outputs.iter().zip(&plan.outputs) {
            if spec.ty.bytes(&self.dims).is_none_or(|want| (output.len() as u64) * 4 < want) {
                return bad(&spec.name, format!("{} words are too few for {}", output.len(), spec.ty));
            }
        }
        Ok(())
    }
}
