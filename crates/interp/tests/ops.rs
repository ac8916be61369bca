//! Checks each op against results computed by hand.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bound;
#[path = "ops/slots.rs"]
mod slots;

use aio_interp::{Data, Tensor};
use aio_ir::text::parse;
use aio_ir::{Dims, Op};
use std::collections::HashSet;

const DIMS: Dims = Dims { rows: 2, seqs: 1, pages: 2, stride: 2, outs: 2, recent: 2, slots: 3 };

/// The body of a graph, numbers by name, and the expected numbers of each output and final.
type Case<'a> = (&'a str, &'a [(&'a str, &'a [f64])], &'a [&'a [f64]]);

fn numbers(t: &Tensor<'_>) -> Vec<f64> {
    match &t.data {
        Data::Int(v) => v.iter().map(|&n| n as f64).collect(),
        _ => t.floats().iter().map(|&v| f64::from(v)).collect(),
    }
}

/// Checks cases and returns the ops they contain.
fn check(cases: &[Case<'_>]) -> HashSet<Op> {
    let mut seen = HashSet::new();
    for (body, inputs, want) in cases {
        let parsed = parse(&format!("aio 1\ngraph \"t\"\n{body}")).unwrap_or_else(|e| panic!("{e}"));
        let graph = parsed.graph;
        seen.extend(graph.nodes().map(|(_, n)| n.op));
        let got = bound::run(&graph, &DIMS, inputs).unwrap_or_else(|e| panic!("{e}\n{body}"));
        assert_eq!(got.len(), want.len(), "{body}");
        for ((tensor, value), want) in got.iter().zip(graph.roots()).zip(*want) {
            let ty = graph.ty(value);
            assert_eq!(tensor.dtype, ty.dtype, "{body}");
            let shape: Vec<_> = ty.shape.resolve(&DIMS).iter().map(|&d| d as usize).collect();
            assert_eq!(tensor.shape, shape, "{body}");
            let got = numbers(tensor);
            let close =
                |(g, w): (&f64, &f64)| (g - w).abs() <= 2e-6 * w.abs().max(1.0) || (g.is_nan() && w.is_nan()) || g == w;
            assert!(got.len() == want.len() && got.iter().zip(*want).all(close), "{body}: {got:?} is not {want:?}");
        }
    }
    seen
}

fn sources_and_layouts() -> HashSet<Op> {
    let x23: (&str, &[f64]) = ("x", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    check(&[
        ("%y = fill {shape = [2], value = 1.5, dtype = f16}\noutput \"y\" = %y", &[], &[&[1.5, 1.5]]),
        ("%y = fill {shape = [1], value = 255, dtype = u8}\noutput \"y\" = %y", &[], &[&[255.0]]),
        ("%y = fill {shape = [1], value = 1, dtype = u32}\noutput \"y\" = %y", &[], &[&[1.0]]),
        ("%y = fill {shape = [], value = 1, dtype = bool}\noutput \"y\" = %y", &[], &[&[1.0]]),
        ("%y = iota {shape = [2, 3], dtype = i32}\noutput \"y\" = %y", &[], &[&[0.0, 1.0, 2.0, 0.0, 1.0, 2.0]]),
        (
            "%x = input \"x\" : f32[2, 3]\n%y = slice %x {axis = 1, start = 1, len = 2}\noutput \"y\" = %y",
            &[x23],
            &[&[2.0, 3.0, 5.0, 6.0]],
        ),
        (
            "%x = input \"x\" : i8[2, 3]\n%y = slice %x {axis = 0, start = 1, len = 1}\noutput \"y\" = %y",
            &[x23],
            &[&[4.0, 5.0, 6.0]],
        ),
        (
            "%x = input \"x\" : f16[2, 3]\n%y = concat %x, %x {axis = 1}\noutput \"y\" = %y",
            &[x23],
            &[&[1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 4.0, 5.0, 6.0]],
        ),
        (
            "%x = input \"x\" : u32[2, 3]\n%y = concat %x, %x {axis = 0}\noutput \"y\" = %y",
            &[x23],
            &[&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]],
        ),
        (
            "%x = input \"x\" : f32[2, 3]\n%y = reshape %x {shape = [3, 2]}\noutput \"y\" = %y",
            &[x23],
            &[&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]],
        ),
        (
            "%x = input \"x\" : bf16[2, 3]\n%y = transpose %x {perm = [1, 0]}\noutput \"y\" = %y",
            &[x23],
            &[&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]],
        ),
        (
            "%x = input \"x\" : f32[3]\n%y = broadcast %x {shape = [2, 3]}\noutput \"y\" = %y",
            &[("x", &[1.0, 2.0, 3.0])],
            &[&[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]],
        ),
        (
            "%x = input \"x\" : i32[2, 1]\n%y = broadcast %x {shape = [2, 2]}\noutput \"y\" = %y",
            &[("x", &[-1.0, 2.0])],
            &[&[-1.0, -1.0, 2.0, 2.0]],
        ),
    ])
}

fn lookups_and_products() -> HashSet<Op> {
    let mut blocks = vec![0.0; 96];
    // The scale is the largest magnitude divided by 127, so whole multiples of 127 are exact.
    blocks[32..64].fill(127.0);
    blocks[64..].fill(-254.0);
    let picked = [&blocks[64..], &blocks[32..64]].concat();
    let scattered = [&picked[..32], &[0.0; 32], &picked[32..]].concat();
    let x: (&str, &[f64]) = ("x", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let i: (&str, &[f64]) = ("i", &[2.0, 1.0]);
    check(&[
        (
            "%x = weight \"x\" : f16[3, 2]\n%i = input \"i\" : u32[rows]\n%y = embed %x, %i\noutput \"y\" = %y",
            &[x, i],
            &[&[5.0, 6.0, 3.0, 4.0]],
        ),
        (
            "%x = weight \"x\" : q8_0[3, 32]\n%i = input \"i\" : i32[2]\n%y = embed %x, %i\noutput \"y\" = %y",
            &[("x", &blocks), i],
            &[&picked],
        ),
        (
            "%x = input \"x\" : f32[3, 2]\n%i = input \"i\" : u32[outs]\n%y = gather %x, %i\noutput \"y\" = %y",
            &[x, i],
            &[&[5.0, 6.0, 3.0, 4.0]],
        ),
        (
            "%x = input \"x\" : q8_0[3, 32]\n%i = input \"i\" : u32[2]\n%y = gather %x, %i\noutput \"y\" = %y",
            &[("x", &blocks), i],
            &[&picked],
        ),
        (
            "%x = input \"x\" : f32[3, 2]\n%i = input \"i\" : u32[2]\n%u = input \"u\" : f32[2, 2]\n%y = scatter %x, %i, %u\noutput \"y\" = %y",
            &[x, ("i", &[1.0, 1.0]), ("u", &[7.0, 8.0, 9.0, 10.0])],
            &[&[1.0, 2.0, 9.0, 10.0, 5.0, 6.0]],
        ),
        (
            "%x = input \"x\" : q8_0[3, 32]\n%i = input \"i\" : u32[2]\n%u = input \"u\" : q8_0[2, 32]\n%y = scatter %x, %i, %u\noutput \"y\" = %y",
            &[("x", &[0.0; 96]), ("i", &[0.0, 2.0]), ("u", &picked)],
            &[&scattered],
        ),
        (
            "%x = input \"x\" : f32[rows, 2]\n%w = weight \"w\" : f32[3, 2]\n%y = matmul %x, %w\noutput \"y\" = %y",
            &[("x", &[1.0, 2.0, 3.0, 4.0]), ("w", &[1.0, 0.0, 0.0, 1.0, 1.0, -1.0])],
            &[&[1.0, 2.0, -1.0, 3.0, 4.0, -1.0]],
        ),
        (
            "%x = input \"x\" : f32[2]\n%w = weight \"w\" : bf16[1, 2]\n%y = matmul %x, %w\noutput \"y\" = %y",
            &[("x", &[1.0, 2.0]), ("w", &[3.0, 4.0])],
            &[&[11.0]],
        ),
        (
            "%x = input \"x\" : f32[2, 2]\n%w = weight \"w\" : f32[2, 1, 2]\n%e = input \"e\" : u32[2]\n%y = matmul %x, %w, %e\noutput \"y\" = %y",
            &[("x", &[1.0, 2.0, 3.0, 4.0]), ("w", &[1.0, 1.0, 10.0, 1.0]), ("e", &[1.0, 0.0])],
            &[&[12.0, 7.0]],
        ),
    ])
}

/// The result of `argmax` for a row without a largest element.
const NO_TOKEN: f64 = aio_ir::sampling::NO_TOKEN as f64;

/// 1 + tanh(u) would cancel below -4.
#[test]
fn gelu_keeps_its_digits_where_it_is_small() {
    let xs: Vec<f64> = (-100..100).map(|i| f64::from(i) / 10.0).collect();
    let source = format!("aio 1\ngraph \"g\"\n%x = input \"x\" : f32[{}]\n%y = gelu %x\noutput \"y\" = %y\n", xs.len());
    let graph = parse(&source).unwrap().graph;
    let got = bound::run(&graph, &DIMS, &[("x", &xs)]).unwrap().remove(0);
    for (x, got) in xs.iter().zip(numbers(&got)) {
        let x = f64::from(*x as f32);
        let twice = 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        let want = x / (1.0 + (-twice).exp());
        assert!((got - want).abs() <= 1e-6 * want.abs() + f64::from(f32::MIN_POSITIVE), "{x}: {got:e} is not {want:e}");
    }
}

fn binary() -> HashSet<Op> {
    let ab: &[(&str, &[f64])] = &[("a", &[7.0, -2.0]), ("b", &[2.0, 4.0])];
    let extremes: &[(&str, &[f64])] = &[("a", &[-2_147_483_648.0, 2_147_483_647.0]), ("b", &[-1.0, 2.0])];
    let zero: &[(&str, &[f64])] = &[("a", &[7.0, 0.0]), ("b", &[0.0, 0.0])];
    let nan: &[(&str, &[f64])] = &[("a", &[f64::NAN, 1.0]), ("b", &[1.0, f64::NAN])];
    let mut seen = HashSet::new();
    let mut all = |op: &str, ty: &str, inputs: &[(&str, &[f64])], want: &[f64]| {
        let body = format!("%a = input \"a\" : {ty}[2]\n%b = input \"b\" : {ty}[2]\n%y = {op}\noutput \"y\" = %y");
        seen.extend(check(&[(&body, inputs, &[want])]));
    };
    for ty in ["f32", "f16", "bf16", "i32"] {
        all("add %a, %b", ty, ab, &[9.0, 2.0]);
        all("sub %a, %b", ty, ab, &[5.0, -6.0]);
        all("mul %a, %b", ty, ab, &[14.0, -8.0]);
        all("min %a, %b", ty, ab, &[2.0, -2.0]);
        all("max %a, %b", ty, ab, &[7.0, 4.0]);
        for (kind, want) in [
            ("eq", [0.0, 0.0]),
            ("ne", [1.0, 1.0]),
            ("lt", [0.0, 1.0]),
            ("le", [0.0, 1.0]),
            ("gt", [1.0, 0.0]),
            ("ge", [1.0, 0.0]),
        ] {
            all(&format!("compare %a, %b {{kind = {kind}}}"), ty, ab, &want);
        }
    }
    all("div %a, %b", "f32", ab, &[3.5, -0.5]);
    all("div %a, %b", "i32", ab, &[3.0, 0.0]);
    all("div %a, %b", "i32", zero, &[0.0, 0.0]);
    all("div %a, %b", "f32", zero, &[f64::INFINITY, f64::NAN]);
    all("add %a, %b", "i32", extremes, &[2_147_483_647.0, -2_147_483_647.0]);
    all("div %a, %b", "i32", extremes, &[-2_147_483_648.0, 1_073_741_823.0]);
    all("mul %a, %b", "i32", extremes, &[-2_147_483_648.0, -2.0]);
    all("sub %a, %b", "u8", &[("a", &[1.0, 0.0]), ("b", &[2.0, 255.0])], &[255.0, 1.0]);
    all("add %a, %b", "bool", &[("a", &[1.0, 1.0]), ("b", &[1.0, 0.0])], &[0.0, 1.0]);
    all("compare %a, %b {kind = eq}", "f32", nan, &[0.0, 0.0]);
    all("compare %a, %b {kind = ne}", "f32", nan, &[1.0, 1.0]);
    all("max %a, %b", "f32", nan, &[f64::NAN, f64::NAN]);
    all("min %a, %b", "bf16", nan, &[f64::NAN, f64::NAN]);
    seen
}

fn elementwise() -> HashSet<Op> {
    let mut seen = binary();
    let e = 1f64.exp();
    let sigmoid = e / (1.0 + e);
    let gelu = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh());
    let cases: [(&str, [f64; 2], [f64; 2]); 14] = [
        ("relu", [f64::NAN, -0.5], [f64::NAN, 0.0]),
        ("neg", [1.0, -2.0], [-1.0, 2.0]),
        ("silu", [1.0, 0.0], [sigmoid, 0.0]),
        ("gelu", [1.0, -2.0], [gelu(1.0), gelu(-2.0)]),
        ("relu", [1.0, -2.0], [1.0, 0.0]),
        ("tanh", [1.0, -20.0], [1f64.tanh(), -1.0]),
        ("sigmoid", [1.0, -200.0], [sigmoid, 0.0]),
        ("exp", [1.0, -2.0], [e, 1.0 / (e * e)]),
        ("log", [e, 0.0], [1.0, f64::NEG_INFINITY]),
        ("sqrt", [9.0, -1.0], [3.0, f64::NAN]),
        ("rsqrt", [4.0, 0.0], [0.5, f64::INFINITY]),
        ("sin", [1.0, 0.0], [1f64.sin(), 0.0]),
        ("cos", [1.0, 0.0], [1f64.cos(), 1.0]),
        ("silu", [-1000.0, 1000.0], [0.0, 1000.0]),
    ];
    for (op, x, want) in cases {
        let body = format!("%x = input \"x\" : f32[2]\n%y = {op} %x\noutput \"y\" = %y");
        seen.extend(check(&[(&body, &[("x", &x)], &[&want])]));
    }
    seen.extend(check(&[
        ("%x = input \"x\" : i8[2]\n%y = neg %x\noutput \"y\" = %y", &[("x", &[-128.0, 5.0])], &[&[-128.0, -5.0]]),
        ("%c = input \"c\" : bool[2, 1]\n%a = input \"a\" : f16[2]\n%b = input \"b\" : f16[2, 2]\n%y = select %c, %a, %b\noutput \"y\" = %y", &[("c", &[1.0, 0.0]), ("a", &[1.0, 2.0]), ("b", &[3.0, 4.0, 5.0, 6.0])], &[&[1.0, 2.0, 5.0, 6.0]]),
        ("%a = input \"a\" : f32[2, 1]\n%b = input \"b\" : f32[2]\n%y = add %a, %b\noutput \"y\" = %y", &[("a", &[10.0, 20.0]), ("b", &[1.0, 2.0])], &[&[11.0, 12.0, 21.0, 22.0]]),
    ]));
    seen
}

fn norms_and_folds() -> HashSet<Op> {
    let e = 1f64.exp();
    let r = (12.5f64 + 0.5).sqrt();
    let x: (&str, &[f64]) = ("x", &[3.0, 4.0]);
    let six: (&str, &[f64]) = ("x", &[1.0, 2.0, 3.0, 4.0, 5.0, 9.0]);
    check(&[
        ("%x = input \"x\" : f32[2]\n%y = rms_norm %x {eps = 0.5}\noutput \"y\" = %y", &[x], &[&[3.0 / r, 4.0 / r]]),
        (
            "%x = input \"x\" : f32[2]\n%w = weight \"w\" : f32[2]\n%y = rms_norm %x, %w {eps = 0.5}\noutput \"y\" = %y",
            &[x, ("w", &[2.0, -1.0])],
            &[&[6.0 / r, -4.0 / r]],
        ),
        ("%x = input \"x\" : f32[2]\n%y = layer_norm %x {eps = 0}\noutput \"y\" = %y", &[x], &[&[-1.0, 1.0]]),
        (
            "%x = input \"x\" : f32[2]\n%w = weight \"w\" : f32[2]\n%b = weight \"b\" : f32[2]\n%y = layer_norm %x, %w, %b {eps = 0}\noutput \"y\" = %y",
            &[x, ("w", &[2.0, 3.0]), ("b", &[10.0, 20.0])],
            &[&[8.0, 23.0]],
        ),
        (
            "%x = input \"x\" : f32[2]\n%b = weight \"b\" : f32[2]\n%y = layer_norm %x, _, %b {eps = 0}\noutput \"y\" = %y",
            &[x, ("b", &[10.0, 20.0])],
            &[&[9.0, 21.0]],
        ),
        ("%x = input \"x\" : f32[2]\n%y = softmax %x\noutput \"y\" = %y", &[x], &[&[1.0 / (1.0 + e), e / (1.0 + e)]]),
        ("%x = input \"x\" : f32[2]\n%y = softmax %x\noutput \"y\" = %y", &[("x", &[1e38, -1e38])], &[&[1.0, 0.0]]),
        (
            "%x = input \"x\" : f32[2, 3]\n%y = reduce %x {kind = sum, axis = 1}\noutput \"y\" = %y",
            &[six],
            &[&[6.0, 18.0]],
        ),
        (
            "%x = input \"x\" : f32[2, 3]\n%y = reduce %x {kind = mean, axis = 1}\noutput \"y\" = %y",
            &[six],
            &[&[2.0, 6.0]],
        ),
        (
            "%x = input \"x\" : f32[2, 3]\n%y = reduce %x {kind = max, axis = 0}\noutput \"y\" = %y",
            &[six],
            &[&[4.0, 5.0, 9.0]],
        ),
        (
            "%x = input \"x\" : f32[2, 3]\n%y = reduce %x {kind = min, axis = 0}\noutput \"y\" = %y",
            &[six],
            &[&[1.0, 2.0, 3.0]],
        ),
        (
            "%x = input \"x\" : f32[2, 3]\n%y = cumsum %x\noutput \"y\" = %y",
            &[six],
            &[&[1.0, 3.0, 6.0, 4.0, 9.0, 18.0]],
        ),
        (
            "%x = input \"x\" : f16[2, 3]\n%y = cumsum %x\noutput \"y\" = %y",
            &[six],
            &[&[1.0, 3.0, 6.0, 4.0, 9.0, 18.0]],
        ),
        ("%x = input \"x\" : i8[2]\n%y = cumsum %x\noutput \"y\" = %y", &[("x", &[100.0, 100.0])], &[&[100.0, -56.0]]),
    ])
}

const HEAD: &str = "%x = input \"x\" : f32[1, 1, 4]\n%p = input \"p\" : u32[1]\n";

fn positions() -> HashSet<Op> {
    let turn = |x: f64, y: f64, a: f64| (x * a.cos() - y * a.sin(), x * a.sin() + y * a.cos());
    let inputs: &[(&str, &[f64])] = &[("x", &[1.0, 2.0, 3.0, 4.0]), ("p", &[3.0]), ("f", &[2.0, 1.0])];
    // Base 100 over 4 dimensions: pair 0 turns by 1 per position, pair 1 by 0.1.
    let (a, b) = (turn(1.0, 3.0, 3.0), turn(2.0, 4.0, 0.3));
    let (c, d) = (turn(1.0, 2.0, 3.0), turn(3.0, 4.0, 0.3));
    let half = turn(1.0, 3.0, 1.5);
    let part = turn(1.0, 2.0, 3.0);
    let run = |operands: &str, attrs: &str, want: [f64; 4]| {
        let body = format!("{HEAD}{operands} {{{attrs}, base = 100.0}}\noutput \"y\" = %y");
        check(&[(&body, inputs, &[&want])])
    };
    let mut seen = run("%y = rope %x, %p", "pairs = halves, dims = 4", [a.0, b.0, a.1, b.1]);
    seen.extend(run("%y = rope %x, %p", "pairs = adjacent, dims = 4", [c.0, c.1, d.0, d.1]));
    seen.extend(run("%y = rope %x, %p", "pairs = adjacent, dims = 2", [part.0, part.1, 3.0, 4.0]));
    let factors = "%f = weight \"f\" : f32[2]\n%y = rope %x, %p, %f";
    seen.extend(run(factors, "pairs = halves, dims = 4", [half.0, b.0, half.1, b.1]));
    let (slow, slower) = (turn(1.0, 3.0, 1.5), turn(2.0, 4.0, 0.15));
    seen.extend(run(
        "%y = rope %x, %p",
        "pairs = halves, dims = 4, scaling = linear, factor = 2.0",
        [slow.0, slower.0, slow.1, slower.1],
    ));
    // YaRN with a context so long that both pairs turn more often than beta_fast: angles as trained, scaled magnitude.
    let m = 1.0 + 0.1 * 4f64.ln();
    let yarn = "pairs = halves, dims = 4, scaling = yarn, factor = 4.0, original_context = 1000000000";
    seen.extend(run("%y = rope %x, %p", yarn, [a.0 * m, b.0 * m, a.1 * m, b.1 * m]));
    seen
}

const KV: &str = "%kv = state \"kv\" : f16[pages, 2, 1, 64, 2]\n%k = input \"k\" : f32[rows, 1, 2]\n%v = input \"v\" : f32[rows, 1, 2]\n%q = input \"q\" : f32[rows, 1, 2]\n%t = input \"t\" : u32[seqs, stride]\n%s = input \"s\" : u32[rows]\n%p = input \"p\" : u32[rows]\n%n = page_write %kv, %k, %v, %t, %s, %p\n";

fn cache() -> HashSet<Op> {
    let w = |score: f64| 1.0 / (1.0 + (-score).exp());
    let inputs: &[(&str, &[f64])] = &[
        ("kv", &[]),
        ("k", &[1.0, 0.0, 0.0, 1.0]),
        ("v", &[1.0, 2.0, 3.0, 4.0]),
        ("q", &[1.0, 0.0, 1.0, 0.0]),
        ("t", &[1.0, 0.0]),
        ("s", &[0.0, 0.0]),
        ("p", &[0.0, 1.0]),
        ("sink", &[1.0]),
    ];
    let mut pool = vec![0.0; 512];
    pool[256..260].copy_from_slice(&[1.0, 0.0, 0.0, 1.0]);
    pool[384..388].copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
    let mix = |a: f64| [1.0, 2.0, a + 3.0 * (1.0 - a), 2.0 * a + 4.0 * (1.0 - a)];
    let attend = |attrs: &str, want: [f64; 4]| {
        let body = format!("{KV}%y = attend %q, %n, %t, %s, %p{attrs}\noutput \"y\" = %y\nfinal %kv = %n");
        check(&[(&body, inputs, &[&want, &pool])])
    };
    let mut seen = attend(" {scale = 1.0}", mix(w(1.0)));
    seen.extend(attend(" {scale = 2.0}", mix(w(2.0))));
    seen.extend(attend(" {scale = 1.0, window = 1}", [1.0, 2.0, 3.0, 4.0]));
    seen.extend(attend(" {scale = 1.0, soft_cap = 0.5}", mix(w(0.5 * 2f64.tanh()))));
    let e = 1f64.exp();
    let sunk = [0.5, 1.0, (e + 3.0) / (2.0 * e + 1.0), (2.0 * e + 4.0) / (2.0 * e + 1.0)];
    let body = format!(
        "{KV}%sink = weight \"sink\" : f32[1]\n%y = attend %q, %n, %t, %s, %p, %sink {{scale = 1.0}}\noutput \"y\" = %y\nfinal %kv = %n"
    );
    seen.extend(check(&[(&body, inputs, &[&sunk, &pool])]));
    let commit = "%l = state \"l\" : u32[seqs]\n%a = input \"a\" : u32[seqs]\n%n = commit %l, %a\nfinal %l = %n";
    seen.extend(check(&[
        (commit, &[("l", &[7.0]), ("a", &[3.0])], &[&[10.0]]),
        (commit, &[("l", &[4_294_967_295.0]), ("a", &[1.0])], &[&[0.0]]),
    ]));
    seen
}

fn conversions() -> HashSet<Op> {
    let x: (&str, &[f64]) = ("x", &[-1.7, 300.2, f64::NAN]);
    let wide: (&str, &[f64]) = ("x", &[-5.0, 300.0, 2_147_483_647.0]);
    let mut seen = HashSet::new();
    for (to, want) in [
        ("i8", [-1.0, 127.0, 0.0]),
        ("u8", [0.0, 255.0, 0.0]),
        ("i32", [-1.0, 300.0, 0.0]),
        ("u32", [0.0, 300.0, 0.0]),
        ("bool", [1.0, 1.0, 1.0]),
    ] {
        let body = format!("%x = input \"x\" : f32[3]\n%y = cast %x {{to = {to}}}\noutput \"y\" = %y");
        seen.extend(check(&[(&body, &[x], &[&want])]));
    }
    let ramp: Vec<f64> = (0..32).map(|i| f64::from(i - 16) * 0.25).collect();
    let eights: Vec<f64> = (0..32).map(|i| f64::from(i % 16 - 8)).collect();
    seen.extend(check(&[
        ("%x = input \"x\" : i32[3]\n%y = cast %x {to = i8}\noutput \"y\" = %y", &[wide], &[&[-5.0, 127.0, 127.0]]),
        ("%x = input \"x\" : i32[3]\n%y = cast %x {to = f32}\noutput \"y\" = %y", &[wide], &[&[-5.0, 300.0, 2_147_483_648.0]]),
        ("%x = input \"x\" : f32[1]\n%y = cast %x {to = bf16}\noutput \"y\" = %y", &[("x", &[1.003_906_25])], &[&[1.0]]),
        ("%x = input \"x\" : f16[1]\n%y = dequantize %x\noutput \"y\" = %y", &[("x", &[0.5])], &[&[0.5]]),
        // The largest magnitude is 4: scale 4 / -8 for q4_0, so multiples of a half are exact.
        ("%x = input \"x\" : f32[32]\n%z = quantize %x {to = q4_0}\n%y = dequantize %z\noutput \"y\" = %y", &[("x", &eights)], &[&eights]),
        ("%x = input \"x\" : q4_1[32]\n%y = dequantize %x\noutput \"y\" = %y", &[("x", &[2.0; 32])], &[&[2.0; 32]]),
        ("%x = input \"x\" : f32[32]\n%z = quantize %x {to = q8_0}\n%y = dequantize %z\n%d = sub %y, %x\n%m = mul %d, %d\n%s = reduce %m {kind = max, axis = 0}\n%l = fill {shape = [1], value = 0.0003, dtype = f32}\n%c = compare %s, %l {kind = lt}\noutput \"c\" = %c", &[("x", &ramp)], &[&[1.0]]),
    ]));
    seen
}

fn choices() -> HashSet<Op> {
    let greedy = [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0];
    let repeated = [0.0, 0.0, 1.0, 0.0, 4.0, 0.0, 0.0];
    let only_best = [1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0];
    let sample = "%x = input \"x\" : f32[outs, 3]\n%p = input \"p\" : f32[outs, 7]\n%n = input \"n\" : u32[outs, 4]\n%r = input \"r\" : i32[outs, recent]\n%b = input \"b\" : f32[outs, 3] optional\n%y = sample %x, %p, %n, %r, %b\noutput \"y\" = %y";
    let x: (&str, &[f64]) = ("x", &[1.0, 3.0, 2.0, 1.0, 3.0, 2.0]);
    let recent: (&str, &[f64]) = ("r", &[1.0, -1.0, 1.0, -1.0]);
    let n: (&str, &[f64]) = ("n", &[]);
    let verify = "%s = input \"s\" : u32[outs]\n%d = input \"d\" : u32[outs]\n%f = input \"f\" : u32[seqs, 2]\n%a, %n = verify %s, %d, %f\noutput \"a\" = %a\noutput \"n\" = %n";
    check(&[
        (
            "%x = input \"x\" : f32[2, 3]\n%y = argmax %x\noutput \"y\" = %y",
            &[("x", &[1.0, 5.0, 5.0, f64::NEG_INFINITY, -1.0, -2.0])],
            &[&[1.0, 1.0]],
        ),
        (
            "%x = input \"x\" : f32[3, 2]\n%y = argmax %x\noutput \"y\" = %y",
            &[("x", &[1.0, f64::NAN, f64::INFINITY, 2.0, f64::NEG_INFINITY, f64::NEG_INFINITY])],
            &[&[NO_TOKEN, NO_TOKEN, 0.0]],
        ),
        (
            "%x = input \"x\" : f32[1, 4]\n%v, %i = top_k %x {k = 3}\noutput \"v\" = %v\noutput \"i\" = %i",
            &[("x", &[2.0, f64::NAN, f64::INFINITY, f64::NAN])],
            &[&[f64::NAN, f64::NAN, f64::INFINITY], &[1.0, 3.0, 2.0]],
        ),
        (
            "%x = input \"x\" : f32[1, 4]\n%v, %i = top_k %x {k = 3}\noutput \"v\" = %v\noutput \"i\" = %i",
            &[("x", &[2.0, 9.0, 2.0, 5.0])],
            &[&[9.0, 5.0, 2.0], &[1.0, 3.0, 0.0]],
        ),
        (sample, &[x, n, recent, ("p", &[greedy, repeated].concat())], &[&[1.0, 2.0]]),
        (
            sample,
            &[x, n, recent, ("p", &[greedy, greedy].concat()), ("b", &[9.0, 0.0, 0.0, 0.0, f64::NEG_INFINITY, 0.0])],
            &[&[0.0, 2.0]],
        ),
        (sample, &[x, n, recent, ("p", &[only_best, only_best].concat())], &[&[1.0, 1.0]]),
        (verify, &[("s", &[5.0, 6.0]), ("d", &[0.0, 5.0]), ("f", &[0.0, 1.0])], &[&[1.0], &[6.0]]),
        (verify, &[("s", &[5.0, 6.0]), ("d", &[0.0, 4.0]), ("f", &[0.0, 1.0])], &[&[0.0], &[5.0]]),
        (verify, &[("s", &[5.0, 6.0]), ("d", &[0.0, 5.0]), ("f", &[1.0, 0.0])], &[&[0.0], &[6.0]]),
    ])
}

#[test]
fn every_op_computes_what_the_table_says() {
    let groups = [
        sources_and_layouts(),
        lookups_and_products(),
        elementwise(),
        norms_and_folds(),
        positions(),
        cache(),
        slots::slots(),
        conversions(),
        choices(),
    ];
    let seen: HashSet<Op> = groups.into_iter().flatten().collect();
    let missing: Vec<_> = Op::ALL.iter().filter(|op| !seen.contains(op)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}
