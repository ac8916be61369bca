//! The seam between the back end and what runs kernels: a real GPU, or the emulation of the tests.
//!
//! Everything above it is the same for both, so that all but a few hundred lines are tested without a GPU. One stream:
//! what is begun goes on in order, and nothing is done before [`Driver::synchronize`]. That goes for copies too: where the GPU
//! reads any memory of the host in place, not even bytes that are not pinned are taken before.

pub(crate) mod cache;
pub(crate) mod cuda;
#[cfg(feature = "emulation")]
pub(crate) mod emulation;
mod memory;
mod nvrtc;
pub(crate) mod nvtx;

pub(crate) use memory::{Mapped, Memory, Pinned};
pub(crate) use nvrtc::{burst_cubin as compile_burst, cubins as compile};

use crate::error::CudaError;
use std::any::Any;

/// Threads of a block, of every kernel.
pub(crate) const THREADS: u32 = 256;
/// Shared memory that kernels with dynamic shared memory declare besides, at most (`budget.toml` has it by kernel).
const DECLARED_SHARED_BYTES: u32 = 512;
/// The same for the kernel of bursts, which declares what all its tasks do and its own.
const BURST_DECLARED_BYTES: u32 = 5 << 10;
/// Shared memory of a block that the system takes, from compute capability 8.0 on.
const SYSTEM_SHARED_BYTES: u32 = 1024;
/// Shared memory that a block can have without asking, what it declares included.
const FREE_SHARED_BYTES: u32 = 48 << 10;

/// What a GPU is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Properties {
    /// Its name.
    pub name: String,
    /// Compute capability: ten times major plus minor.
    pub architecture: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// The most shared memory that a block can have, in bytes.
    pub shared_bytes: u32,
    /// Shared memory of a multiprocessor.
    pub multiprocessor_shared_bytes: u32,
    /// Shared memory that kernels declare beside what they get dynamically, at most.
    pub declared_bytes: u32,
}

impl Properties {
    /// What plans and profiles call such a device.
    pub(crate) fn target(&self) -> String {
        format!("cuda-sm{}", self.architecture)
    }

    /// The most dynamic shared memory of a kernel, which declares some for itself.
    pub(crate) fn dynamic_shared_bytes(&self) -> u32 {
        self.shared_bytes.saturating_sub(self.declared_bytes)
    }

    /// The same GPU as the tasks of a burst have it.
    pub(crate) fn of_bursts(&self) -> Properties {
        Properties { declared_bytes: BURST_DECLARED_BYTES, ..self.clone() }
    }

    /// Whether a block of a burst has room for this much dynamic shared memory beside what its kernel declares. Asked before the
    /// driver is, whose answer would be no reason.
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

    /// Blocks with so much dynamic shared memory that are on the device together: one or two a multiprocessor. More would
    /// only begin when others have ended, with no weights on their way yet.
    pub(crate) fn blocks(&self, shared_bytes: u32) -> u32 {
        let each = shared_bytes + self.declared_bytes + SYSTEM_SHARED_BYTES;
        self.multiprocessors.max(1) * (self.multiprocessor_shared_bytes / each).clamp(1, 2)
    }
}

/// Whether a kernel that declares some shared memory must ask for its dynamic shared memory: more than 48 KiB in all.
pub(crate) fn must_ask(shared_bytes: u32, declared_bytes: u32) -> bool {
    shared_bytes.saturating_add(declared_bytes) > FREE_SHARED_BYTES
}

/// A kernel that a driver has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel(pub usize);

/// One launch, ready to go.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub kernel: Kernel,
    /// Blocks in x and y.
    pub grid: [u32; 2],
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// The kernel's struct.
    pub args: Box<[u8]>,
}

/// The kernel of bursts, made for the kernels that its tasks run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BurstKernel {
    pub kernel: Kernel,
    /// By which number a task names each of the kernels asked for, in their order.
    pub numbers: Vec<u32>,
    /// Blocks that the device holds at once, at least 1.
    pub blocks: u32,
}

/// A captured sequence of launches.
pub(crate) struct Graph(pub Box<dyn Any + Send + Sync>);

/// What runs kernels. Addresses are the device's.
pub(crate) trait Driver: Send + Sync {
    /// What the GPU is.
    fn properties(&self) -> &Properties;

    /// Bytes of device memory that nobody has taken; `None` if the driver does not say.
    fn available_bytes(&self) -> Option<u64>;

    /// Takes device memory, one byte at least; its address is a multiple of 256.
    fn allocate(&self, bytes: usize) -> Result<u64, CudaError>;

    /// Gives memory back, once what was begun is done.
    ///
    /// # Safety
    /// `allocate` gave the address, and nothing uses the memory afterwards.
    unsafe fn free(&self, at: u64);

    /// Takes memory of the host that copies can read and write while the host goes on.
    fn allocate_host(&self, bytes: usize) -> Result<*mut u8, CudaError>;

    /// Gives it back, once what was begun is done.
    ///
    /// # Safety
    /// `allocate_host` gave the address for as many bytes, and nothing uses the memory afterwards.
    unsafe fn free_host(&self, at: *mut u8, bytes: usize);

    /// Begins to clear memory.
    ///
    /// # Safety
    /// The bytes lie in one allocation.
    unsafe fn clear(&self, at: u64, bytes: usize) -> Result<(), CudaError>;

    /// Begins to copy to the device.
    ///
    /// # Safety
    /// The bytes at `to` lie in one allocation. Those of the host stay as they are until `synchronize`.
    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<(), CudaError>;

    /// Begins to copy from the device.
    ///
    /// # Safety
    /// The bytes at `from` lie in one allocation, those at `to` may be written and stay until `synchronize`.
    unsafe fn read(&self, to: *mut u8, from: u64, bytes: usize) -> Result<(), CudaError>;

    /// Begins to copy inside the device.
    ///
    /// # Safety
    /// Both places lie in allocations and do not overlap.
    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), CudaError>;

    /// A kernel by name, able to take this much dynamic shared memory.
    fn kernel(&self, name: &str, shared_bytes: u32) -> Result<Kernel, CudaError>;

    /// Begins a launch.
    ///
    /// # Safety
    /// The arguments are the kernel's struct, and all that they make the kernel touch lies in allocations.
    unsafe fn launch(&self, launch: &Launch) -> Result<(), CudaError>;

    /// Captures launches into a graph.
    ///
    /// # Safety
    /// As [`Driver::launch`], whenever the graph runs.
    unsafe fn capture(&self, launches: &[Launch]) -> Result<Graph, CudaError>;

    /// Begins all launches of a graph, in order.
    ///
    /// # Safety
    /// As [`Driver::launch`] for each of them.
    unsafe fn launch_graph(&self, graph: &Graph) -> Result<(), CudaError>;

    /// Seconds that the device takes for what the closure begins, by its own clock where it has one. Waits for it.
    fn seconds(&self, begin: &mut dyn FnMut() -> Result<(), CudaError>) -> Result<f64, CudaError>;

    /// Takes memory of the host that kernels can reach: its address here, and on the device. [`Driver::free_host`] takes it back.
    fn allocate_mapped(&self, bytes: usize) -> Result<(*mut u8, u64), CudaError>;

    /// The kernel of bursts for tasks of these kernels, able to take this much dynamic shared memory.
    ///
    /// # Errors
    /// [`CudaError::NoBurst`], and why it cannot be compiled.
    fn burst_kernel(&self, kernels: &[String], shared_bytes: u32) -> Result<BurstKernel, CudaError>;

    /// Begins a launch whose blocks wait for one another; as many as fit the device at once (`BurstKernel::blocks`).
    ///
    /// # Safety
    /// As [`Driver::launch`].
    unsafe fn launch_together(&self, launch: &Launch) -> Result<(), CudaError>;

    /// Whether all that was begun is done, or failed: `synchronize` would not wait.
    fn is_idle(&self) -> bool;

    /// Waits until all that was begun is done.
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
        // `qkv_q4_0` and `head_q4_0` have exactly 48 KiB of dynamic shared memory, and declare some besides.
        assert!(!must_ask(48 << 10, 0) && must_ask(48 << 10, 16) && must_ask(49153, 0));
    }

    #[test]
    fn no_more_blocks_than_are_there_together() {
        let (h100, ada) = (gpu(227, 228), gpu(99, 100));
        assert_eq!((h100.blocks(60 << 10), h100.blocks(112 << 10), h100.blocks(150 << 10)), (264, 264, 132));
        assert_eq!((ada.blocks(60 << 10), ada.blocks(40 << 10), ada.blocks(0)), (132, 264, 264));
        assert_eq!(h100.dynamic_shared_bytes(), (227 << 10) - 512);
        // What fits two blocks of a kernel of its own fits one of a burst, which declares more.
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
