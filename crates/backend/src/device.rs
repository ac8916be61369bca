//! The traits. See the crate's front page for the contract.

use crate::{Bindings, Burst, Counters, DeviceError, WeightSource};
use aio_plan::artefact::WeightFile;
use aio_plan::{Plan, PlanFamily, Target};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A model's weights, KV pool and arena on a device; handed back to the device that made it. Cloning shares it.
#[derive(Clone)]
pub struct WeightSet {
    inner: Arc<dyn Any + Send + Sync>,
}

impl WeightSet {
    /// Wraps what a device keeps of a model.
    pub fn new<T: Any + Send + Sync>(resident: T) -> WeightSet {
        WeightSet { inner: Arc::new(resident) }
    }

    /// What the device put in; an error if another kind of device made it.
    pub fn get<T: Any + Send + Sync>(&self) -> Result<Arc<T>, DeviceError> {
        Arc::clone(&self.inner).downcast().map_err(|_| DeviceError::ForeignHandle)
    }
}

impl fmt::Debug for WeightSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeightSet")
    }
}

/// How the tasks of a plan reach the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Submission {
    /// All in one submission, with one synchronisation at the end.
    #[default]
    Graph,
    /// Each in a submission and a synchronisation of its own: the baseline that whole plans are measured against.
    Task,
}

impl Submission {
    /// Submissions, and as many synchronisations, of one step of a plan.
    pub fn submissions(self, plan: &Plan) -> u64 {
        match self {
            Submission::Graph => 1,
            Submission::Task => plan.tasks.len() as u64,
        }
    }
}

/// How a plan is made executable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// How its tasks reach the device. Results do not depend on it; the counters of submissions and
    /// synchronisations do.
    pub submission: Submission,
}

/// The form in which a device keeps weights. Two devices with the same form take each other's images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageForm {
    /// Its name, which artefacts carry.
    pub name: &'static str,
    /// Hash of the sources that make it: a change of it makes older images stale.
    pub sources: &'static str,
}

/// A family's weights as a device keeps them, byte for byte. Holds on to the weights.
#[derive(Clone)]
pub struct WeightImage {
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
}

impl WeightImage {
    /// Wraps what holds the bytes.
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

/// How a device gets at an image that lies in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageAccess {
    /// It is read into the device's memory, and each chunk is checked on the way.
    #[default]
    Read,
    /// The file is mapped and used in place where the device can; nothing is checked.
    Map,
}

/// Somewhere plans can run.
pub trait Device: Send + Sync {
    /// What the compiler needs to know.
    fn target(&self) -> Target;

    /// Sizes of steps, in rows, up to which it has other ways than for larger ones, so that a plan of that size is worth its
    /// memory. None where all sizes go the same way.
    fn step_rows(&self) -> &'static [u32] {
        &[]
    }

    /// Totals of all steps so far.
    fn counters(&self) -> Counters;

    /// Bytes of the device's own memory that can still be taken; `None` if it works in the host's memory, or does not say.
    fn available_bytes(&self) -> Option<u64> {
        None
    }

    /// Bytes of working memory, beside weights, KV pool and arena, that steps of this family take with a pool of `pages`
    /// pages. Asked before anything is loaded; 0 where there is none to speak of.
    fn scratch_bytes(&self, family: &PlanFamily, pages: u32) -> u64 {
        let _ = (family, pages);
        0
    }

    /// Takes a family's weights in the layouts it asks for, and makes its KV pool of `pages` pages and its arena.
    ///
    /// # Errors
    /// [`DeviceError::Weight`] if the source lacks a weight or has it in another type, [`DeviceError::OutOfMemory`].
    fn upload(&self, family: &PlanFamily, source: &dyn WeightSource, pages: u32) -> Result<WeightSet, DeviceError>;

    /// The form of this device's images; `None` if it has none and so neither makes nor takes them.
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

    /// As [`Device::upload`], from an image that a device of the same form made of the same family: nothing is packed.
    ///
    /// # Errors
    /// [`DeviceError::NoImage`], [`DeviceError::Image`] for a damaged or foreign image, [`DeviceError::OutOfMemory`].
    fn upload_image(
        &self,
        family: &PlanFamily,
        image: &WeightFile,
        access: ImageAccess,
        pages: u32,
    ) -> Result<WeightSet, DeviceError> {
        let _ = (family, image, access, pages);
        Err(DeviceError::NoImage { device: self.target().name })
    }

    /// Makes a plan of that family executable.
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

    /// Makes a plan of that family, one that verifies drafts, ready for bursts of one sequence.
    ///
    /// # Errors
    /// [`DeviceError::NoBurst`] if this device, or this plan on it, runs none; [`DeviceError::OutOfMemory`].
    fn load_burst(&self, family: &PlanFamily, plan: &Plan, weights: &WeightSet) -> Result<Box<dyn Burst>, DeviceError> {
        let _ = (family, plan, weights);
        Err(DeviceError::NoBurst { device: self.target().name, reason: "it runs only single steps".to_owned() })
    }

    /// Copies whole KV pages `(from, to)` in every state, in order. Waits for it.
    fn copy_pages(&self, weights: &WeightSet, pages: &[(u32, u32)]) -> Result<(), DeviceError>;

    /// Reads a state, in its row-major form, for tests and inspection.
    fn download_state(&self, weights: &WeightSet, state: usize) -> Result<Vec<u8>, DeviceError>;
}

/// A plan that is ready to run.
pub trait Executable: Send {
    /// Starts a step.
    ///
    /// # Errors
    /// [`DeviceError::Binding`] if the step does not fit the plan; nothing has run then.
    fn submit<'a>(&'a mut self, bindings: &'a mut Bindings<'_, '_>) -> Result<Pending<'a>, DeviceError>;
}

/// A step under way.
#[must_use = "a step is over only when it has been waited for"]
pub enum Pending<'a> {
    /// It ran to its end while it was submitted.
    Done,
    /// The device still works on it.
    Running(&'a mut dyn Running),
}

/// What waits for a running step.
pub trait Running {
    /// Blocks until the step is over and its outputs are in place.
    fn finish(&mut self) -> Result<(), DeviceError>;
}

impl Pending<'_> {
    /// Blocks until the step is over and its outputs are in place.
    pub fn wait(self) -> Result<(), DeviceError> {
        match self {
            Pending::Done => Ok(()),
            Pending::Running(step) => step.finish(),
        }
    }
}

impl fmt::Debug for Pending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Pending::Done) { "Done" } else { "Running" })
    }
}
