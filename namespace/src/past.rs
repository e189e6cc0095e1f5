//! Views of a time: a folder and everything below it as it was, under its own names.

use keepshare_base::{CommitId, DEPTH_MAX, FileId, Kind, Name};
use keepshare_versioning::FileState;
use keepshare_versioning::when::{Moment, commit_then};

use crate::{
    Access, Attributes, Cookie, Denial, Found, Listing, Node, PastMoment, guard::Time,
    ids::RESERVED_COOKIES, live::usable, names::typed_time, question::Question, rights::Want,
};

/// How many entries of a folder are looked at between two that may be seen.
const PAGE: usize = 256;

/// How many points are looked through, the newest ones.
pub(crate) const POINTS_MAX: usize = 1024;

/// Something as it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Then {
    /// The folder through whose `@versions` it was reached.
    pub(crate) folder: FileId,
    /// The file or folder that is shown.
    pub(crate) file: FileId,
    /// The moment at which it is shown.
    pub(crate) moment: PastMoment,
    /// The commit of that moment.
    at: CommitId,
}

impl Then {
    /// Returns the commit of its moment.
    pub(crate) fn commit(self) -> CommitId {
        self.at
    }

    fn node(self) -> Node {
        let Self { folder, file, moment, .. } = self;
        Node::Past { folder, file, moment }
    }
}

impl Question<'_> {
    /// Returns what a node of the past means; stale where its folder is gone, or its moment is not known here.
    pub(crate) fn then_of(
        &self,
        folder: FileId,
        file: FileId,
        moment: PastMoment,
    ) -> Result<Then, Denial> {
        let at = match moment {
            PastMoment::At(time, opened) => {
                let newest = opened.map(|opened| self.view.commit_through(opened)).transpose()?;
                match newest {
                    // A station that has not come so far yet cannot say what it was.
                    Some(None) => None,
                    newest => {
                        let newest = newest.flatten().unwrap_or(CommitId::MAX);
                        Some(self.view.commit_at_from(time, newest)?).filter(|at| at.0 > 0)
                    }
                }
            }
            PastMoment::After(position) => self.view.commit_through(position)?,
            PastMoment::Part(position, at) => {
                // Commits are this store's own numbers: in one that was made anew, another change may have this one.
                let info = self.view.commit_info(at)?;
                info.filter(|info| info.position == position).map(|info| info.commit)
            }
        };
        let at = at.ok_or(Denial::Stale)?;
        if !self.is_attached(folder)? {
            return Err(Denial::Stale);
        }
        Ok(Then { folder, file, moment, at })
    }

    pub(crate) fn past_attributes(&self, then: Then) -> Result<Attributes, Denial> {
        Ok(self.past_seen(then)?.1)
    }

    pub(crate) fn past_access(&self, then: Then) -> Result<Access, Denial> {
        let (state, _) = self.past_seen(then)?;
        let is_folder = state.meta.kind == Kind::Dir;
        let may = |want| self.may_past(then, &state, want);
        Ok(Access {
            read: may(Want::Read)?,
            search: is_folder,
            execute: state.meta.kind == Kind::File && may(Want::Search)?,
            restore: self.who.may_write()
                && (is_folder || self.may_write_back(then.folder, then.file)?),
        })
    }

    pub(crate) fn past_lookup(&self, then: Then, name: &[u8]) -> Result<Found, Denial> {
        let (state, attributes) = self.past_seen(then)?;
        if state.meta.kind != Kind::Dir {
            return Err(Denial::NotFolder);
        }
        match name {
            b"." => return Ok(Found { node: then.node(), attributes }),
            b".." => return self.past_above(then),
            _ => {}
        }
        let found = self.view.lookup(then.file, &usable(name)?, then.at)?;
        let (file, _) = found.ok_or(Denial::NotFound)?;
        self.past_found(Then { file, ..then })
    }

    pub(crate) fn past_list(
        &self,
        then: Then,
        after: Cookie,
        limit: usize,
    ) -> Result<Listing, Denial> {
        let (state, _) = self.past_seen(then)?;
        if state.meta.kind != Kind::Dir {
            return Err(Denial::NotFolder);
        }
        if !self.may_past(then, &state, Want::Read)? {
            return Err(Denial::NotAllowed);
        }
        let mut from = match after {
            0 => None,
            1..RESERVED_COOKIES => return Err(Denial::BadCookie),
            cookie => Some(self.name_at(then.file, cookie)?),
        };
        let mut entries = Vec::new();
        loop {
            let page = self.view.list(then.file, then.at, from.as_ref(), PAGE)?;
            for entry in &page {
                if entries.len() == limit {
                    return Ok(Listing { entries, end: false });
                }
                let below = Then { file: entry.file, ..then };
                let seen = match self.past_seen(below) {
                    Err(Denial::Stale | Denial::NotAllowed) => continue,
                    seen => Some(seen?.1),
                };
                let shown = entry.name.as_bytes();
                entries.push(self.listed(&entry.name, shown, below.node(), seen));
            }
            match page.into_iter().next_back() {
                Some(last) => from = Some(last.name),
                None => return Ok(Listing { entries, end: true }),
            }
        }
    }

    /// Returns what can be seen of the past: denied to those who may not read a file, or search a folder.
    pub(crate) fn past_seen(&self, then: Then) -> Result<(FileState, Attributes), Denial> {
        let state = self.view.file(then.file, then.at)?.filter(|state| !state.expired);
        let state = state.ok_or(Denial::Stale)?;
        if !self.may_past(then, &state, Want::to_see(state.meta.kind))? {
            return Err(Denial::NotAllowed);
        }
        let changed = self.changed_by(state.commit, state.arrival)?;
        let attributes = self.attributes_of(then.node(), &state.meta, changed);
        Ok((state, attributes))
    }

    /// Returns what was found, which is not there for those who may not see it.
    pub(crate) fn past_found(&self, then: Then) -> Result<Found, Denial> {
        match self.past_seen(then) {
            Ok((_, attributes)) => Ok(Found { node: then.node(), attributes }),
            Err(Denial::Stale | Denial::NotAllowed) => Err(Denial::NotFound),
            Err(error) => Err(error),
        }
    }

    /// Returns a folder as it was at the time, or the point, that was typed below its `@versions`.
    pub(crate) fn typed_view(&self, folder: FileId, text: &[u8]) -> Result<Found, Denial> {
        let when = typed_time(text).ok_or(Denial::NotFound)?;
        self.note_typed(Node::Versions { folder }, when);
        let at = match when.resolve(self.share.config.zone, self.now) {
            Moment::Latest => self.view.newest_commit()?,
            Moment::At(stamp) => commit_then(&self.view, stamp, self.now)?,
            Moment::Version(id, file) => {
                self.view.commit_with(id, file)?.ok_or(Denial::NotFound)?
            }
        };
        self.view_at(folder, at)
    }

    /// Returns a folder as it was right after a commit.
    pub(crate) fn view_at(&self, folder: FileId, at: CommitId) -> Result<Found, Denial> {
        let moment = self.moment_of(at)?.ok_or(Denial::NotFound)?;
        let file = self.stood_for(folder, at)?.ok_or(Denial::NotFound)?;
        self.past_found(Then { folder, file, moment, at })
    }

    /// Returns a moment that means this commit, whatever comes later: its position where that is its alone, and remains so.
    pub(crate) fn moment_of(&self, at: CommitId) -> Result<Option<PastMoment>, Denial> {
        let Some(info) = self.view.commit_info(at)? else { return Ok(None) };
        // The parts of a mirror have one position, and the last that came is not the last that comes.
        let is_last = info.complete && self.view.commit_of(info.position)? == Some(at);
        Ok(Some(match is_last {
            true => PastMoment::After(info.position),
            false => PastMoment::Part(info.position, at),
        }))
    }

    /// Returns the folder that a folder's `@versions` shows at a commit: itself, or what its name stood for then where it
    /// was not there yet.
    pub(crate) fn stood_for(&self, folder: FileId, at: CommitId) -> Result<Option<FileId>, Denial> {
        let mut names: Vec<Name> = Vec::new();
        let mut top = folder;
        while !self.was_attached(top, at)? {
            let place = self.view.links(top, CommitId::MAX)?.pop();
            let Some((above, name)) = place.filter(|_| names.len() < DEPTH_MAX) else {
                return Ok(None);
            };
            names.push(name);
            top = above;
        }
        for name in names.iter().rev() {
            match self.view.lookup(top, name, at)? {
                Some((next, Kind::Dir)) => top = next,
                _ => return Ok(None),
            }
        }
        Ok(Some(top))
    }

    fn was_attached(&self, folder: FileId, at: CommitId) -> Result<bool, Denial> {
        let mut below = folder;
        for _ in 0..=DEPTH_MAX {
            if below == FileId::ROOT {
                return Ok(true);
            }
            match self.view.links(below, at)?.pop() {
                Some((above, _)) => below = above,
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    fn may_past(&self, then: Then, state: &FileState, want: Want) -> Result<bool, Denial> {
        self.may_at(then.folder, (then.file, then.at), state, want)
    }

    /// Tells whether the principal may do this with what was at a commit, now and then, reached through `folder`.
    pub(crate) fn may_at(
        &self,
        folder: FileId,
        (file, at): (FileId, CommitId),
        state: &FileState,
        want: Want,
    ) -> Result<bool, Denial> {
        if !self.may_now(file, want)? || !self.lets_through(folder, at)? {
            return Ok(false);
        }
        let Some((commit, meta)) = self.view.meta(file, at)? else { return Ok(false) };
        if !self.may_then(file, &meta, at, want)? {
            return Ok(false);
        }
        // An older version stands in for one whose content is gone: it takes the right to that one, too.
        if commit == state.commit {
            return Ok(true);
        }
        match self.then(state)? {
            Some(older) => self.may_then(file, &state.meta, older, want),
            None => Ok(false),
        }
    }

    fn past_above(&self, then: Then) -> Result<Found, Denial> {
        let Then { folder, file, at, .. } = then;
        let place = self.view.links(file, at)?.pop();
        match place {
            Some((above, _)) if self.stood_for(folder, at)? != Some(file) => {
                self.past_found(Then { file: above, ..then })
            }
            _ => {
                let node = Node::Versions { folder };
                Ok(Found { node, attributes: self.made_folder(node, folder)? })
            }
        }
    }

    /// Tells whether the principal may write a version back to its file or, where that is gone, into the folder.
    pub(crate) fn may_write_back(&self, folder: FileId, file: FileId) -> Result<bool, Denial> {
        if !self.who.may_write() {
            return Ok(false);
        }
        if self.is_living(file)? {
            return self.may_now(file, Want::Write);
        }
        Ok(self.may_now(folder, Want::Write)? && self.passes(folder, Time::Now)?)
    }
}
