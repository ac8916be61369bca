//! Predictions against published figures, each with its interval, its miss, and the constant that would close the miss.

use super::constants::{Constants, Costs, Point};
use super::eager::{bytes, copied, launched, reaches, replayed};
use super::operators::{GGML_QWEN2, PANGU_FORWARD, PANGU_GENERATE};
use super::setting::Setting;
use super::walk::preset;
use crate::section::{Section, cells};
use crate::table::Table;
use anyhow::Result;

/// Positions in the context of the paper's short setting.
const SHORT: u32 = 2048;
/// Positions in the context of llama.cpp's figures, which are of its default benchmark.
const LLAMA: u32 = 128;
/// Microseconds between which the cost of an operator lies.
const OPERATOR_US: std::ops::RangeInclusive<u32> = 16..=45;

/// A published figure.
struct Published {
    what: &'static str,
    unit: &'static str,
    value: f64,
}

/// What the model says of it, at each point of the constants' ranges.
struct Prediction {
    fast: f64,
    value: f64,
    slow: f64,
    /// The constant that would close the miss.
    closing: String,
}

impl Prediction {
    fn row(&self, published: &Published) -> Vec<String> {
        let (low, high) = (self.fast.min(self.slow), self.fast.max(self.slow));
        let inside = if (low..=high).contains(&published.value) { "yes" } else { "no" };
        let Published { what, unit, value } = *published;
        let miss = percent(self.value, value);
        cells![
            what,
            unit,
            value,
            short(self.value),
            format!("{} to {}", short(low), short(high)),
            inside,
            miss,
            self.closing
        ]
    }
}

fn short(value: f64) -> String {
    format!("{value:.2}")
}

/// How far a prediction is from a published figure.
fn percent(predicted: f64, published: f64) -> String {
    format!("{:+.1} %", (predicted / published - 1.0) * 100.0)
}

/// Predicts a rate or a time from the seconds that costs give.
fn predict(constants: &Constants, seconds: impl Fn(&Costs) -> f64, figure: fn(f64) -> f64) -> Result<[f64; 3]> {
    let at = |point| Ok::<f64, anyhow::Error>(figure(seconds(&constants.costs(point)?)));
    Ok([at(Point::Fast)?, at(Point::Value)?, at(Point::Slow)?])
}

/// The constant that would close a miss: its name, how to set it, and its value in nanoseconds for the seconds wanted.
fn closing(
    constants: &Constants,
    name: &str,
    wanted: f64,
    seconds: impl Fn(&Costs) -> f64,
    set: fn(&mut Costs, f64),
) -> Result<String> {
    let (base, known) = (constants.costs(Point::Value)?, constants.get(name)?);
    let with = |value: f64| {
        let mut costs = base;
        set(&mut costs, value);
        seconds(&costs)
    };
    let Some(value) = reaches(wanted, (0.0, 1e-3), with) else { return Ok(format!("no {name} closes it")) };
    let ns = value * 1e9;
    let place = if (known.low..=known.high).contains(&ns) { "in" } else { "outside" };
    Ok(format!("{name} = {ns:.0}, {place} its range {} to {}", known.low, known.high))
}

fn launch(costs: &mut Costs, value: f64) {
    costs.launch = value;
}

fn floor(costs: &mut Costs, value: f64) {
    costs.floor = value;
}

fn rate(seconds: f64) -> f64 {
    1.0 / seconds
}

fn milliseconds(seconds: f64) -> f64 {
    seconds * 1e3
}

pub(crate) fn sections(setting: &Setting<'_>) -> Result<Vec<Section>> {
    let eager = Constants::of(setting.chip, "torch-eager")?;
    let native = Constants::of(setting.chip, "native")?;
    let mut rows = vec![ratio(&eager)?];
    rows.extend(tokens(&eager)?);
    rows.push(probe(&eager)?);
    rows.extend(llama(&native)?);
    let title = "Modelled: predictions against published figures";
    let heads = vec![
        "published figure",
        "unit",
        ">published",
        ">predicted",
        "interval",
        "inside",
        ">miss",
        "constant that would close it, not applied",
    ];
    let notes = vec![
        "Interval: all constants at the fast ends, and at the slow ends, of their ranges; of the ratio: all combinations of \
         the operator cost and the device's ends. openPangu: context 2048, eager operators under PyTorch. The probe is one \
         forward pass of one token at the same operator cost."
            .to_owned(),
        "The paper's decode and its probe do not fit one operator cost: the first needs about 43 us, the second the fastest \
         that was ever measured."
            .to_owned(),
        "llama.cpp: F16 weights, a context of 128, logits copied to the host; the time of sampling and of the host's graph \
         walk is not modelled. The kernel floor comes from no figure of llama.cpp."
            .to_owned(),
    ];
    Ok(vec![Section { table: Table { title, heads, rows }, notes }, costs(&eager)?])
}

/// Bytes of the operators of a decode step of openPangu.
fn pangu(name: &str) -> Result<Vec<f64>> {
    Ok(bytes(&PANGU_GENERATE, &preset(name)?, SHORT))
}

/// The ratio of the speeds of the small and the large model.
fn ratio(eager: &Constants) -> Result<Vec<String>> {
    let (small, large) = (pangu("pangu-1b")?, pangu("pangu-7b")?);
    let of = |costs: &Costs| launched(&large, costs) / launched(&small, costs);
    let [fast, value, slow] = [Point::Fast, Point::Value, Point::Slow].map(|p| eager.costs(p));
    let (fast, value, slow) = (fast?, value?, slow?);
    let corners: Vec<f64> = [fast, value, slow]
        .iter()
        .flat_map(|device| {
            [fast, value, slow].map(|host| of(&Costs { launch: host.launch, sync: host.sync, ..*device }))
        })
        .collect();
    let prediction = Prediction {
        fast: corners.iter().copied().fold(f64::INFINITY, f64::min),
        value: of(&value),
        slow: corners.iter().copied().fold(0.0, f64::max),
        closing: "none: the ratio is of counts, not of a constant".to_owned(),
    };
    Ok(prediction.row(&Published { what: "A-IO: speed of 1B over 7B", unit: "ratio", value: 1.26 }))
}

fn tokens(eager: &Constants) -> Result<Vec<Vec<String>>> {
    let figures = [("pangu-1b", "A-IO: 1B, eager", 21.58), ("pangu-7b", "A-IO: 7B, eager", 17.18)];
    let row = |(name, what, value): (&str, &'static str, f64)| {
        let moved = pangu(name)?;
        let seconds = |costs: &Costs| launched(&moved, costs);
        let [fast, predicted, slow] = predict(eager, seconds, rate)?;
        let closing = closing(eager, "launch_ns", 1.0 / value, seconds, launch)?;
        Ok(Prediction { fast, value: predicted, slow, closing }.row(&Published { what, unit: "tok/s", value }))
    };
    figures.into_iter().map(row).collect()
}

fn probe(eager: &Constants) -> Result<Vec<String>> {
    let moved = bytes(&PANGU_FORWARD, &preset("pangu-1b")?, SHORT);
    let seconds = |costs: &Costs| launched(&moved, costs);
    let [fast, value, slow] = predict(eager, seconds, milliseconds)?;
    let closing = closing(eager, "launch_ns", 17.4e-3, seconds, launch)?;
    Ok(Prediction { fast, value, slow, closing }.row(&Published { what: "A-IO: probe of 1B", unit: "ms", value: 17.4 }))
}

fn llama(native: &Constants) -> Result<Vec<Vec<String>>> {
    let shape = preset("qwen2-0.5b")?;
    let moved = bytes(&GGML_QWEN2, &shape, LLAMA);
    let logits = f64::from(shape.vocab_size) * 4.0;
    let eager = |costs: &Costs| launched(&moved, costs) + copied(logits, costs);
    let graph = |costs: &Costs| replayed(&moved, costs) + copied(logits, costs);
    let [fast, value, slow] = predict(native, eager, rate)?;
    let closed = closing(native, "launch_ns", 1.0 / 70.0, eager, launch)?;
    let published = Published { what: "llama.cpp CANN: Qwen2.5-0.5B, eager", unit: "tok/s", value: 70.0 };
    let first = Prediction { fast, value, slow, closing: closed }.row(&published);
    let [fast, value, slow] = predict(native, graph, rate)?;
    let closed = closing(native, "kernel_floor_ns", 1.0 / 120.0, graph, floor)?;
    let published = Published { what: "llama.cpp CANN: Qwen2.5-0.5B, graph", unit: "tok/s", value: 120.0 };
    Ok(vec![first, Prediction { fast, value, slow, closing: closed }.row(&published)])
}

/// The ratio for every operator cost.
fn costs(eager: &Constants) -> Result<Section> {
    let (small, large) = (pangu("pangu-1b")?, pangu("pangu-7b")?);
    let points = [Point::Fast, Point::Value, Point::Slow].map(|p| eager.costs(p));
    let mut rows = Vec::new();
    for us in OPERATOR_US.filter(|us| [16, 20, 30, 40, 45].contains(us)) {
        let mut row = cells![us];
        for point in &points {
            let device = *point.as_ref().map_err(|e| anyhow::anyhow!("{e}"))?;
            let costs = Costs { launch: f64::from(us) * 1e-6, ..device };
            let ratio = launched(&large, &costs) / launched(&small, &costs);
            row.push(format!("{ratio:.3} ({})", percent(ratio, 1.26)));
        }
        rows.push(row);
    }
    let title = "Modelled: speed of 1B over 7B, by operator cost (published: 1.26)";
    let heads =
        vec![">operator cost, us", ">device at its fast end", ">device as in the profile", ">device at its slow end"];
    let notes = vec!["With the device as in the profile it must be within 10 % for any operator cost; a test checks each microsecond. With \
         a device at its slow end and the cheapest operators, the device is the slower of the two for 7B, and it is not.".to_owned()];
    Ok(Section { table: Table { title, heads, rows }, notes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_the_figure_is_inside_and_how_far_it_is() {
        let prediction = Prediction { fast: 30.0, value: 20.0, slow: 10.0, closing: String::new() };
        let row = prediction.row(&Published { what: "x", unit: "tok/s", value: 25.0 });
        assert_eq!(row[3..7], ["20.00", "10.00 to 30.00", "yes", "-20.0 %"]);
        let row = prediction.row(&Published { what: "x", unit: "tok/s", value: 31.0 });
        assert_eq!(row[5], "no");
    }
}
