//! Errors of a GPU and its libraries, before conversion to errors of a device.

use aio_backend::DeviceError;

/// The device's name in errors.
pub(crate) const DEVICE: &str = "cuda";

/// An error of the driver, the kernel compiler, or their emulation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// The driver's library is missing.
    #[error("there is no CUDA driver: libcuda cannot be opened")]
    NoDriver,
    /// The driver finds no GPU.
    #[error("the CUDA driver finds no GPU")]
    NoGpu,
    /// The driver is too old for kernels and graphs.
    #[error("the CUDA driver is for version {found}, and {needed} is needed")]
    OldDriver {
        /// CUDA version of the driver, `major.minor`.
        found: String,
        /// Minimum version.
        needed: String,
    },
    /// The GPU is too old for the kernels.
    #[error("the GPU has compute capability {}.{}, and the kernels need 8.0", .found / 10, .found % 10)]
    Architecture {
        /// Ten times major plus minor.
        found: u32,
    },
    /// No kernels are built in for this GPU, and there is no compiler.
    #[error("kernels for sm_{0} are not built in, and libnvrtc, which compiles them, cannot be opened")]
    NoCompiler(u32),
    /// The compiler is too old for the kernels.
    #[error("libnvrtc is of version {found}, and {needed} is needed to compile the kernels")]
    OldCompiler {
        /// Its version, `major.minor`; 0.0 if it does not report one.
        found: String,
        /// Minimum version.
        needed: String,
    },
    /// CUDA's own headers are missing.
    #[error("the headers `cuda_fp16.h` and `cuda_bf16.h` are in none of {0}; set CUDA_HOME to the toolkit's folder")]
    NoHeaders(String),
    /// The compiler rejected a source: a bug in aio, or a compiler that is too old.
    #[error("NVRTC cannot compile `{file}` for sm_{arch}: {log}")]
    Compile {
        /// The source file.
        file: String,
        /// The target architecture.
        arch: u32,
        /// The first lines of the compiler's log.
        log: String,
    },
    /// No image contains the kernel.
    #[error("there is no kernel `{0}`")]
    NoKernel(String),
    /// An allocation of device memory failed.
    #[error("out of device memory: {bytes} bytes")]
    OutOfMemory {
        /// The size requested.
        bytes: u64,
    },
    /// The device cannot hold all blocks of a burst at once.
    #[error("bursts cannot run: {0}")]
    NoBurst(String),
    /// A call failed.
    #[error("{call}: {reason}")]
    Call {
        /// The name of the call.
        call: &'static str,
        /// The driver's name for the error, or the emulation's message.
        reason: String,
    },
    /// The emulation library cannot be used.
    #[error("the emulation cannot be used: {0}")]
    Emulation(String),
}

impl CudaError {
    /// Converts it to the reason why a device is unavailable.
    pub(crate) fn unavailable(self) -> DeviceError {
        DeviceError::Unavailable { device: DEVICE.to_owned(), reason: self.to_string() }
    }

    /// Converts it to an error of an open device that allocates memory for `what`.
    pub(crate) fn taking(self, what: &str) -> DeviceError {
        match self {
            CudaError::OutOfMemory { bytes } => DeviceError::OutOfMemory { what: what.to_owned(), bytes },
            other => other.into(),
        }
    }
}

impl From<CudaError> for DeviceError {
    fn from(e: CudaError) -> DeviceError {
        match e {
            CudaError::OutOfMemory { bytes } => DeviceError::OutOfMemory { what: "the device".to_owned(), bytes },
            other => DeviceError::Failed(other.to_string()),
        }
    }
}
