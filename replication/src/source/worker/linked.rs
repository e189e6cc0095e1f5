//! Files with names outside of the source: whoever writes to them there is noticed by watching the files themselves.

use std::os::fd::AsFd;

use keepshare_base::FileId;

use keepshare_decide::Known;

use super::{Attached, Worker};
use crate::source::{SourceError, folders::Folders, ledger::Tx, tree};

/// So many files are looked at in a tick.
const FILES_PER_TICK: usize = 256;

impl Worker {
    /// Begins to watch files with names outside, when all names inside are known.
    pub(super) fn watch_linked(&mut self) {
        let fills = &self.fills;
        if self.pending.is_busy() {
            return;
        }
        let files = self.pending.agenda.linked(FILES_PER_TICK, |file| !fills.holds(file));
        let Some(attached) = self.attached.as_mut().filter(|_| !files.is_empty()) else { return };
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
            Ok(watched) => self.pending.agenda.linked_watched(&files, watched),
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
