//! The tasks of a model's plans as conformance cases: they compile to the same task at the same cost, and pass.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::Device;
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_compiler::{Options, compile};
use aio_conformance::{Copies, Outcome, PlannedCase, Purpose, extract, nmse, planned_cases, reference, run_case};
use aio_filetest::tiny;
use aio_interp::InterpDevice;
use aio_ir::{DType, verify};
use aio_plan::{Bucket, KindName, PlanFamily, Tail, TaskKind};

fn device() -> CpuDevice {
    CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap()
}

/// The family of one bucket of a tiny model of each architecture.
fn families(bucket: Bucket, fuse: bool) -> Vec<PlanFamily> {
    let target = device().target();
    let family = |(_, preset): (String, String)| {
        let (_, graph) = tiny::model(&preset, DType::Q4_0, 7);
        compile(verify(&graph).unwrap(), &target, &Options { buckets: vec![bucket], fuse }).unwrap().family
    };
    tiny::architectures().into_iter().map(family).collect()
}

fn planned(family: &PlanFamily, purpose: Purpose) -> Vec<PlannedCase> {
    planned_cases(family, &family.plans[0], purpose).unwrap()
}

#[test]
fn the_tasks_of_every_architecture_pass_as_cases() {
    let device = device();
    for (bucket, fuse) in [
        (Bucket::new(1, 1, Tail::Argmax), true),
        (Bucket::new(5, 5, Tail::Sample), true),
        (Bucket::new(3, 3, Tail::Argmax), false),
    ] {
        for family in families(bucket, fuse) {
            let cases = planned(&family, Purpose::Compare);
            let tasks: usize = cases.iter().map(|c| c.count).sum();
            assert_eq!(tasks, family.plans[0].tasks.len(), "every task is one of a case");
            assert!(cases.len() < tasks, "layers are equal");
            for PlannedCase { case, .. } in cases {
                let outcome = run_case(&case, &device, &reference(&case).unwrap());
                assert!(matches!(outcome, Outcome::Pass { .. }), "{} {}: {outcome}", family.model, case.full());
            }
        }
    }
}

#[test]
fn cases_compile_to_tasks_of_their_kind() {
    let target = device().target();
    for family in families(Bucket::new(1, 1, Tail::Argmax), true) {
        for PlannedCase { case, .. } in planned(&family, Purpose::Compare) {
            let graph = aio_ir::text::parse(&case.text).unwrap().graph;
            let options = Options { buckets: vec![case.bucket()], fuse: case.fuse };
            let again = compile(verify(&graph).unwrap(), &target, &options).unwrap().family;
            let kinds: Vec<_> = again.plans[0].tasks.iter().map(|t| t.kind.name()).collect();
            assert!(kinds.contains(&case.kind), "{}: {kinds:?}", case.full());
        }
    }
}

#[test]
fn a_task_that_is_taken_out_is_the_same_and_computes_the_same() {
    let (device, oracle) = (device(), InterpDevice::default());
    // Steps of cases have two sequences, and costs depend on their number.
    let bucket = Bucket { seqs: 2, ..Bucket::new(3, 3, Tail::Argmax) };
    for family in families(bucket, true) {
        let plan = &family.plans[0];
        for PlannedCase { case, first, .. } in planned(&family, Purpose::Time { depth: 40 }) {
            let task = &plan.tasks[first.index()];
            let alone = extract(&family, plan, first, bucket);
            aio_plan::verify(&alone).unwrap_or_else(|e| panic!("{}: {e:?}", case.full()));
            let [only] = &alone.plans[0].tasks[..] else { panic!("{}: not one task", case.full()) };
            assert_eq!((only.kind, &only.body), (task.kind, &task.body), "{}", case.full());
            let cost = (only.cost, only.cost_per_position);
            assert_eq!(cost, (task.cost, task.cost_per_position), "{}", case.full());
            let outputs = |device: &dyn Device| {
                let mut copies = Copies::load(&case, &alone, device, 2).unwrap();
                copies.run().unwrap();
                copies.outputs().map(<[_]>::to_vec).collect::<Vec<_>>()
            };
            let (got, want) = (outputs(&device), outputs(&oracle));
            assert_eq!(got[0], got[1], "{}", case.full());
            let words = |of: &[Vec<Vec<u32>>]| of[0].concat();
            if case.kind == KindName::Head {
                assert_eq!(words(&got), words(&want), "tokens of {}", case.full());
            } else {
                let floats = |of| words(of).into_iter().map(f32::from_bits).collect::<Vec<_>>();
                let error = nmse(&floats(&got), &floats(&want));
                assert!(error <= case.max_nmse, "{}: {error:e}", case.full());
            }
        }
    }
}

/// A case that only reads keys and values would compare zeros with zeros.
#[test]
fn keys_and_values_are_written_before_they_are_compared() {
    let mut read = 0;
    for family in families(Bucket::new(1, 1, Tail::Argmax), true) {
        let attends = planned(&family, Purpose::Compare);
        for PlannedCase { case, .. } in attends.into_iter().filter(|c| c.case.kind == KindName::Attend) {
            assert!(case.text.contains("page_write"), "{}", case.text);
            assert!(matches!(family.plans[0].tasks[2].kind, TaskKind::Attend(_)));
            read += 1;
        }
    }
    assert!(read > 0);
}
