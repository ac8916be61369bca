//! Reports and graphs for other programs: the page in a real browser, pictures, ONNX in its own checker and evaluator.

use crate::Place;
use aio::ir::DType;
use aio_filetest::needs;
use serde_json::Value;
use std::process::Command;

/// Runs before the page's own scripts: collects what goes wrong.
const WATCH: &str = "<script>window.faults=[];addEventListener('error',e=>faults.push('error: '+e.message));\
    addEventListener('securitypolicyviolation',e=>faults.push('request: '+e.blockedURI));\
    for(const k of ['error','warn'])console[k]=(...a)=>faults.push(k+': '+a.join(' '));</script>";

/// Runs after them: uses the page as a reader would, and leaves what it saw in the title.
const USE: &str = "<script>{const seen={};\
    const rows=()=>[...document.querySelectorAll('#table tbody tr')].filter(r=>!r.hidden);\
    seen.dots=document.querySelectorAll('#roofline circle.dot').length;\
    seen.buffers=document.querySelectorAll('#memory rect.buffer').length;\
    seen.bars=document.querySelectorAll('#layers rect').length;\
    seen.threads=document.querySelectorAll('#threads rect').length;\
    seen.rows=rows().length;\
    const box=document.getElementById('search');\
    const type=t=>{box.value=t;box.dispatchEvent(new Event('input'));};\
    type('ffn_down');seen.narrowed=rows().length;seen.named=rows().every(r=>r.textContent.includes('ffn_down'));\
    seen.dimmed=document.querySelectorAll('circle.dot.dim').length;\
    type('');seen.again=rows().length;\
    const sort=[...document.querySelectorAll('#table th button')].find(b=>b.textContent.startsWith('pred'));\
    sort.click();const t=rows().map(r=>r.children[9].textContent.replace(/,/g,'')).map(Number);\
    seen.sorted=t.every((x,i)=>i===0||t[i-1]>=x)&&sort.parentElement.getAttribute('aria-sort')==='descending';\
    const key=(n,k)=>n.dispatchEvent(new KeyboardEvent('keydown',{key:k,bubbles:true,cancelable:true}));\
    const dots=document.getElementById('dots');dots.focus();key(dots,'ArrowRight');\
    seen.walked=document.querySelectorAll('circle.dot.on').length===1&&!document.getElementById('tip').hidden;\
    key(dots,'Enter');seen.found=rows().length;type('');\
    key(document.body,'/');seen.slash=document.activeElement===box;\
    const ink=()=>getComputedStyle(document.body).backgroundColor;const before=ink();\
    document.getElementById('theme').click();seen.themed=before!==ink();\
    seen.reachable=[...document.querySelectorAll('button,input,[tabindex]')].every(n=>n.tabIndex>=0);\
    seen.width=innerWidth;const fits=n=>n.scrollWidth<=n.clientWidth;\
    seen.fits=[document.documentElement,...document.querySelectorAll('.scroll')].every(fits);\
    seen.cut=rows().some(r=>[...r.children].some(c=>!c.hidden&&c.getBoundingClientRect().right>innerWidth));\
    seen.resources=performance.getEntriesByType('resource').length;\
    seen.faults=faults;document.title='SEEN'+JSON.stringify(seen)+'END';}</script>";

/// Widths of windows in which the page must fit: a usual one, and a narrow one.
const WIDTHS: [u32; 2] = [1280, 800];

/// The page in a window of this width as it is after its scripts ran, and what the browser logged.
fn browse(place: &Place, browser: &Command, page: &str, width: u32) -> (String, String) {
    place.write("page.html", page);
    let mut browser = again(browser);
    browser.arg(format!("--user-data-dir={}", place.path("profile").display()));
    browser.args(["--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"]);
    browser.arg(format!("--window-size={width},2000"));
    let output = browser.arg(format!("file://{}", place.path("page.html").display())).output().unwrap();
    (crate::text(&output.stdout), crate::text(&output.stderr))
}

fn again(command: &Command) -> Command {
    let mut other = Command::new(command.get_program());
    other.args(command.get_args());
    other
}

fn check_page(place: &Place, browser: &Command, page: &str, model: &str) {
    WIDTHS.into_iter().for_each(|width| check_page_in(place, browser, page, model, width));
}

fn check_page_in(place: &Place, browser: &Command, page: &str, model: &str, width: u32) {
    let report: Value = serde_json::from_str(&place.good(&["graph", "inspect", model, "-o", "json"])).unwrap();
    let tasks = report["tasks"].as_array().unwrap();
    let watched =
        page.replacen("<head>", &format!("<head>{WATCH}"), 1).replacen("</body>", &format!("{USE}</body>"), 1);
    let (dom, log) = browse(place, browser, &watched, width);
    let seen = dom.split("SEEN").nth(1).and_then(|rest| rest.split("END").next());
    let seen = seen.unwrap_or_else(|| panic!("the page's scripts did not finish: {log}"));
    let seen: Value =
        serde_json::from_str(&seen.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")).unwrap();
    assert_eq!(seen["faults"], serde_json::json!([]), "{seen}");
    assert!(!log.contains("CONSOLE") && seen["resources"] == 0, "{seen} {log}");
    let count = |what: fn(&Value) -> bool| tasks.iter().filter(|t| what(t)).count();
    assert_eq!(seen["dots"], count(|t| t["flops"].as_u64() > Some(0)), "a dot for each task that computes");
    assert_eq!(seen["buffers"], report["memory"]["intervals"].as_array().unwrap().len());
    let measured = page.contains("\"stretches\"");
    assert_eq!(seen["threads"].as_u64() > Some(100), measured, "stretches of threads: {seen}");
    assert!(seen["bars"].as_u64() >= Some(4), "two blocks in two layers at least: {seen}");
    let narrowed = count(|t| t["name"].as_str().unwrap().contains("ffn_down"));
    assert_eq!(
        (&seen["rows"], &seen["narrowed"], &seen["again"]),
        (&tasks.len().into(), &narrowed.into(), &tasks.len().into())
    );
    assert!(seen["dimmed"].as_u64() > Some(0) && seen["found"] == 1, "{seen}");
    for what in ["named", "sorted", "walked", "slash", "themed", "reachable", "fits"] {
        assert_eq!(seen[what], true, "{what} at {width}: {seen}");
    }
    assert_eq!((&seen["width"], &seen["cut"]), (&width.into(), &false.into()), "cells inside the window: {seen}");
}

#[test]
fn the_page_works_in_a_browser_without_a_network() {
    let test = "the_page_works_in_a_browser_without_a_network";
    let Some(browser) = needs::chromium(test) else { return };
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let page = place.good(&["graph", "inspect", &model, "-o", "html"]);
    check_page(&place, &browser, &page, &model);
}

#[test]
fn the_page_of_the_default_model_works_in_a_browser() {
    let test = "the_page_of_the_default_model_works_in_a_browser";
    let (Some(model), Some(browser)) = (needs::default_model(test), needs::chromium(test)) else { return };
    let (place, model) = (Place::new(), model.display().to_string());
    // Measured, so that threads and idle stretches are there too.
    let page = place.good(&["graph", "inspect", &model, "--measure", "--reps", "4", "-o", "html"]);
    assert!(page.contains("\"cause\":\"late thread\""));
    assert!(page.contains("SmolLM2-135M-Instruct"));
    check_page(&place, &browser, &page, &model);
}

#[test]
fn pages_and_pictures_refer_to_nothing_outside() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    for form in ["html", "svg"] {
        let text = place.good(&["graph", "inspect", &model, "-o", form]);
        let bare = text.replace("http://www.w3.org/2000/svg", "").replace("url(#hatch)", "");
        for outside in ["http:", "https:", "//cdn", "@import", "url("] {
            assert!(!bare.contains(outside), "{form} has {outside}");
        }
    }
    let svg = place.good(&["graph", "inspect", &model, "-o", "svg"]);
    assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
    assert!(svg.matches("<circle class=\"dot\"").count() >= 8 && svg.contains("operations per byte"), "{svg}");
    let dot = place.good(&["graph", "inspect", &model, "-o", "dot", "--filter", "blk.1."]);
    assert!(dot.starts_with("digraph plan {") && dot.ends_with("}\n"), "{dot}");
    assert!(dot.contains("blk.1.ffn_down") && !dot.contains("blk.0.") && dot.contains(" -> "), "{dot}");
}

/// Names from a file cannot leave the text that they are put in.
#[test]
fn hostile_names_stay_names() {
    let place = Place::new();
    let name = "</script><script>alert(1)</script>{{script}}\u{2028}\\\" -> x";
    let graph = format!(
        "aio 1\ngraph \"g\"\n%x = input \"x\" : f32[rows, 4]\n%w = weight {} : f32[4, 4]\n%y = matmul %x, %w\noutput \"y\" = %y\n",
        serde_json::to_string(name).unwrap().replace("\\u2028", "\u{2028}")
    );
    place.write("h.graph", graph);
    let output = place.run(&["graph", "inspect", "h.graph", "-o", "html"]);
    if output.status.code() == Some(0) {
        let html = crate::text(&output.stdout);
        assert_eq!(html.matches("</script>").count(), 2, "the page has two scripts");
        assert!(!html.contains("<script>alert"));
    }
    place.write("q.graph", "aio 1\ngraph \"g\"\n%x = input \"x\" : f32[rows, 4]\n%w = weight \"</script><b>\" : f32[4, 4]\n%y = matmul %x, %w\noutput \"y\" = %y\n");
    for form in ["html", "svg", "dot", "csv", "md"] {
        let text = place.good(&["graph", "inspect", "q.graph", "-o", form]);
        assert!(
            form == "csv" || form == "dot" || text.matches("</script>").count() == if form == "html" { 2 } else { 0 },
            "{form}"
        );
    }
}

/// Ops of the standard domain, each with a meaning that both sides compute.
const ONNX: [(&str, &str); 6] = [
    (
        "mlp",
        "%g = weight \"g\" : f32[8]\n%w = weight \"w\" : f32[6, 8]\n%v = weight \"v\" : f32[8, 6]\n\
         %n = rms_norm %x, %g {eps = 1e-5}\n%a = matmul %n, %w\n%s = silu %a\n%b = gelu %a\n%c = mul %s, %b\n%d = matmul %c, %v\n\
         %y = add %d, %x\noutput \"y\" = %y\n",
    ),
    (
        "norms",
        "%g = weight \"g\" : f32[8]\n%b = weight \"b\" : f32[8]\n%l = layer_norm %x, %g, %b {eps = 1e-5}\n%r = rms_norm %l {eps = 1e-6}\n\
         %s = softmax %r\n%t = tanh %s\n%u = sigmoid %t\n%q = rsqrt %u\n%z = sqrt %q\n%e = exp %z\n%y = log %e\noutput \"y\" = %y\n",
    ),
    (
        "shapes",
        "%r = reshape %x {shape = [rows, 2, 4]}\n%t = transpose %r {perm = [1, 0, 2]}\n%s = slice %t {axis = 2, start = 1, len = 2}\n\
         %c = concat %s, %s {axis = 2}\n%m = reduce %c {kind = mean, axis = 2}\n%k = cumsum %c\n%y = mul %k, %m\noutput \"y\" = %y\n\
         %o = reduce %x {kind = max, axis = 1}\n%p = broadcast %o {shape = [rows, 8]}\noutput \"p\" = %p\n",
    ),
    (
        "choice",
        "%z = fill {shape = [8], value = 0.25, dtype = f32}\n%b = compare %x, %z {kind = gt}\n%n = neg %x\n%y = select %b, %x, %n\n\
         %lo = min %y, %z\n%hi = max %y, %z\n%d = sub %hi, %lo\noutput \"y\" = %d\n%i = argmax %x\noutput \"i\" = %i\n\
         %v, %j = top_k %x {k = 3}\noutput \"v\" = %v\noutput \"j\" = %j\n",
    ),
    (
        "tables",
        "%e = weight \"e\" : f32[5, 8]\n%i = input \"i\" : u32[rows]\n%a = embed %e, %i\n%b = gather %e, %i\n%c = add %a, %b\n\
         %u = scatter %c, %i, %x\n%h = cast %u {to = f16}\n%f = cast %h {to = f32}\noutput \"y\" = %f\n%n = iota {shape = [4], dtype = i32}\n\
         output \"n\" = %n\n",
    ),
    ("sines", "%a = sin %x\n%b = cos %x\n%c = relu %a\n%y = div %c, %b\noutput \"y\" = %y\n"),
];

/// Checks a model and runs it on the .npy files beside it, as `aio graph run` does; results go to `onnx.NAME.npy`.
const EVALUATE: &str = "import sys, numpy as np, onnx\nfrom onnx.reference import ReferenceEvaluator\n\
    m = onnx.load(sys.argv[1])\nonnx.checker.check_model(m, full_check=True)\n\
    assert {n.domain for n in m.graph.node} <= {''}, [n.op_type for n in m.graph.node if n.domain]\n\
    feed = {i.name: np.load(i.name + '.npy') for i in m.graph.input}\n\
    names = [o.name for o in m.graph.output]\n\
    for name, got in zip(names, ReferenceEvaluator(m).run(names, feed)):\n    np.save('onnx.' + name + '.npy', got)\n    want = np.load('aio.' + name + '.npy')\n\
    \x20   assert got.dtype == want.dtype and got.shape == want.shape, (name, got.dtype, want.dtype, got.shape, want.shape)\n\
    \x20   if want.dtype.kind == 'f':\n        assert np.allclose(got, want, rtol=2e-5, atol=1e-6), (name, np.abs(got - want).max())\n\
    \x20   else:\n        assert (got == want).all(), (name, got, want)\n    print(name)\n";

#[test]
fn exported_graphs_pass_the_checker_and_compute_what_the_oracle_does() {
    let Some(python) = needs::onnx("exported_graphs_pass_the_checker_and_compute_what_the_oracle_does") else { return };
    let python = python.get_program().to_owned();
    for (name, body) in ONNX {
        let place = Place::new();
        place.write("g.graph", format!("aio 1\ngraph \"{name}\"\n%x = input \"x\" : f32[rows, 8]\n{body}"));
        place.write("evaluate.py", EVALUATE);
        let make = "import numpy as np\nr = np.random.default_rng(7)\nfor n, s in dict(x=(3, 8), g=(8,), b=(8,), w=(6, 8), v=(8, 6), e=(5, 8)).items():\n\
                    \x20   np.save(n + '.npy', r.standard_normal(s).astype('f4'))\nnp.save('i.npy', np.array([0, 2, 1], 'u4'))\n";
        let ran = Command::new(&python).current_dir(place.folder.path()).args(["-c", make]).status().unwrap();
        assert!(ran.success());
        let output =
            place.run(&["graph", "inspect", "g.graph", "-o", "onnx", "--device", "interp", "--tail", "logits"]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", crate::text(&output.stderr));
        place.write("g.onnx", &output.stdout);
        let declared = |word: &str| -> Vec<String> {
            let lines = body.lines().chain(["%x = input \"x\" :"]).filter(|l| l.contains(word));
            lines.map(|l| l.split('"').nth(1).unwrap().to_owned()).collect()
        };
        let mut run = vec!["graph".to_owned(), "run".to_owned(), "g.graph".to_owned()];
        for input in declared(" = input ").into_iter().chain(declared(" = weight ")) {
            run.extend(["--in".to_owned(), format!("{input}={input}.npy")]);
        }
        for out in declared("output ") {
            run.extend(["--out".to_owned(), format!("{out}=aio.{out}.npy")]);
        }
        place.good(&run.iter().map(String::as_str).collect::<Vec<_>>());
        let output =
            Command::new(&python).current_dir(place.folder.path()).args(["evaluate.py", "g.onnx"]).output().unwrap();
        assert!(output.status.success(), "{name}: {}", crate::text(&output.stderr));
        assert!(!crate::text(&output.stdout).is_empty());
    }
}

/// A model's own ops are in a domain of their own; the checker takes the model, and its inputs have the weights' names.
#[test]
fn an_exported_model_passes_the_checker() {
    let Some(mut python) = needs::onnx("an_exported_model_passes_the_checker") else { return };
    let place = Place::new();
    let model = place.model("qwen3-0.6b", DType::Q4_1);
    let output = place.run(&["graph", "inspect", &model, "-o", "onnx"]);
    place.write("m.onnx", &output.stdout);
    let check = "import onnx\nm = onnx.load('m.onnx')\nonnx.checker.check_model(m)\n\
        ops = {(n.domain, n.op_type) for n in m.graph.node}\n\
        assert ('', 'MatMul') in ops and ('aio', 'attend') in ops and ('aio', 'rope') in ops, ops\n\
        names = {i.name for i in m.graph.input}\nassert 'blk.0.attn_q.weight' in names and 'kv.0' in names, names\n\
        outputs = {o.name for o in m.graph.output}\nassert 'logits' in outputs and 'kv.0.next' in outputs, outputs\n\
        assert len(open('m.onnx', 'rb').read()) < 200_000\n";
    let ran = python.current_dir(place.folder.path()).args(["-c", check]).output().unwrap();
    assert!(ran.status.success(), "{}", crate::text(&ran.stderr));
    place.good(&["compile", "-m", &model, "-o", "tiny.aio"]);
    place.bad(&["graph", "inspect", "tiny.aio", "-o", "onnx"], 2, "tiny.aio has only plans; -o onnx needs the model");
    place.bad(&["graph", "inspect", &model, "-o", "trace"], 2, "-o trace shows measured steps; add --measure");
}

#[test]
fn the_trace_of_a_measurement_is_of_its_steps() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let text = place.good(&["graph", "inspect", &model, "--measure", "--reps", "5", "--threads", "2", "-o", "trace"]);
    crate::inspect::check_trace(&text);
    let trace: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(trace["otherData"]["steps"], 5);
}
