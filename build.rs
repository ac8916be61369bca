//! Gives the binary its commit, for `aio --version` and the header of every machine output.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/refs/heads");
    let commit = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok();
    let commit = commit.filter(|o| o.status.success()).and_then(|o| String::from_utf8(o.stdout).ok());
    let commit = commit.map_or_else(|| "unknown".to_owned(), |c| c.trim().to_owned());
    println!("cargo::rustc-env=AIO_COMMIT={commit}");
}
