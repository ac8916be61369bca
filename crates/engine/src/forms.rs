//! Runs a step in the form that the orchestrator chooses, where a device offers several. Called by the runner.

use aio_backend::{Bindings, DeviceError, Executable, StepReport};
use aio_orchestrator::FormChooser;
use aio_plan::{StepForm, StepForms};
use smallvec::SmallVec;

/// Numbers of steps by the name of their form; empty on a device with one form.
pub type FormSteps = SmallVec<[(&'static str, u64); 2]>;

/// Chooses forms of steps, and counts them.
#[derive(Debug)]
pub(crate) struct Forms {
    chooser: FormChooser,
    /// Steps so far.
    pub steps: FormSteps,
}

impl Forms {
    /// Forms of a device that reads `bandwidth` bytes per second.
    pub(crate) fn new(bandwidth: f64) -> Forms {
        Forms { chooser: FormChooser::new(bandwidth), steps: FormSteps::new() }
    }

    /// Runs a step. `plan` identifies its plan.
    ///
    /// # Errors
    /// Those of the device.
    pub(crate) fn run(
        &mut self,
        plan: usize,
        executable: &mut dyn Executable,
        bindings: &mut Bindings<'_, '_>,
    ) -> Result<StepReport, DeviceError> {
        let size = (plan as u64) << 32 | u64::from(bindings.dims.rows);
        let mut chosen = None;
        let mut choose = |forms: &[StepForm]| {
            let choice = self.chooser.choose(forms);
            let form = choice.form;
            chosen = Some((StepForms::from(forms), choice));
            form
        };
        let report = executable.submit_form(&mut choose, bindings)?.wait()?;
        let Some((forms, choice)) = chosen else { return Ok(report) };
        self.chooser.observe(&forms, &choice, size, report.time.seconds());
        let form = forms[choice.form];
        match self.steps.iter_mut().find(|(name, _)| *name == form.name) {
            Some((_, steps)) => *steps += 1,
            None => self.steps.push((form.name, 1)),
        }
        Ok(report)
    }
}
