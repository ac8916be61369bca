//! How fast the device's products go through weights that lie in a cache, measured in the same run as the tasks.
//!
//! Memory bounds a product only if its kernel keeps up; with one row and a fast memory it may not. The rate comes from the
//! times of two products that differ in size, so that what a submission takes cancels out.

use super::found::Found;
use aio::backend::Device;
use aio::conformance::{Case, CaseStep, Compare, time_case};
use aio::inspect::KernelRate;
use aio::ir::{DType, Dims, Op, Shape, TensorType};
use aio::plan::{KindName, Loc, Tail};
use std::collections::BTreeSet;

/// Inputs of the products, a multiple of all blocks.
const WIDTH: u64 = 512;
/// Outputs of the smaller and of the larger product, whose weights fit in the caches of two threads.
const OUTPUTS: [u64; 2] = [256, 1280];
/// Repetitions of each.
const REPETITIONS: usize = 60;
/// Most rows of a step that a case has.
const MOST_ROWS: u32 = 33;

/// The rates of all types of matrices in the inspected plan.
pub(super) fn rates(found: &Found, device: &dyn Device) -> Vec<KernelRate> {
    let plan = &found.family.plans[found.plan];
    let mut types = BTreeSet::new();
    for task in &plan.tasks {
        let kind = task.kind.name();
        for (place, loc) in task.operands.iter().enumerate() {
            if let Loc::Weight(w) = *loc
                && kind.is_matrix(place)
                && kind != KindName::Op(Op::Embed)
            {
                types.insert(found.family.weights[w.index()].ty.dtype.name());
            }
        }
    }
    let all = types.into_iter().filter_map(DType::from_name);
    all.filter_map(|dtype| rate(dtype, found.step.rows.min(MOST_ROWS), device)).collect()
}

/// The rate with one type; `None` if the device has no such product or the times say nothing.
fn rate(dtype: DType, rows: u32, device: &dyn Device) -> Option<KernelRate> {
    let bytes = OUTPUTS.map(|outputs| TensorType::new(dtype, Shape::consts(&[outputs, WIDTH])).bytes(&Dims::default()));
    let seconds = OUTPUTS.map(|outputs| time_case(&case(dtype, outputs, rows), device, 0, REPETITIONS).ok());
    let more = bytes[1]?.checked_sub(bytes[0]?)? as f64 / (seconds[1]?.seconds - seconds[0]?.seconds);
    (more.is_finite() && more > 0.0).then(|| KernelRate { dtype: dtype.name().to_owned(), bytes_per_second: more })
}

fn case(dtype: DType, outputs: u64, rows: u32) -> Case {
    let text = format!(
        "aio 1\ngraph \"rate\"\n%x = input \"x\" : f32[rows, {WIDTH}]\n%w = weight \"w\" : {dtype}[{outputs}, {WIDTH}]\n\
         %y = matmul %x, %w\noutput \"y\" = %y\n"
    );
    let rows: Vec<u32> = (0..rows).collect();
    Case {
        name: "rate".to_owned(),
        kind: KindName::Linear,
        weights: dtype,
        text,
        fuse: true,
        tail: Tail::Logits,
        compare: Compare::Numbers,
        max_nmse: 0.0,
        sampling: [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0],
        steps: vec![CaseStep { row_seq: vec![0; rows.len()], out_rows: rows.clone(), positions: rows }],
    }
}
