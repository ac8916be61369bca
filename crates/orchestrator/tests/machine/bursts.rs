//! Runs of the speculator on a simulated device that runs bursts, in which it drafts by itself.

use super::{Drift, Machine, SHAPES, Shape, TEXTS, Text};
use crate::noise::Noise;
use aio_orchestrator::{
    BurstLimits, Candidate, DrafterKind, Match, Observed, ObservedBurst, Outcome, Reason, SpeculationOptions,
    Speculator, StepTime,
};

/// Maximum drafts of a step of a burst.
pub const DRAFTS: u32 = 15;

/// A run's settings. Seconds are in plain steps of a burst.
#[derive(Clone, Copy, Debug)]
pub struct BurstSetting {
    pub machine: Machine,
    pub believed: Shape,
    pub text: Text,
    /// Chance that a step finds drafts.
    pub found: f64,
    /// Seconds of a launch, and what the host adds to each step that it submits.
    pub launch: f64,
    pub host: f64,
    /// Maximum tokens of a burst.
    pub limit: u32,
    /// Share of texts that are decoded in bursts; the others take steps.
    pub bursts: f64,
    /// Maximum tokens of a text.
    pub text_tokens: u64,
    pub tokens: usize,
    pub seed: u64,
}

/// The result of a run in expected seconds.
#[derive(Clone, Debug, Default)]
pub struct BurstReport {
    /// Time of what ran.
    pub spent: f64,
    /// Time of plain bursts and steps for the same tokens.
    pub plain: f64,
    pub tokens: f64,
    /// Largest excess over 1.01 times `plain` at any time, in plain steps.
    pub worst: f64,
    /// Bursts by reason.
    pub reasons: Vec<(Reason, usize)>,
    /// Bursts with drafts, and those that were shortened.
    pub speculative: usize,
    pub shortened: usize,
    /// Tokens of the longest burst with drafts.
    pub longest: u32,
}

impl BurstReport {
    pub fn gain(&self) -> f64 {
        self.plain / self.spent
    }

    fn add(&mut self, spent: f64, plain: f64, tokens: u32) {
        self.spent += spent;
        self.plain += plain;
        self.tokens += f64::from(tokens);
        self.worst = self.worst.max((self.spent - 1.01 * self.plain) / (self.plain / self.tokens));
    }
}

struct Run<'a> {
    setting: &'a BurstSetting,
    noise: Noise,
    speculator: Speculator,
    report: BurstReport,
    /// Steps so far.
    step: usize,
    /// Drafts that the device tries next.
    tries: u32,
    /// Tokens that the plain burst under way would still make.
    plain_left: u32,
}

impl Run<'_> {
    fn memory(&self) -> f64 {
        self.setting.machine.drift.memory(self.step)
    }

    /// A text in steps that the host submits, with drafts of a text drafter.
    fn in_steps(&mut self, tokens: u32) {
        let setting = self.setting;
        let mut acceptance = self.speculator.sequence(DrafterKind::Text);
        let mut left = tokens;
        while left > 0 {
            let (memory, matched, drafts) = (self.memory(), Match { len: 4 }, DRAFTS.min(left - 1));
            let acceptance = &mut acceptance;
            let candidate = Candidate { acceptance, matched, drafts, fixed: 0, seconds_per_draft: 0.0 };
            let choice = self.speculator.choose(&[candidate], 0.0);
            let drafted = choice.drafts[0];
            let right = setting.text.right(&mut self.noise, self.step, drafted, 4);
            let produced = right.min(drafted) + 1;
            let agreed = right.min(produced).min(drafts);
            let time = setting.machine.shape.time(choice.rows, memory) + setting.host;
            let seconds = time * setting.machine.noise(&mut self.noise);
            let outcomes = &mut [Outcome { acceptance, matched, offered: drafts, drafted, fixed: 0, produced, agreed }];
            let (choice, kv_bytes, draft_seconds, fixed_seconds) = (&choice, 0.0, 0.0, 0.0);
            let observed = StepTime::Modelled(seconds);
            let step = Observed { choice, kv_bytes, time: observed, draft_seconds, fixed_seconds, outcomes };
            self.speculator.observe(step);
            let plain = (setting.machine.shape.time(1, memory) + setting.host) * f64::from(produced);
            self.report.add(time, plain, produced);
            left -= produced;
            self.step += 1;
        }
    }

    /// A text in bursts. It ends after `tokens` tokens, but is allowed `most`.
    fn in_bursts(&mut self, tokens: u32, most: u32) {
        self.plain_left = 0;
        let mut made = 0;
        while made < tokens {
            let whole = self.setting.limit.min(most - made);
            made += self.burst(whole, tokens - made);
        }
    }

    /// A burst, of at most `whole` tokens; the text ends after `left`.
    fn burst(&mut self, whole: u32, left: u32) -> u32 {
        let setting = self.setting;
        let choice = self.speculator.choose_burst(BurstLimits { tokens: whole, drafts: DRAFTS, kv_bytes: 0.0 });
        assert!((1..=whole).contains(&choice.tokens) && choice.drafts() <= DRAFTS, "{choice:?}");
        let budget = choice.tokens;
        let (mut steps, mut produced, mut spent, mut plain) = (Vec::new(), 0, setting.launch, 0.0);
        let launch = setting.launch * setting.machine.noise(&mut self.noise);
        let mut seconds = launch;
        while produced < budget.min(left) {
            let memory = self.memory();
            let finds = choice.drafts() > 0 && self.noise.happens(setting.found);
            let drafted = if finds { self.tries.min(choice.drafts()).min(budget - produced - 1) } else { 0 };
            let accepted = setting.text.right(&mut self.noise, self.step, drafted, 4).min(drafted);
            let taken = (accepted + 1).min(left - produced);
            if drafted > 0 {
                self.tries = match accepted {
                    0 => (self.tries / 2).max(1),
                    n if n == self.tries => (2 * self.tries + 1).min(DRAFTS),
                    _ => self.tries,
                };
            }
            let time = setting.machine.shape.time(1 + drafted, memory);
            spent += time;
            seconds += time * setting.machine.noise(&mut self.noise);
            plain += f64::from(taken) * setting.machine.shape.time(1, memory);
            steps.push([drafted, accepted]);
            produced += taken;
            self.step += 1;
        }
        plain += self.plain_launches(produced, whole);
        let launch = Some(launch).filter(|_| steps.len() > 1);
        self.speculator.observe_burst(&ObservedBurst {
            choice: &choice,
            kv_bytes: 0.0,
            time: StepTime::Modelled(seconds),
            launch,
            steps: &steps,
            produced,
        });
        self.report.add(spent, plain, produced);
        self.report.speculative += usize::from(choice.drafts() > 0);
        self.report.shortened += usize::from(choice.drafts() > 0 && choice.tokens < whole);
        if choice.drafts() > 0 {
            self.report.longest = self.report.longest.max(choice.tokens);
        }
        match self.report.reasons.iter_mut().find(|(r, _)| *r == choice.step.reason) {
            Some((_, count)) => *count += 1,
            None => self.report.reasons.push((choice.step.reason, 1)),
        }
        produced
    }

    /// Seconds of the launches that plain bursts would have needed for as many tokens.
    fn plain_launches(&mut self, tokens: u32, whole: u32) -> f64 {
        let (mut launches, mut tokens) = (0.0, tokens);
        while tokens > 0 {
            if self.plain_left == 0 {
                (launches, self.plain_left) = (launches + self.setting.launch, whole);
            }
            let taken = tokens.min(self.plain_left);
            (tokens, self.plain_left) = (tokens - taken, self.plain_left - taken);
        }
        launches
    }
}

pub fn run(setting: &BurstSetting) -> BurstReport {
    let model = setting.believed.model();
    let options = SpeculationOptions { max_drafts: 16, max_rows: 17, model };
    let (noise, speculator) = (Noise::new(setting.seed), Speculator::new(options));
    let report = BurstReport::default();
    let mut run = Run { setting, noise, speculator, report, step: 0, tries: 3, plain_left: 0 };
    while run.report.tokens < setting.tokens as f64 {
        let most = 1 + run.noise.below(setting.text_tokens) as u32;
        // Every second text ends before its limit.
        let tokens = if run.noise.happens(0.5) { most } else { 1 + run.noise.below(most.into()) as u32 };
        if run.noise.happens(setting.bursts) {
            run.in_bursts(tokens, most);
        } else {
            run.in_steps(tokens);
        }
    }
    run.report
}

/// A setting drawn from a seed.
pub fn drawn(seed: u64) -> BurstSetting {
    let mut noise = Noise::new(seed ^ 0xb0b5);
    let mut pick = |n: usize| noise.below(n as u64) as usize;
    let machine = Machine {
        shape: SHAPES[pick(4)],
        drift: [Drift::None, Drift::Slow, Drift::Steps][pick(3)],
        sigma: [0.0, 0.03, 0.1, 0.3][pick(4)],
        outliers: [0.0, 0.01][pick(2)],
    };
    BurstSetting {
        machine,
        believed: [machine.shape, Shape::Flat, Shape::Steep][pick(3)],
        text: TEXTS[pick(12)],
        found: [0.1, 0.5, 1.0][pick(3)],
        launch: [0.0, 0.1, 1.0][pick(3)],
        host: [0.0, 0.3][pick(2)],
        limit: [8, 64, 512][pick(3)],
        bursts: [1.0, 0.5][pick(2)],
        text_tokens: [40, 1000][pick(2)],
        tokens: 6000,
        seed,
    }
}
