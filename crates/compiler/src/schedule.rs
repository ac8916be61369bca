//! Orders tasks so that operands come first and a state is read before it is replaced.
//!
//! Among ready tasks, the one with the oldest first node goes next. This keeps the model's order, so that equal graphs
//! give equal plans and live ranges stay short.

use crate::fuse::Cluster;
use aio_ir::{Graph, NodeId};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

/// Returns the clusters in order of execution.
pub(crate) fn schedule(graph: &Graph, clusters: Vec<Cluster>) -> Vec<Cluster> {
    let owner = owners(&clusters);
    let mut after: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); clusters.len()];
    let mut waits = vec![0usize; clusters.len()];
    for (from, to) in edges(graph, &clusters, &owner) {
        if from != to && after[from].insert(to) {
            waits[to] += 1;
        }
    }
    let age = |i: usize| clusters[i].nodes.iter().map(|n| n.index()).min().unwrap_or(0);
    let mut ready: BinaryHeap<_> =
        (0..clusters.len()).filter(|&i| waits[i] == 0).map(|i| Reverse((age(i), i))).collect();
    let mut order = Vec::with_capacity(clusters.len());
    while let Some(Reverse((_, i))) = ready.pop() {
        order.push(i);
        for &next in &after[i] {
            waits[next] -= 1;
            if waits[next] == 0 {
                ready.push(Reverse((age(next), next)));
            }
        }
    }
    assert_eq!(order.len(), clusters.len(), "clusters are convex, so their graph has no cycle");
    let mut clusters: Vec<_> = clusters.into_iter().map(Some).collect();
    order.into_iter().map(|i| clusters[i].take().expect("each cluster is ordered once")).collect()
}

fn owners(clusters: &[Cluster]) -> HashMap<NodeId, usize> {
    clusters.iter().enumerate().flat_map(|(i, c)| c.nodes.iter().map(move |&n| (n, i))).collect()
}

/// Pairs of clusters of which the first must run before the second.
fn edges(graph: &Graph, clusters: &[Cluster], owner: &HashMap<NodeId, usize>) -> Vec<(usize, usize)> {
    let mut edges = Vec::new();
    let mut readers: HashMap<aio_ir::ValueId, Vec<usize>> = HashMap::new();
    for (i, cluster) in clusters.iter().enumerate() {
        for value in cluster.nodes.iter().flat_map(|&n| graph.node(n).used()) {
            readers.entry(value).or_default().push(i);
            if let Some(from) = source(graph, value, owner) {
                edges.push((from, i));
            }
        }
    }
    for (i, cluster) in clusters.iter().enumerate() {
        for node in cluster.nodes.iter().map(|&n| graph.node(n)) {
            let replaced = node.op.spec().updates.map(|operand| node.input(operand));
            let before = replaced.and_then(|v| readers.get(&v)).into_iter().flatten();
            edges.extend(before.map(|&reader| (reader, i)));
        }
    }
    edges
}

/// The cluster that computes a value, looking through views.
fn source(graph: &Graph, mut value: aio_ir::ValueId, owner: &HashMap<NodeId, usize>) -> Option<usize> {
    loop {
        let (id, node) = graph.def_node(value)?;
        match owner.get(&id) {
            Some(&cluster) => return Some(cluster),
            None => value = node.input(0),
        }
    }
}
