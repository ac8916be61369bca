//! Recorded step times, which `aio bench plans --record` measured with the default model on two cores.
#![allow(dead_code, reason = "each test takes what it needs")]

use aio_orchestrator::{RecordedSteps, Recording, SpeculationOptions, Speculator, StepModel, Trial};

/// Most drafts of a sequence.
pub const DRAFTS: u32 = 16;

/// Context and sequences of a step.
pub type Cell = (u64, u32);

/// The recording and the table of its medians.
pub struct Recorded {
    pub recording: Recording,
    pub table: RecordedSteps,
}

impl Recorded {
    /// An Intel Xeon, up to 2,048 positions.
    pub fn read() -> Recorded {
        Recorded::of(include_str!("../data/steps.jsonl"))
    }

    /// An AMD EPYC of the Zen 4 generation, up to 8,175 positions.
    pub fn read_8k() -> Recorded {
        Recorded::of(include_str!("../data/steps-8k.jsonl"))
    }

    fn of(text: &str) -> Recorded {
        let recording = Recording::parse(text).unwrap();
        Recorded { table: RecordedSteps::of(&recording.steps), recording }
    }

    pub fn most_rows(&self, cell: Cell) -> u32 {
        self.table.rows(cell).max().unwrap()
    }

    /// Seconds of a step: the recorded median, not below those of fewer rows, since more rows never take less.
    pub fn time(&self, cell: Cell, rows: u32) -> f64 {
        let below = self.table.rows(cell).filter(|r| *r < rows).chain([rows]);
        below.filter_map(|r| self.table.time(cell, r)).fold(0.0, f64::max)
    }

    /// Sequences of a cell whose drafts are accepted with a chance.
    pub fn trial(&self, cell: Cell, chance: f64) -> Trial {
        let (context, sequences) = cell;
        let kv_bytes = f64::from(sequences) * context as f64 * self.recording.head.work.kv_bytes;
        Trial { sequences, offered: DRAFTS, chance, kv_bytes }
    }

    /// A speculator that has learned nothing, as the engine makes it.
    pub fn speculator(&self, cell: Cell) -> Speculator {
        let work = self.recording.head.work;
        let model = StepModel::Roofline(work.cost, work.ceilings);
        Speculator::new(SpeculationOptions { max_drafts: DRAFTS, max_rows: self.most_rows(cell), model })
    }
}
