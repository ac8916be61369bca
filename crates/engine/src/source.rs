//! A model file as a device's source of weights.

use aio_backend::{WeightData, WeightSource};
use aio_model::Model;

/// See the module's header.
pub(crate) struct ModelWeights<'a>(pub &'a Model);

impl WeightSource for ModelWeights<'_> {
    fn weight(&self, name: &str) -> Option<WeightData<'_>> {
        let w = self.0.weight(name).ok()??;
        Some(WeightData { dtype: w.dtype, shape: w.shape, bytes: w.bytes })
    }
}
