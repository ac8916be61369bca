//! Chat formats by name, for files without a template.
//!
//! The templates are our own, written from the published descriptions of each format. Called by `aio run
//! --chat-template`.

/// Names and templates.
pub const FORMATS: &[(&str, &str)] = &[
    ("alpaca", include_str!("formats/alpaca.jinja")),
    ("chatml", include_str!("formats/chatml.jinja")),
    ("gemma", include_str!("formats/gemma.jinja")),
    ("llama2", include_str!("formats/llama2.jinja")),
    ("llama3", include_str!("formats/llama3.jinja")),
    ("mistral", include_str!("formats/mistral.jinja")),
    ("phi3", include_str!("formats/phi3.jinja")),
    ("vicuna", include_str!("formats/vicuna.jinja")),
    ("zephyr", include_str!("formats/zephyr.jinja")),
];

/// The template with this name.
pub fn format(name: &str) -> Option<&'static str> {
    FORMATS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
