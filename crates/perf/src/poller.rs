//! Waiting for sockets and for a time, whichever comes first. Linux only (epoll).
//!
//! Sockets are watched for changes (edge-triggered): an event comes when a socket becomes readable
//! or writable, not while it is. A wait ends within some ten microseconds of its deadline, which
//! the milliseconds of plain epoll could not promise.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::thread::set_current_timer_slack;

/// Events taken from the system at once.
const EVENTS: usize = 256;

/// Sockets to wait for, each with a number.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

/// What has happened on a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// The number that it was added with.
    pub(crate) index: usize,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl Poller {
    /// A poller without sockets, for the thread that calls.
    pub(crate) fn new() -> io::Result<Poller> {
        // By default the system may wake a thread up to 50 microseconds late, to save power.
        set_current_timer_slack(NonZeroU64::new(1))?;
        Ok(Poller {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
        })
    }

    /// Watches a socket.
    pub(crate) fn add(&self, socket: impl AsFd, index: usize) -> io::Result<()> {
        use epoll::EventFlags as Flags;
        let flags = Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET;
        let data = epoll::EventData::new_u64(index as u64);
        Ok(epoll::add(&self.epoll, socket, data, flags)?)
    }

    /// Watches a socket no longer.
    pub(crate) fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Waits until something happens or so much time has passed; gives what happened.
    pub(crate) fn wait(
        &mut self,
        timeout: Duration,
    ) -> io::Result<impl Iterator<Item = Change> + '_> {
        self.events.clear();
        let mut timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let none = Timespec::default();
        if timeout.tv_sec == 0 && timeout.tv_nsec % 1_000_000 != 0 {
            let mut all = [PollFd::new(&self.epoll, PollFlags::IN)];
            match poll(&mut all, Some(&timeout)) {
                Ok(0) => return Ok(self.changes()),
                Ok(_) | Err(Errno::INTR) => timeout = none,
                Err(error) => return Err(error.into()),
            }
        }
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => Ok(self.changes()),
            Err(error) => Err(error.into()),
        }
    }

    fn changes(&self) -> impl Iterator<Item = Change> {
        use epoll::EventFlags as Flags;
        self.events.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            Change {
                index: usize::try_from(data.u64()).expect("it was made from such a number"),
                readable: flags.intersects(Flags::IN | Flags::RDHUP | Flags::HUP | Flags::ERR),
                writable: flags.intersects(Flags::OUT | Flags::HUP | Flags::ERR),
            }
        })
    }
}
