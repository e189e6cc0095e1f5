//! Looks at the folder for what decides; meanwhile people work on.

use std::{convert::Infallible, time::Duration};

use keepshare_base::{
    Content as RowContent, ContentHash, Event, FileId, FileRow, Kind, Meta, Name, Owner,
};
use keepshare_decide::{
    AtName, Failure, FileRecord, Known, Looked, NoFolder, Seen,
    compose::{Done, Got, Row},
    look::{Ask, Fact, SeenFile},
    memory::Memory,
    turn::{Content, Listed, Survey, TakePart},
};
use rand::{Rng, rngs::StdRng};

use super::folder::Folder;

/// How often a file that changes while it is read is read, as the real thing does.
const PASSES_MAX: u32 = 3;

/// Looks at the folder.
pub(crate) struct Looker<'a> {
    pub(crate) folder: &'a mut Folder,
    pub(crate) random: &'a mut StdRng,
    /// How often somebody does something between two looks.
    pub(crate) haste: f64,
}

impl Looker<'_> {
    /// Somebody may do something just now.
    fn meanwhile(&mut self) {
        if self.haste > 0.0 && self.random.random_bool(self.haste) {
            self.folder.act(self.random);
        }
    }

    /// Opens a folder of the map where that has it.
    fn open(&self, map: &Memory, folder: FileId) -> Result<u64, NoFolder> {
        let Ok(Some(names)) = map.path(folder) else { return Err(NoFolder::Elsewhere) };
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        if self.folder.is_away && !names.is_empty() {
            return Err(NoFolder::Elsewhere);
        }
        let number = self.folder.walk(&names).map_err(|is_mounted| {
            if is_mounted { NoFolder::Mounted } else { NoFolder::Elsewhere }
        })?;
        let Ok(Some(record)) = map.record(folder) else { return Err(NoFolder::Elsewhere) };
        let is_it = folder == FileId::ROOT || record.inode == self.folder.seen(number).inode;
        if is_it { Ok(number) } else { Err(NoFolder::Elsewhere) }
    }

    fn at(&self, folder: u64, name: &Name) -> AtName {
        let place = (folder, name.to_string());
        match self.folder.names.get(&place) {
            _ if self.folder.is_away => AtName::Nothing,
            Some(_) if self.folder.mounted.contains(&place) => AtName::Mounted,
            Some(number) => AtName::Object(self.folder.seen(*number)),
            None => AtName::Nothing,
        }
    }

    fn look(&self, map: &Memory, parent: FileId, name: &Name) -> Looked {
        match self.open(map, parent) {
            Ok(folder) => Looked::Saw(self.at(folder, name)),
            Err(none) => Looked::NoFolder(none),
        }
    }
}

impl Survey<Memory> for Looker<'_> {
    fn answer(&mut self, map: &Memory, ask: &Ask) -> Result<Fact, Infallible> {
        self.meanwhile();
        Ok(match ask {
            Ask::Name(parent, name) => Fact::Looked(self.look(map, *parent, name)),
            Ask::Root => {
                let seen = self.folder.seen(super::folder::ROOT);
                Fact::Looked(Looked::Saw(AtName::Object(seen)))
            }
            Ask::Attributes(_, _, seen) => Fact::Attributes(Ok(meta(seen))),
            Ask::Readable(..) => Fact::Readable(Ok(())),
        })
    }

    fn forget_folders(&mut self) {}

    fn is_in_place(&self) -> Result<(), String> {
        if self.folder.is_away { Err("it is not there".to_owned()) } else { Ok(()) }
    }

    fn list(
        &mut self,
        map: &Memory,
        folder: FileId,
        _record: &FileRecord,
    ) -> Result<Result<Listed, NoFolder>, Infallible> {
        self.meanwhile();
        let number = match self.open(map, folder) {
            Ok(number) => number,
            Err(none) => return Ok(Err(none)),
        };
        let is_there = !self.folder.is_away;
        let inside = self.folder.names.keys().filter(|(parent, _)| is_there && *parent == number);
        let names = inside.map(|(_, name)| Name::new(name.as_bytes()).expect("a name")).collect();
        Ok(Ok(Listed { names, problems: Vec::new() }))
    }

    fn meta(
        &mut self,
        map: &Memory,
        _file: FileId,
        at: &SeenFile,
    ) -> Result<Result<Meta, Failure>, Infallible> {
        self.meanwhile();
        let Some(name) = &at.name else { return Ok(Ok(meta(&at.seen))) };
        Ok(match self.look(map, at.parent, name) {
            Looked::Saw(AtName::Object(now)) if now.inode == at.seen.inode => Ok(meta(&at.seen)),
            _ => Err(Failure::missing()),
        })
    }

    fn folder_meta(
        &mut self,
        map: &Memory,
        folder: FileId,
    ) -> Result<Option<(Seen, Meta)>, Infallible> {
        self.meanwhile();
        let seen = self.open(map, folder).ok().map(|number| self.folder.seen(number));
        Ok(seen.map(|seen| (seen, meta(&seen))))
    }

    fn read(
        &mut self,
        map: &mut Memory,
        Content { file, at, record, .. }: Content<'_>,
        _part: &mut TakePart<'_, Memory>,
    ) -> Result<Got, Infallible> {
        let missing = Got::Unread(Failure::missing(), Duration::ZERO, false);
        self.meanwhile();
        let Some(name) = &at.name else { return Ok(missing) };
        let number = match self.open(map, at.parent).map(|folder| self.at(folder, name)) {
            Ok(AtName::Object(now)) if now.inode == record.inode => now.inode.number,
            _ => return Ok(missing),
        };
        // Whoever has it open reads on, whatever becomes of its name.
        let open = self.folder.things[&number].birth;
        for pass in 1.. {
            let still = |folder: &Folder| {
                folder.things.get(&number).is_some_and(|thing| thing.birth == open)
            };
            if !still(self.folder) {
                return Ok(missing);
            }
            let seen = self.folder.seen(number);
            let meta = Meta { size: seen.signature.size, ..meta(&seen) };
            let payload = self.folder.things[&number].content.clone().into_bytes();
            self.meanwhile();
            if !still(self.folder) {
                return Ok(missing);
            }
            let is_stable = self.folder.seen(number).signature == seen.signature;
            if is_stable || pass >= PASSES_MAX {
                let event = if at.born { Event::Created } else { Event::Saved };
                let row = FileRow {
                    file,
                    event,
                    meta,
                    content: RowContent::whole(&payload),
                    hash: hash_of(&payload),
                    cut: false,
                    fuzzy: !is_stable,
                };
                let row = Row { row, payload };
                let done = Done { row, seen, blocks: true, changed: true };
                return Ok(Got::Content(Box::new(done), Duration::ZERO));
            }
        }
        Ok(missing)
    }
}

/// Returns the hash of a content; `None` where it is of three files in ten, which stand for those with so many holes that nobody
/// hashes them.
pub(crate) fn hash_of(content: &[u8]) -> Option<ContentHash> {
    let birth = content.split(|byte| *byte == b':').next().unwrap_or_default();
    (!matches!(birth.last(), Some(b'2' | b'5' | b'8'))).then(|| ContentHash::of(content))
}

/// Returns the attributes of what was seen.
pub(crate) fn meta(seen: &Seen) -> Meta {
    Meta {
        kind: seen.kind,
        size: if seen.kind == Kind::File { seen.signature.size } else { 0 },
        mode: seen.mode,
        owner: Owner::default(),
        group: Owner::default(),
        mtime: seen.signature.mtime,
        symlink: vec![],
        rdev: 0,
        xattrs: vec![],
    }
}
