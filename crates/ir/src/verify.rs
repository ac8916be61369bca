//! The verifier: the rules that every graph must satisfy, and the token that proves it.
//!
//! | code | rule |
//! |---|---|
//! | V001 | every id names an existing value |
//! | V002 | an operand is older than the node that uses it |
//! | V003 | a node has its op's operands and results; only optional ones are absent |
//! | V004 | a node has its op's attributes, each of its kind |
//! | V005 | result types are those of the shape rule |
//! | V006 | operands and attributes satisfy the shape rule |
//! | V007 | names of inputs, weights and states are unique and not empty |
//! | V008 | a final names a state, and each state at most once |
//! | V009 | a final has its state's type |
//! | V010 | a state is not used after a node has replaced it, nor named by an output or a final |
//! | V011 | an optional input is used only where the operand is optional, and is neither an output nor a final |
//! | V012 | output names are unique, not empty and not a state's, since a final goes by its state's name; a graph has an output or a final |
//! | V013 | sizes fit in 64 bits, with empty dimensions counted as 1, and rows of quantised types are whole blocks (none of a row of 0) |
//! | V014 | a replaced state's last value is that state's final (an update that is not kept is a mistake) |
//! | V015 | `slots` is only the outermost dimension of a state and its updates, which only the operand that an op replaces may be |
//!
//! Not checked: that indices are in range at run time (the engine's duty), and that symbols are bound. All errors are
//! collected. Passes and back ends take [`Verified`], so they never receive an unchecked graph.

use crate::graph::{Def, Graph, Node, check_attrs, check_operands};
use crate::ids::{NodeId, ValueId};
use crate::shape::{Dims, Sym};
use crate::text::print_node;
use std::collections::{HashMap, HashSet};
use std::fmt;

/// The subject of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entity {
    /// The graph as a whole.
    Graph,
    /// A value.
    Value(ValueId),
    /// A node.
    Node(NodeId),
    /// An output, by index.
    Output(usize),
    /// A final, by index.
    Final(usize),
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyError {
    /// The rule's code; see the module docs.
    pub code: &'static str,
    /// The subject.
    pub entity: Entity,
    /// How the rule is broken.
    pub message: String,
    /// The printed line of the node, if the subject is one.
    pub line: String,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        if !self.line.is_empty() {
            write!(f, "\n    in {}", self.line)?;
        }
        Ok(())
    }
}

/// All rules that a graph breaks. Never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyErrors(pub Vec<VerifyError>);

impl fmt::Display for VerifyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            write!(f, "{}{e}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for VerifyErrors {}

/// A graph that satisfies every rule.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'g>(&'g Graph);

impl<'g> Verified<'g> {
    /// The graph.
    pub fn graph(self) -> &'g Graph {
        self.0
    }
}

/// Checks all rules listed in the module docs.
pub fn verify(graph: &Graph) -> Result<Verified<'_>, VerifyErrors> {
    let mut v = Verifier { graph, errors: Vec::new() };
    v.ids();
    // Later rules index the tables, so they run only if all ids are valid.
    if v.errors.is_empty() {
        v.names();
        v.sizes();
        v.nodes();
        v.finals();
        v.states();
        v.optional_inputs();
        v.slots();
    }
    if v.errors.is_empty() { Ok(Verified(graph)) } else { Err(VerifyErrors(v.errors)) }
}

struct Verifier<'g> {
    graph: &'g Graph,
    errors: Vec<VerifyError>,
}

impl Verifier<'_> {
    fn error(&mut self, code: &'static str, entity: Entity, message: String) {
        let line = match entity {
            Entity::Node(n) if code != "V001" => print_node(self.graph, n),
            _ => String::new(),
        };
        self.errors.push(VerifyError { code, entity, message, line });
    }

    fn ids(&mut self) {
        let count = self.graph.values.len();
        for (id, node) in self.graph.nodes() {
            self.node_ids(id, node, count);
        }
        let outputs = self.graph.outputs.iter().enumerate().map(|(i, o)| (Entity::Output(i), o.value));
        let finals = self.graph.finals.iter().enumerate();
        let finals = finals.flat_map(|(i, f)| [(Entity::Final(i), f.state), (Entity::Final(i), f.value)]);
        let bad: Vec<_> = outputs.chain(finals).filter(|(_, v)| v.index() >= count).collect();
        for (entity, value) in bad {
            self.error("V001", entity, format!("{value} does not exist"));
        }
    }

    fn node_ids(&mut self, id: NodeId, node: &Node, count: usize) {
        let first = node.results.first().map_or(0, |r| r.index());
        for value in node.used() {
            if value.index() >= count {
                self.error("V001", Entity::Node(id), format!("{value} does not exist"));
            } else if value.index() >= first {
                self.error("V002", Entity::Node(id), format!("{value} is used before it is defined"));
            }
        }
        for (i, result) in node.results.iter().enumerate() {
            let def = Def::Node { node: id, result: i as u32 };
            if self.graph.values.get(result.index()).is_none_or(|v| v.def != def) {
                self.error("V001", Entity::Node(id), format!("{result} is not result {i} of {id}"));
            }
        }
    }

    fn names(&mut self) {
        let mut seen = HashSet::new();
        for (id, value) in self.graph.values() {
            let declared = !matches!(value.def, Def::Node { .. });
            if declared && (value.name.is_empty() || !seen.insert(&value.name)) {
                self.error("V007", Entity::Value(id), format!("the name \"{}\" is empty or taken", value.name));
            }
        }
        let mut seen = HashSet::new();
        for (i, output) in self.graph.outputs.iter().enumerate() {
            if output.name.is_empty() || !seen.insert(&output.name) {
                self.error("V012", Entity::Output(i), format!("output \"{}\" is empty or taken", output.name));
            }
        }
        let states: HashSet<_> =
            self.graph.values().filter(|(_, v)| v.def == Def::State).map(|(_, v)| &v.name).collect();
        for (i, output) in self.graph.outputs.iter().enumerate().filter(|(_, o)| states.contains(&o.name)) {
            self.error("V012", Entity::Output(i), format!("output \"{}\" has the name of a state", output.name));
        }
        if self.graph.roots().next().is_none() {
            self.error("V012", Entity::Graph, "no output and no final state".to_owned());
        }
    }

    fn sizes(&mut self) {
        // A step with the largest 32-bit counts would overflow everything; up to 2^20 of each is guaranteed to work.
        let large = Dims {
            rows: 1 << 20,
            seqs: 1 << 10,
            pages: 1 << 20,
            stride: 1 << 20,
            outs: 1 << 20,
            recent: 1 << 20,
            slots: 1 << 20,
        };
        for (id, value) in self.graph.values() {
            let ty = &value.ty;
            let open_row = ty.dtype.is_quantized() && ty.shape.last().known().is_none();
            // An empty dimension counts as 1, because parts of the shape are multiplied separately.
            if open_row || ty.bytes(&large).is_none() || ty.bytes_of_full(&large).is_none() {
                self.error("V013", Entity::Value(id), format!("{} is not a possible size", value.ty));
            }
        }
    }

    fn nodes(&mut self) {
        for (id, node) in self.graph.nodes() {
            self.node(id, node);
        }
    }

    fn node(&mut self, id: NodeId, node: &Node) {
        if let Err(e) = check_operands(node.op, &node.inputs) {
            return self.error("V003", Entity::Node(id), e.to_string());
        }
        if let Err(e) = check_attrs(node.op, &node.attrs) {
            return self.error("V004", Entity::Node(id), e.to_string());
        }
        match self.graph.infer(node.op, &node.inputs, &node.attrs) {
            Err(e) => self.error("V006", Entity::Node(id), e.to_string()),
            Ok(types) => {
                let stated: Vec<_> = node.results.iter().map(|&r| self.graph.ty(r)).collect();
                if !stated.iter().copied().eq(types.iter()) {
                    self.error("V005", Entity::Node(id), format!("result types are {types:?}, not {stated:?}"));
                }
            }
        }
    }

    fn finals(&mut self) {
        let mut seen = HashSet::new();
        for (i, f) in self.graph.finals.iter().enumerate() {
            let state = self.graph.value(f.state);
            if state.def != Def::State || !seen.insert(f.state) {
                self.error("V008", Entity::Final(i), format!("{} is not a state, or already has a final", f.state));
            } else if state.ty != *self.graph.ty(f.value) {
                let message = format!("{} is {}, its final {}", f.state, state.ty, self.graph.ty(f.value));
                self.error("V009", Entity::Final(i), message);
            }
        }
    }

    fn states(&mut self) {
        let mut replaced: HashMap<ValueId, NodeId> = HashMap::new();
        // The declaration that each version of a state derives from.
        let mut roots: HashMap<ValueId, ValueId> = HashMap::new();
        let mut updates = Vec::new();
        for (id, node) in self.graph.nodes() {
            let updated = node.op.spec().updates.and_then(|i| node.optional(i));
            for value in node.used() {
                if let Some(by) = replaced.get(&value) {
                    self.error("V010", Entity::Node(id), format!("{value} was replaced by {by}"));
                }
            }
            if let Some((operand, &result)) = updated.zip(node.results.first()) {
                if node.used().filter(|&v| v == operand).count() > 1 {
                    self.error("V010", Entity::Node(id), format!("{operand} is used beside being replaced"));
                }
                replaced.insert(operand, id);
                roots.insert(result, roots.get(&operand).copied().unwrap_or(operand));
                updates.push((id, result));
            }
        }
        self.replaced_roots(&replaced);
        let kept: HashMap<_, _> = self.graph.finals.iter().map(|f| (f.value, f.state)).collect();
        for (id, result) in updates.into_iter().filter(|(_, result)| !replaced.contains_key(result)) {
            let root = roots[&result];
            let of_state = self.graph.value(root).def == Def::State;
            if kept.get(&result).is_none_or(|&state| of_state && state != root) {
                self.error("V014", Entity::Node(id), format!("{result} is not a final of {root}, which it updates"));
            }
        }
    }

    /// Outputs and finals are read after all nodes.
    fn replaced_roots(&mut self, replaced: &HashMap<ValueId, NodeId>) {
        let outputs = self.graph.outputs.iter().enumerate().map(|(i, o)| (Entity::Output(i), o.value));
        let finals = self.graph.finals.iter().enumerate().map(|(i, f)| (Entity::Final(i), f.value));
        for (entity, value) in outputs.chain(finals) {
            if let Some(by) = replaced.get(&value) {
                self.error("V010", entity, format!("{value} was replaced by {by}"));
            }
        }
    }

    /// Only ops that know slots may use a state of slots: no other op can tell which sequence a slot belongs to.
    fn slots(&mut self) {
        let graph = self.graph;
        let has_slots = |id: ValueId| graph.ty(id).shape.dims().contains(&Sym::Slots.into());
        for (id, value) in graph.values().filter(|&(id, _)| has_slots(id)) {
            let version = match value.def {
                Def::State => true,
                Def::Node { node, result } => result == 0 && graph.node(node).op.spec().updates.is_some(),
                _ => false,
            };
            let inner = value.ty.shape.dims()[1..].contains(&Sym::Slots.into());
            if !version || inner {
                self.error("V015", Entity::Value(id), format!("{id} : {} is not a state by slots", value.ty));
            }
        }
        for (id, node) in graph.nodes() {
            let replaced = node.op.spec().updates;
            let strays = node.inputs.iter().enumerate().filter(|&(i, _)| Some(i) != replaced);
            if let Some(value) = strays.filter_map(|(_, v)| *v).find(|&v| has_slots(v)) {
                self.error(
                    "V015",
                    Entity::Node(id),
                    format!("{value} is a state by slots, which this op does not take"),
                );
            }
        }
        for (i, output) in graph.outputs.iter().enumerate().filter(|(_, o)| has_slots(o.value)) {
            self.error("V015", Entity::Output(i), format!("{} is a state by slots", output.value));
        }
        let declared = |id: ValueId| graph.value(id).def == Def::State;
        let copies = graph.finals.iter().enumerate().filter(|(_, f)| has_slots(f.value) && declared(f.value));
        for (i, f) in copies.filter(|(_, f)| f.value != f.state) {
            self.error("V015", Entity::Final(i), format!("{} is another state by slots", f.value));
        }
    }

    fn optional_inputs(&mut self) {
        let is_optional = |id: ValueId| self.graph.value(id).def == Def::Input { optional: true };
        let mut bad = Vec::new();
        for (id, node) in self.graph.nodes() {
            for (operand, value) in node.op.spec().operands.iter().zip(&node.inputs) {
                if let Some(v) = value.filter(|&v| is_optional(v) && !operand.optional) {
                    bad.push((Entity::Node(id), format!("{v} may be unbound, but `{}` is required", operand.name)));
                }
            }
        }
        for (i, output) in self.graph.outputs.iter().enumerate().filter(|(_, o)| is_optional(o.value)) {
            bad.push((Entity::Output(i), format!("{} may be unbound", output.value)));
        }
        for (i, f) in self.graph.finals.iter().enumerate().filter(|(_, f)| is_optional(f.value)) {
            bad.push((Entity::Final(i), format!("{} may be unbound", f.value)));
        }
        for (entity, message) in bad {
            self.error("V011", entity, message);
        }
    }
}

#[cfg(test)]
mod tests;
