//! `aio graph` with text graphs and with models.

use crate::Place;
use aio::ir::DType;

const LINEAR: &str = "aio 1\ngraph \"linear\"\n%x = input \"x\" : f32[rows, 256]\n%w = weight \"w\" : f32[8, 256]\n\
                      %y = matmul %x, %w\noutput \"y\" = %y\n";
const WRITE: &str = "aio 1\ngraph \"write\"\n%kv = state \"kv\" : f16[pages, 2, 1, 64, 2]\n\
                     %k = input \"k\" : f32[rows, 1, 2]\n%t = input \"t\" : u32[seqs, stride]\n\
                     %r = input \"r\" : u32[rows]\n%p = input \"p\" : u32[rows]\n\
                     %new = page_write %kv, %k, %k, %t, %r, %p\nfinal %kv = %new\n";

/// A .npy file as NumPy writes it.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
}

fn floats(shape: &str, values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    npy("<f4", shape, &values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<_>>())
}

fn words(shape: &str, values: &[u32]) -> Vec<u8> {
    npy("<u4", shape, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

/// Reads the elements of an f32 file.
fn read(place: &Place, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(place.path(name)).unwrap();
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!(start % 64, 0);
    bytes[start..].chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

fn linear(place: &Place) {
    place.write("linear.graph", LINEAR);
    place.write("x.npy", floats("(3, 256)", (0..768).map(|i| (i % 7) as f32 - 3.0)));
    place.write("w.npy", floats("(8, 256)", (0..2048).map(|i| (i % 5) as f32 * 0.25)));
}

#[test]
fn verify_names_place_code_and_line() {
    let place = Place::new();
    place.write("good.graph", LINEAR);
    assert_eq!(place.good(&["graph", "verify", "good.graph"]), "ok\n");
    place.write("op.graph", LINEAR.replace("matmul", "matmull"));
    let output = place.run(&["graph", "verify", "op.graph"]);
    crate::check_failure(&output, 1, "1 fault");
    let shown = crate::text(&output.stdout);
    assert!(shown.contains("op.graph:5:6: P006") && shown.contains("\n       ^"), "{shown}");
    place.write("rules.graph", LINEAR.replace("\"w\"", "\"x\"") + "  output \"y\" = %x\n");
    let output = place.run(&["graph", "verify", "rules.graph"]);
    crate::check_failure(&output, 1, "2 faults");
    let shown = crate::text(&output.stdout);
    assert!(shown.contains("rules.graph:4:1: V") && shown.contains("rules.graph:7:3: V"), "{shown}");
    assert!(shown.contains("  %w = weight") && shown.contains("\n    ^"), "{shown}");
    place.write("many.graph", LINEAR.to_owned() + &"output \"y\" = %x\n".repeat(30));
    let output = place.run(&["graph", "verify", "many.graph"]);
    let stderr = crate::check_failure(&output, 1, "faults");
    let shown = crate::text(&output.stdout);
    let all: usize = stderr.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
    assert!(all >= 30 && shown.ends_with(&format!("and {} more\n", all - 20)), "{shown} {stderr}");
    assert_eq!(shown.matches("many.graph:").count(), 20, "{shown}");
}

#[test]
fn hostile_graphs_end_with_a_message() {
    let place = Place::new();
    let cases: [(&str, Vec<u8>, i32); 7] = [
        ("empty", Vec::new(), 1),
        ("text", b"hello".to_vec(), 1),
        ("huge", LINEAR.replace("256", "18446744073709551615").into(), 1),
        ("long", LINEAR.replace("matmul", &"m".repeat(100_000)).into(), 1),
        ("deep", format!("aio 1\ngraph \"g\"\n%x = input \"x\" : f32{}", "[".repeat(100_000)).into(), 1),
        ("nul", LINEAR.replace("%y", "%\0").into(), 1),
        ("bytes", vec![0xff; 64], 2),
    ];
    for (name, bytes, status) in cases {
        place.write(name, bytes);
        place.bad(&["graph", "verify", name], status, "error:");
        place.bad(&["graph", "dot", name], 2, "error:");
        place.bad(&["graph", "plan", name, "--tail", "logits"], 2, "error:");
        place.bad(&["graph", "run", name], 2, "error:");
    }
    for command in ["verify", "print", "dot", "passes", "plan", "run"] {
        place.bad(&["graph", command, "missing.graph"], 2, "missing.graph");
    }
    place.bad(&["graph", "verify", "empty", "-m", "x.gguf"], 2, "cannot be used with");
}

#[test]
fn print_is_its_own_normal_form_and_dot_draws() {
    let place = Place::new();
    let model = place.model("qwen2-0.5b", DType::Q4_0);
    let printed = place.good(&["graph", "print", "-m", &model]);
    place.write("model.graph", &printed);
    assert_eq!(place.good(&["graph", "print", "model.graph"]), printed);
    assert_eq!(place.good(&["graph", "verify", "-m", &model]), "ok\n");
    assert!(place.good(&["graph", "dot", "model.graph"]).starts_with("digraph"));
}

#[test]
fn passes_and_plan_show_how_tasks_fuse() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let passes = place.good(&["graph", "passes", "-m", &model]);
    let count = |pass: &str| -> usize {
        let line = passes.lines().find(|l| l.starts_with(pass)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert!(count("plan") <= 2 * 6 + 4 && count("plan") < count("simplify"), "{passes}");
    let full = place.good(&["graph", "passes", "-m", &model, "--full", "--rows", "8", "--tail", "sample"]);
    assert!(full.contains("r8s8o1-sample") && full.contains("%0 = input"), "{full}");
    let plan = place.good(&["graph", "plan", "-m", &model, "--device", "interp", "--tail", "logits"]);
    assert!(plan.contains("\narena: ") && plan.contains("lower bound") && plan.contains("\nfusion: "), "{plan}");
    place.write("plain.graph", LINEAR);
    // Without logits there is no token to compute.
    assert!(place.good(&["graph", "plan", "plain.graph"]).contains("-logits"));
    place.bad(&["graph", "plan", "plain.graph", "--tail", "argmax"], 2, "no output `logits`");
}

#[test]
fn run_computes_on_both_devices() {
    let place = Place::new();
    linear(&place);
    let args = ["graph", "run", "linear.graph", "--in", "x=x.npy", "--in", "w=w.npy", "--out"];
    let shown = place.good(&[&args[..], &["y=interp.npy"]].concat());
    assert_eq!(shown, "y : f32[3, 8], 96 bytes\n");
    let exact = read(&place, "interp.npy");
    let first: f32 = (0..256).map(|i| ((i % 7) as f32 - 3.0) * (i % 5) as f32 * 0.25).sum();
    assert!((exact[0] - first).abs() < 1e-3);
    place.good(&[&args[..], &["y=cpu.npy", "--device", "cpu", "--threads", "1"]].concat());
    for (a, b) in exact.iter().zip(read(&place, "cpu.npy")) {
        assert!((a - b).abs() < 1e-2 * a.abs().max(1.0), "{a} {b}");
    }
}

#[test]
fn run_writes_final_states_and_takes_them_back() {
    let place = Place::new();
    place.write("g", WRITE);
    place.write("k.npy", floats("(1, 1, 2)", [1.0, 2.0]));
    place.write("t.npy", words("(1, 1)", &[0]));
    place.write("r.npy", words("(1,)", &[0]));
    place.write("p.npy", words("(1,)", &[1]));
    let args = ["graph", "run", "g", "--in", "k=k.npy", "--in", "t=t.npy", "--in", "r=r.npy", "--in"];
    place.good(&[&args[..], &["p=p.npy", "--out", "kv=kv.npy"]].concat());
    place.write("q.npy", words("(1,)", &[2]));
    place.good(&[&args[..], &["p=q.npy", "--in", "kv=kv.npy", "--out", "kv=kv2.npy"]].concat());
    let bytes = std::fs::read(place.path("kv2.npy")).unwrap();
    let elements = &bytes[bytes.len() - 2 * 64 * 2 * 2..];
    // Position 1 comes from the first run, position 2 from the second, the rest are zeros; 1.0 and 2.0 in f16.
    assert_eq!(elements[..14], [0, 0, 0, 0, 0, 0x3c, 0, 0x40, 0, 0x3c, 0, 0x40, 0, 0]);
    place.bad(&[&args[..], &["p=q.npy", "--in", "kv=kv.npy", "--device", "cpu"]].concat(), 2, "states start as zeros");
    place.good(&[&args[..], &["p=p.npy", "--device", "cpu", "--out", "kv=cpu.npy"]].concat());
    assert_eq!(std::fs::read(place.path("cpu.npy")).unwrap(), std::fs::read(place.path("kv.npy")).unwrap());
    place.write("far.npy", words("(1,)", &[64]));
    place.bad(
        &[&args[..], &["p=far.npy", "--device", "cpu"]].concat(),
        2,
        "binding `t`: row 0 at position 64 has no page",
    );
}

#[test]
fn tensors_without_elements_come_from_files_and_go_to_files() {
    let place = Place::new();
    let graph = "aio 1\ngraph \"t\"\n%x = input \"x\" : f32[rows, 0]\n%w = weight \"w\" : f32[4, 0]\n%y = matmul %x, %w\n\
                 %z = slice %y {axis = 1, start = 4, len = 0}\noutput \"y\" = %y\noutput \"z\" = %z\n";
    place.write("g", graph);
    place.write("x.npy", floats("(3, 0)", []));
    place.write("w.npy", floats("(4, 0)", []));
    place.good(&["graph", "verify", "g"]);
    place.good(&["graph", "plan", "g"]);
    for device in ["interp", "cpu"] {
        let args = ["graph", "run", "g", "--in", "x=x.npy", "--in", "w=w.npy", "--device", device];
        place.good(&[&args[..], &["--out", "y=y.npy", "--out", "z=z.npy"]].concat());
        assert_eq!(read(&place, "y.npy"), [0.0; 12], "{device}");
        let empty = std::fs::read(place.path("z.npy")).unwrap();
        assert!(String::from_utf8_lossy(&empty).contains("(3, 0)") && empty.ends_with(b"\n"), "{device}");
    }
    place.write("s", "aio 1\ngraph \"t\"\n%x = input \"x\" : f32[4, rows]\n%y = softmax %x\noutput \"y\" = %y\n");
    for device in ["interp", "cpu"] {
        let args = ["graph", "run", "s", "--in", "x=w.npy", "--device", device];
        place.bad(&args, 2, "`softmax` along axis 1, which has no elements");
    }
    place.write(
        "m",
        "aio 1\ngraph \"t\"\n%x = input \"x\" : f32[4, 0]\n%y = reduce %x {kind = mean, axis = 1}\noutput \"y\" = %y\n",
    );
    let output = place.run(&["graph", "verify", "m"]);
    crate::check_failure(&output, 1, "1 fault");
    let shown = crate::text(&output.stdout);
    assert!(shown.contains("m:4:") && shown.contains("`reduce mean` along axis 1, which has no elements"), "{shown}");
}

#[test]
fn rows_need_not_be_the_steps() {
    let place = Place::new();
    linear(&place);
    place.write("fixed.graph", LINEAR.replace("rows", "3"));
    let args = ["graph", "run", "fixed.graph", "--in", "x=x.npy", "--in", "w=w.npy", "--out"];
    place.good(&[&args[..], &["y=interp.npy"]].concat());
    let exact = read(&place, "interp.npy");
    for more in [&[][..], &["--dim", "rows=0"], &["--dim", "rows=2"], &["--dim", "rows=4000000"]] {
        place.good(&[&args[..], &["y=cpu.npy", "--device", "cpu"], more].concat());
        for (a, b) in exact.iter().zip(read(&place, "cpu.npy")) {
            assert!((a - b).abs() < 1e-2 * a.abs().max(1.0), "{a} {b}");
        }
    }
}

#[test]
fn indices_out_of_range_name_the_input_the_op_and_the_line() {
    let place = Place::new();
    let graph = "aio 1\ngraph \"g\"\n%e = weight \"w\" : f32[8, 256]\n%t = input \"ids\" : u32[rows]\n\
                 %y = embed %e, %t\noutput \"y\" = %y\n";
    linear(&place);
    place.write("embed.graph", graph);
    place.write("t.npy", words("(3,)", &[7, 8, 2]));
    let args = ["graph", "run", "embed.graph", "--in", "w=w.npy", "--in", "ids=t.npy"];
    place.bad(&args, 2, "embed.graph:5: %y = embed: token 8 is not below 8");
    place.bad(&[&args[..], &["--device", "cpu"]].concat(), 2, "binding `ids`: embed: token 8 is not below 8");
}

#[test]
fn names_that_mean_something_else_harm_nobody() {
    let place = Place::new();
    let graph = "aio 1\ngraph \"g\"\n%e = weight \"w\" : f32[8, 256]\n%t = input \"row_seq\" : u32[rows]\n\
                 %y = embed %e, %t\noutput \"y\" = %y\n";
    linear(&place);
    place.write("embed.graph", graph);
    place.write("t.npy", words("(3,)", &[7, 0, 2]));
    let args = ["graph", "run", "embed.graph", "--in", "w=w.npy", "--in", "row_seq=t.npy", "--out"];
    place.good(&[&args[..], &["y=cpu.npy", "--device", "cpu"]].concat());
    place.good(&[&args[..], &["y=interp.npy"]].concat());
    assert_eq!(read(&place, "cpu.npy"), read(&place, "interp.npy"));
}

#[test]
fn run_refuses_what_does_not_fit() {
    let place = Place::new();
    linear(&place);
    place.write("wide.npy", floats("(3, 257)", [0.0; 771]));
    place.write("double.npy", npy("<f8", "(3, 256)", &[0; 6144]));
    place.write("words.npy", words("(3, 256)", &[0; 768]));
    place.write("short.npy", &floats("(3, 256)", [0.0; 768])[..1000]);
    let cases: [(&[&str], &str); 11] = [
        (&["--in", "x=x.npy"], "`w` : f32[8, 256] is not given"),
        (&["--in", "x=x.npy", "--in", "x=x.npy", "--in", "w=w.npy"], "twice"),
        (&["--in", "z=x.npy"], "no input, weight or state `z`"),
        (&["--in", "x=wide.npy", "--in", "w=w.npy"], "[3, 257]"),
        (&["--in", "x=double.npy"], "element type <f8"),
        (&["--in", "x=words.npy"], "is given as u32"),
        (&["--in", "x=short.npy"], "3072 bytes, but it has"),
        (&["--in", "x=missing.npy"], "missing.npy"),
        (&["--in", "x=x.npy", "--in", "w=w.npy", "--dim", "rows=4"], "3 here and 4 elsewhere"),
        (&["--in", "x=x.npy", "--in", "w=w.npy", "--out", "z=z.npy"], "no output or updated state `z`"),
        (&["--in", "x=x.npy", "--in", "w=w.npy", "--out", "y=no/folder/y.npy"], "no/folder/y.npy"),
    ];
    for (args, message) in cases {
        place.bad(&[&["graph", "run", "linear.graph"], args].concat(), 2, message);
    }
    place.write("write.graph", WRITE);
    place.bad(&["graph", "run", "write.graph"], 2, "`k` : f32[rows, 1, 2] is not given");
    place.write("state.graph", LINEAR.replace("output", "%s = state \"s\" : f16[pages, 2, 1, 64, 2]\noutput"));
    let args = ["graph", "run", "state.graph", "--in", "x=x.npy", "--in", "w=w.npy"];
    place.bad(&args, 2, "give --dim pages=N");
    place.bad(&[&args[..], &["--dim", "pages=4294967295"]].concat(), 2, "are available");
}

#[test]
fn a_graph_keeps_its_names_and_its_tail_follows_from_its_outputs() {
    let place = Place::new();
    let text = "aio 1\ngraph \"g\"\n%left = input \"x\" : f32[rows, 8]\n%twice.1 = add %left, %left : f32[rows, 8]\n\
                output \"y\" = %twice.1\n";
    let file = place.write("named.graph", text);
    assert_eq!(place.good(&["graph", "print", &file]), text);
    assert!(place.good(&["graph", "plan", &file]).contains("logits"));
    place.bad(&["graph", "plan", &file, "--tail", "argmax"], 2, "--tail logits");
    let large = place.write(
        "large.graph",
        "aio 1\ngraph \"g\"\n%wide = fill {shape = [1048576, 1048576], value = 1, dtype = f32}\noutput \"y\" = %wide\n",
    );
    place.bad(&["graph", "run", &large], 2, "%wide : f32[1048576, 1048576] needs");
}

#[test]
fn ops_show_what_the_table_says_in_three_forms() {
    let place = Place::new();
    let all = place.good(&["graph", "ops"]);
    assert!(all.contains("out = matmul x, w, [experts]\n    x times the transpose of w"), "{all}");
    let attend = place.good(&["graph", "ops", "attend"]);
    assert!(attend.starts_with("out = attend q, kv, table, row_seq, positions, [sinks] {scale, "), "{attend}");
    assert!(attend.contains("p / page size") && attend.contains("an integer, default 0"), "{attend}");
    let md = place.good(&["graph", "ops", "-o", "md"]);
    let headed = |op: &aio::ir::Op| md.contains(&format!("\n## {}\n", op.mnemonic()));
    assert!(aio::ir::Op::ALL.iter().all(headed), "{md}");
    let json: serde_json::Value = serde_json::from_str(&place.good(&["graph", "ops", "-o", "json"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), aio::ir::Op::ALL.len());
    let rope: serde_json::Value = serde_json::from_str(&place.good(&["graph", "ops", "rope", "-o", "json"])).unwrap();
    assert_eq!((&rope["op"], &rope["attributes"][2]["default"]), (&"rope".into(), &10000.0.into()));
    assert_eq!((&rope["operands"][2]["optional"], &rope["updates"]), (&true.into(), &serde_json::Value::Null));
    place.bad(&["graph", "ops", "atend"], 2, "the nearest are `attend`, ");
}
