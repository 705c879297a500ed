//! The clocks: the only place that reads them.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use stdx::Time;

static START: OnceLock<Instant> = OnceLock::new();

/// Nanoseconds since the process started.
pub(crate) fn now() -> Time {
    let start = START.get_or_init(Instant::now);
    Time::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// The same point as the runtime's timers want it.
pub(crate) fn instant(time: Time) -> tokio::time::Instant {
    let start = START.get_or_init(Instant::now);
    tokio::time::Instant::from_std(*start + time.since(Time::START))
}

/// Milliseconds since 1970.
pub(crate) fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// An unpredictable number.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        // Without the system's generator nothing can be kept secret: better not to serve.
        Err(error) => panic!("the system gives no random numbers: {error}"),
    }
}

/// Nanoseconds since the process first asked, counting the time that the machine slept. Leases and
/// verdicts about other nodes go by it.
pub(crate) fn awake() -> Time {
    static FIRST: OnceLock<i128> = OnceLock::new();
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    let first = *FIRST.get_or_init(|| nanos);
    Time::from_nanos(u64::try_from(nanos - first).unwrap_or(0))
}
