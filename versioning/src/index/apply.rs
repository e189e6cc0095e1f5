//! Applying the rows of a record to the tables.
//!
//! A logged row becomes one row of its table. What is derived follows from what the tables say before and after, so
//! that applying a record again changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use keepshare_base::{CommitId, FileId, Kind, Name, Schedule, Stamp};

use crate::{
    moment::{Verdict, moment, stopped_for},
    pack::PackLoc,
    record::{
        Body, BodyId, CommitValue, FileValue, FirstCommitValue, Mark, Piece, PointValue, Row,
    },
};

use super::{
    IndexError, Rows, Table, WriteRows, called, commits,
    gathering::Gathering,
    keys,
    names::Target,
    ranges::merged,
    values::{decode, decode_loc, decode_u64, encode, meta, meta_number, set_meta_number},
    voids,
};

/// What the rows come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    /// The record of this commit.
    Record(CommitId),
    /// A snapshot of the log, which says nothing of what each commit touched.
    Snapshot,
}

/// Applies rows in order.
pub(crate) fn apply(
    rows: &mut WriteRows<'_>,
    source: Source,
    list: &[Row],
) -> Result<(), IndexError> {
    let rows = Gathering::new(rows);
    let (ranges, frames, called) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let mut apply = Apply { rows, source, ranges, frames, called };
    list.iter().try_for_each(|row| apply.row(row))?;
    apply.finish()
}

struct Apply<'a, 't> {
    rows: Gathering<'a, 't>,
    source: Source,
    ranges: BTreeMap<BodyId, Vec<(u64, u64)>>,
    /// Bytes of each pack that came into use, and that went out of it: a record names many frames of few packs.
    frames: BTreeMap<u64, (u64, u64)>,
    /// Names that nothing was called in their folders before, by their keys.
    called: BTreeSet<Vec<u8>>,
}

impl Apply<'_, '_> {
    fn row(&mut self, row: &Row) -> Result<(), IndexError> {
        match row {
            Row::FirstCommit { at, value } => self.first_commit(*at, value),
            Row::Commit { at, value } => self.commit(*at, value),
            Row::Name { at, parent, name, target } => self.name(*at, *parent, name, *target),
            Row::File { at, file, value } => self.file(*at, *file, value),
            Row::Cut { at, file, cut, mark } => self.cut(*at, *file, *cut, mark),
            Row::FileGone { at, file } => self.file_gone(*at, *file),
            Row::Content { piece, loc } => self.content(piece, *loc),
            Row::ContentGone { piece } => self.content_gone(piece),
            Row::Void { at, body, from } => {
                self.range(*at, *body, *from, u64::MAX);
                self.rows.put(Table::Void, &keys::void(*body, *at), &from.to_be_bytes())?;
                voids::update(self.rows.direct(), *body, *at)
            }
            Row::VoidGone { at, body } => {
                self.rows.remove(Table::Void, &keys::void(*body, *at))?;
                voids::update(self.rows.direct(), *body, *at)
            }
            Row::Sweep { at, body } => self.sweep(*at, *body),
            Row::Swept { at, body } => self.swept(*at, *body),
            Row::Place { origin, place } => {
                self.rows.put(Table::Place, &keys::origin(*origin), &encode(place))
            }
            Row::Point { at, point, position } => {
                self.point(*at, &PointValue::new(point.clone(), *position), None)
            }
            Row::KeptPoint { at, value } => self.point(*at, value, None),
            Row::ScheduledPoint { at, value, schedule } => self.point(*at, value, Some(*schedule)),
            Row::PointGone { at } => self.rows.remove(Table::Point, &keys::commit(*at)),
            Row::CommitGone { at } => self.commit_gone(*at),
            Row::Restore { at, row, position } => {
                if self.source == Source::Record(*at) {
                    self.rows.put(Table::Touched, &keys::touched_by_restore(*at), &[])?;
                }
                self.rows.put(Table::Restore, &row.request.0, &encode(&(row, position, at)))
            }
            Row::Clock { arrival } => self.clock(*arrival),
        }
    }

    fn finish(mut self) -> Result<(), IndexError> {
        self.count_frames()?;
        self.rows.write()?;
        called::add(self.rows.direct(), &self.called)?;
        let Source::Record(commit) = self.source else { return Ok(()) };
        for (body, ranges) in self.ranges {
            let Some((file, _)) = body_users(&self.rows, body)? else { continue };
            let key = keys::ranges(file, commit);
            self.rows.put(Table::Ranges, &key, &encode(&merged(ranges)))?;
        }
        Ok(())
    }

    fn point(
        &mut self,
        at: CommitId,
        value: &PointValue,
        schedule: Option<Schedule>,
    ) -> Result<(), IndexError> {
        self.rows.put(Table::Point, &keys::commit(at), &encode(&(value, schedule)))
    }

    /// Gives a commit of before moments were kept the moment that its stamp and its arrival tell.
    fn first_commit(&mut self, at: CommitId, value: &FirstCommitValue) -> Result<(), IndexError> {
        let FirstCommitValue { arrival, position, complete, stamp, user } = value.clone();
        let last = commits::commit_before(&self.rows, at)?;
        let before = commits::moment_before(&self.rows, position.origin, at)?;
        let running = last.map_or(0, |last| {
            let stopped = stopped_for(arrival.micros_since(last.arrival));
            last.running_micros.saturating_add(stopped)
        });
        let value = CommitValue {
            arrival,
            moment: moment(stamp, arrival, Verdict::Agree, before),
            running_micros: running,
            position,
            complete,
            stamp,
            user,
        };
        self.commit(at, &value)
    }

    fn commit(&mut self, at: CommitId, value: &CommitValue) -> Result<(), IndexError> {
        self.forget_moment(at, value)?;
        self.rows.put(Table::Commit, &keys::commit(at), &encode(value))?;
        if value.complete {
            let key = keys::time(value.position.origin, value.moment, at);
            self.rows.put(Table::Time, &key, &[])?;
        }
        let key = keys::position(value.position);
        let last = match self.rows.get(Table::Position, &key)? {
            Some(last) => decode_u64(Table::Position, last.value())?.max(at.0),
            None => at.0,
        };
        self.rows.put(Table::Position, &key, &last.to_be_bytes())?;
        self.clock(value.arrival)
    }

    fn commit_gone(&mut self, at: CommitId) -> Result<(), IndexError> {
        let Some(CommitValue { position, moment, .. }) = commits::commit(&self.rows, at)? else {
            return Ok(());
        };
        self.rows.remove(Table::Commit, &keys::commit(at))?;
        self.rows.remove(Table::Time, &keys::time(position.origin, moment, at))?;
        if commits::commit_of(&self.rows, position)? == Some(at) {
            self.rows.remove(Table::Position, &keys::position(position))?;
        }
        Ok(())
    }

    /// Lets go of the moment that a commit had before its clock was repaired.
    fn forget_moment(&mut self, at: CommitId, value: &CommitValue) -> Result<(), IndexError> {
        match commits::commit(&self.rows, at)? {
            Some(before) if before.moment != value.moment => {
                let key = keys::time(before.position.origin, before.moment, at);
                self.rows.remove(Table::Time, &key)
            }
            _ => Ok(()),
        }
    }

    fn clock(&mut self, arrival: Stamp) -> Result<(), IndexError> {
        self.rows.put(Table::Meta, meta::CLOCK, &encode(&arrival))
    }

    fn name(
        &mut self,
        at: CommitId,
        parent: FileId,
        name: &Name,
        target: Option<(FileId, Kind)>,
    ) -> Result<(), IndexError> {
        let prefix = keys::name(parent, name);
        let newest = self.dirent(&prefix, &prefix)?;
        if newest.is_none() {
            self.called.insert(prefix.clone());
        }
        let is_newest = newest.is_none_or(|(newest, _)| newest <= at);
        let before = match newest {
            // It is applied again, or is older than what is known.
            Some((newest, _)) if newest >= at => {
                let before = keys::dirent(parent, name, CommitId(at.0.saturating_sub(1)));
                self.dirent(&prefix, &before)?
            }
            newest => newest,
        };
        let before = before.and_then(|(_, target)| target);
        self.rows.put(Table::Dirent, &keys::dirent(parent, name, at), &encode(&target))?;
        let (old, new) = (before.map(|(file, _)| file), target.map(|(file, _)| file));
        if let Some(old) = old.filter(|old| Some(*old) != new) {
            self.rows.put(Table::Link, &keys::link(old, parent, name, at), &[0])?;
        }
        if target.is_none() {
            self.rows.put(Table::Gone, &keys::gone(parent, at, name), &[])?;
        }
        if let Some(new) = new {
            self.rows.put(Table::Link, &keys::link(new, parent, name, at), &[1])?;
        }
        if is_newest {
            self.live(&prefix, target)?;
        }
        if self.source == Source::Record(at) {
            self.rows.put(Table::Touched, &keys::touched_name(at, parent, name), &[])?;
        }
        Ok(())
    }

    /// Returns the first row of a name from a key on.
    fn dirent(&self, prefix: &[u8], from: &[u8]) -> Result<Option<(CommitId, Target)>, IndexError> {
        let Some((key, value)) = self.rows.first_under(Table::Dirent, prefix, from)? else {
            return Ok(None);
        };
        let since = keys::newest_of(Table::Dirent, key.value())?;
        Ok(Some((since, decode(Table::Dirent, value.value())?)))
    }

    /// Makes `target` what a name stands for today.
    fn live(&mut self, key: &[u8], target: Option<(FileId, Kind)>) -> Result<(), IndexError> {
        let before = match self.rows.get(Table::Live, key)? {
            Some(value) => Some(decode::<(FileId, Kind)>(Table::Live, value.value())?),
            None => None,
        };
        if before == target {
            return Ok(());
        }
        if let Some((file, _)) = before {
            self.count(Table::Names, &keys::of_file(file), -1)?;
        }
        match target {
            Some((file, kind)) => {
                self.count(Table::Names, &keys::of_file(file), 1)?;
                self.rows.put(Table::Live, key, &encode(&(file, kind)))
            }
            None => self.rows.remove(Table::Live, key),
        }
    }

    fn file(&mut self, at: CommitId, file: FileId, value: &FileValue) -> Result<(), IndexError> {
        let key = keys::file(file, at);
        let before = self.state(&key)?;
        self.rows.put(Table::File, &key, &encode(value))?;
        if let Some(before) = &before
            && before.mark != value.mark
        {
            self.unmark(at, file, before)?;
        }
        self.mark(at, file, value)?;
        if before.as_ref().map(|before| &before.body) != Some(&value.body) {
            self.use_body(file, &value.body)?;
            if let Some(before) = before {
                self.unlist(at, file, &before.body)?;
                self.drop_body(&before.body)?;
            }
        }
        self.list(at, file, value)?;
        if self.source == Source::Record(at) {
            self.rows.put(Table::Touched, &keys::touched_file(at, file), &[])?;
        }
        Ok(())
    }

    /// Makes a state a version. One that is not there went later, and this record is being applied again.
    fn cut(
        &mut self,
        at: CommitId,
        file: FileId,
        cut: CommitId,
        mark: &Mark,
    ) -> Result<(), IndexError> {
        match self.state(&keys::file(file, at))? {
            Some(value) => {
                let value = FileValue { cut: Some(cut), mark: mark.clone(), ..value };
                self.file(at, file, &value)
            }
            None => Ok(()),
        }
    }

    fn file_gone(&mut self, at: CommitId, file: FileId) -> Result<(), IndexError> {
        let key = keys::file(file, at);
        let Some(before) = self.state(&key)? else { return Ok(()) };
        self.rows.remove(Table::File, &key)?;
        self.unmark(at, file, &before)?;
        self.unlist(at, file, &before.body)?;
        self.drop_body(&before.body)
    }

    /// Notes that a state is aside, where it is.
    fn list(&mut self, at: CommitId, file: FileId, value: &FileValue) -> Result<(), IndexError> {
        let Some(since) = value.body.aside_since() else { return Ok(()) };
        self.rows.put(Table::Aside, &keys::aside(since, file, at), &value.meta.size.to_be_bytes())
    }

    /// Forgets what [`Self::list`] noted.
    fn unlist(&mut self, at: CommitId, file: FileId, body: &Body) -> Result<(), IndexError> {
        let Some(since) = body.aside_since() else { return Ok(()) };
        self.rows.remove(Table::Aside, &keys::aside(since, file, at))
    }

    /// Notes under which id a state is found, or that it has none yet.
    fn mark(&mut self, at: CommitId, file: FileId, value: &FileValue) -> Result<(), IndexError> {
        match &value.mark {
            Mark::Origin(made) => {
                let key = keys::version(file, made.position);
                self.rows.put(Table::Version, &key, &at.0.to_be_bytes())
            }
            Mark::Open(_) => self.rows.put(Table::Open, &keys::of_file(file), &at.0.to_be_bytes()),
            Mark::Change | Mark::Station => Ok(()),
        }
    }

    /// Forgets what [`Self::mark`] noted, unless it is of another state by now.
    fn unmark(&mut self, at: CommitId, file: FileId, value: &FileValue) -> Result<(), IndexError> {
        let (table, key) = match &value.mark {
            Mark::Origin(made) => (Table::Version, keys::version(file, made.position)),
            Mark::Open(_) => (Table::Open, keys::of_file(file)),
            Mark::Change | Mark::Station => return Ok(()),
        };
        let noted = match self.rows.get(table, &key)? {
            Some(noted) => decode_u64(table, noted.value())?,
            None => return Ok(()),
        };
        if noted == at.0 { self.rows.remove(table, &key) } else { Ok(()) }
    }

    fn state(&self, key: &[u8]) -> Result<Option<FileValue>, IndexError> {
        let value = self.rows.get(Table::File, key)?;
        value.map(|value| decode(Table::File, value.value())).transpose()
    }

    /// Counts a body as used, aside or not.
    fn use_body(&mut self, file: FileId, body: &Body) -> Result<(), IndexError> {
        match body.kept() {
            Body::Inline(_) | Body::Expired | Body::Aside { .. } => Ok(()),
            Body::Blob(loc) => {
                if self.count(Table::Blob, &keys::frame(loc.pack, loc.offset), 1)? == 1 {
                    self.use_frame(*loc);
                }
                Ok(())
            }
            Body::Mapped(body) => {
                let users = body_users(&self.rows, *body)?.map_or(0, |(_, users)| users);
                let users = users.checked_add(1).ok_or_else(|| Table::Body.broken())?;
                self.rows.put(Table::Body, &keys::body(*body), &encode(&(file, users)))
            }
        }
    }

    fn drop_body(&mut self, body: &Body) -> Result<(), IndexError> {
        match body.kept() {
            Body::Inline(_) | Body::Expired | Body::Aside { .. } => Ok(()),
            Body::Blob(loc) => {
                if self.count(Table::Blob, &keys::frame(loc.pack, loc.offset), -1)? == 0 {
                    self.drop_frame(*loc);
                }
                Ok(())
            }
            Body::Mapped(body) => match body_users(&self.rows, *body)? {
                Some((file, users @ 2..)) => {
                    self.rows.put(Table::Body, &keys::body(*body), &encode(&(file, users - 1)))
                }
                Some(_) => self.rows.remove(Table::Body, &keys::body(*body)),
                None => Err(Table::Body.broken()),
            },
        }
    }

    fn content(&mut self, piece: &Piece, loc: Option<PackLoc>) -> Result<(), IndexError> {
        let (start, bytes) = (piece.start(), piece.grain.bytes());
        self.range(piece.at, piece.body, start, start.saturating_add(bytes));
        let (table, key) = (keys::table_of(piece.grain), keys::piece(piece));
        let before = match self.rows.get(table, &key)? {
            Some(value) => decode_loc(table, value.value())?,
            None => None,
        };
        let value = loc.map(PackLoc::to_bytes);
        self.rows.put(table, &key, value.as_ref().map_or(&[][..], |value| &value[..]))?;
        if before != loc {
            loc.into_iter().for_each(|loc| self.use_frame(loc));
            before.into_iter().for_each(|before| self.drop_frame(before));
        }
        Ok(())
    }

    fn content_gone(&mut self, piece: &Piece) -> Result<(), IndexError> {
        let (table, key) = (keys::table_of(piece.grain), keys::piece(piece));
        let before = match self.rows.get(table, &key)? {
            Some(value) => decode_loc(table, value.value())?,
            None => return Ok(()),
        };
        self.rows.remove(table, &key)?;
        before.into_iter().for_each(|before| self.drop_frame(before));
        Ok(())
    }

    fn use_frame(&mut self, loc: PackLoc) {
        let (came, _) = self.frames.entry(loc.pack).or_default();
        *came = came.saturating_add(loc.frame_bytes());
    }

    fn drop_frame(&mut self, loc: PackLoc) {
        let (_, went) = self.frames.entry(loc.pack).or_default();
        *went = went.saturating_add(loc.frame_bytes());
    }

    /// Counts what of the packs is in use now.
    fn count_frames(&mut self) -> Result<(), IndexError> {
        for (pack, (came, went)) in std::mem::take(&mut self.frames) {
            let key = pack.to_be_bytes();
            let used = pack_used(&self.rows, pack)?.checked_add(came);
            match used.and_then(|used| used.checked_sub(went)) {
                Some(0) => self.rows.remove(Table::Pack, &key)?,
                Some(used) => self.rows.put(Table::Pack, &key, &used.to_be_bytes())?,
                None => return Err(Table::Pack.broken()),
            }
            if came > 0 && meta_number(&self.rows, meta::PACK)? < pack {
                set_meta_number(self.rows.direct(), meta::PACK, pack)?;
            }
        }
        Ok(())
    }

    fn sweep(&mut self, at: CommitId, body: BodyId) -> Result<(), IndexError> {
        self.rows.put(Table::Sweep, &keys::body(body), &keys::commit(at))
    }

    fn swept(&mut self, at: CommitId, body: BodyId) -> Result<(), IndexError> {
        let key = keys::body(body);
        let asked = match self.rows.get(Table::Sweep, &key)? {
            Some(asked) => decode_u64(Table::Sweep, asked.value())?,
            None => return Ok(()),
        };
        if asked <= at.0 {
            self.rows.remove(Table::Sweep, &key)?;
        }
        Ok(())
    }

    /// Notes that a commit touched bytes of a body.
    fn range(&mut self, at: CommitId, body: BodyId, start: u64, end: u64) {
        if self.source == Source::Record(at) {
            self.ranges.entry(body).or_default().push((start, end));
        }
    }

    /// Adds `step` to a count, drops the row at 0, and returns the count.
    fn count(&mut self, table: Table, key: &[u8], step: i64) -> Result<u64, IndexError> {
        let before = match self.rows.get(table, key)? {
            Some(value) => decode_u64(table, value.value())?,
            None => 0,
        };
        let after = before.checked_add_signed(step).ok_or_else(|| table.broken())?;
        if after == 0 {
            self.rows.remove(table, key)?;
        } else {
            self.rows.put(table, key, &after.to_be_bytes())?;
        }
        Ok(after)
    }
}

/// Returns the file of a mapped body and how many of its states use it.
pub(crate) fn body_users(
    rows: &impl Rows,
    body: BodyId,
) -> Result<Option<(FileId, u32)>, IndexError> {
    let value = rows.get(Table::Body, &keys::body(body))?;
    value.map(|value| decode(Table::Body, value.value())).transpose()
}

/// Returns how many bytes of a pack are in use.
pub(crate) fn pack_used(rows: &impl Rows, pack: u64) -> Result<u64, IndexError> {
    let value = rows.get(Table::Pack, &pack.to_be_bytes())?;
    value.map_or(Ok(0), |value| decode_u64(Table::Pack, value.value()))
}
