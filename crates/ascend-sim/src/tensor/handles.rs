//! The table of live objects. A handle that the caller passes is looked up here, never dereferenced.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::dtype::DType;
use super::refuse::{invalid, null};
use super::view::View;
use crate::task::Error;

/// A scalar parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalar {
    /// Value as a float.
    pub float: f64,
    /// Value as an integer.
    pub int: i64,
    /// Type the caller gave, `None` for double.
    pub dtype: Option<DType>,
}

/// An object behind a handle.
#[derive(Clone, Debug)]
pub enum Object {
    /// `aclTensor`.
    Tensor(Arc<View>),
    /// `aclScalar`.
    Scalar(Scalar),
    /// `aclIntArray`.
    Ints(Arc<Vec<i64>>),
    /// `aclFloatArray`.
    Floats(Arc<Vec<f32>>),
    /// `aclBoolArray`.
    Bools(Arc<Vec<bool>>),
    /// `aclTensorList`, which owns the tensors.
    Tensors(Arc<Vec<usize>>),
    /// `aclScalarList`, which owns the scalars.
    Scalars(Arc<Vec<usize>>),
}

impl Object {
    fn kind(&self) -> &'static str {
        match self {
            Self::Tensor(_) => "aclTensor",
            Self::Scalar(_) => "aclScalar",
            Self::Ints(_) => "aclIntArray",
            Self::Floats(_) => "aclFloatArray",
            Self::Bools(_) => "aclBoolArray",
            Self::Tensors(_) => "aclTensorList",
            Self::Scalars(_) => "aclScalarList",
        }
    }
}

struct Table {
    next: usize,
    live: HashMap<usize, Object>,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(|| Mutex::new(Table { next: 0x5a10_0000, live: HashMap::new() }));

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds an object and returns its handle. Handles are not used again.
pub fn insert(object: Object) -> usize {
    let mut table = table();
    table.next += 16;
    let handle = table.next;
    table.live.insert(handle, object);
    handle
}

/// The live object behind a handle.
pub fn get(handle: *const c_void, name: &str) -> Result<Object, Error> {
    if handle.is_null() {
        return Err(null(name));
    }
    let found = table().live.get(&(handle as usize)).cloned();
    found.ok_or_else(|| invalid(format!("{name}: {handle:?} is not a live object (destroyed, or never created)")))
}

/// Replaces the object behind a live handle.
pub fn replace(handle: usize, object: Object) {
    table().live.insert(handle, object);
}

/// Number of live objects, for the check that nothing leaks.
pub fn live() -> usize {
    table().live.len()
}

/// Destroys an object of the given kind, and the members of a list with it.
pub fn destroy(handle: *const c_void, kind: &'static str) -> Result<(), Error> {
    let object = get(handle, kind)?;
    if object.kind() != kind {
        return Err(invalid(format!("{handle:?} is an {}, not an {kind}", object.kind())));
    }
    let mut table = table();
    table.live.remove(&(handle as usize));
    if let Object::Tensors(members) | Object::Scalars(members) = &object {
        members.iter().for_each(|member| drop(table.live.remove(member)));
    }
    Ok(())
}

fn wrong(name: &str, got: &Object, want: &str) -> Error {
    invalid(format!("{name} is an {}, not an {want}", got.kind()))
}

/// The tensor behind a handle.
pub fn tensor(handle: *const c_void, name: &str) -> Result<Arc<View>, Error> {
    match get(handle, name)? {
        Object::Tensor(view) => Ok(view),
        other => Err(wrong(name, &other, "aclTensor")),
    }
}

/// The tensors of a list.
pub fn tensors(handle: *const c_void, name: &str) -> Result<Vec<Arc<View>>, Error> {
    match get(handle, name)? {
        Object::Tensors(members) => members.iter().map(|&m| tensor(m as *const c_void, name)).collect(),
        other => Err(wrong(name, &other, "aclTensorList")),
    }
}

/// The scalar behind a handle.
pub fn scalar(handle: *const c_void, name: &str) -> Result<Scalar, Error> {
    match get(handle, name)? {
        Object::Scalar(scalar) => Ok(scalar),
        other => Err(wrong(name, &other, "aclScalar")),
    }
}

/// The integers behind a handle.
pub fn ints(handle: *const c_void, name: &str) -> Result<Arc<Vec<i64>>, Error> {
    match get(handle, name)? {
        Object::Ints(values) => Ok(values),
        other => Err(wrong(name, &other, "aclIntArray")),
    }
}
