//! A model file as a weight source for a device.

use aio_backend::{WeightData, WeightSource};
use aio_model::{Model, ModelError};
use aio_plan::PlanFamily;

/// The weight source. See the module docs.
pub(crate) struct ModelWeights<'a>(&'a Model);

impl<'a> ModelWeights<'a> {
    /// The model's weights. Fails if one is missing or has a type that aio does not read, naming it.
    pub(crate) fn checked(model: &'a Model, family: &PlanFamily) -> Result<ModelWeights<'a>, ModelError> {
        for weight in &family.weights {
            model.need_weight(&weight.name)?;
        }
        Ok(ModelWeights(model))
    }
}

impl WeightSource for ModelWeights<'_> {
    fn weight(&self, name: &str) -> Option<WeightData<'_>> {
        let w = self.0.weight(name).ok()??;
        Some(WeightData { dtype: w.dtype, shape: w.shape, bytes: w.bytes })
    }
}
