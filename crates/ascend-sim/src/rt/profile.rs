//! Constants of the modelled clock, with range, source and confidence, from the TOML files in `profiles/`.
//!
//! The clock reads `Profile`; reports print the constants so that a modelled figure shows what it rests on.

use crate::rt::code::{INTERNAL_ERROR, INVALID_PARAM, refuse};
use crate::task::{Cost, Error};

/// A constant with its provenance.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Key in the file.
    pub name: &'static str,
    /// Value in use.
    pub value: f64,
    /// Lower end of the plausible range.
    pub low: f64,
    /// Upper end of the plausible range.
    pub high: f64,
    /// Origin of the value.
    pub source: String,
    /// How far the source carries: primary, measured by a third party, derived or assumed.
    pub confidence: String,
}

macro_rules! constants {
    ($(#[$doc:meta])* $name:ident: $($field:ident $what:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            /// Name of the profile.
            pub name: &'static str,
            $(#[doc = $what] pub $field: f64,)*
            /// Every constant with its provenance.
            pub constants: Vec<Constant>,
        }

        impl $name {
            fn parse(name: &'static str, text: &str) -> Result<Self, Error> {
                let table: toml::Table = text.parse().or_else(|e| refuse(INTERNAL_ERROR, format!("profile {name}: {e}")))?;
                let constants = vec![$(constant(name, &table, stringify!($field))?,)*];
                let mut values = constants.iter().map(|c| c.value);
                $(let $field = values.next().unwrap_or_default();)*
                drop(values);
                Ok(Self { name, $($field,)* constants })
            }

            /// Replaces one constant, for sweeps over its range.
            pub fn set(&mut self, constant: &str, value: f64) -> bool {
                let Some(found) = self.constants.iter_mut().find(|c| c.name == constant) else { return false };
                found.value = value;
                $(if constant == stringify!($field) { self.$field = value; })*
                true
            }
        }
    };
}

constants! {
    /// Rates and latencies of a device.
    DeviceProfile:
    cube_cores "Cube cores.",
    vector_cores "Vector cores.",
    hbm_bytes "Device memory in bytes.",
    l2_bytes "L2 cache in bytes.",
    hbm_bytes_per_s "Bytes a second between device memory and the cores, reads and writes together.",
    l2_bytes_per_s "Bytes a second between L2 and the cores.",
    cube_flops_per_s "16-bit floating-point operations a second of all cube cores.",
    cube_int8_per_s "8-bit operations a second of all cube cores.",
    vector_ops_per_s "Element operations a second of all vector cores.",
    task_gap_ns "Nanoseconds between consecutive tasks of a stream.",
    kernel_floor_ns "Shortest duration of a kernel in nanoseconds.",
    copy_base_ns "Fixed nanoseconds of a copy over the host bus.",
    copy_bytes_per_s "Bytes a second of a copy over the host bus.",
    update_task_ns "Nanoseconds on the device to rewrite one task of a graph.",
}

constants! {
    /// What calls cost the calling thread, in nanoseconds.
    HostProfile:
    launch_ns "A two-phase aclnn call.",
    copy_ns "Submission of an asynchronous copy or memset.",
    event_ns "Record, wait or reset of an event.",
    sync_ns "A synchronise, on top of the wait.",
    replay_ns "Submission of a graph.",
    replay_task_ns "Each task of a submitted graph.",
    update_ns "Begin and end of a task-group update together.",
    alloc_ns "An allocation.",
}

fn constant(profile: &str, table: &toml::Table, name: &'static str) -> Result<Constant, Error> {
    let entry = table.get(name).and_then(|v| v.as_table());
    let number = |key| entry.and_then(|e| e.get(key)).and_then(|v| v.as_float().or(v.as_integer().map(|i| i as f64)));
    let text = |key| entry.and_then(|e| e.get(key)).and_then(|v| v.as_str()).map(str::to_owned);
    match (number("value"), number("low"), number("high"), text("source"), text("confidence")) {
        (Some(value), Some(low), Some(high), Some(source), Some(confidence)) if low <= value && value <= high => {
            Ok(Constant { name, value, low, high, source, confidence })
        }
        _ => refuse(
            INTERNAL_ERROR,
            format!("profile {profile}: {name} needs value, low <= value <= high, source, confidence"),
        ),
    }
}

const DEVICES: [(&str, &str); 4] = [
    ("910B1", include_str!("../../profiles/910B1.toml")),
    ("910B2", include_str!("../../profiles/910B2.toml")),
    ("910B3", include_str!("../../profiles/910B3.toml")),
    ("910B4", include_str!("../../profiles/910B4.toml")),
];

const HOSTS: [(&str, &str); 2] = [
    ("native", include_str!("../../profiles/native.toml")),
    ("torch-eager", include_str!("../../profiles/torch-eager.toml")),
];

fn pick(list: &[(&'static str, &'static str)], name: &str) -> Result<(&'static str, &'static str), Error> {
    let known = || list.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
    let found = list.iter().find(|(n, _)| *n == name).copied();
    found.map_or_else(|| refuse(INVALID_PARAM, format!("no profile {name:?} (known: {})", known())), Ok)
}

impl DeviceProfile {
    /// The profile of a chip: 910B1 to 910B4.
    pub fn named(name: &str) -> Result<Self, Error> {
        let (name, text) = pick(&DEVICES, name)?;
        Self::parse(name, text)
    }

    /// Nanoseconds of a kernel: its slowest resource, and never less than the floor.
    pub fn kernel_ns(&self, cost: &Cost) -> u64 {
        let seconds = [
            // What goes through L2 is exchanged after it was read, so the times add up.
            (cost.read.saturating_add(cost.write) as f64) / self.hbm_bytes_per_s + cost.l2 as f64 / self.l2_bytes_per_s,
            cost.cube_flops as f64 / self.cube_flops_per_s + cost.cube_int8 as f64 / self.cube_int8_per_s,
            cost.vector_ops as f64 / self.vector_ops_per_s,
        ];
        let ns = seconds.into_iter().fold(0.0, f64::max) * 1e9;
        ns.max(self.kernel_floor_ns).round() as u64
    }

    /// Nanoseconds of a copy between host and device.
    pub fn copy_ns(&self, bytes: usize) -> u64 {
        (self.copy_base_ns + bytes as f64 / self.copy_bytes_per_s * 1e9).round() as u64
    }
}

impl HostProfile {
    /// The profile of a host: `native` or `torch-eager`.
    pub fn named(name: &str) -> Result<Self, Error> {
        let (name, text) = pick(&HOSTS, name)?;
        Self::parse(name, text)
    }
}
