//! What the tests of the C interface share: where the library is, and compilers.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[path = "../../../filetest/src/needs.rs"]
pub mod needs;

/// The folder of the libraries, which cargo built beside this test.
pub fn built() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_path_buf()
}

/// The folder of the header.
pub fn header() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The languages in which programs use the header: compiler and flags.
pub const LANGUAGES: [(&str, &str, &[&str]); 2] = [
    ("CC", "cc", &["-x", "c", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]),
    ("CXX", "c++", &["-x", "c++", "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]),
];

/// A compiler with its language's flags, or `None` after a SKIP.
pub fn compiler(test: &str, (variable, usual, flags): (&str, &str, &[&str])) -> Option<Command> {
    let program = std::env::var(variable).unwrap_or_else(|_| usual.to_owned());
    if Command::new(&program).arg("--version").output().is_ok_and(|o| o.status.success()) {
        let mut command = Command::new(program);
        command.args(flags);
        return Some(command);
    }
    needs::skip(test, "cxx", &format!("no compiler: {program}"));
    None
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Output {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&done.stderr));
    done
}
