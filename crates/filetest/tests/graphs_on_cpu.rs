//! Every checked-in text graph, fused and unfused, on the CPU and on the oracle.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::{Device, LoadOptions};
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_compiler::{Options, compile};
use aio_conformance::{Case, Outcome, Weights, matching, reference, run_case};
use aio_filetest::graph_file;
use aio_ir::{text, verify};
use aio_plan::PoolSizes;

/// Inputs whose values are indices, with names for which the test generates indices.
const RENAMED: [(&str, &str); 6] = [
    ("\"e\"", "\"few\""),
    ("\"ids\"", "\"index\""),
    ("\"others\"", "\"other positions\""),
    ("\"d\"", "\"few\""),
    ("\"n\"", "\"few\""),
    ("\"t\"", "\"index\""),
];

/// A case for a graph, with the steps of a projection or, if the graph has pages, those that grow two sequences.
fn case(graph: &str, fuse: bool) -> Case {
    let paged = graph.contains("page_table");
    let like = matching(if paged { "qkv-plain-q8_0" } else { "gate_up-silu-q8_0" }).remove(0);
    let graph = RENAMED.iter().fold(graph.to_owned(), |g, (from, to)| g.replace(from, to));
    Case { text: graph, fuse, ..like }
}

/// Whether the graph is valid and has a plan. Some files show faults, and in some the outputs compute nothing.
fn compiles(case: &Case) -> bool {
    let Ok(parsed) = text::parse(&case.text) else { return false };
    let Ok(verified) = verify(&parsed.graph) else { return false };
    let options = Options { buckets: vec![case.bucket()], fuse: case.fuse };
    compile(verified, &aio_backend::null::permissive_target("any"), &options).is_ok()
}

#[test]
fn every_text_graph_gives_the_oracles_results() {
    let device = CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap();
    let mut ran = 0;
    for path in graph_file::files(&aio_filetest::workspace("tests/filetests")) {
        let graph = std::fs::read_to_string(&path).unwrap();
        for fuse in [true, false] {
            let case = case(&graph, fuse);
            if !compiles(&case) {
                println!("{} has no plan", path.display());
                continue;
            }
            let outcome = run_case(&case, &device, &reference(&case).unwrap());
            assert!(matches!(outcome, Outcome::Pass { .. }), "{} fuse {fuse}: {outcome:?}", path.display());
            ran += 1;
        }
    }
    assert!(ran >= 2 * 26, "only {ran} graphs ran");
}

/// What no kernel can compute correctly is rejected with a reason, when the graph is compiled or loaded.
#[test]
fn what_no_kernel_can_do_is_refused() {
    let pages = "%k = input \"k\" : f32[rows, 1, 16]\n%t = input \"page_table\" : u32[seqs, stride]\n%s = input \"row_seq\" : u32[rows]\n\
                 %p = input \"positions\" : u32[rows]\n";
    let kv = "f16[pages, 2, 1, 64, 16]";
    let graphs = [
        (format!("{pages}%kv = input \"kv\" : {kv}\n%y = attend %k, %kv, %t, %s, %p {{scale = 1.0}}\noutput \"y\" = %y\n"), "is not a state"),
        (
            format!(
                "{pages}%kv = input \"kv\" : {kv}\n%z = state \"z\" : {kv}\n%w = page_write %kv, %k, %k, %t, %s, %p\nfinal %z = %w\n"
            ),
            "is not a state",
        ),
        (format!("{pages}%x = input \"x\" : {kv}\n%kv = state \"kv\" : {kv}\n%y = attend %k, %kv, %t, %s, %p {{scale = 1.0}}\noutput \"y\" = %y\nfinal %kv = %x\n"), "plain tensor"),
        ("%x = input \"x\" : f32[recent, 64]\n%w = weight \"w\" : f32[32, 64]\n%y = matmul %x, %w\noutput \"y\" = %y\n".to_owned(), "no bucket bounds"),
    ];
    let device = CpuDevice::new(CpuOptions { threads: 1, isa: None, pin: false }).unwrap();
    for (body, reason) in graphs {
        let case = case(&format!("aio 1\ngraph \"t\"\n{body}"), true);
        let parsed = text::parse(&case.text).unwrap().graph;
        let options = Options { buckets: vec![case.bucket()], fuse: true };
        let refused = match compile(verify(&parsed).unwrap(), &device.target(), &options) {
            Err(e) => e.to_string(),
            Ok(compiled) => {
                let family = compiled.family;
                let resident = device.upload(&family, &Weights::of(&parsed), PoolSizes::pages(4)).unwrap();
                device.load(&family, &family.plans[0], &resident, &LoadOptions::default()).err().unwrap().to_string()
            }
        };
        assert!(refused.contains(reason), "{body}{refused}");
    }
}
