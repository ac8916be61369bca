//! A device that reports step times given by a function, so that no choice in a test depends on the machine.

use aio_backend::{
    Bindings, Burst, BurstReport, BurstRequest, BurstStep, Device, DeviceError, Executable, LoadOptions, Pending,
    StepReport, WeightSet,
};
use aio_plan::{Plan, PlanFamily, StepTime};

/// Maps the number of rows of a step to seconds.
pub type Seconds = fn(rows: u32) -> f64;

/// Each additional row costs a twentieth of a step.
pub fn twentieth(rows: u32) -> f64 {
    1e-3 * (0.95 + 0.05 * f64::from(rows))
}

/// The device. All other behaviour is the inner device's.
pub struct Modelled<D> {
    inner: D,
    seconds: Seconds,
}

impl<D: Device> Modelled<D> {
    /// A device whose steps take `seconds`.
    pub fn new(inner: D, seconds: Seconds) -> Modelled<D> {
        Modelled { inner, seconds }
    }
}

impl<D: Device> Device for Modelled<D> {
    crate::delegate!(inner);

    fn load(
        &self,
        family: &PlanFamily,
        plan: &Plan,
        weights: &WeightSet,
        options: &LoadOptions,
    ) -> Result<Box<dyn Executable>, DeviceError> {
        let plan = self.inner.load(family, plan, weights, options)?;
        Ok(Box::new(ModelledPlan { plan, seconds: self.seconds }))
    }

    fn load_burst(&self, family: &PlanFamily, plan: &Plan, weights: &WeightSet) -> Result<Box<dyn Burst>, DeviceError> {
        let burst = self.inner.load_burst(family, plan, weights)?;
        Ok(Box::new(ModelledBurst { burst, seconds: self.seconds }))
    }
}

struct ModelledPlan {
    plan: Box<dyn Executable>,
    seconds: Seconds,
}

impl Executable for ModelledPlan {
    fn submit<'a>(&'a mut self, bindings: &'a mut Bindings<'_, '_>) -> Result<Pending<'a>, DeviceError> {
        let time = StepTime::Modelled((self.seconds)(bindings.dims.rows));
        let report = self.plan.submit(bindings)?.wait()?;
        Ok(Pending::Done(StepReport { time, ..report }))
    }
}

struct ModelledBurst {
    burst: Box<dyn Burst>,
    seconds: Seconds,
}

impl Burst for ModelledBurst {
    fn most_drafts(&self) -> u32 {
        self.burst.most_drafts()
    }

    fn run(
        &mut self,
        request: &BurstRequest<'_>,
        show: &mut dyn FnMut(&[u32]) -> bool,
        steps: &mut Vec<BurstStep>,
    ) -> Result<BurstReport, DeviceError> {
        let report = self.burst.run(request, show, steps)?;
        let seconds = steps.iter().map(|step| (self.seconds)(1 + step.drafted)).sum();
        Ok(BurstReport { time: StepTime::Modelled(seconds), launch: Some(0.0), ..report })
    }
}
