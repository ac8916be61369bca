//! The speculator on real texts and a simulated machine: what drafts gain in short outputs, begun cold or warm.
//!
//! `texts.jsonl` has the tokens of the prompts in `benches/workloads` and of the default model's outputs. Drafters run for
//! real, drafts are compared with the output, and step times come from a curve that was measured, with noise. So choices
//! can be compared with fixed lengths to a percent, which no run on a shared machine can.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod noise;

use aio_orchestrator::{
    Candidate, Ceilings, Drafter, DrafterKind, Observed, Outcome, SpeculationOptions, Speculator, StepCost, StepModel,
    SuffixDrafter, SuffixOptions,
};
use noise::Noise;

/// Steps of 1 to 17 rows as the default model in Q4_1 takes them on two cores with AVX-512, in plain steps; beyond, the
/// last slope.
const MEASURED: [(u32, f64); 11] = [
    (1, 1.0),
    (2, 1.04),
    (3, 1.07),
    (4, 1.12),
    (5, 1.17),
    (6, 1.26),
    (8, 1.43),
    (9, 1.61),
    (12, 2.01),
    (16, 2.4),
    (17, 2.67),
];
/// Numbers of drafts to compare with.
const FIXED: [u32; 9] = [0, 1, 2, 3, 4, 6, 8, 12, 16];
const WORKLOADS: [&str; 8] = ["copy", "grounded", "code", "lists", "chat", "chat-hot", "prose", "prose-hot"];
/// Seconds of a plain step.
const PLAIN: f64 = 5.2e-3;

struct Text {
    workload: String,
    prompt: Vec<u32>,
    output: Vec<u32>,
}

fn texts() -> Vec<Text> {
    include_str!("texts.jsonl").lines().map(parse).collect()
}

/// One line: `{"workload":"copy","prompt":[1,2],"output":[3]}`.
fn parse(line: &str) -> Text {
    let list = |name: &str| -> Vec<u32> {
        let from = line.find(&format!("\"{name}\":[")).unwrap() + name.len() + 4;
        let numbers = &line[from..from + line[from..].find(']').unwrap()];
        numbers.split(',').map(|n| n.parse().unwrap()).collect()
    };
    let workload = line.split('"').nth(3).unwrap().to_owned();
    Text { workload, prompt: list("prompt"), output: list("output") }
}

fn curve(rows: u32) -> f64 {
    let above = MEASURED.partition_point(|(r, _)| *r < rows).min(MEASURED.len() - 1).max(1);
    let ((r0, t0), (r1, t1)) = (MEASURED[above - 1], MEASURED[above]);
    t0 + (t1 - t0) * (f64::from(rows) - f64::from(r0)) / f64::from(r1 - r0)
}

fn speculator() -> Speculator {
    // What an engine believes of the default model before it has measured anything.
    let cost = StepCost { bytes: 96.6e6, bytes_per_row: 23e3, macs_per_row: 134.5e6, seconds: 50e-6 };
    Speculator::new(SpeculationOptions {
        max_drafts: 64,
        max_rows: 72,
        model: StepModel::Roofline(cost, Ceilings { bandwidth: 20e9, peak: 150e9 }),
    })
}

/// Expected seconds of making a text's output, with always so many drafts or with as many as the speculator chooses.
fn replay(speculator: &mut Speculator, text: &Text, fixed: Option<u32>, sigma: f64, noise: &mut Noise) -> f64 {
    let mut drafter = SuffixDrafter::new(SuffixOptions::default());
    drafter.extend(&text.prompt);
    drafter.extend(&text.output[..1]);
    let mut acceptance = speculator.sequence(DrafterKind::Text);
    let (mut made, mut spent) = (1, 0.0);
    while made < text.output.len() {
        let left = text.output.len() - made;
        let mut drafts = Vec::new();
        let matched = drafter.draft((left - 1).min(64), &mut drafts).unwrap();
        let offered = drafts.len() as u32;
        let most = fixed.unwrap_or(u32::MAX).min(offered);
        let always = if fixed.is_some() { most } else { 0 };
        let acceptance = &mut acceptance;
        let candidate = Candidate { acceptance, matched, drafts: most, fixed: always, seconds_per_draft: 0.0 };
        let choice = speculator.choose(&[candidate], 0.0);
        let right = drafts.iter().zip(&text.output[made..]).take_while(|(a, b)| a == b).count() as u32;
        let drafted = choice.drafts[0];
        let produced = right.min(drafted) + 1;
        let time = PLAIN * curve(choice.rows);
        let slow = if noise.happens(0.01) { 5.0 } else { 1.0 };
        let agreed = right.min(produced);
        let outcome = Outcome { acceptance, matched, offered, drafted, fixed: always, produced, agreed };
        let (seconds, outcomes) = (time * slow * (sigma * noise.normal()).exp(), &mut [outcome]);
        speculator.observe(Observed { kv_bytes: 0.0, seconds, draft_seconds: 0.0, fixed_seconds: 0.0, outcomes });
        drafter.extend(&text.output[made..made + produced as usize]);
        made += produced as usize;
        spent += time;
    }
    spent
}

/// Gain over plain steps of all texts of a workload; `cold`: each text begins with a new speculator. Several seeds of noise,
/// where that matters.
fn gain(texts: &[Text], workload: &str, fixed: Option<u32>, cold: bool, sigma: f64) -> f64 {
    let (mut plain, mut spent) = (0.0, 0.0);
    let seeds = if fixed.is_some() { 1 } else { 6 };
    for seed in 0..seeds {
        let mut noise = Noise::new(seed);
        let mut warm = speculator();
        for text in texts.iter().filter(|t| t.workload == workload) {
            if cold {
                warm = speculator();
            }
            spent += replay(&mut warm, text, fixed, sigma, &mut noise);
            plain += PLAIN * (text.output.len() - 1) as f64;
        }
    }
    plain / spent
}

/// With the noise of a quiet machine, and with three times as much. A process that makes one text begins cold: it has to
/// measure what rows cost before it can rely on it, in outputs of 60 to 250 tokens.
#[test]
fn auto_is_about_as_good_as_the_best_fixed_length() {
    let texts = texts();
    for (sigma, warm_share, cold_share) in [(0.03, 0.96, 0.88), (0.1, 0.93, 0.86)] {
        for workload in WORKLOADS {
            let fixed = FIXED.map(|k| (gain(&texts, workload, Some(k), false, sigma), k));
            let (best, k) = fixed.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            let [warm, cold] = [false, true].map(|cold| gain(&texts, workload, None, cold, sigma) / best);
            println!("{workload:9} noise {sigma}: always {k:2} drafts {best:.3}; auto {warm:.3} of it, cold {cold:.3}");
            assert!(warm >= warm_share && cold >= cold_share, "{workload}, noise {sigma}: {warm:.3}, {cold:.3}");
        }
    }
}
