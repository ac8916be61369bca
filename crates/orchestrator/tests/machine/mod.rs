//! Simulated machines and texts, and runs of the speculator on them.
#![allow(dead_code, reason = "each test takes what it needs")]

pub mod bursts;

use super::noise::Noise;
use aio_orchestrator::{
    Acceptance, Candidate, Choice, DrafterKind, Match, Observed, Outcome, Reason, SpeculationOptions, Speculator,
    StepModel, StepTime,
};

/// Maximum drafts of a sequence.
pub const DRAFTS: u32 = 16;

/// Step time as a function of rows; plain steps take 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A GPU that mostly reads weights: 1 + 0.005 per row.
    Flat,
    /// A CPU: 1.11 1.21 1.33 1.38 ... 3.0 at 17 rows.
    Cpu,
    /// Rows cost nearly as much as steps: 1 + 0.9 per row.
    Steep,
    /// The larger of memory and arithmetic.
    Roofline,
}

impl Shape {
    /// Seconds of a step while memory takes `memory` times its initial time.
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

    /// The shape as a model table.
    pub fn model(self) -> StepModel {
        let seconds = (1..=512).map(|rows| (rows, self.time(rows, 1.0))).collect();
        StepModel::Table { seconds, seconds_per_kv_byte: 0.0 }
    }
}

/// How the machine's speed changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Drift {
    None,
    /// Varies slowly between 1 and 2.
    Slow,
    /// Memory becomes twice as slow after a thousand steps, and recovers after two thousand.
    Steps,
    /// Other load makes all steps four times slower, for 60 of every 250 steps.
    Others,
}

impl Drift {
    fn memory(self, step: usize) -> f64 {
        match self {
            Drift::None => 1.0,
            Drift::Slow => 1.5 + 0.5 * (step as f64 / 400.0).sin(),
            Drift::Steps => [1.0, 2.0][(step / 1000) % 2],
            Drift::Others if step % 250 < 60 => 4.0,
            Drift::Others => 1.0,
        }
    }
}

/// A machine with a noisy clock.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub shape: Shape,
    pub drift: Drift,
    /// Standard deviation of the time's logarithm.
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

/// How drafts fare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Text {
    /// Each draft is right with this chance, given that those before it were.
    Chance(f64),
    /// No draft is ever right.
    Reject,
    /// All are right until that step, then none.
    Until(usize),
    /// All are right until the maximum is chosen, then none for that step.
    RejectMost,
    /// All are right in small steps, none in larger ones.
    RejectMoreThan(u32),
    /// Alternating phases of that many steps, with one chance and the other.
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

    /// Number of leading drafts that are right, in a step with `k` drafts.
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
    /// Text drafters have drafts available in plain steps too, and learn from them; draft models do not.
    pub kind: DrafterKind,
    /// Time to make a draft, in plain steps of one row, measured with noise too.
    pub cost: f64,
    pub sequences: usize,
    /// Maximum rows of a step.
    pub rows: u32,
    /// Number of sequences, from the first, that always have drafts, and how many drafts each has.
    pub fixed: (usize, u32),
    /// Whether sequences join and leave, down to one and up to the initial number.
    pub comings: bool,
    pub steps: usize,
    pub seed: u64,
}

/// The result of a run in expected seconds: without the noise of single steps, with the machine's drift.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Time of the steps run, including drafting.
    pub spent: f64,
    /// Time of plain steps for the same tokens, each at the machine's speed when the token was made.
    pub plain: f64,
    /// Time of steps with only fixed drafts for the same tokens; plain steps if there are none.
    pub unchosen: f64,
    /// Mean time of such a step.
    pub step: f64,
    pub tokens: f64,
    /// Largest excess over 1.01 times `unchosen` at any time, in such steps (of the mean so far).
    pub worst: f64,
    /// Steps by reason.
    pub reasons: Vec<(Reason, usize)>,
    /// Steps with chosen drafts.
    pub speculative: usize,
    steps: usize,
}

impl Report {
    /// Tokens per plain step's time.
    pub fn gain(&self) -> f64 {
        self.plain / self.spent
    }
}

pub fn speculator(setting: &Setting) -> Speculator {
    Speculator::new(SpeculationOptions { max_drafts: DRAFTS, max_rows: setting.rows, model: setting.believed.model() })
}

/// A sequence, and the apparent cost of a draft: a running mean, as a draft model keeps it.
struct Member {
    acceptance: Acceptance,
    seconds_per_draft: f64,
    /// Number of drafts it always has.
    always: Option<u32>,
}

impl Member {
    fn fixed(&self) -> u32 {
        self.always.unwrap_or(0)
    }

    fn candidate(&self, matched: Match) -> Candidate<'_> {
        let (drafts, fixed) = (self.always.unwrap_or(DRAFTS), self.fixed());
        Candidate { acceptance: &self.acceptance, matched, drafts, fixed, seconds_per_draft: self.seconds_per_draft }
    }
}

/// A run in progress.
struct Simulation<'a> {
    setting: &'a Setting,
    noise: Noise,
    speculator: Speculator,
    members: Vec<Member>,
    /// Current slowness of memory.
    memory: f64,
}

impl Simulation<'_> {
    fn join(&mut self) {
        let (count, fixed) = self.setting.fixed;
        let always = Some(fixed).filter(|_| self.members.len() < count);
        let seconds_per_draft = if self.setting.cost > 0.0 { self.drafting(1).1 } else { 0.0 };
        let acceptance = self.speculator.sequence(self.setting.kind);
        self.members.push(Member { acceptance, seconds_per_draft, always });
    }

    /// Sequences join or leave, once per hundred steps on average.
    fn come_and_go(&mut self) {
        if !self.setting.comings || !self.noise.happens(0.01) {
            return;
        }
        if self.members.len() > 1 && self.noise.happens(0.5) {
            self.members.pop();
        } else if self.members.len() < self.setting.sequences {
            self.join();
        }
    }

    /// Expected and measured seconds of making some drafts.
    fn drafting(&mut self, drafts: u32) -> (f64, f64) {
        if self.setting.cost == 0.0 || drafts == 0 {
            return (0.0, 0.0);
        }
        let machine = self.setting.machine;
        let seconds = f64::from(drafts) * self.setting.cost * machine.shape.time(1, self.memory);
        (seconds, seconds * machine.noise(&mut self.noise))
    }

    fn choose(&mut self, matches: &[u32]) -> Choice {
        let members = self.members.iter().zip(matches);
        let candidates: Vec<_> = members.map(|(member, &len)| member.candidate(Match { len })).collect();
        self.speculator.choose(&candidates, 0.0)
    }

    fn step(&mut self, step: usize, report: &mut Report) {
        let Setting { machine, text, kind, .. } = *self.setting;
        self.memory = machine.drift.memory(step);
        self.come_and_go();
        let matches: Vec<u32> = self.members.iter().map(|_| text.matched(&mut self.noise)).collect();
        let choice = self.choose(&matches);
        let (mut spent, mut spent_fixed, mut told, mut told_fixed) = (0.0, 0.0, 0.0, 0.0);
        for (at, &drafts) in choice.drafts.iter().enumerate().filter(|(_, drafts)| **drafts > 0) {
            let (seconds, clock) = self.drafting(drafts);
            let member = &mut self.members[at];
            member.seconds_per_draft = 0.8 * member.seconds_per_draft + 0.2 * clock / f64::from(drafts);
            (spent, told) = (spent + seconds, told + clock);
            if member.always.is_some() {
                (spent_fixed, told_fixed) = (spent_fixed + seconds, told_fixed + clock);
            }
        }
        let (mut produced, mut kept, mut base) = (0, 0, 0);
        let mut outcomes = Vec::new();
        for ((member, &len), &drafted) in self.members.iter_mut().zip(&matches).zip(&choice.drafts) {
            let right = text.right(&mut self.noise, step, drafted, len);
            let offered = if kind == DrafterKind::Text { DRAFTS } else { drafted };
            let made = right.min(drafted) + 1;
            let (matched, fixed, agreed) = (Match { len }, member.fixed(), right.min(made).min(offered));
            (produced, kept, base) = (produced + made, kept + made.min(fixed + 1), base + 1 + fixed);
            let acceptance = &mut member.acceptance;
            outcomes.push(Outcome { acceptance, matched, offered, drafted, fixed, produced: made, agreed });
        }
        let time = machine.shape.time(choice.rows, self.memory);
        let (seconds, outcomes) = (time * machine.noise(&mut self.noise), &mut outcomes[..]);
        let sequences = outcomes.len();
        let (draft_seconds, fixed_seconds) = (told, told_fixed);
        let (kv_bytes, choice) = (0.0, &choice);
        let observed = StepTime::Modelled(seconds);
        let step = Observed { choice, kv_bytes, time: observed, draft_seconds, fixed_seconds, outcomes };
        self.speculator.observe(step);
        report.tokens += f64::from(produced) / sequences as f64;
        report.plain += machine.shape.time(sequences as u32, self.memory) * f64::from(produced) / sequences as f64;
        let unchosen = machine.shape.time(base, self.memory) + spent_fixed;
        report.add(time + spent, unchosen, f64::from(produced) / f64::from(kept), choice.reason);
        report.speculative += usize::from(choice.rows > base);
    }
}

pub fn run(setting: &Setting) -> Report {
    let (noise, speculator) = (Noise::new(setting.seed), speculator(setting));
    let mut run =
        Simulation { setting, noise, speculator, members: Vec::new(), memory: setting.machine.drift.memory(0) };
    (0..setting.sequences).for_each(|_| run.join());
    let mut report = Report::default();
    (0..setting.steps).for_each(|step| run.step(step, &mut report));
    report
}

impl Report {
    /// Books a step that took `time`. `unchosen` is the time of a step without chosen drafts, and `share` how many such
    /// steps its tokens are worth.
    fn add(&mut self, time: f64, unchosen: f64, share: f64, reason: Reason) {
        self.spent += time;
        self.unchosen += unchosen * share;
        self.steps += 1;
        self.step += (unchosen - self.step) / self.steps as f64;
        self.worst = self.worst.max((self.spent - 1.01 * self.unchosen) / self.step);
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

/// A setting drawn from a seed: free drafts, and sequences that stay.
pub fn drawn(seed: u64) -> Setting {
    let mut noise = Noise::new(seed ^ 0xabcd);
    let mut pick = |n: usize| noise.below(n as u64) as usize;
    let machine = Machine {
        shape: SHAPES[pick(4)],
        drift: [Drift::None, Drift::Slow, Drift::Steps][pick(3)],
        sigma: [0.0, 0.03, 0.1, 0.3][pick(4)],
        outliers: [0.0, 0.01][pick(2)],
    };
    let believed = [machine.shape, Shape::Flat, Shape::Steep][pick(3)];
    let (text, kind) = (TEXTS[pick(12)], [DrafterKind::Text, DrafterKind::Model][pick(2)]);
    let sequences = [1, 1, 1, 4][pick(4)];
    let (cost, rows, fixed, comings) = (0.0, 17 * sequences as u32, (0, 0), false);
    Setting { machine, believed, text, kind, cost, sequences, rows, fixed, comings, steps: 4000, seed }
}

/// The same with draft models that take time, sequences that come and go, and one that always has drafts.
pub fn drawn_dear(seed: u64) -> Setting {
    let mut noise = Noise::new(seed ^ 0xdcba);
    let mut pick = |n: usize| noise.below(n as u64) as usize;
    let free = drawn(seed);
    let cost = if free.kind == DrafterKind::Model { [0.0, 0.1, 0.5][pick(3)] } else { 0.0 };
    let sequences = [1, 2, 4, 8][pick(4)];
    let fixed = [(0, 0), (0, 0), (1, 1 + pick(6) as u32)][pick(3)];
    let rows = 17 * sequences as u32;
    Setting { cost, sequences, rows, fixed, comings: pick(2) == 0, ..free }
}
