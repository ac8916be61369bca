//! Runs all file tests of the workspace.

#[test]
fn graph_files_give_what_they_expect() {
    let folder = aio_filetest::workspace("tests/filetests");
    let files = aio_filetest::graph_file::files(&folder);
    assert!(!files.is_empty(), "{} has no file tests", folder.display());
    let wrong: Vec<_> = files.iter().filter_map(|path| aio_filetest::graph_file::check(path)).collect();
    assert!(wrong.is_empty(), "{} of {} files:\n{}", wrong.len(), files.len(), wrong.join("\n"));
}
