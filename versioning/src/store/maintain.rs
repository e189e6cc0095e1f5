//! Housekeeping in bounded steps: writing the log anew, dropping content that nothing needs, emptying packs.

use std::collections::{BTreeSet, HashMap};

use keepshare_base::CommitId;

use crate::{
    StoreError,
    body::{FramesMut as _, Sweep},
    disk::RESERVE_BYTES,
    error::CommitError,
    index::{
        IndexError, ReadRows, Rows, Table, WriteRows,
        apply::pack_used,
        dump::Dump,
        keys,
        values::{meta, meta_number, set_meta_number},
    },
    log::LogRewriter,
    pack::{PackLoc, PackReader},
    record::{Body, Row, encode, packed},
};

use super::{Frames, PENDING_BYTES_MAX, Store, forgetting::Forgetting, removal::Which};

/// The rows of one part of a log snapshot, in bytes.
const PART_BYTES: usize = 256 * 1024;

/// The parts of a log snapshot that one step writes.
const PARTS_PER_STEP: usize = 4;

/// The records that one step takes over into the next log, in bytes.
const CATCH_UP_BYTES: u64 = 4 * 1024 * 1024;

/// The blocks of a body that one step looks through.
const BLOCKS_PER_STEP: usize = 512;

/// The most rows that one step removes.
const ROWS_PER_STEP: usize = 20_000;

/// The most bytes of rows in one record of our own, but for a single row.
const OWN_RECORD_BYTES: usize = 1024 * 1024;

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
    pub(super) moving: Option<Moving>,
    /// Packs that could not be emptied, since some of their content is damaged.
    pub(super) stuck: BTreeSet<u64>,
    idle_calls: u32,
    /// Something was removed while space was short: what is empty now goes at once.
    look_at_packs: bool,
    /// The log's snapshot did not fit on the disk.
    no_room_for_log: bool,
    /// The log is damaged on the disk, and is written anew from the index.
    pub(super) log_is_damaged: bool,
    pub(super) forgetting: Forgetting,
    /// After which file the next look at open states goes on.
    pub(super) open_from: Option<keepshare_base::FileId>,
}

/// The log on its way to the next generation.
struct Snapshot {
    rewriter: LogRewriter,
    /// The state of the moment that the snapshot is of; dropped once it is written.
    rows: Option<(ReadRows, Dump)>,
    /// How far the log was at the last step.
    log_end: u64,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("rewriter", &self.rewriter).finish_non_exhaustive()
    }
}

/// Live content on its way out of packs that are mostly dead.
#[derive(Debug)]
pub(super) struct Moving {
    packs: BTreeSet<u64>,
    table: usize,
    from: Vec<u8>,
}

/// The tables that name places in packs.
pub(crate) const LOCATED: [Table; 3] = [Table::File, Table::Base, Table::Page];

impl Store {
    /// Does one bounded step of housekeeping, and a sync; returns whether there is more to do.
    pub fn maintain(&mut self) -> Result<bool, StoreError> {
        self.keep_reserve();
        self.sync()?;
        let free = self.disk.free_bytes()?;
        let short = self.is_short()?;
        let log = self.housekeeping.snapshot.is_some()
            || ((self.housekeeping.log_is_damaged || self.log_has_doubled())
                && free >= self.snapshot_room());
        // Where space is short, what gives some and needs none comes first.
        if log && !short {
            // What goes now is in no snapshot.
            let forgets = self.housekeeping.snapshot.is_none() && self.forgets_before_log();
            return if forgets { self.forget_step() } else { self.snapshot_step() }.map(|()| true);
        }
        if self.let_go(Which::Overdue)? {
            return Ok(true);
        }
        if self.sweep_step()? {
            self.housekeeping.look_at_packs |= short;
            return Ok(true);
        }
        if self.housekeeping.moving.is_some() {
            return self.move_step().map(|()| true);
        }
        if std::mem::take(&mut self.housekeeping.look_at_packs) && self.empty_packs()? {
            return Ok(true);
        }
        if !short && self.housekeeping.snapshot.is_none() && self.forgets_by_itself() {
            return self.forget_step().map(|()| true);
        }
        // What went before has given its space back just now, and that was not enough.
        // A snapshot of the log takes space only until it is done, or does not fit.
        let snapshot = self.housekeeping.snapshot.is_some();
        if !snapshot && self.is_short()? && self.let_go(Which::Oldest)? {
            return Ok(true);
        }
        if log {
            return self.snapshot_step().map(|()| true);
        }
        self.housekeeping.idle_calls += 1;
        if self.housekeeping.idle_calls.is_multiple_of(CALLS_PER_PACK_CHECK) {
            return self.empty_packs();
        }
        Ok(false)
    }

    /// Hears that the content of so many versions is gone for good.
    pub(super) fn let_go_of(&mut self, versions: usize) -> Result<(), StoreError> {
        self.housekeeping.forgetting.let_go_of(versions);
        self.removed_something()
    }

    /// Has the packs looked at soon where space is short: something was removed.
    pub(super) fn removed_something(&mut self) -> Result<(), StoreError> {
        self.housekeeping.look_at_packs |= self.is_short()?;
        Ok(())
    }

    /// Tells whether less is free than changes leave.
    fn is_short(&self) -> Result<bool, StoreError> {
        Ok(self.disk.free_bytes()? < self.options.reserve_bytes)
    }

    /// Returns how much must be free before a snapshot of the log is begun, in bytes.
    fn snapshot_room(&self) -> u64 {
        let bytes = if self.housekeeping.no_room_for_log {
            self.log.position().offset
        } else {
            self.log.snapshot_bytes()
        };
        bytes.saturating_add(RESERVE_BYTES.min(self.options.reserve_bytes))
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
                    mostly_dead.insert((used, pack));
                }
                _ => {}
            }
        }
        // What is moved takes space until all of it has moved: one pack, the emptiest, where there is little.
        let short = self.is_short()?;
        let packs = mostly_dead.into_iter().take(if short { 1 } else { usize::MAX });
        let packs: BTreeSet<u64> = packs.map(|(_, pack)| pack).collect();
        if packs.is_empty() {
            return Ok(false);
        }
        self.housekeeping.moving = Some(Moving { packs, table: 0, from: vec![] });
        Ok(true)
    }

    fn log_has_doubled(&self) -> bool {
        // Where most of what the last snapshot has went since, another one is far shorter.
        let times = if self.housekeeping.forgetting.most_went() { 0 } else { 2 };
        let min = self.options.log_bytes_min.max(self.log.snapshot_bytes().saturating_mul(times));
        self.log.position().offset > min
    }

    /// Takes the snapshot a step further. One that does not fit on the disk is given up, as is one whose index failed.
    fn snapshot_step(&mut self) -> Result<(), StoreError> {
        let stepped = match self.housekeeping.snapshot.take() {
            Some(snapshot) => self.write_snapshot(snapshot),
            None => self.begin_snapshot().and_then(|begun| self.write_snapshot(begun)),
        };
        match stepped {
            Ok(snapshot) => {
                self.housekeeping.snapshot = snapshot;
                Ok(())
            }
            Err(StoreError::Full) => {
                self.log.drop_rewrite();
                self.housekeeping.no_room_for_log = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Writes some of the snapshot, or of what the log got since, and makes it the log when that is all.
    fn write_snapshot(&mut self, mut snapshot: Snapshot) -> Result<Option<Snapshot>, StoreError> {
        let Some((rows, dump)) = &mut snapshot.rows else {
            return self.catch_up(snapshot);
        };
        let mut part = || dump.next(rows, PART_BYTES);
        let parts = self.database.contain(|_| (0..PARTS_PER_STEP).map(|_| part()).collect());
        let Ok(Ok::<Vec<_>, IndexError>(parts)) = parts else {
            self.mend_index()?;
            return Ok(None);
        };
        for part in parts.iter().filter(|part| !part.is_empty()) {
            snapshot.rewriter.append(&packed(encode(part)))?;
        }
        if parts.last().is_none_or(Vec::is_empty) {
            snapshot.rows = None;
            snapshot.log_end = self.log.position().offset;
        }
        Ok(Some(snapshot))
    }

    fn catch_up(&mut self, mut snapshot: Snapshot) -> Result<Option<Snapshot>, StoreError> {
        // More than the log got since the last step, or it would never end.
        let end = self.log.position().offset;
        let grown = end.saturating_sub(snapshot.log_end);
        snapshot.log_end = end;
        let bytes = CATCH_UP_BYTES.max(grown.saturating_mul(2));
        if !snapshot.rewriter.catch_up(&self.log, bytes)? {
            return Ok(Some(snapshot));
        }
        let switched = self.log.switch(snapshot.rewriter).map_err(StoreError::from);
        self.poison_on_failure(switched)?;
        self.housekeeping.no_room_for_log = false;
        self.housekeeping.log_is_damaged = false;
        self.housekeeping.forgetting.log_was_written();
        Ok(None)
    }

    fn begin_snapshot(&mut self) -> Result<Snapshot, StoreError> {
        let rewriter = self.log.rewrite()?;
        let rows = self.database.contain(ReadRows::begin).map_err(IndexError::from)??;
        Ok(Snapshot { rewriter, rows: Some((rows, Dump::default())), log_end: 0 })
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
        let Ok((gone, done)) =
            self.ask_once_mut(|rows| sweep.step(rows, BLOCKS_PER_STEP, ROWS_PER_STEP))
        else {
            return self.mend_index().map(|()| true);
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
            return self.mend_index();
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

    /// Appends records of our own, each of them short. They may be needed to make space, so a full disk does not refuse
    /// them at once.
    pub(super) fn append_own(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let mut rest = rows;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |row: &&Row| {
                bytes += encode(std::slice::from_ref(row)).len();
                bytes <= OWN_RECORD_BYTES
            };
            let count = rest.iter().take(ROWS_PER_STEP).take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            let at = self.latest().next();
            self.append(at, now).map_err(|error| match error {
                CommitError::Store(error) => *error,
                CommitError::Full => StoreError::Full,
                CommitError::Poisoned => StoreError::Poisoned,
                CommitError::Refused(refusal) => StoreError::Refused(refusal),
            })?;
            rest = later;
            if self.log.buffered_bytes() > PENDING_BYTES_MAX {
                self.sync()?;
            }
        }
        Ok(())
    }

    pub(super) fn ask_once_mut<T>(
        &mut self,
        question: impl FnOnce(&WriteRows<'_>) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        self.begin()?;
        let super::Pending(txn) = self.pending.as_ref().expect("it was begun just now");
        self.database.contain(|_| question(&WriteRows::new(txn)))?
    }
}

impl Moving {
    /// Begins to move everything out of one pack.
    pub(super) fn out_of(pack: u64) -> Self {
        Self { packs: BTreeSet::from([pack]), table: 0, from: vec![] }
    }

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
                bytes += loc.raw as usize + value.len();
                found.push(row);
            }
        }
        (self.table, self.from) = (self.table + 1, vec![]);
        Ok(found)
    }
}

pub(crate) fn location(row: &Row) -> Option<PackLoc> {
    match row {
        Row::File { value, .. } => match value.body.kept() {
            Body::Blob(loc) => Some(*loc),
            _ => None,
        },
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
        Row::File { value, .. } => match value.body.kept_mut() {
            Body::Blob(loc) => loc,
            _ => return Ok(None),
        },
        Row::Content { loc: Some(loc), .. } => loc,
        _ => return Ok(None),
    };
    let known = moved.get(&(loc.pack, loc.offset)).copied();
    let new = match known {
        Some(new) => new,
        None => match packs.read(*loc) {
            Ok(raw) => frames.append(&raw, None)?,
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

/// Forgets what commits through `live` touched.
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
