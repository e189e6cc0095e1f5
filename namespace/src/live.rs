//! The present: attributes, names and content of what lives.
//!
//! A live node names a file, not a path: it is reached where one of its present places is. Content comes from the
//! store, verified, not from the plain files of the live tree.

use keepshare_base::{CommitId, FileId, Kind, Name, Stamp};
use keepshare_versioning::FileState;

use crate::{
    Access, Attributes, Cookie, Denial, Found, Listed, Listing, Node, Show,
    guard::Time,
    ids::{FIRST_COOKIE, RESERVED_COOKIES},
    question::Question,
    reach::unknown_root,
    rights::{Rights, Want},
};

/// The name under which the past answers, in every folder.
pub(crate) const VERSIONS: &[u8] = b"@versions";

/// The place after `@versions` where it is listed: it comes first.
const AFTER_VERSIONS: Cookie = FIRST_COOKIE;

impl Question<'_> {
    pub(crate) fn live_attributes(&self, file: FileId) -> Result<Attributes, Denial> {
        self.living(file)?;
        self.attributes_now(file)
    }

    pub(crate) fn live_access(&self, file: FileId) -> Result<Access, Denial> {
        let rights = self.living(file)?;
        let may = |want| rights.allow(self.who, want);
        let is_folder = rights.kind() == Kind::Dir;
        let is_file = rights.kind() == Kind::File;
        Ok(Access {
            read: may(Want::Read),
            search: is_folder && may(Want::Search),
            execute: is_file && may(Want::Search),
            restore: self.who.may_write()
                && if is_folder { may(Want::Write) && may(Want::Search) } else { may(Want::Write) },
        })
    }

    pub(crate) fn live_lookup(&self, folder: FileId, name: &[u8]) -> Result<Found, Denial> {
        self.living_folder(folder)?;
        if !self.passes(folder, Time::Now)? {
            return Err(Denial::NotAllowed);
        }
        match name {
            b"." => return self.found_live(folder),
            b".." => return self.found_live(self.above(folder, CommitId::MAX)?),
            _ if name.eq_ignore_ascii_case(VERSIONS) => {
                let node = Node::Versions { folder };
                return Ok(Found { node, attributes: self.made_folder(node, folder)? });
            }
            _ => {}
        }
        let name = usable(name)?;
        match self.view.lookup(folder, &name, CommitId::MAX)? {
            Some((file, _)) => self.found_live(file),
            None => Err(Denial::NotFound),
        }
    }

    /// Lists the names of a folder as POSIX does: to read them takes `r`, to know more of them `x`.
    pub(crate) fn live_list(
        &self,
        folder: FileId,
        after: Cookie,
        limit: usize,
    ) -> Result<Listing, Denial> {
        self.living_folder(folder)?;
        if !self.may_now(folder, Want::Read)? {
            return Err(Denial::NotAllowed);
        }
        let knows_more = self.passes(folder, Time::Now)?;
        let mut entries = Vec::new();
        if after == 0 && self.shows_versions(folder) && limit > 0 {
            let node = Node::Versions { folder };
            let id = self.share.hasher.id(node);
            let attributes = knows_more.then(|| self.made_folder(node, folder)).transpose()?;
            let name = VERSIONS.to_vec();
            entries.push(Listed { name, cookie: AFTER_VERSIONS, node, id, attributes });
        }
        let from = match after {
            0 | AFTER_VERSIONS => None,
            ..RESERVED_COOKIES => return Err(Denial::BadCookie),
            cookie => Some(self.name_at(folder, cookie)?),
        };
        let room = limit - entries.len();
        let page = self.view.list(folder, CommitId::MAX, from.as_ref(), room)?;
        let end = page.len() < room;
        for entry in page {
            let node = Node::Live { file: entry.file };
            let attributes = match knows_more.then(|| self.attributes_now(entry.file)) {
                None | Some(Err(Denial::Stale)) => None,
                Some(known) => Some(known?),
            };
            entries.push(self.listed(&entry.name, entry.name.as_bytes(), node, attributes));
        }
        Ok(Listing { entries, end })
    }

    /// Returns the present state of a file whose content the principal may read.
    pub(crate) fn live_readable(&self, file: FileId) -> Result<(FileState, Attributes), Denial> {
        if !self.is_living(file)? {
            return self.gone_readable(file);
        }
        if !self.living(file)?.allow(self.who, Want::Read) {
            return Err(Denial::NotAllowed);
        }
        let attributes = self.attributes_now(file)?;
        let state = self.view.file(file, CommitId::MAX)?.ok_or(Denial::Stale)?;
        Ok((state, attributes))
    }

    /// Returns the last version of a file that was replaced or removed, for those who may read it as a version: whoever has
    /// it open reads on. Only that: who asks for its attributes, as at an open, hears that it is gone, and finds what is
    /// there now.
    fn gone_readable(&self, file: FileId) -> Result<(FileState, Attributes), Denial> {
        let (at, places) = self.view.last_links(file)?;
        let state = self.view.file(file, at)?.ok_or(Denial::Stale)?;
        for (folder, _) in places {
            if self.is_attached(folder)? && self.may_read_version(folder, &state)? {
                let changed = self.changed_by(state.commit, state.arrival)?;
                let attributes = self.attributes_of(Node::Live { file }, &state.meta, changed);
                return Ok((state, attributes));
            }
        }
        Err(Denial::Stale)
    }

    /// Returns the rights of a living thing that the principal can reach.
    pub(crate) fn living(&self, file: FileId) -> Result<Rights, Denial> {
        if !self.is_living(file)? {
            return Err(Denial::Stale);
        }
        if !self.is_reached_now(file)? {
            return Err(Denial::NotAllowed);
        }
        self.rights_now(file)?.ok_or(Denial::Stale)
    }

    /// Holds that a node is a living folder that the principal can reach.
    pub(crate) fn living_folder(&self, folder: FileId) -> Result<(), Denial> {
        if self.living(folder)?.kind() == Kind::Dir { Ok(()) } else { Err(Denial::NotFolder) }
    }

    /// Returns an entry of a listing, and remembers its place.
    pub(crate) fn listed(
        &self,
        name: &Name,
        shown: &[u8],
        node: Node,
        attributes: Option<Attributes>,
    ) -> Listed {
        let cookie = self.share.hasher.cookie(name.as_bytes());
        self.note_names(cookie, name);
        Listed { name: shown.to_vec(), cookie, node, id: self.share.hasher.id(node), attributes }
    }

    /// Returns the folder above another one at a commit; the root's is the root.
    pub(crate) fn above(&self, folder: FileId, at: CommitId) -> Result<FileId, Denial> {
        let place = self.view.links(folder, at)?.pop();
        Ok(place.map_or(FileId::ROOT, |(above, _)| above))
    }

    fn found_live(&self, file: FileId) -> Result<Found, Denial> {
        Ok(Found { node: Node::Live { file }, attributes: self.attributes_now(file)? })
    }

    /// Returns what is known of a living thing, whoever asks.
    fn attributes_now(&self, file: FileId) -> Result<Attributes, Denial> {
        if let Some(known) = self.known_attributes(file) {
            return Ok(known);
        }
        let (mut commit, meta) = match self.view.meta(file, CommitId::MAX)? {
            None if file == FileId::ROOT => (CommitId(0), unknown_root()),
            known => known.ok_or(Denial::Stale)?,
        };
        if meta.kind == Kind::Dir {
            // By commits, since clocks are set back.
            commit = commit.max(self.names_changed(file)?);
        }
        let changed = self.changed_by(commit, Stamp(0))?;
        let mut attributes = self.attributes_of(Node::Live { file }, &meta, changed);
        if meta.kind != Kind::Dir {
            attributes.links = u32::try_from(self.view.link_count(file)?).unwrap_or(u32::MAX);
        }
        self.note_attributes(file, attributes);
        Ok(attributes)
    }

    fn shows_versions(&self, folder: FileId) -> bool {
        match self.share.config.show {
            Show::Root => folder == FileId::ROOT,
            Show::Never => false,
            Show::Everywhere => true,
        }
    }
}

/// Reads a name that a client gave. What no entry can be called is not found.
pub(crate) fn usable(name: &[u8]) -> Result<Name, Denial> {
    use keepshare_base::NameError;
    Name::new(name).map_err(|error| match error {
        NameError::TooLong(_) => Denial::NameTooLong,
        _ => Denial::NotFound,
    })
}
