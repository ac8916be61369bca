//! A device that runs nothing: it loads plans, checks bindings, counts, and leaves outputs unchanged.
//!
//! For tests of the layers above the back ends, and as the shortest example of the traits.

use crate::{
    Bindings, Counters, Device, DeviceError, Executable, LoadOptions, Pending, StepReport, Tally, WeightSet,
    WeightSource, weights,
};
use aio_ir::Op;
use aio_plan::{KindName, KindSupport, Layout, Plan, PlanFamily, PoolSizes, StepTime, Target, Traffic};
use std::sync::Arc;

/// The device that runs nothing. See the module docs.
#[derive(Debug, Default)]
pub struct NullDevice {
    tally: Arc<Tally>,
}

struct NullExecutable {
    plan: Plan,
    traffic: Traffic,
    pools: PoolSizes,
    /// Submissions per step.
    submissions: u64,
    tally: Arc<Tally>,
}

/// A target that supports every kind with every weight type.
pub fn permissive_target(name: &str) -> Target {
    let single = Op::ALL.iter().map(|&op| KindName::Op(op));
    let weights: Vec<_> = aio_ir::DType::ALL.iter().copied().filter(|t| t.is_float()).collect();
    let support = |kind| KindSupport::new(kind, &weights, Layout::Plain);
    Target::new(name, KindName::FUSED.iter().copied().chain(single).map(support).collect())
}

impl Device for NullDevice {
    fn target(&self) -> Target {
        permissive_target("null")
    }

    fn counters(&self) -> Counters {
        self.tally.read()
    }

    fn upload(
        &self,
        family: &PlanFamily,
        source: &dyn WeightSource,
        pools: PoolSizes,
    ) -> Result<WeightSet, DeviceError> {
        for weight in &family.weights {
            weights::checked(source, &weight.name, &weight.ty)?;
        }
        Ok(WeightSet::new(pools))
    }

    fn load(
        &self,
        family: &PlanFamily,
        plan: &Plan,
        weights: &WeightSet,
        options: &LoadOptions,
    ) -> Result<Box<dyn Executable>, DeviceError> {
        let submissions = options.submission.submissions(plan);
        Ok(Box::new(NullExecutable {
            plan: plan.clone(),
            traffic: Traffic::of(family, plan),
            pools: *weights.get::<PoolSizes>()?,
            submissions,
            tally: Arc::clone(&self.tally),
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
        bindings.check(&self.plan, self.pools)?;
        let load = bindings.load(&self.plan);
        // A device that runs nothing takes no time.
        let report = StepReport::new(&self.traffic, load, self.submissions, StepTime::Modelled(0.0));
        self.tally.add(&report, 0);
        Ok(Pending::Done(report))
    }
}
