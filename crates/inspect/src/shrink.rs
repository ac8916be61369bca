//! Cuts a graph down while it keeps a property, such as that a device computes it wrong.
//!
//! Greedy, in rounds until none helps: fewer outputs and states; an earlier value as output; values replaced by inputs of
//! the same type; nodes replaced by an operand of the same type. Every candidate is verified before it is tried, and
//! smaller than the graph before it, so the end is reached. Used by `aio graph shrink`.

use aio_ir::{Builder, Def, Graph, NodeId, ValueId, verify};

/// What came of it.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest graph found that has the property.
    pub graph: Graph,
    /// Graphs that were tried.
    pub tried: usize,
}

/// Cuts `graph` down while `keeps` says that the property holds, with at most `most` questions. The graph itself must
/// have it. An error of `keeps` ends the search.
///
/// # Errors
/// Those of `keeps`.
pub fn shrink<E>(graph: &Graph, most: usize, mut keeps: impl FnMut(&Graph) -> Result<bool, E>) -> Result<Shrunk, E> {
    let mut shrunk = Shrunk { graph: graph.clone(), tried: 0 };
    loop {
        let before = size(&shrunk.graph);
        for candidates in [fewer_roots, earlier_roots, cut_values, bypassed_nodes] {
            round(&mut shrunk, most, candidates, &mut keeps)?;
        }
        if size(&shrunk.graph) == before || shrunk.tried >= most {
            return Ok(shrunk);
        }
    }
}

/// Nodes, then roots, then declared values: what shrinks.
fn size(graph: &Graph) -> (usize, usize, usize) {
    let declared = graph.values().filter(|(_, v)| !matches!(v.def, Def::Node { .. })).count();
    (graph.nodes().len(), graph.outputs.len() + graph.finals.len(), declared)
}

type Candidates = fn(&Graph) -> Vec<Edit>;

/// Tries the candidates of one kind, beginning again after each success.
fn round<E>(
    shrunk: &mut Shrunk,
    most: usize,
    candidates: Candidates,
    keeps: &mut impl FnMut(&Graph) -> Result<bool, E>,
) -> Result<(), E> {
    'again: loop {
        for edit in candidates(&shrunk.graph) {
            if shrunk.tried >= most {
                return Ok(());
            }
            let Some(smaller) = edited(&shrunk.graph, &edit) else { continue };
            shrunk.tried += 1;
            if keeps(&smaller)? {
                shrunk.graph = smaller;
                continue 'again;
            }
        }
        return Ok(());
    }
}

/// A change to a graph.
#[derive(Clone, Debug, Default)]
struct Edit {
    /// Outputs: name and value.
    outputs: Vec<(String, ValueId)>,
    /// Places of the finals that stay.
    finals: Vec<usize>,
    /// Values that become inputs.
    cut: Vec<ValueId>,
    /// A value that another takes the place of.
    bypass: Option<(ValueId, ValueId)>,
}

impl Edit {
    /// No change.
    fn of(graph: &Graph) -> Edit {
        Edit {
            outputs: graph.outputs.iter().map(|o| (o.name.clone(), o.value)).collect(),
            finals: (0..graph.finals.len()).collect(),
            ..Edit::default()
        }
    }
}

/// Half of the roots, then one less.
fn fewer_roots(graph: &Graph) -> Vec<Edit> {
    let all = Edit::of(graph);
    let (outputs, finals) = (all.outputs.len(), all.finals.len());
    let mut edits = Vec::new();
    if finals > 0 && outputs > 0 {
        edits.push(Edit { finals: Vec::new(), ..all.clone() });
    }
    for i in 0..outputs {
        if outputs > 1 {
            edits.push(Edit { outputs: vec![all.outputs[i].clone()], finals: Vec::new(), ..all.clone() });
        }
    }
    for i in 0..outputs + finals {
        if outputs + finals > 1 {
            let mut edit = all.clone();
            if i < outputs {
                edit.outputs.remove(i);
            } else {
                edit.finals.remove(i - outputs);
            }
            edits.push(edit);
        }
    }
    edits
}

/// A single value as output, from early ones to late ones, a few first: then what follows it is gone.
fn earlier_roots(graph: &Graph) -> Vec<Edit> {
    let results: Vec<ValueId> = graph.nodes().flat_map(|(_, n)| n.results.iter().copied()).collect();
    let is_state = |v: ValueId| graph.ty(v).shape.dims().iter().any(|d| d.known().is_none() && is_pool(graph, v, d));
    let values = coarse_first(results.len()).into_iter().map(|i| results[i]).filter(|v| !is_state(*v));
    let last = results.last().copied();
    values
        .filter(|v| graph.outputs.len() + graph.finals.len() != 1 || Some(*v) != last)
        .map(|v| Edit { outputs: vec![("out".to_owned(), v)], ..Edit::default() })
        .collect()
}

/// Whether a dimension is the size of a pool, so that the value is a state.
fn is_pool(graph: &Graph, value: ValueId, dim: &aio_ir::Dim) -> bool {
    let pools = [aio_ir::Sym::Pages, aio_ir::Sym::Slots];
    pools.iter().any(|sym| *dim == (*sym).into()) && graph.ty(value).shape.dims().first() == Some(dim)
}

/// Places of a list, coarse steps first.
fn coarse_first(len: usize) -> Vec<usize> {
    let mut order = Vec::with_capacity(len);
    let mut seen = vec![false; len];
    let mut step = len.next_power_of_two().max(1);
    loop {
        for i in (0..len).step_by(step) {
            if !std::mem::replace(&mut seen[i], true) {
                order.push(i);
            }
        }
        if step == 1 {
            return order;
        }
        step /= 2;
    }
}

/// A value as an input, from late ones to early ones: then what comes before it is gone.
fn cut_values(graph: &Graph) -> Vec<Edit> {
    let results: Vec<ValueId> = graph.nodes().flat_map(|(_, n)| n.results.iter().copied()).collect();
    let order = coarse_first(results.len());
    let root = |v: &ValueId| graph.roots().any(|r| r == *v);
    let values = order.into_iter().rev().map(|i| results[i]).filter(|v| !root(v));
    values.map(|v| Edit { cut: vec![v], ..Edit::of(graph) }).collect()
}

/// A node's result replaced by an operand of its type.
fn bypassed_nodes(graph: &Graph) -> Vec<Edit> {
    let operand = |(_, n): (NodeId, &aio_ir::Node)| {
        let result = *n.results.first()?;
        let same = n.used().find(|v| graph.ty(*v) == graph.ty(result))?;
        Some(Edit { bypass: Some((result, same)), ..Edit::of(graph) })
    };
    graph.nodes().filter_map(operand).collect()
}

/// The changed graph without what no root needs; `None` if it breaks a rule or is no smaller.
fn edited(graph: &Graph, edit: &Edit) -> Option<Graph> {
    let replaced = |v: ValueId| match edit.bypass {
        Some((from, to)) if from == v => to,
        _ => v,
    };
    let needed = needed(graph, edit, &replaced);
    let mut new = Builder::new(&graph.name);
    let mut map: Vec<Option<ValueId>> = vec![None; graph.values().len()];
    for (id, value) in graph.values() {
        match value.def {
            _ if !needed[id.index()] || map[id.index()].is_some() => {}
            Def::Node { .. } if edit.cut.contains(&id) => {
                let name = free_name(graph, &format!("cut{}", id.index()));
                map[id.index()] = Some(new.input(&name, value.ty.clone()));
            }
            Def::Node { node, .. } => {
                let old = graph.node(node);
                let inputs: Option<Vec<Option<ValueId>>> = old
                    .inputs
                    .iter()
                    .map(|v| match v {
                        None => Some(None),
                        Some(v) => map[replaced(*v).index()].map(Some),
                    })
                    .collect();
                let made = new.apply_filled(old.op, &inputs?, &old.attrs).ok()?;
                let results = new.graph().node(made).results.clone();
                old.results.iter().zip(&results).for_each(|(old, new)| map[old.index()] = Some(*new));
            }
            def => map[id.index()] = Some(new.declare(def, &value.name, value.ty.clone())),
        }
    }
    for (name, value) in &edit.outputs {
        new.output(name, map[replaced(*value).index()]?);
    }
    for &place in &edit.finals {
        let last = graph.finals[place];
        new.final_state(map[last.state.index()]?, map[replaced(last.value).index()]?);
    }
    let made = new.finish();
    (size(&made) < size(graph) && verify(&made).is_ok()).then_some(made)
}

/// The values that the changed graph needs.
fn needed(graph: &Graph, edit: &Edit, replaced: &impl Fn(ValueId) -> ValueId) -> Vec<bool> {
    let mut needed = vec![false; graph.values().len()];
    let finals = edit.finals.iter().map(|&i| graph.finals[i]);
    let mut open: Vec<ValueId> = edit.outputs.iter().map(|(_, v)| replaced(*v)).collect();
    open.extend(finals.flat_map(|f| [f.state, replaced(f.value)]));
    while let Some(value) = open.pop() {
        if std::mem::replace(&mut needed[value.index()], true) || edit.cut.contains(&value) {
            continue;
        }
        if let Some((_, node)) = graph.def_node(value) {
            open.extend(node.used().map(replaced));
            node.results.iter().for_each(|r| needed[r.index()] = true);
        }
    }
    needed
}

fn free_name(graph: &Graph, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    while graph.find(&name).is_some() {
        name.push('_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use aio_ir::Op;
    use aio_ir::text::{parse, print};
    use std::convert::Infallible;

    fn graph(body: &str) -> Graph {
        parse(&format!("aio 1\ngraph \"g\"\n{body}")).expect("the graph is well formed").graph
    }

    /// A property to shrink by.
    fn has_op(graph: &Graph, op: Op) -> bool {
        graph.nodes().any(|(_, n)| n.op == op)
    }

    const CHAIN: &str = "%x = input \"x\" : f32[rows, 8]\n%w = weight \"w\" : f32[8, 8]\n%a = matmul %x, %w\n%b = silu %a\n\
                         %c = rms_norm %b {eps = 1e-5}\n%d = softmax %c\n%e = add %d, %x\n%f = matmul %e, %w\noutput \"y\" = %f\n\
                         output \"z\" = %b\n";

    #[test]
    fn what_is_left_is_the_node_in_question() {
        let start = graph(CHAIN);
        for (op, nodes) in [(Op::Softmax, 1), (Op::Matmul, 1), (Op::RmsNorm, 1)] {
            let mut asked = 0;
            let shrunk = shrink(&start, 1000, |g| {
                asked += 1;
                assert!(verify(g).is_ok(), "only graphs that keep the rules are tried");
                Ok::<_, Infallible>(has_op(g, op))
            });
            let shrunk = shrunk.expect("asking cannot fail");
            assert!(has_op(&shrunk.graph, op), "{}", print(&shrunk.graph));
            assert_eq!((shrunk.graph.nodes().len(), shrunk.tried), (nodes, asked), "{}", print(&shrunk.graph));
            assert_eq!(parse(&print(&shrunk.graph)).expect("it parses again").graph, shrunk.graph);
        }
    }

    #[test]
    fn a_pair_of_ops_keeps_what_joins_them() {
        let both = |g: &Graph| Ok::<_, Infallible>(has_op(g, Op::Silu) && has_op(g, Op::Softmax));
        let shrunk = shrink(&graph(CHAIN), 1000, both).expect("asking cannot fail");
        assert!(shrunk.graph.nodes().len() <= 2, "{}", print(&shrunk.graph));
    }

    #[test]
    fn states_and_limits_are_respected() {
        let start = graph(
            "%kv = state \"kv\" : f16[pages, 2, 1, 64, 2]\n%k = input \"k\" : f32[rows, 1, 2]\n%t = input \"t\" : u32[seqs, stride]\n\
             %r = input \"r\" : u32[rows]\n%p = input \"p\" : u32[rows]\n%n = neg %k\n%new = page_write %kv, %n, %k, %t, %r, %p\n\
             final %kv = %new\noutput \"y\" = %n\n",
        );
        let shrunk =
            shrink(&start, 1000, |g| Ok::<_, Infallible>(has_op(g, Op::PageWrite))).expect("asking cannot fail");
        assert_eq!((shrunk.graph.nodes().len(), shrunk.graph.outputs.len()), (1, 0), "{}", print(&shrunk.graph));
        let none = shrink(&start, 0, |_| Ok::<_, Infallible>(true)).expect("asking cannot fail");
        assert_eq!((none.tried, none.graph), (0, start.clone()));
        let failed = shrink(&start, 9, |_| Err::<bool, _>("stop"));
        assert_eq!(failed.err(), Some("stop"));
    }
}
