//! The registry's entry of the oracle.

use super::entry::{DeviceEntry, Found, Opened};
use super::options::DeviceOptions;
use aio_backend::DeviceError;
use aio_interp::InterpDevice;

/// The name of the oracle among the devices.
pub const ORACLE: &str = "interp";
const CHIP: &str = "the scalar oracle";

pub(super) struct InterpEntry;

impl DeviceEntry for InterpEntry {
    fn name(&self) -> &'static str {
        ORACLE
    }

    fn summary(&self) -> &'static str {
        "The scalar oracle: slow, exact, for comparison"
    }

    fn list(&self) -> Result<Vec<Found>, DeviceError> {
        Ok(vec![Found { target: ORACLE.to_owned(), chip: CHIP.to_owned(), threads: 1 }])
    }

    fn open(&self, _: &DeviceOptions) -> Result<Opened, DeviceError> {
        Ok(Opened::unmeasured(InterpDevice::default(), CHIP))
    }
}
