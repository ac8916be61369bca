//! The speculator on real texts and a simulated machine: the gain of drafts in short outputs, started cold or warm.
//!
//! `texts.jsonl` has the tokens of the prompts in `benches/workloads` and of the default model's outputs. Drafters are
//! real, drafts are compared with the output, and step times come from a measured curve with noise. So choices can be
//! compared with fixed lengths to a percent, which is impossible on a shared machine.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod noise;

use aio_orchestrator::{
    Candidate, Ceilings, Drafter, DrafterKind, Observed, Outcome, SpeculationOptions, Speculator, StepCost, StepModel,
    StepTime, SuffixDrafter, SuffixOptions,
};
use noise::Noise;

/// Times of steps of 1 to 17 rows of the default model in Q4_1 on two cores with AVX-512, in plain steps. Beyond, the
/// last slope continues.
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
/// Draft counts to compare with.
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
    // An engine's initial prediction for the default model.
    let cost = StepCost { bytes: 96.6e6, bytes_per_row: 23e3, macs_per_row: 134.5e6, seconds: 50e-6 };
    Speculator::new(SpeculationOptions {
        max_drafts: 64,
        max_rows: 72,
        model: StepModel::Roofline(cost, Ceilings { bandwidth: 20e9, peak: 150e9 }),
    })
}

/// A clock on a shared machine.
struct Clock {
    noise: Noise,
    /// Standard deviation of a step's logarithm.
    sigma: f64,
    /// The effect of other load on a step while it is active.
    busy: Busy,
    is_busy: bool,
}

/// Recurring effect of other load on all steps for some time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Busy {
    Never,
    /// Steps take this many times as long.
    Times(f64),
    /// Steps take this many plain steps longer.
    Longer(f64),
}

/// Chances that other load starts, and ends, before a step.
const BEGIN: f64 = 1.0 / 150.0;
const END: f64 = 1.0 / 50.0;

impl Clock {
    fn new(seed: u64, (sigma, busy): (f64, Busy)) -> Clock {
        Clock { noise: Noise::new(seed), sigma, busy, is_busy: false }
    }

    /// Advances by a step, which may start or end the other load.
    fn tick(&mut self) {
        if self.busy != Busy::Never && self.noise.happens(if self.is_busy { END } else { BEGIN }) {
            self.is_busy = !self.is_busy;
        }
    }

    /// Expected seconds of a step now.
    fn expected(&self, rows: u32) -> f64 {
        let time = PLAIN * curve(rows);
        match self.busy {
            Busy::Times(factor) if self.is_busy => factor * time,
            Busy::Longer(steps) if self.is_busy => time + steps * PLAIN,
            _ => time,
        }
    }

    /// The measured time.
    fn measured(&mut self, expected: f64) -> f64 {
        let slow = if self.noise.happens(0.01) { 5.0 } else { 1.0 };
        let sigma = if self.is_busy { 4.0 * self.sigma } else { self.sigma };
        expected * slow * (sigma * self.noise.normal()).exp()
    }
}

/// Generates a text's output, with a fixed number of drafts or the speculator's choice. Returns the expected seconds,
/// and those of plain steps for the same tokens at the same time.
fn replay(speculator: &mut Speculator, text: &Text, fixed: Option<u32>, clock: &mut Clock) -> (f64, f64) {
    let mut drafter = SuffixDrafter::new(SuffixOptions::default());
    drafter.extend(&text.prompt);
    drafter.extend(&text.output[..1]);
    let mut acceptance = speculator.sequence(DrafterKind::Text);
    let (mut made, mut spent, mut plain) = (1, 0.0, 0.0);
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
        clock.tick();
        let expected = clock.expected(choice.rows);
        let agreed = right.min(produced);
        let outcome = Outcome { acceptance, matched, offered, drafted, fixed: always, produced, agreed };
        let (time, outcomes) = (StepTime::Modelled(clock.measured(expected)), &mut [outcome]);
        let (choice, kv_bytes) = (&choice, 0.0);
        speculator.observe(Observed { choice, kv_bytes, time, draft_seconds: 0.0, fixed_seconds: 0.0, outcomes });
        drafter.extend(&text.output[made..made + produced as usize]);
        made += produced as usize;
        spent += expected;
        plain += clock.expected(1) * f64::from(produced);
    }
    (spent, plain)
}

/// Gain over plain steps for all texts of a workload. `cold`: each text starts with a new speculator. Averaged over
/// several noise seeds where that matters.
fn gain(texts: &[Text], workload: &str, fixed: Option<u32>, cold: bool, noise: (f64, Busy)) -> f64 {
    let (mut plain, mut spent) = (0.0, 0.0);
    let seeds = if fixed.is_some() && noise.1 == Busy::Never { 1 } else { 24 };
    for seed in 0..seeds {
        let mut clock = Clock::new(seed, noise);
        let mut warm = speculator();
        for text in texts.iter().filter(|t| t.workload == workload) {
            if cold {
                warm = speculator();
            }
            let (text_spent, text_plain) = replay(&mut warm, text, fixed, &mut clock);
            (spent, plain) = (spent + text_spent, plain + text_plain);
        }
    }
    plain / spent
}

/// With the noise of a quiet machine, with three times as much, and on one where other load repeatedly makes all steps
/// four times slower for about fifty steps. A process that generates one text starts cold: it must measure the cost of
/// rows before it can rely on it, in outputs of 60 to 250 tokens.
#[test]
fn auto_is_about_as_good_as_the_best_fixed_length() {
    let texts = texts();
    let noises = [
        ((0.03, Busy::Never), 0.96, 0.88),
        ((0.1, Busy::Never), 0.93, 0.86),
        ((0.05, Busy::Times(4.0)), 0.93, 0.86),
        ((0.05, Busy::Longer(3.0)), 0.93, 0.76),
    ];
    for (noise, warm_share, cold_share) in noises {
        for workload in WORKLOADS {
            let fixed = FIXED.map(|k| (gain(&texts, workload, Some(k), false, noise), k));
            let (best, k) = fixed.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            let [warm, cold] = [false, true].map(|cold| gain(&texts, workload, None, cold, noise) / best);
            println!(
                "{workload:9} noise {noise:?}: always {k:2} drafts {best:.3}; auto {warm:.3} of it, cold {cold:.3}"
            );
            assert!(warm >= warm_share && cold >= cold_share, "{workload}, noise {noise:?}: {warm:.3}, {cold:.3}");
        }
    }
}
