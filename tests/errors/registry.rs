//! The registry of devices: unknown names and options, and failed measurements.

use crate::Table;
use aio::backend::DeviceError;
use aio::backend::null::NullDevice;
use aio::devices::{DeviceOptions, KernelRequest, Registry, RegistryError, Sampler, SimpleEntry, options};
use std::sync::Arc;

/// A device with a name that is already in use.
const SECOND: SimpleEntry =
    SimpleEntry { name: "cpu", summary: "Another", chip: "none", make: || Ok(Arc::new(NullDevice::default())) };

fn unavailable() -> DeviceError {
    DeviceError::Unavailable { device: "broken".to_owned(), reason: "it has no power".to_owned() }
}

pub(crate) fn cause(table: &mut Table) {
    let mut devices = Registry::new();
    devices.add(SECOND).unwrap();
    table.add("RegistryError", devices.open("npu", &DeviceOptions::new()).unwrap_err());
    table.add("RegistryError", devices.add(SECOND).unwrap_err());
    let devices = Registry::with_defaults();
    table.add("RegistryError", devices.open("interp", &DeviceOptions::new().with(options::THREADS, 2)).unwrap_err());
    table.add("RegistryError", devices.open("cpu", &DeviceOptions::new().with(options::ISA, "sse9")).unwrap_err());
    table.add("RegistryError", devices.open("cpu", &DeviceOptions::new().with(options::THREADS, 9999)).unwrap_err());
    let mut broken = Registry::new();
    broken.add(SimpleEntry { name: "broken", make: || Err(unavailable()), ..SECOND }).unwrap();
    table.add("RegistryError", broken.open("broken", &DeviceOptions::new()).unwrap_err());
    let request = KernelRequest { architecture: 90, burst: None };
    let cpu = devices.find("cpu").unwrap();
    table.add("RegistryError", cpu.compile_kernels(&request, &DeviceOptions::new()).unwrap_err());
    let oracle = devices.open("interp", &DeviceOptions::new()).unwrap();
    assert!(oracle.hardware.is_none());
    table.add("RegistryError", RegistryError::NotMeasured { device: "interp" });
    let sampler = |stopped| Sampler { repetitions: 1, stopped };
    table.add("RegistryError", sampler(&|| true).figure(|| Ok(1.0)).unwrap_err());
    table.add("RegistryError", sampler(&|| false).figure(|| Ok(f64::INFINITY)).unwrap_err());
}
