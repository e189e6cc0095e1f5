//! Rows that wait for the end of a transaction, to be put into a table of redb's together, in the order of their keys.
//!
//! redb divides a full page in the middle, but at the end of a table. Where keys come in order, one by one, every page but
//! the last so stays half empty for ever, and each row costs a walk down the tree. What is new between two rows that are
//! there goes in as one run instead, which fills its pages.

use std::{
    collections::BTreeMap,
    ops::Bound::{self, Excluded, Included},
};

use redb::{CursorError, StorageError, Table};

type Bytes = &'static [u8];

/// Fewer rows than these are put one by one: they would leave a page that has no room for the next.
const RUN_MIN: usize = 4;

/// Rows that are not in their table yet. Memory: what was put since the last [`Self::write`].
#[derive(Debug, Default)]
pub struct Gathered(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Gathered {
    /// Puts a row, or with `None` removes it.
    pub fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.0.insert(key.to_vec(), value.map(<[u8]>::to_vec));
    }

    /// Returns what was put at `key`: a value, or that there is none any more.
    pub fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.0.get(key).map(Option::as_deref)
    }

    /// Returns what was put between two keys, in order.
    pub fn range<'a>(
        &'a self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let is_empty = match (from, to) {
            (Included(from), Included(to)) => from > to,
            (Included(from) | Excluded(from), Included(to) | Excluded(to)) => from >= to,
            _ => false,
        };
        let rows = (!is_empty).then(|| self.0.range::<[u8], _>((from, to)));
        rows.into_iter().flatten().map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// Forgets what was put between two keys, as if it had not been.
    pub fn forget(&mut self, from: Bound<&[u8]>, to: Bound<&[u8]>) {
        let keys: Vec<_> = self.range(from, to).map(|(key, _)| key.to_vec()).collect();
        for key in keys {
            self.0.remove(&key);
        }
    }

    /// Tells whether everything is in the table.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Brings the table to what was put.
    pub fn write(&mut self, table: &mut Table<'_, Bytes, Bytes>) -> Result<(), StorageError> {
        let mut rows = std::mem::take(&mut self.0).into_iter().peekable();
        while let Some((key, value)) = rows.next() {
            let Some(value) = value else {
                table.remove(key.as_slice())?;
                continue;
            };
            if rows.peek().is_none_or(|(_, next)| next.is_none()) {
                table.insert(key.as_slice(), value.as_slice())?;
                continue;
            }
            let mut cursor = table.lower_bound_mut(Included(key.as_slice()))?;
            let end = cursor.peek_next()?.map(|(end, _)| end.value().to_vec());
            let mut run = vec![(key, value)];
            if end.as_ref() != Some(&run[0].0) {
                let fits = |key: &Vec<u8>| end.as_ref().is_none_or(|end| key < end);
                while let Some((key, Some(value))) =
                    rows.next_if(|(key, value)| value.is_some() && fits(key))
                {
                    run.push((key, value));
                }
            }
            if run.len() < RUN_MIN {
                cursor.close()?;
                for (key, value) in run {
                    table.insert(key.as_slice(), value.as_slice())?;
                }
                continue;
            }
            for (key, value) in run {
                cursor.insert_before(key.as_slice(), value.as_slice()).map_err(as_storage)?;
            }
            cursor.close()?;
        }
        Ok(())
    }
}

fn as_storage(error: CursorError) -> StorageError {
    match error {
        CursorError::Storage(error) => error,
        // They were sorted, and the row behind was looked at.
        error => StorageError::Corrupted(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use redb::{ReadableTable as _, ReadableTableMetadata as _, TableDefinition};

    use super::*;
    use crate::disk::sim::Dice;

    const TABLE: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("rows");

    fn database() -> redb::Database {
        let backend = redb::backends::InMemoryBackend::new();
        redb::Database::builder().create_with_backend(backend).unwrap()
    }

    /// A million names that a scan finds must not take twice their bytes.
    #[test]
    fn rows_in_order_fill_their_pages() {
        let fill = |together: usize| {
            let tx = database().begin_write().unwrap();
            let mut table = tx.open_table(TABLE).unwrap();
            // Of another folder: only at a table's end redb does better.
            table.insert([0xff; 4].as_slice(), [].as_slice()).unwrap();
            let mut gathered = Gathered::default();
            for number in 0..20_000_u32 {
                gathered.put(&number.to_be_bytes(), Some(&[7; 50]));
                if (number as usize + 1).is_multiple_of(together) {
                    gathered.write(&mut table).unwrap();
                }
            }
            gathered.write(&mut table).unwrap();
            let stats = table.stats().unwrap();
            stats.stored_bytes() * 100 / (stats.leaf_pages() * 4096)
        };
        assert!(fill(1000) > 80, "{} of 100", fill(1000));
        assert!(fill(1) < 60, "then this is not needed any more: {} of 100", fill(1));
    }

    /// Whatever is put and removed, the table holds what a map would.
    #[test]
    fn it_is_a_map() {
        for seed in 0..30 {
            let mut dice = Dice(seed);
            let tx = database().begin_write().unwrap();
            let mut table = tx.open_table(TABLE).unwrap();
            let (mut gathered, mut model) = (Gathered::default(), BTreeMap::new());
            for step in 0..3000 {
                let place = if dice.below(2) == 0 { step } else { dice.below(3000) };
                let key = place.to_be_bytes().repeat(1 + dice.below(3));
                if dice.below(4) == 0 {
                    gathered.put(&key, None);
                    model.remove(&key);
                } else {
                    let value = [7, 8, 9][step % 3..].repeat(dice.below(100));
                    gathered.put(&key, Some(&value));
                    model.insert(key, value);
                }
                if dice.below(200) == 0 {
                    gathered.write(&mut table).unwrap();
                    assert!(gathered.is_empty());
                }
            }
            gathered.write(&mut table).unwrap();
            let rows = table.iter().unwrap().map(|row| {
                let (key, value) = row.unwrap();
                (key.value().to_vec(), value.value().to_vec())
            });
            assert!(rows.eq(model), "seed {seed}");
        }
    }
}
