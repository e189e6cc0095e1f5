//! Questions about names: what they stand for, who has them, and what a folder holds, at any commit.

use keepshare_base::{CommitId, DEPTH_MAX, FileId, Kind, Name, SetPath};

use crate::state::Entry;

use super::{
    IndexError, Rows, Table, keys,
    values::{decode, decode_u64},
};

/// What a name stands for.
pub(crate) type Target = Option<(FileId, Kind)>;

/// Returns what a name stood for at a commit.
pub(crate) fn lookup(
    rows: &impl Rows,
    parent: FileId,
    name: &Name,
    at: CommitId,
) -> Result<Target, IndexError> {
    Ok(dirent(rows, parent, name, at)?.and_then(|(_, target)| target))
}

/// Returns the newest row of a name at a commit: since when, and what it stands for.
pub(crate) fn dirent(
    rows: &impl Rows,
    parent: FileId,
    name: &Name,
    at: CommitId,
) -> Result<Option<(CommitId, Target)>, IndexError> {
    let prefix = keys::name(parent, name);
    let key = keys::dirent(parent, name, at);
    let Some((key, value)) = rows.first_under(Table::Dirent, &prefix, &key)? else {
        return Ok(None);
    };
    let since = keys::newest_of(Table::Dirent, key.value())?;
    Ok(Some((since, decode(Table::Dirent, value.value())?)))
}

/// Returns what a path stood for at a commit.
pub(crate) fn resolve(
    rows: &impl Rows,
    path: &SetPath,
    at: CommitId,
) -> Result<Target, IndexError> {
    let mut found = (FileId::ROOT, Kind::Dir);
    for name in path.names() {
        match lookup(rows, found.0, name, at)? {
            Some(next) if found.1 == Kind::Dir => found = next,
            _ => return Ok(None),
        }
    }
    Ok(Some(found))
}

/// Returns entries of a folder at a commit, in order, after `after`.
///
/// Past and present come in the same order, so that a listing can be continued when a commit came in between.
pub(crate) fn list(
    rows: &impl Rows,
    parent: FileId,
    at: CommitId,
    latest: CommitId,
    after: Option<&Name>,
    limit: usize,
) -> Result<Vec<Entry>, IndexError> {
    if at >= latest {
        list_live(rows, parent, after, limit)
    } else {
        list_past(rows, parent, at, after, limit)
    }
}

fn list_live(
    rows: &impl Rows,
    parent: FileId,
    after: Option<&Name>,
    limit: usize,
) -> Result<Vec<Entry>, IndexError> {
    let from = after_name(parent, after);
    let mut entries = Vec::new();
    for row in rows.under(Table::Live, &keys::of_file(parent), &from)?.take(limit) {
        let (key, value) = row?;
        entries.push(live_entry(key.value(), value.value())?.1);
    }
    Ok(entries)
}

/// How many names that are gone since are looked at for each entry of a page; with more, all names that the folder ever had
/// are gone through in their order.
const GONE_PER_ENTRY: usize = 8;

/// What a folder held then, it holds today or lost since: however many names came and went before, none of them is looked at.
fn list_past(
    rows: &impl Rows,
    parent: FileId,
    at: CommitId,
    after: Option<&Name>,
    limit: usize,
) -> Result<Vec<Entry>, IndexError> {
    let gone = gone_since(rows, parent, at, limit.saturating_mul(GONE_PER_ENTRY))?;
    let Some(gone) = gone else { return list_ever(rows, parent, at, after, limit) };
    let mut gone =
        gone.into_iter().filter(|name| after.is_none_or(|after| name > after)).peekable();
    let from = after_name(parent, after);
    let mut present = rows.under(Table::Live, &keys::of_file(parent), &from)?;
    let mut next_present = || match present.next().transpose()? {
        Some((key, _)) => Ok(Some(keys::read_name(Table::Live, key.value())?.1)),
        None => Ok::<_, IndexError>(None),
    };
    let mut living = next_present()?;
    let mut entries = Vec::new();
    while entries.len() < limit {
        let name = match (&living, gone.peek()) {
            (Some(name), Some(lost)) if lost < name => gone.next(),
            (None, Some(_)) => gone.next(),
            (Some(_), _) => std::mem::replace(&mut living, next_present()?),
            (None, None) => None,
        };
        let Some(name) = name else { break };
        // One that went and came again is both.
        gone.next_if_eq(&name);
        if let Some((file, kind)) = lookup(rows, parent, &name, at)? {
            entries.push(Entry { name, file, kind });
        }
    }
    Ok(entries)
}

/// Returns the names that a folder lost after a commit, in order, each once; `None` where they are more than `most`.
fn gone_since(
    rows: &impl Rows,
    parent: FileId,
    at: CommitId,
    most: usize,
) -> Result<Option<Vec<Name>>, IndexError> {
    let from = keys::gone_at(parent, CommitId(at.0.saturating_add(1)));
    let mut gone = Vec::new();
    for row in rows.under(Table::Gone, &keys::of_file(parent), &from)? {
        if gone.len() == most {
            return Ok(None);
        }
        gone.push(keys::read_gone(row?.0.value())?);
    }
    gone.sort_unstable();
    gone.dedup();
    Ok(Some(gone))
}

/// Goes through all names that a folder ever had.
fn list_ever(
    rows: &impl Rows,
    parent: FileId,
    at: CommitId,
    after: Option<&Name>,
    limit: usize,
) -> Result<Vec<Entry>, IndexError> {
    let mut entries = Vec::new();
    let mut names = PastNames::new(parent, after);
    while entries.len() < limit {
        let Some(name) = names.next(rows)? else { break };
        if let Some((file, kind)) = lookup(rows, parent, &name, at)? {
            entries.push(Entry { name, file, kind });
        }
    }
    Ok(entries)
}

/// Returns names of a folder that have a past and no present, in order, after `after`.
pub(crate) fn deleted(
    rows: &impl Rows,
    parent: FileId,
    after: Option<&Name>,
    limit: usize,
) -> Result<Vec<Name>, IndexError> {
    let mut deleted = Vec::new();
    let mut names = PastNames::new(parent, after);
    while deleted.len() < limit {
        let Some(name) = names.next(rows)? else { break };
        if rows.get(Table::Live, &keys::name(parent, &name))?.is_none() {
            deleted.push(name);
        }
    }
    Ok(deleted)
}

/// Returns names that a folder has or ever had, in order, after `after`.
pub(crate) fn ever(
    rows: &impl Rows,
    parent: FileId,
    after: Option<&Name>,
    limit: usize,
) -> Result<Vec<Name>, IndexError> {
    let mut found = Vec::new();
    let mut names = PastNames::new(parent, after);
    while found.len() < limit {
        let Some(name) = names.next(rows)? else { break };
        found.push(name);
    }
    Ok(found)
}

/// Returns names that any folder has or ever had, in order of (folder, name), after `after`.
pub(crate) fn ever_of_all(
    rows: &impl Rows,
    after: Option<(FileId, &Name)>,
    limit: usize,
) -> Result<Vec<(FileId, Name)>, IndexError> {
    let mut found = Vec::new();
    let mut from = after.map_or(vec![], |(parent, name)| after_name(parent, Some(name)));
    while found.len() < limit {
        let Some((key, _)) = rows.first_under(Table::Dirent, &[], &from)? else { break };
        let (parent, name, _) = keys::read_dirent(key.value())?;
        from = after_name(parent, Some(&name));
        found.push((parent, name));
    }
    Ok(found)
}

/// Returns what a name stood for, newest first, each time it changed.
pub(crate) fn held(
    rows: &impl Rows,
    parent: FileId,
    name: &Name,
    limit: usize,
) -> Result<Vec<Target>, IndexError> {
    let changes = changes(rows, parent, name, limit)?;
    Ok(changes.into_iter().map(|(_, target)| target).collect())
}

/// Returns what a name stood for, with the commits from which on it did, newest first.
pub(crate) fn changes(
    rows: &impl Rows,
    parent: FileId,
    name: &Name,
    limit: usize,
) -> Result<Vec<(CommitId, Target)>, IndexError> {
    let prefix = keys::name(parent, name);
    let mut changes = Vec::new();
    for row in rows.under(Table::Dirent, &prefix, &prefix)?.take(limit) {
        let (key, value) = row?;
        let since = keys::newest_of(Table::Dirent, key.value())?;
        changes.push((since, decode(Table::Dirent, value.value())?));
    }
    Ok(changes)
}

/// All names that a folder ever had, each once, by one seek per name.
struct PastNames {
    parent: FileId,
    from: Vec<u8>,
}

impl PastNames {
    fn new(parent: FileId, after: Option<&Name>) -> Self {
        Self { parent, from: after_name(parent, after) }
    }

    fn next(&mut self, rows: &impl Rows) -> Result<Option<Name>, IndexError> {
        let found = rows.first_under(Table::Dirent, &keys::of_file(self.parent), &self.from)?;
        let Some((key, _)) = found else { return Ok(None) };
        let (_, name, _) = keys::read_dirent(key.value())?;
        self.from = after_name(self.parent, Some(&name));
        Ok(Some(name))
    }
}

/// Returns the first key of the names after `after`.
fn after_name(parent: FileId, after: Option<&Name>) -> Vec<u8> {
    match after {
        Some(name) => keys::after_prefix(&keys::name(parent, name)).expect("the key ends with 0"),
        None => keys::of_file(parent),
    }
}

fn live_entry(key: &[u8], value: &[u8]) -> Result<(FileId, Entry), IndexError> {
    let (parent, name) = keys::read_name(Table::Live, key)?;
    let (file, kind) = decode(Table::Live, value)?;
    Ok((parent, Entry { name, file, kind }))
}

/// Returns present names of all folders in order, after `after`.
pub(crate) fn all(
    rows: &impl Rows,
    after: Option<(FileId, &Name)>,
    limit: usize,
) -> Result<Vec<(FileId, Entry)>, IndexError> {
    let from = after.map_or(vec![], |(parent, name)| after_name(parent, Some(name)));
    let mut names = Vec::new();
    for row in rows.under(Table::Live, &[], &from)?.take(limit) {
        let (key, value) = row?;
        names.push(live_entry(key.value(), value.value())?);
    }
    Ok(names)
}

/// Returns all names that a file had at a commit, in order.
pub(crate) fn links(
    rows: &impl Rows,
    file: FileId,
    at: CommitId,
) -> Result<Vec<(FileId, Name)>, IndexError> {
    let prefix = keys::of_file(file);
    let mut links = Vec::new();
    let mut from = prefix.to_vec();
    while let Some((key, _)) = rows.first_under(Table::Link, &prefix, &from)? {
        let (parent, name, _) = keys::read_link(key.value())?;
        let of_name = keys::link_name(file, parent, &name);
        let key = keys::link(file, parent, &name, at);
        if let Some((_, value)) = rows.first_under(Table::Link, &of_name, &key)?
            && value.value() == [1]
        {
            links.push((parent, name));
        }
        from = keys::after_prefix(&of_name).expect("the key ends with 0");
    }
    Ok(links)
}

/// Tells whether a file had a name at some commit through `through`.
pub(crate) fn had_link(
    rows: &impl Rows,
    file: FileId,
    (parent, name): (FileId, &Name),
    through: CommitId,
) -> Result<bool, IndexError> {
    let of_name = keys::link_name(file, parent, name);
    let from = keys::link(file, parent, name, through);
    Ok(rows.first_under(Table::Link, &of_name, &from)?.is_some())
}

/// Returns the names that a file has today or, where it has none, those it had right before it lost the last one, and
/// the last commit at which it had them: [`CommitId::MAX`] for today's.
pub(crate) fn last_links(
    rows: &impl Rows,
    file: FileId,
) -> Result<(CommitId, Vec<(FileId, Name)>), IndexError> {
    let prefix = keys::of_file(file);
    let (mut today, mut lost) = (Vec::new(), None);
    let mut from = prefix.to_vec();
    while let Some((key, value)) = rows.first_under(Table::Link, &prefix, &from)? {
        let (parent, name, since) = keys::read_link(key.value())?;
        let next = keys::after_prefix(&keys::link_name(file, parent, &name));
        if value.value() == [1] {
            today.push((parent, name));
        } else {
            lost = lost.max(Some(since));
        }
        from = next.expect("the key ends with 0");
    }
    if !today.is_empty() {
        return Ok((CommitId::MAX, today));
    }
    let Some(lost) = lost else { return Ok((CommitId(0), vec![])) };
    let before = CommitId(lost.0.saturating_sub(1));
    Ok((before, links(rows, file, before)?))
}

/// Returns the first commit, from `at` on, at which a file had a name.
pub(crate) fn first_linked(
    rows: &impl Rows,
    file: FileId,
    at: CommitId,
) -> Result<Option<CommitId>, IndexError> {
    if !links(rows, file, at)?.is_empty() {
        return Ok(Some(at));
    }
    let prefix = keys::of_file(file);
    let mut first: Option<CommitId> = None;
    for row in rows.under(Table::Link, &prefix, &prefix)? {
        let (key, value) = row?;
        let (_, _, since) = keys::read_link(key.value())?;
        if value.value() == [1] && since > at {
            first = Some(first.map_or(since, |first| first.min(since)));
        }
    }
    Ok(first)
}

/// Returns the folders in which a file has or had names, and the commits at which it got or lost them: `limit` rows at most.
pub(crate) fn moves(
    rows: &impl Rows,
    file: FileId,
    limit: usize,
) -> Result<Vec<(FileId, CommitId)>, IndexError> {
    let prefix = keys::of_file(file);
    let mut moves = Vec::new();
    for row in rows.under(Table::Link, &prefix, &prefix)?.take(limit) {
        let (parent, _, at) = keys::read_link(row?.0.value())?;
        moves.push((parent, at));
    }
    Ok(moves)
}

/// Tells whether a file has a name or ever had one.
pub(crate) fn had_name(rows: &impl Rows, file: FileId) -> Result<bool, IndexError> {
    let prefix = keys::of_file(file);
    Ok(rows.first_under(Table::Link, &prefix, &prefix)?.is_some())
}

/// Returns how many names a file has today.
pub(crate) fn count(rows: &impl Rows, file: FileId) -> Result<u64, IndexError> {
    let value = rows.get(Table::Names, &keys::of_file(file))?;
    value.map_or(Ok(0), |value| decode_u64(Table::Names, value.value()))
}

/// Returns a path that a file had at a commit; `None` where it hung nowhere under the root.
pub(crate) fn path_of(
    rows: &impl Rows,
    file: FileId,
    at: CommitId,
) -> Result<Option<SetPath>, IndexError> {
    let mut names = Vec::new();
    let mut at_file = file;
    while at_file != FileId::ROOT {
        if names.len() == DEPTH_MAX {
            return Ok(None);
        }
        let Some((parent, name)) = links(rows, at_file, at)?.into_iter().next() else {
            return Ok(None);
        };
        names.push(name);
        at_file = parent;
    }
    names.reverse();
    Ok(Some(SetPath::from(names)))
}
