//! What a share keeps in memory to answer faster: everything in it can be forgotten.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A map that forgets: at most twice `weight_max`, in whatever unit its values are weighed.
///
/// It has two halves. What is used moves to the young one; when that is full, the old one is dropped and the young one
/// grows old.
#[derive(Debug)]
pub(crate) struct Forgetful<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    weight: usize,
    weight_max: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Forgetful<K, V> {
    /// Returns an empty map whose halves hold this much.
    pub(crate) fn new(weight_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), weight: 0, weight_max }
    }

    /// Returns what is known of a key.
    pub(crate) fn find(&mut self, key: &K) -> Option<V> {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (value, weight) = self.old.remove(key)?;
        self.keep(key.clone(), value.clone(), weight);
        Some(value)
    }

    /// Keeps a value, unless it alone is too heavy.
    pub(crate) fn keep(&mut self, key: K, value: V, weight: usize) {
        if weight > self.weight_max {
            return;
        }
        if self.weight + weight > self.weight_max {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        let before = self.young.insert(key, (value, weight));
        self.weight = self.weight + weight - before.map_or(0, |(_, weight)| weight);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.weight = 0;
    }
}

/// Lets a few at a time do what takes much memory.
#[derive(Debug)]
pub(crate) struct Permits {
    free: Mutex<usize>,
    given_back: Condvar,
    taken: AtomicU64,
}

/// The right to do it; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit<'t>(&'t Permits);

impl Permits {
    /// Lets so many at a time.
    pub(crate) fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), given_back: Condvar::new(), taken: AtomicU64::new(0) }
    }

    /// Waits for a turn; `None` where it takes longer than that.
    pub(crate) fn take(&self, at_most: Duration) -> Option<Permit<'_>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given_back.wait_timeout_while(free, at_most, |free| *free == 0);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(Permit(self))
    }

    /// Returns how many turns were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.given_back.notify_one();
    }
}

/// Returns what a lock holds; nothing behind our locks is left half done by a panic.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_its_bound() {
        let mut map = Forgetful::new(10);
        for key in 0..1000_u32 {
            map.keep(key, key, 3);
            assert!(map.young.len() + map.old.len() <= 6);
            assert_eq!(map.find(&key), Some(key));
        }
        map.keep(5000, 1, 11);
        assert_eq!(map.find(&5000), None);
    }

    #[test]
    fn what_is_used_stays() {
        let mut map = Forgetful::new(4);
        map.keep(0_u32, 'x', 1);
        for key in 1..100 {
            map.keep(key, 'y', 1);
            assert_eq!(map.find(&0), Some('x'));
        }
        map.clear();
        assert_eq!(map.find(&0), None);
    }
}
