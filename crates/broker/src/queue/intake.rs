//! How fast a queue takes what publishers send, beside what its consumers take.
//!
//! A queue in which much lies ready makes its publishers wait in two cases only, each time for a moment:
//!
//! * what lies ready in memory, and much more than may lie there, will be taken in a moment, at the pace of the
//!   last one; the moment is longer where memory is about to be used up. So consumers that are quick get all of it
//!   from memory, whatever limits them: their sockets, or a prefetch that they acknowledge as they go. Where
//!   consumers are slow the backlog grows, and nobody waits for them, however little memory there is;
//! * consumers wait for the disk. What publishers send is written to the same disk before the next read of it:
//!   so that the backlog becomes smaller, they get half of what consumers get.
//!
//! Consumers that have taken nothing for a while hold nobody up: they may wait for something that lies behind what
//! a publisher sends, such as an acknowledgement on the same connection.

use std::time::Duration;

use stdx::Time;

/// The pace is that of the last one or two of these.
const SPELL: Duration = Duration::from_millis(50);
/// What was taken in less time than this counts as taken in this time.
const BURST: Duration = Duration::from_millis(5);
/// So much may lie ready at any time, in bytes, if the budget allows; quick is who takes at least as much in a moment.
const ENOUGH_BYTES: u64 = 4 << 20;
/// How long publishers may have to wait at the present pace, and how long consumers may take nothing meanwhile.
const MOMENT: Patience = Patience { wait: Duration::from_millis(200), pause: Duration::from_millis(10) };
/// The same where more than half of the budget lies ready: what comes then may have to go to the disk.
const LONG_MOMENT: Patience = Patience { wait: Duration::from_secs(1), pause: Duration::from_millis(100) };

struct Patience {
    wait: Duration,
    pause: Duration,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    /// When the present spell began, and how long the one before it was.
    since: Time,
    before: Duration,
    /// Bytes that consumers took in both.
    taken: u64,
    taken_before: u64,
    /// When they last took something.
    last: Time,
    /// Somebody is in line and can have nothing from memory; or was since the last read of the disk came; and when
    /// that was so.
    waits: bool,
    waited: bool,
    waited_at: Time,
    /// What publishers may still bring before the next read, in bytes, if consumers wait for it or waited for the last.
    share: Option<u64>,
}

impl Intake {
    /// Consumers took so many bytes.
    pub(crate) fn taken(&mut self, now: Time, bytes: u64) {
        if bytes == 0 {
            return;
        }
        if now.since(self.last) >= SPELL {
            (self.since, self.before) = (now, Duration::ZERO);
            (self.taken, self.taken_before) = (0, 0);
        } else if now.since(self.since) >= SPELL {
            self.before = now.since(self.since);
            self.taken_before = std::mem::take(&mut self.taken);
            self.since = now;
        }
        self.taken += bytes;
        self.last = now;
    }

    /// A publisher brought so many bytes.
    pub(crate) fn brought(&mut self, bytes: u64) {
        if let Some(share) = &mut self.share {
            *share = share.saturating_sub(bytes);
        }
    }

    /// So many bytes came back from the disk.
    pub(crate) fn loaded(&mut self, bytes: u64) {
        self.share = std::mem::take(&mut self.waited).then_some(bytes / 2);
    }

    /// All is delivered that could be; `backlog`: there is more on the disk.
    pub(crate) fn settled(&mut self, now: Time, waits: bool, backlog: bool) {
        self.waits = waits;
        if waits {
            self.waited_at = now;
        }
        self.waited = backlog && (self.waited || waits);
        self.share = self.share.or(waits.then_some(0)).filter(|_| backlog);
    }

    /// Whether publishers wait, with so many bytes ready in memory of those that the budget allows.
    pub(crate) fn is_closed(&self, now: Time, ready: u64, budget: u64) -> bool {
        let idle = now.since(self.last);
        let waited_just_now = now.since(self.waited_at) < SPELL && idle < MOMENT.pause;
        if self.share == Some(0) && (self.waits || waited_just_now) {
            return true;
        }
        let patience = if ready > budget / 2 { LONG_MOMENT } else { MOMENT };
        ready > ENOUGH_BYTES.min(budget / 2)
            && idle < patience.pause
            && u128::from(ready.max(ENOUGH_BYTES)) <= self.taken_within(now, patience.wait)
    }

    /// What consumers take in this time at their present pace, in bytes.
    fn taken_within(&self, now: Time, time: Duration) -> u128 {
        let over = (now.since(self.since) + self.before).max(BURST);
        u128::from(self.taken + self.taken_before) * time.as_micros() / over.as_micros()
    }
}
