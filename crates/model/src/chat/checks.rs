//! The tests (`x is sequence`) of jinja2 that differ from minijinja's. Called by the environment of chat templates.

use minijinja::value::ValueKind;
use minijinja::{Environment, Value};

/// Tests of minijinja that jinja2 does not have.
const FOREIGN: [&str; 3] = ["startingwith", "endingwith", "safe"];

/// Adds the tests and removes those that jinja2 does not have.
pub(super) fn add(env: &mut Environment<'static>) {
    for name in FOREIGN {
        env.remove_test(name);
    }
    // In Python, texts and maps are sequences too; an undefined value has no elements.
    env.add_test("sequence", |value: &Value| is_container(value) && value.kind() != ValueKind::Iterable);
    env.add_test("iterable", is_container);
    env.add_test("mapping", |value: &Value| value.kind() == ValueKind::Map && !is_namespace(value));
    env.add_test("callable", is_callable);
    env.add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    env.add_test("integer", |value: &Value| value.is_integer());
    env.add_test("float", |value: &Value| value.kind() == ValueKind::Number && !value.is_integer());
}

/// Functions and macros. In jinja2 also undefined values, although calling one fails.
fn is_callable(value: &Value) -> bool {
    let is_macro = value.as_object().is_some_and(|o| o.type_name().ends_with("::Macro"));
    is_macro || matches!(value.kind(), ValueKind::Plain | ValueKind::Undefined)
}

fn is_container(value: &Value) -> bool {
    let is_plain = matches!(value.kind(), ValueKind::Undefined | ValueKind::String);
    is_plain || (matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) && !is_namespace(value))
}

/// Whether it is a result of `namespace()`.
pub(super) fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|o| o.type_name().ends_with("::Namespace"))
}
