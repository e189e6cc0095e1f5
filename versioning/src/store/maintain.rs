//! Housekeeping in bounded steps: writing the log anew, dropping content that nothing needs, emptying packs.

use std::collections::{BTreeSet, HashMap};

use keepshare_base::CommitId;

use crate::{
    StoreError,
    body::{FramesMut as _, Sweep},
    error::CommitError,
    index::{
        IndexError, ReadRows, Rows, Table, WriteRows,
        apply::{meta, meta_number, pack_used, set_meta_number},
        dump::Dump,
        keys,
    },
    log::LogRewriter,
    pack::{PackLoc, PackReader},
    record::{Body, FileValue, Row, encode},
};

use super::{Frames, Store};

/// The rows of one part of a log snapshot, in bytes.
const PART_BYTES: usize = 256 * 1024;

/// The parts of a log snapshot that one step writes.
const PARTS_PER_STEP: usize = 4;

/// The records that one step takes over into the next log, in bytes.
const CATCH_UP_BYTES: u64 = 4 * 1024 * 1024;

/// The blocks of a body that one step looks through.
const BLOCKS_PER_STEP: usize = 512;

/// The rows that one step looks at for content to move out of packs.
const MOVE_ROWS_PER_STEP: usize = 4096;

/// The content that one step moves, in bytes.
const MOVE_BYTES_PER_STEP: usize = 4 * 1024 * 1024;

/// The rows about what a commit touched that one flush forgets.
const FORGET_ROWS_MAX: usize = 50_000;

/// The calls of [`Store::maintain`] with nothing to do between two looks at the packs.
const CALLS_PER_PACK_CHECK: u32 = 256;

/// What goes on over several calls.
#[derive(Debug, Default)]
pub(super) struct Housekeeping {
    snapshot: Option<Snapshot>,
    sweep: Option<Sweep>,
    moving: Option<Moving>,
    /// Packs that could not be emptied, since some of their content is damaged.
    stuck: BTreeSet<u64>,
    idle_calls: u32,
}

/// The log on its way to the next generation.
struct Snapshot {
    rewriter: LogRewriter,
    /// The state of the moment that the snapshot is of; dropped once it is written.
    rows: Option<(ReadRows, Dump)>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("rewriter", &self.rewriter).finish_non_exhaustive()
    }
}

/// Live content on its way out of packs that are mostly dead.
#[derive(Debug)]
struct Moving {
    packs: BTreeSet<u64>,
    table: usize,
    from: Vec<u8>,
}

/// The tables that name places in packs.
const LOCATED: [Table; 3] = [Table::File, Table::Base, Table::Page];

impl Store {
    /// Does one bounded step of housekeeping, and a sync; returns whether there is more to do.
    pub fn maintain(&mut self) -> Result<bool, StoreError> {
        self.sync()?;
        if self.housekeeping.snapshot.is_some() || self.log_has_doubled() {
            return self.snapshot_step().map(|()| true);
        }
        if self.sweep_step()? {
            return Ok(true);
        }
        if self.housekeeping.moving.is_some() {
            return self.move_step().map(|()| true);
        }
        self.housekeeping.idle_calls += 1;
        if self.housekeeping.idle_calls.is_multiple_of(CALLS_PER_PACK_CHECK) {
            return self.empty_packs();
        }
        Ok(false)
    }

    /// Looks at all packs: removes those that nothing needs, and begins to move content out of the half-dead ones.
    ///
    /// [`Self::maintain`] does this from time to time. Returns whether there is content to move.
    pub fn empty_packs(&mut self) -> Result<bool, StoreError> {
        // Frames of a pending change are in no row yet; after a sync there are none.
        self.sync()?;
        let current = self.packs.current();
        let mut mostly_dead = BTreeSet::new();
        for (pack, bytes) in self.shared.packs.packs()? {
            if pack >= current || self.housekeeping.stuck.contains(&pack) {
                continue;
            }
            match self.asked(|rows| pack_used(rows, pack))? {
                0 => self.shared.packs.remove(pack)?,
                used if used < bytes / 2 => {
                    mostly_dead.insert(pack);
                }
                _ => {}
            }
        }
        if mostly_dead.is_empty() {
            return Ok(false);
        }
        self.housekeeping.moving = Some(Moving { packs: mostly_dead, table: 0, from: vec![] });
        Ok(true)
    }

    fn log_has_doubled(&self) -> bool {
        let min = self.options.log_bytes_min.max(self.log.snapshot_bytes().saturating_mul(2));
        self.log.position().offset > min
    }

    fn snapshot_step(&mut self) -> Result<(), StoreError> {
        let mut snapshot = match self.housekeeping.snapshot.take() {
            Some(snapshot) => snapshot,
            None => self.begin_snapshot()?,
        };
        let parts = snapshot.rows.as_mut().map(|(rows, dump)| {
            let mut part = || dump.next(rows, PART_BYTES);
            self.database.contain(|_| (0..PARTS_PER_STEP).map(|_| part()).collect())
        });
        if let Some(parts) = parts {
            let Ok(Ok::<Vec<_>, IndexError>(parts)) = parts else {
                return self.build_anew();
            };
            let done = parts.last().is_none_or(Vec::is_empty);
            for part in parts.iter().filter(|part| !part.is_empty()) {
                snapshot.rewriter.append(&encode(part))?;
            }
            if done {
                snapshot.rows = None;
            }
        } else if snapshot.rewriter.catch_up(&self.log, CATCH_UP_BYTES)? {
            let switched = self.log.switch(snapshot.rewriter).map_err(StoreError::from);
            return self.poison_on_failure(switched);
        }
        self.housekeeping.snapshot = Some(snapshot);
        Ok(())
    }

    fn begin_snapshot(&mut self) -> Result<Snapshot, StoreError> {
        let rewriter = self.log.rewrite()?;
        let rows = self.database.contain(ReadRows::begin).map_err(IndexError::from)??;
        Ok(Snapshot { rewriter, rows: Some((rows, Dump::default())) })
    }

    /// Looks through some of a body for what nothing needs; tells whether there was one.
    fn sweep_step(&mut self) -> Result<bool, StoreError> {
        let mut sweep = match self.housekeeping.sweep.take() {
            Some(sweep) => sweep,
            None => match self.asked(|rows| Sweep::begin(rows))? {
                Some(sweep) => sweep,
                None => return Ok(false),
            },
        };
        let Ok((gone, done)) = self.ask_once_mut(|rows| sweep.step(rows, BLOCKS_PER_STEP)) else {
            return self.build_anew().map(|()| true);
        };
        self.append_own(&gone)?;
        if !done {
            self.housekeeping.sweep = Some(sweep);
        }
        Ok(true)
    }

    /// Moves some live content out of packs that are mostly dead.
    fn move_step(&mut self) -> Result<(), StoreError> {
        let Some(mut moving) = self.housekeeping.moving.take() else { return Ok(()) };
        let Ok(found) = self.ask_once_mut(|rows| moving.find(rows)) else {
            return self.build_anew();
        };
        let Self { packs, unsynced_bytes, shared, .. } = self;
        let mut frames = Frames { packs, unsynced_bytes, written: &shared.packs };
        let mut moved = HashMap::new();
        let mut out = Vec::new();
        for row in found {
            out.extend(relocate(row, &shared.packs, &mut frames, &mut moved)?);
        }
        self.append_own(&out)?;
        if moving.table < LOCATED.len() {
            self.housekeeping.moving = Some(moving);
        } else {
            self.empty_packs_of(&moving.packs)?;
        }
        Ok(())
    }

    fn empty_packs_of(&mut self, packs: &BTreeSet<u64>) -> Result<(), StoreError> {
        self.sync()?;
        for pack in packs {
            if self.asked(|rows| pack_used(rows, *pack))? == 0 {
                self.shared.packs.remove(*pack)?;
            } else {
                self.housekeeping.stuck.insert(*pack);
            }
        }
        Ok(())
    }

    /// Appends a record of our own, which may be needed to make space, so a full disk does not refuse it at once.
    fn append_own(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let at = self.latest().next();
        self.append(at, rows).map_err(|error| match error {
            CommitError::Store(error) => *error,
            CommitError::Full => StoreError::Full,
            CommitError::Poisoned | CommitError::Refused(_) => StoreError::Poisoned,
        })
    }

    fn ask_once_mut<T>(
        &mut self,
        question: impl FnOnce(&WriteRows<'_>) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        self.begin()?;
        let super::Pending(txn) = self.pending.as_ref().expect("it was begun just now");
        self.database.contain(|_| question(&WriteRows::new(txn)))?
    }
}

impl Moving {
    /// Returns the next rows whose content is in one of the packs.
    fn find(&mut self, rows: &impl Rows) -> Result<Vec<Row>, IndexError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let Some(table) = LOCATED.get(self.table) else { return Ok(found) };
        for (looked_at, row) in rows.under(*table, &[], &self.from)?.enumerate() {
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            if looked_at == MOVE_ROWS_PER_STEP || bytes > MOVE_BYTES_PER_STEP {
                self.from = key.to_vec();
                return Ok(found);
            }
            let row = crate::index::dump::read(*table, key, value)?;
            if let Some(loc) = location(&row).filter(|loc| self.packs.contains(&loc.pack)) {
                bytes += loc.raw as usize;
                found.push(row);
            }
        }
        (self.table, self.from) = (self.table + 1, vec![]);
        Ok(found)
    }
}

fn location(row: &Row) -> Option<PackLoc> {
    match row {
        Row::File { value: FileValue { body: Body::Blob(loc), .. }, .. } => Some(*loc),
        Row::Content { loc, .. } => *loc,
        _ => None,
    }
}

/// Returns a row with its content copied to the current pack; `None` where the content is damaged and stays.
fn relocate(
    mut row: Row,
    packs: &PackReader,
    frames: &mut Frames<'_>,
    moved: &mut HashMap<(u64, u64), PackLoc>,
) -> Result<Option<Row>, StoreError> {
    let loc = match &mut row {
        Row::File { value: FileValue { body: Body::Blob(loc), .. }, .. } => loc,
        Row::Content { loc: Some(loc), .. } => loc,
        _ => return Ok(None),
    };
    let known = moved.get(&(loc.pack, loc.offset)).copied();
    let new = match known {
        Some(new) => new,
        None => match packs.read(*loc) {
            Ok(raw) => frames.append(&raw)?,
            Err(error) => {
                tracing::error!(pack = loc.pack, offset = loc.offset, %error, "damaged content");
                return Ok(None);
            }
        },
    };
    moved.insert((loc.pack, loc.offset), new);
    *loc = new;
    Ok(Some(row))
}

/// Forgets what commits touched that the live tree holds already.
pub(super) fn forget_touched(rows: &mut WriteRows<'_>, live: CommitId) -> Result<(), IndexError> {
    let floor = meta_number(rows, meta::TOUCHED)?;
    if live.0 <= floor {
        return Ok(());
    }
    let mut known = live.0;
    let mut gone = Vec::new();
    for row in rows.under(Table::Touched, &[], &[])? {
        let key = row?.0.value().to_vec();
        let at = u64::from_be_bytes(*key.first_chunk().ok_or_else(|| Table::Touched.broken())?);
        if at > live.0 {
            break;
        }
        gone.push((at, key));
        if gone.len() == FORGET_ROWS_MAX {
            known = at;
            break;
        }
    }
    for (at, key) in gone {
        rows.remove(Table::Touched, &key)?;
        if let Some([b'f', file @ ..]) = key.get(8..) {
            let file = keys::file_of(Table::Touched, file)?;
            rows.remove(Table::Ranges, &keys::ranges(file, CommitId(at)))?;
        }
    }
    set_meta_number(rows, meta::TOUCHED, known)
}
