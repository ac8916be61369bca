//! Adds measured times to a report, beside the predicted ones.

use crate::group::groups;
use crate::lint::lints;
use crate::report::{IdleSum, MeasuredStep, MeasuredTask, Report, StretchRow, ThreadRow};
use crate::subject::{Machine, Subject};
use crate::task::rows;
use aio_backend::timeline::{Activity, StepRecord, Stretch};

/// Times of several steps of one plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Seconds of each step.
    pub steps: Vec<f64>,
    /// For each task, its seconds in each step.
    pub tasks: Vec<Vec<f64>>,
    /// Bytes per second of large reads between the steps.
    pub read_bandwidth: f64,
    /// Idle seconds by cause, of all steps and threads.
    pub idle: Vec<(String, f64)>,
    /// Names of the threads.
    pub threads: Vec<String>,
    /// The step of median time.
    pub median: Option<StepRecord>,
}

/// The value that a share of the samples does not exceed; 0 without samples.
pub(crate) fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = ((share * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(place).copied().unwrap_or(0.0)
}

impl Machine {
    /// The same machine at the level that some steps show: the median, over tasks that read weights, of the predicted time
    /// over the measured one. `tasks` has the seconds of each task in each of these steps.
    pub fn learned(self, subject: &Subject<'_>, tasks: &[Vec<f64>]) -> Machine {
        let rows = rows(subject, &Machine { level: 1.0, ..self.clone() });
        let reads = rows.iter().zip(tasks).filter(|(row, seconds)| row.work.weight_bytes > 0 && !seconds.is_empty());
        let ratios = reads.map(|(row, seconds)| row.predicted_seconds / quantile(seconds, 0.5));
        let ratios: Vec<f64> = ratios.filter(|r| r.is_finite() && *r > 0.0).collect();
        let level = if ratios.is_empty() { 1.0 } else { quantile(&ratios, 0.5) };
        Machine { level, ..self }
    }
}

impl Report {
    /// Adds measured times. The report must be of all tasks.
    pub fn measure(&mut self, subject: &Subject<'_>, samples: &Samples) {
        for (row, seconds) in self.tasks.iter_mut().zip(&samples.tasks) {
            let p50_seconds = quantile(seconds, 0.5);
            let bytes_s = (row.work.weight_bytes + row.work.kv_bytes) as f64 / p50_seconds;
            row.measured = Some(MeasuredTask {
                p50_seconds,
                p99_seconds: quantile(seconds, 0.99),
                gb_s: bytes_s / 1e9,
                bandwidth_share: bytes_s / samples.read_bandwidth,
                error: row.predicted_seconds / p50_seconds - 1.0,
            });
        }
        let errors: Vec<f64> = self.tasks.iter().filter_map(|t| Some(t.measured?.error.abs())).collect();
        let p50_seconds = quantile(&samples.steps, 0.5);
        let read = (self.header.work.weight_bytes + self.header.work.kv_bytes) as f64;
        let all = samples.steps.iter().sum::<f64>() * samples.threads.len() as f64;
        let steps = samples.steps.len().max(1) as f64;
        let idle = samples.idle.iter().map(|(cause, seconds)| IdleSum {
            cause: cause.clone(),
            seconds: seconds / steps,
            share: if all > 0.0 { seconds / all } else { 0.0 },
        });
        self.header.measured = Some(MeasuredStep {
            steps: samples.steps.len(),
            p50_seconds,
            p99_seconds: quantile(&samples.steps, 0.99),
            seconds: samples.steps.clone(),
            read_bandwidth: samples.read_bandwidth,
            bandwidth_share: read / p50_seconds / samples.read_bandwidth,
            median_error: quantile(&errors, 0.5),
            idle: idle.collect(),
            threads: threads(samples),
        });
        self.groups = groups(&self.tasks);
        self.lints = lints(subject, &self.header, &self.tasks);
    }
}

/// What each thread did in the step of median time.
fn threads(samples: &Samples) -> Vec<ThreadRow> {
    let Some(step) = &samples.median else { return Vec::new() };
    let stretches = step.stretches();
    let row = |s: &Stretch| {
        let (task, cause) = match s.what {
            Activity::Work { task } => (Some(task), None),
            Activity::Idle { cause, after } => (after, Some(cause.name().to_owned())),
        };
        let seconds = |ns: u64| ns as f64 * 1e-9;
        let start_seconds = seconds(s.start_ns - step.start_ns);
        StretchRow { start_seconds, seconds: seconds(s.end_ns - s.start_ns), task, cause }
    };
    let thread = |(i, name): (usize, &String)| {
        let own = stretches.iter().filter(|s| s.thread == i).map(row).collect();
        ThreadRow { name: name.clone(), stretches: own }
    };
    samples.threads.iter().enumerate().map(thread).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((quantile(&samples, 0.5), quantile(&samples, 0.99)), (50.0, 99.0));
        assert_eq!((quantile(&[7.0], 0.5), quantile(&[], 0.5)), (7.0, 0.0));
    }
}
