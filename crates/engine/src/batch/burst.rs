//! Runs a burst instead of a step, for a single member that the device can decode without the host.
//!
//! Everything else takes ordinary steps: several members, prefill chunks, host masks and biases, drafts of a model. The
//! tokens are the same either way.

use super::Batch;
use super::member::{Member, MemberId};
use crate::dispatch::Dispatch;
use crate::engine::StepClock;
use crate::flow::Flow;
use crate::lock::lock;
use crate::request::Speculation;
use crate::step::token_tail;
use crate::{Engine, EngineError};
use aio_backend::{BurstRequest, BurstSampling, BurstStep, DeviceError};
use aio_ir::sampling::NO_TOKEN;
use aio_orchestrator::{BurstChoice, BurstLimits, Choice, ObservedBurst};
use std::time::Instant;

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
        let plan = member.plan_burst(engine, most);
        let ran = member.run_burst(engine, &plan, sink);
        self.choice = plan.teach(engine, ran.as_ref().ok());
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
    seconds: f64,
    /// The part of these that its steps did not take, if known.
    launch: Option<f64>,
    /// Number of drafts, and of accepted drafts, of each step.
    steps: Vec<[u32; 2]>,
    /// Number of tokens added to the output.
    produced: u32,
    /// Whether a row gave no token.
    broken: bool,
}

impl Plan {
    /// Tells the speculator what became of its choice. Returns the choice.
    fn teach(self, engine: &Engine, ran: Option<&Ran>) -> Option<Choice> {
        let choice = self.choice?;
        match ran {
            Some(Ran { seconds, launch, steps, produced, broken: false }) => {
                let (seconds, launch, produced) = (*seconds, *launch, *produced);
                let (choice, kv_bytes) = (&choice, self.kv_bytes);
                let burst = ObservedBurst { choice, kv_bytes, seconds, launch, steps, produced };
                engine.speculating().observe_burst(&burst);
            }
            _ => engine.speculating().abandon(&choice.step),
        }
        Some(choice.step)
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
    fn plan_burst(&self, engine: &Engine, most: u32) -> Plan {
        let tokens = self.output.left().min(engine.context() - self.tokens.len()).min(engine.burst());
        let kv_bytes = self.tokens.len() as f64 * engine.work().kv_bytes_per_position as f64;
        let plan = Plan { tokens, drafts: 0, kv_bytes, choice: None };
        match self.request.speculation {
            Speculation::Off => plan,
            Speculation::Fixed(k) => Plan { drafts: u32::try_from(k).unwrap_or(u32::MAX), ..plan },
            Speculation::Auto => {
                let limits = BurstLimits { tokens: u32::try_from(tokens).unwrap_or(u32::MAX), drafts: most, kv_bytes };
                let choice = engine.speculating().choose_burst(limits);
                Plan { tokens: choice.tokens as usize, drafts: choice.drafts(), choice: Some(choice), ..plan }
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
        let mut guard = lock(&engine.steps);
        let (burst, steps) = guard.bursts.get(tail).expect("`burst_drafts` loaded it");
        steps.clear();
        let (mut broken, mut first, started) = (false, None, Instant::now());
        let mut show = |shown: &[u32]| {
            first.get_or_insert_with(|| (started.elapsed().as_secs_f64(), shown.len()));
            let whole = shown.iter().take_while(|&&t| t != NO_TOKEN);
            self.push(engine, whole.copied(), sink);
            broken |= self.is_running() && shown.contains(&NO_TOKEN);
            self.is_running() && !broken
        };
        let result = burst.run(&wanted, &mut show, steps);
        let measured = started.elapsed().as_secs_f64();
        let steps: Vec<[u32; 2]> = steps.iter().map(|&BurstStep { drafted, accepted }| [drafted, accepted]).collect();
        drop(guard);
        let new = self.tokens.len() - committed;
        self.output.steps += steps.len();
        self.count_burst(&steps, new);
        if broken {
            self.fail(sink);
        }
        // After an error the keys and values of the new tokens count as missing.
        if result.is_ok() {
            self.commit(self.tokens.len() - 1);
        }
        self.sequence.trim(self.tokens.len());
        self.teach_drafter(new);
        result?;
        let (seconds, launch) = seconds(engine.clock(), plan.kv_bytes, measured, first, &steps);
        Ok(Ran { seconds, launch, steps, produced: new as u32, broken })
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

/// The seconds of a burst, and those that its steps did not take. `first`: seconds to the first tokens, and their
/// number.
fn seconds(
    clock: StepClock,
    kv_bytes: f64,
    measured: f64,
    first: Option<(f64, usize)>,
    steps: &[[u32; 2]],
) -> (f64, Option<f64>) {
    if let StepClock::Modelled(_) = clock {
        let modelled = |&[drafted, _]: &[u32; 2]| clock.seconds(1 + drafted as usize, kv_bytes, 0.0);
        return (steps.iter().map(modelled).sum(), Some(0.0));
    }
    let launch = first.and_then(|(first, tokens)| launch(measured, first, tokens, steps));
    (measured, launch)
}

/// The seconds before the first step, by the time of the steps after the first tokens. `None` if there are no such
/// steps.
fn launch(measured: f64, first: f64, tokens: usize, steps: &[[u32; 2]]) -> Option<f64> {
    let mut seen = 0;
    let before = steps.iter().take_while(|[_, accepted]| {
        let earlier = seen < tokens;
        seen += *accepted as usize + 1;
        earlier
    });
    let before = before.count();
    let after = steps.len().checked_sub(before).filter(|after| *after > 0)?;
    let each = (measured - first) / after as f64;
    Some((first - before as f64 * each).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launch_is_what_the_later_steps_do_not_explain() {
        let steps = [[3, 3], [3, 1], [0, 0], [0, 0]];
        // The first four tokens are those of one step, the first six those of two.
        assert_eq!(launch(10.0, 4.0, 4, &steps), Some(2.0));
        assert_eq!(launch(10.0, 8.0, 6, &steps), Some(6.0));
        assert_eq!(launch(10.0, 2.0, 1, &steps), Some(0.0));
        assert_eq!(launch(10.0, 9.0, 8, &steps), None, "all tokens came at once");
        let clock = StepClock::Modelled(|rows, kv_bytes| rows as f64 + kv_bytes);
        assert_eq!(seconds(clock, 0.5, 10.0, Some((4.0, 4)), &steps), (4.5 + 4.5 + 1.5 + 1.5, Some(0.0)));
    }
}
