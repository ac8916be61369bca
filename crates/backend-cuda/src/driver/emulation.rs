//! The emulation as a driver: kernels run synchronously on the host, in host memory. Only a burst runs on a separate
//! thread, because the tokens it shows while running are part of its contract.
//!
//! Tests build the library from `kernels/cuda/emulate.cpp`, which documents its exports. A graph is the list of its
//! launches.

use super::{BurstKernel, DECLARED_SHARED_BYTES, Driver, Graph, Kernel, Launch, Properties, THREADS};
use crate::error::CudaError;
use libloading::{Library, Symbol};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The order in which threads continue between synchronisation points, which results must not depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadOrder {
    /// From the first to the last.
    Ascending,
    /// From the last to the first.
    Descending,
    /// Shuffled at every turn.
    Random {
        /// Seed of the generator.
        seed: u64,
    },
}

/// Options of the emulation.
#[derive(Clone, Copy, Debug)]
pub struct EmulationOptions {
    /// Order of threads.
    pub order: ThreadOrder,
    /// Number of multiprocessors it reports, which determines grids.
    pub multiprocessors: u32,
    /// Host threads that run blocks.
    pub host_threads: u32,
    /// Bytes of device memory it reports.
    pub memory_bytes: u64,
    /// Bursts end immediately without informing the host, as after a trap in their kernel.
    pub burst_fault: bool,
}

impl Default for EmulationOptions {
    fn default() -> EmulationOptions {
        EmulationOptions {
            order: ThreadOrder::Ascending,
            multiprocessors: 4,
            host_threads: 2,
            memory_bytes: 80 << 30,
            burst_fault: false,
        }
    }
}

/// `emulate::Launch` in the library.
#[repr(C)]
struct RawLaunch {
    name: *const c_char,
    args: *const u8,
    args_bytes: u32,
    grid: [u32; 3],
    threads: u32,
    shared_bytes: u32,
    order: u32,
    host_threads: u32,
    seed: u64,
}

/// `ArgsField` in the library.
#[repr(C)]
struct RawField {
    kind: *const c_char,
    field: *const c_char,
    offset: u32,
    bytes: u32,
}

type LaunchFn = unsafe extern "C" fn(*const RawLaunch) -> *const c_char;
type KernelFn = unsafe extern "C" fn(u32, *mut u32) -> *const c_char;
type FieldFn = unsafe extern "C" fn(u32) -> *const RawField;

/// A field of a kernel's arguments in the library: struct, field (empty for the struct itself), offset, bytes.
pub type ArgsField = (String, String, u32, u32);

/// Alignment of allocations.
const ALIGNMENT: usize = 256;
/// Guard bytes on both sides of an allocation, which must not be written.
const GUARD_BYTES: usize = 4096;
const GUARD: u8 = 0xC3;
/// Value of memory that was never written: a NaN in every float type.
const GARBAGE: u8 = 0xFF;

/// The emulated driver. See the module docs.
pub(crate) struct Emulation {
    library: Library,
    launch: LaunchFn,
    properties: Properties,
    options: EmulationOptions,
    kernels: Vec<(CString, usize)>,
    /// Sizes of allocations, by address.
    allocations: Mutex<HashMap<u64, usize>>,
    /// The running burst.
    running: Mutex<Option<JoinHandle<Result<(), CudaError>>>>,
}

impl Emulation {
    /// Opens a library.
    ///
    /// # Errors
    /// [`CudaError::Emulation`].
    pub(crate) fn open(library: &Path, options: EmulationOptions) -> Result<Emulation, CudaError> {
        let fail = |e: libloading::Error| CudaError::Emulation(format!("{}: {e}", library.display()));
        // SAFETY: the library is that of `emulate.cpp`, whose constructors only fill a list of kernels.
        let library = unsafe { Library::new(library) }.map_err(fail)?;
        // SAFETY: `emulate.cpp` declares it so; the pointer is used only while the library is held.
        let launch = *unsafe { library.get::<LaunchFn>(b"aio_emulate_launch\0") }.map_err(fail)?;
        let kernels = kernels(&library).map_err(fail)?;
        let properties = Properties {
            name: "emulation".to_owned(),
            architecture: 90,
            multiprocessors: options.multiprocessors.max(1),
            shared_bytes: 227 << 10,
            multiprocessor_shared_bytes: 228 << 10,
            declared_bytes: DECLARED_SHARED_BYTES,
        };
        let (allocations, running) = (Mutex::default(), Mutex::default());
        Ok(Emulation { library, launch, properties, options, kernels, allocations, running })
    }

    fn allocations(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        // Each change is one insertion or removal, so the contents are valid even after a panic.
        self.allocations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, Option<JoinHandle<Result<(), CudaError>>>> {
        // Each change is one exchange.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the running burst, if any, because started work runs in order.
    fn wait(&self) -> Result<(), CudaError> {
        let burst = self.running().take();
        let panicked = |_| Err(CudaError::Emulation("a burst panicked".to_owned()));
        burst.map_or(Ok(()), |b| b.join().unwrap_or_else(panicked))
    }

    /// A launch whose blocks run on `host_threads` host threads; 0 gives each block a thread.
    fn run(&self, launch: &Launch, host_threads: u32) -> EmulatedLaunch {
        let (name, args_bytes) = self.kernels[launch.kernel.0].clone();
        EmulatedLaunch {
            run: self.launch,
            name,
            args_bytes,
            of: launch.clone(),
            order: self.options.order,
            host_threads,
        }
    }
}

/// A launch with everything it needs to run on any thread.
struct EmulatedLaunch {
    run: LaunchFn,
    name: CString,
    args_bytes: usize,
    of: Launch,
    order: ThreadOrder,
    host_threads: u32,
}

impl EmulatedLaunch {
    /// Runs it to completion.
    ///
    /// # Safety
    /// As [`Driver::launch`], and the library is open.
    unsafe fn finish(&self) -> Result<(), CudaError> {
        let (name, launch) = (&self.name, &self.of);
        let fail = |reason: String| Err(CudaError::Call { call: "launch", reason });
        if self.args_bytes != launch.args.len() {
            return fail(format!("{name:?} takes {} bytes of arguments, not {}", self.args_bytes, launch.args.len()));
        }
        some("launch", launch.grid[0].min(launch.grid[1]) as usize)?;
        let (order, seed) = match self.order {
            ThreadOrder::Ascending => (0, 0),
            ThreadOrder::Descending => (1, 0),
            ThreadOrder::Random { seed } => (2, seed),
        };
        let raw = RawLaunch {
            name: name.as_ptr(),
            args: launch.args.as_ptr(),
            args_bytes: launch.args.len() as u32,
            grid: [launch.grid[0], launch.grid[1], 1],
            threads: THREADS,
            shared_bytes: launch.shared_bytes,
            order,
            host_threads: self.host_threads,
            seed,
        };
        // SAFETY: the caller's promise covers what the kernel touches; the library reads `raw` and returns a literal.
        let error = unsafe { (self.run)(&raw).as_ref() };
        match error {
            None => Ok(()),
            // SAFETY: the message is a literal of the library.
            Some(text) => fail(format!("{name:?}: {}", unsafe { CStr::from_ptr(text) }.to_string_lossy())),
        }
    }
}

impl Drop for Emulation {
    fn drop(&mut self) {
        // The library must stay open while its code runs. An error cannot be reported here.
        let _ = self.wait();
    }
}

/// The library's table of the kernels' arguments, for comparison with [`crate::args::FIELDS`].
///
/// # Errors
/// [`CudaError::Emulation`].
pub fn emulated_fields(library: &Path) -> Result<Vec<ArgsField>, CudaError> {
    let open = Emulation::open(library, EmulationOptions::default())?;
    // SAFETY: `fields.inc` declares it so.
    let field: Symbol<'_, FieldFn> =
        unsafe { open.library.get(b"aio_emulate_field\0") }.map_err(|e| CudaError::Emulation(e.to_string()))?;
    // SAFETY: any index may be asked for; the library gives a pointer into its table, or null past the end.
    let at = |i: u32| unsafe { field(i).as_ref() };
    let text = |p: *const c_char| {
        // SAFETY: names in the table are literals.
        unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned()
    };
    let fields = (0..).map_while(at).map(|f| (text(f.kind), text(f.field), f.offset, f.bytes));
    Ok(fields.collect())
}

/// Names of all kernels and sizes of their arguments in bytes.
fn kernels(library: &Library) -> Result<Vec<(CString, usize)>, libloading::Error> {
    // SAFETY: `emulate.cpp` declares it so.
    let kernel: Symbol<'_, KernelFn> = unsafe { library.get(b"aio_emulate_kernel\0") }?;
    let mut all = Vec::new();
    loop {
        let mut bytes = 0;
        // SAFETY: any index may be asked for, and `bytes` is written only with a kernel.
        let name = unsafe { kernel(all.len() as u32, &mut bytes) };
        if name.is_null() {
            return Ok(all);
        }
        // SAFETY: names in the table are literals.
        all.push((unsafe { CStr::from_ptr(name) }.to_owned(), bytes as usize));
    }
}

/// Rejects operations on zero items, which a GPU's driver may reject.
fn some(call: &'static str, count: usize) -> Result<(), CudaError> {
    let refused = || CudaError::Call { call, reason: "of nothing".to_owned() };
    if count == 0 { Err(refused()) } else { Ok(()) }
}

fn guarded(bytes: usize) -> Layout {
    Layout::from_size_align(bytes + 2 * GUARD_BYTES, ALIGNMENT).expect("`allocate` bounds the size")
}

impl Driver for Emulation {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn available_bytes(&self) -> Option<u64> {
        let taken: usize = self.allocations().values().sum();
        Some(self.options.memory_bytes.saturating_sub(taken as u64))
    }

    fn allocate(&self, bytes: usize) -> Result<u64, CudaError> {
        some("allocate", bytes)?;
        let out = CudaError::OutOfMemory { bytes: bytes as u64 };
        if bytes > isize::MAX as usize / 2 || Some(bytes as u64) > self.available_bytes() {
            return Err(out);
        }
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc(guarded(bytes)) };
        if start.is_null() {
            return Err(out);
        }
        // SAFETY: the allocation is the guards' and the bytes between them.
        unsafe {
            start.write_bytes(GUARD, GUARD_BYTES);
            start.add(GUARD_BYTES).write_bytes(GARBAGE, bytes);
            start.add(GUARD_BYTES + bytes).write_bytes(GUARD, GUARD_BYTES);
        }
        let at = start as u64 + GUARD_BYTES as u64;
        self.allocations().insert(at, bytes);
        Ok(at)
    }

    unsafe fn free(&self, at: u64) {
        // An error of running work has no receiver here.
        let _ = self.wait();
        let bytes = self.allocations().remove(&at).expect("`allocate` gave the address");
        let start = (at as *mut u8).wrapping_sub(GUARD_BYTES);
        // SAFETY: `allocate` made it with this layout, and by the contract nothing uses it any more.
        unsafe { dealloc(start, guarded(bytes)) }
    }

    fn allocate_host(&self, bytes: usize) -> Result<*mut u8, CudaError> {
        self.allocate(bytes).map(|at| at as *mut u8)
    }

    unsafe fn free_host(&self, at: *mut u8, _: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.free(at as u64) }
    }

    unsafe fn clear(&self, at: u64, bytes: usize) -> Result<(), CudaError> {
        some("clear", bytes)?;
        self.wait()?;
        // SAFETY: the caller's promise; device memory is the host's.
        unsafe { (at as *mut u8).write_bytes(0, bytes) };
        Ok(())
    }

    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<(), CudaError> {
        some("write", bytes.len())?;
        self.wait()?;
        // SAFETY: the caller's promise; device memory is the host's.
        unsafe { (to as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    unsafe fn read(&self, to: *mut u8, from: u64, bytes: usize) -> Result<(), CudaError> {
        some("read", bytes)?;
        self.wait()?;
        // SAFETY: the caller's promise; device memory is the host's.
        unsafe { to.copy_from_nonoverlapping(from as *const u8, bytes) };
        Ok(())
    }

    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), CudaError> {
        some("copy", bytes)?;
        self.wait()?;
        // SAFETY: the caller's promise; device memory is the host's.
        unsafe { (to as *mut u8).copy_from_nonoverlapping(from as *const u8, bytes) };
        Ok(())
    }

    fn kernel(&self, name: &str, _: u32) -> Result<Kernel, CudaError> {
        let found = self.kernels.iter().position(|(n, _)| n.as_bytes() == name.as_bytes());
        found.map(Kernel).ok_or_else(|| CudaError::NoKernel(name.to_owned()))
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<(), CudaError> {
        self.wait()?;
        // SAFETY: the caller's promise; `self` holds the library.
        unsafe { self.run(launch, self.options.host_threads.max(1)).finish() }
    }

    fn allocate_mapped(&self, bytes: usize) -> Result<(*mut u8, u64), CudaError> {
        self.allocate(bytes).map(|at| (at as *mut u8, at))
    }

    fn burst_kernel(&self, kernels: &[String], shared_bytes: u32) -> Result<BurstKernel, CudaError> {
        self.properties.check_burst(shared_bytes, self.properties.of_bursts().declared_bytes)?;
        // Tasks refer to kernels by index in the library's table.
        let number = |name: &String| self.kernel(name, 0).map(|k| k.0 as u32);
        let numbers = kernels.iter().map(number).collect::<Result<_, _>>()?;
        Ok(BurstKernel { kernel: self.kernel("burst", 0)?, numbers, blocks: self.properties.multiprocessors })
    }

    unsafe fn launch_together(&self, launch: &Launch) -> Result<(), CudaError> {
        self.wait()?;
        let run = self.run(launch, 0);
        let fault = self.options.burst_fault;
        let burst = std::thread::Builder::new().spawn(move || match fault {
            true => Err(CudaError::Call { call: "burst", reason: "a fault, as asked for".to_owned() }),
            // SAFETY: the caller's promise; freeing memory and closing the library both wait for the thread.
            false => unsafe { run.finish() },
        });
        let burst = burst.map_err(|e| CudaError::Call { call: "burst", reason: format!("no thread: {e}") })?;
        *self.running() = Some(burst);
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.running().as_ref().is_none_or(JoinHandle::is_finished)
    }

    unsafe fn capture(&self, launches: &[Launch]) -> Result<Graph, CudaError> {
        some("capture", launches.len())?;
        Ok(Graph(Box::new(launches.to_vec())))
    }

    unsafe fn launch_graph(&self, graph: &Graph) -> Result<(), CudaError> {
        let launches = graph.0.downcast_ref::<Vec<Launch>>().expect("`capture` made the graph");
        // SAFETY: the caller's promise, for each.
        launches.iter().try_for_each(|l| unsafe { self.launch(l) })
    }

    fn seconds(&self, begin: &mut dyn FnMut() -> Result<(), CudaError>) -> Result<f64, CudaError> {
        let start = std::time::Instant::now();
        begin()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Only a burst can be running. This is also where writes outside allocations are detected.
    fn synchronize(&self) -> Result<(), CudaError> {
        self.wait()?;
        for (&at, &bytes) in self.allocations().iter() {
            let side = |start: u64| {
                // SAFETY: `allocate` put a guard of this length there.
                let guard = unsafe { std::slice::from_raw_parts(start as *const u8, GUARD_BYTES) };
                guard.iter().all(|&b| b == GUARD)
            };
            if !side(at - GUARD_BYTES as u64) || !side(at + bytes as u64) {
                let reason = format!("something wrote outside of an allocation of {bytes} bytes");
                return Err(CudaError::Call { call: "synchronize", reason });
            }
        }
        Ok(())
    }
}
