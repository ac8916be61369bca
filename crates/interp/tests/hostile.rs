//! User input gives an error or a result, never a panic: indices, sizes, empty dimensions, random graphs.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bound;
#[path = "../../ir/tests/generate/mod.rs"]
mod generate;

use aio_interp::{EvalError, evaluate};
use aio_ir::text::parse;
use aio_ir::{Dims, Op, verify};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const DIMS: Dims = Dims { rows: 2, seqs: 1, pages: 2, stride: 2, outs: 2, recent: 0, slots: 0 };

fn eval(body: &str, dims: &Dims, inputs: &[(&str, &[f64])]) -> Result<usize, EvalError> {
    let graph = parse(&format!("aio 1\ngraph \"t\"\n{body}")).unwrap_or_else(|e| panic!("{e}")).graph;
    Ok(bound::run(&graph, dims, inputs)?.iter().map(|t| t.elems()).sum())
}

#[test]
fn indices_out_of_range_are_errors() {
    let embed = "%x = weight \"x\" : f32[3, 2]\n%i = input \"i\" : i32[1]\n%y = embed %x, %i\noutput \"y\" = %y";
    for index in [3.0, -1.0, 2e9] {
        let got = eval(embed, &DIMS, &[("x", &[]), ("i", &[index])]);
        let message = format!("%2 = embed: token {index} is not below 3");
        assert_eq!(got.map_err(|e| e.to_string()), Err(message));
    }
    let kv = "%kv = input \"kv\" : f16[pages, 2, 1, 64, 2]\n%q = input \"q\" : f32[rows, 1, 2]\n%t = input \"t\" : u32[seqs, stride]\n%s = input \"s\" : u32[rows]\n%p = input \"p\" : u32[rows]\n%y = attend %q, %kv, %t, %s, %p {scale = 1.0}\noutput \"y\" = %y";
    let places: [(&[f64], &[f64], &[f64]); 3] =
        [(&[0.0, 5.0], &[], &[0.0, 64.0]), (&[], &[0.0, 1.0], &[]), (&[], &[], &[0.0, 4e9])];
    for (table, seqs, positions) in places {
        let got = eval(kv, &DIMS, &[("kv", &[]), ("q", &[]), ("t", table), ("s", seqs), ("p", positions)]);
        assert!(
            matches!(&got, Err(e @ EvalError::Index { .. }) if e.to_string().starts_with("%5 = attend: ")),
            "{got:?}"
        );
    }
}

#[test]
fn a_node_that_nothing_reads_is_not_evaluated() {
    let body = "%x = weight \"x\" : f32[3, 2]\n%i = input \"i\" : i32[1]\n%dead = embed %x, %i\n%deader = neg %dead\n\
                %y = neg %x\noutput \"y\" = %y";
    assert_eq!(eval(body, &DIMS, &[("x", &[]), ("i", &[99.0])]), Ok(6));
    let read = body.replace("= %y", "= %y\noutput \"z\" = %deader");
    assert!(matches!(eval(&read, &DIMS, &[("x", &[]), ("i", &[99.0])]), Err(EvalError::Index { .. })));
}

#[test]
fn huge_results_are_refused() {
    for body in [
        "%y = iota {shape = [1099511627776], dtype = u32}\noutput \"y\" = %y",
        "%y = fill {shape = [1048576, 1048576], value = 1.0, dtype = i8}\noutput \"y\" = %y",
        "%x = input \"x\" : f32[1]\n%y = broadcast %x {shape = [4294967296]}\noutput \"y\" = %y",
        "%x = input \"x\" : f32[65536, 1]\n%z = input \"z\" : f32[65536]\n%y = add %x, %z\noutput \"y\" = %y",
    ] {
        let inputs: &[(&str, &[f64])] = &[("x", &[]), ("z", &[])];
        let got = eval(body, &DIMS, inputs);
        let Err(mut error @ EvalError::TooLarge { .. }) = got else { panic!("{got:?}") };
        error.at().unwrap().name = "%y".to_owned();
        assert!(error.to_string().starts_with("%y = ") && error.to_string().contains(" has more than "), "{error}");
    }
}

#[test]
fn what_is_not_bound_is_an_error() {
    let body = "%x = input \"x\" : f32[2]\n%w = input \"w\" : f32[2] optional\n%y = rms_norm %x, %w {eps = 0.1}\noutput \"y\" = %y";
    assert!(matches!(eval(body, &DIMS, &[]), Err(EvalError::Unbound { .. })));
    assert_eq!(eval(body, &DIMS, &[("x", &[])]), Ok(2));
}

/// Evaluates a graph with small whole numbers, so that many indices are in range.
fn evaluate_random(graph: &aio_ir::Graph, dims: &Dims, words: &[u32]) {
    let mut at = 0;
    let mut next = || {
        at += 1;
        f64::from(words.get(at % words.len().max(1)).copied().unwrap_or(0) % 4)
    };
    let result = evaluate(verify(graph).unwrap(), dims, |_, v| {
        let elems = v.ty.shape.elems(dims).unwrap() as usize;
        let values: Vec<f64> = (0..elems).map(|_| next()).collect();
        Some(bound::tensor(&v.ty, dims, &values))
    });
    let Ok(results) = result else { return };
    for (tensor, value) in results.iter().zip(graph.roots()) {
        let ty = graph.ty(value);
        assert_eq!(tensor.dtype, ty.dtype, "{}", aio_ir::text::print(graph));
        assert!(tensor.shape.iter().map(|&d| d as u64).eq(ty.shape.resolve(dims).iter().copied()));
        assert_eq!(tensor.to_bytes().len() as u64, ty.bytes(dims).unwrap(), "{}", aio_ir::text::print(graph));
    }
}

#[test]
fn random_graphs_and_empty_dimensions_never_panic() {
    println!("seed 7");
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let dims = (0u32..3, 0u32..3, 0u32..3, 0u32..3, 0u32..3, 0u32..4);
    let words = prop::collection::vec(any::<u32>(), 0..60);
    let done = runner.run(&(words, dims), |(words, (rows, seqs, pages, outs, recent, slots))| {
        let dims = Dims { rows, seqs, pages, stride: pages, outs, recent, slots };
        evaluate_random(&generate::graph(&words), &dims, &words);
        for &op in Op::ALL {
            evaluate_random(&generate::graph_with(op, &words), &dims, &words);
        }
        Ok(())
    });
    done.unwrap();
}
