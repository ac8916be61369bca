//! Memory needed for a graph run, checked before any is allocated: the peak of everything held at one time.

use crate::args::DeviceArg;
use aio::ir::text::Parsed;
use aio::ir::{DType, Def, Dims, Graph, Node, Value};
use anyhow::{Context, Result, bail};

/// Rejects a graph whose tensors together exceed the machine's memory; `given` counts bytes of files already held.
pub(crate) fn check(parsed: &Parsed, dims: &Dims, device: DeviceArg, given: u64) -> Result<()> {
    let available = aio::engine::available_bytes().unwrap_or(u64::MAX / 2);
    fits(parsed, dims, device, given, available)
}

fn fits(parsed: &Parsed, dims: &Dims, device: DeviceArg, given: u64, available: u64) -> Result<()> {
    let graph = &parsed.graph;
    let size = |value: &Value| {
        bytes(value, dims, device).with_context(|| format!("{} has no size in 64 bits at these dimensions", value.ty))
    };
    let (live, mut uses) = graph.live_nodes();
    // Results are copied out at the end.
    let mut held =
        graph.roots().try_fold(given, |sum, id| Ok::<_, anyhow::Error>(sum.saturating_add(size(graph.value(id))?)))?;
    let runs = |value: &Value| !matches!(value.def, Def::Node { node, .. } if !live[node.index()]);
    for ((_, value), name) in graph.values().zip(&parsed.value_names).filter(|((_, value), _)| runs(value)) {
        let bytes = size(value).with_context(|| format!("%{name}"))?;
        held = held.saturating_add(bytes);
        if held > available {
            bail!("%{name} : {} needs {bytes} bytes, {held} in total, but only {available} are available", value.ty);
        }
        if let Def::Node { node, result: 0 } = value.def {
            held -= released(graph, graph.node(node), &mut uses).map(size).sum::<Result<u64>>()?;
        }
    }
    Ok(())
}

/// Operands that no later node uses.
fn released<'g>(graph: &'g Graph, node: &'g Node, uses: &mut [u32]) -> impl Iterator<Item = &'g Value> {
    let mut last = Vec::new();
    for id in node.used() {
        uses[id.index()] -= 1;
        if uses[id.index()] == 0 {
            last.push(graph.value(id));
        }
    }
    last.into_iter()
}

/// Bytes of a value; the oracle widens integers to 64 bits.
fn bytes(value: &Value, dims: &Dims, device: DeviceArg) -> Option<u64> {
    let wide = match value.ty.dtype {
        DType::I32 | DType::U32 if device.is_oracle() => 2,
        DType::I8 | DType::U8 | DType::Bool if device.is_oracle() => 8,
        _ => 1,
    };
    value.ty.bytes(dims)?.checked_mul(wide)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use aio::ir::text::parse;

    /// `count` tensors of 1 MiB, each computed from the previous one; all kept to the end if `all`.
    fn chain(count: usize, all: bool) -> Parsed {
        let mut text = "aio 1\ngraph \"g\"\n%v0 = fill {shape = [262144], value = 1.0, dtype = f32}\n".to_owned();
        for i in 1..count {
            text += &format!("%v{i} = neg %v{}\n", i - 1);
        }
        for i in if all { 0..count } else { count - 1..count } {
            text += &format!("output \"y{i}\" = %v{i}\n");
        }
        parse(&text).unwrap()
    }

    #[test]
    fn what_is_held_together_counts_and_what_is_released_does_not() {
        let dims = Dims { rows: 1, ..Dims::default() };
        let fits = |parsed: &Parsed, mib: u64| fits(parsed, &dims, DeviceArg::ORACLE, 0, mib << 20);
        // Two tensors at a time, plus the copy of the result.
        assert!(fits(&chain(100, false), 3).is_ok() && fits(&chain(100, false), 2).is_err());
        assert!(fits(&chain(100, true), 200).is_ok());
        let error = fits(&chain(100, true), 199).unwrap_err().to_string();
        assert!(error.contains("209715200 in total") && error.contains("only 208666624"), "{error}");
        let with_files = super::fits(&chain(2, false), &dims, DeviceArg::ORACLE, 1 << 20, 3 << 20);
        assert!(with_files.is_err(), "files are held too");
    }
}
