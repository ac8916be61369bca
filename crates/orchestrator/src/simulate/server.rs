//! The server that a trace runs on.

use super::costs::SequenceRows;
use super::options::{SimOptions, SimVariant, Verification};
use super::report::{Decision, SimReport, VariantReport};
use super::text::{Offer, Text};
use crate::acceptance::Acceptance;
use crate::cost_model::PresentSpeed;
use crate::drafter::DrafterKind;
use crate::random::Random;
use crate::roofline::StepModel;
use crate::routing::{Expected, Levels, ProbeKind, Probed, Room, RouteRequest, SpeculationRule, VariantNow};
use crate::select::Candidate;
use crate::speculator::{Observed, Outcome, SpeculationOptions, Speculator};
use crate::trace::TraceRequest;
use aio_plan::StepTime;
use std::collections::VecDeque;

/// Most rows of a step with drafts.
const DRAFT_ROWS: u32 = 64;
/// Margins of the probe's answers when it is right and, at most, when it is wrong.
const SURE: f64 = 0.9;
const UNSURE: f64 = 0.4;
/// Weight of the last step in a variant's speed.
const LATELY: f64 = 0.25;

/// A request that runs.
struct Active {
    request: usize,
    variant: usize,
    speculation: SpeculationRule,
    text: Text,
    acceptance: Acceptance,
    /// Rows of the prompt that were computed.
    prefilled: u32,
    produced: u32,
    first: f64,
}

/// Drafts of a sequence before a step.
struct Drafts {
    offer: Offer,
    /// How many there are, and how many of them are in the step whatever is chosen.
    most: u32,
    fixed: u32,
    /// Tokens that are wanted.
    left: u32,
}

impl Drafts {
    fn candidate<'a>(&self, s: &'a Active) -> Candidate<'a> {
        let Drafts { offer, most, fixed, .. } = *self;
        let (acceptance, matched) = (&s.acceptance, offer.matched);
        Candidate { acceptance, matched, drafts: most, fixed, seconds_per_draft: 0.0 }
    }
}

/// The state of a variant.
struct Lane {
    speculator: Speculator,
    /// Steps, and the logarithm of how much longer than in the table the last of them took.
    steps: u64,
    slower: f64,
    /// Seconds of the device that it had, for equal shares among variants with requests.
    served: f64,
}

/// See the module docs.
pub(super) struct Server<'a> {
    trace: &'a [TraceRequest],
    options: &'a SimOptions<'a>,
    /// Categories of the trace.
    categories: Vec<&'a str>,
    lanes: Vec<Lane>,
    now: f64,
    /// Requests that have not started, in order.
    waiting: VecDeque<usize>,
    active: Vec<Active>,
    /// Present speeds of variants that have not run lately.
    levels: Levels,
    /// The probe's answer for the request that waits first.
    asked: Option<(usize, Option<(String, f64)>)>,
    random: Random,
    report: SimReport,
}

fn lane(variant: &SimVariant, options: &SimOptions<'_>) -> Lane {
    let table = &variant.costs.table;
    let seconds_per_kv_byte = table.per_position() / variant.costs.work.kv_bytes.max(1.0);
    let model = StepModel::Table { seconds: table.column(DRAFT_ROWS), seconds_per_kv_byte };
    let options = SpeculationOptions { max_drafts: options.drafts, max_rows: DRAFT_ROWS, model };
    Lane { speculator: Speculator::new(options), steps: 0, slower: 0.0, served: 0.0 }
}

impl Lane {
    /// How fast its steps are at present. The table's speed is 1.
    fn speed(&self) -> PresentSpeed {
        PresentSpeed { steps: self.steps, relative: (-self.slower).exp(), bandwidth: 0.0 }
    }

    /// Counts a step by how many times as long as in the table it took.
    fn took(&mut self, seconds: f64, longer: f64) {
        self.served += seconds;
        self.steps += 1;
        if longer.is_finite() && longer > 0.0 {
            self.slower += LATELY * (longer.ln() - self.slower);
        }
    }
}

impl<'a> Server<'a> {
    pub(super) fn new(trace: &'a [TraceRequest], options: &'a SimOptions<'a>) -> Server<'a> {
        let variants = options.variants.iter();
        let report = SimReport {
            variants: variants.map(|v| VariantReport { name: v.name.clone(), ..VariantReport::default() }).collect(),
            ..SimReport::default()
        };
        let mut categories: Vec<&str> = trace.iter().map(|r| r.category.as_str()).collect();
        categories.sort_unstable();
        categories.dedup();
        Server {
            trace,
            options,
            categories,
            lanes: options.variants.iter().map(|v| lane(v, options)).collect(),
            now: 0.0,
            waiting: (0..trace.len()).collect(),
            active: Vec::new(),
            levels: Levels::new(options.variants.len()),
            asked: None,
            random: Random::new(options.seed),
            report,
        }
    }

    pub(super) fn report(self) -> SimReport {
        SimReport { seconds: self.now, ..self.report }
    }

    /// Admits requests and runs a step. Returns `false` at the end.
    pub(super) fn advance(&mut self) -> bool {
        self.admit();
        let Some(variant) = self.next_variant() else {
            let Some(&next) = self.waiting.front() else { return false };
            let arrival = self.trace[next].arrival;
            self.report.idle += (arrival - self.now).max(0.0);
            self.now = self.now.max(arrival);
            return true;
        };
        let own = |s: &Active| s.variant == variant;
        if self.active.iter().any(|s| own(s) && s.prefilled < self.trace[s.request].prompt) {
            self.prefill(variant);
        } else {
            self.decode(variant);
        }
        self.finish();
        true
    }

    /// Variants that have requests.
    fn busy(&self) -> impl Iterator<Item = usize> {
        (0..self.lanes.len()).filter(|&v| self.active.iter().any(|s| s.variant == v))
    }

    /// The variant that had the device for the least time, among those that have requests.
    fn next_variant(&self) -> Option<usize> {
        self.busy().min_by(|&a, &b| self.lanes[a].served.total_cmp(&self.lanes[b].served))
    }

    /// A variant that was idle has no claim to the time that others had meanwhile.
    fn wake(&mut self, variant: usize) {
        if self.busy().any(|v| v == variant) {
            return;
        }
        let least = self.busy().map(|v| self.lanes[v].served).fold(f64::INFINITY, f64::min);
        if least.is_finite() {
            self.lanes[variant].served = self.lanes[variant].served.max(least);
        }
    }

    fn admit(&mut self) {
        while self.active.len() < self.options.sequences.max(1) as usize {
            let Some(&request) = self.waiting.front() else { return };
            if self.trace[request].arrival > self.now {
                return;
            }
            if !self.start(request) {
                if !self.active.is_empty() {
                    return;
                }
                self.report.refused += 1;
            }
            self.waiting.pop_front();
        }
    }

    /// Routes a request and makes it active, if there is memory.
    fn start(&mut self, request: usize) -> bool {
        let facts = &self.trace[request];
        let need = f64::from(facts.prompt + facts.output);
        let taken: f64 = self.active.iter().map(|s| self.kv_of(s.request, s.variant)).sum();
        let all = self.options.kv_bytes;
        let room = |v: &SimVariant| match need * v.costs.work.kv_bytes {
            bytes if bytes <= all - taken => Room::Now,
            bytes if bytes <= all => Room::Later,
            _ => Room::Never,
        };
        if !self.options.variants.iter().any(|v| room(v) == Room::Now) {
            return false;
        }
        // A request that waits for memory is not asked about again.
        let probed = match self.asked.take() {
            Some((asked, answer)) if asked == request => answer,
            _ => self.probe(request),
        };
        let speeds: Vec<Option<PresentSpeed>> = self.lanes.iter().map(|lane| Some(lane.speed())).collect();
        let levels = self.levels.update(&speeds);
        let present = speeds.iter().flatten().zip(levels).map(|(speed, level)| speed.relative * level);
        let category = probed.as_ref().map(|(category, _)| category.as_str());
        let rule = self.options.policy.treatment(category, facts.prompt + facts.output).speculation;
        let drafts = self.options.speculation.unwrap_or(rule) != SpeculationRule::Off;
        let seconds: Vec<f64> = present.enumerate().map(|(v, speed)| self.expected(v, facts, drafts) / speed).collect();
        let now: Vec<VariantNow<'_>> = self
            .options
            .variants
            .iter()
            .zip(&seconds)
            .map(|(v, &seconds)| VariantNow { name: &v.name, weight_bytes: v.weight_bytes, seconds, room: room(v) })
            .collect();
        let route = self.options.policy.route(
            &RouteRequest {
                probed: probed.as_ref().map(|(category, margin)| Probed { category, margin: *margin }),
                variant: None,
                context: facts.prompt + facts.output,
                within: self.options.within - (self.now - facts.arrival),
            },
            &now,
        );
        let Some(route) = route.filter(|r| !r.waits) else {
            self.asked = Some((request, probed));
            return false;
        };
        self.wake(route.variant);
        let text = Text::draw(facts.output, facts.copy, &mut self.random);
        self.active.push(Active {
            request,
            variant: route.variant,
            speculation: self.options.speculation.unwrap_or(route.speculation),
            text,
            acceptance: self.lanes[route.variant].speculator.sequence(DrafterKind::Text),
            prefilled: 0,
            produced: 0,
            first: 0.0,
        });
        let probed = probed.map(|(category, _)| category);
        self.report.decisions.push(Decision { request, at: self.now, probed, route });
        true
    }

    fn kv_of(&self, request: usize, variant: usize) -> f64 {
        let facts = &self.trace[request];
        f64::from(facts.prompt + facts.output) * self.options.variants[variant].costs.work.kv_bytes
    }

    /// Asks for a request's category: the answer and its margin. Takes a step of the smallest variant.
    fn probe(&mut self, request: usize) -> Option<(String, f64)> {
        let facts = &self.trace[request];
        match &self.options.policy.probe {
            ProbeKind::None => return None,
            ProbeKind::Constant(category) => return Some((category.clone(), 1.0)),
            ProbeKind::ZeroShot | ProbeKind::Head => {}
        }
        let variants = self.options.variants;
        let smallest = (0..variants.len()).min_by_key(|&v| variants[v].weight_bytes)?;
        let rows = self.options.probe.rows.min(facts.prompt).max(1);
        let before = self.now;
        self.spend(smallest, &[SequenceRows { rows, len: rows }]);
        self.report.probing += self.now - before;
        if self.random.unit() < self.options.probe.accuracy {
            return Some((facts.category.clone(), SURE));
        }
        let others: Vec<&&str> = self.categories.iter().filter(|c| **c != facts.category).collect();
        let at = (self.random.unit() * others.len() as f64) as usize;
        let Some(other) = others.get(at) else { return Some((facts.category.clone(), SURE)) };
        self.report.mistaken += 1;
        Some(((**other).to_owned(), UNSURE * self.random.unit()))
    }

    /// Expected seconds of a request on a variant, if what runs now goes on.
    fn expected(&self, variant: usize, facts: &TraceRequest, drafts: bool) -> f64 {
        let mut step: Vec<SequenceRows> =
            self.active.iter().filter(|s| s.variant == variant).map(|s| self.last_row(s)).collect();
        let shares = 1 + self.busy().filter(|&v| v != variant).count() as u32;
        let rows = self.options.prefill_rows;
        let gain = if drafts { self.lanes[variant].speculator.gain() } else { 1.0 };
        let TraceRequest { prompt, output, .. } = *facts;
        Expected { prompt, done: 0, output, rows, gain, shares }.seconds(|rows, len| {
            step.push(SequenceRows { rows, len });
            let seconds = self.options.variants[variant].costs.table.seconds(&step);
            step.pop();
            seconds
        })
    }

    /// A sequence with one row in the next step.
    fn last_row(&self, s: &Active) -> SequenceRows {
        SequenceRows { rows: 1, len: s.prefilled + s.produced }
    }

    /// Runs a step of a variant.
    fn spend(&mut self, variant: usize, step: &[SequenceRows]) -> f64 {
        let SimVariant { costs, weight_bytes, .. } = &self.options.variants[variant];
        let idle = costs.table.seconds(step);
        let busy = self.options.busy.iter().filter(|b| (b.from..b.to).contains(&self.now));
        let seconds = busy.fold(idle, |seconds, b| seconds * b.factor);
        self.now += seconds;
        self.lanes[variant].took(seconds, seconds / idle);
        // A busy neighbour does not change what bounds the step.
        self.report.add_step(costs.regime(step, idle), seconds);
        let positions: f64 = step.iter().map(|s| f64::from(s.len)).sum();
        let own = &mut self.report.variants[variant];
        own.steps += 1;
        *own.rows.entry(step.iter().map(|s| s.rows).sum()).or_default() += 1;
        own.seconds += seconds;
        own.weight_bytes += *weight_bytes as f64;
        own.kv_bytes += positions * costs.work.kv_bytes;
        seconds
    }

    /// Verifies a sequence's drafts one by one, up to the first that is wrong: a step for each token.
    fn one_by_one(&mut self, variant: usize, first: SequenceRows, agreed: u32) -> f64 {
        (0..=agreed).map(|more| self.spend(variant, &[SequenceRows { len: first.len + more, ..first }])).sum()
    }

    /// A step with rows of prompts, and a row of each sequence that decodes.
    fn prefill(&mut self, variant: usize) {
        let decodes = |s: &&Active| s.variant == variant && s.prefilled == self.trace[s.request].prompt;
        let decoding = self.active.iter().filter(decodes).count() as u32;
        let mut budget = self.options.prefill_rows.saturating_sub(decoding).max(1);
        let (mut step, mut done) = (Vec::new(), Vec::new());
        for (i, s) in self.active.iter_mut().enumerate().filter(|(_, s)| s.variant == variant) {
            let left = self.trace[s.request].prompt - s.prefilled;
            let chunk = left.min(budget);
            budget -= chunk;
            s.prefilled += chunk;
            if chunk == left {
                done.push(i);
            }
            if left == 0 || chunk > 0 {
                step.push(SequenceRows { rows: chunk.max(1), len: s.prefilled + s.produced });
            }
        }
        self.spend(variant, &step);
        done.into_iter().for_each(|i| self.produce(i, 1));
    }

    /// Adds tokens to a sequence.
    fn produce(&mut self, i: usize, tokens: u32) {
        let s = &mut self.active[i];
        if s.produced == 0 {
            s.first = self.now;
        }
        s.produced += tokens;
        self.report.variants[s.variant].tokens += u64::from(tokens);
    }

    /// The drafts that a sequence may have in its next step.
    fn drafts(&self, s: &Active) -> Drafts {
        let (offer, left) = (s.text.offer(s.produced), self.trace[s.request].output - s.produced);
        let most = if offer.matched.len == 0 { 0 } else { self.options.drafts.min(left - 1) };
        let (most, fixed) = match s.speculation {
            SpeculationRule::Fixed(n) => (most.min(n), most.min(n)),
            // A draft that is verified alone costs as much as a token.
            SpeculationRule::Auto if self.options.verification == Verification::Batch => (most, 0),
            _ => (0, 0),
        };
        Drafts { offer, most, fixed, left }
    }

    /// A step of each sequence's last token and its drafts.
    fn decode(&mut self, variant: usize) {
        let members: Vec<usize> = (0..self.active.len()).filter(|&i| self.active[i].variant == variant).collect();
        let drafts: Vec<Drafts> = members.iter().map(|&i| self.drafts(&self.active[i])).collect();
        let mut step: Vec<SequenceRows> = members.iter().map(|&i| self.last_row(&self.active[i])).collect();
        let kv_bytes =
            step.iter().map(|s| f64::from(s.len)).sum::<f64>() * self.options.variants[variant].costs.work.kv_bytes;
        let candidates: Vec<_> = members.iter().zip(&drafts).map(|(&i, d)| d.candidate(&self.active[i])).collect();
        let choice = self.lanes[variant].speculator.choose(&candidates, kv_bytes);
        let right = |d: &Drafts, drafted: u32| d.offer.right.min(drafted).min(d.left);
        let agreed: Vec<u32> = drafts.iter().zip(&choice.drafts).map(|(d, &n)| right(d, n)).collect();
        let seconds = match self.options.verification {
            Verification::Batch => {
                let drafts = step.iter_mut().zip(&choice.drafts);
                drafts.for_each(|(s, drafts)| (s.rows, s.len) = (s.rows + drafts, s.len + drafts));
                self.spend(variant, &step)
            }
            Verification::Token => {
                step.iter().zip(&agreed).map(|(s, agreed)| self.one_by_one(variant, *s, *agreed)).sum()
            }
        };
        let produced: Vec<u32> = agreed.iter().zip(&drafts).map(|(agreed, d)| (agreed + 1).min(d.left)).collect();
        let lane = &mut self.lanes[variant];
        let sequences = self.active.iter_mut().filter(|s| s.variant == variant);
        let counts = agreed.iter().zip(&produced);
        let mut outcomes: Vec<Outcome<'_>> = sequences
            .zip(drafts.iter().zip(&choice.drafts).zip(counts))
            .map(|(s, ((d, &drafted), (&agreed, &produced)))| Outcome {
                acceptance: &mut s.acceptance,
                matched: d.offer.matched,
                offered: d.most,
                drafted,
                fixed: d.fixed,
                produced,
                agreed,
            })
            .collect();
        let (time, outcomes) = (StepTime::Modelled(seconds), &mut outcomes);
        let (draft_seconds, fixed_seconds) = (0.0, 0.0);
        lane.speculator.observe(Observed { choice: &choice, kv_bytes, time, draft_seconds, fixed_seconds, outcomes });
        let own = &mut self.report.variants[variant];
        own.drafted += choice.drafts.iter().map(|&n| u64::from(n)).sum::<u64>();
        own.accepted += agreed.iter().map(|&n| u64::from(n)).sum::<u64>();
        members.into_iter().zip(produced).for_each(|(i, produced)| self.produce(i, produced));
    }

    /// Takes sequences that have all their tokens out.
    fn finish(&mut self) {
        let (done, active): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.active).into_iter().partition(|s| s.produced >= self.trace[s.request].output);
        self.active = active;
        for s in done {
            let latency = self.now - self.trace[s.request].arrival;
            self.report.first_token.push(s.first - self.trace[s.request].arrival);
            self.report.latency.push(latency);
            self.report.late += u32::from(latency > self.options.within);
            self.report.variants[s.variant].requests += 1;
        }
    }
}
