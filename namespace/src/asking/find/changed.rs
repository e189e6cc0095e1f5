//! When, and by whom, what is found came to be as it is, or went.

use keepshare_base::{CommitId, Kind, Name, Stamp};
use keepshare_versioning::{
    Ended,
    when::{Moment, POINT, When, WhenError, commit_then},
};

use crate::{AskError, question::Question};

use super::places::{Place, Told};

/// The last that happened to what is found.
pub(super) struct Changed {
    /// The commit that tells the order; `None` where a mirror brought it, and only its origin knows when it was.
    commit: Option<CommitId>,
    pub(super) stamp: Stamp,
    /// Who did it, where the origin knew.
    pub(super) user: Option<String>,
}

/// What is looked for is other since then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    commit: CommitId,
    stamp: Stamp,
}

impl Since {
    /// Tells whether something happened after it.
    pub(super) fn is_before(self, changed: &Changed) -> bool {
        changed.commit.map_or(changed.stamp > self.stamp, |commit| commit > self.commit)
    }
}

impl Question<'_> {
    /// Reads since when, as it was typed; before all history it is all of it.
    pub(super) fn since(&self, typed: &str) -> Result<Since, AskError> {
        if let Some(name) = typed.strip_prefix(POINT) {
            return self.since_commit(self.commit_at_point(name)?);
        }
        let when: When = typed
            .parse()
            .or_else(|error| format!("@{typed}").parse().map_err(|_: WhenError| error))
            .map_err(AskError::Time)?;
        match when.resolve(self.share.config.zone, self.now) {
            Moment::Latest => self.since_commit(self.view.latest()),
            Moment::At(stamp) => {
                Ok(Since { commit: commit_then(&self.view, stamp, self.now)?, stamp })
            }
            Moment::Version(id, file) => match self.view.commit_with(id, file)? {
                Some(commit) => self.since_commit(commit),
                None => Err(AskError::NoVersion),
            },
        }
    }

    fn since_commit(&self, commit: CommitId) -> Result<Since, AskError> {
        let stamp = self.view.commit_info(commit)?.map_or(self.now, |info| info.moment);
        Ok(Since { commit, stamp })
    }

    /// Returns what happened last to what is told of a name; `None` where the user may not know.
    pub(super) fn changed(
        &self,
        place: &Place,
        name: &Name,
        told: &Told,
    ) -> Result<Option<Changed>, AskError> {
        if let Some(end) = told.end {
            let commit = CommitId(end.last.0.saturating_add(1));
            let by = match end.ended {
                Ended::Deleted | Ended::Renamed => self.view.commit_info(commit)?,
                // Who made the version after it may be not for this user.
                Ended::Replaced => None,
            };
            let user = by.and_then(|info| info.user);
            return Ok(Some(Changed { commit: Some(commit), stamp: end.stamp, user }));
        }
        let Some(state) = &told.state else { return Ok(None) };
        let is_told = match told.kind {
            _ if self.who.is_admin() => true,
            Kind::Dir => self.is_seen(place.through(), (told.file, CommitId::MAX), state)?,
            _ => self.may_read_version(place.through(), state)?,
        };
        if !is_told {
            return Ok(None);
        }
        let named = self.view.named_since(place.file, name)?.filter(|at| *at > state.commit);
        let named = named.map_or(Ok(None), |at| self.view.commit_info(at))?;
        // What a mirror brings has its name since then here, and may have had it for years.
        if let Some(info) = named.filter(|info| info.complete) {
            let (commit, stamp, user) = (Some(info.commit), info.stamp, info.user);
            return Ok(Some(Changed { commit, stamp, user }));
        }
        let cut = self.view.commit_info(state.cut_at)?;
        let is_own = cut.is_some_and(|cut| cut.complete && cut.position == state.position);
        let commit = is_own.then_some(state.commit);
        Ok(Some(Changed { commit, stamp: state.stamp, user: state.user.clone() }))
    }
}
