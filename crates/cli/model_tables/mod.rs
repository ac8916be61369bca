//! `aio device model`: tables of what the simulated Ascend models, against published figures. Modelled, never measured.
//!
//! Constants come from the simulator's profiles, operators of eager engines from `operators.rs`, and steps of our own
//! plans are walked on the simulator (`walk.rs`). No constant is fitted to a figure that a table predicts.

pub(crate) mod constants;
pub(crate) mod eager;
mod inputs;
mod lengths;
pub(crate) mod operators;
mod paradox;
pub(crate) mod predictions;
pub(crate) mod setting;
mod speculation;
mod sweeps;
pub(crate) mod walk;

use crate::args::{ModelTable, ModelTablesArgs, ShowForm};
use crate::output;
use crate::section::{Section, json, markdown};
use anyhow::Result;
use setting::Setting;

/// Prints the tables.
///
/// # Errors
/// The simulator's errors, and those of standard output.
pub(crate) fn main(args: &ModelTablesArgs) -> Result<()> {
    let chosen = |table: ModelTable| args.only.is_empty() || args.only.contains(&table);
    let hosts: Vec<&str> = match &args.host {
        Some(host) => vec![host],
        None => vec!["torch-eager", "native"],
    };
    let setting = Setting { chip: &args.chip, hosts };
    let mut sections = Vec::new();
    for (table, make) in TABLES {
        if chosen(*table) {
            sections.extend(make(&setting)?);
        }
    }
    output::print_now(&match args.output {
        ShowForm::Md => sections.iter().map(markdown).collect::<Vec<_>>().join("\n"),
        ShowForm::Json => output::json_line(serde_json::Value::Array(sections.iter().map(json).collect())),
    })?;
    Ok(())
}

type Make = fn(&Setting<'_>) -> Result<Vec<Section>>;

/// Every table, in the order of printing.
const TABLES: &[(ModelTable, Make)] = &[
    (ModelTable::Inputs, inputs::sections),
    (ModelTable::Operators, operators::sections),
    (ModelTable::Predictions, predictions::sections),
    (ModelTable::Paradox, paradox::sections),
    (ModelTable::Lengths, lengths::sections),
    (ModelTable::Verification, speculation::sections),
    (ModelTable::Sweeps, sweeps::sections),
];
