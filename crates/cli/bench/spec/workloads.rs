//! Workloads: prompts by kind of text, built in or from files of JSON lines.
//!
//! The built-in ones lie in `benches/workloads`, where `make.py` makes them; they are part of the binary, so that figures of
//! any machine are of the same prompts.

use crate::input;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Name and lines of each built-in workload, in the order of tables: from much to copy to little.
const BUILT_IN: &[(&str, &str)] = &[
    ("copy", include_str!("../../../../benches/workloads/copy.jsonl")),
    ("grounded", include_str!("../../../../benches/workloads/grounded.jsonl")),
    ("code", include_str!("../../../../benches/workloads/code.jsonl")),
    ("lists", include_str!("../../../../benches/workloads/lists.jsonl")),
    ("chat", include_str!("../../../../benches/workloads/chat.jsonl")),
    ("chat-hot", include_str!("../../../../benches/workloads/chat-hot.jsonl")),
    ("prose", include_str!("../../../../benches/workloads/prose.jsonl")),
    ("prose-hot", include_str!("../../../../benches/workloads/prose-hot.jsonl")),
];

/// One line of a workload.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prompt {
    /// The workload that it belongs to.
    pub workload: String,
    /// Its name there.
    pub id: String,
    /// Raw text in which special tokens are recognised.
    pub prompt: String,
    /// Tokens to generate at most.
    pub max_tokens: u32,
    /// Temperature; 0 takes the most likely token.
    #[serde(default)]
    pub temperature: f32,
    /// Texts that end the output.
    #[serde(default)]
    pub stop: Vec<String>,
}

/// Prompts of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Workload {
    /// Its name.
    pub name: String,
    /// At least one.
    pub prompts: Vec<Prompt>,
}

/// The workloads named, all built-in ones if none is, with the first `limit` prompts of each.
///
/// # Errors
/// A name that is neither built in nor a file; a line that is no prompt, with file and line.
pub(super) fn load(named: &[PathBuf], limit: Option<u32>) -> Result<Vec<Workload>> {
    let mut prompts = Vec::new();
    if named.is_empty() {
        for (name, text) in BUILT_IN {
            parse(name, text, &mut prompts)?;
        }
    }
    for name in named {
        match built_in(name) {
            Some((name, text)) => parse(name, text, &mut prompts)?,
            None => parse(&name.display().to_string(), &read(name)?, &mut prompts)?,
        }
    }
    let mut workloads = grouped(prompts);
    let limit = limit.map_or(usize::MAX, |n| n as usize);
    workloads.iter_mut().for_each(|w| w.prompts.truncate(limit));
    Ok(workloads)
}

fn built_in(name: &Path) -> Option<(&'static str, &'static str)> {
    BUILT_IN.iter().copied().find(|(n, _)| name.as_os_str() == *n)
}

fn read(path: &Path) -> Result<String> {
    if path.extension().is_none_or(|e| e != "jsonl") {
        let names: Vec<_> = BUILT_IN.iter().map(|(n, _)| *n).collect();
        bail!("unknown workload {}, expected one of {}, or a file FILE.jsonl", path.display(), names.join(", "));
    }
    input::text(path, input::TEXT)
}

fn parse(name: &str, text: &str, prompts: &mut Vec<Prompt>) -> Result<()> {
    let before = prompts.len();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let prompt: Prompt = serde_json::from_str(line).with_context(|| format!("{name}:{}", i + 1))?;
        if prompt.max_tokens < 2 {
            bail!("{name}:{}: max_tokens is {}, expected 2 or more", i + 1, prompt.max_tokens);
        }
        prompts.push(prompt);
    }
    if prompts.len() == before {
        bail!("{name} has no prompts");
    }
    Ok(())
}

/// Prompts by the workloads that they name, each where it is first named.
fn grouped(prompts: Vec<Prompt>) -> Vec<Workload> {
    let mut workloads: Vec<Workload> = Vec::new();
    for prompt in prompts {
        match workloads.iter_mut().find(|w| w.name == prompt.workload) {
            Some(workload) => workload.prompts.push(prompt),
            None => workloads.push(Workload { name: prompt.workload.clone(), prompts: vec![prompt] }),
        }
    }
    workloads
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn built_in_workloads_are_whole() {
        let all = load(&[], None).unwrap();
        let names: Vec<_> = all.iter().map(|w| w.name.as_str()).collect();
        assert_eq!(names, BUILT_IN.iter().map(|(n, _)| *n).collect::<Vec<_>>());
        for workload in &all {
            assert_eq!(workload.prompts.len(), 8, "{}", workload.name);
            let hot = workload.name.ends_with("-hot");
            assert!(workload.prompts.iter().all(|p| (p.temperature > 0.0) == hot), "{}", workload.name);
        }
        let two = load(&["copy".into(), "prose".into()], Some(2)).unwrap();
        assert_eq!(two.iter().map(|w| w.prompts.len()).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn faults_name_file_and_line() {
        let mut prompts = Vec::new();
        let line = r#"{"workload": "w", "id": "1", "prompt": "x", "max_tokens": 4}"#;
        parse("f", &format!("{line}\n\n{line}\n"), &mut prompts).unwrap();
        assert_eq!((prompts.len(), prompts[0].temperature), (2, 0.0));
        let message = |text: &str| format!("{:#}", parse("f", text, &mut Vec::new()).unwrap_err());
        assert!(message(&format!("{line}\n{{\"id\": 3}}")).starts_with("f:2: "));
        assert!(message(&line.replace("id", "name")).contains("unknown field `name`"));
        assert!(message(&line.replace("4", "1")).contains("max_tokens is 1"));
        assert!(message("\n").contains("no prompt"));
        assert!(load(&["nonsense".into()], None).unwrap_err().to_string().contains("prose-hot"));
    }
}
