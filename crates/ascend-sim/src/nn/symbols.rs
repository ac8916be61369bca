//! The exported aclnn functions: one list, from which the extern functions and the runtime's symbol table come.
//!
//! `nn_operators!(callback)` hands the list to another macro: `operators { first, second, (name: kind, ...), function; ... }`
//! for those that are simulated, then `unsupported { first, second; }` for those that are exported and refused.

use std::ffi::c_void;

use super::arg::{Arg, Ints, MaybeInts, MaybeNum, MaybeTensor, MaybeText, Num, Tensor, Tensors, Text};
use super::{
    arange, attention::calls, binary, copy, gather, glu, layernorm, matmul, norm, nz, qmatmul, quant, reduce, rotary,
    scatter, sort, triangle, unary, wqmatmul,
};
use crate::tensor::exec::{first_phase, second_phase};
use crate::tensor::refuse::{INNER, guard, no_kernel};

/// Calls a macro with the list of all aclnn operators.
#[macro_export]
macro_rules! nn_operators {
    ($callback:ident) => {
        $callback! {
            operators {
            aclnnAbsGetWorkspaceSize, aclnnAbs, (this: Tensor, out: Tensor), unary::abs;
            aclnnAddGetWorkspaceSize, aclnnAdd, (this: Tensor, other: Tensor, alpha: Num, out: Tensor), binary::add;
            aclnnAddmmGetWorkspaceSize, aclnnAddmm, (this: Tensor, mat1: Tensor, mat2: Tensor, beta: Num, alpha: Num, out: Tensor, cube_math_type: i8), matmul::addmm;
            aclnnAddRmsNormGetWorkspaceSize, aclnnAddRmsNorm, (x1: Tensor, x2: Tensor, gamma: Tensor, epsilon: f64, y: Tensor, rstd: MaybeTensor, x: Tensor), norm::add_rms_norm;
            aclnnAddRmsNormCastGetWorkspaceSize, aclnnAddRmsNormCast, (x1: Tensor, x2: Tensor, gamma: Tensor, epsilon: f64, y1: Tensor, y2: Tensor, rstd: Tensor, x: Tensor), norm::add_rms_norm_cast;
            aclnnAddRmsNormQuantGetWorkspaceSize, aclnnAddRmsNormQuant, (x1: Tensor, x2: Tensor, gamma: Tensor, scales1: Tensor, scales2: MaybeTensor, zero1: MaybeTensor, zero2: MaybeTensor, axis: i64, epsilon: f64, div_mode: bool, y1: Tensor, y2: MaybeTensor, x: Tensor), norm::add_rms_norm_quant;
            aclnnAddRmsNormDynamicQuantGetWorkspaceSize, aclnnAddRmsNormDynamicQuant, (x1: Tensor, x2: Tensor, gamma: Tensor, smooth1: MaybeTensor, smooth2: MaybeTensor, epsilon: f64, y1: Tensor, y2: MaybeTensor, x: Tensor, scale1: Tensor, scale2: MaybeTensor), norm::add_rms_norm_dynamic_quant;
            aclnnApplyRotaryPosEmbGetWorkspaceSize, aclnnApplyRotaryPosEmb, (query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, layout: i64), rotary::apply_rotary;
            aclnnApplyRotaryPosEmbV2GetWorkspaceSize, aclnnApplyRotaryPosEmbV2, (query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, layout: i64, mode: MaybeText), rotary::apply_rotary_v2;
            aclnnArangeGetWorkspaceSize, aclnnArange, (start: Num, end: Num, step: Num, out: Tensor), arange::arange;
            aclnnArgMaxGetWorkspaceSize, aclnnArgMax, (this: Tensor, dim: i64, keepdim: bool, out: Tensor), reduce::argmax;
            aclnnArgsortGetWorkspaceSize, aclnnArgsort, (this: Tensor, dim: i64, descending: bool, out: Tensor), sort::argsort;
            aclnnAscendQuantGetWorkspaceSize, aclnnAscendQuant, (x: Tensor, scale: Tensor, offset: MaybeTensor, sqrt_mode: bool, round_mode: Text, dst_type: i32, y: Tensor), quant::ascend_quant;
            aclnnBatchMatMulGetWorkspaceSize, aclnnBatchMatMul, (this: Tensor, mat2: Tensor, out: Tensor, cube_math_type: i8), matmul::batch_matmul;
            aclnnCastGetWorkspaceSize, aclnnCast, (this: Tensor, dtype: i32, out: Tensor), unary::cast;
            aclnnCatGetWorkspaceSize, aclnnCat, (tensors: Tensors, dim: i64, out: Tensor), copy::cat;
            aclnnClampGetWorkspaceSize, aclnnClamp, (this: Tensor, min: MaybeNum, max: MaybeNum, out: Tensor), unary::clamp;
            aclnnClampMinGetWorkspaceSize, aclnnClampMin, (this: Tensor, min: Num, out: Tensor), unary::clamp_min;
            aclnnConstantPadNdGetWorkspaceSize, aclnnConstantPadNd, (this: Tensor, pad: Ints, value: Num, out: Tensor), copy::constant_pad;
            aclnnConvertWeightToINT4PackGetWorkspaceSize, aclnnConvertWeightToINT4Pack, (weight: Tensor, packed: Tensor), quant::convert_int4_pack;
            aclnnCosGetWorkspaceSize, aclnnCos, (this: Tensor, out: Tensor), unary::cos;
            aclnnCumsumGetWorkspaceSize, aclnnCumsum, (this: Tensor, dim: i64, dtype: i32, out: Tensor), reduce::cumsum;
            aclnnDivGetWorkspaceSize, aclnnDiv, (this: Tensor, other: Tensor, out: Tensor), binary::div;
            aclnnDynamicQuantGetWorkspaceSize, aclnnDynamicQuant, (x: Tensor, smooth: MaybeTensor, y: Tensor, scale: Tensor), quant::dynamic_quant;
            aclnnEluGetWorkspaceSize, aclnnElu, (this: Tensor, alpha: Num, scale: Num, input_scale: Num, out: Tensor), unary::elu;
            aclnnEmbeddingGetWorkspaceSize, aclnnEmbedding, (weight: Tensor, indices: Tensor, out: Tensor), gather::embedding;
            aclnnEqTensorGetWorkspaceSize, aclnnEqTensor, (this: Tensor, other: Tensor, out: Tensor), binary::eq;
            aclnnExpGetWorkspaceSize, aclnnExp, (this: Tensor, out: Tensor), unary::exp;
            aclnnFusedInferAttentionScoreGetWorkspaceSize, aclnnFusedInferAttentionScore, (query: Tensor, key: Tensors, value: Tensors, pse_shift: MaybeTensor, atten_mask: MaybeTensor, lens: MaybeInts, lens_kv: MaybeInts, deq_scale1: MaybeTensor, quant_scale1: MaybeTensor, deq_scale2: MaybeTensor, quant_scale2: MaybeTensor, quant_offset2: MaybeTensor, antiquant_scale: MaybeTensor, antiquant_offset: MaybeTensor, block_table: MaybeTensor, query_padding: MaybeTensor, kv_padding: MaybeTensor, num_heads: i64, scale: f64, pre_tokens: i64, next_tokens: i64, layout: Text, kv_heads: i64, sparse_mode: i64, inner_precise: i64, block_size: i64, antiquant_mode: i64, lse_flag: bool, out: Tensor, lse: MaybeTensor), calls::fused_v1;
            aclnnFusedInferAttentionScoreV2GetWorkspaceSize, aclnnFusedInferAttentionScoreV2, (query: Tensor, key: Tensors, value: Tensors, pse_shift: MaybeTensor, atten_mask: MaybeTensor, lens: MaybeInts, lens_kv: MaybeInts, deq_scale1: MaybeTensor, quant_scale1: MaybeTensor, deq_scale2: MaybeTensor, quant_scale2: MaybeTensor, quant_offset2: MaybeTensor, antiquant_scale: MaybeTensor, antiquant_offset: MaybeTensor, block_table: MaybeTensor, query_padding: MaybeTensor, kv_padding: MaybeTensor, key_antiquant_scale: MaybeTensor, key_antiquant_offset: MaybeTensor, value_antiquant_scale: MaybeTensor, value_antiquant_offset: MaybeTensor, key_prefix: MaybeTensor, value_prefix: MaybeTensor, prefix_len: MaybeInts, num_heads: i64, scale: f64, pre_tokens: i64, next_tokens: i64, layout: Text, kv_heads: i64, sparse_mode: i64, inner_precise: i64, block_size: i64, antiquant_mode: i64, lse_flag: bool, key_antiquant_mode: i64, value_antiquant_mode: i64, out: Tensor, lse: MaybeTensor), calls::fused_v2;
            aclnnFusedInferAttentionScoreV3GetWorkspaceSize, aclnnFusedInferAttentionScoreV3, (query: Tensor, key: Tensors, value: Tensors, pse_shift: MaybeTensor, atten_mask: MaybeTensor, lens: MaybeInts, lens_kv: MaybeInts, deq_scale1: MaybeTensor, quant_scale1: MaybeTensor, deq_scale2: MaybeTensor, quant_scale2: MaybeTensor, quant_offset2: MaybeTensor, antiquant_scale: MaybeTensor, antiquant_offset: MaybeTensor, block_table: MaybeTensor, query_padding: MaybeTensor, kv_padding: MaybeTensor, key_antiquant_scale: MaybeTensor, key_antiquant_offset: MaybeTensor, value_antiquant_scale: MaybeTensor, value_antiquant_offset: MaybeTensor, key_prefix: MaybeTensor, value_prefix: MaybeTensor, prefix_len: MaybeInts, query_rope: MaybeTensor, key_rope: MaybeTensor, key_rope_antiquant_scale: MaybeTensor, num_heads: i64, scale: f64, pre_tokens: i64, next_tokens: i64, layout: Text, kv_heads: i64, sparse_mode: i64, inner_precise: i64, block_size: i64, antiquant_mode: i64, lse_flag: bool, key_antiquant_mode: i64, value_antiquant_mode: i64, out: Tensor, lse: MaybeTensor), calls::fused_v3;
            aclnnFusedInferAttentionScoreV4GetWorkspaceSize, aclnnFusedInferAttentionScoreV4, (query: Tensor, key: Tensors, value: Tensors, pse_shift: MaybeTensor, atten_mask: MaybeTensor, lens: MaybeInts, lens_kv: MaybeInts, deq_scale1: MaybeTensor, quant_scale1: MaybeTensor, deq_scale2: MaybeTensor, quant_scale2: MaybeTensor, quant_offset2: MaybeTensor, antiquant_scale: MaybeTensor, antiquant_offset: MaybeTensor, block_table: MaybeTensor, query_padding: MaybeTensor, kv_padding: MaybeTensor, key_antiquant_scale: MaybeTensor, key_antiquant_offset: MaybeTensor, value_antiquant_scale: MaybeTensor, value_antiquant_offset: MaybeTensor, key_prefix: MaybeTensor, value_prefix: MaybeTensor, prefix_len: MaybeInts, query_rope: MaybeTensor, key_rope: MaybeTensor, key_rope_antiquant_scale: MaybeTensor, dequant_scale_query: MaybeTensor, num_heads: i64, scale: f64, pre_tokens: i64, next_tokens: i64, layout: Text, kv_heads: i64, sparse_mode: i64, inner_precise: i64, block_size: i64, antiquant_mode: i64, lse_flag: bool, key_antiquant_mode: i64, value_antiquant_mode: i64, query_quant_mode: i64, out: Tensor, lse: MaybeTensor), calls::fused_v4;
            aclnnGatherV2GetWorkspaceSize, aclnnGatherV2, (this: Tensor, dim: i64, index: Tensor, out: Tensor), gather::gather;
            aclnnGeluGetWorkspaceSize, aclnnGelu, (this: Tensor, out: Tensor), unary::gelu;
            aclnnGeluV2GetWorkspaceSize, aclnnGeluV2, (this: Tensor, approximate: i64, out: Tensor), unary::gelu_v2;
            aclnnGtScalarGetWorkspaceSize, aclnnGtScalar, (this: Tensor, other: Num, out: Tensor), binary::gts;
            aclnnHardsigmoidGetWorkspaceSize, aclnnHardsigmoid, (this: Tensor, out: Tensor), unary::hardsigmoid;
            aclnnHardswishGetWorkspaceSize, aclnnHardswish, (this: Tensor, out: Tensor), unary::hardswish;
            aclnnIncreFlashAttentionGetWorkspaceSize, aclnnIncreFlashAttention, (query: Tensor, key: Tensors, value: Tensors, pse_shift: MaybeTensor, atten_mask: MaybeTensor, lens: MaybeInts, num_heads: i64, scale: f64, layout: Text, kv_heads: i64, out: Tensor), calls::incre;
            aclnnIncreFlashAttentionV4GetWorkspaceSize, aclnnIncreFlashAttentionV4, (query: Tensor, key: Tensors, value: Tensors, pse_shift: MaybeTensor, atten_mask: MaybeTensor, lens: MaybeInts, deq_scale1: MaybeTensor, quant_scale1: MaybeTensor, deq_scale2: MaybeTensor, quant_scale2: MaybeTensor, quant_offset2: MaybeTensor, antiquant_scale: MaybeTensor, antiquant_offset: MaybeTensor, block_table: MaybeTensor, kv_padding: MaybeTensor, num_heads: i64, scale: f64, layout: Text, kv_heads: i64, block_size: i64, inner_precise: i64, out: Tensor), calls::incre_v4;
            aclnnIndexSelectGetWorkspaceSize, aclnnIndexSelect, (this: Tensor, dim: i64, index: Tensor, out: Tensor), gather::index_select;
            aclnnInplaceAddGetWorkspaceSize, aclnnInplaceAdd, (this: Tensor, other: Tensor, alpha: Num), binary::inplace_add;
            aclnnInplaceAddsGetWorkspaceSize, aclnnInplaceAdds, (this: Tensor, other: Num, alpha: Num), binary::inplace_adds;
            aclnnInplaceClampMaxGetWorkspaceSize, aclnnInplaceClampMax, (this: Tensor, max: Num), unary::inplace_clamp_max;
            aclnnInplaceCopyGetWorkspaceSize, aclnnInplaceCopy, (this: Tensor, src: Tensor), copy::inplace_copy;
            aclnnInplaceCosGetWorkspaceSize, aclnnInplaceCos, (this: Tensor), unary::inplace_cos;
            aclnnInplaceDivGetWorkspaceSize, aclnnInplaceDiv, (this: Tensor, other: Tensor), binary::inplace_div;
            aclnnInplaceDivsGetWorkspaceSize, aclnnInplaceDivs, (this: Tensor, other: Num), binary::inplace_divs;
            aclnnInplaceExpGetWorkspaceSize, aclnnInplaceExp, (this: Tensor), unary::inplace_exp;
            aclnnInplaceFillScalarGetWorkspaceSize, aclnnInplaceFillScalar, (this: Tensor, value: Num), arange::inplace_fill_scalar;
            aclnnInplaceIndexCopyGetWorkspaceSize, aclnnInplaceIndexCopy, (this: Tensor, dim: i64, index: Tensor, source: Tensor), scatter::inplace_index_copy;
            aclnnInplaceIndexFillTensorGetWorkspaceSize, aclnnInplaceIndexFillTensor, (this: Tensor, dim: i64, index: Ints, value: Num), arange::inplace_index_fill;
            aclnnInplaceMulGetWorkspaceSize, aclnnInplaceMul, (this: Tensor, other: Tensor), binary::inplace_mul;
            aclnnInplaceMulsGetWorkspaceSize, aclnnInplaceMuls, (this: Tensor, other: Num), binary::inplace_muls;
            aclnnInplacePowTensorTensorGetWorkspaceSize, aclnnInplacePowTensorTensor, (this: Tensor, exponent: Tensor), binary::inplace_pow;
            aclnnInplaceScatterUpdateGetWorkspaceSize, aclnnInplaceScatterUpdate, (data: Tensor, indices: Tensor, updates: Tensor, axis: i64), scatter::inplace_scatter_update;
            aclnnInplaceSinGetWorkspaceSize, aclnnInplaceSin, (this: Tensor), unary::inplace_sin;
            aclnnInplaceSubGetWorkspaceSize, aclnnInplaceSub, (this: Tensor, other: Tensor, alpha: Num), binary::inplace_sub;
            aclnnInplaceSubsGetWorkspaceSize, aclnnInplaceSubs, (this: Tensor, other: Num, alpha: Num), binary::inplace_subs;
            aclnnInplaceThresholdGetWorkspaceSize, aclnnInplaceThreshold, (this: Tensor, threshold: Num, value: Num), unary::inplace_threshold;
            aclnnInplaceTriuGetWorkspaceSize, aclnnInplaceTriu, (this: Tensor, diagonal: i64), triangle::inplace_triu;
            aclnnInplaceZeroGetWorkspaceSize, aclnnInplaceZero, (this: Tensor), arange::inplace_zero;
            aclnnLayerNormGetWorkspaceSize, aclnnLayerNorm, (x: Tensor, shape: Ints, weight: MaybeTensor, bias: MaybeTensor, epsilon: f64, out: Tensor, mean: MaybeTensor, rstd: MaybeTensor), layernorm::layer_norm;
            aclnnLeakyReluGetWorkspaceSize, aclnnLeakyRelu, (this: Tensor, slope: Num, out: Tensor), unary::leaky_relu;
            aclnnLogGetWorkspaceSize, aclnnLog, (this: Tensor, out: Tensor), unary::log;
            aclnnMatmulGetWorkspaceSize, aclnnMatmul, (this: Tensor, mat2: Tensor, out: Tensor, cube_math_type: i8), matmul::matmul;
            aclnnMatmulWeightNzGetWorkspaceSize, aclnnMatmulWeightNz, (this: Tensor, mat2: Tensor, out: Tensor, cube_math_type: i8), matmul::matmul_weight_nz;
            aclnnMaxDimGetWorkspaceSize, aclnnMaxDim, (this: Tensor, dim: i64, keepdim: bool, out: Tensor, indices: Tensor), reduce::max_dim;
            aclnnMeanGetWorkspaceSize, aclnnMean, (this: Tensor, dim: Ints, keepdim: bool, dtype: i32, out: Tensor), reduce::mean;
            aclnnMmGetWorkspaceSize, aclnnMm, (this: Tensor, mat2: Tensor, out: Tensor, cube_math_type: i8), matmul::mm;
            aclnnMulGetWorkspaceSize, aclnnMul, (this: Tensor, other: Tensor, out: Tensor), binary::mul;
            aclnnMulsGetWorkspaceSize, aclnnMuls, (this: Tensor, other: Num, out: Tensor), binary::muls;
            aclnnMvGetWorkspaceSize, aclnnMv, (this: Tensor, vector: Tensor, out: Tensor, cube_math_type: i8), matmul::mv;
            aclnnNegGetWorkspaceSize, aclnnNeg, (this: Tensor, out: Tensor), unary::neg;
            aclnnNormGetWorkspaceSize, aclnnNorm, (this: Tensor, p: Num, dim: Ints, keepdim: bool, out: Tensor), reduce::norm;
            aclnnPermuteGetWorkspaceSize, aclnnPermute, (this: Tensor, dims: Ints, out: Tensor), copy::permute;
            aclnnPowScalarTensorGetWorkspaceSize, aclnnPowScalarTensor, (base: Num, exponent: Tensor, out: Tensor), unary::pow_scalar_tensor;
            aclnnPromptFlashAttentionV3GetWorkspaceSize, aclnnPromptFlashAttentionV3, (query: Tensor, key: Tensor, value: Tensor, pse_shift: MaybeTensor, atten_mask: MaybeTensor, lens: MaybeInts, lens_kv: MaybeInts, deq_scale1: MaybeTensor, quant_scale1: MaybeTensor, deq_scale2: MaybeTensor, quant_scale2: MaybeTensor, quant_offset2: MaybeTensor, num_heads: i64, scale: f64, pre_tokens: i64, next_tokens: i64, layout: Text, kv_heads: i64, sparse_mode: i64, inner_precise: i64, out: Tensor), calls::prompt_v3;
            aclnnQuantMatmulV3GetWorkspaceSize, aclnnQuantMatmulV3, (x1: Tensor, x2: Tensor, scale: Tensor, offset: MaybeTensor, bias: MaybeTensor, transpose_x1: bool, transpose_x2: bool, out: Tensor), qmatmul::quant_matmul_v3;
            aclnnQuantMatmulV4GetWorkspaceSize, aclnnQuantMatmulV4, (x1: Tensor, x2: Tensor, scale: Tensor, offset: MaybeTensor, pertoken_scale: MaybeTensor, bias: MaybeTensor, transpose_x1: bool, transpose_x2: bool, out: Tensor), qmatmul::quant_matmul_v4;
            aclnnQuantMatmulV5GetWorkspaceSize, aclnnQuantMatmulV5, (x1: Tensor, x2: Tensor, x1_scale: MaybeTensor, x2_scale: Tensor, y_scale: MaybeTensor, x1_offset: MaybeTensor, x2_offset: MaybeTensor, y_offset: MaybeTensor, bias: MaybeTensor, transpose_x1: bool, transpose_x2: bool, group_size: i64, out: Tensor), qmatmul::quant_matmul_v5;
            aclnnQuantMatmulWeightNzGetWorkspaceSize, aclnnQuantMatmulWeightNz, (x1: Tensor, x2: Tensor, x1_scale: MaybeTensor, x2_scale: Tensor, y_scale: MaybeTensor, x1_offset: MaybeTensor, x2_offset: MaybeTensor, y_offset: MaybeTensor, bias: MaybeTensor, transpose_x1: bool, transpose_x2: bool, group_size: i64, out: Tensor), qmatmul::quant_matmul_weight_nz;
            aclnnReduceSumGetWorkspaceSize, aclnnReduceSum, (this: Tensor, dim: Ints, keepdim: bool, dtype: i32, out: Tensor), reduce::reduce_sum;
            aclnnReluGetWorkspaceSize, aclnnRelu, (this: Tensor, out: Tensor), unary::relu;
            aclnnRepeatGetWorkspaceSize, aclnnRepeat, (this: Tensor, repeats: Ints, out: Tensor), copy::repeat;
            aclnnRepeatInterleaveIntWithDimGetWorkspaceSize, aclnnRepeatInterleaveIntWithDim, (this: Tensor, repeats: i64, dim: i64, output_size: i64, out: Tensor), copy::repeat_interleave;
            aclnnRmsNormGetWorkspaceSize, aclnnRmsNorm, (x: Tensor, gamma: Tensor, epsilon: f64, y: Tensor, rstd: MaybeTensor), norm::rms_norm;
            aclnnRollGetWorkspaceSize, aclnnRoll, (x: Tensor, shifts: Ints, dims: Ints, out: Tensor), copy::roll;
            aclnnRotaryPositionEmbeddingGetWorkspaceSize, aclnnRotaryPositionEmbedding, (x: Tensor, cos: Tensor, sin: Tensor, mode: i64, out: Tensor), rotary::rotary;
            aclnnScatterNdUpdateGetWorkspaceSize, aclnnScatterNdUpdate, (this: Tensor, indices: Tensor, updates: Tensor), scatter::scatter_nd_update;
            aclnnSigmoidGetWorkspaceSize, aclnnSigmoid, (this: Tensor, out: Tensor), unary::sigmoid;
            aclnnSignGetWorkspaceSize, aclnnSign, (this: Tensor, out: Tensor), unary::sign;
            aclnnSiluGetWorkspaceSize, aclnnSilu, (this: Tensor, out: Tensor), unary::silu;
            aclnnSinGetWorkspaceSize, aclnnSin, (this: Tensor, out: Tensor), unary::sin;
            aclnnSliceGetWorkspaceSize, aclnnSlice, (this: Tensor, dim: i64, start: i64, end: i64, step: i64, out: Tensor), copy::slice;
            aclnnSoftmaxGetWorkspaceSize, aclnnSoftmax, (this: Tensor, dim: i64, out: Tensor), reduce::softmax;
            aclnnSoftplusGetWorkspaceSize, aclnnSoftplus, (this: Tensor, beta: Num, threshold: Num, out: Tensor), unary::softplus;
            aclnnSqrtGetWorkspaceSize, aclnnSqrt, (this: Tensor, out: Tensor), unary::sqrt;
            aclnnSubGetWorkspaceSize, aclnnSub, (this: Tensor, other: Tensor, alpha: Num, out: Tensor), binary::sub;
            aclnnSwiGluGetWorkspaceSize, aclnnSwiGlu, (x: Tensor, dim: i64, out: Tensor), glu::swi_glu;
            aclnnSwiGluQuantGetWorkspaceSize, aclnnSwiGluQuant, (x: Tensor, smooth: MaybeTensor, offsets: MaybeTensor, group_index: MaybeTensor, activate_left: bool, quant_mode: MaybeText, y: Tensor, scale: Tensor), glu::swi_glu_quant;
            aclnnTanhGetWorkspaceSize, aclnnTanh, (this: Tensor, out: Tensor), unary::tanh;
            aclnnTopkGetWorkspaceSize, aclnnTopk, (this: Tensor, k: i64, dim: i64, largest: bool, sorted: bool, values: Tensor, indices: Tensor), sort::topk;
            aclnnTransMatmulWeightGetWorkspaceSize, aclnnTransMatmulWeight, (weight: Tensor), nz::trans_matmul_weight;
            aclnnTransQuantParamV2GetWorkspaceSize, aclnnTransQuantParamV2, (scale: Tensor, offset: MaybeTensor, out: Tensor), quant::trans_quant_param_v2;
            aclnnTrilGetWorkspaceSize, aclnnTril, (this: Tensor, diagonal: i64, out: Tensor), triangle::tril;
            aclnnTriuGetWorkspaceSize, aclnnTriu, (this: Tensor, diagonal: i64, out: Tensor), triangle::triu;
            aclnnWeightQuantBatchMatmulV2GetWorkspaceSize, aclnnWeightQuantBatchMatmulV2, (x: Tensor, weight: Tensor, scale: Tensor, offset: MaybeTensor, quant_scale: MaybeTensor, quant_offset: MaybeTensor, bias: MaybeTensor, group_size: i32, y: Tensor), wqmatmul::weight_quant;
            aclnnWeightQuantBatchMatmulV3GetWorkspaceSize, aclnnWeightQuantBatchMatmulV3, (x: Tensor, weight: Tensor, scale: Tensor, offset: MaybeTensor, quant_scale: MaybeTensor, quant_offset: MaybeTensor, bias: MaybeTensor, group_size: i32, inner_precise: i32, y: Tensor), wqmatmul::weight_quant_v3;
            }
            unsupported {
                aclnnAdvanceStepGetWorkspaceSize, aclnnAdvanceStep;
                aclnnApplyTopKTopPGetWorkspaceSize, aclnnApplyTopKTopP;
                aclnnAvgPool2dGetWorkspaceSize, aclnnAvgPool2d;
                aclnnConvolutionGetWorkspaceSize, aclnnConvolution;
                aclnnDequantSwigluQuantGetWorkspaceSize, aclnnDequantSwigluQuant;
                aclnnGeGluV3GetWorkspaceSize, aclnnGeGluV3;
                aclnnGroupNormGetWorkspaceSize, aclnnGroupNorm;
                aclnnIm2colGetWorkspaceSize, aclnnIm2col;
                aclnnMaxPoolGetWorkspaceSize, aclnnMaxPool;
                aclnnMultinomialGetWorkspaceSize, aclnnMultinomial;
                aclnnReflectionPad1dGetWorkspaceSize, aclnnReflectionPad1d;
                aclnnSoftmaxCrossEntropyWithLogitsGetWorkspaceSize, aclnnSoftmaxCrossEntropyWithLogits;
                aclnnTopKTopPSampleGetWorkspaceSize, aclnnTopKTopPSample;
                aclnnTriangularSolveGetWorkspaceSize, aclnnTriangularSolve;
                aclnnUpsampleNearest2dGetWorkspaceSize, aclnnUpsampleNearest2d;
            }
        }
    };
}

macro_rules! define {
    (
        operators { $($first:ident, $second:ident, ($($arg:ident: $kind:ty),*), $op:path;)* }
        unsupported { $($no_first:ident, $no_second:ident;)* }
    ) => {
        $(
            #[doc = concat!("First phase of `", stringify!($second), "`.")]
            ///
            /// # Safety
            /// Strings are terminated; the two results are null or writable.
            #[allow(non_snake_case, clippy::too_many_arguments, reason = "the C name and argument list")]
            pub unsafe extern "C" fn $first(
                $($arg: <$kind as Arg>::C,)* workspace: *mut u64, executor: *mut *mut c_void,
            ) -> i32 {
                // SAFETY: passed on from the caller.
                let plan = || $op($(unsafe { <$kind as Arg>::take($arg, stringify!($arg))? }),*);
                // SAFETY: passed on from the caller.
                unsafe { first_phase(stringify!($second), workspace, executor, plan) }
            }

            #[doc = concat!("Second phase of `", stringify!($second), "`.")]
            #[allow(non_snake_case, reason = "the C name")]
            pub extern "C" fn $second(
                workspace: *mut c_void, bytes: u64, executor: *mut c_void, stream: *mut c_void,
            ) -> i32 {
                second_phase(stringify!($second), workspace, bytes, executor, stream)
            }
        )*
        $(
            #[doc = concat!("`", stringify!($no_first), "`: refused, whatever the arguments.")]
            #[allow(non_snake_case, reason = "the C name")]
            pub extern "C" fn $no_first() -> i32 {
                refuse(stringify!($no_second))
            }

            #[doc = concat!("`", stringify!($no_second), "`: refused.")]
            #[allow(non_snake_case, reason = "the C name")]
            pub extern "C" fn $no_second(
                _workspace: *mut c_void, _bytes: u64, _executor: *mut c_void, _stream: *mut c_void,
            ) -> i32 {
                refuse(stringify!($no_second))
            }
        )*

        /// The operators that are refused.
        pub fn unsupported() -> Vec<&'static str> {
            vec![$(stringify!($no_second)),*]
        }

        /// Name and address of every aclnn operator function.
        pub fn functions() -> Vec<(&'static str, usize)> {
            vec![
                $((stringify!($first), $first as *const () as usize), (stringify!($second), $second as *const () as usize),)*
                $((stringify!($no_first), $no_first as *const () as usize), (stringify!($no_second), $no_second as *const () as usize),)*
            ]
        }
    };
}

fn refuse(op: &str) -> i32 {
    guard(INNER, || Err(no_kernel(format!("{op} is not implemented by the simulated device"))))
}

nn_operators!(define);

pub use nz::aclnnCalculateMatmulWeightSizeV2;
