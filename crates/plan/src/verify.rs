//! The plan verifier: what a back end relies on.
//!
//! | code | rule |
//! |---|---|
//! | L001 | every slot's id is in range |
//! | L002 | a buffer lies inside the arena and has the bytes of its type at the bucket's bounds |
//! | L003 | buffers that are live at the same time share no bytes |
//! | L004 | a buffer is written by one task, before any task reads it |
//! | L005 | operands and results agree in number and type with the task's body |
//! | L006 | every output is written exactly once |
//! | L007 | a task's body satisfies the IR's rules |
//! | L008 | results never go to inputs, weights or absent slots |
//! | L009 | a task has its kind's number of operands and results; only optional operands are absent |
//! | L010 | a buffer's offset is a multiple of the family's alignment |
//! | L011 | an output is read only after it is written |
//! | L012 | the sizes among a kind's numbers are those of its operands, and of one another |
//! | L013 | weights have known sizes, states sizes in 64 bits; the alignment is a power of two |

use crate::family::{Plan, PlanFamily};
use crate::sizes;
use crate::task::{Slot, Task, TaskId};
use aio_ir::{Def, Dims, Graph, TensorType};
use std::collections::HashSet;
use std::sync::Arc;

/// A broken rule of a plan: always a fault of the compiler or a damaged artefact.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code}: plan {bucket}: {message}")]
pub struct PlanError {
    /// The rule's code.
    pub code: &'static str,
    /// The plan's bucket.
    pub bucket: String,
    /// How the rule is broken.
    pub message: String,
}

/// Checks every plan of a family. All errors are collected.
pub fn verify(family: &PlanFamily) -> Result<(), Vec<PlanError>> {
    let mut errors = Vec::new();
    let mut sound = HashSet::new();
    for plan in &family.plans {
        let mut v = Verifier { family, plan, errors: &mut errors, sound: &mut sound };
        v.run();
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

struct Verifier<'a> {
    family: &'a PlanFamily,
    plan: &'a Plan,
    errors: &'a mut Vec<PlanError>,
    /// Bodies that were checked already and hold; tasks share them.
    sound: &'a mut HashSet<*const Graph>,
}

impl Verifier<'_> {
    fn error(&mut self, code: &'static str, message: String) {
        self.errors.push(PlanError { code, bucket: self.plan.bucket.to_string(), message });
    }

    fn run(&mut self) {
        let before = self.errors.len();
        self.sizes();
        self.ranges();
        if self.errors.len() > before {
            return;
        }
        self.buffers();
        if self.errors.len() > before {
            return;
        }
        for (i, task) in self.plan.tasks.iter().enumerate() {
            let before = self.errors.len();
            self.places(TaskId::new(i), task);
            self.body(TaskId::new(i), task);
            if self.errors.len() == before && !sizes::fit(self.family, self.plan, task) {
                let name = task.kind.name().name();
                self.error("L012", format!("{}: the sizes of {name} are not those of its operands", TaskId::new(i)));
            }
        }
        self.order();
        self.overlaps();
    }

    /// The type of what lies at a slot; `None` for an absent one.
    fn slot_type(&self, slot: Slot) -> Option<&TensorType> {
        match slot {
            Slot::Buffer(b) => Some(&self.plan.buffers[b.index()].ty),
            Slot::Input(i) => Some(&self.plan.inputs[i.index()].ty),
            Slot::Output(o) => Some(&self.plan.outputs[o.index()].ty),
            Slot::Weight(w) => Some(&self.family.weights[w.index()].ty),
            Slot::State(s) => Some(&self.family.states[s.index()].ty),
            Slot::Absent => None,
        }
    }

    fn sizes(&mut self) {
        let bounds = self.family.state_bounds(0);
        let nothing = Dims::default();
        let known = |ty: &TensorType| ty.shape.dims().iter().all(|d| d.known().is_some());
        if let Some(w) = self.family.weights.iter().find(|w| !known(&w.ty) || w.ty.bytes(&nothing).is_none()) {
            self.error("L013", format!("weight `{}` is {}", w.name, w.ty));
        }
        if let Some(s) = self.family.states.iter().find(|s| s.ty.bytes(&bounds).is_none()) {
            self.error("L013", format!("state `{}` is {}", s.name, s.ty));
        }
        if !self.family.alignment.is_power_of_two() {
            self.error("L013", format!("the alignment is {}", self.family.alignment));
        }
    }

    fn ranges(&mut self) {
        for (i, task) in self.plan.tasks.iter().enumerate() {
            for &slot in task.operands.iter().chain(&task.results) {
                let (index, len) = match slot {
                    Slot::Buffer(b) => (b.index(), self.plan.buffers.len()),
                    Slot::Input(b) => (b.index(), self.plan.inputs.len()),
                    Slot::Output(b) => (b.index(), self.plan.outputs.len()),
                    Slot::Weight(b) => (b.index(), self.family.weights.len()),
                    Slot::State(b) => (b.index(), self.family.states.len()),
                    Slot::Absent => continue,
                };
                if index >= len {
                    self.error("L001", format!("{slot} of {} is out of range", TaskId::new(i)));
                }
            }
        }
    }

    fn buffers(&mut self) {
        let bounds = self.plan.bucket.bounds();
        for (i, b) in self.plan.buffers.iter().enumerate() {
            let inside = b.offset.checked_add(b.bytes).is_some_and(|end| end <= self.plan.arena_bytes);
            if !inside || self.plan.arena_bytes > self.family.arena_bytes || b.ty.bytes(&bounds) != Some(b.bytes) {
                self.error("L002", format!("b{i} is {} bytes at {}", b.bytes, b.offset));
            }
            if !b.offset.is_multiple_of(self.family.alignment.max(1)) {
                let message = format!("b{i} lies at {}, which is no multiple of {}", b.offset, self.family.alignment);
                self.error("L010", message);
            }
        }
    }

    /// Kernels find operands by place, so a kind's places are all there.
    fn places(&mut self, id: TaskId, task: &Task) {
        let optional = task.kind.optional_operands();
        let (operands, results) = (task.operands.len(), task.results.len());
        if (operands, results) != (optional.len(), task.kind.result_count()) {
            let name = task.kind.name().name();
            return self
                .error("L009", format!("{id}: {operands} operands and {results} results are not those of {name}"));
        }
        let absent = task.operands.iter().zip(optional).position(|(s, optional)| *s == Slot::Absent && !optional);
        if let Some(place) = absent {
            self.error("L009", format!("{id}: operand {place} is absent, but required"));
        }
    }

    fn body(&mut self, id: TaskId, task: &Task) {
        let body = Arc::as_ptr(&task.body);
        if !self.sound.contains(&body) {
            if let Err(e) = aio_ir::verify(&task.body) {
                return self.error("L007", format!("{id}: {e}"));
            }
            self.sound.insert(body);
        }
        let declared = task.body.values().filter(|(_, v)| !matches!(v.def, Def::Node { .. })).map(|(_, v)| &v.ty);
        let operands = task.operands.iter().filter_map(|&s| self.slot_type(s));
        let fits = declared.map(storage).eq(operands.map(storage));
        let returned = task.body.roots().map(|v| task.body.ty(v));
        let results = task.results.iter().filter_map(|&s| self.slot_type(s));
        if !fits || !returned.map(storage).eq(results.map(storage)) {
            self.error("L005", format!("{id}: slots do not fit the body"));
        }
        let misplaced = task.results.iter().any(|s| matches!(s, Slot::Input(_) | Slot::Weight(_) | Slot::Absent));
        if misplaced {
            self.error("L008", format!("{id}: a result has no place"));
        }
    }

    fn order(&mut self) {
        let mut written = vec![0u32; self.plan.buffers.len()];
        let mut outputs = vec![0u32; self.plan.outputs.len()];
        for (i, task) in self.plan.tasks.iter().enumerate() {
            for slot in &task.operands {
                match slot {
                    Slot::Buffer(b) if written[b.index()] == 0 => {
                        self.error("L004", format!("{b} is read by t{i} before it is written"));
                    }
                    Slot::Output(o) if outputs[o.index()] == 0 => {
                        self.error("L011", format!("{o} is read by t{i} before it is written"));
                    }
                    _ => {}
                }
            }
            for slot in &task.results {
                match slot {
                    Slot::Buffer(b) => written[b.index()] += 1,
                    Slot::Output(o) => outputs[o.index()] += 1,
                    _ => {}
                }
            }
        }
        for (i, _) in written.iter().enumerate().filter(|&(_, &n)| n > 1) {
            self.error("L004", format!("b{i} is written more than once"));
        }
        for (i, _) in outputs.iter().enumerate().filter(|&(_, &n)| n != 1) {
            self.error("L006", format!("out{i} is not written exactly once"));
        }
    }

    /// First and last task that touch each buffer.
    fn live_ranges(&self) -> Vec<Option<(usize, usize)>> {
        let mut ranges = vec![None; self.plan.buffers.len()];
        for (i, task) in self.plan.tasks.iter().enumerate() {
            for slot in task.operands.iter().chain(&task.results) {
                if let Slot::Buffer(b) = slot {
                    let (first, _) = ranges[b.index()].unwrap_or((i, i));
                    ranges[b.index()] = Some((first, i));
                }
            }
        }
        ranges
    }

    fn overlaps(&mut self) {
        let ranges = self.live_ranges();
        for (i, a) in self.plan.buffers.iter().enumerate() {
            for (j, b) in self.plan.buffers.iter().enumerate().skip(i + 1) {
                let (Some(x), Some(y)) = (ranges[i], ranges[j]) else { continue };
                let in_time = x.0 <= y.1 && y.0 <= x.1;
                let in_space = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
                if in_time && in_space {
                    self.error("L003", format!("b{i} and b{j} share bytes while both are live"));
                }
            }
        }
    }
}

/// A type up to reshaping: what matters to storage.
fn storage(ty: &TensorType) -> (aio_ir::DType, (Option<u64>, smallvec::SmallVec<[aio_ir::Sym; 4]>)) {
    (ty.dtype, ty.shape.factors())
}
