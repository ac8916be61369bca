//! Checks of a step's indices before kernels use them.
//!
//! Kernels use pages, positions and rows unchecked. A plan's tasks record here which inputs contain these. The host
//! checks each step, so that a wrong index is an error and not a write outside the pool.

use aio_backend::{Bindings, Data, DeviceError};
use aio_ir::{Dim, PAGE_POSITIONS};
use aio_plan::{InputId, Plan};

/// One condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Each row has a sequence of the step, and that sequence has pages of the pool up to the row's position.
    PagedRows { table: InputId, row_seq: InputId, positions: InputId },
    /// Indices are below a dimension.
    Below { input: InputId, task: &'static str, what: &'static str, below: Dim },
    /// The step has all pages of the pool, because an op reads a whole state.
    WholePool,
}

fn bad(name: &str, message: String) -> DeviceError {
    DeviceError::Binding { name: name.to_owned(), message }
}

/// A step whose bindings fit the plan, and the pool's number of pages.
pub(crate) struct Checked<'a, 'b> {
    pub plan: &'a Plan,
    pub bindings: &'a Bindings<'b, 'a>,
    pub pages: u32,
}

impl<'a> Checked<'a, '_> {
    fn name(&self, input: InputId) -> &'a str {
        &self.plan.inputs[input.index()].name
    }

    fn words(&self, input: InputId) -> &'a [u32] {
        match self.bindings.inputs[input.index()] {
            Some(Data::U32(words)) => words,
            _ => &[],
        }
    }

    /// Checks one condition.
    ///
    /// # Errors
    /// [`DeviceError::Binding`].
    pub(crate) fn run(&self, check: &Check) -> Result<(), DeviceError> {
        let dims = self.bindings.dims;
        match *check {
            Check::PagedRows { table, row_seq, positions } => self.places(table, row_seq, positions),
            Check::WholePool if dims.pages != self.pages => {
                let message = format!("a state of {} is read whole, the step has {}", self.pages, dims.pages);
                Err(bad("pages", message))
            }
            Check::WholePool => Ok(()),
            Check::Below { input, task, what, below } => {
                let below = below.resolve(&dims);
                let wrong = match self.bindings.inputs[input.index()] {
                    Some(Data::U32(words)) => words.iter().map(|&w| i64::from(w)).find(|&i| i as u64 >= below),
                    Some(Data::I32(words)) => words.iter().map(|&w| i64::from(w)).find(|&i| i < 0 || i as u64 >= below),
                    _ => None,
                };
                let error = |index| bad(self.name(input), format!("{task}: {what} {index} is not below {below}"));
                wrong.map_or(Ok(()), |index| Err(error(index)))
            }
        }
    }

    fn places(&self, table: InputId, row_seq: InputId, positions: InputId) -> Result<(), DeviceError> {
        let dims = self.bindings.dims;
        let (pages, seqs, at) = (self.words(table), self.words(row_seq), self.words(positions));
        for (row, (&seq, &position)) in seqs.iter().zip(at).enumerate() {
            if seq >= dims.seqs {
                return Err(bad(self.name(row_seq), format!("row {row} names sequence {seq} of {}", dims.seqs)));
            }
            let own = pages.chunks_exact(dims.pages.max(1) as usize).nth(seq as usize).unwrap_or(&[]);
            let needed = own.get(..=position as usize / PAGE_POSITIONS as usize);
            if needed.is_none_or(|pages| pages.iter().any(|&p| p >= self.pages)) {
                return Err(bad(self.name(table), format!("row {row} at position {position} has no page")));
            }
        }
        Ok(())
    }
}
