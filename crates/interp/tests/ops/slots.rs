//! The ops on recurrent state.

use super::check;
use aio_ir::Op;
use std::collections::HashSet;

/// Two rows of one sequence that reads slot 1, accepts its pending row, and writes slot 2: one row is certain, one a draft.
pub(crate) fn slots() -> HashSet<Op> {
    let places: [(&str, &[f64]); 3] = [("places", &[1.0, 2.0]), ("counts", &[1.0, 1.0]), ("s", &[0.0, 0.0])];
    let with = |more: &[(&'static str, &'static [f64])]| [&places[..], more].concat();
    let inputs =
        "%p = input \"places\" : u32[seqs, 2]\n%c = input \"counts\" : u32[seqs, 2]\n%s = input \"s\" : u32[rows]\n";
    // Three taps, room for one draft: slot 1 holds the inputs 1 and 2, and the pending row 3.
    let conv = format!(
        "{inputs}%st = state \"st\" : f32[slots, 3, 1]\n%x = input \"x\" : f32[rows, 1]\n%w = weight \"w\" : f32[1, 3]\n\
         %b = weight \"b\" : f32[1]\n%n, %y = conv %st, %x, %w, %p, %c, %s, %b\noutput \"y\" = %y\nfinal %st = %n"
    );
    let bare = conv.replace("%s, %b\n", "%s\n");
    let held = [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0];
    let numbers = with(&[
        ("st", &[0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0]),
        ("x", &[4.0, 5.0]),
        ("w", &[100.0, 10.0, 1.0]),
        ("b", &[0.5]),
    ]);
    let after = [&held[..6], &[3.0, 4.0, 5.0]].concat();
    let mut seen =
        check(&[(&conv, &numbers, &[&[234.5, 345.5], &after]), (&bare, &numbers, &[&[234.0, 345.0], &after])]);
    // Keys and values of one element: S = gate S + beta k (v - gate S k), out = S q.
    let delta = format!(
        "{inputs}%st = state \"st\" : f32[slots, 1, 5]\n%q = input \"q\" : f32[rows, 1, 1]\n%k = input \"k\" : f32[rows, 1, 1]\n\
         %v = input \"v\" : f32[rows, 1, 1]\n%g = input \"g\" : f32[rows, 1]\n%b = input \"b\" : f32[rows, 1]\n\
         %n, %y = delta_rule %st, %q, %k, %v, %g, %b, %p, %c, %s\noutput \"y\" = %y\nfinal %st = %n"
    );
    let numbers = with(&[
        // Slot 1: S = 2, and the pending row k = 1, v = 5, gate = 0.5, beta = 1.
        ("st", &[0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 1.0, 5.0, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        ("q", &[2.0, 10.0]),
        ("k", &[2.0, 1.0]),
        ("v", &[3.0, 1.0]),
        ("g", &[1.0, 0.5]),
        ("b", &[0.5, 0.25]),
    ]);
    // Pending: 1 + (5 - 1) = 5. Certain: 5 + 0.5 * 2 * (3 - 10) = -2. Draft: -1 + 0.25 * (1 + 1) = -0.5.
    let after = [0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 1.0, 5.0, 0.5, 1.0, -2.0, 1.0, 1.0, 0.5, 0.25];
    seen.extend(check(&[(&delta, &numbers, &[&[-4.0, -5.0], &after])]));
    seen
}
