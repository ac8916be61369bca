//! Parse errors and rules of the verifier, each from a text.

use crate::Table;
use aio::ir::text::parse;
use aio::ir::verify;
use aio::orchestrator::routing::Policy;
use aio::orchestrator::{Costs, DeviceProfile, Figure, Recording, trace};

const X: &str = "%x = input \"x\" : f32[4]\n";
const STATE: &str = "%s = state \"s\" : u32[seqs]\n%n = input \"n\" : u32[seqs]\n";

/// Lines after the header that do not parse, one for each kind of error.
const UNPARSABLE: &[&str] = &[
    "%x = & \"x\"",
    "%x = input \"x : f32[4]",
    "%x = input \"x\" : f32[-1]",
    "output 1",
    "%y = negate %x",
    "%x = input \"x\" : f23[4]",
    "%x = input \"x\" : f32[columns]",
    "%y = rms_norm %x {epsilon = 0.1}",
    "%y = rms_norm %x {eps = [1]}",
    "%y = rms_norm %x {eps = 0.1, eps = 0.1}",
    "%y = add %x, %z",
    "%x = neg %x",
    "%a, %b = neg %x",
    "%y = add %x",
    "%y = neg %x : f32[5]",
];

/// Texts that parse but break a rule.
fn invalid() -> Vec<(&'static str, String)> {
    let optional = "%x = input \"x\" : f32[4] optional\n";
    vec![
        ("V007", format!("{X}%b = weight \"x\" : f32[1]\noutput \"y\" = %x\n")),
        ("V008", format!("{STATE}final %n = %n\n")),
        ("V009", format!("{STATE}%f = input \"f\" : f32[1]\nfinal %s = %f\n")),
        ("V010", format!("{STATE}%t = commit %s, %n\n%u = add %s, %n\noutput \"u\" = %u\nfinal %s = %t\n")),
        ("V011", format!("{optional}%y = neg %x\noutput \"y\" = %y\n")),
        ("V012", X.to_owned()),
        ("V013", "%x = input \"x\" : q4_0[33]\noutput \"y\" = %x\n".to_owned()),
        ("V014", format!("{STATE}%t = commit %s, %n\noutput \"y\" = %t\n")),
        ("V015", "%x = input \"x\" : f32[slots, 4]\noutput \"y\" = %x\n".to_owned()),
    ]
}

/// A device profile edited by hand or written by another version.
fn profiles(table: &mut Table) {
    let figure = Figure { median: 1.0, min: 1.0, max: 1.0 };
    let good = DeviceProfile {
        version: DeviceProfile::VERSION,
        host: "host".to_owned(),
        date: "2026-11-23".to_owned(),
        device: "cpu-avx2".to_owned(),
        processor: "processor".to_owned(),
        threads: 1,
        commit: "commit".to_owned(),
        costs: Costs { submission_us: figure, barrier_us: figure, wake_us: figure },
        reads: Vec::new(),
        peaks: Vec::new(),
    };
    let good = good.to_toml();
    let edits = [("host", "hots"), ("version = 1", "version = 9"), ("median = 1.0", "median = -1.0")];
    for (from, to) in edits {
        table.add("ProfileError", DeviceProfile::from_toml(&good.replacen(from, to, 1)).unwrap_err());
    }
}

/// A policy and a trace that someone wrote.
fn policies(table: &mut Table) {
    table.add("PolicyError", Policy::from_toml("name = \"p\"\nmargin = 2.0").unwrap_err());
    table.add("PolicyError", Policy::built_in("fast").unwrap_err());
    let named = Policy::from_toml("name = \"p\"\n[default]\nvariant = \"huge\"").unwrap();
    table.add("PolicyError", named.check(&["small", "large"]).unwrap_err());
    table.add("TraceError", trace::parse("{\"arrival\": -1}").unwrap_err());
    table.add("TraceError", trace::parse("\n").unwrap_err());
    table.add("RecordError", Recording::parse("{\"model\": 1}").unwrap_err());
    table.add("RecordError", Recording::parse("\n").unwrap_err());
}

pub(crate) fn cause(table: &mut Table) {
    profiles(table);
    policies(table);
    table.add("ParseErrorKind", parse("aio 2").unwrap_err().kind);
    for line in UNPARSABLE {
        let body = if line.starts_with("%x = i") || line.starts_with("%x = &") { "" } else { X };
        let error = parse(&format!("aio 1\ngraph \"t\"\n{body}{line}\n")).unwrap_err();
        table.add("ParseErrorKind", error.kind);
    }
    for (code, body) in invalid() {
        let graph = parse(&format!("aio 1\ngraph \"t\"\n{body}")).unwrap().graph;
        let errors = verify(&graph).unwrap_err();
        let first = errors.0.iter().find(|e| e.code == code).unwrap();
        table.named(&format!("VerifyError::{code}"), &first.to_string());
    }
}
