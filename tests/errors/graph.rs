//! Building, decoding, evaluating and compiling graphs.

use crate::Table;
use aio::backend::null::permissive_target;
use aio::compiler::{CompileError, Options, batch_verify, compile};
use aio::interp::{EvalError, Tensor, evaluate};
use aio::ir::graph::BuildError;
use aio::ir::quant::{dequantize, encode};
use aio::ir::slots::StepSlots;
use aio::ir::text::parse;
use aio::ir::{Attr, Builder, DType, Def, Dims, Graph, Op, Shape, Sym, TensorType, verify};
use aio::plan::body::{Declared, fused};
use aio::plan::{Bucket, HeadSpec, LinearSpec, Tail, Target, TaskKind};

pub(crate) fn graph(body: &str) -> Graph {
    parse(&format!("aio 1\ngraph \"t\"\n{body}")).unwrap_or_else(|e| panic!("{e}")).graph
}

fn build(table: &mut Table) {
    let mut b = Builder::new("t");
    let x = b.input("x", TensorType::f32(Shape::consts(&[4])));
    let nothing = b.input("nothing", TensorType::f32(Shape::consts(&[4, 0])));
    let mut op = |op: Op, inputs: &[_], attrs: &[(&str, Attr)]| b.op(op, inputs, attrs).unwrap_err();
    let infer = op(Op::Matmul, &[x, x], &[]);
    let attribute = op(Op::Slice, &[x], &[("axis", Attr::Int(3)), ("start", Attr::Int(0)), ("len", Attr::Int(1))]);
    let empty = op(Op::Reduce, &[nothing], &[("kind", Attr::Word("mean")), ("axis", Attr::Int(1))]);
    for error in [&infer, &attribute, &empty] {
        let BuildError::Infer { source, .. } = error else { panic!("{error:?}") };
        table.add("InferError", source.clone());
    }
    table.add("BuildError", infer);
    table.add("BuildError", op(Op::Add, &[x], &[]));
    table.add("BuildError", op(Op::Neg, &[x], &[("times", Attr::Int(2))]));
    table.add("BuildError", op(Op::RmsNorm, &[x], &[]));
}

fn decode(table: &mut Table) {
    let mut out = [0.0; 32];
    table.add("QuantError", dequantize(DType::I32, &[0; 128], &mut out).unwrap_err());
    table.add("QuantError", dequantize(DType::Q4_0, &[0; 17], &mut out).unwrap_err());
    table.add("QuantError", dequantize(DType::Q4_0, &[0; 18], &mut out[..31]).unwrap_err());
    table.add("QuantError", encode(DType::Q4K, &[0.0; 256], &mut [0; 144]).unwrap_err());
}

fn evaluation(body: &str, x: Option<Tensor<'static>>, index: i64) -> EvalError {
    let graph = graph(body);
    let bind = |_, value: &aio::ir::Value| match value.name.as_str() {
        "x" => x.clone(),
        _ => Some(Tensor::int(DType::U32, vec![1], vec![index])),
    };
    let dims = Dims { rows: 1, ..Dims::default() };
    evaluate(verify(&graph).unwrap(), &dims, bind).err().unwrap()
}

fn compilation(body: &str, tail: Tail, target: &Target) -> CompileError {
    let graph = graph(body);
    let bucket = Bucket { rows: u32::MAX, seqs: 1, outs: 1, tail, verify: tail == Tail::Sample };
    compile(verify(&graph).unwrap(), target, &Options { buckets: vec![bucket], fuse: true }).unwrap_err()
}

/// Operands and numbers that do not match a kind.
fn bodies(table: &mut Table) {
    let value =
        |def: Def, dtype: DType, dims: &[u64]| Some(Declared { def, ty: TensorType::new(dtype, Shape::consts(dims)) });
    let row = || {
        let ty = TensorType::f32(Shape::new([Sym::Rows.into(), 32.into()]));
        Some(Declared { def: Def::Input { optional: false }, ty })
    };
    let matrix = |dims: &[u64]| value(Def::Weight, DType::F32, dims);
    let linear = |norm_eps, operands: [Option<Declared>; 5]| {
        fused(&TaskKind::Linear(LinearSpec { norm_eps }), &operands).unwrap_err()
    };
    let head = TaskKind::Head(HeadSpec { norm_eps: 1e-5, argmax: false });
    table.add("BodyError", fused(&head, &[]).unwrap_err());
    table.add("BodyError", linear(Some(1e-5), [row(), None, matrix(&[8, 32]), None, None]));
    table.add("BodyError", linear(None, [row(), None, matrix(&[8, 4, 32]), None, None]));
    table.add("BodyError", linear(None, [row(), matrix(&[32]), matrix(&[8, 32]), None, None]));
    table.add("BodyError", linear(None, [row(), None, matrix(&[8, 31]), None, None]));
}

/// Steps that use slots incorrectly, with one sequence unless `slots` has more.
fn slots(table: &mut Table) {
    let mut wrong = |row_seq: &[u32], slots: &[u32], slot_rows: &[u32]| {
        let step = StepSlots { row_seq, slots, slot_rows };
        table.add("SlotError", step.uses(4, 2).unwrap_err());
    };
    wrong(&[1], &[0, 1], &[0, 1]);
    wrong(&[0, 1, 0], &[0, 1, 0, 2], &[0, 2, 0, 1]);
    wrong(&[0], &[4, 1], &[0, 1]);
    wrong(&[0], &[1, 0], &[0, 1]);
    wrong(&[0], &[1, 1], &[0, 1]);
    wrong(&[0], &[0, 1], &[0, 2]);
    wrong(&[0], &[1, 2], &[3, 1]);
    wrong(&[0, 0, 0], &[0, 1], &[0, 0]);
    let conv = "%x = input \"x\" : f32[rows, 1]\n%w = fill {shape = [1, 2], value = 1.0, dtype = f32}\n\
                %r = fill {shape = [rows], value = 0, dtype = u32}\n%u = fill {shape = [seqs, 2], value = 1, dtype = u32}\n\
                %z = state \"z\" : f32[slots, 2, 1]\n%n, %y = conv %z, %x, %w, %u, %u, %r\nfinal %z = %n\n";
    let graph = graph(conv);
    let dims = Dims { rows: 1, seqs: 1, slots: 2, ..Dims::default() };
    let bind = |_, value: &aio::ir::Value| {
        let shape: Vec<usize> = value.ty.shape.resolve(&dims).iter().map(|&n| n as usize).collect();
        let count = shape.iter().product();
        Some(Tensor::f32(shape, vec![0.0; count]))
    };
    table.add("EvalError", evaluate(verify(&graph).unwrap(), &dims, bind).unwrap_err());
}

pub(crate) fn cause(table: &mut Table) {
    build(table);
    slots(table);
    bodies(table);
    decode(table);
    let pick = "%x = input \"x\" : f32[3]\n%i = input \"i\" : u32[1]\n%y = gather %x, %i\noutput \"y\" = %y\n";
    table.add("EvalError", evaluation(pick, None, 0));
    table.add("EvalError", evaluation(pick, Some(Tensor::f32(vec![3], vec![0.0; 3])), 7));
    let fold = "%x = input \"x\" : f32[seqs]\n%y = softmax %x\noutput \"y\" = %y\n";
    table.add("EvalError", evaluation(fold, Some(Tensor::f32(vec![0], Vec::new())), 0));
    let large = "%y = iota {shape = [1099511627776], dtype = u32}\noutput \"y\" = %y\n";
    table.add("EvalError", evaluation(large, None, 0));
    let all = permissive_target("any");
    let none = Target { kinds: Vec::new(), ..all.clone() };
    let full = Target { plans: Some(0), ..all.clone() };
    let neg = "%x = input \"x\" : f32[4]\n%y = neg %x\noutput \"y\" = %y\n";
    table.add("CompileError", compilation(neg, Tail::Sample, &all));
    table.add("CompileError", compilation(neg, Tail::Logits, &none));
    table.add("CompileError", compilation(neg, Tail::Logits, &full));
    let no_tokens = "%x = input \"x\" : f32[outs, 70]\n%y = neg %x\noutput \"logits\" = %y\n";
    table.add("CompileError", compilation(no_tokens, Tail::Sample, &all));
    table.add("CompileError", compilation(no_tokens, Tail::Hidden, &all));
    let taken = "%x = input \"x\" : f32[outs, 70]\n%s = state \"token\" : f32[outs, 70]\n%y = neg %x\n\
                 output \"logits\" = %y\nfinal %s = %x\n";
    table.add("CompileError", compilation(taken, Tail::Argmax, &all));
    let odd = "%t = input \"tokens\" : u32[rows]\n%o = input \"out_rows\" : u32[outs]\n%x = input \"x\" : f32[outs]\n\
               %y = neg %x\noutput \"token\" = %y\n";
    table.add("CompileError", batch_verify(&graph(odd)).unwrap_err());
    let blocks = "%w = weight \"w\" : q8_0[2, 32]\noutput \"y\" = %w\n";
    table.add("CompileError", compilation(blocks, Tail::Logits, &all));
    let wide = "%x = input \"x\" : f32[rows, 1099511627776]\n%z = neg %x\n%y = neg %z\noutput \"y\" = %y\n";
    table.add("CompileError", compilation(wide, Tail::Logits, &all));
}
