//! Answers about the past of a set: which file a typed path and time mean, its versions, and what it held.
//!
//! Everything is read through short views of the index, so that a client that reads slowly pins nothing.

use std::collections::HashMap;

use chrono_tz::Tz;

use keepshare_base::{
    CommitId, ContentHash, FileId, Kind, Meta, Name, SetName, SetPath, Stamp, VersionId,
};
use keepshare_control::{
    Code, Failure, Outcome, Reply,
    answers::{Entry, Uncut, VersionInfo},
};
use keepshare_host::clock;
use keepshare_replication::drivers::Wanted;
use keepshare_versioning::{
    FileState, HistoryEntry, NameAt, ReadError, Reader, View,
    when::{self, Moment, WHEN_HINT, When, WhenError},
};

mod missing;
mod then;

/// How much content is read and sent at once.
const READ_BYTES: usize = 512 * 1024;

/// How many entries of a folder are read at once.
const LIST_ENTRIES: usize = 512;

/// How many versions of a name are searched for an id.
const SEARCHED_MAX: usize = 100_000;

/// How many versions of a name are searched for one whose content is kept.
const SEARCHED_FOR_KEPT: usize = 16;

/// The past of one set.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    set: SetName,
    reader: Reader,
    zone: Tz,
}

/// What a path and a time mean.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The file's state then.
    pub(crate) state: FileState,
    /// Then: what is below a folder is looked up at this commit.
    pub(crate) commit: CommitId,
    /// What it is called; `None` for the whole set.
    pub(crate) name: Option<Name>,
}

/// What a name of a folder held at some moment.
enum Held {
    /// This.
    State(FileState),
    /// A file that had no version yet; what it became, where it is still there.
    Unfinished(Option<FileState>),
}

impl Catalog {
    /// Returns the catalog of the set behind `reader`.
    pub(crate) fn new(set: SetName, reader: Reader, zone: Tz) -> Self {
        Self { set, reader, zone }
    }

    /// Returns the versions of what is or was at `path`, newest first; after those of a folder, the last one of each
    /// name that it held and holds no more.
    pub(crate) fn versions(&self, path: &SetPath, limit: usize) -> Outcome<Vec<VersionInfo>> {
        let view = self.view()?;
        let (mut versions, folder) = match path.split_last() {
            Some((folder, _)) => self.versions_of_name(&view, path, &folder, limit)?,
            None => {
                let states = view.versions(FileId::ROOT).map_err(read_failure)?;
                let versions = states.iter().take(limit).map(|state| root_version(state, &view));
                (versions.collect(), Some(FileId::ROOT))
            }
        };
        let folders = view.folders_at(path).map_err(read_failure)?;
        let mut after: Option<Name> = None;
        while let Some(folder) = folder
            && versions.len() < limit
        {
            let page = view.names_in(&folders, after.as_ref(), LIST_ENTRIES);
            let page = page.map_err(read_failure)?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            for name in &page {
                if versions.len() < limit && view.is_gone(folder, name).map_err(read_failure)? {
                    let at = NameAt { folders: &folders, path: &path.join(name.clone()) };
                    let newest = view.history_at(at, 1, |_| Ok(true)).map_err(read_failure)?;
                    versions.extend(newest.iter().map(|entry| version_info(entry, path)));
                }
            }
        }
        versions.truncate(limit);
        Ok(versions)
    }

    /// Returns the versions of a name, and the folder it stands for or stood for last, if it was one.
    fn versions_of_name(
        &self,
        view: &View,
        path: &SetPath,
        folder: &SetPath,
        limit: usize,
    ) -> Outcome<(Vec<VersionInfo>, Option<FileId>)> {
        let history = self.history(view, path, folder, limit).map_err(read_failure)?;
        let newest = history.first().ok_or_else(|| self.no_history(view, path))?;
        let is_folder = newest.state.meta.kind == Kind::Dir;
        let mut paths = HashMap::new();
        let mut infos = Vec::with_capacity(history.len());
        for entry in &history {
            let at = if entry.current { view.latest() } else { entry.since };
            let shown = paths
                .entry((entry.parent, at))
                .or_insert_with(|| folder_path(view, entry.parent, at));
            infos.push(version_info(entry, shown));
        }
        Ok((infos, is_folder.then_some(newest.state.file)))
    }

    /// Returns what a path held, newest first, in all folders that are or were there.
    fn history(
        &self,
        view: &View,
        path: &SetPath,
        folder: &SetPath,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, ReadError> {
        let folders = view.folders_at(folder)?;
        view.history_at(NameAt { folders: &folders, path }, limit, |_| Ok(true))
    }

    /// Returns what `path` was at the time that was typed.
    pub(crate) fn find(&self, path: &SetPath, typed: &str) -> Outcome<Found> {
        let when: When = typed
            .parse()
            .or_else(|error| format!("@{typed}").parse().map_err(|_| error))
            .map_err(|error: WhenError| Failure::because(Code::Usage, error).hint(WHEN_HINT))?;
        let view = self.view()?;
        let now = clock::now();
        let found = match when.resolve(self.zone, now) {
            Moment::Latest => self.at_commit(&view, path, view.latest())?,
            Moment::At(stamp) => self.at_stamp(&view, path, stamp, now)?,
            Moment::Version(id, file) => self.at_version(&view, path, id, file)?,
        };
        match found {
            Some(found) => Ok(found),
            None => Err(self.not_there_then(&view, path, typed)?),
        }
    }

    /// Says when the history begins that was asked for what was before it.
    fn before_history(&self, view: &View, path: &SetPath) -> Outcome<Failure> {
        let set = &self.set;
        let Some(begin) =
            first_stamp(|stamp| Ok(view.commit_at(stamp)? != CommitId(0))).map_err(read_failure)?
        else {
            return Ok(Failure::not_found(format!("set {set} has no whole state yet"))
                .hint("its first mirror is on its way: keepshare status shows how far"));
        };
        let begin = when::typed(begin, self.zone);
        Ok(Failure::not_found(format!("the history of set {set} begins at {begin}"))
            .hint(format!("'{set}:{path}@{begin}' is the oldest that can be asked for")))
    }

    fn at_version(
        &self,
        view: &View,
        path: &SetPath,
        id: VersionId,
        file: Option<FileId>,
    ) -> Outcome<Option<Found>> {
        let is_meant = |state: &FileState| {
            VersionId(state.position) == id && file.is_none_or(|file| file == state.file)
        };
        if let Some((folder, name)) = path.split_last() {
            let mut held = self.history(view, path, &folder, SEARCHED_MAX).map_err(read_failure)?;
            held.retain(|entry| is_meant(&entry.state));
            let newest = held.first().map(|entry| entry.state.file);
            if let Some(other) = held.iter().find(|entry| Some(entry.state.file) != newest) {
                return Err(self.several(path, [&held[0], other]));
            }
            if let Some(entry) = held.pop() {
                let commit = entry.state.commit;
                return Ok(Some(Found { state: entry.state, commit, name: Some(name.clone()) }));
            }
        }
        // A folder is asked for by the versions of what is in it, too.
        let commit = view.commit_with(id, file).map_err(read_failure)?;
        let Some(commit) = commit else { return Ok(None) };
        let found = self.at_commit(view, path, commit)?;
        Ok(found.filter(|found| found.state.meta.kind == Kind::Dir || is_meant(&found.state)))
    }

    /// Says that an id without its file means several versions of a name.
    fn several(&self, path: &SetPath, some: [&HistoryEntry; 2]) -> Failure {
        let [one, other] = some.map(|entry| Moment::Version(entry.version, Some(entry.state.file)));
        Failure::new(Code::Usage, format!("{}:{path} held several files with this id", self.set))
            .hint(format!("write which one is meant: {one} or {other}"))
    }

    fn at_commit(&self, view: &View, path: &SetPath, commit: CommitId) -> Outcome<Option<Found>> {
        let Some((file, _)) = view.resolve(path, commit).map_err(read_failure)? else {
            return Ok(None);
        };
        let state = view.file(file, commit).map_err(read_failure)?;
        let name = path.names().last().cloned();
        Ok(state.map(|state| Found { state, commit, name }))
    }

    /// Writes what was found: a file with its content, a folder with what is right in it.
    pub(crate) fn show(&self, found: &Found, reply: &mut Reply) -> Outcome<()> {
        let path: Vec<Name> = found.name.iter().cloned().collect();
        if found.state.meta.kind != Kind::Dir {
            reply.item(&self.entry(path, &found.state)?)?;
            return self.send_content(&found.state, reply);
        }
        reply.item(&self.entry(path.clone(), &found.state)?)?;
        let mut after = None;
        loop {
            let page = self.list(found.state.file, found.commit, after.as_ref())?;
            for (name, held) in &page {
                let path = path.iter().cloned().chain([name.clone()]).collect();
                reply.item(&self.held_entry(path, held)?)?;
            }
            match page.into_iter().next_back() {
                Some((name, _)) => after = Some(name),
                None => return Ok(()),
            }
        }
    }

    /// Writes what was found with everything below it, parents first.
    pub(crate) fn export(&self, found: &Found, reply: &mut Reply) -> Outcome<()> {
        let mut linked = HashMap::new();
        let mut path: Vec<Name> = found.name.iter().cloned().collect();
        self.export_one(&found.state, found.commit, &path, &mut linked, reply)?;
        let mut open: Vec<(FileId, Option<Name>)> = Vec::new();
        if found.state.meta.kind == Kind::Dir {
            open.push((found.state.file, None));
        }
        // What is open is one page of each folder on the way down.
        let mut pages: Vec<std::vec::IntoIter<(Name, Held)>> = vec![Vec::new().into_iter()];
        while let (Some((folder, after)), Some(page)) = (open.last_mut(), pages.last_mut()) {
            let Some((name, held)) = page.next() else {
                let next = self.list(*folder, found.commit, after.as_ref())?;
                match next.last() {
                    Some((last, _)) => {
                        *after = Some(last.clone());
                        *page = next.into_iter();
                    }
                    None => {
                        open.pop();
                        pages.pop();
                        path.pop();
                    }
                }
                continue;
            };
            path.push(name);
            let Held::State(state) = held else {
                reply.item(&self.held_entry(path.clone(), &held)?)?;
                path.pop();
                continue;
            };
            self.export_one(&state, found.commit, &path, &mut linked, reply)?;
            if state.meta.kind == Kind::Dir {
                open.push((state.file, None));
                pages.push(Vec::new().into_iter());
            } else {
                path.pop();
            }
        }
        Ok(())
    }

    fn export_one(
        &self,
        state: &FileState,
        commit: CommitId,
        path: &[Name],
        linked: &mut HashMap<FileId, Vec<Name>>,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let mut entry = self.entry(path.to_vec(), state)?;
        if state.meta.kind != Kind::File {
            return reply.item(&entry);
        }
        if let Some(other) = linked.get(&state.file) {
            entry.same_as = Some(other.clone());
            return reply.item(&entry);
        }
        if self.view()?.links(state.file, commit).map_err(read_failure)?.len() > 1 {
            linked.insert(state.file, path.to_vec());
        }
        // A first look, so that what cannot be read is said before anything of it is written.
        if let Err(error) = self.reader.read(state, 0, READ_BYTES) {
            entry.damaged = Some(error.to_string());
            return reply.item(&entry);
        }
        reply.item(&entry)?;
        match self.send_content(state, reply) {
            // The receiver sees that content is missing, and goes on with the next file.
            Err(failure) if failure.code == Code::Failed && failure.hint.is_some() => Ok(()),
            sent => sent,
        }
    }

    fn held_entry(&self, path: Vec<Name>, held: &Held) -> Outcome<Entry> {
        match held {
            Held::State(state) => self.entry(path, state),
            Held::Unfinished(later) => {
                let meta = later.as_ref().map_or_else(Meta::unknown, |later| later.meta.clone());
                let reason = Some("it was being written then, and had no version yet".to_owned());
                Ok(Entry { path, meta, same_as: None, damaged: reason, uncut: None })
            }
        }
    }

    fn entry(&self, path: Vec<Name>, state: &FileState) -> Outcome<Entry> {
        let uncut = (state.meta.kind == Kind::File && !state.cut).then(|| self.uncut(state));
        let (uncut, meta) = (uncut.transpose()?, state.meta.clone());
        Ok(Entry { path, meta, same_as: None, damaged: None, uncut })
    }

    /// Returns what there is instead of a state that is no version.
    fn uncut(&self, state: &FileState) -> Outcome<Uncut> {
        let view = self.view()?;
        let (_, links) = view.last_links(state.file).map_err(read_failure)?;
        let Some((folder, name)) = links.first() else { return Ok(Uncut { last_version: None }) };
        let held = view.history(*folder, name, SEARCHED_FOR_KEPT).map_err(read_failure)?;
        let last = held.iter().find(|entry| !entry.state.expired);
        let id = |entry: &HistoryEntry| Moment::Version(entry.version, Some(entry.state.file));
        Ok(Uncut { last_version: last.map(|entry| id(entry).to_string()) })
    }

    fn send_content(&self, state: &FileState, reply: &mut Reply) -> Outcome<()> {
        if state.meta.kind != Kind::File {
            return Ok(());
        }
        let mut offset = 0;
        while offset < state.meta.size {
            let bytes = self.reader.read(state, offset, READ_BYTES).map_err(read_failure)?;
            if bytes.is_empty() {
                break;
            }
            offset += bytes.len() as u64;
            reply.data(&bytes)?;
        }
        Ok(())
    }

    /// Returns a page of a folder with the state of everything in it.
    fn list(
        &self,
        folder: FileId,
        commit: CommitId,
        after: Option<&Name>,
    ) -> Outcome<Vec<(Name, Held)>> {
        let view = self.view()?;
        let entries = view.list(folder, commit, after, LIST_ENTRIES).map_err(read_failure)?;
        let mut page = Vec::with_capacity(entries.len());
        for entry in entries {
            let held = match view.file(entry.file, commit).map_err(read_failure)? {
                Some(state) => Held::State(state),
                None => {
                    Held::Unfinished(view.file(entry.file, view.latest()).map_err(read_failure)?)
                }
            };
            page.push((entry.name, held));
        }
        Ok(page)
    }

    /// Returns the hash of a state's content, reading all of it where the origin gave none, as long as that is wanted: a
    /// file of a few bytes may be terabytes long.
    pub(crate) fn content_hash(&self, state: &FileState, wanted: &Wanted) -> Outcome<ContentHash> {
        if let Some(hash) = state.hash {
            return Ok(hash);
        }
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        while offset < state.meta.size {
            if !wanted.is_wanted() {
                return Err(Failure::refused("nobody wants it any more"));
            }
            let bytes = self.reader.read(state, offset, READ_BYTES).map_err(read_failure)?;
            if bytes.is_empty() {
                break;
            }
            offset += bytes.len() as u64;
            hasher.update(&bytes);
        }
        Ok(ContentHash(*hasher.finalize().as_bytes()))
    }

    /// Returns a present view.
    pub(crate) fn view(&self) -> Outcome<View> {
        self.reader.view().map_err(read_failure)
    }

    /// Returns the reader.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Returns the set.
    pub(crate) fn set(&self) -> &SetName {
        &self.set
    }
}

/// Returns the first stamp for which this is so, given that it stays so for all later ones.
fn first_stamp<E>(mut is_so: impl FnMut(Stamp) -> Result<bool, E>) -> Result<Option<Stamp>, E> {
    if !is_so(Stamp::MAX)? {
        return Ok(None);
    }
    if is_so(Stamp(0))? {
        return Ok(Some(Stamp(0)));
    }
    let (mut before, mut so) = (Stamp(0), Stamp::MAX);
    while so.0 - before.0 > 1 {
        let middle = Stamp(before.0 + (so.0 - before.0) / 2);
        if is_so(middle)? {
            so = middle;
        } else {
            before = middle;
        }
    }
    Ok(Some(so))
}

/// Says why something could not be read.
pub(crate) fn read_failure(error: ReadError) -> Failure {
    let hint = match &error {
        ReadError::Damaged { .. } => {
            "keepshare fsck lists all damage; another station may have this version"
        }
        ReadError::Expired { .. } => {
            "an older or newer version may still be there: keepshare versions"
        }
        ReadError::Gone { .. } => "only versions are kept for ever: keepshare versions lists them",
        _ => "keepshare fsck checks the set",
    };
    Failure::because(Code::Failed, error).hint(hint)
}

fn folder_path(view: &View, folder: FileId, at: CommitId) -> SetPath {
    let path = view.path_of(folder, at).ok().flatten();
    path.or_else(|| view.path_of(folder, view.latest()).ok().flatten()).unwrap_or_default()
}

fn version_info(entry: &HistoryEntry, folder: &SetPath) -> VersionInfo {
    let (until, ended) = match entry.held_until {
        Some((until, ended)) => (Some(until.to_string()), Some(ended.word().to_owned())),
        None => (None, None),
    };
    let name = folder.join(entry.name.clone()).to_string();
    VersionInfo { until, ended, current: entry.current, ..state_info(&entry.state, name) }
}

fn root_version(state: &FileState, view: &View) -> VersionInfo {
    let current = view.file(FileId::ROOT, view.latest()).ok().flatten();
    let current = current.is_some_and(|now| now.commit == state.commit);
    VersionInfo { current, ..state_info(state, String::new()) }
}

fn state_info(state: &FileState, name: String) -> VersionInfo {
    let Meta { kind, size, mode, owner, group, mtime, .. } = &state.meta;
    let is_own = state.version().is_some_and(|id| id.station_commit().is_some());
    VersionInfo {
        version: Moment::Version(VersionId(state.position), Some(state.file)).to_string(),
        time: state.stamp.to_string(),
        arrived: state.arrival.to_string(),
        size: *size,
        user: state.user.clone(),
        event: state.event.word().to_owned(),
        cut_by: if is_own { "station" } else { "master" }.to_owned(),
        name,
        current: false,
        kind: keepshare_control::answers::kind_word(*kind).to_owned(),
        mode: format!("{mode:04o}"),
        owner: owner.to_string(),
        group: group.to_string(),
        owner_id: owner.id,
        group_id: group.id,
        mtime: mtime.to_stamp().to_string(),
        hash: state.hash.map(|hash| hash.to_string()),
        until: None,
        ended: None,
        fuzzy: state.fuzzy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stamp_is_found_wherever_it_is() {
        for first in [0, 1, 1_795_185_127_000_000, i64::MAX] {
            let found = first_stamp(|stamp| Ok::<_, ()>(stamp >= Stamp(first)));
            assert_eq!(found, Ok(Some(Stamp(first))));
        }
        assert_eq!(first_stamp(|_| Ok::<_, ()>(false)), Ok(None));
    }
}
