//! The header says what the library does: the same structs, functions, statuses and version, in C11 and in C++17, and the library
//! exports one symbol.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod common;

use aio_capi::layout::{Layout, TABLE_SIZE, layouts};
use aio_capi::{api, status::Status};
use common::{LANGUAGES, compiler, header, run};
use object::Object;
use std::fmt::Write;

/// A program that does not compile unless the header agrees with the library.
fn program() -> String {
    let mut text = String::from("#include <aio.h>\n#include <stddef.h>\n");
    text += "#ifdef __cplusplus\n#define SAME(a, b) static_assert((a) == (b), #a)\n#else\n#define SAME(a, b) _Static_assert((a) == (b), #a)\n#endif\n";
    writeln!(text, "SAME(AIO_VERSION, {}u);", api::MAJOR << 16 | api::MINOR).unwrap();
    for status in Status::ALL {
        writeln!(text, "SAME((int)AIO_{}, {});", status.name().to_str().unwrap(), status as i32).unwrap();
    }
    for Layout { name, size, fields } in layouts() {
        writeln!(text, "SAME(sizeof({name}), {size}u);").unwrap();
        for (field, offset) in fields {
            writeln!(text, "SAME(offsetof({name}, {field}), {offset}u);").unwrap();
        }
    }
    writeln!(text, "SAME(sizeof(aio_api), {TABLE_SIZE}u);").unwrap();
    text += "int main(void) {\n  const aio_api *api = aio_get_api(AIO_VERSION);\n";
    for (name, offset, signature) in api::signatures() {
        writeln!(text, "  SAME(offsetof(aio_api, {name}), {offset}u);").unwrap();
        let variable = signature.replace("(*)", &format!("(*{name})"));
        writeln!(text, "  {variable} = api->{name};\n  if (!{name}) return 1;").unwrap();
    }
    text + "  return 0;\n}\n"
}

#[test]
fn the_header_agrees_with_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("program.c");
    std::fs::write(&source, program()).unwrap();
    for language in LANGUAGES {
        let Some(mut command) = compiler("the_header_agrees_with_the_library", language) else { return };
        run(command.arg("-fsyntax-only").arg("-I").arg(header()).arg(&source));
    }
}

#[test]
fn a_header_that_differs_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("program.c"), program()).unwrap();
    let text = std::fs::read_to_string(header().join("aio.h")).unwrap();
    let changes = [
        ("  uint32_t context;      /*", "  uint64_t context;      /*"),
        ("(*batch_step)(aio_batch, uint64_t *,", "(*batch_step)(aio_batch, uint32_t *,"),
        ("AIO_BUSY = 3", "AIO_BUSY = 30"),
        ("AIO_VERSION_MINOR 1u", "AIO_VERSION_MINOR 2u"),
    ];
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        std::fs::write(folder.path().join("aio.h"), text.replacen(from, to, 1)).unwrap();
        let Some(mut command) = compiler("a_header_that_differs_is_found_out", LANGUAGES[0]) else { return };
        let done =
            command.arg("-fsyntax-only").arg("-I").arg(folder.path()).arg(folder.path().join("program.c")).output();
        assert!(!done.unwrap().status.success(), "{to}");
    }
}

#[test]
fn every_function_of_the_table_has_a_wrapper_with_a_description() {
    let text = std::fs::read_to_string(header().join("aio.h")).unwrap();
    for (name, ..) in api::signatures() {
        let at = text.find(&format!("static inline aio_status aio_{name}(")).unwrap_or_else(|| panic!("aio_{name}"));
        assert!(text[..at].trim_end().ends_with("*/"), "aio_{name} is not described");
        assert!(text[at..].contains(&format!("AIO_CALL_({name},")), "aio_{name} calls it");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_library_exports_one_symbol_and_has_its_name() {
    let bytes = std::fs::read(common::built().join("libaio_capi.so")).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let exports = file.exports().unwrap();
    let names: Vec<&str> = exports.iter().map(|e| std::str::from_utf8(e.name()).unwrap()).collect();
    assert_eq!(names, ["aio_get_api"]);
    let soname = format!("libaio.so.{}\0", api::MAJOR);
    assert!(bytes.windows(soname.len()).any(|w| w == soname.as_bytes()), "{soname}");
}

/// The structs of version 0.1 on 64-bit machines. Later ones are larger, and the library still takes these sizes.
#[test]
#[cfg(target_pointer_width = "64")]
fn structs_never_shrink() {
    const FIRST: [(&str, usize); 13] = [
        ("aio_device_params", 32),
        ("aio_engine_params", 48),
        ("aio_engine_info", 64),
        ("aio_plan_info", 104),
        ("aio_step_size", 24),
        ("aio_cost", 32),
        ("aio_counters", 56),
        ("aio_sampling", 48),
        ("aio_step_params", 40),
        ("aio_outputs", 56),
        ("aio_verify_params", 48),
        ("aio_request_params", 96),
        ("aio_usage", 64),
    ];
    for (name, size) in FIRST {
        let now = layouts().into_iter().find(|l| l.name == name).unwrap();
        assert!(now.size >= size, "{name}: {} bytes, once {size}", now.size);
    }
}

#[test]
fn other_versions_get_the_table_only_if_it_has_all_of_theirs() {
    let get = |major: u32, minor: u32| !api::aio_get_api(major << 16 | minor).is_null();
    assert!((0..=api::MINOR).all(|minor| get(api::MAJOR, minor)));
    assert!(!get(api::MAJOR, api::MINOR + 1));
    assert!(!get(api::MAJOR + 1, 0));
    assert!(!get(0xffff, 0xffff));
}
