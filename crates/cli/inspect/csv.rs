//! Tasks as comma-separated values.

use aio::inspect::TaskRow;

const HEADS: &str = "index,kind,name,layer,block,type,fused_from,weight_bytes,kv_bytes,activation_bytes,flops,intensity,\
                     predicted_us,bound,p50_us,p99_us,gb_s,bandwidth_share,error,kernel,why";

/// A header line, and one line per task. Measured columns are empty without a measurement.
pub(super) fn lines(tasks: &[TaskRow]) -> String {
    std::iter::once(HEADS.to_owned()).chain(tasks.iter().map(line)).map(|line| line + "\n").collect()
}

fn line(t: &TaskRow) -> String {
    let us = |seconds: f64| format!("{:.3}", seconds * 1e6);
    let mut cells = vec![
        t.index.to_string(),
        t.kind.clone(),
        quoted(&t.name),
        t.layer.map_or(String::new(), |l| l.to_string()),
        t.block.to_string(),
        t.dtype.clone(),
        t.fused_from.join(" "),
        t.work.weight_bytes.to_string(),
        t.work.kv_bytes.to_string(),
        t.work.activation_bytes.to_string(),
        t.work.flops.to_string(),
        format!("{:.4}", t.intensity),
        us(t.predicted_seconds),
        t.bound.to_string(),
    ];
    match t.measured {
        Some(m) => cells.extend([
            us(m.p50_seconds),
            us(m.p99_seconds),
            format!("{:.3}", m.gb_s),
            format!("{:.4}", m.bandwidth_share),
            format!("{:.4}", m.error),
        ]),
        None => cells.extend(std::iter::repeat_n(String::new(), 5)),
    }
    match &t.kernel {
        Some(k) => cells.extend([quoted(&k.name), quoted(&k.why)]),
        None => cells.extend(std::iter::repeat_n(String::new(), 2)),
    }
    cells.join(",")
}

/// Text from files, quoted where needed.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
