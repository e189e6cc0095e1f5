//! The shares that the door serves.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use keepshare_base::SetName;
use keepshare_namespace::{Share, ShareId};

/// The shares that a door serves; may change while it runs. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    by_id: Arc<RwLock<HashMap<ShareId, Arc<Share>>>>,
}

impl Shares {
    /// Adds a share, in place of one with the same number.
    pub fn insert(&self, share: Share) {
        let mut shares = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        shares.insert(share.id(), Arc::new(share));
    }

    /// Takes a share away: its handles are stale from now on.
    pub fn remove(&self, id: ShareId) {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Returns the share with this number.
    pub fn by_id(&self, id: ShareId) -> Option<Arc<Share>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Returns the share of a set.
    pub fn by_set(&self, set: &SetName) -> Option<Arc<Share>> {
        let shares = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        shares.values().find(|share| share.set() == set).cloned()
    }
}
