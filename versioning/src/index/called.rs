//! All names that there are or were, in rows that are quick to look through.
//!
//! `called` has each name of each folder once, whatever it stands for and stood for: as many in a row as fill a page of the
//! database, as their bytes are. Whoever looks for a part of a name looks at whole rows, and at the names of those alone that
//! have it somewhere. Its order is that of `dirent`, so that the names of one change go into few rows.
//!
//! A row holds the names from its key up to the key of the next one; the first key is empty. Keys and rows stand where they do by how
//! the names came. It never lacks a name that `dirent` has, and what is found in it is asked for there.

use std::{collections::BTreeSet, ops::Bound};

use keepshare_base::{FileId, Name};

use super::{IndexError, Rows, Table, WriteRows, keys};

/// What a key and its row take at most: they have a page of 4096 bytes of the database for themselves.
const ROOM: usize = 4080;

/// In this row every name is shown as its bytes are, and what is another case of an ASCII letter is one itself.
const PLAIN: u8 = 0;
/// In this one, not of all names is that so: they are not found by their bytes.
const ODD: u8 = 1;

/// The most rows that are looked at in one step: 16 MiB.
const LOOKED_AT_MAX: usize = 4096;

/// The most names that are found in one step.
const FOUND_MAX: usize = 512;

/// What is looked for.
pub(crate) struct Look<'a> {
    /// Tells whether some names, with other bytes between them, have what a name that is meant must have somewhere.
    pub(crate) may_have: &'a dyn Fn(&[u8]) -> bool,
    /// Tells whether a name is meant.
    pub(crate) is_meant: &'a dyn Fn(&Name) -> bool,
}

/// Names that were found, and the key to go on from; `None` at the end.
pub(crate) type Found = (Vec<(FileId, Name)>, Option<Vec<u8>>);

/// Returns the next names that are meant, in order of (folder, name), with keys from `from` on.
pub(crate) fn like(rows: &impl Rows, from: &[u8], look: &Look<'_>) -> Result<Found, IndexError> {
    let mut found = Vec::new();
    let first = row_at(rows, from)?.map_or_else(Vec::new, |(key, _)| key);
    let all = rows.range(Table::Called, Bound::Included(&first), Bound::Unbounded)?;
    for (number, row) in all.enumerate() {
        let (key, value) = row?;
        if number == LOOKED_AT_MAX {
            return Ok((found, Some(key.value().to_vec())));
        }
        let row = Row::read(value.value())?;
        if row.is_plain && !(look.may_have)(row.groups) {
            continue;
        }
        for entry in row.entries() {
            let entry = entry?;
            if (number == 0 && entry.is_before(from))
                || (row.is_plain && !(look.may_have)(entry.name))
            {
                continue;
            }
            let name = Name::new(entry.name).map_err(|_| Table::Called.broken())?;
            if !(look.is_meant)(&name) {
                continue;
            }
            if found.len() == FOUND_MAX {
                return Ok((found, Some(entry.key())));
            }
            found.push((keys::file_of(Table::Called, entry.parent)?, name));
        }
    }
    Ok((found, None))
}

/// Adds names by their keys in `live`, those that are not there yet.
pub(crate) fn add(rows: &mut WriteRows<'_>, new: &BTreeSet<Vec<u8>>) -> Result<(), IndexError> {
    let new: Vec<Entry<'_>> = new.iter().map(|key| Entry::of(key)).collect::<Result<_, _>>()?;
    let mut rest = new.as_slice();
    while let Some(first) = rest.first() {
        let at = row_at(rows, &first.key())?.unwrap_or_else(|| (vec![], vec![PLAIN]));
        let next = rows.range(Table::Called, Bound::Excluded(&at.0), Bound::Unbounded)?.next();
        let next = next.transpose()?.map(|(key, _)| key.value().to_vec());
        let is_mine = |entry: &Entry<'_>| next.as_ref().is_none_or(|next| entry.is_before(next));
        let (mine, others) = rest.split_at(rest.partition_point(is_mine));
        add_to(rows, (&at.0, &at.1), mine)?;
        rest = others;
    }
    Ok(())
}

/// A key and its row.
type KeyRow = (Vec<u8>, Vec<u8>);

/// Returns the row in which the names at a key are, where there is one.
fn row_at(rows: &impl Rows, key: &[u8]) -> Result<Option<KeyRow>, IndexError> {
    let row = rows.range(Table::Called, Bound::Unbounded, Bound::Included(key))?.next_back();
    Ok(row.transpose()?.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())))
}

/// Adds names to a row, and makes several of it where they have no room in one.
fn add_to(
    rows: &mut WriteRows<'_>,
    (key, value): (&[u8], &[u8]),
    new: &[Entry<'_>],
) -> Result<(), IndexError> {
    let row = Row::read(value)?;
    let old: Vec<Entry<'_>> = row.entries().collect::<Result<_, _>>()?;
    let all = merged(&old, new);
    if all.len() == old.len() {
        return Ok(());
    }
    let is_plain = row.is_plain && new.iter().all(Entry::is_plain);
    // What comes at the end goes on coming there: the rows before it are left full.
    let at_end = old.last() < new.first();
    let bytes: usize = all.iter().map(|entry| entry.parent.len() + entry.name.len() + 2).sum();
    let wanted = if at_end { ROOM } else { bytes.div_ceil(bytes.div_ceil(ROOM)) };
    let mut writing = Writing::new(key.to_vec());
    let mut last: Option<Entry<'_>> = None;
    for entry in all {
        let is_full = writing.bytes_with(entry) > ROOM || writing.bytes() >= wanted;
        if let Some(last) = last.filter(|_| is_full) {
            let next = Writing::new(entry.shortest_after(last));
            std::mem::replace(&mut writing, next).put(rows)?;
        }
        writing.push(entry, is_plain || entry.is_plain());
        last = Some(entry);
    }
    writing.put(rows)
}

/// Returns the names of both, in order, each once.
fn merged<'a>(old: &[Entry<'a>], new: &[Entry<'a>]) -> Vec<Entry<'a>> {
    let mut all = Vec::with_capacity(old.len() + new.len());
    let mut rest = old;
    for entry in new {
        let (before, after) = rest.split_at(rest.partition_point(|old| old < entry));
        all.extend_from_slice(before);
        all.push(*entry);
        rest = if after.first() == Some(entry) { &after[1..] } else { after };
    }
    all.extend_from_slice(rest);
    all
}

/// A name in its folder.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Entry<'a> {
    /// Short ids are none the beginning of another, and their order is that of their bytes: so it is that of keys here.
    parent: &'a [u8],
    name: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads a key of `live`.
    fn of(key: &'a [u8]) -> Result<Self, IndexError> {
        let read = || {
            let (_, rest) = FileId::split_short(key)?;
            let (0, name) = rest.split_last()? else { return None };
            Some(Self { parent: &key[..key.len() - rest.len()], name })
        };
        read().ok_or_else(|| Table::Called.broken())
    }

    fn key(&self) -> Vec<u8> {
        [self.parent, self.name, &[0]].concat()
    }

    fn is_before(&self, key: &[u8]) -> bool {
        self.parent.iter().chain(self.name).chain(&[0]).lt(key)
    }

    /// Returns the shortest key that is not above this one, and above that of another entry before it.
    fn shortest_after(&self, before: Self) -> Vec<u8> {
        let (mut key, before) = (self.key(), before.key());
        let same = key.iter().zip(&before).take_while(|(one, other)| one == other).count();
        key.truncate(same + 1);
        key
    }

    /// Tells whether a name is shown as its bytes are, and has no letter that is an `s` or a `k` where case does not matter.
    fn is_plain(&self) -> bool {
        self.name.iter().all(|byte| (b' '..=b'~').contains(byte))
            || Name::new(self.name).is_ok_and(|name| {
                let shown = name.to_string();
                shown.as_bytes() == self.name && !shown.contains(['\u{17f}', '\u{212a}'])
            })
    }
}

/// A row: what kind it is of, then folders, each with its names; a NUL ends each name, and one more the folder.
struct Row<'a> {
    is_plain: bool,
    groups: &'a [u8],
}

impl<'a> Row<'a> {
    fn read(value: &'a [u8]) -> Result<Self, IndexError> {
        match value.split_first() {
            Some((kind @ (&PLAIN | &ODD), groups)) => Ok(Self { is_plain: *kind == PLAIN, groups }),
            _ => Err(Table::Called.broken()),
        }
    }

    fn entries(&self) -> Entries<'a> {
        Entries { parent: None, rest: self.groups }
    }
}

/// The names of a row, in order.
struct Entries<'a> {
    parent: Option<&'a [u8]>,
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    fn entry(&mut self) -> Option<Option<Entry<'a>>> {
        loop {
            let Some(parent) = self.parent else {
                if self.rest.is_empty() {
                    return Some(None);
                }
                let (_, rest) = FileId::split_short(self.rest)?;
                self.parent = Some(&self.rest[..self.rest.len() - rest.len()]);
                self.rest = rest;
                continue;
            };
            let end = self.rest.iter().position(|byte| *byte == 0)?;
            let name = &self.rest[..end];
            self.rest = &self.rest[end + 1..];
            if name.is_empty() {
                self.parent = None;
                continue;
            }
            return Some(Some(Entry { parent, name }));
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.entry() {
            Some(entry) => entry.map(Ok),
            None => {
                // Nothing more of it is read.
                (self.parent, self.rest) = (None, &[]);
                Some(Err(Table::Called.broken()))
            }
        }
    }
}

/// A row in the making.
struct Writing<'a> {
    key: Vec<u8>,
    value: Vec<u8>,
    parent: Option<&'a [u8]>,
}

impl<'a> Writing<'a> {
    fn new(key: Vec<u8>) -> Self {
        Self { key, value: vec![PLAIN], parent: None }
    }

    /// Returns what key and row take as they are.
    fn bytes(&self) -> usize {
        self.key.len() + self.value.len() + 1
    }

    /// Returns what they would take with one more name.
    fn bytes_with(&self, entry: Entry<'a>) -> usize {
        let folder = if self.parent == Some(entry.parent) { 0 } else { entry.parent.len() + 1 };
        self.bytes() + folder + entry.name.len() + 1
    }

    fn push(&mut self, entry: Entry<'a>, is_plain: bool) {
        if self.parent != Some(entry.parent) {
            if self.parent.is_some() {
                self.value.push(0);
            }
            self.value.extend_from_slice(entry.parent);
            self.parent = Some(entry.parent);
        }
        self.value.extend_from_slice(entry.name);
        self.value.push(0);
        if !is_plain {
            self.value[0] = ODD;
        }
    }

    fn put(mut self, rows: &mut WriteRows<'_>) -> Result<(), IndexError> {
        self.value.push(0);
        rows.put(Table::Called, &self.key, &self.value)
    }
}

/// Hashes all names, whatever the rows that they are in.
pub(crate) fn digest(rows: &impl Rows, hasher: &mut blake3::Hasher) -> Result<(), IndexError> {
    for row in rows.range(Table::Called, Bound::Unbounded, Bound::Unbounded)? {
        let (_, value) = row?;
        for entry in Row::read(value.value())?.entries() {
            let key = entry?.key();
            hasher.update(&(key.len() as u64).to_le_bytes()).update(&key);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
