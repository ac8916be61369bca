//! Devices: opened by name with options as text.

use crate::call::call;
use crate::raw::{self, Sized32};
use crate::status::{Error, Failure, Outcome};
use crate::types::{DeviceHandle, Handle, c_types};
use aio::devices::{DeviceOptions, Opened, OptionForm, OptionValue, Registry, options};
use bytemuck::Zeroable;
use std::ffi::c_char;
use std::mem::offset_of;
use std::path::PathBuf;

/// An option of a device; `aio_option` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct DeviceOption {
    /// Its name.
    pub name: *const c_char,
    /// Its value.
    pub value: *const c_char,
}

/// What to open; `aio_device_params` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct DeviceParams {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// Threads of a CPU, including the caller's; 0 for one per core.
    pub threads: u32,
    /// The device's name, null for the CPU.
    pub name: *const c_char,
    /// Further options.
    pub options: *const DeviceOption,
    /// Number of options.
    pub n_options: u64,
}

// SAFETY: `repr(C)`, begins with its size, integers and pointers.
unsafe impl Sized32 for DeviceParams {
    const NAME: &'static str = "aio_device_params";
    const FIRST_SIZE: usize = offset_of!(DeviceParams, n_options) + 8;
}

c_types! {
    DeviceOption = "aio_option",
    DeviceParams = "aio_device_params",
    Error = "aio_error",
}

/// Reads a value in the form that the device takes.
fn value(form: OptionForm, name: &str, text: &str) -> Outcome<OptionValue> {
    let wrong = || Failure::argument(format!("option `{name}` is {text:?}, expected {form}"));
    Ok(match form {
        OptionForm::Flag => OptionValue::Flag(text.parse().map_err(|_| wrong())?),
        OptionForm::Count(_) => OptionValue::Count(text.parse().map_err(|_| wrong())?),
        OptionForm::Word(_) => OptionValue::Word(text.to_owned()),
        OptionForm::Folder | OptionForm::Path => OptionValue::Folders(vec![PathBuf::from(text)]),
        OptionForm::Folders => OptionValue::Folders(std::env::split_paths(text).collect()),
    })
}

/// # Safety
/// As the header says.
unsafe fn opened(params: &DeviceParams) -> Outcome<Opened> {
    let registry = Registry::with_defaults();
    // SAFETY: the caller's promises.
    let (name, given) = unsafe {
        let name = raw::c_text(params.name, "the device's name")?.unwrap_or("cpu");
        (name, raw::slice(params.options, params.n_options, "options")?)
    };
    let entry = registry.find(name)?;
    let mut all = DeviceOptions::new();
    if params.threads != 0 {
        all = all.with(options::THREADS, params.threads);
    }
    for option in given {
        // SAFETY: the caller's promises.
        let (name, text) =
            unsafe { (raw::c_text(option.name, "an option's name")?, raw::c_text(option.value, "an option's value")?) };
        let (Some(name), Some(text)) = (name, text) else {
            return Err(Failure::argument("an option's name or value is null"));
        };
        let value = match entry.options().iter().find(|s| s.name == name) {
            Some(spec) => value(spec.form, name, text)?,
            // Refused when the device is opened, with the names that it knows.
            None => OptionValue::Flag(true),
        };
        all = all.with(name, value);
    }
    Ok(registry.open(name, &all)?)
}

/// Opens a device.
pub(crate) unsafe extern "C" fn open(params: *const DeviceParams, device: *mut DeviceHandle, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller, here and below.
    unsafe {
        call(error, || {
            let params = if params.is_null() { DeviceParams::zeroed() } else { raw::read(params)? };
            DeviceHandle::give(device, || opened(&params))
        })
    }
}

/// Frees a device. Its engines keep it.
pub(crate) unsafe extern "C" fn free(device: DeviceHandle, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe { call(error, || device.take::<Opened>().map(drop)) }
}
