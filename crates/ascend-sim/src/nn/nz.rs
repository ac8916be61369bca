//! The tiled weight format: its size, and the change of a weight in place.

use super::arg::Tensor;
use super::shape::want_rank;
use crate::task::Error;
use crate::tensor::dtype::DType;
use crate::tensor::exec::Plan;
use crate::tensor::handles::ints;
use crate::tensor::refuse::{INNER, fault, guard, invalid, null};
use crate::tensor::view::{FRACTAL_NZ, View, nz_size};

/// Elements, padding included, that a weight of this shape takes in NZ.
fn padded(shape: &[i64], dtype: i32) -> Result<u64, Error> {
    let types = [DType::F16, DType::Bf16, DType::I8, DType::F32, DType::I4];
    let dtype = DType::from_acl(dtype).filter(|t| types.contains(t));
    let dtype =
        dtype.ok_or_else(|| invalid("the data type of a weight in NZ is FLOAT16, BFLOAT16, FLOAT, INT8 or INT4"))?;
    let dims =
        shape.iter().map(|&n| usize::try_from(n).ok().filter(|&n| n > 0 && n < 1 << 32)).collect::<Option<Vec<_>>>();
    match dims {
        Some(dims) if (2..=6).contains(&dims.len()) => {
            let (lead, last) = dims.split_at(dims.len() - 2);
            let each = nz_size(last[0], last[1], dtype) as u64;
            lead.iter()
                .try_fold(each, |all, &n| all.checked_mul(n as u64))
                .ok_or_else(|| invalid("the weight is too large"))
        }
        _ => Err(invalid(format!("a weight has 2 to 6 positive dimensions, got {shape:?}"))),
    }
}

/// `aclnnCalculateMatmulWeightSizeV2`: how many **elements** a weight takes in NZ; the caller multiplies by their size.
///
/// # Safety
/// `size` is null or writable.
#[allow(non_snake_case, reason = "the C name")]
pub unsafe extern "C" fn aclnnCalculateMatmulWeightSizeV2(
    shape: *const std::ffi::c_void,
    dtype: i32,
    size: *mut u64,
) -> i32 {
    guard(INNER, || {
        let elems = padded(&ints(shape, "tensorShape")?, dtype)?;
        if size.is_null() {
            return Err(null("weightTensorSize"));
        }
        // SAFETY: not null, and the caller vouches that it can be written.
        unsafe { size.write_unaligned(elems) };
        Ok(())
    })
}

/// Changes a dense ND weight to NZ in place; its memory must hold the padding.
pub fn trans_matmul_weight(weight: Tensor) -> Result<Plan, Error> {
    want_rank("mmWeightRef", &weight, 2, 6)?;
    let dims: Vec<i64> = weight.dims.iter().map(|&n| n as i64).collect();
    padded(&dims, weight.dtype.acl())?;
    if weight.format == FRACTAL_NZ || !weight.is_dense() || weight.offset != 0 {
        return Err(invalid("mmWeightRef must be a dense ND tensor without offset"));
    }
    let nz = View { format: FRACTAL_NZ, ..(*weight).clone() };
    let mut plan = Plan::new("trans_data");
    let (i, o) = (plan.input("mmWeightRef", &weight), plan.output("mmWeightRef", &nz));
    Ok(plan.run(1, move |memory| {
        let values = memory.values(i);
        let target = memory.view(o);
        let zeros = View { offset: 0, dims: vec![target.span().1], strides: vec![1], format: 2, ..target.clone() };
        if memory.view(i).addr != target.addr {
            return Err(fault("both sides of the change must have one address"));
        }
        memory.put_ints_in(&zeros, &vec![0; zeros.numel()]);
        memory.put_values(o, &values);
        Ok(())
    }))
}
