//! Handles: numbers that C holds for objects of this library. A number that was freed, made up or meant for another kind of
//! object is found out, so that it is a status and no crash. The only global state of the library.
//!
//! A handle is a slot's index and the slot's generation, which grows when the slot is freed. Slots never move and are never
//! given back to the system: to look one up takes the slot's own lock and no other. Used by all entry points.

use crate::status::{Failure, Status};
use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Slots of the first segment, as a power of two; each segment is as large as all before it.
const FIRST: u32 = 6;
/// Segments: room for 2^30 objects.
const SEGMENTS: usize = 25;

/// What a handle stands for.
type Object = Arc<dyn Any + Send + Sync>;

#[derive(Default)]
struct Slot {
    /// Odd while the slot is in use. A slot is retired when it runs out of generations.
    generation: u32,
    object: Option<Object>,
}

/// A table of objects by handle.
pub(crate) struct Table {
    segments: [OnceLock<Box<[Mutex<Slot>]>>; SEGMENTS],
    /// Freed slots, and the number of slots ever used.
    free: Mutex<(Vec<u32>, u32)>,
}

/// The objects of this process.
pub(crate) static TABLE: Table = Table::new();

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The segment of a slot and its place in it.
fn place(index: u32) -> (usize, usize) {
    let segment = (index >> FIRST).checked_ilog2().map_or(0, |log| log + 1);
    let start = if segment == 0 { 0 } else { 1 << (FIRST + segment - 1) };
    (segment as usize, (index - start) as usize)
}

fn size(segment: usize) -> usize {
    1 << (FIRST as usize + segment.saturating_sub(1))
}

impl Table {
    const fn new() -> Table {
        Table { segments: [const { OnceLock::new() }; SEGMENTS], free: Mutex::new((Vec::new(), 0)) }
    }

    fn slot(&self, index: u32) -> Option<&Mutex<Slot>> {
        let (segment, at) = place(index);
        self.segments.get(segment)?.get()?.get(at)
    }

    /// A slot that is not in use.
    fn vacant(&self) -> Result<(u32, &Mutex<Slot>), Failure> {
        let mut free = lock(&self.free);
        let index = match free.0.pop() {
            Some(index) => index,
            None => {
                let index = free.1;
                let (segment, _) = place(index);
                let full = || Failure::new(Status::OutOfMemory, "there is no handle left");
                let cell = self.segments.get(segment).ok_or_else(full)?;
                cell.get_or_init(|| (0..size(segment)).map(|_| Mutex::default()).collect());
                free.1 += 1;
                index
            }
        };
        Ok((index, self.slot(index).expect("the segment was made above or with an earlier slot")))
    }

    /// Puts an object into the table. Returns its handle, which is not 0.
    pub(crate) fn insert<T: Any + Send + Sync>(&self, object: Arc<T>) -> Result<u64, Failure> {
        let (index, slot) = self.vacant()?;
        let mut slot = lock(slot);
        slot.generation += 1;
        slot.object = Some(object);
        Ok(u64::from(slot.generation) << 32 | u64::from(index))
    }

    /// The object of a handle, alive as long as the caller keeps it, whoever frees the handle meanwhile.
    pub(crate) fn get<T: Any + Send + Sync>(&self, handle: u64, kind: &'static str) -> Result<Arc<T>, Failure> {
        let (slot, generation) = self.find(handle, kind)?;
        let slot = lock(slot);
        let object = slot.object.as_ref().filter(|_| slot.generation == generation);
        let object = Arc::clone(object.ok_or_else(|| stale(kind))?);
        drop(slot);
        object.downcast().map_err(|_| other(kind))
    }

    /// Takes the object of a handle out of the table.
    pub(crate) fn remove<T: Any + Send + Sync>(&self, handle: u64, kind: &'static str) -> Result<Arc<T>, Failure> {
        let (slot, generation) = self.find(handle, kind)?;
        let mut slot = lock(slot);
        if slot.generation != generation {
            return Err(stale(kind));
        }
        let object = slot.object.take_if(|o| (**o).is::<T>());
        let Some(object) = object else {
            return Err(if slot.object.is_some() { other(kind) } else { stale(kind) });
        };
        slot.generation += 1;
        // A slot whose generations are used up is not used again, so that no old handle ever fits it.
        if slot.generation < u32::MAX - 1 {
            lock(&self.free).0.push(handle as u32);
        }
        drop(slot);
        object.downcast().map_err(|_| other(kind))
    }

    fn find(&self, handle: u64, kind: &'static str) -> Result<(&Mutex<Slot>, u32), Failure> {
        if handle == 0 {
            return Err(Failure::new(Status::InvalidHandle, format!("the {kind} is null")));
        }
        let slot = self.slot(handle as u32).ok_or_else(|| stale(kind))?;
        Ok((slot, (handle >> 32) as u32))
    }
}

fn stale(kind: &'static str) -> Failure {
    Failure::new(Status::InvalidHandle, format!("the {kind} was freed, or never was one"))
}

fn other(kind: &'static str) -> Failure {
    Failure::new(Status::InvalidHandle, format!("the handle is that of another kind of object, not a {kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_each_other_through_the_segments() {
        let mut expected = (0, 0);
        for index in 0..5000 {
            assert_eq!(place(index), expected, "{index}");
            expected.1 += 1;
            if expected.1 == size(expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(place(u32::MAX).0 >= SEGMENTS, "no segment has the last index, so made-up handles are refused");
    }

    #[test]
    fn a_handle_serves_until_it_is_freed_and_never_again() {
        let table = Table::new();
        let handles: Vec<u64> = (0..200_u32).map(|i| table.insert(Arc::new(i)).unwrap()).collect();
        assert!(handles.iter().all(|&h| h != 0));
        for (i, &handle) in handles.iter().enumerate() {
            assert_eq!(*table.get::<u32>(handle, "number").unwrap(), i as u32);
            assert!(table.get::<String>(handle, "text").unwrap_err().message.contains("another kind"));
            assert!(table.remove::<String>(handle, "text").is_err());
        }
        let kept = table.get::<u32>(handles[7], "number").unwrap();
        table.remove::<u32>(handles[7], "number").unwrap();
        assert_eq!(*kept, 7);
        let next = table.insert(Arc::new(1000_u32)).unwrap();
        assert_eq!(next as u32, handles[7] as u32, "the slot is used again");
        assert!(table.get::<u32>(handles[7], "number").unwrap_err().message.contains("freed"));
        assert!(table.remove::<u32>(handles[7], "number").is_err());
        assert_eq!(*table.get::<u32>(next, "number").unwrap(), 1000);
    }

    #[test]
    fn made_up_handles_are_refused() {
        let table = Table::new();
        let real = table.insert(Arc::new(1_u32)).unwrap();
        for handle in [0, 1, u64::MAX, real ^ (1 << 32), real + 1, real | (1 << 40)] {
            assert_eq!(table.get::<u32>(handle, "number").unwrap_err().status, Status::InvalidHandle, "{handle:x}");
            assert_eq!(table.remove::<u32>(handle, "number").unwrap_err().status, Status::InvalidHandle, "{handle:x}");
        }
        assert_eq!(*table.get::<u32>(real, "number").unwrap(), 1);
    }

    #[test]
    fn threads_share_the_table() {
        let table = Table::new();
        std::thread::scope(|scope| {
            for t in 0..4_u32 {
                let table = &table;
                scope.spawn(move || {
                    for i in 0..500_u32 {
                        let handle = table.insert(Arc::new(t * 1000 + i)).unwrap();
                        assert_eq!(*table.get::<u32>(handle, "number").unwrap(), t * 1000 + i);
                        table.remove::<u32>(handle, "number").unwrap();
                    }
                });
            }
        });
        assert!(lock(&table.free).1 <= 4, "slots are used again");
    }
}
