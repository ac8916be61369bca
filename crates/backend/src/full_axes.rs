//! Axes along which a plan's ops need elements, by the symbols that a step binds.
//!
//! The shape rules refuse an axis of a known size 0. Where the size is a symbol, every back end collects the axes when it
//! loads a plan and asks [`FullAxes::check`] before each step.

use crate::DeviceError;
use aio_ir::infer::{EmptyAxis, full_axis};
use aio_ir::{Dim, Dims, Graph, Node, Sym};
use aio_plan::Plan;

/// See the module's header; the first such axis of each symbol.
#[derive(Clone, Debug, Default)]
pub struct FullAxes(Vec<(Sym, EmptyAxis)>);

impl FullAxes {
    /// Those of a plan.
    pub fn of(plan: &Plan) -> FullAxes {
        let mut axes: Vec<(Sym, EmptyAxis)> = Vec::new();
        for task in &plan.tasks {
            for (_, node) in task.body.nodes() {
                let found = symbolic(&task.body, node);
                axes.extend(found.filter(|(sym, _)| axes.iter().all(|(seen, _)| seen != sym)));
            }
        }
        FullAxes(axes)
    }

    /// # Errors
    /// [`DeviceError::EmptyAxis`] if a step has none of what an op needs one of.
    pub fn check(&self, dims: &Dims) -> Result<(), DeviceError> {
        match self.0.iter().find(|(sym, _)| dims.get(*sym) == 0) {
            Some((sym, axis)) => Err(DeviceError::EmptyAxis { symbol: sym.name(), axis: *axis }),
            None => Ok(()),
        }
    }
}

/// The axis of a node that must have elements, if a symbol says how many.
fn symbolic(graph: &Graph, node: &Node) -> Option<(Sym, EmptyAxis)> {
    let shape = &graph.ty((*node.inputs.first()?)?).shape;
    let axis = full_axis(node.op, &node.attrs, shape.rank())?;
    match shape.dims()[axis.axis] {
        Dim::Sym(sym) => Some((sym, axis)),
        Dim::Const(_) => None,
    }
}
