//! Storage for the values of a plan: locations, buffers, and the copies needed. Used by `emit` and `copies`.

use crate::CompileError;
use crate::fuse::{Cluster, is_view};
use crate::memory::Lifetime;
use aio_ir::{Def, Final, Graph, Op, TensorType, ValueId};
use aio_plan::{
    Binding, Bucket, Buffer, BufferId, InputId, Layout, Loc, OutputId, StateDesc, StateId, Target, Task, WeightDesc,
    WeightId,
};
use indexmap::IndexSet;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Weights and states shared by the plans of a family, in order of first use.
#[derive(Default)]
pub(crate) struct Shared {
    weights: IndexSet<WeightDesc>,
    states: IndexSet<StateDesc>,
}

impl Shared {
    /// The weights and states, by id.
    pub(crate) fn finish(self) -> (Vec<WeightDesc>, Vec<StateDesc>) {
        (self.weights.into_iter().collect(), self.states.into_iter().collect())
    }

    fn weight(&mut self, desc: WeightDesc) -> WeightId {
        WeightId::new(self.weights.insert_full(desc).0)
    }

    fn state(&mut self, desc: StateDesc) -> StateId {
        StateId::new(self.states.insert_full(desc).0)
    }
}

/// A value that must be copied to another location.
pub(crate) struct Copy {
    /// The value to copy.
    pub from: ValueId,
    /// The type at the destination.
    pub ty: TensorType,
    /// The destination.
    pub to: Loc,
    /// Name of the output or state, for messages.
    pub name: String,
}

/// A plan under construction.
pub(crate) struct Emitter<'a> {
    pub graph: &'a Graph,
    pub target: &'a Target,
    shared: &'a mut Shared,
    pub bucket: Bucket,
    locs: HashMap<ValueId, Loc>,
    buffers: Vec<Buffer>,
    lives: Vec<Lifetime>,
}

impl<'a> Emitter<'a> {
    pub(crate) fn new(graph: &'a Graph, target: &'a Target, shared: &'a mut Shared, bucket: Bucket) -> Emitter<'a> {
        Emitter { graph, target, shared, bucket, locs: HashMap::new(), buffers: Vec::new(), lives: Vec::new() }
    }

    /// The buffers, still without offsets, and their lifetimes.
    pub(crate) fn into_buffers(self) -> (Vec<Buffer>, Vec<Lifetime>) {
        (self.buffers, self.lives)
    }

    pub(crate) fn inputs(&mut self) -> Vec<Binding> {
        let mut inputs = Vec::new();
        for (id, value) in self.graph.values() {
            if let Def::Input { optional } = value.def {
                self.locs.insert(id, Loc::Input(InputId::new(inputs.len())));
                inputs.push(Binding { name: value.name.clone(), ty: value.ty.clone(), optional });
            }
        }
        inputs
    }

    /// Checks that values updated in place or read by pages are states, since only states have fixed storage.
    pub(crate) fn states(&self, clusters: &[Cluster]) -> Result<(), CompileError> {
        for node in clusters.iter().flat_map(|c| &c.nodes).map(|&n| self.graph.node(n)) {
            let pages = (node.op == Op::Attend).then_some(1);
            let Some(operand) = node.op.spec().updates.or(pages) else { continue };
            if self.state_root(node.input(operand)).is_none() {
                let (target, op) = (self.target.name.clone(), node.op.mnemonic());
                let reason = format!("`{}` is not a state", node.op.spec().operands[operand].name);
                return Err(CompileError::Unsupported { target, op, reason });
            }
        }
        Ok(())
    }

    /// The outputs, and copies for those that no task writes. A value is written directly to the first output that has
    /// it.
    pub(crate) fn outputs(&mut self, clusters: &[Cluster]) -> (Vec<Binding>, Vec<Copy>) {
        let computed: HashSet<ValueId> = clusters.iter().flat_map(|c| c.results.iter().copied()).collect();
        let (mut outputs, mut copies) = (Vec::new(), Vec::new());
        for output in &self.graph.outputs {
            let from = self.storage(output.value);
            let to = Loc::Output(OutputId::new(outputs.len()));
            let (name, ty) = (output.name.clone(), self.graph.ty(output.value).clone());
            if computed.contains(&from) && self.state_root(from).is_none() && !self.locs.contains_key(&from) {
                self.locs.insert(from, to);
            } else {
                copies.push(Copy { from, ty: ty.clone(), to, name: name.clone() });
            }
            outputs.push(Binding { name, ty, optional: false });
        }
        (outputs, copies)
    }

    /// Copies for the finals that are not in-place updates of their state.
    pub(crate) fn finals(&mut self) -> Vec<Copy> {
        let graph = self.graph;
        let strays = graph.finals.iter().filter(|f| self.state_root(f.value) != Some(f.state)).collect::<Vec<_>>();
        let copy = |f: &Final| Copy {
            from: self.storage(f.value),
            ty: graph.ty(f.state).clone(),
            to: self.state(f.state),
            name: graph.value(f.state).name.clone(),
        };
        strays.into_iter().map(copy).collect()
    }

    /// The value whose storage a value shares.
    fn storage(&self, mut value: ValueId) -> ValueId {
        while let Some((_, node)) = self.graph.def_node(value).filter(|(_, n)| is_view(self.graph, n)) {
            value = node.input(0);
        }
        value
    }

    /// The state that a value is a version of, if any.
    fn state_root(&self, mut value: ValueId) -> Option<ValueId> {
        loop {
            match self.graph.value(value).def {
                Def::State => return Some(value),
                Def::Node { node, result: 0 } => {
                    let node = self.graph.node(node);
                    value = node.input(node.op.spec().updates?);
                }
                _ => return None,
            }
        }
    }

    pub(crate) fn task(&mut self, index: usize, cluster: &Cluster) -> Result<Task, CompileError> {
        let operands = cluster.operands.iter().enumerate();
        let operands = operands.map(|(place, &v)| self.operand(index, cluster, place, v)).collect();
        let results = cluster.results.iter().map(|&v| self.result(index, v)).collect::<Result<_, _>>()?;
        let body = cluster.body(self.graph).expect("`fuse` took sound clusters of a verified graph");
        Ok(Task::new(cluster.kind, Arc::new(body), operands, results, self.bucket))
    }

    fn operand(&mut self, index: usize, cluster: &Cluster, place: usize, value: Option<ValueId>) -> Loc {
        let Some(named) = value else { return Loc::Absent };
        let value = self.storage(named);
        let matrix = value == named && cluster.kind.name().is_matrix(place);
        let layout = if matrix { self.layout(cluster, value) } else { Layout::Plain };
        let loc = self.loc(value, layout);
        self.read(loc, index);
        loc
    }

    /// The location of a value that is not a view. `layout` applies to weights.
    pub(crate) fn loc(&mut self, value: ValueId, layout: Layout) -> Loc {
        if let Some(root) = self.state_root(value) {
            return self.state(root);
        }
        let v = self.graph.value(value);
        match v.def {
            Def::Weight => {
                Loc::Weight(self.shared.weight(WeightDesc { name: v.name.clone(), ty: v.ty.clone(), layout }))
            }
            _ => *self.locs.get(&value).expect("schedule: operands come first"),
        }
    }

    /// Extends the lifetime of a location's buffer to task `index`, which reads it.
    pub(crate) fn read(&mut self, loc: Loc, index: usize) {
        if let Loc::Buffer(b) = loc {
            self.lives[b.index()].last = index;
        }
    }

    fn state(&mut self, root: ValueId) -> Loc {
        let v = self.graph.value(root);
        Loc::State(self.shared.state(StateDesc { name: v.name.clone(), ty: v.ty.clone() }))
    }

    /// The layout of a weight. Matrices, those of experts too, take the kind's preferred layout. Other weights, views, and matrices without
    /// elements keep the file's.
    fn layout(&self, cluster: &Cluster, value: ValueId) -> Layout {
        let shape = &self.graph.ty(value).shape;
        let matrix = (2..=3).contains(&shape.rank()) && !shape.is_empty();
        let support = self.target.support(cluster.kind.name()).filter(|_| matrix);
        support.and_then(|s| s.layouts.first().copied()).unwrap_or(Layout::Plain)
    }

    fn result(&mut self, index: usize, value: ValueId) -> Result<Loc, CompileError> {
        if let Some(root) = self.state_root(value) {
            return Ok(self.state(root));
        }
        if let Some(&loc) = self.locs.get(&value) {
            return Ok(loc);
        }
        let loc = self.buffer(self.graph.ty(value), index, &value.to_string())?;
        self.locs.insert(value, loc);
        Ok(loc)
    }

    /// Adds a buffer that task `index` writes.
    pub(crate) fn buffer(&mut self, ty: &TensorType, index: usize, name: &str) -> Result<Loc, CompileError> {
        let bytes = ty.bytes(&self.bucket.bounds()).filter(|&b| b <= isize::MAX as u64);
        let bytes = bytes.ok_or_else(|| CompileError::TooLarge {
            bucket: self.bucket.to_string(),
            what: format!("{name} : {ty}"),
        })?;
        let loc = Loc::Buffer(BufferId::new(self.buffers.len()));
        self.buffers.push(Buffer { ty: ty.clone(), offset: 0, bytes });
        self.lives.push(Lifetime { first: index, last: index, bytes });
        Ok(loc)
    }

    /// The type of a buffer.
    pub(crate) fn buffer_type(&self, loc: Loc) -> &TensorType {
        match loc {
            Loc::Buffer(b) => &self.buffers[b.index()].ty,
            other => unreachable!("{other} is no buffer"),
        }
    }
}
