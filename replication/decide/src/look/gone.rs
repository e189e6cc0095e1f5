//! What has gone: names that show nothing, files without a name, and what was in folders without one.

use std::collections::HashSet;

use keepshare_base::{FileId, Kind};

use super::Look;
use crate::{
    Ledger,
    agenda::{FileTask, NameTask},
};

impl Look<'_> {
    /// Takes names that stand for nothing any more out of the map: at once where the file has another name, else on the
    /// second look.
    pub(super) fn believe_gone<L: Ledger>(&mut self, ledger: &mut L) -> Result<(), L::Error> {
        for (item, file) in std::mem::take(&mut self.gone) {
            let old = ledger.lookup(item.parent, &item.name)?;
            if old.map(|(old, _)| old) != Some(file) {
                continue;
            }
            let has_other = ledger.links(file, 2)?.len() > 1;
            if has_other || item.task.second {
                self.set_name(ledger, item.parent, &item.name, old, None)?;
            } else {
                let task = NameTask { second: true, is_astray: false, tries: 0, ..item.task };
                self.found.more.names.push((item.parent, item.name, task));
            }
        }
        Ok(())
    }

    /// Asks for files that lost one of several names: they may have been written under that one.
    pub(super) fn look_at_remaining<L: Ledger>(&mut self, ledger: &mut L) -> Result<(), L::Error> {
        self.has_remained = true;
        for file in &self.unnamed {
            if !self.found.files.contains_key(file) && !ledger.links(*file, 1)?.is_empty() {
                self.files.push_back((*file, FileTask::default()));
            }
        }
        Ok(())
    }

    /// Forgets files without a name, and what was in folders without one.
    pub(super) fn drop_lost<L: Ledger>(&mut self, ledger: &mut L) -> Result<(), L::Error> {
        let mut stack: Vec<FileId> = Vec::new();
        for file in std::mem::take(&mut self.unnamed) {
            if ledger.links(file, 1)?.is_empty() {
                stack.push(file);
            }
        }
        let mut seen = HashSet::new();
        let head = self.found.order.len();
        while let Some(file) = stack.pop() {
            if !seen.insert(file) {
                continue;
            }
            let Some(record) = ledger.record(file)? else { continue };
            let number = record.inode.number;
            // The number may be another's by now, which keeps its watch.
            if ledger.by_number(number)? == Some(file) {
                self.found.unwatch.push(number);
            }
            if record.meta.kind == Kind::Dir {
                while let Some(entry) = ledger.list(file, None, 1)?.pop() {
                    let old = Some((entry.file, entry.kind));
                    self.set_name(ledger, file, &entry.name, old, None)?;
                    if ledger.links(entry.file, 1)?.is_empty() {
                        stack.push(entry.file);
                    }
                }
            }
            self.found.files.remove(&file);
            ledger.remove_file(file)?;
            self.found.lost.push((file, record));
        }
        // What is deepest goes first.
        let mut inner = self.found.order.split_off(head);
        inner.reverse();
        inner.append(&mut self.found.order);
        self.found.order = inner;
        Ok(())
    }
}
