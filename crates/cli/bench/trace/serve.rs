//! A server that a trace runs on: one thread, a batch for each variant, the variants in turn.

use super::prompts::Prompts;
use crate::args::BenchTraceArgs;
use crate::signals;
use crate::speculate::{by_rule, drafter_by_rule};
use aio::engine::{Batch, Engine, Flow, MemberId, Request, Sampling, Sequence};
use aio::fleet::{Ask, Fleet, Routed};
use aio::orchestrator::routing::{Policy, ProbeKind};
use aio::orchestrator::trace::TraceRequest;
use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request that has ended.
pub(super) struct Done {
    pub request: usize,
    pub variant: usize,
    /// When it was routed, in seconds since the start.
    pub at: f64,
    /// What was expected then, and the bandwidth that the variant had.
    pub expected: f64,
    pub bandwidth: f64,
    /// Seconds since it arrived until its first token and its last.
    pub first: f64,
    pub latency: f64,
    pub tokens: u32,
    /// Times that it went to another variant.
    pub moves: u32,
    /// Seconds of the probe, and whether it named the trace's category, if it was asked.
    pub probe: f64,
    pub right: Option<bool>,
}

/// What a run took.
#[derive(Default)]
pub(super) struct Run {
    pub seconds: f64,
    /// In the order in which they ended.
    pub done: Vec<Done>,
}

impl Run {
    /// Tokens per second.
    pub(super) fn rate(&self) -> f64 {
        self.done.iter().map(|d| f64::from(d.tokens)).sum::<f64>() / self.seconds
    }

    /// Times that a request went to another variant while it ran.
    pub(super) fn moves(&self) -> u32 {
        self.done.iter().map(|d| d.moves).sum()
    }

    /// Requests that took longer.
    pub(super) fn late(&self, within: f64) -> usize {
        self.done.iter().filter(|d| d.latency > within).count()
    }
}

/// A request that runs.
struct Running {
    id: MemberId,
    routed: Routed,
    started: Started,
}

/// What is known of a request wherever it runs.
struct Started {
    request: usize,
    /// When it was routed, what was expected then, and the bandwidth that the variant had.
    at: f64,
    expected: f64,
    bandwidth: f64,
    /// Seconds of the probe, and whether it named the trace's category, if it was asked.
    probe: f64,
    right: Option<bool>,
    /// When it had its first token.
    first: Option<f64>,
    /// Tokens of its prompt.
    prompt: u32,
    /// Tokens that other variants generated, after the prompt.
    before: Vec<u32>,
    moves: u32,
}

/// A variant in a run.
struct Serving {
    engine: Arc<Engine>,
    batch: Batch,
    running: Vec<Running>,
    /// Seconds of its steps, for equal shares.
    served: f64,
}

/// See the module docs.
pub(super) struct Server<'a> {
    args: &'a BenchTraceArgs,
    trace: &'a [TraceRequest],
    prompts: &'a Prompts,
    policy: &'a Policy,
    fleet: &'a mut Fleet,
    names: Vec<String>,
    serving: Vec<Serving>,
    waiting: VecDeque<usize>,
    started: Instant,
    run: Run,
}

impl<'a> Server<'a> {
    pub(super) fn new(
        args: &'a BenchTraceArgs,
        trace: &'a [TraceRequest],
        prompts: &'a Prompts,
        policy: &'a Policy,
        fleet: &'a mut Fleet,
    ) -> Server<'a> {
        let names: Vec<String> = fleet.states().into_iter().map(|(name, _)| name).collect();
        let serving = |engine| Serving { engine, batch: Batch::new(), running: Vec::new(), served: 0.0 };
        let serving = names.iter().filter_map(|name| fleet.engine(name)).map(serving).collect();
        let waiting = (0..trace.len()).collect();
        let (started, run) = (Instant::now(), Run::default());
        Server { args, trace, prompts, policy, fleet, names, serving, waiting, started, run }
    }

    fn now(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Runs the trace once, or until it is interrupted.
    pub(super) fn run(mut self) -> Result<Run> {
        while !signals::interrupted() {
            self.admit()?;
            let busy = (0..self.serving.len()).filter(|&v| !self.serving[v].running.is_empty());
            let least = busy.min_by(|&a, &b| self.serving[a].served.total_cmp(&self.serving[b].served));
            match (least, self.waiting.front()) {
                (Some(variant), _) => self.step(variant)?,
                (None, Some(&next)) => {
                    let wait = self.trace[next].arrival - self.now();
                    std::thread::sleep(Duration::from_secs_f64(wait.clamp(0.0, 0.01)));
                }
                (None, None) => break,
            }
        }
        self.run.seconds = self.now();
        Ok(self.run)
    }

    /// Starts requests that have arrived, as far as there is room for them.
    fn admit(&mut self) -> Result<()> {
        while self.serving.iter().map(|s| s.running.len()).sum::<usize>() < self.args.sequences as usize {
            let now = self.now();
            let Some(&next) = self.waiting.front().filter(|&&next| self.trace[next].arrival <= now) else { break };
            self.waiting.pop_front();
            self.start(next)?;
        }
        Ok(())
    }

    /// How a request asks for a variant, with `prompt` tokens.
    fn ask<'r>(&self, request: usize, text: &'r str, prompt: u32) -> Ask<'r>
    where
        'a: 'r,
    {
        let (facts, policy): (&'r TraceRequest, &'r Policy) = (&self.trace[request], self.policy);
        // Without a head, the trace's category stands for the probe's answer.
        let probes = matches!(policy.probe, ProbeKind::ZeroShot | ProbeKind::Head);
        let category = (probes && self.args.head.is_none()).then_some(facts.category.as_str());
        let within = self.left(request);
        Ask { within, policy: Some(policy), category, ..Ask::new(text, prompt, facts.output) }
    }

    /// Seconds in which a request should be finished.
    fn left(&self, request: usize) -> f64 {
        self.args.within.unwrap_or(f64::INFINITY) - (self.now() - self.trace[request].arrival)
    }

    /// Routes a request and makes it a member of its variant's batch.
    fn start(&mut self, request: usize) -> Result<()> {
        let facts = &self.trace[request];
        let prompt = self.prompts.of(request, facts);
        let (at, tokens) = (self.now(), prompt.ids.len() as u32);
        let ask = self.ask(request, prompt.text, tokens);
        let routed = self.fleet.route(&ask)?;
        let started = Started {
            request,
            at,
            expected: routed.route.seconds,
            bandwidth: routed.bandwidth,
            probe: routed.probe_seconds,
            right: routed.answer.as_ref().map(|answer| answer.best().0 == facts.category),
            first: None,
            prompt: tokens,
            before: Vec::new(),
            moves: 0,
        };
        self.join(started, prompt.ids, routed)
    }

    /// Makes a request a member of its variant's batch. `ids`: its prompt, and what was generated so far.
    fn join(&mut self, started: Started, ids: Vec<u32>, routed: Routed) -> Result<()> {
        let variant = self.names.iter().position(|name| *name == routed.name).context("a variant is not loaded")?;
        let busy = self.serving.iter().filter(|s| !s.running.is_empty()).map(|s| s.served);
        let least = busy.fold(f64::INFINITY, f64::min);
        let serving = &mut self.serving[variant];
        // A variant that was idle has no claim to the time that others had meanwhile.
        if serving.running.is_empty() && least.is_finite() {
            serving.served = serving.served.max(least);
        }
        let left = self.trace[started.request].output as usize - started.before.len();
        let wanted = Request {
            max_tokens: Some(left),
            ignore_eog: true,
            speculation: by_rule(routed.route.speculation),
            ..Request::new(ids, Sampling::greedy())
        };
        let drafter = drafter_by_rule(routed.route.drafter);
        let joined = serving.batch.join(&serving.engine, wanted, Sequence::new(), Some(drafter));
        let id = joined.map_err(|(error, _)| error)?;
        serving.running.push(Running { id, routed, started });
        Ok(())
    }

    /// Moves requests of a variant that will be late there to another one, if the policy has one for them.
    fn hurry(&mut self, variant: usize) -> Result<()> {
        let mut at = 0;
        while at < self.serving[variant].running.len() {
            match self.elsewhere(variant, at)? {
                Some(routed) => self.move_to(variant, at, routed)?,
                None => at += 1,
            }
        }
        Ok(())
    }

    /// Where a request goes that will be late on its variant; `None` if it stays.
    fn elsewhere(&mut self, variant: usize, at: usize) -> Result<Option<Routed>> {
        let serving = &self.serving[variant];
        let Running { id, routed, started } = &serving.running[at];
        let new = serving.batch.generated(*id).map_or(0, <[u32]>::len);
        let time = self.left(started.request);
        let generated = (started.before.len() + new) as u32;
        let (done, left) = (started.prompt + generated, self.trace[started.request].output.saturating_sub(generated));
        // A prompt that is being computed stays, and what is late already is not hurried.
        if new == 0 || left == 0 || time <= 0.0 || self.fleet.remaining(routed, done, left) <= time {
            return Ok(None);
        }
        let ask = self.ask(started.request, "", done);
        Ok(self.fleet.move_request(&ask, routed, done, left)?)
    }

    /// Moves a request: its positions are computed again on the other variant.
    fn move_to(&mut self, variant: usize, at: usize, routed: Routed) -> Result<()> {
        let serving = &mut self.serving[variant];
        let Running { id, mut started, .. } = serving.running.remove(at);
        let (done, _) = serving.batch.leave(&serving.engine, id).context("the member has not left")?;
        started.before.extend(done?.ids);
        started.moves += 1;
        let mut ids = self.prompts.of(started.request, &self.trace[started.request]).ids;
        ids.extend(&started.before);
        self.join(started, ids, routed)
    }

    /// Runs a step of a variant, and takes out what has ended.
    fn step(&mut self, variant: usize) -> Result<()> {
        let serving = &mut self.serving[variant];
        let began = Instant::now();
        serving.batch.step(&serving.engine, &mut |_, _| Flow::Continue)?;
        serving.served += began.elapsed().as_secs_f64();
        let now = self.started.elapsed().as_secs_f64();
        for Running { id, started, .. } in serving.running.iter_mut().filter(|r| r.started.first.is_none()) {
            if serving.batch.generated(*id).is_some_and(|ids| !ids.is_empty()) {
                started.first = Some(now);
            }
        }
        while let Some(id) = serving.batch.ended() {
            let (done, _) = serving.batch.leave(&serving.engine, id).context("the member has not left")?;
            let Some(at) = serving.running.iter().position(|r| r.id == id) else { continue };
            let started = serving.running.swap_remove(at).started;
            let Started { request, at, expected, bandwidth, probe, right, first, before, moves, .. } = started;
            let arrival = self.trace[request].arrival;
            self.run.done.push(Done {
                request,
                variant,
                at,
                expected,
                bandwidth,
                first: first.unwrap_or(now) - arrival,
                latency: now - arrival,
                tokens: (before.len() + done?.ids.len()) as u32,
                moves,
                probe,
                right,
            });
        }
        if self.args.within.is_some() {
            self.hurry(variant)?;
        }
        Ok(())
    }
}
