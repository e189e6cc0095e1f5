//! The values of the tables as bytes, and what [`Table::Meta`] keeps one of.

use serde::{Serialize, de::DeserializeOwned};

use keepshare_base::Stamp;

use crate::{log::LogPosition, pack::PackLoc};

use super::{IndexError, Rows, Table, WriteRows};

/// The keys of [`Table::Meta`].
pub(crate) mod meta {
    /// The version of the tables.
    pub(crate) const FORMAT: &[u8] = b"format";
    /// The log position that the tables hold.
    pub(crate) const LOG: &[u8] = b"log";
    /// What the clock said last.
    pub(crate) const CLOCK: &[u8] = b"clock";
    /// The highest pack that a row named.
    pub(crate) const PACK: &[u8] = b"pack";
    /// The commit after which `touched` and `ranges` are known.
    pub(crate) const TOUCHED: &[u8] = b"touched";
}

/// Returns a value's bytes.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("values hold nothing that cannot be encoded")
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, IndexError> {
    postcard::from_bytes(bytes).map_err(|_| table.broken())
}

/// Reads a location; nothing stands for zeros.
pub(crate) fn decode_loc(table: Table, bytes: &[u8]) -> Result<Option<PackLoc>, IndexError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    PackLoc::from_bytes(bytes).map(Some).ok_or_else(|| table.broken())
}

/// Reads a number.
pub(crate) fn decode_u64(table: Table, bytes: &[u8]) -> Result<u64, IndexError> {
    Ok(u64::from_be_bytes(bytes.try_into().map_err(|_| table.broken())?))
}

/// Returns where in the log the tables are; `None` in new ones.
pub(crate) fn log_position(rows: &impl Rows) -> Result<Option<LogPosition>, IndexError> {
    let value = rows.get(Table::Meta, meta::LOG)?;
    value.map(|value| decode(Table::Meta, value.value())).transpose()
}

/// Notes where in the log the tables are.
pub(crate) fn set_log_position(
    rows: &mut WriteRows<'_>,
    position: &LogPosition,
) -> Result<(), IndexError> {
    rows.put(Table::Meta, meta::LOG, &encode(position))
}

/// Returns a number of [`Table::Meta`]; 0 where there is none.
pub(crate) fn meta_number(rows: &impl Rows, key: &[u8]) -> Result<u64, IndexError> {
    rows.get(Table::Meta, key)?.map_or(Ok(0), |value| decode_u64(Table::Meta, value.value()))
}

/// Sets a number of [`Table::Meta`].
pub(crate) fn set_meta_number(
    rows: &mut WriteRows<'_>,
    key: &[u8],
    number: u64,
) -> Result<(), IndexError> {
    rows.put(Table::Meta, key, &number.to_be_bytes())
}

/// Returns what the clock said last.
pub(crate) fn clock(rows: &impl Rows) -> Result<Option<Stamp>, IndexError> {
    let value = rows.get(Table::Meta, meta::CLOCK)?;
    value.map(|value| decode(Table::Meta, value.value())).transpose()
}
