//! `NAME@`: the versions of one name, newest first.

use std::sync::Arc;

use keepshare_base::{CommitId, FileId, Kind, Name, Position, VersionId};
use keepshare_versioning::{
    FileState, names as version_names,
    when::{Moment, commit_then},
};

use crate::{
    Access, Attributes, Cookie, Denial, Found, Listed, Listing, Node,
    chronicle::{Chronicle, Kept},
    dated::{Dated, SIGN_HOLDS},
    guard::Time,
    ids::FIRST_COOKIE,
    names,
    past::Then,
    question::Question,
    rights::Want,
};

/// The name of the table of all versions.
pub(crate) const TABLE: &[u8] = b"_history.csv";

const AFTER_TABLE: Cookie = FIRST_COOKIE;
const AFTER_FOLDER: Cookie = FIRST_COOKIE + 1;

/// What a name that is gone stood for last, where that was a folder.
struct GoneFolder {
    then: Then,
    shown: String,
}

impl Question<'_> {
    pub(crate) fn history_attributes(
        &self,
        folder: FileId,
        name: &Name,
    ) -> Result<Attributes, Denial> {
        self.admit_history(folder, name)?;
        self.made_folder(self.history_node(folder, name), folder)
    }

    pub(crate) fn history_access(&self, folder: FileId, name: &Name) -> Result<Access, Denial> {
        self.admit_history(folder, name)?;
        let restore = self.may_write_name(folder, name)?;
        Ok(Access { read: true, search: true, execute: false, restore })
    }

    pub(crate) fn history_lookup(
        &self,
        folder: FileId,
        name: &Name,
        text: &[u8],
    ) -> Result<Found, Denial> {
        self.admit_history(folder, name)?;
        match text {
            b"." => {
                let node = self.history_node(folder, name);
                return Ok(Found { node, attributes: self.made_folder(node, folder)? });
            }
            b".." => {
                let is_there = self.view.lookup(folder, name, CommitId::MAX)?.is_some();
                let node =
                    if is_there { Node::Versions { folder } } else { Node::Deleted { folder } };
                return Ok(Found { node, attributes: self.made_folder(node, folder)? });
            }
            TABLE => {
                let node = Node::HistoryTable { folder, name: self.hash(name) };
                return Ok(Found { node, attributes: self.table_attributes(folder, name)? });
            }
            _ if text.len() > keepshare_base::NAME_BYTES_MAX => return Err(Denial::NameTooLong),
            _ => {}
        }
        if let Some(gone) = self.gone_folder(folder, name)?
            && gone.shown.as_bytes() == text
        {
            return self.past_found(gone.then);
        }
        let found = self.find_version(folder, name, text)?.ok_or(Denial::NotFound)?;
        let (node, attributes) = self.version_told(folder, &found)?;
        Ok(Found { node, attributes })
    }

    pub(crate) fn history_list(
        &self,
        folder: FileId,
        name: &Name,
        after: Cookie,
        limit: usize,
    ) -> Result<Listing, Denial> {
        self.admit_history(folder, name)?;
        let mut entries = Vec::new();
        if after < AFTER_TABLE && entries.len() < limit {
            let node = Node::HistoryTable { folder, name: self.hash(name) };
            let attributes = self.table_attributes(folder, name)?;
            entries.push(self.fixed(TABLE, AFTER_TABLE, node, attributes));
        }
        if after < AFTER_FOLDER
            && entries.len() < limit
            && let Some(gone) = self.gone_folder(folder, name)?
            && let Ok(found) = self.past_found(gone.then)
        {
            let (shown, Found { node, attributes }) = (gone.shown.as_bytes(), found);
            entries.push(self.fixed(shown, AFTER_FOLDER, node, attributes));
        }
        let chronicle = self.chronicle(folder, name)?;
        let from = match after {
            0..=AFTER_FOLDER => 0,
            cookie => {
                let at = chronicle.entries.iter().position(|kept| kept.cookie == cookie);
                at.ok_or(Denial::BadCookie)? + 1
            }
        };
        for kept in chronicle.entries[from..].iter().filter(|kept| kept.listed) {
            if entries.len() == limit {
                return Ok(Listing { entries, end: false });
            }
            let Some(state) = self.state_of(folder, kept)? else { continue };
            let (node, attributes) = self.version_told(folder, &state)?;
            let name = kept.shown.as_bytes();
            entries.push(self.fixed(name, kept.cookie, node, attributes));
        }
        Ok(Listing { entries, end: true })
    }

    /// Returns an entry of a folder that only `@versions` has.
    pub(crate) fn fixed(
        &self,
        name: &[u8],
        cookie: Cookie,
        node: Node,
        attributes: Attributes,
    ) -> Listed {
        let id = attributes.id;
        Listed { name: name.to_vec(), cookie, node, id, attributes: Some(attributes) }
    }

    pub(crate) fn version_attributes(
        &self,
        folder: FileId,
        file: FileId,
        position: Position,
    ) -> Result<Attributes, Denial> {
        Ok(self.version_readable(folder, file, position)?.1)
    }

    pub(crate) fn version_access(
        &self,
        folder: FileId,
        file: FileId,
        position: Position,
    ) -> Result<Access, Denial> {
        let (state, _) = self.version_readable(folder, file, position)?;
        let execute = state.meta.kind == Kind::File
            && self.may_now(file, Want::Search)?
            && crate::rights::Rights::of(&state.meta).allow(self.who, Want::Search);
        let restore = self.may_write_back(folder, file)?;
        Ok(Access { read: true, search: false, execute, restore })
    }

    /// Returns a version that the principal may read.
    pub(crate) fn version_readable(
        &self,
        folder: FileId,
        file: FileId,
        position: Position,
    ) -> Result<(FileState, Attributes), Denial> {
        if !self.is_attached(folder)? {
            return Err(Denial::Stale);
        }
        let state = self.version_state(file, position)?.ok_or(Denial::Stale)?;
        if !self.may_read_version(folder, &state)? {
            return Err(Denial::NotAllowed);
        }
        let (_, attributes) = self.version_told(folder, &state)?;
        Ok((state, attributes))
    }

    /// Returns the version that is meant by a listed name of `NAME@`, by `latest`, or by a typed time.
    pub(crate) fn find_version(
        &self,
        folder: FileId,
        name: &Name,
        text: &[u8],
    ) -> Result<Option<FileState>, Denial> {
        let chronicle = self.chronicle(folder, name)?;
        let listed = |kept: &&Kept| kept.listed && kept.shown.as_bytes() == text;
        if let Some(kept) = chronicle.entries.iter().find(listed) {
            return self.state_of(folder, kept);
        }
        // The name of a version that another has come to share a second with means neither of them.
        if std::str::from_utf8(text).is_ok_and(|text| chronicle.shared.contains(text)) {
            return Ok(None);
        }
        for (when, extension) in names::typed_times(text) {
            self.note_typed(self.history_node(folder, name), when);
            let kept = match when.resolve(self.share.config.zone, self.now) {
                Moment::Latest => chronicle.entries.iter().find(|kept| kept.listed),
                Moment::At(stamp) => {
                    let then = commit_then(&self.view, stamp, self.now)?;
                    let file = self.held_then(folder, name, then)?;
                    chronicle.of_file(file, then).or_else(|| chronicle.held_at(then))
                }
                Moment::Version(id, file) => chronicle.with_id(id, file),
            };
            let own = version_names::extension(name);
            let fits = |kept: &&Kept| {
                extension.is_none_or(|typed| {
                    let fits = |own: &str| own.eq_ignore_ascii_case(typed);
                    own.is_some_and(fits) || kept.extension.as_deref().is_some_and(fits)
                })
            };
            if let Some(kept) = kept.filter(fits) {
                return self.state_of(folder, kept);
            }
        }
        Ok(None)
    }

    /// Returns the file that a name stood for then, in the folder that was at its folder's place.
    pub(crate) fn held_then(
        &self,
        folder: FileId,
        name: &Name,
        then: CommitId,
    ) -> Result<Option<FileId>, Denial> {
        let Some(folder) = self.stood_for(folder, then)? else { return Ok(None) };
        Ok(self.view.lookup(folder, name, then)?.map(|(file, _)| file))
    }

    /// Tells whether a name has a past that the principal may see.
    pub(crate) fn has_visible_past(&self, folder: FileId, name: &Name) -> Result<bool, Denial> {
        // Nearly always the newest state says it, and no history has to be walked.
        if let Some((file, kind)) = self.view.lookup(folder, name, CommitId::MAX)? {
            if names::has_versions(kind)
                && let Some(state) = self.view.file(file, CommitId::MAX)?
                && self.may_read_version(folder, &state)?
            {
                return Ok(true);
            }
        } else if let Some(gone) = self.gone_folder(folder, name)?
            && self.past_seen(gone.then).is_ok()
        {
            return Ok(true);
        }
        let chronicle = self.chronicle(folder, name)?;
        for kept in chronicle.entries.iter().filter(|kept| kept.listed) {
            if self.state_of(folder, kept)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells whether the principal may write what a name stands for or, where that is nothing, a new file under it.
    pub(crate) fn may_write_name(&self, folder: FileId, name: &Name) -> Result<bool, Denial> {
        if !self.who.may_write() || !self.passes(folder, Time::Now)? {
            return Ok(false);
        }
        match self.view.lookup(folder, name, CommitId::MAX)? {
            Some((_, Kind::Dir)) => Ok(false),
            Some((file, _)) => {
                let rights = self.rights_now(file)?;
                Ok(rights.is_some_and(|rights| rights.allow(self.who, Want::Write)))
            }
            None => self.may_now(folder, Want::Write),
        }
    }

    pub(crate) fn history_node(&self, folder: FileId, name: &Name) -> Node {
        Node::History { folder, name: self.hash(name) }
    }

    /// Holds that the principal may see something of a name's past, through a living folder.
    pub(crate) fn admit_history(&self, folder: FileId, name: &Name) -> Result<(), Denial> {
        self.living_folder(folder)?;
        if self.passes(folder, Time::Now)? && self.has_visible_past(folder, name)? {
            Ok(())
        } else {
            Err(Denial::NotAllowed)
        }
    }

    fn version_told(
        &self,
        folder: FileId,
        state: &FileState,
    ) -> Result<(Node, Attributes), Denial> {
        let node = Node::Version { folder, file: state.file, position: state.position };
        let changed = self.changed_by(state.commit, state.arrival)?;
        Ok((node, self.attributes_of(node, &state.meta, changed)))
    }

    /// Returns the state of a version, where the principal may read it.
    fn state_of(&self, folder: FileId, kept: &Kept) -> Result<Option<FileState>, Denial> {
        if !kept.listed || !self.may_now(kept.file, Want::Read)? {
            return Ok(None);
        }
        let state = self.view.file(kept.file, kept.commit)?;
        let state = state.filter(|state| state.commit == kept.commit);
        match state {
            Some(state) if self.may_read_version(folder, &state)? => Ok(Some(state)),
            _ => Ok(None),
        }
    }

    /// Returns the version of a file that was cut at a position; `None` where it expired.
    fn version_state(&self, file: FileId, position: Position) -> Result<Option<FileState>, Denial> {
        let state = self.view.version(file, VersionId(position))?;
        Ok(state.filter(|state| !state.expired))
    }

    /// Returns the folder that a name stood for until it was removed, as it was right before.
    fn gone_folder(&self, folder: FileId, name: &Name) -> Result<Option<GoneFolder>, Denial> {
        let Some(since) = self.view.empty_since(folder, name)? else { return Ok(None) };
        let before = CommitId(since.0.saturating_sub(1));
        let Some((file, Kind::Dir)) = self.view.lookup(folder, name, before)? else {
            return Ok(None);
        };
        let Some(end) = self.view.commit_info(since)? else { return Ok(None) };
        // Not every commit has a row of its own, and what lies between changed nothing that is kept.
        let Some(at) = self.view.commit_before(since)? else { return Ok(None) };
        let Some(moment) = self.moment_of(at)? else { return Ok(None) };
        let then = self.then_of(folder, file, moment)?;
        let shown =
            version_names::of_gone_folder(end.stamp, end.user.as_deref(), self.share.config.zone);
        Ok(Some(GoneFolder { then, shown }))
    }

    fn chronicle(&self, folder: FileId, name: &Name) -> Result<Arc<Dated<Chronicle>>, Denial> {
        let (all, place) = (&self.share.chronicles, (folder, name));
        let as_of = (&self.view, self.now);
        let key = (folder, name.clone());
        if let Some(known) = all.find(as_of, &key, place, SIGN_HOLDS)? {
            return Ok(known);
        }
        let _turn = self.turn_to_walk()?;
        // Somebody else may have done it meanwhile.
        if let Some(known) = all.find(as_of, &key, place, SIGN_HOLDS)? {
            return Ok(known);
        }
        // What versions are called must not depend on who asks.
        let history = self.whole_history(folder, name, |_| Ok(true))?;
        let chronicle = Chronicle::new(&self.share.hasher, self.share.config.zone, &history);
        let weight = chronicle.entries.len() + 1;
        Ok(all.keep(as_of, key, place, (chronicle, weight))?)
    }
}
