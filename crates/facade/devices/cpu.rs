//! The registry entry for the CPU, and the code that measures it.

use super::entry::{DeviceEntry, Found, Opened};
use super::error::RegistryError;
use super::host::{caches, processor};
use super::measure::{Figures, Hardware, Macs, Meter, Sampler};
use super::options::{self, DeviceOptions, OptionForm, OptionSpec};
use aio_backend::DeviceError;
use aio_backend_cpu::isa::{Isa, IsaLevel};
use aio_backend_cpu::probe::{Probe, ReadBuffer};
use aio_backend_cpu::{CpuDevice, CpuOptions, MAX_THREADS};
use aio_orchestrator::{Costs, Figure, Peak, ReadLevel};
use std::sync::Arc;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec { name: options::THREADS, form: OptionForm::Count(MAX_THREADS as u64) },
    OptionSpec { name: options::ISA, form: OptionForm::Word(&["portable", "avx2", "avx512"]) },
];

pub(super) struct CpuEntry;

impl DeviceEntry for CpuEntry {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn summary(&self) -> &'static str {
        "The CPU back end"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn list(&self, _: &DeviceOptions) -> Result<Vec<Found>, DeviceError> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()) as u32;
        let levels = IsaLevel::ALL.into_iter().rev().filter(|&l| Isa::at(l).is_some());
        Ok(levels.map(|l| Found { target: format!("cpu-{}", l.name()), chip: processor(), threads }).collect())
    }

    fn open(&self, options: &DeviceOptions) -> Result<Opened, DeviceError> {
        let isa = options.word(options::ISA).and_then(|word| match word {
            "portable" => Some(IsaLevel::Portable),
            "avx2" => Some(IsaLevel::Avx2),
            "avx512" => Some(IsaLevel::Avx512Vnni),
            _ => None,
        });
        let threads = options.count(options::THREADS).unwrap_or(0) as usize;
        let device = CpuDevice::new(CpuOptions { threads, isa, pin: true })?;
        let threads = device.threads() as u32;
        let hardware = CpuHardware { probe: device.probe() };
        Ok(Opened { device: Arc::new(device), chip: processor(), threads, hardware: Some(Arc::new(hardware)) })
    }

    fn profile_name(&self, target: &str, threads: u32) -> Option<String> {
        Some(format!("{target}-{threads}"))
    }
}

struct CpuHardware {
    probe: Probe,
}

struct CpuMeter {
    probe: Probe,
    buffer: ReadBuffer,
}

impl Meter for CpuMeter {
    fn bytes(&self) -> u64 {
        self.buffer.len() as u64
    }

    fn read_seconds(&self) -> Result<f64, DeviceError> {
        Ok(self.probe.read_seconds(&self.buffer, self.probe.threads(), 1))
    }

    fn macs(&self) -> Result<Macs, DeviceError> {
        let threads = self.probe.threads();
        Ok(Macs { int8: self.probe.int8_macs(threads), plain: self.probe.f32_macs(threads) })
    }
}

impl Hardware for CpuHardware {
    fn meter(&self, bytes: u64) -> Result<Box<dyn Meter>, DeviceError> {
        Ok(Box::new(CpuMeter { probe: self.probe.clone(), buffer: self.buffer(bytes)? }))
    }

    fn figures(&self, sampler: &Sampler<'_>) -> Result<Figures, RegistryError> {
        let (probe, threads) = (&self.probe, self.probe.threads());
        let counts: Vec<usize> = if threads == 1 { vec![1] } else { vec![1, threads] };
        let mut reads = Vec::new();
        for &count in &counts {
            for (level, bytes) in working_sets(count) {
                let gb_s = self.read_level(bytes, count, sampler)?;
                reads.push(ReadLevel { level, bytes, threads: count as u32, gb_s });
            }
        }
        let mut peaks = Vec::new();
        for (kind, macs) in [("int8", Probe::int8_macs as fn(&Probe, usize) -> f64), ("f32", Probe::f32_macs)] {
            for &count in &counts {
                let gmac_s = sampler.figure(|| Ok(macs(probe, count) / 1e9))?;
                peaks.push(Peak { kind: kind.to_owned(), threads: count as u32, gmac_s });
            }
        }
        let costs = Costs {
            submission_us: sampler.figure(|| Ok(probe.submission_seconds() * 1e6))?,
            barrier_us: sampler.figure(|| Ok(probe.barrier_seconds() * 1e6))?,
            wake_us: sampler.figure(|| Ok(probe.wake_seconds() * 1e6))?,
        };
        Ok(Figures { reads, peaks, costs })
    }
}

/// Minimum bytes read in one timing of a working set.
const TIMED_BYTES: u64 = 64 << 20;

impl CpuHardware {
    fn buffer(&self, bytes: u64) -> Result<ReadBuffer, DeviceError> {
        let none = || DeviceError::OutOfMemory { what: "the buffer of streaming reads".to_owned(), bytes };
        self.probe.read_buffer(bytes as usize).ok_or_else(none)
    }

    fn read_level(&self, bytes: u64, threads: usize, sampler: &Sampler<'_>) -> Result<Figure, RegistryError> {
        let buffer = self.buffer(bytes)?;
        let passes = TIMED_BYTES.div_ceil(bytes).max(1) as usize;
        let read = buffer.len() as f64 * passes as f64;
        sampler.figure(|| Ok(read / self.probe.read_seconds(&buffer, threads, passes) / 1e9))
    }
}

/// Name and working set in bytes of each level: half a cache, so that the data stays in it, and four times the largest
/// cache for memory.
fn working_sets(threads: usize) -> Vec<(String, u64)> {
    let caches = caches();
    // First- and second-level caches are private to a core, so each thread adds one.
    let own = |level: u32| if level < 3 { threads as u64 } else { 1 };
    let mut sets: Vec<_> = caches.iter().map(|&(l, bytes)| (format!("L{l}"), own(l) * bytes / 2)).collect();
    let largest = caches.iter().map(|c| c.1).max().unwrap_or(64 << 20);
    sets.push(("memory".to_owned(), (4 * largest).clamp(256 << 20, 2 << 30)));
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_larger_than_every_cache() {
        let sets = working_sets(2);
        let (last, caches) = sets.split_last().expect("memory is always there");
        assert_eq!(last.0, "memory");
        assert!(caches.iter().all(|c| c.1 < last.1));
    }
}
