//! Advice: what in a plan is known to cost time or memory.

use crate::report::{Header, Lint, TaskRow};
use crate::subject::Subject;
use crate::task::unpacks;
use aio_ir::DType;
use aio_plan::{Layout, Loc, Role};
use std::collections::BTreeMap;

/// Weights at other multiples straddle cache lines.
const LINE_BYTES: u64 = 64;
/// Files align their tensors to this at least; the format's default.
const FILE_BYTES: u64 = 32;
/// Tasks that read as much should be bound by memory.
const LARGE_BYTES: u64 = 1_000_000;
/// Share of the read bandwidth below which a large task is named.
const LOW_SHARE: f64 = 0.6;
/// Between a projection and the reason in lines of the fusion report.
const REASON: &str = ", no part of ";
/// Share of a bucket's rows above which padding is worth a word.
const PADDING: f64 = 0.25;

/// All advice on a step.
pub(crate) fn lints(subject: &Subject<'_>, header: &Header, tasks: &[TaskRow]) -> Vec<Lint> {
    let mut all = missed(subject.missed);
    all.extend(plain_kv(subject));
    all.extend(unaligned(subject));
    all.extend(unpacked(subject));
    all.extend(padding(subject));
    all.extend(slow(header, tasks));
    all
}

fn lint(code: &str, count: usize, message: String, tasks: Vec<usize>) -> Lint {
    Lint { code: code.to_owned(), message, count, tasks }
}

/// Fusions that were missed, those that differ only in numbers together.
fn missed(lines: &[String]) -> Vec<Lint> {
    let mut alike: BTreeMap<String, (usize, &str)> = BTreeMap::new();
    for line in lines {
        let key = line.chars().filter(|c| !c.is_ascii_digit()).collect();
        alike.entry(key).or_insert((0, line)).0 += 1;
    }
    let one = |(count, first): (usize, &str)| {
        let code = if first.contains(REASON) { "missed-fusion" } else { "single-op" };
        lint(code, count, format!("not fused: {first}"), Vec::new())
    };
    let mut all: Vec<Lint> = alike.into_values().map(one).collect();
    all.sort_by(|a, b| a.code.cmp(&b.code));
    all
}

fn plain_kv(subject: &Subject<'_>) -> Option<Lint> {
    let pages = subject.family.states.iter().filter(|s| matches!(s.role(), Role::Pages(_)) || s.is_paged());
    let wide = pages.filter(|s| s.ty.dtype == DType::F32).count();
    let message = "keys and values are kept in f32; f16 halves what each token reads".to_owned();
    (wide > 0).then(|| lint("f32-kv", wide, message, Vec::new()))
}

fn unaligned(subject: &Subject<'_>) -> Option<Lint> {
    let off: Vec<_> = subject.offsets.iter().filter(|(_, at)| at % FILE_BYTES != 0).collect();
    let (name, at) = off.first()?;
    let message = format!(
        "{name} begins at byte {at} of the file, which is no multiple of {FILE_BYTES}; mapped weights straddle cache \
         lines of {LINE_BYTES} bytes"
    );
    Some(lint("unaligned-weights", off.len(), message, Vec::new()))
}

/// Weights in block formats that a task unpacks whenever it runs.
fn unpacked(subject: &Subject<'_>) -> Vec<Lint> {
    let plan = subject.plan();
    let plain = |loc: &Loc| match *loc {
        Loc::Weight(w) => {
            let weight = &subject.family.weights[w.index()];
            weight.layout == Layout::Plain && weight.ty.dtype.is_quantized()
        }
        _ => false,
    };
    let tasks = || plan.tasks.iter().enumerate();
    let hot = |i: &(usize, &aio_plan::Task)| {
        let kind = i.1.kind.name();
        i.1.operands.iter().enumerate().any(|(place, loc)| kind.is_matrix(place) && plain(loc))
    };
    let in_files_form: Vec<usize> = tasks().filter(hot).map(|(i, _)| i).collect();
    let dequantized: Vec<usize> = tasks().filter(|(_, t)| unpacks(t)).map(|(i, _)| i).collect();
    let mut all = Vec::new();
    if !in_files_form.is_empty() {
        let message = "a matrix in a block format is read in the file's layout and unpacked in every step".to_owned();
        all.push(lint("unpacked-in-loop", in_files_form.len(), message, in_files_form));
    }
    if !dequantized.is_empty() {
        let message = "weights are dequantised in every step; a product with them reads the blocks".to_owned();
        all.push(lint("dequantize-in-loop", dequantized.len(), message, dequantized));
    }
    all
}

fn padding(subject: &Subject<'_>) -> Option<Lint> {
    let (bucket, rows) = (subject.plan().bucket, subject.step.rows);
    let share = 1.0 - f64::from(rows) / f64::from(bucket.rows.max(1));
    let message = format!(
        "{rows} rows run on the plan {bucket}, {:.0} % of which is padding; a plan of that size needs a smaller arena",
        share * 100.0
    );
    (share > PADDING).then(|| lint("padding", 1, message, Vec::new()))
}

/// Large tasks that read slower than memory allows.
fn slow(header: &Header, tasks: &[TaskRow]) -> Option<Lint> {
    header.measured.as_ref()?;
    let is_slow = |t: &&TaskRow| {
        t.work.weight_bytes + t.work.kv_bytes >= LARGE_BYTES
            && t.measured.is_some_and(|m| m.bandwidth_share < LOW_SHARE)
    };
    let found: Vec<&TaskRow> = tasks.iter().filter(is_slow).collect();
    let worst = found.iter().filter_map(|t| Some((t, t.measured?.bandwidth_share)));
    let (task, share) = worst.min_by(|a, b| a.1.total_cmp(&b.1))?;
    let message = format!(
        "tasks that read 1 MB and more are below {:.0} % of the read bandwidth; the slowest is {} {} at {:.0} %",
        LOW_SHARE * 100.0,
        task.kind,
        task.name,
        share * 100.0
    );
    Some(lint("low-bandwidth", found.len(), message, found.iter().map(|t| t.index).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fusions_that_were_missed_in_every_layer_are_one_line() {
        let lines: Vec<String> =
            (0..30).map(|i| format!("%{i} = matmul %{}, no part of qkv: too wide", i + 7)).collect();
        let found = missed(&lines);
        assert_eq!((found.len(), found[0].count), (1, 30));
        assert_eq!(missed(&["%1 = silu %0".to_owned()])[0].code, "single-op");
        assert!(found[0].message.contains("%0 = matmul %7, no part of qkv: too wide"), "{:?}", found[0]);
    }
}
