//! Tables of several runs: the paper's figures under its conditions, and what each mechanism adds.

use super::runs::{fleet, run};
use crate::args::{DispatchArg, ShowForm, SimulateArgs, SimulateTable};
use crate::fleet::policy;
use crate::model_tables::predictions;
use crate::model_tables::setting::Setting;
use crate::output;
use crate::section::{Section, cells, json, markdown};
use crate::table::Table;
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

/// The paper's figures.
fn paper(args: &SimulateArgs) -> Result<Vec<Section>> {
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
    let rate = |name: &str| Ok::<f64, anyhow::Error>(run(args, &trace, fleet, &policy(name)?)?.rate());
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

/// From the paper's conditions to ours, one mechanism after the other. The first two and the last but one are the paper's
/// policy with eager operators, as the baselines.
const LADDER: [Rung; 9] = [
    rung("eager operators, the paper's policy, no drafts", "paper", DispatchArg::Op, OFF, 1),
    rung("eager, its drafts for code verified in one step", "paper", DispatchArg::Op, None, 1),
    rung("one graph a step, no drafts", "paper", DispatchArg::Graph, OFF, 1),
    rung("graph, drafts for code verified one by one", "paper", DispatchArg::Token, None, 1),
    rung("graph, drafts for code verified in one step", "paper", DispatchArg::Graph, None, 1),
    rung("graph, as many drafts as pay for every request", "paper", DispatchArg::Graph, Some(SpeculationRule::Auto), 1),
    rung("the same, adaptive policy", "adaptive", DispatchArg::Graph, None, 1),
    rung("the same, eight sequences at once", "adaptive", DispatchArg::Graph, None, 8),
    rung("for comparison: eager, eight sequences at once", "paper", DispatchArg::Op, None, 8),
];
const OFF: Option<SpeculationRule> = Some(SpeculationRule::Off);
/// The rungs that targets compare: the paper's policy with eager operators, with graphs, and ours.
const EAGER: [usize; 2] = [0, 1];
const GRAPH: [usize; 3] = [2, 3, 4];
const OURS: usize = 6;

const fn rung(
    what: &'static str,
    policy: &'static str,
    dispatch: DispatchArg,
    spec: Option<SpeculationRule>,
    sequences: u32,
) -> Rung {
    Rung { what, policy, dispatch, spec, sequences }
}

/// What each mechanism adds, for each mix and context.
fn mechanisms(args: &SimulateArgs) -> Result<Vec<Section>> {
    let eager = fleet(&like(args, DispatchArg::Op, 1, None), DispatchArg::Op)?;
    let graph = fleet(&like(args, DispatchArg::Graph, 1, None), DispatchArg::Graph)?;
    let mut sections = Vec::new();
    for (context, wanted) in CONTEXTS.into_iter().zip(WHOLE) {
        for (mix, title) in titles(context) {
            let trace = trace(args, mix, context);
            let climb = |rung: &Rung| {
                let fleet = if rung.dispatch == DispatchArg::Op { &eager } else { &graph };
                run(&like(args, rung.dispatch, rung.sequences, rung.spec), &trace, fleet, &policy(rung.policy)?)
            };
            let reports = LADDER.iter().map(climb).collect::<Result<Vec<_>>>()?;
            sections.push(ladder(title, &reports, wanted));
        }
    }
    Ok(sections)
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

fn ladder(title: &'static str, reports: &[SimReport], wanted: f64) -> Section {
    let rates: Vec<f64> = reports.iter().map(SimReport::rate).collect();
    let rows = LADDER.iter().zip(reports).enumerate().map(|(i, (rung, report))| {
        let before = if i == 0 { 1.0 } else { rates[i] / rates[i - 1] };
        let drafted: u64 = report.variants.iter().map(|v| v.drafted).sum();
        let accepted: u64 = report.variants.iter().map(|v| v.accepted).sum();
        let share =
            if drafted == 0 { "-".to_owned() } else { format!("{:.0} %", 100.0 * accepted as f64 / drafted as f64) };
        let [launch, ..] = report.shares();
        cells![
            rung.what,
            format!("{:.1}", rates[i]),
            format!("{before:.2}"),
            format!("{:.2}", rates[i] / rates[0]),
            share,
            format!("{:.2}", report.bytes() / 1e9 / report.tokens().max(1) as f64),
            format!("{:.0} %", 100.0 * launch.1),
        ]
    });
    let verdict = |value: f64, target: f64| if value >= target { "met" } else { "missed" };
    let best = |rungs: &[usize]| rungs.iter().map(|&i| rates[i]).fold(0.0, f64::max);
    let (whole, same) = (rates[OURS] / best(&EAGER), rates[OURS] / best(&GRAPH));
    let notes = vec![format!(
        "One sequence at a time, against the best of the paper's policy: {whole:.2} times with eager operators (target {wanted}: {}), \
         {same:.2} times with the same graphs (target {SAME_DISPATCH}: {}).",
        verdict(whole, wanted),
        verdict(same, SAME_DISPATCH),
    )];
    let heads = vec![
        "each row adds to the one before",
        ">tok/s",
        ">over the row before",
        ">over the first",
        ">drafts accepted",
        ">GB a token",
        ">launch-bound",
    ];
    Section { table: Table { title, heads, rows: rows.collect() }, notes }
}
