//! A graph as an ONNX model, for viewers and for other runtimes: without weights, which are inputs.
//!
//! Ops become ops of the standard domain where these mean the same (`ops.rs`); all others keep their name and attributes
//! in the domain `aio`. Weights in block formats are inputs of f32, their decoded values; the type stands in the input's
//! description. States are inputs, and their new values outputs named `NAME.next`.

mod ops;
mod proto;

use aio_ir::{Def, Graph, ValueId, Verified};
use ops::Exporter;
use proto::{Message, OWN};
use std::collections::HashSet;

/// Version of the standard domain's ops, of the file format, and of the domain `aio`.
const OPSET: i64 = 20;
const IR_VERSION: i64 = 9;
const OWN_OPSET: i64 = 1;

/// The bytes of an ONNX model.
pub fn onnx(graph: Verified<'_>) -> Vec<u8> {
    let graph = graph.graph();
    let names = Names::of(graph);
    let mut exporter = Exporter::new(graph, &names.values);
    for (id, _) in graph.nodes() {
        exporter.node(id);
    }
    for (name, value) in &names.results {
        exporter.identity(&names.values[value.index()], name);
    }
    let mut message = Message::default();
    message = exporter.nodes.iter().fold(message, |m, node| m.message(1, node));
    message = message.text(2, &graph.name);
    message = exporter.constants.iter().fold(message, |m, c| m.message(5, c));
    for (id, value) in graph.values().filter(|(_, v)| !matches!(v.def, Def::Node { .. })) {
        let doc = format!("{} {}", what(&value.def), value.ty);
        message = message.message(11, &proto::value(&names.values[id.index()], &value.ty, &doc));
    }
    for (name, value) in &names.results {
        message = message.message(12, &proto::value(name, graph.ty(*value), ""));
    }
    let opset = |domain: &str, version| Message::default().text(1, domain).int(2, version);
    let model = Message::default().int(1, IR_VERSION).text(2, "aio").text(3, env!("CARGO_PKG_VERSION"));
    let model = model.message(7, &message);
    model.message(8, &opset("", OPSET)).message(8, &opset(OWN, OWN_OPSET)).into_bytes()
}

fn what(def: &Def) -> &'static str {
    match def {
        Def::Weight => "weight",
        Def::State => "state",
        Def::Input { optional: true } => "optional input",
        _ => "input",
    }
}

/// Names of values and results, each once.
struct Names {
    /// By value.
    values: Vec<String>,
    /// Outputs, then new states.
    results: Vec<(String, ValueId)>,
}

impl Names {
    fn of(graph: &Graph) -> Names {
        let mut taken = HashSet::new();
        let mut free = |wanted: String| {
            let mut name = wanted.clone();
            for i in 1.. {
                if taken.insert(name.clone()) {
                    break;
                }
                name = format!("{wanted}.{i}");
            }
            name
        };
        let outputs = graph.outputs.iter().map(|o| (free(o.name.clone()), o.value)).collect::<Vec<_>>();
        let finals = graph.finals.iter().map(|f| (free(format!("{}.next", graph.value(f.state).name)), f.value));
        let results: Vec<_> = outputs.into_iter().chain(finals.collect::<Vec<_>>()).collect();
        let name = |(id, value): (ValueId, &aio_ir::Value)| match value.def {
            Def::Node { .. } => free(format!("v{}", id.index())),
            _ => free(value.name.clone()),
        };
        Names { values: graph.values().map(name).collect(), results }
    }
}
