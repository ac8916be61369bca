//! `aio run`: one prompt, or a chat.

use crate::args::{RunArgs, SamplingArgs, TextOrJson, speculation_name};
use crate::editor::Turns;
use crate::models::{self, Loaded};
use crate::outcome::Outcome;
use crate::output::{StdoutError, describe, json_line, print_as_it_is, print_now};
use crate::speculate::{Drafting, Spent, by_rule};
use crate::summary::Summary;
use crate::{fleet, input, output, signals};
use aio::backend::Trace;
use aio::backend::timeline::Cause;
use aio::engine::{Batch, Completion, Engine, EngineOptions, Flow, Request, Sampling, Sequence, Speculation};
use aio::ir::sampling::SampleParams;
use aio::model::chat::{ChatTemplate, Clock, Message};
use aio::orchestrator::Choice;
use anyhow::{Context, Result, bail};
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Default number of tokens in a burst.
const BURST: usize = 64;

pub(crate) fn main(args: Box<RunArgs>) -> Result<Outcome> {
    let prompt = read_prompt(&args)?;
    if prompt.is_none() && (args.ids || args.output == TextOrJson::Json) {
        bail!("--ids and -o json need a prompt: give one with -p TEXT or -f FILE");
    }
    let sampling = sampling(&args.sampling);
    sampling.check()?;
    args.trace.as_deref().map_or(Ok(()), check_trace)?;
    if let Some(to) = &args.trace {
        output::check_other(args.model.model.as_deref().into_iter().chain(args.speculate.draft_model.as_deref()), to)?;
    }
    fleet::check(&args.fleet)?;
    let burst = args.burst.unwrap_or(BURST);
    let dispatch = args.dispatch.dispatch();
    let options = EngineOptions { context: args.ctx, dispatch, burst, ..EngineOptions::default() };
    let mut drafting = Drafting::new(&args.speculate, &args.model, &args.load, &options)?;
    if !args.fleet.variants.is_empty() {
        let prompt = prompt.context("--variants needs a prompt: give one with -p TEXT or -f FILE")?;
        return routed(&args, drafting, &options, sampling, &prompt);
    }
    let mut loaded = models::load(&args.model, &args.load, &options)?;
    if args.trace.is_some() {
        loaded.device.trace()?;
    }
    match prompt {
        Some(prompt) => {
            let speculation = args.speculate.speculation();
            once(&args, &drafting, &loaded.engine, (sampling, speculation), &prompt, None)?;
        }
        None => chat(&args, &drafting, &mut loaded, sampling)?,
    }
    if let Some(path) = &args.trace {
        let text = traced(&loaded)?;
        aio::mapped::write_whole(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    loaded.keep();
    drafting.keep();
    // The process is about to exit, and freeing everything piece by piece would take longer.
    std::mem::forget((loaded, drafting));
    Ok(Outcome::Fine)
}

/// A prompt on the variant that the policy chooses.
fn routed(
    args: &RunArgs,
    mut drafting: Drafting,
    options: &EngineOptions,
    sampling: Sampling,
    prompt: &str,
) -> Result<Outcome> {
    let wanted = (prompt, args.max_tokens);
    let (fleet, routed) = fleet::choose(&args.fleet, (&args.model, &args.load), options, wanted)?;
    let names: Vec<String> = fleet.states().into_iter().map(|(name, _)| name).collect();
    if args.explain && args.output == TextOrJson::Text {
        routed.explain(&names).iter().for_each(|line| note!("{line}"));
    }
    // Flags go before what the policy says.
    let speculation = args.speculate.spec.unwrap_or(by_rule(routed.route.speculation));
    drafting.prefer(routed.route.drafter);
    let started = Instant::now();
    once(args, &drafting, &routed.engine, (sampling, speculation), prompt, Some(routed.to_json(&names)))?;
    if args.explain {
        note!("{}: {:.2} s measured", routed.name, started.elapsed().as_secs_f64());
    }
    Ok(Outcome::Fine)
}

/// The device's trace in the form of Chrome and Perfetto. Of a timeline, also prints why threads were idle.
fn traced(loaded: &Loaded) -> Result<String> {
    let timeline = match loaded.device.take_trace()? {
        Trace::Chrome(text) => return Ok(text),
        Trace::Timeline(timeline) => timeline,
    };
    let all: f64 = timeline.steps.iter().map(|s| s.seconds() * timeline.threads.len() as f64).sum();
    let share = |(cause, seconds): &(Cause, f64)| format!("{cause} {:.1} %", 100.0 * seconds / all);
    let idle: Vec<String> = aio::inspect::idle(&timeline).iter().map(share).collect();
    if !timeline.steps.is_empty() {
        note!("trace: {} steps; threads were idle for {}", timeline.steps.len(), idle.join(", "));
    }
    if timeline.dropped > 0 {
        note!("warning: the trace is full; {} steps are missing", timeline.dropped);
    }
    Ok(aio::inspect::chrome(&timeline, loaded.engine.family()))
}

/// Refuses a file for the trace that cannot be written, before the run.
fn check_trace(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.file_name().is_none() || path.exists() && !path.is_file() {
        bail!("cannot write {}: it exists and is not a regular file", path.display());
    }
    if !folder.is_dir() {
        bail!("cannot write {}: there is no folder {}", path.display(), folder.display());
    }
    Ok(())
}

/// The prompt's text, or `None` for a chat on the terminal.
fn read_prompt(args: &RunArgs) -> Result<Option<String>> {
    if let Some(prompt) = &args.prompt {
        return Ok(Some(prompt.clone()));
    }
    let from_stdin = args.file.as_ref().is_some_and(|f| f.as_os_str() == "-");
    match &args.file {
        Some(path) if !from_stdin => {
            let text = input::text(path, input::TEXT);
            Ok(Some(text.with_context(|| format!("cannot read the prompt from {}", path.display()))?))
        }
        None if std::io::stdin().is_terminal() => Ok(None),
        _ => {
            let text = input::stdin(input::TEXT)?;
            if text.is_empty() && !from_stdin {
                bail!("no prompt: give one with -p TEXT or -f FILE, or run on a terminal for a chat");
            }
            Ok(Some(text))
        }
    }
}

/// Converts the flags to sampling parameters.
pub(crate) fn sampling(args: &SamplingArgs) -> Sampling {
    let seed = args.seed.unwrap_or_else(random_seed);
    let params = SampleParams {
        temperature: args.temp,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repeat_penalty: args.repeat_penalty,
        presence_penalty: args.presence_penalty,
        frequency_penalty: args.frequency_penalty,
    };
    Sampling { params, repeat_last_n: args.repeat_last_n, seed, choice: 0 }
}

/// A random seed from the clock, short enough to retype.
fn random_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos() ^ now.as_secs() as u32)
}

fn clock() -> Clock {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Clock { unix_s: now.as_secs() }
}

/// The chat template: the one given by --chat-template, otherwise the model's.
fn template(args: &RunArgs, engine: &Engine) -> Result<ChatTemplate> {
    let Some(given) = &args.chat_template else {
        let own = engine.model().chat_template(clock())?;
        return own.context("the model has no chat template: give one with --chat-template, or -p TEXT without --chat");
    };
    if let Some(text) = given.to_str().and_then(aio::model::chat::format) {
        return Ok(ChatTemplate::new(text, clock())?);
    }
    let text = input::text(given, input::TEMPLATE).with_context(|| {
        let names: Vec<_> = aio::model::chat::FORMATS.iter().map(|(name, _)| *name).collect();
        format!("--chat-template {}: neither a format ({}) nor a readable file", given.display(), names.join(", "))
    })?;
    ChatTemplate::new(&text, clock()).with_context(|| format!("--chat-template {}", given.display()))
}

fn render(engine: &Engine, template: &ChatTemplate, messages: &[Message]) -> Result<String> {
    let vocab = engine.model().tokenizer.vocab();
    let text = |id: Option<u32>| id.and_then(|id| vocab.text(id)).unwrap_or("").to_owned();
    Ok(template.render(messages, true, &text(vocab.bos()), &text(vocab.eos()))?)
}

/// Tokenizes a text in which special tokens are recognised. Rejects one too long for any context up front.
fn ids(engine: &Engine, text: &str) -> Result<Vec<u32>> {
    let (tokenizer, context) = (&engine.model().tokenizer, engine.context());
    let least = tokenizer.least_tokens(text);
    let ids = if least > context { Vec::new() } else { tokenizer.encode_up_to(text, true, context)? };
    let least = least.max(ids.len());
    if least > context {
        bail!("the prompt has at least {least} tokens, the context {context}; use a larger --ctx or a shorter prompt");
    }
    Ok(ids)
}

/// Tokenizes a rendered chat. It starts with exactly one BOS token, whether or not the template writes it.
fn chat_ids(engine: &Engine, text: &str) -> Result<Vec<u32>> {
    let tokenizer = &engine.model().tokenizer;
    let mut ids = ids(engine, text)?;
    if let Some(bos) = tokenizer.vocab().bos().filter(|b| tokenizer.add_bos() && ids.first() != Some(b)) {
        ids.insert(0, bos);
    }
    Ok(ids)
}

fn request(args: &RunArgs, sampling: Sampling, prompt: Vec<u32>) -> Request {
    Request {
        max_tokens: args.max_tokens,
        stop: args.stop.clone(),
        ignore_eog: args.ignore_eos,
        speculation: args.speculate.speculation(),
        ..Request::new(prompt, sampling)
    }
}

/// The sink of a run: prints text as it arrives and checks for Ctrl-C. Keeps the first print error.
struct Sink {
    show: bool,
    failure: Option<StdoutError>,
}

impl Sink {
    fn push(&mut self, text: &str) -> Flow {
        if self.show && self.failure.is_none() && !text.is_empty() {
            self.failure = print_as_it_is(text).err();
        }
        if signals::interrupted() || self.failure.is_some() { Flow::Stop } else { Flow::Continue }
    }
}

/// What a run prints.
#[derive(Clone, Copy)]
struct Show {
    /// The text as it is generated.
    text: bool,
    /// How drafts were chosen.
    choices: Choices,
}

/// Where choices go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choices {
    Nowhere,
    /// A line each, after the text, which they would break.
    Lines,
    /// Into the JSON object.
    Json,
}

/// Generates, and returns the output with the cost of the steps after the first token.
fn generate(
    engine: &Engine,
    drafting: &Drafting,
    sequence: &mut Sequence,
    request: &Request,
    show: Show,
) -> Result<(Completion, Spent, Vec<Choice>)> {
    let mut choices = Vec::new();
    let mut sink = Sink { show: show.text, failure: None };
    let drafter = drafting.drafter(engine, &request.sampling)?;
    let mut batch = Batch::new();
    let joined = batch.join(engine, request.clone(), std::mem::take(sequence), drafter);
    let id = joined.map_err(|(error, _)| error)?;
    if show.choices != Choices::Nowhere && request.speculation != Speculation::Auto {
        note!("--explain has nothing to show with --spec {}", speculation_name(request.speculation));
    }
    let mut first = None;
    while batch.running() > 0 {
        batch.step(engine, &mut |_, text| sink.push(text))?;
        if batch.generated(id).is_some_and(|ids| !ids.is_empty()) {
            first.get_or_insert_with(|| Spent::now(engine, Some(drafting)));
        }
        choices.extend(batch.choice().filter(|_| show.choices != Choices::Nowhere).cloned());
    }
    let (done, kept) = batch.leave(engine, id).context("the member has not left")?;
    *sequence = kept;
    let done = done?;
    if let Some(reason) = &done.speculation.failure {
        note!("no more drafts: {reason}");
    }
    let now = Spent::now(engine, Some(drafting));
    match sink.failure {
        Some(e) => Err(e.into()),
        None => Ok((done, now.since(first.unwrap_or(now)), choices)),
    }
}

fn once(
    args: &RunArgs,
    drafting: &Drafting,
    engine: &Engine,
    (sampling, speculation): (Sampling, Speculation),
    prompt: &str,
    route: Option<serde_json::Value>,
) -> Result<()> {
    let ids = if args.chat || args.system.is_some() || args.chat_template.is_some() {
        let system = args.system.iter().map(|s| Message::new("system", s));
        let messages: Vec<_> = system.chain([Message::new("user", prompt)]).collect();
        chat_ids(engine, &render(engine, &template(args, engine)?, &messages)?)?
    } else {
        engine.model().tokenizer.framed(ids(engine, prompt)?)
    };
    if args.verbose_prompt {
        print_tokens(engine, &ids);
    }
    let request = Request { speculation, ..request(args, sampling, ids) };
    let before = Spent::now(engine, Some(drafting));
    let choices = match (args.explain, args.output) {
        (false, _) => Choices::Nowhere,
        // The route was explained, and there is no more to explain.
        (true, TextOrJson::Text) if route.is_some() && speculation != Speculation::Auto => Choices::Nowhere,
        (true, TextOrJson::Text) => Choices::Lines,
        (true, TextOrJson::Json) => Choices::Json,
    };
    let show = Show { text: args.output == TextOrJson::Text && !args.ids, choices };
    let (done, decode, choices) = generate(engine, drafting, &mut Sequence::new(), &request, show)?;
    let spent = Spent::now(engine, Some(drafting)).since(before);
    let summary = Summary {
        engine,
        request: &request,
        done: &done,
        dispatch: args.dispatch.name(),
        submissions: spent.submissions(),
        syncs: spent.syncs(),
        spent,
        decode,
        decode_bytes: decode.weight_bytes(engine, Some(drafting), done.timing.decode_steps as u64),
    };
    match (args.output, args.ids) {
        (TextOrJson::Json, _) => {
            let mut json = summary.json();
            if args.explain {
                json["choices"] = serde_json::to_value(&choices)?;
            }
            if let Some(route) = route {
                json["route"] = route;
            }
            print_now(&json_line(json))?;
        }
        (_, true) => {
            let ids: Vec<_> = done.ids.iter().map(ToString::to_string).collect();
            print_now(&format!("{}\n", ids.join(",")))?;
        }
        _ => print_now("\n")?,
    }
    if show.choices == Choices::Lines {
        choices.iter().for_each(|choice| note!("{choice}"));
    }
    note!("{}", summary.line());
    if let Some(errors) = engine.cost_errors().filter(|_| args.explain) {
        note!("{errors}");
    }
    if let (Some(_), Some(reason)) = (args.burst, engine.burst_refusal()) {
        note!("no bursts: {reason}");
    }
    Ok(())
}

fn print_tokens(engine: &Engine, ids: &[u32]) {
    for &id in ids {
        note!("{id:>7} {:?}", engine.model().tokenizer.vocab().text(id).unwrap_or(""));
    }
}

/// A chat on the terminal, ended by Ctrl-D. Ctrl-C ends the current answer, not the chat.
fn chat(args: &RunArgs, drafting: &Drafting, loaded: &mut Loaded, sampling: Sampling) -> Result<()> {
    let template = template(args, &loaded.engine)?;
    let mut messages: Vec<Message> = args.system.iter().map(|s| Message::new("system", s)).collect();
    let mut sequence = Sequence::new();
    let mut held: Vec<u32> = Vec::new();
    let show = Show { text: true, choices: if args.explain { Choices::Lines } else { Choices::Nowhere } };
    note!(
        "{} on {}; end of file (Ctrl-D) ends the chat",
        loaded.engine.model().hyper.name,
        loaded.engine.family().target
    );
    let mut turns = Turns::new()?;
    while let Some(turn) = turns.next()? {
        messages.push(Message::new("user", turn.trim_end()));
        let prompt = match chat_ids(&loaded.engine, &render(&loaded.engine, &template, &messages)?) {
            Ok(prompt) if prompt.len() < loaded.engine.context() => prompt,
            Ok(prompt) => {
                note!("the conversation has {} tokens, the context {}", prompt.len(), loaded.engine.context());
                messages.pop();
                continue;
            }
            Err(e) => {
                note!("{}", describe(&e));
                messages.pop();
                continue;
            }
        };
        // The prefix already in the KV cache does not run again.
        let common = held.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
        sequence.rewind(common.min(sequence.len()));
        let request = request(args, sampling.clone(), prompt);
        let (done, _, choices) = generate(&loaded.engine, drafting, &mut sequence, &request, show)?;
        if signals::ended_by().is_some() {
            return Ok(());
        }
        // Ctrl-C ended this answer; the next one must end the next.
        signals::reset();
        print_now("\n")?;
        choices.iter().for_each(|choice| note!("{choice}"));
        // Done while the user reads the answer.
        loaded.keep();
        held = request.prompt;
        held.extend(&done.ids);
        if done.ids.is_empty() {
            messages.pop();
        } else {
            messages.push(Message::new("assistant", &done.text));
        }
    }
    Ok(())
}
