//! Axes along which a plan's ops need elements, by the symbols that a step binds.
//!
//! The shape rules reject an axis of known size 0. For symbolic sizes, every back end collects the axes when it loads a
//! plan and calls [`FullAxes::check`] before each step.

use crate::DeviceError;
use aio_ir::infer::{EmptyAxis, full_axis};
use aio_ir::{Dim, Dims, Graph, Node, Sym};
use aio_plan::Plan;

/// For each symbol, the first axis that needs elements. See the module docs.
#[derive(Clone, Debug, Default)]
pub struct FullAxes(Vec<(Sym, EmptyAxis)>);

impl FullAxes {
    /// Collects the axes of a plan.
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

    /// Checks that a step has elements along every collected axis.
    ///
    /// # Errors
    /// [`DeviceError::EmptyAxis`] if one has none.
    pub fn check(&self, dims: &Dims) -> Result<(), DeviceError> {
        match self.0.iter().find(|(sym, _)| dims.get(*sym) == 0) {
            Some((sym, axis)) => Err(DeviceError::EmptyAxis { symbol: sym.name(), axis: *axis }),
            None => Ok(()),
        }
    }
}

/// The axis of a node that must have elements, if its size is a symbol.
fn symbolic(graph: &Graph, node: &Node) -> Option<(Sym, EmptyAxis)> {
    let shape = &graph.ty((*node.inputs.first()?)?).shape;
    let axis = full_axis(node.op, &node.attrs, shape.rank())?;
    match shape.dims()[axis.axis] {
        Dim::Sym(sym) => Some((sym, axis)),
        Dim::Const(_) => None,
    }
}
