//! The interface between the back end and what runs kernels: a real GPU, or the emulation used in tests.
//!
//! Everything above it is the same for both, so that all but a few hundred lines are tested without a GPU. There is one
//! stream: started work runs in order, and nothing is complete before [`Driver::synchronize`]. This includes copies: on
//! GPUs that read any host memory in place, even bytes that are not pinned may be read later.

pub(crate) mod cache;
pub(crate) mod cuda;
#[cfg(feature = "emulation")]
pub(crate) mod emulation;
mod memory;
mod nvrtc;
pub(crate) mod nvtx;

pub(crate) use memory::{Mapped, Memory, Pinned};
pub(crate) use nvrtc::{burst_cubin as compile_burst, cubins as compile, found as compiler_found};

use crate::error::CudaError;
use std::any::Any;

/// Threads per block, the same for every kernel.
pub(crate) const THREADS: u32 = 256;
/// Maximum shared memory that kernels with dynamic shared memory declare in addition (`budget.toml` lists it by
/// kernel).
const DECLARED_SHARED_BYTES: u32 = 512;
/// The same for the burst kernel, which declares that of all its tasks and its own.
const BURST_DECLARED_BYTES: u32 = 5 << 10;
/// Shared memory per block reserved by the system, from compute capability 8.0 on.
const SYSTEM_SHARED_BYTES: u32 = 1024;
/// Shared memory that a block can have without opting in, including declared memory.
const FREE_SHARED_BYTES: u32 = 48 << 10;

/// Properties of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Properties {
    /// Its name.
    pub name: String,
    /// Compute capability: ten times major plus minor.
    pub architecture: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Maximum shared memory of a block in bytes.
    pub shared_bytes: u32,
    /// Shared memory of a multiprocessor in bytes.
    pub multiprocessor_shared_bytes: u32,
    /// Maximum shared memory that kernels declare besides their dynamic shared memory, in bytes.
    pub declared_bytes: u32,
}

impl Properties {
    /// The device's name in plans and profiles.
    pub(crate) fn target(&self) -> String {
        format!("cuda-sm{}", self.architecture)
    }

    /// Maximum dynamic shared memory of a kernel, after what it declares.
    pub(crate) fn dynamic_shared_bytes(&self) -> u32 {
        self.shared_bytes.saturating_sub(self.declared_bytes)
    }

    /// The same GPU, as seen by the tasks of a burst.
    pub(crate) fn of_bursts(&self) -> Properties {
        Properties { declared_bytes: BURST_DECLARED_BYTES, ..self.clone() }
    }

    /// Checks that a block of a burst has room for this much dynamic shared memory besides what its kernel declares.
    /// Called before the driver, whose error would not give the reason.
    ///
    /// # Errors
    /// [`CudaError::NoBurst`].
    pub(crate) fn check_burst(&self, dynamic_bytes: u32, declared_bytes: u32) -> Result<(), CudaError> {
        let most = self.shared_bytes;
        if dynamic_bytes.saturating_add(declared_bytes) <= most {
            return Ok(());
        }
        let reason = format!(
            "a block would take {dynamic_bytes} bytes of shared memory for its tasks and {declared_bytes} for itself, and \
             the GPU has {most}"
        );
        Err(CudaError::NoBurst(reason))
    }

    /// Number of blocks with this much dynamic shared memory that are resident together: one or two per multiprocessor.
    /// Further blocks would only start when others have ended, without prefetched weights.
    pub(crate) fn blocks(&self, shared_bytes: u32) -> u32 {
        let each = shared_bytes + self.declared_bytes + SYSTEM_SHARED_BYTES;
        self.multiprocessors.max(1) * (self.multiprocessor_shared_bytes / each).clamp(1, 2)
    }
}

/// Whether a kernel must opt in to its dynamic shared memory: more than 48 KiB including declared memory.
pub(crate) fn must_ask(shared_bytes: u32, declared_bytes: u32) -> bool {
    shared_bytes.saturating_add(declared_bytes) > FREE_SHARED_BYTES
}

/// A kernel that a driver has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel(pub usize);

/// A launch, ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub kernel: Kernel,
    /// Blocks in x and y.
    pub grid: [u32; 2],
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// The kernel's argument struct.
    pub args: Box<[u8]>,
}

/// The burst kernel, compiled for the kernels that its tasks run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BurstKernel {
    pub kernel: Kernel,
    /// The number by which a task refers to each of the requested kernels, in their order.
    pub numbers: Vec<u32>,
    /// Number of blocks that the device can hold at once, at least 1.
    pub blocks: u32,
}

/// A captured sequence of launches.
pub(crate) struct Graph(pub Box<dyn Any + Send + Sync>);

/// Runs kernels. Addresses are device addresses.
pub(crate) trait Driver: Send + Sync {
    /// Properties of the GPU.
    fn properties(&self) -> &Properties;

    /// Free device memory in bytes; `None` if the driver does not report it.
    fn available_bytes(&self) -> Option<u64>;

    /// Allocates device memory, at least one byte. The address is a multiple of 256.
    fn allocate(&self, bytes: usize) -> Result<u64, CudaError>;

    /// Frees device memory, once started work is done.
    ///
    /// # Safety
    /// `allocate` gave the address, and the memory is not used afterwards.
    unsafe fn free(&self, at: u64);

    /// Allocates host memory that copies can access while the host continues.
    fn allocate_host(&self, bytes: usize) -> Result<*mut u8, CudaError>;

    /// Frees it, once started work is done.
    ///
    /// # Safety
    /// `allocate_host` gave the address for as many bytes, and the memory is not used afterwards.
    unsafe fn free_host(&self, at: *mut u8, bytes: usize);

    /// Starts clearing memory.
    ///
    /// # Safety
    /// The bytes lie in one allocation.
    unsafe fn clear(&self, at: u64, bytes: usize) -> Result<(), CudaError>;

    /// Starts copying to the device.
    ///
    /// # Safety
    /// The bytes at `to` lie in one allocation. The host's bytes do not change until `synchronize`.
    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<(), CudaError>;

    /// Starts copying from the device.
    ///
    /// # Safety
    /// The bytes at `from` lie in one allocation. Those at `to` may be written, and stay allocated until `synchronize`.
    unsafe fn read(&self, to: *mut u8, from: u64, bytes: usize) -> Result<(), CudaError>;

    /// Starts copying within the device.
    ///
    /// # Safety
    /// Both ranges lie in allocations and do not overlap.
    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), CudaError>;

    /// A kernel by name, with this much dynamic shared memory allowed.
    fn kernel(&self, name: &str, shared_bytes: u32) -> Result<Kernel, CudaError>;

    /// Starts a launch.
    ///
    /// # Safety
    /// The arguments are the kernel's struct, and all memory they make the kernel access lies in allocations.
    unsafe fn launch(&self, launch: &Launch) -> Result<(), CudaError>;

    /// Captures launches into a graph.
    ///
    /// # Safety
    /// As [`Driver::launch`], whenever the graph runs.
    unsafe fn capture(&self, launches: &[Launch]) -> Result<Graph, CudaError>;

    /// Starts all launches of a graph, in order.
    ///
    /// # Safety
    /// As [`Driver::launch`] for each of them.
    unsafe fn launch_graph(&self, graph: &Graph) -> Result<(), CudaError>;

    /// Seconds that the device takes for the work the closure starts, by the device's own clock if it has one. Waits
    /// for the work.
    fn seconds(&self, begin: &mut dyn FnMut() -> Result<(), CudaError>) -> Result<f64, CudaError>;

    /// Allocates host memory that kernels can access. Returns its host and device addresses. Freed by
    /// [`Driver::free_host`].
    fn allocate_mapped(&self, bytes: usize) -> Result<(*mut u8, u64), CudaError>;

    /// The burst kernel for tasks of these kernels, with this much dynamic shared memory allowed.
    ///
    /// # Errors
    /// [`CudaError::NoBurst`], and errors of compiling it.
    fn burst_kernel(&self, kernels: &[String], shared_bytes: u32) -> Result<BurstKernel, CudaError>;

    /// Starts a launch whose blocks wait for one another. The grid must fit the device at once (`BurstKernel::blocks`).
    ///
    /// # Safety
    /// As [`Driver::launch`].
    unsafe fn launch_together(&self, launch: &Launch) -> Result<(), CudaError>;

    /// Whether all started work is done or failed, so that `synchronize` would not wait.
    fn is_idle(&self) -> bool;

    /// Waits until all started work is done.
    fn synchronize(&self) -> Result<(), CudaError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(block_kib: u32, multiprocessor_kib: u32) -> Properties {
        Properties {
            name: String::new(),
            architecture: 90,
            multiprocessors: 132,
            shared_bytes: block_kib << 10,
            multiprocessor_shared_bytes: multiprocessor_kib << 10,
            declared_bytes: DECLARED_SHARED_BYTES,
        }
    }

    #[test]
    fn what_kernels_declare_counts_before_they_must_ask() {
        // `qkv_q4_0` and `head_q4_0` have exactly 48 KiB of dynamic shared memory, and declare some in addition.
        assert!(!must_ask(48 << 10, 0) && must_ask(48 << 10, 16) && must_ask(49153, 0));
    }

    #[test]
    fn no_more_blocks_than_are_there_together() {
        let (h100, ada) = (gpu(227, 228), gpu(99, 100));
        assert_eq!((h100.blocks(60 << 10), h100.blocks(112 << 10), h100.blocks(150 << 10)), (264, 264, 132));
        assert_eq!((ada.blocks(60 << 10), ada.blocks(40 << 10), ada.blocks(0)), (132, 264, 264));
        assert_eq!(h100.dynamic_shared_bytes(), (227 << 10) - 512);
        // Where two blocks of a separate kernel fit, only one of a burst does, because it declares more.
        assert_eq!((h100.blocks(113_000), h100.of_bursts().blocks(113_000)), (264, 132));
    }

    #[test]
    fn bursts_without_room_are_refused_with_the_reason() {
        let ada = gpu(99, 100);
        assert_eq!(ada.check_burst(96 << 10, 3 << 10), Ok(()));
        let error = ada.check_burst(96 << 10, 4880).unwrap_err().to_string();
        assert!(error.contains("98304") && error.contains("4880") && error.contains("101376"), "{error}");
    }
}
