//! The speculator on simulated machines: it never loses, and it gains where there is something to gain.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod machine;
mod noise;

use aio_orchestrator::DrafterKind;
use machine::{Drift, Machine, Setting, Shape, Text, run};
use noise::Noise;

const SHAPES: [Shape; 4] = [Shape::Flat, Shape::Cpu, Shape::Steep, Shape::Roofline];
const TEXTS: [Text; 12] = [
    Text::Reject,
    Text::Until(300),
    Text::Until(1500),
    Text::RejectMost,
    Text::RejectMoreThan(2),
    Text::Phases(200, 0.95, 0.02),
    Text::Phases(15, 1.0, 0.0),
    Text::Lies,
    Text::Chance(0.1),
    Text::Chance(0.3),
    Text::Chance(0.5),
    Text::Chance(0.9),
];

/// A setting drawn from a seed.
fn drawn(seed: u64) -> Setting {
    let mut noise = Noise::new(seed ^ 0xabcd);
    let mut pick = |n: usize| noise.below(n as u64) as usize;
    let machine = Machine {
        shape: SHAPES[pick(4)],
        drift: [Drift::None, Drift::Slow, Drift::Steps][pick(3)],
        sigma: [0.0, 0.03, 0.1, 0.3][pick(4)],
        outliers: [0.0, 0.01][pick(2)],
    };
    Setting {
        machine,
        believed: [machine.shape, Shape::Flat, Shape::Steep][pick(3)],
        text: TEXTS[pick(12)],
        kind: [DrafterKind::Text, DrafterKind::Model][pick(2)],
        sequences: [1, 1, 1, 4][pick(4)],
        steps: 4000,
        seed,
        fixed: None,
    }
}

#[test]
fn it_never_loses() {
    let mut all = Vec::new();
    for seed in 0..std::env::var("SEEDS").map_or(300, |s| s.parse().unwrap()) {
        let setting = drawn(seed);
        let report = run(&setting);
        all.push((report.worst, seed, setting, report));
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (worst, seed, s, r) in &all[..25] {
        println!(
            "{worst:.2} seed {seed} {:?} believed {:?} {:?} {:?} x{} gain {:.3} {:?}",
            s.machine,
            s.believed,
            s.text,
            s.kind,
            s.sequences,
            r.gain(),
            r.reasons
        );
    }
    assert!(all[0].0 <= 8.0);
}

#[test]
fn it_gains() {
    for shape in SHAPES {
        for p in [0.1, 0.3, 0.5, 0.7, 0.9] {
            for sigma in [0.0, 0.1, 0.3] {
                for kind in [DrafterKind::Text, DrafterKind::Model] {
                    for believed in [shape, Shape::Flat, Shape::Steep] {
                        let machine = Machine { shape, drift: Drift::None, sigma, outliers: 0.01 };
                        let mut gain = 0.0;
                        let mut why = vec![];
                        for seed in 0..3 {
                            let setting = Setting {
                                machine,
                                believed,
                                text: Text::Chance(p),
                                kind,
                                sequences: 1,
                                steps: 4000,
                                seed,
                                fixed: None,
                            };
                            let r = run(&setting);
                            gain += r.gain() / 3.0;
                            why = r.reasons;
                        }
                        let fixed = |k: u32| (0..=k).map(|j| p.powi(j as i32)).sum::<f64>() / shape.time(k + 1, 1.0);
                        let best = (0..=16).map(fixed).fold(0.0, f64::max);
                        if gain < 0.97 * best {
                            println!(
                                "{shape:?} p {p} sigma {sigma} {kind:?} believed {believed:?}: {gain:.3} of {best:.3}: {:.3} {why:?}",
                                gain / best
                            );
                        }
                    }
                }
            }
        }
    }
}
