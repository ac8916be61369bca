//! Graphviz pictures of graphs, coloured by op group.

use crate::graph::{Def, Graph};
use crate::op::Group;
use petgraph::dot::{Config, Dot};

/// The graph in DOT: a box per node, an edge per value with its type. Inputs, weights and states are omitted; `aio
/// graph print` shows them.
pub fn dot(graph: &Graph) -> String {
    let flow = graph.dataflow();
    let edges = |_, e: petgraph::graph::EdgeReference<'_, crate::ValueId>| {
        format!("label=\"{} {}\"", e.weight(), graph.ty(*e.weight()))
    };
    let nodes = |_, (_, id): (_, &crate::NodeId)| {
        let node = graph.node(*id);
        let weights = node.used().filter(|&v| graph.value(v).def == Def::Weight);
        let names: Vec<_> = weights.map(|v| graph.value(v).name.as_str()).collect();
        let label = [&[node.op.mnemonic()], names.as_slice()].concat().join("\\n");
        format!("label=\"{id} {label}\" shape=box style=filled fillcolor={}", colour(node.op.spec().group))
    };
    let config = [Config::EdgeNoLabel, Config::NodeNoLabel];
    format!("{:?}", Dot::with_attr_getters(&flow, &config, &edges, &nodes))
}

fn colour(group: Group) -> &'static str {
    match group {
        Group::Source | Group::Layout | Group::Convert => "gray90",
        Group::Lookup => "lightyellow",
        Group::Linear => "lightblue",
        Group::Elementwise => "white",
        Group::Norm => "palegreen",
        Group::Position => "plum",
        Group::Cache | Group::Slots => "orange",
        Group::Reduce => "lightcyan",
        Group::Choose => "pink",
    }
}
