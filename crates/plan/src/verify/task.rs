//! Rules about a single task: its locations and its body, and that they match.

use crate::body::{self, BodyError, Declared};
use crate::family::{Plan, PlanFamily};
use crate::kinds::{Class, TaskKind};
use crate::loc::Loc;
use crate::target::Layout;
use crate::task::Task;
use aio_ir::{DType, Def, Graph, Group, Op, Sym, TensorType, Value};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// A broken rule. The caller adds plan and task.
pub(super) type Broken = (&'static str, String);

/// Bodies found sound, with the kind and the present operands they were checked for.
pub(super) type Sound = HashMap<*const Graph, (TaskKind, u64)>;

/// The subject of the rules.
pub(super) struct Rules<'a> {
    pub family: &'a PlanFamily,
    pub plan: &'a Plan,
    pub task: &'a Task,
}

impl Rules<'_> {
    /// Checks the task. Its locations must be in range.
    pub(super) fn check(&self, sound: &mut Sound) -> Result<(), Broken> {
        self.places()?;
        let (body, key) = (Arc::as_ptr(&self.task.body), (self.task.kind, self.present()));
        if sound.get(&body) != Some(&key) {
            aio_ir::verify(&self.task.body).map_err(|e| ("L007", e.to_string()))?;
            self.meaning().map_err(|message| ("L012", message))?;
            sound.insert(body, key);
        }
        self.operands()?;
        self.pages()?;
        self.results()?;
        self.replaced()
    }

    fn name(&self) -> &'static str {
        self.task.kind.name().name()
    }

    /// A bit mask of the operands that are present.
    fn present(&self) -> u64 {
        let bits = self.task.operands.iter().enumerate().filter(|(_, s)| **s != Loc::Absent);
        bits.fold(0, |bits, (place, _)| bits | 1 << place)
    }

    /// Checks the number of operands and results, because kernels find operands by index.
    fn places(&self) -> Result<(), Broken> {
        let optional = self.task.kind.optional_operands();
        let (operands, results) = (self.task.operands.len(), self.task.results.len());
        if (operands, results) != (optional.len(), self.task.kind.result_count()) {
            let message = format!("{operands} operands and {results} results are not those of {}", self.name());
            return Err(("L009", message));
        }
        match self.task.operands.iter().zip(optional).position(|(s, optional)| *s == Loc::Absent && !optional) {
            Some(place) => Err(("L009", format!("operand {place} is absent, but required"))),
            None => Ok(()),
        }
    }

    /// The body's declared values by operand. Fails if there are too few or too many.
    fn declared(&self) -> Result<SmallVec<[Option<&Value>; 16]>, String> {
        let mut values = self.task.body.values().map(|(_, v)| v).filter(|v| !matches!(v.def, Def::Node { .. }));
        let mut declared = SmallVec::new();
        for loc in &self.task.operands {
            declared.push(match loc {
                Loc::Absent => None,
                _ => Some(values.next().ok_or("the body has fewer operands than the task")?),
            });
        }
        match values.next() {
            Some(_) => Err("the body has more operands than the task".to_owned()),
            None => Ok(declared),
        }
    }

    /// Checks that the body is the kind's: rebuilt from the numbers, it is the same graph.
    fn meaning(&self) -> Result<(), String> {
        let declare = |v: &Value| Declared { def: v.def, ty: v.ty.clone() };
        let declared: Vec<_> = self.declared()?.into_iter().map(|v| v.map(declare)).collect();
        let built = match self.task.kind {
            TaskKind::Op(op) => match self.task.body.nodes().next() {
                Some((_, node)) => body::single(op, &declared, &node.attrs),
                None => return Err(format!("the body does not apply `{}`", op.mnemonic())),
            },
            kind => body::fused(&kind, &declared),
        };
        match built {
            Ok(built) if built == *self.task.body => Ok(()),
            Ok(_) => Err(format!("the body is not that of {} with these numbers", self.name())),
            Err(BodyError::Build(e)) => Err(format!("{}: {e}", self.name())),
            Err(e) => Err(format!("{} has no body: {e}", self.name())),
        }
    }

    fn operands(&self) -> Result<(), Broken> {
        let declared = self.declared().map_err(|message| ("L005", message))?;
        for (place, (&loc, value)) in self.task.operands.iter().zip(declared).enumerate() {
            let Some((value, ty)) = value.zip(loc_type(self.family, self.plan, loc)) else { continue };
            if !holds(loc, ty, value) {
                return Err((
                    "L005",
                    format!("operand {place} is {loc} : {ty}, the body takes {:?} {}", value.def, value.ty),
                ));
            }
            if self.is_optional(loc) && value.def != (Def::Input { optional: true }) {
                return Err(("L014", format!("operand {place} is {loc}, which may be unbound, but required")));
            }
            if self.is_packed(loc) && !(value.def == Def::Weight && self.task.kind.name().is_matrix(place)) {
                return Err((
                    "L016",
                    format!("operand {place} is {loc}, a packed weight, but no matrix of {}", self.name()),
                ));
            }
        }
        Ok(())
    }

    /// Checks that kernels find KV pages and slots only in states.
    fn pages(&self) -> Result<(), Broken> {
        let kv = |op: Op| match op {
            Op::Attend => Some(const { Op::Attend.place("kv") }),
            Op::PageWrite => Some(const { Op::PageWrite.place("kv") }),
            op if op.spec().group == Group::Slots => op.spec().updates,
            _ => None,
        };
        let place = match self.task.kind {
            TaskKind::Op(op) => kv(op),
            kind => kind.name().spec().and_then(|s| s.operands.iter().position(|o| o.class == Class::Pages)),
        };
        match place.map(|place| self.task.operands[place]) {
            Some(loc) if !matches!(loc, Loc::State(_)) => {
                Err(("L019", format!("{loc} is not a state, but is read by pages or slots")))
            }
            _ => Ok(()),
        }
    }

    fn is_optional(&self, loc: Loc) -> bool {
        matches!(loc, Loc::Input(i) if self.plan.inputs[i.index()].optional)
    }

    fn is_packed(&self, loc: Loc) -> bool {
        matches!(loc, Loc::Weight(w) if self.family.weights[w.index()].layout == Layout::Packed)
    }

    fn results(&self) -> Result<(), Broken> {
        let misplaced = |s: &Loc| matches!(s, Loc::Input(_) | Loc::Weight(_) | Loc::Absent);
        if self.task.results.iter().any(misplaced) {
            return Err(("L008", "a result has no place".to_owned()));
        }
        let body = &self.task.body;
        if body.roots().count() != self.task.results.len() {
            return Err(("L005", "the body has another number of results".to_owned()));
        }
        for (value, &loc) in body.roots().map(|v| body.ty(v)).zip(&self.task.results) {
            let Some(ty) = loc_type(self.family, self.plan, loc) else { continue };
            let exact = matches!(loc, Loc::State(_));
            if if exact { ty != value } else { storage(ty) != storage(value) } {
                return Err(("L005", format!("result {loc} is {ty}, the body gives {value}")));
            }
        }
        Ok(())
    }

    /// Checks that a state is replaced in place: the result has the operand's location, and no other operand or result
    /// does. Any other result in a state is a copy into one that the task does not read.
    fn replaced(&self) -> Result<(), Broken> {
        let declared = self.declared().map_err(|message| ("L005", message))?;
        let pairs = || self.task.operands.iter().zip(&declared);
        let updated = pairs().find(|(_, v)| v.is_some_and(|v| v.def == Def::State)).map(|(loc, _)| *loc);
        let outputs = self.task.body.outputs.len();
        let (copies, finals) = self.task.results.split_at(outputs);
        if finals.len() > 1 || finals.first().copied() != updated {
            return Err(("L015", "a replaced state is not an operand, or is elsewhere".to_owned()));
        }
        let reads = |state: Loc| self.task.operands.iter().filter(|s| **s == state).count();
        if updated.is_some_and(|s| !matches!(s, Loc::State(_)) || reads(s) > 1) {
            return Err(("L015", "the replaced operand is not a state, or is an operand twice".to_owned()));
        }
        let mut written = copies.iter().filter(|s| matches!(s, Loc::State(_)));
        match written.find(|&&s| reads(s) > 0 || updated == Some(s)) {
            Some(state) => Err(("L015", format!("{state} is read while it is written"))),
            None => Ok(()),
        }
    }
}

/// The type of a location's contents; `None` for an absent one.
fn loc_type<'a>(family: &'a PlanFamily, plan: &'a Plan, loc: Loc) -> Option<&'a TensorType> {
    match loc {
        Loc::Buffer(b) => Some(&plan.buffers[b.index()].ty),
        Loc::Input(i) => Some(&plan.inputs[i.index()].ty),
        Loc::Output(o) => Some(&plan.outputs[o.index()].ty),
        Loc::Weight(w) => Some(&family.weights[w.index()].ty),
        Loc::State(s) => Some(&family.states[s.index()].ty),
        Loc::Absent => None,
    }
}

/// Whether a location holds what a body declares. States, and weights declared as such, keep their shape; everything else
/// may be another shape of the same elements.
fn holds(loc: Loc, ty: &TensorType, value: &Value) -> bool {
    match (loc, value.def) {
        (Loc::State(_), Def::State | Def::Input { .. }) | (Loc::Weight(_), Def::Weight) => *ty == value.ty,
        (Loc::State(_), _) | (_, Def::Weight | Def::State) => false,
        _ => storage(ty) == storage(&value.ty),
    }
}

/// A type up to reshaping: all that matters for storage.
fn storage(ty: &TensorType) -> (DType, (Option<u64>, SmallVec<[Sym; 4]>)) {
    (ty.dtype, ty.shape.factors())
}
