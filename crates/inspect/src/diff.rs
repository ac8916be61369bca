//! Compares two reports: tasks added, removed, fused or taken apart, and what that does to bytes and times.
//!
//! Tasks are aligned by what they compute and on which weights. Between aligned tasks, a group of one side stands for a
//! group of the other: where both come from the same ops, they differ in fusion. Groups that are alike in several layers
//! are one change. Pure; used by `aio graph diff`.

use crate::report::{MeasuredStep, Report, TaskRow};
use serde::{Deserialize, Serialize};

/// Version of the JSON form.
pub const DIFF_SCHEMA: u32 = 1;
/// Chance of a difference as large between equal steps, below which it is called significant.
const SIGNIFICANT: f64 = 0.01;
/// Most cells of the table that aligns tasks; longer plans are compared from both ends only.
const MOST_CELLS: usize = 64 << 20;

/// What differs between two reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// [`DIFF_SCHEMA`].
    pub schema: u32,
    /// Sources of the two sides.
    pub sources: [String; 2],
    /// Plans of the two sides.
    pub plans: [String; 2],
    /// Sums of the two sides.
    pub totals: Vec<Total>,
    /// Tasks that differ.
    pub changes: Vec<Change>,
    /// Measured steps, if both sides have them.
    pub measured: Option<MeasuredDiff>,
}

/// A figure of both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Total {
    /// Its name, as in a budget.
    pub name: String,
    /// Its value in the first and in the second.
    pub values: [f64; 2],
    /// Its growth relative to the first; infinite from nothing, and then null in JSON.
    pub growth: Option<f64>,
}

/// How tasks of one side stand for tasks of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Several tasks became fewer of the same ops.
    Fused,
    /// Tasks became more of the same ops.
    TakenApart,
    /// Tasks of other ops, weights or sizes stand in their place.
    Replaced,
    /// Only the second has them.
    Added,
    /// Only the first has them.
    Removed,
}

/// Tasks that differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// Kinds and names of the first side's tasks, in the first layer where this is so.
    pub before: Vec<String>,
    /// Those of the second side.
    pub after: Vec<String>,
    /// Layers where this is so.
    pub layers: Vec<u32>,
    /// How often.
    pub count: usize,
    /// Bytes that the second moves more, together.
    pub bytes: f64,
    /// Predicted seconds that it takes more, together.
    pub predicted_seconds: f64,
}

/// Measured steps of both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredDiff {
    /// Median seconds of the first and of the second.
    pub p50_seconds: [f64; 2],
    /// Growth of the median relative to the first.
    pub growth: f64,
    /// Chance of a difference as large if both took the same time (Mann and Whitney's test).
    pub p_value: f64,
    /// Whether this chance is below one in a hundred.
    pub significant: bool,
}

/// Compares two reports of whole plans.
pub fn diff(a: &Report, b: &Report) -> Diff {
    let bytes = |r: &Report| r.header.work.bytes() as f64;
    let total = |name: &str, of: &dyn Fn(&Report) -> f64| {
        let values = [of(a), of(b)];
        let growth = if values[0] == values[1] { 0.0 } else { values[1] / values[0] - 1.0 };
        Total { name: name.to_owned(), values, growth: growth.is_finite().then_some(growth) }
    };
    let totals = vec![
        total("tasks", &|r| r.header.task_count as f64),
        total("weights", &|r| r.header.weight_bytes as f64),
        total("kv", &|r| r.header.work.kv_bytes as f64),
        total("bytes", &bytes),
        total("flops", &|r| r.header.work.flops as f64),
        total("arena", &|r| r.memory.arena_bytes as f64),
        total("time", &|r| r.header.predicted_seconds),
    ];
    Diff {
        schema: DIFF_SCHEMA,
        sources: [a, b].map(|r| r.header.source.clone()),
        plans: [a, b].map(|r| r.header.plan.clone()),
        totals,
        changes: changes(&a.tasks, &b.tasks),
        measured: a.header.measured.as_ref().zip(b.header.measured.as_ref()).and_then(|(a, b)| measured(a, b)),
    }
}

/// What a task is, however buffers are numbered.
fn key(t: &TaskRow) -> String {
    let tensors = |all: &[crate::TensorRow], named: bool| -> String {
        let one = |x: &crate::TensorRow| {
            let name = if named { x.name.as_str() } else { "" };
            format!("{name}:{}{:?}", x.dtype, x.shape)
        };
        all.iter().map(one).collect::<Vec<_>>().join(",")
    };
    let state = t.operands.iter().filter(|x| x.name.contains("kv") || x.shape.iter().any(|d| d == "pages"));
    let states: Vec<&str> = state.map(|x| x.name.as_str()).collect();
    format!(
        "{} {} {} {states:?} {}",
        t.kind,
        t.fused_from.join(" "),
        tensors(&t.weights, true),
        tensors(&t.results, false)
    )
}

fn changes(a: &[TaskRow], b: &[TaskRow]) -> Vec<Change> {
    let (ka, kb): (Vec<String>, Vec<String>) = (a.iter().map(key).collect(), b.iter().map(key).collect());
    let mut all: Vec<Change> = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (x, y) in common(&ka, &kb).into_iter().chain([(a.len(), b.len())]) {
        if i < x || j < y {
            add(&mut all, change(&a[i..x], &b[j..y]));
        }
        (i, j) = (x + 1, y + 1);
    }
    all
}

/// A longest common subsequence, as pairs of places.
fn common(a: &[String], b: &[String]) -> Vec<(usize, usize)> {
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let ends = a[start..].iter().rev().zip(b[start..].iter().rev());
    let end = ends.take_while(|(x, y)| x == y).count();
    let (ma, mb) = (&a[start..a.len() - end], &b[start..b.len() - end]);
    let mut pairs: Vec<(usize, usize)> = (0..start).map(|i| (i, i)).collect();
    if ma.len().saturating_mul(mb.len()) <= MOST_CELLS {
        pairs.extend(middle(ma, mb).into_iter().map(|(i, j)| (i + start, j + start)));
    }
    pairs.extend((0..end).rev().map(|k| (a.len() - 1 - k, b.len() - 1 - k)));
    pairs
}

fn middle(a: &[String], b: &[String]) -> Vec<(usize, usize)> {
    let width = b.len() + 1;
    let mut longest = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i * width + j] = if a[i] == b[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if longest[(i + 1) * width + j] >= longest[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

/// Ops of tasks without views, sorted.
fn ops(tasks: &[TaskRow]) -> Vec<&str> {
    let all = tasks.iter().flat_map(|t| &t.fused_from).map(String::as_str);
    let mut all: Vec<&str> = all.filter(|op| *op != "reshape").collect();
    all.sort_unstable();
    all
}

fn change(a: &[TaskRow], b: &[TaskRow]) -> Change {
    let kind = match (a.is_empty(), b.is_empty()) {
        (true, _) => ChangeKind::Added,
        (_, true) => ChangeKind::Removed,
        _ if a.len() > b.len() && regrouped(a, b) => ChangeKind::Fused,
        _ if a.len() < b.len() && regrouped(b, a) => ChangeKind::TakenApart,
        _ => ChangeKind::Replaced,
    };
    let title = |t: &TaskRow| format!("{} {}", t.kind, t.name);
    let sum = |tasks: &[TaskRow], of: fn(&TaskRow) -> f64| tasks.iter().map(of).sum::<f64>();
    let more = |of: fn(&TaskRow) -> f64| sum(b, of) - sum(a, of);
    Change {
        kind,
        before: a.iter().map(title).collect(),
        after: b.iter().map(title).collect(),
        layers: a.iter().chain(b).filter_map(|t| t.layer).take(1).collect(),
        count: 1,
        bytes: more(|t| t.work.bytes() as f64),
        predicted_seconds: more(|t| t.predicted_seconds),
    }
}

/// Whether the larger number of tasks has the ops of the smaller one, but for ops that had been shared: a norm that a
/// fused task has inside may be one task for several.
fn regrouped(many: &[TaskRow], few: &[TaskRow]) -> bool {
    let weights = |tasks: &[TaskRow]| {
        let mut names: Vec<String> = tasks.iter().flat_map(|t| &t.weights).map(|w| w.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let distinct = |tasks: &[TaskRow]| {
        let mut all: Vec<String> = ops(tasks).into_iter().map(str::to_owned).collect();
        all.dedup();
        all
    };
    weights(many) == weights(few) && distinct(many) == distinct(few)
}

/// A title without the numbers that differ from layer to layer.
fn without_numbers(titles: &[String]) -> Vec<String> {
    titles.iter().map(|t| t.chars().filter(|c| !c.is_ascii_digit()).collect()).collect()
}

/// Adds a change, to one that is alike if there is one.
fn add(all: &mut Vec<Change>, new: Change) {
    let alike = |c: &&mut Change| {
        c.kind == new.kind
            && without_numbers(&c.before) == without_numbers(&new.before)
            && without_numbers(&c.after) == without_numbers(&new.after)
    };
    match all.iter_mut().find(alike) {
        None => all.push(new),
        Some(same) => {
            same.layers.extend(new.layers);
            same.count += 1;
            same.bytes += new.bytes;
            same.predicted_seconds += new.predicted_seconds;
        }
    }
}

fn measured(a: &MeasuredStep, b: &MeasuredStep) -> Option<MeasuredDiff> {
    let p_value = mann_whitney(&a.seconds, &b.seconds)?;
    Some(MeasuredDiff {
        p50_seconds: [a.p50_seconds, b.p50_seconds],
        growth: b.p50_seconds / a.p50_seconds - 1.0,
        p_value,
        significant: p_value < SIGNIFICANT,
    })
}

/// The chance that two samples of one distribution differ as much, by the normal approximation with ties. `None` with
/// fewer than 8 samples on a side.
fn mann_whitney(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() < 8 || b.len() < 8 {
        return None;
    }
    let mut all: Vec<(f64, bool)> = a.iter().map(|x| (*x, true)).chain(b.iter().map(|x| (*x, false))).collect();
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut ranks, mut ties, mut i) = (0.0, 0.0, 0);
    while i < all.len() {
        let same = all[i..].iter().take_while(|x| x.0 == all[i].0).count();
        let rank = i as f64 + (same as f64 + 1.0) / 2.0;
        ranks += rank * all[i..i + same].iter().filter(|x| x.1).count() as f64;
        ties += (same as f64).powi(3) - same as f64;
        i += same;
    }
    let (n, m) = (a.len() as f64, b.len() as f64);
    let u = ranks - n * (n + 1.0) / 2.0;
    let variance = n * m / 12.0 * (n + m + 1.0 - ties / ((n + m) * (n + m - 1.0)));
    if variance <= 0.0 {
        return Some(1.0);
    }
    let z = ((u - n * m / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    Some(2.0 * upper_tail(z))
}

/// The chance that a standard normal variable exceeds `z`, 0 or more (Abramowitz and Stegun 26.2.17, within 7.5e-8).
fn upper_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let powers = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = powers.iter().rev().fold(0.0, |sum, c| (sum + c) * t);
    (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum
}

/// The most that figures may grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budget {
    /// Names of totals, or `measured`, with the growth allowed.
    pub limits: Vec<(String, f64)>,
}

/// Names that a budget may limit.
pub const BUDGET_NAMES: [&str; 8] = ["tasks", "weights", "kv", "bytes", "flops", "arena", "time", "measured"];

impl Budget {
    /// Parses a budget such as `bytes=1%,time=2.5%`.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> Result<Budget, String> {
        let one = |part: &str| {
            let form = || format!("`{part}` is not NAME=PERCENT%, such as bytes=1%");
            let (name, number) = part.split_once('=').ok_or_else(form)?;
            let percent: f64 = number.strip_suffix('%').and_then(|n| n.trim().parse().ok()).ok_or_else(form)?;
            if !BUDGET_NAMES.contains(&name) {
                return Err(format!("there is no figure `{name}`, expected one of {}", BUDGET_NAMES.join(", ")));
            }
            if !(0.0..=1e6).contains(&percent) {
                return Err(format!("`{part}`: expected a percentage from 0 to 1000000"));
            }
            Ok((name.to_owned(), percent / 100.0))
        };
        let limits = text.split(',').map(str::trim).map(one).collect::<Result<_, _>>()?;
        Ok(Budget { limits })
    }

    /// What grew too much, a sentence each. A measured time counts only if its growth is significant.
    pub fn exceeded(&self, diff: &Diff) -> Vec<String> {
        let growth = |name: &str| match name {
            "measured" => diff.measured.as_ref().filter(|m| m.significant).map_or(0.0, |m| m.growth),
            _ => diff.totals.iter().find(|t| t.name == name).map_or(0.0, |t| t.growth.unwrap_or(f64::INFINITY)),
        };
        // Sums of floats may differ in the last digits.
        let over = self.limits.iter().map(|(name, limit)| (name, *limit, growth(name))).filter(|l| l.2 > l.1 + 1e-9);
        over.map(|(name, limit, growth)| {
            format!("{name} grew by {:.2} %, more than {:.2} %", growth * 100.0, limit * 100.0)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_samples_are_not_told_apart_and_shifted_ones_are() {
        let a: Vec<f64> = (0..40).map(|i| 1.0 + f64::from(i % 7) * 0.01).collect();
        let shifted: Vec<f64> = a.iter().map(|x| x * 1.05).collect();
        assert!(mann_whitney(&a, &a).is_some_and(|p| p > 0.9));
        assert!(mann_whitney(&a, &shifted).is_some_and(|p| p < 1e-6));
        assert_eq!(mann_whitney(&a[..5], &a), None);
        assert_eq!(mann_whitney(&[1.0; 9], &[1.0; 9]), Some(1.0));
        assert!((upper_tail(1.96) - 0.025).abs() < 1e-5 && (upper_tail(0.0) - 0.5).abs() < 1e-7);
    }

    #[test]
    fn sequences_are_aligned_where_they_agree() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (a, b) = (words("a b c d e f"), words("a x c d y z f"));
        assert_eq!(common(&a, &b), [(0, 0), (2, 2), (3, 3), (5, 6)]);
        assert_eq!(common(&a, &a).len(), 6);
        assert!(common(&a, &words("q")).is_empty());
    }

    #[test]
    fn a_budget_is_a_list_of_percentages() {
        let budget = Budget::parse("bytes=1%, time=2.5%").expect("it is well formed");
        assert_eq!(budget.limits, [("bytes".to_owned(), 0.01), ("time".to_owned(), 0.025)]);
        for (bad, why) in
            [("bytes", "NAME=PERCENT%"), ("bytes=1", "NAME"), ("cows=1%", "no figure"), ("time=-1%", "from 0")]
        {
            assert!(Budget::parse(bad).is_err_and(|e| e.contains(why)), "{bad}");
        }
    }
}
