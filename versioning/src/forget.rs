//! Finding rows that nothing kept needs any more.
//!
//! Of versions of a file that were let go of and stand next to each other, the first and the last stay: between them is what
//! was removed, and what is asked for there is answered as before, with the first. A commit goes when no row is left that came
//! with it, or cut anything by it, and what stands around it is the same origin's: then nothing lies between it and the one before.
//!
//! Only what cannot come back is looked at, and no row that is asked for by more than its own file: docs/decisions/0036.

use std::collections::{HashMap, HashSet};

use keepshare_base::{CommitId, FileId, Kind, Meta, Position, RestoreRow, Stamp};

use crate::{
    index::{IndexError, Rows, Table, commits, files, keys, names, values::decode},
    record::{Body, CommitValue, FileValue, Mark, Row},
};

/// The commits of which one look knows whether they are needed: 8 MiB of memory. A set with more is looked at in several parts.
const COMMITS_MAX: u64 = 1 << 26;

/// The most times that a file or folder got or lost a name: with more, it is taken as one that always moves.
const MOVES_MAX: usize = 64;

/// The most folders above a file that are looked at for moves.
const ABOVE_MAX: usize = 256;

/// The most files and folders whose moves are remembered.
const REMEMBERED_MAX: usize = 4096;

/// The tables whose rows need commits, in the order in which they are looked through, and the commits themselves.
const TABLES: [Table; 5] =
    [Table::File, Table::Dirent, Table::Point, Table::Restore, Table::Commit];

/// A look through everything, some rows at a time.
#[derive(Debug)]
pub(crate) struct Forget {
    /// The newest commit when it began: what came later needs nothing older that nothing else needs.
    through: CommitId,
    needed: Needed,
    table: usize,
    from: Vec<u8>,
    files: Files,
    commits: Commits,
    counts: Counts,
}

/// What was seen, and what of that went.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) seen: u64,
    pub(crate) gone: u64,
}

/// What one step looks at, and what is too young to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// So many rows at most.
    pub(crate) rows: usize,
    /// Commits that came at this running time or later stay, in microseconds.
    pub(crate) before_micros: u64,
}

impl Forget {
    /// Begins with the commits after `after`, of which as many are looked at as memory allows.
    pub(crate) fn begin(after: CommitId, through: CommitId) -> Self {
        Self {
            through,
            needed: Needed::new(after.0.saturating_add(1)),
            table: 0,
            from: vec![],
            files: Files::default(),
            commits: Commits::default(),
            counts: Counts::default(),
        }
    }

    /// Returns what was seen until now.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns after which commit the next look goes on: zero where this one goes to the end.
    pub(crate) fn next_after(&self) -> CommitId {
        let last = self.needed.last();
        if last >= self.through.0 { CommitId(0) } else { CommitId(last) }
    }

    /// Looks at the next rows; returns those that go, and whether that was all. They must be gone before the next step.
    pub(crate) fn step(
        &mut self,
        rows: &impl Rows,
        step: Step,
    ) -> Result<(Vec<Row>, bool), IndexError> {
        let mut gone = Vec::new();
        let Some(table) = TABLES.get(self.table).copied() else { return Ok((gone, true)) };
        if table == Table::Commit && self.from.is_empty() {
            self.from = keys::commit(CommitId(self.needed.first)).to_vec();
        }
        let mut looked_at = 0;
        for row in rows.under(table, &[], &self.from)? {
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            if looked_at == step.rows {
                self.from = key.to_vec();
                self.count(looked_at, &gone);
                return Ok((gone, false));
            }
            looked_at += 1;
            match table {
                Table::File => {
                    let file = keys::file_of(table, key)?;
                    let (at, value) = files::read_file(key, value)?;
                    let state = (file, at, value);
                    self.files.next(rows, (self.through, &mut self.needed), state, &mut gone)?;
                }
                Table::Dirent => self.needed.note(keys::newest_of(table, key)?),
                Table::Point => self.needed.note(keys::oldest_of(table, key)?),
                Table::Restore => {
                    let (_, _, at): (RestoreRow, Position, CommitId) = decode(table, value)?;
                    self.needed.note(at);
                }
                _ => {
                    let at = keys::oldest_of(table, key)?;
                    let value: CommitValue = decode(table, value)?;
                    let may = at <= self.through
                        && at.0 <= self.needed.last()
                        && value.running_micros < step.before_micros
                        && !self.needed.is(at);
                    self.commits.next((at, value), may, &mut gone);
                    if at.0 > self.needed.last() {
                        break;
                    }
                }
            }
        }
        if table == Table::File {
            self.files.end(&mut self.needed);
        }
        self.count(looked_at, &gone);
        (self.table, self.from) = (self.table + 1, vec![]);
        Ok((gone, self.table == TABLES.len()))
    }

    fn count(&mut self, seen: usize, gone: &[Row]) {
        self.counts.seen += seen as u64;
        self.counts.gone += gone.len() as u64;
    }
}

/// Which commits are needed, of some that follow each other.
struct Needed {
    first: u64,
    bits: Vec<u64>,
}

impl std::fmt::Debug for Needed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Needed").field("first", &self.first).finish_non_exhaustive()
    }
}

impl Needed {
    fn new(first: u64) -> Self {
        Self { first, bits: vec![] }
    }

    /// Returns the last commit that it is about.
    fn last(&self) -> u64 {
        self.first.saturating_add(COMMITS_MAX - 1)
    }

    fn place(&self, at: CommitId) -> Option<(usize, u64)> {
        let place = at.0.checked_sub(self.first).filter(|place| *place < COMMITS_MAX)?;
        Some((usize::try_from(place / 64).ok()?, 1 << (place % 64)))
    }

    fn note(&mut self, at: CommitId) {
        let Some((word, bit)) = self.place(at) else { return };
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= bit;
    }

    /// Tells whether a commit is needed; of one that it is not about, nothing is known.
    fn is(&self, at: CommitId) -> bool {
        self.place(at)
            .is_none_or(|(word, bit)| self.bits.get(word).is_some_and(|bits| bits & bit != 0))
    }

    /// Notes what a state that stays needs.
    fn note_state(&mut self, at: CommitId, value: &FileValue) {
        self.note(at);
        value.cut.into_iter().for_each(|cut| self.note(cut));
        if let Mark::Open(since) = value.mark {
            self.note(since);
        }
    }
}

/// A version that was let go of, and what it must share with those next to it for them to go.
#[derive(Clone, Debug)]
struct Worn {
    file: FileId,
    at: CommitId,
    value: FileValue,
    position: Position,
    stamp: Stamp,
}

impl Worn {
    /// Reads a state, where it is a version of a file that was let go of, and is called by the change that cut it.
    fn read(
        rows: &impl Rows,
        (file, at, value): (FileId, CommitId, &FileValue),
    ) -> Result<Option<Self>, IndexError> {
        let is_file = value.meta.kind == Kind::File && file != FileId::ROOT;
        let (Body::Expired, Mark::Change, Some(cut), true) =
            (&value.body, &value.mark, value.cut, is_file)
        else {
            return Ok(None);
        };
        let cut = commits::commit(rows, cut)?.ok_or_else(|| Table::Commit.broken())?;
        let (position, stamp) = (cut.position, cut.stamp);
        Ok(Some(Self { file, at, value: value.clone(), position, stamp }))
    }

    /// Tells whether what is asked for at a version's time may be answered with an older one: whoever may see the one may see the other.
    fn has_rights_of(&self, other: &Self) -> bool {
        fn rights(meta: &Meta) -> impl Eq + '_ {
            (meta.mode, &meta.owner, &meta.group, &meta.xattrs)
        }
        rights(&self.value.meta) == rights(&other.value.meta)
    }

    /// Tells whether it was made right after another one, by the word of the same origin and by its clock.
    fn follows(&self, other: &Self) -> bool {
        self.file == other.file
            && self.position.origin == other.position.origin
            && self.position > other.position
            && self.stamp >= other.stamp
    }
}

/// The states of files, each from the newest to the oldest.
#[derive(Debug, Default)]
struct Files {
    /// The newest of the versions next to each other that stay.
    last: Option<Worn>,
    /// One before it that goes where the one before that is such a version, too.
    between: Option<Worn>,
    moves: Moves,
}

impl Files {
    fn next(
        &mut self,
        rows: &impl Rows,
        (through, needed): (CommitId, &mut Needed),
        (file, at, value): (FileId, CommitId, FileValue),
        gone: &mut Vec<Row>,
    ) -> Result<(), IndexError> {
        // What moved since it began is not among the moves that are remembered.
        let worn = match at <= through {
            true => Worn::read(rows, (file, at, &value))?,
            false => None,
        };
        if let Some(between) = self.between.take() {
            if let (Some(first), Some(last)) = (&worn, &self.last)
                && self.moves.let_go(rows, (first, &between, last))?
            {
                gone.push(Row::FileGone { at: between.at, file });
                self.between = worn;
                return Ok(());
            }
            needed.note_state(between.at, &between.value);
            self.last = Some(between);
        }
        let is_next = |worn: &Worn| self.last.as_ref().is_some_and(|last| last.file == worn.file);
        if worn.as_ref().is_some_and(is_next) {
            self.between = worn;
        } else {
            needed.note_state(at, &value);
            self.last = worn;
        }
        Ok(())
    }

    fn end(&mut self, needed: &mut Needed) {
        if let Some(between) = self.between.take() {
            needed.note_state(between.at, &between.value);
        }
        *self = Self::default();
    }
}

/// When files and folders got or lost names.
#[derive(Debug, Default)]
struct Moves(HashMap<FileId, Vec<(FileId, CommitId)>>);

impl Moves {
    /// Tells whether of three versions next to each other the one between may go.
    fn let_go(
        &mut self,
        rows: &impl Rows,
        (first, between, last): (&Worn, &Worn, &Worn),
    ) -> Result<bool, IndexError> {
        let is_between = between.follows(first) && last.follows(between);
        Ok(is_between
            && between.has_rights_of(first)
            && !self.moved(rows, first.file, (first.at, last.at))?)
    }

    /// Tells whether a file, or a folder that it is or ever was in, moved after one commit and through another: then some history
    /// has not all of what lies between.
    fn moved(
        &mut self,
        rows: &impl Rows,
        file: FileId,
        (after, through): (CommitId, CommitId),
    ) -> Result<bool, IndexError> {
        let (mut seen, mut next) = (HashSet::from([file]), vec![file]);
        while let Some(file) = next.pop() {
            if self.0.len() >= REMEMBERED_MAX {
                self.0.clear();
            }
            let moves = match self.0.entry(file) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(new) => {
                    new.insert(names::moves(rows, file, MOVES_MAX)?)
                }
            };
            let is_within = |at: CommitId| at > after && at <= through;
            if moves.len() >= MOVES_MAX || moves.iter().any(|(_, at)| is_within(*at)) {
                return Ok(true);
            }
            for (above, _) in moves.iter() {
                if *above != FileId::ROOT && seen.insert(*above) {
                    next.push(*above);
                }
            }
            if seen.len() > ABOVE_MAX {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The commits, from the oldest to the newest.
#[derive(Debug, Default)]
struct Commits {
    /// The last one that stays.
    before: Option<(CommitId, CommitValue)>,
    /// The one after it, which goes where the next one lets it.
    between: Option<(CommitId, CommitValue)>,
}

impl Commits {
    fn next(&mut self, next: (CommitId, CommitValue), may: bool, gone: &mut Vec<Row>) {
        if let Some(between) = self.between.take() {
            let chain = |before: &(CommitId, CommitValue)| {
                commits::comes_next(&before.1, &between.1)
                    && commits::comes_next(&between.1, &next.1)
            };
            if self.before.as_ref().is_some_and(chain) {
                gone.push(Row::CommitGone { at: between.0 });
            } else {
                self.before = Some(between);
            }
        }
        if may {
            self.between = Some(next);
        } else {
            self.before = Some(next);
        }
    }
}

#[cfg(test)]
mod tests;
