//! Canonical form: collapses chains of reshapes and drops what no output needs.
//!
//! Reachability is computed with petgraph over the reversed dataflow graph.

use aio_ir::{Attr, Builder, Def, Graph, Node, Op, ValueId};
use petgraph::visit::{Reversed, Walker};
use std::collections::HashSet;

/// The canonical form of a verified graph. Keeps names and the order of what remains.
pub(crate) fn simplify(graph: &Graph) -> Graph {
    let live = live_nodes(graph);
    let mut rebuild = Rebuild { old: graph, new: Builder::new(&graph.name), map: vec![None; graph.values().len()] };
    let used = used_declarations(graph, &live);
    for (id, value) in graph.values() {
        match value.def {
            Def::Node { node, result: 0 } if live.contains(&node.index()) => rebuild.node(graph.node(node)),
            Def::Node { .. } => {}
            def if used.contains(&id) => {
                rebuild.map[id.index()] = Some(rebuild.new.declare(def, &value.name, value.ty.clone()));
            }
            _ => {}
        }
    }
    for output in &graph.outputs {
        let value = rebuild.mapped(output.value);
        rebuild.new.output(&output.name, value);
    }
    for f in &graph.finals {
        let (state, value) = (rebuild.mapped(f.state), rebuild.mapped(f.value));
        rebuild.new.final_state(state, value);
    }
    drop_bypassed(rebuild.new.finish())
}

/// Nodes that a root depends on.
fn live_nodes(graph: &Graph) -> HashSet<usize> {
    let flow = graph.dataflow();
    let mut live = HashSet::new();
    for (root, _) in graph.roots().filter_map(|v| graph.def_node(v)) {
        let start = (root.index() as u32).into();
        let back = petgraph::visit::Dfs::new(Reversed(&flow), start);
        live.extend(back.iter(Reversed(&flow)).map(|n| n.index()));
    }
    live
}

/// Inputs, weights and states used by a live node, an output or a final.
fn used_declarations(graph: &Graph, live: &HashSet<usize>) -> HashSet<ValueId> {
    let of_nodes = graph.nodes().filter(|(id, _)| live.contains(&id.index())).flat_map(|(_, n)| n.used());
    let of_finals = graph.finals.iter().map(|f| f.state);
    of_nodes.chain(of_finals).chain(graph.roots()).collect()
}

/// Removes the heads of reshape chains that collapsing has left unused.
fn drop_bypassed(graph: Graph) -> Graph {
    let live = live_nodes(&graph);
    if live.len() == graph.nodes().len() { graph } else { simplify(&graph) }
}

struct Rebuild<'g> {
    old: &'g Graph,
    new: Builder,
    map: Vec<Option<ValueId>>,
}

impl Rebuild<'_> {
    fn mapped(&self, old: ValueId) -> ValueId {
        self.map[old.index()].expect("operands are older than their users and live")
    }

    fn node(&mut self, node: &Node) {
        if node.op == Op::Reshape {
            return self.reshape(node);
        }
        let inputs: Vec<_> = node.inputs.iter().map(|i| i.map(|v| self.mapped(v))).collect();
        let id = self.new.apply_filled(node.op, &inputs, &node.attrs).expect("the graph was verified");
        let results = self.new.graph().node(id).results.clone();
        for (&old, &new) in node.results.iter().zip(&results) {
            self.map[old.index()] = Some(new);
        }
    }

    fn reshape(&mut self, node: &Node) {
        let mut source = self.mapped(node.input(0));
        while let Some((_, inner)) = self.new.graph().def_node(source).filter(|(_, n)| n.op == Op::Reshape) {
            source = inner.input(0);
        }
        let shape = self.old.ty(node.results[0]).shape.clone();
        let result = if self.new.graph().ty(source).shape == shape {
            source
        } else {
            self.new.op(Op::Reshape, &[source], &[("shape", Attr::Shape(shape))]).expect("the graph was verified")
        };
        self.map[node.results[0].index()] = Some(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aio_ir::{Shape, TensorType};

    #[test]
    fn reshape_chains_collapse_and_dead_nodes_go() {
        let mut b = Builder::new("t");
        let x = b.input("x", TensorType::f32(Shape::consts(&[2, 6])));
        b.input("unused", TensorType::f32(Shape::consts(&[1])));
        let shape = |dims: &[u64]| [("shape", Attr::Shape(Shape::consts(dims)))];
        let y = b.op(Op::Reshape, &[x], &shape(&[12])).unwrap();
        let z = b.op(Op::Reshape, &[y], &shape(&[3, 4])).unwrap();
        let back = b.op(Op::Reshape, &[z], &shape(&[2, 6])).unwrap();
        b.op(Op::Exp, &[z], &[]).unwrap();
        let out = b.op(Op::Neg, &[back], &[]).unwrap();
        b.output("y", out);
        let simple = simplify(&b.finish());
        assert_eq!(simple.nodes().len(), 1, "{}", aio_ir::text::print(&simple));
        assert_eq!(simple.values().len(), 2);
        assert_eq!(simplify(&simple), simple);
    }
}
