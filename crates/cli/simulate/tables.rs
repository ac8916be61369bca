//! Tables of several runs: the paper's figures under its conditions, and what each mechanism adds.

use super::runs::{fleet, run};
use crate::args::{DispatchArg, ShowForm, SimulateArgs, SimulateTable};
use crate::fleet::policy;
use crate::model_tables::predictions;
use crate::model_tables::setting::Setting;
use crate::output;
use crate::section::{Section, cells, json, markdown};
use crate::table::Table;
use aio::orchestrator::Figure;
use aio::orchestrator::routing::SpeculationRule;
use aio::orchestrator::simulate::{SimReport, SimVariant};
use aio::orchestrator::trace::{Mix, TraceOptions, TraceRequest, make};
use anyhow::{Result, ensure};

/// Tokens of the paper's totals of bytes: 7.1 TB at 14 GB a token.
const PAPER_TOKENS: f64 = 500.0;
/// The paper's gain over the static large variant.
const PAPER_GAIN: f64 = 1.196;
/// Context lengths of the tables, and requests of each trace.
const CONTEXTS: [u32; 2] = [2048, 32_768];
const REQUESTS: u32 = 60;
/// Targets: the whole gain at each context, and the gain over the paper's policy with the same dispatch.
const WHOLE: [f64; 2] = [6.0, 5.0];
const SAME_DISPATCH: f64 = 1.3;

pub(super) fn main(table: SimulateTable, args: &SimulateArgs) -> Result<()> {
    ensure!(args.variants.len() == 2, "the table compares two variants, the smaller one first");
    let sections = match table {
        SimulateTable::Paper => paper(args)?,
        SimulateTable::Mechanisms => mechanisms(args)?,
    };
    output::print_now(&match args.output {
        ShowForm::Md => sections.iter().map(markdown).collect::<Vec<_>>().join("\n"),
        ShowForm::Json => output::json_line(serde_json::Value::Array(sections.iter().map(json).collect())),
    })?;
    Ok(())
}

/// The flags of a run: eager dispatch as in the paper, or one graph a step.
fn like(args: &SimulateArgs, dispatch: DispatchArg, sequences: u32, spec: Option<SpeculationRule>) -> SimulateArgs {
    let host = if dispatch == DispatchArg::Op { "torch-eager" } else { &args.host };
    SimulateArgs { dispatch, sequences, spec, host: host.to_owned(), ..args.clone() }
}

fn trace(args: &SimulateArgs, mix: Mix, context: u32) -> Vec<TraceRequest> {
    make(&TraceOptions { mix, requests: REQUESTS, context, rate: f64::INFINITY, seed: args.seed })
}

/// The paper's models.
const PAPER: [&str; 2] = ["pangu-1b", "pangu-7b"];

/// The paper's figures.
fn paper(args: &SimulateArgs) -> Result<Vec<Section>> {
    ensure!(args.variants == PAPER, "the paper's figures are of --variants {}", PAPER.join(","));
    let setting = Setting { chip: &args.device.to_uppercase(), hosts: vec!["torch-eager"] };
    let mut sections = predictions::sections(&setting)?;
    let eager = like(args, DispatchArg::Op, 1, Some(SpeculationRule::Off));
    let fleet = fleet(&eager, DispatchArg::Op)?;
    sections.push(traffic(&fleet));
    sections.push(curve(&eager, &fleet)?);
    Ok(sections)
}

/// Bytes of weights a token, and in all.
fn traffic(fleet: &[SimVariant]) -> Section {
    let row = |v: &SimVariant, published: [&str; 2]| {
        let bytes = v.weight_bytes as f64;
        let [each, all] = [format!("{:.2} GB", bytes / 1e9), format!("{:.2} TB", bytes * PAPER_TOKENS / 1e12)];
        cells![v.name, each, published[0], all, published[1]]
    };
    let published = [["2 GB", "1.0 TB"], ["14 GB", "7.1 TB"]];
    Section {
        table: Table {
            title: "Modelled: weights read, 16-bit",
            heads: vec!["variant", ">a token", ">published", ">500 tokens", ">published"],
            rows: fleet.iter().zip(published).map(|(v, p)| row(v, p)).collect(),
        },
        notes: vec!["The published totals are those of 500 tokens: 7.1 TB / 14 GB. Tables that are only looked up are not read.".to_owned()],
    }
}

/// Throughput over the static large variant, by the share of tokens on the small one.
fn curve(args: &SimulateArgs, fleet: &[SimVariant]) -> Result<Section> {
    let trace = trace(args, Mix::Mixed, CONTEXTS[0]);
    let rate = |name: &str| Ok::<f64, anyhow::Error>(run(args, &trace, fleet, &policy(name, None)?)?.rate());
    let (small, large) = (rate("static-small")?, rate("static-large")?);
    let gain = |share: f64| 1.0 / (share * large / small + 1.0 - share);
    let rows = (0..=10).map(|tenth| {
        let share = f64::from(tenth) / 10.0;
        cells![format!("{:.0} %", share * 100.0), format!("{:.3}", gain(share)), format!("{:.2}", gain(share) * large)]
    });
    // gain(s) = g at s = (1 - 1 / g) / (1 - large / small).
    let at = (1.0 - 1.0 / PAPER_GAIN) / (1.0 - large / small);
    let place = if (0.0..=1.0).contains(&at) {
        format!("+19.6 % lies at {:.0} % of the tokens on the small variant", at * 100.0)
    } else {
        format!("+19.6 % is beyond the curve, which ends at {:+.1} %", (gain(1.0) - 1.0) * 100.0)
    };
    Ok(Section {
        table: Table {
            title: "Modelled: eager, mixed trace at 2048 positions, by the share of tokens on the small variant",
            heads: vec![">on the small variant", ">over the static large one", ">tok/s"],
            rows: rows.collect(),
        },
        notes: vec![format!("{place}. The paper's mix is not known, so nothing is claimed.")],
    })
}

/// A step of the ladder of mechanisms.
struct Rung {
    what: &'static str,
    policy: &'static str,
    dispatch: DispatchArg,
    spec: Option<SpeculationRule>,
    sequences: u32,
}

/// From the paper's conditions to ours, one mechanism after the other; then, for comparison, the paper's policy with eight
/// sequences at once.
const LADDER: [Rung; 12] = [
    rung("eager operators, the paper's policy, no drafts", "paper", DispatchArg::Op, OFF, 1),
    rung("eager, its drafts for code verified in one step", "paper", DispatchArg::Op, None, 1),
    rung("one graph a step, no drafts", "paper", DispatchArg::Graph, OFF, 1),
    rung("graph, drafts for code verified one by one", "paper", DispatchArg::Token, None, 1),
    rung("graph, drafts for code verified in one step", "paper", DispatchArg::Graph, None, 1),
    rung("graph, as many drafts as pay for every request", "paper", DispatchArg::Graph, Some(SpeculationRule::Auto), 1),
    rung("the same, adaptive policy", "adaptive", DispatchArg::Graph, None, 1),
    rung("the same, eight sequences at once", "adaptive", DispatchArg::Graph, None, 8),
    rung("for comparison: eager, eight sequences at once", "paper", DispatchArg::Op, None, 8),
    rung("for comparison: the paper's policy with graphs, eight at once", "paper", DispatchArg::Graph, None, 8),
    rung("for comparison: eager, eight sequences at once, no drafts", "paper", DispatchArg::Op, OFF, 8),
    rung(
        "for comparison: the paper's policy with graphs, eight at once, no drafts",
        "paper",
        DispatchArg::Graph,
        OFF,
        8,
    ),
];
/// How a rung begins that adds nothing to the one before.
const COMPARISON: &str = "for comparison: ";
const OFF: Option<SpeculationRule> = Some(SpeculationRule::Off);
/// What targets compare, with as many sequences at once on both sides: ours, the paper's policy with eager operators at its
/// best, and with graphs at its best.
const COMPARED: [Compared; 2] = [
    Compared { what: "one sequence at a time", ours: 6, eager: &[0, 1], graph: &[2, 4] },
    Compared { what: "eight at once", ours: 7, eager: &[8, 10], graph: &[9, 11] },
];

/// Rungs that are compared.
struct Compared {
    what: &'static str,
    ours: usize,
    eager: &'static [usize],
    graph: &'static [usize],
}

/// Traces beside the one that the table shows: other seeds, and texts that repeat less or more.
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];
const COPIES: [f64; 2] = [0.5, 1.5];

const fn rung(
    what: &'static str,
    policy: &'static str,
    dispatch: DispatchArg,
    spec: Option<SpeculationRule>,
    sequences: u32,
) -> Rung {
    Rung { what, policy, dispatch, spec, sequences }
}

/// Both variants with eager operators and with graphs.
struct Fleets {
    eager: Vec<SimVariant>,
    graph: Vec<SimVariant>,
}

impl Fleets {
    fn run(&self, args: &SimulateArgs, rung: &Rung, trace: &[TraceRequest]) -> Result<SimReport> {
        let fleet = if rung.dispatch == DispatchArg::Op { &self.eager } else { &self.graph };
        run(&like(args, rung.dispatch, rung.sequences, rung.spec), trace, fleet, &policy(rung.policy, None)?)
    }

    /// Our throughput over the paper's policy at its best, with eager operators and with graphs.
    fn ratios(&self, args: &SimulateArgs, compared: &Compared, trace: &[TraceRequest]) -> Result<[f64; 2]> {
        let rate = |i: usize| Ok::<f64, anyhow::Error>(self.run(args, &LADDER[i], trace)?.rate());
        let best =
            |rungs: &[usize]| rungs.iter().try_fold(0.0, |best, &i| Ok::<f64, anyhow::Error>(rate(i)?.max(best)));
        let ours = rate(compared.ours)?;
        Ok([ours / best(compared.eager)?, ours / best(compared.graph)?])
    }
}

/// What each mechanism adds, for each mix and context.
fn mechanisms(args: &SimulateArgs) -> Result<Vec<Section>> {
    let fleet = |dispatch| fleet(&like(args, dispatch, 1, None), dispatch);
    let fleets = Fleets { eager: fleet(DispatchArg::Op)?, graph: fleet(DispatchArg::Graph)? };
    let mut sections = Vec::new();
    for (context, wanted) in CONTEXTS.into_iter().zip(WHOLE) {
        for (mix, title) in titles(context) {
            let shown = trace(args, mix, context);
            let reports = LADDER.iter().map(|rung| fleets.run(args, rung, &shown)).collect::<Result<Vec<_>>>()?;
            let mut section = ladder(title, &reports);
            for compared in &COMPARED {
                section.notes.push(verdict(args, &fleets, compared, (mix, context, wanted))?);
            }
            sections.push(section);
        }
    }
    Ok(sections)
}

/// Our throughput against the targets: the median of several seeds with its range, and with texts that repeat less or more.
fn verdict(
    args: &SimulateArgs,
    fleets: &Fleets,
    compared: &Compared,
    (mix, context, wanted): (Mix, u32, f64),
) -> Result<String> {
    let of = |seed: u64, copies: f64| {
        let args = SimulateArgs { seed, ..args.clone() };
        let mut trace = trace(&args, mix, context);
        trace.iter_mut().for_each(|r| r.copy = (r.copy * copies).min(1.0));
        fleets.ratios(&args, compared, &trace)
    };
    let seeds = SEEDS.into_iter().map(|seed| of(seed, 1.0)).collect::<Result<Vec<_>>>()?;
    let [less, more] = COPIES.map(|copies| of(args.seed, copies));
    let (less, more) = (less?, more?);
    let side = |at: usize, target: f64| {
        let figure = Figure::of(&seeds.iter().map(|r| r[at]).collect::<Vec<_>>());
        let Some(Figure { median, min, max, .. }) = figure else { return String::new() };
        let met = if median >= target { "met" } else { "missed" };
        format!(
            "{median:.2} times ({min:.2} - {max:.2}; target {target}: {met}; {:.2} and {:.2} with half and one and a half times the copied text)",
            less[at], more[at]
        )
    };
    Ok(format!(
        "Ours against the paper's policy at its best, {}: over eager operators {}, over the same graphs {}.",
        compared.what,
        side(0, wanted),
        side(1, SAME_DISPATCH),
    ))
}

fn titles(context: u32) -> [(Mix, &'static str); 3] {
    if context == CONTEXTS[0] {
        [
            (Mix::Mixed, "Modelled: mixed requests, 2048 positions"),
            (Mix::Code, "Modelled: code, 2048 positions"),
            (Mix::Knowledge, "Modelled: knowledge, 2048 positions"),
        ]
    } else {
        [
            (Mix::Mixed, "Modelled: mixed requests, 32768 positions"),
            (Mix::Code, "Modelled: code, 32768 positions"),
            (Mix::Knowledge, "Modelled: knowledge, 32768 positions"),
        ]
    }
}

fn ladder(title: &'static str, reports: &[SimReport]) -> Section {
    let rates: Vec<f64> = reports.iter().map(SimReport::rate).collect();
    let rows = LADDER.iter().zip(reports).enumerate().map(|(i, (rung, report))| {
        let before = match i {
            0 => "1.00".to_owned(),
            _ if rung.what.starts_with(COMPARISON) => "-".to_owned(),
            _ => format!("{:.2}", rates[i] / rates[i - 1]),
        };
        let drafted: u64 = report.variants.iter().map(|v| v.drafted).sum();
        let accepted: u64 = report.variants.iter().map(|v| v.accepted).sum();
        let share =
            if drafted == 0 { "-".to_owned() } else { format!("{:.0} %", 100.0 * accepted as f64 / drafted as f64) };
        let [launch, ..] = report.shares();
        cells![
            rung.what,
            format!("{:.1}", rates[i]),
            before,
            format!("{:.2}", rates[i] / rates[0]),
            share,
            format!("{:.2}", report.bytes() / 1e9 / report.tokens().max(1) as f64),
            format!("{:.0} %", 100.0 * launch.1),
        ]
    });
    let heads = vec![
        "each row adds to the one before",
        ">tok/s",
        ">over the row before",
        ">over the first",
        ">drafts accepted",
        ">GB a token",
        ">launch-bound",
    ];
    let notes = vec!["Eight sequences at once wait for no arrival: all requests are there from the start.".to_owned()];
    Section { table: Table { title, heads, rows: rows.collect() }, notes }
}
