//! Tests that each parse code fires at the right line and column, with a caret under it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_ir::text::parse;
use std::collections::BTreeSet;

const HEAD: &str = "aio 1\ngraph \"t\"\n";
const X: &str = "aio 1\ngraph \"t\"\n%x = input \"x\" : f32[4]\n";

/// Code, the valid lines before, and the faulty line, with `§` before the position.
const CASES: &[(&str, &str, &str)] = &[
    ("P001", "", "§aio 2"),
    ("P001", "", "§graph \"t\""),
    ("P001", "", "§aio \"1\""),
    ("P002", HEAD, "%x = §& \"x\""),
    ("P002", "", "§é"),
    ("P003", HEAD, "%x = input §\"x : f32[4]"),
    ("P003", HEAD, "%x = input §\"\\q\" : f32[4]"),
    ("P003", HEAD, "%x = input §\"\\u{110000}\" : f32[4]"),
    ("P003", HEAD, "%x = input §\"\\u{fffffffff}\" : f32[4]"),
    ("P004", HEAD, "%x = input \"x\" : f32[§18446744073709551616]"),
    ("P004", HEAD, "%x = input \"x\" : f32[§-1]"),
    ("P004", X, "%y = rms_norm %x {eps = §1e40}"),
    ("P004", X, "%y = rms_norm %x {eps = §1e}"),
    ("P004", X, "%y = slice %x {axis = §1.5, start = 0, len = 1}"),
    ("P004", X, "%y = fill {shape = [2], value = §16777217, dtype = i32}"),
    ("P004", X, "%y = fill {shape = [2], value = §1e99, dtype = f32}"),
    ("P004", X, "%y = fill {shape = [2], value = §-1e99, dtype = f32}"),
    ("P015", X, "%y = §fill {shape = [2], value = 300, dtype = u8}"),
    ("P015", X, "%y = §fill {shape = [2], value = 0.5, dtype = i32}"),
    ("P015", X, "%y = §fill {shape = [2], value = -1, dtype = u32}"),
    ("P015", X, "%y = §fill {shape = [2], value = 2, dtype = bool}"),
    ("P015", X, "%y = §fill {shape = [2], value = inf, dtype = i8}"),
    ("P015", X, "%y = §fill {shape = [2], value = 70000, dtype = f16}"),
    ("P010", X, "%y = rms_norm %x {eps = §inf}"),
    ("P005", "aio 1\n", "§output"),
    ("P005", "aio 1\n", "graph §t"),
    ("P005", "", "aio 1 §1"),
    ("P005", HEAD, "%x §\"x\""),
    ("P005", HEAD, "%x = §1"),
    ("P005", HEAD, "%x = input §x"),
    ("P005", HEAD, "%x = input \"é\" §f32[4]"),
    ("P005", HEAD, "%x = input \"x\" : f32§"),
    ("P005", HEAD, "%x = input \"x\" : f32[4§"),
    ("P005", HEAD, "%x = input \"x\" : f32[§:]"),
    ("P005", HEAD, "\t%x = input \"x\" : f32[4] §now"),
    ("P005", HEAD, "%x, §input"),
    ("P005", HEAD, "§rows"),
    ("P005", X, "%y = add %x, §"),
    ("P005", X, "%y = rms_norm %x {eps §0.1}"),
    ("P005", X, "%y = rms_norm %x {§1}"),
    ("P005", X, "%y = rms_norm %x {eps = 0.1 §%x}"),
    ("P005", X, "%y = transpose %x {perm = [0 §0]}"),
    ("P005", X, "%y = transpose %x {perm = [§rows]}"),
    ("P005", X, "output §%x"),
    ("P005", X, "output \"y\" = §\"x\""),
    ("P005", X, "%y = neg %x : f32[4]§, f32[4]"),
    ("P006", X, "%y = §negate %x"),
    ("P007", HEAD, "%x = input \"x\" : §f23[4]"),
    ("P007", X, "%y = cast %x {to = §float}"),
    ("P008", HEAD, "%x = input \"x\" : f32[§columns]"),
    ("P009", X, "%y = rms_norm %x {§epsilon = 0.1}"),
    ("P010", X, "%y = rms_norm %x {eps = §[1]}"),
    ("P010", X, "%y = slice %x {axis = §rows, start = 0, len = 1}"),
    ("P010", X, "%y = compare %x, %x {kind = §equal}"),
    ("P010", X, "%y = compare %x, %x {kind = §1}"),
    ("P010", X, "%y = reshape %x {shape = §4}"),
    ("P010", X, "%y = transpose %x {perm = §0}"),
    ("P011", X, "%y = rms_norm %x {eps = 0.1, §eps = 0.1}"),
    ("P012", X, "%y = add %x, §%z"),
    ("P012", X, "%y = neg §%y"),
    ("P012", X, "output \"y\" = §%"),
    ("P012", X, "final §%s = %x"),
    ("P013", X, "§%x = neg %x"),
    ("P013", X, "%v, §%v = top_k %x {k = 2}"),
    ("P013", X, "§% = neg %x"),
    ("P014", X, "§%a, %b = neg %x"),
    ("P014", X, "§%a = top_k %x {k = 2}"),
    ("P014", X, "%a, §%b = input \"b\" : f32[4]"),
    ("P014", X, "%a, %b = top_k %x {k = 2} : f32[2]§"),
    ("P015", X, "%y = §add %x"),
    ("P015", X, "%y = §neg %x, %x"),
    ("P015", X, "%y = §add %x, _"),
    ("P015", X, "%y = §rms_norm %x"),
    ("P015", X, "%y = §matmul %x, %x"),
    ("P015", X, "%a, %b = §top_k %x {k = 5}"),
    ("P016", X, "%y = neg %x : §f32[5]"),
    ("P016", X, "%y = neg %x : §f16[4]"),
];

#[test]
fn every_code_fires_at_its_place() {
    for (code, before, marked) in CASES {
        let line = marked.replace('§', "");
        let error = parse(&format!("{before}{line}\n%later = nonsense\n")).unwrap_err();
        assert_eq!(error.kind.code(), *code, "{marked}: {error}");
        assert_eq!(error.line, before.matches('\n').count() + 1, "{marked}: {error}");
        let column = marked.chars().position(|c| c == '§').unwrap() + 1;
        assert_eq!(error.column, column, "{marked}: {error}");
        assert_eq!(error.text, line, "{marked}");
        let shown = error.to_string();
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 3, "{shown}");
        assert!(lines[0].starts_with(&format!("{}:{column}: {code}: ", error.line)), "{shown}");
        assert_eq!(lines[1], format!("  {line}"));
        assert_eq!(lines[2].chars().position(|c| c == '^'), Some(column + 1), "{shown}");
    }
}

#[test]
fn the_table_of_cases_has_every_code() {
    let codes: BTreeSet<_> = CASES.iter().map(|c| c.0.to_owned()).collect();
    let all: BTreeSet<_> = (1..=16).map(|i| format!("P{i:03}")).collect();
    assert_eq!(codes, all);
}

#[test]
fn comments_blank_lines_and_names_are_free() {
    let text = "; a note\naio 1 ; the version\n\ngraph \"t\"\n\n  %in.put_1 = input \"x\" : f32[4] ; here\n\r\noutput \"y\" = %in.put_1";
    let parsed = parse(text).unwrap();
    assert_eq!(parsed.value_lines, [6]);
    assert_eq!(parsed.output_lines, [8]);
}

/// The printed error for a faulty line.
fn message(line: &str) -> String {
    let source = format!("aio 1\ngraph \"g\"\n%x = input \"x\" : f32[rows, 8]\n{line}\n");
    parse(&source).unwrap_err().to_string()
}

#[test]
fn messages_name_the_rule_that_is_broken_and_what_there_is() {
    for (line, part) in [
        ("%y = slice %x {axis = 1, start = 0, len = -1}", "attribute `len` is -1, expected 0 or more"),
        ("%y = slice %x {axis = 1, start = -1, len = 2}", "attribute `start` is -1, expected 0 or more"),
        ("%y = slice %x {axis = 1, start = 6, len = 3}", "attribute `len` is 3, expected start + len at most 8"),
        (
            "%y = fill {shape = [2], value = 300, dtype = u8}",
            "attribute `value` is 300.0, expected a number that u8 can hold",
        ),
        ("%y = negate %x", "expected one of fill, iota, embed"),
        ("%y = cast %x {to = float}", "expected one of f32, f16"),
        ("%y = iota {shape = [cols], dtype = u32}", "expected one of rows, seqs, pages, stride, outs, recent, slots"),
    ] {
        let text = message(line);
        assert!(text.contains(part), "{line}: {text}");
    }
}

#[test]
fn infinities_can_be_written_and_names_are_kept() {
    let source = "aio 1\ngraph \"g\"\n%x = input \"x\" : f32[rows, 8]\n%mask.1 = fill {shape = [8], value = -inf, dtype = f32} : f32[8]\n\
                  %top, %7 = top_k %x {k = 2} : f32[rows, 2], u32[rows, 2]\n%most = fill {shape = [8], value = inf, dtype = f32} : f32[8]\n\
                  %0 = add %x, %mask.1 : f32[rows, 8]\noutput \"y\" = %0\noutput \"most\" = %most\noutput \"i\" = %7\n";
    let parsed = parse(source).unwrap();
    assert_eq!(parsed.print(), source);
    let numbered = aio_ir::text::print(&parsed.graph);
    assert_eq!(parse(&numbered).unwrap().graph, parsed.graph);
    assert!(parse(&source.replace("-inf", "nan")).is_err(), "a graph with a NaN would not equal itself");
}
