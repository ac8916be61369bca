//! The cost of a task, from its body: what its nodes move and compute, less what never leaves the task.
//!
//! Never read from a file: a plan's costs are what its bodies say. Called where tasks are made, by `aio-compiler` and by
//! the reader of artefacts.

use crate::bucket::Bucket;
use aio_ir::{Cost, Def, Graph, Load, Node, Op, ValueId};

/// Cost of a full bucket whose context is empty, and what each position of the context adds to that.
pub fn of_task(body: &Graph, bucket: Bucket) -> (Cost, Cost) {
    let empty = at_context(body, bucket, 0);
    (empty, at_context(body, bucket, 1) - empty)
}

/// The cost for rows that attend to `context` positions.
fn at_context(body: &Graph, bucket: Bucket, context: u32) -> Cost {
    let load = Load { dims: bucket.bounds(), context };
    if let Some(copied) = copied(body, load) {
        return copied;
    }
    let mut cost: Cost = body.nodes().map(|(_, n)| body.cost(n, load)).sum();
    let bytes = |v: ValueId| body.ty(v).bytes(&load.dims).unwrap_or(0);
    let inside = |v: &ValueId| matches!(body.value(*v).def, Def::Node { .. });
    let roots: Vec<ValueId> = body.roots().collect();
    let moves = |n: &&Node| n.op != Op::Reshape;
    for node in body.nodes().map(|(_, n)| n).filter(moves) {
        let kept: u64 = node.used().filter(inside).map(bytes).sum();
        cost.bytes_read = cost.bytes_read.saturating_sub(kept);
        let hidden: u64 = node.results.iter().filter(|r| !roots.contains(r)).map(|&r| bytes(r)).sum();
        cost.bytes_written = cost.bytes_written.saturating_sub(hidden);
    }
    cost
}

/// A reshape costs nothing inside a task; one that is a task of its own copies.
fn copied(body: &Graph, load: Load) -> Option<Cost> {
    let (_, node) = body.nodes().next().filter(|(_, n)| n.op == Op::Reshape && body.nodes().len() == 1)?;
    let bytes = body.ty(node.results[0]).bytes(&load.dims).unwrap_or(0);
    Some(Cost { bytes_read: bytes, bytes_written: bytes, flops: 0 })
}
