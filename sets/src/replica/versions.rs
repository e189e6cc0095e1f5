//! The versions of a path, with what keeps them.

use keepshare_base::SetPath;
use keepshare_control::{Outcome, Reply};
use keepshare_namespace::Who;

use crate::retention;

use super::Replica;

impl Replica {
    /// Writes the versions of what is or was at `path`, newest first; what keeps each, where there are no more than `limit`. Blocks.
    pub fn versions(
        &self,
        who: Who<'_>,
        path: &SetPath,
        limit: usize,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let kept = || {
            let (store, policy) = (self.open_store().ok()?, self.retention.standing().ok()?.policy);
            retention::kept(&self.reader, &store, &policy, path, limit)
        };
        self.catalog().versions(who, path, limit, kept, reply)
    }
}
