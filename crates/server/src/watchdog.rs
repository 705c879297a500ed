//! A process that does nothing any more ends itself, so that whoever started it can start it again, and the
//! rest of a cluster goes on without a node that hangs.
//!
//! A task beats, and a thread of its own looks whether it does. Only its own looks count: a process that was
//! suspended, or a machine that slept, has missed none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Between two beats, and between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// So many looks without a beat are the end: far more than any load explains.
const LOOKS_MAX: u32 = 60;

/// What the thread has seen.
#[derive(Debug, Default)]
struct Watchdog {
    beats: u64,
    looks: u32,
}

impl Watchdog {
    /// Whether it is time to end.
    fn look(&mut self, beats: u64) -> bool {
        self.looks = if beats == self.beats { self.looks + 1 } else { 0 };
        self.beats = beats;
        self.looks >= LOOKS_MAX
    }
}

/// Watches the runtime that this is called on, for as long as the process lives.
pub(crate) fn start() -> std::io::Result<()> {
    let beats = Arc::new(AtomicU64::new(1));
    let seen = Arc::clone(&beats);
    tokio::spawn(async move {
        loop {
            beats.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(LOOK).await;
        }
    });
    let watch = move || {
        let mut watchdog = Watchdog::default();
        while !watchdog.look(seen.load(Ordering::Relaxed)) {
            std::thread::sleep(LOOK);
        }
        // The log may be what everything waits for.
        eprintln!("nothing has happened in this process for {} s: it ends, to be started again", LOOKS_MAX);
        std::process::abort();
    };
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_what_has_not_moved_for_long_and_nothing_else() {
        let mut watchdog = Watchdog::default();
        for beats in 1..1000 {
            // One beat for many looks is enough.
            assert!((1..LOOKS_MAX).all(|_| !watchdog.look(beats)), "at beat {beats}");
        }
        let looks = (0..).take_while(|_| !watchdog.look(1000)).count();
        assert_eq!(looks, LOOKS_MAX as usize);
    }
}
