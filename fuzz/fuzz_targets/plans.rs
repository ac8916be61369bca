//! Plans changed structurally and written anew with fresh checksums: what the verifier accepts must load and run without
//! a read or write out of bounds, on the oracle and on the CPU. `crates/filetest/tests/hostile_plans.rs` replays the corpus.
#![no_main]

use aio_backend::Device;
use aio_backend_cpu::{CpuDevice, CpuOptions, IsaLevel};
use aio_filetest::hostile_plans::check;
use aio_interp::InterpDevice;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

fn cpu(isa: Option<IsaLevel>, threads: usize) -> CpuDevice {
    CpuDevice::new(CpuOptions { threads, isa, pin: false }).expect("threads start")
}

fuzz_target!(|data: &[u8]| {
    static DEVICES: OnceLock<(InterpDevice, CpuDevice, CpuDevice)> = OnceLock::new();
    let (interp, portable, best) =
        DEVICES.get_or_init(|| (InterpDevice::default(), cpu(Some(IsaLevel::Portable), 1), cpu(None, 2)));
    // Half of the runs use the kernels of this machine.
    let cpu: &dyn Device = if data.len() % 2 == 0 { portable } else { best };
    check(data, &[interp, cpu]);
});
