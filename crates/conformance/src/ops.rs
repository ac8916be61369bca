//! Cases of single ops: every op of the table alone, with the element types and shapes it takes.
//!
//! A row has a name, the op and a graph, in which `{t}` stands for each of a list of types. Values depend on the names
//! of the inputs (`values.rs`).

use crate::case::{Case, base, mixed_steps};
use crate::row::{Row, row};
use aio_ir::{DType, Op};
use aio_plan::KindName;

const FLOATS: &[DType] = &[DType::F32, DType::F16, DType::BF16];
const PLAIN: &[DType] =
    &[DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32, DType::I8, DType::U8, DType::Bool];
const NUMBERS: &[DType] = &[DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32, DType::I8, DType::U8];
const F32: &[DType] = &[DType::F32];
/// Types of look-up tables: plain types, one with blocks of 32, and one with super-blocks.
const TABLES: &[DType] = &[DType::F32, DType::F16, DType::Q4_0, DType::Q6K];
const ENCODED: &[DType] = &[DType::Q4_0, DType::Q4_1, DType::Q8_0];

/// Operands of the same shape, and ones that broadcast: a row, a column, a middle dimension, a scalar.
const BROADCAST: [(&str, &str, &str); 5] = [
    ("same", "[rows, 3, 40]", "[rows, 3, 40]"),
    ("row", "[rows, 3, 40]", "[40]"),
    ("column", "[rows, 3, 40]", "[3, 1]"),
    ("both", "[rows, 1, 40]", "[3, 1]"),
    ("scalar", "[rows, 300]", "[]"),
];

const BINARY: [Op; 6] = [Op::Add, Op::Sub, Op::Mul, Op::Div, Op::Min, Op::Max];
const UNARY: [Op; 11] =
    [Op::Silu, Op::Gelu, Op::Relu, Op::Tanh, Op::Sigmoid, Op::Exp, Op::Log, Op::Sqrt, Op::Rsqrt, Op::Sin, Op::Cos];

const ROWS: &[Row] = &[
    row("fill", Op::Fill, PLAIN, "%y = fill {shape = [rows, 7], value = 1.0, dtype = {t}}\n"),
    row("fill-half", Op::Fill, FLOATS, "%y = fill {shape = [rows, 7], value = 1.5, dtype = {t}}\n"),
    row("fill-infinity", Op::Fill, FLOATS, "%y = fill {shape = [rows, 7], value = -inf, dtype = {t}}\n"),
    row("iota", Op::Iota, PLAIN, "%y = iota {shape = [rows, 300], dtype = {t}}\n"),
    row(
        "embed-alone",
        Op::Embed,
        TABLES,
        "%w = weight \"w\" : {t}[9, 256]\n%i = input \"index\" : i32[rows, 2]\n%y = embed %w, %i\n",
    ),
    row(
        "embed-computed",
        Op::Embed,
        FLOATS,
        "%w = input \"w\" : {t}[9, 40]\n%i = input \"index\" : u32[rows]\n%j = max %i, %i\n%y = embed %w, %j\n",
    ),
    row(
        "gather",
        Op::Gather,
        PLAIN,
        "%x = input \"x\" : {t}[9, 3, 5]\n%i = input \"index\" : u32[rows]\n%y = gather %x, %i\n",
    ),
    row(
        "gather-blocks",
        Op::Gather,
        ENCODED,
        "%x = weight \"x\" : {t}[9, 64]\n%i = input \"index\" : i32[rows]\n%y = gather %x, %i\n",
    ),
    row(
        "scatter",
        Op::Scatter,
        PLAIN,
        "%x = input \"x\" : {t}[9, 5]\n%i = input \"index\" : u32[rows]\n%u = input \"updates\" : {t}[rows, 5]\n\
         %y = scatter %x, %i, %u\n",
    ),
    row(
        "matmul-computed",
        Op::Matmul,
        FLOATS,
        "%x = input \"x\" : f32[rows, 3, 70]\n%w = input \"w\" : {t}[19, 70]\n%y = matmul %x, %w\n",
    ),
    row("matmul-squared", Op::Matmul, F32, "%x = input \"x\" : {t}[24, 24]\n%y = matmul %x, %x\n"),
    row(
        "matmul-experts",
        Op::Matmul,
        TABLES,
        "%x = input \"x\" : f32[rows, 256]\n%w = weight \"w\" : {t}[9, 20, 256]\n%e = input \"index\" : u32[rows]\n\
         %y = matmul %x, %w, %e\n",
    ),
    row(
        "matmul-view",
        Op::Matmul,
        F32,
        "%x = input \"x\" : f32[rows, 4, 64]\n%w = weight \"w\" : f32[5, 2, 64]\n%v = reshape %w {shape = [10, 64]}\n\
         %y = matmul %x, %v\n",
    ),
    row(
        "matmul-fixed-rows",
        Op::Matmul,
        TABLES,
        "%x = input \"x\" : f32[5, 256]\n%w = weight \"w\" : {t}[40, 256]\n%y = matmul %x, %w\n",
    ),
    row(
        "compare-special",
        Op::Compare,
        FLOATS,
        "%a = input \"special\" : {t}[rows, 40]\n%b = input \"other special\" : {t}[40]\n%y = compare %a, %b {kind = le}\n",
    ),
    row(
        "select",
        Op::Select,
        PLAIN,
        "%c = input \"condition\" : bool[rows, 1, 40]\n%a = input \"a\" : {t}[3, 1]\n%b = input \"b\" : {t}[3, 40]\n\
         %y = select %c, %a, %b\n",
    ),
    row("neg", Op::Neg, PLAIN, "%x = input \"x\" : {t}[rows, 300]\n%y = neg %x\n"),
    row("twice", Op::Mul, NUMBERS, "%x = input \"x\" : {t}[rows, 300]\n%z = add %x, %x\n%y = mul %z, %z\n"),
    row("rms_norm-bare", Op::RmsNorm, F32, "%x = input \"x\" : {t}[rows, 2, 70]\n%y = rms_norm %x {eps = 1e-5}\n"),
    row(
        "rms_norm-weight",
        Op::RmsNorm,
        F32,
        "%x = input \"x\" : {t}[rows, 2, 70]\n%w = weight \"norm\" : f32[70]\n%y = rms_norm %x, %w {eps = 1e-5}\n",
    ),
    row(
        "layer_norm",
        Op::LayerNorm,
        F32,
        "%x = input \"x\" : {t}[rows, 70]\n%w = weight \"norm\" : f32[70]\n%b = input \"bias\" : f32[70]\n\
         %y = layer_norm %x, %w, %b {eps = 1e-5}\n",
    ),
    row("layer_norm-bare", Op::LayerNorm, F32, "%x = input \"x\" : {t}[rows, 70]\n%y = layer_norm %x {eps = 1e-5}\n"),
    row("softmax", Op::Softmax, F32, "%x = input \"x\" : {t}[rows, 3, 70]\n%y = softmax %x\n"),
    row(
        "rope-halves",
        Op::Rope,
        F32,
        "%x = input \"x\" : {t}[rows, 3, 40]\n%p = input \"positions\" : u32[rows]\n\
         %y = rope %x, %p {pairs = halves, dims = 32, base = 10000.0}\n",
    ),
    row(
        "rope-factors",
        Op::Rope,
        F32,
        "%x = input \"x\" : {t}[rows, 3, 40]\n%p = input \"places\" : u32[rows]\n%f = weight \"factors\" : f32[20]\n\
         %y = rope %x, %p, %f {pairs = adjacent, dims = 40, base = 10000.0}\n",
    ),
    row(
        "rope-computed-factors",
        Op::Rope,
        F32,
        "%x = input \"x\" : {t}[rows, 3, 40]\n%p = input \"places\" : u32[rows]\n%f = weight \"factors\" : f32[20]\n\
         %g = add %f, %f\n%y = rope %x, %p, %g {pairs = adjacent, dims = 40, base = 10000.0}\n",
    ),
    row(
        "slice-outer",
        Op::Slice,
        PLAIN,
        "%x = input \"x\" : {t}[9, rows, 5]\n%y = slice %x {axis = 0, start = 2, len = 6}\n",
    ),
    row(
        "slice-inner",
        Op::Slice,
        PLAIN,
        "%x = input \"x\" : {t}[rows, 3, 50]\n%y = slice %x {axis = 2, start = 7, len = 30}\n",
    ),
    row(
        "concat-inner",
        Op::Concat,
        PLAIN,
        "%a = input \"a\" : {t}[rows, 3, 5]\n%b = input \"b\" : {t}[rows, 3, 2]\n%y = concat %a, %b {axis = 2}\n",
    ),
    row("concat-itself", Op::Concat, F32, "%a = input \"a\" : {t}[3, rows]\n%y = concat %a, %a {axis = 0}\n"),
    row(
        "reshape",
        Op::Reshape,
        F32,
        "%x = input \"x\" : {t}[rows, 3, 8]\n%n = neg %x\n%r = reshape %n {shape = [4, rows, 6]}\n%y = neg %r\n",
    ),
    row(
        "reshape-input",
        Op::Reshape,
        PLAIN,
        "%x = input \"x\" : {t}[rows, 3, 8]\n%y = reshape %x {shape = [4, rows, 6]}\n",
    ),
    row("reshape-flat", Op::Reshape, F32, "%x = input \"x\" : {t}[rows, 3, 8]\n%y = reshape %x {shape = [24, rows]}\n"),
    row("reshape-deeper", Op::Reshape, F32, "%w = weight \"w\" : {t}[24]\n%y = reshape %w {shape = [2, 3, 4]}\n"),
    row(
        "reshape-state",
        Op::Reshape,
        F32,
        "%l = state \"lens\" : u32[seqs]\n%a = input \"few\" : u32[seqs]\n%r = reshape %l {shape = [1, seqs]}\n\
         %z = commit %l, %a\n%y = add %r, %z\nfinal %l = %z\n",
    ),
    row("softmax-special", Op::Softmax, F32, "%x = input \"special\" : {t}[rows, 3, 5]\n%y = softmax %x\n"),
    row("cumsum-special", Op::Cumsum, FLOATS, "%x = input \"special\" : {t}[rows, 5]\n%y = cumsum %x\n"),
    row(
        "rms_norm-special",
        Op::RmsNorm,
        F32,
        "%x = input \"special\" : {t}[rows, 2, 5]\n%w = weight \"norm\" : f32[5]\n%y = rms_norm %x, %w {eps = 1e-5}\n",
    ),
    row(
        "layer_norm-special",
        Op::LayerNorm,
        F32,
        "%x = input \"special\" : {t}[rows, 5]\n%y = layer_norm %x {eps = 1e-5}\n",
    ),
    row(
        "matmul-special",
        Op::Matmul,
        F32,
        "%x = input \"special\" : f32[rows, 5]\n%w = weight \"w\" : {t}[19, 5]\n%y = matmul %x, %w\n",
    ),
    row(
        "matmul-computed-special",
        Op::Matmul,
        FLOATS,
        "%x = input \"special\" : f32[rows, 5]\n%w = input \"w\" : {t}[19, 5]\n%y = matmul %x, %w\n",
    ),
    row(
        "matmul-open-rows",
        Op::Matmul,
        FLOATS,
        "%x = input \"x\" : f32[300, rows]\n%w = input \"w\" : {t}[19, rows]\n%y = matmul %x, %w\n",
    ),
    row(
        "transpose",
        Op::Transpose,
        PLAIN,
        "%x = input \"x\" : {t}[3, rows, 5]\n%y = transpose %x {perm = [1, 2, 0]}\n",
    ),
    row("broadcast", Op::Broadcast, PLAIN, "%x = input \"x\" : {t}[3, 1]\n%y = broadcast %x {shape = [rows, 3, 40]}\n"),
    row("quantize", Op::Quantize, ENCODED, "%x = input \"x\" : f32[rows, 64]\n%y = quantize %x {to = {t}}\n"),
    row("dequantize", Op::Dequantize, &crate::WEIGHT_TYPES, "%x = weight \"w\" : {t}[3, 256]\n%y = dequantize %x\n"),
    row("cumsum", Op::Cumsum, PLAIN, "%x = input \"x\" : {t}[rows, 70]\n%y = cumsum %x\n"),
    row("argmax", Op::Argmax, F32, "%x = input \"x\" : {t}[rows, 3, 70]\n%y = argmax %x\n"),
    row("argmax-rare", Op::Argmax, F32, "%x = input \"rare\" : {t}[rows, 3, 70]\n%y = argmax %x\n"),
    row("argmax-one", Op::Argmax, F32, "%x = input \"special\" : {t}[rows, 40, 1]\n%y = argmax %x\n"),
    row("argmax-ties", Op::Argmax, F32, "%x = input \"special\" : {t}[rows, 3, 70]\n%y = argmax %x\n"),
    row("top_k", Op::TopK, F32, "%x = input \"x\" : {t}[rows, 70]\n%y, %z = top_k %x {k = 5}\noutput \"z\" = %z\n"),
    row(
        "top_k-special",
        Op::TopK,
        F32,
        "%x = input \"special\" : {t}[rows, 70]\n%y, %z = top_k %x {k = 20}\noutput \"z\" = %z\n",
    ),
    row("top_k-all", Op::TopK, F32, "%x = input \"special\" : {t}[rows, 9]\n%z, %y = top_k %x {k = 9}\n"),
    row(
        "sample-alone",
        Op::Sample,
        F32,
        "%x = input \"x\" : {t}[rows, 70]\n%p = fill {shape = [rows, 7], value = 0.5, dtype = f32}\n\
         %n = input \"noise\" : u32[rows, 4]\n%r = input \"recent\" : i32[rows, recent]\n%y = sample %x, %p, %n, %r\n",
    ),
    row(
        "sample-alone-special",
        Op::Sample,
        F32,
        "%x = input \"rare\" : {t}[rows, 70]\n%p = fill {shape = [rows, 7], value = 0.5, dtype = f32}\n\
         %n = input \"noise\" : u32[rows, 4]\n%r = input \"recent\" : i32[rows, recent]\n%y = sample %x, %p, %n, %r\n",
    ),
    row(
        "sample-greedy-special",
        Op::Sample,
        F32,
        "%x = input \"rare\" : {t}[rows, 70]\n%p = fill {shape = [rows, 7], value = 0.0, dtype = f32}\n\
         %n = input \"noise\" : u32[rows, 4]\n%r = input \"recent\" : i32[rows, recent]\n%y = sample %x, %p, %n, %r\n",
    ),
    row(
        "verify-special",
        Op::Verify,
        F32,
        "%x = input \"special\" : f32[rows, 3]\n%s = argmax %x\n%f = input \"spans\" : u32[seqs, 2]\n\
         %y, %z = verify %s, %s, %f\noutput \"z\" = %z\n",
    ),
    row(
        "verify",
        Op::Verify,
        F32,
        "%s = input \"few\" : u32[rows]\n%d = input \"drafts\" : u32[rows]\n%f = input \"spans\" : u32[seqs, 2]\n\
         %y, %z = verify %s, %d, %f\noutput \"z\" = %z\n",
    ),
    row(
        "commit",
        Op::Commit,
        F32,
        "%l = state \"lens\" : u32[seqs]\n%a = input \"few\" : u32[seqs]\n%z = commit %l, %a\n%y = add %z, %a\nfinal %l = %z\n",
    ),
];

const PAGES: &str = "%t = input \"page_table\" : u32[seqs, stride]\n%r = input \"row_seq\" : u32[rows]\n\
                     %p = input \"positions\" : u32[rows]\n";

/// All cases of single ops.
pub(super) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = ROWS.iter().chain(crate::zero::ROWS).flat_map(typed).collect();
    all.extend(binary_cases());
    all.extend(unary_cases());
    all.extend(reduce_cases());
    all.extend(cast_cases());
    all.extend(paged_cases());
    all
}

fn typed(row: &Row) -> Vec<Case> {
    row.types.iter().map(|&t| single(format!("op-{}-{t}", row.name), row.op, t, row.graph)).collect()
}

/// A case for a graph with the result `%y`. Nodes are not fused.
pub(super) fn single(name: String, op: Op, t: DType, graph: &str) -> Case {
    let graph = graph.replace("{t}", t.name());
    let text = format!("aio 1\ngraph \"case\"\n{graph}output \"y\" = %y\n");
    let case = base(name, KindName::Op(op), t, text);
    // Only products use 8-bit activations.
    let max_nmse = if op == Op::Matmul { case.max_nmse } else { 1e-10 };
    Case { max_nmse, fuse: false, ..case }
}

fn binary_cases() -> Vec<Case> {
    let mut all = Vec::new();
    for op in BINARY {
        let word = op.mnemonic();
        for &t in NUMBERS {
            for (shape, a, b) in BROADCAST.iter().filter(|(shape, ..)| t == DType::F32 || *shape == "both") {
                let graph = format!("%a = input \"a\" : {{t}}{a}\n%b = input \"b\" : {{t}}{b}\n%y = {word} %a, %b\n");
                all.push(single(format!("op-{word}-{shape}-{t}"), op, t, &graph));
            }
        }
        for &t in FLOATS {
            let graph = format!(
                "%a = input \"special\" : {{t}}[rows, 40]\n%b = input \"other special\" : {{t}}[40]\n%y = {word} %a, %b\n"
            );
            all.push(single(format!("op-{word}-special-{t}"), op, t, &graph));
        }
    }
    for kind in ["eq", "ne", "lt", "le", "gt", "ge"] {
        for &t in PLAIN {
            let graph = format!(
                "%a = input \"few\" : {{t}}[rows, 40]\n%b = input \"few too\" : {{t}}[40]\n%y = compare %a, %b {{kind = {kind}}}\n"
            );
            all.push(single(format!("op-compare-{kind}-{t}"), Op::Compare, t, &graph));
        }
        let graph = format!(
            "%a = input \"special\" : f32[rows, 40]\n%b = input \"other special\" : f32[40]\n%y = compare %a, %b {{kind = {kind}}}\n"
        );
        all.push(single(format!("op-compare-{kind}-special"), Op::Compare, DType::F32, &graph));
    }
    all
}

fn unary_cases() -> Vec<Case> {
    let case = |op: Op, name: &str| {
        let graph = format!("%x = input \"{name}\" : f32[rows, 300]\n%y = {} %x\n", op.mnemonic());
        single(format!("op-{}-{name}", op.mnemonic()), op, DType::F32, &graph)
    };
    UNARY.into_iter().flat_map(|op| ["wide", "special"].map(|name| case(op, name))).collect()
}

fn reduce_cases() -> Vec<Case> {
    let mut all = Vec::new();
    for kind in ["sum", "max", "min", "mean"] {
        for (axis, input) in [(0, "x"), (1, "x"), (2, "x"), (1, "special"), (2, "special"), (2, "rare")] {
            let graph =
                format!("%x = input \"{input}\" : f32[3, rows, 40]\n%y = reduce %x {{kind = {kind}, axis = {axis}}}\n");
            all.push(single(format!("op-reduce-{kind}-{axis}-{input}"), Op::Reduce, DType::F32, &graph));
        }
    }
    all
}

fn cast_cases() -> Vec<Case> {
    let mut all = Vec::new();
    for from in PLAIN {
        for &to in PLAIN {
            let graph = format!("%x = input \"wide\" : {from}[rows, 70]\n%y = cast %x {{to = {to}}}\n");
            all.push(single(format!("op-cast-{from}-{to}"), Op::Cast, to, &graph));
        }
    }
    let graph = "%x = input \"special\" : f32[rows, 70]\n%y = cast %x {to = i8}\n";
    all.push(single("op-cast-special".to_owned(), Op::Cast, DType::I8, graph));
    all
}

/// Head sizes and page sizes, of each one that the paged kernel takes and others.
fn paged_cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (size, positions) in [(32, 64), (24, 64), (32, 16), (32, 128)] {
        let pages = if positions == 64 { String::new() } else { format!("-pages-{positions}") };
        for (name, sinks) in [("", false), ("-sinks", true)] {
            let given = if sinks { "%s = weight \"sinks\" : f32[4]\n" } else { "" };
            let operand = if sinks { ", %s" } else { "" };
            let graph = format!(
                "{PAGES}{given}%kv = state \"kv\" : f16[pages, 2, 2, {positions}, {size}]\n%q = input \"q\" : f32[rows, 4, {size}]\n\
                 %k = input \"k\" : f32[rows, 2, {size}]\n%v = input \"v\" : f32[rows, 2, {size}]\n\
                 %kvw = page_write %kv, %k, %v, %t, %r, %p\n\
                 %y = attend %q, %kvw, %t, %r, %p{operand} {{scale = 0.2, window = 70, soft_cap = 3.0}}\nfinal %kv = %kvw\n"
            );
            let case = |op: Op| {
                let case = single(format!("op-{}{name}-{size}{pages}", op.mnemonic()), op, DType::F32, &graph);
                Case { steps: mixed_steps(), ..case }
            };
            all.extend([case(Op::PageWrite), case(Op::Attend)]);
        }
    }
    all
}
