//! What a step took: time, bytes, submissions. Every back end returns it from `wait`.

use crate::{Bindings, Data};
use aio_plan::{Plan, StepInput, StepLoad, StepTime, Traffic};

/// What a step took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// From the start of the submission to the end of the wait, as the device measured or modelled it.
    pub time: StepTime,
    /// Bytes of weights, keys and values read, by the rules of [`Traffic`].
    pub bytes_read: u64,
    /// Bytes of keys and values written.
    pub bytes_written: u64,
    /// Submissions to the device, each with a synchronisation.
    pub submissions: u64,
}

impl StepReport {
    /// The report of a step with this traffic.
    pub fn new(traffic: &Traffic, load: StepLoad, submissions: u64, time: StepTime) -> StepReport {
        let (bytes_read, bytes_written) = (traffic.bytes_read(load), traffic.bytes_written(load));
        StepReport { time, bytes_read, bytes_written, submissions }
    }
}

impl<'a> Bindings<'a, '_> {
    /// The words of a step input; empty if the plan lacks it.
    pub fn words(&self, plan: &Plan, input: StepInput) -> &'a [u32] {
        match plan.step_input(input).and_then(|i| self.inputs[i.index()]) {
            Some(Data::U32(words)) => words,
            _ => &[],
        }
    }

    /// Rows of the step, and the positions whose keys and values they read: those of each sequence once, up to its last
    /// row, since rows of a sequence are adjacent and read them together.
    pub fn load(&self, plan: &Plan) -> StepLoad {
        let [seqs, positions] = [StepInput::RowSeq, StepInput::Positions].map(|input| self.words(plan, input));
        let last = (0..seqs.len()).filter(|&row| seqs.get(row + 1) != Some(&seqs[row]));
        let mut load = StepLoad { rows: seqs.len() as u64, ..StepLoad::default() };
        for row in last {
            load.sequences += 1;
            load.positions += positions.get(row).map_or(0, |&p| u64::from(p) + 1);
        }
        load
    }
}
