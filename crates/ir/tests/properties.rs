//! Properties of the text form and the verifier over random graphs and random texts.
//!
//! Seeds are fixed: a failure prints the words that make its graph.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod generate;

use aio_ir::text::{parse, print};
use aio_ir::{Dims, Graph, Load, Op, verify};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::HashSet;

/// A runner whose cases are the same in every run.
fn runner(cases: u32, seed: u8) -> TestRunner {
    println!("seed {seed}, {cases} cases");
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]))
}

fn words() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), 0..200)
}

fn round_trip(graph: &Graph) -> Result<(), TestCaseError> {
    let text = print(graph);
    let parsed = parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
    prop_assert_eq!(&parsed.graph, graph, "{}", text);
    prop_assert_eq!(print(&parsed.graph), text);
    Ok(())
}

#[test]
fn what_is_printed_parses_to_the_same_graph_and_verifies() {
    let seen = std::cell::RefCell::new(HashSet::new());
    let done = runner(400, 1).run(&words(), |words| {
        let graph = generate::graph(&words);
        prop_assert!(verify(&graph).is_ok(), "{}\n{}", verify(&graph).unwrap_err(), print(&graph));
        seen.borrow_mut().extend(graph.nodes().map(|(_, n)| n.op));
        round_trip(&graph)
    });
    done.unwrap();
    let missing: Vec<_> = Op::ALL.iter().filter(|op| !seen.borrow().contains(op)).collect();
    assert!(missing.is_empty(), "the generator never makes {missing:?}");
}

#[test]
fn every_op_round_trips_alone() {
    let done = runner(40, 2).run(&words(), |words| {
        for &op in Op::ALL {
            let graph = generate::graph_with(op, &words);
            prop_assert!(verify(&graph).is_ok(), "{}\n{}", verify(&graph).unwrap_err(), print(&graph));
            round_trip(&graph)?;
        }
        Ok(())
    });
    done.unwrap();
}

#[test]
fn costs_never_overflow() {
    let dims = Dims {
        rows: u32::MAX,
        seqs: u32::MAX,
        pages: u32::MAX,
        stride: u32::MAX,
        outs: u32::MAX,
        recent: u32::MAX,
        slots: u32::MAX,
    };
    let done = runner(100, 3).run(&words(), |words| {
        let graph = generate::graph(&words);
        for (_, node) in graph.nodes() {
            graph.cost(node, Load { dims, context: u32::MAX });
        }
        Ok(())
    });
    done.unwrap();
}

#[test]
fn random_texts_never_panic() {
    let texts =
        prop_oneof![".*", "aio 1\ngraph \"\"\n.*", "(%[a-z0-9]|[a-z_]{1,6}|[0-9]{1,3}|[=:,\\[\\]{}\"\n ;]){0,60}"];
    runner(600, 4)
        .run(&texts, |text| {
            let _ = parse(&text).map_err(|e| e.to_string());
            Ok(())
        })
        .unwrap();
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    runner(300, 5)
        .run(&bytes, |bytes| {
            let _ = parse(&String::from_utf8_lossy(&bytes)).map_err(|e| e.to_string());
            Ok(())
        })
        .unwrap();
}

/// Replaces, removes or repeats pieces of a text at character boundaries.
fn mutate(text: &str, edits: &[(u32, u32, u8)]) -> String {
    const PIECES: [&str; 12] =
        ["%0", "-1", "[", "]", ",", "{", "1e40", "18446744073709551616", "\"", "rows", "_", "\n"];
    let mut chars: Vec<char> = text.chars().collect();
    for &(at, len, kind) in edits {
        let start = at as usize % (chars.len() + 1);
        let end = (start + len as usize % 8).min(chars.len());
        let piece: Vec<char> = match kind % 3 {
            0 => Vec::new(),
            1 => PIECES[len as usize % PIECES.len()].chars().collect(),
            _ => chars[start..end].repeat(2),
        };
        chars.splice(start..end, piece);
    }
    chars.into_iter().collect()
}

#[test]
fn mutated_texts_never_panic_and_what_parses_and_verifies_round_trips() {
    let edits = prop::collection::vec(any::<(u32, u32, u8)>(), 1..4);
    let done = runner(1000, 6).run(&(words(), edits), |(words, edits)| {
        let text = mutate(&print(&generate::graph(&words)), &edits);
        match parse(&text) {
            Err(e) => prop_assert!(e.to_string().contains('^')),
            Ok(parsed) => match verify(&parsed.graph) {
                Ok(_) => round_trip(&parsed.graph)?,
                Err(errors) => {
                    for e in &errors.0 {
                        prop_assert!(parsed.line_of(e.entity) >= 1);
                    }
                }
            },
        }
        Ok(())
    });
    done.unwrap();
}
