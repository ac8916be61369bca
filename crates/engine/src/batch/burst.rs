//! Runs a burst instead of a step, for a single member that the device can decode without the host.
//!
//! Everything else takes ordinary steps: several members, prefill chunks, host masks and biases, drafts of a model. The
//! tokens are the same either way.

use super::Batch;
use super::chosen::Chosen;
use super::member::{Member, MemberId};
use crate::dispatch::Dispatch;
use crate::flow::Flow;
use crate::lock::lock;
use crate::request::Speculation;
use crate::step::token_tail;
use crate::{Engine, EngineError};
use aio_backend::{BurstRequest, BurstSampling, BurstStep, DeviceError};
use aio_ir::sampling::NO_TOKEN;
use aio_orchestrator::{BurstChoice, BurstLimits, Choice, ObservedBurst, StepSize};
use aio_plan::StepTime;

impl Batch {
    /// Runs a burst if exactly one member is running and it qualifies. Returns whether it did.
    ///
    /// # Errors
    /// See [`Batch::step`]. Tokens shown before the error stay part of the output.
    pub(super) fn burst(
        &mut self,
        engine: &Engine,
        sink: &mut dyn FnMut(MemberId, &str) -> Flow,
    ) -> Result<bool, EngineError> {
        if engine.dispatch() != Dispatch::Graph {
            return Ok(false);
        }
        let mut running = self.members.iter_mut().filter(|m| m.is_running());
        let (Some(member), None) = (running.next(), running.next()) else { return Ok(false) };
        if !member.can_burst() {
            return Ok(false);
        }
        let tail = token_tail(&member.request.sampling, false);
        let Some(most) = engine.burst_drafts(tail) else { return Ok(false) };
        let (plan, chosen) = member.plan_burst(engine, most);
        let ran = member.run_burst(engine, &plan, sink);
        self.choice = chosen.and_then(|chosen| plan.teach(chosen, ran.as_ref().ok()));
        if let Ok(ran) = &ran {
            ran.teach_costs(engine);
        }
        match ran {
            Ok(_) => Ok(true),
            // Nothing has run. Ordinary steps need fewer pages and do not have these limits.
            Err(EngineError::PoolFull { .. } | EngineError::Device(DeviceError::Binding { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A burst that is about to run.
struct Plan {
    /// Maximum tokens, and drafts of a step.
    tokens: usize,
    drafts: u32,
    /// Bytes of keys and values that a step reads.
    kv_bytes: f64,
    /// How the speculator chose; `None` if nothing was weighed.
    choice: Option<BurstChoice>,
}

/// A burst that has run.
struct Ran {
    time: StepTime,
    /// The part of these that its steps did not take, if known.
    launch: Option<f64>,
    /// Number of drafts, and of accepted drafts, of each step.
    steps: Vec<[u32; 2]>,
    /// Positions before the first one.
    positions: usize,
    /// Number of tokens added to the output.
    produced: u32,
    /// Whether a row gave no token.
    broken: bool,
}

impl Ran {
    /// Tells the cost model what the steps took: each the share of the burst that was predicted for it.
    fn teach_costs(&self, engine: &Engine) {
        let mut costs = lock(&engine.costs);
        let mut positions = self.positions as u64;
        let mut size = |&[drafted, accepted]: &[u32; 2]| {
            let rows = 1 + drafted;
            let size = StepSize { sequences: 1, rows, positions: positions + u64::from(drafted) };
            positions += 1 + u64::from(accepted);
            size
        };
        let sizes: Vec<StepSize> = self.steps.iter().map(&mut size).collect();
        let predicted: Vec<f64> = sizes.iter().map(|&size| costs.predict(size).0).collect();
        let all: f64 = predicted.iter().sum();
        let launch = self.launch.unwrap_or(0.0);
        for (size, own) in sizes.into_iter().zip(predicted) {
            costs.observe(size, self.time.map(|seconds| (seconds - launch) * own / all));
        }
    }
}

impl Plan {
    /// Tells the speculator what became of its choice. Returns the choice.
    fn teach(&self, chosen: Chosen<'_>, ran: Option<&Ran>) -> Option<Choice> {
        match (&self.choice, ran) {
            (Some(choice), Some(&Ran { time, launch, ref steps, produced, broken: false, .. })) => {
                let kv_bytes = self.kv_bytes;
                let burst = ObservedBurst { choice, kv_bytes, time, launch, steps, produced };
                chosen.observe(|speculator, _| speculator.observe_burst(&burst))
            }
            _ => chosen.abandon(),
        }
    }
}

impl Member {
    /// Whether it needs nothing from the host between steps. The device drafts by itself, so a caller's drafter rules
    /// it out.
    fn can_burst(&self) -> bool {
        self.decodes() && self.has_output() && !self.has_bias() && !self.own_drafter
    }

    /// Decides how many tokens the next burst makes, and how many drafts the device may verify in a step, at most
    /// `most`. With `auto` the speculator decides.
    fn plan_burst<'e>(&self, engine: &'e Engine, most: u32) -> (Plan, Option<Chosen<'e>>) {
        let tokens = self.output.left().min(engine.context() - self.tokens.len()).min(engine.burst());
        let kv_bytes = self.tokens.len() as f64 * engine.work().kv_bytes_per_position as f64;
        let plan = Plan { tokens, drafts: 0, kv_bytes, choice: None };
        match self.request.speculation {
            Speculation::Off => (plan, None),
            Speculation::Fixed(k) => (Plan { drafts: u32::try_from(k).unwrap_or(u32::MAX), ..plan }, None),
            Speculation::Auto => {
                let limits = BurstLimits { tokens: u32::try_from(tokens).unwrap_or(u32::MAX), drafts: most, kv_bytes };
                let choice = engine.speculating().choose_burst(limits);
                let chosen = Chosen::new(engine, choice.step.clone());
                let (tokens, drafts) = (choice.tokens as usize, choice.drafts());
                (Plan { tokens, drafts, choice: Some(choice), ..plan }, Some(chosen))
            }
        }
    }

    fn run_burst(
        &mut self,
        engine: &Engine,
        plan: &Plan,
        sink: &mut dyn FnMut(MemberId, &str) -> Flow,
    ) -> Result<Ran, EngineError> {
        let committed = self.tokens.len();
        engine.reserve(&mut self.sequence, committed - 1 + plan.tokens)?;
        let stops = self.request.ends(engine.model().tokenizer.vocab());
        let sampling = &self.request.sampling;
        let tail = token_tail(sampling, false);
        // The burst reads the text while its tokens are added to it.
        let (history, pages) = (self.tokens.clone(), self.sequence.pages().to_vec());
        let wanted = BurstRequest {
            history: &history,
            pages: &pages,
            budget: plan.tokens as u32,
            stops: &stops,
            drafts: plan.drafts,
            sampling: BurstSampling {
                params: sampling.params,
                seed: sampling.seed,
                choice: sampling.choice,
                look_back: sampling.repeat_last_n.min(engine.context()) as u32,
            },
        };
        let mut guard = engine.steps.lock()?;
        let (burst, steps) = guard.bursts.get(tail).expect("`burst_drafts` loaded it");
        steps.clear();
        let mut broken = false;
        let mut show = |shown: &[u32]| {
            let whole = shown.iter().take_while(|&&t| t != NO_TOKEN);
            self.push(engine, whole.copied(), sink);
            broken |= self.is_running() && shown.contains(&NO_TOKEN);
            self.is_running() && !broken
        };
        let result = burst.run(&wanted, &mut show, steps);
        let steps: Vec<[u32; 2]> = steps.iter().map(|&BurstStep { drafted, accepted }| [drafted, accepted]).collect();
        drop(guard);
        let new = self.tokens.len() - committed;
        self.output.steps += steps.len();
        if !steps.is_empty() || new > 0 {
            self.count_burst(&steps, new);
        }
        if broken {
            self.fail(sink);
        }
        // After an error the keys and values of the new tokens count as missing.
        if result.is_ok() {
            self.commit(self.tokens.len() - 1);
        }
        self.sequence.trim(self.tokens.len());
        self.teach_drafter(new);
        let report = result?;
        let (time, launch, produced) = (report.time, report.launch, new as u32);
        Ok(Ran { time, launch, steps, positions: committed, produced, broken })
    }

    /// Records the steps of a burst whose first `tokens` tokens are part of the output.
    fn count_burst(&mut self, steps: &[[u32; 2]], mut tokens: usize) {
        self.tick();
        for [drafted, right] in steps.iter().map(|step| step.map(|n| n as usize)) {
            if tokens == 0 {
                break;
            }
            let accepted = right.min(tokens);
            self.stats.add(drafted, accepted, tokens <= right);
            self.timing.decode_steps += 1;
            tokens -= (accepted + 1).min(tokens);
        }
    }
}
