//! From ordered clusters to a plan: bodies, slots, buffers, costs.

use crate::CompileError;
use crate::fuse::{Cluster, is_view};
use crate::memory::{Lifetime, pack};
use aio_ir::{Builder, Cost, Def, Graph, Load, Op, ValueId};
use aio_plan::{
    Binding, Bucket, Buffer, BufferId, InputId, Layout, OutputId, Plan, Slot, StateDesc, StateId, Target, Task,
    WeightDesc, WeightId,
};
use std::collections::HashMap;
use std::sync::Arc;

/// Weights and states that the plans of a family share, in order of first use.
#[derive(Default)]
pub(crate) struct Shared {
    pub weights: Vec<WeightDesc>,
    pub states: Vec<StateDesc>,
}

impl Shared {
    fn weight(&mut self, desc: WeightDesc) -> WeightId {
        let found = self.weights.iter().position(|w| *w == desc);
        WeightId::new(found.unwrap_or_else(|| {
            self.weights.push(desc);
            self.weights.len() - 1
        }))
    }

    fn state(&mut self, desc: StateDesc) -> StateId {
        let found = self.states.iter().position(|s| *s == desc);
        StateId::new(found.unwrap_or_else(|| {
            self.states.push(desc);
            self.states.len() - 1
        }))
    }
}

/// The plan of a bucket.
///
/// # Errors
/// [`CompileError::TrivialOutput`], [`CompileError::StrayFinal`] and [`CompileError::TooLarge`].
pub(crate) fn emit(
    graph: &Graph,
    clusters: &[Cluster],
    bucket: Bucket,
    target: &Target,
    shared: &mut Shared,
) -> Result<Plan, CompileError> {
    let mut e =
        Emitter { graph, target, shared, bucket, slots: HashMap::new(), buffers: Vec::new(), lives: Vec::new() };
    let inputs = e.inputs();
    let outputs = e.outputs(clusters)?;
    e.finals()?;
    let tasks: Vec<Task> =
        clusters.iter().enumerate().map(|(i, c)| e.task(i, c)).collect::<Result<_, CompileError>>()?;
    let map = pack(&e.lives, target.alignment);
    for (buffer, &offset) in e.buffers.iter_mut().zip(&map.offsets) {
        buffer.offset = offset;
    }
    let buffers = e.buffers;
    Ok(Plan { bucket, inputs, outputs, buffers, tasks, arena_bytes: map.bytes, arena_lower_bound: map.lower_bound })
}

struct Emitter<'a> {
    graph: &'a Graph,
    target: &'a Target,
    shared: &'a mut Shared,
    bucket: Bucket,
    slots: HashMap<ValueId, Slot>,
    buffers: Vec<Buffer>,
    lives: Vec<Lifetime>,
}

impl Emitter<'_> {
    fn inputs(&mut self) -> Vec<Binding> {
        let mut inputs = Vec::new();
        for (id, value) in self.graph.values() {
            if let Def::Input { optional } = value.def {
                self.slots.insert(id, Slot::Input(InputId::new(inputs.len())));
                inputs.push(Binding { name: value.name.clone(), ty: value.ty.clone(), optional });
            }
        }
        inputs
    }

    fn outputs(&mut self, clusters: &[Cluster]) -> Result<Vec<Binding>, CompileError> {
        let mut outputs = Vec::new();
        for output in &self.graph.outputs {
            let value = self.storage(output.value);
            let computed = clusters.iter().any(|c| c.results.contains(&value));
            let slot = Slot::Output(OutputId::new(outputs.len()));
            if !computed || self.slots.insert(value, slot).is_some() {
                return Err(CompileError::TrivialOutput(output.name.clone()));
            }
            let ty = self.graph.ty(output.value).clone();
            outputs.push(Binding { name: output.name.clone(), ty, optional: false });
        }
        Ok(outputs)
    }

    fn finals(&self) -> Result<(), CompileError> {
        let stray = self.graph.finals.iter().find(|f| self.state_root(f.value) != Some(f.state));
        match stray {
            Some(f) => Err(CompileError::StrayFinal(self.graph.value(f.state).name.clone())),
            None => Ok(()),
        }
    }

    /// The value whose bytes a value shares.
    fn storage(&self, mut value: ValueId) -> ValueId {
        while let Some((_, node)) = self.graph.def_node(value).filter(|(_, n)| is_view(self.graph, n)) {
            value = node.input(0);
        }
        value
    }

    /// The state that a value is a version of.
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

    fn task(&mut self, index: usize, cluster: &Cluster) -> Result<Task, CompileError> {
        let operands = cluster.operands.iter().enumerate();
        let operands = operands.map(|(place, &v)| self.operand(index, cluster, place, v)).collect();
        let results = cluster.results.iter().map(|&v| self.result(index, v)).collect::<Result<_, _>>()?;
        let body = Arc::new(body(self.graph, cluster));
        let cost = self.cost(cluster, 0);
        let cost_per_position = self.cost(cluster, 1) - cost;
        Ok(Task { kind: cluster.kind, body, operands, results, cost, cost_per_position })
    }

    fn operand(&mut self, index: usize, cluster: &Cluster, place: usize, value: Option<ValueId>) -> Slot {
        let Some(named) = value else { return Slot::Absent };
        let value = self.storage(named);
        if let Some(root) = self.state_root(value) {
            return self.state(root);
        }
        let v = self.graph.value(value);
        if v.def == Def::Weight {
            let matrix = value == named && cluster.kind.name().is_matrix(place);
            let layout = if matrix { self.layout(cluster, value) } else { Layout::Plain };
            return Slot::Weight(self.shared.weight(WeightDesc { name: v.name.clone(), ty: v.ty.clone(), layout }));
        }
        let slot = *self.slots.get(&value).expect("schedule: operands come first");
        if let Slot::Buffer(b) = slot {
            self.lives[b.index()].last = index;
        }
        slot
    }

    fn state(&mut self, root: ValueId) -> Slot {
        let v = self.graph.value(root);
        Slot::State(self.shared.state(StateDesc { name: v.name.clone(), ty: v.ty.clone() }))
    }

    /// Matrices lie as the kind's kernels like them best. Other weights, and views of any, lie as in the file.
    fn layout(&self, cluster: &Cluster, value: ValueId) -> Layout {
        let matrix = self.graph.ty(value).shape.rank() == 2;
        let support = self.target.support(cluster.kind.name()).filter(|_| matrix);
        support.and_then(|s| s.layouts.first().copied()).unwrap_or(Layout::Plain)
    }

    fn result(&mut self, index: usize, value: ValueId) -> Result<Slot, CompileError> {
        if let Some(root) = self.state_root(value) {
            return Ok(self.state(root));
        }
        if let Some(&slot) = self.slots.get(&value) {
            return Ok(slot);
        }
        let ty = self.graph.ty(value).clone();
        let bytes = ty.bytes(&self.bucket.bounds());
        let bytes = bytes.filter(|&b| b <= isize::MAX as u64);
        let bytes = bytes.ok_or_else(|| CompileError::TooLarge {
            bucket: self.bucket.to_string(),
            what: format!("{value} : {ty}"),
        })?;
        let slot = Slot::Buffer(BufferId::new(self.buffers.len()));
        self.buffers.push(Buffer { ty, offset: 0, bytes });
        self.lives.push(Lifetime { first: index, last: index, bytes });
        self.slots.insert(value, slot);
        Ok(slot)
    }

    /// The nodes' cost less what never leaves the task, for rows that attend to `context` positions.
    fn cost(&self, cluster: &Cluster, context: u32) -> Cost {
        let load = Load { dims: self.bucket.bounds(), context };
        let mut cost: Cost = cluster.nodes.iter().map(|&n| self.graph.cost(self.graph.node(n), load)).sum();
        let bytes = |v: ValueId| self.graph.ty(v).bytes(&load.dims).unwrap_or(0);
        let nodes = || cluster.nodes.iter().map(|&n| self.graph.node(n));
        let moves = |n: &&aio_ir::Node| n.op != Op::Reshape;
        let inside = |v: ValueId| self.graph.def_node(v).is_some_and(|(id, _)| cluster.nodes.contains(&id));
        for node in nodes().filter(moves) {
            let kept = node.used().filter(|&v| inside(v)).map(bytes).sum::<u64>();
            cost.bytes_read = cost.bytes_read.saturating_sub(kept);
            let hidden = node.results.iter().filter(|r| !cluster.results.contains(r)).map(|&r| bytes(r)).sum();
            cost.bytes_written = cost.bytes_written.saturating_sub(hidden);
        }
        cost
    }
}

/// The sub-graph of a cluster: one declaration for each operand that is present, in order.
fn body(graph: &Graph, cluster: &Cluster) -> Graph {
    let mut b = Builder::new(cluster_name(cluster));
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    let mut states: HashMap<ValueId, ValueId> = HashMap::new();
    for (i, &value) in cluster.operands.iter().enumerate() {
        let Some(value) = value else { continue };
        let v = graph.value(value);
        let replaced = cluster.nodes.iter().any(|&n| {
            let node = graph.node(n);
            node.op.spec().updates.is_some_and(|operand| node.input(operand) == value)
        });
        let def = match v.def {
            _ if replaced => Def::State,
            Def::Node { .. } | Def::State => Def::Input { optional: false },
            def => def,
        };
        let new = b.declare(def, &format!("a{i}"), v.ty.clone());
        map.insert(value, new);
        if replaced {
            states.insert(value, new);
        }
    }
    for &id in &cluster.nodes {
        let node = graph.node(id);
        let inputs: Vec<_> = node.inputs.iter().map(|v| v.map(|v| map[&v])).collect();
        let new = b.apply_filled(node.op, &inputs, &node.attrs).expect("a sub-graph of a verified graph");
        let results = b.graph().node(new).results.clone();
        map.extend(node.results.iter().copied().zip(results));
        if let Some(operand) = node.op.spec().updates {
            let state = states.remove(&node.input(operand)).expect("a replaced state is an operand");
            states.insert(node.results[0], state);
        }
    }
    for (i, &value) in cluster.results.iter().enumerate() {
        match states.get(&value) {
            Some(&state) => b.final_state(state, map[&value]),
            None => b.output(&format!("r{i}"), map[&value]),
        }
    }
    b.finish()
}

fn cluster_name(cluster: &Cluster) -> &'static str {
    cluster.kind.name().name()
}
