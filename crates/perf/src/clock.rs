//! The clock: nanoseconds of the monotonic clock, and the processor time of this process.
//!
//! The times are the machine's own, so bodies written by one process can be timed by another one
//! on the same machine, PerfTest included.

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::schedule::Nanos;

/// The time.
pub(crate) fn now() -> Nanos {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// Processor time that this process has used, user and system.
pub(crate) fn process_time() -> Nanos {
    nanos(clock_gettime(ClockId::ProcessCPUTime))
}

fn nanos(time: Timespec) -> Nanos {
    let seconds = u64::try_from(time.tv_sec).expect("these clocks start at 0");
    let rest = u64::try_from(time.tv_nsec).expect("a part of a second is not negative");
    seconds * 1_000_000_000 + rest
}
