//! What can go wrong with a GPU and its libraries, before it becomes an error of a device.

use aio_backend::DeviceError;

/// The device's name in errors.
pub(crate) const DEVICE: &str = "cuda";

/// An error of the driver, the compiler of kernels, or what stands in for them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// The driver's library is not there.
    #[error("there is no CUDA driver: libcuda cannot be opened")]
    NoDriver,
    /// The driver knows no GPU.
    #[error("the CUDA driver finds no GPU")]
    NoGpu,
    /// The driver is older than what kernels and graphs need.
    #[error("the CUDA driver is for version {found}, and {needed} is needed")]
    OldDriver {
        /// CUDA version of the driver, `major.minor`.
        found: String,
        /// The oldest that serves.
        needed: String,
    },
    /// The GPU is too old for the kernels.
    #[error("the GPU has compute capability {}.{}, and the kernels need 8.0", .found / 10, .found % 10)]
    Architecture {
        /// Ten times major plus minor.
        found: u32,
    },
    /// No kernels were built in for this GPU, and there is no compiler to build them.
    #[error("kernels for sm_{0} are not built in, and libnvrtc, which compiles them, cannot be opened")]
    NoCompiler(u32),
    /// The compiler is older than what the kernels need.
    #[error("libnvrtc is of version {found}, and {needed} is needed to compile the kernels")]
    OldCompiler {
        /// Its version, `major.minor`; 0.0 if it does not tell.
        found: String,
        /// The oldest that serves.
        needed: String,
    },
    /// The compiler's own headers are not there.
    #[error("the headers `cuda_fp16.h` and `cuda_bf16.h` are in none of {0}; set CUDA_HOME to the toolkit's folder")]
    NoHeaders(String),
    /// The compiler refused a source: a fault of aio, or a compiler that is too old.
    #[error("NVRTC cannot compile `{file}` for sm_{arch}: {log}")]
    Compile {
        /// The source file.
        file: String,
        /// For which architecture.
        arch: u32,
        /// What the compiler says, its first lines.
        log: String,
    },
    /// A kernel that no image has.
    #[error("there is no kernel `{0}`")]
    NoKernel(String),
    /// Device memory could not be had.
    #[error("out of device memory: {bytes} bytes")]
    OutOfMemory {
        /// How much was asked for.
        bytes: u64,
    },
    /// The device cannot hold all blocks of a burst at once.
    #[error("bursts cannot run: {0}")]
    NoBurst(String),
    /// A call failed.
    #[error("{call}: {reason}")]
    Call {
        /// Which.
        call: &'static str,
        /// The driver's name of the error, or the emulation's message.
        reason: String,
    },
    /// The library of the emulation cannot be used.
    #[error("the emulation cannot be used: {0}")]
    Emulation(String),
}

impl CudaError {
    /// As the reason why there is no device.
    pub(crate) fn unavailable(self) -> DeviceError {
        DeviceError::Unavailable { device: DEVICE.to_owned(), reason: self.to_string() }
    }

    /// As an error of an open device that takes memory for `what`.
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
