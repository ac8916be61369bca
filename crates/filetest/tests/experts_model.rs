//! A toy mixture-of-experts model: drafts on the oracle and the CPU; its plan, memory traffic and packed matrices.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::Device;
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_engine::{Batch, Engine, EngineOptions, Flow, Request, Sampling, Sequence, Speculation};
use aio_filetest::drafting::Knowing;
use aio_filetest::edit::{File, FileTensor};
use aio_filetest::tiny;
use aio_interp::InterpDevice;
use aio_ir::sampling::SampleParams;
use aio_ir::{DType, Graph, text};
use aio_model::Model;
use aio_plan::{KindName, Layout, Traffic};
use std::fmt::Write;
use std::sync::Arc;

/// Experts per layer, and experts that each row uses.
const EXPERTS: u64 = 4;
const PICKED: u64 = 2;

/// A two-layer model whose feed-forward networks are split into experts, with routers.
fn model() -> (Model, Graph) {
    let mut file = File::tiny("llama-1b", DType::F32);
    let mut written = file.model().unwrap().graph_text(&tiny::templates(), None).unwrap();
    for layer in 0..2 {
        let name = |part: &str| format!("blk.{layer}.ffn_{part}.weight");
        let [width, inner] = file.get(&name("gate")).dims[..] else { panic!("a matrix") };
        for (part, dims) in [("gate", [width, inner]), ("up", [width, inner]), ("down", [inner, width])] {
            let dense = file.get(&name(part)).clone();
            // The dense rows are distributed over the experts; for `down`, any numbers will do.
            let dims = if part == "down" {
                vec![inner / EXPERTS, width, EXPERTS]
            } else {
                vec![dims[0], dims[1] / EXPERTS, EXPERTS]
            };
            file = file.without(&name(part)).tensor(FileTensor { name: name(&format!("{part}_exps")), dims, ..dense });
        }
        let scores = (0..EXPERTS * width).flat_map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0).to_le_bytes()).collect();
        let router =
            FileTensor { name: name("gate_inp"), dtype: DType::F32, dims: vec![width, EXPERTS], bytes: scores };
        file = file.tensor(router);
        written = routed(&written, layer, width, inner / EXPERTS);
    }
    (file.model().unwrap(), text::parse(&written).unwrap_or_else(|e| panic!("{e}\n{written}")).graph)
}

/// The decoder's graph text, with the feed-forward network of a layer replaced by experts.
fn routed(decoder: &str, layer: u32, width: u64, inner: u64) -> String {
    let start = decoder.find(&format!("%wgate{layer} = ")).unwrap();
    let end = decoder.find(&format!("%x{} = add", layer + 1)).unwrap();
    let (e, k) = (EXPERTS, PICKED);
    let mut ffn = format!(
        "%router{layer} = weight \"blk.{layer}.ffn_gate_inp.weight\" : f32[{e}, {width}]\n\
         %scores{layer} = matmul %f{layer}, %router{layer}\n%all{layer} = softmax %scores{layer}\n\
         %top{layer}, %index{layer} = top_k %all{layer} {{k = {k}}}\n\
         %total{layer} = reduce %top{layer} {{kind = sum, axis = 1}}\n%p{layer} = div %top{layer}, %total{layer}\n\
         %each{layer} = reshape %f{layer} {{shape = [rows, 1, {width}]}}\n\
         %xs{layer} = broadcast %each{layer} {{shape = [rows, {k}, {width}]}}\n"
    );
    for (part, input, rows, cols) in
        [("gate", "xs", inner, width), ("up", "xs", inner, width), ("down", "gu", width, inner)]
    {
        writeln!(ffn, "%w{part}{layer} = weight \"blk.{layer}.ffn_{part}_exps.weight\" : f32[{e}, {rows}, {cols}]")
            .unwrap();
        writeln!(ffn, "%{part}{layer} = matmul %{input}{layer}, %w{part}{layer}, %index{layer}").unwrap();
        if part == "up" {
            writeln!(ffn, "%act{layer} = silu %gate{layer}\n%gu{layer} = mul %act{layer}, %up{layer}").unwrap();
        }
    }
    write!(
        ffn,
        "%scale{layer} = reshape %p{layer} {{shape = [rows, {k}, 1]}}\n%weighted{layer} = mul %down{layer}, %scale{layer}\n\
         %sum{layer} = reduce %weighted{layer} {{kind = sum, axis = 1}}\n%d{layer} = reshape %sum{layer} {{shape = [rows, {width}]}}\n"
    )
    .unwrap();
    format!("{}{ffn}{}", &decoder[..start], &decoder[end..])
}

fn cpu() -> Arc<dyn Device> {
    Arc::new(CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap())
}

fn engine(device: Arc<dyn Device>) -> Engine {
    let (model, graph) = model();
    let options = EngineOptions { context: Some(96), prefill_rows: 24, sequences: 2, ..EngineOptions::default() };
    Engine::load(model, &graph, device, &options).unwrap_or_else(|e| panic!("{e}"))
}

fn requests(tokens: usize) -> [Request; 2] {
    let params = SampleParams { temperature: 0.8, top_k: 40, ..SampleParams::GREEDY };
    let hot = Sampling { params, seed: 5, ..Sampling::greedy() };
    let prompt = |n: u32| (0..n).map(|i| (i * 31 + n) % 250).collect();
    [(Sampling::greedy(), 30), (hot, 11)].map(|(sampling, n)| {
        let request = Request::new(prompt(n), sampling);
        Request { max_tokens: Some(tokens), ignore_eog: true, ..request }
    })
}

/// The tokens of both requests, decoded together with drafts, some of which are wrong.
fn drafted(engine: &Engine, plain: &[Vec<u32>; 2], drafts: usize, errs: usize) -> [Vec<u32>; 2] {
    let mut batch = Batch::new();
    let requests = requests(plain[0].len()).map(|r| Request { speculation: Speculation::Fixed(drafts), ..r });
    let ids = [0, 1].map(|i| {
        let drafter = Box::new(Knowing::new(&requests[i].prompt, &plain[i], errs));
        batch.join(engine, requests[i].clone(), Sequence::new(), Some(drafter)).map_err(|(e, _)| e).unwrap()
    });
    while batch.running() > 0 {
        batch.step(engine, &mut |_, _| Flow::Continue).unwrap();
    }
    ids.map(|id| batch.leave(engine, id).unwrap().0.unwrap().ids)
}

#[test]
fn drafts_change_no_token_of_a_mixture_of_experts() {
    for (device, tokens) in [(Arc::new(InterpDevice::default()) as Arc<dyn Device>, 12), (cpu(), 40)] {
        let name = device.target().name;
        let engine = engine(device);
        let plain = requests(tokens).map(|r| engine.generate(&r, &mut |_| Flow::Continue).unwrap().ids);
        assert_ne!(plain[0], plain[1], "{name}");
        for (drafts, errs) in [(1, 2), (4, 3), (7, 2)] {
            assert_eq!(drafted(&engine, &plain, drafts, errs), plain, "{name}: {drafts} drafts");
        }
    }
}

#[test]
fn the_cpu_gives_the_oracles_tokens() {
    let greedy = &requests(12)[0];
    let of = |device| engine(device).generate(greedy, &mut |_| Flow::Continue).unwrap().ids;
    assert_eq!(of(cpu()), of(Arc::new(InterpDevice::default())));
}

#[test]
fn experts_are_one_task_a_layer_with_packed_matrices_and_count_by_what_rows_pick() {
    let engine = engine(cpu());
    let family = engine.family();
    for plan in &family.plans {
        let experts = plan.tasks.iter().filter(|t| t.kind.name() == KindName::Experts).count();
        assert_eq!(experts, 2, "{}", plan.bucket);
        assert!(plan.tasks.iter().all(|t| t.kind.name() != KindName::GateUp), "{}", plan.bucket);
    }
    let matrices: Vec<_> = family.weights.iter().filter(|w| w.ty.shape.rank() == 3).collect();
    assert!(matrices.len() == 6 && matrices.iter().all(|w| w.layout == Layout::Packed), "{matrices:?}");
    let bytes: u64 = matrices.iter().filter_map(|w| w.ty.bytes(&Default::default())).sum();
    let traffic = Traffic::of(family, &family.plans[0]);
    let read = |rows| traffic.weights_of(rows) - traffic.weights;
    // One row uses half the experts; a second row is expected to add half of the rest; many rows read all.
    assert_eq!((read(1), read(2)), (bytes / 2, bytes * 3 / 4));
    assert!(read(64) <= bytes && read(64) > bytes - 8, "{} of {bytes}", read(64));
}
