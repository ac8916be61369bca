//! The report as one HTML page that needs no other file and no network: it carries the report's JSON and draws it.

use crate::Report;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const DRAWING: &str = include_str!("page/page.js");
const TABLE: &str = include_str!("page/table.js");

/// The page.
pub fn html(report: &Report) -> String {
    let mut out = String::with_capacity(PAGE.len() + STYLE.len() + DRAWING.len() + TABLE.len());
    let mut rest = PAGE;
    // In one pass, so that what is put in is never searched for places.
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, after)) = after.split_once("}}") else { break };
        match name {
            "title" => out.push_str(&escaped(&format!("{} · {}", report.header.source, report.header.plan))),
            "style" => out.push_str(STYLE),
            "script" => out.extend([DRAWING, TABLE]),
            "data" => out.push_str(&inert(&report.to_json())),
            _ => {}
        }
        rest = after;
    }
    out + rest
}

/// Text as HTML or SVG, in elements and between double quotes. Control characters become spaces.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// JSON that cannot end the element that it is in.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_ends_the_script_or_the_title() {
        assert_eq!(inert("{\"a\":\"</script><!--\"}"), "{\"a\":\"\\u003c/script>\\u003c!--\"}");
        assert_eq!(escaped("<b>\"&\n"), "&lt;b&gt;&quot;&amp; ");
    }
}
