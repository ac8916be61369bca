//! The text form of plans, for reading and diffing: `aio graph plan` prints it.

use crate::family::{Plan, PlanFamily};
use crate::loc::Loc;
use std::fmt::Write;

/// Prints a plan: its bindings and their checks, buffers, and tasks with operands, results, bytes and flops. The cost of attention grows
/// with the context: the first figure is for an empty context, the second is added per position of a full bucket.
pub fn print(family: &PlanFamily, plan: &Plan) -> String {
    let mut out = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| {
        out.write_fmt(args).expect("writing to a String cannot fail");
        out.push('\n');
    };
    line(format_args!("plan {:?} {} for {}", family.model, plan.bucket, family.target));
    line(format_args!("arena {} bytes, lower bound {}", plan.arena_bytes, plan.arena_lower_bound));
    for (i, b) in plan.inputs.iter().enumerate() {
        line(format_args!("in{i} = {:?} : {}{}", b.name, b.ty, if b.optional { " optional" } else { "" }));
    }
    for (i, b) in plan.outputs.iter().enumerate() {
        line(format_args!("out{i} = {:?} : {}", b.name, b.ty));
    }
    for check in &plan.checks {
        line(format_args!("check {check}"));
    }
    for (i, b) in plan.buffers.iter().enumerate() {
        line(format_args!("b{i} : {} at {} size {}", b.ty, b.offset, b.bytes));
    }
    for (i, t) in plan.tasks.iter().enumerate() {
        let operands: Vec<_> = t.operands.iter().map(|&s| describe(family, s)).collect();
        let results: Vec<_> = t.results.iter().map(ToString::to_string).collect();
        let (kind, c, more) = (t.kind.name().name(), t.cost, t.cost_per_position);
        let more = match more.bytes_read + more.bytes_written + more.flops {
            0 => String::new(),
            _ => format!(", and for each KV position read {} flops {}", more.bytes_read, more.flops),
        };
        line(format_args!(
            "t{i} {} = {kind} {} ; read {} write {} flops {}{more}",
            results.join(", "),
            operands.join(", "),
            c.bytes_read,
            c.bytes_written,
            c.flops
        ));
    }
    out
}

fn describe(family: &PlanFamily, loc: Loc) -> String {
    match loc {
        Loc::Weight(w) => {
            let weight = &family.weights[w.index()];
            format!("{}:{}", weight.name, weight.ty.dtype)
        }
        Loc::State(s) => family.states[s.index()].name.clone(),
        other => other.to_string(),
    }
}
