//! Reading a set from any thread.

use std::{
    fmt, io,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use keepshare_base::{
    CommitId, ContentHash, Epoch, FileId, Kind, Meta, Name, OriginId, Position, RequestId, Seq,
    SetPath, Stamp, VersionId,
};

use crate::{
    BodyChanges, CommitInfo, Entry, FileState, OriginState, PointInfo, ReadError, RestoreInfo,
    Touched,
    body::{BodyError, Frames, ReadPlan, plan_read},
    checked::CheckedDb,
    index::{
        IndexError, ReadRows, commits, commits::By, dump, files, names, ranges,
        values::log_position,
    },
    log::LogPosition,
    pack::{PackError, PackLoc, PackReader},
};

mod aside;
mod called;
mod fresh;
mod places;

pub use called::{NamesFound, NamesFrom, NamesFromError};

/// The most bytes that one read gives.
pub const READ_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the store and its readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Changed only when the index was built anew.
    database: RwLock<Arc<CheckedDb>>,
    pub(crate) packs: PackReader,
    damage: Mutex<Option<Damage>>,
}

/// Damage that readers met since the set was opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Damage {
    /// How many reads met it; a place that is read twice counts twice.
    pub reads: u64,
    /// The file that was read last.
    pub file: FileId,
}

impl Shared {
    pub(crate) fn new(database: Arc<CheckedDb>, packs: PackReader) -> Self {
        Self { database: RwLock::new(database), packs, damage: Mutex::new(None) }
    }

    pub(crate) fn database(&self) -> Arc<CheckedDb> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_damage(&self, file: FileId) {
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        let reads = damage.map_or(0, |damage| damage.reads) + 1;
        *damage = Some(Damage { reads, file });
    }

    pub(crate) fn set_database(&self, database: Arc<CheckedDb>) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = database;
    }
}

impl Frames for PackReader {
    fn read(&self, loc: PackLoc) -> Result<Vec<u8>, PackError> {
        Self::read(self, loc)
    }

    fn look(&self, loc: PackLoc, look: &mut dyn FnMut(&[u8])) -> Result<(), PackError> {
        Self::look(self, loc, look)
    }
}

/// Reads a set; every thread has its own copy.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns a view of what is durable now.
    pub fn view(&self) -> Result<View, ReadError> {
        let database = self.shared.database();
        let begin = |database: &redb::Database| {
            let rows = ReadRows::begin(database)?;
            let latest = log_position(&rows)?.map_or(CommitId(0), |position| position.commit);
            Ok::<_, IndexError>((rows, latest))
        };
        let (rows, latest) = database.contain(begin).map_err(IndexError::from)??;
        Ok(View { database, rows, latest })
    }

    /// Returns the bytes of that very state from `offset`: fewer than `len` only at the file's end and beyond
    /// [`READ_BYTES_MAX`].
    pub fn read(&self, state: &FileState, offset: u64, len: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![];
        self.read_into(state, offset, len, &mut bytes)?;
        Ok(bytes)
    }

    /// Appends to `out` what [`Self::read`] returns, and nothing where that fails.
    pub fn read_into(
        &self,
        state: &FileState,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let len = len.min(READ_BYTES_MAX) as u64;
        let end = state.meta.size.min(offset.saturating_add(len));
        if offset >= end {
            return Ok(());
        }
        if self.view()?.plan(state, offset, end)?.run_into(&self.shared.packs, out).is_ok() {
            return Ok(());
        }
        // The content may have moved to another pack since the plan was made.
        let again = self.view()?.plan(state, offset, end)?.run_into(&self.shared.packs, out);
        again.map_err(|error| {
            let error = pack_error(state.file, error);
            if matches!(error, ReadError::Damaged { .. }) {
                self.shared.note_damage(state.file);
            }
            error
        })
    }

    /// Returns what reads the packs.
    pub(crate) fn packs(&self) -> &PackReader {
        &self.shared.packs
    }

    /// Returns the damage that reads of this set met since it was opened; `None` where all that was read was right.
    pub fn damage(&self) -> Option<Damage> {
        *self.shared.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads as [`Self::read`] does, of a state that `view` knows, whatever has taken its place since.
    pub(crate) fn read_in(
        &self,
        view: &View,
        state: &FileState,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let end = state.meta.size.min(offset.saturating_add(len.min(READ_BYTES_MAX) as u64));
        if offset >= end {
            return Ok(vec![]);
        }
        // The content may have moved to another pack since the view was taken.
        let read = view.plan(state, offset, end)?.run(&self.shared.packs);
        read.or_else(|_| self.read(state, offset, len))
    }
}

impl View {
    fn plan(&self, state: &FileState, offset: u64, end: u64) -> Result<ReadPlan, ReadError> {
        let file = state.file;
        self.ask(|rows| {
            // Without its row, newer states may have taken the place of content that this one needs.
            let Some(value) = files::exactly(rows, file, state.commit)? else {
                return Ok(Err(ReadError::Gone { file }));
            };
            planned(file, plan_read(rows, &value.body, state.commit, offset..end))
        })?
    }
}

/// Tells what fails in the index from what a plan may say by itself.
fn planned(
    file: FileId,
    plan: Result<ReadPlan, BodyError>,
) -> Result<Result<ReadPlan, ReadError>, IndexError> {
    match plan {
        Ok(plan) => Ok(Ok(plan)),
        Err(BodyError::Index(error)) => Err(error),
        Err(BodyError::Pack(error)) => Ok(Err(pack_error(file, error))),
        Err(BodyError::Expired) => Ok(Err(ReadError::Expired { file })),
    }
}

fn pack_error(file: FileId, error: PackError) -> ReadError {
    match error {
        PackError::Io(ref io) if io.kind() != io::ErrorKind::NotFound => ReadError::Pack(error),
        PackError::Full(_) | PackError::Poisoned => ReadError::Pack(error),
        _ => ReadError::Damaged { file, source: error },
    }
}

/// One consistent moment of the index. Keep it short: while it lives, the index file cannot reuse space.
///
/// "Now" is [`View::latest`] or anything after it, [`CommitId::MAX`] too. Not every commit has a row of its own:
/// fences and housekeeping count as commits and change nothing that a view shows.
pub struct View {
    rows: ReadRows,
    latest: CommitId,
    // After the rows: a read must end before its database does.
    database: Arc<CheckedDb>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("latest", &self.latest).finish_non_exhaustive()
    }
}

impl View {
    /// Returns the newest commit of this view.
    pub fn latest(&self) -> CommitId {
        self.latest
    }

    /// Returns a commit's own row.
    pub fn commit_info(&self, commit: CommitId) -> Result<Option<CommitInfo>, ReadError> {
        self.ask(|rows| commits::commit_info(rows, commit))
    }

    /// Returns the last complete commit with a moment at or before `through`; zero where there is none.
    pub fn commit_at(&self, through: Stamp) -> Result<CommitId, ReadError> {
        self.commit_at_from(through, CommitId::MAX)
    }

    /// Returns what [`Self::commit_at`] did when `newest` was the newest commit, whatever arrived late since.
    pub fn commit_at_from(&self, through: Stamp, newest: CommitId) -> Result<CommitId, ReadError> {
        self.ask(|rows| commits::commit_at(rows, through, newest))
    }

    /// Returns how far the log was.
    pub(crate) fn log_position(&self) -> Result<Option<LogPosition>, ReadError> {
        self.ask(log_position)
    }

    /// Returns the newest commit that has a row of its own; zero where there is none.
    pub fn newest_commit(&self) -> Result<CommitId, ReadError> {
        let newest = self.ask(|rows| commits::newest_commit(rows, Bound::Unbounded))?;
        Ok(newest.map_or(CommitId(0), |(at, _)| at))
    }

    /// Returns the last commit with this position.
    pub fn commit_of(&self, position: Position) -> Result<Option<CommitId>, ReadError> {
        self.ask(|rows| commits::commit_of(rows, position))
    }

    /// Returns the last commit with this position or, where none is kept, with the next lower one; `None` where the
    /// origin has not come so far here.
    pub fn commit_through(&self, position: Position) -> Result<Option<CommitId>, ReadError> {
        self.ask(|rows| commits::commit_through(rows, position))
    }

    /// Returns what a name stood for at a commit.
    pub fn lookup(
        &self,
        parent: FileId,
        name: &Name,
        at: CommitId,
    ) -> Result<Option<(FileId, Kind)>, ReadError> {
        self.ask(|rows| names::lookup(rows, parent, name, at))
    }

    /// Returns what a path stood for at a commit.
    pub fn resolve(
        &self,
        path: &SetPath,
        at: CommitId,
    ) -> Result<Option<(FileId, Kind)>, ReadError> {
        self.ask(|rows| names::resolve(rows, path, at))
    }

    /// Returns entries of a folder at a commit, in order of the names' bytes, after `after`.
    pub fn list(
        &self,
        parent: FileId,
        at: CommitId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.ask(|rows| names::list(rows, parent, at, self.latest, after, limit))
    }

    /// Returns all names that a file had at a commit, in order.
    pub fn links(&self, file: FileId, at: CommitId) -> Result<Vec<(FileId, Name)>, ReadError> {
        self.ask(|rows| names::links(rows, file, at))
    }

    /// Returns the names that a file has today or, where it has none, those it had right before it lost the last one,
    /// and the last commit at which it had them: [`CommitId::MAX`] for today's.
    pub fn last_links(&self, file: FileId) -> Result<(CommitId, Vec<(FileId, Name)>), ReadError> {
        self.ask(|rows| names::last_links(rows, file))
    }

    /// Returns the first commit, from `at` on, at which a file had a name.
    pub fn first_linked(&self, file: FileId, at: CommitId) -> Result<Option<CommitId>, ReadError> {
        self.ask(|rows| names::first_linked(rows, file, at))
    }

    /// Returns how many names a file has today.
    pub fn link_count(&self, file: FileId) -> Result<u64, ReadError> {
        self.ask(|rows| names::count(rows, file))
    }

    /// Returns the commit since which a name stands for nothing; `None` where it stands for something, or never did.
    pub fn empty_since(&self, parent: FileId, name: &Name) -> Result<Option<CommitId>, ReadError> {
        let row = self.ask(|rows| names::dirent(rows, parent, name, CommitId::MAX))?;
        Ok(row.and_then(|(since, target)| target.is_none().then_some(since)))
    }

    /// Tells whether a file has a name or ever had one.
    pub fn had_name(&self, file: FileId) -> Result<bool, ReadError> {
        self.ask(|rows| names::had_name(rows, file))
    }

    /// Returns a path that a file had at a commit; `None` where it hung nowhere under the root.
    pub fn path_of(&self, file: FileId, at: CommitId) -> Result<Option<SetPath>, ReadError> {
        self.ask(|rows| names::path_of(rows, file, at))
    }

    /// Returns a file's state at a commit: the nearest older kept one where retention removed that very one.
    ///
    /// States that became no version go when a newer one comes: between two versions, the past shows the older one.
    pub fn file(&self, file: FileId, at: CommitId) -> Result<Option<FileState>, ReadError> {
        self.ask(|rows| files::file(rows, file, at))
    }

    /// Returns a file's own attributes at a commit, and the commit that brought them: of the very state it had then,
    /// though retention removed its content.
    pub fn meta(&self, file: FileId, at: CommitId) -> Result<Option<(CommitId, Meta)>, ReadError> {
        let newest = self.ask(|rows| files::newest(rows, file, at))?;
        Ok(newest.map(|(commit, value)| (commit, value.meta)))
    }

    /// Returns the versions of a file, newest first, expired ones included and marked.
    pub fn versions(&self, file: FileId) -> Result<Vec<FileState>, ReadError> {
        self.ask(|rows| files::versions(rows, file))
    }

    /// Returns the version of a file with an id, marked where it expired.
    pub fn version(&self, file: FileId, id: VersionId) -> Result<Option<FileState>, ReadError> {
        self.ask(|rows| files::version(rows, file, id))
    }

    /// Returns names of a folder that have a past and no present, in order, after `after`.
    pub fn deleted_names(
        &self,
        parent: FileId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<Name>, ReadError> {
        self.ask(|rows| names::deleted(rows, parent, after, limit))
    }

    /// Returns names that a folder has or ever had, in order, after `after`.
    pub fn names_ever(
        &self,
        parent: FileId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<Name>, ReadError> {
        self.ask(|rows| names::ever(rows, parent, after, limit))
    }

    /// Returns what a name stood for, newest first, each time it changed.
    pub fn held(
        &self,
        parent: FileId,
        name: &Name,
        limit: usize,
    ) -> Result<Vec<Option<(FileId, Kind)>>, ReadError> {
        self.ask(|rows| names::held(rows, parent, name, limit))
    }

    /// Returns how far an origin's changes have come; `None` where nothing is known of it.
    pub fn position(&self, origin: OriginId) -> Result<Option<OriginState>, ReadError> {
        self.ask(|rows| commits::place(rows, origin))
    }

    /// Returns the highest place of an origin that anything here has: a mirror must lead above it.
    pub fn highest(&self, origin: OriginId) -> Result<Option<(Epoch, Seq)>, ReadError> {
        self.ask(|rows| commits::highest(rows, origin))
    }

    /// Returns the answer to a request to restore, where it has come.
    pub fn restore(&self, request: RequestId) -> Result<Option<RestoreInfo>, ReadError> {
        self.ask(|rows| commits::restore(rows, request))
    }

    /// Returns the points after `after`, oldest first.
    pub fn points(&self, after: CommitId, limit: usize) -> Result<Vec<PointInfo>, ReadError> {
        self.ask(|rows| commits::points(rows, after, limit))
    }

    /// Returns the names and files that commits after `after` touched.
    pub fn touched(&self, after: CommitId) -> Result<Touched, ReadError> {
        self.ask(|rows| commits::touched(rows, after))
    }

    /// Returns the names and files that the next commits touched, through `last` or so far that they have `limit` rows, and
    /// the last of these commits.
    pub(crate) fn touched_step(
        &self,
        after: CommitId,
        last: CommitId,
        limit: usize,
    ) -> Result<(Touched, CommitId), ReadError> {
        self.ask(|rows| commits::touched_step(rows, after, last, limit, By::All))
    }

    /// Returns which bytes of a file's newest state may differ from what the file was at `after`.
    pub fn body_changes(
        &self,
        state: &FileState,
        after: CommitId,
    ) -> Result<BodyChanges, ReadError> {
        self.ask(|rows| ranges::body_changes(rows, state, after))
    }

    /// Returns where from `offset` on a file's state may have anything but zeros; `None` where it has nothing more.
    ///
    /// A file may be far longer than what it holds: who goes through one asks for what comes next.
    pub fn next_data(&self, state: &FileState, offset: u64) -> Result<Option<u64>, ReadError> {
        self.ask(|rows| ranges::next_data(rows, state, offset))
    }

    /// Returns present names of all folders in order of (folder, name), after `after`.
    pub fn names_after(
        &self,
        after: Option<(FileId, &Name)>,
        limit: usize,
    ) -> Result<Vec<(FileId, Entry)>, ReadError> {
        self.ask(|rows| names::all(rows, after, limit))
    }

    /// Returns names that any folder has or had, in order of (folder, name), after `after`.
    pub fn names_of_all(
        &self,
        after: Option<(FileId, &Name)>,
        limit: usize,
    ) -> Result<Vec<(FileId, Name)>, ReadError> {
        self.ask(|rows| names::ever_of_all(rows, after, limit))
    }

    /// Returns the newest states of the root and of all files that have a present name, in order, after `after`.
    pub fn files_after(
        &self,
        after: Option<FileId>,
        limit: usize,
    ) -> Result<Vec<FileState>, ReadError> {
        self.ask(|rows| files::all(rows, after, limit))
    }

    /// Returns all files that the set still has a state of, whether or not they have a name, in order, after `after`.
    pub fn ever_after(
        &self,
        after: Option<FileId>,
        limit: usize,
    ) -> Result<Vec<FileId>, ReadError> {
        self.ask(|rows| files::ever(rows, after, limit))
    }

    /// Returns a hash of every table that follows from the log alone. Two indexes of one log have the same.
    ///
    /// It reads the whole index.
    pub fn digests(&self) -> Result<Vec<(&'static str, ContentHash)>, ReadError> {
        self.ask(dump::digests)
    }

    pub(crate) fn ask<T>(
        &self,
        question: impl FnOnce(&ReadRows) -> Result<T, IndexError>,
    ) -> Result<T, ReadError> {
        Ok(self.ask_rows(question)??)
    }

    /// Asks the rows what may fail in its own way.
    pub(crate) fn ask_rows<T>(
        &self,
        question: impl FnOnce(&ReadRows) -> T,
    ) -> Result<T, ReadError> {
        Ok(self.database.contain(|_| question(&self.rows)).map_err(IndexError::from)?)
    }
}
