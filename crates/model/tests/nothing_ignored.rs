//! Nothing in a model file is ignored: keys and tensors are honoured or rejected by name, and templates reach all of
//! them.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use aio_filetest::edit::{File, FileTensor};
use aio_filetest::{baseline, tiny, workspace};
use aio_ir::DType;
use aio_model::facts::Facts;
use aio_model::gguf::{Gguf, GgufError, MetaValue, ValueType};
use aio_model::hyper::HyperError;
use aio_model::keys::{Inert, READ, TABLE};
use aio_model::synth::{OPTIONAL, Preset, Synth};
use aio_model::template::{TemplateError, Templates};
use aio_model::{INERT_TENSORS, Model, ModelError};
use std::collections::BTreeMap;

fn llama() -> File {
    File::tiny("llama-1b", DType::F16)
}

/// The text of the step graph.
fn text(file: &File) -> Result<String, ModelError> {
    file.model()?.graph_text(&tiny::templates(), None)
}

fn checked(file: &File) -> Result<(), ModelError> {
    file.model()?.graph(&tiny::templates(), None).map(drop)
}

/// The error message for a file with an additional key.
fn with_key(key: &str, value: impl Into<MetaValue>) -> String {
    checked(&llama().set(key, value)).unwrap_err().to_string()
}

/// Renders a template text on a model.
fn render(text: &str, file: &File) -> Result<String, ModelError> {
    file.model()?.graph_text(&Templates::new([("t", text)]), Some("t"))
}

#[test]
fn a_tensor_that_the_graph_does_not_read_is_an_error_that_names_it() {
    for name in [
        "blk.0.post_attention_norm.weight",
        "blk.1.attn_norm.bias",
        "blk.0.attn_sinks.weight",
        "rope_factors_long.weight",
        "blk.2.attn_norm.weight",
        "blk.0.ffn_norm.scale",
        "output_norm.bias",
        "cls.output.weight",
        "blk.0.attn_q_norm.weight",
        "\u{1b}[31m",
    ] {
        let error = checked(&llama().vector(name, &[1.0; 256])).unwrap_err();
        assert!(matches!(&error, ModelError::UnreadTensor { name: n, others: 0 } if n == name), "{name}: {error}");
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    }
    // Llama reads the first, Qwen3 the second; Qwen2 reads neither.
    for (preset, name, values) in [("qwen2-0.5b", "rope_freqs.weight", 32), ("qwen2-0.5b", "blk.0.ffn_up.scale", 1)] {
        let file = File::tiny(preset, DType::F16).vector(name, &vec![1.0; values]);
        assert!(matches!(checked(&file), Err(ModelError::UnreadTensor { name: n, .. }) if n == name), "{name}");
    }
    let many = llama().vector("a", &[1.0]).vector("b", &[1.0]).vector("c", &[1.0]);
    assert_eq!(checked(&many).unwrap_err().to_string(), "the graph does not read tensor \"a\", nor 2 more");
}

#[test]
fn a_tensor_that_only_a_dead_node_reads_is_not_read() {
    let file = llama().vector("extra.weight", &[1.0]);
    let text = text(&file).unwrap();
    let dead =
        text.replace("output \"logits\"", "%e = weight \"extra.weight\" : f32[1]\n%dead = neg %e\noutput \"logits\"");
    let graph = aio_ir::text::parse(&dead).unwrap().graph;
    let error = file.model().unwrap().check_tensors(&graph).unwrap_err();
    assert!(matches!(error, ModelError::UnreadTensor { name, .. } if name == "extra.weight"));
}

#[test]
fn tensors_known_to_be_harmless_may_be_there() {
    for (end, why) in INERT_TENSORS {
        assert!(why.len() > 20, "{end} has a reason");
        checked(&llama().vector(&format!("blk.0.attn_q{end}"), &[1.0])).unwrap();
    }
}

#[test]
fn every_optional_tensor_is_read_in_the_layers_that_have_it() {
    for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
        for (end, file) in ["bias", "scale"].map(|end| (end, llama())) {
            let rows = file.get(&format!("blk.1.{name}.weight")).dims[1] as usize;
            let tensor = format!("blk.1.{name}.{end}");
            let file = file.vector(&tensor, &vec![0.5; if end == "bias" { rows } else { 1 }]);
            let text = text(&file).unwrap();
            assert!(text.contains(&tensor) && !text.contains(&tensor.replace("blk.1", "blk.0")), "{tensor}");
            checked(&file).unwrap();
        }
    }
    for (name, len) in [("output.bias", 512), ("output.scale", 1)] {
        checked(&llama().vector(name, &vec![0.5; len])).unwrap();
    }
}

#[test]
fn query_key_and_value_may_be_one_matrix() {
    let mut file = llama();
    let parts: Vec<FileTensor> =
        ["q", "k", "v"].iter().map(|p| file.get(&format!("blk.0.attn_{p}.weight")).clone()).collect();
    for t in &parts {
        file = file.without(&t.name);
    }
    let dims = vec![parts[0].dims[0], parts.iter().map(|t| t.dims[1]).sum()];
    let bytes = parts.into_iter().flat_map(|t| t.bytes).collect();
    let file = file.tensor(FileTensor { name: "blk.0.attn_qkv.weight".to_owned(), dtype: DType::F16, dims, bytes });
    checked(&file.clone().vector("blk.0.attn_qkv.bias", &[0.0; 512])).unwrap();
    checked(&file.clone().vector("blk.0.attn_k.bias", &[0.0; 128])).unwrap();
    aio_ir::verify(&file.model().unwrap().graph(&tiny::templates(), None).unwrap()).unwrap();
}

#[test]
fn a_key_that_nothing_reads_is_an_error_that_names_it() {
    for key in ["llama.attention.scale", "llama.something.new", "llama.", "llama.rope.dimension_sections"] {
        let message = with_key(key, 0.5f32);
        assert_eq!(
            message,
            format!("nothing reads the key {key:?} (0.5), so the model would not be what the file says")
        );
    }
    // Keys with other prefixes do not belong to the architecture.
    checked(&llama().set("llamas.something", 1u32).set("general.something", 1u32)).unwrap();
}

#[test]
fn a_feature_that_aio_lacks_is_refused_by_its_key_and_may_be_turned_off() {
    let refused = |key: &str, value: MetaValue| {
        let error = checked(&llama().set(key, value)).unwrap_err();
        assert!(matches!(&error, ModelError::Hyper(HyperError::Unsupported { key: k, .. }) if k == key), "{error}");
    };
    refused("llama.attention.causal", false.into());
    refused("llama.logit_scale", 0.5f32.into());
    refused("llama.expert_used_count", vec![2u32, 2].into());
    for key in TABLE {
        let Inert::Only(neutral) = key.inert else { continue };
        let name = format!("llama.{}", key.name);
        refused(&name, 7u32.into());
        refused(&name, 0.5f32.into());
        refused(&name, "yes".into());
        checked(&llama().set(&name, neutral as u32)).unwrap();
        checked(&llama().set(&name, neutral as f32)).unwrap();
        checked(&llama().set(&name, neutral == 1)).unwrap();
    }
}

#[test]
fn inert_keys_are_inert_for_their_architectures_alone() {
    let parallel = |preset: &str, key: &str| checked(&File::tiny(preset, DType::F16).set(key, true));
    parallel("qwen2-0.5b", "qwen2.use_parallel_residual").unwrap();
    let error = parallel("llama-1b", "llama.use_parallel_residual").unwrap_err();
    assert!(matches!(error, ModelError::Hyper(HyperError::Unread { .. })), "{error}");
}

/// The list of all keys: those that each template asks for, those that aio's own code reads, and the inert ones with
/// reasons.
#[test]
fn all_keys_are_listed_with_the_architectures_that_read_them() {
    let mut readers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut note = |key: &str, who: &str| readers.entry(key.to_owned()).or_default().push(who.to_owned());
    for (architecture, preset) in tiny::architectures() {
        let model = File::tiny(&preset, DType::F16).model().unwrap();
        let facts = Facts::new(&model.gguf, &model.hyper).unwrap();
        tiny::templates().render(&format!("{architecture}.graph.jinja"), &facts).unwrap();
        for key in facts.asked() {
            note(key.strip_prefix(&format!("{architecture}.")).unwrap_or(&key), &architecture);
        }
    }
    READ.iter().for_each(|key| note(key, "the engine"));
    let mut rows: BTreeMap<String, String> =
        readers.into_iter().map(|(key, who)| (key, format!("read by {}", who.join(" ")))).collect();
    for key in TABLE {
        let whose = if key.architectures.is_empty() { "all".to_owned() } else { key.architectures.join(" ") };
        let row = match key.inert {
            Inert::Any => format!("inert for {whose}: {}", key.why),
            Inert::Only(value) => format!("refused unless {value}: {}", key.why),
        };
        assert!(rows.insert(key.name.to_owned(), row).is_none(), "{} is read and inert", key.name);
    }
    baseline::compare(&workspace("tests/baselines/keys.csv"), "key,what becomes of it", &rows);
}

#[test]
fn templates_reach_every_key_and_tensor() {
    let file = llama().set("llama.new.list", vec![3u32, 4]).set("llama.new.text", "é").set("general.other", 2.5f32);
    let asked = "{{ meta('new.list') | join('-') }} {{ meta('new.text') }} {{ meta('general.other') }} {{ meta('new.absent', 7) }} \
                 {{ has('output_norm.weight') }} {{ has('nothing') }} {{ dtype('output_norm.weight') }} {{ architecture }}";
    let others: Vec<String> =
        file.keys.iter().filter_map(|(k, _)| k.strip_prefix("llama.").map(str::to_owned)).collect();
    let reads: String = others.iter().map(|k| format!("{{% if meta('{k}') %}}{{% endif %}}")).collect();
    assert_eq!(render(&format!("{asked}{reads}"), &file).unwrap(), "3-4 é 2.5 7 True False f32 llama");
    // A key that the template did not ask for is still an error.
    let error = render("{{ meta('new.list')[0] }}", &file).unwrap_err();
    assert!(matches!(error, ModelError::Hyper(HyperError::Unread { .. })), "{error}");
}

#[test]
fn a_long_list_asked_for_again_and_again_runs_out_of_fuel() {
    let file = llama().set("llama.long", vec![7u32; 200_000]);
    let text = "{% for i in range(9000) %}{% set x = meta('long') %}{% endfor %}";
    let message = render(text, &file).unwrap_err().to_string();
    assert!(message.contains("fuel"), "{message}");
}

#[test]
fn an_architecture_with_new_keys_and_tensors_is_a_text_file() {
    let mut file = llama().set("general.architecture", "martian").without_key("llama.attention.layer_norm_rms_epsilon");
    file.keys.iter_mut().for_each(|(key, _)| *key = key.replace("llama.", "martian."));
    let file = file.without_key("martian.feed_forward_length").set("martian.gravity", 0.375f32);
    let names: Vec<String> = file.tensors.iter().map(|t| t.name.clone()).filter(|n| n.starts_with("blk.")).collect();
    let file = names.iter().fold(file, |f, n| f.without(n)).without("rope_freqs.weight");
    let file = file.vector("weird.weight", &[1.0; 512]);
    let template = "aio 1\ngraph \"martian\"\n%tokens = input \"tokens\" : u32[rows]\n%o = input \"out_rows\" : u32[outs]\n\
        %e = weight \"token_embd.weight\" : {{ dtype('token_embd.weight') }}[{{ vocab_size }}, {{ count('embedding_length') }}]\n\
        %x = embed %e, %tokens\n%l = gather %x, %o\n%n = weight \"output_norm.weight\" : f32[{{ count('embedding_length') }}]\n\
        %h = rms_norm %l, %n {eps = {{ number('gravity') }}}\n%m = matmul %h, %e\n{% if has('weird.weight') %}\
        %w = weight \"weird.weight\" : f32[{{ vocab_size }}]\n%y = add %m, %w\n{% endif %}output \"logits\" = %y\n\
        {% for k in ['block_count', 'attention.head_count', 'attention.head_count_kv', 'attention.key_length', \
        'attention.value_length', 'rope.dimension_count', 'rope.freq_base'] %}{% set _ = meta(k) %}{% endfor %}";
    let graph = file.model().unwrap().graph(&Templates::new([("martian.graph.jinja", template)]), None).unwrap();
    aio_ir::verify(&graph).unwrap();
}

#[test]
fn numbers_that_no_model_can_have_are_errors_with_their_key() {
    let value = |file: File| match checked(&file) {
        Err(ModelError::Hyper(HyperError::Value { key, expected, .. })) => (key, expected),
        other => panic!("unexpected {other:?}"),
    };
    for key in ["block_count", "embedding_length", "attention.head_count", "feed_forward_length"] {
        let key = format!("llama.{key}");
        assert_eq!(value(llama().set(&key, 0u32)).0, key);
        assert_eq!(value(llama().set(&key, -1i32)).0, key);
    }
    for (key, number) in [
        ("block_count", 900u32),
        ("attention.head_count_kv", 3),
        ("attention.value_length", 32),
        ("rope.dimension_count", 3),
        ("rope.dimension_count", 128),
    ] {
        let key = format!("llama.{key}");
        assert_eq!(value(llama().set(&key, number)).0, key);
    }
    for (key, number) in [
        ("rope.freq_base", 0.0f32),
        ("rope.freq_base", f32::NAN),
        ("attention.layer_norm_rms_epsilon", f32::INFINITY),
        ("attention.layer_norm_rms_epsilon", -1e-5),
        ("rope.scaling.factor", -2.0),
        ("rope.scaling.yarn_ext_factor", 0.5),
    ] {
        let key = format!("llama.{key}");
        assert_eq!(value(llama().set(&key, number)).0, key);
    }
    assert_eq!(value(llama().set("llama.rope.scaling.type", "longrope")).1, "none, linear or yarn");
    let slow = llama().set("llama.rope.scaling.type", "yarn").set("llama.rope.scaling.factor", 0.5f32);
    assert_eq!(value(slow).1, "1 or more with YaRN");
    let partial = llama().set("llama.rope.dimension_count", 32u32).set("llama.rope.scaling.attn_factor", 2.0f32);
    assert_eq!(value(partial.without("rope_freqs.weight")).0, "llama.rope.scaling.attn_factor");
    let missing = checked(&llama().without_key("llama.block_count")).unwrap_err();
    assert!(
        matches!(&missing, ModelError::Hyper(HyperError::Gguf(GgufError::MissingKey { name })) if name == "llama.block_count")
    );
    let wrong = checked(&llama().set("llama.block_count", "two")).unwrap_err();
    assert!(matches!(wrong, ModelError::Hyper(HyperError::Gguf(GgufError::WrongType { got: ValueType::Str, .. }))));
}

#[test]
fn a_list_that_says_the_same_for_every_layer_is_that_number() {
    let plain = text(&llama()).unwrap();
    for (key, number) in [("attention.head_count", 4), ("attention.head_count_kv", 2), ("feed_forward_length", 512)] {
        let key = format!("llama.{key}");
        assert_eq!(text(&llama().set(&key, vec![number, number])).unwrap(), plain, "{key}");
        for list in [vec![number, 1], vec![number], vec![number; 3], Vec::new()] {
            let message = with_key(&key, list);
            assert!(message.starts_with(&key) && message.contains("layer"), "{message}");
        }
    }
}

#[test]
fn positions_are_stretched_as_the_keys_say() {
    let rope = |file: File| {
        let text = text(&file).unwrap();
        text.lines().find(|l| l.contains(" = rope ")).unwrap().split('{').nth(1).unwrap().to_owned()
    };
    let base = "pairs = adjacent, dims = 64, base = 500000.0";
    assert_eq!(rope(llama()), format!("{base}}}"));
    let factor = |f: f32| llama().set("llama.rope.scaling.factor", f);
    assert_eq!(rope(factor(2.0)), format!("{base}, scaling = linear, factor = 2.0}}"));
    assert_eq!(rope(factor(2.0).set("llama.rope.scaling.type", "none")), format!("{base}}}"));
    assert_eq!(rope(factor(0.0)), format!("{base}}}"));
    assert_eq!(
        rope(llama().set("llama.rope.scale_linear", 4.0f32)),
        format!("{base}, scaling = linear, factor = 4.0}}")
    );
    let yarn = factor(4.0).set("llama.rope.scaling.type", "yarn");
    let tail = "attn_factor = 1.0, beta_fast = 32.0, beta_slow = 1.0}";
    assert_eq!(rope(yarn.clone()), format!("{base}, scaling = yarn, factor = 4.0, original_context = 512, {tail}"));
    let trained = yarn.set("llama.rope.scaling.original_context_length", 16u32);
    assert!(rope(trained).contains("original_context = 16"));
    let magnified = text(&llama().set("llama.rope.scaling.attn_factor", 3.0f32)).unwrap();
    assert!(magnified.contains("{scale = 1.125}") && text(&llama()).unwrap().contains("{scale = 0.125}"));
}

#[test]
fn weights_of_types_that_aio_does_not_read_are_named_before_anything_is_rendered() {
    let file = llama();
    let mut bytes = file.bytes();
    let name = b"blk.1.ffn_down.weight";
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap() + name.len() + 4 + 16;
    assert_eq!(bytes[at..at + 4], 1u32.to_le_bytes());
    bytes[at..at + 4].copy_from_slice(&23u32.to_le_bytes());
    let model = Model::from_gguf(Gguf::from_bytes(bytes).unwrap()).unwrap();
    let broken = Templates::new([("t", "{{ no_such_name }}")]);
    let message = model.graph_text(&broken, Some("t")).unwrap_err().to_string();
    assert!(message.contains("\"blk.1.ffn_down.weight\" has type IQ4_XS"), "{message}");
}

#[test]
fn faults_of_templates_name_their_line() {
    let line = |text| match render(text, &llama()) {
        Err(ModelError::Template(TemplateError::Render { line, .. })) => line,
        other => panic!("unexpected {other:?}"),
    };
    assert_eq!(line("\n{{ no_such_name }}"), 2);
    assert_eq!(line("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"), 1);
    let error = |text| render(text, &llama()).unwrap_err().to_string();
    assert_eq!(error("{{ meta('absent') }}"), "metadata key \"llama.absent\" is missing");
    assert_eq!(error("{{ dtype('absent') }}"), "tensor \"absent\" is missing");
    assert_eq!(error("{{ meta('block_count', 'two') }}"), "llama.block_count is 2, but must be a string");
    assert_eq!(error("{{ bad('block_count', 'odd') }}"), "llama.block_count is 2, but must be odd");
}

#[test]
fn a_list_that_templates_cannot_read_is_an_error_and_not_the_default() {
    let asks =
        ["meta('tokenizer.ggml.tokens', 7)", "meta('tokenizer.ggml.tokens')", "count('tokenizer.ggml.merges', 7)"];
    for ask in asks {
        let message = render(&format!("{{{{ {ask} }}}}"), &llama()).unwrap_err().to_string();
        assert!(message.contains("cannot read tokenizer.ggml."), "{ask}: {message}");
    }
}

#[test]
fn a_model_of_a_thousand_layers_renders_within_the_fuel() {
    let mut preset = Preset::find("llama-1b").unwrap().tiny();
    (preset.block_count, preset.embedding_length, preset.feed_forward_length) = (1000, 32, 32);
    preset.optional = OPTIONAL.iter().filter(|name| !name.contains("_norm")).map(|&name| name.to_owned()).collect();
    let head = Synth::new(&preset, DType::F16, 1).unwrap().head().unwrap();
    let model = Model::from_gguf(Gguf::from_head(head).unwrap()).unwrap();
    let graph = model.graph(&tiny::templates(), None).unwrap();
    assert_eq!(graph.finals.len(), 1000);
}
