//! A mailbox between tasks: many push, one takes everything at once.
//!
//! Bytes are counted until the owner has dealt with them, so that who pushes too much can wait for
//! room; pushing itself never waits, because the one who pushes may hold things that others wait for. One lock and at most one wake-up
//! a batch, never a message.

use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

#[derive(Debug)]
struct Inner<T> {
    items: Vec<T>,
    bytes: usize,
    closed: bool,
    reader: Option<Waker>,
    /// Who waits for room.
    waiting: Vec<Waker>,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    inner: Mutex<Inner<T>>,
}

/// The mailbox's owner has ended; here is what was pushed.
pub(crate) struct Closed<T>(pub T);

impl<T> Mailbox<T> {
    pub(crate) fn new() -> Mailbox<T> {
        let inner = Inner { items: Vec::new(), bytes: 0, closed: false, reader: None, waiting: Vec::new() };
        Mailbox { inner: Mutex::new(inner) }
    }

    /// Adds an item that stands for `bytes`; answers how many bytes now lie here.
    pub(crate) fn push(&self, item: T, bytes: usize) -> Result<usize, Closed<T>> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Closed(item));
        }
        inner.items.push(item);
        inner.bytes += bytes;
        let total = inner.bytes;
        let reader = inner.reader.take();
        drop(inner);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(total)
    }

    /// Takes everything; pending when there is nothing. The bytes count until [`Mailbox::release`].
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, into: &mut Vec<T>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if inner.items.is_empty() {
            if inner.reader.as_ref().is_none_or(|w| !w.will_wake(cx.waker())) {
                inner.reader = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        std::mem::swap(&mut inner.items, into);
        Poll::Ready(())
    }

    /// The owner has dealt with items of this many bytes: there is room again.
    pub(crate) fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut inner = self.inner.lock();
        inner.bytes = inner.bytes.saturating_sub(bytes);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        for waker in waiting {
            waker.wake();
        }
    }

    /// Waits until fewer than `limit` bytes lie here.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>, limit: usize) -> Poll<()> {
        let mut inner = self.inner.lock();
        if inner.closed || inner.bytes < limit {
            return Poll::Ready(());
        }
        if !inner.waiting.iter().any(|waiting| waiting.will_wake(cx.waker())) {
            inner.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Refuses further items; gives those that were not taken.
    pub(crate) fn close(&self) -> Vec<T> {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.bytes = 0;
        let items = std::mem::take(&mut inner.items);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        for waker in waiting {
            waker.wake();
        }
        items
    }
}
