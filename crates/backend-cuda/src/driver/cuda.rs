//! A real GPU through the CUDA driver. Only this module and its submodules call cudarc, which opens the libraries at
//! run time.
//!
//! cudarc panics if a library or a symbol is missing, so both are checked first, and the driver's version is checked
//! before calls that older drivers lack. One context, one stream. This module cannot run without a GPU, so everything
//! that can be decided elsewhere is.

mod attributes;
mod event;
mod failed;
mod function;

use super::cache::Cache;
use super::nvrtc;
use super::{BurstKernel, DECLARED_SHARED_BYTES, Driver, Graph, Kernel, Launch, Properties, THREADS};
use crate::error::CudaError;
use crate::images::KernelImages;
use attributes::{overlapping, together};
use cudarc::driver::result::{self, DriverError, stream};
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};
use event::Event;
use failed::failed;
use function::Function;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Mutex, PoisonError};

/// Minimum driver version: CUDA 12.0, which introduced the current graph instantiation.
const MIN_VERSION: i32 = 12000;
/// Minimum architecture, ten times major plus minor: has asynchronous copies, and bf16 on tensor cores.
const MIN_ARCHITECTURE: u32 = 80;
/// Minimum driver and architecture for a kernel in a graph to start while the previous one ends.
const OVERLAP_VERSION: i32 = 12030;
const OVERLAP_ARCHITECTURE: u32 = 90;

/// A GPU. See the module docs.
pub(crate) struct Cuda {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    properties: Properties,
    /// Whether launches of a graph carry the attribute for programmatic stream serialisation.
    overlap: bool,
    /// See [`Function::new`].
    carveout: Option<u32>,
    modules: Vec<sys::CUmodule>,
    kernels: Mutex<Kernels>,
    /// Sources of the burst kernel and the cache for its binaries.
    images: KernelImages,
    cache: Cache,
}

#[derive(Default)]
struct Kernels {
    by_name: HashMap<String, usize>,
    functions: Vec<Function>,
    /// Modules of bursts, one per model.
    bursts: Vec<sys::CUmodule>,
}

/// A captured graph, ready to run.
struct Captured {
    exec: sys::CUgraphExec,
    context: sys::CUcontext,
}

// SAFETY: driver handles may be used from any thread; `Cuda::enter` makes the context current first.
unsafe impl Send for Cuda {}
// SAFETY: as above; the driver locks what its calls share.
unsafe impl Sync for Cuda {}
// SAFETY: as for `Cuda`.
unsafe impl Send for Captured {}
// SAFETY: as for `Cuda`.
unsafe impl Sync for Captured {}

fn out_of_memory(call: &'static str, bytes: usize) -> impl Fn(DriverError) -> CudaError {
    move |e| match e.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => CudaError::OutOfMemory { bytes: bytes as u64 },
        _ => failed(call)(e),
    }
}

/// The first GPU, if the driver is new enough, and the driver's version.
fn first_gpu() -> Result<(sys::CUdevice, i32), CudaError> {
    // SAFETY: it opens the library, whose constructors are the driver's.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver);
    }
    result::init().map_err(|e| match e.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => CudaError::NoGpu,
        _ => failed("cuInit")(e),
    })?;
    let mut version = 0;
    // SAFETY: the call writes one number.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(failed("cuDriverGetVersion"))?;
    if version < MIN_VERSION {
        let text = |v: i32| format!("{}.{}", v / 1000, v % 1000 / 10);
        return Err(CudaError::OldDriver { found: text(version), needed: text(MIN_VERSION) });
    }
    if result::device::get_count().map_err(failed("cuDeviceGetCount"))? == 0 {
        return Err(CudaError::NoGpu);
    }
    Ok((result::device::get(0).map_err(failed("cuDeviceGet"))?, version))
}

fn properties(device: sys::CUdevice) -> Result<Properties, CudaError> {
    let attribute = |which: Attribute| {
        // SAFETY: `first_gpu` got the device.
        let value = unsafe { result::device::get_attribute(device, which) };
        value.map(|v| v.max(0) as u32).map_err(failed("cuDeviceGetAttribute"))
    };
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok(Properties {
        name: result::device::get_name(device).map_err(failed("cuDeviceGetName"))?,
        architecture: 10 * major + minor,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        multiprocessor_shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?,
        declared_bytes: DECLARED_SHARED_BYTES,
    })
}

/// The first GPU's properties, without allocating anything on it.
pub(crate) fn probe() -> Result<Properties, CudaError> {
    let found = properties(first_gpu()?.0)?;
    if found.architecture < MIN_ARCHITECTURE {
        return Err(CudaError::Architecture { found: found.architecture });
    }
    Ok(found)
}

/// Loads a cubin into the current context.
fn load(cubin: &[u8]) -> Result<sys::CUmodule, CudaError> {
    // SAFETY: the image is a whole cubin, which the driver copies.
    unsafe { result::module::load_data(cubin.as_ptr().cast()) }.map_err(failed("cuModuleLoadData"))
}

impl Cuda {
    /// Opens the first GPU and loads all kernels. With `overlap`, kernels of a graph may start while earlier ones end;
    /// `carveout` as in [`Function::new`].
    ///
    /// # Errors
    /// Every reason why there is no GPU, or no kernels for it.
    pub(crate) fn open(
        images: &KernelImages,
        cache: &Cache,
        overlap: bool,
        carveout: Option<u32>,
    ) -> Result<Cuda, CudaError> {
        let properties = probe()?;
        let (device, version) = first_gpu()?;
        let overlap = overlap && version >= OVERLAP_VERSION && properties.architecture >= OVERLAP_ARCHITECTURE;
        // Everything that needs no GPU comes before creating its context, which is slow.
        let cubins = nvrtc::cubins(images, properties.architecture, cache)?;
        // SAFETY: `first_gpu` got the device.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(failed("cuDevicePrimaryCtxRetain"))?;
        let stream = std::ptr::null_mut();
        let (modules, kernels) = (Vec::new(), Mutex::default());
        let (images, cache) = (*images, cache.clone());
        let mut cuda = Cuda { device, context, stream, properties, overlap, carveout, modules, kernels, images, cache };
        cuda.enter()?;
        cuda.stream = stream::create(stream::StreamKind::NonBlocking).map_err(failed("cuStreamCreate"))?;
        for cubin in &cubins {
            cuda.modules.push(load(cubin)?);
        }
        Ok(cuda)
    }

    /// Makes the context current on this thread.
    fn enter(&self) -> Result<(), CudaError> {
        // SAFETY: `open` retained the context.
        unsafe { result::ctx::set_current(self.context) }.map_err(failed("cuCtxSetCurrent"))
    }

    fn kernels(&self) -> std::sync::MutexGuard<'_, Kernels> {
        // Each change is one insertion, so the contents are valid even after a panic.
        self.kernels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Result<sys::CUfunction, CudaError> {
        let none = || CudaError::NoKernel(name.to_owned());
        let symbol = CString::new(name).map_err(|_| none())?;
        // SAFETY: the modules are loaded until `self` goes.
        let of = |m: &sys::CUmodule| unsafe { result::module::get_function(*m, symbol.clone()) }.ok();
        self.modules.iter().find_map(of).ok_or_else(none)
    }

    /// The burst function for tasks of these kernels.
    fn burst(&self, kernels: &[String]) -> Result<Kernel, CudaError> {
        let name = format!("burst of {}", kernels.join(" "));
        if let Some(&index) = self.kernels().by_name.get(&name) {
            return Ok(Kernel(index));
        }
        let cubin = nvrtc::burst_cubin(&self.images, self.properties.architecture, &self.cache, kernels)?;
        let module = load(&cubin)?;
        let mut all = self.kernels();
        all.bursts.push(module);
        // SAFETY: the module is loaded until `self` goes.
        let function = unsafe { result::module::get_function(module, c"burst".to_owned()) };
        all.functions.push(Function::new(function.map_err(failed("cuModuleGetFunction"))?, self.carveout)?);
        let index = all.functions.len() - 1;
        all.by_name.insert(name, index);
        Ok(Kernel(index))
    }

    /// Number of blocks of a kernel that the device can hold at once.
    fn resident_blocks(&self, kernel: Kernel, shared_bytes: u32) -> Result<u32, CudaError> {
        let function = self.kernels().functions[kernel.0].function;
        // SAFETY: `first_gpu` got the device.
        let can =
            unsafe { result::device::get_attribute(self.device, Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH) };
        if can.map_err(failed("cuDeviceGetAttribute"))? == 0 {
            return Err(CudaError::NoBurst("the GPU has no cooperative launches".to_owned()));
        }
        // SAFETY: the function is of a loaded module.
        let each = unsafe {
            result::occupancy::max_active_block_per_multiprocessor(function, THREADS as i32, shared_bytes as usize)
        };
        let each = each.map_err(failed("cuOccupancyMaxActiveBlocksPerMultiprocessor"))?.max(0) as u32;
        if each == 0 {
            let reason = format!("a multiprocessor has no room for {shared_bytes} bytes of shared memory a block");
            return Err(CudaError::NoBurst(reason));
        }
        Ok(each * self.properties.multiprocessors)
    }

    /// Starts a launch, optionally with an attribute.
    fn start(&self, launch: &Launch, attribute: Option<sys::CUlaunchAttribute>) -> Result<(), CudaError> {
        let function = self.kernels().functions[launch.kernel.0].function;
        // The driver reads the struct before it returns. Words align it as its fields require.
        let mut args: smallvec::SmallVec<[u64; 64]> = smallvec::smallvec![0; launch.args.len().div_ceil(8)];
        bytemuck::cast_slice_mut::<u64, u8>(&mut args)[..launch.args.len()].copy_from_slice(&launch.args);
        let mut params = [args.as_mut_ptr().cast::<c_void>()];
        let mut attributes: smallvec::SmallVec<[sys::CUlaunchAttribute; 1]> = attribute.into_iter().collect();
        let config = sys::CUlaunchConfig {
            gridDimX: launch.grid[0],
            gridDimY: launch.grid[1],
            gridDimZ: 1,
            blockDimX: THREADS,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.shared_bytes,
            hStream: self.stream,
            attrs: attributes.as_mut_ptr(),
            numAttrs: attributes.len() as u32,
        };
        // SAFETY: the function is of a loaded module and takes one struct by value, which the caller vouches for; the driver
        // reads configuration, attributes and struct before it returns.
        unsafe { sys::cuLaunchKernelEx(&config, function, params.as_mut_ptr(), std::ptr::null_mut()) }
            .result()
            .map_err(failed("cuLaunchKernelEx"))
    }
}

impl Driver for Cuda {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn available_bytes(&self) -> Option<u64> {
        self.enter().ok()?;
        result::mem_get_info().ok().map(|(free, _)| free as u64)
    }

    fn allocate(&self, bytes: usize) -> Result<u64, CudaError> {
        self.enter()?;
        // SAFETY: unwritten memory is never read: `Memory` is cleared or written first.
        unsafe { result::malloc_sync(bytes) }.map_err(out_of_memory("cuMemAlloc", bytes))
    }

    unsafe fn free(&self, at: u64) {
        // A failure cannot be reported or handled here. The call waits for running work.
        if self.enter().is_ok() {
            // SAFETY: the caller's promise.
            let _ = unsafe { result::free_sync(at) };
        }
    }

    fn allocate_host(&self, bytes: usize) -> Result<*mut u8, CudaError> {
        self.enter()?;
        // SAFETY: `Pinned` clears the bytes before they are read.
        let at = unsafe { result::malloc_host(bytes, 0) };
        at.map(|p| p.cast()).map_err(out_of_memory("cuMemHostAlloc", bytes))
    }

    unsafe fn free_host(&self, at: *mut u8, _: usize) {
        if self.enter().is_ok() {
            // SAFETY: the caller's promise.
            let _ = unsafe { result::free_host(at.cast()) };
        }
    }

    unsafe fn clear(&self, at: u64, bytes: usize) -> Result<(), CudaError> {
        self.enter()?;
        // SAFETY: the caller's promise.
        unsafe { result::memset_d8_async(at, 0, bytes, self.stream) }.map_err(failed("cuMemsetD8Async"))
    }

    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<(), CudaError> {
        self.enter()?;
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream) }.map_err(failed("cuMemcpyHtoDAsync"))
    }

    unsafe fn read(&self, to: *mut u8, from: u64, bytes: usize) -> Result<(), CudaError> {
        self.enter()?;
        // SAFETY: the caller's promise: the bytes may be written, and stay.
        let to = unsafe { std::slice::from_raw_parts_mut(to, bytes) };
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(to, from, self.stream) }.map_err(failed("cuMemcpyDtoHAsync"))
    }

    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), CudaError> {
        self.enter()?;
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream) }.map_err(failed("cuMemcpyDtoDAsync"))
    }

    fn kernel(&self, name: &str, shared_bytes: u32) -> Result<Kernel, CudaError> {
        self.enter()?;
        let mut kernels = self.kernels();
        let index = match kernels.by_name.get(name) {
            Some(&index) => index,
            None => {
                kernels.functions.push(Function::new(self.find(name)?, self.carveout)?);
                let index = kernels.functions.len() - 1;
                kernels.by_name.insert(name.to_owned(), index);
                index
            }
        };
        kernels.functions[index].allow(shared_bytes)?;
        Ok(Kernel(index))
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<(), CudaError> {
        self.enter()?;
        self.start(launch, None)
    }

    fn allocate_mapped(&self, bytes: usize) -> Result<(*mut u8, u64), CudaError> {
        self.enter()?;
        // SAFETY: `Mapped` clears the bytes before they are read.
        let host = unsafe { result::malloc_host(bytes, sys::CU_MEMHOSTALLOC_DEVICEMAP) };
        let host = host.map_err(out_of_memory("cuMemHostAlloc", bytes))?;
        let mut at = 0;
        // SAFETY: the memory was just taken as mapped; the call writes an address.
        let found = unsafe { sys::cuMemHostGetDevicePointer_v2(&mut at, host, 0) }.result();
        if let Err(e) = found {
            // SAFETY: the memory is not used yet.
            let _ = unsafe { result::free_host(host) };
            return Err(failed("cuMemHostGetDevicePointer")(e));
        }
        Ok((host.cast(), at))
    }

    fn burst_kernel(&self, kernels: &[String], shared_bytes: u32) -> Result<BurstKernel, CudaError> {
        self.enter()?;
        let kernel = self.burst(kernels)?;
        {
            let mut all = self.kernels();
            let function = &mut all.functions[kernel.0];
            self.properties.check_burst(shared_bytes, function.declared)?;
            function.allow(shared_bytes)?;
        }
        let blocks = self.resident_blocks(kernel, shared_bytes)?;
        Ok(BurstKernel { kernel, numbers: (0..kernels.len() as u32).collect(), blocks })
    }

    unsafe fn launch_together(&self, launch: &Launch) -> Result<(), CudaError> {
        self.enter()?;
        self.start(launch, Some(together()))
    }

    fn is_idle(&self) -> bool {
        // SAFETY: `open` made the stream. Any other error is reported by waiting.
        let said = self.enter().map(|()| unsafe { sys::cuStreamQuery(self.stream) });
        said != Ok(sys::CUresult::CUDA_ERROR_NOT_READY)
    }

    unsafe fn capture(&self, launches: &[Launch]) -> Result<Graph, CudaError> {
        self.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: `open` made the stream.
        unsafe { stream::begin_capture(self.stream, mode) }.map_err(failed("cuStreamBeginCapture"))?;
        // The first kernel has no predecessor; work before the graph is done when the graph starts.
        let started =
            launches.iter().enumerate().try_for_each(|(i, l)| self.start(l, (self.overlap && i > 0).then(overlapping)));
        // The capture ends even if a launch failed, so that the stream can be used again.
        // SAFETY: `open` made the stream.
        let graph = unsafe { stream::end_capture(self.stream) }.map_err(failed("cuStreamEndCapture"));
        started?;
        let graph = graph?;
        let mut exec = std::ptr::null_mut();
        // SAFETY: `end_capture` gave the graph, which is not needed once it is instantiated.
        let made = unsafe { sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0) }.result();
        // SAFETY: as above.
        let _ = unsafe { result::graph::destroy(graph) };
        made.map_err(out_of_memory("cuGraphInstantiate", 0))?;
        let captured = Captured { exec, context: self.context };
        // Avoids the upload at the first launch.
        // SAFETY: the graph was just instantiated.
        unsafe { result::graph::upload(exec, self.stream) }.map_err(failed("cuGraphUpload"))?;
        Ok(Graph(Box::new(captured)))
    }

    unsafe fn launch_graph(&self, graph: &Graph) -> Result<(), CudaError> {
        self.enter()?;
        let captured = graph.0.downcast_ref::<Captured>().expect("`capture` made the graph");
        // SAFETY: the graph is instantiated; the caller vouches for what it touches.
        unsafe { result::graph::launch(captured.exec, self.stream) }.map_err(failed("cuGraphLaunch"))
    }

    fn seconds(&self, begin: &mut dyn FnMut() -> Result<(), CudaError>) -> Result<f64, CudaError> {
        self.enter()?;
        let (from, to) = (Event::new()?, Event::new()?);
        from.record(self.stream)?;
        begin()?;
        to.record(self.stream)?;
        self.synchronize()?;
        // SAFETY: both events were recorded on the stream, which has passed them.
        unsafe { from.seconds_to(&to) }
    }

    fn synchronize(&self) -> Result<(), CudaError> {
        self.enter()?;
        // SAFETY: `open` made the stream.
        unsafe { stream::synchronize(self.stream) }.map_err(failed("cuStreamSynchronize"))
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        // SAFETY: the context is the driver's primary one; the graph is not running, because its user has waited.
        unsafe {
            let _ = result::ctx::set_current(self.context);
            let _ = result::graph::exec_destroy(self.exec);
        }
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        // SAFETY: nothing uses stream, modules and context any more: executables and memory hold the driver.
        unsafe {
            for module in self.modules.iter().chain(&self.kernels().bursts) {
                let _ = result::module::unload(*module);
            }
            if !self.stream.is_null() {
                let _ = stream::destroy(self.stream);
            }
            let _ = result::primary_ctx::release(self.device);
        }
    }
}
