//! Whether moving a version onto a live name is a restore that may be done.

use keepshare_base::{CommitId, FileId, Kind, RequestId};
use keepshare_versioning::FileState;

use crate::{Denial, Node, Restore, live::usable, question::Question, reach::Time, rights::Want};

impl Question<'_> {
    /// Decides on moving `from` of `from_folder` onto `to` of `to_folder`.
    ///
    /// It takes the right to read the version, to write what the name stands for or, where it is nothing, the folder.
    /// Everything that is no restore is refused as read-only.
    pub(crate) fn restore(
        &self,
        (from_folder, from): (Node, &[u8]),
        (to_folder, to): (Node, &[u8]),
        request: RequestId,
    ) -> Result<Restore, Denial> {
        if !self.who.may_write {
            return Err(Denial::ReadOnly);
        }
        let Node::Live { file: folder } = to_folder else { return Err(Denial::ReadOnly) };
        let state = self.restorable(from_folder, from)?;
        self.living_folder(folder)?;
        let name = match usable(to) {
            // `@versions`, and what no name can be.
            Err(Denial::NotFound) => return Err(Denial::ReadOnly),
            name => name?,
        };
        let target = self.view.lookup(folder, &name, CommitId::MAX)?;
        if !self.passes(folder, Time::Now)? || !self.may_replace(folder, target, &state)? {
            return Err(Denial::NotAllowed);
        }
        let above = self.view.path_of(folder, CommitId::MAX)?.ok_or(Denial::Stale)?;
        let user = self.who.user.clone();
        let set = self.share.config.set.clone();
        Ok(Restore { set, path: above.join(name), state, user, request })
    }

    /// Returns the version that is to be restored, which is one of a file that the principal may read.
    fn restorable(&self, folder: Node, name: &[u8]) -> Result<FileState, Denial> {
        let state = match folder {
            Node::History { folder, name: hash } => {
                let found = self.history_lookup(folder, &self.name_of(folder, hash)?, name)?;
                let Node::Version { folder, file, position } = found.node else {
                    return Err(Denial::ReadOnly);
                };
                self.version_readable(folder, file, position)?.0
            }
            Node::Past { folder, file, moment } => {
                let then = self.then_of(folder, file, moment)?;
                let Node::Past { folder, file, moment } = self.past_lookup(then, name)?.node else {
                    return Err(Denial::ReadOnly);
                };
                self.past_seen(self.then_of(folder, file, moment)?)?.0
            }
            _ => return Err(Denial::ReadOnly),
        };
        let is_file = matches!(state.meta.kind, Kind::File | Kind::Symlink);
        if is_file && state.cut { Ok(state) } else { Err(Denial::ReadOnly) }
    }

    fn may_replace(
        &self,
        folder: FileId,
        target: Option<(FileId, Kind)>,
        state: &FileState,
    ) -> Result<bool, Denial> {
        match target {
            Some((_, Kind::Dir)) => Err(Denial::IsFolder),
            Some((_, kind)) if kind != state.meta.kind => Err(Denial::ReadOnly),
            Some((file, _)) => {
                let rights = self.rights_now(file)?;
                Ok(rights.is_some_and(|rights| rights.allow(self.who, Want::Write)))
            }
            None => self.may_now(folder, Want::Write),
        }
    }
}
