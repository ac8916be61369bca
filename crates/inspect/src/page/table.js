// The table of tasks: sorted by any column, narrowed by a search that the roofline follows; plans, advice, theme.
const columns = [
  { name: "task", number: true, of: (t) => t.index, cell: (t) => `t${t.index}` },
  { name: "kind", of: (t) => t.kind, cell: (t) => [make("i", { class: "tag", style: `background:${color(t.block)}` }), t.kind], below: (t) => (t.fused_from.length > 1 ? fused(t) : ""), words: true },
  { name: "name", of: (t) => t.name, below: (t) => (t.kernel ? t.kernel.name : ""), why: (t) => (t.kernel ? t.kernel.why : ""), words: true, long: true },
  { name: "layer", number: true, of: (t) => (t.layer === null ? -1 : t.layer), cell: (t) => (t.layer === null ? "" : t.layer) },
  { name: "type", of: (t) => t.type },
  { name: "weights", number: true, of: (t) => t.weight_bytes, cell: (t) => (t.weight_bytes ? text(bytes(t.weight_bytes)) : "") },
  { name: "KV", number: true, of: (t) => t.kv_bytes, cell: (t) => (t.kv_bytes ? text(bytes(t.kv_bytes)) : "") },
  { name: "Mflop", number: true, of: (t) => t.flops, cell: (t) => (t.flops ? fixed(t.flops / 1e6, 2) : "") },
  { name: "flop/B", number: true, of: (t) => t.intensity, cell: (t) => fixed(t.intensity, 2) },
  { name: "pred. µs", number: true, of: (t) => t.predicted_seconds, cell: (t) => fixed(t.predicted_seconds * 1e6, 1) },
  { name: "bound", of: (t) => t.bound },
];
const m = (t) => t.measured || {};
if (measured) columns.push(
  { name: "p50 µs", number: true, of: (t) => m(t).p50_seconds, cell: (t) => fixed(m(t).p50_seconds * 1e6, 1) },
  { name: "p99 µs", number: true, of: (t) => m(t).p99_seconds, cell: (t) => fixed(m(t).p99_seconds * 1e6, 1) },
  { name: "GB/s", number: true, of: (t) => m(t).gb_s, cell: (t) => fixed(m(t).gb_s, 1) },
  { name: "of peak", number: true, of: (t) => m(t).bandwidth_share, cell: (t) => percent(m(t).bandwidth_share), bad: (t) => t.weight_bytes + t.kv_bytes >= 1e6 && m(t).bandwidth_share < 0.6 },
  { name: "error", number: true, of: (t) => m(t).error, cell: (t) => `${m(t).error > 0 ? "+" : ""}${percent(m(t).error)}` },
);

const words = tasks.map((t) => [`t${t.index}`, t.kind, t.name, t.block, t.type, t.bound, t.layer === null ? "" : `layer:${t.layer}`,
  t.kernel ? t.kernel.name : "", ...t.fused_from, ...[...t.weights, ...t.operands, ...t.results].map((x) => x.name)].join(" ").toLowerCase());
// A cell; narrow windows show the name of its column beside it.
function cell(c, t) {
  const content = c.cell ? c.cell(t) : c.of(t);
  const below = c.below ? c.below(t) : "";
  const why = c.why ? c.why(t) : below;
  const kind = [c.number ? "n" : "", c.words ? "words" : "", c.long ? "long" : "", c.bad && c.bad(t) ? "bad" : "", content === "" ? "none" : ""].filter(Boolean).join(" ");
  const node = make("td", { role: "cell", "data-head": c.name, ...(kind ? { class: kind } : {}) }, ...(Array.isArray(content) ? content : [String(content)]));
  if (below) node.append(make("small", { title: why }, below));
  return node;
}
let sorted = { column: 0, down: false };
const body = document.querySelector("#table tbody");
const rows = tasks.map((t) => {
  const row = make("tr", { role: "row", "data-task": t.index });
  for (const c of columns) row.append(cell(c, t));
  return row;
});
function heads() {
  const row = make("tr", { role: "row" });
  columns.forEach((c, i) => {
    const button = make("button", { type: "button" }, c.name);
    button.addEventListener("click", () => {
      sorted = { column: i, down: sorted.column === i ? !sorted.down : Boolean(c.number) && i > 0 };
      [...row.children].forEach((th, j) => th.removeAttribute("aria-sort") || (j === i && th.setAttribute("aria-sort", sorted.down ? "descending" : "ascending")));
      order();
    });
    row.append(make("th", { role: "columnheader", scope: "col", ...(c.number ? { class: "n" } : {}), ...(i === 0 ? { "aria-sort": "ascending" } : {}) }, button));
  });
  document.querySelector("#table thead").append(row);
}
// Columns, or blocks where those are wider than the window.
function fit() {
  const [table, room] = [$("table"), $("table").parentElement];
  table.classList.remove("blocks");
  table.classList.toggle("blocks", room.scrollWidth > room.clientWidth);
}
function order() {
  const of = columns[sorted.column].of;
  const places = tasks.map((_, i) => i).sort((a, b) => {
    const [x, y] = [of(tasks[a]), of(tasks[b])];
    const by = typeof x === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
    return (sorted.down ? -by : by) || a - b;
  });
  body.replaceChildren(...places.map((i) => rows[i]));
}
// Every word must occur.
function narrow() {
  const wanted = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (i) => wanted.every((w) => (w.startsWith("layer:") || /^t\d+$/.test(w) ? words[i].split(" ").includes(w) : words[i].includes(w)));
  let count = 0;
  tasks.forEach((t, i) => {
    const on = fits(i);
    rows[i].hidden = !on;
    count += on ? 1 : 0;
    const mark = dots.find((d) => d.t === t);
    if (mark) mark.dot.classList.toggle("dim", !on);
  });
  $("count").textContent = count === tasks.length ? many(count, "task") : `${count} of ${tasks.length} tasks`;
}
function search(value) {
  $("search").value = value;
  narrow();
  $("tasks").scrollIntoView({ block: "start", behavior: "smooth" });
}
function find(t) { search(`t${t.index}`); }
function plans() {
  const list = [["plan"], ["tasks", "n"], ["arena", "n"], ["most live", "n"], ["plan bytes", "n"], ["compile ms", "n"]];
  const runs = buckets.some((b) => b.hits !== null);
  if (runs) list.push(["steps", "n"], ["padding", "n"]);
  const head = make("tr", {}, ...list.map(([name, kind]) => make("th", kind ? { class: kind, scope: "col" } : { scope: "col" }, make("span", {}, name))));
  const cells = (b) => {
    const all = [b.plan, b.tasks, text(bytes(b.arena_bytes)), text(bytes(b.arena_lower_bound)), b.plan_bytes === null ? "" : text(bytes(b.plan_bytes)), b.compile_ms === null ? "" : fixed(b.compile_ms, 1)];
    if (runs) all.push(b.hits === null ? "" : fixed(b.hits, 0), b.padding_share === null ? "" : percent(b.padding_share, 1));
    return all;
  };
  const row = (b) => make("tr", b.plan === header.plan ? { class: "on" } : {}, ...cells(b).map((c, i) => make("td", i ? { class: "n" } : {}, String(c))));
  $("plans").append(make("thead", {}, head), make("tbody", {}, ...buckets.map(row)));
}
function advice() {
  const item = (l) => make("li", {}, make("code", {}, l.code), l.message, l.count > 1 ? ` (${l.count} times)` : "");
  $("lints").append(...(lints.length ? lints.map(item) : [make("li", {}, "Nothing to say: every projection is fused, packed and aligned.")]));
}

roofline();
threads();
layers();
arena();
sums();
drafts();
heads();
order();
narrow();
fit();
plans();
advice();
$("footer").textContent = `aio graph inspect, schema ${report.schema}. ${machine.name}${machine.threads ? `, ${many(machine.threads, "thread")}` : ""}: ${fixed(machine.bandwidth / 1e9, 1)} GB/s, ${fixed((2 * machine.block_macs) / 1e9, 0)} Gflop/s in block formats.${report.omitted ? ` ${report.omitted} tasks were left out by a filter.` : ""}`;
addEventListener("resize", fit);
$("search").addEventListener("input", narrow);
document.addEventListener("keydown", (e) => {
  if (e.key === "/" && document.activeElement !== $("search")) { $("search").focus(); e.preventDefault(); }
  if (e.key === "Escape" && document.activeElement === $("search")) { $("search").value = ""; narrow(); }
});
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
