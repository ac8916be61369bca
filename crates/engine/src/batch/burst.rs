//! Runs a burst instead of a step, for a single member that the device can decode without the host.
//!
//! Everything else takes ordinary steps: several members, prefill chunks, host masks and biases, drafts of a model. The
//! tokens are the same either way.

use super::Batch;
use super::member::{Member, MemberId};
use crate::dispatch::Dispatch;
use crate::flow::Flow;
use crate::lock::lock;
use crate::request::Speculation;
use crate::step::token_tail;
use crate::{Engine, EngineError};
use aio_backend::{BurstRequest, BurstSampling, BurstStep, DeviceError};
use aio_ir::sampling::NO_TOKEN;

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
        let tail = token_tail(&member.request.sampling, false);
        if !member.can_burst() || !engine.burst_ready(tail) {
            return Ok(false);
        }
        self.choice = None;
        match member.burst(engine, sink) {
            Ok(()) => Ok(true),
            // Nothing has run. Ordinary steps need fewer pages and do not have these limits.
            Err(EngineError::PoolFull { .. } | EngineError::Device(DeviceError::Binding { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Member {
    /// Whether it needs nothing from the host between steps. The device drafts by itself, so a caller's drafter rules
    /// it out.
    fn can_burst(&self) -> bool {
        self.decodes() && self.has_output() && !self.has_bias() && !self.own_drafter
    }

    /// Maximum drafts per step. With `auto` the device adapts to its recent acceptance, without the speculator.
    fn drafts_of_burst(&self) -> u32 {
        match self.request.speculation {
            Speculation::Off => 0,
            Speculation::Auto => u32::MAX,
            Speculation::Fixed(k) => u32::try_from(k).unwrap_or(u32::MAX),
        }
    }

    fn burst(&mut self, engine: &Engine, sink: &mut dyn FnMut(MemberId, &str) -> Flow) -> Result<(), EngineError> {
        let (context, committed) = (engine.context(), self.tokens.len());
        let budget = self.output.left().min(context - committed).min(engine.burst());
        engine.reserve(&mut self.sequence, committed - 1 + budget)?;
        let stops = self.request.ends(engine.model().tokenizer.vocab());
        let sampling = &self.request.sampling;
        let tail = token_tail(sampling, false);
        // The burst reads the text while its tokens are added to it.
        let history = self.tokens.clone();
        let pages = self.sequence.pages().to_vec();
        let wanted = BurstRequest {
            history: &history,
            pages: &pages,
            budget: budget as u32,
            stops: &stops,
            drafts: self.drafts_of_burst(),
            sampling: BurstSampling {
                params: sampling.params,
                seed: sampling.seed,
                choice: sampling.choice,
                look_back: sampling.repeat_last_n.min(context) as u32,
            },
        };
        let mut broken = false;
        let mut show = |shown: &[u32]| {
            let whole = shown.iter().take_while(|&&t| t != NO_TOKEN);
            self.push(engine, whole.copied(), sink);
            broken |= self.is_running() && shown.contains(&NO_TOKEN);
            self.is_running() && !broken
        };
        let mut guard = lock(&engine.steps);
        let (burst, steps) = guard.bursts.get(tail).expect("`burst_ready` said so");
        steps.clear();
        let ran = burst.run(&wanted, &mut show, steps);
        let new = self.tokens.len() - committed;
        self.output.steps += steps.len();
        self.count_burst(steps, new);
        drop(guard);
        if broken {
            self.fail(sink);
        }
        // After an error the keys and values of the new tokens count as missing.
        if ran.is_ok() {
            self.commit(self.tokens.len() - 1);
        }
        self.sequence.trim(self.tokens.len());
        self.teach_drafter(new);
        ran?;
        Ok(())
    }

    /// Records the steps of a burst whose first `tokens` tokens are part of the output.
    fn count_burst(&mut self, steps: &[BurstStep], mut tokens: usize) {
        self.tick();
        for step in steps {
            if tokens == 0 {
                break;
            }
            let accepted = (step.accepted as usize).min(tokens);
            self.stats.add(step.drafted as usize, accepted, tokens <= step.accepted as usize);
            self.timing.decode_steps += 1;
            tokens -= (accepted + 1).min(tokens);
        }
    }
}
