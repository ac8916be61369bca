//! Constants of the modelled clock, as the simulator reports them, and points in their ranges.

use super::walk;
use anyhow::{Context, Result};
use serde::Deserialize;

/// A constant with its provenance.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Constant {
    pub name: String,
    pub value: f64,
    pub low: f64,
    pub high: f64,
    pub source: String,
    pub confidence: String,
}

/// Constants of a chip and a host.
pub(crate) struct Constants(pub Vec<Constant>);

/// A point in the ranges of all constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// The fast end of each range.
    Fast,
    /// The values in use.
    Value,
    /// The slow end of each range.
    Slow,
}

/// Seconds and bytes per second that eager engines and graphs take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Costs {
    /// A call of the host.
    pub launch: f64,
    pub sync: f64,
    pub replay: f64,
    pub replay_task: f64,
    pub gap: f64,
    pub floor: f64,
    pub hbm: f64,
    pub copy_base: f64,
    pub copy_rate: f64,
}

impl Constants {
    /// Those of a chip and a host.
    pub(crate) fn of(chip: &str, host: &str) -> Result<Constants> {
        #[derive(Deserialize)]
        struct Report {
            constants: Vec<Constant>,
        }
        let report: Report = serde_json::from_str(&walk::device(chip, host, walk::Form::GRAPH)?.report()?)
            .context("the simulator's report is not what it should be")?;
        Ok(Constants(report.constants))
    }

    /// The constant of a name.
    pub(crate) fn get(&self, name: &str) -> Result<&Constant> {
        self.0.iter().find(|c| c.name == name).with_context(|| format!("the simulator has no constant `{name}`"))
    }

    /// The costs at a point.
    pub(crate) fn costs(&self, point: Point) -> Result<Costs> {
        let time = |name: &str| Ok::<f64, anyhow::Error>(at(self.get(name)?, point, false) * 1e-9);
        let rate = |name: &str| Ok::<f64, anyhow::Error>(at(self.get(name)?, point, true));
        Ok(Costs {
            launch: time("launch_ns")?,
            sync: time("sync_ns")?,
            replay: time("replay_ns")?,
            replay_task: time("replay_task_ns")?,
            gap: time("task_gap_ns")?,
            floor: time("kernel_floor_ns")?,
            hbm: rate("hbm_bytes_per_s")?,
            copy_base: time("copy_base_ns")?,
            copy_rate: rate("copy_bytes_per_s")?,
        })
    }
}

fn at(constant: &Constant, point: Point, more_is_faster: bool) -> f64 {
    match (point, more_is_faster) {
        (Point::Value, _) => constant.value,
        (Point::Fast, true) | (Point::Slow, false) => constant.high,
        (Point::Fast, false) | (Point::Slow, true) => constant.low,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_end_of_a_rate_is_the_high_one() {
        let text = String::new;
        let c = Constant { name: text(), value: 2.0, low: 1.0, high: 3.0, source: text(), confidence: text() };
        assert_eq!([Point::Fast, Point::Value, Point::Slow].map(|p| at(&c, p, true)), [3.0, 2.0, 1.0]);
        assert_eq!([Point::Fast, Point::Value, Point::Slow].map(|p| at(&c, p, false)), [1.0, 2.0, 3.0]);
    }
}
