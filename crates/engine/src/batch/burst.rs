//! Runs a burst instead of a step, for a single member that the device can decode without the host.
//!
//! Everything else takes ordinary steps: several members, prefill chunks, host masks and biases, drafts of a model. The
//! tokens are the same either way.

use super::member::Member;
use super::{Batch, MemberId};
use crate::dispatch::Dispatch;
use crate::flow::Flow;
use crate::request::Speculation;
use crate::step::token_tail;
use crate::{Engine, EngineError};
use aio_backend::{BurstRequest, BurstSampling, DeviceError};
use aio_ir::sampling::NO_TOKEN;
use std::time::Instant;

impl Batch {
    /// Runs a burst if exactly one member is running and it qualifies. Returns whether it did.
    ///
    /// # Errors
    /// See [`Batch::step`]. Tokens shown before the error stay part of the output.
    pub(super) fn burst(
        &mut self,
        engine: &mut Engine,
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
        self.decodes() && self.first_token.is_some() && !self.has_bias() && !self.own_drafter
    }

    /// Maximum drafts per step. With `auto` the device adapts to its recent acceptance, without the speculator.
    fn drafts_of_burst(&self) -> u32 {
        match self.request.speculation {
            Speculation::Off => 0,
            Speculation::Auto => u32::MAX,
            Speculation::Fixed(k) => u32::try_from(k).unwrap_or(u32::MAX),
        }
    }

    fn burst(&mut self, engine: &mut Engine, sink: &mut dyn FnMut(MemberId, &str) -> Flow) -> Result<(), EngineError> {
        let context = engine.context();
        let budget = self.output.left().min(context - self.committed).min(engine.burst());
        engine.reserve(&mut self.sequence, self.committed - 1 + budget)?;
        let (drafts, id, committed) = (self.drafts_of_burst(), self.id, self.committed);
        let Member { request, sequence, tokens, output, .. } = self;
        let tail = token_tail(&request.sampling, false);
        let (model, bursts) = engine.bursts();
        let tokenizer = &model.tokenizer;
        let stops = request.ends(tokenizer.vocab());
        let sampling = &request.sampling;
        let wanted = BurstRequest {
            history: tokens,
            pages: sequence.pages(),
            budget: budget as u32,
            stops: &stops,
            drafts,
            sampling: BurstSampling {
                params: sampling.params,
                seed: sampling.seed,
                choice: sampling.choice,
                look_back: sampling.repeat_last_n.min(context) as u32,
            },
        };
        let (mut new, mut broken) = (Vec::with_capacity(budget), false);
        let mut sink = |text: &str| sink(id, text);
        let mut show = |shown: &[u32]| {
            for &token in shown {
                if !output.is_open() || token == NO_TOKEN {
                    broken |= output.is_open();
                    break;
                }
                new.push(token);
                output.push(tokenizer, request, token, (committed + new.len(), context), &mut sink);
            }
            output.is_open() && !broken
        };
        let (burst, steps) = bursts.get(tail).expect("`burst_ready` said so");
        steps.clear();
        let ran = burst.run(&wanted, &mut show, steps);
        let steps = std::mem::take(steps);
        output.steps += steps.len();
        if broken {
            output.fail(committed - 1 + new.len(), &mut sink);
        } else if output.reason.is_some() {
            output.finish(&mut sink);
        }
        self.take_burst(&new, ran.is_ok());
        engine.trim(&mut self.sequence, self.committed);
        self.count_burst(&steps, new.len());
        *engine.bursts().1.get(tail).expect("as above").1 = steps;
        ran?;
        Ok(())
    }

    /// Adds the new tokens. After an error their keys and values count as missing.
    fn take_burst(&mut self, new: &[u32], whole: bool) {
        self.tokens.extend_from_slice(new);
        self.committed = self.tokens.len();
        if whole {
            self.sequence.commit(self.committed - 1);
        }
        if let Some(drafter) = &mut self.drafter {
            drafter.extend(new);
        }
    }

    /// Records the steps of a burst whose first `tokens` tokens are part of the output.
    fn count_burst(&mut self, steps: &[aio_backend::BurstStep], mut tokens: usize) {
        if let Some(began) = self.first_token {
            self.timing.decode = Instant::now() - began;
        }
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
