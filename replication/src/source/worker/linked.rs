//! Files with names outside of the source: whoever writes to them there is noticed by watching the files themselves.

use std::{
    collections::{BTreeSet, HashSet},
    os::fd::AsFd,
};

use keepshare_base::FileId;

use super::{Attached, Worker};
use crate::source::{SourceError, folders::Folders, ledger::Tx, round::FileTask, tree};

/// So many files are looked at in a tick.
const FILES_PER_TICK: usize = 256;

/// Which files have names outside.
#[derive(Debug, Default)]
pub(super) struct Linked {
    /// They may have.
    waiting: BTreeSet<FileId>,
    /// They have, or could not be watched: once is enough.
    done: HashSet<FileId>,
}

impl Linked {
    /// Takes in files that have more names than are known (yet), and files that are gone.
    pub(super) fn note(&mut self, found: Vec<FileId>, lost: &[FileId]) {
        self.waiting.extend(found.into_iter().filter(|file| !self.done.contains(file)));
        for file in lost {
            self.waiting.remove(file);
            self.done.remove(file);
        }
    }

    /// Tells whether there are files to look at.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Worker {
    /// Begins to watch files with names outside, when all names inside are known.
    pub(super) fn watch_linked(&mut self) {
        if self.pending.is_busy() || self.linked.waiting.is_empty() {
            return;
        }
        let Some(attached) = &mut self.attached else { return };
        let files: Vec<FileId> = self
            .linked
            .waiting
            .iter()
            .copied()
            .filter(|file| !self.fills.holds(*file))
            .take(FILES_PER_TICK)
            .collect();
        let watched = self.ledger.write(|tx| {
            let mut watched = Vec::new();
            for file in &files {
                if watch(tx, attached, *file)? {
                    watched.push(*file);
                }
            }
            Ok(watched)
        });
        match watched {
            Ok(watched) => {
                self.linked.waiting.retain(|file| !files.contains(file));
                for file in watched {
                    self.linked.done.insert(file);
                    // What was written before the watch stood.
                    let task = FileTask { suspect: true, ..FileTask::default() };
                    self.pending.add_file(file, task);
                }
            }
            Err(error) => self.fail(&error),
        }
    }
}

/// Watches a file where it has a name outside; tells whether it has.
fn watch(tx: &mut Tx<'_>, attached: &mut Attached, file: FileId) -> Result<bool, SourceError> {
    let Some(record) = tx.map.record(file)? else { return Ok(false) };
    let Some((parent, name)) = tx.map.links(file, 1)?.pop() else { return Ok(false) };
    let folder = Folders::default().open(&tx.map, &attached.tree, parent)?;
    let Some(folder) = folder else { return Ok(false) };
    let Ok(open) = tree::open_file(folder.as_fd(), &name) else { return Ok(false) };
    let Ok(seen) = attached.tree.look_at(open.as_fd()) else { return Ok(false) };
    let links = seen.links as usize;
    if seen.inode != record.inode || tx.map.links(file, links)?.len() >= links {
        return Ok(false);
    }
    if let Err(error) = attached.capture.watch_file(record.inode.number, open.as_fd()) {
        tracing::debug!(%error, "writes to a file by a name outside are seen by scans only");
    }
    Ok(true)
}
