//! Opens a journal, and brings one of an earlier format up to date.

use keepshare_base::{Epoch, OriginId};
use keepshare_host::shared::SharedDb;
use redb::ReadableTable as _;

use super::{
    FORMAT, FREE_BYTES_MIN, Ledger, NOW, STATE, State, Tx, check_free, contained, encode,
    read_state,
};
use crate::source::{SourceError, map::MapTx};

/// The numbers of an epoch's files begin below 2 to the power of this.
const FIRST_FILE_BITS: u32 = 36;

impl Ledger {
    /// Opens the tables in `database`, or makes them for `origin`.
    pub(crate) fn open(database: SharedDb, origin: OriginId) -> Result<Self, SourceError> {
        contained(&database, || Self::open_tables(database.clone(), origin))
    }

    fn open_tables(database: SharedDb, origin: OriginId) -> Result<Self, SourceError> {
        let fresh = State {
            format: FORMAT,
            origin: origin.0,
            epoch: Epoch::FIRST.number(),
            next_file: first_file()?,
            ..State::default()
        };
        Self::bring_up_to_date(&database)?;
        let tx = database.begin_write()?;
        let state = {
            let mut table = tx.open_table(STATE)?;
            let found = table.get(NOW)?.map(|row| row.value().to_vec());
            let state = match found {
                Some(bytes) => {
                    let mut state = read_state(&bytes)?;
                    // It may be an older copy of itself: what was made since has numbers that it does not know of.
                    let jump = getrandom::u32().map_err(SourceError::journal)?;
                    state.next_file = state.next_file.saturating_add(jump.into());
                    state
                }
                None => fresh,
            };
            table.insert(NOW, encode(&state).as_slice())?;
            Tx::open(&tx, state.clone())?;
            state
        };
        if state.origin != origin.0 {
            return Err(SourceError::Origin { found: OriginId(state.origin), wanted: origin });
        }
        tx.commit()?;
        Ok(Self { database, state })
    }

    /// Writes a journal of an earlier format as one of this format: all of it, or nothing.
    pub(super) fn bring_up_to_date(database: &SharedDb) -> Result<(), SourceError> {
        let tx = database.begin_write()?;
        let found = {
            let table = tx.open_table(STATE)?;
            let row = table.get(NOW)?;
            row.map(|row| read_state(row.value())).transpose()?
        };
        let Some(mut state) = found.filter(|state| state.format != FORMAT) else {
            return Ok(tx.abort()?);
        };
        tracing::info!(format = state.format, "bringing a journal of before up to date");
        // Format 3 has the same rows, but for changes that say something of points.
        if state.format < 3 {
            // The rows of before go only when the new ones, which are no longer, are there.
            let stored = tx.stats().map_err(SourceError::journal)?.stored_bytes();
            check_free(database, FREE_BYTES_MIN.saturating_add(stored))?;
            MapTx::convert(&tx)?;
        }
        state.format = FORMAT;
        tx.open_table(STATE)?.insert(NOW, encode(&state).as_slice())?;
        Ok(tx.commit()?)
    }
}

/// Returns the number of the first new file of an epoch. An epoch may be begun twice, by a journal that is put back from before
/// it, and the first of all by one that is lost: no file may be called what another one was.
pub(super) fn first_file() -> Result<u64, SourceError> {
    let random = getrandom::u64().map_err(SourceError::journal)?;
    Ok(1 + (random >> (u64::BITS - FIRST_FILE_BITS)))
}
