//! The row and attention kernels, compiled once for each instruction-set level.
//!
//! `#[target_feature]` cannot be generic, so each level needs a function that enables its features
//! and inlines the generic kernel; the macro spells these out for one level. Used by `super::Kernels` alone.

use super::attend::{self, AttendArgs, CombineArgs};
use super::choose::{self, NoisyArgs, Surveyed};
use super::lanes::Lanes;
use super::rows::{self, Best, GateArgs, NormArgs, QuantizeArgs, RopeArgs};
use crate::isa::IsaLevel;
use aio_ir::sampling::Candidate;

/// One function per operation. All require the level they were compiled for.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowFns {
    /// See [`Lanes::PAIRS`].
    pub(super) pairs: usize,
    pub(super) norm: unsafe fn(NormArgs<'_>),
    pub(super) quantize: unsafe fn(QuantizeArgs<'_>),
    pub(super) silu_mul: unsafe fn(GateArgs<'_>),
    pub(super) gelu_mul: unsafe fn(GateArgs<'_>),
    pub(super) rope: unsafe fn(RopeArgs<'_>),
    pub(super) argmax: unsafe fn(&[f32]) -> Best,
    pub(super) survey: unsafe fn(&[f32], &mut [f32]),
    pub(super) gather: unsafe fn(Surveyed<'_>, f32, &mut [Candidate]) -> usize,
    pub(super) mass: unsafe fn(Surveyed<'_>, f32, f32) -> u64,
    pub(super) noisy_best: unsafe fn(NoisyArgs<'_>) -> Best,
    pub(super) noisy_list: unsafe fn(&[Candidate], f32, [u32; 4]) -> Best,
    pub(super) attend: unsafe fn(AttendArgs<'_>),
    pub(super) combine: unsafe fn(CombineArgs<'_>),
}

macro_rules! level {
    ($module:ident, $lanes:ident, #$attr:tt) => {
        mod $module {
            use super::*;
            use crate::kernels::lanes::$lanes as Level;

            #$attr
            unsafe fn norm(args: NormArgs<'_>) {
                // SAFETY: guaranteed by the caller.
                unsafe { rows::norm::<Level>(args) }
            }

            #$attr
            unsafe fn quantize(args: QuantizeArgs<'_>) {
                // SAFETY: guaranteed by the caller.
                unsafe { rows::quantize::<Level>(args) }
            }

            #$attr
            unsafe fn silu_mul(args: GateArgs<'_>) {
                // SAFETY: guaranteed by the caller.
                unsafe { rows::silu_mul::<Level>(args) }
            }

            #$attr
            unsafe fn gelu_mul(args: GateArgs<'_>) {
                // SAFETY: guaranteed by the caller.
                unsafe { rows::gelu_mul::<Level>(args) }
            }

            #$attr
            unsafe fn rope(args: RopeArgs<'_>) {
                // SAFETY: guaranteed by the caller.
                unsafe { rows::rope::<Level>(args) }
            }

            #$attr
            unsafe fn argmax(args: &[f32]) -> Best {
                // SAFETY: guaranteed by the caller.
                unsafe { rows::argmax::<Level>(args) }
            }

            #$attr
            unsafe fn survey(x: &[f32], out: &mut [f32]) {
                // SAFETY: guaranteed by the caller.
                unsafe { choose::survey::<Level>(x, out) }
            }

            #$attr
            unsafe fn gather(row: Surveyed<'_>, floor: f32, out: &mut [Candidate]) -> usize {
                // SAFETY: guaranteed by the caller.
                unsafe { choose::gather::<Level>(row, floor, out) }
            }

            #$attr
            unsafe fn mass(row: Surveyed<'_>, top: f32, floor: f32) -> u64 {
                // SAFETY: guaranteed by the caller.
                unsafe { choose::mass::<Level>(row, top, floor) }
            }

            #$attr
            unsafe fn noisy_best(args: NoisyArgs<'_>) -> Best {
                // SAFETY: guaranteed by the caller.
                unsafe { choose::noisy_best::<Level>(args) }
            }

            #$attr
            unsafe fn noisy_list(list: &[Candidate], temperature: f32, noise: [u32; 4]) -> Best {
                // SAFETY: guaranteed by the caller.
                unsafe { choose::noisy_list::<Level>(list, temperature, noise) }
            }

            #$attr
            unsafe fn attend(args: AttendArgs<'_>) {
                // SAFETY: guaranteed by the caller.
                unsafe { attend::attend::<Level>(args) }
            }

            #$attr
            unsafe fn combine(args: CombineArgs<'_>) {
                // SAFETY: guaranteed by the caller.
                unsafe { attend::combine::<Level>(args) }
            }

            pub(super) const FNS: RowFns = RowFns {
                pairs: <Level as Lanes>::PAIRS,
                norm,
                quantize,
                silu_mul,
                gelu_mul,
                rope,
                argmax,
                survey,
                gather,
                mass,
                noisy_best,
                noisy_list,
                attend,
                combine,
            };
        }
    };
}

level!(portable, Portable, #[inline]);
#[cfg(target_arch = "x86_64")]
level!(avx2, Avx2, #[target_feature(enable = "avx2,fma,f16c")]);
#[cfg(target_arch = "x86_64")]
level!(avx512, Avx512, #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]);

/// The functions of a level.
pub(super) fn row_fns(level: IsaLevel) -> RowFns {
    match level {
        #[cfg(target_arch = "x86_64")]
        IsaLevel::Avx512Vnni => avx512::FNS,
        #[cfg(target_arch = "x86_64")]
        IsaLevel::Avx2 => avx2::FNS,
        _ => portable::FNS,
    }
}
