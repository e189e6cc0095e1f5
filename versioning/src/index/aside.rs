//! Questions about what retention put aside.

use std::ops::Bound;

use crate::state::Aside;

use super::{IndexError, Rows, Table, keys, values::decode_u64};

/// Returns what is aside since `from_micros` or later, oldest first, after `after`.
pub(crate) fn list(
    rows: &impl Rows,
    from_micros: u64,
    after: Option<&Aside>,
    limit: usize,
) -> Result<Vec<Aside>, IndexError> {
    let first = from_micros.to_be_bytes();
    let after = after.map(|last| keys::aside(last.since_micros, last.file, last.commit));
    let from = match &after {
        Some(after) if after[..] > first[..] => Bound::Excluded(&after[..]),
        _ => Bound::Included(&first[..]),
    };
    let mut list = Vec::new();
    for row in rows.range(Table::Aside, from, Bound::Unbounded)?.take(limit) {
        let (key, size) = row?;
        let (since_micros, file, commit) = keys::read_aside(key.value())?;
        list.push(Aside {
            since_micros,
            file,
            commit,
            size: decode_u64(Table::Aside, size.value())?,
        });
    }
    Ok(list)
}

/// Returns since when that is aside which was removed last.
pub(crate) fn newest(rows: &impl Rows) -> Result<Option<u64>, IndexError> {
    let mut all = rows.range(Table::Aside, Bound::Unbounded, Bound::Unbounded)?;
    let Some((key, _)) = all.next_back().transpose()? else { return Ok(None) };
    Ok(Some(keys::read_aside(key.value())?.0))
}
