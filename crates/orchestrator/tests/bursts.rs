//! Bursts on simulated devices: the account covers them as it covers steps, and they gain where there is something to
//! gain.
//!
//! *Losing* is measured as in `speculation.rs`. The plain alternative to a burst is a plain burst of all the tokens that
//! are wanted, with one launch; the plain alternative to a step is a plain step.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod machine;
mod noise;

use aio_orchestrator::{BurstLimits, ObservedBurst, SpeculationOptions, Speculator, StepTime};
use machine::bursts::{BurstSetting, drawn, run};
use machine::{Drift, Machine, Shape, Text};
use std::ops::Range;

/// Number of settings in the test for losses; the ignored test runs more.
const SEEDS: u64 = 250;

fn quiet(shape: Shape) -> Machine {
    Machine { shape, drift: Drift::None, sigma: 0.05, outliers: 0.01 }
}

fn setting(shape: Shape, text: Text) -> BurstSetting {
    BurstSetting {
        machine: quiet(shape),
        believed: shape,
        text,
        found: 1.0,
        launch: 0.1,
        host: 0.3,
        limit: 64,
        bursts: 1.0,
        text_tokens: 1000,
        tokens: 20_000,
        seed: 1,
    }
}

/// Largest excesses in plain steps, with their seeds.
fn excesses(seeds: Range<u64>) -> Vec<(f64, u64)> {
    let mut worst: Vec<(f64, u64)> = seeds.map(|seed| (run(&drawn(seed)).worst, seed)).collect();
    worst.sort_by(|a, b| b.0.total_cmp(&a.0));
    worst
}

#[test]
fn bursts_never_lose() {
    let worst = excesses(0..SEEDS);
    println!("largest excesses in plain steps, with seeds: {:.2?}", &worst[..8]);
    let (excess, seed) = worst[0];
    assert!(excess <= 8.0, "{excess} plain steps lost: {:?}", drawn(seed));
}

/// The same for many more settings: `cargo test --release -p aio-orchestrator -- --ignored`. As for steps, a few runs may
/// exceed the bound where single steps vary by 30 %.
#[test]
#[ignore = "takes minutes; .ci/long runs it"]
fn bursts_never_lose_in_many_settings() {
    let worst = excesses(SEEDS..5000);
    println!("largest excesses in plain steps, with seeds: {:.2?}", &worst[..12]);
    let over: Vec<_> = worst.iter().filter(|(excess, _)| *excess > 8.0).collect();
    assert!(over.iter().all(|(_, seed)| drawn(*seed).machine.sigma > 0.1), "{over:?}");
    assert!(over.len() * 1000 <= worst.len() && worst[0].0 <= 16.0, "{over:?}");
}

/// Plain bursts of four steps of a second each, then many of one step whose launch is slow but was not measured.
#[test]
fn a_single_plain_step_with_an_unmeasured_launch_tells_nothing() {
    let mut speculator = Speculator::new(SpeculationOptions { max_drafts: 0, max_rows: 4, model: Shape::Flat.model() });
    let limits = BurstLimits { tokens: 4, drafts: 0, kv_bytes: 0.0 };
    let burst = |speculator: &mut Speculator, steps: usize, launch: Option<f64>, seconds: f64| {
        let (choice, time) = (speculator.choose_burst(limits), StepTime::Modelled(seconds));
        let (steps, produced) = (&vec![[0, 0]; steps][..], steps as u32);
        speculator.observe_burst(&ObservedBurst { choice: &choice, kv_bytes: 0.0, time, launch, steps, produced });
        speculator.choose_burst(limits).step.expected_seconds
    };
    (0..8).for_each(|_| _ = burst(&mut speculator, 4, Some(1.0), 5.0));
    for _ in 0..8 {
        let expected = burst(&mut speculator, 1, None, 4.0);
        assert!((expected - 1.0).abs() < 0.01, "{expected}");
    }
    let expected = (0..8).map(|_| burst(&mut speculator, 1, Some(1.0), 4.0)).last().unwrap();
    assert!(expected > 2.0, "a measured launch tells: {expected}");
}

#[test]
fn bursts_whose_drafts_are_never_right_run_plain() {
    for shape in [Shape::Cpu, Shape::Steep] {
        let report = run(&setting(shape, Text::Reject));
        assert!(report.worst <= 8.0 && report.gain() > 0.99, "{shape:?}: {report:?}");
        assert!(report.speculative < 300, "{shape:?}: {report:?}");
    }
}

/// A burst whose failure the account cannot pay for is shortened; once its drafts have paid, it is whole.
#[test]
fn bursts_are_as_long_as_the_account_allows() {
    let dear = run(&setting(Shape::Cpu, Text::Chance(0.9)));
    assert!(dear.shortened > 100 && (2..32).contains(&dear.longest), "{dear:?}");
    let cheap = run(&setting(Shape::Flat, Text::Chance(0.9)));
    assert!(cheap.shortened > 0 && cheap.longest >= 32, "{cheap:?}");
}

#[test]
fn bursts_gain_where_drafts_are_right() {
    for (shape, p, least) in [(Shape::Flat, 0.9, 4.0), (Shape::Flat, 0.5, 1.5), (Shape::Cpu, 0.9, 1.8)] {
        let gain =
            (0..4).map(|seed| run(&BurstSetting { seed, ..setting(shape, Text::Chance(p)) }).gain()).sum::<f64>() / 4.0;
        println!("{shape:?}, chance {p}: {gain:.3}");
        assert!(gain >= least, "{shape:?}, chance {p}: {gain}");
    }
}

#[test]
fn drafts_that_come_to_nothing_are_tried_again_later() {
    let report = run(&setting(Shape::Flat, Text::Phases(4000, 0.0, 0.95)));
    assert!(report.gain() > 1.3 && report.worst <= 8.0, "{report:?}");
}
