//! `aio doctor`: what this machine has for running models, and what keeps it from running them well.

mod advice;
mod compilers;
pub(crate) mod machine;

use crate::args::{DeviceArg, DoctorArgs, TextOrJson};
use crate::devices::DeviceFlags;
use crate::outcome::Outcome;
use crate::profiles::{self, Listed};
use crate::section::cells;
use crate::table::Table;
use crate::{device, devices, folders, output};
use advice::{Program, Warning, warnings};
use aio::orchestrator::Ceilings;
use anyhow::Result;
use compilers::Compilers;
use machine::Machine;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The report's version; it rises when a field changes its meaning or goes.
const VERSION: u32 = 1;

/// See the module docs.
struct Report {
    machine: Machine,
    compilers: Compilers,
    devices: Vec<Listed>,
    /// Of the processor, as measured before.
    ceilings: Option<Ceilings>,
    warnings: Vec<Warning>,
}

pub(crate) fn main(args: &DoctorArgs) -> Result<Outcome> {
    let machine = Machine::read(Path::new("/"));
    let devices = device::all(DeviceFlags::default());
    let cpu = devices::open(DeviceArg::CPU, DeviceFlags::default())?;
    let ceilings = profiles::ceilings(DeviceArg::CPU, &cpu.device.target().name, cpu.threads);
    let no_cache = folders::cache().err().map(|e| output::describe(&e));
    let program = Program { debug: cfg!(debug_assertions), profiled: ceilings.is_some(), no_cache };
    let warnings = warnings(&machine, &program);
    let report = Report { machine, compilers: Compilers::find(), devices, ceilings, warnings };
    output::print_now(&match args.output {
        TextOrJson::Text => report.text(output::columns()),
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

/// A number of things: `1 core`, `2 cores`.
fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

impl Report {
    /// For people; on a terminal, lines fit its columns.
    fn text(&self, columns: Option<usize>) -> String {
        let found = Table { title: "devices", heads: vec!["device", "what", ">threads"], rows: self.device_rows() };
        let rows = self.warnings.iter().map(|w| cells![w.fault, w.advice]).collect();
        let warnings = Table { title: "warnings", heads: vec!["what is wrong", "what to do"], rows };
        let machine = Table { title: "machine", heads: vec!["what", "value"], rows: self.machine_rows() };
        let tables = [machine, found, warnings].map(|table| table.fitted(columns));
        tables.join("\n")
    }

    fn device_rows(&self) -> Vec<Vec<String>> {
        self.devices.iter().map(|d| cells![d.name, d.what, d.threads]).collect()
    }

    fn machine_rows(&self) -> Vec<Vec<String>> {
        let m = &self.machine;
        let quota = m.quota.map_or(String::new(), |quota| format!(", {quota:.1} of them by the control group"));
        let cores = counted(m.cores, "core");
        let processors = format!("{} on {cores}, this process may use {}{quota}", m.processors, m.allowed);
        let caches: Vec<String> = m
            .caches
            .iter()
            .map(|c| format!("L{} {} for {}", c.level, bytes(c.bytes), counted(c.shared_by, "processor")))
            .collect();
        let memory = [m.memory, m.available, m.swapped].map(|n| n.map_or("?".to_owned(), bytes));
        let [all, available, swapped] = &memory;
        let bandwidth = self.ceilings.map_or("not measured".to_owned(), |c| {
            format!("{:.1} GB/s read, {:.0} G multiply-adds/s, as calibrated", c.bandwidth / 1e9, c.peak / 1e9)
        });
        let word = |value: &Option<String>| value.clone().unwrap_or("?".to_owned());
        let path = |path: &Option<PathBuf>| path.as_ref().map_or("not found".to_owned(), |p| p.display().to_string());
        let nvrtc = match &self.compilers.nvrtc {
            Some(version) => version.clone(),
            None if cfg!(feature = "cuda") => "not found".to_owned(),
            None => "this build has no CUDA".to_owned(),
        };
        vec![
            cells!["processor", word(&m.processor)],
            cells!["extensions", if m.features.is_empty() { "?".to_owned() } else { m.features.join(" ") }],
            cells!["processors", processors],
            cells!["caches", if caches.is_empty() { "?".to_owned() } else { caches.join(", ") }],
            cells!["memory", format!("{all}, {available} available, {swapped} swapped out")],
            cells!["huge pages", word(&m.huge_pages)],
            cells!["governor", word(&m.governor)],
            cells!["load", m.load.map_or("?".to_owned(), |load| format!("{load:.2}"))],
            cells!["bandwidth", bandwidth],
            cells!["NVRTC", nvrtc],
            cells!["nvcc", path(&self.compilers.nvcc)],
            cells!["ptxas", path(&self.compilers.ptxas)],
            cells!["system", word(&m.kernel)],
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
            "compilers": self.compilers,
            "devices": self.devices.iter().map(Listed::json).collect::<Vec<_>>(),
            "calibrated": ceilings,
            "warnings": self.warnings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profiles::Profile;

    #[test]
    fn bytes_have_units() {
        assert_eq!([48 << 10, 3 << 19, 3 << 29].map(bytes), ["48 KiB", "1.5 MiB", "1.5 GiB"]);
    }

    #[test]
    fn lines_fit_a_terminal() {
        let cache = |level, shared_by| machine::Cache { level, bytes: 48 << 10, shared_by };
        let machine = Machine {
            processor: Some("A Processor With A Long Name And Number 9999 64-Core (7th generation)".to_owned()),
            features: (0..30).map(|i| format!("avx512_extension{i}")).collect(),
            cores: 1,
            caches: vec![cache(1, 1), cache(2, 2), cache(3, 16)],
            swapped: Some(4 << 30),
            ..Machine::default()
        };
        let program = Program { debug: true, profiled: false, no_cache: Some("there is none ".repeat(9)) };
        let missing = "cannot be opened, ".repeat(20) + &"/a/very/long/path".repeat(9);
        let listed = Listed { name: "cuda".to_owned(), what: missing, threads: 0, profile: Profile::NotKept };
        let warnings = warnings(&machine, &program);
        let (devices, ceilings, compilers) = (vec![listed], None, Compilers::default());
        let report = Report { machine, compilers, devices, ceilings, warnings };
        for columns in [80, 100, 60] {
            let text = report.text(Some(columns));
            let long = text.lines().find(|l| l.chars().count() > columns);
            assert_eq!(long, None, "{text}");
        }
        // Elsewhere, a row is a line.
        let text = report.text(None);
        assert!(text.contains("L1 48 KiB for 1 processor, L2 48 KiB for 2 processors") && text.contains(" on 1 core,"));
        let rows = report.machine_rows().len() + report.warnings.len() + 1;
        assert_eq!(text.lines().count(), rows + 3 * 2 + 2, "{text}");
        assert!(text.contains("  system ") && !text.contains("  kernel "));
    }
}
