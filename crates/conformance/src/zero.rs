//! Cases with known dimensions of 0: whatever numpy allows runs, with numpy's results.

use crate::row::{Row, row};
use aio_ir::{DType, Op};

const PLAIN: &[DType] = &[DType::F32, DType::F16, DType::I32, DType::U8, DType::Bool];
const F32: &[DType] = &[DType::F32];
const MATRICES: &[DType] = &[DType::F32, DType::F16, DType::Q4_0, DType::Q6K];
const ENCODED: &[DType] = &[DType::Q4_0, DType::Q8_0];

/// Rows of the list.
pub(super) const ROWS: &[Row] = &[
    row("fill-zero", Op::Fill, PLAIN, "%y = fill {shape = [rows, 0], value = 1.0, dtype = {t}}\n"),
    row("iota-zero", Op::Iota, PLAIN, "%y = iota {shape = [3, 0, rows], dtype = {t}}\n"),
    row(
        "embed-zero-ids",
        Op::Embed,
        MATRICES,
        "%w = weight \"w\" : {t}[9, 256]\n%i = input \"index\" : u32[0, rows]\n%y = embed %w, %i\n",
    ),
    row(
        "embed-zero-columns",
        Op::Embed,
        MATRICES,
        "%w = weight \"w\" : {t}[9, 0]\n%i = input \"index\" : u32[rows]\n%y = embed %w, %i\n",
    ),
    row(
        "embed-zero-rows",
        Op::Embed,
        MATRICES,
        "%w = weight \"w\" : {t}[0, 256]\n%i = input \"index\" : u32[0]\n%y = embed %w, %i\n",
    ),
    row(
        "gather-zero-indices",
        Op::Gather,
        PLAIN,
        "%x = input \"x\" : {t}[9, rows, 5]\n%i = input \"index\" : u32[0]\n%y = gather %x, %i\n",
    ),
    row(
        "gather-zero-slices",
        Op::Gather,
        PLAIN,
        "%x = input \"x\" : {t}[9, 0]\n%i = input \"index\" : u32[rows]\n%y = gather %x, %i\n",
    ),
    row(
        "scatter-zero-indices",
        Op::Scatter,
        PLAIN,
        "%x = input \"x\" : {t}[9, rows]\n%i = input \"index\" : u32[0]\n%u = input \"updates\" : {t}[0, rows]\n\
         %y = scatter %x, %i, %u\n",
    ),
    row(
        "scatter-zero-slices",
        Op::Scatter,
        PLAIN,
        "%x = input \"x\" : {t}[9, 0]\n%i = input \"index\" : u32[rows]\n%u = input \"updates\" : {t}[rows, 0]\n\
         %y = scatter %x, %i, %u\n",
    ),
    row(
        "matmul-zero-inner",
        Op::Matmul,
        MATRICES,
        "%x = input \"x\" : f32[rows, 0]\n%w = weight \"w\" : {t}[19, 0]\n%y = matmul %x, %w\n",
    ),
    row(
        "matmul-zero-outputs",
        Op::Matmul,
        MATRICES,
        "%x = input \"x\" : f32[rows, 256]\n%w = weight \"w\" : {t}[0, 256]\n%y = matmul %x, %w\n",
    ),
    row(
        "matmul-zero-rows",
        Op::Matmul,
        MATRICES,
        "%x = input \"x\" : f32[rows, 0, 256]\n%w = weight \"w\" : {t}[19, 256]\n%y = matmul %x, %w\n",
    ),
    row(
        "matmul-zero-experts",
        Op::Matmul,
        MATRICES,
        "%x = input \"x\" : f32[0, 256]\n%w = weight \"w\" : {t}[0, 19, 256]\n%e = input \"index\" : u32[0]\n\
         %y = matmul %x, %w, %e\n",
    ),
    row(
        "matmul-computed-zero-inner",
        Op::Matmul,
        F32,
        "%x = input \"x\" : f32[rows, 0]\n%w = input \"w\" : f32[rows, 0]\n%y = matmul %x, %w\n",
    ),
    row(
        "add-zero",
        Op::Add,
        PLAIN,
        "%a = input \"a\" : {t}[rows, 0]\n%b = input \"b\" : {t}[3, 1, 1]\n%y = add %a, %b\n",
    ),
    row(
        "compare-zero",
        Op::Compare,
        PLAIN,
        "%a = input \"a\" : {t}[0, rows]\n%b = input \"b\" : {t}[]\n%y = compare %a, %b {kind = lt}\n",
    ),
    row(
        "select-zero",
        Op::Select,
        PLAIN,
        "%c = input \"condition\" : bool[1, 0]\n%a = input \"a\" : {t}[rows, 1]\n%b = input \"b\" : {t}[1]\n\
         %y = select %c, %a, %b\n",
    ),
    row("silu-zero", Op::Silu, F32, "%x = input \"x\" : {t}[0, rows]\n%y = silu %x\n"),
    row(
        "rms_norm-zero-rows",
        Op::RmsNorm,
        F32,
        "%x = input \"x\" : {t}[rows, 0, 70]\n%w = weight \"norm\" : f32[70]\n%y = rms_norm %x, %w {eps = 1e-5}\n",
    ),
    row("softmax-zero-rows", Op::Softmax, F32, "%x = input \"x\" : {t}[0, rows, 70]\n%y = softmax %x\n"),
    row(
        "rope-zero-heads",
        Op::Rope,
        F32,
        "%x = input \"x\" : {t}[rows, 0, 40]\n%p = input \"positions\" : u32[rows]\n\
         %y = rope %x, %p {pairs = halves, dims = 32, base = 10000.0}\n",
    ),
    row(
        "slice-zero",
        Op::Slice,
        PLAIN,
        "%x = input \"x\" : {t}[9, rows]\n%y = slice %x {axis = 0, start = 9, len = 0}\n",
    ),
    row(
        "concat-zero",
        Op::Concat,
        PLAIN,
        "%a = input \"a\" : {t}[rows, 0, 3]\n%b = input \"b\" : {t}[rows, 2, 3]\n%y = concat %a, %b {axis = 1}\n",
    ),
    row(
        "concat-slice-zero",
        Op::Concat,
        PLAIN,
        "%a = input \"a\" : {t}[rows, 2]\n%s = slice %a {axis = 1, start = 1, len = 0}\n%y = concat %a, %s {axis = 1}\n",
    ),
    row(
        "reshape-zero",
        Op::Reshape,
        F32,
        "%x = input \"x\" : {t}[rows, 0, 8]\n%n = neg %x\n%r = reshape %n {shape = [0]}\n%y = neg %r\n",
    ),
    row(
        "transpose-zero",
        Op::Transpose,
        PLAIN,
        "%x = input \"x\" : {t}[3, rows, 0]\n%y = transpose %x {perm = [2, 0, 1]}\n",
    ),
    row(
        "broadcast-zero",
        Op::Broadcast,
        PLAIN,
        "%x = input \"x\" : {t}[3, 1]\n%y = broadcast %x {shape = [rows, 3, 0]}\n",
    ),
    row("cast-zero", Op::Cast, PLAIN, "%x = input \"x\" : {t}[rows, 0]\n%y = cast %x {to = f32}\n"),
    row(
        "quantize-zero-columns",
        Op::Quantize,
        ENCODED,
        "%x = input \"x\" : f32[rows, 0]\n%y = quantize %x {to = {t}}\n",
    ),
    row("quantize-zero-rows", Op::Quantize, ENCODED, "%x = input \"x\" : f32[0, 64]\n%y = quantize %x {to = {t}}\n"),
    row("dequantize-zero", Op::Dequantize, MATRICES, "%x = weight \"w\" : {t}[3, 0]\n%y = dequantize %x\n"),
    row(
        "reduce-zero-sum",
        Op::Reduce,
        F32,
        "%x = input \"x\" : {t}[3, 0, rows]\n%y = reduce %x {kind = sum, axis = 1}\n",
    ),
    row(
        "reduce-zero-others",
        Op::Reduce,
        F32,
        "%x = input \"x\" : {t}[3, 0, rows]\n%y = reduce %x {kind = max, axis = 0}\n",
    ),
    row("cumsum-zero", Op::Cumsum, PLAIN, "%x = input \"x\" : {t}[rows, 0]\n%y = cumsum %x\n"),
    row("argmax-zero-rows", Op::Argmax, F32, "%x = input \"x\" : {t}[rows, 0, 70]\n%y = argmax %x\n"),
    row(
        "top_k-zero-rows",
        Op::TopK,
        F32,
        "%x = input \"x\" : {t}[0, 70]\n%y, %z = top_k %x {k = 5}\noutput \"z\" = %z\n",
    ),
    row(
        "state-zero",
        Op::Add,
        F32,
        "%s = state \"s\" : {t}[0, 4]\n%x = input \"x\" : {t}[0, 4]\n%y = add %s, %x\nfinal %s = %y\n",
    ),
];
