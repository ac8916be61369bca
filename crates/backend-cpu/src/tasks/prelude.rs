//! Computed once per step for all layers: the sines and cosines of its rows' positions.

use crate::bounds::Bounds;
use crate::kernels::rows::rope_angles;
use crate::pool::Worker;
use crate::resident::Resident;
use crate::step::StepView;
use aio_plan::{Loc, RopeSpec};

/// A rotation shared by several layers.
#[derive(Clone, Debug)]
struct Table {
    rope: RopeSpec,
    factors: Loc,
    frequencies: Vec<f32>,
    magnitude: f32,
    positions: Loc,
}

/// Tables of rotations; most models have one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prelude {
    tables: Vec<Table>,
}

/// Which table a task uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RopeTable(usize);

impl Prelude {
    /// The table of a rotation, created on first use.
    pub(crate) fn table(&mut self, rope: RopeSpec, factors: Loc, positions: Loc, resident: &Resident) -> RopeTable {
        let same = |t: &Table| t.rope == rope && t.factors == factors && t.positions == positions;
        if let Some(index) = self.tables.iter().position(same) {
            return RopeTable(index);
        }
        let values = match factors {
            Loc::Weight(w) => Some(resident.weights[w.index()].f32s()),
            _ => None,
        };
        let (frequencies, magnitude) = rope.frequencies(values);
        self.tables.push(Table { rope, factors, frequencies, magnitude, positions });
        RopeTable(self.tables.len() - 1)
    }

    /// Bytes of all tables for a full bucket.
    pub(crate) fn bytes(&self, bounds: &Bounds) -> usize {
        self.tables.iter().map(|t| row_bytes(t) * bounds.rows).sum()
    }

    /// Fills this thread's rows of the tables. Returns whether there are any tables.
    pub(crate) fn run(&self, step: &StepView<'_>, worker: Worker<'_>) -> bool {
        for (i, table) in self.tables.iter().enumerate() {
            let positions = step.words(table.positions);
            for row in worker.share(positions.len()) {
                let (at, half) = (self.place(step, i, row), table.frequencies.len());
                // SAFETY: `bytes` asked for both halves of each row, and no other thread's share has this row.
                let both = unsafe { std::slice::from_raw_parts_mut(at, 2 * half) };
                let (cos, sin) = both.split_at_mut(half);
                rope_angles(positions[row], &table.frequencies, table.magnitude, cos, sin);
            }
        }
        !self.tables.is_empty()
    }

    fn place(&self, step: &StepView<'_>, table: usize, row: usize) -> *mut f32 {
        let before: usize = self.tables[..table].iter().map(|t| row_bytes(t) * step.plan.bucket.rows as usize).sum();
        step.scratch.wrapping_add(step.prelude_offset + before + row * row_bytes(&self.tables[table])).cast()
    }
}

fn row_bytes(table: &Table) -> usize {
    (2 * table.frequencies.len() * size_of::<f32>()).next_multiple_of(64)
}

/// The location of a task's table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RopeRows {
    offset: usize,
    stride: usize,
    half: usize,
}

impl Prelude {
    /// The rows of a table, for tasks of a plan whose bucket has `rows` rows.
    pub(crate) fn rows(&self, table: RopeTable, rows: usize) -> RopeRows {
        let offset = self.tables[..table.0].iter().map(|t| row_bytes(t) * rows).sum();
        let t = &self.tables[table.0];
        RopeRows { offset, stride: row_bytes(t), half: t.frequencies.len() }
    }
}

impl RopeRows {
    /// Cosines and sines of a row.
    pub(crate) fn get<'s>(&self, step: &'s StepView<'_>, row: usize) -> (&'s [f32], &'s [f32]) {
        let at = step.scratch.wrapping_add(step.prelude_offset + self.offset + row * self.stride);
        let at: *const f32 = at.cast();
        // SAFETY: the prelude wrote the row before the barrier that precedes every task, and nothing writes it again.
        unsafe { (std::slice::from_raw_parts(at, self.half), std::slice::from_raw_parts(at.add(self.half), self.half)) }
    }
}
