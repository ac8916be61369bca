//! Joining a row's splits for one query head, in order of position.

use super::{CombineArgs, partial_len};
use crate::kernels::lanes::{LANES, Lanes, exp, to_array};

/// # Safety
/// The machine has the level; the partial results of `args.splits` are valid.
#[inline(always)]
pub(in crate::kernels) unsafe fn combine<L: Lanes>(args: CombineArgs<'_>) {
    let hd = args.out.len();
    assert!(hd.is_multiple_of(LANES), "head_dim is a multiple of 16");
    let partial = |split: usize| {
        let at = (args.index * args.partials.splits + split) * partial_len(hd);
        args.partials.start.wrapping_add(at).cast_const()
    };
    // SAFETY: the splits' partial results are valid; the level is guaranteed by the caller.
    unsafe {
        let mut max = args.sink.unwrap_or(f32::NEG_INFINITY);
        for split in args.splits.clone() {
            max = max.max(*partial(split));
        }
        args.out.fill(0.0);
        let mut sum = args.sink.map_or(0.0, |sink| exp_one::<L>(sink - max));
        for split in args.splits {
            let share = exp_one::<L>(*partial(split) - max);
            sum += *partial(split).add(1) * share;
            for at in (0..hd).step_by(LANES) {
                let out = args.out.as_mut_ptr().add(at);
                let value = L::load(partial(split).add(LANES + at));
                L::store(out, L::add(L::load(out), L::mul(value, L::splat(share))));
            }
        }
        for at in (0..hd).step_by(LANES) {
            let out = args.out.as_mut_ptr().add(at);
            L::store(out, L::div(L::load(out), L::splat(sum)));
        }
    }
}

/// `e^x` of one number.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
unsafe fn exp_one<L: Lanes>(x: f32) -> f32 {
    // SAFETY: guaranteed by the caller.
    unsafe { to_array::<L>(exp::<L>(L::splat(x)))[0] }
}
