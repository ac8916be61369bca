//! A plan on the device: one copy of what the step binds, one graph, one wait.
//!
//! Everything runs on one stream, so steps of a model run one after another on the device, whichever executable they
//! belong to. Inputs and outputs belong to the executable.

use crate::args::{FLAG_BIAS, StepHeader};
use crate::driver::nvtx::{self, Range};
use crate::driver::{Driver, Launch, Pinned};
use crate::error::CudaError;
use crate::lower::{Dispatched, MAX_RECENT};
use crate::resident::{Bound, Resident};
use aio_backend::{Bindings, Data, DeviceError, Executable, Pending, StepReport, Submission, Tally, device::Running};
use aio_plan::{Plan, PlanFamily, PoolSizes, StepLoad, StepTime, Traffic};
use std::ffi::CString;
use std::sync::Arc;
use std::time::Instant;

/// The destination of an output of the running step.
#[derive(Clone, Copy)]
struct Target {
    words: *mut u32,
    bytes: usize,
}

/// A loaded plan. See the module docs.
pub(crate) struct CudaExecutable {
    /// First, so that a graph is dropped before the memory it refers to and the driver that made it.
    dispatched: Dispatched,
    driver: Arc<dyn Driver>,
    tally: Arc<Tally>,
    resident: Arc<Resident>,
    /// The plan without its tasks, which are lowered.
    plan: Plan,
    /// The bucket, for profilers.
    name: CString,
    bound: Bound,
    launches: u64,
    submissions: u64,
    /// Header and inputs being copied to the device.
    staging: Pinned,
    /// Small outputs being copied from it.
    results: Pinned,
    /// Targets of the running step, by output; empty if none is running.
    targets: Vec<Target>,
    running: bool,
    /// For profilers, from `submit` to the end of `finish`.
    range: Option<Range>,
    /// The step's number among those that use the model's shared memory.
    large: u64,
    traffic: Traffic,
    /// When the running step began, and its rows and context.
    started: Instant,
    load: StepLoad,
}

// SAFETY: the addresses in `targets` are used only in `finish`, while the executable is mutably borrowed for as long as
// the memory at these addresses is borrowed; all other parts are `Send`.
unsafe impl Send for CudaExecutable {}

impl CudaExecutable {
    pub(crate) fn new(
        driver: Arc<dyn Driver>,
        tally: Arc<Tally>,
        resident: Arc<Resident>,
        family: &PlanFamily,
        plan: &Plan,
        submission: Submission,
    ) -> Result<CudaExecutable, DeviceError> {
        let lowering = nvtx::range(c"lower");
        let bound = resident.bind(&driver, driver.properties(), family, plan)?;
        let launches = bound.program.launches(driver.as_ref())?;
        drop(lowering);
        let _capture = nvtx::range(c"capture");
        let count = launches.len() as u64;
        let dispatched = match submission {
            _ if launches.is_empty() => Dispatched::Nothing,
            // SAFETY: lowering filled in the kernels' own structs (a test compares them), with addresses in the weights,
            // states, arena, scratch and step memory that this executable holds.
            Submission::Graph => Dispatched::Graph(unsafe { driver.capture(&launches) }?),
            Submission::Task => Dispatched::Tasks(launches),
        };
        let step = &bound.program.step;
        let staging = Pinned::new(&driver, step.staging_bytes)?;
        let results = Pinned::new(&driver, step.results_bytes)?;
        let traffic = Traffic::of(family, plan);
        Ok(CudaExecutable {
            driver,
            tally,
            resident,
            plan: Plan { tasks: Vec::new(), ..plan.clone() },
            name: CString::new(plan.bucket.to_string()).unwrap_or_default(),
            bound,
            dispatched,
            launches: count,
            submissions: submission.submissions(plan),
            staging,
            results,
            targets: Vec::with_capacity(plan.outputs.len()),
            running: false,
            range: None,
            large: 0,
            traffic,
            started: Instant::now(),
            load: StepLoad::default(),
        })
    }

    fn check(&self, bindings: &Bindings<'_, '_>) -> Result<(), DeviceError> {
        let (dims, states) = (bindings.dims, &self.resident.states);
        bindings.check(&self.plan, PoolSizes { pages: states.pages, slots: states.slots })?;
        if dims.recent > MAX_RECENT {
            let message = format!("{} tokens are more than there is room for, {MAX_RECENT}", dims.recent);
            return Err(DeviceError::Binding { name: "recent".to_owned(), message });
        }
        Ok(())
    }

    /// Starts copying what the step binds: header and small inputs together, large inputs one by one. Waits only for
    /// inputs whose actual size, not just their bound, is large.
    fn send(&mut self, bindings: &Bindings<'_, '_>) -> Result<(), CudaError> {
        let dims = bindings.dims;
        let program = &self.bound.program;
        let biased = program.bias.is_some_and(|i| bindings.inputs[i.index()].is_some());
        let header = StepHeader {
            rows: dims.rows,
            seqs: dims.seqs,
            outs: dims.outs,
            pages: dims.pages,
            recent: dims.recent,
            flags: if biased { FLAG_BIAS } else { 0 },
            stride: dims.stride,
            spare0: 0,
        };
        let staging = self.staging.bytes_mut();
        let mut end = size_of::<StepHeader>();
        staging[..end].copy_from_slice(bytemuck::bytes_of(&header));
        for (data, spot) in bindings.inputs.iter().zip(&program.step.inputs) {
            let Some(data) = data else { continue };
            let bytes = data.bytes();
            if spot.pins(bytes) {
                staging[spot.pinned..][..bytes.len()].copy_from_slice(bytes);
            }
            if spot.small {
                end = end.max(spot.offset + bytes.len());
            }
        }
        for (data, spot) in bindings.inputs.iter().zip(&program.step.inputs).filter(|(_, s)| !s.small) {
            match data.as_ref().map(Data::bytes) {
                Some(bytes) if spot.pins(bytes) => {
                    self.bound.large.write_pinned(spot.offset, &self.staging, spot.pinned, bytes.len())?;
                }
                Some(bytes) => self.bound.large.write(spot.offset, bytes)?,
                None => {}
            }
        }
        self.bound.step.write_pinned(0, &self.staging, 0, end)
    }

    /// Starts the launches. Waits between tasks that are dispatched separately.
    fn launch(&self) -> Result<(), CudaError> {
        match &self.dispatched {
            Dispatched::Nothing => Ok(()),
            // SAFETY: as in `new`: the graph's addresses are of memory that `self` holds.
            Dispatched::Graph(graph) => unsafe { self.driver.launch_graph(graph) },
            Dispatched::Tasks(launches) => {
                let ends = &self.bound.program.ends;
                let mut from = 0;
                for (i, &end) in ends.iter().enumerate() {
                    self.launch_each(&launches[from..end])?;
                    from = end;
                    if i + 1 < ends.len() {
                        self.driver.synchronize()?;
                    }
                }
                Ok(())
            }
        }
    }

    fn launch_each(&self, launches: &[Launch]) -> Result<(), CudaError> {
        // SAFETY: as in `new`.
        launches.iter().try_for_each(|l| unsafe { self.driver.launch(l) })
    }

    /// Starts copying small outputs, which are contiguous, and records the targets of all outputs.
    fn fetch(&mut self, bindings: &mut Bindings<'_, '_>) -> Result<(), CudaError> {
        self.targets.clear();
        let dims = bindings.dims;
        let step = &self.bound.program.step;
        let mut end = 0;
        for ((words, spec), spot) in bindings.outputs.iter_mut().zip(&self.plan.outputs).zip(&step.outputs) {
            let bytes = spec.ty.bytes(&dims).unwrap_or(0) as usize;
            if spot.small {
                end = end.max(spot.pinned + bytes);
            }
            self.targets.push(Target { words: words.as_mut_ptr(), bytes });
        }
        self.bound.step.read_pinned(step.outputs_start, end, &mut self.results, 0)
    }
}

impl Executable for CudaExecutable {
    fn submit<'a>(&'a mut self, bindings: &'a mut Bindings<'_, '_>) -> Result<Pending<'a>, DeviceError> {
        self.started = Instant::now();
        self.check(bindings)?;
        self.load = bindings.load(&self.plan);
        if self.running {
            // The last step was never waited for, and may still read the staging memory.
            self.driver.synchronize()?;
        }
        self.running = true;
        self.range = Some(nvtx::range(&self.name));
        if self.bound.program.step.shares() {
            self.large = self.resident.take_large();
        }
        let begun = self.send(bindings).and_then(|()| self.launch()).and_then(|()| self.fetch(bindings));
        if let Err(e) = begun {
            // Started work must finish before its memory is reused. The first error is the one reported.
            let _ = self.driver.synchronize();
            self.running = false;
            self.range = None;
            return Err(e.into());
        }
        Ok(Pending::Running(self))
    }
}

impl Running for CudaExecutable {
    fn finish(&mut self) -> Result<StepReport, DeviceError> {
        let step = &self.bound.program.step;
        let lost = !self.resident.has_large(self.large);
        for (target, spot) in self.targets.iter().zip(&step.outputs).filter(|(_, s)| !s.small) {
            debug_assert!(target.bytes <= spot.bytes);
            if lost {
                let reason = "another step of the model began before this one's large outputs were fetched";
                return Err(DeviceError::Failed(reason.to_owned()));
            }
            // SAFETY: the caller's words have at least these bytes (`Bindings::check`) and are borrowed until this returns,
            // which is after `synchronize`.
            unsafe { self.bound.large.begin_read(spot.offset, target.bytes, target.words.cast())? };
        }
        self.running = false;
        self.driver.synchronize()?;
        for (target, spot) in self.targets.iter().zip(&step.outputs).filter(|(_, s)| s.small) {
            let from = &self.results.bytes()[spot.pinned..][..target.bytes];
            // SAFETY: the words have at least these bytes (`Bindings::check`) and are borrowed until this returns.
            unsafe { target.words.cast::<u8>().copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        }
        self.targets.clear();
        self.range = None;
        let time = StepTime::Measured(self.started.elapsed().as_secs_f64());
        let report = StepReport::new(&self.traffic, self.load, self.submissions, time);
        self.tally.add(&report, self.launches);
        Ok(report)
    }
}

impl Drop for CudaExecutable {
    fn drop(&mut self) {
        if self.running {
            // A step that was not waited for still uses the memory that is freed now.
            let _ = self.driver.synchronize();
        }
    }
}
