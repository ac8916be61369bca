//! No program or library of ours but the simulator's C library defines a symbol of AscendCL.
//!
//! Such a symbol would stand before the real library's: a program that has `aclInit` itself calls its own, whatever
//! library it opens. So the simulator is a table of functions in `aio`, and its C names are in its C library alone.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use std::path::{Path, PathBuf};

use object::read::archive::ArchiveFile;
use object::{Object, ObjectSymbol};

/// Symbols of AscendCL that an object file, a library or a program defines.
fn defined(bytes: &[u8]) -> Vec<String> {
    // The parser wants object files aligned, which those in an archive are not.
    let aligned = bytes.to_vec();
    let file = object::File::parse(&*aligned).unwrap();
    let symbols = file.symbols().chain(file.dynamic_symbols());
    let ours = symbols.filter(ObjectSymbol::is_definition).filter_map(|s| s.name().ok());
    // On some systems names have an underscore before them.
    ours.filter(|n| n.trim_start_matches('_').starts_with("acl")).map(str::to_owned).collect()
}

/// The same of a file that may be an archive of object files.
fn defined_in(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap();
    let Ok(archive) = ArchiveFile::parse(&*bytes) else { return defined(&bytes) };
    let members = archive.members().map(|m| m.unwrap()).filter(|m| m.name().ends_with(b".o"));
    members.flat_map(|m| defined(m.data(&*bytes).unwrap())).collect()
}

/// The libraries of this workspace that cargo built, beside the test itself.
fn libraries() -> Vec<PathBuf> {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("libaio") && (name.ends_with(".rlib") || name.ends_with(std::env::consts::DLL_SUFFIX))
    };
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(ours).collect()
}

#[test]
fn only_the_simulators_c_library_defines_symbols_of_ascendcl() {
    let mut files = libraries();
    assert!(files.len() > 10, "the workspace's libraries are among the built files: {files:?}");
    files.extend(option_env!("CARGO_BIN_EXE_aio").map(PathBuf::from));
    // What the search finds where there is something to find: this test itself, which has a symbol of that kind.
    assert_eq!(std::hint::black_box(aclOfThisTest), 0, "used, so that it stays");
    let itself = defined_in(&std::env::current_exe().unwrap());
    assert!(
        itself.iter().any(|n| n.trim_start_matches('_') == "aclOfThisTest"),
        "the search finds nothing: {itself:?}"
    );
    let found: Vec<_> = files.iter().map(|f| (f, defined_in(f))).filter(|(_, symbols)| !symbols.is_empty()).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// A symbol for the search to find.
// SAFETY: nothing else has the name.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "a C name")]
pub static aclOfThisTest: u8 = 0;
