//! What stands at a name: a file that is known, or a new one on its way into the map.

use keepshare_base::{DEPTH_MAX, FileId, Kind, Meta, Name};

use super::{Ask, Awaiting, Big, Look, NameItem, SeenFile};
use crate::{Failure, FileRecord, Inode, Ledger, Seen, Signature, Touch, agenda::NameTask};

/// What is said of a folder in which a file would lie deeper than a set's paths go.
const TOO_DEEP: &str =
    "too many folders inside each other; it is not replicated, with all below it";

/// An object that the map does not know, on its way into it.
#[derive(Clone, Debug)]
pub(super) struct Newborn {
    pub(super) item: NameItem,
    pub(super) seen: Seen,
    pub(super) touch: Touch,
    /// What the name stood for.
    pub(super) old: Option<(FileId, Kind)>,
}

impl Look<'_> {
    /// Takes in what stands at a name.
    pub(super) fn object_looked<L: Ledger>(
        &mut self,
        ledger: &mut L,
        item: NameItem,
        seen: Seen,
        old: Option<(FileId, Kind)>,
    ) -> Result<(), L::Error> {
        let mut touch = item.task.touch;
        touch.add(self.context.strangers.take(seen.inode.into()));
        if self.context.reading.contains_key(&seen.inode.number) {
            let NameItem { parent, name, .. } = item;
            self.found.big.push(Big { parent, name, seen, touch });
            return Ok(());
        }
        if seen.kind == Kind::Dir && ledger.places(item.parent)?.len() + 2 > DEPTH_MAX {
            self.problem(item, TOO_DEEP.to_owned());
            return Ok(());
        }
        let known = match identify(ledger, &seen)? {
            Some(file) => Some(file),
            None => self.known_by_names(ledger, &seen)?,
        };
        let Some(file) = known else {
            self.newborn(Newborn { item, seen, touch, old });
            return Ok(());
        };
        self.look_at_other_names(ledger, file, &seen, &item)?;
        // What is moved under a running scan is still gone through.
        let moved = self.context.is_scanning && old.map(|(old, _)| old) != Some(file);
        if seen.kind == Kind::Dir && (item.task.scan || moved) {
            self.found.more.folders.push((file, true));
        }
        self.take_in(ledger, Newborn { item, seen, touch, old }, file, false)
    }

    /// Decides whether a new object is taken in by this round.
    fn newborn(&mut self, newborn: Newborn) {
        let Newborn { item, seen, touch, .. } = &newborn;
        let is_file = seen.kind == Kind::File;
        match self.context.big_bytes {
            Some(big_bytes) if is_file => {
                let (parent, name) = (item.parent, item.name.clone());
                if seen.signature.size > big_bytes {
                    self.found.big.push(Big { parent, name, seen: *seen, touch: *touch });
                    return;
                }
                if seen.signature.size > self.budget {
                    let task = NameTask { touch: *touch, ..item.task };
                    self.found.more.names.push((parent, name, task));
                    return;
                }
                self.budget -= seen.signature.size;
            }
            // The first scan reads nothing, and what nobody can read is no file for the stations.
            None if is_file => {
                let ask = Ask::Readable(item.parent, item.name.clone(), *seen);
                self.follow = Some(ask);
                self.awaiting = Some(Awaiting::Readable(newborn));
                return;
            }
            _ => {}
        }
        self.ask_attributes(newborn);
    }

    pub(super) fn ask_attributes(&mut self, newborn: Newborn) {
        let Newborn { item, seen, .. } = &newborn;
        self.follow = Some(Ask::Attributes(item.parent, item.name.clone(), *seen));
        self.awaiting = Some(Awaiting::Attributes(newborn));
    }

    /// Makes an object that is new known, with the attributes it has.
    pub(super) fn give_birth<L: Ledger>(
        &mut self,
        ledger: &mut L,
        newborn: Newborn,
        meta: Result<Meta, Failure>,
    ) -> Result<(), L::Error> {
        let Newborn { item, seen, .. } = &newborn;
        let meta = match meta {
            Ok(meta) => meta,
            Err(failure) => {
                // Gone again while we looked: its folder tells.
                if !failure.is_missing {
                    self.problem(newborn.item, failure.text);
                }
                return Ok(());
            }
        };
        if let Some(what) = meta.left_out() {
            self.found.partial.push(((item.parent, Some(item.name.clone())), what));
        }
        let known = match self.seeded(ledger, item, seen.kind)? {
            Some(file) => Some(file),
            None => self.found_again(ledger, seen)?,
        };
        let file = known.map_or_else(|| ledger.new_file(), Ok)?;
        ledger.set_record(file, &FileRecord::new(seen.inode, seen.signature, meta))?;
        if seen.kind == Kind::Dir {
            self.found.more.folders.push((file, item.task.scan));
        }
        self.take_in(ledger, newborn, file, true)
    }

    /// Brings the map to what a name was seen to stand for.
    fn take_in<L: Ledger>(
        &mut self,
        ledger: &mut L,
        Newborn { item: NameItem { parent, name, task }, seen, touch, old }: Newborn,
        file: FileId,
        born: bool,
    ) -> Result<(), L::Error> {
        if old.map(|(old, _)| old) != Some(file) {
            self.set_name(ledger, parent, &name, old, Some((file, seen.kind)))?;
        }
        if seen.kind == Kind::File && seen.links > 1 {
            let known = ledger.links(file, seen.links as usize)?.len();
            if known < seen.links as usize {
                self.found.more.linked.push(file);
            }
        }
        let entry = self.found.files.entry(file).or_insert_with(|| SeenFile {
            seen,
            parent,
            name: None,
            touch,
            verify: false,
            suspect: task.scan,
            born,
        });
        entry.seen = seen;
        entry.suspect |= task.scan;
        (entry.parent, entry.name) = (parent, Some(name));
        entry.touch.add(touch);
        Ok(())
    }

    /// Asks for the other names of a file where there is something to find.
    fn look_at_other_names<L: Ledger>(
        &mut self,
        ledger: &L,
        file: FileId,
        seen: &Seen,
        item: &NameItem,
    ) -> Result<(), L::Error> {
        let limit = if seen.kind == Kind::Dir { 2 } else { seen.links as usize + 1 };
        let links = ledger.links(file, limit)?;
        let is_here =
            |(parent, name): &(FileId, Name)| *parent == item.parent && *name == item.name;
        let would_be = links.len() + usize::from(!links.iter().any(is_here));
        let most = if seen.kind == Kind::Dir { 1 } else { seen.links as usize };
        if would_be > most {
            for (parent, name) in links.into_iter().filter(|place| !is_here(place)) {
                self.queue_once(parent, name);
            }
        }
        Ok(())
    }

    /// Returns the file that an object was which lost its name to another that cannot be read: it is still shown there, and nobody
    /// knew where it went.
    fn known_by_names<L: Ledger>(
        &self,
        ledger: &mut L,
        seen: &Seen,
    ) -> Result<Option<FileId>, L::Error> {
        let Some(file) = self.context.lost.find(seen) else { return Ok(None) };
        match ledger.record(file)? {
            Some(record) if record.inode == Inode::default() => {
                let (inode, signature) = (seen.inode, Signature::default());
                ledger.set_record(file, &FileRecord { inode, signature, ..record })?;
                Ok(Some(file))
            }
            _ => Ok(None),
        }
    }

    /// Returns the file that an object was which lost its last name a short while ago. Whatever else becomes of it is as if it were
    /// new: what the destinations have of it may have gone there, or never have come.
    fn found_again<L: Ledger>(
        &self,
        ledger: &mut L,
        seen: &Seen,
    ) -> Result<Option<FileId>, L::Error> {
        match self.context.lost.find(seen) {
            Some(file) if ledger.record(file)?.is_none() => {
                // What of it could not be given any more was before.
                ledger.end_stale(file)?;
                Ok(Some(file))
            }
            _ => Ok(None),
        }
    }

    /// Returns the file that this name stood for at a station, when the map was lost.
    fn seeded<L: Ledger>(
        &self,
        ledger: &L,
        item: &NameItem,
        kind: Kind,
    ) -> Result<Option<FileId>, L::Error> {
        if self.context.seed.is_empty() {
            return Ok(None);
        }
        match self.context.seed.get(&(item.parent, item.name.clone())) {
            Some((file, then)) if *then == kind && ledger.record(*file)?.is_none() => {
                Ok(Some(*file))
            }
            _ => Ok(None),
        }
    }
}

/// Returns the file that an object is known as.
pub(super) fn identify<L: Ledger>(ledger: &L, seen: &Seen) -> Result<Option<FileId>, L::Error> {
    let Some(file) = ledger.by_number(seen.inode.number)? else { return Ok(None) };
    if file == FileId::ROOT {
        return Ok(None);
    }
    let record = ledger.record(file)?;
    let same = record.is_some_and(|r| r.inode == seen.inode && r.meta.kind == seen.kind);
    Ok(same.then_some(file))
}
