//! The Python package: its wheel builds without a network, installs into an empty environment, and does what it says there.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]
#![cfg(target_os = "linux")]

mod common;

use aio_capi::{api, layout};
use common::{built, needs, root, run};
use std::process::Command;

/// What the package's structs and functions must be.
fn layouts() -> String {
    let structs: Vec<_> = layout::layouts()
        .into_iter()
        .map(|l| serde_json::json!({ "name": l.name, "size": l.size, "fields": l.fields }))
        .collect();
    let functions: Vec<_> = api::signatures().into_iter().map(|(name, at, _)| (name, at)).collect();
    let version = api::MAJOR << 16 | api::MINOR;
    serde_json::json!({ "structs": structs, "functions": functions, "version": version }).to_string()
}

#[test]
fn the_wheel_installs_into_an_empty_environment_and_works_there() {
    let test = "the_wheel_installs_into_an_empty_environment_and_works_there";
    let Some(model) = needs::default_model(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let made = Command::new("python3").args(["-m", "venv"]).arg(at("venv")).output();
    if !made.is_ok_and(|done| done.status.success()) {
        return needs::skip(test, "python", "`python3 -m venv` makes no environment");
    }
    let python = at("venv").join("bin/python");
    let pip = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new(&python);
        command.env("AIO_BUILT", built()).args(["-m", "pip", "-q", "--disable-pip-version-check"]).args(arguments);
        run(&mut command);
    };
    let (wheels, package) = (at("wheels"), root().join("python"));
    pip(&["wheel".as_ref(), "--no-deps".as_ref(), "-w".as_ref(), wheels.as_ref(), package.as_ref()]);
    let wheel = std::fs::read_dir(&wheels).unwrap().next().unwrap().unwrap().path();
    pip(&["install".as_ref(), "--no-index".as_ref(), wheel.as_ref()]);

    std::fs::write(at("layouts.json"), layouts()).unwrap();
    let cases: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/data/golden-smollm2.json")).unwrap();
    let case = &cases[0];
    let certain = case["margins"].as_array().unwrap().iter().take_while(|m| m.as_f64().unwrap() >= 0.35).count();
    let tokens = &case["greedy_ids"].as_array().unwrap()[..certain];
    let golden = serde_json::json!({ "prompt": case["prompt"], "tokens": tokens }).to_string();
    let mut check = Command::new(&python);
    check
        .current_dir(folder.path())
        .arg(package.join("tests/check.py"))
        .arg(at("layouts.json"))
        .arg(&model)
        .arg(golden);
    let done = run(&mut check);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "ok\n");

    let mut main = Command::new(&python);
    main.current_dir(folder.path()).args(["-m", "aio", "run", "-m", "/nowhere.gguf", "-p", "Hi"]);
    let done = main.output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&done.stderr).lines().count(), 1);
}
