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
