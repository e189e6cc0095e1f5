//! Which commit is meant, where the one that is named has no row any more.

use std::ops::Bound;

use keepshare_base::{CommitId, FileId, VersionId};

use super::View;
use crate::{
    ReadError,
    index::{commits, keys},
};

impl View {
    /// Returns the newest commit before another one that has a row of its own.
    pub fn commit_before(&self, at: CommitId) -> Result<Option<CommitId>, ReadError> {
        let before = |key: &[u8; 8]| {
            self.ask(|rows| commits::newest_commit(rows, Bound::Excluded(&key[..])))
        };
        Ok(before(&keys::commit(at))?.map(|(before, _)| before))
    }

    /// Returns the commit after which the whole set is as it was when a version was cut; for one that a mirror brought, the
    /// end of that mirror. Without its file, an id that a mirror brought means none.
    pub fn commit_with(
        &self,
        id: VersionId,
        file: Option<FileId>,
    ) -> Result<Option<CommitId>, ReadError> {
        if let Some(commit) = self.commit_of(id.0)? {
            return Ok(Some(commit));
        }
        if let Some(before) = self.ask(|rows| commits::commit_before_gone(rows, id.0))? {
            return Ok(Some(before));
        }
        let state = file.map_or(Ok(None), |file| self.version(file, id))?;
        let Some(brought) = state.map(|state| state.commit) else { return Ok(None) };
        let whole = match self.commit_info(brought)? {
            Some(info) => self.commit_of(info.position)?,
            None => None,
        };
        Ok(Some(whole.map_or(brought, |whole| whole.max(brought))))
    }
}
