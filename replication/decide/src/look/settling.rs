//! Folders that were seen in the middle of a rename, under two names: which of them is true.

use std::collections::VecDeque;

use keepshare_base::{FileId, Kind, Name};

use super::{Ask, Awaiting, Look, objects::identify};
use crate::{AtName, Ledger, Looked, agenda::NameTask};

/// How often folders with several names are looked at, before what the map shows is decided without a look.
const LOOKS_MAX: u32 = 4;

/// Names of folders that the map has under several, to be looked at.
#[derive(Debug, Default)]
pub(super) struct Settling {
    looks: u32,
    /// A folder has lost a name.
    pub(super) has_changed: bool,
    places: VecDeque<Place>,
}

#[derive(Debug)]
struct Place {
    folder: FileId,
    parent: FileId,
    name: Name,
    /// No other name of this folder comes after it.
    is_last: bool,
}

/// A folder that the map has under several names, and these.
type Unsettled = (FileId, Vec<(FileId, Name)>);

impl Look<'_> {
    /// A folder has one name. Where the map shows more, a rename was seen halfway: all of them are asked for again.
    pub(super) fn next_settling<L: Ledger>(
        &mut self,
        ledger: &mut L,
    ) -> Result<Option<Ask>, L::Error> {
        loop {
            while let Some(place) = self.settling.places.pop_front() {
                let Place { folder, parent, name, is_last } = place;
                // One name has to stay: the map must be able to find the folder.
                if is_last && ledger.links(folder, 2)?.len() == 1 {
                    continue;
                }
                let ask = Ask::Name(parent, name.clone());
                self.awaiting = Some(Awaiting::Stands(folder, parent, name));
                return Ok(Some(ask));
            }
            let unsettled = self.unsettled_folders(ledger)?;
            if unsettled.is_empty() {
                self.end_settling(ledger)?;
                return Ok(None);
            }
            if self.settling.looks >= LOOKS_MAX {
                self.settle(ledger, unsettled)?;
                self.settling.has_changed = true;
                self.end_settling(ledger)?;
                return Ok(None);
            }
            self.settling.looks += 1;
            for (folder, links) in unsettled {
                let last = links.len() - 1;
                let place =
                    |(i, (parent, name))| Place { folder, parent, name, is_last: i == last };
                self.settling.places.extend(links.into_iter().enumerate().map(place));
            }
        }
    }

    /// Hears what stands at one of several names of a folder.
    pub(super) fn stands_looked<L: Ledger>(
        &mut self,
        ledger: &mut L,
        folder: FileId,
        parent: FileId,
        name: Name,
        looked: &Looked,
    ) -> Result<(), L::Error> {
        let stands = match looked {
            Looked::Saw(AtName::Object(seen)) => identify(ledger, seen)? == Some(folder),
            _ => false,
        };
        if !stands {
            self.settling.has_changed = true;
            let old = ledger.lookup(parent, &name)?;
            self.gone.retain(|(item, _)| item.parent != parent || item.name != name);
            self.set_name(ledger, parent, &name, old, None)?;
            self.found.more.names.push((parent, name, NameTask::default()));
        }
        Ok(())
    }

    /// Decides without a look: a folder is being moved to and fro. The map never shows two names; where the folder really is
    /// shows the next look.
    fn settle<L: Ledger>(
        &mut self,
        ledger: &mut L,
        unsettled: Vec<Unsettled>,
    ) -> Result<(), L::Error> {
        for (_, mut links) in unsettled {
            let kept = links.pop();
            for (parent, name) in &links {
                let old = ledger.lookup(*parent, name)?;
                self.set_name(ledger, *parent, name, old, None)?;
            }
            let names = links.into_iter().chain(kept);
            let again = names.map(|(parent, name)| (parent, name, NameTask::default()));
            self.found.more.names.extend(again);
        }
        Ok(())
    }

    fn unsettled_folders<L: Ledger>(&self, ledger: &L) -> Result<Vec<Unsettled>, L::Error> {
        let mut unsettled = Vec::new();
        for (file, seen_file) in &self.found.files {
            if seen_file.seen.kind == Kind::Dir && *file != FileId::ROOT {
                let links = ledger.links(*file, 4)?;
                if links.len() > 1 {
                    unsettled.push((*file, links));
                }
            }
        }
        Ok(unsettled)
    }
}
