//! `aio bench spec`: how much speculation speeds up generation, and a check that it changes no text.
//!
//! Bandwidth drifts, so the configurations take turns prompt by prompt and are compared in pairs. All run on one model
//! in memory; each has its own speculator, so none benefits from what another learned.

mod group;
mod repeats;
mod row;
mod run;
pub(super) mod workloads;

use super::forms;
use crate::args::{DispatchArg, DrafterArg, SamplingArgs, SpecArgs, SpeculateArgs, speculation_name};
use crate::devices;
use crate::models::{self, Loaded};
use crate::outcome::Outcome;
use crate::output;
use crate::run::sampling;
use crate::speculate::Drafting;
use aio::backend::Device;
use aio::engine::{Dispatch, Engine, EngineOptions, Request, Speculation};
use aio::orchestrator::Speculator;
use anyhow::{Result, bail};
use group::{Config, Entry, Group};
use indicatif::ProgressBar;
use row::{Machine, Row};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use workloads::{Prompt, Workload};

/// Drafts of the baselines if no best number was measured.
const BASELINE_DRAFTS: usize = 4;
/// Prompts, tokens and rounds of the slowest baseline.
const OP_PROMPTS: usize = 1;
const OP_TOKENS: u32 = 32;
const OP_ROUNDS: u32 = 1;
/// Tokens generated before anything is measured, so that all pages and plans have been touched.
const WARM_UP_TOKENS: usize = 24;

pub(crate) fn main(mut args: SpecArgs) -> Result<Outcome> {
    let workloads = workloads::load(&args.workloads, args.limit)?;
    args.model.model = Some(models::path(&args.model)?);
    measure(&args, workloads)
}

fn measure(args: &SpecArgs, workloads: Vec<Workload>) -> Result<Outcome> {
    let options = EngineOptions { context: Some(positions(&workloads, args)), ..EngineOptions::default() };
    let (device, threads) = device(args)?;
    let mut session = Session::new(args, workloads, draftings(args, &options)?);
    let mut machine = None;
    let mut loaded: Option<(Loaded, Speculator)> = None;
    for dispatch in dispatches(args) {
        let fits = |l: &mut (Loaded, Speculator)| l.0.engine.set_dispatch(dispatch.dispatch()).is_ok();
        if !loaded.as_mut().is_some_and(fits) {
            // One model at a time.
            drop(loaded.take());
            loaded = Some(session.load(&device, &EngineOptions { dispatch: dispatch.dispatch(), ..options.clone() })?);
        }
        let Some((model, fresh)) = &mut loaded else { continue };
        machine.get_or_insert_with(|| session.machine(&model.engine, threads));
        session.measure(dispatch, &model.engine, fresh)?;
        model.keep();
    }
    session.bar.finish_and_clear();
    let rows = machine.map_or_else(Vec::new, |machine| session.rows(&machine));
    output::print_now(&forms::render(&rows, args.output, row::markdown))?;
    Ok(if session.mismatches() > 0 { Outcome::CheckFailed } else { Outcome::Fine })
}

/// Dispatch modes in the order of measurement. The baselines come last because they reuse the best number of drafts.
fn dispatches(args: &SpecArgs) -> Vec<DispatchArg> {
    let all = [DispatchArg::Graph, DispatchArg::Token, DispatchArg::Op];
    all.into_iter().filter(|d| args.dispatch.contains(d)).collect()
}

/// Upper bound on the positions of the longest text. It is not tokenized yet, but every token is at least one byte.
fn positions(workloads: &[Workload], args: &SpecArgs) -> u32 {
    let prompts = workloads.iter().flat_map(|w| &w.prompts);
    let most = prompts.map(|p| p.prompt.len().saturating_add(max_tokens(p, args) as usize)).max().unwrap_or(0);
    // Room for tokens that the model adds before every prompt.
    u32::try_from(most).unwrap_or(u32::MAX).saturating_add(8)
}

fn max_tokens(prompt: &Prompt, args: &SpecArgs) -> u32 {
    args.max_tokens.unwrap_or(u32::MAX).min(prompt.max_tokens)
}

fn device(args: &SpecArgs) -> Result<(Arc<dyn Device>, usize)> {
    let opened = devices::open(args.model.device, (&args.model).into())?;
    Ok((opened.device, opened.threads as usize))
}

/// The drafting setup of each requested drafter.
fn draftings(args: &SpecArgs, options: &EngineOptions) -> Result<Vec<(DrafterArg, Drafting)>> {
    let default = if args.draft_model.is_some() { DrafterArg::Model } else { DrafterArg::Suffix };
    let asked = if args.drafter.is_empty() { vec![default] } else { unique(args.drafter.clone()) };
    if asked.contains(&DrafterArg::Model) != args.draft_model.is_some() {
        bail!("--drafter model and --draft-model FILE belong together");
    }
    let make = |drafter: DrafterArg| {
        let draft_model = args.draft_model.clone().filter(|_| drafter == DrafterArg::Model);
        let flags = SpeculateArgs { spec: Some(Speculation::Auto), drafter: Some(drafter), draft_model };
        Ok((drafter, Drafting::new(&flags, &args.model, &args.load, options)?))
    };
    asked.into_iter().map(make).collect()
}

/// Removes duplicates, keeping the first occurrence.
fn unique<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// State of one invocation.
struct Session<'a> {
    args: &'a SpecArgs,
    workloads: Vec<Workload>,
    draftings: Vec<(DrafterArg, Drafting)>,
    groups: Vec<Group>,
    /// Texts without drafts, by workload, prompt and whether the plan is fused. The unfused plan differs in the last
    /// bits of its results and generates fewer tokens.
    texts: BTreeMap<(usize, usize, bool), Vec<u32>>,
    bar: ProgressBar,
}

impl<'a> Session<'a> {
    fn new(args: &'a SpecArgs, workloads: Vec<Workload>, draftings: Vec<(DrafterArg, Drafting)>) -> Session<'a> {
        let (groups, texts, bar) = (Vec::new(), BTreeMap::new(), super::bar::bar(0));
        let session = Session { args, workloads, draftings, groups, texts, bar };
        let workloads = 0..session.workloads.len();
        let of = |d| workloads.clone().map(|w| session.size(d, w)).map(|(p, r)| p as u64 * u64::from(r)).sum::<u64>();
        let generations = |d| of(d) * session.configs(d, 0).len() as u64;
        session.bar.set_length(dispatches(args).into_iter().map(generations).sum());
        session
    }

    /// Loads the model and keeps a copy of the speculator before it has learned anything.
    fn load(&self, device: &Arc<dyn Device>, options: &EngineOptions) -> Result<(Loaded, Speculator)> {
        let loaded = models::load_on(&self.args.model, &self.args.load, Arc::clone(device), options)?;
        let fresh = loaded.engine.speculator();
        let first = &self.workloads[0].prompts[0];
        for speculation in [Speculation::Off, Speculation::Fixed(BASELINE_DRAFTS)] {
            let request = self.request(&loaded.engine, first, options.dispatch)?;
            let max_tokens = request.max_tokens.map(|n| n.min(WARM_UP_TOKENS));
            let drafting = (speculation != Speculation::Off).then(|| &self.draftings[0].1);
            run::generate(&loaded.engine, drafting, &Request { speculation, max_tokens, ..request })?;
        }
        Ok((loaded, fresh))
    }

    fn machine(&self, engine: &Engine, threads: usize) -> Machine {
        let model = self.args.model.model.as_deref().map(file_name).unwrap_or_default();
        let draft_model = self.args.draft_model.as_deref().map(file_name);
        Machine { model, draft_model, device: engine.family().target.clone(), threads, seed: self.args.seed }
    }

    /// Number of prompts and rounds of a workload.
    fn size(&self, dispatch: DispatchArg, workload: usize) -> (usize, u32) {
        let prompts = self.workloads[workload].prompts.len();
        match dispatch {
            DispatchArg::Op => (prompts.min(OP_PROMPTS), self.args.rounds.min(OP_ROUNDS)),
            DispatchArg::Graph | DispatchArg::Token => (prompts, self.args.rounds),
        }
    }

    /// The configurations for a workload; the one without drafts comes first.
    fn configs(&self, dispatch: DispatchArg, workload: usize) -> Vec<Config> {
        let mut configs = vec![Config { spec: Speculation::Off, drafter: None }];
        for &(drafter, _) in &self.draftings {
            let specs = match dispatch {
                DispatchArg::Graph => self.args.spec.clone(),
                DispatchArg::Token | DispatchArg::Op => vec![Speculation::Fixed(self.best_fixed(workload, drafter))],
            };
            let drafter = Some(drafter);
            configs.extend(specs.into_iter().map(|spec| Config { spec, drafter }));
        }
        configs.retain(|c| c.spec != Speculation::Off || c.drafter.is_none());
        unique(configs)
    }

    fn best_fixed(&self, workload: usize, drafter: DrafterArg) -> usize {
        let graph = self.groups.iter().find(|g| g.workload == workload && g.dispatch == DispatchArg::Graph);
        graph.and_then(|g| g.best_fixed(drafter)).unwrap_or(BASELINE_DRAFTS)
    }

    fn request(&self, engine: &Engine, prompt: &Prompt, dispatch: Dispatch) -> Result<Request> {
        let args = SamplingArgs { temp: prompt.temperature, seed: Some(self.args.seed), ..SamplingArgs::defaults() };
        let sampling = sampling(&args);
        sampling.check()?;
        let ids = engine.model().tokenizer.encode_prompt(&prompt.prompt, true)?;
        let most = if dispatch == Dispatch::Op { OP_TOKENS } else { u32::MAX };
        let max_tokens = Some(max_tokens(prompt, self.args).min(most) as usize);
        Ok(Request { max_tokens, stop: prompt.stop.clone(), ..Request::new(ids, sampling) })
    }

    /// Measures all workloads with one dispatch mode.
    fn measure(&mut self, dispatch: DispatchArg, engine: &Engine, fresh: &Speculator) -> Result<()> {
        for workload in 0..self.workloads.len() {
            self.bar.set_message(format!("{} {}", self.workloads[workload].name, dispatch.name()));
            let (prompts, rounds) = self.size(dispatch, workload);
            let entry = |config| Entry { config, learned: fresh.clone(), runs: Vec::new(), mismatches: 0 };
            let entries = self.configs(dispatch, workload).into_iter().map(entry).collect();
            let requests: Vec<Request> = self.workloads[workload].prompts[..prompts]
                .iter()
                .map(|p| self.request(engine, p, dispatch.dispatch()))
                .collect::<Result<_>>()?;
            let temperature = self.workloads[workload].prompts[0].temperature;
            let prompt_ids = requests.iter().map(|r| r.prompt.clone()).collect();
            let mut group = Group { workload, dispatch, prompts, rounds, temperature, prompt_ids, entries };
            for round in 0..rounds {
                for (prompt, request) in requests.iter().enumerate() {
                    self.turns(&mut group, engine, request, (prompt, round))?;
                    self.compare(&mut group, prompt);
                }
            }
            self.groups.push(group);
        }
        Ok(())
    }

    /// Generates one prompt with every configuration, starting with a different one each time.
    fn turns(
        &self,
        group: &mut Group,
        engine: &Engine,
        request: &Request,
        (prompt, round): (usize, u32),
    ) -> Result<()> {
        let count = group.entries.len();
        for turn in 0..count {
            let entry = &mut group.entries[(turn + prompt + round as usize) % count];
            let Config { spec, drafter } = entry.config;
            let drafting = self.draftings.iter().find(|(d, _)| Some(*d) == drafter).map(|(_, drafting)| drafting);
            let request = Request { speculation: spec, ..request.clone() };
            engine.swap_speculator(&mut entry.learned);
            let run = run::generate(engine, drafting, &request);
            engine.swap_speculator(&mut entry.learned);
            entry.runs.push(run::TextRun { prompt, round, ..run? });
            self.bar.inc(1);
        }
        Ok(())
    }

    /// Compares the texts of the latest turns with the first one generated without drafts.
    fn compare(&mut self, group: &mut Group, prompt: usize) {
        let key = (group.workload, prompt, group.dispatch != DispatchArg::Op);
        let plain = group.entries[0].runs.last().map(|r| r.ids.clone()).unwrap_or_default();
        let want = &*self.texts.entry(key).or_insert(plain);
        for entry in &mut group.entries {
            let Some(got) = entry.runs.last().map(|r| &r.ids) else { continue };
            let Some(difference) = difference(got, want) else { continue };
            entry.mismatches += 1;
            let workload = &self.workloads[group.workload];
            let (drafter, spec) =
                (entry.config.drafter.map_or("none", |d| d.name()), speculation_name(entry.config.spec));
            let (name, id, dispatch) = (&workload.name, &workload.prompts[prompt].id, group.dispatch.name());
            let message = format!(
                "{name}, prompt {id}: spec {spec}, drafter {drafter}, dispatch {dispatch} changes the text: {difference}"
            );
            self.bar.suspend(|| note!("error: {message}"));
        }
    }

    fn mismatches(&self) -> u32 {
        self.groups.iter().flat_map(|g| &g.entries).map(|e| e.mismatches).sum()
    }

    /// Rows by workload, then by dispatch.
    fn rows(&self, machine: &Machine) -> Vec<Row> {
        let mut rows = Vec::new();
        for (i, workload) in self.workloads.iter().enumerate() {
            let ids: Vec<&str> = workload.prompts.iter().map(|p| p.id.as_str()).collect();
            for group in self.groups.iter().filter(|g| g.workload == i) {
                rows.extend(row::rows(group, &workload.name, &ids, machine));
            }
        }
        rows
    }
}

/// Describes where a text first differs from the expected one.
fn difference(got: &[u32], want: &[u32]) -> Option<String> {
    let at = got.iter().zip(want).position(|(a, b)| a != b);
    match at {
        Some(at) => Some(format!("token {at} is {}, not {}", got[at], want[at])),
        None if got.len() != want.len() => Some(format!("{} tokens, not {}", got.len(), want.len())),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found_where_they_begin() {
        assert_eq!(difference(&[1, 2], &[1, 2]), None);
        assert_eq!(difference(&[1, 3], &[1, 2]).as_deref(), Some("token 1 is 3, not 2"));
        assert_eq!(difference(&[1], &[1, 2]).as_deref(), Some("1 tokens, not 2"));
    }
}
