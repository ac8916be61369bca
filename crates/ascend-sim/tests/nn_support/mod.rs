//! Device buffers and calls for the operator tests: each call goes through the C functions, and its task runs at once.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use std::ffi::c_void;
use std::ptr::null;

use aio_ascend_sim::rt::block::{Kind, adopt, disown};
use aio_ascend_sim::tensor::create::*;
use aio_ascend_sim::tensor::dtype::DType;
use aio_ascend_sim::tensor::exec::take;
use aio_ascend_sim::tensor::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};

/// A buffer that a kernel may use, and a dense tensor over it.
pub struct Dev {
    pub memory: Vec<u64>,
    pub handle: *mut c_void,
    pub dtype: DType,
    pub dims: Vec<i64>,
}

impl Drop for Dev {
    fn drop(&mut self) {
        disown(self.memory.as_ptr() as usize).unwrap();
    }
}

impl Dev {
    pub fn bytes(&self) -> &[u8] {
        let len = self.memory.len() * 8;
        // SAFETY: the vector's own memory, as bytes.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), len) }
    }

    pub fn addr(&self) -> *mut c_void {
        self.memory.as_ptr() as *mut c_void
    }

    /// A tensor with room for `padding` more elements.
    pub fn padded(dtype: DType, dims: &[i64], bytes: &[u8], padding: usize) -> Self {
        let mut memory = vec![0u64; (bytes.len() + padding).div_ceil(8) + 8];
        // SAFETY: the vector's own memory, long enough.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.as_mut_ptr().cast(), bytes.len()) };
        adopt(Kind::Device, memory.as_ptr() as usize, memory.len() * 8, true).unwrap();
        let handle = describe(memory.as_ptr() as *mut c_void, dtype, dims, None, 2);
        Self { memory, handle, dtype, dims: dims.to_vec() }
    }

    pub fn floats(dtype: DType, dims: &[i64], values: &[f32]) -> Self {
        Self::padded(dtype, dims, &encode(dtype, values), 1 << 14)
    }

    pub fn empty(dtype: DType, dims: &[i64]) -> Self {
        let n: i64 = dims.iter().product();
        Self::padded(dtype, dims, &vec![0; dtype.bytes(n as usize)], 0)
    }

    pub fn ints<T: Copy>(dtype: DType, dims: &[i64], values: &[T]) -> Self {
        // SAFETY: plain numbers as bytes.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
        Self::padded(dtype, dims, bytes, 0)
    }

    pub fn read(&self) -> Vec<f32> {
        let n: i64 = self.dims.iter().product();
        let bytes = self.bytes();
        (0..n as usize)
            .map(|i| match self.dtype {
                DType::F32 => f32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()),
                DType::F16 => f16_to_f32(u16::from_le_bytes(bytes[2 * i..2 * i + 2].try_into().unwrap())),
                DType::Bf16 => bf16_to_f32(u16::from_le_bytes(bytes[2 * i..2 * i + 2].try_into().unwrap())),
                DType::I8 => f32::from(bytes[i] as i8),
                DType::Bool | DType::U8 => f32::from(bytes[i]),
                DType::I32 => i32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()) as f32,
                _ => i64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().unwrap()) as f32,
            })
            .collect()
    }
}

pub fn encode(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F16 => values.iter().flat_map(|&x| f32_to_f16(x).to_le_bytes()).collect(),
        DType::Bf16 => values.iter().flat_map(|&x| f32_to_bf16(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// A tensor over memory, dense or with strides.
pub fn describe(at: *mut c_void, dtype: DType, dims: &[i64], strides: Option<&[i64]>, format: i32) -> *mut c_void {
    let n = dims.len() as u64;
    let strides = strides.map_or(null(), <[i64]>::as_ptr);
    // SAFETY: the arrays live through the call and have `n` values.
    let handle = unsafe { aclCreateTensor(dims.as_ptr(), n, dtype.acl(), strides, 0, format, dims.as_ptr(), n, at) };
    assert!(!handle.is_null(), "{}", aio_ascend_sim::task::last_message());
    handle
}

pub fn ints(values: &[i64]) -> *const c_void {
    // SAFETY: the array lives through the call.
    unsafe { aclCreateIntArray(values.as_ptr(), values.len() as u64) }
}

pub fn scalar(mut value: f32) -> *const c_void {
    // SAFETY: a float of type FLOAT.
    unsafe { aclCreateScalar((&raw mut value).cast(), 0) }
}

pub fn list(handles: &[*mut c_void]) -> *const c_void {
    // SAFETY: the array lives through the call.
    unsafe { aclCreateTensorList(handles.as_ptr().cast(), handles.len() as u64) }
}

/// Runs the plan of an executor at once.
pub fn run(op: &'static str, executor: *mut c_void) {
    let plan = take(op, executor).expect("an executor of this operator");
    let workspace = vec![0u64; plan.workspace as usize / 8 + 1];
    adopt(Kind::Device, workspace.as_ptr() as usize, workspace.len() * 8, true).unwrap();
    (plan.task(workspace.as_ptr() as usize).run)().expect("the kernel runs");
    disown(workspace.as_ptr() as usize).unwrap();
}

/// Calls a first phase; the kernel runs if it is accepted. Gives the status.
#[macro_export]
macro_rules! call {
    ($op:ident, $first:ident($($arg:expr),* $(,)?)) => {{
        let (mut bytes, mut executor) = (0u64, std::ptr::null_mut());
        let first = aio_ascend_sim::nn::symbols::$first;
        #[allow(clippy::macro_metavars_in_unsafe, reason = "the arguments are handles and numbers")]
        // SAFETY: live results; all handles come from the library.
        let status = unsafe { first($($arg,)* &mut bytes, &mut executor) };
        if status == 0 {
            $crate::nn_support::run(stringify!($op), executor);
        }
        status
    }};
}

/// A deterministic stream of numbers in -1..1 that fp16 holds exactly.
pub fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) % 2001) as f32 / 1024.0 - 0.977
        })
        .map(|x| f16_to_f32(f32_to_f16(x)))
        .collect()
}

pub fn close(got: &[f32], want: &[f64], bound: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*g) - w).abs() <= bound * (1.0 + w.abs()), "{what}: element {i} is {g}, expected {w}");
    }
}

/// `x` (m, k) times `w` (k, n) in f64.
pub fn product(x: &[f32], w: &[f32], m: usize, k: usize, n: usize) -> Vec<f64> {
    let at = |i: usize, j: usize| (0..k).map(|p| f64::from(x[i * k + p]) * f64::from(w[p * n + j])).sum();
    (0..m * n).map(|e| at(e / n, e % n)).collect()
}

pub fn transposed(w: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|e| w[(e % rows) * cols + e / rows]).collect()
}
