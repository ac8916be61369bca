//! The registry of devices: names, options and measurements that do not exist.

use crate::Table;
use aio::devices::{
    DeviceEntry, DeviceOptions, Found, KernelRequest, Opened, Registry, RegistryError, Sampler, options,
};

/// A device that takes a name that is taken.
struct Second;

impl DeviceEntry for Second {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn summary(&self) -> &'static str {
        "Another CPU"
    }

    fn list(&self) -> Result<Vec<Found>, aio::backend::DeviceError> {
        Ok(Vec::new())
    }

    fn open(&self, _: &DeviceOptions) -> Result<Opened, aio::backend::DeviceError> {
        Ok(Opened::unmeasured(aio::backend::null::NullDevice::default(), "none"))
    }
}

pub(crate) fn cause(table: &mut Table) {
    let mut devices = Registry::new();
    devices.add(Second).unwrap();
    table.add("RegistryError", devices.open("npu", &DeviceOptions::new()).unwrap_err());
    table.add("RegistryError", devices.add(Second).unwrap_err());
    let devices = Registry::with_defaults();
    table.add("RegistryError", devices.open("interp", &DeviceOptions::new().with(options::THREADS, 2)).unwrap_err());
    table.add("RegistryError", devices.open("cpu", &DeviceOptions::new().with(options::ISA, "sse9")).unwrap_err());
    table.add("RegistryError", devices.open("cpu", &DeviceOptions::new().with(options::THREADS, 9999)).unwrap_err());
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
