//! Certificates that count no longer, though they have not ended.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use keepshare_base::Serial;

/// The serial numbers that are refused; clones share one list.
///
/// TLS asks it at every handshake and open links ask it again every second. Who fills it is the caller's business: on the
/// primary the database of members does.
#[derive(Clone, Debug, Default)]
pub struct Revocations(Arc<RwLock<HashSet<Serial>>>);

impl Revocations {
    /// Tells whether the certificate with this number is refused.
    pub fn is_revoked(&self, serial: Serial) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&serial)
    }

    /// Refuses these certificates from now on.
    pub fn revoke(&self, serials: impl IntoIterator<Item = Serial>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(serials);
    }
}
