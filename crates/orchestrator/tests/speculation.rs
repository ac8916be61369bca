//! The speculator on simulated machines: it never loses, and it gains where there is something to gain.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod machine;
mod noise;

use aio_orchestrator::DrafterKind;
use machine::Shape;
use machine::{Drift, Machine, SHAPES, Setting, Text, drawn, run};

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
