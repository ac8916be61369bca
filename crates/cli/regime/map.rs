//! The map: steps over batch and context, and the boundaries between their regimes.

use aio::orchestrator::{Boundary, Predicted, Regime, StepWork};

/// Axes on which boundaries are looked for.
const MOST_CONTEXT: f64 = 1e6;
const MOST_BATCH: f64 = 1024.0;

/// A step of the map.
pub(crate) struct Cell {
    pub batch: u32,
    pub context: u32,
    pub regime: Regime,
    pub predicted: Predicted,
    /// Median seconds, if it was run.
    pub measured: Option<f64>,
    /// Drafts of each sequence that pay, and the tokens per second that they give.
    pub drafts: (u32, f64),
}

/// The map of a model on a device.
pub(crate) struct Map {
    pub model: String,
    pub device: String,
    pub work: StepWork,
    pub acceptance: f64,
    pub batches: Vec<u32>,
    pub contexts: Vec<u32>,
    /// By batch, then by context.
    pub cells: Vec<Cell>,
}

impl Map {
    /// Boundaries along the context at each batch, and along the batch at each context.
    pub(crate) fn boundaries(&self) -> Vec<(String, Boundary, &'static str)> {
        let across = self.batches.iter().flat_map(|&batch| {
            let all = self.work.along_context(batch, MOST_CONTEXT);
            all.into_iter().map(move |b| (format!("batch {batch}"), b, "positions"))
        });
        let down = self.contexts.iter().flat_map(|&context| {
            let all = self.work.along_batch(context.into(), MOST_BATCH);
            all.into_iter().map(move |b| (format!("context {context}"), b, "sequences"))
        });
        across.chain(down).collect()
    }

    /// What the map is of.
    pub(crate) fn title(&self) -> String {
        format!("{} on {}: what bounds a decode step", self.model, self.device)
    }
}

impl Cell {
    /// The time, predicted and measured.
    pub(crate) fn time(&self) -> String {
        let predicted = format!("{:.2} ms", self.predicted.0 * 1e3);
        self.measured.map_or(predicted.clone(), |s| format!("{predicted}, measured {:.2}", s * 1e3))
    }
}
