//! The plan's tasks in the DOT language: a box per task, coloured by block, as thick as its share of the time; an edge per
//! buffer that one task writes and another reads.

use crate::place::Block;
use crate::report::{Report, TaskRow};
use crate::subject::Subject;
use aio_plan::Loc;
use std::collections::HashMap;
use std::fmt::Write;

/// The picture's text. Tasks that a filter left out are left out, with their edges.
pub fn dot(report: &Report, subject: &Subject<'_>) -> String {
    let plan = subject.plan();
    let mut out =
        String::from("digraph plan {\n  rankdir=TB\n  node [shape=box style=filled fontname=\"sans-serif\"]\n");
    let longest = report.tasks.iter().map(TaskRow::seconds).fold(0.0, f64::max);
    let mut shown: Vec<&TaskRow> = report.tasks.iter().collect();
    shown.sort_by_key(|t| t.index);
    for t in &shown {
        let label = format!(
            "t{} {}\\n{}\\n{:.1} us, {}",
            t.index,
            quoted(&t.kind),
            quoted(&t.name),
            t.seconds() * 1e6,
            t.bound
        );
        let width = 1.0 + 4.0 * t.seconds() / longest.max(f64::MIN_POSITIVE);
        put(
            &mut out,
            format_args!("t{} [label=\"{label}\" fillcolor={} penwidth={width:.2}]", t.index, colour(t.block)),
        );
    }
    let is_shown = |task: usize| shown.binary_search_by_key(&task, |t| t.index).is_ok();
    let mut writers: HashMap<Loc, usize> = HashMap::new();
    for (i, task) in plan.tasks.iter().enumerate() {
        for loc in task.operands.iter().filter(|loc| matches!(loc, Loc::Buffer(_))) {
            if let Some(&from) = writers.get(loc).filter(|from| is_shown(**from) && is_shown(i)) {
                let Loc::Buffer(b) = loc else { continue };
                let buffer = &plan.buffers[b.index()];
                put(&mut out, format_args!("t{from} -> t{i} [label=\"{b} {}\"]", quoted(&buffer.ty.to_string())));
            }
        }
        writers.extend(task.results.iter().map(|loc| (*loc, i)));
    }
    out + "}\n"
}

fn put(out: &mut String, args: std::fmt::Arguments<'_>) {
    writeln!(out, "  {args}").expect("a string takes all that is written to it");
}

/// Text within quotes.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ")
}

fn colour(block: Block) -> &'static str {
    match block {
        Block::Embedding => "plum",
        Block::Attention => "lightblue",
        Block::Mlp => "palegreen",
        Block::Head => "orange",
        Block::Other => "gray90",
    }
}
