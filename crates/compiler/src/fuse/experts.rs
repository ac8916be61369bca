//! Fuses a routed feed-forward network with its norm and residual: router, top-k, the products of the picked experts,
//! their weighted sum, and a shared expert if there is one.

use super::cluster::Cluster;
use super::matcher::{Matcher, Nodes, Projection};
use aio_ir::{Dim, Node, NodeId, Op, ValueId};
use aio_plan::kinds::experts;
use aio_plan::{Activation, ExpertsSpec, Routing, TaskKind};

/// A pattern step that fails with the reason.
type Found<T> = Result<T, &'static str>;

const NO_SUM: &str = "no operand is a weighted sum of experts that nothing else uses";

/// A gated pair of projections of the same rows, with the matrices' indices if they are experts.
struct Gated {
    x: ValueId,
    gate: ValueId,
    up: ValueId,
    picked: Option<ValueId>,
    activation: Activation,
}

/// The picked experts, without what is added to them.
struct Picked {
    /// The normed rows.
    h: ValueId,
    router: ValueId,
    gate: ValueId,
    up: ValueId,
    down: ValueId,
    count: u32,
    routing: Routing,
    activation: Activation,
}

/// The expert that every row takes.
struct Shared {
    gate: ValueId,
    up: ValueId,
    down: ValueId,
    /// The projection whose sigmoid scales it.
    scale: Option<ValueId>,
}

/// Starts at the sum of experts and residual.
pub(super) fn experts(m: &Matcher<'_>, id: NodeId) -> Option<Found<Cluster>> {
    let add = Some(m.graph.node(id)).filter(|n| n.op == Op::Add)?;
    let (a, b) = (add.input(0), add.input(1));
    let mut tried = [(a, b), (b, a)].into_iter().map(|(sum, residual)| whole(m, id, sum, residual));
    tried.find(|found| !matches!(found, Err(reason) if *reason == NO_SUM))
}

fn whole(m: &Matcher<'_>, id: NodeId, sum: ValueId, residual: ValueId) -> Found<Cluster> {
    let mut nodes = Nodes::new();
    nodes.push(id);
    let (p, shared) = alone_or_shared(m, sum, &mut nodes)?;
    let more = shared.as_ref().map_or(0, |s| 2 + u32::from(s.scale.is_some()));
    let norm =
        m.norm(p.h, 2 + more, &mut nodes).ok_or("their input is not a norm with a weight that nothing else uses")?;
    let spec = ExpertsSpec { norm_eps: norm.eps, picked: p.count, routing: p.routing, activation: p.activation };
    let operands = experts::Operands {
        x: Some(norm.x),
        norm: Some(norm.weight),
        router: Some(p.router),
        gate: Some(p.gate),
        up: Some(p.up),
        down: Some(p.down),
        shared_gate: shared.as_ref().map(|s| s.gate),
        shared_up: shared.as_ref().map(|s| s.up),
        shared_down: shared.as_ref().map(|s| s.down),
        shared_scale: shared.as_ref().and_then(|s| s.scale),
        residual: Some(residual),
    };
    let results = m.graph.node(id).results.to_vec();
    Ok(Cluster { kind: TaskKind::Experts(spec), nodes: nodes.to_vec(), operands: operands.into_list(), results })
}

/// Picked experts, or their sum with a shared expert in this order.
fn alone_or_shared(m: &Matcher<'_>, sum: ValueId, nodes: &mut Nodes) -> Found<(Picked, Option<Shared>)> {
    let mark = nodes.len();
    let alone = picked(m, sum, nodes);
    if !matches!(alone, Err(reason) if reason == NO_SUM) {
        return Ok((alone?, None));
    }
    nodes.truncate(mark);
    let add = m.inner(sum, Op::Add, 1, nodes).ok_or(NO_SUM)?;
    let p = picked(m, add.input(0), nodes)?;
    let s = shared(m, add.input(1), &p, nodes)?;
    Ok((p, Some(s)))
}

/// The weighted sum of the picked experts' results.
fn picked(m: &Matcher<'_>, sum: ValueId, nodes: &mut Nodes) -> Found<Picked> {
    let flat = m.unreshaped(sum, nodes);
    let reduce = m.inner(flat, Op::Reduce, 1, nodes).filter(|n| n.word("kind") == "sum" && n.int("axis") == 1);
    let weighted = m.inner(reduce.ok_or(NO_SUM)?.input(0), Op::Mul, 1, nodes).ok_or(NO_SUM)?;
    let down = m.inner(weighted.input(0), Op::Matmul, 1, nodes).ok_or(NO_SUM)?;
    let index = down.optional(2).filter(|_| m.is_weight(down.input(1))).ok_or(NO_SUM)?;
    let g = gated(m, down.input(0), nodes)?;
    if g.picked != Some(index) {
        return Err("gate, up and down projections pick different experts");
    }
    let spread = m.inner(g.x, Op::Broadcast, 2, nodes).ok_or("the experts' input is not the rows repeated")?;
    // As `[rows, 1, width]` a row is repeated for each expert, as `[rows, picked, 1]` a weight for each column.
    let one = |value: ValueId, axis: usize| matches!(m.graph.ty(value).shape.dims(), [_, d1, d2] if [d1, d2][axis] == &Dim::Const(1));
    if !one(spread.input(0), 0) || !one(weighted.input(1), 1) {
        return Err("rows or weights are repeated along another dimension");
    }
    let h = m.unreshaped(spread.input(0), nodes);
    let weights = m.unreshaped(weighted.input(1), nodes);
    let (router, count, routing) = route(m, weights, index, h, nodes)?;
    let Gated { gate, up, activation, .. } = g;
    Ok(Picked { h, router, gate, up, down: down.input(1), count, routing, activation })
}

/// `act(x * gate) * (x * up)`, where both projections pick the same experts or none.
fn gated(m: &Matcher<'_>, value: ValueId, nodes: &mut Nodes) -> Found<Gated> {
    let mul = m.inner(value, Op::Mul, 1, nodes).ok_or("the down projection's input is not a gated product")?;
    let active = mul.input(0);
    let (inner, activation) = match m.inner(active, Op::Silu, 1, nodes) {
        Some(node) => (node.input(0), Activation::Silu),
        None => {
            let gelu = m.inner(active, Op::Gelu, 1, nodes).ok_or("the gate is not a silu or gelu of a product")?;
            (gelu.input(0), Activation::Gelu)
        }
    };
    let product = |value, nodes: &mut Nodes| {
        m.inner(value, Op::Matmul, 1, nodes).filter(|n| m.is_weight(n.input(1))).ok_or("a factor is not a product")
    };
    let gate: &Node = product(inner, nodes)?;
    let up: &Node = product(mul.input(1), nodes)?;
    if gate.input(0) != up.input(0) || gate.optional(2) != up.optional(2) {
        return Err("gate and up projections have different inputs or experts");
    }
    let picked = gate.optional(2);
    Ok(Gated { x: gate.input(0), gate: gate.input(1), up: up.input(1), picked, activation })
}

/// The router's matrix, the number of experts it picks, and how it weighs them.
fn route(
    m: &Matcher<'_>,
    weights: ValueId,
    index: ValueId,
    h: ValueId,
    nodes: &mut Nodes,
) -> Found<(ValueId, u32, Routing)> {
    let (values, uses, last) = if let Some(div) = m.inner(weights, Op::Div, 1, nodes) {
        let sum = m.inner(div.input(1), Op::Reduce, 1, nodes).filter(|n| n.word("kind") == "sum" && n.int("axis") == 1);
        let same = sum.is_some_and(|sum| sum.input(0) == div.input(0));
        (
            same.then(|| div.input(0)).ok_or("the weights are not divided by their own sum")?,
            2,
            Some(Routing::Normalised),
        )
    } else if let Some(softmax) = m.inner(weights, Op::Softmax, 1, nodes) {
        (softmax.input(0), 1, Some(Routing::SoftmaxOfPicked))
    } else {
        (weights, 1, None)
    };
    let top =
        m.inner(index, Op::TopK, 3, nodes).ok_or("the experts are not those of a top-k that nothing else uses")?;
    if top.results[0] != values || m.uses(values) != uses {
        return Err("the weights are not those of the same top-k");
    }
    let scores = match last {
        Some(Routing::SoftmaxOfPicked) => top.input(0),
        _ => m.inner(top.input(0), Op::Softmax, 1, nodes).ok_or("the router has no softmax")?.input(0),
    };
    let Projection { x, w, .. } = m.plain(scores, nodes).ok_or("the router is not a product with a weight")?;
    let count = u32::try_from(top.int("k")).map_err(|_| "the number of experts is out of range")?;
    if x != h {
        return Err("router and experts have different inputs");
    }
    Ok((w, count, last.unwrap_or(Routing::Softmax)))
}

/// The shared expert, which has the input and the activation of the picked ones.
fn shared(m: &Matcher<'_>, value: ValueId, p: &Picked, nodes: &mut Nodes) -> Found<Shared> {
    let (product, scale) = match m.inner(value, Op::Mul, 1, nodes) {
        None => (value, None),
        Some(mul) => {
            let sigmoid =
                m.inner(mul.input(1), Op::Sigmoid, 1, nodes).ok_or("the shared expert's scale is no sigmoid")?;
            let scale = m.plain(sigmoid.input(0), nodes).filter(|s| s.x == p.h);
            (mul.input(0), Some(scale.ok_or("the shared expert's scale is not a product of the same rows")?.w))
        }
    };
    let down = m.plain(product, nodes).ok_or("what is added to the experts is not a shared expert")?;
    let g = gated(m, down.x, nodes)?;
    if g.picked.is_some() || g.x != p.h || g.activation != p.activation {
        return Err("the shared expert has another input or activation");
    }
    Ok(Shared { gate: g.gate, up: g.up, down: down.w, scale })
}
