//! `aio graph ops`: the op reference, generated from the op table. All forms are in one file, so none omits a field.

use crate::args::{OpsArgs, OpsForm};
use crate::outcome::Outcome;
use crate::output::print_now;
use aio::ir::Op;
use aio::ir::attr::{Attr, AttrSpec};
use aio::ir::op::OpSpec;
use anyhow::Result;
use serde_json::{Value, json};

pub(crate) fn main(args: &OpsArgs) -> Result<Outcome> {
    let specs = || Op::ALL.iter().map(|op| op.spec());
    let text = match (args.output, args.op.map(Op::spec)) {
        (OpsForm::Text, None) => list(),
        (OpsForm::Text, Some(op)) => described(op),
        (OpsForm::Md, None) => {
            let ops: Vec<String> = specs().map(markdown).collect();
            format!("# Ops ({})\n\n{UNREAD}\n\n{}", ops.len(), ops.join("\n"))
        }
        (OpsForm::Md, Some(op)) => markdown(op),
        (OpsForm::Json, None) => format!("{}\n", Value::Array(specs().map(json).collect())),
        (OpsForm::Json, Some(op)) => format!("{}\n", json(op)),
    };
    print_now(&text)?;
    Ok(Outcome::Fine)
}

/// Remarks that apply to all ops.
const UNREAD: &str =
    "A node that no output or final depends on is not evaluated, on any device, so its operands cannot fail a step.";

/// All ops, one per line.
fn list() -> String {
    let signatures: Vec<String> = Op::ALL.iter().map(|op| signature(op.spec())).collect();
    let lines = Op::ALL.iter().zip(&signatures).map(|(op, s)| format!("{s}\n    {}\n", op.spec().summary));
    lines.collect()
}

/// An op's syntax; optional operands, and attributes with their defaults, in brackets.
fn signature(op: &OpSpec) -> String {
    let names = op.operands.iter().map(|o| if o.optional { format!("[{}]", o.name) } else { o.name.to_owned() });
    let operands = names.collect::<Vec<_>>().join(", ");
    let space = if operands.is_empty() { "" } else { " " };
    let attrs: Vec<String> = op.attrs.iter().map(attribute).collect();
    let attrs = if attrs.is_empty() { String::new() } else { format!(" {{{}}}", attrs.join(", ")) };
    format!("{} = {}{space}{operands}{attrs}", op.results.join(", "), op.mnemonic)
}

fn attribute(a: &AttrSpec) -> String {
    a.default.value().map_or_else(|| a.name.to_owned(), |v| format!("[{} = {v}]", a.name))
}

/// An op's sections, each with a heading.
fn sections(op: &OpSpec) -> Vec<(&'static str, &'static str)> {
    let n = op.notes;
    let all = [("types", n.types), ("shapes", n.shapes), ("numbers", n.numbers), ("indices", n.indices)];
    all.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

/// The values that an attribute takes, and its default.
fn takes(a: &AttrSpec) -> String {
    let default = a.default.value().map_or("required".to_owned(), |v| format!("default {v}"));
    format!("{}, {default}", a.kind)
}

/// The result that replaces an operand.
fn updates(op: &OpSpec) -> Option<&'static str> {
    op.updates.map(|i| op.operands[i].name)
}

fn described(op: &OpSpec) -> String {
    let mut out = format!("{}\n\n{}\n\n", signature(op), op.summary);
    let width = op.attrs.iter().map(|a| a.name.len()).max().unwrap_or(0).max("numbers".len());
    let mut line = |name: &str, text: &str| out.push_str(&format!("{name:<width$}  {text}\n"));
    for (name, text) in sections(op) {
        line(name, text);
    }
    if let Some(state) = updates(op) {
        line("updates", &format!("the state {state}, which is not used after it."));
    }
    for a in op.attrs {
        line(a.name, &takes(a));
    }
    out
}

fn markdown(op: &OpSpec) -> String {
    let mut out = format!("## {}\n\n    {}\n\n{}\n\n", op.mnemonic, signature(op), op.summary);
    for (name, text) in sections(op) {
        out.push_str(&format!("- **{name}**: {text}\n"));
    }
    if let Some(state) = updates(op) {
        out.push_str(&format!("- **updates**: the state {state}, which is not used after it.\n"));
    }
    for a in op.attrs {
        out.push_str(&format!("- `{}`: {}\n", a.name, takes(a)));
    }
    out
}

fn json(op: &OpSpec) -> Value {
    let attrs = op.attrs.iter().map(|a| json!({ "name": a.name, "kind": a.kind.to_string(), "default": default(a) }));
    let operands = op.operands.iter().map(|o| json!({ "name": o.name, "optional": o.optional }));
    json!({
        "op": op.mnemonic,
        "group": format!("{:?}", op.group).to_lowercase(),
        "summary": op.summary,
        "operands": operands.collect::<Vec<_>>(),
        "results": op.results,
        "updates": updates(op),
        "attributes": attrs.collect::<Vec<_>>(),
        "types": op.notes.types,
        "shapes": op.notes.shapes,
        "numbers": op.notes.numbers,
        "indices": op.notes.indices,
    })
}

/// An attribute's default; null if it is required.
fn default(a: &AttrSpec) -> Value {
    match a.default.value() {
        None => Value::Null,
        Some(Attr::Int(v)) => json!(v),
        Some(Attr::F32(v)) => json!(v),
        Some(other) => json!(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_each_op_has_all_that_the_table_says() {
        for spec in Op::ALL.iter().map(|op| op.spec()) {
            let (text, md, json) = (described(spec), markdown(spec), json(spec));
            let forms = [("text", &text), ("md", &md), ("json", &json.to_string())];
            let names = spec.operands.iter().map(|o| o.name).chain(spec.attrs.iter().map(|a| a.name));
            let n = spec.notes;
            let texts = [spec.mnemonic, spec.summary, n.types, n.shapes, n.numbers, n.indices];
            for part in names.chain(spec.results.iter().copied()).chain(texts) {
                for (form, shown) in forms {
                    assert!(shown.contains(part), "{form} of {}: {part:?} in {shown}", spec.mnemonic);
                }
            }
            assert_eq!(json["attributes"].as_array().map(Vec::len), Some(spec.attrs.len()));
            assert_eq!(json["operands"].as_array().map(Vec::len), Some(spec.operands.len()));
        }
    }

    #[test]
    fn an_op_is_written_as_its_signature_says() {
        let rms = signature(Op::RmsNorm.spec());
        assert_eq!(rms, "out = rms_norm x, [weight] {eps}");
        let attend = signature(Op::Attend.spec());
        assert_eq!(
            attend,
            "out = attend q, kv, table, row_seq, positions, [sinks] {scale, [window = 0], [soft_cap = 0.0]}"
        );
        assert_eq!(signature(Op::Fill.spec()), "out = fill {shape, value, dtype}");
    }
}
