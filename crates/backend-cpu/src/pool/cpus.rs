//! System calls for binding threads to processors and reading their processor time. Used by the pool.

#[cfg(target_os = "linux")]
mod system {
    /// A set of processors.
    #[derive(Clone, Copy)]
    pub(in crate::pool) struct Cpus(libc::cpu_set_t);

    /// A running thread of this process.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::pool) struct Handle {
        thread: libc::pid_t,
        clock: libc::clockid_t,
    }

    impl Cpus {
        /// The processors a thread may use; 0 is the calling thread.
        fn of(thread: libc::pid_t) -> Option<Cpus> {
            // SAFETY: the set is plain data, initialised here, and passed with its size.
            unsafe {
                let mut allowed: libc::cpu_set_t = std::mem::zeroed();
                let result = libc::sched_getaffinity(thread, size_of::<libc::cpu_set_t>(), &mut allowed);
                (result == 0).then_some(Cpus(allowed))
            }
        }

        fn one(cpu: usize) -> Cpus {
            // SAFETY: the set is plain data; a number beyond its size is ignored.
            unsafe {
                let mut one: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(cpu, &mut one);
                Cpus(one)
            }
        }

        /// The processors the calling thread may use.
        pub(in crate::pool) fn allowed() -> Option<Cpus> {
            Cpus::of(0)
        }

        /// The processor the calling thread runs on.
        pub(in crate::pool) fn here() -> Option<Cpus> {
            // SAFETY: takes nothing.
            let cpu = unsafe { libc::sched_getcpu() };
            usize::try_from(cpu).ok().map(Cpus::one)
        }

        /// A set with only the `index`-th processor of this one.
        pub(in crate::pool) fn nth(&self, index: usize) -> Option<Cpus> {
            // SAFETY: the numbers are below the size of the set.
            let has = |&cpu: &usize| unsafe { libc::CPU_ISSET(cpu, &self.0) };
            (0..libc::CPU_SETSIZE as usize).filter(has).nth(index).map(Cpus::one)
        }
    }

    impl Handle {
        /// The calling thread.
        pub(in crate::pool) fn current() -> Option<Handle> {
            let mut clock = 0;
            // SAFETY: the thread is the caller, which lives; the clock is written in place.
            let (result, thread) =
                unsafe { (libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock), libc::gettid()) };
            (result == 0).then_some(Handle { thread, clock })
        }

        /// Processor time used by the thread, in nanoseconds.
        pub(in crate::pool) fn ran_ns(&self) -> Option<u64> {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the time is written in place; the clock of an ended thread gives an error.
            let result = unsafe { libc::clock_gettime(self.clock, &mut time) };
            (result == 0).then_some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
        }

        /// Binds the thread to these processors. Returns whether that succeeded.
        pub(in crate::pool) fn move_to(&self, cpus: &Cpus) -> bool {
            // SAFETY: the set is plain data, passed with its size.
            unsafe { libc::sched_setaffinity(self.thread, size_of::<libc::cpu_set_t>(), &cpus.0) == 0 }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    /// A set of processors; not supported on this system.
    #[derive(Clone, Copy)]
    pub(in crate::pool) struct Cpus;

    /// A running thread; not supported on this system.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::pool) struct Handle;

    impl Cpus {
        pub(in crate::pool) fn allowed() -> Option<Cpus> {
            None
        }

        pub(in crate::pool) fn here() -> Option<Cpus> {
            None
        }

        pub(in crate::pool) fn nth(&self, _: usize) -> Option<Cpus> {
            None
        }
    }

    impl Handle {
        pub(in crate::pool) fn current() -> Option<Handle> {
            None
        }

        pub(in crate::pool) fn ran_ns(&self) -> Option<u64> {
            None
        }

        pub(in crate::pool) fn move_to(&self, _: &Cpus) -> bool {
            false
        }
    }
}

pub(super) use system::{Cpus, Handle};
