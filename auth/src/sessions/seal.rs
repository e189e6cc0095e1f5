//! What only this station can make: the seals of handles, and keys for other purposes.

use super::Sessions;

impl Sessions {
    /// Returns a seal over these parts that nobody can make without the station's key.
    ///
    /// Each part goes in with its length, so that no two lists of parts have one seal.
    pub fn seal(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut buffer = [0; SEALED_AT_ONCE];
        let mut seal = [0; 16];
        let hash = match gather(parts, &mut buffer) {
            Some(len) => blake3::keyed_hash(&self.0.key, &buffer[..len]),
            None => {
                let mut hasher = blake3::Hasher::new_keyed(&self.0.key);
                for part in parts {
                    hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
                }
                hasher.finalize()
            }
        };
        seal.copy_from_slice(&hash.as_bytes()[..16]);
        seal
    }

    /// Returns a key for another purpose that stays the same for the life of the station, such as a share's.
    pub fn derived_key(&self, purpose: &str) -> [u8; 32] {
        let mut material = self.0.key.to_vec();
        material.extend_from_slice(purpose.as_bytes());
        blake3::derive_key("keepshare derived station key v1", &material)
    }
}

/// The most bytes that are sealed in one go; a file handle fits.
pub(super) const SEALED_AT_ONCE: usize = 256;

/// Puts the parts and their lengths into a buffer; `None` where they do not fit.
pub(super) fn gather(parts: &[&[u8]], buffer: &mut [u8; SEALED_AT_ONCE]) -> Option<usize> {
    let mut at = 0;
    for part in parts {
        let len = (part.len() as u64).to_le_bytes();
        buffer.get_mut(at..at + len.len())?.copy_from_slice(&len);
        at += len.len();
        buffer.get_mut(at..at.checked_add(part.len())?)?.copy_from_slice(part);
        at += part.len();
    }
    Some(at)
}
