//! The speculator on simulated machines: it never loses, and it gains where there is something to gain.
//!
//! *Losing* is measured without luck. A step counts with its expected seconds, including the machine's drift but not
//! the noise of the single step. Each token counts with the expected seconds of a plain step at the time it was made,
//! divided by the tokens of a plain step. Drafts of a model cost their expected seconds too. At no time may the first
//! sum exceed 1.01 times the second by more than 8 plain steps, at their mean so far. The speculator itself sees only
//! noisy times.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod machine;
mod noise;

use aio_orchestrator::{DrafterKind, Reason};
use machine::{Drift, Machine, Setting, Shape, Text, drawn, drawn_dear, run};
use std::ops::Range;

/// Number of settings in the test for losses; the ignored test runs more.
const SEEDS: u64 = 250;

fn quiet(shape: Shape) -> Machine {
    Machine { shape, drift: Drift::None, sigma: 0.05, outliers: 0.01 }
}

fn setting(machine: Machine, text: Text) -> Setting {
    let believed = machine.shape;
    let (kind, cost, sequences, fixed, comings) = (DrafterKind::Text, 0.0, 1, (0, 0), false);
    Setting { machine, believed, text, kind, cost, sequences, rows: 17, fixed, comings, steps: 12_000, seed: 1 }
}

/// Tokens per plain step's time with always `k` drafts, each right with chance `p`.
fn fixed_gain(shape: Shape, p: f64, k: u32) -> f64 {
    let tokens: f64 = (0..=k).map(|j| p.powi(j as i32)).sum();
    tokens * shape.time(1, 1.0) / shape.time(k + 1, 1.0)
}

/// Mean gain of a text over a few seeds, and of the best fixed number of drafts.
fn gains(setting: Setting, p: f64) -> (f64, f64) {
    let best = (0..=machine::DRAFTS).map(|k| fixed_gain(setting.machine.shape, p, k)).fold(0.0, f64::max);
    let gain = (0..4).map(|seed| run(&Setting { seed, ..setting }).gain()).sum::<f64>() / 4.0;
    (gain, best)
}

/// Largest excesses in plain steps, with their seeds.
fn excesses(drawn: fn(u64) -> Setting, seeds: Range<u64>) -> Vec<(f64, u64)> {
    let mut worst: Vec<(f64, u64)> = seeds.map(|seed| (run(&drawn(seed)).worst, seed)).collect();
    worst.sort_by(|a, b| b.0.total_cmp(&a.0));
    worst
}

#[test]
fn it_never_loses() {
    for (drawn, seeds) in [(drawn as fn(u64) -> Setting, SEEDS), (drawn_dear, SEEDS / 2)] {
        let (excess, seed) = excesses(drawn, 0..seeds)[0];
        println!("largest excess {excess:.2} plain steps, seed {seed}");
        assert!(excess <= 8.0, "{excess} plain steps lost: {:?}", drawn(seed));
    }
}

/// The same for many more settings: `cargo test --release -p aio-orchestrator -- --ignored`.
///
/// The account is an estimate from noisy times. While single steps vary by 10 %, every run keeps the bound. At 30 %, a
/// few consecutive plain steps that happen to be slow look like a slow machine: at most one run in a thousand may
/// exceed the bound, by at most as much again.
#[test]
#[ignore = "takes minutes; .ci/long runs it"]
fn it_never_loses_in_many_settings() {
    for drawn in [drawn, drawn_dear] {
        let worst = excesses(drawn, SEEDS..5000);
        println!("largest excesses in plain steps, with seeds: {:.2?}", &worst[..12]);
        let over: Vec<_> = worst.iter().filter(|(excess, _)| *excess > 8.0).collect();
        assert!(over.iter().all(|(_, seed)| drawn(*seed).machine.sigma > 0.1), "{over:?}");
        assert!(over.len() * 1000 <= worst.len() && worst[0].0 <= 16.0, "{over:?}");
    }
}

/// A machine that other load repeatedly slows down, by more than any gain.
#[test]
fn others_on_the_machine_do_not_make_it_lose() {
    for shape in machine::SHAPES {
        for text in machine::TEXTS {
            for sigma in [0.03, 0.1] {
                let setting = setting(Machine { drift: Drift::Others, sigma, ..quiet(shape) }, text);
                let worst = |seed| run(&Setting { seed, steps: 4000, ..setting }).worst;
                let excess = (0..3).map(worst).fold(0.0, f64::max);
                assert!(excess <= 8.0, "{shape:?}, {text:?}, noise {sigma}: {excess} plain steps lost");
            }
        }
    }
}

/// Rows are free, and drafts are right until there are many: every loss comes from drafting.
#[test]
fn drafting_is_paid() {
    for (cost, sigma) in [(0.1, 0.1), (0.5, 0.3)] {
        for drift in [Drift::None, Drift::Slow, Drift::Steps] {
            let machine = Machine { drift, sigma, outliers: 0.0, ..quiet(Shape::Flat) };
            let setting = setting(machine, Text::RejectMoreThan(2));
            let worst = |seed| run(&Setting { kind: DrafterKind::Model, cost, seed, steps: 4000, ..setting }).worst;
            let excess = (0..8).map(worst).fold(0.0, f64::max);
            println!("a draft costs {cost}, {drift:?}: excess {excess:.2}");
            assert!(excess <= 8.0, "a draft costs {cost}, {drift:?}: {excess}");
        }
    }
}

#[test]
fn it_gains_about_what_the_best_fixed_length_gains() {
    for shape in [Shape::Flat, Shape::Cpu, Shape::Roofline] {
        for (p, share) in [(0.9, 0.95), (0.5, 0.95), (0.3, 0.95)] {
            let (gain, best) = gains(setting(quiet(shape), Text::Chance(p)), p);
            println!("{shape:?}, chance {p}: {gain:.3} of {best:.3}, {:.3}", gain / best);
            assert!(gain >= share * best, "{shape:?}, chance {p}: {gain} of {best}");
        }
    }
}

#[test]
fn a_wrong_belief_costs_little_in_the_long_run() {
    for (shape, believed) in [(Shape::Cpu, Shape::Steep), (Shape::Cpu, Shape::Flat), (Shape::Roofline, Shape::Steep)] {
        for p in [0.9, 0.5] {
            let setting = Setting { believed, ..setting(quiet(shape), Text::Chance(p)) };
            let (gain, best) = gains(setting, p);
            println!("{shape:?} believed {believed:?}, chance {p}: {gain:.3} of {best:.3}, {:.3}", gain / best);
            assert!(gain >= 0.9 * best, "{shape:?} believed {believed:?}, chance {p}: {gain} of {best}");
        }
    }
}

#[test]
fn it_stays_away_where_nothing_is_to_be_had() {
    for (shape, p) in [(Shape::Steep, 0.5), (Shape::Steep, 0.3), (Shape::Cpu, 0.05)] {
        let report = run(&setting(quiet(shape), Text::Chance(p)));
        assert!(report.gain() > 0.99, "{shape:?}, chance {p}: {}", report.gain());
        assert!(report.speculative < 600, "{shape:?}, chance {p}: {:?}", report.reasons);
    }
}

#[test]
fn texts_that_change_are_followed_better_than_any_fixed_length_does() {
    for kind in [DrafterKind::Text, DrafterKind::Model] {
        let text = Text::Phases(300, 0.95, 0.02);
        let auto = Setting { kind, ..setting(quiet(Shape::Cpu), text) };
        let gain = run(&auto).gain();
        for k in 0..=machine::DRAFTS {
            let fixed = run(&Setting { fixed: (1, k), ..auto }).gain();
            assert!(gain > fixed, "{kind:?}: {gain}, with always {k} drafts {fixed}");
        }
        println!("{kind:?}: {gain:.3}");
    }
}

#[test]
fn a_drafter_that_was_given_up_comes_back() {
    for kind in [DrafterKind::Text, DrafterKind::Model] {
        let text = Text::Phases(2000, 0.0, 0.95);
        let report = run(&Setting { kind, steps: 4000, ..setting(quiet(Shape::Cpu), text) });
        assert!(report.speculative > 1000, "{kind:?}: {:?}", report.reasons);
        assert!(report.worst < 8.0);
    }
}

#[test]
fn batches_share_one_step() {
    let machine = quiet(Shape::Cpu);
    let setting = Setting { sequences: 6, rows: 6 * 17, steps: 3000, ..setting(machine, Text::Chance(0.9)) };
    let report = run(&setting);
    assert!(report.gain() > 1.2, "{}", report.gain());
    assert!(report.worst < 8.0);
}

#[test]
fn the_same_figures_give_the_same_choices() {
    let setting = drawn(7);
    let (a, b) = (run(&setting), run(&setting));
    assert_eq!((a.spent, a.tokens, a.reasons), (b.spent, b.tokens, b.reasons));
}

#[test]
fn fixed_lengths_are_kept() {
    for (shape, text, k) in [(Shape::Steep, Text::Reject, 3), (Shape::Flat, Text::Chance(0.9), 0)] {
        let report = run(&Setting { fixed: (1, k), steps: 100, ..setting(quiet(shape), text) });
        assert_eq!((report.reasons, report.speculative), (vec![(Reason::NoDrafts, 100)], 0));
        let each = shape.time(1 + k, 1.0);
        assert!((report.spent - 100.0 * each).abs() < 1e-9, "{k} drafts: {}", report.spent);
    }
}
