//! Simulated machines and texts, and runs of the speculator on them.
#![allow(dead_code, reason = "each test takes what it needs")]

use super::noise::Noise;
use aio_orchestrator::{
    Acceptance, Buckets, Candidate, DrafterKind, Match, Observed, Outcome, Reason, SpeculationOptions, Speculator,
    StepModel,
};

/// Most drafts of a sequence.
pub const DRAFTS: u32 = 16;

/// How step times go with rows; plain steps take 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A GPU that reads weights and little else: 1 + 0.005 a row.
    Flat,
    /// A CPU: 1.11 1.21 1.33 1.38 ... 3.0 at 17 rows.
    Cpu,
    /// Rows cost nearly what steps cost: 1 + 0.9 a row.
    Steep,
    /// Memory or arithmetic, whichever takes longer.
    Roofline,
}

impl Shape {
    /// Seconds of a step while memory takes `memory` times what it took at first.
    pub fn time(self, rows: u32, memory: f64) -> f64 {
        let rows = f64::from(rows);
        match self {
            Shape::Flat => memory * (1.0 + 0.005 * (rows - 1.0)),
            Shape::Cpu if rows <= 4.0 => memory * (1.0 + 0.11 * (rows - 1.0)),
            Shape::Cpu => memory * (1.38 + 0.135 * (rows - 5.0)),
            Shape::Steep => memory * (1.0 + 0.9 * (rows - 1.0)),
            Shape::Roofline => memory.max(0.17 * rows),
        }
    }

    /// As a table to believe in.
    pub fn model(self) -> StepModel {
        let seconds = (1..=512).map(|rows| (rows, self.time(rows, 1.0))).collect();
        StepModel::Table { seconds, seconds_per_kv_byte: 0.0 }
    }
}

/// How the machine's speed goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Drift {
    None,
    /// Between 1 and 2, slowly.
    Slow,
    /// Memory becomes twice as slow after a thousand steps, and as fast as before after two thousand.
    Steps,
}

impl Drift {
    fn memory(self, step: usize) -> f64 {
        match self {
            Drift::None => 1.0,
            Drift::Slow => 1.5 + 0.5 * (step as f64 / 400.0).sin(),
            Drift::Steps => [1.0, 2.0][(step / 1000) % 2],
        }
    }
}

/// A machine whose clock tells its times with noise.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub shape: Shape,
    pub drift: Drift,
    /// Deviation of the time's logarithm.
    pub sigma: f64,
    /// Share of steps that take ten times as long.
    pub outliers: f64,
}

impl Machine {
    fn noise(&self, noise: &mut Noise) -> f64 {
        let slow = if noise.happens(self.outliers) { 10.0 } else { 1.0 };
        slow * (self.sigma * noise.normal()).exp()
    }
}

/// What becomes of drafts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Text {
    /// Each draft is right with this chance, given that those before it were.
    Chance(f64),
    /// None ever is.
    Reject,
    /// All are right until that step, then none.
    Until(usize),
    /// All are right until the choice is the most there is, then none for that step.
    RejectMost,
    /// All are right in small steps, none in larger ones.
    RejectMoreThan(u32),
    /// Phases of that many steps, with one chance and the other.
    Phases(usize, f64, f64),
    /// Long matches are wrong and short ones right.
    Lies,
}

impl Text {
    fn chance(self, step: usize, k: u32, matched: u32) -> f64 {
        match self {
            Text::Chance(p) => p,
            Text::Reject => 0.0,
            Text::Until(last) => f64::from(u8::from(step < last)),
            Text::RejectMost => f64::from(u8::from(k < DRAFTS)),
            Text::RejectMoreThan(most) => f64::from(u8::from(k <= most)),
            Text::Phases(len, p, q) => {
                if (step / len).is_multiple_of(2) {
                    p
                } else {
                    q
                }
            }
            Text::Lies => {
                if matched > 8 {
                    0.0
                } else {
                    0.8
                }
            }
        }
    }

    /// Leading drafts that are right, of a step with `k` drafts.
    fn right(self, noise: &mut Noise, step: usize, k: u32, matched: u32) -> u32 {
        let chance = self.chance(step, k, matched);
        (0..DRAFTS).take_while(|_| noise.happens(chance)).count() as u32
    }

    /// Length of the match that the drafter reports.
    fn matched(self, noise: &mut Noise) -> u32 {
        if self == Text::Lies { [2, 40][noise.below(2) as usize] } else { 4 }
    }
}

/// A run's settings.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub machine: Machine,
    pub believed: Shape,
    pub text: Text,
    /// Text drafters have drafts at hand in plain steps too, and learn from those; draft models do not.
    pub kind: DrafterKind,
    pub sequences: usize,
    pub steps: usize,
    pub seed: u64,
    pub fixed: Option<u32>,
}

/// What a run came to, in expected seconds: without the noise of single steps, with the machine's drift.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Of the steps that were run.
    pub spent: f64,
    /// Of plain steps that make the same tokens, each at the machine's speed when the token was made.
    pub plain: f64,
    /// Mean of a plain step.
    pub step: f64,
    pub tokens: f64,
    /// Largest excess over 1.01 times plain at any time, in plain steps (of the mean so far).
    pub worst: f64,
    /// Steps by reason.
    pub reasons: Vec<(Reason, usize)>,
    pub speculative: usize,
}

impl Report {
    /// Tokens for a plain step's time.
    pub fn gain(&self) -> f64 {
        self.plain / self.spent
    }
}

pub fn speculator(setting: &Setting) -> Speculator {
    Speculator::new(SpeculationOptions {
        max_drafts: DRAFTS,
        fixed: setting.fixed,
        kind: setting.kind,
        buckets: Buckets::new([1, 8, 17, 17 * setting.sequences as u32], false),
        model: setting.believed.model(),
    })
}

pub fn run(setting: &Setting) -> Report {
    let mut noise = Noise::new(setting.seed);
    let mut speculator = speculator(setting);
    let mut sequences: Vec<Acceptance> = (0..setting.sequences).map(|_| speculator.sequence()).collect();
    let mut report = Report::default();
    for step in 0..setting.steps {
        let matches: Vec<u32> = sequences.iter().map(|_| setting.text.matched(&mut noise)).collect();
        let candidates: Vec<Candidate<'_>> = sequences
            .iter()
            .zip(&matches)
            .map(|(acceptance, &len)| Candidate {
                acceptance,
                matched: Match { len },
                drafts: DRAFTS,
                seconds_per_draft: 0.0,
            })
            .collect();
        let choice = speculator.choose(&candidates, 0.0);
        let memory = setting.machine.drift.memory(step);
        let time = setting.machine.shape.time(choice.rows, memory);
        let mut produced = 0;
        let mut outcomes = Vec::new();
        for ((acceptance, &len), &drafted) in sequences.iter_mut().zip(&matches).zip(&choice.drafts) {
            let right = setting.text.right(&mut noise, step, drafted, len);
            let offered = if setting.kind == DrafterKind::Text { DRAFTS } else { drafted };
            let made = right.min(drafted) + 1;
            produced += made;
            let agreed = right.min(made).min(offered);
            outcomes.push(Outcome { acceptance, matched: Match { len }, offered, drafted, produced: made, agreed });
        }
        let seconds = time * setting.machine.noise(&mut noise);
        speculator.observe(Observed { kv_bytes: 0.0, seconds, draft_seconds: 0.0, outcomes: &mut outcomes });
        let plain = setting.machine.shape.time(setting.sequences as u32, memory);
        report.add(time, plain, f64::from(produced) / setting.sequences as f64, choice.reason);
        report.speculative += usize::from(choice.rows as usize > setting.sequences);
        report.step += (plain - report.step) / (step as f64 + 1.0);
        let excess = (report.spent - 1.01 * report.plain) / report.step;
        report.worst = report.worst.max(excess);
    }
    report
}

impl Report {
    fn add(&mut self, time: f64, plain: f64, tokens: f64, reason: Reason) {
        self.spent += time;
        self.plain += plain * tokens;
        self.tokens += tokens;
        match self.reasons.iter_mut().find(|(r, _)| *r == reason) {
            Some((_, count)) => *count += 1,
            None => self.reasons.push((reason, 1)),
        }
    }
}

pub const SHAPES: [Shape; 4] = [Shape::Flat, Shape::Cpu, Shape::Steep, Shape::Roofline];
pub const TEXTS: [Text; 12] = [
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
pub fn drawn(seed: u64) -> Setting {
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
