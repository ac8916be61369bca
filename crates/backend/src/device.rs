//! The traits of a device. The crate's front page has the contract.

use crate::{Bindings, Burst, Counters, DeviceError, KernelChoice, StepReport, Timeline, WeightSource};
use aio_ir::Dims;
use aio_plan::artefact::WeightFile;
use aio_plan::{Ceilings, Plan, PlanFamily, PoolSizes, StepForm, Target};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A model's weights, KV pool and arena on a device, passed back to the device that made it. Clones share it.
#[derive(Clone)]
pub struct WeightSet {
    inner: Arc<dyn Any + Send + Sync>,
}

impl WeightSet {
    /// Wraps a device's representation of a model.
    pub fn new<T: Any + Send + Sync>(resident: T) -> WeightSet {
        WeightSet { inner: Arc::new(resident) }
    }

    /// The wrapped value, or an error if another kind of device made it.
    pub fn get<T: Any + Send + Sync>(&self) -> Result<Arc<T>, DeviceError> {
        Arc::clone(&self.inner).downcast().map_err(|_| DeviceError::ForeignHandle)
    }
}

impl fmt::Debug for WeightSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeightSet")
    }
}

/// How the tasks of a plan are submitted to the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Submission {
    /// One submission for all tasks, with one synchronisation at the end.
    #[default]
    Graph,
    /// One submission and one synchronisation per task: the baseline for measuring whole plans.
    Task,
}

impl Submission {
    /// Submissions, and synchronisations, per step of a plan.
    pub fn submissions(self, plan: &Plan) -> u64 {
        match self {
            Submission::Graph => 1,
            Submission::Task => plan.tasks.len() as u64,
        }
    }
}

/// Options for loading a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// How tasks are submitted. This affects only the counters of submissions and synchronisations, never results.
    pub submission: Submission,
}

/// The form in which a device stores weights. Devices with the same form accept each other's images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageForm {
    /// Its name, which artefacts record.
    pub name: &'static str,
    /// Hash of the sources that make it. A change invalidates older images.
    pub sources: &'static str,
}

/// A family's weights exactly as the device stores them. Keeps the weights alive.
#[derive(Clone)]
pub struct WeightImage {
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
}

impl WeightImage {
    /// Wraps the owner of the bytes.
    pub fn new(bytes: Arc<dyn AsRef<[u8]> + Send + Sync>) -> WeightImage {
        WeightImage { bytes }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }
}

impl fmt::Debug for WeightImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WeightImage of {} bytes", self.bytes().len())
    }
}

/// How a device accesses an image in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageAccess {
    /// Reads it into the device's memory, checking each chunk.
    #[default]
    Read,
    /// Maps the file, and uses it in place where the device can. Nothing is checked.
    Map,
}

/// What a device traced.
#[derive(Clone, Debug, PartialEq)]
pub enum Trace {
    /// A trace in the JSON form of Chrome and Perfetto, of a device that writes its own.
    Chrome(String),
    /// What the device's threads did.
    Timeline(Timeline),
}

/// A device that runs plans.
pub trait Device: Send + Sync {
    /// The description that the compiler needs.
    fn target(&self) -> Target;

    /// Totals of all steps so far.
    fn counters(&self) -> Counters;

    /// Free device memory in bytes; `None` if the device works in host memory or does not report it.
    fn available_bytes(&self) -> Option<u64> {
        None
    }

    /// Whose memory [`Device::available_bytes`] counts, for messages.
    fn memory_name(&self) -> String {
        self.target().name
    }

    /// Its peak rates, if it knows them; a profile that was measured goes before.
    fn ceilings(&self) -> Option<Ceilings> {
        None
    }

    /// Bytes of working memory, besides weights, states and arena, that steps of this family need with these
    /// pools. Called before anything is loaded; 0 if negligible.
    fn scratch_bytes(&self, family: &PlanFamily, pools: PoolSizes) -> u64 {
        let _ = (family, pools);
        0
    }

    /// Uploads a family's weights in the layouts it asks for, and allocates the pools of its states and its arena.
    ///
    /// # Errors
    /// [`DeviceError::Weight`] if the source lacks a weight or has it in another type; [`DeviceError::OutOfMemory`].
    fn upload(
        &self,
        family: &PlanFamily,
        source: &dyn WeightSource,
        pools: PoolSizes,
    ) -> Result<WeightSet, DeviceError>;

    /// The form of this device's images; `None` if it neither makes nor takes images.
    fn image_form(&self) -> Option<ImageForm> {
        None
    }

    /// The bytes of uploaded weights, for an artefact. The same family and source give the same bytes.
    ///
    /// # Errors
    /// [`DeviceError::NoImage`], [`DeviceError::ForeignHandle`].
    fn image(&self, weights: &WeightSet) -> Result<WeightImage, DeviceError> {
        let _ = weights;
        Err(DeviceError::NoImage { device: self.target().name })
    }

    /// Like [`Device::upload`], from an image that a device of the same form made of the same family. Nothing is
    /// packed.
    ///
    /// # Errors
    /// [`DeviceError::NoImage`], [`DeviceError::Image`] for a damaged or foreign image, [`DeviceError::OutOfMemory`].
    fn upload_image(
        &self,
        family: &PlanFamily,
        image: &WeightFile,
        access: ImageAccess,
        pools: PoolSizes,
    ) -> Result<WeightSet, DeviceError> {
        let _ = (family, image, access, pools);
        Err(DeviceError::NoImage { device: self.target().name })
    }

    /// Makes a plan of the family executable.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] if the device has no kernel for one of its tasks.
    fn load(
        &self,
        family: &PlanFamily,
        plan: &Plan,
        weights: &WeightSet,
        options: &LoadOptions,
    ) -> Result<Box<dyn Executable>, DeviceError>;

    /// Prepares a plan of the family that verifies drafts for bursts of one sequence.
    ///
    /// # Errors
    /// [`DeviceError::NoBurst`] if this device cannot run bursts, or not with this plan; [`DeviceError::OutOfMemory`].
    fn load_burst(&self, family: &PlanFamily, plan: &Plan, weights: &WeightSet) -> Result<Box<dyn Burst>, DeviceError> {
        let _ = (family, plan, weights);
        Err(DeviceError::NoBurst { device: self.target().name, reason: "it runs only single steps".to_owned() })
    }

    /// The kernels that run the tasks of a plan in a step of these dimensions, by index of the task; `None` where the
    /// device does not tell, and for tasks past the end. For reports; needs no weights.
    fn kernels(&self, family: &PlanFamily, plan: &Plan, dims: &Dims) -> Vec<Option<KernelChoice>> {
        let _ = (family, plan, dims);
        Vec::new()
    }

    /// Begins to trace what steps do.
    ///
    /// # Errors
    /// [`DeviceError::NoTrace`] if the device cannot.
    fn trace(&self) -> Result<(), DeviceError> {
        Err(DeviceError::NoTrace { device: self.target().name })
    }

    /// What was traced so far; the trace begins afresh. Not while a step runs.
    ///
    /// # Errors
    /// [`DeviceError::NoTrace`] if the device cannot.
    fn take_trace(&self) -> Result<Trace, DeviceError> {
        Err(DeviceError::NoTrace { device: self.target().name })
    }

    /// Copies whole KV pages `(from, to)` in every state, in order, and waits until done.
    fn copy_pages(&self, weights: &WeightSet, pages: &[(u32, u32)]) -> Result<(), DeviceError>;

    /// Downloads a state in row-major form, for tests and inspection.
    fn download_state(&self, weights: &WeightSet, state: usize) -> Result<Vec<u8>, DeviceError>;
}

/// A plan that is ready to run.
pub trait Executable: Send {
    /// Starts a step.
    ///
    /// # Errors
    /// [`DeviceError::Binding`] if the step does not fit the plan, in which case nothing has run.
    fn submit<'a>(&'a mut self, bindings: &'a mut Bindings<'_, '_>) -> Result<Pending<'a>, DeviceError>;

    /// Starts a step in the form that `choose` returns the index of. It is called once if the step has several forms, and
    /// not at all otherwise. [`Executable::submit`] takes the first.
    ///
    /// # Errors
    /// Those of [`Executable::submit`].
    fn submit_form<'a>(
        &'a mut self,
        choose: &mut dyn FnMut(&[StepForm]) -> usize,
        bindings: &'a mut Bindings<'_, '_>,
    ) -> Result<Pending<'a>, DeviceError> {
        let _ = choose;
        self.submit(bindings)
    }

    /// Rows whose time a step of one sequence takes: more than it has where the device runs fixed shapes only.
    fn padded_rows(&self, rows: u32) -> u32 {
        rows
    }

    /// Sets the numbers of rows that steps of one sequence are padded to where that is less than the device's own choice.
    /// What was made for earlier ones alone is dropped. Nothing happens on a device that does not pad.
    fn pad_to(&mut self, rows: &[u32]) {
        let _ = rows;
    }
}

/// A submitted step.
#[must_use = "a step is over only when it has been waited for"]
pub enum Pending<'a> {
    /// It finished during submission.
    Done(StepReport),
    /// The device is still running it.
    Running(&'a mut dyn Running),
}

/// A running step that can be waited for.
pub trait Running {
    /// Blocks until the step is complete and its outputs are written. Returns what it took.
    fn finish(&mut self) -> Result<StepReport, DeviceError>;
}

impl Pending<'_> {
    /// Blocks until the step is complete and its outputs are written. Returns what it took.
    pub fn wait(self) -> Result<StepReport, DeviceError> {
        match self {
            Pending::Done(report) => Ok(report),
            Pending::Running(step) => step.finish(),
        }
    }
}

impl fmt::Debug for Pending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Pending::Done(_)) { "Done" } else { "Running" })
    }
}
