//! Keeps devices that only walk steps apart from those that compute: the simulated Ascend does one or the other for the
//! whole process.

use aio_backend::DeviceError;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Devices that are open: those that compute, and those that walk.
static OPEN: Mutex<[usize; 2]> = Mutex::new([0; 2]);

/// A device's right to the simulator in its way, given back when dropped.
#[derive(Debug)]
pub(crate) struct Walk {
    dry: bool,
}

fn open() -> MutexGuard<'static, [usize; 2]> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Walk {
    /// Takes the right for a device.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] while devices of the other kind are open.
    pub(crate) fn take(dry: bool) -> Result<Walk, DeviceError> {
        let mut count = open();
        if count[usize::from(!dry)] > 0 {
            let others = if dry { "compute" } else { "only walk steps" };
            let reason = format!("the simulated Ascend is in use by devices that {others}");
            return Err(DeviceError::Unavailable { device: crate::error::DEVICE.to_owned(), reason });
        }
        count[usize::from(dry)] += 1;
        Ok(Walk { dry })
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        open()[usize::from(self.dry)] -= 1;
    }
}
