//! Whether moving a version onto a live name is a restore that may be done.

use std::{fmt, net::IpAddr};

use keepshare_auth::{Principal, SessionId};
use keepshare_base::{
    CommitId, FileId, Kind, Meta, Name, Owner, PresentFile, RequestId, RestoreGround, SetName,
    SetPath,
};
use keepshare_versioning::{FileState, RestoreInfo};

use crate::{
    Denial, Node, Who, guard::Time, ids::position_bytes, live::usable, question::Question,
    rights::Want,
};

/// An old version that is to be written back at a live path: decided, not yet done.
#[derive(Clone, Debug)]
pub struct Restore {
    /// Which set.
    pub set: SetName,
    /// The live path at which it is written.
    pub path: SetPath,
    /// The version that is written; of a folder, what it was itself.
    pub state: FileState,
    /// It is a folder, which comes back with all that was in it at this commit; `None`: a file.
    pub folder_at: Option<CommitId>,
    /// Who wants it.
    pub user: String,
    /// What was there when it was allowed, and must still be.
    pub ground: RestoreGround,
    /// Names the request: repeats of one request have the same.
    pub request: RequestId,
}

/// Why a restore was not done. Nothing was changed, but for [`RestoreError::Unknown`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The set's master cannot be asked.
    #[error("the set's master is away")]
    Away,
    /// So many are under way that its turn did not come: nobody was asked.
    #[error("too many restores are under way, try again in a moment")]
    Busy,
    /// It was asked and did not.
    #[error("the master did not restore it: {0}")]
    Refused(String),
    /// It was asked and did not answer; it may have been done.
    #[error("the master gave no answer")]
    Unknown,
}

/// By which way a restore was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AskedBy {
    /// Under which session.
    pub session: SessionId,
    /// From where.
    pub address: IpAddr,
}

/// Has masters write old versions back.
pub trait Restorer: Send + Sync + fmt::Debug {
    /// Writes it back, and returns when the set here holds the result, or held it already. Blocks.
    fn restore(&self, restore: &Restore, by: AskedBy) -> Result<(), RestoreError>;
}

impl Question<'_> {
    /// Decides on moving `from` of `from_folder` onto `to` of `to_folder`.
    ///
    /// It takes the right to read the version, to write what the name stands for or, where it is nothing, the folder.
    /// A folder of a view comes back only to where nothing is. Everything that is no restore is refused as read-only.
    pub(crate) fn restore(
        &self,
        (from_folder, from): (Node, &[u8]),
        (to_folder, to): (Node, &[u8]),
        request: RequestId,
    ) -> Result<Restore, Denial> {
        // An admin has no drive.
        let Who::User(user) = self.who else { return Err(Denial::ReadOnly) };
        if !user.may_write {
            return Err(Denial::ReadOnly);
        }
        let Node::Live { file: folder } = to_folder else { return Err(Denial::ReadOnly) };
        let (state, folder_at) = self.restorable(from_folder, from)?;
        self.living_folder(folder)?;
        let name = match usable(to) {
            // `@versions`, and what no name can be.
            Err(Denial::NotFound) => return Err(Denial::ReadOnly),
            name => name?,
        };
        let target = self.view.lookup(folder, &name, CommitId::MAX)?;
        let (state, ground) = match folder_at {
            None => self.write_back(user, state, (folder, &name))?,
            Some(_) if !self.may_put(folder, None)? => return Err(Denial::NotAllowed),
            Some(_) if target.is_some() => return Err(Denial::Taken),
            Some(_) => (state, RestoreGround { folder, present: None, still: None }),
        };
        let above = self.view.path_of(folder, CommitId::MAX)?.ok_or(Denial::Stale)?;
        let request = match folder_at {
            None => self.unanswered(request, (folder, &name), target)?,
            Some(_) => request,
        };
        let (set, user) = (self.share.config.set.clone(), user.user.clone());
        Ok(Restore { set, path: above.join(name), state, folder_at, user, ground, request })
    }

    /// Decides on writing a version that a user may read back to a name of a living folder: whether the user may, what of the
    /// version's attributes comes along, and what must still be there when it is done.
    pub(crate) fn write_back(
        &self,
        user: &Principal,
        mut state: FileState,
        (folder, name): (FileId, &Name),
    ) -> Result<(FileState, RestoreGround), Denial> {
        let target = self.view.lookup(folder, name, CommitId::MAX)?;
        match target {
            Some((_, Kind::Dir)) => return Err(Denial::IsFolder),
            Some((_, kind)) if kind != state.meta.kind => return Err(Denial::ReadOnly),
            _ if !self.may_put(folder, target.map(|(file, _)| file))? => {
                return Err(Denial::NotAllowed);
            }
            _ => {}
        }
        let present = match target {
            Some((file, _)) => Some(self.limit_over(user, &mut state, file)?),
            None => {
                self.limit_new(user, &mut state, (folder, name))?;
                None
            }
        };
        Ok((state, RestoreGround { folder, present, still: None }))
    }

    /// Tells whether the principal may write over a file of a folder or, where there is none, put one into it.
    pub(crate) fn may_put(&self, folder: FileId, over: Option<FileId>) -> Result<bool, Denial> {
        if !self.passes(folder, Time::Now)? {
            return Ok(false);
        }
        match over {
            Some(file) => {
                let rights = self.rights_now(file)?;
                Ok(rights.is_some_and(|rights| rights.allow(self.who, Want::Write)))
            }
            None => self.may_now(folder, Want::Write),
        }
    }

    /// Names a request so that what came of it is its answer for as long as clients repeat what they heard no answer to,
    /// and only while it stands. What looks the same later is another request, and done anew: clients number their calls
    /// from where they like after a reboot.
    fn unanswered(
        &self,
        mut request: RequestId,
        (folder, name): (FileId, &Name),
        target: Option<(FileId, Kind)>,
    ) -> Result<RequestId, Denial> {
        for _ in 0..LOOKALIKES_MAX {
            let Some(answer) = self.view.restore(request)? else { break };
            if self.stands(&answer, (folder, name), target)? {
                break;
            }
            let mut hasher = blake3::Hasher::new_derive_key("keepshare restore anew v1");
            hasher.update(&request.0).update(&position_bytes(answer.position));
            request = RequestId(*hasher.finalize().as_bytes());
        }
        Ok(request)
    }

    /// Tells whether an answer came a short while ago, and the name holds what it brought.
    fn stands(
        &self,
        answer: &RestoreInfo,
        (folder, name): (FileId, &Name),
        target: Option<(FileId, Kind)>,
    ) -> Result<bool, Denial> {
        let arrived = self.arrival(answer.commit)?.unwrap_or_default();
        if self.now.0.abs_diff(arrived.0) > REPEATED_MICROS {
            return Ok(false);
        }
        let Some((file, _)) = target else { return Ok(false) };
        let changed = self.view.meta(file, CommitId::MAX)?;
        Ok(changed.is_some_and(|(changed, _)| changed <= answer.commit)
            && self.view.lookup(folder, name, answer.commit)? == target)
    }

    /// Returns what is to be restored: a version of a file that the principal may read, or a folder of a view that they may list, with
    /// the commit of the view.
    fn restorable(
        &self,
        folder: Node,
        name: &[u8],
    ) -> Result<(FileState, Option<CommitId>), Denial> {
        let (state, at) = match folder {
            Node::History { folder, name: hash } => {
                let found = self.history_lookup(folder, &self.name_of(folder, hash)?, name)?;
                let Node::Version { folder, file, position } = found.node else {
                    return Err(Denial::ReadOnly);
                };
                (self.version_readable(folder, file, position)?.0, None)
            }
            Node::Past { folder, file, moment } => {
                let then = self.then_of(folder, file, moment)?;
                let Node::Past { folder, file, moment } = self.past_lookup(then, name)?.node else {
                    return Err(Denial::ReadOnly);
                };
                let then = self.then_of(folder, file, moment)?;
                let (state, at) = (self.past_seen(then)?.0, then.commit());
                let is_folder = state.meta.kind == Kind::Dir;
                if is_folder && !self.may_at(folder, (file, at), &state, Want::Read)? {
                    return Err(Denial::NotAllowed);
                }
                (state, is_folder.then_some(at))
            }
            _ => return Err(Denial::ReadOnly),
        };
        // Masters write nothing else back.
        let is_version = state.meta.kind == Kind::File && state.cut;
        if is_version || at.is_some() { Ok((state, at)) } else { Err(Denial::ReadOnly) }
    }

    /// Leaves of a version's attributes what the principal might give the file that it is written over by their own power: whoever
    /// may write a file may not therefore change its owner, its mode or its access list, and nobody gets a program that runs as
    /// another user. Returns what is there now.
    pub(crate) fn limit_over(
        &self,
        who: &Principal,
        FileState { meta, .. }: &mut FileState,
        file: FileId,
    ) -> Result<PresentFile, Denial> {
        meta.mode &= permissions(meta.kind);
        let now = self.view.file(file, CommitId::MAX)?.ok_or(Denial::Stale)?.meta;
        let present = PresentFile::new(file, &now);
        if !is_own(who, meta, &now) {
            meta.mode = now.mode & permissions(now.kind);
            (meta.owner, meta.group, meta.xattrs) = (now.owner, now.group, now.xattrs);
        }
        Ok(present)
    }

    /// Leaves the same of what is written where nothing is: what is brought back to where it was last is what it was; all else is a
    /// copy, and the principal's.
    pub(crate) fn limit_new(
        &self,
        who: &Principal,
        FileState { meta, file: version_of, .. }: &mut FileState,
        (folder, name): (FileId, &Name),
    ) -> Result<(), Denial> {
        meta.mode &= permissions(meta.kind);
        let last = self.view.history(folder, name, 1)?;
        let is_back = match last.first() {
            Some(entry) => entry.state.file == *version_of,
            None => self.was_last_at(*version_of, (folder, name))?,
        };
        if !is_back {
            make_own(who, meta);
        }
        Ok(())
    }

    /// Tells whether something that is gone was called so last, in a folder whose place this one has now.
    pub(crate) fn was_last_at(
        &self,
        file: FileId,
        (folder, name): (FileId, &Name),
    ) -> Result<bool, Denial> {
        let (last, places) = self.view.last_links(file)?;
        if last == CommitId::MAX {
            return Ok(false);
        }
        let [(parent, called)] = &places[..] else { return Ok(false) };
        if called != name {
            return Ok(false);
        }
        let then = self.view.path_of(*parent, last)?;
        Ok(then.is_some() && then == self.view.path_of(folder, CommitId::MAX)?)
    }
}

/// Tells whether somebody may give a thing the attributes that it had: it is theirs, and was.
pub(crate) fn is_own(who: &Principal, then: &Meta, now: &Meta) -> bool {
    who.uid == now.owner.id && then.owner.id == now.owner.id && who.is_in(then.group.id)
}

/// Makes what is a copy the principal's.
pub(crate) fn make_own(who: &Principal, meta: &mut Meta) {
    if meta.owner.id != who.uid {
        meta.owner = Owner { id: who.uid, name: String::new() };
        meta.group = Owner { id: who.gid, name: String::new() };
        meta.xattrs.clear();
    }
}

/// Returns the bits of a mode that come back: set-id bits of files are nobody's to bring back. A folder keeps those that it has.
fn permissions(kind: Kind) -> u32 {
    if kind == Kind::Dir { 0o7777 } else { PERMISSIONS }
}

/// For how long a client is taken to repeat a request, in microseconds.
const REPEATED_MICROS: u64 = 5 * 60 * 1_000_000;

/// How many requests are told apart that look the same.
const LOOKALIKES_MAX: usize = 256;

/// Set-id bits are nobody's to bring back by a drive.
const PERMISSIONS: u32 = 0o777;
