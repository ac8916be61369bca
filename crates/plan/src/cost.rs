//! The cost of a task: what the nodes of its body move and compute, excluding values that never leave the task.
//!
//! Costs are computed from bodies and never read from a file. Called by `aio-compiler` and by the reader of artefacts
//! when they make tasks.

use crate::bucket::Bucket;
use aio_ir::{Cost, Def, Graph, Load, Node, Op, ValueId};

/// Cost of a full bucket with an empty context, and the additional cost per position of context.
pub fn of_task(body: &Graph, bucket: Bucket) -> (Cost, Cost) {
    let empty = at_context(body, bucket, 0);
    (empty, at_context(body, bucket, 1) - empty)
}

/// Cost when every row attends to `context` positions.
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

/// Cost of a task that is a lone reshape, which copies. A reshape inside a larger task is free.
fn copied(body: &Graph, load: Load) -> Option<Cost> {
    let (_, node) = body.nodes().next().filter(|(_, n)| n.op == Op::Reshape && body.nodes().len() == 1)?;
    let bytes = body.ty(node.results[0]).bytes(&load.dims).unwrap_or(0);
    Some(Cost { bytes_read: bytes, bytes_written: bytes, flops: 0 })
}
