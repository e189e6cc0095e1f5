//! Folders that were seen in the middle of a rename, under two names: which of them is true.

use std::os::fd::AsFd;

use keepshare_base::{FileId, Kind, Name};

use super::{NameTask, Round};
use crate::source::{SourceError, tree::AtName};

/// A folder that the map has under several names, and these.
type Unsettled = (FileId, Vec<(FileId, Name)>);

impl Round<'_, '_> {
    /// A folder has one name. Where the map shows more, a rename was seen halfway: both are looked at again.
    pub(super) fn settle_folders(&mut self) -> Result<(), SourceError> {
        for _ in 0..4 {
            let unsettled = self.unsettled_folders()?;
            if unsettled.is_empty() {
                return Ok(());
            }
            for (file, links) in unsettled {
                let mut places = links.into_iter().peekable();
                while let Some((parent, name)) = places.next() {
                    // One name has to stay: the map must be able to find the folder.
                    let is_last = places.peek().is_none() && self.tx.map.links(file, 2)?.len() == 1;
                    if !is_last && !self.stands_for(parent, &name, file)? {
                        let old = self.tx.map.lookup(parent, &name)?;
                        self.gone.retain(|(p, n, _, _)| *p != parent || *n != name);
                        self.set_name(parent, &name, old, None)?;
                        self.found.again.push((parent, name, NameTask::default()));
                    }
                }
            }
        }
        // It is being moved to and fro. The map never shows two; where it really is shows the next look.
        for (_, mut links) in self.unsettled_folders()? {
            let kept = links.pop();
            for (parent, name) in &links {
                let old = self.tx.map.lookup(*parent, name)?;
                self.set_name(*parent, name, old, None)?;
            }
            let names = links.into_iter().chain(kept);
            let again = names.map(|(parent, name)| (parent, name, NameTask::default()));
            self.found.again.extend(again);
        }
        Ok(())
    }

    fn unsettled_folders(&self) -> Result<Vec<Unsettled>, SourceError> {
        let mut unsettled = Vec::new();
        for (file, seen_file) in &self.found.files {
            if seen_file.seen.kind == Kind::Dir && *file != FileId::ROOT {
                let links = self.tx.map.links(*file, 4)?;
                if links.len() > 1 {
                    unsettled.push((*file, links));
                }
            }
        }
        Ok(unsettled)
    }

    fn stands_for(
        &mut self,
        parent: FileId,
        name: &Name,
        file: FileId,
    ) -> Result<bool, SourceError> {
        let Some(folder) = self.folders.open(&self.tx.map, self.tree, parent)? else {
            return Ok(false);
        };
        match self.tree.look(folder.as_fd(), name) {
            Ok(AtName::Object(seen)) => Ok(self.identify(&seen)? == Some(file)),
            Ok(AtName::Nothing | AtName::Mounted) | Err(_) => Ok(false),
        }
    }
}
