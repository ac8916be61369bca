//! Templates written to exhaust their reader: chat and graph templates end with an error or with a text of bounded
//! size, and never end the process.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use aio_model::Model;
use aio_model::chat::{ChatTemplate, Clock, Message};
use aio_model::facts::Facts;
use aio_model::synth::{Preset, Synth};
use aio_model::template::{TemplateError, Templates};

const MOST: usize = 16 << 20;

fn chat(text: &str) -> Result<String, String> {
    let template = ChatTemplate::new(text, Clock { unix_s: 0 }).map_err(|e| e.to_string())?;
    template.render(&[Message::new("user", "hi")], true, "<s>", "</s>").map_err(|e| e.to_string())
}

fn facts() -> Facts {
    let preset = Preset::find("smollm2-135m").unwrap().tiny();
    let bytes = Synth::new(&preset, aio_ir::DType::Q4_0, 1).unwrap().to_bytes().unwrap();
    let model = Model::from_gguf(aio_model::gguf::Gguf::from_bytes(bytes).unwrap()).unwrap();
    Facts::new(&model.gguf, &model.hyper).unwrap()
}

fn graph(text: &str) -> Result<String, TemplateError> {
    Templates::new([("t", text)]).render("t", &facts())
}

/// Checks that both kinds of template give this error.
fn refused(text: &str, message: &str) {
    let start: String = text.chars().take(80).collect();
    let ours = chat(text).unwrap_err();
    assert!(ours.contains(message), "{start}: {ours}");
    let theirs = graph(text).unwrap_err().to_string();
    assert!(theirs.contains(message), "{start}: {theirs}");
}

#[test]
fn nesting_is_refused_before_it_is_parsed() {
    let deep = "nests too deeply";
    for n in [2_000, 20_000] {
        refused(&format!("{{{{ {}1 }}}}", "not ".repeat(n)), deep);
        refused(&format!("{{{{ {}1 }}}}", "-".repeat(n)), deep);
        refused(&format!("{{{{ 1{} }}}}", "+1".repeat(n)), deep);
        refused(&format!("{{{{ 1{} }}}}", "~1".repeat(n)), deep);
        refused(&format!("{{{{ 1{} }}}}", "|abs".repeat(n)), deep);
        refused(&format!("{{{{ x{} }}}}", ".x".repeat(n)), deep);
        refused(&format!("{{{{ x{} }}}}", "[0]".repeat(n)), deep);
        refused(&format!("{{{{ x{} }}}}", "()".repeat(n)), deep);
        refused(&format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(n)), deep);
        refused(&format!("{{{{ 1{} }}}}", " is defined".repeat(n)), deep);
        refused(&format!("{{{{ {}1{} }}}}", "(".repeat(n), ")".repeat(n)), deep);
        refused(&format!("{{{{ {}1{} }}}}", "[".repeat(n), "]".repeat(n)), deep);
        refused(&format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(n)), deep);
        refused(&format!("{}{}", "{% if 1 %}".repeat(n), "{% endif %}".repeat(n)), deep);
        refused(&format!("{}{}", "{% for x in 'a' %}".repeat(n), "{% endfor %}".repeat(n)), "recursion limits");
    }
}

/// The deepest template allowed fits the stack in parser, code generator, engine and destructors.
#[test]
fn the_deepest_that_is_allowed_runs() {
    let n = 990;
    for (text, result) in [
        (format!("{{{{ {}1 }}}}", "not ".repeat(n)), "True"),
        (format!("{{{{ 1{} }}}}", "-1".repeat(n)), "-989"),
        (format!("{{{{ 1{} }}}}", "%2".repeat(60)), "1"),
        (format!("{{{{ 1{} }}}}", "+1".repeat(n)), "991"),
        (format!("{{{{ 'a'{} }}}}", "|trim".repeat(n)), "a"),
        (format!("{{% if 0 %}}{}x{{% endif %}}", "{% elif 1 == 1 %}".repeat(n)), ""),
        (format!("{{{{ {}1{} }}}}", "(".repeat(60), ")".repeat(60)), "1"),
    ] {
        assert_eq!(chat(&text).unwrap(), result, "{}", &text[..40]);
    }
    refused("{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(1000000) }}", "recursion limit");
    refused("{% macro f(x) %}{{ f([x, x]) }}{% endmacro %}{{ f(1) }}", "");
}

#[test]
fn values_and_output_are_bounded() {
    let large = "16 MiB";
    refused("{% set ns = namespace(x='x') %}{% for i in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", large);
    refused("{% set ns = namespace(x='x') %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", large);
    refused("{{ '%999999999d' % 1 }}", large);
    refused("{{ '%.999999999f' % 1.5 }}", large);
    refused("{{ '%*d' % (999999999, 1) }}", large);
    refused("{{ '%999999999d'|format(1) }}", large);
    refused("{% set x = [1] * 2000000 %}", "elements");
    refused(
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "elements",
    );
    refused(
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}",
        "elements",
    );
    refused(
        "{% set ns = namespace(x=[1]) %}{% for i in range(300) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "100 levels",
    );
    refused(
        "{% set ns = namespace(x=1) %}{% for i in range(300) %}{% set ns.x = {'x': ns.x} %}{% endfor %}",
        "100 levels",
    );
    refused("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", "a namespace cannot be stored");
    refused("{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}", "a namespace cannot be stored");
    let x = "{% set x = 'x' * 9000000 %}";
    refused(&format!("{x}{{{{ x }}}}{{{{ x }}}}"), "more than 16777216 bytes");
    refused(&format!("{x}{{{{ x ~ x }}}}"), large);
    for (expression, message) in [
        ("'x' * 99999999999", ""),
        ("x|replace('x', x)", ""),
        ("[x, x, x]|join(x)", ""),
        ("('x\ny')|indent(99999999)", ""),
        ("range(999999999)|list", ""),
        ("(x, x) * 999999999", ""),
        ("x|batch(999999999, 'y')|list", ""),
        ("[x]|zip([x])|list ~ x", ""),
    ] {
        refused(&format!("{x}{{{{ {expression} }}}}"), message);
    }
}

#[test]
fn methods_and_filters_of_chats_are_bounded() {
    for expression in [
        "'x'.center(999999999)",
        "'x'.ljust(999999999)",
        "'x'.rjust(999999999, 'yy')",
        "'x'.zfill(999999999)",
        "('x' * 9000).replace('x', 'y' * 9000)",
        "('x' * 9000).join(['y'] * 9000)",
        "'{:999999999}'.format(1)",
        "'{:.999999999f}'.format(1.5)",
        "('{0}' * 9000).format('y' * 9000)",
        "'x'|center(999999999)",
        "'x\ny'|indent(999999999)",
        "([1] * 900)|tojson(indent=999999999)",
        "([1] * 9000)|tojson(indent='x' * 9000)",
        "([1] * 9000)|tojson(separators=('y' * 9000, ''))",
        "([1] * 9000)|join('y' * 9000)",
        "strftime_now('%c' * 9000000)",
        "messages|pprint",
        "debug()",
    ] {
        let error = chat(&format!("{{{{ {expression} }}}}")).unwrap_err();
        assert!(!error.contains("thread"), "{expression}: {error}");
    }
}

#[test]
fn loops_run_out_of_fuel() {
    refused("{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}", "out of fuel");
    refused("{% for a in [1] * 9999999 %}{% endfor %}", "out of fuel");
    refused("{% set x = [1] * 99999 %}{% for a in range(9999) %}{% set y = x %}{% endfor %}", "out of fuel");
}

#[test]
fn what_ordinary_templates_do_fits() {
    let long = Message::new("user", &"word ".repeat(1 << 20));
    let template = ChatTemplate::new(
        "{% for m in messages %}{{ m.role + ': ' + m.content.strip() }}{% endfor %}",
        Clock { unix_s: 0 },
    );
    let text = template.unwrap().render(&[long], true, "", "").unwrap();
    assert!(text.len() > 5 << 20 && text.len() < MOST);
    let many: Vec<_> =
        (0..5_000).map(|i| Message::new(if i % 2 == 0 { "user" } else { "assistant" }, "hello")).collect();
    let source = "{% set rest = messages[1:] %}{% set ns = namespace(n=0) %}{% for m in rest %}{% set ns.n = ns.n + 1 %}\
                  {{ '<|' ~ m.role ~ '|>' ~ m['content'] | trim ~ ns.n }}{% endfor %}";
    assert!(
        ChatTemplate::new(source, Clock { unix_s: 0 }).unwrap().render(&many, true, "", "").unwrap().ends_with("4999")
    );
}

/// The corpus of the fuzz targets `chat` and `template`.
#[test]
fn the_corpus_of_templates_ends_with_a_text_or_an_error() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/template-corpus");
    let mut replayed = 0;
    for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let texts = [chat(&text).unwrap_or_default(), graph(&text).unwrap_or_default()];
        assert!(texts.iter().all(|t| t.len() <= MOST), "{}", path.display());
        replayed += 1;
    }
    assert!(replayed >= 10);
}
