//! Turns ordered clusters into a plan: bodies, locations, buffers, costs.

use crate::CompileError;
use crate::emitter::{Emitter, Shared};
use crate::fuse::Cluster;
use crate::memory::pack;
use aio_ir::Graph;
use aio_plan::{Bucket, Plan, Target};

/// Emits the plan of a bucket.
///
/// # Errors
/// [`CompileError::NoCopy`], [`CompileError::Unsupported`] and [`CompileError::TooLarge`].
pub(crate) fn emit(
    graph: &Graph,
    clusters: &[Cluster],
    bucket: Bucket,
    target: &Target,
    shared: &mut Shared,
) -> Result<Plan, CompileError> {
    let mut e = Emitter::new(graph, target, shared, bucket);
    let inputs = e.inputs();
    e.states(clusters)?;
    let (outputs, copied) = e.outputs(clusters);
    let finals = e.finals();
    let mut tasks = clusters.iter().enumerate().map(|(i, c)| e.task(i, c)).collect::<Result<Vec<_>, CompileError>>()?;
    e.copies(&mut tasks, copied, finals)?;
    let (mut buffers, lives) = e.into_buffers();
    let map = pack(&lives, target.alignment);
    for (buffer, &offset) in buffers.iter_mut().zip(&map.offsets) {
        buffer.offset = offset;
    }
    let (arena_bytes, arena_lower_bound) = (map.bytes, map.lower_bound);
    let plan = Plan { bucket, inputs, outputs, buffers, tasks, checks: Vec::new(), arena_bytes, arena_lower_bound };
    Ok(plan.with_checks())
}
