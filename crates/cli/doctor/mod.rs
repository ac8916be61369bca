//! `aio doctor`: what this machine has for running models, and what keeps it from running them well.

mod advice;
pub(crate) mod machine;

use crate::args::{DeviceArg, DoctorArgs, TextOrJson};
use crate::devices::DeviceFlags;
use crate::outcome::Outcome;
use crate::profiles::{self, Listed};
use crate::section::cells;
use crate::table::Table;
use crate::{device, devices, output};
use advice::{Program, Warning, warnings};
use aio::orchestrator::Ceilings;
use anyhow::Result;
use machine::Machine;
use serde_json::{Value, json};
use std::path::Path;

/// The report's version; it rises when a field changes its meaning or goes.
const VERSION: u32 = 1;

/// See the module docs.
struct Report {
    machine: Machine,
    devices: Vec<Listed>,
    /// Of the processor, as measured before.
    ceilings: Option<Ceilings>,
    warnings: Vec<Warning>,
}

pub(crate) fn main(args: &DoctorArgs) -> Result<Outcome> {
    let machine = Machine::read(Path::new("/"));
    let devices = device::all(DeviceFlags::default())?;
    let cpu = devices::open(DeviceArg::CPU, DeviceFlags::default())?;
    let ceilings = profiles::ceilings(DeviceArg::CPU, &cpu.device.target().name, cpu.threads);
    let program = Program { debug: cfg!(debug_assertions), profiled: ceilings.is_some() };
    let warnings = warnings(&machine, program);
    let report = Report { machine, devices, ceilings, warnings };
    output::print_now(&match args.output {
        TextOrJson::Text => report.text(),
        TextOrJson::Json => output::json_line(report.json()),
    })?;
    Ok(Outcome::Fine)
}

/// Bytes in the unit that suits them.
fn bytes(n: u64) -> String {
    match n {
        0..1_048_576 => format!("{} KiB", n >> 10),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", n as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", n as f64 / 1_073_741_824.0),
    }
}

impl Report {
    fn text(&self) -> String {
        let found = Table { title: "devices", heads: vec!["device", "what", ">threads"], rows: self.device_rows() };
        let rows = self.warnings.iter().map(|w| cells![w.fault, w.advice]).collect();
        let warnings = Table { title: "warnings", heads: vec!["what is wrong", "what to do"], rows };
        let machine = Table { title: "machine", heads: vec!["what", "value"], rows: self.machine_rows() };
        let tables = [machine, found, warnings].map(|table| table.text());
        tables.join("\n")
    }

    fn device_rows(&self) -> Vec<Vec<String>> {
        self.devices.iter().map(|d| cells![d.name, d.what, d.threads]).collect()
    }

    fn machine_rows(&self) -> Vec<Vec<String>> {
        let m = &self.machine;
        let quota = m.quota.map_or(String::new(), |quota| format!(", {quota:.1} of them by the control group"));
        let processors = format!("{} on {} cores, this process may use {}{quota}", m.processors, m.cores, m.allowed);
        let caches: Vec<String> = m
            .caches
            .iter()
            .map(|c| format!("L{} {} for {} processors", c.level, bytes(c.bytes), c.shared_by))
            .collect();
        let memory = [m.memory, m.available, m.swapped].map(|n| n.map_or("?".to_owned(), bytes));
        let [all, available, swapped] = &memory;
        let bandwidth = self.ceilings.map_or("not measured".to_owned(), |c| {
            format!("{:.1} GB/s read, {:.0} G multiply-adds/s, as calibrated", c.bandwidth / 1e9, c.peak / 1e9)
        });
        let word = |value: &Option<String>| value.clone().unwrap_or("?".to_owned());
        vec![
            cells!["processor", word(&m.processor)],
            cells!["processors", processors],
            cells!["caches", if caches.is_empty() { "?".to_owned() } else { caches.join(", ") }],
            cells!["memory", format!("{all}, {available} available, {swapped} swapped out")],
            cells!["huge pages", word(&m.huge_pages)],
            cells!["governor", word(&m.governor)],
            cells!["load", m.load.map_or("?".to_owned(), |load| format!("{load:.2}"))],
            cells!["bandwidth", bandwidth],
            cells!["kernel", word(&m.kernel)],
            cells!["aio", format!("{} ({})", env!("CARGO_PKG_VERSION"), aio::COMMIT)],
        ]
    }

    fn json(&self) -> Value {
        let ceilings = self.ceilings.map(|c| json!({"bytes_per_second": c.bandwidth, "macs_per_second": c.peak}));
        json!({
            "version": VERSION,
            "aio": env!("CARGO_PKG_VERSION"),
            "commit": aio::COMMIT,
            "machine": self.machine,
            "devices": self.devices.iter().map(Listed::json).collect::<Vec<_>>(),
            "calibrated": ceilings,
            "warnings": self.warnings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!([48 << 10, 3 << 19, 3 << 29].map(bytes), ["48 KiB", "1.5 MiB", "1.5 GiB"]);
    }
}
