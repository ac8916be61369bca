//! Chosen drafts against the best ones on recorded step times, and predictions of these times.
//!
//! `data/steps.jsonl` and `data/steps-8k.jsonl` are what `aio bench plans --record` measured with the default model on two cores.
//! On recorded times a choice depends on nothing but the choosing, so it must be exact, up to what a sequence's draws can tell of
//! its chance, and to row counts whose time no step has told yet.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod noise;
mod recorded;

use aio_orchestrator::{CostModel, StepRecord, StepTime};
use noise::Noise;
use recorded::Recorded;

const CHANCES: [f64; 5] = [0.0, 0.3, 0.6, 0.8, 0.95];
/// Steps before a choice counts.
const STEPS: u32 = 64;

/// A settled choice.
struct Settled {
    /// Its regret against the best of all plans, with the true chance.
    regret: f64,
    /// Its regret with the tokens that it expects itself: what is left once the luck of the draws is taken out.
    own: f64,
    what: String,
}

/// Settled choices of all contexts, batches, chances and seeds.
fn settled(recorded: &Recorded, seeds: u64) -> Vec<Settled> {
    let mut all = Vec::new();
    for cell in recorded.table.cells() {
        let (sequences, most) = (cell.1, recorded.most_rows(cell));
        let time = |rows| recorded.time(cell, rows);
        for (chance, seed) in CHANCES.into_iter().flat_map(|chance| (0..seeds).map(move |seed| (chance, seed))) {
            let trial = recorded.trial(cell, chance);
            let (best, rate) = trial.best(most - sequences, time);
            let run = |drafts: &[u32]| Ok::<_, ()>(StepTime::Measured(time(sequences + drafts.iter().sum::<u32>())));
            let choice = trial.settle(&mut recorded.speculator(cell), (STEPS, seed), run).unwrap();
            let regret = 1.0 - trial.tokens(&choice.drafts) / time(choice.rows) / rate;
            let chosen = choice.expected_tokens / time(choice.rows);
            let others = choice.losers.iter().map(|l| l.tokens / time(sequences + l.drafts));
            let own = 1.0 - chosen / others.fold(chosen, f64::max);
            all.push(Settled {
                regret,
                own,
                what: format!("{cell:?}, chance {chance}, seed {seed}: best {best}, {choice}"),
            });
        }
    }
    all
}

#[test]
fn the_choice_is_exact_on_recorded_times() {
    is_exact(&Recorded::read(), 0.03, 0.05);
    // More cells, of which 64 steps see less: a step takes up to 0.2 s, and drafts of all sequences cost most of it.
    is_exact(&Recorded::read_8k(), 0.04, 0.06);
}

/// Asserts that 95 of 100 choices lose at most `own` by their own expectations, and `truth` by the true chance.
fn is_exact(recorded: &Recorded, own: f64, truth: f64) {
    let mut all = settled(recorded, 5);
    for (of, name, median, most) in [
        ((|s| s.own) as fn(&Settled) -> f64, "with its own expectations", 0.0, own),
        (|s| s.regret, "with the true chance", 0.01, truth),
    ] {
        all.sort_by(|a, b| of(a).total_cmp(&of(b)));
        let at = |share: f64| &all[(share * (all.len() - 1) as f64) as usize];
        println!(
            "seeds 0 to 4, {} choices, regret {name}: median {:.4}, 95 of 100 {:.4}",
            all.len(),
            of(at(0.5)),
            of(at(0.95))
        );
        all.iter().rev().take(6).for_each(|s| println!("  {:.4} {}", of(s), s.what));
        // With the true chance, some of it is luck: a few dozen draws do not tell 0.6 from 0.65.
        assert!(of(at(0.5)) <= median + 1e-9, "{name}: {} {}", of(at(0.5)), at(0.5).what);
        assert!(of(at(0.95)) <= most, "{name}: {} {}", of(at(0.95)), at(0.95).what);
    }
}

/// Steps of the recording in a seeded order, each as long as the median of its like.
fn shuffled(recorded: &Recorded, seed: u64) -> Vec<StepRecord> {
    let mut noise = Noise::new(seed);
    let median = |s: &StepRecord| StepRecord { seconds: recorded.time((s.context(), s.sequences), s.rows), ..*s };
    let mut all: Vec<StepRecord> = recorded.recording.steps.iter().map(median).collect();
    (1..all.len()).rev().for_each(|i| all.swap(i, noise.below(i as u64 + 1) as usize));
    all
}

#[test]
fn recorded_times_are_predicted_after_fifty_steps() {
    for recorded in [Recorded::read(), Recorded::read_8k()] {
        are_predicted(&recorded);
    }
}

fn are_predicted(recorded: &Recorded) {
    for seed in 0..3 {
        let (mut model, mut errors) = (CostModel::new(recorded.recording.head.work), Vec::new());
        for (at, step) in shuffled(recorded, seed).iter().enumerate() {
            if at >= 50 {
                errors.push((model.predict(step.size()).0 / step.seconds - 1.0).abs());
            }
            model.observe(step.size(), StepTime::Measured(step.seconds));
        }
        errors.sort_by(f64::total_cmp);
        let (median, p95) = (errors[errors.len() / 2], errors[errors.len() * 95 / 100]);
        println!("seed {seed}, {} steps: median {median:.4}, 95 of 100 {p95:.4}", errors.len());
        assert!(median <= 0.05 && p95 <= 0.15, "seed {seed}: {median} {p95}");
    }
}

/// At fixed times, a higher acceptance never means fewer drafts.
#[test]
fn higher_acceptance_never_shortens_the_drafts() {
    for recorded in [Recorded::read(), Recorded::read_8k()] {
        never_shortens(&recorded);
    }
}

fn never_shortens(recorded: &Recorded) {
    for cell in recorded.table.cells() {
        let best = |chance| {
            let totals = recorded.most_rows(cell) - cell.1;
            recorded.trial(cell, chance).best(totals, |rows| recorded.time(cell, rows)).0
        };
        let drafts: Vec<u32> = (0..=40).map(|a| best(f64::from(a) / 40.0)).collect();
        assert!(drafts.windows(2).all(|w| w[0] <= w[1]), "{cell:?}: {drafts:?}");
        assert!(drafts[0] == 0 && drafts[40] > 2, "{cell:?}: {drafts:?}");
    }
}
