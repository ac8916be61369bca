//! Which plans served the steps of a run, and what their padding cost: from a trace that `aio run --trace` wrote.

use crate::report::Report;
use crate::subject::{Machine, StepSize, Subject};
use crate::task::step_seconds;
use serde_json::Value;

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStep {
    /// The plan's bucket.
    pub plan: String,
    /// Rows of the step.
    pub rows: u32,
}

/// The steps of a trace in the form of Chrome and Perfetto.
///
/// # Errors
/// A sentence, for a text that is no such trace.
pub fn run_of_trace(text: &str) -> Result<Vec<RunStep>, String> {
    let trace: Value = serde_json::from_str(text).map_err(|e| format!("not a trace: {e}"))?;
    let events = trace.get("traceEvents").and_then(Value::as_array).ok_or("not a trace: it has no traceEvents")?;
    let step = |e: &Value| {
        let is_step = e.get("cat").and_then(Value::as_str) == Some("step");
        let plan = e.get("name").and_then(Value::as_str).filter(|_| is_step)?.to_owned();
        let rows = u32::try_from(e.get("args")?.get("rows")?.as_u64()?).ok()?;
        Some(RunStep { plan, rows })
    };
    let steps: Vec<RunStep> = events.iter().filter_map(step).collect();
    if steps.is_empty() { Err("the trace has no steps".to_owned()) } else { Ok(steps) }
}

impl Report {
    /// Adds to each plan how many steps of a run it served, and the share of the run's predicted time that its padding would
    /// take on a device that computes it.
    pub fn add_run(&mut self, subject: &Subject<'_>, machine: &Machine, run: &[RunStep]) {
        let family = subject.family;
        let seconds = |plan: usize, rows: u32| {
            let step = StepSize { rows, seqs: 1, outs: 1, context: subject.step.context };
            step_seconds(&Subject { plan, step, ..subject.clone() }, step, machine)
        };
        let mut all = 0.0;
        let mut padding = vec![0.0; family.plans.len()];
        let mut hits = vec![0.0; family.plans.len()];
        for step in run {
            let Some(plan) = family.plans.iter().position(|p| p.bucket.to_string() == step.plan) else { continue };
            let full = seconds(plan, family.plans[plan].bucket.rows);
            all += full;
            hits[plan] += 1.0;
            padding[plan] += (full - seconds(plan, step.rows)).max(0.0);
        }
        for (i, row) in self.buckets.iter_mut().enumerate() {
            row.hits = Some(hits[i]);
            row.padding_share = Some(if all > 0.0 { padding[i] / all } else { 0.0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_from_a_trace_and_nothing_else_is() {
        let text = r#"{"traceEvents":[{"cat":"step","name":"r1s1o1-argmax","args":{"rows":1}},{"cat":"task","name":"x"},
            {"cat":"step","name":"r17s17o17-argmax","args":{"rows":9}}]}"#;
        let steps = run_of_trace(text).expect("it is a trace");
        let rows: Vec<u32> = steps.iter().map(|s| s.rows).collect();
        assert_eq!((steps.len(), rows), (2, vec![1, 9]));
        for (bad, why) in [("", "not a trace"), ("{}", "no traceEvents"), ("{\"traceEvents\":[]}", "no steps")] {
            assert!(run_of_trace(bad).is_err_and(|e| e.contains(why)), "{bad}");
        }
    }
}
