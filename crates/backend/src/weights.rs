//! The source of a model's weights for a device.

use crate::DeviceError;
use aio_ir::{DType, TensorType};

/// A weight as stored in the model file.
#[derive(Clone, Debug)]
pub struct WeightData<'a> {
    /// Element type.
    pub dtype: DType,
    /// Shape, outermost dimension first.
    pub shape: Vec<u64>,
    /// Elements, row-major.
    pub bytes: &'a [u8],
}

/// A model's weights by name. Implemented by `aio-engine` for GGUF files and by tests.
pub trait WeightSource: Sync {
    /// The weight with this name.
    fn weight(&self, name: &str) -> Option<WeightData<'_>>;
}

/// The bytes of a weight of the type that the graph declares.
///
/// # Errors
/// [`DeviceError::Weight`] if it is missing or has another type.
pub fn checked<'a>(source: &'a dyn WeightSource, name: &str, ty: &TensorType) -> Result<&'a [u8], DeviceError> {
    let fail = |found: String| DeviceError::Weight { name: name.to_owned(), expected: ty.clone(), found };
    let data = source.weight(name).ok_or_else(|| fail("the model has none".to_owned()))?;
    let same_shape = ty.shape.dims().iter().map(|d| d.known()).eq(data.shape.iter().map(|&n| Some(n)));
    if data.dtype != ty.dtype || !same_shape || ty.bytes(&Default::default()) != Some(data.bytes.len() as u64) {
        return Err(fail(format!("the model has {}{:?}, {} bytes", data.dtype, data.shape, data.bytes.len())));
    }
    Ok(data.bytes)
}
