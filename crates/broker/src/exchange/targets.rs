//! Where bindings lead, counted: several bindings may lead to the same place.

use rpds::RedBlackTreeMapSync;

use crate::id::{Name, QueueId};

/// The far end of a binding, as routing needs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    Queue(QueueId),
    Exchange(Name),
}

/// A persistent multiset of targets, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Targets(RedBlackTreeMapSync<Target, u32>);

impl Targets {
    pub(super) fn add(&mut self, target: Target) {
        let count = self.0.get(&target).map_or(1, |count| count + 1);
        self.0.insert_mut(target, count);
    }

    pub(super) fn remove(&mut self, target: &Target) {
        match self.0.get(target) {
            Some(1) => {
                self.0.remove_mut(target);
            }
            Some(count) => {
                let count = count - 1;
                self.0.insert_mut(target.clone(), count);
            }
            None => {}
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Target> {
        self.0.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.0.size()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
