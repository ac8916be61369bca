//! The roofline as a picture: a dot per task on logarithmic axes, sized by its time.

use crate::html::escaped;
use crate::place::Block;
use crate::report::{Report, TaskRow};
use std::fmt::Write;

/// Size of the picture, and its margins: left, right, top, bottom.
const SIZE: (f64, f64) = (960.0, 540.0);
const MARGINS: (f64, f64, f64, f64) = (70.0, 24.0, 66.0, 50.0);
/// Radius of the smallest and of the largest dot.
const RADIUS: (f64, f64) = (4.0, 22.0);

const STYLE: &str = "svg{font:13px ui-sans-serif,system-ui,sans-serif;--bg:#fff;--ink:#16191f;--soft:#5b6472;--grid:#e9edf2;\
--attention:#3b6fe0;--mlp:#12967c;--head:#d9822b;--embedding:#9254c8;--other:#7d8796}\
@media(prefers-color-scheme:dark){svg{--bg:#161b22;--ink:#e8ecf2;--soft:#a2acba;--grid:#262d37;--attention:#6f9bff;\
--mlp:#3ec9a7;--head:#f0a656;--embedding:#bd8cf0;--other:#97a1b0}}\
text{fill:var(--soft)}.strong{fill:var(--ink);font-weight:600}.grid{stroke:var(--grid)}\
.roof{stroke:var(--ink);stroke-width:1.75;fill:none}.dot{fill-opacity:.62;stroke:var(--bg)}";

/// A logarithmic axis over whole and half decades.
struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn over(values: &[f64], start: f64, end: f64) -> Axis {
        let logs = || values.iter().filter(|v| **v > 0.0).map(|v| v.log10());
        let (low, high) = (logs().fold(f64::INFINITY, f64::min), logs().fold(f64::NEG_INFINITY, f64::max));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        Axis { from: (low * 2.0 - 0.3).floor() / 2.0, to: (high * 2.0 + 0.6).ceil() / 2.0, start, end }
    }

    fn at(&self, value: f64) -> f64 {
        self.start + (value.log10() - self.from) / (self.to - self.from) * (self.end - self.start)
    }

    /// 1, 2 and 5 of each decade.
    fn ticks(&self) -> Vec<f64> {
        let decades = self.from.floor() as i32..=self.to.ceil() as i32;
        let all = decades.flat_map(|d| [1.0, 2.0, 5.0].map(|m: f64| m * 10f64.powi(d)));
        all.filter(|v| (self.from - 1e-9..=self.to + 1e-9).contains(&v.log10())).collect()
    }
}

/// The picture. Follows the reader's light or dark scheme.
pub fn svg(report: &Report) -> String {
    let machine = &report.header.machine;
    let shown: Vec<&TaskRow> = report.tasks.iter().filter(|t| t.intensity > 0.0 && t.seconds() > 0.0).collect();
    let rate = |t: &TaskRow| t.work.flops as f64 / t.seconds();
    let peak = 2.0 * machine.block_macs;
    let xs: Vec<f64> = shown.iter().map(|t| t.intensity).chain([peak / machine.bandwidth]).collect();
    let ys: Vec<f64> = shown.iter().map(|t| rate(t)).chain([peak]).collect();
    let ((width, height), (left, right, top, bottom)) = (SIZE, MARGINS);
    let (x, y) = (Axis::over(&xs, left, width - right), Axis::over(&ys, height - bottom, top));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n<style>{STYLE}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"var(--bg)\"/>\n<text class=\"strong\" x=\"{left}\" y=\"26\" \
         font-size=\"16\">{}</text>\n",
        escaped(&format!("{} · {}", report.header.source, report.header.plan))
    );
    grid(&mut out, &x, &y);
    roof(&mut out, (&x, &y), machine.bandwidth, peak);
    let longest = shown.iter().map(|t| t.seconds()).fold(0.0, f64::max);
    let mut largest_first = shown;
    largest_first.sort_by(|a, b| b.seconds().total_cmp(&a.seconds()));
    for t in largest_first {
        let radius = RADIUS.0 + (RADIUS.1 - RADIUS.0) * (t.seconds() / longest).sqrt();
        let title = escaped(&format!("t{} {} {}: {:.1} us", t.index, t.kind, t.name, t.seconds() * 1e6));
        put(
            &mut out,
            format_args!(
                "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\" fill=\"var(--{})\"><title>{title}</title></circle>",
                x.at(t.intensity),
                y.at(rate(t)),
                t.block
            ),
        );
    }
    legend(&mut out, report);
    out + "</svg>\n"
}

fn put(out: &mut String, args: std::fmt::Arguments<'_>) {
    writeln!(out, "{args}").expect("a string takes all that is written to it");
}

fn grid(out: &mut String, x: &Axis, y: &Axis) {
    for v in x.ticks() {
        let at = x.at(v);
        put(out, format_args!("<path class=\"grid\" d=\"M{at:.1} {:.1}V{:.1}\"/>", y.start, y.end));
        put(out, format_args!("<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{v}</text>", y.start + 18.0));
    }
    for v in y.ticks() {
        let at = y.at(v);
        put(out, format_args!("<path class=\"grid\" d=\"M{:.1} {at:.1}H{:.1}\"/>", x.start, x.end));
        let text = rate(v);
        put(
            out,
            format_args!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", x.start - 8.0, at + 4.0),
        );
    }
    let middle = f64::midpoint(x.start, x.end);
    put(
        out,
        format_args!(
            "<text class=\"strong\" x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">operations per byte</text>",
            y.start + 40.0
        ),
    );
    put(
        out,
        format_args!(
            "<text class=\"strong\" transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">operations per second</text>",
            f64::midpoint(y.start, y.end)
        ),
    );
}

/// A rate with its unit.
fn rate(v: f64) -> String {
    let (unit, name) =
        [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")].into_iter().find(|(u, _)| v >= *u).unwrap_or((1.0, ""));
    format!("{} {name}", (v / unit * 100.0).round() / 100.0)
}

fn roof(out: &mut String, (x, y): (&Axis, &Axis), bandwidth: f64, peak: f64) {
    let low = 10f64.powf(x.from).max(10f64.powf(y.from) / bandwidth);
    let (ridge, end) = (peak / bandwidth, 10f64.powf(x.to));
    if !(low > 0.0 && ridge.is_finite() && low < ridge) {
        return;
    }
    let points = [(low, low * bandwidth), (ridge, peak), (end.max(ridge), peak)]
        .map(|(a, b)| format!("{:.1},{:.1}", x.at(a), y.at(b)));
    put(out, format_args!("<polyline class=\"roof\" points=\"{}\"/>", points.join(" ")));
    let text = format!("{}flop/s", rate(peak));
    put(
        out,
        format_args!(
            "<text class=\"strong\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            x.end - 4.0,
            y.at(peak) - 8.0
        ),
    );
    let slope = ((y.end - y.start) / (y.to - y.from)).atan2((x.end - x.start) / (x.to - x.from)).to_degrees();
    let middle = (low * ridge).sqrt();
    let (at, above) = (x.at(middle), y.at(middle * bandwidth) - 9.0);
    let text = format!("memory {:.1} GB/s", bandwidth / 1e9);
    put(
        out,
        format_args!(
            "<text class=\"strong\" transform=\"translate({at:.1} {above:.1}) rotate({slope:.1})\" \
             text-anchor=\"middle\">{text}</text>"
        ),
    );
}

fn legend(out: &mut String, report: &Report) {
    let mut blocks: Vec<Block> = report.tasks.iter().map(|t| t.block).collect();
    blocks.sort_unstable();
    blocks.dedup();
    for (i, block) in blocks.iter().enumerate() {
        let at = SIZE.0 - MARGINS.1 - 104.0 * (blocks.len() - i) as f64;
        put(
            out,
            format_args!(
                "<circle cx=\"{at}\" cy=\"44\" r=\"5\" fill=\"var(--{block})\"/><text x=\"{}\" y=\"48\">{block}</text>",
                at + 11.0
            ),
        );
    }
}
