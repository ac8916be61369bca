//! Tests of the passes on small graphs: the tail, the order of tasks, the unfused plan, collapsed reshapes.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_compiler::{CompileError, Options, compile};
use aio_ir::{DType, Graph, Op, verify};
use aio_plan::{
    Bucket, HeadSizes, KindName, KindSupport, Layout, Limits, Loc, Plan, PlanFamily, StepInput, StepOutput, Tail,
    Target,
};

const BUCKET: Bucket = Bucket { rows: 4, seqs: 2, outs: 2, tail: Tail::Logits, verify: false };

/// A device that supports every task kind.
fn target() -> Target {
    let kinds = KindName::FUSED.iter().copied().chain(Op::ALL.iter().map(|&op| KindName::Op(op)));
    Target::new("test", kinds.map(|kind| KindSupport::new(kind, DType::ALL, Layout::Packed)).collect())
}

fn graph(body: &str) -> Graph {
    aio_ir::text::parse(&format!("aio 1\ngraph \"t\"\n{body}")).unwrap_or_else(|e| panic!("{e}")).graph
}

fn try_family(body: &str, bucket: Bucket, fuse: bool) -> Result<PlanFamily, CompileError> {
    let graph = graph(body);
    let options = Options { buckets: vec![bucket], fuse };
    Ok(compile(verify(&graph).unwrap_or_else(|e| panic!("{e}")), &target(), &options)?.family)
}

fn plan(body: &str, bucket: Bucket, fuse: bool) -> Plan {
    try_family(body, bucket, fuse).unwrap().plans.remove(0)
}

fn kinds(plan: &Plan) -> Vec<&'static str> {
    plan.tasks.iter().map(|t| t.kind.name().name()).collect()
}

const DECODE: &str = "%tokens = input \"tokens\" : u32[rows]\n%picked = input \"out_rows\" : u32[outs]\n\
                      %w = weight \"w\" : q8_0[96, 64]\n%n = weight \"n\" : f32[64]\n%x = embed %w, %tokens\n\
                      %rows = gather %x, %picked\n%h = rms_norm %rows, %n {eps = 1e-5}\n%logits = matmul %h, %w\n\
                      output \"logits\" = %logits\n";

#[test]
fn each_tail_gives_its_outputs_and_asks_for_its_inputs() {
    let names = |plan: &Plan| -> (Vec<String>, Vec<String>) {
        let of = |all: &[aio_plan::Binding]| all.iter().map(|b| b.name.clone()).collect();
        (of(&plan.inputs), of(&plan.outputs))
    };
    let with = |tail, verify| names(&plan(DECODE, Bucket { tail, verify, ..BUCKET }, true));
    let inputs = |more: &[StepInput]| -> Vec<String> {
        let all = [StepInput::Tokens, StepInput::OutRows].iter().chain(more);
        all.map(|i| i.name().to_owned()).collect()
    };
    let outputs = |all: &[StepOutput]| -> Vec<String> { all.iter().map(|o| o.name().to_owned()).collect() };
    let sampling = [StepInput::Sampling, StepInput::Noise, StepInput::Recent, StepInput::LogitBias];
    let verified = [StepOutput::Accepted, StepOutput::Next, StepOutput::Lens];
    assert_eq!(with(Tail::Logits, false), (inputs(&[]), outputs(&[StepOutput::Logits])));
    assert_eq!(with(Tail::Argmax, false), (inputs(&[]), outputs(&[StepOutput::Token])));
    assert_eq!(with(Tail::Sample, false), (inputs(&sampling), outputs(&[StepOutput::Token])));
    assert_eq!(with(Tail::Argmax, true), (inputs(&[StepInput::Spans, StepInput::Lens]), outputs(&verified)));
}

#[test]
fn the_arg_max_is_folded_into_the_head_and_a_sample_is_not() {
    let with = |tail| kinds(&plan(DECODE, Bucket { tail, ..BUCKET }, true));
    assert_eq!(with(Tail::Argmax), ["embed", "head"]);
    assert_eq!(with(Tail::Sample), ["embed", "head", "sample"]);
}

#[test]
fn a_tail_without_logits_is_refused_by_name() {
    let body = "%x = input \"x\" : f32[outs, 8]\n%y = neg %x\noutput \"y\" = %y\n";
    let refused = try_family(body, Bucket { tail: Tail::Argmax, ..BUCKET }, true);
    assert!(matches!(refused, Err(CompileError::NoOutput("logits"))), "{refused:?}");
}

#[test]
fn a_name_that_a_pass_needs_is_refused_if_the_graph_has_it() {
    let taken = DECODE.replace("%x = embed", "%own = input \"noise\" : f32[rows]\n%x = embed");
    let refused = try_family(&taken, Bucket { tail: Tail::Sample, ..BUCKET }, true);
    assert!(matches!(&refused, Err(CompileError::NameTaken { pass: "tail", name }) if name == "noise"), "{refused:?}");
    assert!(try_family(&taken, Bucket { tail: Tail::Argmax, ..BUCKET }, true).is_ok());
}

#[test]
fn unfused_each_node_but_a_view_is_a_task_in_the_graphs_order() {
    let body = "%x = input \"x\" : f32[rows, 64]\n%w = weight \"w\" : f32[64, 64]\n%n = weight \"n\" : f32[64]\n\
                %h = rms_norm %x, %n {eps = 1e-5}\n%p = matmul %h, %w\n%v = reshape %p {shape = [rows, 4, 16]}\n\
                %s = silu %v\n%f = reshape %s {shape = [rows, 64]}\n%y = add %f, %x\noutput \"y\" = %y\n";
    assert_eq!(kinds(&plan(body, BUCKET, false)), ["rms_norm", "matmul", "silu", "add"]);
    assert_eq!(kinds(&plan(body, BUCKET, true)), ["linear", "silu", "add"]);
}

#[test]
fn a_state_is_read_before_it_is_replaced_though_the_reader_is_younger() {
    let body = "%l = state \"lens\" : u32[seqs]\n%a = input \"few\" : u32[seqs]\n%m = input \"more\" : u32[seqs]\n\
                %z = commit %l, %a\n%r = add %l, %m\noutput \"old\" = %r\nfinal %l = %z\n";
    let parsed = graph(body);
    // The rules forbid a use after the replacement in text order, so the compiler may rely on that.
    assert!(verify(&parsed).is_err());
    let body = body.replace("%z = commit %l, %a\n%r = add %l, %m\n", "%r = add %l, %m\n%z = commit %l, %a\n");
    for fuse in [true, false] {
        let plan = plan(&body, BUCKET, fuse);
        assert_eq!(kinds(&plan), ["add", "commit"]);
        let state = plan.tasks[1].results[0];
        assert!(matches!(state, Loc::State(_)) && plan.tasks[0].operands[0] == state, "{:?}", plan.tasks);
    }
}

#[test]
fn what_no_output_needs_is_in_no_plan() {
    let body = "%x = input \"x\" : f32[rows, 8]\n%unused = input \"unused\" : f32[rows, 8]\n\
                %w = weight \"w\" : f32[8, 8]\n%dead = matmul %unused, %w\n%flat = reshape %x {shape = [8, rows]}\n\
                %back = reshape %flat {shape = [rows, 8]}\n%y = neg %back\noutput \"y\" = %y\n";
    let family = try_family(body, BUCKET, true).unwrap();
    let plan = &family.plans[0];
    assert_eq!((kinds(plan), plan.inputs.len(), family.weights.len()), (vec!["neg"], 1, 0));
}

#[test]
fn the_same_graph_gives_the_same_plans() {
    for tail in [Tail::Logits, Tail::Argmax, Tail::Sample] {
        let bucket = Bucket { tail, ..BUCKET };
        assert_eq!(try_family(DECODE, bucket, true).unwrap(), try_family(DECODE, bucket, true).unwrap());
    }
}

/// Attention of 8 query heads of 32 over 2 key and value heads, with pages of 64 positions.
const ATTENTION: &str = "%q = input \"q\" : f32[rows, 8, 32]\n%kv = state \"kv\" : f16[pages, 2, 2, 64, 32]\n\
    %t = input \"page_table\" : u32[seqs, stride]\n%s = input \"row_seq\" : u32[rows]\n%p = input \"positions\" : u32[rows]\n\
    %y = attend %q, %kv, %t, %s, %p {scale = 0.2}\noutput \"y\" = %y\n";

/// The kinds of the tasks on a target with these limits of one kind.
fn kinds_within(kind: KindName, limits: Limits) -> Result<Vec<&'static str>, CompileError> {
    let mut target = target();
    for support in target.kinds.iter_mut().filter(|s| s.kind == kind) {
        support.limits = limits.clone();
    }
    let parsed = graph(ATTENTION);
    let options = Options { buckets: vec![BUCKET], fuse: true };
    let family = compile(verify(&parsed).unwrap_or_else(|e| panic!("{e}")), &target, &options)?.family;
    Ok(kinds(&family.plans[0]))
}

#[test]
fn what_exceeds_a_kinds_limits_runs_unfused() {
    let within = |limits| kinds_within(KindName::Attend, limits).unwrap();
    let head = |multiple_of, max| Limits { head: Some(HeadSizes { multiple_of, max }), ..Limits::default() };
    let (rows, group, page) = (Limits { rows: Some(4), ..Limits::default() }, Some(4), &[64][..]);
    for fits in [rows, head(16, 32), Limits { group, page, ..Limits::default() }] {
        assert_eq!(within(fits.clone()), ["attend_pages"], "{fits:?}");
    }
    let (rows, group, page) = (Limits { rows: Some(3), ..Limits::default() }, Some(3), &[128][..]);
    let (group, page) = (Limits { group, ..Limits::default() }, Limits { page, ..Limits::default() });
    for exceeded in [rows, head(48, 480), head(16, 16), group, page] {
        assert_eq!(within(exceeded.clone()), ["attend"], "{exceeded:?}");
    }
}

#[test]
fn what_exceeds_an_ops_limits_is_refused_with_the_reason() {
    let refused = kinds_within(KindName::Op(Op::Attend), Limits { page: &[128], ..Limits::default() });
    assert_eq!(refused, Ok(vec!["attend_pages"]), "the fused kind still has a kernel");
    let mut target = target();
    target.kinds.retain(|s| s.kind != KindName::Attend);
    for support in target.kinds.iter_mut().filter(|s| s.kind == KindName::Op(Op::Attend)) {
        support.limits = Limits { page: &[128], ..Limits::default() };
    }
    let parsed = graph(ATTENTION);
    let options = Options { buckets: vec![BUCKET], fuse: true };
    let refused = compile(verify(&parsed).unwrap_or_else(|e| panic!("{e}")), &target, &options).unwrap_err();
    assert_eq!(refused.to_string(), "test cannot run `attend`: pages of 64 positions, the kernel takes [128]");
}

#[test]
fn more_plans_than_a_target_has_room_for_are_refused() {
    let target = Target { plans: Some(1), ..target() };
    let parsed = graph(ATTENTION);
    let verified = verify(&parsed).unwrap_or_else(|e| panic!("{e}"));
    let of = |buckets| compile(verified, &target, &Options { buckets, fuse: true }).map(|c| c.family.plans.len());
    assert_eq!(of(vec![BUCKET]), Ok(1));
    let refused = of(vec![BUCKET, Bucket { rows: 8, ..BUCKET }]);
    assert_eq!(refused, Err(CompileError::Plans { target: "test".to_owned(), plans: 2, most: 1 }));
}
