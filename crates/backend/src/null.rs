//! A device that runs nothing: it loads plans, checks bindings, counts, and leaves outputs unchanged.
//!
//! For tests of the layers above the back ends, and as the shortest example of the traits.

use crate::{
    Bindings, Counters, Device, DeviceError, Executable, FullAxes, LoadOptions, Pending, WeightSet, WeightSource,
    weights,
};
use aio_ir::Op;
use aio_plan::{KindName, KindSupport, Layout, Plan, PlanFamily, PoolSizes, Target};
use std::sync::{Arc, Mutex};

/// The device that runs nothing. See the module docs.
#[derive(Debug, Default)]
pub struct NullDevice {
    counters: Arc<Mutex<Counters>>,
}

struct NullExecutable {
    full: FullAxes,
    plan: Plan,
    /// Submissions per step.
    submissions: u64,
    counters: Arc<Mutex<Counters>>,
}

/// A target that supports every kind with every weight type.
pub fn permissive_target(name: &str) -> Target {
    let single = Op::ALL.iter().map(|&op| KindName::Op(op));
    let weights: Vec<_> = aio_ir::DType::ALL.iter().copied().filter(|t| t.is_float()).collect();
    let support = |kind| KindSupport { kind, weights: weights.clone(), layouts: vec![Layout::Plain] };
    Target {
        name: name.to_owned(),
        kinds: KindName::FUSED.iter().copied().chain(single).map(support).collect(),
        alignment: 64,
    }
}

fn count(counters: &Mutex<Counters>, add: impl FnOnce(&mut Counters)) {
    // The counters are valid even after a panic, because each is a single number.
    add(&mut counters.lock().unwrap_or_else(|e| e.into_inner()));
}

impl Device for NullDevice {
    fn target(&self) -> Target {
        permissive_target("null")
    }

    fn counters(&self) -> Counters {
        *self.counters.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn upload(&self, family: &PlanFamily, source: &dyn WeightSource, _: PoolSizes) -> Result<WeightSet, DeviceError> {
        for weight in &family.weights {
            weights::checked(source, &weight.name, &weight.ty)?;
        }
        Ok(WeightSet::new(()))
    }

    fn load(
        &self,
        _: &PlanFamily,
        plan: &Plan,
        _: &WeightSet,
        options: &LoadOptions,
    ) -> Result<Box<dyn Executable>, DeviceError> {
        let submissions = options.submission.submissions(plan);
        Ok(Box::new(NullExecutable {
            full: FullAxes::of(plan),
            plan: plan.clone(),
            submissions,
            counters: Arc::clone(&self.counters),
        }))
    }

    fn copy_pages(&self, _: &WeightSet, _: &[(u32, u32)]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn download_state(&self, _: &WeightSet, _: usize) -> Result<Vec<u8>, DeviceError> {
        Ok(Vec::new())
    }
}

impl Executable for NullExecutable {
    fn submit<'a>(&'a mut self, bindings: &'a mut Bindings<'_, '_>) -> Result<Pending<'a>, DeviceError> {
        bindings.check(&self.plan)?;
        self.full.check(&bindings.dims)?;
        count(&self.counters, |c| {
            c.submissions += self.submissions;
            c.syncs += self.submissions;
        });
        Ok(Pending::Done)
    }
}
