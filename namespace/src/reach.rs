//! Whether a principal gets to a thing: its own rights, and search on every folder above it, then and now.
//!
//! *Then* is a commit. *Now* is the present rights at a present place; for what is gone, its last row, and the last row
//! of each dead folder above it, up to the living ones. A file with several names is reached where one of its places
//! lets the principal through.

use keepshare_base::{CommitId, DEPTH_MAX, FileId, FileTime, Kind, Meta, Owner};
use keepshare_versioning::FileState;

use crate::{
    Denial,
    guard::{Guard, Time, folders},
    question::Question,
    rights::{Rights, Want},
};

impl Question<'_> {
    /// Tells whether a folder hangs under the root today.
    pub(crate) fn is_attached(&self, folder: FileId) -> Result<bool, Denial> {
        let mut at = folder;
        for _ in 0..=DEPTH_MAX {
            if at == FileId::ROOT {
                return Ok(true);
            }
            let guard = self.guard(at, Time::Now)?;
            match guard.above.first() {
                Some(above) if guard.present => at = *above,
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Tells whether the principal may search a folder and every one above it.
    pub(crate) fn passes(&self, folder: FileId, time: Time) -> Result<bool, Denial> {
        if self.who.is_admin() {
            return Ok(true);
        }
        let mut way = Vec::new();
        let mut at = folder;
        let passes = loop {
            if let Some(known) = self.known_way(at, time) {
                break known;
            }
            if way.len() > DEPTH_MAX {
                break false;
            }
            way.push(at);
            let guard = self.guard(at, time)?;
            if !guard.rights.is_some_and(|rights| rights.allow(self.who, Want::Search)) {
                break false;
            }
            match guard.above.first() {
                _ if at == FileId::ROOT => break true,
                Some(above) => at = *above,
                None => break false,
            }
        };
        // Whoever is stopped above is stopped below; whoever gets through to the root passed all of them.
        self.note_way(&way, time, passes);
        Ok(passes)
    }

    /// Tells whether the principal may do this with a thing as it is now, or was last.
    pub(crate) fn may_now(&self, file: FileId, want: Want) -> Result<bool, Denial> {
        if self.who.is_admin() {
            return Ok(true);
        }
        let Some(rights) = self.rights_now(file)? else { return Ok(false) };
        Ok(rights.allow(self.who, want) && self.is_reached_now(file)?)
    }

    /// Tells whether one of a thing's present places, or of its last ones, lets the principal through.
    pub(crate) fn is_reached_now(&self, file: FileId) -> Result<bool, Denial> {
        if file == FileId::ROOT || self.who.is_admin() {
            return Ok(true);
        }
        let guard = self.guard(file, Time::Now)?;
        if guard.present {
            let mut living = false;
            for folder in guard.above.iter() {
                if self.is_attached(*folder)? {
                    living = true;
                    if self.passes(*folder, Time::Now)? {
                        return Ok(true);
                    }
                }
            }
            if living {
                return Ok(false);
            }
        }
        self.one_passes(&guard.above, Time::Now)
    }

    /// Tells whether a thing has a place under the root today.
    pub(crate) fn is_living(&self, file: FileId) -> Result<bool, Denial> {
        if file == FileId::ROOT {
            return Ok(true);
        }
        let guard = self.guard(file, Time::Now)?;
        for folder in guard.above.iter().filter(|_| guard.present) {
            if self.is_attached(*folder)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells whether the principal might have done this with a thing at a commit, by the rights that `meta` gives it.
    pub(crate) fn may_then(
        &self,
        file: FileId,
        meta: &Meta,
        at: CommitId,
        want: Want,
    ) -> Result<bool, Denial> {
        if !Rights::of(meta).allow(self.who, want) {
            return Ok(false);
        }
        if file == FileId::ROOT || self.who.is_admin() {
            return Ok(true);
        }
        self.one_passes(&folders(self.view.links(file, at)?), Time::At(at))
    }

    /// Tells whether the folder through which the past is reached lets the principal through: now, and then where it
    /// was there.
    pub(crate) fn lets_through(&self, folder: FileId, then: CommitId) -> Result<bool, Denial> {
        if !self.passes(folder, Time::Now)? {
            return Ok(false);
        }
        let was_there = folder == FileId::ROOT || !self.view.links(folder, then)?.is_empty();
        Ok(!was_there || self.passes(folder, Time::At(then))?)
    }

    /// Returns the commit at which a version's folders are looked at: that of its cut. What was cut before a change
    /// took its name or its place was where it was right before.
    pub(crate) fn then(&self, state: &FileState) -> Result<Option<CommitId>, Denial> {
        let cut = state.cut_at;
        let at = if cut > state.commit { CommitId(cut.0 - 1) } else { state.commit };
        Ok(self.view.first_linked(state.file, at)?)
    }

    /// Tells whether the principal may read a version, reached through `folder`.
    pub(crate) fn may_read_version(
        &self,
        folder: FileId,
        state: &FileState,
    ) -> Result<bool, Denial> {
        if state.expired || !state.cut {
            return Ok(false);
        }
        let want = Want::to_see(state.meta.kind);
        // What is remembered decides first: most who are denied are denied now.
        if !self.may_now(state.file, want)? || !self.passes(folder, Time::Now)? {
            return Ok(false);
        }
        let Some(then) = self.then(state)? else { return Ok(false) };
        Ok(self.lets_through(folder, then)?
            && self.may_then(state.file, &state.meta, then, want)?)
    }

    /// Returns the rights that a thing has now, or had last.
    pub(crate) fn rights_now(&self, file: FileId) -> Result<Option<Rights>, Denial> {
        Ok(self.guard(file, Time::Now)?.rights)
    }

    /// Returns the rights that a thing had at a commit, whether or not its content is still kept.
    fn rights_at(&self, file: FileId, at: CommitId) -> Result<Option<Rights>, Denial> {
        if let Some((_, meta)) = self.view.meta(file, at)? {
            return Ok(Some(Rights::of(&meta)));
        }
        if file != FileId::ROOT {
            return Ok(None);
        }
        // The root has no birth: before its first row, what is first known of it counts.
        let first = self.view.versions(FileId::ROOT)?.pop().map(|state| state.meta);
        Ok(Some(Rights::of(&first.unwrap_or_else(unknown_root))))
    }

    fn one_passes(&self, folders: &[FileId], time: Time) -> Result<bool, Denial> {
        for folder in folders {
            if self.passes(*folder, time)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn guard(&self, file: FileId, time: Time) -> Result<Guard, Denial> {
        match time {
            Time::Now => self.guard_now(file),
            Time::At(at) => {
                let above = folders(self.view.links(file, at)?);
                Ok(Guard { rights: self.rights_at(file, at)?, above, present: false })
            }
        }
    }

    fn guard_now(&self, file: FileId) -> Result<Guard, Denial> {
        if let Some(guard) = self.known_guard(file) {
            return Ok(guard);
        }
        let rights = self.rights_at(file, CommitId::MAX)?;
        let (at, places) = self.view.last_links(file)?;
        let guard = Guard { rights, above: folders(places), present: at == CommitId::MAX };
        self.note_guard(file, &guard);
        Ok(guard)
    }
}

/// Returns the attributes of a root of which nothing has come yet: it is there, and nobody may anything.
pub(crate) fn unknown_root() -> Meta {
    Meta {
        kind: Kind::Dir,
        size: 0,
        mode: 0,
        owner: Owner::default(),
        group: Owner::default(),
        mtime: FileTime::default(),
        symlink: vec![],
        rdev: 0,
        xattrs: vec![],
    }
}
