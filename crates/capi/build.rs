//! Names the shared library by its ABI's major version, so that a program never starts with one that it was not built for.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if os == "linux" || os == "android" || os == "freebsd" {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libaio.so.{}", include!("src/major.in"));
    }
}
