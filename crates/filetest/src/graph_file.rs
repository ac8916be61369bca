//! File tests: a graph with a command in the first line, and the expected result as comments below the graph. Commands:
//!
//! - `; test verify`: `ok`, or a line for each broken rule (code and line), or a parse error code with its position
//! - `; test fuse [argmax|sample|logits]`: the fusion report for a target that supports every kind
//! - `; test plan [argmax|sample|logits]`: the plan for that target
//! - `; test plan_verify [argmax|sample]`: the plan that verifies drafts
//! - `; test batch_verify`: the graph made by that pass
//! - `; test print`: the canonical text

use crate::bless;
use aio_backend::null::permissive_target;
use aio_compiler::{Compilation, Options, compile};
use aio_ir::text::{parse, print};
use aio_ir::verify;
use aio_plan::{Bucket, Tail};
use std::path::{Path, PathBuf};

/// All file tests below a folder, sorted by path.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for path in entries.map(|e| e.unwrap_or_else(|e| panic!("{}: {e}", folder.display())).path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "graph") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Runs one file and returns a description of the failure, or `None`. With `AIO_BLESS=1`, rewrites the file instead.
pub fn check(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (source, expected) = split(&text);
    let got = match run(source) {
        Ok(got) => got,
        Err(e) => return Some(format!("{}: {e}", path.display())),
    };
    if got == expected {
        return None;
    }
    if bless() {
        let comments: String = got.iter().map(|l| format!("; {l}\n").replace("; \n", ";\n")).collect();
        std::fs::write(path, format!("{source}\n{comments}")).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        return None;
    }
    let (got, expected) = (got.join("\n  "), expected.join("\n  "));
    Some(format!("{} (AIO_BLESS=1 rewrites it)\n expected\n  {expected}\n got\n  {got}", path.display()))
}

/// The graph with its first line, and the expected lines without comment signs.
fn split(text: &str) -> (&str, Vec<String>) {
    let mut end = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        at += line.len();
        if !line.trim().is_empty() && !line.starts_with(';') {
            end = at;
        }
    }
    let comments = text[end..].lines().filter_map(|l| l.strip_prefix(';'));
    (&text[..end], comments.map(|l| l.strip_prefix(' ').unwrap_or(l).to_owned()).collect())
}

fn run(source: &str) -> Result<Vec<String>, String> {
    let command: Vec<_> = source.lines().next().unwrap_or("").split_whitespace().collect();
    match command.as_slice() {
        [";", "test", "verify"] => Ok(verify_lines(source)),
        [";", "test", "print"] => {
            Ok(print(&parse(source).map_err(|e| e.to_string())?.graph).lines().map(str::to_owned).collect())
        }
        [";", "test", "batch_verify"] => batch_verify_lines(source),
        [";", "test", "plan", tail] => plan_lines(source, bucket(tail_of(tail)?)),
        [";", "test", "plan_verify", tail] => plan_lines(source, bucket(tail_of(tail)?).verifying()),
        [";", "test", "fuse"] => fuse_lines(source, Tail::Logits),
        [";", "test", "fuse", tail] => fuse_lines(source, tail_of(tail)?),
        _ => Err("the first line names no command".to_owned()),
    }
}

fn verify_lines(source: &str) -> Vec<String> {
    let parsed = match parse(source) {
        Ok(parsed) => parsed,
        Err(e) => return vec![format!("{} at {}:{}", e.kind.code(), e.line, e.column)],
    };
    match verify(&parsed.graph) {
        Ok(_) => vec!["ok".to_owned()],
        Err(errors) => errors.0.iter().map(|e| format!("{} at line {}", e.code, parsed.line_of(e.entity))).collect(),
    }
}

fn tail_of(name: &str) -> Result<Tail, String> {
    Tail::ALL.into_iter().find(|t| t.name() == name).ok_or_else(|| format!("there is no tail `{name}`"))
}

fn bucket(tail: Tail) -> Bucket {
    Bucket { rows: 4, seqs: 2, outs: 2, tail, verify: false }
}

fn batch_verify_lines(source: &str) -> Result<Vec<String>, String> {
    let graph = parse(source).map_err(|e| e.to_string())?.graph;
    verify(&graph).map_err(|e| e.to_string())?;
    let verifying = aio_compiler::batch_verify(&graph).map_err(|e| e.to_string())?;
    verify(&verifying).map_err(|e| e.to_string())?;
    Ok(print(&verifying).lines().map(str::to_owned).collect())
}

fn plan_lines(source: &str, bucket: Bucket) -> Result<Vec<String>, String> {
    let family = compiled(source, bucket)?.family;
    Ok(aio_plan::text::print(&family, &family.plans[0]).lines().map(str::to_owned).collect())
}

fn fuse_lines(source: &str, tail: Tail) -> Result<Vec<String>, String> {
    Ok(compiled(source, bucket(tail))?.reports[0].to_string().lines().map(str::to_owned).collect())
}

fn compiled(source: &str, bucket: Bucket) -> Result<Compilation, String> {
    let graph = parse(source).map_err(|e| e.to_string())?.graph;
    let verified = verify(&graph).map_err(|e| e.to_string())?;
    let options = Options { buckets: vec![bucket], fuse: true };
    compile(verified, &permissive_target("any"), &options).map_err(|e| e.to_string())
}
