//! The report as tables for people: aligned text as wide as the terminal, or Markdown.

use crate::args::GroupArg;
use crate::section::cells;
use crate::table::Table;
use aio::inspect::{Figures, GroupRow, Header, Report, TaskRow};

/// Sums that are shown if none are asked for.
const GROUPS: [GroupArg; 2] = [GroupArg::Op, GroupArg::Block];
/// Most rows of drafts and of layers in tables.
const DRAFTS: [u32; 6] = [1, 2, 3, 4, 8, 16];

/// Aligned text. Lines are cut at `width` columns.
pub(super) fn text(report: &Report, by: &[GroupArg], width: Option<usize>) -> String {
    let mut out = head(&report.header).join("\n") + "\n";
    for table in tables(report, by, width) {
        out += &format!("\n{}", table.text());
    }
    let lints: Vec<String> = lints(report);
    if !lints.is_empty() {
        out += &format!("\nadvice\n{}\n", lints.iter().map(|l| format!("  {l}")).collect::<Vec<_>>().join("\n"));
    }
    match width {
        Some(width) => out.lines().map(|line| cut(line, width) + "\n").collect(),
        None => out,
    }
}

fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Markdown.
pub(super) fn markdown(report: &Report, by: &[GroupArg]) -> String {
    let mut lines = head(&report.header);
    let title = lines.remove(0);
    let mut out = format!("# {title}\n\n");
    out += &lines.iter().map(|l| format!("- {}\n", l.trim())).collect::<String>();
    for table in tables(report, by, None) {
        out += &format!("\n{}", table.markdown());
    }
    let lints = lints(report);
    if !lints.is_empty() {
        out += &format!("\n## Advice\n\n{}", lints.iter().map(|l| format!("- {l}\n")).collect::<String>());
    }
    out
}

fn lints(report: &Report) -> Vec<String> {
    let one = |l: &aio::inspect::Lint| {
        let times = if l.count > 1 { format!(" ({} times)", l.count) } else { String::new() };
        format!("{}: {}{times}", l.code, l.message)
    };
    report.lints.iter().map(one).collect()
}

/// What a step reads, computes and takes, a line each.
fn head(h: &Header) -> Vec<String> {
    let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let step = [
        counted(h.step.rows as usize, "row"),
        counted(h.step.seqs as usize, "sequence"),
        counted(h.step.outs as usize, "output row"),
    ];
    let mut lines = vec![
        format!("{}: {} on {}", h.source, h.plan, h.target),
        format!("  step       {}, {} positions; {}", step.join(", "), h.step.context, counted(h.task_count, "task")),
        format!("  weights    {} a step of {} in all", mb(h.weight_bytes), mb(h.model_bytes)),
        format!("  kv         {} bytes a token, {} moved", grouped(h.kv_bytes_per_token), mb(h.work.kv_bytes)),
    ];
    if h.state_bytes_per_sequence > 0 {
        lines.push(format!("  state      {} a sequence", mb(h.state_bytes_per_sequence)));
    }
    lines.push(format!(
        "  work       {:.1} Mflop, {:.2} flop a byte; {} of values between tasks",
        h.work.flops as f64 / 1e6,
        h.intensity,
        mb(h.work.activation_bytes)
    ));
    lines.push(format!(
        "  predicted  {:.3} ms, {:.1} steps/s, bound by {}",
        h.predicted_seconds * 1e3,
        1.0 / h.predicted_seconds,
        h.bound
    ));
    if let Some(m) = &h.measured {
        lines.push(format!(
            "  measured   {:.3} ms median, {:.3} ms p99 of {} steps; {:.0} % of {:.1} GB/s read in the same run",
            m.p50_seconds * 1e3,
            m.p99_seconds * 1e3,
            m.steps,
            m.bandwidth_share * 100.0,
            m.read_bandwidth / 1e9
        ));
        lines.push(format!("  error      {:.1} % median of the tasks' predictions", m.median_error * 100.0));
        let idle: Vec<String> = m
            .idle
            .iter()
            .map(|i| format!("{} {:.1} us ({:.1} %)", i.cause, i.seconds * 1e6, i.share * 100.0))
            .collect();
        lines.push(format!("  idle       {}", idle.join(", ")));
    }
    lines.push(format!("  rates      {}", machine(h)));
    lines
}

fn machine(h: &Header) -> String {
    let m = &h.machine;
    let threads = if m.threads == 0 { String::new() } else { format!(", {} threads", m.threads) };
    let from = match m.figures {
        Figures::Assumed => "assumed, since there is no profile; `aio device calibrate` makes one",
        Figures::Profile => "by its profile",
        Figures::Modelled => "modelled",
        Figures::Measured => "of the same run",
    };
    let level = match m.figures {
        Figures::Measured => format!("; steps before reached {:.0} % of these rates", m.level * 100.0),
        Figures::Assumed | Figures::Profile | Figures::Modelled => String::new(),
    };
    format!("{}{threads}: {:.1} GB/s, {:.0} GMAC/s ({from}){level}", m.name, m.bandwidth / 1e9, m.block_macs / 1e9)
}

fn tables(report: &Report, by: &[GroupArg], width: Option<usize>) -> Vec<Table> {
    let by = if by.is_empty() { &GROUPS[..] } else { by };
    let measured = report.header.measured.is_some();
    let mut all: Vec<Table> = by.iter().map(|key| group(report, *key, measured)).collect();
    all.push(tasks(report, measured, width));
    all.push(memory(report));
    all.push(buckets(report));
    if report.header.kv_bytes_per_token > 0 {
        all.push(drafts(report));
    }
    all
}

fn group(report: &Report, key: GroupArg, measured: bool) -> Table {
    let (title, head, rows): (_, _, &[GroupRow]) = match key {
        GroupArg::Op => ("by kind", "kind", &report.groups.op),
        GroupArg::Layer => ("by layer", "layer", &report.groups.layer),
        GroupArg::Block => ("by block", "block", &report.groups.block),
        GroupArg::Type => ("by type", "type", &report.groups.dtype),
    };
    let row = |g: &GroupRow| {
        let mut row = cells![
            g.key,
            g.tasks,
            kb(g.work.weight_bytes),
            kb(g.work.kv_bytes),
            format!("{:.2}", g.work.flops as f64 / 1e6),
            format!("{:.2}", g.work.intensity()),
            us(g.predicted_seconds),
            format!("{:.1} %", g.predicted_share * 100.0),
        ];
        row.extend(g.measured_seconds.map(us));
        row
    };
    let mut heads = vec![head, ">tasks", ">weights kB", ">kv kB", ">Mflop", ">flop/B", ">predicted us", ">share"];
    heads.extend(measured.then_some(">measured us"));
    Table { title, heads, rows: rows.iter().map(row).collect() }
}

/// The tasks, with kernels if there is room for their names, and the ops that they were fused from as far as they fit.
fn tasks(report: &Report, measured: bool, width: Option<usize>) -> Table {
    let mut table = measures(report, measured);
    if report.tasks.iter().any(|t| t.kernel.is_some()) {
        let name = |t: &TaskRow| t.kernel.as_ref().map_or("-", |k| k.name.as_str()).to_owned();
        append(&mut table, "kernel", report.tasks.iter().map(name).collect());
        let longest = table.text().lines().map(|l| l.chars().count()).max().unwrap_or(0);
        if width.is_some_and(|width| longest > width) {
            table.heads.pop();
            table.rows.iter_mut().for_each(|row| drop(row.pop()));
        }
    }
    append(&mut table, "fused from", report.tasks.iter().map(|t| fused(&t.fused_from)).collect());
    table
}

fn append(table: &mut Table, head: &'static str, cells: Vec<String>) {
    table.heads.push(head);
    table.rows.iter_mut().zip(cells).for_each(|(row, cell)| row.push(cell));
}

/// The tasks in figures.
fn measures(report: &Report, measured: bool) -> Table {
    let row = |t: &TaskRow| {
        let mut row = cells![
            format!("t{}", t.index),
            t.kind,
            t.name,
            t.dtype,
            kb(t.work.weight_bytes),
            kb(t.work.kv_bytes),
            format!("{:.2}", t.work.flops as f64 / 1e6),
            format!("{:.2}", t.intensity),
            us(t.predicted_seconds),
            t.bound,
        ];
        if let Some(m) = t.measured {
            row.extend(cells![
                us(m.p50_seconds),
                us(m.p99_seconds),
                format!("{:.1}", m.gb_s),
                format!("{:.0} %", m.bandwidth_share * 100.0),
                format!("{:+.0} %", m.error * 100.0),
            ]);
        }
        row
    };
    let mut heads = vec!["task", "kind", "name", "type", ">weights kB", ">kv kB", ">Mflop", ">flop/B", ">predicted us"];
    heads.push("bound");
    if measured {
        heads.extend([">p50 us", ">p99 us", ">GB/s", ">of peak", ">error"]);
    }
    let title = if report.omitted > 0 { "tasks, slowest first" } else { "tasks" };
    Table { title, heads, rows: report.tasks.iter().map(row).collect() }
}

/// Ops with their numbers instead of repetitions.
fn fused(ops: &[String]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for op in ops {
        match counts.iter_mut().find(|(name, _)| name == op) {
            Some((_, count)) => *count += 1,
            None => counts.push((op, 1)),
        }
    }
    let one = |(op, n): (&str, usize)| if n == 1 { op.to_owned() } else { format!("{n} {op}") };
    counts.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

fn memory(report: &Report) -> Table {
    let m = &report.memory;
    let peak = m.peak_task.map_or("-".to_owned(), |t| format!("t{t}"));
    let row =
        cells![m.arena_bytes, m.lower_bound, peak, format!("{:.1} %", m.fragmentation * 100.0), m.intervals.len(),];
    Table {
        title: "arena",
        heads: vec![">bytes", ">most live", "at task", ">unused then", ">buffers"],
        rows: vec![row],
    }
}

fn buckets(report: &Report) -> Table {
    let maybe = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let row = |b: &aio::inspect::BucketRow| {
        cells![
            if b.plan == report.header.plan { format!("{} *", b.plan) } else { b.plan.clone() },
            b.tasks,
            b.arena_bytes,
            maybe(b.plan_bytes.map(|n| n.to_string())),
            maybe(b.compile_ms.map(|ms| format!("{ms:.1}"))),
            maybe(b.hits.map(|n| format!("{n:.0}"))),
            maybe(b.padding_share.map(|s| format!("{:.1} %", s * 100.0))),
        ]
    };
    let heads = vec!["plan", ">tasks", ">arena bytes", ">plan bytes", ">compile ms", ">steps", ">padding"];
    Table { title: "plans (* this step's)", heads, rows: report.buckets.iter().map(row).collect() }
}

fn drafts(report: &Report) -> Table {
    let row = |d: &aio::inspect::DraftRow| {
        let even = d.break_even.map_or("never".to_owned(), |p| format!("{:.1} %", p * 100.0));
        cells![d.drafts, format!("{:.3}", d.predicted_seconds * 1e3), format!("{:.3}", d.cost), even]
    };
    let rows = report.speculation.iter().filter(|d| DRAFTS.contains(&d.drafts)).map(row).collect();
    let heads = vec![">drafts", ">predicted ms", ">of a plain step", ">pays from acceptance"];
    Table { title: "speculation, one sequence", heads, rows }
}

fn us(seconds: f64) -> String {
    format!("{:.1}", seconds * 1e6)
}

fn kb(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { format!("{:.1}", bytes as f64 / 1e3) }
}

fn mb(bytes: u64) -> String {
    if bytes < 100_000 { format!("{:.2} kB", bytes as f64 / 1e3) } else { format!("{:.2} MB", bytes as f64 / 1e6) }
}

/// A number with a comma between groups of three digits.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|g| String::from_utf8_lossy(g).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lines_read_well() {
        assert_eq!([grouped(7), grouped(23_040), grouped(1_234_567)], ["7", "23,040", "1,234,567"]);
        let ops = ["norm", "matmul", "matmul", "rope"].map(str::to_owned);
        assert_eq!(fused(&ops), "norm, 2 matmul, rope");
        assert_eq!((cut("abc", 3), cut("abcd", 3)), ("abc".to_owned(), "ab…".to_owned()));
    }
}
