//! Every rule of the plan verifier fires when a good plan is broken in one way.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::null::permissive_target;
use aio_compiler::{Options, compile};
use aio_filetest::tiny;
use aio_ir::{DType, Graph, Op, Shape, Sym, TensorType};
use aio_plan::{
    Binding, Bucket, BufferId, InputId, KindName, Layout, LinearSpec, Loc, OutputId, PlanFamily, StateDesc, StateId,
    Tail, Task, TaskKind, WeightId, verify,
};
use std::collections::BTreeSet;
use std::sync::Arc;

fn family(graph: &Graph) -> PlanFamily {
    let bucket = Bucket { rows: 4, seqs: 4, outs: 4, tail: Tail::Logits, verify: false };
    let options = Options { buckets: vec![bucket], fuse: true };
    compile(aio_ir::verify(graph).unwrap(), &permissive_target("any"), &options).unwrap().family
}

/// Codes of the rules that a change breaks.
fn codes(change: impl FnOnce(&mut PlanFamily)) -> BTreeSet<&'static str> {
    let mut broken = family(&tiny::model("llama-1b", DType::Q8_0, 7).1);
    verify(&broken).unwrap();
    change(&mut broken);
    let errors = verify(&broken).expect_err("a rule is broken");
    assert!(errors.iter().all(|e| e.to_string().starts_with(&format!("{}: plan r", e.code))), "{errors:?}");
    errors.iter().map(|e| e.code).collect()
}

fn only(code: &'static str, change: impl FnOnce(&mut PlanFamily)) {
    assert_eq!(codes(change), BTreeSet::from([code]));
}

fn task(family: &mut PlanFamily, kind: KindName) -> &mut Task {
    family.plans[0].tasks.iter_mut().find(|t| t.kind.name() == kind).unwrap()
}

#[test]
fn l012_numbers_are_those_of_the_body() {
    let heads = |f: &mut PlanFamily, change: fn(&mut aio_plan::AttendSpec)| {
        let TaskKind::Attend(spec) = &mut task(f, KindName::Attend).kind else { panic!("no attention") };
        change(spec);
    };
    only("L012", |f| heads(f, |s| s.heads += 1));
    only("L012", |f| heads(f, |s| s.kv_heads = 0));
    only("L012", |f| heads(f, |s| s.head_dim = 4096));
    let qkv = |f: &mut PlanFamily, change: fn(&mut aio_plan::QkvSpec)| {
        let TaskKind::Qkv(spec) = &mut task(f, KindName::Qkv).kind else { panic!("no projection") };
        change(spec);
    };
    only("L012", |f| qkv(f, |s| s.heads = u32::MAX));
    only("L012", |f| qkv(f, |s| s.kv_heads *= 2));
    only("L012", |f| qkv(f, |s| s.rope.dims += 2));
    only("L012", |f| {
        let TaskKind::Head(spec) = &mut task(f, KindName::Head).kind else { panic!("no head") };
        spec.argmax = true;
    });
}

/// Every number and part of a body that a kernel uses for indexing, changed separately.
#[test]
fn l012_a_body_is_that_of_its_kind() {
    // A norm's epsilon without the norm.
    only("L012", |f| {
        let plain = f.plans[0].tasks.iter_mut().find(|t| t.kind == TaskKind::Linear(LinearSpec { norm_eps: None }));
        plain.unwrap().kind = TaskKind::Linear(LinearSpec { norm_eps: Some(1e-5) });
    });
    // An attribute, op or result other than the kind's.
    only("L012", |f| rewrite(f, KindName::Attend, "{scale", "{window = 1, scale"));
    only("L012", |f| rewrite(f, KindName::GateUp, "silu", "gelu"));
    only("L012", |f| rewrite(f, KindName::Linear, "output \"r0\"", "output \"other\""));
    // A task for a single op whose body does more.
    only("L012", |f| {
        let embed = task(f, KindName::Op(Op::Embed));
        let text = aio_ir::text::print(&embed.body);
        let last = embed.body.roots().next().unwrap();
        let more = text
            .replace("output \"r0\"", &format!("%more = neg {last}\noutput \"r0\""))
            .replace(&format!("= {last}\n"), "= %more\n");
        embed.body = Arc::new(aio_ir::text::parse(&more).unwrap().graph);
    });
}

/// Replaces part of the body text of the first task of a kind.
fn rewrite(family: &mut PlanFamily, kind: KindName, from: &str, to: &str) {
    let task = task(family, kind);
    let text = aio_ir::text::print(&task.body);
    assert!(text.contains(from), "{text}");
    task.body = Arc::new(aio_ir::text::parse(&text.replace(from, to)).unwrap().graph);
}

#[test]
fn l005_weights_and_states_have_the_very_shape() {
    // The same number of elements, but rows and columns swapped.
    only("L005", |f| {
        let Loc::Weight(w) = task(f, KindName::GateUp).operands[2] else { panic!("no weight") };
        f.weights[w.index()].ty.shape.0.swap(0, 1);
    });
    for (axis, size) in [(1, 1u64), (3, 32), (4, 8)] {
        only("L005", |f| f.states[0].ty.shape.0[axis] = size.into());
    }
    only("L005", |f| f.states[0].ty.dtype = DType::F32);
    // Attention's result, and a different element type for a row.
    only("L005", |f| {
        let Loc::Buffer(b) = task(f, KindName::Attend).results[0] else { panic!("no buffer") };
        let bounds = f.plans[0].bucket.bounds();
        let buffer = &mut f.plans[0].buffers[b.index()];
        buffer.ty.shape.0[1] = 1.into();
        buffer.bytes = buffer.ty.bytes(&bounds).unwrap();
    });
    only("L005", |f| {
        let Loc::Buffer(b) = task(f, KindName::GateUp).results[0] else { panic!("no buffer") };
        f.plans[0].buffers[b.index()].ty.dtype = DType::I32;
    });
}

#[test]
fn l014_inputs_that_may_be_unbound_are_optional() {
    only("L014", |f| f.plans[0].inputs[0].optional = true);
}

#[test]
fn l015_a_replaced_state_stays_where_it_is() {
    only("L015", |f| {
        let other = f.states[0].clone();
        f.states.push(StateDesc { name: "other".to_owned(), ..other });
        let id = StateId::new(f.states.len() - 1);
        *task(f, KindName::Qkv).results.last_mut().unwrap() = Loc::State(id);
    });
}

#[test]
fn l019_pages_are_a_state() {
    only("L019", |f| {
        let ty = f.states[0].ty.clone();
        f.plans[0].inputs.push(Binding { name: "pages".to_owned(), ty, optional: false });
        let id = InputId::new(f.plans[0].inputs.len() - 1);
        task(f, KindName::Attend).operands[1] = Loc::Input(id);
    });
}

/// A family with one product of the step's rows and a matrix.
fn product(rows: u64, columns: u64) -> PlanFamily {
    let text = format!(
        "aio 1\ngraph \"t\"\n%x = input \"x\" : f32[rows, {columns}]\n%w = weight \"w\" : f32[{rows}, {columns}]\n\
         %y = matmul %x, %w\noutput \"y\" = %y\n"
    );
    family(&aio_ir::text::parse(&text).unwrap().graph)
}

#[test]
fn l012_fused_kinds_have_no_dimension_of_0() {
    for (rows, columns) in [(0, 32), (8, 0), (0, 0)] {
        let mut plain = product(rows, columns);
        let task = &mut plain.plans[0].tasks[0];
        assert_eq!(task.kind, TaskKind::Op(Op::Matmul), "[{rows}, {columns}] stays a task of one op");
        let operands = [task.operands[0], Loc::Absent, task.operands[1], Loc::Absent, Loc::Absent];
        task.kind = TaskKind::Linear(LinearSpec { norm_eps: None });
        task.operands = operands.into_iter().collect();
        let errors = verify(&plain).unwrap_err();
        assert!(errors.iter().all(|e| e.code == "L012" && e.message.contains("no dimension of 0")), "{errors:?}");
    }
    assert_eq!(product(8, 32).plans[0].tasks[0].kind.name(), KindName::Linear);
}

#[test]
fn l016_packed_weights_have_elements() {
    let mut plain = product(0, 32);
    verify(&plain).unwrap();
    assert_eq!(plain.weights[0].layout, Layout::Plain);
    plain.weights[0].layout = Layout::Packed;
    assert_eq!(verify(&plain).unwrap_err()[0].code, "L016");
}

#[test]
fn l016_packed_weights_are_matrices() {
    only("L016", |f| {
        let Loc::Weight(w) = task(f, KindName::GateUp).operands[1] else { panic!("no norm") };
        f.weights[w.index()].layout = Layout::Packed;
    });
}

#[test]
fn l017_and_l018_sizes_are_bounded() {
    only("L017", |f| {
        let wide =
            Binding { name: "wide".to_owned(), ty: TensorType::f32(Shape::consts(&[1 << 45, 1])), optional: true };
        f.plans[0].inputs.push(wide);
    });
    let found = codes(|f| f.plans[0].bucket.rows = u32::MAX);
    assert!(found.contains("L018"), "{found:?}");
    let mut empty = family(&tiny::model("llama-1b", DType::Q8_0, 7).1);
    empty.plans.clear();
    assert_eq!(verify(&empty).unwrap_err()[0].code, "L018");
}

#[test]
fn l013_weights_and_states_have_sizes() {
    only("L013", |f| f.alignment = 48);
    only("L013", |f| {
        let mut huge = f.weights[0].clone();
        huge.ty = TensorType::f32(Shape::consts(&[1 << 40, 1 << 40]));
        f.weights.push(huge);
    });
    for sym in [Sym::Rows, Sym::Outs, Sym::Recent, Sym::Pages, Sym::Seqs, Sym::Slots] {
        only("L013", |f| {
            let ty = TensorType::f32(Shape::new([8.into(), sym.into()]));
            f.states.push(StateDesc { name: "other".to_owned(), ty });
        });
    }
    only("L013", |f| {
        let mut huge = f.states[0].clone();
        huge.ty = TensorType::f32(Shape::consts(&[1 << 40, 1 << 40]));
        f.states.push(huge);
    });
}

#[test]
fn l001_locations_are_in_range() {
    only("L001", |f| task(f, KindName::Linear).operands[2] = Loc::Weight(WeightId::new(9999)));
    only("L001", |f| task(f, KindName::Head).results[0] = Loc::Output(OutputId::new(1)));
}

#[test]
fn l002_buffers_lie_inside_the_arena() {
    only("L002", |f| f.plans[0].buffers[0].bytes += 64);
    only("L002", |f| f.plans[0].buffers[0].offset = u64::MAX - 63);
    only("L002", |f| f.arena_bytes = 64);
}

#[test]
fn l003_live_buffers_share_no_bytes() {
    only("L003", |f| {
        for buffer in &mut f.plans[0].buffers {
            buffer.offset = 0;
        }
    });
}

#[test]
fn l004_buffers_are_written_before_they_are_read() {
    only("L004", |f| {
        f.plans[0].tasks.remove(0);
    });
    only("L004", |f| {
        let again = f.plans[0].tasks[0].clone();
        f.plans[0].tasks.insert(1, again);
    });
}

#[test]
fn l005_locations_fit_the_body() {
    // The first projection's weight instead of the second's.
    only("L005", |f| {
        let norm = task(f, KindName::Qkv).operands[1];
        task(f, KindName::Linear).operands[2] = norm;
    });
}

#[test]
fn l006_outputs_are_written_once() {
    only("L006", |f| {
        f.plans[0].tasks.pop();
    });
}

#[test]
fn l007_bodies_are_valid() {
    only("L007", |f| Arc::make_mut(&mut task(f, KindName::Linear).body).outputs.clear());
}

#[test]
fn l008_results_have_a_place() {
    let found = codes(|f| {
        let w = task(f, KindName::Head).operands[3];
        task(f, KindName::Head).results[0] = w;
    });
    assert!(found.contains("L008"), "{found:?}");
}

#[test]
fn l009_places_are_those_of_the_kind() {
    // An absent operand carries no information, so the body still fits.
    only("L009", |f| task(f, KindName::Linear).operands.push(Loc::Absent));
    only("L009", |f| {
        assert_eq!(task(f, KindName::Attend).operands.pop(), Some(Loc::Absent));
    });
    let found = codes(|f| task(f, KindName::GateUp).operands[2] = Loc::Absent);
    assert_eq!(found, BTreeSet::from(["L009"]));
    let found = codes(|f| {
        task(f, KindName::Qkv).results.pop();
    });
    assert!(found.contains("L009"), "{found:?}");
}

#[test]
fn l010_buffers_are_aligned() {
    only("L010", |f| {
        f.alignment = 1 << 40;
        let last = f.plans[0].buffers.iter().map(|b| b.offset).max();
        assert!(last > Some(0), "one buffer lies behind another");
    });
}

#[test]
fn l011_outputs_are_written_before_they_are_read() {
    let text = "aio 1\ngraph \"t\"\n%x = input \"x\" : f32[4]\n%a = neg %x\n%b = exp %a\noutput \"a\" = %a\noutput \"b\" = %b\n";
    let graph = aio_ir::text::parse(text).unwrap().graph;
    let mut broken = family(&graph);
    verify(&broken).unwrap();
    assert_eq!(broken.plans[0].tasks[1].operands[0], Loc::Output(OutputId::new(0)));
    broken.plans[0].tasks.swap(0, 1);
    let codes: Vec<_> = verify(&broken).unwrap_err().iter().map(|e| e.code).collect();
    assert_eq!(codes, ["L011"]);
}

#[test]
fn a_buffer_id_out_of_range_stops_the_rest() {
    only("L001", |f| task(f, KindName::Linear).operands[0] = Loc::Buffer(BufferId::new(9999)));
}
