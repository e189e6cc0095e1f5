//! Which contents are read, and what a reading makes of a file: the rule of a cut where a file was looked at or read.
//!
//! Times are told by [`super::cutting`]: a state that nobody closed becomes a version when it has been quiet.

use std::time::Duration;

use keepshare_base::{Content, Event, FileId, FileTime, Kind, Meta};
use keepshare_proto::MonoTime;

use super::{Composer, Done, REST_MAX, Row, STEPLESS_BYTES_MAX, Want, attributes_row};
use crate::{Failure, FileRecord, Ledger, Touch, look::SeenFile};

/// A file that was read faster than this may be read again at once.
pub(super) const REST_FROM: Duration = Duration::from_millis(5);

/// What happened so long before the moment of looking, in microseconds, may not be all that the times tell of: clocks of file
/// systems tick every 1 to 10 ms. What seems to happen after it did so while the turn went on, unless a clock is wrong.
pub(super) const RACY_MICROS: std::ops::Range<i64> = -100_000..10_000;

impl Composer<'_> {
    /// Decides what a file needs that was seen: to be read, to have its attributes read, or only what is known already.
    pub(super) fn decide<L: Ledger>(
        &mut self,
        ledger: &mut L,
        file: FileId,
        at: &SeenFile,
        resting: Option<MonoTime>,
    ) -> Result<Option<Want>, L::Error> {
        let Some(mut record) = ledger.record(file)? else { return Ok(None) };
        if at.seen.kind == Kind::File && self.is_to_be_read(file, at, &record) {
            // Who writes beside and renames over shows nobody half of it: the name comes with what was written for it.
            let is_owed = self.is_owed(file, at, &record) || self.named.contains(&file);
            if let (Some(until), false) = (resting, is_owed) {
                let touch = Touch { modified: true, ..at.touch };
                let until = until.min(self.when.now + REST_MAX);
                self.out.again.put_off.push((file, touch, until));
                self.out.again.racy.extend(at.verify.then_some(file));
                self.note_left_out(at, record.meta.left_out());
                return Ok(None);
            }
            return Ok(self.want_content(file, at, record));
        }
        if record.uncut.is_some() {
            if at.touch.ended() {
                self.cuts.push(file);
            } else {
                self.cutting.was_written(self.when.now, file);
            }
        }
        if at.born {
            if self.doubt_attributes(file, &mut record) {
                ledger.set_record(file, &record)?;
            }
            let row = attributes_row(file, &record, Event::Created);
            self.note_left_out(at, row.row.meta.left_out());
            self.rows.insert(file, row);
            return Ok(None);
        }
        if at.seen.signature == record.signature {
            self.note_left_out(at, record.meta.left_out());
            return Ok(None);
        }
        Ok(Some(Want::Meta(file, at.clone())))
    }

    /// Tells whether the content of a file may differ from what was read of it, or is owed to the destinations.
    fn is_to_be_read(&self, file: FileId, at: &SeenFile, record: &FileRecord) -> bool {
        let (seen, then) = (at.seen.signature, record.signature);
        let times_differ = seen.size != then.size || seen.mtime != then.mtime;
        let told = at.touch.modified || at.touch.closed;
        // What goes on while a file is read leaves the times of its beginning, and is told at its end. Stores through a
        // map may leave no times at all until it is closed, which is not worth another look at much content.
        let unseen = at.touch.modified || (told && seen.size <= STEPLESS_BYTES_MAX);
        let written = times_differ || unseen || (seen.ctime != then.ctime && (told || at.suspect));
        written || at.verify || self.is_owed(file, at, record)
    }

    fn is_owed(&self, file: FileId, at: &SeenFile, record: &FileRecord) -> bool {
        at.born || record.forgotten || self.restores.contains_key(&file)
    }

    fn want_content(&mut self, file: FileId, at: &SeenFile, record: FileRecord) -> Option<Want> {
        let size = at.seen.signature.size;
        let is_too_much = size > self.left && size <= STEPLESS_BYTES_MAX && !at.born;
        if is_too_much && !self.takes_name(file, size) {
            self.out.again.files.push((file, Touch { modified: true, ..at.touch }));
            self.out.again.racy.extend(at.verify.then_some(file));
            self.note_left_out(at, record.meta.left_out());
            return None;
        }
        self.left = self.left.saturating_sub(size);
        let in_steps = size > STEPLESS_BYTES_MAX && !at.born;
        Some(Want::Content { file, at: at.clone(), record: Box::new(record), in_steps })
    }

    /// Tells whether a file takes a name, and may be read for it although much was read in this round.
    fn takes_name(&mut self, file: FileId, size: u64) -> bool {
        let takes = self.named.contains(&file) && size <= self.named_left;
        if takes {
            self.named_left -= size;
        }
        takes
    }

    /// Has attributes read again a little later that may have changed since without another time; tells whether they may.
    pub(super) fn doubt_attributes(&mut self, file: FileId, record: &mut FileRecord) -> bool {
        self.out.again.doubt_attributes(self.when, file, record)
    }

    /// Takes the attributes of a file that was not read.
    pub(super) fn learn<L: Ledger>(
        &mut self,
        ledger: &mut L,
        file: FileId,
        at: SeenFile,
        meta: Result<Meta, Failure>,
    ) -> Result<(), L::Error> {
        let Some(mut record) = ledger.record(file)? else { return Ok(()) };
        match meta {
            Ok(meta) => {
                self.note_left_out(&at, meta.left_out());
                let differs = record.learn(&meta, at.seen.signature);
                self.doubt_attributes(file, &mut record);
                ledger.set_record(file, &record)?;
                if differs {
                    self.rows.insert(file, attributes_row(file, &record, Event::Attributes));
                }
            }
            Err(failure) => self.failed.push((file, at, failure)),
        }
        Ok(())
    }

    /// Brings the map to what was read and decides about cutting; returns the row to journal, if anything is new.
    pub fn finish<L: Ledger>(
        &mut self,
        ledger: &mut L,
        file: FileId,
        mut done: Done,
        touch: Touch,
    ) -> Result<Option<Row>, L::Error> {
        let Some(mut record) = ledger.record(file)? else { return Ok(None) };
        let is_restored = self.restores.contains_key(&file);
        let ended = touch.ended() || is_restored;
        let row = &mut done.row.row;
        let born = row.event == Event::Created;
        let forced = born || record.forgotten || is_restored;
        let differs = done.changed || row.meta.size != record.meta.size;
        let changed = forced || (differs && (row.hash.is_none() || row.hash != record.hash));
        let seen = done.seen.signature;
        let attributes = record.learn(&row.meta, seen);
        if !changed {
            row.content = Content::Same;
            // What it was read for before is not done with until it is a version.
            let is_open = record.uncut.is_some();
            row.event = if is_open { Event::Saved } else { Event::Attributes };
            done.row.payload = Vec::new();
        }
        if is_restored {
            row.event = Event::Restored;
        }
        row.cut = if changed {
            self.cutting.written(self.when.now, file, ended)
        } else if record.uncut.is_some() {
            ended
        } else {
            attributes
        };
        if row.cut && !changed && !attributes {
            // Only that it is a version is new.
            self.late_cuts.push(file);
            row.cut = false;
        }
        if record.blocks && !done.blocks {
            ledger.clear_blocks(file)?;
        }
        record.hash = row.hash;
        record.blocks = done.blocks;
        let was_forgotten = std::mem::take(&mut record.forgotten);
        record.uncut = match (row.cut, changed) {
            (true, _) => None,
            (false, true) => record.uncut.or(Some(self.when.stamp)),
            (false, false) => record.uncut,
        };
        if record.uncut.is_none() {
            self.cutting.forget(file);
        } else if changed {
            self.out.again.open.push(file);
        } else {
            // Who knew when it was written may have ended meanwhile.
            self.cutting.was_written(self.when.now, file);
        }
        if row.fuzzy || self.when.is_racy(seen.mtime) {
            self.was_written(file);
            // Were we to end before it is read again, nothing else would say so.
            record.signature.mtime = FileTime::default();
        } else {
            self.doubt_attributes(file, &mut record);
        }
        ledger.set_record(file, &record)?;
        if was_forgotten {
            ledger.end_stale(file)?;
        }
        Ok((changed || attributes).then_some(done.row))
    }
}
