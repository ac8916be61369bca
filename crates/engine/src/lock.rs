//! Locks of the engine. Used wherever threads share its state.

use crate::EngineError;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// Locks, also after a panic of another thread: what the engine's locks protect is valid between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lock that is held while the caller's code runs. A thread that asks for it twice gets an error instead of waiting
/// for itself.
pub(crate) struct Exclusive<T> {
    value: Mutex<T>,
    holder: Mutex<Option<ThreadId>>,
}

/// Access to what an [`Exclusive`] protects.
pub(crate) struct Held<'a, T> {
    value: MutexGuard<'a, T>,
    holder: &'a Mutex<Option<ThreadId>>,
}

impl<T> Exclusive<T> {
    pub(crate) fn new(value: T) -> Exclusive<T> {
        Exclusive { value: Mutex::new(value), holder: Mutex::new(None) }
    }

    /// Waits until no other thread has it.
    ///
    /// # Errors
    /// [`EngineError::Reentered`] if this thread has it.
    pub(crate) fn lock(&self) -> Result<Held<'_, T>, EngineError> {
        let caller = Some(thread::current().id());
        if *lock(&self.holder) == caller {
            return Err(EngineError::Reentered);
        }
        let value = lock(&self.value);
        *lock(&self.holder) = caller;
        Ok(Held { value, holder: &self.holder })
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        *lock(self.holder) = None;
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
