//! What a path held at a time: a file with its content, a folder with what was in it.

use std::collections::HashMap;

use keepshare_base::{CommitId, FileId, Kind, Meta, Name, SetPath};
use keepshare_versioning::{FileState, HistoryEntry, NameAt, names};

use crate::{AskError, Denial, question::Question, rights::Want};

use super::{Asking, Content, Exported, Interrupted, Missing, PathThen, Shown, Taker, Uncut};

/// How much content is read and given out at once.
const READ_BYTES: usize = 512 * 1024;

/// How many entries of a folder are read at once.
const PAGE: usize = 512;

/// How many versions of a name are searched for one whose content is kept.
const SEARCHED_FOR_KEPT: usize = 16;

/// What a name of a folder held at some moment.
enum Held {
    /// This.
    State(FileState),
    /// A file that had no version yet; what it became, where it is still there.
    Unfinished(Option<FileState>),
}

/// A part of a folder.
struct Page {
    entries: Vec<(Name, Held)>,
    /// The last name that was looked at; `None` at the end.
    last: Option<Name>,
}

/// A folder that is being gone through.
struct Open {
    folder: FileId,
    page: std::vec::IntoIter<(Name, Held)>,
    /// Where the next page begins.
    after: Option<Name>,
    /// This page is the last one.
    is_last: bool,
}

impl Asking<'_> {
    /// Gives out what was found: a file with its content, a folder with what is right in it.
    pub fn show<T: Taker>(
        &self,
        then: &PathThen,
        taker: &mut T,
    ) -> Result<(), Interrupted<T::Error>> {
        let path: Vec<Name> = then.name.iter().cloned().collect();
        if then.state.meta.kind != Kind::Dir {
            take(taker, self.shown(path, &then.state)?)?;
            return self.give_content(&then.state, taker);
        }
        let mut page = self.page(then.state.file, then.commit, None)?;
        take(taker, self.shown(path.clone(), &then.state)?)?;
        loop {
            for (name, held) in page.entries {
                let path = path.iter().cloned().chain([name]).collect();
                take(taker, self.held(path, &held)?)?;
            }
            match page.last {
                Some(last) => page = self.page(then.state.file, then.commit, Some(&last))?,
                None => return Ok(()),
            }
        }
    }

    /// Gives out what was found with everything below it, parents first, and each folder's in the order of their names.
    pub fn export<T: Taker>(
        &self,
        then: &PathThen,
        with: Exported,
        taker: &mut T,
    ) -> Result<(), Interrupted<T::Error>> {
        let mut linked = HashMap::new();
        let mut path: Vec<Name> = then.name.iter().cloned().collect();
        // What is open is one page of each folder on the way down.
        let mut open: Vec<Open> = Vec::new();
        let top = (&then.state, then.commit, with);
        open.extend(self.export_one(top, &path, &mut linked, taker)?);
        while let Some(Open { folder, page, after, is_last }) = open.last_mut() {
            let Some((name, held)) = page.next() else {
                if *is_last {
                    open.pop();
                    path.pop();
                    continue;
                }
                let next = self.page(*folder, then.commit, after.as_ref())?;
                (*is_last, *after) = (next.last.is_none(), next.last);
                *page = next.entries.into_iter();
                continue;
            };
            path.push(name);
            let below = match held {
                Held::State(state) => {
                    self.export_one((&state, then.commit, with), &path, &mut linked, taker)?
                }
                Held::Unfinished(_) => {
                    take(taker, self.held(path.clone(), &held)?)?;
                    None
                }
            };
            match below {
                Some(below) => open.push(below),
                None => {
                    path.pop();
                }
            }
        }
        Ok(())
    }

    /// Gives out one thing, and returns it where it is a folder that can be gone through.
    fn export_one<T: Taker>(
        &self,
        (state, commit, with): (&FileState, CommitId, Exported),
        path: &[Name],
        linked: &mut HashMap<FileId, Vec<Name>>,
        taker: &mut T,
    ) -> Result<Option<Open>, Interrupted<T::Error>> {
        let mut shown = self.shown(path.to_vec(), state)?;
        match state.meta.kind {
            Kind::Dir => {
                let may_list = self.question()?.may_list_then(state.file, commit)?;
                if !may_list {
                    shown.content = Content::Missing(Missing::NotListable);
                }
                take(taker, shown)?;
                let (folder, page) = (state.file, Vec::new().into_iter());
                return Ok(may_list.then_some(Open { folder, page, after: None, is_last: false }));
            }
            Kind::File if with == Exported::Content => {}
            _ => {
                take(taker, shown)?;
                return Ok(None);
            }
        }
        if let Some(other) = linked.get(&state.file) {
            shown.content = Content::SameAs(other.clone());
            take(taker, shown)?;
            return Ok(None);
        }
        if self.question()?.view.links(state.file, commit).map_err(AskError::Store)?.len() > 1 {
            linked.insert(state.file, path.to_vec());
        }
        // A first look, so that what cannot be read is said before anything of it is given out.
        if let Err(error) = self.share.inner.config.reader.read(state, 0, READ_BYTES) {
            shown.content = Content::Missing(Missing::Unreadable(error));
            take(taker, shown)?;
            return Ok(None);
        }
        take(taker, shown)?;
        match self.give_content(state, taker) {
            // Whoever takes it sees that content is missing, and goes on with the next file.
            Err(Interrupted::Asked(AskError::Store(_))) => Ok(None),
            given => given.map(|()| None),
        }
    }

    fn held(&self, path: Vec<Name>, held: &Held) -> Result<Shown, AskError> {
        match held {
            Held::State(state) => self.shown(path, state),
            Held::Unfinished(later) => {
                let meta = later.as_ref().map_or_else(Meta::unknown, |later| later.meta.clone());
                let content = Content::Missing(Missing::Unfinished);
                Ok(Shown { path, meta, version: None, hash: None, content, uncut: None })
            }
        }
    }

    fn shown(&self, path: Vec<Name>, state: &FileState) -> Result<Shown, AskError> {
        let is_uncut = state.meta.kind == Kind::File && !state.cut;
        let uncut = is_uncut.then(|| self.question()?.uncut(state)).transpose()?;
        let (meta, version) = (state.meta.clone(), state.cut.then(|| names::id(state)));
        Ok(Shown { path, meta, version, hash: state.hash, content: Content::Follows, uncut })
    }

    fn give_content<T: Taker>(
        &self,
        state: &FileState,
        taker: &mut T,
    ) -> Result<(), Interrupted<T::Error>> {
        if state.meta.kind != Kind::File {
            return Ok(());
        }
        let mut offset = 0;
        while offset < state.meta.size {
            let bytes = self.share.inner.config.reader.read(state, offset, READ_BYTES)?;
            if bytes.is_empty() {
                break;
            }
            offset += bytes.len() as u64;
            taker.content(&bytes).map_err(Interrupted::Taker)?;
        }
        Ok(())
    }

    fn page(
        &self,
        folder: FileId,
        commit: CommitId,
        after: Option<&Name>,
    ) -> Result<Page, AskError> {
        self.question()?.page_then(folder, commit, after)
    }
}

impl Question<'_> {
    /// Tells whether the user may list a folder as it was at a commit.
    fn may_list_then(&self, folder: FileId, at: CommitId) -> Result<bool, Denial> {
        self.may_folder(FileId::ROOT, (folder, at), Want::Read)
    }

    /// Returns a part of a folder as it was at a commit, with the states of all in it that is seen.
    fn page_then(
        &self,
        folder: FileId,
        at: CommitId,
        after: Option<&Name>,
    ) -> Result<Page, AskError> {
        if !self.may_list_then(folder, at)? {
            return Err(AskError::NotListable);
        }
        let found = self.view.list(folder, at, after, PAGE)?;
        let last = found.last().map(|entry| entry.name.clone());
        let mut entries = Vec::with_capacity(found.len());
        for entry in found {
            match self.view.file(entry.file, at)? {
                Some(state) if self.is_seen(FileId::ROOT, (entry.file, at), &state)? => {
                    entries.push((entry.name, Held::State(state)));
                }
                None if self.who.is_admin() => {
                    let later = self.view.file(entry.file, CommitId::MAX)?;
                    entries.push((entry.name, Held::Unfinished(later)));
                }
                _ => {}
            }
        }
        Ok(Page { entries, last })
    }

    /// Returns what there is instead of a state that is no version.
    fn uncut(&self, state: &FileState) -> Result<Uncut, AskError> {
        let (_, links) = self.view.last_links(state.file)?;
        for (folder, name) in links {
            let at = NameAt { folders: &[folder], path: &SetPath::from(vec![name]) };
            let tell = |entry: &HistoryEntry| self.may_tell(folder, entry);
            let held = self.view.history_at(at, SEARCHED_FOR_KEPT, tell)?;
            if let Some(last) = held.iter().find(|entry| !entry.state.expired) {
                return Ok(Uncut { last_version: Some(names::id(&last.state)) });
            }
        }
        Ok(Uncut { last_version: None })
    }
}

fn take<T: Taker>(taker: &mut T, shown: Shown) -> Result<(), Interrupted<T::Error>> {
    taker.shown(shown).map_err(Interrupted::Taker)
}
