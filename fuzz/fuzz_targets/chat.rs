//! Any text as a chat template: it renders within its bounds or is an error.
#![no_main]

use aio_model::chat::{ChatTemplate, Clock, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let Ok(template) = ChatTemplate::new(source, Clock { unix_s: 0 }) else { return };
    if let Ok(text) = template.render(&[Message::new("user", "hi")], true, "<s>", "</s>") {
        assert!(text.len() <= 16 << 20);
    }
});
