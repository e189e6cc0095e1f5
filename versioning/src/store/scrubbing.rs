//! What a scrub has done to a store: everything that is damaged and can be had from somewhere else is put right.

use super::{
    Frames, Renewed, Room, Store,
    maintain::{Moving, location},
};
use crate::{
    CommitError, StoreError,
    body::FramesMut as _,
    index::{IndexError, Rows, files, keys, values::decode_loc},
    pack::PackLoc,
    record::{Body, Piece, Row},
};

/// A row that names a place in a pack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Holder {
    /// A file's state.
    State(keepshare_base::FileId, keepshare_base::CommitId),
    /// A piece of a mapped body.
    Piece(Piece),
}

impl Store {
    /// Opens the index anew, so that whatever is read of it from now on comes from the disk and is checked.
    pub(crate) fn read_index_anew(&mut self) -> Result<Renewed, StoreError> {
        self.flush()?;
        let renewed = self.renew(true)?;
        // Both header slots are written with it, of which one may be what is bad.
        self.flushed = None;
        self.flush()?;
        Ok(renewed)
    }

    /// Has the log written anew from the index, which has all that it has: the log is damaged on the disk.
    pub(crate) fn write_log_anew(&mut self) {
        self.housekeeping.log_is_damaged = true;
    }

    /// Writes a log anew that is damaged, where that is still to be done: no later process could open it. Gives up after `deadline`.
    pub(crate) fn finish_log(&mut self, deadline: std::time::Instant) -> Result<(), StoreError> {
        while self.housekeeping.log_is_damaged && std::time::Instant::now() < deadline {
            if !self.maintain()? {
                break;
            }
        }
        Ok(())
    }

    /// Has everything moved out of a pack whose header is damaged: what is in it can be read as long as this process has it open. Does
    /// nothing while others are being emptied.
    pub(crate) fn move_out_of(&mut self, pack: u64) -> Result<(), StoreError> {
        if self.housekeeping.moving.is_none() {
            self.sync()?;
            self.packs.end_pack(pack)?;
            self.housekeeping.moving = Some(Moving::out_of(pack));
        }
        Ok(())
    }

    /// Tells whether the index failed, and is brought back with the next [`Self::sync`].
    pub(crate) fn has_broken_index(&self) -> bool {
        self.is_broken()
    }

    /// Keeps content once more, in another place, and has those of the rows name that which name the damaged place now; durable when
    /// this returns. Returns how many did.
    ///
    /// Whoever calls has checked that the content is what was at the place.
    pub(crate) fn keep_anew(
        &mut self,
        holders: &[Holder],
        damaged: PackLoc,
        content: &[u8],
    ) -> Result<usize, CommitError> {
        self.check_writable(Room::BeyondReserve)?;
        let rows = self.asked(|rows| {
            let named = holders.iter().map(|holder| holder.row(rows));
            let named = named.collect::<Result<Vec<_>, IndexError>>()?.into_iter().flatten();
            Ok(named.filter(|row| location(row) == Some(damaged)).collect::<Vec<_>>())
        });
        let mut rows = rows.map_err(|error| CommitError::Store(Box::new(error)))?;
        if rows.is_empty() {
            return Ok(0);
        }
        let Self { packs, unsynced_bytes, shared, .. } = self;
        let mut frames = Frames { packs, unsynced_bytes, written: &shared.packs };
        let place = frames.append(content, None).map_err(StoreError::from)?;
        rows.iter_mut().for_each(|row| put(row, place));
        self.append_own(&rows)?;
        self.sync()?;
        // It may have been what kept the pack from being emptied.
        self.housekeeping.stuck.remove(&damaged.pack);
        Ok(rows.len())
    }
}

impl Holder {
    /// Returns the row as it is now.
    pub(crate) fn row(self, rows: &impl Rows) -> Result<Option<Row>, IndexError> {
        Ok(match self {
            Self::State(file, at) => {
                files::exactly(rows, file, at)?.map(|value| Row::File { at, file, value })
            }
            Self::Piece(piece) => {
                let table = keys::table_of(piece.grain);
                let value = rows.get(table, &keys::piece(&piece))?;
                let loc = value.map(|value| decode_loc(table, value.value())).transpose()?;
                loc.map(|loc| Row::Content { piece, loc })
            }
        })
    }
}

fn put(row: &mut Row, place: PackLoc) {
    match row {
        Row::File { value, .. } => {
            if let Body::Blob(loc) = value.body.kept_mut() {
                *loc = place;
            }
        }
        Row::Content { loc, .. } => *loc = Some(place),
        _ => {}
    }
}
