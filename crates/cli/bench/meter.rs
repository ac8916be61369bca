//! What the hardware under test could do at best, measured in the same run: the denominators of the results.

use crate::args::{DeviceArg, IsaArg};
use crate::models;
use aio::backend::Device;
use aio::cpu::CpuDevice;
use aio::cpu::probe::{Probe, ReadBuffer};
use anyhow::{Context, Result, bail};
use std::sync::Arc;

/// Rounds of products that a measurement of a GPU's peak takes: about a millisecond.
#[cfg(feature = "cuda")]
const ROUNDS: u64 = 20_000;

/// A device that can be measured.
pub(crate) enum Hardware {
    Cpu(CpuDevice),
    #[cfg(feature = "cuda")]
    Cuda(aio::cuda::CudaDevice),
}

impl Hardware {
    /// Opens the device asked for.
    pub(crate) fn open(device: DeviceArg, isa: Option<IsaArg>, threads: Option<u32>) -> Result<Hardware> {
        match device {
            DeviceArg::Cpu => Ok(Hardware::Cpu(models::cpu(isa, threads)?)),
            #[cfg(feature = "cuda")]
            DeviceArg::Cuda => Ok(Hardware::Cuda(crate::cuda::device()?)),
            DeviceArg::Interp => bail!("the oracle is not built for speed; there is nothing to measure"),
        }
    }

    /// As any device.
    pub(crate) fn device(&self) -> Arc<dyn Device> {
        match self {
            Hardware::Cpu(device) => Arc::new(device.clone()),
            #[cfg(feature = "cuda")]
            Hardware::Cuda(device) => Arc::new(device.clone()),
        }
    }

    /// The name of the chip.
    pub(crate) fn name(&self) -> String {
        match self {
            Hardware::Cpu(_) => crate::machine::processor(),
            #[cfg(feature = "cuda")]
            Hardware::Cuda(device) => device.gpu().to_owned(),
        }
    }

    /// A meter with a buffer of so many bytes.
    pub(crate) fn meter(&self, bytes: u64) -> Result<Meter> {
        match self {
            Hardware::Cpu(device) => {
                let probe = device.probe();
                let buffer = probe.read_buffer(bytes as usize);
                let buffer = buffer.context("cannot allocate the buffer for streaming reads")?;
                Ok(Meter::Cpu(probe, buffer))
            }
            #[cfg(feature = "cuda")]
            Hardware::Cuda(device) => Ok(Meter::Cuda(device.measure(bytes)?, device.multiprocessors())),
        }
    }
}

/// Measures a device between steps.
pub(crate) enum Meter {
    Cpu(Probe, ReadBuffer),
    /// With the multiprocessors of the GPU.
    #[cfg(feature = "cuda")]
    Cuda(aio::cuda::Probe, u32),
}

impl Meter {
    /// Bytes of a read.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Meter::Cpu(_, buffer) => buffer.len() as u64,
            #[cfg(feature = "cuda")]
            Meter::Cuda(probe, _) => probe.bytes(),
        }
    }

    /// Threads of the CPU, multiprocessors of a GPU.
    pub(crate) fn threads(&self) -> u32 {
        match self {
            Meter::Cpu(probe, _) => probe.threads() as u32,
            #[cfg(feature = "cuda")]
            Meter::Cuda(_, multiprocessors) => *multiprocessors,
        }
    }

    /// Seconds to read the buffer once.
    pub(crate) fn read_seconds(&self) -> Result<f64> {
        match self {
            Meter::Cpu(probe, buffer) => Ok(probe.read_seconds(buffer, probe.threads(), 1)),
            #[cfg(feature = "cuda")]
            Meter::Cuda(probe, _) => Ok(probe.read_seconds()?),
        }
    }

    /// Seconds to copy one half of the buffer to the other, where that is a measure of its own.
    pub(crate) fn copy_seconds(&self) -> Result<Option<f64>> {
        match self {
            Meter::Cpu(..) => Ok(None),
            #[cfg(feature = "cuda")]
            Meter::Cuda(probe, _) => Ok(Some(probe.copy_seconds()?)),
        }
    }

    /// Multiply-adds a second from registers: 8-bit ones, and those of plain weights. On a GPU one of the latter is two
    /// products of bf16, since activations are two such numbers each.
    pub(crate) fn macs(&self) -> Result<(f64, f64)> {
        match self {
            Meter::Cpu(probe, _) => Ok((probe.int8_macs(probe.threads()), probe.f32_macs(probe.threads()))),
            #[cfg(feature = "cuda")]
            Meter::Cuda(probe, _) => Ok((probe.int8_macs(ROUNDS)?, probe.bf16_macs(ROUNDS)? / 2.0)),
        }
    }
}
