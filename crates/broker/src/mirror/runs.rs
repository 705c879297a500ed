//! Sets of sequences, kept as runs: rising, not touching, both ends included.

use store::Seq;

/// See the file's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs(Vec<(u64, u64)>);

impl Runs {
    /// The set of these runs, in any order; they may overlap.
    #[must_use]
    pub fn new(runs: impl IntoIterator<Item = (Seq, Seq)>) -> Runs {
        let mut all: Vec<(u64, u64)> = runs.into_iter().map(|(a, b)| (a.0, b.0)).filter(|(a, b)| a <= b).collect();
        all.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Runs(merged)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many sequences.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    #[must_use]
    pub fn first(&self) -> Option<Seq> {
        self.0.first().map(|(first, _)| Seq(*first))
    }

    #[must_use]
    pub fn contains(&self, seq: Seq) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < seq.0);
        self.0.get(at).is_some_and(|(first, _)| *first <= seq.0)
    }

    /// Those of this set that are not in the other.
    #[must_use]
    pub fn without(&self, other: &Runs) -> Runs {
        let mut left = Vec::new();
        let mut others = other.0.iter().copied().peekable();
        for (mut first, last) in self.0.iter().copied() {
            let mut used_up = false;
            while let Some((from, to)) = others.peek().copied() {
                if to < first {
                    others.next();
                    continue;
                }
                if from > last {
                    break;
                }
                if from > first {
                    left.push((first, from - 1));
                }
                if to >= last {
                    used_up = true;
                    break;
                }
                first = to + 1;
                others.next();
            }
            if !used_up {
                left.push((first, last));
            }
        }
        Runs(left)
    }

    /// Takes these out.
    pub fn remove(&mut self, runs: &[(Seq, Seq)]) {
        if !self.0.is_empty() && !runs.is_empty() {
            *self = self.without(&Runs::new(runs.iter().copied()));
        }
    }

    /// Adds these.
    pub fn add(&mut self, runs: &[(Seq, Seq)]) {
        let all = self.iter().chain(runs.iter().copied());
        *self = Runs::new(all.collect::<Vec<_>>());
    }

    /// Takes out everything up to and including `last`.
    pub fn drop_up_to(&mut self, last: Seq) {
        self.remove(&[(Seq(0), last)]);
    }

    pub fn iter(&self) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        self.0.iter().map(|(first, last)| (Seq(*first), Seq(*last)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use stdx::Rng;

    use super::*;

    fn draw(rng: &mut Rng) -> (Runs, BTreeSet<u64>) {
        let runs: Vec<(Seq, Seq)> = (0..rng.below(6))
            .map(|_| {
                let first = rng.below(40);
                (Seq(first), Seq(first + rng.below(6)))
            })
            .collect();
        let all = runs.iter().flat_map(|(a, b)| a.0..=b.0).collect();
        (Runs::new(runs), all)
    }

    fn set(runs: &Runs) -> BTreeSet<u64> {
        runs.iter().flat_map(|(a, b)| a.0..=b.0).collect()
    }

    #[test]
    fn runs_are_sets() {
        let mut rng = Rng::new(3);
        for _ in 0..5_000 {
            let ((mut a, in_a), (b, in_b)) = (draw(&mut rng), draw(&mut rng));
            assert_eq!(set(&a), in_a);
            assert_eq!(a.len(), in_a.len() as u64);
            assert_eq!(set(&a.without(&b)), in_a.difference(&in_b).copied().collect());
            let probe = rng.below(50);
            assert_eq!(a.contains(Seq(probe)), in_a.contains(&probe));
            let mut both = a.clone();
            both.add(&b.iter().collect::<Vec<_>>());
            assert_eq!(set(&both), in_a.union(&in_b).copied().collect());
            a.drop_up_to(Seq(probe));
            assert_eq!(set(&a), in_a.iter().copied().filter(|seq| *seq > probe).collect());
        }
    }
}
