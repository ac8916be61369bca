//! The table of inputs: every constant that modelled figures rest on, with its range and where it comes from.

use super::constants::{Constant, Constants};
use super::setting::Setting;
use super::walk::{Form, Walk, preset};
use crate::section::{Section, cells};
use crate::table::Table;
use anyhow::Result;

/// What the issue of the modelled clock calls the inputs that matter most, and the constant that holds each.
const NAMED: &[(&str, &str)] = &[
    ("hbm_bytes_per_s", "copy bandwidth"),
    ("kernel_floor_ns", "kernel floor"),
    ("launch_ns", "operator cost"),
    ("sync_ns", "synchronise"),
    ("replay_ns", "replay"),
    ("update_ns", "re-binding of a layer, with launch_ns and event_ns"),
];

/// Published limit of the gain of 4-bit weights over halves.
const FOUR_BITS: f64 = 1.48;

pub(super) fn sections(setting: &Setting<'_>) -> Result<Vec<Section>> {
    let mut rows = Vec::new();
    let mut notes = vec![
        "Every value is an input. None is fitted to a figure of the predictions, and none was measured by this project."
            .to_owned(),
    ];
    for (i, host) in setting.hosts.iter().enumerate() {
        let constants = Constants::of(setting.chip, host)?;
        let chip = constants.0.iter().position(|c| c.name == "launch_ns").unwrap_or(constants.0.len());
        let parts = constants.0.split_at(chip);
        if i == 0 {
            rows.extend(parts.0.iter().map(|c| row(setting.chip, c)));
        }
        rows.extend(parts.1.iter().map(|c| row(host, c)));
        notes.push(rebinding(host, &constants)?);
    }
    notes.push(four_bits(setting)?);
    let title = "Modelled clock: inputs";
    let heads = vec!["profile", "constant", ">value", ">low", ">high", "source", "confidence", "also called"];
    Ok(vec![Section { table: Table { title, heads, rows }, notes }])
}

/// What 4-bit weights gain in a decode step of the large model, against the published limit.
fn four_bits(setting: &Setting<'_>) -> Result<String> {
    let shape = preset("pangu-7b")?;
    let step = |form| Walk::new(setting.chip, &shape, form, &[1])?.decode(2048);
    let gain = step(Form::GRAPH)? / step(Form { groups: true, ..Form::GRAPH })?;
    let verdict = if gain <= FOUR_BITS { "within" } else { "above" };
    Ok(format!(
        "W4A16: published, at most {FOUR_BITS} times the fp16 product (arXiv 2601.16536, measured by a third party). Modelled, \
         a decode step of 7B with 4-bit matrices is {gain:.2} times as fast, {verdict} the limit. The weights that vector \
         cores restore go through L2 after they were read, so l2_bytes_per_s decides. The limit is not applied."
    ))
}

/// What re-binding a layer of a captured graph costs a host.
fn rebinding(host: &str, constants: &Constants) -> Result<String> {
    let sum = constants.get("update_ns")?.value + constants.get("launch_ns")?.value + constants.get("event_ns")?.value;
    Ok(format!(
        "Re-binding the attention of a layer under {host}: update_ns + launch_ns + event_ns = {} us.",
        sum / 1e3
    ))
}

fn row(profile: &str, c: &Constant) -> Vec<String> {
    let also = NAMED.iter().find(|(name, _)| *name == c.name).map_or("", |(_, also)| also);
    cells![profile, c.name, number(c.value), number(c.low), number(c.high), c.source, c.confidence, also]
}

/// A number with few digits.
fn number(value: f64) -> String {
    if value >= 1e9 { format!("{value:.4e}") } else { value.to_string() }
}
