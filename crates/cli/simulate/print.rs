//! Prints what a simulated trace took.

use crate::args::{ShowForm, SimulateArgs};
use crate::output;
use crate::section::cells;
use crate::table::Table;
use aio::orchestrator::simulate::{SimReport, SimVariant, percentile};
use aio::orchestrator::trace::TraceRequest;
use serde_json::{Value, json};

/// Percentiles of latencies.
const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];

/// The report in the form that is asked for.
pub(super) fn report(args: &SimulateArgs, report: &SimReport) -> String {
    match args.output {
        ShowForm::Json => output::json_line(as_json(args, report)),
        ShowForm::Md => totals(args, report).markdown() + "\n" + &variants(report).markdown(),
    }
}

fn totals(args: &SimulateArgs, r: &SimReport) -> Table {
    let s = |seconds: f64| format!("{seconds:.3} s");
    let mut rows = vec![
        cells!["device", args.device],
        cells!["policy", args.policy],
        cells!["sequences at once, at most", args.sequences],
        cells!["requests", r.latency.len()],
        cells!["throughput", format!("{:.1} tok/s", r.rate())],
        cells!["tokens", r.tokens()],
        cells!["time", s(r.seconds)],
        cells!["idle", s(r.idle)],
        cells!["probes", s(r.probing)],
        cells![
            "read from memory",
            format!("{:.1} GB, {:.2} GB a token", r.bytes() / 1e9, r.bytes() / 1e9 / r.tokens().max(1) as f64)
        ],
    ];
    for (name, share) in SHARES {
        rows.push(cells![format!("first token, {name}"), s(percentile(&r.first_token, share))]);
        rows.push(cells![format!("whole request, {name}"), s(percentile(&r.latency, share))]);
    }
    rows.extend(r.shares().into_iter().map(|(regime, share)| cells![regime, format!("{:.1} %", share * 100.0)]));
    if args.within.is_some() {
        rows.push(cells!["late requests", r.late]);
    }
    if r.mistaken > 0 {
        rows.push(cells!["wrong probes", r.mistaken]);
    }
    if r.refused > 0 {
        rows.push(cells!["requests without memory", r.refused]);
    }
    Table { title: "Modelled: the trace", heads: vec!["what", ">value"], rows }
}

fn variants(r: &SimReport) -> Table {
    let row = |v: &aio::orchestrator::simulate::VariantReport| {
        let share = if v.drafted > 0 {
            format!("{:.0} %", 100.0 * v.accepted as f64 / v.drafted as f64)
        } else {
            "-".to_owned()
        };
        cells![v.name, v.requests, v.tokens, v.steps, format!("{:.2}", v.seconds), v.drafted, share]
    };
    Table {
        title: "Modelled: variants",
        heads: vec!["variant", ">requests", ">tokens", ">steps", ">seconds", ">drafts", ">accepted"],
        rows: r.variants.iter().map(row).collect(),
    }
}

fn as_json(args: &SimulateArgs, r: &SimReport) -> Value {
    let percentiles = |values: &[f64]| -> Value {
        SHARES.iter().map(|(name, share)| ((*name).to_owned(), Value::from(percentile(values, *share)))).collect()
    };
    let variants = r.variants.iter().map(|v| {
        json!({
            "name": v.name, "requests": v.requests, "tokens": v.tokens, "steps": v.steps, "seconds": v.seconds,
            "weight_bytes": v.weight_bytes, "kv_bytes": v.kv_bytes, "drafted": v.drafted, "accepted": v.accepted,
        })
    });
    json!({
        "kind": "modelled",
        "device": args.device,
        "policy": args.policy,
        "sequences": args.sequences,
        "requests": r.latency.len(),
        "tok_s": r.rate(),
        "tokens": r.tokens(),
        "seconds": r.seconds,
        "idle_seconds": r.idle,
        "probe_seconds": r.probing,
        "bytes_read": r.bytes(),
        "first_token_seconds": percentiles(&r.first_token),
        "request_seconds": percentiles(&r.latency),
        "regimes": r.shares().iter().map(|(regime, share)| (regime.to_string(), Value::from(*share))).collect::<serde_json::Map<_, _>>(),
        "late": r.late,
        "refused": r.refused,
        "wrong_probes": r.mistaken,
        "variants": variants.collect::<Vec<_>>(),
    })
}

/// A JSON object for each route, with the variants that were not taken.
pub(super) fn decisions(report: &SimReport, requests: &[TraceRequest], fleet: &[SimVariant]) -> String {
    let name = |v: usize| fleet.get(v).map_or("", |v| v.name.as_str());
    let line = |d: &aio::orchestrator::simulate::Decision| {
        let rejected = d
            .route
            .rejected
            .iter()
            .map(|r| json!({"variant": name(r.variant), "seconds": r.seconds, "why": r.why, "quality": r.quality}));
        output::json_line(json!({
            "request": d.request,
            "at": d.at,
            "category": requests.get(d.request).map(|r| &r.category),
            "probed": d.probed,
            "variant": name(d.route.variant),
            "seconds": d.route.seconds,
            "speculation": d.route.speculation.to_string(),
            "reason": d.route.reason,
            "rejected": rejected.collect::<Vec<_>>(),
        }))
    };
    report.decisions.iter().map(line).collect()
}
