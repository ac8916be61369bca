//! A table of the operators' rules: handles, shapes, types and parameters, each with its code and message.
#![allow(
    clippy::unwrap_used,
    clippy::macro_metavars_in_unsafe,
    reason = "a test's failure is its report; its macro calls C functions"
)]

mod nn_support;

use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};

use aio_ascend_sim::task::last_message;
use aio_ascend_sim::tensor::create::*;
use aio_ascend_sim::tensor::dtype::DType;
use nn_support::*;

type Handle = *const c_void;
type Rule = (&'static str, i32, &'static str, fn() -> i32);

fn check(rules: &[Rule]) {
    for (name, code, text, call) in rules {
        let status = call();
        assert_eq!(status, *code, "{name}: {}", last_message());
        assert!(status == 0 || last_message().contains(text), "{name}: {:?} lacks {text:?}", last_message());
    }
}

/// A tensor over memory that no kernel touches, since the call is refused.
fn tensor(dtype: DType, dims: &[i64]) -> Handle {
    describe(null_mut(), dtype, dims, None, 2)
}

fn half(dims: &[i64]) -> Handle {
    tensor(DType::F16, dims)
}

/// Status of a creation: 0 if a handle came back.
fn created(dims: &[i64], dtype: i32, strides: Option<&[i64]>, offset: i64, format: i32) -> i32 {
    let n = dims.len() as u64;
    let strides = strides.map_or(null(), <[i64]>::as_ptr);
    // SAFETY: the arrays live through the call.
    let handle =
        unsafe { aclCreateTensor(dims.as_ptr(), n, dtype, strides, offset, format, dims.as_ptr(), n, null_mut()) };
    i32::from(handle.is_null())
}

const OBJECTS: &[Rule] = &[
    ("a tensor", 0, "", || created(&[2, 3], 1, Some(&[3, 1]), 0, 2)),
    ("an unknown data type", 1, "data type 99", || created(&[2], 99, None, 0, 2)),
    ("a data type of another chip", 1, "data type 36", || created(&[2], 36, None, 0, 2)),
    ("a negative dimension", 1, "viewDims [-1]", || created(&[-1], 1, None, 0, 2)),
    ("a negative stride", 1, "stride [-1]", || created(&[2], 1, Some(&[-1]), 0, 2)),
    ("a negative offset", 1, "offset", || created(&[2], 1, None, -1, 2)),
    ("an unknown format", 1, "format 4", || created(&[2], 1, None, 0, 4)),
    ("a tiled vector", 1, "at least two dimensions", || created(&[16], 1, None, 0, 29)),
    ("too many dimensions", 1, "at most 16", || created(&[1; 17], 1, None, 0, 2)),
    ("a size past all memory", 1, "too large", || created(&[1 << 40, 1 << 40], 1, None, 0, 2)),
    ("a scalar of null", 1, "null pointer", || {
        // SAFETY: null is refused.
        i32::from(unsafe { aclCreateScalar(null_mut(), 0) }.is_null())
    }),
    ("a list with an array in it", 1, "of another kind", || {
        let members = [half(&[2]), ints(&[1])];
        // SAFETY: the array lives through the call.
        i32::from(unsafe { aclCreateTensorList(members.as_ptr(), 2) }.is_null())
    }),
    ("an array destroyed as a tensor", 161_002, "is an aclIntArray, not an aclTensor", || aclDestroyTensor(ints(&[1]))),
    ("a list's member outlives nothing", 161_002, "not a live object", || {
        let member = half(&[2]);
        let all = list(&[member.cast_mut()]);
        assert_eq!(aclDestroyTensorList(all), 0);
        aclDestroyTensor(member)
    }),
    ("a double destruction", 161_002, "not a live object", || {
        let x = half(&[2]);
        assert_eq!(aclDestroyTensor(x), 0);
        aclDestroyTensor(x)
    }),
    ("destruction of null", 161_001, "null pointer", || aclDestroyScalar(null())),
    ("a destroyed operand", 161_002, "not a live object", || {
        let x = half(&[2]);
        assert_eq!(aclDestroyTensor(x), 0);
        call!(aclnnAbs, aclnnAbsGetWorkspaceSize(x, half(&[2])))
    }),
    ("an array where a tensor belongs", 161_002, "is an aclIntArray, not an aclTensor", || {
        call!(aclnnAbs, aclnnAbsGetWorkspaceSize(ints(&[1]), half(&[2])))
    }),
    ("a tensor where a scalar belongs", 161_002, "is an aclTensor, not an aclScalar", || {
        call!(aclnnMuls, aclnnMulsGetWorkspaceSize(half(&[2]), half(&[2]), half(&[2])))
    }),
    ("a result of null", 161_001, "null pointer", || call!(aclnnAbs, aclnnAbsGetWorkspaceSize(half(&[2]), null()))),
    ("no place for the executor", 161_001, "executor", || {
        let mut bytes = 0;
        // SAFETY: null is refused.
        unsafe { aio_ascend_sim::nn::symbols::aclnnAbsGetWorkspaceSize(half(&[2]), half(&[2]), &mut bytes, null_mut()) }
    }),
];

const SHAPES: &[Rule] = &[
    ("a result of another shape", 161_002, "expected [2, 3]", || {
        call!(aclnnAbs, aclnnAbsGetWorkspaceSize(half(&[2, 3]), half(&[3, 2])))
    }),
    ("shapes that do not broadcast", 161_002, "cannot be broadcast together", || {
        call!(aclnnMul, aclnnMulGetWorkspaceSize(half(&[2, 3]), half(&[2]), half(&[2, 3])))
    }),
    ("a float result of an integer type", 161_002, "data type", || {
        call!(aclnnExp, aclnnExpGetWorkspaceSize(half(&[2]), tensor(DType::I32, &[2])))
    }),
    ("a dimension out of range", 161_002, "dim 2 is out of range", || {
        call!(aclnnSoftmax, aclnnSoftmaxGetWorkspaceSize(half(&[2, 3]), 2, half(&[2, 3])))
    }),
    ("an order that misses a dimension", 161_002, "do not name each", || {
        call!(aclnnPermute, aclnnPermuteGetWorkspaceSize(half(&[2, 3]), ints(&[0, 0]), half(&[2, 2])))
    }),
    ("parts that do not add up", 161_002, "the tensors have 4", || {
        let parts = list(&[half(&[2]).cast_mut(), half(&[2]).cast_mut()]);
        call!(aclnnCat, aclnnCatGetWorkspaceSize(parts, 0, half(&[5])))
    }),
    ("a slice with step 0", 161_002, "step is 0", || {
        call!(aclnnSlice, aclnnSliceGetWorkspaceSize(half(&[4]), 0, 0, 4, 0, half(&[4])))
    }),
    ("a float index", 161_002, "index has data type", || {
        call!(aclnnGatherV2, aclnnGatherV2GetWorkspaceSize(half(&[4, 2]), 0, half(&[1]), half(&[1, 2])))
    }),
    ("a gather that changes the type", 161_002, "must be the same", || {
        let index = tensor(DType::I64, &[1]);
        call!(aclnnGatherV2, aclnnGatherV2GetWorkspaceSize(half(&[4, 2]), 0, index, tensor(DType::F32, &[1, 2])))
    }),
    ("a gain of another size", 161_002, "gamma [3] must be the last dimensions", || {
        call!(aclnnRmsNorm, aclnnRmsNormGetWorkspaceSize(half(&[2, 4]), half(&[3]), 1e-5, half(&[2, 4]), null()))
    }),
    ("a residual of another type", 161_002, "must be the same", || {
        let (x, y) = (half(&[2, 4]), tensor(DType::Bf16, &[2, 4]));
        call!(aclnnAddRmsNorm, aclnnAddRmsNormGetWorkspaceSize(x, y, half(&[4]), 1e-5, half(&[2, 4]), null(), x))
    }),
    ("an odd gated dimension", 161_002, "must be even", || {
        call!(aclnnSwiGlu, aclnnSwiGluGetWorkspaceSize(half(&[2, 5]), -1, half(&[2, 2])))
    }),
    ("an odd head to turn", 161_002, "multiple of 2", || {
        let x = half(&[1, 1, 1, 5]);
        call!(aclnnRotaryPositionEmbedding, aclnnRotaryPositionEmbeddingGetWorkspaceSize(x, x, x, 0, x))
    }),
    ("an unknown way to turn", 161_002, "mode is 3", || {
        let x = half(&[1, 1, 1, 8]);
        call!(aclnnRotaryPositionEmbedding, aclnnRotaryPositionEmbeddingGetWorkspaceSize(x, x, x, 3, x))
    }),
    ("a quantisation mode without a kernel", 561_003, "quantMode", || {
        let mode = CString::new("static").unwrap();
        let (x, y, scale) = (half(&[2, 8]), tensor(DType::I8, &[2, 4]), tensor(DType::F32, &[2]));
        call!(aclnnSwiGluQuant, aclnnSwiGluQuantGetWorkspaceSize(x, null(), null(), null(), 1, mode.as_ptr(), y, scale))
    }),
];

/// A product of fp16 rows (2, 256) with quantised weights (256, 16).
fn weights(dtype: DType, dims: &[i64], scale: &[i64], group: i32, format: i32) -> i32 {
    let w = describe(null_mut(), dtype, dims, None, format);
    let n = null();
    call!(
        aclnnWeightQuantBatchMatmulV2,
        aclnnWeightQuantBatchMatmulV2GetWorkspaceSize(
            half(&[2, 256]),
            w,
            half(scale),
            n,
            n,
            n,
            n,
            group,
            half(&[2, 16])
        )
    )
}

const PRODUCTS: &[Rule] = &[
    ("inner sizes", 161_002, "inner sizes differ", || {
        call!(aclnnMm, aclnnMmGetWorkspaceSize(half(&[2, 3]), half(&[4, 5]), half(&[2, 5]), 0))
    }),
    ("an unknown math type", 161_002, "cubeMathType is 5", || {
        call!(aclnnMm, aclnnMmGetWorkspaceSize(half(&[2, 3]), half(&[3, 5]), half(&[2, 5]), 5))
    }),
    ("a stack for a plain product", 161_002, "expected 2 to 2", || {
        call!(aclnnMm, aclnnMmGetWorkspaceSize(half(&[1, 2, 3]), half(&[3, 5]), half(&[1, 2, 5]), 0))
    }),
    ("fp16 times bf16", 161_002, "must be the same", || {
        call!(aclnnMm, aclnnMmGetWorkspaceSize(half(&[2, 3]), tensor(DType::Bf16, &[3, 5]), half(&[2, 5]), 0))
    }),
    ("a weight that is not tiled", 161_002, "expected FRACTAL_NZ", || {
        call!(aclnnMatmulWeightNz, aclnnMatmulWeightNzGetWorkspaceSize(half(&[2, 3]), half(&[3, 5]), half(&[2, 5]), 0))
    }),
    ("tiling a tiled weight", 161_002, "dense ND", || {
        let w = describe(null_mut(), DType::F16, &[16, 16], None, 29);
        call!(aclnnTransMatmulWeight, aclnnTransMatmulWeightGetWorkspaceSize(w))
    }),
    ("a group that is no multiple of 32", 161_002, "antiquantGroupSize is 48", || {
        weights(DType::I8, &[256, 16], &[6, 16], 48, 2)
    }),
    ("a group as large as the sum", 161_002, "antiquantGroupSize is 256", || {
        weights(DType::I8, &[256, 16], &[1, 16], 256, 2)
    }),
    ("a group of 32 in tiles", 161_002, "64 or 128", || weights(DType::I8, &[256, 16], &[8, 16], 32, 29)),
    ("a scale of other groups", 161_002, "fits neither", || weights(DType::I8, &[256, 16], &[4, 16], 32, 2)),
    ("int4 with an odd dense dimension", 161_002, "even", || {
        let (x, w) = (half(&[2, 256]), tensor(DType::I4, &[256, 15]));
        let n = null();
        call!(
            aclnnWeightQuantBatchMatmulV2,
            aclnnWeightQuantBatchMatmulV2GetWorkspaceSize(x, w, half(&[1, 15]), n, n, n, n, 0, half(&[2, 15]))
        )
    }),
    ("a float weight", 161_002, "weight has data type", || weights(DType::F16, &[256, 16], &[1, 16], 0, 2)),
    ("an int8 product of floats", 161_002, "x1 has data type", || {
        let (x, scale) = (half(&[2, 8]), tensor(DType::F32, &[8]));
        call!(aclnnQuantMatmulV3, aclnnQuantMatmulV3GetWorkspaceSize(x, x, scale, null(), null(), 0, 0, half(&[2, 8])))
    }),
    ("a scale for other columns", 161_002, "scale has 3 elements", || {
        let (x, w) = (tensor(DType::I8, &[2, 8]), tensor(DType::I8, &[8, 4]));
        let scale = tensor(DType::F32, &[3]);
        call!(aclnnQuantMatmulV3, aclnnQuantMatmulV3GetWorkspaceSize(x, w, scale, null(), null(), 0, 0, half(&[2, 4])))
    }),
];

#[test]
fn rules_of_objects() {
    check(OBJECTS);
}

#[test]
fn rules_of_shapes_and_types() {
    check(SHAPES);
}

#[test]
fn rules_of_products() {
    check(PRODUCTS);
}
