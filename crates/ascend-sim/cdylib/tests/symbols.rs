//! The dynamic symbols of the C library are those of the list, whichever name the library has.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod library;

use std::collections::BTreeSet;
use std::ffi::c_void;

use object::{Object, ObjectSymbol};

const LIST: &str = include_str!("../../tests/data/symbols.txt");

fn listed() -> BTreeSet<&'static str> {
    LIST.lines().filter(|l| !l.starts_with('#')).collect()
}

#[test]
fn the_library_exports_the_listed_symbols_and_no_others() {
    let bytes = std::fs::read(library::built()).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let exports = file.exports().unwrap();
    let names: Vec<&str> = exports.iter().map(|e| std::str::from_utf8(e.name()).unwrap()).collect();
    // On some systems names have an underscore before them.
    let bare = |n: &&'static str| names.iter().any(|e| e == n || e.strip_prefix('_') == Some(n));
    let missing: Vec<_> = listed().into_iter().filter(|n| !bare(n)).collect();
    assert!(missing.is_empty(), "not exported: {missing:?}");
    let other: Vec<_> = names.iter().filter(|n| !listed().contains(n.trim_start_matches('_'))).collect();
    assert!(other.is_empty(), "exported and not listed: {other:?}");
}

#[test]
fn nothing_of_the_interface_is_left_to_other_libraries() {
    let bytes = std::fs::read(library::built()).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let wanted = file.dynamic_symbols().filter(|s| s.is_undefined()).filter_map(|s| s.name().ok());
    let ours: Vec<_> = wanted.filter(|n| n.trim_start_matches('_').starts_with("acl")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

/// One library under three names is one device: links to a file are loaded once.
#[test]
fn the_three_names_are_one_library() {
    let folder = tempfile::tempdir().unwrap();
    let mut addresses = BTreeSet::new();
    for path in library::links(folder.path()) {
        // SAFETY: the library runs nothing when it is loaded.
        let library = unsafe { libloading::Library::new(&path) }.unwrap();
        for name in ["aclInit", "aclCreateTensor", "aclnnMm"] {
            // SAFETY: only the address is taken.
            let symbol = unsafe { library.get::<*mut c_void>(name.as_bytes()) }.unwrap();
            addresses.insert((name, *symbol as usize));
        }
        // Kept open, so that an address cannot be given out twice.
        std::mem::forget(library);
    }
    assert_eq!(addresses.len(), 3, "{addresses:?}");
}
