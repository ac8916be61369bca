//! Plans as an attacker would write them: changes a compiled family as input bytes say, then loads and runs what the
//! verifier still accepts. Called by the fuzz target `plans` and by the stable test that replays its corpus.
//!
//! Changes are structural, and a type can be changed everywhere at once, so many changed families pass the verifier.
//! Merely damaged bytes never get past the checksums, and rarely past the first rule.

use crate::hostile_graphs::{Graph, graphs};
use crate::hostile_step::{MAX_BYTES, POOLS, step};
use aio_backend::Device;
use aio_compiler::{CompileError, Options, compile};
use aio_conformance::{Case, cases};
use aio_ir::{DType, Dim, Op, Shape, Sym, TensorType};
use aio_plan::artefact::{decode, encode};
use aio_plan::{
    Activation, Bucket, Buffer, BufferId, InputId, Layout, Loc, OutputId, PlanFamily, RopePairs, RopeScaling, Routing,
    StateId, Target, TaskKind, WeightId,
};
use std::sync::{Arc, OnceLock};

/// Values of the fusion byte from here on select a graph of `hostile_graphs`. A small range, so that older corpora keep
/// their meaning.
const OTHER_GRAPHS: u8 = 240;

/// The bytes that make the choices; zeros once they are used up.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// Choices made by these bytes.
    pub fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices(bytes)
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, n: usize) -> usize {
        let wide = usize::from(self.byte()) | usize::from(if n > 256 { self.byte() } else { 0 }) << 8;
        wide % n.max(1)
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let at = self.below(all.len());
        all.get(at).copied()
    }

    fn done(&self) -> bool {
        self.0.is_empty()
    }

    /// A size: small, large, or one that occurs in practice.
    fn size(&mut self) -> u64 {
        const SIZES: [u64; 16] = [0, 1, 2, 3, 4, 8, 16, 17, 31, 32, 33, 48, 64, 128, 256, 1 << 20];
        let size = self.pick(&SIZES).unwrap_or(1);
        if self.byte() == 255 { u64::from(self.byte()) << (self.byte() % 56) } else { size }
    }
}

/// The outcome for a changed family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The verifier or the artefact reader rejected it.
    Refused,
    /// It is valid but too large to run here.
    TooLarge,
    /// It is valid, but the device rejected it or one of its steps.
    DeviceRefused,
    /// A step ran to completion.
    Ran,
}

/// Compiles a family for the last of the devices, changes it as the bytes say, and runs it on each device. Whatever the
/// outcome, nothing may panic, read or write out of bounds; a sanitizer detects the latter.
///
/// # Panics
/// If a case of the conformance list does not compile, which is a bug in aio.
pub fn check(bytes: &[u8], devices: &[&dyn Device]) -> Fate {
    let Some(target) = devices.last().map(|d| d.target()) else { return Fate::Refused };
    let mut choices = Choices::new(bytes);
    let Some(mut family) = chosen(&mut choices, &target) else { return Fate::Refused };
    while !choices.done() {
        change(&mut family, &mut choices);
        if choices.byte().is_multiple_of(2) {
            repair(&mut family);
        }
    }
    // Encoded and decoded like a section of an artefact, so the checksums are valid.
    let Ok(family) = decode(&encode(&family)) else { return Fate::Refused };
    if bytes_of(&family).is_none_or(|bytes| bytes > MAX_BYTES) {
        return Fate::TooLarge;
    }
    devices.iter().fold(Fate::Refused, |_, &device| run(&family, device, bytes))
}

/// The number of graphs in addition to the conformance list.
pub fn other_graphs() -> usize {
    graphs().len()
}

/// The family of a case of the conformance list, or of a graph in [`hostile_graphs`](crate::hostile_graphs); `None` if
/// the target has no kernel for it.
fn chosen(choices: &mut Choices<'_>, target: &Target) -> Option<PlanFamily> {
    static CASES: OnceLock<(Vec<Case>, Vec<Graph>)> = OnceLock::new();
    let (cases, graphs) = CASES.get_or_init(|| (cases(), graphs()));
    let case = &cases[choices.below(cases.len())];
    let byte = choices.byte();
    let fuse = byte.is_multiple_of(2);
    if byte < OTHER_GRAPHS {
        return compiled(&case.name, &case.text, case.bucket(), fuse, target);
    }
    let graph = &graphs[choices.below(graphs.len())];
    compiled("a hostile graph", &graph.text, graph.bucket, fuse, target)
}

fn compiled(name: &str, text: &str, bucket: Bucket, fuse: bool, target: &Target) -> Option<PlanFamily> {
    let graph = aio_ir::text::parse(text).unwrap_or_else(|e| panic!("{name}: {e}")).graph;
    let verified = aio_ir::verify(&graph).unwrap_or_else(|e| panic!("{name}: {e}"));
    match compile(verified, target, &Options { buckets: vec![bucket], fuse }) {
        Ok(compiled) => Some(compiled.family),
        Err(CompileError::Unsupported { .. }) => None,
        Err(e) => panic!("{name}: {e}"),
    }
}

fn bytes_of(family: &PlanFamily) -> Option<u64> {
    let dims = family.state_bounds(POOLS);
    let weights = family.weights.iter().map(|w| w.ty.bytes(&dims));
    let states = family.states.iter().map(|s| s.ty.bytes(&dims));
    weights.chain(states).try_fold(family.arena_bytes, |sum, bytes| sum.checked_add(bytes?))
}

/// Makes one change.
fn change(family: &mut PlanFamily, c: &mut Choices<'_>) {
    match c.below(12) {
        0 => everywhere(family, c),
        1 => change_number(family, c),
        2 => change_loc(family, c),
        3 => change_tasks(family, c),
        4 => change_type(family, c),
        5 => change_body(family, c),
        6 => change_bucket(family, c),
        7 => change_binding(family, c),
        8 => change_buffer(family, c),
        9 => share_body(family, c),
        10 => {
            let at = c.below(family.weights.len());
            if let Some(w) = family.weights.get_mut(at) {
                w.layout = if w.layout == Layout::Packed { Layout::Plain } else { Layout::Packed };
            }
        }
        _ => everywhere(family, c),
    }
}

/// Replaces a size, a symbol or an element type in every type and body.
fn everywhere(family: &mut PlanFamily, c: &mut Choices<'_>) {
    let types = types(family);
    let dims: Vec<Dim> = types.iter().flat_map(|t| t.shape.dims().to_vec()).collect();
    if c.byte().is_multiple_of(4) {
        let Some(from) = types.get(c.below(types.len())).map(|t| t.dtype) else { return };
        let Some(to) = c.pick(DType::ALL) else { return };
        replace(family, &from.to_string(), &to.to_string(), |ty| {
            if ty.dtype == from {
                ty.dtype = to;
            }
        });
        return;
    }
    let Some(from) = c.pick(&dims) else { return };
    let to = if c.byte().is_multiple_of(3) { c.pick(&Sym::ALL).map(Dim::Sym) } else { Some(Dim::Const(c.size())) };
    let Some(to) = to else { return };
    replace(family, &from.to_string(), &to.to_string(), |ty| {
        for dim in ty.shape.0.iter_mut().filter(|d| **d == from) {
            *dim = to;
        }
    });
}

fn types(family: &PlanFamily) -> Vec<TensorType> {
    let kept = family.weights.iter().map(|w| &w.ty).chain(family.states.iter().map(|s| &s.ty));
    let bound = family.plans.iter().flat_map(|p| p.inputs.iter().chain(&p.outputs).map(|b| &b.ty));
    kept.chain(bound).cloned().collect()
}

fn replace(family: &mut PlanFamily, from: &str, to: &str, change: impl Fn(&mut TensorType)) {
    family.weights.iter_mut().for_each(|w| change(&mut w.ty));
    family.states.iter_mut().for_each(|s| change(&mut s.ty));
    for plan in &mut family.plans {
        plan.inputs.iter_mut().chain(&mut plan.outputs).for_each(|b| change(&mut b.ty));
        plan.buffers.iter_mut().for_each(|b| change(&mut b.ty));
        for task in &mut plan.tasks {
            rewrite(&mut task.body, |text| words(text, from, to));
            numbers(&mut task.kind, |n| if n.to_string() == from { to.parse().unwrap_or(*n) } else { *n });
        }
    }
}

/// Replaces whole words in a text.
fn words(text: &str, from: &str, to: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let word = |c: char| c.is_ascii_alphanumeric() || "_.%".contains(c);
        let alone = !rest[..at].ends_with(word) && !rest[at + from.len()..].starts_with(word);
        out.push_str(&rest[..at]);
        out.push_str(if alone { to } else { from });
        rest = &rest[at + from.len()..];
    }
    out + rest
}

/// Changes a body's text, and keeps the change if it is still a graph.
fn rewrite(body: &mut Arc<aio_ir::Graph>, change: impl FnOnce(&str) -> String) {
    let text = change(&aio_ir::text::print(body));
    if let Ok(parsed) = aio_ir::text::parse(&text) {
        *body = Arc::new(parsed.graph);
    }
}

fn numbers(kind: &mut TaskKind, change: impl Fn(&u32) -> u32) {
    match kind {
        TaskKind::Qkv(s) => {
            for n in [&mut s.heads, &mut s.kv_heads, &mut s.head_dim, &mut s.rope.dims] {
                *n = change(n);
            }
        }
        TaskKind::Attend(s) => {
            for n in [&mut s.heads, &mut s.kv_heads, &mut s.head_dim, &mut s.window] {
                *n = change(n);
            }
        }
        _ => {}
    }
}

fn change_number(family: &mut PlanFamily, c: &mut Choices<'_>) {
    let size = c.size() as u32;
    let Some(task) = task(family, c) else { return };
    match &mut task.kind {
        TaskKind::Qkv(s) => match c.below(8) {
            0 => s.heads = size,
            1 => s.kv_heads = size,
            2 => s.head_dim = size,
            3 => s.qk_norm_eps = s.qk_norm_eps.xor(Some(1e-5)),
            4 => s.rope.dims = size,
            5 => s.rope.pairs = if s.rope.pairs == RopePairs::Halves { RopePairs::Adjacent } else { RopePairs::Halves },
            6 => s.rope.scaling = RopeScaling::Linear { factor: f32::from_bits(size) },
            _ => s.norm_eps = f32::from_bits(size),
        },
        TaskKind::Attend(s) => match c.below(4) {
            0 => s.heads = size,
            1 => s.kv_heads = size,
            2 => s.head_dim = size,
            _ => s.window = size,
        },
        TaskKind::Linear(s) => s.norm_eps = s.norm_eps.xor(Some(1e-5)),
        TaskKind::GateUp(s) => {
            s.activation = if s.activation == Activation::Silu { Activation::Gelu } else { Activation::Silu };
        }
        TaskKind::Experts(s) => match c.below(3) {
            0 => s.picked = size,
            1 => {
                s.routing =
                    c.pick(&[Routing::Softmax, Routing::Normalised, Routing::SoftmaxOfPicked]).unwrap_or(s.routing)
            }
            _ => s.norm_eps = f32::from_bits(size),
        },
        TaskKind::Head(s) => s.argmax = !s.argmax,
        TaskKind::Op(op) => *op = c.pick(Op::ALL).unwrap_or(*op),
    }
}

fn task<'f>(family: &'f mut PlanFamily, c: &mut Choices<'_>) -> Option<&'f mut aio_plan::Task> {
    let plan = family.plans.first_mut()?;
    let at = c.below(plan.tasks.len());
    plan.tasks.get_mut(at)
}

/// A location of any kind, usually in range.
fn loc(family: &PlanFamily, c: &mut Choices<'_>) -> Loc {
    let Some(plan) = family.plans.first() else { return Loc::Absent };
    let kind = c.below(6);
    match kind {
        0 => Loc::Buffer(BufferId::new(c.below(plan.buffers.len() + 1))),
        1 => Loc::Input(InputId::new(c.below(plan.inputs.len() + 1))),
        2 => Loc::Output(OutputId::new(c.below(plan.outputs.len() + 1))),
        3 => Loc::Weight(WeightId::new(c.below(family.weights.len() + 1))),
        4 => Loc::State(StateId::new(c.below(family.states.len() + 1))),
        _ => Loc::Absent,
    }
}

fn change_loc(family: &mut PlanFamily, c: &mut Choices<'_>) {
    let loc = loc(family, c);
    let results = c.byte().is_multiple_of(3);
    let Some(task) = task(family, c) else { return };
    let locs: &mut [Loc] = if results { &mut task.results } else { &mut task.operands };
    let at = c.below(locs.len());
    if let Some(place) = locs.get_mut(at) {
        *place = loc;
    }
}

fn change_tasks(family: &mut PlanFamily, c: &mut Choices<'_>) {
    let Some(plan) = family.plans.first_mut() else { return };
    let (len, which) = (plan.tasks.len(), c.below(3));
    let (a, b) = (c.below(len), c.below(len));
    match which {
        _ if len == 0 => {}
        0 => plan.tasks.swap(a, b),
        1 => drop(plan.tasks.remove(a)),
        _ => {
            let copy = plan.tasks[a].clone();
            plan.tasks.insert(b, copy);
        }
    }
}

/// Changes one dimension or element type of one weight, state, binding or buffer.
fn change_type(family: &mut PlanFamily, c: &mut Choices<'_>) {
    let Some(plan) = family.plans.first_mut() else { return };
    let weights = family.weights.iter_mut().map(|w| &mut w.ty).chain(family.states.iter_mut().map(|s| &mut s.ty));
    let bound = plan.inputs.iter_mut().chain(&mut plan.outputs).map(|b| &mut b.ty);
    let mut all: Vec<&mut TensorType> =
        weights.chain(bound).chain(plan.buffers.iter_mut().map(|b| &mut b.ty)).collect();
    let at = c.below(all.len());
    let Some(ty) = all.get_mut(at) else { return };
    let rank = ty.shape.rank();
    let (which, axis) = (c.below(6), c.below(rank));
    match which {
        0 => ty.dtype = c.pick(DType::ALL).unwrap_or(ty.dtype),
        1 if rank > 1 => ty.shape.0.swap(axis, rank - 1),
        2 => ty.shape.0.insert(axis, Dim::Const(1)),
        3 if rank > 0 => drop(ty.shape.0.remove(axis)),
        4 if rank > 0 => ty.shape.0[axis] = c.pick(&Sym::ALL).map_or(Dim::Const(1), Dim::Sym),
        _ if rank > 0 => ty.shape.0[axis] = Dim::Const(c.size()),
        _ => ty.shape = Shape::consts(&[c.size()]),
    }
}

/// Changes one word or number of one body.
fn change_body(family: &mut PlanFamily, c: &mut Choices<'_>) {
    let (size, op, at) = (c.size(), c.pick(Op::ALL), c.byte());
    let Some(task) = task(family, c) else { return };
    rewrite(&mut task.body, |text| {
        let parts: Vec<&str> = text.split(' ').collect();
        let at = usize::from(at) % parts.len().max(1);
        let digits = |p: &str| p.chars().any(|c| c.is_ascii_digit()) && !p.contains('%');
        let changed = |(i, p): (usize, &&str)| match op {
            _ if i != at => (*p).to_owned(),
            _ if digits(p) => {
                let number: String = p.chars().filter(char::is_ascii_digit).collect();
                p.replace(&number, &size.to_string())
            }
            Some(op) if Op::from_mnemonic(p).is_some() => op.mnemonic().to_owned(),
            _ => (*p).to_owned(),
        };
        parts.iter().enumerate().map(changed).collect::<Vec<_>>().join(" ")
    });
}

fn change_bucket(family: &mut PlanFamily, c: &mut Choices<'_>) {
    let Some(plan) = family.plans.first_mut() else { return };
    let size = c.size() as u32;
    match c.below(3) {
        0 => plan.bucket.rows = size,
        1 => plan.bucket.seqs = size,
        _ => plan.bucket.outs = size,
    }
}

fn change_binding(family: &mut PlanFamily, c: &mut Choices<'_>) {
    let Some(plan) = family.plans.first_mut() else { return };
    let (len, which) = (plan.inputs.len(), c.below(3));
    let (a, b) = (c.below(len), c.below(len));
    match which {
        _ if len == 0 => {}
        0 => plan.inputs[a].optional = !plan.inputs[a].optional,
        1 => {
            let name = plan.inputs[a].name.clone();
            plan.inputs[a].name = std::mem::replace(&mut plan.inputs[b].name, name);
        }
        _ => plan.inputs.swap(a, b),
    }
}

fn change_buffer(family: &mut PlanFamily, c: &mut Choices<'_>) {
    let Some(plan) = family.plans.first_mut() else { return };
    let (at, which, size) = (c.below(plan.buffers.len()), c.below(3), c.size());
    match (which, plan.buffers.get_mut(at)) {
        (0, Some(b)) => b.offset = size.wrapping_mul(64),
        (1, Some(b)) => b.bytes = size,
        (_, Some(_)) => plan.arena_bytes = size,
        _ => {
            let ty = TensorType::f32(Shape::consts(&[c.size()]));
            plan.buffers.push(Buffer { ty, offset: 0, bytes: size });
        }
    }
}

/// Gives a task the kind and body of another.
fn share_body(family: &mut PlanFamily, c: &mut Choices<'_>) {
    let Some(other) = task(family, c).map(|t| (t.kind, Arc::clone(&t.body))) else { return };
    let Some(task) = task(family, c) else { return };
    (task.kind, task.body) = other;
}

/// Sets sizes and offsets of buffers the way the compiler would, one after the other.
fn repair(family: &mut PlanFamily) {
    for plan in &mut family.plans {
        let bounds = plan.bucket.bounds();
        let mut end = 0u64;
        for buffer in &mut plan.buffers {
            buffer.bytes = buffer.ty.bytes(&bounds).unwrap_or(0);
            buffer.offset = end;
            end = end.saturating_add(buffer.bytes).checked_next_multiple_of(64).unwrap_or(end);
        }
        plan.arena_bytes = end;
    }
    family.arena_bytes = family.plans.iter().map(|p| p.arena_bytes).max().unwrap_or(0);
}

fn run(family: &PlanFamily, device: &dyn Device, bytes: &[u8]) -> Fate {
    match step(family, device, bytes) {
        Ok(()) => Fate::Ran,
        Err(_) => Fate::DeviceRefused,
    }
}
