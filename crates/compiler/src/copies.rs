//! Copies at the end of a plan: outputs that no task writes, and final states that are not in-place updates.
//!
//! An output may be an input, a weight, a state, a reshape of one, or a value that another output already has. A final
//! may be any value of its state's type. Each becomes one `reshape` task, which copies. Called by `emit`.

use crate::CompileError;
use crate::emitter::{Copy, Emitter};
use aio_ir::{Attr, Def, Op, ValueId};
use aio_plan::body::{self, Declared};
use aio_plan::{KindName, Loc, Task, TaskKind};
use std::sync::Arc;

impl Emitter<'_> {
    /// Adds the copies into outputs, then those into states. A value that comes from a state is buffered first, since
    /// another copy may replace that state.
    pub(crate) fn copies(
        &mut self,
        tasks: &mut Vec<Task>,
        outputs: Vec<Copy>,
        finals: Vec<Copy>,
    ) -> Result<(), CompileError> {
        for copy in &outputs {
            let from = self.place(copy.from, tasks.len());
            tasks.push(self.copy(copy, from, copy.to)?);
        }
        let mut sources = Vec::with_capacity(finals.len());
        for copy in &finals {
            let from = self.place(copy.from, tasks.len());
            if !matches!(from, Loc::State(_)) {
                sources.push(from);
                continue;
            }
            let held = self.buffer(&copy.ty, tasks.len(), &copy.name)?;
            tasks.push(self.copy(copy, from, held)?);
            sources.push(held);
        }
        for (copy, from) in finals.iter().zip(sources) {
            self.read(from, tasks.len());
            tasks.push(self.copy(copy, from, copy.to)?);
        }
        Ok(())
    }

    /// The location of a value that task `index` reads.
    fn place(&mut self, value: ValueId, index: usize) -> Loc {
        let loc = self.loc(value, aio_plan::Layout::Plain);
        self.read(loc, index);
        loc
    }

    fn copy(&self, copy: &Copy, from: Loc, to: Loc) -> Result<Task, CompileError> {
        let op = Op::Reshape;
        if self.target.support(KindName::Op(op)).is_none() {
            let (target, reason) = (self.target.name.clone(), "it has no kernel".to_owned());
            return Err(CompileError::Unsupported { target, op: op.mnemonic(), reason });
        }
        let def = if matches!(from, Loc::Weight(_)) { Def::Weight } else { Def::Input { optional: false } };
        // A buffer that holds a state has the type of its final, which is the state's.
        let ty = if matches!(from, Loc::Buffer(_)) { self.buffer_type(from) } else { self.graph.ty(copy.from) };
        let operands = [Some(Declared { def, ty: ty.clone() })];
        let body = body::single(op, &operands, &[Attr::Shape(copy.ty.shape.clone())]);
        let body = body.map_err(|source| CompileError::NoCopy { name: copy.name.clone(), source })?;
        let (operands, results) = (smallvec::smallvec![from], smallvec::smallvec![to]);
        Ok(Task::new(TaskKind::Op(op), Arc::new(body), operands, results, self.bucket))
    }
}
