//! Tests that each rule fires: from text where the text form can break the rule, otherwise on tables modified by hand.

use super::*;
use crate::attr::Attr;
use crate::graph::{Builder, Final};
use crate::op::Op;
use crate::shape::{Shape, TensorType};
use crate::text::parse;

/// The codes and lines of the rules that a text breaks.
fn codes(body: &str) -> Vec<(&'static str, usize)> {
    let parsed = parse(&format!("aio 1\ngraph \"t\"\n{body}")).expect("the text parses");
    match verify(&parsed.graph) {
        Ok(_) => Vec::new(),
        Err(e) => e.0.iter().map(|e| (e.code, parsed.line_of(e.entity))).collect(),
    }
}

/// `y = x + x` over `f32[4]`: values %0 and %1, node n0.
fn add() -> Graph {
    let mut b = Builder::new("t");
    let x = b.input("x", TensorType::f32(Shape::consts(&[4])));
    let y = b.op(Op::Add, &[x, x], &[]).expect("the types fit");
    b.output("y", y);
    b.finish()
}

fn broken(change: impl FnOnce(&mut Graph)) -> Vec<&'static str> {
    let mut graph = add();
    change(&mut graph);
    let errors = verify(&graph).expect_err("a rule is broken");
    assert!(!errors.to_string().is_empty());
    errors.0.iter().map(|e| e.code).collect()
}

#[test]
fn v001_every_id_names_an_existing_value() {
    let missing = ValueId::new(9);
    assert_eq!(broken(|g| g.nodes[0].inputs[0] = Some(missing)), ["V001"]);
    assert_eq!(broken(|g| g.outputs[0].value = missing), ["V001"]);
    assert_eq!(broken(|g| g.finals.push(Final { state: missing, value: missing })), ["V001", "V001"]);
    assert_eq!(broken(|g| g.nodes[0].results[0] = missing), ["V001"]);
    // A result that refers to another node's value.
    assert_eq!(broken(|g| g.nodes[0].results[0] = ValueId::new(0)), ["V002", "V002", "V001"]);
}

#[test]
fn v002_operands_are_older() {
    assert_eq!(broken(|g| g.nodes[0].inputs[1] = Some(ValueId::new(1))), ["V002"]);
}

#[test]
fn v003_operands_are_the_ops() {
    assert_eq!(broken(|g| g.nodes[0].inputs[1] = None), ["V003"]);
    assert_eq!(broken(|g| g.nodes[0].inputs.push(None)), ["V003"]);
    assert_eq!(broken(|g| g.nodes[0].inputs.clear()), ["V003"]);
}

#[test]
fn v004_attributes_are_the_ops() {
    assert_eq!(broken(|g| g.nodes[0].attrs.push(Attr::Int(1))), ["V004"]);
    let softened = |attr: Option<Attr>| {
        broken(|g| {
            g.nodes[0].op = Op::RmsNorm;
            g.nodes[0].attrs.extend(attr);
        })
    };
    assert_eq!(softened(None), ["V004"]);
    assert_eq!(softened(Some(Attr::Int(1))), ["V004"]);
    assert_eq!(softened(Some(Attr::F32(f32::NAN))), ["V004"]);
}

#[test]
fn v005_result_types_follow_from_the_operands() {
    assert_eq!(broken(|g| g.values[1].ty = TensorType::f32(Shape::consts(&[5]))), ["V005"]);
}

#[test]
fn v006_operands_satisfy_the_shape_rule() {
    assert_eq!(broken(|g| g.nodes[0].op = Op::Matmul), ["V006"]);
}

#[test]
fn v007_names_of_declarations_are_unique() {
    assert_eq!(codes("%a = input \"a\" : f32[1]\n%b = weight \"a\" : f32[1]\noutput \"y\" = %a\n"), [("V007", 4)]);
    assert_eq!(codes("%a = input \"\" : f32[1]\noutput \"y\" = %a\n"), [("V007", 3)]);
}

const STATE: &str = "%s = state \"s\" : u32[seqs]\n%n = input \"n\" : u32[seqs]\n";

#[test]
fn v008_a_final_names_a_state_once() {
    assert_eq!(codes(&format!("{STATE}final %n = %n\n")), [("V008", 5)]);
    assert_eq!(codes(&format!("{STATE}final %s = %n\nfinal %s = %n\n")), [("V008", 6)]);
}

#[test]
fn v009_a_final_has_its_states_type() {
    assert_eq!(codes(&format!("{STATE}%f = input \"f\" : f32[1]\nfinal %s = %f\n")), [("V009", 6)]);
}

#[test]
fn v010_a_replaced_state_is_gone() {
    let used = format!("{STATE}%t = commit %s, %n\n%u = add %s, %n\noutput \"u\" = %u\nfinal %s = %t\n");
    assert_eq!(codes(&used), [("V010", 6)]);
    let output = format!("{STATE}%t = commit %s, %n\noutput \"old\" = %s\nfinal %s = %t\n");
    assert_eq!(codes(&output), [("V010", 6)]);
    let twice = format!("{STATE}%t = commit %s, %s\nfinal %s = %t\n");
    assert_eq!(codes(&twice), [("V010", 5)]);
    let older = format!("{STATE}%t = commit %s, %n\n%u = commit %t, %n\noutput \"u\" = %u\nfinal %s = %t\n");
    assert_eq!(codes(&older), [("V010", 8), ("V014", 6)]);
}

#[test]
fn v011_optional_inputs_stand_where_operands_are_optional() {
    let x = "%x = input \"x\" : f32[4] optional\n";
    assert_eq!(codes(&format!("{x}%y = neg %x\noutput \"y\" = %y\n")), [("V011", 4)]);
    assert_eq!(codes(&format!("{x}output \"y\" = %x\n")), [("V011", 4)]);
    let s = "%s = state \"s\" : f32[4]\n";
    assert_eq!(codes(&format!("{x}{s}final %s = %x\n")), [("V011", 5)]);
    let fine = "%a = input \"a\" : f32[4]\n%y = rms_norm %a, %x {eps = 0.1}\noutput \"y\" = %y\n";
    assert_eq!(codes(&format!("{x}{fine}")), []);
}

#[test]
fn v012_outputs_have_unique_names() {
    let x = "%x = input \"x\" : f32[4]\n";
    assert_eq!(codes(x), [("V012", 2)]);
    assert_eq!(codes(&format!("{x}output \"\" = %x\n")), [("V012", 4)]);
    assert_eq!(codes(&format!("{x}output \"y\" = %x\noutput \"y\" = %x\n")), [("V012", 5)]);
}

#[test]
fn v012_an_output_has_no_name_of_a_state() {
    let graph = "%a = state \"a\" : u32[seqs]\n%n = input \"n\" : u32[seqs]\n%b = commit %a, %n\nfinal %a = %b\n";
    assert_eq!(codes(&format!("{graph}output \"a\" = %n\n")), [("V012", 7)]);
    assert_eq!(codes(&format!("{graph}output \"n\" = %n\n")), []);
}

#[test]
fn v013_sizes_are_possible() {
    for ty in ["q4_0[0, 33]", "q4_0[33]", "q4_0[8, rows]", "q4_k[2, 128]", "f32[rows, pages, outs, recent]"] {
        assert_eq!(codes(&format!("%x = input \"x\" : {ty}\noutput \"y\" = %x\n")), [("V013", 3)], "{ty}");
    }
    for ty in ["f32[0]", "u8[4, 0]", "f32[rows, 0]", "q4_0[8, 0]", "q4_k[0, 256]"] {
        assert_eq!(codes(&format!("%x = input \"x\" : {ty}\noutput \"y\" = %x\n")), [], "{ty}");
    }
    let max = u64::MAX;
    assert_eq!(codes(&format!("%x = input \"x\" : f32[{max}, 0, 2]\noutput \"y\" = %x\n")), [("V013", 3)]);
    assert_eq!(codes(&format!("%x = input \"x\" : f32[{max}, {max}]\noutput \"y\" = %x\n")), [("V013", 3)]);
}

#[test]
fn v014_updates_are_kept_by_their_own_state() {
    assert_eq!(codes(&format!("{STATE}%t = commit %s, %n\noutput \"y\" = %t\n")), [("V014", 5)]);
    let swapped =
        "%r = state \"r\" : u32[seqs]\n%t = commit %s, %n\n%u = commit %r, %n\nfinal %s = %u\nfinal %r = %t\n";
    assert_eq!(codes(&format!("{STATE}{swapped}")), [("V014", 6), ("V014", 7)]);
    assert_eq!(codes(&format!("{STATE}%t = commit %s, %n\n%u = commit %t, %n\nfinal %s = %u\n")), []);
}

/// A convolution over the state `%s`: `f32[slots, 3, 2]`.
const CONV: &str = "%s = state \"s\" : f32[slots, 3, 2]\n%x = input \"x\" : f32[rows, 2]\n%w = weight \"w\" : f32[2, 2]\n\
                    %u = input \"u\" : u32[seqs, 2]\n%r = input \"r\" : u32[rows]\n%t, %y = conv %s, %x, %w, %u, %u, %r\n";

#[test]
fn v015_states_of_slots_are_only_for_ops_on_slots() {
    assert_eq!(codes(&format!("{CONV}final %s = %t\n")), []);
    assert_eq!(codes("%x = input \"x\" : f32[slots]\noutput \"y\" = %x\n"), [("V015", 3), ("V015", 4)]);
    assert_eq!(codes("%y = iota {shape = [slots], dtype = u32}\noutput \"y\" = %y\n"), [("V015", 3), ("V015", 4)]);
    let inner = "%z = state \"z\" : f32[slots, slots]\n%x = input \"x\" : f32[4]\noutput \"x\" = %x\n";
    assert_eq!(codes(inner), [("V015", 3)]);
    assert_eq!(codes(&format!("{CONV}output \"y\" = %t\nfinal %s = %t\n")), [("V015", 9)]);
    let read = format!("{CONV}%n = neg %t\noutput \"n\" = %n\nfinal %s = %t\n");
    assert_eq!(codes(&read), [("V015", 9), ("V015", 9), ("V015", 10)]);
    let other = "%a = state \"a\" : f32[slots, 2]\n%b = state \"b\" : f32[slots, 2]\nfinal %a = %b\n";
    assert_eq!(codes(other), [("V015", 5)]);
}

#[test]
fn all_errors_are_collected_with_their_lines() {
    let text = "%a = input \"a\" : f32[rows, pages, outs, recent]\n%b = input \"a\" : f32[rows, pages, outs, recent]\n%c = add %a, %b\noutput \"\" = %c\n";
    let found: Vec<_> = codes(text).into_iter().map(|(code, _)| code).collect();
    assert_eq!(found, ["V007", "V012", "V013", "V013", "V013"]);
}

#[test]
fn types_without_an_encoder_cannot_be_quantised_to() {
    for name in ["q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "f16", "i8"] {
        let text = format!("aio 1\ngraph \"t\"\n%x = input \"x\" : f32[2, 256]\n%y = quantize %x {{to = {name}}}\n");
        assert_eq!(parse(&text).expect_err("no encoder").kind.code(), "P015", "{name}");
    }
}
