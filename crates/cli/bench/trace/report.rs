//! What `aio bench trace` prints.

use super::serve::Run;
use crate::args::BenchTraceArgs;
use crate::bench::stats::{low95, median};
use crate::output;
use crate::section::cells;
use crate::table::Table;
use aio::orchestrator::Figure;
use aio::orchestrator::routing::Policy;
use aio::orchestrator::simulate::percentile;
use aio::orchestrator::trace::TraceRequest;
use serde_json::{Value, json};

/// Parts of a run in the table over time.
const WINDOWS: usize = 10;

pub(super) struct Report<'a> {
    pub args: &'a BenchTraceArgs,
    /// The processor's name.
    pub chip: String,
    pub trace: &'a [TraceRequest],
    /// The variants.
    pub names: Vec<String>,
    pub policies: &'a [Policy],
    /// Of each policy, round by round.
    pub runs: &'a [Vec<Run>],
}

impl Report<'_> {
    /// Throughput of a policy over that of the first one, round by round.
    fn ratios(&self, policy: usize) -> Vec<f64> {
        self.runs[policy].iter().zip(&self.runs[0]).map(|(own, first)| own.rate() / first.rate()).collect()
    }

    fn median(&self, policy: usize, of: impl Fn(&Run) -> f64) -> f64 {
        median(&self.runs[policy].iter().map(of).collect::<Vec<_>>())
    }

    fn totals(&self) -> Table {
        let row = |(i, policy): (usize, &Policy)| {
            let ratios = self.ratios(i);
            let (low, figure) = (low95(&ratios), Figure::of(&ratios));
            let ratio = figure.map_or("-".to_owned(), |f| format!("{:.2} ({:.2} - {:.2})", f.median, f.min, f.max));
            let latency = |run: &Run, share| percentile(&run.done.iter().map(|d| d.latency).collect::<Vec<_>>(), share);
            let first = |run: &Run| percentile(&run.done.iter().map(|d| d.first).collect::<Vec<_>>(), 0.5);
            let probes = |run: &Run| 100.0 * run.done.iter().map(|d| d.probe).sum::<f64>() / run.seconds;
            cells![
                policy.name,
                format!("{:.1}", self.median(i, Run::rate)),
                ratio,
                low.map_or("-".to_owned(), |low| format!("{low:.2}")),
                format!("{:.2}", self.median(i, |run| latency(run, 0.5))),
                format!("{:.2}", self.median(i, |run| latency(run, 0.95))),
                format!("{:.2}", self.median(i, first)),
                self.args.within.map_or("-".to_owned(), |within| {
                    format!("{:.0} %", self.median(i, |run| 100.0 * run.late(within) as f64 / run.done.len() as f64))
                }),
                self.median(i, |run| f64::from(run.moves())),
                format!("{:.1} %", self.median(i, probes)),
                self.right(i),
                self.requests(i)
            ]
        };
        Table {
            title: "The trace, measured",
            heads: vec![
                "policy",
                ">tok/s",
                ">over the first",
                ">low 95 %",
                ">request p50, s",
                ">p95",
                ">first token p50, s",
                ">late",
                ">moved",
                ">probes",
                ">right",
                "requests",
            ],
            rows: self.policies.iter().enumerate().map(row).collect(),
        }
    }

    /// Probes that named the trace's category, in all rounds.
    fn right(&self, policy: usize) -> String {
        let answers = || self.runs[policy].iter().flat_map(|run| &run.done).filter_map(|d| d.right);
        match answers().count() {
            0 => "-".to_owned(),
            all => format!("{:.0} %", 100.0 * answers().filter(|&right| right).count() as f64 / all as f64),
        }
    }

    /// Requests of each variant in the last round.
    fn requests(&self, policy: usize) -> String {
        let done = self.runs[policy].last().map_or(&[][..], |run| &run.done);
        let count = |variant| done.iter().filter(|d| d.variant == variant).count();
        self.names.iter().enumerate().map(|(v, name)| format!("{name} {}", count(v))).collect::<Vec<_>>().join(", ")
    }

    /// Where requests went over time, in the last round of each policy.
    fn over_time(&self) -> Table {
        let ends = |runs: &Vec<Run>| runs.last().map_or(0.0, |run| run.seconds);
        let width = self.runs.iter().map(ends).fold(0.0, f64::max) / WINDOWS as f64;
        let mut rows = Vec::new();
        for (policy, runs) in self.policies.iter().zip(self.runs) {
            let done = runs.last().map_or(&[][..], |run| &run.done);
            for window in 0..WINDOWS {
                let start = width * window as f64;
                let own: Vec<_> = done.iter().filter(|d| (start..start + width).contains(&d.at)).collect();
                if own.is_empty() {
                    continue;
                }
                let count = |v| own.iter().filter(|d| d.variant == v).count();
                let shares = (0..self.names.len()).map(|v| format!("{} {}", self.names[v], count(v)));
                let late = own.iter().filter(|d| self.args.within.is_some_and(|within| d.latency > within)).count();
                let bandwidth = median(&own.iter().map(|d| d.bandwidth / 1e9).collect::<Vec<_>>());
                rows.push(cells![
                    policy.name,
                    format!("{start:.1} - {:.1}", start + width),
                    own.len(),
                    shares.collect::<Vec<_>>().join(", "),
                    format!("{bandwidth:.1}"),
                    late
                ]);
            }
        }
        let heads = vec!["policy", ">seconds", ">requests", "variants", ">GB/s, estimated", ">late"];
        Table { title: "Over time, the last round", heads, rows }
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = self.totals().markdown();
        if self.args.within.is_some() {
            text += &format!("\n{}", self.over_time().markdown());
        }
        let rounds = self.args.reps;
        format!(
            "{text}\nMedians of {rounds} rounds on {}, policies in turn; ratios with minimum and maximum, and the lower 95 % bound of their median.\n",
            self.chip
        )
    }

    pub(super) fn json(&self) -> String {
        let request = |run: &Run| -> Vec<Value> {
            let one = |d: &super::serve::Done| {
                json!({
                    "request": d.request, "category": self.trace[d.request].category, "variant": self.names[d.variant],
                    "at": d.at, "expected_seconds": d.expected, "bytes_per_second": d.bandwidth,
                    "first_token_seconds": d.first, "seconds": d.latency, "tokens": d.tokens, "moves": d.moves,
                    "probe_seconds": d.probe,
                    "probe_right": d.right,
                })
            };
            run.done.iter().map(one).collect()
        };
        let run = |run: &Run| json!({"seconds": run.seconds, "tok_s": run.rate(), "requests": request(run)});
        let policy = |(policy, runs): (&Policy, &Vec<Run>)| json!({"policy": policy.name, "runs": runs.iter().map(run).collect::<Vec<_>>()});
        output::json_line(json!({
            "kind": "measured",
            "processor": self.chip,
            "variants": self.names,
            "within": self.args.within,
            "policies": self.policies.iter().zip(self.runs).map(policy).collect::<Vec<_>>(),
        }))
    }
}
