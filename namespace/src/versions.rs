//! `@versions` itself: `_README.txt`, `_deleted`, `_points`, and a folder `NAME@` for each name with a past.
//!
//! What a name typed here means, first that fits: one of the fixed names; `NAME@`, for a name that has a past; a typed
//! time; `NAME` without the `@`; a point's name. A file that is called like a time, or like a fixed name, is meant with
//! the `@` alone. A user's own `@versions` never meets this one: the master has already called it `@versions~`, and
//! `@versions~` by one `~` more ([`keepshare_base::escape_name`]), so that all of them stay apart.

use std::collections::{HashMap, VecDeque};

use keepshare_base::{CommitId, FileId, NAME_BYTES_MAX, Name, VersionId};
use keepshare_versioning::PointInfo;

use crate::{
    Access, Attributes, Cookie, Denial, Found, Listed, Listing, Node,
    guard::Time,
    ids::{FIRST_COOKIE, RESERVED_COOKIES},
    names,
    past::POINTS_MAX,
    question::Question,
    rights::Want,
};

/// The name of the text that explains `@versions`.
const README: &[u8] = b"_README.txt";

/// The name of the folder of what is gone.
const DELETED: &[u8] = b"_deleted";

/// The name of the folder of named moments, which the root's `@versions` has.
const POINTS: &[u8] = b"_points";

/// What `_README.txt` says.
pub(crate) const README_TEXT: &str = "\
This folder shows how the folder above it was at other times. Nothing here can be changed or removed.\r
\r
NAME@                 the versions of the file NAME; _history.csv lists them, newest first\r
NAME@/latest          the newest version of it (not listed; type it)\r
_deleted              files and folders that are gone\r
_points               named moments of the whole drive (in the drive's first folder)\r
2026-11-20_15.30      everything as it was then (not listed; type it); yesterday, 2h and 3d work as well\r
\r
To get a file back, copy it from here, or move a version onto the present file: the version stays here, and\r
the file's present content becomes a version itself.\r
";

/// How many names are read at once.
const PAGE: usize = 256;

/// The longest name of a point that is shown, in characters.
const POINT_CHARS_MAX: usize = 200;

/// A named moment, as it is called here.
#[derive(Clone, Debug)]
struct NamedPoint {
    shown: String,
    name: String,
    at: CommitId,
}

impl Question<'_> {
    /// Returns what is known of one of the folders that stand in `@versions`, or of that itself.
    pub(crate) fn versions_attributes(
        &self,
        node: Node,
        folder: FileId,
    ) -> Result<Attributes, Denial> {
        self.admit_versions(folder)?;
        self.made_folder(node, folder)
    }

    pub(crate) fn versions_access(&self, folder: FileId) -> Result<Access, Denial> {
        self.admit_versions(folder)?;
        let read = self.may_now(folder, Want::Read)?;
        Ok(Access { read, search: true, execute: false, restore: false })
    }

    pub(crate) fn readme_attributes(&self, folder: FileId) -> Result<Attributes, Denial> {
        self.admit_versions(folder)?;
        self.made_file(Node::Readme { folder }, folder, README_TEXT.len())
    }

    pub(crate) fn versions_lookup(&self, folder: FileId, text: &[u8]) -> Result<Found, Denial> {
        self.admit_versions(folder)?;
        let made = |node| Ok(Found { node, attributes: self.made_folder(node, folder)? });
        match text {
            b"." => return made(Node::Versions { folder }),
            b".." => {
                let attributes = self.live_attributes(folder)?;
                return Ok(Found { node: Node::Live { file: folder }, attributes });
            }
            README => {
                let attributes = self.readme_attributes(folder)?;
                return Ok(Found { node: Node::Readme { folder }, attributes });
            }
            DELETED => return made(Node::Deleted { folder }),
            POINTS if folder == FileId::ROOT => return made(Node::Points { folder }),
            _ if text.len() > NAME_BYTES_MAX => return Err(Denial::NameTooLong),
            _ => {}
        }
        if let Some(name) = names::history_of(text)
            && self.has_visible_past(folder, &name)?
        {
            return made(self.history_node(folder, &name));
        }
        match self.typed_view(folder, text) {
            Err(Denial::NotFound) => {}
            found => return found,
        }
        if let Ok(name) = Name::new(text)
            && self.has_visible_past(folder, &name)?
        {
            return made(self.history_node(folder, &name));
        }
        match self.point_named(text)? {
            Some(point) => self.view_at(folder, point.at),
            None => Err(Denial::NotFound),
        }
    }

    pub(crate) fn versions_list(
        &self,
        folder: FileId,
        after: Cookie,
        limit: usize,
    ) -> Result<Listing, Denial> {
        self.admit_listing(folder)?;
        let mut entries = Vec::new();
        let fixed: [(&[u8], Node); 3] = [
            (README, Node::Readme { folder }),
            (DELETED, Node::Deleted { folder }),
            (POINTS, Node::Points { folder }),
        ];
        for (cookie, (name, node)) in (FIRST_COOKIE..).zip(fixed) {
            let is_here = folder == FileId::ROOT || !matches!(node, Node::Points { .. });
            if cookie > after && is_here && entries.len() < limit {
                let attributes = match node {
                    Node::Readme { .. } => self.readme_attributes(folder)?,
                    _ => self.made_folder(node, folder)?,
                };
                entries.push(self.fixed(name, cookie, node, attributes));
            }
        }
        self.list_histories(folder, after, limit, entries, |from| {
            let page = self.view.list(folder, CommitId::MAX, from, PAGE)?;
            let name =
                |entry: keepshare_versioning::Entry| (entry.name, names::has_versions(entry.kind));
            Ok(page.into_iter().map(name).collect())
        })
    }

    pub(crate) fn deleted_lookup(&self, folder: FileId, text: &[u8]) -> Result<Found, Denial> {
        self.admit_versions(folder)?;
        let made = |node| Ok(Found { node, attributes: self.made_folder(node, folder)? });
        match text {
            b"." => return made(Node::Deleted { folder }),
            b".." => return made(Node::Versions { folder }),
            _ if text.len() > NAME_BYTES_MAX => return Err(Denial::NameTooLong),
            _ => {}
        }
        for name in [names::history_of(text), Name::new(text).ok()].into_iter().flatten() {
            if self.view.lookup(folder, &name, CommitId::MAX)?.is_none()
                && self.has_visible_past(folder, &name)?
            {
                return made(self.history_node(folder, &name));
            }
        }
        Err(Denial::NotFound)
    }

    pub(crate) fn deleted_list(
        &self,
        folder: FileId,
        after: Cookie,
        limit: usize,
    ) -> Result<Listing, Denial> {
        self.admit_listing(folder)?;
        self.list_histories(folder, after, limit, vec![], |from| {
            let page = self.names_at_path(folder, from, PAGE)?;
            let is_gone = |name: Name| {
                let present = self.view.lookup(folder, &name, CommitId::MAX)?;
                Ok((name, present.is_none()))
            };
            page.into_iter().map(is_gone).collect()
        })
    }

    pub(crate) fn points_lookup(&self, folder: FileId, text: &[u8]) -> Result<Found, Denial> {
        self.admit_versions(folder)?;
        let made = |node| Ok(Found { node, attributes: self.made_folder(node, folder)? });
        match text {
            b"." => return made(Node::Points { folder }),
            b".." => return made(Node::Versions { folder }),
            _ => {}
        }
        let points = self.points(|name| may_be_shown_as(name, text))?;
        match self.named(points)?.iter().find(|point| point.shown.as_bytes() == text) {
            Some(point) => self.view_at(folder, point.at),
            None => Err(Denial::NotFound),
        }
    }

    /// Lists named moments, oldest first.
    pub(crate) fn points_list(
        &self,
        folder: FileId,
        after: Cookie,
        limit: usize,
    ) -> Result<Listing, Denial> {
        self.admit_listing(folder)?;
        let points = self.named(self.points(|_| true)?)?;
        let cookie_of = |point: &NamedPoint| self.share.hasher.cookie(point.shown.as_bytes());
        let from = match after {
            0 => 0,
            cookie => {
                let at = points.iter().position(|point| cookie_of(point) == cookie);
                at.ok_or(Denial::BadCookie)? + 1
            }
        };
        let mut entries = Vec::new();
        for point in &points[from..] {
            if entries.len() == limit {
                return Ok(Listing { entries, end: false });
            }
            match self.view_at(folder, point.at) {
                Ok(Found { node, attributes }) => {
                    let name = point.shown.as_bytes();
                    entries.push(self.fixed(name, cookie_of(point), node, attributes));
                }
                Err(Denial::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Listing { entries, end: true })
    }

    /// Adds the folders `NAME@` after a cookie to a listing: of all names that `page` gives, in order, and says may have
    /// versions.
    fn list_histories(
        &self,
        folder: FileId,
        after: Cookie,
        limit: usize,
        mut entries: Vec<Listed>,
        page: impl Fn(Option<&Name>) -> Result<Vec<(Name, bool)>, Denial>,
    ) -> Result<Listing, Denial> {
        let mut from = match after {
            ..RESERVED_COOKIES => None,
            cookie => Some(self.name_at(folder, cookie)?),
        };
        // All of them have the same attributes but for their numbers.
        let mut shared: Option<Attributes> = None;
        loop {
            let names = page(from.as_ref())?;
            for (name, may_have) in &names {
                if entries.len() == limit {
                    return Ok(Listing { entries, end: false });
                }
                let Some(shown) = names::history_name(name).filter(|_| *may_have) else { continue };
                if !self.has_visible_past(folder, name)? {
                    continue;
                }
                let node = self.history_node(folder, name);
                let attributes = match shared {
                    Some(shared) => Attributes { id: self.share.hasher.id(node), ..shared },
                    None => self.made_folder(node, folder)?,
                };
                shared = Some(attributes);
                entries.push(self.listed(name, &shown, node, Some(attributes)));
            }
            match names.into_iter().next_back() {
                Some((last, _)) => from = Some(last),
                None => return Ok(Listing { entries, end: true }),
            }
        }
    }

    /// Returns the point that is called so, if it is one alone.
    fn point_named(&self, text: &[u8]) -> Result<Option<NamedPoint>, Denial> {
        let is_it =
            |point: &NamedPoint| point.name.as_bytes() == text || point.shown.as_bytes() == text;
        let points = self.points(|name| name.as_bytes() == text || may_be_shown_as(name, text))?;
        let mut meant = self.named(points)?.into_iter().filter(is_it);
        let first = meant.next();
        Ok(first.filter(|_| meant.next().is_none()))
    }

    /// Returns the newest points, oldest first, of them those whose names `which` picks.
    fn points(&self, which: impl Fn(&str) -> bool) -> Result<Vec<PointInfo>, Denial> {
        let mut points = VecDeque::new();
        self.each_point(|info| {
            if points.len() == POINTS_MAX {
                points.pop_front();
            }
            points.push_back(info);
        })?;
        points.retain(|info| which(&info.point.name));
        Ok(points.into())
    }

    /// Calls points by names that every system can show.
    fn named(&self, points: Vec<PointInfo>) -> Result<Vec<NamedPoint>, Denial> {
        // Those that are too old to be shown count, too: a name must never come to mean another point. Of these nothing is
        // kept, however many they are.
        let mut shared: HashMap<String, u32> =
            points.iter().map(|info| (plain_point(&info.point.name), 0)).collect();
        if !shared.is_empty() {
            self.each_point(|info| {
                if let Some(count) = shared.get_mut(&plain_point(&info.point.name)) {
                    *count += 1;
                }
            })?;
        }
        let named = points.into_iter().map(|info| {
            let mut shown = plain_point(&info.point.name);
            // One of several is told by its position.
            if shared.get(&shown).is_some_and(|count| *count > 1) {
                shown = format!("{shown}_{}", VersionId(info.position));
            }
            NamedPoint { shown, name: info.point.name, at: info.commit }
        });
        Ok(named.collect())
    }

    /// Goes through all points, oldest first.
    fn each_point(&self, mut take: impl FnMut(PointInfo)) -> Result<(), Denial> {
        let mut after = CommitId(0);
        loop {
            let page = self.view.points(after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.commit;
            page.into_iter().for_each(&mut take);
        }
    }

    /// Holds that a folder lives and that the principal may search it.
    fn admit_versions(&self, folder: FileId) -> Result<(), Denial> {
        self.living_folder(folder)?;
        if self.passes(folder, Time::Now)? { Ok(()) } else { Err(Denial::NotAllowed) }
    }

    /// Holds that the principal may list a folder, too.
    fn admit_listing(&self, folder: FileId) -> Result<(), Denial> {
        self.admit_versions(folder)?;
        if self.may_now(folder, Want::Read)? { Ok(()) } else { Err(Denial::NotAllowed) }
    }
}

/// Tells whether a point of this name may be shown as that: by the name alone, or with its position.
fn may_be_shown_as(name: &str, text: &[u8]) -> bool {
    text.starts_with(plain_point(name).as_bytes())
}

/// Writes a point's name so that every system can show it.
fn plain_point(name: &str) -> String {
    let plain: String =
        keepshare_versioning::names::plain(name).chars().take(POINT_CHARS_MAX).collect();
    let hidden = plain.is_empty() || plain.starts_with('.');
    if hidden { format!("point{plain}") } else { plain }
}
