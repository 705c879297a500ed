//! Topic exchanges: binding keys are patterns of words, `*` for one word, `#` for any number.
//!
//! The patterns form a trie over words. A key is matched by walking all places of the trie at once,
//! word by word, so that the work is at most words times places, never exponential: a hostile pattern
//! such as `#.#.#.#` cannot stall the node. Patterns are brought to a normal form first, in which a
//! run of wildcards is its `*`s followed by at most one `#`.
//!
//! ```text
//! a.*.#  a.b     root -a-> o -*-> o -#-> (1)
//!                            -b-> (2)
//! ```
//!
//! Invariants: a `#` place has no `#` beneath it; a place without targets and children is cut off.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use smallvec::SmallVec;
use stdx::LookupSet;

use super::{Found, Target, Targets};

/// The patterns of one exchange.
#[derive(Clone, Debug, Default)]
pub(super) struct Trie {
    root: Place,
}

#[derive(Clone, Debug, Default)]
struct Place {
    words: RedBlackTreeMapSync<Arc<[u8]>, Arc<Place>>,
    star: Option<Arc<Place>>,
    hash: Option<Arc<Place>>,
    targets: Targets,
}

/// A step of a pattern in normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Word(&'a [u8]),
    Star,
    Hash,
}

/// Splits at dots. The empty key has no words, as in RabbitMQ.
pub(super) fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let nothing = usize::from(key.is_empty());
    key.split(|byte| *byte == b'.').skip(nothing)
}

/// Brings a pattern to normal form.
pub(super) fn steps(pattern: &[u8]) -> SmallVec<[Step<'_>; 16]> {
    let mut steps = SmallVec::new();
    let mut hash = false;
    for word in words(pattern) {
        match word {
            b"#" => hash = true,
            b"*" => steps.push(Step::Star),
            word => {
                if std::mem::take(&mut hash) {
                    steps.push(Step::Hash);
                }
                steps.push(Step::Word(word));
            }
        }
    }
    if hash {
        steps.push(Step::Hash);
    }
    steps
}

impl Trie {
    pub(super) fn add(&mut self, pattern: &[u8], target: Target) {
        self.root.add(&steps(pattern), target);
    }

    pub(super) fn remove(&mut self, pattern: &[u8], target: &Target) {
        self.root.remove(&steps(pattern), target);
    }

    pub(super) fn find<'a>(&'a self, key: &[u8], found: &mut Found<'a>) {
        let mut walk = Walk::default();
        walk.enter(&self.root);
        for word in words(key) {
            walk.step(word);
        }
        for place in walk.places.iter().chain(&walk.hashes) {
            found.push_all(&place.targets);
        }
    }
}

impl Place {
    fn add(&mut self, steps: &[Step<'_>], target: Target) {
        let Some((step, rest)) = steps.split_first() else {
            return self.targets.add(target);
        };
        let next = match step {
            Step::Star => self.star.get_or_insert_default(),
            Step::Hash => self.hash.get_or_insert_default(),
            Step::Word(word) => {
                if !self.words.contains_key(*word) {
                    self.words.insert_mut((*word).into(), Arc::default());
                }
                self.words
                    .get_mut(*word)
                    .expect("it was put there if it was missing")
            }
        };
        Arc::make_mut(next).add(rest, target);
    }

    fn remove(&mut self, steps: &[Step<'_>], target: &Target) {
        let Some((step, rest)) = steps.split_first() else {
            return self.targets.remove(target);
        };
        match step {
            Step::Star => remove_below(&mut self.star, rest, target),
            Step::Hash => remove_below(&mut self.hash, rest, target),
            Step::Word(word) => {
                let Some(next) = self.words.get_mut(*word) else {
                    return;
                };
                Arc::make_mut(next).remove(rest, target);
                if next.is_empty() {
                    self.words.remove_mut(*word);
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.targets.is_empty()
            && self.words.is_empty()
            && self.star.is_none()
            && self.hash.is_none()
    }
}

fn remove_below(next: &mut Option<Arc<Place>>, rest: &[Step<'_>], target: &Target) {
    if let Some(place) = next {
        Arc::make_mut(place).remove(rest, target);
        if place.is_empty() {
            *next = None;
        }
    }
}

/// All places that the words so far lead to.
///
/// A place under a word or a `*` is reached from its parent alone, so it cannot be there twice. A `#`
/// place, once reached, stays for all further words: these are kept apart and looked up before one is
/// added.
#[derive(Default)]
struct Walk<'a> {
    places: SmallVec<[&'a Place; 16]>,
    hashes: SmallVec<[&'a Place; 16]>,
    /// Addresses of `hashes`, once there are too many to compare one by one.
    known: LookupSet<*const Place>,
}

/// Up to so many, comparing one by one is quicker than a set.
const COMPARED_MAX: usize = 16;

impl<'a> Walk<'a> {
    /// Comes to a place, and by way of no words at all to the `#` beneath it.
    fn enter(&mut self, place: &'a Place) {
        self.places.push(place);
        if let Some(hash) = &place.hash {
            self.enter_hash(hash);
        }
    }

    fn enter_hash(&mut self, hash: &'a Place) {
        if self.hashes.len() < COMPARED_MAX {
            if !self.hashes.iter().any(|known| std::ptr::eq(*known, hash)) {
                self.hashes.push(hash);
            }
            return;
        }
        if self.known.is_empty() {
            for known in &self.hashes {
                self.known.insert(std::ptr::from_ref(*known));
            }
        }
        if self.known.insert(std::ptr::from_ref(hash)) {
            self.hashes.push(hash);
        }
    }

    fn step(&mut self, word: &[u8]) {
        let before = std::mem::take(&mut self.places);
        // The `#` places reached in this step take their first word in the next one.
        let hashes = self.hashes.len();
        for place in before {
            self.leave(place, word);
        }
        for at in 0..hashes {
            self.leave(self.hashes[at], word);
        }
    }

    fn leave(&mut self, place: &'a Place, word: &[u8]) {
        if let Some(next) = place.words.get(word) {
            self.enter(next);
        }
        if let Some(next) = &place.star {
            self.enter(next);
        }
    }
}
