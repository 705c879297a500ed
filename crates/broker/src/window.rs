//! A table keyed by numbers that mostly rise: unacked deliveries, unconfirmed publishes.
//!
//! Recent keys sit in a ring indexed by distance from the oldest, so that insert and remove cost a few
//! instructions. Keys that stay behind while thousands pass them move to a tree, so that one forgotten
//! delivery does not keep the places of all that followed it.
//! Invariant: every key of the tree is below `base` or was inserted out of order.

use std::collections::{BTreeMap, VecDeque};

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Window<T> {
    base: u64,
    ring: VecDeque<Option<T>>,
    /// Live entries in the ring.
    live: usize,
    stragglers: BTreeMap<u64, T>,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Window { base: 0, ring: VecDeque::new(), live: 0, stragglers: BTreeMap::new() }
    }
}

impl<T> Window<T> {
    /// Live entries.
    pub(crate) fn len(&self) -> usize {
        self.live + self.stragglers.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an entry under a key that is not in the table.
    #[inline]
    pub(crate) fn insert(&mut self, key: u64, value: T) {
        if self.ring.is_empty() {
            self.base = key;
        }
        let Some(distance) = key.checked_sub(self.base) else {
            self.stragglers.insert(key, value);
            return;
        };
        let gap = (distance as usize).saturating_sub(self.ring.len());
        if distance as usize > self.ring.len() && gap > 4096 {
            self.evict_ring();
            self.base = key;
            self.ring.push_back(Some(value));
            self.live = 1;
            return;
        }
        let distance = distance as usize;
        while self.ring.len() < distance {
            self.ring.push_back(None);
        }
        if distance == self.ring.len() {
            self.ring.push_back(Some(value));
        } else {
            self.ring[distance] = Some(value);
        }
        self.live += 1;
        if self.ring.len() > 8192 && self.ring.len() > 8 * self.live {
            self.evict_ring();
        }
    }

    /// Moves what is left in the ring to the tree and starts the ring afresh.
    fn evict_ring(&mut self) {
        let base = self.base;
        for (i, slot) in self.ring.drain(..).enumerate() {
            if let Some(value) = slot {
                self.stragglers.insert(base + i as u64, value);
            }
        }
        self.live = 0;
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let place = key.checked_sub(self.base).map(|d| d as usize);
        match place {
            Some(i) if i < self.ring.len() && self.ring[i].is_some() => self.ring[i].as_mut(),
            _ => self.stragglers.get_mut(&key),
        }
    }

    /// Takes an entry out.
    #[inline]
    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        if let Some(i) = key.checked_sub(self.base).map(|d| d as usize)
            && i < self.ring.len()
            && let Some(value) = self.ring[i].take()
        {
            self.live -= 1;
            while let Some(None) = self.ring.front() {
                self.ring.pop_front();
                self.base += 1;
            }
            return Some(value);
        }
        self.stragglers.remove(&key)
    }

    /// The lowest key.
    pub(crate) fn first_key(&self) -> Option<u64> {
        let ring = self.ring.iter().position(Option::is_some).map(|i| self.base + i as u64);
        match (self.stragglers.first_key_value().map(|(k, _)| *k), ring) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The lowest entry.
    pub(crate) fn first(&self) -> Option<(u64, &T)> {
        let key = self.first_key()?;
        let place = key.checked_sub(self.base).map(|d| d as usize);
        let value = match place {
            Some(i) if i < self.ring.len() && self.ring[i].is_some() => self.ring[i].as_ref(),
            _ => self.stragglers.get(&key),
        };
        value.map(|value| (key, value))
    }

    /// Takes out every entry up to and including `last`, in order of keys.
    pub(crate) fn drain_up_to(&mut self, last: u64, mut each: impl FnMut(u64, T)) {
        while let Some(entry) = self.stragglers.first_entry() {
            if *entry.key() > last {
                break;
            }
            let (key, value) = entry.remove_entry();
            each(key, value);
        }
        while self.base <= last {
            let Some(slot) = self.ring.pop_front() else { break };
            let key = self.base;
            self.base += 1;
            if let Some(value) = slot {
                self.live -= 1;
                each(key, value);
            }
        }
        while let Some(None) = self.ring.front() {
            self.ring.pop_front();
            self.base += 1;
        }
    }

    /// Takes everything out, in order of keys.
    pub(crate) fn drain(&mut self, each: impl FnMut(u64, T)) {
        self.drain_up_to(u64::MAX - 1, each);
    }

    /// Changes every entry.
    pub(crate) fn for_each_mut(&mut self, each: impl FnMut(&mut T)) {
        self.stragglers.values_mut().chain(self.ring.iter_mut().flatten()).for_each(each);
    }

    /// Looks at every entry, stragglers first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let base = self.base;
        let ring = self.ring.iter().enumerate();
        let ring = ring.filter_map(move |(i, slot)| slot.as_ref().map(|v| (base + i as u64, v)));
        self.stragglers.iter().map(|(k, v)| (*k, v)).chain(ring)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_tree_under_random_work() {
        let mut rng = stdx::Rng::new(7);
        let mut window = Window::default();
        let mut model = BTreeMap::new();
        let mut next = 0;
        for step in 0..200_000u64 {
            match rng.below(10) {
                0..5 => {
                    next += if rng.one_in(5000) { 100_000 } else { 1 + rng.below(2) };
                    window.insert(next, step);
                    model.insert(next, step);
                }
                5..9 => {
                    let key = next.saturating_sub(rng.below(40));
                    assert_eq!(window.remove(key), model.remove(&key));
                }
                _ if rng.one_in(50) => {
                    let last = next.saturating_sub(rng.below(30));
                    let mut drained = Vec::new();
                    window.drain_up_to(last, |k, v| drained.push((k, v)));
                    let rest = model.split_off(&(last + 1));
                    let mut expected: Vec<_> = std::mem::replace(&mut model, rest).into_iter().collect();
                    expected.sort_unstable();
                    drained.sort_unstable();
                    assert_eq!(drained, expected);
                }
                _ => assert_eq!(window.first_key(), model.keys().next().copied()),
            }
            assert_eq!(window.len(), model.len());
        }
        assert!(window.ring.len() < 20_000);
    }

    #[test]
    fn one_straggler_does_not_hold_the_places_of_its_followers() {
        let mut window = Window::default();
        window.insert(1, ());
        for key in 2..1_000_000 {
            window.insert(key, ());
            window.remove(key);
        }
        assert_eq!(window.len(), 1);
        assert!(window.ring.capacity() < 100_000);
        assert_eq!(window.first_key(), Some(1));
    }
}
