//! The engine: models that do not fit, invalid requests, steps out of bounds.

use crate::Table;
use crate::graph::graph;
use crate::model::{altered, set};
use aio::cpu::{CpuDevice, CpuOptions, IsaLevel};
use aio::engine::{
    Batch, DraftSpan, Engine, EngineError, EngineOptions, Flow, ModelDrafter, OutputBuffer, Request, Sampling,
    Sequence, Speculation, Step, StepRow, StepWants,
};
use aio::interp::InterpDevice;
use aio::ir::{DType, Graph};
use aio::model::Model;
use aio::model::gguf::{Gguf, MetaValue};
use aio_filetest::drafting::Chanting;
use aio_filetest::edit::File;
use aio_filetest::tiny::{self, Damage};
use std::sync::Arc;

fn device() -> Arc<CpuDevice> {
    Arc::new(CpuDevice::new(CpuOptions { threads: 1, isa: Some(IsaLevel::Portable), pin: false }).unwrap())
}

fn options(context: u32) -> EngineOptions {
    EngineOptions { context: Some(context), prefill_rows: 17, ..EngineOptions::default() }
}

fn load(gguf: Gguf, context: u32) -> Result<Engine, EngineError> {
    aio::load(Model::from_gguf(gguf).unwrap(), device(), &options(context))
}

fn load_graph(body: &str) -> EngineError {
    load_built(&graph(body))
}

fn load_built(graph: &Graph) -> EngineError {
    Engine::load(Model::from_gguf(altered(|_| ())).unwrap(), graph, device(), &options(64)).unwrap_err()
}

fn loading(table: &mut Table) {
    let large = load(set("general.architecture", "llama"), u32::MAX).err().unwrap();
    let EngineError::Memory { available, .. } = large else { panic!("{large:?}") };
    table.named("EngineError::Memory", &large.to_string().replace(&format!(" {available} "), " N "));
    let mut bad = |e: EngineError| table.add("EngineError", e);
    let renamed = |w: &mut aio::model::gguf::write::GgufWriter| {
        let values: Vec<_> =
            Gguf::from_bytes(w.to_bytes(&mut |s, out| out.write_all(&vec![0; s.bytes().unwrap() as usize])).unwrap())
                .unwrap()
                .metadata()
                .filter_map(|(key, value)| Some((format!("martian.{}", key.strip_prefix("llama.")?), value.to_meta())))
                .collect();
        w.set("general.architecture", "martian");
        for (key, value) in values {
            w.set(&key, value);
        }
    };
    bad(load(altered(renamed), 64).err().unwrap());
    bad(load_graph("%x = input \"x\" : f32[4]\n"));
    bad(load_graph("%x = input \"x\" : f32[outs, 4]\n%y = neg %x\noutput \"other\" = %y\n"));
    let alone = File::tiny("smollm2-135m", DType::Q8_0);
    let others: Vec<_> = alone.tensors.iter().map(|t| t.name.clone()).filter(|n| n != "token_embd.weight").collect();
    let alone = others.iter().fold(alone, |file, name| file.without(name)).model().unwrap();
    let other_type = graph(
        "%t = input \"tokens\" : u32[rows]\n%o = input \"out_rows\" : u32[outs]\n%i = gather %t, %o\n\
         %w = weight \"token_embd.weight\" : f32[512, 256]\n%y = embed %w, %i\noutput \"logits\" = %y\n",
    );
    bad(Engine::load(alone, &other_type, device(), &options(64)).unwrap_err());
}

fn requests(table: &mut Table, engine: &Engine) {
    let mut bad =
        |request: Request| table.add("EngineError", engine.generate(&request, &mut |_| Flow::Continue).unwrap_err());
    bad(Request::new(Vec::new(), Sampling::greedy()));
    bad(Request::new(vec![1; 64], Sampling::greedy()));
    let mut hot = Sampling::greedy();
    hot.params.temperature = -1.0;
    bad(Request::new(vec![1], hot));
    bad(Request::new(vec![512], Sampling::greedy()));
}

fn steps(table: &mut Table, engine: &Engine) {
    let row = |position| StepRow { token: 1, sequence: 0, position, wants: StepWants::Logits };
    let step = |sequence: &mut Sequence, rows: &[StepRow<'_>], drafts: &[DraftSpan]| {
        let step = Step { sequences: &mut [sequence], rows, drafts };
        engine.step(step, &mut OutputBuffer::new()).unwrap_err()
    };
    table.add("EngineError", step(&mut Sequence::new(), &[row(0)], &[]));
    let hidden = StepRow { wants: StepWants::Hidden, ..row(0) };
    let mut some = Sequence::new();
    engine.reserve(&mut some, 1).unwrap();
    table.add("EngineError", step(&mut some, &[hidden], &[]));
    drop(some);
    table.add("EngineError", engine.reserve(&mut Sequence::new(), 1 << 20).unwrap_err());
    let mut other = Sequence::new();
    engine.reserve(&mut other, 64).unwrap();
    let another = load(altered(|_| ()), 64).unwrap().fork(&other, 64).unwrap_err();
    table.add("EngineError", another);
    let rows: Vec<_> = (0..100).map(|p| row(p % 64)).collect();
    table.add("EngineError", step(&mut other, &rows, &[]));
    let span = DraftSpan { first: 0, drafts: 2, len: 1 };
    table.add("EngineError", step(&mut other, &rows[..2], &[span]));
    other.commit(1).unwrap();
    let _fork = engine.fork(&other, 1).unwrap();
    table.add("EngineError", step(&mut other, &rows[..1], &[]));
}

fn speculation(table: &mut Table, engine: &Engine) {
    let request = |drafts| Request {
        max_tokens: Some(4),
        speculation: Speculation::Fixed(drafts),
        ignore_eog: true,
        ..Request::new(vec![1, 2], Sampling::greedy())
    };
    let mut batch = Batch::new();
    let refused = (0..100).find_map(|_| batch.join(engine, request(0), Sequence::new(), None).err());
    table.add("EngineError", refused.unwrap().0);
    let whole = altered(|_| ());
    let (_, tokens) = whole.metadata().find(|(key, _)| *key == "tokenizer.ggml.tokens").unwrap();
    let MetaValue::Array(kind, mut tokens) = tokens.to_meta() else { panic!("tokens are a list") };
    tokens[300] = MetaValue::from("other");
    let other = load(set("tokenizer.ggml.tokens", MetaValue::Array(kind, tokens)), 64).unwrap();
    table.add("EngineError", ModelDrafter::new(Arc::new(other), engine, Sampling::greedy()).unwrap_err());
}

/// Operations that recurrent state does not allow.
fn recurrent(table: &mut Table) {
    let options = EngineOptions { snapshots: 0, ..options(64) };
    let engine = tiny::recurrent_engine("recurrent", InterpDevice::default(), &options);
    let sampling = Sampling::greedy();
    let row = |position| {
        let wants = StepWants::Token { sampling: &sampling, recent: &[], bias: None };
        StepRow { token: 1, sequence: 0, position, wants }
    };
    let step = |sequence: &mut Sequence, positions: std::ops::Range<usize>, drafts: &[DraftSpan]| {
        let rows: Vec<_> = positions.map(row).collect();
        let step = Step { sequences: &mut [sequence], rows: &rows, drafts };
        engine.step(step, &mut OutputBuffer::new()).map(|_| ())
    };
    let mut sequence = Sequence::new();
    step(&mut sequence, 0..2, &[]).unwrap();
    sequence.commit(2).unwrap();
    table.add("EngineError", sequence.commit(1).unwrap_err());
    table.add("EngineError", step(&mut sequence, 1..2, &[]).unwrap_err());
    let span = DraftSpan { first: 0, drafts: 17, len: 3 };
    table.add("EngineError", step(&mut sequence, 2..20, &[span]).unwrap_err());
    let mut others = [Sequence::new(), Sequence::new(), Sequence::new()];
    let full = others.iter_mut().find_map(|other| step(other, 0..1, &[]).err());
    table.add("EngineError", full.unwrap());
}

/// A graph whose layers have pages of different sizes.
fn uneven_pages(table: &mut Table) {
    let model = Model::from_gguf(altered(|_| ())).unwrap();
    let text = model.graph_text(&tiny::templates(), None).unwrap();
    let line = text.lines().find(|line| line.contains("state \"kv.1\"")).unwrap();
    let text = text.replace(line, &line.replacen(", 64,", ", 32,", 1));
    let graph = aio::ir::text::parse(&text).unwrap().graph;
    let refused = Engine::load(model, &graph, Arc::new(InterpDevice::default()), &options(64)).unwrap_err();
    table.add("EngineError", refused);
}

/// Logits that are NaN.
fn without_token(table: &mut Table) {
    const NAN: [u8; 4] = f32::NAN.to_le_bytes();
    let damage: [Damage<'_>; 1] = [("output_norm.weight", 0, &NAN)];
    let engine = tiny::damaged(device(), DType::Q8_0, &damage, &options(64));
    let request = Request::new(vec![1, 2], Sampling::greedy());
    table.add("EngineError", engine.generate(&request, &mut |_| Flow::Continue).unwrap_err());
}

/// A text receiver that generates another text during a burst.
fn reentered(table: &mut Table) {
    let cpu = CpuDevice::new(CpuOptions { threads: 1, isa: Some(IsaLevel::Portable), pin: false }).unwrap();
    let options = EngineOptions { burst: 4, sequences: 2, ..options(64) };
    let engine = tiny::engine("llama-1b", DType::Q8_0, Arc::new(Chanting(cpu)), &options);
    let request = Request { max_tokens: Some(4), ignore_eog: true, ..Request::new(vec![1, 2], Sampling::greedy()) };
    let inner = Request { max_tokens: Some(1), ..request.clone() };
    let mut error = None;
    let mut sink = |_: &str| {
        error = engine.generate(&inner, &mut |_| Flow::Continue).err();
        Flow::Continue
    };
    engine.generate(&request, &mut sink).unwrap();
    table.add("EngineError", error.unwrap());
}

/// A graph whose logits do not match the model's vocabulary.
fn narrow_logits(table: &mut Table) {
    let model = Model::from_gguf(altered(|_| ())).unwrap();
    let text = model.graph_text(&tiny::templates(), None).unwrap();
    let text = text.replace(
        "output \"logits\" = %logits",
        "%few = slice %logits {axis = 1, start = 0, len = 100}\noutput \"logits\" = %few",
    );
    let graph = aio::ir::text::parse(&text).unwrap().graph;
    table.add("EngineError", Engine::load(model, &graph, device(), &options(64)).unwrap_err());
}

pub(crate) fn cause(table: &mut Table) {
    loading(table);
    let engine = load(altered(|_| ()), 64).unwrap();
    requests(table, &engine);
    steps(table, &engine);
    recurrent(table);
    uneven_pages(table);
    without_token(table);
    reentered(table);
    narrow_logits(table);
    speculation(table, &load(altered(|_| ()), 64).unwrap());
}
