//! Publishes that wait for their confirms, on one channel.
//!
//! The broker confirms by delivery tag, counted from 1 on each channel, one at a time or all up to
//! a tag, and not necessarily in order.
//!
//! Invariant: `unconfirmed` is the number of tags given out by [`Window::sent`] and not yet taken
//! back by [`Window::confirm`]; the front of `times` is unconfirmed unless `times` is empty.

use std::collections::VecDeque;

use crate::schedule::Nanos;

/// The unconfirmed publishes of a channel.
#[derive(Debug)]
pub(crate) struct Window {
    limit: u64,
    /// Delivery tag of the front of `times`.
    lowest: u64,
    /// When each publish from `lowest` on was sent; `None` once it is confirmed.
    times: VecDeque<Option<Nanos>>,
    unconfirmed: u64,
}

impl Window {
    /// At most `limit` publishes may be unconfirmed.
    pub(crate) fn new(limit: u64) -> Window {
        Window {
            limit,
            lowest: 1,
            times: VecDeque::new(),
            unconfirmed: 0,
        }
    }

    /// How many more may be published.
    pub(crate) fn free(&self) -> u64 {
        self.limit - self.unconfirmed
    }

    /// How many wait.
    pub(crate) fn unconfirmed(&self) -> u64 {
        self.unconfirmed
    }

    /// Notes publishes, with the times that their latency counts from.
    pub(crate) fn sent(&mut self, times: impl Iterator<Item = Nanos>) {
        let before = self.times.len();
        self.times.extend(times.map(Some));
        self.unconfirmed += (self.times.len() - before) as u64;
    }

    /// Notes a confirm or refusal of one publish, or of all up to it; `each` is told when each of
    /// them was sent. Gives their number. A tag that does not wait is no error: RabbitMQ may
    /// confirm up to a tag that it has confirmed before.
    pub(crate) fn confirm(&mut self, tag: u64, multiple: bool, mut each: impl FnMut(Nanos)) -> u64 {
        let before = self.unconfirmed;
        if multiple {
            while self.lowest <= tag
                && let Some(time) = self.times.pop_front()
            {
                self.lowest += 1;
                if let Some(time) = time {
                    self.unconfirmed -= 1;
                    each(time);
                }
            }
        } else if let Some(index) = tag.checked_sub(self.lowest)
            && let Ok(index) = usize::try_from(index)
            && let Some(time) = self.times.get_mut(index).and_then(Option::take)
        {
            self.unconfirmed -= 1;
            each(time);
        }
        while let Some(None) = self.times.front() {
            self.times.pop_front();
            self.lowest += 1;
        }
        before - self.unconfirmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Confirms and gives the number and the times told.
    fn confirm(window: &mut Window, tag: u64, multiple: bool) -> (u64, Vec<Nanos>) {
        let mut times = Vec::new();
        let count = window.confirm(tag, multiple, |time| times.push(time));
        (count, times)
    }

    #[test]
    fn one_and_many_in_any_order() {
        let mut window = Window::new(10);
        window.sent([11, 12, 13, 14, 15].into_iter());
        assert_eq!((window.unconfirmed(), window.free()), (5, 5));
        assert_eq!(confirm(&mut window, 3, false), (1, vec![13]));
        assert_eq!(confirm(&mut window, 1, false), (1, vec![11]));
        assert_eq!(confirm(&mut window, 4, true), (2, vec![12, 14]));
        assert_eq!(confirm(&mut window, 5, false), (1, vec![15]));
        assert_eq!((window.unconfirmed(), window.free()), (0, 10));

        window.sent([16].into_iter());
        assert_eq!(confirm(&mut window, 6, true), (1, vec![16]));
    }

    #[test]
    fn a_tag_that_does_not_wait_changes_nothing() {
        let mut window = Window::new(10);
        window.sent([11, 12].into_iter());
        assert_eq!(confirm(&mut window, 1, false).0, 1);
        for (tag, multiple) in [(0, false), (0, true), (1, false), (1, true), (3, false)] {
            assert_eq!(confirm(&mut window, tag, multiple).0, 0, "{tag} {multiple}");
        }
        assert_eq!(window.unconfirmed(), 1);
        assert_eq!(confirm(&mut window, u64::MAX, true), (1, vec![12]));
        assert_eq!(window.free(), 10);
    }

    #[test]
    fn without_a_limit_there_is_always_room() {
        let mut window = Window::new(u64::MAX);
        window.sent(0..1000);
        assert!(window.free() > 1 << 60);
    }
}
