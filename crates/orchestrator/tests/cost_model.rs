//! The cost model on simulated machines: wrong rooflines, drift, wild steps, a busy neighbour.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod noise;

use aio_orchestrator::{Ceilings, CostModel, Predicted, StepCost, StepSize, StepTime, StepWork};
use noise::Noise;

const WORK: StepWork = StepWork {
    cost: StepCost { bytes: 96.58e6, bytes_per_row: 0.0, macs_per_row: 134e6, seconds: 50e-6 },
    ceilings: Ceilings { bandwidth: 21.5e9, peak: 233e9 },
    kv_bytes: 23_040.0,
    kv_macs: 34_560.0,
};

/// What a machine really does: other rates than its profile says, and keys and values at a third of the bandwidth.
fn truth(step: StepSize, speed: f64) -> f64 {
    let ceilings = Ceilings { bandwidth: 17e9, peak: 150e9 };
    let work = StepWork { ceilings, kv_bytes: 3.0 * WORK.kv_bytes, ..WORK };
    work.predict(step.sequences, step.rows.div_ceil(step.sequences), step.positions as f64 / f64::from(step.sequences))
        .0
        / speed
}

/// Steps of a server: mostly decoding with drafts, now and then a prompt.
fn step(noise: &mut Noise, i: u32) -> StepSize {
    let sequences = 1 + noise.below(4) as u32;
    let rows = if noise.happens(0.1) { 512 } else { sequences * (1 + noise.below(4) as u32) };
    let positions = u64::from(sequences) * u64::from(200 + 4 * i) + noise.below(200);
    StepSize { sequences: if rows == 512 { 1 } else { sequences }, rows, positions }
}

fn error(predicted: Predicted, seconds: f64) -> f64 {
    (predicted.0 / seconds - 1.0).abs()
}

#[test]
fn a_wrong_roofline_is_corrected_within_fifty_steps() {
    for seed in 0..5 {
        println!("seed {seed}");
        let (mut model, mut noise) = (CostModel::new(WORK), Noise::new(seed));
        let mut errors = Vec::new();
        for i in 0..400 {
            let step = step(&mut noise, i);
            let wild = if noise.happens(0.02) { 8.0 } else { 1.0 };
            let seconds = truth(step, 1.0) * wild * (1.0 + 0.03 * noise.normal().clamp(-2.0, 2.0));
            if i >= 50 && wild == 1.0 {
                errors.push(error(model.predict(step), seconds));
            }
            model.observe(step, StepTime::Measured(seconds));
        }
        errors.sort_by(f64::total_cmp);
        let (median, p95) = (errors[errors.len() / 2], errors[errors.len() * 95 / 100]);
        println!("median {median:.3}, p95 {p95:.3}; {}", model.errors().unwrap());
        assert!(median <= 0.05 && p95 <= 0.15, "{median} {p95}");
    }
}

/// One sequence, now and then with drafts, beside a process that streams memory for a while. The estimated speed of the machine
/// must return with it, not only the predictions.
#[test]
fn the_speed_recovers_where_most_steps_are_alike() {
    for seed in 0..20 {
        let (mut model, mut noise) = (CostModel::new(WORK), Noise::new(seed));
        let mut run = |steps: u32, (slower, jitter): (f64, f64), model: &mut CostModel| {
            for i in 0..steps {
                let rows = if noise.happens(0.2) { 2 + noise.below(6) as u32 } else { 1 };
                let size = StepSize { sequences: 1, rows, positions: 100 + u64::from(i) };
                let factor = slower * (jitter * noise.normal()).exp();
                model.observe(size, StepTime::Measured(factor * truth(size, 1.0)));
            }
        };
        run(200, (1.0, 0.03), &mut model);
        let before = model.speed().relative;
        run(150, (2.5, 0.15), &mut model);
        let busy = model.speed().relative;
        run(64, (1.0, 0.03), &mut model);
        let after = model.speed().relative;
        println!("seed {seed}: {before:.2} before, {busy:.2} beside the neighbour, {after:.2} after");
        assert!(busy < 0.7 * before, "seed {seed}: {before} {busy}");
        assert!((after / before - 1.0).abs() < 0.15, "seed {seed}: {before} before, {after} after");
    }
}

/// Kernels have steps: one row count may take twice as long as the terms say, always.
#[test]
fn a_row_count_that_is_always_odd_is_learned() {
    for seed in 0..20 {
        let (mut model, mut noise) = (CostModel::new(WORK), Noise::new(seed));
        let mut late = Vec::new();
        for i in 0..400 {
            let rows = 1 + noise.below(4) as u32;
            let size = StepSize { sequences: 1, rows, positions: 300 };
            let odd = if rows == 3 && i >= 100 { 2.2 } else { 1.0 };
            let seconds = odd * (0.03 * noise.normal()).exp() * truth(size, 1.0);
            if i >= 200 {
                late.push(error(model.predict(size), seconds));
            }
            model.observe(size, StepTime::Measured(seconds));
        }
        late.sort_by(f64::total_cmp);
        let p95 = late[late.len() * 95 / 100];
        println!("seed {seed}: 95 of 100 within {p95:.3}");
        assert!(p95 < 0.15, "seed {seed}: {p95}");
    }
}

#[test]
fn a_busy_neighbour_is_followed_and_forgotten() {
    println!("seed 3");
    let (mut model, mut noise) = (CostModel::new(WORK), Noise::new(3));
    for i in 0..600 {
        let step = step(&mut noise, 100);
        let busy = (200..400).contains(&i);
        let seconds = truth(step, if busy { 0.4 } else { 1.0 }) * (1.0 + 0.03 * noise.normal().clamp(-2.0, 2.0));
        // Within 64 steps of each change, predictions are as good as before it.
        if i > 64 && !(200..264).contains(&i) && !(400..464).contains(&i) {
            assert!(error(model.predict(step), seconds) < 0.2, "step {i}");
        }
        model.observe(step, StepTime::Measured(seconds));
        if i == 399 {
            assert!(model.speed().relative < 0.6, "{:?}", model.speed());
        }
    }
}

#[test]
fn single_wild_steps_do_little() {
    let step = StepSize { sequences: 1, rows: 1, positions: 300 };
    let mut model = CostModel::new(WORK);
    model.observe(step, StepTime::Measured(10.0 * truth(step, 1.0)));
    for _ in 0..50 {
        model.observe(step, StepTime::Measured(truth(step, 1.0)));
    }
    let before = model.predict(step).0;
    model.observe(step, StepTime::Measured(50.0));
    model.observe(step, StepTime::Measured(50.0));
    assert!((model.predict(step).0 / before - 1.0).abs() < 0.05);
    for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        model.observe(step, StepTime::Measured(seconds));
    }
    assert!(model.predict(step).0.is_finite());
    assert_eq!(CostModel::new(WORK).errors(), None);
    let broken = StepWork { ceilings: Ceilings { bandwidth: 0.0, peak: 0.0 }, ..WORK };
    let mut model = CostModel::new(broken);
    model.observe(step, StepTime::Measured(1.0));
    assert_eq!(model.errors(), None, "nothing was predicted");
}

#[test]
fn more_bandwidth_is_never_predicted_slower() {
    let mut last = f64::INFINITY;
    for factor in [1.0, 2.0, 4.0] {
        let ceilings = Ceilings { bandwidth: factor * WORK.ceilings.bandwidth, ..WORK.ceilings };
        let model = CostModel::new(StepWork { ceilings, ..WORK });
        let Predicted(seconds) = model.predict(StepSize { sequences: 2, rows: 6, positions: 4000 });
        assert!(seconds < last);
        last = seconds;
    }
}

#[test]
fn more_bandwidth_is_never_slower_for_any_step() {
    for seed in 0..50 {
        let mut noise = Noise::new(seed);
        let ceilings = Ceilings { bandwidth: (1.0 + 3.0 * noise.unit()) * WORK.ceilings.bandwidth, ..WORK.ceilings };
        let works = [WORK, StepWork { ceilings, ..WORK }];
        let models = works.map(CostModel::new);
        for i in 0..100 {
            let size = step(&mut noise, i);
            let (batch, context) = (size.sequences, size.positions as f64 / f64::from(size.sequences));
            let [slow, fast] = works.map(|work| work.predict(batch, size.rows / batch, context));
            assert!(fast <= slow, "seed {seed}: {size:?}, {slow:?}, {fast:?}");
            let [slow, fast] = [&models[0], &models[1]].map(|model| model.predict(size));
            assert!(fast <= slow, "seed {seed}: {size:?}, {slow:?}, {fast:?}");
        }
    }
}

/// Attention computes at a rate that no profile tells, so long contexts are the test of it.
#[test]
fn attention_at_another_rate_is_learned() {
    println!("seed 4");
    let (mut model, mut noise) = (CostModel::new(WORK), Noise::new(4));
    let mut errors = Vec::new();
    for i in 0..300 {
        let sequences = 1 << noise.below(4);
        let (rows, context) = (sequences * (1 + noise.below(9) as u32), 64 << noise.below(8));
        let size = StepSize { sequences, rows, positions: u64::from(sequences) * context + u64::from(rows) };
        let reads = |bytes: f64| bytes / WORK.ceilings.bandwidth;
        let computes = |macs: f64| f64::from(rows) * macs / WORK.ceilings.peak;
        let matrices = reads(WORK.cost.bytes).hypot(computes(WORK.cost.macs_per_row));
        let seen = context as f64;
        let attention = reads(f64::from(sequences) * seen * WORK.kv_bytes).hypot(6.0 * computes(seen * WORK.kv_macs));
        let seconds = (matrices + attention) * (1.0 + 0.03 * noise.normal().clamp(-2.0, 2.0));
        if i >= 50 {
            errors.push(error(model.predict(size), seconds));
        }
        model.observe(size, StepTime::Measured(seconds));
    }
    errors.sort_by(f64::total_cmp);
    let (median, p95) = (errors[errors.len() / 2], errors[errors.len() * 95 / 100]);
    println!("median {median:.3}, p95 {p95:.3}");
    assert!(median <= 0.05 && p95 <= 0.15, "{median} {p95}");
}
