//! Models with invalid metadata: hyper-parameters, tokenizers, templates, synthetic shapes.

use crate::Table;
use aio::ir::DType;
use aio::model::chat::{ChatTemplate, Clock};
use aio::model::facts::Facts;
use aio::model::gguf::write::GgufWriter;
use aio::model::gguf::{Gguf, MetaValue};
use aio::model::hyper::HyperParams;
use aio::model::synth::{Preset, Synth};
use aio::model::template::Templates;
use aio::model::tokenizer::Tokenizer;
use aio::model::{Model, ModelError};

/// Metadata of a valid model, altered by `change`.
pub(crate) fn altered(change: impl FnOnce(&mut GgufWriter)) -> Gguf {
    let preset = Preset::find("smollm2-135m").unwrap().tiny();
    let whole = Gguf::from_bytes(Synth::new(&preset, DType::Q8_0, 1).unwrap().to_bytes().unwrap()).unwrap();
    let mut w = GgufWriter::new();
    for (key, value) in whole.metadata() {
        w.set(key, value.to_meta());
    }
    for t in whole.tensors() {
        w.tensor(&t.name, t.dtype().unwrap(), &t.dims);
    }
    change(&mut w);
    let data = |name: &str| whole.tensor_data(name).unwrap_or(&[]).to_vec();
    Gguf::from_bytes(w.to_bytes(&mut |spec, out| out.write_all(&data(&spec.name))).unwrap()).unwrap()
}

pub(crate) fn set(key: &str, value: impl Into<MetaValue>) -> Gguf {
    altered(|w| {
        w.set(key, value);
    })
}

fn graph(gguf: Gguf) -> ModelError {
    Model::from_gguf(gguf).unwrap().graph(&aio::templates(), None).unwrap_err()
}

fn hyper(table: &mut Table) {
    let bad = |gguf: Gguf| HyperParams::from_gguf(&gguf).unwrap_err();
    table.add("HyperError", bad(set("general.architecture", "martian")));
    table.add("HyperError", bad(set("tokenizer.ggml.tokens", vec!["a".to_owned()])));
    let mut refused = |gguf: Gguf| match graph(gguf) {
        ModelError::Hyper(error) => table.add("HyperError", error),
        other => panic!("{other:?}"),
    };
    refused(set("llama.attention.head_count_kv", 3u32));
    refused(set("llama.expert_count", 8u32));
    refused(set("llama.unheard.of", 8u32));
}

fn tokenizer(table: &mut Table) {
    let mut bad = |key: &str, value: MetaValue| {
        table.add("TokenizerError", Tokenizer::from_gguf(&set(key, value)).unwrap_err());
    };
    bad("tokenizer.ggml.model", 1u32.into());
    bad("tokenizer.ggml.model", "bert".into());
    bad("tokenizer.ggml.pre", "future".into());
    bad("tokenizer.ggml.token_type", vec![1i32].into());
    bad("tokenizer.ggml.tokens", Vec::<String>::new().into());
    bad("tokenizer.ggml.merges", vec!["ĠĠ".to_owned()].into());
    bad("tokenizer.ggml.suppress_tokens", vec![7i32, 8].into());
    let twice = |w: &mut GgufWriter| {
        w.set("tokenizer.ggml.tokens", vec!["a".to_owned(); 512]);
    };
    table.add("TokenizerError", Tokenizer::from_gguf(&altered(twice)).unwrap_err());
    let spelled = Tokenizer::from_gguf(&set("tokenizer.ggml.tokens", vec!["a".to_owned()])).unwrap();
    table.add("TokenizerError", spelled.encode("é", false).unwrap_err());
    let whole = Tokenizer::from_gguf(&altered(|_| ())).unwrap();
    table.add("TokenizerError", whole.decode(&[512], false).unwrap_err());
}

fn templates(table: &mut Table) {
    let clock = Clock { unix_s: 0 };
    table.add("ChatError", ChatTemplate::new("{% for %}", clock).unwrap_err());
    table.add("ChatError", ChatTemplate::from_gguf(&set("tokenizer.chat_template", 1u32), clock).unwrap_err());
    let model = Model::from_gguf(altered(|_| ())).unwrap();
    let facts = Facts::new(&model.gguf, &model.hyper).unwrap();
    let render = |text: &str| Templates::new([("t", text)]).render("t", &facts).unwrap_err();
    table.add("TemplateError", render("\n{{ no_such_name }}"));
    let templates = Templates::new([("t", "{{ meta('tokenizer.ggml.tokens', 7) }}")]);
    match model.graph_text(&templates, Some("t")).unwrap_err() {
        ModelError::Hyper(error) => table.add("HyperError", error),
        other => panic!("{other:?}"),
    }
    let deep = format!("\n{{{{ {}true }}}}", "not ".repeat(20_000));
    table.add("TemplateError", render(&deep));
    table.add("TemplateError", render("{% set x = 'x' * 9000000 %}{{ x }}{{ x }}"));
}

fn models(table: &mut Table) {
    let mut bad = |gguf: Gguf| table.add("ModelError", Model::from_gguf(gguf).unwrap_err());
    bad(set("llama.context_length", 0u32));
    bad(set("tokenizer.ggml.pre", "future"));
    let model = Model::from_gguf(altered(|_| ())).unwrap();
    table.add("ModelError", model.graph_text(&Templates::default(), None).unwrap_err());
    let mut with = |text: &str| {
        table.add(
            "ModelError",
            model.graph_text(&Templates::new([("t", text)]), Some("t")).err().unwrap_or_else(|| {
                // The template reads every key, so the graph is the only fault.
                model.graph(&Templates::new([("t", text)]), Some("t")).unwrap_err()
            }),
        );
    };
    with("{{ no_such_name }}");
    let keys = model.gguf.metadata().filter_map(|(key, _)| key.strip_prefix("llama."));
    let asked: String = keys.map(|key| format!("{{% set _ = meta('{key}') %}}")).collect();
    with(&format!("{asked}no graph"));
    with(&format!("{asked}aio 1\ngraph \"g\"\n%x = input \"x\" : f32[4]\noutput \"y\" = %x\n"));
    let missing = ModelError::from(model.need_weight("absent").unwrap_err());
    table.add("ModelError", missing);
}

fn synth(table: &mut Table) {
    let preset = Preset::find("smollm2-135m").unwrap().tiny();
    let bad = |preset: &Preset, dtype| Synth::new(preset, dtype, 1).unwrap_err();
    table.add("SynthError", bad(&preset, DType::I32));
    table.add("SynthError", bad(&Preset { vocab_size: 100, ..preset.clone() }, DType::F32));
    let odd = vec!["attn_z.bias".to_owned()];
    table.add("SynthError", bad(&Preset { optional: odd, ..preset.clone() }, DType::F32));
    table.add("SynthError", bad(&Preset { block_count: 0, ..preset.clone() }, DType::F32));
    let folder = tempfile::tempdir().unwrap();
    let whole = Synth::new(&preset, DType::Q4_0, 1).unwrap();
    let path = folder.path().join("no/m.gguf");
    let go_on = &mut |_| std::ops::ControlFlow::Continue(());
    table.add_in(folder.path(), "SynthError", whole.write_to(&path, go_on).unwrap_err());
    let stop = &mut |_| std::ops::ControlFlow::Break(());
    table.add("SynthError", whole.write_to(&folder.path().join("m.gguf"), stop).unwrap_err());
}

pub(crate) fn cause(table: &mut Table) {
    hyper(table);
    tokenizer(table);
    templates(table);
    models(table);
    synth(table);
}
