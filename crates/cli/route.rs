//! `aio route`: trains heads on labelled prompts, and measures how often probes are right.

use crate::args::{LoadArgs, ModelArgs, RouteCommand, RouteTestArgs, RouteTrainArgs, TextOrJson};
use crate::outcome::Outcome;
use crate::section::cells;
use crate::table::Table;
use crate::{fleet, input, models, output, signals};
use aio::engine::{Engine, EngineOptions, Flow};
use aio::fleet::{Confusion, LinearHead, Probe, Sample, ZeroShot, parse_samples};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(crate) fn main(command: &RouteCommand) -> Result<Outcome> {
    match command {
        RouteCommand::Train(args) => train(args)?,
        RouteCommand::Test(args) => test(args)?,
    }
    Ok(Outcome::Fine)
}

/// Reads labelled prompts.
pub(crate) fn samples(path: &Path) -> Result<Vec<Sample>> {
    parse_samples(&input::text(path, input::TEXT)?).with_context(|| path.display().to_string())
}

/// The model with plans for hidden states, which the cache's artefacts lack.
fn engine(args: &ModelArgs) -> Result<Engine> {
    let options = EngineOptions { context: Some(1024), sequences: 3, hidden: true, ..EngineOptions::default() };
    Ok(models::load(args, &LoadArgs { mmap: false, no_cache: true }, &options)?.split().0)
}

fn train(args: &RouteTrainArgs) -> Result<()> {
    output::check_other([&args.samples].into_iter().chain(&args.model.model).map(PathBuf::as_path), &args.out)?;
    let samples = samples(&args.samples)?;
    let engine = engine(&args.model)?;
    let labelled: Vec<(String, String)> = samples.into_iter().map(|s| (s.text, s.category)).collect();
    let bar = output::bar(labelled.len() as u64, "reading prompts");
    let mut each = || {
        bar.inc(1);
        if signals::interrupted() { Flow::Stop } else { Flow::Continue }
    };
    let head = LinearHead::train(&engine, &labelled, args.penalty, &mut each)?;
    bar.finish_and_clear();
    let text = head.to_json();
    aio::mapped::write_whole(&args.out, text.as_bytes())
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    output::print_now(&format!(
        "{}: {} prompts, {}\n",
        args.out.display(),
        labelled.len(),
        head.categories().join(", ")
    ))?;
    Ok(())
}

/// How a probe did.
struct Score {
    probe: &'static str,
    confusion: Confusion,
    /// Milliseconds of a probe, the median.
    ms: f64,
}

fn score(probe: &mut dyn Probe, engine: &Engine, samples: &[Sample], categories: &[String]) -> Result<Score> {
    let place = |name: &str| categories.iter().position(|c| c == name);
    let (mut confusion, mut times) = (Confusion::new(categories.len() + 1), Vec::new());
    for sample in samples {
        let started = Instant::now();
        let answer = probe.probe(engine, &sample.text)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        // The last column is of answers that no sample has.
        let given = place(answer.best().0).unwrap_or(categories.len());
        confusion.add(place(&sample.category).unwrap_or(categories.len()), given);
        if signals::interrupted() {
            bail!("interrupted");
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(Score { probe: probe.name(), confusion, ms: times[times.len() / 2] })
}

fn test(args: &RouteTestArgs) -> Result<()> {
    let samples = samples(&args.samples)?;
    let mut categories: Vec<String> = samples.iter().map(|s| s.category.clone()).collect();
    categories.sort_unstable();
    categories.dedup();
    let engine = engine(&args.model)?;
    let mut scores = vec![score(&mut ZeroShot::new(&engine, &categories)?, &engine, &samples, &categories)?];
    if let Some(path) = &args.head {
        let mut head = fleet::head(path)?;
        if let Some(missing) = categories.iter().find(|c| !head.categories().contains(c)) {
            bail!("{}: the head knows no category `{missing}`", path.display());
        }
        scores.push(score(&mut head, &engine, &samples, &categories)?);
    }
    output::print_now(&match args.output {
        TextOrJson::Text => scores.iter().map(|s| text(s, &categories)).collect::<Vec<_>>().join("\n"),
        TextOrJson::Json => output::json_line(scores.iter().map(|s| as_json(s, &categories)).collect::<Value>()),
    })?;
    Ok(())
}

fn text(score: &Score, categories: &[String]) -> String {
    let row = |(at, (category, counts)): (usize, (&String, &Vec<u32>))| {
        let all: u32 = counts.iter().sum();
        let wrong = (0..counts.len()).filter(|&i| i != at && counts[i] > 0).max_by_key(|&i| counts[i]);
        let name = |i: usize| categories.get(i).map_or("another", String::as_str);
        let taken = wrong.map_or("-".to_owned(), |i| format!("{} ({})", name(i), counts[i]));
        cells![category, all, counts[at], taken]
    };
    let rows = categories.iter().zip(&score.confusion.counts).enumerate().map(row).collect();
    let table = Table { title: score.probe, heads: vec!["category", ">prompts", ">right", "else mostly"], rows };
    let accuracy = score.confusion.balanced_accuracy() * 100.0;
    format!("{}  balanced accuracy {accuracy:.1} %, {:.1} ms a probe (median)\n", table.text(), score.ms)
}

fn as_json(score: &Score, categories: &[String]) -> Value {
    json!({
        "probe": score.probe,
        "categories": categories,
        "counts": score.confusion.counts,
        "balanced_accuracy": score.confusion.balanced_accuracy(),
        "ms_median": score.ms,
    })
}
