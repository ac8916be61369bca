//! The cost model of a model's steps: the roofline, corrected by what steps took.
//!
//! Each term of the roofline (weights, keys and values, arithmetic with weights, arithmetic of attention) gets a factor, and
//! all of them the machine's present *level*, which drifts: a shared bus changes by factors of two within seconds. Attention
//! runs after the products with weights, not beside them, and in plain numbers at another rate, so memory and arithmetic
//! overlap within each of the two only. A filter (`step_filter.rs`) estimates these five from what steps took, and what is left
//! is corrected by row count, since kernels have steps there. A step that is far off is left out, since any step may take ten
//! times as long for an unrelated reason; several in a row on one side move the level at once. Steps of prompts run other
//! kernels, so they have a filter of their own. The errors of past predictions are kept. The engine has one cost model for
//! each model; routing asks it for the time of a request.

use crate::regimes::{Predicted, StepWork};
use crate::step_filter::StepFilter;
use aio_plan::StepTime;
use std::fmt;

pub use crate::step_filter::StepSize;

/// Rows from which a step is one of a prompt. It runs other kernels, so it has a separate filter.
const PROMPT_ROWS: u32 = 128;
/// Index of the filter for prompts.
const PROMPTS: usize = 1;
/// Errors that are kept.
const KEPT: usize = 256;

/// See the module docs.
#[derive(Clone, Debug)]
pub struct CostModel {
    work: StepWork,
    /// Of steps with few rows, and of those with many.
    filters: [StepFilter; 2],
    /// The level of the former when the latter last learned.
    then: f64,
    steps: u64,
    errors: Vec<f64>,
}

/// How far predictions were from what was measured, relative to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostErrors {
    /// Steps that they are of, at most the last 256.
    pub steps: usize,
    /// Median.
    pub median: f64,
    /// The value that 95 of 100 do not exceed.
    pub p95: f64,
}

impl fmt::Display for CostErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, p95) = (self.median * 100.0, self.p95 * 100.0);
        write!(
            f,
            "step times were predicted within {median:.1} % (median), {p95:.1} % (95 of 100), over {} steps",
            self.steps
        )
    }
}

/// How fast the machine reads a model's weights at present.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PresentSpeed {
    /// Steps that it was learned from.
    pub steps: u64,
    /// Relative to the ceilings: 0.5 is half the speed.
    pub relative: f64,
    /// Bytes per second.
    pub bandwidth: f64,
}

impl CostModel {
    /// A model that knows only the work of steps and the device's ceilings.
    pub fn new(work: StepWork) -> CostModel {
        let filters = [StepFilter::new(), StepFilter::new()];
        CostModel { work, filters, then: 0.0, steps: 0, errors: Vec::with_capacity(KEPT) }
    }

    fn filter(step: StepSize) -> usize {
        if step.rows >= PROMPT_ROWS { PROMPTS } else { 0 }
    }

    /// Predicted seconds of a step, at the machine's present speed.
    pub fn predict(&self, step: StepSize) -> Predicted {
        let seconds = self.filters[CostModel::filter(step)].predict(&self.work, step);
        // The machine may have changed since the last prompt.
        let since = if CostModel::filter(step) == PROMPTS { self.filters[0].level() - self.then } else { 0.0 };
        Predicted(seconds * since.exp())
    }

    /// Like [`CostModel::predict`], without what was learned of steps of this row count alone: what the step would take if rows
    /// were the only thing that counts, in a device that has padded them so far.
    pub fn predict_by_terms(&self, step: StepSize) -> Predicted {
        Predicted(self.filters[CostModel::filter(step)].predict_by_terms(&self.work, step))
    }

    /// How fast the machine is at present, by steps with few rows.
    pub fn speed(&self) -> PresentSpeed {
        let relative = self.filters[0].speed();
        PresentSpeed { steps: self.steps, relative, bandwidth: relative * self.work.ceilings.bandwidth }
    }

    /// Learns what a step took. Times that are no positive numbers are ignored.
    pub fn observe(&mut self, step: StepSize, time: StepTime) {
        let (seconds, Predicted(predicted)) = (time.seconds(), self.predict(step));
        let valid = |x: f64| x.is_finite() && x > 0.0;
        if !valid(seconds) || !valid(predicted) {
            return;
        }
        self.steps += 1;
        if self.steps == 1 {
            // The first step finds cold caches and unmapped pages, and says nothing of the next.
            return;
        }
        self.note((predicted / seconds - 1.0).abs());
        let filter = CostModel::filter(step);
        if filter == PROMPTS {
            let level = self.filters[0].level();
            self.filters[PROMPTS].shift(level - self.then);
            self.then = level;
        }
        self.filters[filter].observe(&self.work, step, (seconds / predicted).ln());
    }

    fn note(&mut self, error: f64) {
        if self.errors.len() < KEPT {
            self.errors.push(error);
        } else {
            self.errors[self.steps as usize % KEPT] = error;
        }
    }

    /// Errors of the last predictions; `None` before the first step.
    pub fn errors(&self) -> Option<CostErrors> {
        let mut sorted = self.errors.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted.get(((share * sorted.len() as f64).ceil() as usize).max(1) - 1).copied();
        Some(CostErrors { steps: sorted.len(), median: at(0.5)?, p95: at(0.95)? })
    }
}
