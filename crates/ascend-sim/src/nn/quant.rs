//! Quantisation to int8 and int4, and the packing of int4 weights.

use super::arg::{MaybeTensor, Tensor, Text};
use super::shape::{want_dims, want_float, want_numel, want_type};
use crate::task::Error;
use crate::tensor::dtype::DType;
use crate::tensor::exec::Plan;
use crate::tensor::refuse::invalid;

/// Rounds to nearest even and limits to int8.
pub fn round_to_i8(x: f32) -> i64 {
    x.round_ties_even().clamp(-128.0, 127.0) as i64
}

/// Quantises a row by its largest value; returns the numbers and the scale that restores them.
pub fn quantize_row(row: &[f32], smooth: Option<&[f32]>) -> (Vec<i64>, f32) {
    let scaled: Vec<f32> = match smooth {
        Some(smooth) => row.iter().zip(smooth).map(|(x, s)| x * s).collect(),
        None => row.to_vec(),
    };
    let top = scaled.iter().fold(0f32, |top, x| top.max(x.abs()));
    let scale = top / 127.0;
    let by = if top > 0.0 { 127.0 / top } else { 0.0 };
    (scaled.iter().map(|x| round_to_i8(x * by)).collect(), scale)
}

/// int8 with one scale a row, from the row's largest value.
pub fn dynamic_quant(x: Tensor, smooth: MaybeTensor, y: Tensor, scale: Tensor) -> Result<Plan, Error> {
    want_float("x", &x)?;
    want_type("yOut", &y, &[DType::I8])?;
    want_type("scaleOut", &scale, &[DType::F32])?;
    want_dims("yOut", &y, &x.dims)?;
    let n = x.last();
    want_numel("scaleOut", &scale, x.numel() / n.max(1))?;
    if let Some(smooth) = &smooth {
        want_numel("smoothScales", smooth, n)?;
    }
    let mut plan = Plan::new("dynamic_quant");
    let (i, s) = (plan.input("x", &x), plan.maybe("smoothScales", smooth.as_deref()));
    let (o, f) = (plan.output("yOut", &y), plan.output("scaleOut", &scale));
    Ok(plan.run(4, move |memory| {
        let smooth = s.map(|slot| memory.floats(slot));
        let x = memory.floats(i);
        let rows: Vec<(Vec<i64>, f32)> = x.chunks(n.max(1)).map(|row| quantize_row(row, smooth.as_deref())).collect();
        memory.put_ints(o, &rows.iter().flat_map(|row| row.0.iter().copied()).collect::<Vec<_>>());
        memory.put(f, &rows.iter().map(|row| row.1).collect::<Vec<_>>());
        Ok(())
    }))
}

fn rounding(mode: &str) -> Result<fn(f32) -> f32, Error> {
    Ok(match mode {
        "round" => f32::round_ties_even,
        "floor" => f32::floor,
        "ceil" => f32::ceil,
        "trunc" => f32::trunc,
        other => return Err(invalid(format!("roundMode is \"{other}\", supported: round, floor, ceil, trunc"))),
    })
}

/// `round(x * scale + offset)`, limited to int8 or int4.
pub fn ascend_quant(
    x: Tensor,
    scale: Tensor,
    offset: MaybeTensor,
    sqrt_mode: bool,
    mode: Text,
    dst: i32,
    y: Tensor,
) -> Result<Plan, Error> {
    want_float("x", &x)?;
    want_type("y", &y, &[DType::I8, DType::I4])?;
    want_dims("y", &y, &x.dims)?;
    if dst != y.dtype.acl() {
        return Err(invalid(format!("dstType is {dst}, y has {}", y.dtype)));
    }
    let n = x.last();
    let factors = |view: &Tensor| view.numel() == 1 || view.numel() == n;
    if !factors(&scale) || !offset.as_ref().is_none_or(factors) {
        return Err(invalid(format!("scale and offset have 1 or {n} elements")));
    }
    let round = rounding(&mode)?;
    let top = if y.dtype == DType::I4 { 7.0 } else { 127.0 };
    let mut plan = Plan::new("ascend_quant");
    let (i, s, z) = (plan.input("x", &x), plan.input("scale", &scale), plan.maybe("offset", offset.as_deref()));
    let o = plan.output("y", &y);
    Ok(plan.run(3, move |memory| {
        let (scale, zero) = (memory.floats(s), z.map_or(vec![0.0], |slot| memory.floats(slot)));
        let quantised = memory.floats(i).into_iter().enumerate().map(|(k, x)| {
            let s = scale[(k % n) % scale.len()];
            let scaled = x * if sqrt_mode { s * s } else { s } + zero[(k % n) % zero.len()];
            round(scaled).clamp(-top - 1.0, top) as i64
        });
        memory.put_ints(o, &quantised.collect::<Vec<_>>());
        Ok(())
    }))
}

/// int32 numbers from -8 to 7, one a word, to int4: packed eight a word (INT32 result) or two a byte (INT4 result).
pub fn convert_int4_pack(weight: Tensor, packed: Tensor) -> Result<Plan, Error> {
    want_type("weight", &weight, &[DType::I32])?;
    want_type("weightInt4Pack", &packed, &[DType::I32, DType::I4])?;
    let mut dims = weight.dims.clone();
    if weight.rank() == 0 || !weight.last().is_multiple_of(8) {
        return Err(invalid(format!("the last dimension of weight {:?} must be a multiple of 8", weight.dims)));
    }
    if packed.dtype == DType::I32 {
        *dims.last_mut().ok_or_else(|| invalid("weight has no dimensions"))? /= 8;
    }
    want_dims("weightInt4Pack", &packed, &dims)?;
    let mut plan = Plan::new("int4_pack");
    let (i, o) = (plan.input("weight", &weight), plan.output("weightInt4Pack", &packed));
    Ok(plan.run(1, move |memory| {
        let numbers = memory.ints(i);
        if memory.view(o).dtype == DType::I4 {
            memory.put_ints(o, &numbers);
        } else {
            let word = |eight: &[i64]| eight.iter().rev().fold(0u32, |word, &x| word << 4 | (x as u32 & 15));
            memory.put_ints(o, &numbers.chunks(8).map(|eight| i64::from(word(eight) as i32)).collect::<Vec<_>>());
        }
        Ok(())
    }))
}

/// fp32 scales (and offsets) as the 64-bit words that the quantised product takes.
pub fn trans_quant_param_v2(scale: Tensor, offset: MaybeTensor, out: Tensor) -> Result<Plan, Error> {
    want_type("scale", &scale, &[DType::F32])?;
    want_type("out", &out, &[DType::U64, DType::I64])?;
    want_numel("out", &out, scale.numel())?;
    if let Some(offset) = &offset {
        want_numel("offset", offset, scale.numel())?;
    }
    let mut plan = Plan::new("trans_quant_param");
    let (i, z) = (plan.input("scale", &scale), plan.maybe("offset", offset.as_deref()));
    let o = plan.output("out", &out);
    Ok(plan.run(2, move |memory| {
        let zero = z.map(|slot| memory.floats(slot));
        let words = memory.floats(i).into_iter().enumerate().map(|(k, scale)| {
            // The scale keeps 19 bits of fp32; the offset is a 9-bit number at bit 37; bit 46 marks its presence.
            let low = u64::from(scale.to_bits() & 0xffff_e000);
            let high = zero.as_ref().map_or(0, |z| ((round_to_i8(z[k]) as u64 & 0x1ff) << 37) | 1 << 46);
            (low | high) as i64
        });
        memory.put_ints(o, &words.collect::<Vec<_>>());
        Ok(())
    }))
}
