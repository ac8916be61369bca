//! The map as a picture: a cell for each step, coloured by what bounds it.

use super::map::{Cell, Map};
use crate::escape;
use aio::inspect::escaped;
use aio::orchestrator::Regime;
use std::fmt::Write as _;

/// Pixels of a cell, of the margins, and of a line of text.
const WIDE: u32 = 120;
const HIGH: u32 = 46;
const LEFT: u32 = 90;
const TOP: u32 = 56;
const LINE: u32 = 16;

/// Regimes with their colours: a palette for people who see no difference of red and green (Okabe and Ito, 2008).
const COLOURS: [(Regime, &str); 4] =
    [(Regime::Launch, "#e69f00"), (Regime::Weight, "#56b4e9"), (Regime::Kv, "#009e73"), (Regime::Compute, "#cc79a7")];

fn colour(regime: Regime) -> &'static str {
    COLOURS.iter().find(|(r, _)| *r == regime).map_or("#ffffff", |(_, colour)| colour)
}

/// Text that is safe in markup.
fn safe(text: &str) -> String {
    escaped(&escape::cell(text))
}

fn text(out: &mut String, (x, y): (u32, u32), anchor: &str, words: &str) {
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>", safe(words));
}

/// An SVG picture.
pub(super) fn picture(map: &Map) -> String {
    let (columns, rows) = (map.contexts.len() as u32, map.batches.len() as u32);
    let (width, height) = (LEFT + columns * WIDE + 10, TOP + rows * HIGH + 2 * LINE + 10);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>{}</title>\n",
        safe(&map.title())
    );
    text(&mut out, (LEFT, LINE), "start", &map.title());
    text(&mut out, (LEFT - 8, TOP - 8), "end", "batch");
    for (column, context) in map.contexts.iter().enumerate() {
        let x = LEFT + column as u32 * WIDE + WIDE / 2;
        text(&mut out, (x, TOP - 8), "middle", &format!("{context} positions"));
    }
    for (row, (batch, line)) in map.batches.iter().zip(map.cells.chunks(map.contexts.len())).enumerate() {
        let y = TOP + row as u32 * HIGH;
        text(&mut out, (LEFT - 8, y + HIGH / 2 + 4), "end", &batch.to_string());
        line.iter().enumerate().for_each(|(column, step)| cell(&mut out, (LEFT + column as u32 * WIDE, y), step));
    }
    legend(&mut out, TOP + rows * HIGH + LINE + 4);
    out.push_str("</svg>\n");
    out
}

fn cell(out: &mut String, (x, y): (u32, u32), step: &Cell) {
    let (fill, width, height) = (colour(step.regime), WIDE - 2, HIGH - 2);
    let _ = writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"/>");
    let middle = x + WIDE / 2;
    text(out, (middle, y + LINE + 2), "middle", &format!("{:.2} ms", step.predicted.0 * 1e3));
    let below = match step.measured {
        Some(seconds) => format!("measured {:.2} ms", seconds * 1e3),
        None => format!("{} drafts pay", step.drafts.0),
    };
    text(out, (middle, y + 2 * LINE + 2), "middle", &below);
}

fn legend(out: &mut String, y: u32) {
    for (i, (regime, fill)) in COLOURS.iter().enumerate() {
        let x = LEFT + i as u32 * WIDE;
        let _ = writeln!(out, "<rect x=\"{x}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{fill}\"/>", y - 9);
        text(out, (x + 14, y), "start", &regime.to_string());
    }
}

/// A page with the picture and the boundaries.
pub(super) fn page(map: &Map) -> String {
    let title = safe(&map.title());
    let mut out = format!("<!doctype html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n{}", picture(map));
    out.push_str("<table>\n<tr><th>at<th>below<th>above<th>boundary\n");
    for (at, b, unit) in map.boundaries() {
        let _ = writeln!(out, "<tr><td>{at}<td>{}<td>{}<td>{:.0} {unit}", b.from, b.to, b.at);
    }
    out.push_str(
        "</table>\n<table>\n<tr><th>batch<th>context<th>bound<th>time<th>drafts that pay<th>tok/s with them\n",
    );
    for c in &map.cells {
        let (drafts, rate) = c.drafts;
        let _ = writeln!(
            out,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{drafts}<td>{rate:.0}",
            c.batch,
            c.context,
            c.regime,
            c.time()
        );
    }
    out.push_str("</table>\n");
    out
}
