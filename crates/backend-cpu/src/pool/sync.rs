//! The primitives of the pool's protocols: the system's, or those of the model checker when it is compiled in.

#[cfg(loom)]
pub(super) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU32},
    sync::{Condvar, Mutex},
    thread::yield_now,
};
#[cfg(not(loom))]
pub(super) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU32},
    sync::{Condvar, Mutex},
    thread::yield_now,
};
