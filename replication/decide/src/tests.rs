//! A ledger in memory and a folder of facts, for the tests of what decides.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
};

use keepshare_base::{Change, Epoch, FileId, FileTime, Kind, Meta, Name, OriginId, Owner, Stamp};
use keepshare_proto::{MonoTime, cut::CutRule};

use crate::{
    AtName, Failure, FileRecord, Inode, Known, Ledger, Looked, NoFolder, Seed, Seen, Signature,
    agenda::{Agenda, FileTask, NameTask},
    compose::{Composed, Composer, Done, Got, Row, Want, When, cutting::Cutting},
    look::{Ask, Fact, Findings, SeenFile},
    memory::Memory,
    turn::{Content, Listed, Survey, TakePart, Told, Turn},
};

mod agendas;
mod composing;
mod looking;
mod turning;

/// A folder as it stands: objects by their path, with `/` between names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folder {
    pub(crate) objects: BTreeMap<String, Seen>,
    pub(crate) contents: HashMap<u64, Vec<u8>>,
}

impl Folder {
    /// Makes an object.
    pub(crate) fn make(&mut self, path: &str, number: u64, kind: Kind) {
        let inode = Inode { number, birth: FileTime { secs: 1, nanos: 0 } };
        let time = FileTime { secs: 100, nanos: 0 };
        let signature = Signature { size: 0, mtime: time, ctime: time };
        let seen = Seen {
            inode,
            kind,
            signature,
            links: 1,
            mode: 0o644,
            user: 0,
            group: 0,
            rdev: 0,
            device: 1,
        };
        self.objects.insert(path.to_owned(), seen);
    }

    /// Writes a content at a time.
    pub(crate) fn write(&mut self, path: &str, secs: i64, content: &str) {
        let seen = self.objects.get_mut(path).unwrap();
        let time = FileTime { secs, nanos: 0 };
        seen.signature = Signature { size: content.len() as u64, mtime: time, ctime: time };
        self.contents.insert(seen.inode.number, content.as_bytes().to_vec());
    }

    /// Moves an object, and all that is in it.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let inside = format!("{from}/");
        let is_moved = |path: &String| path == from || path.starts_with(&inside);
        let moved: Vec<String> =
            self.objects.keys().filter(|path| is_moved(path)).cloned().collect();
        for path in moved {
            let seen = self.objects.remove(&path).unwrap();
            self.objects.insert(path.replacen(from, to, 1), seen);
        }
    }

    /// Returns the names in the folder at a path.
    pub(crate) fn inside(&self, path: &str) -> Vec<String> {
        let names = self.objects.keys().filter_map(|known| {
            let rest = known.strip_prefix(path)?;
            let rest = if path.is_empty() { rest } else { rest.strip_prefix('/')? };
            (!rest.is_empty() && !rest.contains('/')).then(|| rest.to_owned())
        });
        names.collect()
    }

    fn path(map: &Memory, folder: FileId) -> Option<String> {
        let names = map.path(folder).unwrap()?;
        Some(names.iter().map(ToString::to_string).collect::<Vec<_>>().join("/"))
    }

    fn at(&self, map: &Memory, folder: FileId, name: &Name) -> Result<String, NoFolder> {
        let path = Self::path(map, folder).ok_or(NoFolder::Elsewhere)?;
        if folder == FileId::ROOT {
            return Ok(name.to_string());
        }
        let known = map.record(folder).unwrap().ok_or(NoFolder::Elsewhere)?;
        match self.objects.get(&path) {
            Some(seen) if seen.inode == known.inode => Ok(format!("{path}/{name}")),
            _ => Err(NoFolder::Elsewhere),
        }
    }

    /// Answers what a round asks.
    pub(crate) fn answer(&self, map: &Memory, ask: &Ask) -> Fact {
        match ask {
            Ask::Name(parent, name) => Fact::Looked(match self.at(map, *parent, name) {
                Ok(path) => Looked::Saw(match self.objects.get(&path) {
                    Some(seen) => AtName::Object(*seen),
                    None => AtName::Nothing,
                }),
                Err(none) => Looked::NoFolder(none),
            }),
            Ask::Root => Fact::Looked(Looked::Saw(AtName::Nothing)),
            Ask::Attributes(_, _, seen) => Fact::Attributes(Ok(meta(seen))),
            Ask::Readable(..) => Fact::Readable(Ok(())),
        }
    }

    /// Reads what a composer wants.
    pub(crate) fn read(&self, want: Want) -> Got {
        match want {
            Want::Content { file, at, .. } => {
                let Some(payload) = self.contents.get(&at.seen.inode.number).cloned() else {
                    return Got::Unread(Failure::missing(), std::time::Duration::ZERO, false);
                };
                let row = keepshare_base::FileRow {
                    file,
                    event: if at.born {
                        keepshare_base::Event::Created
                    } else {
                        keepshare_base::Event::Saved
                    },
                    meta: meta(&at.seen),
                    content: keepshare_base::Content::whole(&payload),
                    hash: Some(keepshare_base::ContentHash::of(&payload)),
                    cut: false,
                    fuzzy: false,
                };
                let row = Row { row, payload };
                let done = Done { row, seen: at.seen, blocks: true, changed: true };
                Got::Content(Box::new(done), std::time::Duration::ZERO)
            }
            Want::Meta(_, at) => Got::Meta(Ok(meta(&at.seen))),
            Want::Folder(_) => Got::Folder(None),
        }
    }
}

impl Survey<Memory> for Folder {
    fn answer(&mut self, map: &Memory, ask: &Ask) -> Result<Fact, Infallible> {
        Ok(Self::answer(self, map, ask))
    }

    fn forget_folders(&mut self) {}

    fn is_in_place(&self) -> Result<(), String> {
        Ok(())
    }

    fn list(
        &mut self,
        _map: &Memory,
        _folder: FileId,
        _record: &FileRecord,
    ) -> Result<Result<Listed, NoFolder>, Infallible> {
        unreachable!("tests tell of names")
    }

    fn meta(
        &mut self,
        _map: &Memory,
        _file: FileId,
        at: &SeenFile,
    ) -> Result<Result<Meta, Failure>, Infallible> {
        Ok(Ok(meta(&at.seen)))
    }

    fn folder_meta(
        &mut self,
        _map: &Memory,
        _folder: FileId,
    ) -> Result<Option<(Seen, Meta)>, Infallible> {
        Ok(None)
    }

    fn read(
        &mut self,
        _map: &mut Memory,
        _content: Content<'_>,
        _part: &mut TakePart<'_, Memory>,
    ) -> Result<Got, Infallible> {
        unreachable!("the first scan reads nothing")
    }
}

pub(crate) fn id(counter: u64) -> FileId {
    FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub(crate) fn meta(seen: &Seen) -> Meta {
    Meta {
        kind: seen.kind,
        size: seen.signature.size,
        mode: seen.mode,
        owner: Owner::default(),
        group: Owner::default(),
        mtime: seen.signature.mtime,
        symlink: vec![],
        rdev: 0,
        xattrs: vec![],
    }
}

/// A moment so many milliseconds after the start.
pub(crate) fn at(millis: u64) -> MonoTime {
    MonoTime(millis * 1000)
}

/// The time of day at a moment.
fn stamp(now: MonoTime) -> Stamp {
    Stamp(1_000_000_000 + i64::try_from(now.0).unwrap())
}

/// A source of which only the folder is not real: everything that decides, over facts.
pub(crate) struct Source {
    pub(crate) map: Memory,
    pub(crate) folder: Folder,
    pub(crate) agenda: Agenda,
    cutting: Cutting,
    /// The clock of the file system ticks: its times do not tell every modification.
    pub(crate) ticks: bool,
}

impl Source {
    pub(crate) fn new() -> Self {
        let mut map = Memory::default();
        let mut folder = Folder::default();
        folder.make("", 1, Kind::Dir);
        let root = folder.objects[""];
        let record = FileRecord::new(root.inode, root.signature, meta(&root));
        map.set_record(FileId::ROOT, &record).unwrap();
        let cutting = Cutting::new(CutRule::default());
        Self { map, folder, agenda: Agenda::default(), cutting, ticks: false }
    }

    /// Says that something happened to a name.
    pub(crate) fn told(&mut self, path: &str) {
        let (folder, last) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.file(folder);
        self.agenda.add_name(parent, name(last), NameTask::default());
    }

    /// Returns which file the map has at a path.
    pub(crate) fn file(&self, path: &str) -> FileId {
        let names = path.split('/').filter(|name| !name.is_empty());
        names.fold(FileId::ROOT, |at, part| {
            self.map.lookup(at, &name(part)).unwrap().expect("it is known").0
        })
    }

    /// Looks at what is due; folders that are new are read in the next round.
    pub(crate) fn look(&mut self, now: MonoTime) -> Findings {
        self.agenda.take_due(now);
        while let Some((folder, _)) = self.agenda.take_folder() {
            let Some(path) = Folder::path(&self.map, folder) else { continue };
            for inside in self.folder.inside(&path) {
                self.agenda.add_name(folder, name(&inside), NameTask::default());
            }
        }
        self.deciding(now, true).look(Vec::new(), &Seed::new(), false).unwrap()
    }

    fn deciding(&mut self, now: MonoTime, exact_times: bool) -> Turn<'_, Memory, Folder> {
        Turn {
            ledger: &mut self.map,
            survey: &mut self.folder,
            agenda: &mut self.agenda,
            cutting: &mut self.cutting,
            when: When { stamp: stamp(now), now, exact_times },
            told: Told::default(),
            in_itself: false,
        }
    }

    /// Looks, reads, and journals; returns what was composed beside the journal.
    pub(crate) fn turn(&mut self, now: MonoTime) -> Composed {
        let found = self.look(now);
        let when = When { stamp: stamp(now), now, exact_times: !self.ticks };
        let mut composer = Composer::new(when, &mut self.cutting, HashMap::new());
        composer.take(found, BTreeMap::new(), |_| false);
        while let Some(want) =
            composer.next(&mut self.map, |file| self.agenda.resting(file)).unwrap()
        {
            composer.hear(&mut self.map, self.folder.read(want)).unwrap();
        }
        let mut composed = composer.end(&mut self.map).unwrap();
        std::mem::take(&mut composed.again).put_on(&mut self.agenda, now);
        composed
    }

    /// Looks as the first scan does, where a file system's times do not tell every modification.
    pub(crate) fn learn(&mut self, now: MonoTime) {
        let found = self.look(now);
        let again = self.deciding(now, false).learn(&found).unwrap();
        again.put_on(&mut self.agenda, now);
    }

    /// Takes turns until nothing is due any more, and returns when that was.
    pub(crate) fn rest(&mut self, mut now: MonoTime) -> MonoTime {
        for _ in 0..1000 {
            self.turn(now);
            if !self.agenda.is_busy() {
                match self.agenda.next_deadline() {
                    Some(next) if !self.agenda.is_empty() => now = now.max(next),
                    _ => return now,
                }
            }
        }
        panic!("it never rests: {:?}", self.agenda);
    }

    /// Returns the names of changes, in order, with `-` before names that went.
    pub(crate) fn told_names(&self) -> Vec<String> {
        let of_row = |row: &keepshare_base::NameRow| match row.target {
            Some(_) => row.name.to_string(),
            None => format!("-{}", row.name),
        };
        let of_change =
            |change: &Change| change.names.iter().map(of_row).collect::<Vec<_>>().join(" ");
        self.map.journal.iter().map(of_change).filter(|names| !names.is_empty()).collect()
    }
}

/// A file task of a scan: nobody said that it changed.
pub(crate) fn suspect() -> FileTask {
    FileTask { suspect: true, ..FileTask::default() }
}
