//! AscendCL: libraries that are none, NPUs that do not exist, settings that the simulator does not have.

use crate::Table;
use aio::ascend::{AclLibrary, AscendDevice, AscendError, AscendOptions};
use aio::backend::DeviceError;
use std::path::Path;

pub(crate) fn cause(table: &mut Table) {
    match AclLibrary::open(Some(Path::new("no such library"))).unwrap_err() {
        // The reason is the loader's, in its own words.
        AscendError::Library { path, .. } => {
            table.add("AscendError", AscendError::Library { path, reason: "the loader's reason".to_owned() });
        }
        other => panic!("{other}"),
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(AclLibrary::open(Some(folder.path())), Err(AscendError::Library { .. })));
    // A library that is another one, where its name is known.
    let other = AclLibrary::open(Some(Path::new("libc.so.6"))).unwrap_err();
    let symbol = AscendError::Symbol { name: "aclInit" };
    assert!(other == symbol || !cfg!(all(target_os = "linux", target_env = "gnu")), "{other}");
    table.add("AscendError", symbol);
    let simulated = || AclLibrary::simulated().unwrap();
    match AscendDevice::open(simulated(), AscendOptions { number: 99, ..AscendOptions::default() }).unwrap_err() {
        DeviceError::Unavailable { reason, .. } => table.named("AscendError::NoSuchDevice", &reason),
        other => panic!("{other}"),
    }
    let device = AscendDevice::open(simulated(), AscendOptions::default()).unwrap();
    table.add("AscendError", device.control("colour", "blue").unwrap_err());
}
