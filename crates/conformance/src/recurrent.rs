//! Cases of the ops on recurrent state. Steps bind slots as an engine would (`slots.rs`).

use crate::case::{Case, mixed_steps};
use crate::ops::single;
use crate::slots::ROOM;
use aio_ir::{DType, Op};

const USES: &str = "%p = input \"slots\" : u32[seqs, 2]\n%c = input \"slot_rows\" : u32[seqs, 2]\n\
                    %r = input \"row_seq\" : u32[rows]\n";

/// All cases.
pub(crate) fn cases() -> Vec<Case> {
    let convs = [(4, false), (4, true), (1, false)].map(|(taps, bias)| conv(taps, bias));
    let deltas = [(4, 4), (4, 2), (4, 1)].map(|(heads, key_heads)| delta_rule(heads, key_heads));
    convs.into_iter().chain(deltas).collect()
}

fn case(name: String, op: Op, graph: &str) -> Case {
    Case { steps: mixed_steps(), ..single(name, op, DType::F32, graph) }
}

fn conv(taps: u32, bias: bool) -> Case {
    let (given, operand) = if bias { ("%b = weight \"bias\" : f32[40]\n", ", %b") } else { ("", "") };
    let graph = format!(
        "{USES}{given}%s = state \"s\" : f32[slots, {}, 40]\n%x = input \"x\" : f32[rows, 40]\n\
         %w = weight \"w\" : f32[40, {taps}]\n%n, %y = conv %s, %x, %w, %p, %c, %r{operand}\nfinal %s = %n\n",
        taps - 1 + ROOM
    );
    case(format!("op-conv-{taps}{}", if bias { "-bias" } else { "" }), Op::Conv, &graph)
}

/// Keys of length 1, and gates and betas between 0 and 1, as models have them; otherwise states would grow without bound.
fn delta_rule(heads: u32, key_heads: u32) -> Case {
    let (key, value) = (16, 24);
    let record = key * value + ROOM * (key + value + 2);
    let graph = format!(
        "{USES}%s = state \"s\" : f32[slots, {heads}, {record}]\n%q = input \"q\" : f32[rows, {key_heads}, {key}]\n\
         %ki = input \"k\" : f32[rows, {key_heads}, {key}]\n%v = input \"v\" : f32[rows, {heads}, {value}]\n\
         %gi = input \"gate\" : f32[rows, {heads}]\n%bi = input \"beta\" : f32[rows, {heads}]\n\
         %kn = rms_norm %ki {{eps = 1e-6}}\n%one = fill {{shape = [], value = 0.25, dtype = f32}}\n%k = mul %kn, %one\n\
         %g = sigmoid %gi\n%b = sigmoid %bi\n%n, %y = delta_rule %s, %q, %k, %v, %g, %b, %p, %c, %r\nfinal %s = %n\n"
    );
    case(format!("op-delta_rule-{heads}-of-{key_heads}"), Op::DeltaRule, &graph)
}
