//! Whether a version may be written back at its path.

use keepshare_base::{CommitId, FileId, Kind, SetPath};

use crate::{AskError, Denial, PathThen, Restorable, Who, guard::Time, question::Question};

impl Question<'_> {
    /// Returns the version that a path had at the time that was typed, as it may be written back there now.
    ///
    /// What a user may bring back, and as what, is what moving it onto the name on a drive does.
    pub(super) fn restorable_at(
        &self,
        path: &SetPath,
        typed: &str,
    ) -> Result<Restorable, AskError> {
        let PathThen { state, .. } = self.at(path, typed)?;
        if state.meta.kind != Kind::File {
            return Err(AskError::NotAFile(state.meta.kind));
        }
        let (above, name) = path.split_last().ok_or(AskError::NotThere)?;
        let user = match self.who {
            // Where there is a folder for it, the master says what comes of it.
            Who::Admin => {
                return self.living_at(&above).map(|_| Restorable { state, ground: None });
            }
            Who::User(user) => user,
        };
        if !state.cut {
            return Err(AskError::NotAVersion);
        }
        if !user.may_write {
            return Err(AskError::NotWritable);
        }
        let folder = self.living_at(&above)?;
        let (state, ground) = self.write_back(user, state, (folder, name)).map_err(denied)?;
        Ok(Restorable { state, ground: Some(ground) })
    }

    /// Returns the living folder at a path, which the user gets through; where there is none, all of it is told that is to be
    /// made.
    pub(super) fn living_at(&self, path: &SetPath) -> Result<FileId, AskError> {
        let mut folder = FileId::ROOT;
        for name in path.names() {
            match self.view.lookup(folder, name, CommitId::MAX)? {
                Some((next, Kind::Dir)) if self.passes(next, Time::Now)? => folder = next,
                _ => return Err(AskError::NoFolder(path.clone())),
            }
        }
        Ok(folder)
    }
}

/// Says why a version is not written back.
fn denied(denial: Denial) -> AskError {
    match denial {
        Denial::IsFolder | Denial::ReadOnly => AskError::InTheWay,
        Denial::NotAllowed => AskError::NotWritable,
        denial => denial.into(),
    }
}
