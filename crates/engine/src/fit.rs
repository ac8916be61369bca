//! Whether an artefact runs on a device, before its weights are read: its form, its age, its plans, its memory.
//!
//! Called by `aio compile --check` and by whoever schedules compiled models on machines.

use crate::EngineError;
use crate::artefact::{compiler_hash, plans};
use crate::engine::{EngineOptions, capacity, context_of};
use crate::memory::available_bytes;
use crate::need::MemoryNeed;
use crate::pools::PoolPlan;
use aio_backend::{Device, DeviceError, ImageAccess};
use aio_model::ModelError;
use aio_model::gguf::Gguf;
use aio_model::hyper::HyperParams;
use aio_plan::artefact::Artefact;

/// What became of the checks.
#[derive(Debug)]
pub struct Fit {
    /// Positions of the context that memory was counted for; 0 if the head cannot be read.
    pub context: u32,
    /// Memory that the model needs; `None` if its plans or its head cannot be read.
    pub need: Option<MemoryNeed>,
    /// Memory that the device has left, in bytes, if it or the system says.
    pub available: Option<u64>,
    /// Why it does not run; empty if it does.
    pub faults: Vec<EngineError>,
}

impl Fit {
    /// Checks an artefact. Only its head and plans are read.
    pub fn of(artefact: &Artefact, device: &dyn Device, options: &EngineOptions, access: ImageAccess) -> Fit {
        let available = device.available_bytes().or_else(available_bytes);
        let mut fit = Fit { context: 0, need: None, available, faults: Vec::new() };
        let made = match device.image_form() {
            Some(form) => artefact.check_made_for(form.name, compiler_hash(&form)).map_err(EngineError::from),
            None => Err(DeviceError::NoImage { device: device.target().name }.into()),
        };
        let current = made.is_ok();
        fit.faults.extend(made.err());
        if let Err(fault) = fit.memory(artefact, device, options, access) {
            // What another version wrote need not be readable.
            if current {
                fit.faults.push(fault);
            }
        }
        fit
    }

    /// Counts the memory that the model needs.
    fn memory(
        &mut self,
        artefact: &Artefact,
        device: &dyn Device,
        options: &EngineOptions,
        access: ImageAccess,
    ) -> Result<(), EngineError> {
        let head = Gguf::from_head(artefact.meta().to_vec()).map_err(ModelError::from)?;
        let hyper = HyperParams::from_gguf(&head).map_err(ModelError::from)?;
        let family = plans(artefact, device.target())?;
        self.context = context_of(&hyper, options);
        let sizes = PoolPlan::new(&family, capacity(self.context, options))?.sizes;
        let weights = if access == ImageAccess::Map { 0 } else { artefact.weights().bytes() };
        let need = MemoryNeed { weights, ..MemoryNeed::of(&family, sizes) };
        self.need = Some(need);
        if self.available.is_none_or(|available| need.total() <= available) {
            self.need = Some(MemoryNeed { scratch: device.scratch_bytes(&family, sizes), ..need });
        }
        need.check_on(device, || device.scratch_bytes(&family, sizes))
    }
}
