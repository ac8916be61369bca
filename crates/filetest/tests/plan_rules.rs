//! Each rule of the plan verifier fires: a good plan is broken in one way.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::null::permissive_target;
use aio_compiler::{Options, compile};
use aio_filetest::tiny;
use aio_ir::{DType, Graph, Shape, TensorType};
use aio_plan::{Bucket, BufferId, KindName, OutputId, PlanFamily, Slot, Tail, Task, TaskKind, WeightId, verify};
use std::collections::BTreeSet;
use std::sync::Arc;

fn family(graph: &Graph) -> PlanFamily {
    let bucket = Bucket { rows: 4, seqs: 4, outs: 4, tail: Tail::Logits, verify: false };
    let options = Options { buckets: vec![bucket], fuse: true };
    compile(aio_ir::verify(graph).unwrap(), &permissive_target("any"), &options).unwrap().family
}

/// The codes of the rules that a change breaks.
fn codes(change: impl FnOnce(&mut PlanFamily)) -> BTreeSet<&'static str> {
    let mut broken = family(&tiny::model("llama-1b", DType::Q8_0, 7).1);
    verify(&broken).unwrap();
    change(&mut broken);
    let errors = verify(&broken).expect_err("a rule is broken");
    assert!(
        errors.iter().all(|e| e.to_string().starts_with(&format!("{}: plan r4s4o4-logits: ", e.code))),
        "{errors:?}"
    );
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

#[test]
fn l013_weights_and_states_have_sizes() {
    only("L013", |f| f.alignment = 48);
    only("L013", |f| {
        let mut huge = f.weights[0].clone();
        huge.ty = TensorType::f32(Shape::consts(&[1 << 40, 1 << 40]));
        f.weights.push(huge);
    });
    only("L013", |f| {
        let mut huge = f.states[0].clone();
        huge.ty = TensorType::f32(Shape::consts(&[1 << 40, 1 << 40]));
        f.states.push(huge);
    });
}

#[test]
fn l001_slots_are_in_range() {
    only("L001", |f| task(f, KindName::Linear).operands[2] = Slot::Weight(WeightId::new(9999)));
    only("L001", |f| task(f, KindName::Head).results[0] = Slot::Output(OutputId::new(1)));
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
fn l005_slots_fit_the_body() {
    // The first projection's weight for the second's.
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
    // An absent operand says nothing, so the body still fits.
    only("L009", |f| task(f, KindName::Linear).operands.push(Slot::Absent));
    only("L009", |f| {
        assert_eq!(task(f, KindName::Attend).operands.pop(), Some(Slot::Absent));
    });
    let found = codes(|f| task(f, KindName::GateUp).operands[2] = Slot::Absent);
    assert_eq!(found, BTreeSet::from(["L005", "L009"]));
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
    assert_eq!(broken.plans[0].tasks[1].operands[0], Slot::Output(OutputId::new(0)));
    broken.plans[0].tasks.swap(0, 1);
    let codes: Vec<_> = verify(&broken).unwrap_err().iter().map(|e| e.code).collect();
    assert_eq!(codes, ["L011"]);
}

#[test]
fn a_buffer_id_out_of_range_stops_the_rest() {
    only("L001", |f| task(f, KindName::Linear).operands[0] = Slot::Buffer(BufferId::new(9999)));
}
