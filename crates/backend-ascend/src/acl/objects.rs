//! AscendCL's descriptions of a call's operands, destroyed together, and operators whose first phase has run.

use super::api::{Launch, Ptr};
use super::memory::DeviceMemory;
use super::runtime::Runtime;
use crate::error::AscendError;
use crate::view::View;
use std::ptr::null_mut;

/// Formats of `aclFormat`.
const ND: i32 = 2;
const FRACTAL_NZ: i32 = 29;

#[derive(Clone, Copy)]
enum Kind {
    Tensor,
    Scalar,
    Ints,
    List,
}

/// The objects of one call.
pub(super) struct Objects<'r> {
    runtime: &'r Runtime,
    made: Vec<(Kind, Ptr)>,
}

impl<'r> Objects<'r> {
    pub(super) fn new(runtime: &'r Runtime) -> Objects<'r> {
        Objects { runtime, made: Vec::new() }
    }

    pub(super) fn runtime(&self) -> &'r Runtime {
        self.runtime
    }

    fn keep(&mut self, kind: Kind, call: &'static str, made: Ptr) -> Result<Ptr, AscendError> {
        if made.is_null() {
            // These functions have no status.
            self.runtime.check(call, -1)?;
        }
        self.made.push((kind, made));
        Ok(made)
    }

    /// A tensor.
    pub(super) fn tensor(&mut self, view: &View) -> Result<Ptr, AscendError> {
        let made = self.tensor_alone(view)?;
        self.keep(Kind::Tensor, "aclCreateTensor", made)
    }

    /// A tensor that a list will own.
    fn tensor_alone(&self, view: &View) -> Result<Ptr, AscendError> {
        let (rank, format) = (view.dims.len() as u64, if view.tiled { FRACTAL_NZ } else { ND });
        let storage = match (view.tiled, &view.dims[..]) {
            // The shape of NZ: tiles of 16 rows and 16 columns of two bytes each, column by column.
            (true, &[rows, columns]) => vec![(columns + 15) / 16, (rows + 15) / 16, 16, 16],
            _ => vec![view.reach()],
        };
        // SAFETY: the arrays live through the call and have the lengths given.
        Ok(unsafe {
            (self.runtime.api().aclCreateTensor)(
                view.dims.as_ptr(),
                rank,
                view.elem.code(),
                view.strides.as_ptr(),
                0,
                format,
                storage.as_ptr(),
                storage.len() as u64,
                view.at as Ptr,
            )
        })
    }

    /// A tensor that may be absent.
    pub(super) fn optional(&mut self, view: Option<&View>) -> Result<Ptr, AscendError> {
        view.map_or(Ok(null_mut()), |view| self.tensor(view))
    }

    /// A list of tensors.
    pub(super) fn list(&mut self, views: &[&View]) -> Result<Ptr, AscendError> {
        let parts = views.iter().map(|view| self.tensor_alone(view)).collect::<Result<Vec<_>, _>>()?;
        // SAFETY: live tensors, which the list owns from now on.
        let made = unsafe { (self.runtime.api().aclCreateTensorList)(parts.as_ptr(), parts.len() as u64) };
        self.keep(Kind::List, "aclCreateTensorList", made)
    }

    /// A scalar of f32.
    pub(super) fn scalar(&mut self, mut value: f32) -> Result<Ptr, AscendError> {
        // SAFETY: an f32 of type FLOAT, which is copied.
        let made =
            unsafe { (self.runtime.api().aclCreateScalar)((&raw mut value).cast(), crate::view::Elem::F32.code()) };
        self.keep(Kind::Scalar, "aclCreateScalar", made)
    }

    /// A list of integers.
    pub(super) fn ints(&mut self, values: &[i64]) -> Result<Ptr, AscendError> {
        // SAFETY: the array lives through the call, which copies it.
        let made = unsafe { (self.runtime.api().aclCreateIntArray)(values.as_ptr(), values.len() as u64) };
        self.keep(Kind::Ints, "aclCreateIntArray", made)
    }
}

impl Drop for Objects<'_> {
    fn drop(&mut self) {
        let api = self.runtime.api();
        for (kind, made) in self.made.drain(..) {
            // SAFETY: a live object, used for the last time: executors no longer need it after the second phase.
            unsafe {
                match kind {
                    Kind::Tensor => (api.aclDestroyTensor)(made),
                    Kind::Scalar => (api.aclDestroyScalar)(made),
                    Kind::Ints => (api.aclDestroyIntArray)(made),
                    Kind::List => (api.aclDestroyTensorList)(made),
                };
            }
        }
    }
}

/// An operator after its first phase.
pub(super) struct Prepared<'r> {
    objects: Objects<'r>,
    name: &'static str,
    second: Launch,
    /// Null once it was launched.
    executor: Ptr,
    workspace: u64,
}

impl<'r> Prepared<'r> {
    pub(super) fn new(
        objects: Objects<'r>,
        (name, second): (&'static str, Launch),
        (executor, workspace): (Ptr, u64),
    ) -> Prepared<'r> {
        Prepared { objects, name, second, executor, workspace }
    }

    /// Bytes of workspace that it needs.
    pub(super) fn workspace(&self) -> u64 {
        self.workspace
    }

    /// The second phase.
    pub(super) fn launch(mut self, workspace: &DeviceMemory, stream: Ptr) -> Result<(), AscendError> {
        let executor = std::mem::replace(&mut self.executor, null_mut());
        // SAFETY: the executor is live and used once; the workspace has as many bytes as the first phase asked for.
        let code = unsafe { (self.second)(workspace.pointer(), self.workspace, executor, stream) };
        self.objects.runtime.check(self.name, code)
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if !self.executor.is_null() {
            // SAFETY: an executor that was never launched.
            unsafe { (self.objects.runtime.api().aclDestroyAclOpExecutor)(self.executor) };
        }
    }
}
