//! `aio perplexity`: how well a model predicts a text. Follows llama.cpp's definition, so figures are comparable.
//!
//! The text is split into chunks of `ctx` tokens, each evaluated from position 0 with its first token replaced by BOS
//! if the model adds one. The tokens at positions `ctx / 2` to `ctx - 2` predict the next token.

use crate::args::{PerplexityArgs, TextOrJson};
use crate::outcome::Outcome;
use crate::output::{json_line, print_now};
use crate::{input, models, signals};
use aio::engine::{Engine, EngineOptions, OutputBuffer, Sequence, Step, StepRow, StepWants};
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Instant;

/// Rows per step: enough to be fast, few enough that their logits need little memory.
const STEP_ROWS: u32 = 128;

pub(crate) fn main(args: PerplexityArgs) -> Result<Outcome> {
    let text = input::text(&args.file, input::TEXT)?;
    let options = EngineOptions { context: Some(args.ctx), prefill_rows: STEP_ROWS, ..EngineOptions::default() };
    let mut loaded = models::load(&args.model, &args.load, &options)?;
    let engine = &loaded.engine;
    let tokens = tokenise(engine, &text)?;
    let ctx = args.ctx as usize;
    let count = tokens.len() / ctx;
    if count == 0 {
        bail!("{} has {} tokens, fewer than one chunk of --ctx {ctx}", args.file.display(), tokens.len());
    }
    let bar = bar(count as u64);
    let started = Instant::now();
    let mut score = Score::default();
    let mut running = Vec::new();
    for (i, chunk) in tokens.chunks_exact(ctx).enumerate() {
        evaluate(engine, chunk, &mut score)?;
        bar.inc(1);
        running.push(score.perplexity());
        if args.output == TextOrJson::Text {
            bar.suspend(|| print_now(&format!("[{}/{count}] {:.4}\n", i + 1, score.perplexity())))?;
        }
    }
    bar.finish_and_clear();
    let (seconds, clock) = match engine.counters().modelled_ns {
        0 => (started.elapsed().as_secs_f64(), ""),
        ns => (ns as f64 * 1e-9, " modelled"),
    };
    let rate = (count * ctx) as f64 / seconds;
    print_now(&match args.output {
        TextOrJson::Text => summary(&score, count, ctx),
        TextOrJson::Json => json_line(json(engine, &score, &running, tokens.len(), ctx, rate)),
    })?;
    note!("{} tokens, {rate:.1} tok/s{clock} on {}", count * ctx, engine.family().target);
    loaded.keep();
    Ok(Outcome::Fine)
}

fn bar(chunks: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    let style = style.expect("the template is well formed");
    ProgressBar::new(chunks).with_style(style).with_message("chunks")
}

/// Tokenizes plain text, prepending BOS if the model adds one.
fn tokenise(engine: &Engine, text: &str) -> Result<Vec<u32>> {
    let tokens = engine.model().tokenizer.encode(text, false)?;
    Ok(begin(engine).into_iter().chain(tokens).collect())
}

fn begin(engine: &Engine) -> Option<u32> {
    let tokenizer = &engine.model().tokenizer;
    tokenizer.vocab().bos().filter(|_| tokenizer.add_bos())
}

/// Runs a chunk from scratch and scores its second half.
fn evaluate(engine: &Engine, chunk: &[u32], score: &mut Score) -> Result<()> {
    let mut inputs = chunk.to_vec();
    if let Some(bos) = begin(engine) {
        inputs[0] = bos;
    }
    let vocabulary = engine.model().hyper.vocab_size as usize;
    let scored = chunk.len() / 2..chunk.len() - 1;
    let mut sequence = Sequence::new();
    engine.reserve(&mut sequence, chunk.len())?;
    let (mut at, mut out) = (0, OutputBuffer::new());
    while at < chunk.len() {
        if signals::interrupted() {
            bail!("interrupted");
        }
        let end = (at + engine.prefill_rows()).min(chunk.len());
        let wants = |p| if scored.contains(&p) { StepWants::Logits } else { StepWants::Nothing };
        let row = |p: usize| StepRow { token: inputs[p], sequence: 0, position: p, wants: wants(p) };
        let rows: Vec<_> = (at..end).map(row).collect();
        let step = Step { sequences: &mut [&mut sequence], rows: &rows, drafts: &[] };
        let logits = engine.step(step, &mut out)?.logits().unwrap_or_default();
        let targets = (at..end).filter(|p| scored.contains(p)).map(|p| chunk[p + 1]);
        for (logits, target) in logits.chunks_exact(vocabulary).zip(targets) {
            score.add(logits, target)?;
        }
        sequence.commit(end)?;
        at = end;
    }
    Ok(())
}

/// Sums over the scored tokens.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    count: u64,
    /// Sums of the negative log-likelihoods and of their squares.
    sum: f64,
    squares: f64,
}

impl Score {
    /// Scores a token by the logits of the position before it.
    fn add(&mut self, logits: &[f32], target: u32) -> Result<()> {
        let nll = negative_log_likelihood(logits, target).context("a token of the text is not in the vocabulary")?;
        if !nll.is_finite() {
            bail!("the model's logits are not finite");
        }
        self.count += 1;
        self.sum += nll;
        self.squares += nll * nll;
        Ok(())
    }

    fn perplexity(&self) -> f64 {
        (self.sum / self.count as f64).exp()
    }

    /// Standard error of the perplexity.
    fn error(&self) -> f64 {
        let (n, mean) = (self.count as f64, self.sum / self.count as f64);
        let variance = (self.squares / n - mean * mean).max(0.0);
        if self.count < 2 { 0.0 } else { (variance / (n - 1.0)).sqrt() * self.perplexity() }
    }
}

/// Of a token under the softmax of the logits; `None` if the token is out of range.
fn negative_log_likelihood(logits: &[f32], target: u32) -> Option<f64> {
    let chosen = f64::from(*logits.get(target as usize)?);
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|&x| (f64::from(x) - f64::from(most)).exp()).sum();
    Some(total.ln() + f64::from(most) - chosen)
}

fn summary(score: &Score, chunks: usize, ctx: usize) -> String {
    let (ppl, error, count) = (score.perplexity(), score.error(), score.count);
    format!("perplexity {ppl:.4} +/- {error:.4} ({chunks} chunks of {ctx} tokens, {count} scored)\n")
}

fn json(engine: &Engine, score: &Score, running: &[f64], tokens: usize, ctx: usize, rate: f64) -> serde_json::Value {
    serde_json::json!({
        "perplexity": score.perplexity(),
        "error": score.error(),
        "running": running,
        "ctx": ctx,
        "tokens": tokens,
        "scored": score.count,
        "tok_s": rate,
        "device": engine.family().target,
        "commit": aio::COMMIT,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn even_logits_have_the_vocabulary_as_perplexity() {
        let logits = [1.5; 8];
        let mut score = Score::default();
        (0..5).for_each(|t| score.add(&logits, t).unwrap());
        assert!((score.perplexity() - 8.0).abs() < 1e-9 && score.error() < 1e-6);
        assert!(score.add(&logits, 8).is_err());
        assert!(score.add(&[f32::NAN; 2], 0).is_err());
    }
}
