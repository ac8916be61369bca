//! The registry of devices known to a program.

use super::entry::{DeviceEntry, Opened};
use super::error::RegistryError;
use super::options::DeviceOptions;
use std::fmt;

/// Devices by name, in display order.
#[derive(Default)]
pub struct Registry {
    entries: Vec<Box<dyn DeviceEntry>>,
}

impl Registry {
    /// Creates an empty registry.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// Creates a registry with the devices of this build of aio.
    pub fn with_defaults() -> Registry {
        let entries: Vec<Box<dyn DeviceEntry>> = vec![
            Box::new(super::cpu::CpuEntry),
            #[cfg(feature = "cuda")]
            Box::new(super::cuda::CudaEntry),
            #[cfg(feature = "ascend")]
            Box::new(super::ascend::AscendEntry),
            Box::new(super::interp::ENTRY),
        ];
        Registry { entries }
    }

    /// Adds a device.
    ///
    /// # Errors
    /// [`RegistryError::Taken`] if the name is already in use.
    pub fn add(&mut self, entry: impl DeviceEntry + 'static) -> Result<(), RegistryError> {
        let name = entry.name();
        if self.names().any(|n| n == name) {
            return Err(RegistryError::Taken { name });
        }
        self.entries.push(Box::new(entry));
        Ok(())
    }

    /// All devices, in order.
    pub fn entries(&self) -> impl Iterator<Item = &dyn DeviceEntry> {
        self.entries.iter().map(|e| &**e)
    }

    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.entries.iter().map(|e| e.name())
    }

    /// Finds a device by name.
    ///
    /// # Errors
    /// [`RegistryError::UnknownDevice`], which lists the known names.
    pub fn find(&self, name: &str) -> Result<&dyn DeviceEntry, RegistryError> {
        let found = self.entries().find(|e| e.name() == name);
        found.ok_or_else(|| RegistryError::UnknownDevice { name: name.to_owned(), known: self.names().collect() })
    }

    /// Opens a device.
    ///
    /// # Errors
    /// [`RegistryError::UnknownDevice`], errors of [`Registry::check`], and errors of the device.
    pub fn open(&self, name: &str, options: &DeviceOptions) -> Result<Opened, RegistryError> {
        Ok(self.check(name, options)?.open(options)?)
    }

    /// Finds a device by name and checks that it accepts all of these options.
    ///
    /// # Errors
    /// [`RegistryError::UnknownDevice`], [`RegistryError::UnknownOption`], [`RegistryError::OptionValue`].
    pub fn check(&self, name: &str, options: &DeviceOptions) -> Result<&dyn DeviceEntry, RegistryError> {
        let entry = self.find(name)?;
        for (option, value) in options.iter() {
            let device = entry.name();
            let Some(spec) = entry.options().iter().find(|s| s.name == option) else {
                let known = entry.options().iter().map(|s| s.name).collect();
                return Err(RegistryError::UnknownOption { device, option: option.to_owned(), known });
            };
            if !spec.form.takes(value) {
                let expected = spec.form.to_string();
                return Err(RegistryError::OptionValue { device, option: spec.name, expected });
            }
        }
        Ok(entry)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
