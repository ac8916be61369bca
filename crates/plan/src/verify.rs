//! The plan verifier: everything a back end may rely on.
//!
//! | code | rule |
//! |---|---|
//! | L001 | every location's id is in range |
//! | L002 | a buffer lies inside the arena and has the bytes of its type at the bucket's bounds |
//! | L003 | buffers that are live at the same time share no bytes |
//! | L004 | a buffer is written by one task, before any task reads it |
//! | L005 | operands and results agree in number and type with the task's body; states and weights match its shapes exactly |
//! | L006 | every output is written exactly once |
//! | L007 | a task's body satisfies the IR's rules |
//! | L008 | results never go to inputs, weights or absent locations |
//! | L009 | a task has its kind's number of operands and results; only optional operands are absent |
//! | L010 | a buffer's offset is a multiple of the family's alignment |
//! | L011 | an output is read only after it is written |
//! | L012 | a task's body is the one its kind has for these numbers and operands ([`crate::body`]) |
//! | L013 | weights have known sizes; states depend only on pages, slots or sequences, as their outermost dimension; the alignment is a power of two of at least 64 |
//! | L014 | an input that may be unbound is used only where the body takes an optional one |
//! | L015 | a replaced state is updated in place, and a task that writes a state does not read it otherwise |
//! | L016 | packed weights have elements, and are used only where a kind takes a matrix |
//! | L017 | sizes at a bucket's bounds, empty dimensions counted as 1, are below 2^47 bytes |
//! | L018 | a bucket has at most 4,194,304 rows, sequences and output rows; a family has a plan |
//! | L019 | what a task reads or writes by pages or slots is a state |
//! | L020 | a plan has the checks that its tasks need ([`crate::Check`]) |
//!
//! Kernels use a kind's numbers unchecked. L012 ties the numbers to the body, and L005 ties the body to the contents of
//! the locations, so nothing a plan says about itself is taken on trust.

use crate::bucket::Bucket;
use crate::checks::checks;
use crate::family::{Plan, PlanFamily, PoolSizes, WeightDesc};
use crate::loc::Loc;
use crate::target::Layout;
use crate::task::TaskId;
use aio_ir::{Dim, Dims, Graph, Sym, TensorType};
use std::collections::BTreeMap;
use task::{Rules, Sound};

mod task;

/// Maximum rows, sequences and output rows of a bucket.
pub const MAX_BUCKET: u32 = 1 << 22;
/// Minimum alignment in bytes that every back end's vectors need.
const MIN_ALIGNMENT: u64 = 64;
/// Maximum nodes and values of a task's body, far above those of the largest kind.
const MAX_BODY: usize = 128;
/// Exclusive upper bound on the size of a tensor in bytes.
const MAX_BYTES: u64 = 1 << 47;

/// A broken rule of a plan: always a compiler bug or a damaged artefact.
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

/// Checks every plan of a family and collects all errors.
pub fn verify(family: &PlanFamily) -> Result<(), Vec<PlanError>> {
    verify_tasks(family)?;
    let lacks = |plan: &&Plan| plan.checks != checks(&plan.tasks);
    let error = |plan: &Plan| PlanError {
        code: "L020",
        bucket: plan.bucket.to_string(),
        message: "the checks of its steps are not those of its tasks".to_owned(),
    };
    let errors: Vec<_> = family.plans.iter().filter(lacks).map(error).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Checks all rules but L020.
pub(crate) fn verify_tasks(family: &PlanFamily) -> Result<(), Vec<PlanError>> {
    let mut errors = Vec::new();
    if family.plans.is_empty() {
        errors.push(PlanError {
            code: "L018",
            bucket: "none".to_owned(),
            message: "the family has no plan".to_owned(),
        });
    }
    let mut sound = Sound::new();
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
    /// Bodies that have already passed; tasks share them.
    sound: &'a mut Sound,
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
        self.bounded();
        if self.errors.len() > before {
            return;
        }
        self.buffers();
        if self.errors.len() > before {
            return;
        }
        let (family, plan) = (self.family, self.plan);
        for (i, task) in plan.tasks.iter().enumerate() {
            if let Err((code, message)) = (Rules { family, plan, task }).check(self.sound) {
                self.error(code, format!("{}: {message}", TaskId::new(i)));
            }
        }
        self.order();
        self.overlaps();
    }

    fn sizes(&mut self) {
        let bounds = self.family.state_bounds(PoolSizes::default());
        let nothing = Dims::default();
        let known = |ty: &TensorType| ty.shape.dims().iter().all(|d| d.known().is_some());
        if let Some(w) = self.family.weights.iter().find(|w| !known(&w.ty) || w.ty.bytes(&nothing).is_none()) {
            self.error("L013", format!("weight `{}` is {}", w.name, w.ty));
        }
        let stray = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Const(_) => false,
            Dim::Sym(sym) => axis > 0 || !matches!(sym, Sym::Pages | Sym::Slots | Sym::Seqs),
        };
        let misfit = |ty: &TensorType| ty.shape.dims().iter().enumerate().any(stray) || ty.bytes(&bounds).is_none();
        if let Some(s) = self.family.states.iter().find(|s| misfit(&s.ty)) {
            self.error("L013", format!("state `{}` is {}", s.name, s.ty));
        }
        if !self.family.alignment.is_power_of_two() || self.family.alignment < MIN_ALIGNMENT {
            self.error("L013", format!("the alignment is {}", self.family.alignment));
        }
        let void = |w: &&WeightDesc| w.layout == Layout::Packed && w.ty.shape.is_empty();
        if let Some(w) = self.family.weights.iter().find(void) {
            self.error("L016", format!("weight `{}` : {} is packed, but has no elements", w.name, w.ty));
        }
    }

    /// Checks the bucket's bounds. Scratch memory is sized by products of them, which must stay far below 64 bits.
    fn bounded(&mut self) {
        let Bucket { rows, seqs, outs, .. } = self.plan.bucket;
        if rows.max(seqs).max(outs) > MAX_BUCKET {
            self.error("L018", format!("a step of more than {MAX_BUCKET} rows, sequences or output rows"));
        }
        let bounds = Dims { pages: 1, stride: 1, recent: 1, slots: 1, ..self.plan.bucket.bounds() };
        let bindings = self.plan.inputs.iter().chain(&self.plan.outputs).map(|b| &b.ty);
        let kept = self.family.weights.iter().map(|w| &w.ty).chain(self.family.states.iter().map(|s| &s.ty));
        let mut bodies: Vec<&Graph> = self.plan.tasks.iter().map(|t| &*t.body).collect();
        bodies.sort_unstable_by_key(|body| std::ptr::from_ref(*body));
        bodies.dedup_by_key(|body| std::ptr::from_ref(*body));
        if bodies.iter().any(|body| body.nodes().len().max(body.values().len()) > MAX_BODY) {
            return self.error("L017", format!("a task's body has more than {MAX_BODY} nodes or values"));
        }
        let inside = bodies.iter().flat_map(|body| body.values().map(|(_, v)| &v.ty));
        let mut all = bindings.chain(kept).chain(self.plan.buffers.iter().map(|b| &b.ty)).chain(inside);
        if let Some(ty) = all.find(|ty| ty.bytes_of_full(&bounds).is_none_or(|bytes| bytes >= MAX_BYTES)) {
            self.error("L017", ty.to_string());
        }
    }

    fn ranges(&mut self) {
        for (i, task) in self.plan.tasks.iter().enumerate() {
            for &loc in task.operands.iter().chain(&task.results) {
                let (index, len) = match loc {
                    Loc::Buffer(b) => (b.index(), self.plan.buffers.len()),
                    Loc::Input(b) => (b.index(), self.plan.inputs.len()),
                    Loc::Output(b) => (b.index(), self.plan.outputs.len()),
                    Loc::Weight(b) => (b.index(), self.family.weights.len()),
                    Loc::State(b) => (b.index(), self.family.states.len()),
                    Loc::Absent => continue,
                };
                if index >= len {
                    self.error("L001", format!("{loc} of {} is out of range", TaskId::new(i)));
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
                let message =
                    format!("b{i} lies at {}, which is not a multiple of {}", b.offset, self.family.alignment);
                self.error("L010", message);
            }
        }
    }

    fn order(&mut self) {
        let mut written = vec![0u32; self.plan.buffers.len()];
        let mut outputs = vec![0u32; self.plan.outputs.len()];
        for (i, task) in self.plan.tasks.iter().enumerate() {
            for loc in &task.operands {
                match loc {
                    Loc::Buffer(b) if written[b.index()] == 0 => {
                        self.error("L004", format!("{b} is read by t{i} before it is written"));
                    }
                    Loc::Output(o) if outputs[o.index()] == 0 => {
                        self.error("L011", format!("{o} is read by t{i} before it is written"));
                    }
                    _ => {}
                }
            }
            for loc in &task.results {
                match loc {
                    Loc::Buffer(b) => written[b.index()] += 1,
                    Loc::Output(o) => outputs[o.index()] += 1,
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

    /// First and last task that use each buffer.
    fn live_ranges(&self) -> Vec<Option<(usize, usize)>> {
        let mut ranges = vec![None; self.plan.buffers.len()];
        for (i, task) in self.plan.tasks.iter().enumerate() {
            for loc in task.operands.iter().chain(&task.results) {
                if let Loc::Buffer(b) = loc {
                    let (first, _) = ranges[b.index()].unwrap_or((i, i));
                    ranges[b.index()] = Some((first, i));
                }
            }
        }
        ranges
    }

    /// Checks L003: walks the tasks in order, keeping the live buffers by offset.
    fn overlaps(&mut self) {
        let (mut born, mut dead) = (vec![Vec::new(); self.plan.tasks.len()], vec![Vec::new(); self.plan.tasks.len()]);
        for (i, range) in self.live_ranges().into_iter().enumerate() {
            let Some((first, last)) = range.filter(|_| self.plan.buffers[i].bytes > 0) else { continue };
            born[first].push(i);
            dead[last].push(i);
        }
        let mut live: BTreeMap<u64, usize> = BTreeMap::new();
        for (born, dead) in born.iter().zip(&dead) {
            for &i in born {
                self.enter(&mut live, i);
            }
            for &i in dead {
                let offset = self.plan.buffers[i].offset;
                if live.get(&offset) == Some(&i) {
                    live.remove(&offset);
                }
            }
        }
    }

    /// Adds a buffer to the live ones. Live buffers are disjoint, so only the last one that starts before its end can
    /// overlap.
    fn enter(&mut self, live: &mut BTreeMap<u64, usize>, i: usize) {
        let end = |i: usize| self.plan.buffers[i].offset + self.plan.buffers[i].bytes;
        let start = self.plan.buffers[i].offset;
        match live.range(..end(i)).next_back().map(|(_, &j)| j).filter(|&j| end(j) > start) {
            Some(j) => self.error("L003", format!("b{i} and b{j} share bytes while both are live")),
            None => _ = live.insert(start, i),
        }
    }
}
