//! Toy models with recurrent state: their plans, and the errors of devices without kernels for it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::null::permissive_target;
use aio_backend::{Device, DeviceError, LoadOptions};
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_compiler::{CompileError, Options, compile};
use aio_conformance::Weights;
use aio_filetest::tiny;
use aio_ir::{Dims, Graph, verify};
use aio_plan::{Bucket, PlanFamily, PoolSizes, Role, Tail, Target, Traffic};

fn family(graph: &Graph, target: &Target) -> Result<PlanFamily, CompileError> {
    let buckets = [Tail::Argmax, Tail::Sample].map(|tail| Bucket::new(8, 8, tail).verifying());
    let buckets = [buckets.to_vec(), vec![Bucket::new(32, 4, Tail::Logits)]].concat();
    compile(verify(graph).unwrap(), target, &Options { buckets, fuse: true }).map(|done| done.family)
}

fn cpu() -> CpuDevice {
    CpuDevice::new(CpuOptions { threads: 1, isa: None, pin: false }).unwrap()
}

#[test]
fn states_have_roles_and_traffic_by_sequence() {
    for (template, pages) in [("recurrent", false), ("hybrid", true)] {
        let (_, graph) = tiny::recurrent(template, 1);
        let family = family(&graph, &permissive_target("any")).unwrap();
        let slots = family.states.iter().filter(|s| s.role() == Role::Slot);
        let one = Dims { slots: 1, ..Dims::default() };
        let bytes: u64 = slots.filter_map(|s| s.ty.bytes(&one)).sum();
        let has_pages = family.states.iter().any(|s| matches!(s.role(), Role::Pages(_)));
        assert_eq!((family.slot_room(), has_pages), (Some(16), pages), "{template}");
        assert_eq!(family.page_positions(), pages.then_some(64), "{template}");
        let traffic = Traffic::of(&family, &family.plans[0]);
        assert!(bytes > 0 && traffic.slots_per_sequence == bytes, "{template}");
        assert_eq!(traffic.kv_per_position > 0, pages, "{template}");
    }
}

#[test]
fn a_slot_is_read_and_written_once_whatever_the_rows() {
    let (_, graph) = tiny::recurrent("recurrent", 1);
    let cost = |rows: u32, seqs: u32| {
        let (bucket, target) = (Bucket { seqs, ..Bucket::new(rows, 1, Tail::Logits) }, permissive_target("any"));
        let options = Options { buckets: vec![bucket], fuse: true };
        let family = compile(verify(&graph).unwrap(), &target, &options).unwrap().family;
        let slots = Traffic::of(&family, &family.plans[0]).slots_per_sequence;
        (family.plans[0].tasks.iter().map(|t| t.cost.bytes_written).sum::<u64>(), slots)
    };
    let ((one, slots), (two, _)) = (cost(8, 1), cost(8, 2));
    assert_eq!(two - one, slots, "a sequence more is a slot more");
    let rows = |seqs: u32| cost(16, seqs).0 - cost(8, seqs).0;
    assert_eq!(rows(1), rows(2), "a row costs the same in any sequence");
}

#[test]
fn devices_without_kernels_for_slots_say_so_and_hold_their_states() {
    let (_, graph) = tiny::recurrent("hybrid", 1);
    let cpu = cpu();
    let error = family(&graph, &cpu.target()).unwrap_err();
    assert!(matches!(error, CompileError::Unsupported { op: "conv", .. }), "{error}");
    // A plan for a device that has such kernels.
    let foreign = family(&graph, &permissive_target("any")).unwrap();
    let pools = PoolSizes { pages: 2, slots: 3 };
    cpu.scratch_bytes(&foreign, pools);
    let weights = cpu.upload(&foreign, &Weights::of(&graph), pools).unwrap();
    let refused = cpu.load(&foreign, &foreign.plans[0], &weights, &LoadOptions::default()).err().unwrap();
    assert!(matches!(refused, DeviceError::Unsupported { kind: "conv", .. }), "{refused}");
    for (i, state) in foreign.states.iter().enumerate() {
        let bytes = state.ty.bytes(&foreign.state_bounds(pools)).unwrap();
        assert_eq!(cpu.download_state(&weights, i).unwrap().len() as u64, bytes, "{}", state.name);
    }
    cpu.copy_pages(&weights, &[(0, 1)]).unwrap();
}
