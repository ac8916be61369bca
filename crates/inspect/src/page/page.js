// Draws the report that the page carries. No requests, no libraries; everything from the file is set as text.
"use strict";
const report = JSON.parse(document.getElementById("report").textContent);
const { header, tasks, groups, memory, buckets, speculation, lints } = report;
const measured = header.measured;
const $ = (id) => document.getElementById(id);
const COLORS = { attention: "--attention", mlp: "--mlp", head: "--head", embedding: "--embedding", other: "--other" };
const color = (block) => `var(${COLORS[block] || "--other"})`;
const taskSeconds = (t) => (t.measured ? t.measured.p50_seconds : t.predicted_seconds);

// Numbers.
const fixed = (x, n) => x.toLocaleString("en-US", { minimumFractionDigits: n, maximumFractionDigits: n });
const short = (x) => (x >= 100 ? fixed(x, 0) : x >= 10 ? fixed(x, 1) : fixed(x, 2));
function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) { n /= 1000; unit += 1; }
  return [unit === 0 ? String(n) : fixed(n, 2), units[unit]];
}
const text = (pair) => pair.join(" ");
const us = (s) => `${short(s * 1e6)} µs`;
const ms = (s) => fixed(s * 1e3, s < 0.01 ? 3 : 2);
const percent = (x, n = 0) => `${fixed(x * 100, n)} %`;

// Elements.
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "defs", "pattern", "line", "path", "rect", "circle", "text", "title", "polyline"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
function svg(width, height, label) {
  return make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
}
const line = (x1, y1, x2, y2, kind) => make("line", { x1, y1, x2, y2, class: kind });
const label = (x, y, content, attributes = {}) => make("text", { x, y, ...attributes }, content);

// The tip beside the pointer or the focused mark.
const tip = $("tip");
function show(title, lines, x, y) {
  tip.replaceChildren(make("b", {}, title), lines.join("\n"));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18}px`;
}
const hide = () => { tip.hidden = true; };
function hover(node, title, lines) {
  node.addEventListener("pointermove", (e) => show(title, lines, e.clientX, e.clientY));
  node.addEventListener("pointerleave", hide);
}
// Ops with their numbers instead of repetitions.
function fused(t) {
  const counts = new Map();
  for (const op of t.fused_from) counts.set(op, (counts.get(op) || 0) + 1);
  return [...counts].map(([op, n]) => (n === 1 ? op : `${n} ${op}`)).join(", ");
}
function taskLines(t) {
  const lines = [
    `${t.fused_from.length > 1 ? "fused from " : ""}${fused(t)}`,
    `${text(bytes(t.weight_bytes))} weights, ${text(bytes(t.kv_bytes))} KV, ${fixed(t.flops / 1e6, 2)} Mflop`,
    `${us(t.predicted_seconds)} predicted, bound by ${t.bound}`,
  ];
  if (t.kernel) lines.push(`${t.kernel.name}: ${t.kernel.why}`);
  if (t.measured) lines.push(`${us(t.measured.p50_seconds)} measured, ${short(t.measured.gb_s)} GB/s, ${percent(t.measured.bandwidth_share)} of peak`);
  return lines;
}
const taskTitle = (t) => `t${t.index}  ${t.kind}  ${t.name}`;

// Header and cards.
const many = (n, what) => `${fixed(n, 0)} ${what}${n === 1 ? "" : "s"}`;
$("plan").textContent = `${header.plan} · ${header.target}`;
$("title").textContent = header.source;
const step = header.step;
$("step").textContent = `${many(step.rows, "row")}, ${many(step.seqs, "sequence")}, ${fixed(step.context, 0)} positions of context · ${many(header.task_count, "task")}`;
function card(name, [value, unit], below) {
  const strong = make("strong", {}, value, unit ? make("small", {}, unit) : "");
  $("cards").append(make("div", { class: "card" }, make("span", {}, name), strong, make("em", {}, below)));
}
if (measured) {
  card("Measured step", [ms(measured.p50_seconds), "ms"], `p99 ${ms(measured.p99_seconds)} ms of ${many(measured.steps, "step")}`);
  card("Share of bandwidth", [fixed(measured.bandwidth_share * 100, 0), "%"], `of ${fixed(measured.read_bandwidth / 1e9, 1)} GB/s, same run`);
}
card("Predicted step", [ms(header.predicted_seconds), "ms"], measured ? `tasks within ${percent(measured.median_error, 1)}` : `${fixed(1 / header.predicted_seconds, 0)} steps a second`);
card("Weights a step", bytes(header.weight_bytes), `of ${text(bytes(header.model_bytes))} in all`);
card("KV a token", header.kv_bytes_per_token < 1e6 ? [fixed(header.kv_bytes_per_token, 0), "B"] : bytes(header.kv_bytes_per_token), `${text(bytes(header.work.kv_bytes))} moved a step`);
card("Intensity", [fixed(header.intensity, 2), "flop/B"], `${fixed(header.work.flops / 1e6, 0)} Mflop · ${header.bound}-bound`);

// Roofline.
const machine = header.machine;
const dots = [];
function roofline() {
  const [W, H, left, right, top, bottom] = [1180, 430, 62, 24, 16, 44];
  const shown = tasks.filter((t) => t.flops > 0 && t.intensity > 0 && taskSeconds(t) > 0);
  const rate = (t) => t.flops / taskSeconds(t);
  const peak = 2 * Math.max(machine.block_macs, machine.plain_macs);
  const xs = shown.map((t) => t.intensity).concat([peak / machine.bandwidth]);
  const ys = shown.map(rate).concat([peak]);
  const decade = (list, pick, round) => round(Math.log10(pick(...list)));
  const x0 = decade(xs, Math.min, (v) => Math.floor(v * 2 - 0.3) / 2), x1 = decade(xs, Math.max, (v) => Math.ceil(v * 2 + 0.6) / 2);
  const y0 = decade(ys, Math.min, (v) => Math.floor(v * 2 - 0.2) / 2), y1 = decade(ys, Math.max, (v) => Math.ceil(v * 2 + 0.3) / 2);
  const X = (v) => left + ((Math.log10(v) - x0) / (x1 - x0)) * (W - left - right);
  const Y = (v) => H - bottom - ((Math.log10(v) - y0) / (y1 - y0)) * (H - top - bottom);
  const chart = svg(W, H, `Roofline: ${shown.length} tasks by operations per byte and operations per second`);
  const ticks = (from, to) => { const all = []; for (let d = Math.ceil(from - 1e-9); d <= to + 1e-9; d += 1) all.push(d); return all; };
  const minor = (from, to) => ticks(from - 1, to).flatMap((d) => [2, 5].map((m) => d + Math.log10(m))).filter((d) => d >= from && d <= to);
  const unit = (v) => (v >= 1e12 ? `${short(v / 1e12)} T` : v >= 1e9 ? `${+(v / 1e9).toPrecision(2)} G` : v >= 1e6 ? `${+(v / 1e6).toPrecision(2)} M` : `${+(v / 1e3).toPrecision(2)} k`);
  for (const d of ticks(x0, x1).concat(minor(x0, x1))) {
    const x = X(10 ** d);
    chart.append(line(x, top, x, H - bottom, "grid"), label(x, H - bottom + 18, String(+(10 ** d).toPrecision(2)), { "text-anchor": "middle" }));
  }
  for (const d of ticks(y0, y1).concat(minor(y0, y1))) {
    const y = Y(10 ** d);
    chart.append(line(left, y, W - right, y, "grid"), label(left - 8, y + 4, unit(10 ** d), { "text-anchor": "end" }));
  }
  chart.append(label((left + W - right) / 2, H - 6, "operations per byte", { "text-anchor": "middle", class: "strong" }));
  chart.append(label(0, 0, "operations per second", { "text-anchor": "middle", class: "strong", transform: `translate(12 ${(top + H - bottom) / 2}) rotate(-90)` }));
  const clipped = (v) => Math.max(10 ** y0, v);
  const roof = (macs, second, name) => {
    const high = 2 * macs, ridge = high / machine.bandwidth;
    const from = Math.max(10 ** x0, 10 ** y0 / machine.bandwidth);
    const points = [[from, clipped(from * machine.bandwidth)], [ridge, high], [10 ** x1, high]].filter(([x]) => x <= 10 ** x1 && x >= from);
    chart.append(make("polyline", { class: second ? "roof second" : "roof", points: points.map(([x, y]) => `${X(x)},${Y(y)}`).join(" ") }));
    chart.append(label(W - right - 6, Y(high) - 7, `${name} ${unit(high)}flop/s`, { "text-anchor": "end", class: second ? "" : "strong" }));
  };
  roof(machine.plain_macs, true, "plain numbers");
  roof(machine.block_macs, false, "block formats");
  const at = 10 ** (x0 + (x1 - x0) * 0.14), angle = -Math.atan2((H - top - bottom) / (y1 - y0), (W - left - right) / (x1 - x0)) * 180 / Math.PI;
  if (at * machine.bandwidth > 10 ** y0) chart.append(label(0, 0, `memory ${fixed(machine.bandwidth / 1e9, 1)} GB/s`, { class: "strong", "text-anchor": "middle", transform: `translate(${X(at)} ${Y(at * machine.bandwidth) - 9}) rotate(${angle})` }));
  const longest = Math.max(...shown.map(taskSeconds));
  const marks = make("g", { id: "dots", tabindex: 0, role: "application", "aria-label": "Tasks on the roofline: arrow keys go from one to the next, Enter searches for it" });
  for (const t of [...shown].sort((a, b) => taskSeconds(b) - taskSeconds(a))) {
    const r = 5 + 20 * Math.sqrt(taskSeconds(t) / longest);
    const dot = make("circle", { class: "dot", cx: X(t.intensity), cy: Y(rate(t)), r, style: `fill:${color(t.block)}`, "data-task": t.index });
    hover(dot, taskTitle(t), taskLines(t));
    dot.addEventListener("click", () => find(t));
    marks.append(dot);
    dots.push({ dot, t });
  }
  dots.sort((a, b) => a.t.index - b.t.index);
  walk(marks);
  chart.append(marks);
  $("roofline").append(chart);
  const dims = measured ? "measured" : "predicted";
  $("roof-note").textContent = `A dot per task, sized by its ${dims} time; both axes are logarithmic. Tasks on the slope are bound by memory. Rates of ${machine.name}: ${{ assumed: "assumed, as there is no profile", profile: "by its profile", modelled: "modelled", measured: "measured in the same run" }[machine.figures]}.`;
  const blocks = [...new Set(tasks.map((t) => t.block))];
  for (const block of blocks) $("legend").append(make("span", {}, make("i", { style: `background:${color(block)}` }), block));
}
// Arrow keys among the dots.
function walk(marks) {
  let place = -1;
  const go = (to) => {
    if (dots.length === 0) return;
    if (place >= 0) dots[place].dot.classList.remove("on");
    place = (to + dots.length) % dots.length;
    const { dot, t } = dots[place];
    dot.classList.add("on");
    const box = dot.getBoundingClientRect();
    show(taskTitle(t), taskLines(t), box.right, box.bottom);
  };
  marks.addEventListener("keydown", (e) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (by) { go(place + by); e.preventDefault(); }
    if (e.key === "Enter" && place >= 0) find(dots[place].t);
    if (e.key === "Escape") hide();
  });
  marks.addEventListener("blur", () => { hide(); if (place >= 0) dots[place].dot.classList.remove("on"); });
}

// Bars by layer.
function layers() {
  const [W, H, left, top, bottom] = [580, 230, 46, 10, 34];
  const names = groups.layer.map((g) => g.key);
  const parts = names.map((key) => {
    const own = tasks.filter((t) => (t.layer === null ? "-" : String(t.layer)) === key);
    const sums = new Map();
    for (const t of own) sums.set(t.block, (sums.get(t.block) || 0) + taskSeconds(t));
    return { key, sums };
  }).filter((p) => p.key !== "-");
  if (parts.length === 0) { $("layers").append(make("p", { class: "note" }, "The graph has no layers.")); return; }
  const total = (p) => [...p.sums.values()].reduce((a, b) => a + b, 0);
  const most = Math.max(...parts.map(total));
  const chart = svg(W, H, "Time by layer, divided by block");
  axis(chart, most * 1e6, (v) => H - bottom - (v / (most * 1e6)) * (H - top - bottom), left, W, (v) => `${+v.toPrecision(3)} µs`);
  const width = (W - left) / parts.length;
  parts.forEach((p, i) => {
    let y = H - bottom;
    for (const [block, seconds] of p.sums) {
      const h = (seconds / most) * (H - top - bottom);
      y -= h;
      const rect = make("rect", { class: "block", x: left + i * width + width * 0.12, y, width: width * 0.76, height: h, rx: 1.5, style: `fill:${color(block)}` });
      hover(rect, `layer ${p.key}, ${block}`, [us(seconds), `${us(total(p))} the layer`]);
      rect.addEventListener("click", () => search(`layer:${p.key} ${block}`));
      chart.append(rect);
    }
    if (parts.length <= 16 || i % 5 === 0) chart.append(label(left + (i + 0.5) * width, H - bottom + 16, p.key, { "text-anchor": "middle" }));
  });
  chart.append(label(left + (W - left) / 2, H - 2, "layer", { "text-anchor": "middle", class: "strong" }));
  $("layers").append(chart);
  const outside = tasks.filter((t) => t.layer === null).reduce((sum, t) => sum + taskSeconds(t), 0);
  $("layer-note").textContent = `${measured ? "Measured" : "Predicted"} time of each layer; ${us(outside)} lie outside the layers.`;
}
function axis(chart, most, Y, left, W, format) {
  const unit = 10 ** Math.floor(Math.log10(most));
  const step = most / unit > 5 ? 2 * unit : most / unit > 2 ? unit : unit / 2;
  for (let v = 0; v <= most * 1.0001; v += step) chart.append(line(left, Y(v), W, Y(v), "grid"), label(left - 7, Y(v) + 4, format(v), { "text-anchor": "end" }));
}

// What each thread did: tasks in the colour of their block, idle stretches hatched and named.
function threads() {
  if (!measured || measured.threads.length === 0) return;
  $("threads-panel").hidden = false;
  const [W, left, row, gap, bottom] = [1180, 62, 34, 12, 34];
  const lanes = measured.threads.slice(0, 16);
  const H = lanes.length * (row + gap) + bottom;
  const total = Math.max(...lanes.flatMap((l) => l.stretches.map((s) => s.start_seconds + s.seconds)));
  const X = (s) => left + (s / total) * (W - left);
  const chart = svg(W, H, "Tasks and idle stretches of each thread over the step");
  const hatch = make("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  hatch.append(make("rect", { width: 5, height: 5, style: "fill:var(--panel)" }), make("rect", { width: 2, height: 5, style: "fill:var(--warn)" }));
  chart.append(make("defs", {}, hatch));
  const named = new Map(tasks.map((t) => [t.index, t]));
  lanes.forEach((lane, i) => {
    const y = i * (row + gap);
    chart.append(label(left - 10, y + row / 2 + 4, lane.name, { "text-anchor": "end", class: "strong" }));
    for (const s of lane.stretches) {
      const t = named.get(s.task);
      const place = { x: X(s.start_seconds), y, width: Math.max(0.4, X(s.start_seconds + s.seconds) - X(s.start_seconds)), height: row };
      const rect = s.cause === null
        ? make("rect", { class: "block", ...place, style: `fill:${color(t ? t.block : "other")};stroke-width:0` })
        : make("rect", { class: "idle", ...place, y: y + row * 0.25, height: row * 0.5 });
      const after = t ? `after ${taskTitle(t)}` : "before the first task";
      hover(rect, s.cause === null ? (t ? taskTitle(t) : `t${s.task}`) : `idle: ${s.cause}`, s.cause === null ? [us(s.seconds)] : [us(s.seconds), after]);
      if (s.cause === null && t) rect.addEventListener("click", () => find(t));
      chart.append(rect);
    }
  });
  const ticks = 8;
  for (let k = 0; k <= ticks; k += 1) {
    const s = (total * k) / ticks;
    chart.append(label(X(s), H - bottom + 14, `${fixed(s * 1e3, 2)} ms`, { "text-anchor": k === 0 ? "start" : k === ticks ? "end" : "middle" }));
  }
  $("threads").append(chart);
  const worst = [...measured.idle].sort((a, b) => b.seconds - a.seconds)[0];
  $("threads-note").textContent = `Hatched stretches are idle; each names its cause. Over all steps most idle time is “${worst.cause}”: ${us(worst.seconds)} a step, ${percent(worst.share, 1)} of all threads' time.`;
}

// The arena.
function arena() {
  const m = memory;
  const [W, H, left, top, bottom] = [580, 230, 52, 10, 34];
  if (m.arena_bytes === 0) { $("memory").append(make("p", { class: "note" }, "The plan keeps no values between tasks.")); return; }
  const X = (t) => left + (t / m.live.length) * (W - left);
  const Y = (b) => H - bottom - (b / m.arena_bytes) * (H - top - bottom);
  const chart = svg(W, H, "Buffers of the arena: from left to right the tasks, from bottom to top the bytes");
  axis(chart, m.arena_bytes, Y, left, W, (v) => (v === 0 ? "0" : `${+(v / (m.arena_bytes > 2e6 ? 1e6 : 1e3)).toPrecision(3)} ${m.arena_bytes > 2e6 ? "MB" : "kB"}`));
  for (const i of m.intervals) {
    const block = (tasks.find((t) => t.index === i.first) || {}).block;
    const rect = make("rect", { class: "block buffer", x: X(i.first), y: Y(i.offset + i.bytes), width: Math.max(1, X(i.last + 1) - X(i.first)), height: Math.max(1, Y(i.offset) - Y(i.offset + i.bytes)), style: `fill:${color(block)};fill-opacity:.72` });
    hover(rect, `b${i.buffer}  ${i.type}`, [`${text(bytes(i.bytes))} at ${fixed(i.offset, 0)}`, `tasks ${i.first} to ${i.last}`]);
    chart.append(rect);
  }
  const path = m.live.map((b, t) => `${X(t)},${Y(b)} ${X(t + 1)},${Y(b)}`).join(" ");
  chart.append(make("polyline", { class: "live", points: path }), line(left, Y(m.lower_bound), W, Y(m.lower_bound), "bound"));
  chart.append(label(left + (W - left) / 2, H - 2, "task", { "text-anchor": "middle", class: "strong" }));
  for (let i = 0; i <= 4; i += 1) { const t = Math.round((m.live.length * i) / 4); chart.append(label(X(t), H - bottom + 16, String(t), { "text-anchor": i === 0 ? "start" : i === 4 ? "end" : "middle" })); }
  $("memory").append(chart);
  $("memory-note").textContent = `${text(bytes(m.arena_bytes))} hold ${m.intervals.length} buffers. Most live: ${text(bytes(m.lower_bound))} at task ${m.peak_task} (dashed); ${percent(m.fragmentation, 1)} of the arena is never live then.`;
}

// Sums and idle time as bars.
function bars(target, heading, rows) {
  const box = make("div", { class: "bars" }, make("h3", {}, heading));
  const most = Math.max(...rows.map((r) => r.seconds), 1e-12);
  for (const r of rows) {
    const bar = make("div", { class: "bar" }, make("b", { style: `width:${(100 * r.seconds) / most}%;background:${r.color || "var(--accent)"}` }));
    box.append(make("span", {}, r.name), bar, make("span", { class: "n" }, `${us(r.seconds)} · ${percent(r.share, 1)}`));
  }
  $(target).append(box);
}
function sums() {
  const seconds = (g) => (g.measured_seconds === null ? g.predicted_seconds : g.measured_seconds);
  const list = (rows, tint) => {
    const all = rows.reduce((sum, g) => sum + seconds(g), 0);
    return rows.map((g) => ({ name: g.key, seconds: seconds(g), share: all > 0 ? seconds(g) / all : 0, color: tint && color(g.key) })).sort((a, b) => b.seconds - a.seconds);
  };
  bars("groups", "by block", list(groups.block, true));
  bars("groups", "by kind", list(groups.op).slice(0, 10));
  bars("groups", "by type", list(groups.type).slice(0, 6));
  if (measured) bars("idle", "idle threads, by cause (per step, all threads)", measured.idle.map((i) => ({ name: i.cause, seconds: i.seconds, share: i.share, color: "var(--warn)" })));
}

// Drafts.
function drafts() {
  if (header.kv_bytes_per_token === 0) { $("drafts").append(make("p", { class: "note" }, "The graph has no context to draft from.")); return; }
  const [W, H, left, top, bottom] = [580, 236, 44, 22, 40];
  const rows = [{ drafts: 0, cost: 1, break_even: null }, ...speculation];
  const most = Math.max(...rows.map((r) => r.cost)) * 1.05;
  const X = (k) => left + 8 + (k / rows[rows.length - 1].drafts) * (W - left - 20);
  const Y = (v) => H - bottom - (v / most) * (H - top - bottom);
  const chart = svg(W, H, "Cost of a step by its number of drafts");
  axis(chart, most, Y, left, W, (v) => `${+v.toPrecision(3)}×`);
  chart.append(make("polyline", { class: "curve", points: rows.map((r) => `${X(r.drafts)},${Y(r.cost)}`).join(" ") }));
  for (const r of rows) {
    const dot = make("circle", { class: "point", cx: X(r.drafts), cy: Y(r.cost), r: 3.5 });
    hover(dot, many(r.drafts, "draft"), [`${fixed(r.cost, 3)} times a plain step`, r.drafts === 0 ? "plain" : r.break_even === null ? "never pays" : `pays from ${percent(r.break_even, 1)} acceptance`]);
    chart.append(dot);
    if (r.break_even !== null && [1, 2, 4, 6, 8, 12, 16].includes(r.drafts)) chart.append(label(X(r.drafts), Y(r.cost) - 10, percent(r.break_even), { "text-anchor": "middle" }));
    if (r.drafts % 2 === 0) chart.append(label(X(r.drafts), H - bottom + 16, String(r.drafts), { "text-anchor": "middle" }));
  }
  chart.append(label((left + W) / 2, H - 4, "drafts (on the curve: acceptance from which they pay)", { "text-anchor": "middle", class: "strong" }));
  $("drafts").append(chart);
}
