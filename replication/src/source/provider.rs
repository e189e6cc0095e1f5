//! Gives journaled changes with their content.
//!
//! Content comes from memory, from the spool, or from the file as it is now, if that still hashes to what the row says.
//! Where it does not, the state is superseded: the row goes without content and without cut, as do all later ones that
//! build on it, until the file has been sent whole again. Never are other bytes given than those that were journaled.

use std::os::fd::{AsFd, OwnedFd};

use keepshare_base::{Change, Content, ContentHash, FileId, FileRow, FilledChange, Seq};
use keepshare_decide::{
    Known,
    withhold::{Stale, is_stale, is_withheld, strip},
};

use super::{
    JournaledChange, SourceError,
    ledger::Snapshot,
    pass,
    shared::{Request, Shared, lock},
    tree::{self, Tree},
};

/// Returns changes from `from` on until their content passes `bytes_max`.
pub(crate) fn entries(
    shared: &Shared,
    from: Seq,
    bytes_max: u64,
) -> Result<Vec<JournaledChange>, SourceError> {
    // What is journaled after it may not have its content in memory yet: it would be taken for lost.
    let shown = *shared.head.borrow();
    let snapshot = Snapshot::open(&shared.database()?)?;
    let is_same_journal = snapshot.state.head().epoch == shown.epoch;
    let until = if is_same_journal { shown.seq.0.min(snapshot.state.head) } else { 0 };
    let mut stale = snapshot.stale()?;
    let mut entries = Vec::new();
    let mut bytes = 0;
    let mut lost = Vec::new();
    if from.0 > until {
        return Ok(entries);
    }
    let mut before = snapshot.running_before(from)?.ok_or(SourceError::Gone(from))?;
    for seq in from.0..=until {
        let seq = Seq(seq);
        let found = snapshot.map.change(seq, before)?;
        let (running, change) = found.ok_or(SourceError::Gone(seq))?;
        before = running;
        let filled = fill(shared, &snapshot, seq, change, &mut stale, &mut lost)?;
        // Rows count as well, so that a batch of changes without content has an end.
        bytes += keepshare_proto::weight(&filled) as u64;
        entries.push(JournaledChange { seq, running, filled });
        if bytes >= bytes_max {
            break;
        }
    }
    if !lost.is_empty() {
        // Before any of it is given: a restart must not forget that it was withheld.
        shared.ask(|reply| Request::Forget(lost, reply))?;
    }
    Ok(entries)
}

fn fill(
    shared: &Shared,
    snapshot: &Snapshot,
    seq: Seq,
    mut change: Change,
    stale: &mut Stale,
    lost: &mut Vec<(FileId, Seq)>,
) -> Result<FilledChange, SourceError> {
    let len = change.payload_len();
    let mut payload = Vec::new();
    if len > 0 {
        let held = lock(&shared.payloads).find(seq);
        let held = held.and_then(|held| held.read());
        let whole = held.map(|payload| FilledChange { change: change.clone(), payload });
        match whole.filter(is_true) {
            Some(whole) if !is_stale(&change, seq, stale) => return Ok(whole),
            Some(whole) => {
                for (row, bytes) in whole.contents() {
                    if !is_withheld(row.file, seq, stale) {
                        payload.extend_from_slice(bytes);
                    }
                }
            }
            None => {
                // Right after the start the folder is being opened.
                shared.wait_scanned()?;
                let tree = lock(&shared.tree).clone();
                let tree = tree.ok_or_else(|| SourceError::Vanished("the folder".to_owned()))?;
                for row in &change.files {
                    if row.content.payload_len() == 0 || is_withheld(row.file, seq, stale) {
                        continue;
                    }
                    match read_again(snapshot, &tree, row) {
                        Some(bytes) => payload.extend(bytes),
                        None => {
                            let after = Seq(seq.0.saturating_sub(1));
                            stale.entry(row.file).or_insert((after, Seq(u64::MAX)));
                            lost.push((row.file, after));
                        }
                    }
                }
            }
        }
    }
    strip(&mut change, seq, stale);
    Ok(FilledChange { change, payload })
}

/// Tells whether the content is what the rows say: the spool is not synced, and disks lie.
fn is_true(filled: &FilledChange) -> bool {
    filled.payload.len() as u64 == filled.change.payload_len()
        && filled.contents().all(|(row, bytes)| match &row.content {
            Content::Extents { hash, .. } => *hash == ContentHash::of(bytes),
            Content::Same => true,
        })
}

/// Reads the content of a row from the file as it is now; `None` if that is something else by now.
fn read_again(snapshot: &Snapshot, tree: &Tree, row: &FileRow) -> Option<Vec<u8>> {
    let Content::Extents { extents, hash, .. } = &row.content else { return Some(Vec::new()) };
    let record = snapshot.map.record(row.file).ok()??;
    let open = open_at(snapshot, tree, row.file)?;
    if tree.look_at(open.as_fd()).ok()?.inode != record.inode {
        return None;
    }
    let mut payload = Vec::new();
    for extent in extents.iter().filter(|extent| !extent.zero) {
        let at = payload.len();
        payload.resize(at + usize::try_from(extent.len).ok()?, 0);
        let read = pass::read_full(&open, &mut payload[at..], extent.offset).ok()?;
        if read as u64 != extent.len {
            return None;
        }
    }
    (ContentHash::of(&payload) == *hash).then_some(payload)
}

/// Opens a file where the map has it.
pub(crate) fn open_at(snapshot: &Snapshot, tree: &Tree, file: FileId) -> Option<OwnedFd> {
    let waiting = || {
        let reading = snapshot.state.reading.iter().find(|(reading, ..)| *reading == file);
        reading.map(|(_, parent, name)| (*parent, name.clone()))
    };
    let (parent, name) = snapshot.map.links(file, 1).ok()?.pop().or_else(waiting)?;
    let folder = tree.folder(&snapshot.map.path(parent).ok()??).ok()?;
    tree::open_file(folder.as_fd(), &name).ok()
}
