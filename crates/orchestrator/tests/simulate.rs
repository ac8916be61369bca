//! Traces on a modelled device: what must hold whatever the costs, and what each mechanism is worth.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use aio_orchestrator::routing::{Policy, SpeculationRule};
use aio_orchestrator::simulate::{
    Busy, SequenceRows, SimOptions, SimProbe, SimReport, SimVariant, StepTable, TimedStep, VariantCosts, Verification,
    percentile, simulate,
};
use aio_orchestrator::trace::{Mix, TraceOptions, TraceRequest, make};
use aio_orchestrator::{Ceilings, StepCost, StepWork};

const SEED: u64 = 11;

/// A variant whose steps read all weights; a row costs little until the arithmetic shows.
fn variant(name: &str, weight_bytes: f64, slower: f64) -> SimVariant {
    let ceilings = Ceilings { bandwidth: 1.25e12 / slower, peak: 100e12 / slower };
    let cost =
        StepCost { bytes: weight_bytes, bytes_per_row: 0.0, macs_per_row: weight_bytes / 2.0, seconds: 1e-3 * slower };
    let kv_bytes = weight_bytes / 1e5;
    let sizes = [1, 2, 4, 8, 16, 64, 512].into_iter().flat_map(|rows| [(rows, 512), (rows, 10_000)]);
    let time = |(rows, len)| TimedStep {
        sequences: 1,
        each: SequenceRows { rows, len },
        seconds: cost.time(&ceilings, rows, f64::from(len) * kv_bytes),
    };
    let steps: Vec<_> = sizes.map(time).collect();
    let table = StepTable::of(&steps).unwrap();
    let costs = VariantCosts { table, work: StepWork { cost, ceilings, kv_bytes, kv_macs: 0.0 } };
    SimVariant { name: name.to_owned(), costs, weight_bytes: weight_bytes as u64 }
}

fn trace(rate: f64, requests: u32) -> Vec<TraceRequest> {
    make(&TraceOptions { mix: Mix::Mixed, requests, context: 2048, rate, seed: SEED })
}

fn run(
    trace: &[TraceRequest],
    variants: &[SimVariant],
    policy: &str,
    change: impl Fn(&mut SimOptions<'_>),
) -> SimReport {
    let policy = Policy::built_in(policy).unwrap();
    let mut options = SimOptions {
        variants,
        policy: &policy,
        verification: Verification::Batch,
        speculation: None,
        sequences: 8,
        prefill_rows: 512,
        drafts: 16,
        kv_bytes: 1e12,
        within: f64::INFINITY,
        probe: SimProbe { rows: 64, accuracy: 0.95 },
        busy: &[],
        seed: SEED,
    };
    change(&mut options);
    simulate(trace, &options)
}

fn both() -> Vec<SimVariant> {
    vec![variant("pangu-1b", 2e9, 1.0), variant("pangu-7b", 14e9, 1.0)]
}

#[test]
fn every_request_gets_its_tokens_on_the_variant_of_its_policy() {
    println!("seed {SEED}");
    let trace = trace(2.0, 200);
    let wanted: u64 = trace.iter().map(|r| u64::from(r.output)).sum();
    for policy in Policy::names() {
        let report = run(&trace, &both(), policy, |_| {});
        assert_eq!(report.tokens(), wanted, "{policy}");
        assert_eq!((report.latency.len(), report.decisions.len()), (200, 200), "{policy}");
        assert!(report.first_token.iter().zip(&report.latency).all(|(first, last)| first <= last && *first > 0.0));
        let busy: f64 = report.variants.iter().map(|v| v.seconds).sum();
        assert!((busy + report.idle - report.seconds).abs() < 1e-6 * report.seconds, "{policy}");
        let code: u64 = trace.iter().filter(|r| r.category == "code").map(|r| u64::from(r.output)).sum();
        let small = report.variants[0].tokens;
        match policy {
            "static-small" => assert_eq!(small, wanted),
            "static-large" => assert_eq!(small, 0),
            _ => assert!((small as f64 / code as f64 - 1.0).abs() < 0.15, "{policy}: {small} of {code}"),
        }
    }
}

#[test]
fn batched_verification_pays_and_verification_by_token_does_not() {
    println!("seed {SEED}");
    let trace = trace(f64::INFINITY, 60);
    let with = |verification, speculation| {
        let change = |o: &mut SimOptions<'_>| {
            (o.sequences, o.verification, o.speculation) = (1, verification, Some(speculation))
        };
        run(&trace, &both(), "static-large", change).rate()
    };
    let plain = with(Verification::Batch, SpeculationRule::Off);
    let auto = with(Verification::Batch, SpeculationRule::Auto);
    let fixed = with(Verification::Batch, SpeculationRule::Fixed(4));
    let token = with(Verification::Token, SpeculationRule::Fixed(4));
    println!("plain {plain:.1}, auto {auto:.1}, fixed {fixed:.1}, token by token {token:.1}");
    assert!(auto > 1.2 * plain && fixed > 1.1 * plain, "{plain} {auto} {fixed} {token}");
    assert!(auto > 0.99 * fixed);
    assert!((token / plain - 1.0).abs() < 1e-9, "a step for each token, as without drafts: {token} {plain}");
}

#[test]
fn more_bandwidth_is_never_slower_and_more_sequences_share_the_weights() {
    println!("seed {SEED}");
    let trace = trace(f64::INFINITY, 80);
    let mut last = f64::INFINITY;
    for slower in [4.0, 2.0, 1.0, 0.5] {
        let variants = [variant("pangu-1b", 2e9, slower), variant("pangu-7b", 14e9, slower)];
        let seconds = run(&trace, &variants, "adaptive", |_| {}).seconds;
        assert!(seconds < last, "{slower}: {seconds} after {last}");
        last = seconds;
    }
    let rate = |n| {
        run(&trace, &both(), "static-large", |o| (o.sequences, o.speculation) = (n, Some(SpeculationRule::Off))).rate()
    };
    assert!(rate(8) > 3.0 * rate(1), "{} {}", rate(8), rate(1));
}

#[test]
fn late_requests_go_to_a_smaller_variant_and_back() {
    println!("seed {SEED}");
    let facts = TraceRequest { arrival: 0.0, category: "knowledge".to_owned(), prompt: 500, output: 100, copy: 0.0 };
    // A burst of requests between two quiet stretches.
    let at = |i: u32| match i {
        0..20 => f64::from(i) * 4.0,
        20..120 => 80.0 + f64::from(i - 20) * 0.05,
        _ => 200.0 + f64::from(i - 120) * 4.0,
    };
    let trace: Vec<_> = (0..140).map(|i| TraceRequest { arrival: at(i), ..facts.clone() }).collect();
    let report = run(&trace, &both(), "adaptive", |o| o.within = 4.0);
    let small = |range: std::ops::Range<usize>| {
        report.decisions.iter().filter(|d| range.contains(&d.request) && d.route.variant == 0).count()
    };
    let fixed = run(&trace, &both(), "static-large", |o| o.within = 4.0);
    println!(
        "small {} {} {}; late {} of the static large variant's {}",
        small(0..20),
        small(20..120),
        small(120..140),
        report.late,
        fixed.late
    );
    assert!(small(0..20) <= 2 && small(130..140) <= 1, "quiet stretches have the large one");
    assert!(small(20..120) > 20 && report.late * 2 < fixed.late);
    assert!(percentile(&report.latency, 0.5) < percentile(&fixed.latency, 0.5));
}

#[test]
fn a_busy_memory_sends_requests_to_the_smaller_variant_and_back() {
    println!("seed {SEED}");
    let facts = TraceRequest { arrival: 0.0, category: "knowledge".to_owned(), prompt: 500, output: 100, copy: 0.0 };
    let trace: Vec<_> = (0..100).map(|i| TraceRequest { arrival: 2.0 * f64::from(i), ..facts.clone() }).collect();
    // Steps take three times as long for a minute; the large variant then needs 4 s, the small one 1 s.
    const BUSY: [Busy; 1] = [Busy { from: 60.0, to: 120.0, factor: 3.0 }];
    let with = |policy| run(&trace, &both(), policy, |o| (o.within, o.busy) = (2.5, &BUSY));
    let (adaptive, fixed) = (with("adaptive"), with("static-large"));
    let small = |from: f64, to: f64| {
        let own = adaptive.decisions.iter().filter(|d| (from..to).contains(&d.at));
        own.fold((0, 0), |(small, all), d| (small + u32::from(d.route.variant == 0), all + 1))
    };
    println!(
        "small {:?} {:?} {:?}, late {} and {}",
        small(0.0, 60.0),
        small(60.0, 120.0),
        small(120.0, 200.0),
        adaptive.late,
        fixed.late
    );
    assert!(fixed.late >= 30, "{}", fixed.late);
    assert!(adaptive.late * 20 <= fixed.late, "{} of {}", adaptive.late, fixed.late);
    let ((before, _), (during, all), (after, _)) = (small(0.0, 60.0), small(60.0, 120.0), small(126.0, 200.0));
    assert!(before == 0 && during + 2 >= all && after == 0, "{before} {during} of {all} {after}");
}

#[test]
fn memory_bounds_what_runs_at_once() {
    println!("seed {SEED}");
    let facts = TraceRequest { arrival: 0.0, category: "chat".to_owned(), prompt: 500, output: 100, copy: 0.0 };
    let (trace, variants) = (vec![facts; 40], both());
    let most =
        trace.iter().map(|r| f64::from(r.prompt + r.output) * variants[1].costs.work.kv_bytes).fold(0.0, f64::max);
    let narrow = run(&trace, &variants, "static-large", |o| o.kv_bytes = most);
    let wide = run(&trace, &variants, "static-large", |_| {});
    assert_eq!((narrow.latency.len(), narrow.refused), (40, 0));
    assert!(narrow.seconds > 3.0 * wide.seconds);
    let none = run(&trace, &variants, "static-large", |o| o.kv_bytes = 1.0);
    assert_eq!((none.refused, none.tokens()), (40, 0));
}

#[test]
fn a_rules_variant_is_waited_for_when_its_memory_is_taken() {
    println!("seed {SEED}");
    let trace = trace(f64::INFINITY, 40);
    let most = trace.iter().map(|r| f64::from(r.prompt + r.output)).fold(0.0, f64::max);
    let variants = both();
    let large = variants[1].costs.work.kv_bytes;
    // Memory for the longest request of the large variant, and no more.
    let tight = |policy| run(&trace, &variants, policy, |o| o.kv_bytes = most * large);
    let wanted: u64 = trace.iter().map(|r| u64::from(r.output)).sum();
    for policy in ["static-large", "static-small", "paper"] {
        let report = tight(policy);
        assert_eq!((report.tokens(), report.refused), (wanted, 0), "{policy}");
        match policy {
            "static-large" => assert_eq!(report.variants[0].tokens, 0),
            "static-small" => assert_eq!(report.variants[1].tokens, 0),
            _ => assert!(report.variants.iter().all(|v| v.tokens > 0)),
        }
    }
}
