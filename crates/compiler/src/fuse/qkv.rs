//! Fuses norm, query, key and value projections, head norms, rotation and page write.

use super::cluster::Cluster;
use super::matcher::{Matcher, Nodes};
use aio_ir::{Node, NodeId, Op, ValueId};
use aio_plan::kinds::qkv;
use aio_plan::{QkvSpec, RopeSpec, TaskKind};

/// A rotated head projection, with an optional norm.
struct Heads {
    x: ValueId,
    w: ValueId,
    bias: Option<ValueId>,
    norm: Option<(ValueId, f32)>,
    rope: RopeSpec,
    positions: ValueId,
    factors: Option<ValueId>,
}

/// Starts at the attention that reads the written pages, because it connects query, key and value.
pub(super) fn qkv(m: &Matcher<'_>, id: NodeId) -> Option<Result<Cluster, &'static str>> {
    Some(m.graph.node(id)).filter(|n| n.op == Op::Attend).map(|attend| tied(m, attend))
}

fn tied(m: &Matcher<'_>, attend: &Node) -> Result<Cluster, &'static str> {
    let mut nodes = Nodes::new();
    let (write_id, write) =
        m.node(attend.operand("kv"), Op::PageWrite).ok_or("no page write comes before the attention")?;
    nodes.push(write_id);
    let q = rotated(m, attend.operand("q"), &mut nodes)
        .ok_or("the query is not a rotated projection (with or without a head norm) that nothing else uses")?;
    let k = rotated(m, write.operand("k"), &mut nodes)
        .ok_or("the key is not a rotated projection (with or without a head norm) that nothing else uses")?;
    let v_value = m.unreshaped(write.operand("v"), &mut nodes);
    let v = m.projection(v_value, &mut nodes).ok_or("the value is not a projection that nothing else uses")?;
    let same_input = k.x == q.x && v.x == q.x;
    let same_rotation = k.rope == q.rope && k.positions == q.positions && k.factors == q.factors;
    let same_places = write.operand("positions") == q.positions
        && ["table", "row_seq", "positions"].iter().all(|name| write.operand(name) == attend.operand(name));
    let same_norms = q.norm.map(|n| n.1) == k.norm.map(|n| n.1);
    let rules = [
        (same_input, "the projections have different inputs"),
        (same_rotation, "query and key are rotated differently"),
        (same_places, "keys are written to other places than the attention reads"),
        (same_norms, "only one of query and key has a head norm, or their epsilons differ"),
    ];
    if let Some((_, reason)) = rules.into_iter().find(|(holds, _)| !holds) {
        return Err(reason);
    }
    let norm = m.norm(q.x, 3, &mut nodes).ok_or("their input is not a norm with a weight that nothing else uses")?;
    let known = |v: ValueId, dim: usize| {
        let size = m.graph.ty(v).shape.dims()[dim].known();
        size.map(|d| d as u32).ok_or("a head's size is not a constant")
    };
    let spec = QkvSpec {
        norm_eps: norm.eps,
        heads: known(attend.operand("q"), 1)?,
        kv_heads: known(write.operand("k"), 1)?,
        head_dim: known(attend.operand("q"), 2)?,
        qk_norm_eps: q.norm.map(|n| n.1),
        rope: q.rope,
    };
    let operands = qkv::Operands {
        x: Some(norm.x),
        norm: Some(norm.weight),
        wq: Some(q.w),
        wk: Some(k.w),
        wv: Some(v.w),
        bq: q.bias,
        bk: k.bias,
        bv: v.bias,
        q_norm: q.norm.map(|n| n.0),
        k_norm: k.norm.map(|n| n.0),
        positions: Some(q.positions),
        freq_factors: q.factors,
        kv: Some(write.operand("kv")),
        page_table: Some(write.operand("table")),
        row_seq: Some(write.operand("row_seq")),
    };
    let results = vec![attend.operand("q"), write.results[0]];
    Ok(Cluster { kind: TaskKind::Qkv(spec), nodes: nodes.to_vec(), operands: operands.into_list(), results })
}

fn rotated(m: &Matcher<'_>, value: ValueId, nodes: &mut Nodes) -> Option<Heads> {
    let rope = m.inner(value, Op::Rope, 1, nodes)?;
    let mut inner = rope.input(0);
    let norm = m.inner(inner, Op::RmsNorm, 1, nodes);
    let norm = match norm {
        None => None,
        Some(node) => {
            inner = node.input(0);
            Some((node.optional(1).filter(|&w| m.is_weight(w))?, node.f32("eps")))
        }
    };
    let flat = m.unreshaped(inner, nodes);
    let p = m.projection(flat, nodes)?;
    let spec = RopeSpec::from_node(rope);
    Some(Heads {
        x: p.x,
        w: p.w,
        bias: p.bias,
        norm,
        rope: spec,
        positions: rope.operand("positions"),
        factors: rope.optional(2),
    })
}
