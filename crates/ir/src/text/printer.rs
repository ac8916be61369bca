//! Prints graphs in the text form, in table order, so that equal graphs print equally.

use super::TEXT_VERSION;
use crate::graph::{Def, Graph, Node};
use crate::ids::{NodeId, ValueId};
use std::fmt::Write;

/// The text form of a graph, ending with a newline. Values are numbered.
pub fn print(graph: &Graph) -> String {
    print_named(graph, &ValueId::to_string)
}

/// The text form of a graph, with values named by `name`.
pub(super) fn print_named(graph: &Graph, name: &dyn Fn(&ValueId) -> String) -> String {
    let mut out = format!("aio {TEXT_VERSION}\ngraph {:?}\n", graph.name);
    for (id, value) in graph.values() {
        let keyword = match value.def {
            Def::Input { .. } => "input",
            Def::Weight => "weight",
            Def::State => "state",
            Def::Node { node, result: 0 } => {
                out.push_str(&node_line(graph, node, name));
                out.push('\n');
                continue;
            }
            Def::Node { .. } => continue,
        };
        let suffix = if value.def == (Def::Input { optional: true }) { " optional" } else { "" };
        push(&mut out, format_args!("{} = {keyword} {:?} : {}{suffix}\n", name(&id), value.name, value.ty));
    }
    for output in &graph.outputs {
        push(&mut out, format_args!("output {:?} = {}\n", output.name, name(&output.value)));
    }
    for f in &graph.finals {
        push(&mut out, format_args!("final {} = {}\n", name(&f.state), name(&f.value)));
    }
    out
}

/// One node's line, without the newline.
pub fn print_node(graph: &Graph, id: NodeId) -> String {
    node_line(graph, id, &ValueId::to_string)
}

fn node_line(graph: &Graph, id: NodeId, name: &dyn Fn(&ValueId) -> String) -> String {
    let node = graph.node(id);
    let mut out = String::new();
    for (i, result) in node.results.iter().enumerate() {
        push(&mut out, format_args!("{}{}", if i == 0 { "" } else { ", " }, name(result)));
    }
    push(&mut out, format_args!(" = {}", node.op.mnemonic()));
    print_operands(&mut out, node, name);
    print_attrs(&mut out, node);
    for (i, &result) in node.results.iter().enumerate() {
        push(&mut out, format_args!("{}{}", if i == 0 { " : " } else { ", " }, graph.ty(result)));
    }
    out
}

fn print_operands(out: &mut String, node: &Node, name: &dyn Fn(&ValueId) -> String) {
    let used = node.inputs.iter().rposition(Option::is_some).map_or(0, |i| i + 1);
    for (i, input) in node.inputs[..used].iter().enumerate() {
        out.push_str(if i == 0 { " " } else { ", " });
        match input {
            Some(value) => out.push_str(&name(value)),
            None => out.push('_'),
        }
    }
}

fn print_attrs(out: &mut String, node: &Node) {
    let specs = node.op.spec().attrs.iter().zip(&node.attrs);
    let stated = specs.filter(|(spec, value)| spec.default.value().as_ref() != Some(value));
    let mut separator = " {";
    for (spec, value) in stated {
        push(out, format_args!("{separator}{} = {value}", spec.name));
        separator = ", ";
    }
    if separator == ", " {
        out.push('}');
    }
}

fn push(out: &mut String, args: std::fmt::Arguments<'_>) {
    out.write_fmt(args).expect("writing to a String cannot fail");
}
