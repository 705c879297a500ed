//! Hash tables that cannot be iterated, so that no behaviour can depend on hash order (rule M5).

use std::borrow::Borrow;
use std::hash::Hash;

/// A hash map without iteration.
#[derive(Clone, Debug)]
pub struct Lookup<K, V>(hashbrown::HashMap<K, V, foldhash::fast::RandomState>);

impl<K, V> Default for Lookup<K, V> {
    fn default() -> Self {
        Lookup(hashbrown::HashMap::default())
    }
}

impl<K: Eq + Hash, V> Lookup<K, V> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Lookup::default()
    }

    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.0.get_mut(key)
    }

    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.remove(key)
    }

    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.0.entry(key).or_insert_with(make)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// A hash set without iteration.
#[derive(Clone, Debug)]
pub struct LookupSet<K>(Lookup<K, ()>);

impl<K> Default for LookupSet<K> {
    fn default() -> Self {
        LookupSet(Lookup::default())
    }
}

impl<K: Eq + Hash> LookupSet<K> {
    /// Adds `key`; true if it was not there.
    pub fn insert(&mut self, key: K) -> bool {
        self.0.insert(key, ()).is_none()
    }

    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.remove(key).is_some()
    }

    pub fn contains<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}
