//! Forms of a step: the same results at different costs.
//!
//! A back end with several ways to run a step describes them as data; the orchestrator chooses.

use smallvec::SmallVec;

/// One way to run a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepForm {
    /// Its name among the device's forms, such as `bucket`.
    pub name: &'static str,
    /// Bytes of keys and values that it reads, padding included.
    pub kv_bytes: u64,
    /// Tasks of a captured graph that the host replaces before it submits the step.
    pub updates: u64,
    /// Tasks that it has besides those of all forms, such as masks.
    pub tasks: u64,
}

/// The forms of a step, the default one first. Empty where a device has only one.
pub type StepForms = SmallVec<[StepForm; 2]>;
