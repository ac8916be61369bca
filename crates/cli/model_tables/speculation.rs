//! Verification of drafts under capture: all rows in one plan, against one row at a time.

use super::setting::Setting;
use super::walk::{Form, Rows, Walk, preset};
use crate::section::{Section, cells};
use crate::table::Table;
use anyhow::Result;

const CONTEXT: u32 = 2048;
/// Rows of a step: a token alone, and with its drafts.
const ROWS: [u32; 3] = [1, 4, 8];

pub(super) fn sections(setting: &Setting<'_>) -> Result<Vec<Section>> {
    let mut rows = Vec::new();
    for model in ["pangu-1b", "pangu-7b"] {
        let mut walk = Walk::new(setting.chip, &preset(model)?, Form::GRAPH, &ROWS)?;
        for host in &setting.hosts {
            walk.host(host)?;
            let one = walk.decode(CONTEXT)?;
            for (plan, k) in ROWS.into_iter().enumerate().skip(1) {
                let batched = walk.step(plan, &[Rows { rows: k, len: CONTEXT }])?;
                rows.push(row(cells![model, host, k], k, one, batched));
            }
        }
    }
    let title = "Modelled: verification of k rows under capture, 2048 positions";
    let heads = vec![
        "model",
        "host",
        ">k",
        ">V(1) ms",
        ">V(k) ms",
        ">V(k)/V(1) batched",
        ">one by one ms",
        ">one by one over V(1)",
        ">batched is faster by",
    ];
    let notes = vec![
        "V(k) is the time of a step of k rows of one sequence, each with an output, in one plan. One by one are k steps of \
         one row. All rows have to be accepted for k tokens."
            .to_owned(),
    ];
    Ok(vec![Section { table: Table { title, heads, rows }, notes }])
}

fn row(mut cells: Vec<String>, k: u32, one: f64, batched: f64) -> Vec<String> {
    let ms = |s: f64| format!("{:.2}", s * 1e3);
    let all = one * f64::from(k);
    let (ratio, gain) = (format!("{:.3}", batched / one), format!("{:.2}", all / batched));
    cells.extend(cells![ms(one), ms(batched), ratio, ms(all), format!("{:.2}", all / one), gain]);
    cells
}
