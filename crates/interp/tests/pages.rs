//! The size of KV pages comes from the state's type and does not show in results.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bound;

use aio_ir::{Dims, text::parse};

const ROWS: u32 = 40;
const PAGES: u32 = 4;

/// Attention of each row over pages of this many positions, and where the last row's key lies in the pool.
fn attention(positions: usize) -> (Vec<f32>, usize) {
    let graph = format!(
        "aio 1\ngraph \"pages\"\n%kv = state \"kv\" : f16[pages, 2, 1, {positions}, 2]\n%q = input \"q\" : f32[rows, 1, 2]\n\
         %k = input \"k\" : f32[rows, 1, 2]\n%t = input \"t\" : u32[seqs, stride]\n%s = input \"s\" : u32[rows]\n\
         %p = input \"p\" : u32[rows]\n%n = page_write %kv, %k, %q, %t, %s, %p\n\
         %y = attend %q, %n, %t, %s, %p {{scale = 1.0, window = 30}}\noutput \"y\" = %y\nfinal %kv = %n\n"
    );
    let graph = parse(&graph).unwrap().graph;
    let numbers = |step: f64| (0..2 * ROWS).map(|i| (f64::from(i) * step).sin()).collect::<Vec<_>>();
    let (mut q, mut k) = (numbers(0.7), numbers(0.3));
    // Any value and key that no other row has.
    (q[79], k[79]) = (2.0, 3.0);
    let counted: Vec<f64> = (0..ROWS).map(f64::from).collect();
    let dims = Dims { rows: ROWS, seqs: 1, pages: PAGES, stride: PAGES, ..Dims::default() };
    let bound = [("kv", &[][..]), ("q", &q), ("k", &k), ("t", &[2.0, 0.0, 3.0, 1.0]), ("s", &[]), ("p", &counted)];
    let results = bound::run(&graph, &dims, &bound).unwrap();
    let pool = results[1].floats();
    (results[0].floats().to_vec(), pool.iter().position(|&v| v == 3.0).unwrap())
}

#[test]
fn pages_of_any_size_give_the_same_attention() {
    let (want, _) = attention(64);
    for (positions, page, offset) in [(16, 3, 7), (64, 2, 39), (128, 2, 39)] {
        let (got, at) = attention(positions);
        assert_eq!(got, want, "pages of {positions}");
        assert_eq!(at, (page * 2 * positions + offset) * 2 + 1, "pages of {positions}");
    }
}
