//! Ensures that a graph reads every tensor of a file.
//!
//! The tensors read follow from the graph itself: the weights that an output or a final state depends on. Called by
//! [`crate::Model::check_tensors`].

use std::collections::HashSet;

use aio_ir::{Def, Graph, ValueId};

use crate::gguf::TensorInfo;

/// Suffixes of tensor names that no graph needs to read, with the reason.
pub const INERT_TENSORS: &[(&str, &str)] =
    &[(".input_scale", "llama.cpp b11434 loads it beside NVFP4 weights and computes nothing with it")];

/// The tensors that `graph` does not read, in file order.
pub(crate) fn tensors<'f>(all: &'f [TensorInfo], graph: &Graph) -> impl Iterator<Item = &'f TensorInfo> {
    let read: HashSet<String> = weights(graph).map(|name| name.to_owned()).collect();
    let inert = |name: &str| INERT_TENSORS.iter().any(|(end, _)| name.ends_with(end));
    all.iter().filter(move |t| !read.contains(&t.name) && !inert(&t.name))
}

/// Names of the weights that an output or a final state depends on.
fn weights(graph: &Graph) -> impl Iterator<Item = &str> {
    let mut reached: HashSet<ValueId> = HashSet::new();
    let mut open: Vec<ValueId> = graph.roots().collect();
    while let Some(id) = open.pop() {
        if reached.insert(id) {
            open.extend(graph.def_node(id).into_iter().flat_map(|(_, node)| node.used()));
        }
    }
    graph.values().filter(move |(id, v)| v.def == Def::Weight && reached.contains(id)).map(|(_, v)| v.name.as_str())
}
