//! Direct exchanges: the binding key equals the routing key.

use std::sync::Arc;

use rpds::HashTrieMapSync;

use super::{Found, Target, Targets};

/// Targets by binding key.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(HashTrieMapSync<Arc<[u8]>, Targets>);

impl Index {
    pub(super) fn add(&mut self, key: &[u8], target: Target) {
        if let Some(targets) = self.0.get_mut(key) {
            targets.add(target);
        } else {
            let mut targets = Targets::default();
            targets.add(target);
            self.0.insert_mut(key.into(), targets);
        }
    }

    pub(super) fn remove(&mut self, key: &[u8], target: &Target) {
        let Some(targets) = self.0.get_mut(key) else {
            return;
        };
        targets.remove(target);
        if targets.is_empty() {
            self.0.remove_mut(key);
        }
    }

    pub(super) fn find<'a>(&'a self, keys: &[&[u8]], found: &mut Found<'a>) {
        for key in keys {
            if let Some(targets) = self.0.get(*key) {
                found.push_all(targets);
            }
        }
    }
}
