//! Tests (`x is sequence`) of jinja2 where minijinja's differ. Called by the environment of chat templates.

use minijinja::value::ValueKind;
use minijinja::{Environment, Value};

/// Tests that jinja2 does not have.
const FOREIGN: [&str; 3] = ["startingwith", "endingwith", "safe"];

/// Adds the tests, and takes away those that jinja2 does not have.
pub(super) fn add(env: &mut Environment<'static>) {
    for name in FOREIGN {
        env.remove_test(name);
    }
    // In Python a text is a sequence of texts, and so is a map; an undefined value has no elements.
    env.add_test("sequence", |value: &Value| is_container(value) && value.kind() != ValueKind::Iterable);
    env.add_test("iterable", is_container);
    env.add_test("mapping", |value: &Value| value.kind() == ValueKind::Map && !is_namespace(value));
    env.add_test("callable", is_callable);
    env.add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    env.add_test("integer", |value: &Value| value.is_integer());
    env.add_test("float", |value: &Value| value.kind() == ValueKind::Number && !value.is_integer());
}

/// Functions and macros; in jinja2 also what is undefined, whose call fails.
fn is_callable(value: &Value) -> bool {
    let is_macro = value.as_object().is_some_and(|o| o.type_name().ends_with("::Macro"));
    is_macro || matches!(value.kind(), ValueKind::Plain | ValueKind::Undefined)
}

fn is_container(value: &Value) -> bool {
    let is_plain = matches!(value.kind(), ValueKind::Undefined | ValueKind::String);
    is_plain || (matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) && !is_namespace(value))
}

/// Whether it is what `namespace()` gives.
pub(super) fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|o| o.type_name().ends_with("::Namespace"))
}
