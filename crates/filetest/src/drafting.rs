//! Drafters and devices for tests of speculation: drafters that know the text or fail, devices that lose steps.

use aio_backend::{
    Bindings, Burst, BurstEnd, BurstReport, BurstRequest, BurstStep, Device, DeviceError, Executable, LoadOptions,
    Pending, WeightSet,
};
use aio_backend_cpu::CpuDevice;
use aio_orchestrator::{DraftError, Drafter, DrafterKind, Match};
use aio_plan::{Plan, PlanFamily, StepTime};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A drafter that knows the text and makes errors at fixed places, so drafts are right for a while and then wrong.
#[derive(Clone, Debug)]
pub struct Knowing {
    /// Prompt followed by the plain output.
    pub text: Vec<u32>,
    /// Length of the committed part.
    pub at: usize,
    /// One draft in `errs` is wrong; 0 means none.
    pub errs: usize,
}

impl Knowing {
    /// A drafter for a prompt and its plain output, with nothing committed yet.
    pub fn new(prompt: &[u32], output: &[u32], errs: usize) -> Knowing {
        Knowing { text: [prompt, output].concat(), at: 0, errs }
    }
}

impl Drafter for Knowing {
    fn name(&self) -> &'static str {
        "knowing"
    }

    fn extend(&mut self, tokens: &[u32]) {
        assert_eq!(self.text[self.at..self.at + tokens.len()], *tokens, "what is committed is the plain text");
        self.at += tokens.len();
    }

    fn draft(&mut self, max: usize, out: &mut Vec<u32>) -> Result<Match, DraftError> {
        let known = self.text.iter().enumerate().skip(self.at).take(max);
        out.extend(known.map(|(i, &t)| if self.errs > 0 && i * 2654435761 % self.errs == 0 { t ^ 1 } else { t }));
        Ok(Match { len: 8 })
    }

    fn clear(&mut self) {
        self.at = 0;
    }
}

/// A drafter that fails to draft, fails to read the prompt, or returns invalid drafts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Every draft fails, as with a failing draft model.
    Draft,
    /// Reading the prompt fails.
    Prepare,
    /// Returns more drafts than requested, and tokens that do not exist.
    Endless,
}

impl Broken {
    fn fail(self) -> DraftError {
        DraftError { drafter: self.name(), source: Box::new(std::io::Error::other("no power")) }
    }
}

impl Drafter for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn extend(&mut self, _: &[u32]) {}

    fn draft(&mut self, max: usize, out: &mut Vec<u32>) -> Result<Match, DraftError> {
        if *self != Broken::Endless {
            return Err(self.fail());
        }
        out.extend([0, 1, u32::MAX].iter().cycle().take(max + 100));
        Ok(Match { len: 8 })
    }

    fn clear(&mut self) {}

    fn kind(&self) -> DrafterKind {
        if *self == Broken::Endless { DrafterKind::Text } else { DrafterKind::Model }
    }

    fn prepare(&mut self) -> Result<(), DraftError> {
        if *self == Broken::Prepare { Err(self.fail()) } else { Ok(()) }
    }
}

/// A drafter that knows the text. It errs after 0 right drafts, then after 1, up to a maximum, then starts over.
#[derive(Clone, Debug)]
pub struct Cycling {
    text: Knowing,
    drafts: usize,
    turn: usize,
}

impl Cycling {
    /// A drafter for a prompt and its plain output, with up to `drafts` drafts.
    pub fn new(prompt: &[u32], output: &[u32], drafts: usize) -> Cycling {
        Cycling { text: Knowing::new(prompt, output, 0), drafts, turn: 0 }
    }
}

impl Drafter for Cycling {
    fn name(&self) -> &'static str {
        "cycling"
    }

    fn extend(&mut self, tokens: &[u32]) {
        self.text.extend(tokens);
    }

    fn draft(&mut self, max: usize, out: &mut Vec<u32>) -> Result<Match, DraftError> {
        let first = out.len();
        let matched = self.text.draft(max, out)?;
        let wrong = first + self.turn % (self.drafts + 1);
        self.turn += 1;
        if let Some(draft) = out.get_mut(wrong) {
            *draft ^= 1;
        }
        Ok(matched)
    }

    fn clear(&mut self) {
        self.text.clear();
    }
}

/// A device that loses one step: the step runs fully or in part, and its results cannot be read.
pub struct Losing<D> {
    device: D,
    /// Number of steps before the lost one.
    left: Arc<AtomicI64>,
    /// Number of tasks of the lost step that run.
    tasks: usize,
}

impl<D: Device> Losing<D> {
    /// Loses the step after `steps` others.
    pub fn new(device: D, steps: i64) -> Losing<D> {
        Losing::torn(device, steps, usize::MAX)
    }

    /// Loses the step after `steps` others, of which only the first `tasks` tasks run.
    pub fn torn(device: D, steps: i64, tasks: usize) -> Losing<D> {
        Losing { device, left: Arc::new(AtomicI64::new(steps)), tasks }
    }
}

impl<D: Device> Device for Losing<D> {
    crate::delegate!(device);

    fn load(
        &self,
        family: &PlanFamily,
        plan: &Plan,
        weights: &WeightSet,
        options: &LoadOptions,
    ) -> Result<Box<dyn Executable>, DeviceError> {
        let load = |plan: &Plan| self.device.load(family, plan, weights, options);
        let torn = Plan { tasks: plan.tasks.iter().take(self.tasks).cloned().collect(), ..plan.clone() };
        let torn = if torn.tasks.len() < plan.tasks.len() { Some(load(&torn)?) } else { None };
        Ok(Box::new(LosingPlan { plan: load(plan)?, torn, left: Arc::clone(&self.left) }))
    }
}

struct LosingPlan {
    plan: Box<dyn Executable>,
    /// The part of the lost step that runs; `None` for all of it.
    torn: Option<Box<dyn Executable>>,
    left: Arc<AtomicI64>,
}

impl Executable for LosingPlan {
    fn submit<'a>(&'a mut self, bindings: &'a mut Bindings<'_, '_>) -> Result<Pending<'a>, DeviceError> {
        let lost = self.left.fetch_sub(1, Ordering::Relaxed) == 0;
        let plan = self.torn.as_mut().filter(|_| lost).unwrap_or(&mut self.plan);
        let report = plan.submit(bindings)?.wait()?;
        if lost { Err(DeviceError::Failed("the step was lost".to_owned())) } else { Ok(Pending::Done(report)) }
    }
}

/// A CPU whose bursts return the same token over and over, for tests of the code around a burst.
pub struct Chanting(pub CpuDevice);

impl Device for Chanting {
    crate::delegate!(0);

    fn load(
        &self,
        family: &PlanFamily,
        plan: &Plan,
        weights: &WeightSet,
        options: &LoadOptions,
    ) -> Result<Box<dyn Executable>, DeviceError> {
        self.0.load(family, plan, weights, options)
    }

    fn load_burst(&self, _: &PlanFamily, _: &Plan, _: &WeightSet) -> Result<Box<dyn Burst>, DeviceError> {
        Ok(Box::new(Chant))
    }
}

struct Chant;

impl Burst for Chant {
    fn most_drafts(&self) -> u32 {
        0
    }

    fn run(
        &mut self,
        request: &BurstRequest<'_>,
        show: &mut dyn FnMut(&[u32]) -> bool,
        steps: &mut Vec<BurstStep>,
    ) -> Result<BurstReport, DeviceError> {
        let mut wanted = true;
        while wanted && steps.len() < request.budget as usize {
            steps.push(BurstStep::default());
            wanted = show(&[7]);
        }
        let end = if wanted { BurstEnd::Budget } else { BurstEnd::Cancelled };
        Ok(BurstReport { end, time: StepTime::Modelled(steps.len() as f64), launch: Some(0.0) })
    }
}
