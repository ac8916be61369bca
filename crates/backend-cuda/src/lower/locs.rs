//! The contents of locations: type, address, and shape as kernels count it.

use super::step_map::Spot;
use super::{Lowering, unsupported};
use crate::args::symbol;
use crate::copies::{Copy, copy_of};
use crate::states::Residence;
use crate::weights::WeightMap;
use aio_backend::DeviceError;
use aio_ir::{DType, Dim, Sym, TensorType};
use aio_plan::{Loc, Task};

/// The header count of a symbol.
pub(super) fn symbol_of(sym: Sym) -> u32 {
    match sym {
        Sym::Rows => symbol::ROWS,
        Sym::Seqs => symbol::SEQS,
        Sym::Pages => symbol::PAGES,
        Sym::Stride => symbol::STRIDE,
        Sym::Outs => symbol::OUTS,
        Sym::Recent => symbol::RECENT,
        Sym::Slots => unreachable!("V015: only ops that this device lacks take states of slots"),
    }
}

/// A matrix of rows: their number, and elements of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub sym: Sym,
    pub width: u64,
}

impl<'a> Lowering<'a> {
    /// The type of a location; `None` if it is absent.
    pub(super) fn ty(&self, loc: Loc) -> Option<&'a TensorType> {
        match loc {
            Loc::Buffer(b) => Some(&self.plan.buffers[b.index()].ty),
            Loc::Input(i) => Some(&self.plan.inputs[i.index()].ty),
            Loc::Output(o) => Some(&self.plan.outputs[o.index()].ty),
            Loc::Weight(w) => Some(&self.model.family.weights[w.index()].ty),
            Loc::State(s) => Some(&self.model.family.states[s.index()].ty),
            Loc::Absent => None,
        }
    }

    /// Address of a location other than a weight; 0 if it is absent.
    pub(super) fn at(&self, loc: Loc) -> u64 {
        match loc {
            Loc::Buffer(b) => self.bases.arena + self.plan.buffers[b.index()].offset,
            Loc::Input(i) => self.spot(self.step.inputs[i.index()]),
            Loc::Output(o) => self.spot(self.step.outputs[o.index()]),
            Loc::State(s) => {
                let (Residence::Layer { offset, .. } | Residence::Own { offset, .. }) =
                    self.model.states.places[s.index()];
                self.bases.states + offset as u64
            }
            Loc::Absent => 0,
            Loc::Weight(_) => unreachable!("a weight's address depends on the copy"),
        }
    }

    fn spot(&self, spot: Spot) -> u64 {
        (if spot.small { self.bases.step } else { self.bases.large }) + spot.offset as u64
    }

    /// The weight operand at a place, if it is one.
    pub(super) fn weight(&self, task: &Task, place: usize) -> Option<&'a WeightMap> {
        match task.operands[place] {
            Loc::Weight(w) => Some(&self.model.weights.weights[w.index()]),
            _ => None,
        }
    }

    /// Address of the operand at a place; for a weight, of the copy that the task's kernels read.
    pub(super) fn operand(&self, task: &Task, place: usize) -> u64 {
        let Some(weight) = self.weight(task, place) else { return self.at(task.operands[place]) };
        let offset = match copy_of(self.model.family, task, place) {
            Copy::Packed => weight.packed,
            Copy::Decoded => weight.decoded,
            Copy::File => weight.file,
        };
        self.bases.weights + offset.expect("upload made the copies that `copy_of` names") as u64
    }

    /// Address of an f32 vector among the weights; 0 if it is absent.
    pub(super) fn vector(&self, task: &Task, place: usize) -> Result<u64, DeviceError> {
        match self.ty(task.operands[place]) {
            None => Ok(0),
            Some(ty) if ty.dtype == DType::F32 && ty.shape.factors().1.is_empty() => Ok(self.operand(task, place)),
            Some(ty) => Err(unsupported(task, format!("operand {place} : {ty} is not a vector of f32"))),
        }
    }

    /// An operand or result as f32 rows.
    pub(super) fn rows(&self, task: &Task, loc: Loc) -> Result<Rows, DeviceError> {
        let ty = self.ty(loc).filter(|ty| ty.dtype == DType::F32);
        let rows = ty.and_then(|ty| {
            let (first, rest) = ty.shape.dims().split_first()?;
            let Dim::Sym(sym) = *first else { return None };
            let width = rest.iter().try_fold(1u64, |n, d| n.checked_mul(d.known()?))?;
            matches!(sym, Sym::Rows | Sym::Outs).then_some(Rows { sym, width })
        });
        rows.ok_or_else(|| match self.ty(loc) {
            Some(ty) => unsupported(task, format!("{loc} : {ty} has no rows of the step")),
            None => unsupported(task, "an operand is absent"),
        })
    }

    /// Rows of a known width.
    pub(super) fn rows_of(&self, task: &Task, loc: Loc, width: u64) -> Result<Rows, DeviceError> {
        let rows = self.rows(task, loc)?;
        if rows.width == width {
            return Ok(rows);
        }
        Err(unsupported(task, format!("{loc} has rows of {} elements, not {width}", rows.width)))
    }

    /// The KV layer at a location: its address, number of heads, and head size.
    pub(super) fn layer(&self, task: &Task, loc: Loc) -> Result<(u64, u32, u32), DeviceError> {
        if let Loc::State(s) = loc
            && let Residence::Layer { heads, size, .. } = self.model.states.places[s.index()]
        {
            return Ok((self.at(loc), heads, size));
        }
        let ty = self.ty(loc).map(|ty| ty.to_string()).unwrap_or_default();
        Err(unsupported(task, format!("keys and values in {loc} : {ty}")))
    }

    /// Collects the operands that locate a row's keys and values: inputs, whose indices every step checks.
    pub(super) fn places(
        &self,
        task: &Task,
        table: Loc,
        row_seq: Loc,
        positions: Loc,
    ) -> Result<PagedRows, DeviceError> {
        if let Some(loc) = [table, row_seq, positions].iter().find(|loc| !matches!(loc, Loc::Input(_))) {
            return Err(unsupported(task, format!("places of rows in {loc}, which no step binds")));
        }
        Ok(PagedRows { table: self.at(table), row_seq: self.at(row_seq), positions: self.at(positions) })
    }
}

/// Addresses of the operands that locate a row's keys and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct PagedRows {
    pub table: u64,
    pub row_seq: u64,
    pub positions: u64,
}

/// A size as a 32-bit kernel argument.
pub(super) fn small(task: &Task, size: u64) -> Result<u32, DeviceError> {
    u32::try_from(size).map_err(|_| unsupported(task, format!("a size of {size}")))
}
