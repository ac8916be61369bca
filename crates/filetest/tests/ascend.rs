//! The Ascend back end on the simulated Ascend: the conformance list.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::{Device, WeightData, WeightSource};
use aio_backend_ascend::{AclLibrary, AscendDevice, AscendOptions, Lengths};
use aio_compiler::{Options, compile};
use aio_conformance::{Outcome, SEED, cases, reference, run_case};
use aio_filetest::baseline;
use aio_ir::DType;
use aio_plan::{Bucket, PoolSizes, Tail};
use std::collections::BTreeMap;

fn device(lengths: Lengths) -> AscendDevice {
    AscendDevice::open(
        AclLibrary::simulated().unwrap(),
        AscendOptions { lengths: Some(lengths), ..AscendOptions::default() },
    )
    .unwrap()
}

/// Whether `AIO_CASES` selects the case: its name contains the value, or the variable is not set.
fn wanted(name: &str) -> bool {
    std::env::var("AIO_CASES").map_or(true, |filter| name.contains(&filter))
}

/// Places are found by the operands of attention, not by names.
#[test]
fn inputs_under_other_names_run_all_the_same() {
    let device = device(Lengths::Bucket);
    for name in ["positions", "row_seq", "page_table"] {
        let mut case = cases().into_iter().find(|c| c.name == "attend-heads-4-of-4").unwrap().on(&device.target());
        case.steps.truncate(4);
        let want = reference(&case).unwrap();
        // Test values are chosen by name, so the new name contains the old one.
        case.text = case.text.replace(&format!("{name:?}"), &format!("\"other {name}\""));
        let outcome = run_case(&case, &device, &want);
        assert!(matches!(outcome, Outcome::Pass { .. }), "{name}: {outcome:?}");
    }
}

/// Attention with patched lengths, where it has no window.
#[test]
fn attention_with_patched_lengths_agrees_with_the_oracle() {
    let device = device(Lengths::Patch);
    let mut passed = 0;
    for case in cases().iter().filter(|c| c.name.starts_with("attend-") || c.name.starts_with("qkv-")) {
        let case = case.on(&device.target());
        match run_case(&case, &device, &reference(&case).unwrap()) {
            Outcome::Pass { .. } => passed += 1,
            Outcome::Unsupported { .. } => {}
            Outcome::Fail(fault) => panic!("{}: {fault}", case.name),
        }
    }
    assert!(passed > 20, "{passed}");
}

/// Rotation of parts of heads too, composed of other operators.
#[test]
fn an_older_library_passes_the_cases_that_rotate() {
    let library = AclLibrary::simulated_without(&["aclnnApplyRotaryPosEmbV2GetWorkspaceSize"]).unwrap();
    let device = AscendDevice::open(library, AscendOptions::default()).unwrap();
    let rotates = |name: &str| name.starts_with("qkv-") || name.contains("rope");
    let mut passed = 0;
    for case in cases().iter().filter(|c| rotates(&c.name)) {
        let case = case.on(&device.target());
        match run_case(&case, &device, &reference(&case).unwrap()) {
            Outcome::Pass { .. } => passed += 1,
            Outcome::Unsupported { .. } => {}
            Outcome::Fail(fault) => panic!("{}: {fault}", case.name),
        }
    }
    assert!(passed > 10, "{passed}");
}

/// Graphs that are no model: what padding must not touch, and weights of half precision that are only moved.
#[test]
fn graphs_that_mix_rows_are_not_padded() {
    let device = device(Lengths::Bucket);
    for (name, body) in [
        ("exp of sequences", "%x = input \"x\" : f32[seqs, 4]\n%y = exp %x\n"),
        ("best of all rows", "%x = input \"x\" : f32[rows]\n%y = argmax %x\n"),
        ("norm over rows", "%x = input \"x\" : f32[rows]\n%y = rms_norm %x {eps = 1e-5}\n"),
        ("sum over rows", "%x = input \"x\" : f32[rows, 3]\n%y = reduce %x {kind = sum, axis = 0}\n"),
        (
            "part of a half weight",
            "%w = weight \"w\" : f16[8, 6]\n%s = slice %w {axis = 0, start = 2, len = 3}\n%y = cast %s {to = f32}\n",
        ),
        ("both halves", "%w = weight \"w\" : bf16[2, 6]\n%c = concat %w, %w {axis = 0}\n%y = cast %c {to = f32}\n"),
    ] {
        let mut case = cases().into_iter().find(|c| c.name == "op-cumsum-f32").unwrap();
        case.text = format!("aio 1\ngraph \"g\"\n{body}output \"y\" = %y\n");
        let outcome = run_case(&case, &device, &reference(&case).unwrap());
        assert!(matches!(outcome, Outcome::Pass { .. }), "{name}: {outcome:?}");
    }
}

/// Weights of one number.
struct Filled(Vec<u8>);

impl WeightSource for Filled {
    fn weight(&self, _: &str) -> Option<WeightData<'_>> {
        Some(WeightData { dtype: DType::F32, shape: vec![7, 5], bytes: &self.0 })
    }
}

#[test]
fn weights_beyond_halves_are_refused_by_name() {
    let device = device(Lengths::Bucket);
    let text = "aio 1\ngraph \"g\"\n%x = input \"x\" : f32[rows, 5]\n%w = weight \"w\" : f32[7, 5]\n\
                %m = matmul %x, %w\n%r = input \"r\" : f32[rows, 7]\n\
                %y = add %m, %r\noutput \"y\" = %y\n";
    let graph = aio_ir::text::parse(text).unwrap().graph;
    let bucket = Bucket { rows: 4, seqs: 1, outs: 1, tail: Tail::Logits, verify: false };
    let options = Options { buckets: vec![bucket], fuse: true };
    let family = compile(aio_ir::verify(&graph).unwrap(), &device.target(), &options).unwrap().family;
    let upload = |number: f32| {
        let source = Filled((0..35).flat_map(|_| number.to_le_bytes()).collect());
        device.upload(&family, &source, PoolSizes::default())
    };
    upload(65504.0).unwrap();
    let error = upload(1e6).unwrap_err().to_string();
    assert!(error.contains("weight `w` has 1000000, beyond halves"), "{error}");
}

#[test]
fn every_case_agrees_with_the_oracle() {
    println!("seed {SEED:#x}");
    let device = device(Lengths::Bucket);
    let target = device.target();
    let mut support = BTreeMap::new();
    let mut failures = Vec::new();
    for case in cases().iter().filter(|c| wanted(&c.name)) {
        let case = case.on(&target);
        let outcome = run_case(&case, &device, &reference(&case).unwrap());
        match &outcome {
            Outcome::Pass { nmse } => println!("pass {}: {nmse:e}", case.name),
            Outcome::Unsupported { .. } => println!("{}: {outcome}", case.name),
            Outcome::Fail(fault) => failures.push(format!("{}: {fault}", case.name)),
        }
        support.insert(case.name.clone(), format!("{},{}", case.kind.name(), outcome.name()));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    if std::env::var_os("AIO_CASES").is_none() {
        baseline::compare(&aio_filetest::here("baselines/support-ascend.csv"), "case,kind,outcome", &support);
    }
}
