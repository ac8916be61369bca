//! What a step sends to the device: its inputs, and what the host derives from them, in one block.
//!
//! Lowering asks for sections; [`Stage::fill`] writes them for each step. Rows of padding get zeros: token 0 at position
//! 0 of a sequence whose pages are all zeros, or of the group's own sequence.

use crate::shape::{Group, Shape};
use crate::states::StatesMap;
use crate::view::{Elem, View};
use aio_backend::{Bindings, Data};
use aio_ir::{Dim, Dims, Sym};
use aio_plan::{Check, InputId, Plan};
use half::f16;

/// Alignment of sections in bytes.
const ALIGNMENT: usize = 64;

/// The inputs that say where rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub table: InputId,
    pub row_seq: InputId,
    pub positions: InputId,
}

/// One thing that a step sends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Section {
    /// An input as it is bound.
    Input(InputId),
    /// i64\[rows, heads\]: where each row's keys and values go, among all heads' positions of a pool.
    Slots { places: Places, heads: u32, page: u32 },
    /// i32\[sequences, pages\]: the pages of a group's sequences.
    Table { places: Places, group: usize, page: u32 },
    /// f32\[rows\]: positions minus a number.
    Positions { positions: InputId, minus: f32 },
    /// \[rows, 1, elements\]: cosines, or sines, of each row's rotation, for both elements of each pair.
    Turn { positions: InputId, sine: bool, adjacent: bool, frequencies: Vec<f32>, magnitude: f32, elem: Elem },
}

/// The block that a step sends.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    /// Sections, with their offsets.
    sections: Vec<(Section, View, usize)>,
    pub bytes: usize,
    /// Address of the block on the device.
    base: u64,
}

/// A step that is about to run in a captured shape.
pub(crate) struct Step<'s, 'a, 'b> {
    pub plan: &'s Plan,
    pub bindings: &'s Bindings<'a, 'b>,
    pub shape: &'s Shape,
    /// For each row of the step, its row in the shape.
    pub rows: &'s [u32],
    pub states: &'s StatesMap,
}

impl Stage {
    pub(crate) fn at(base: u64) -> Stage {
        Stage { base, ..Stage::default() }
    }

    /// The section's place on the device; adds it if it is new.
    pub(crate) fn section(&mut self, section: Section, elem: Elem, dims: impl IntoIterator<Item = i64>) -> View {
        if let Some((_, view, _)) = self.sections.iter().find(|(known, ..)| *known == section) {
            return view.clone();
        }
        let offset = self.bytes;
        let view = View::dense(self.base + offset as u64, elem, dims);
        self.bytes = (offset + view.bytes()).next_multiple_of(ALIGNMENT);
        self.sections.push((section, view.clone(), offset));
        view
    }

    /// Writes a step's sections.
    pub(crate) fn fill(&self, step: &Step<'_, '_, '_>, block: &mut [u8]) {
        for (section, view, offset) in &self.sections {
            let out = &mut block[*offset..offset + view.bytes()];
            out.fill(0);
            match section {
                Section::Input(input) => step.input(*input, out),
                Section::Slots { places, heads, page } => {
                    step.slots(*places, *heads, *page, bytemuck::cast_slice_mut(out))
                }
                Section::Table { places, group, page } => {
                    let group = &step.shape.groups[*group];
                    step.table(*places, group, *page, bytemuck::cast_slice_mut(out));
                }
                Section::Positions { positions, minus } => {
                    let out: &mut [f32] = bytemuck::cast_slice_mut(out);
                    out.fill(-minus);
                    for (&row, &position) in step.rows.iter().zip(step.words(*positions)) {
                        out[row as usize] = position as f32 - minus;
                    }
                }
                Section::Turn { positions, sine, adjacent, frequencies, magnitude, elem } => {
                    step.turn(*positions, (*sine, *adjacent), (frequencies, *magnitude), *elem, out);
                }
            }
        }
    }
}

impl<'s, 'a> Step<'s, 'a, '_> {
    fn words(&self, input: InputId) -> &'a [u32] {
        match self.bindings.inputs[input.index()] {
            Some(Data::U32(words)) => words,
            _ => &[],
        }
    }

    fn dims(&self) -> &Dims {
        &self.bindings.dims
    }

    fn input(&self, input: InputId, out: &mut [u8]) {
        let Some(data) = self.bindings.inputs[input.index()] else { return };
        let ty = &self.plan.inputs[input.index()].ty;
        let bytes = data.bytes();
        if ty.shape.dims().first() == Some(&Dim::Sym(Sym::Rows)) && self.dims().rows > 0 {
            let width = bytes.len() / self.dims().rows as usize;
            for (from, &row) in bytes.chunks(width.max(1)).zip(self.rows) {
                out[row as usize * width..][..width].copy_from_slice(from);
            }
            return;
        }
        let n = bytes.len().min(out.len());
        out[..n].copy_from_slice(&bytes[..n]);
        if self.indexes_rows(input) {
            let moved = |index: &mut u32| *index = self.rows.get(*index as usize).copied().unwrap_or(0);
            bytemuck::cast_slice_mut::<u8, u32>(&mut out[..n]).iter_mut().for_each(moved);
        }
    }

    /// Whether an input's elements are indices of rows.
    fn indexes_rows(&self, input: InputId) -> bool {
        let below_rows =
            |check: &Check| matches!(check, Check::Below { input: i, below: Dim::Sym(Sym::Rows), .. } if *i == input);
        self.plan.checks.iter().any(below_rows)
    }

    /// The page and the place in it of a row of the step.
    fn place(&self, places: Places, row: usize, page: u32) -> Option<(u32, u32)> {
        let (seq, position) = (*self.words(places.row_seq).get(row)?, *self.words(places.positions).get(row)?);
        let entry = seq as usize * self.dims().stride as usize + (position / page) as usize;
        Some((*self.words(places.table).get(entry)?, position % page))
    }

    fn slots(&self, places: Places, heads: u32, page: u32, out: &mut [i64]) {
        let at = |(number, place): (u32, u32), head: u32| {
            (i64::from(number) * i64::from(heads) + i64::from(head)) * i64::from(page) + i64::from(place)
        };
        let heads_of = heads as usize;
        // Padding writes to a page that nothing reads.
        for (head, slot) in (0..heads).cycle().zip(out.iter_mut()) {
            *slot = at((self.states.spare_page(), 0), head);
        }
        for (step_row, &row) in self.rows.iter().enumerate() {
            let Some(place) = self.place(places, step_row, page) else { continue };
            for (head, slot) in (0..heads).zip(&mut out[row as usize * heads_of..]) {
                *slot = at(place, head);
            }
        }
    }

    fn table(&self, places: Places, group: &Group, page: u32, out: &mut [i32]) {
        out.fill(self.states.zero_page() as i32);
        let (row_seq, positions) = (self.words(places.row_seq), self.words(places.positions));
        let (table, stride) = (self.words(places.table), self.dims().stride as usize);
        // The last row's sequence, and how many of its entries are written.
        let mut written = (usize::MAX, 0);
        for (step_row, &row) in self.rows.iter().enumerate() {
            let Some(inside) = row.checked_sub(group.start).filter(|r| *r < group.sequences * group.rows) else {
                continue;
            };
            let (sequence, seq) = ((inside / group.rows) as usize, row_seq[step_row] as usize);
            let used = (positions[step_row] / page + 1) as usize;
            let known = if written.0 == sequence { written.1 } else { 0 };
            written = (sequence, used.max(known));
            // Later rows of a sequence reach further; entries past its length stay the page of zeros.
            let entries = &table[seq * stride..][..used.min(stride)];
            let target = &mut out[sequence * group.pages as usize..][..group.pages as usize];
            for (to, from) in target.iter_mut().zip(entries).skip(known) {
                *to = *from as i32;
            }
        }
    }

    fn turn(
        &self,
        positions: InputId,
        (sine, adjacent): (bool, bool),
        (frequencies, magnitude): (&[f32], f32),
        elem: Elem,
        out: &mut [u8],
    ) {
        let (pairs, size) = (frequencies.len(), 2 * frequencies.len());
        let mut put = |at: usize, value: f32| match elem {
            Elem::F16 => out[2 * at..2 * at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes()),
            _ => out[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes()),
        };
        for (&row, &position) in self.rows.iter().zip(self.words(positions)) {
            for (i, frequency) in frequencies.iter().enumerate() {
                let angle = position as f32 * frequency;
                let value = magnitude * if sine { angle.sin() } else { angle.cos() };
                let (first, second) = if adjacent { (2 * i, 2 * i + 1) } else { (i, i + pairs) };
                put(row as usize * size + first, value);
                put(row as usize * size + second, value);
            }
        }
    }

    /// Positions of each sequence of a group that its last row sees, and running totals of rows, for patched lengths.
    pub(crate) fn lengths(&self, places: Places, group: &Group) -> (Vec<i64>, Vec<i64>) {
        let positions = self.words(places.positions);
        let mut seen = vec![1i64; group.sequences as usize];
        for (step_row, &row) in self.rows.iter().enumerate() {
            let Some(inside) = row.checked_sub(group.start).filter(|r| *r < group.sequences * group.rows) else {
                continue;
            };
            let length = &mut seen[(inside / group.rows) as usize];
            *length = (*length).max(i64::from(positions[step_row]) + 1);
        }
        let totals = (1..=i64::from(group.sequences)).map(|n| n * i64::from(group.rows)).collect();
        (totals, seen)
    }
}
