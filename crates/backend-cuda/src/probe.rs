//! Measures a GPU's peak rates: the denominators of benchmarks, and the figures of its profile.
//!
//! Bandwidth is that of a simple kernel that reads a buffer, and of the driver's copy within the device; costs are
//! those of empty launches. Used by the command line's `bench` and `device calibrate`.

use crate::args::ProbeArgs;
use crate::driver::{Driver, Graph, Launch, Memory};
use crate::error::CudaError;
use aio_backend::DeviceError;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Blocks of 256 threads per multiprocessor that hide memory latency.
const BLOCKS: u32 = 8;
/// Products per round of a warp, and multiply-adds per product (16 x 8 x 32 bytes, 16 x 8 x 16 halves).
const ROUND: u64 = 8;
const INT8_MACS: u64 = 16 * 8 * 32;
const BF16_MACS: u64 = 16 * 8 * 16;
/// Warps per block.
const WARPS: u64 = 8;
/// Launches timed together.
const LAUNCHES: u32 = 64;
/// A result that the kernels never produce.
const NEVER: u32 = 0x5DEE_CE66;

/// Measures a device alongside whatever else it holds. Nothing else should run meanwhile.
pub struct Probe {
    graph: Graph,
    nothing: Launch,
    driver: Arc<dyn Driver>,
    buffer: Memory,
    sink: Memory,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Probe {
    /// A probe with a buffer of at least `bytes` bytes.
    pub(crate) fn new(driver: &Arc<dyn Driver>, bytes: u64) -> Result<Probe, DeviceError> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX / 2).next_multiple_of(4096).max(4096);
        let buffer = Memory::zeroed(driver, bytes).map_err(|e| e.taking("the buffer of streaming reads"))?;
        let sink = Memory::zeroed(driver, 16)?;
        let nothing = launch(driver.as_ref(), "probe_read", 1, &ProbeArgs { count: 0, ..args(&buffer, &sink) })?;
        // SAFETY: the kernel takes `ProbeArgs`, whose addresses are of memory that the probe holds.
        let graph = unsafe { driver.capture(&vec![nothing.clone(); LAUNCHES as usize]) }?;
        driver.synchronize()?;
        Ok(Probe { graph, nothing, driver: Arc::clone(driver), buffer, sink })
    }

    /// Size of the buffer in bytes.
    pub fn bytes(&self) -> u64 {
        self.buffer.bytes() as u64
    }

    /// Seconds that the device takes to read the buffer once.
    ///
    /// # Errors
    /// [`DeviceError::Failed`], like all functions here.
    pub fn read_seconds(&self) -> Result<f64, DeviceError> {
        let args = ProbeArgs { count: self.bytes() / 16, ..args(&self.buffer, &self.sink) };
        let blocks = BLOCKS * self.driver.properties().multiprocessors;
        self.timed(&launch(self.driver.as_ref(), "probe_read", blocks, &args)?)
    }

    /// Seconds that the device takes to copy one half of the buffer to the other. Moves as many bytes as a read, half
    /// of them written.
    ///
    /// # Errors
    /// As above.
    pub fn copy_seconds(&self) -> Result<f64, DeviceError> {
        let half = self.buffer.bytes() / 2;
        Ok(self.driver.seconds(&mut || self.buffer.copy_within(0, half, half))?)
    }

    /// 8-bit multiply-adds per second on tensor cores, from registers.
    ///
    /// # Errors
    /// As above.
    pub fn int8_macs(&self, rounds: u64) -> Result<f64, DeviceError> {
        self.macs("probe_int8", INT8_MACS, rounds)
    }

    /// bf16 multiply-adds per second on tensor cores, from registers. A multiply-add with f32 activations takes two.
    ///
    /// # Errors
    /// As above.
    pub fn bf16_macs(&self, rounds: u64) -> Result<f64, DeviceError> {
        self.macs("probe_bf16", BF16_MACS, rounds)
    }

    fn macs(&self, kernel: &str, macs: u64, rounds: u64) -> Result<f64, DeviceError> {
        let blocks = 2 * self.driver.properties().multiprocessors;
        let args = ProbeArgs { count: rounds, ..args(&self.buffer, &self.sink) };
        let seconds = self.timed(&launch(self.driver.as_ref(), kernel, blocks, &args)?)?;
        Ok((u64::from(blocks) * WARPS * rounds * ROUND * macs) as f64 / seconds)
    }

    /// Host seconds per empty launch, averaged over many.
    ///
    /// # Errors
    /// As above.
    pub fn launch_seconds(&self) -> Result<f64, DeviceError> {
        let start = Instant::now();
        for _ in 0..LAUNCHES {
            // SAFETY: as in `new`.
            unsafe { self.driver.launch(&self.nothing) }?;
        }
        let seconds = start.elapsed().as_secs_f64() / f64::from(LAUNCHES);
        self.driver.synchronize()?;
        Ok(seconds)
    }

    /// Device seconds from one kernel of a graph to the next.
    ///
    /// # Errors
    /// As above.
    pub fn edge_seconds(&self) -> Result<f64, DeviceError> {
        // SAFETY: as in `new`.
        let seconds = self.driver.seconds(&mut || unsafe { self.driver.launch_graph(&self.graph) })?;
        Ok(seconds / f64::from(LAUNCHES))
    }

    /// Host seconds to launch an empty kernel and wait for it: the minimum cost of a step.
    ///
    /// # Errors
    /// As above.
    pub fn submission_seconds(&self) -> Result<f64, DeviceError> {
        let start = Instant::now();
        // SAFETY: as in `new`.
        unsafe { self.driver.launch(&self.nothing) }?;
        self.driver.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Host seconds to wait for an idle device.
    ///
    /// # Errors
    /// As above.
    pub fn sync_seconds(&self) -> Result<f64, DeviceError> {
        let start = Instant::now();
        self.driver.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn timed(&self, launch: &Launch) -> Result<f64, DeviceError> {
        // SAFETY: as in `new`.
        Ok(self.driver.seconds(&mut || unsafe { self.driver.launch(launch) })?)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Running work still uses the memory that is freed now.
        let _ = self.driver.synchronize();
    }
}

fn args(buffer: &Memory, sink: &Memory) -> ProbeArgs {
    ProbeArgs { from: buffer.at(), sink: sink.at(), count: 0, never: NEVER, spare: 0 }
}

fn launch(driver: &dyn Driver, name: &str, blocks: u32, args: &ProbeArgs) -> Result<Launch, CudaError> {
    let kernel = driver.kernel(name, 0)?;
    Ok(Launch { kernel, grid: [blocks.max(1), 1], shared_bytes: 0, args: bytemuck::bytes_of(args).into() })
}
