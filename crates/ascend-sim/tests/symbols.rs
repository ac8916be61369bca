//! The functions that the simulator offers in the same process are those of the list.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use std::collections::BTreeSet;

const LIST: &str = include_str!("data/symbols.txt");

fn names(text: &str) -> Vec<&str> {
    text.lines().filter(|l| !l.starts_with('#')).collect()
}

#[test]
fn the_table_of_functions_is_the_list_of_symbols() {
    let listed: BTreeSet<_> = names(LIST).into_iter().collect();
    assert_eq!(listed.len(), names(LIST).len(), "a name is listed once");
    let table = aio_ascend_sim::symbols::all();
    let offered: BTreeSet<_> = table.keys().copied().collect();
    assert_eq!(offered, listed);
    assert!(table.values().all(|&address| address != 0));
}

#[test]
fn the_first_part_of_the_list_is_what_ggml_cann_imports() {
    let first = LIST.split("\n# ").next().unwrap();
    let (operators, others): (Vec<_>, Vec<_>) = names(first).into_iter().partition(|n| n.starts_with("aclnn"));
    assert_eq!((operators.len(), others.len()), (183, 45));
    let both =
        |n: &&&str| n.ends_with("GetWorkspaceSize") || operators.contains(&format!("{n}GetWorkspaceSize").as_str());
    let single: Vec<_> = operators.iter().filter(|n| !both(n)).collect();
    assert_eq!(single, [&"aclnnCalculateMatmulWeightSizeV2"], "every other operator has its two phases");
}

/// Every operator that has a kernel is called by a test, which compares its numbers; the others refuse.
#[test]
fn every_operator_with_a_kernel_is_called_by_a_test_of_numbers() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let tests = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let numeric = tests.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("nn_") && path.is_file());
    let text: String = numeric.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let called: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let unsupported: BTreeSet<_> = aio_ascend_sim::nn::symbols::unsupported().into_iter().collect();
    let first = |name: &&str| name.starts_with("aclnn") && name.ends_with("GetWorkspaceSize");
    let mut untested = Vec::new();
    for name in names(LIST).into_iter().filter(first) {
        let operator = name.trim_end_matches("GetWorkspaceSize");
        if !unsupported.contains(operator) && !called.contains(operator) {
            untested.push(operator);
        }
    }
    assert!(untested.is_empty(), "operators without a test: {untested:?}");
    assert_eq!(unsupported.len(), 15, "{unsupported:?}");
}
