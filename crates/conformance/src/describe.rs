//! The full string of a case: name, kind, tensors, rows. Lists print it and filters match it.

use crate::Case;
use aio_ir::{Def, TensorType};
use std::collections::BTreeSet;

impl Case {
    /// The tensors of its graph, as in `x=f32[rows,256] w=q4_0[264,256] -> y=f32[rows,264]`: inputs, weights and states in
    /// the graph's order, then outputs. Empty if the text is no graph.
    pub fn tensors(&self) -> String {
        let Ok(parsed) = aio_ir::text::parse(&self.text) else { return String::new() };
        let graph = &parsed.graph;
        let tensor = |name: &str, ty: &TensorType| format!("{name}={ty}").replace(", ", ",");
        let declared = graph.values().map(|(_, v)| v).filter(|v| !matches!(v.def, Def::Node { .. }));
        let mut words: Vec<String> = declared.map(|v| tensor(&v.name, &v.ty)).collect();
        if !graph.outputs.is_empty() {
            words.push("->".to_owned());
        }
        words.extend(graph.outputs.iter().map(|o| tensor(&o.name, graph.ty(o.value))));
        words.join(" ")
    }

    /// The numbers of rows of its steps, each once, in rising order.
    pub fn row_counts(&self) -> Vec<u32> {
        let counts: BTreeSet<u32> = self.steps.iter().map(|s| s.positions.len() as u32).collect();
        counts.into_iter().collect()
    }

    /// The case in one line: `NAME KIND TENSORS rows=1,2,5`.
    pub fn full(&self) -> String {
        let rows: Vec<String> = self.row_counts().iter().map(u32::to_string).collect();
        format!("{} {} {} rows={}", self.name, self.kind.name(), self.tensors(), rows.join(","))
    }
}

#[cfg(test)]
mod tests {
    use crate::matching;

    #[test]
    fn a_case_in_one_line() {
        let case = &matching("linear-norm-q4_0")[0];
        let tensors = "x=f32[rows,256] norm=f32[256] w=q4_0[264,256] -> y=f32[rows,264]";
        assert_eq!(case.full(), format!("linear-norm-q4_0 linear {tensors} rows=1,2,5,16,17,33"));
    }
}
