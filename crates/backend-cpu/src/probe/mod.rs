//! Peak rates of this machine: streaming reads, multiply-adds from registers, and the pool's overhead.
//!
//! They are the denominators of every performance figure, so they are measured in the same run, with the threads, pages and
//! instruction set that plans use. Used by `aio bench` and `aio device calibrate`.

mod peak;
mod read;

pub use read::ReadBuffer;

use crate::device::CpuDevice;
use crate::engine::Engine;
use crate::pool::Worker;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Measures the machine through a device's threads.
#[derive(Clone, Debug)]
pub struct Probe {
    engine: Arc<Engine>,
}

impl CpuDevice {
    /// A probe that shares the device's threads and instruction set.
    pub fn probe(&self) -> Probe {
        Probe { engine: Arc::clone(&self.engine) }
    }
}

/// Barriers crossed in one timing of `barrier_seconds`.
const BARRIERS: u32 = 1000;
/// Long enough for idle threads to fall asleep.
const IDLE: Duration = Duration::from_millis(2);

impl Probe {
    /// Number of threads, including the caller's.
    pub fn threads(&self) -> usize {
        self.engine.pool.threads()
    }

    /// A buffer of `bytes` bytes, placed like weights: on huge pages where available, each thread's share first touched by
    /// that thread. `None` if allocation fails.
    pub fn read_buffer(&self, bytes: usize) -> Option<ReadBuffer> {
        ReadBuffer::new(&self.engine.pool, bytes)
    }

    /// Seconds for the first `threads` threads to stream the buffer `passes` times, each its own share.
    pub fn read_seconds(&self, buffer: &ReadBuffer, threads: usize, passes: usize) -> f64 {
        let isa = self.engine.kernels.isa();
        self.timed(&|worker| buffer.read(isa, worker.tid, threads.min(worker.threads), passes))
    }

    /// 8-bit multiply-adds a second of the first `threads` threads, from registers alone.
    pub fn int8_macs(&self, threads: usize) -> f64 {
        let isa = self.engine.kernels.isa();
        let seconds = self.timed(&|worker| {
            if worker.tid < threads {
                peak::int8(isa);
            }
        });
        peak::int8_macs(isa) * threads.min(self.threads()) as f64 / seconds
    }

    /// f32 multiply-adds a second of the first `threads` threads, from registers alone.
    pub fn f32_macs(&self, threads: usize) -> f64 {
        let isa = self.engine.kernels.isa();
        let seconds = self.timed(&|worker| {
            if worker.tid < threads {
                peak::f32(isa);
            }
        });
        peak::f32_macs(isa) * threads.min(self.threads()) as f64 / seconds
    }

    /// Seconds of an empty submission to awake threads.
    pub fn submission_seconds(&self) -> f64 {
        self.engine.pool.run(&|_| {});
        self.timed(&|_| {})
    }

    /// Seconds of one barrier when threads arrive together.
    pub fn barrier_seconds(&self) -> f64 {
        let all = self.timed(&|worker| {
            for _ in 0..BARRIERS {
                worker.barrier();
            }
        });
        all / f64::from(BARRIERS)
    }

    /// Seconds of an empty submission to sleeping threads.
    pub fn wake_seconds(&self) -> f64 {
        std::thread::sleep(IDLE);
        self.timed(&|_| {})
    }

    fn timed(&self, program: &(dyn Fn(Worker<'_>) + Sync)) -> f64 {
        let start = Instant::now();
        self.engine.pool.run(program);
        start.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use crate::{CpuDevice, CpuOptions, IsaLevel};

    #[test]
    fn every_level_is_measured() {
        for level in IsaLevel::ALL {
            let options = CpuOptions { threads: 2, isa: Some(level), pin: false };
            let Ok(device) = CpuDevice::new(options) else { continue };
            let probe = device.probe();
            let buffer = probe.read_buffer(1 << 20).expect("a megabyte");
            let figures = [
                probe.read_seconds(&buffer, 2, 1),
                probe.int8_macs(1),
                probe.f32_macs(2),
                probe.submission_seconds(),
                probe.barrier_seconds(),
            ];
            assert!(figures.iter().all(|f| *f >= 0.0), "{level}: {figures:?}");
        }
    }

    #[test]
    fn every_byte_is_read_once_whatever_the_threads() {
        for (bytes, threads) in [(64, 1), (4096, 2), ((1 << 20) + 64, 3)] {
            let device = CpuDevice::new(CpuOptions { threads, isa: None, pin: false }).expect("threads");
            let buffer = device.probe().read_buffer(bytes).expect("memory");
            let read: usize = (0..threads).map(|t| buffer.share(t, threads).len()).sum();
            assert_eq!(read, bytes / 64 * 64, "{bytes} bytes, {threads} threads");
        }
    }
}
