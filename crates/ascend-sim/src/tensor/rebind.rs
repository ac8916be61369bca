//! New addresses for the tensors of a repeatable executor.

use std::ffi::c_void;

use super::exec::update;
use super::memory::Operand;
use super::refuse::invalid;
use crate::task::Access;

fn set(executor: *mut c_void, addr: *mut c_void, what: &str, matches: impl Fn(usize, &Operand) -> bool) -> i32 {
    update(executor, |plan| {
        let mut hit = false;
        for (i, operand) in plan.operands.iter_mut().enumerate() {
            if matches(i, operand) {
                operand.view.addr = addr as usize;
                hit = true;
            }
        }
        if hit { Ok(()) } else { Err(invalid(format!("the executor has no such {what}"))) }
    })
}

macro_rules! set_addr {
    ($($name:ident $what:literal |$i:ident, $operand:ident, $index:ident, $rel:ident| $matches:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`.")]
        #[allow(non_snake_case, reason = "the C name")]
        pub extern "C" fn $name(executor: *mut c_void, $index: usize, tensor: *mut c_void, addr: *mut c_void) -> i32 {
            let ($rel, _) = (0usize, tensor);
            set(executor, addr, $what, |$i, $operand| { let _ = ($i, $rel); $matches })
        }
    )*};
}

set_addr! {
    aclSetInputTensorAddr "input" |i, o, index, rel| o.access == Access::Read && o.position == (index, rel);
    aclSetOutputTensorAddr "output" |i, o, index, rel| o.access == Access::Write && o.position == (index, rel);
    aclSetTensorAddr "tensor" |i, o, index, rel| i == index && o.position.1 == rel;
}

/// `aclSetDynamicInputTensorAddr`: a tensor of a list.
#[allow(non_snake_case, reason = "the C name")]
pub extern "C" fn aclSetDynamicInputTensorAddr(
    executor: *mut c_void,
    index: usize,
    relative: usize,
    _list: *mut c_void,
    addr: *mut c_void,
) -> i32 {
    set(executor, addr, "input", |_, o| o.access == Access::Read && o.position == (index, relative))
}

/// `aclSetDynamicOutputTensorAddr`: a tensor of a list.
#[allow(non_snake_case, reason = "the C name")]
pub extern "C" fn aclSetDynamicOutputTensorAddr(
    executor: *mut c_void,
    index: usize,
    relative: usize,
    _list: *mut c_void,
    addr: *mut c_void,
) -> i32 {
    set(executor, addr, "output", |_, o| o.access == Access::Write && o.position == (index, relative))
}
