//! Runs a plan's checks on a step, so that a wrong index is an error and not an access outside a tensor.
//!
//! Every back end calls [`Bindings::check`] before each step.

use crate::{Bindings, Data, DeviceError};
use aio_ir::Sym;
use aio_ir::slots::StepSlots;
use aio_plan::{Check, InputId, Plan, PoolSizes};

impl Bindings<'_, '_> {
    /// Checks a step against a plan on a device with these pools: dimensions, presence, element types, sizes, and the
    /// plan's own checks. Every back end calls this first, and then indexes by what the step binds. A sequence has at
    /// most all pages of the pool, so scratch memory may be sized by it.
    ///
    /// # Errors
    /// [`DeviceError::Binding`], [`DeviceError::EmptyAxis`].
    pub fn check(&self, plan: &Plan, pools: PoolSizes) -> Result<(), DeviceError> {
        self.fit(plan)?;
        for (sym, most) in [(Sym::Pages, pools.pages), (Sym::Stride, pools.pages), (Sym::Slots, pools.slots)] {
            let step = self.dims.get(sym);
            if step > most {
                return Err(bad(sym.name(), format!("the step has {step}, the pool {most}")));
            }
        }
        let step = Checked { plan, bindings: self, pools };
        plan.checks.iter().try_for_each(|check| step.run(check))
    }
}

/// A step whose bindings fit the plan.
struct Checked<'s, 'a, 'b> {
    plan: &'s Plan,
    bindings: &'s Bindings<'a, 'b>,
    pools: PoolSizes,
}

fn bad(name: &str, message: String) -> DeviceError {
    DeviceError::Binding { name: name.to_owned(), message }
}

impl<'s, 'a> Checked<'s, 'a, '_> {
    fn name(&self, input: InputId) -> &'s str {
        &self.plan.inputs[input.index()].name
    }

    fn words(&self, input: InputId) -> &'a [u32] {
        match self.bindings.inputs[input.index()] {
            Some(Data::U32(words)) => words,
            _ => &[],
        }
    }

    /// Runs one check.
    fn run(&self, check: &Check) -> Result<(), DeviceError> {
        let dims = &self.bindings.dims;
        match *check {
            Check::Pool { sym } => self.pool(sym),
            Check::NotEmpty { sym, axis } if dims.get(sym) == 0 => {
                Err(DeviceError::EmptyAxis { symbol: sym.name(), axis })
            }
            Check::NotEmpty { .. } => Ok(()),
            Check::PagedRows { table, row_seq, positions, page } => self.paged_rows([table, row_seq, positions], page),
            Check::Slots { slots, slot_rows, row_seq, room } => self.slots([slots, slot_rows, row_seq], room),
            Check::Below { input, task, what, below } => {
                let below = below.resolve(dims);
                let outside = |i: &i64| !(0..below as i64).contains(i);
                let wrong = match self.bindings.inputs[input.index()] {
                    Some(Data::U32(words)) => words.iter().map(|&w| i64::from(w)).find(outside),
                    Some(Data::I32(words)) => words.iter().map(|&w| i64::from(w)).find(outside),
                    _ => None,
                };
                let error = |index| bad(self.name(input), format!("{task}: {what} {index} is not below {below}"));
                wrong.map_or(Ok(()), |index| Err(error(index)))
            }
        }
    }

    fn pool(&self, sym: Sym) -> Result<(), DeviceError> {
        let pool = if sym == Sym::Slots { self.pools.slots } else { self.pools.pages };
        match self.bindings.dims.get(sym) {
            step if step == pool => Ok(()),
            step => Err(bad(sym.name(), format!("the step has {step}, the pool {pool}"))),
        }
    }

    fn slots(&self, inputs: [InputId; 3], room: u32) -> Result<(), DeviceError> {
        let [slots, slot_rows, row_seq] = inputs.map(|input| self.words(input));
        let uses = StepSlots { row_seq, slots, slot_rows }.uses(self.pools.slots as usize, room as usize);
        uses.map(|_| ()).map_err(|error| bad(self.name(inputs[0]), error.to_string()))
    }

    /// Checks sequences and pages of rows. Rows of a sequence are adjacent and mostly at rising positions, so pages that
    /// an earlier row needed are not looked at again.
    fn paged_rows(&self, inputs: [InputId; 3], page: u32) -> Result<(), DeviceError> {
        let [table, row_seq, positions] = inputs;
        let dims = &self.bindings.dims;
        let stride = dims.stride as usize;
        let (pages, seqs, at) = (self.words(table), self.words(row_seq), self.words(positions));
        let mut seen = (u32::MAX, 0);
        for (row, (&seq, &position)) in seqs.iter().zip(at).enumerate() {
            if seq >= dims.seqs {
                return Err(bad(self.name(row_seq), format!("row {row} names sequence {seq} of {}", dims.seqs)));
            }
            let needed = (position / page) as usize + 1;
            let from = if seen.0 == seq { seen.1 } else { 0 };
            if needed <= from {
                continue;
            }
            let own = &pages[seq as usize * stride..][..stride];
            if own.get(from..needed).is_none_or(|pages| pages.iter().any(|&p| p >= self.pools.pages)) {
                return Err(bad(self.name(table), format!("row {row} at position {position} has no page")));
            }
            seen = (seq, needed);
        }
        Ok(())
    }
}
