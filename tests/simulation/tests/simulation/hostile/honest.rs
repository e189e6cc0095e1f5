//! An honest master: a small tree, its journal, and the way it brings both to a station.

use std::collections::{BTreeMap, BTreeSet};

use keepshare_base::{
    Change, Content, ContentHash, Epoch, Event, Extent, FileId, FileRow, FileTime, FilledChange,
    Kind, Made, Meta, Name, NameRow, Owner, Position, RunningHash, Seq,
};
use keepshare_proto::{
    Frame, Hello, Message, MirrorReason, NameLine, Place, SetSettings, Step, codec::encode,
    running_after,
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::station::{ORIGIN, SECOND, Station, acked, set_name};

/// A master that means well.
#[derive(Clone, Debug)]
pub(crate) struct Honest {
    pub(crate) epoch: Epoch,
    pub(crate) seq: Seq,
    pub(crate) running: RunningHash,
    births: u64,
    pub(crate) files: BTreeMap<FileId, File>,
    pub(crate) names: BTreeMap<(FileId, Name), FileId>,
    /// All frames that it sent, as bytes.
    pub(crate) said: Vec<Vec<u8>>,
}

/// A file, folder or symlink as the master has it.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) meta: Meta,
    pub(crate) content: Vec<u8>,
    /// By which change its present state became a version; none while it is open.
    pub(crate) made: Option<Made>,
}

/// A change in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edit {
    pub(crate) filled: FilledChange,
}

impl Edit {
    pub(crate) fn name(&mut self, parent: FileId, name: &Name, target: Option<(FileId, Kind)>) {
        self.filled.change.names.push(NameRow { parent, name: name.clone(), target });
    }

    pub(crate) fn row(&mut self, file: FileId, meta: Meta, content: Content, cut: bool) {
        let row =
            FileRow { file, event: Event::Saved, meta, content, hash: None, cut, fuzzy: false };
        self.filled.change.files.push(row);
    }

    /// A file's whole content.
    pub(crate) fn whole(&mut self, file: FileId, meta: &Meta, bytes: &[u8], cut: bool) {
        let meta = Meta { size: bytes.len() as u64, ..meta.clone() };
        self.filled.payload.extend_from_slice(bytes);
        self.row(file, meta, Content::whole(bytes), cut);
    }
}

impl Honest {
    /// Returns one with an empty tree.
    pub(crate) fn new() -> Self {
        let root = File { meta: meta(Kind::Dir), content: vec![], made: None };
        Self {
            epoch: Epoch::FIRST,
            seq: Seq(0),
            running: RunningHash::EMPTY,
            births: 0,
            files: BTreeMap::from([(FileId::ROOT, root)]),
            names: BTreeMap::new(),
            said: Vec::new(),
        }
    }

    /// Gives a new file its id.
    fn birth(&mut self) -> FileId {
        self.births += 1;
        FileId { origin: ORIGIN, epoch: self.epoch, counter: self.births }
    }

    /// Begins another epoch, as the master that takes over does.
    pub(crate) fn begin_epoch(&mut self, epoch: Epoch) {
        (self.epoch, self.seq, self.running, self.births) = (epoch, Seq(0), RunningHash::EMPTY, 0);
    }

    /// Greets; returns the place and the fence that the station told.
    pub(crate) fn greet(
        &mut self,
        station: &mut Station,
    ) -> Result<(Option<Place>, Epoch), String> {
        station.connect();
        self.say(station, &hello(self.epoch, self.seq).into());
        station.settle();
        let frames = station.read();
        let welcome = frames.iter().find_map(|frame| match &frame.message {
            Message::Welcome(welcome) => Some((welcome.place, welcome.fence)),
            _ => None,
        });
        let welcome = welcome.ok_or_else(|| format!("no welcome: {}", shown(&frames)))?;
        let is_fenced = !station.is_connected();
        if is_fenced && welcome.1 <= self.epoch {
            return Err(format!("hung up on: {}", shown(&frames)));
        }
        Ok(welcome)
    }

    /// Makes a random edit and sends it.
    pub(crate) fn edit(&mut self, station: &mut Station, rng: &mut StdRng) -> Result<(), String> {
        let edit = self.random_edit(rng);
        self.send(station, edit)
    }

    /// Journals a change and sends it; it must be acknowledged.
    pub(crate) fn send(&mut self, station: &mut Station, edit: Edit) -> Result<(), String> {
        let frame = self.journal(station, edit);
        self.say(station, &frame);
        station.settle();
        let frames = station.read();
        match acked(&frames) {
            Some(through) if through == self.seq => Ok(()),
            _ => Err(format!("change {} is not acknowledged: {}", self.seq, shown(&frames))),
        }
    }

    /// Journals a change and returns the frame that brings it.
    pub(crate) fn journal(&mut self, station: &Station, edit: Edit) -> Frame {
        let mut edit = edit;
        edit.filled.change.stamp = station.clock();
        edit.filled.change.user = Some("anna".into());
        let filled = edit.filled.clone();
        let frame = self.journal_only(edit);
        let position = Position { origin: ORIGIN, epoch: self.epoch, seq: self.seq };
        self.apply(&filled, position);
        frame
    }

    /// Journals a change that its own tree knows nothing of.
    pub(crate) fn journal_only(&mut self, edit: Edit) -> Frame {
        let FilledChange { change, payload } = edit.filled;
        self.seq = self.seq.next();
        self.running = running_after(&self.running, &change);
        let position = Position { origin: ORIGIN, epoch: self.epoch, seq: self.seq };
        let message = Message::Change { position, running: self.running, step: Step::Next, change };
        Frame { message, payload }
    }

    /// Brings the station to what it has itself; returns how many names the station had.
    pub(crate) fn mirror(&mut self, station: &mut Station) -> Result<usize, String> {
        let start = self.begin_mirror(station);
        self.say(station, &start);
        let mut names: Vec<NameLine> = Vec::new();
        let mut is_listed = false;
        while !is_listed {
            station.settle();
            let frames = station.read();
            if frames.is_empty() || !station.is_connected() {
                return Err(format!("the listing broke off: {}", shown(&frames)));
            }
            let mut pages = 0;
            for frame in frames {
                match frame.message {
                    Message::ListNames(lines) => {
                        pages += 1;
                        names.extend(lines);
                    }
                    Message::ListFiles(_) => pages += 1,
                    Message::ListEnd => is_listed = true,
                    _ => {}
                }
            }
            if !is_listed {
                self.say(station, &Message::ListMore { pages }.into());
            }
        }
        let parts = self.mirror_parts(&names);
        for frame in self.part_frames(station, parts) {
            self.say(station, &frame);
        }
        station.settle();
        let frames = station.read();
        match acked(&frames) {
            Some(through) if through == self.seq => Ok(names.len()),
            _ => Err(format!("the mirror did not end: {}", shown(&frames))),
        }
    }

    /// Journals that a mirror begins and returns the frame that says so.
    pub(crate) fn begin_mirror(&mut self, station: &Station) -> Frame {
        let Frame { message, .. } = self.journal(station, Edit::default());
        let Message::Change { position, running, change, .. } = message else {
            unreachable!("a journaled change is one")
        };
        let at = Place { epoch: position.epoch, seq: position.seq, running };
        Message::MirrorStart { at, stamp: change.stamp, reason: MirrorReason::Asked }.into()
    }

    /// Returns the frames of a mirror's parts, the last one included.
    pub(crate) fn part_frames(&self, station: &Station, parts: Vec<FilledChange>) -> Vec<Frame> {
        let count = parts.len();
        let position = Position { origin: ORIGIN, epoch: self.epoch, seq: self.seq };
        let frame = |(index, filled): (usize, FilledChange)| {
            let number = index as u64 + 1;
            let step =
                if index + 1 == count { Step::Last { number } } else { Step::Part { number } };
            let change = Change { stamp: station.clock(), ..filled.change };
            let message = Message::Change { position, running: self.running, step, change };
            Frame { message, payload: filled.payload }
        };
        parts.into_iter().enumerate().map(frame).collect()
    }

    /// Returns what brings a station that has these names to this tree; at least one part.
    pub(crate) fn mirror_parts(&self, there: &[NameLine]) -> Vec<FilledChange> {
        let mut parts = Vec::new();
        let wrong = |line: &&NameLine| {
            self.names.get(&(line.parent, line.name.clone())) != Some(&line.file)
        };
        let wrong: Vec<_> = there.iter().filter(wrong).collect();
        for lines in wrong.chunks(1000) {
            let mut part = Edit::default();
            lines.iter().for_each(|line| part.name(line.parent, &line.name, None));
            parts.push(part.filled);
        }
        let mut placed = BTreeSet::new();
        let mut folders = vec![FileId::ROOT];
        let root = &self.files[&FileId::ROOT];
        let mut part = Edit::default();
        part.row(FileId::ROOT, root.meta.clone(), Content::Same, false);
        parts.push(part.filled);
        while let Some(folder) = folders.pop() {
            let mut part = Edit::default();
            let inside = self.names.iter().filter(|((parent, _), _)| *parent == folder);
            for ((_, name), file) in inside {
                let known = &self.files[file];
                if placed.insert(*file) {
                    part.state(*file, known);
                }
                part.name(folder, name, Some((*file, known.meta.kind)));
                if known.meta.kind == Kind::Dir {
                    folders.push(*file);
                }
            }
            parts.push(part.filled);
        }
        parts.push(FilledChange::default());
        parts
    }

    fn say(&mut self, station: &mut Station, frame: &Frame) {
        let bytes = encode(&frame.message, &frame.payload).expect("an honest frame encodes");
        station.receive(&bytes);
        self.said.push(bytes);
    }

    /// Takes over what a change of its own says.
    fn apply(&mut self, filled: &FilledChange, position: Position) {
        let change = &filled.change;
        let made = |user: Option<String>| Made { position, stamp: change.stamp, user };
        for file in &change.cuts {
            let known = self.files.get_mut(file).expect("an honest master cuts what it has");
            if known.made.is_none() {
                known.made = Some(made(change.user.clone()));
            }
        }
        for (row, bytes) in filled.contents() {
            let old = self.files.remove(&row.file);
            let mut content = match (&row.content, old) {
                (Content::Same | Content::Extents { fresh: false, .. }, Some(old)) => old.content,
                _ => vec![],
            };
            content.resize(usize::try_from(row.meta.size).expect("a small file"), 0);
            if let Content::Extents { extents, .. } = &row.content {
                let mut bytes = bytes;
                for extent in extents {
                    let start = usize::try_from(extent.offset).expect("a small file");
                    let len = usize::try_from(extent.len).expect("a small file");
                    let place = &mut content[start..start + len];
                    if extent.zero {
                        place.fill(0);
                    } else {
                        let (data, rest) = bytes.split_at(len);
                        place.copy_from_slice(data);
                        bytes = rest;
                    }
                }
            }
            let made = row.is_version().then(|| made(change.user.clone()));
            self.files.insert(row.file, File { meta: row.meta.clone(), content, made });
        }
        for row in &change.names {
            let key = (row.parent, row.name.clone());
            match row.target {
                Some((file, _)) => self.names.insert(key, file),
                None => self.names.remove(&key),
            };
        }
        let named: BTreeSet<FileId> = self.names.values().copied().collect();
        self.files.retain(|file, _| *file == FileId::ROOT || named.contains(file));
    }

    /// Returns a random edit, one that an honest master makes.
    pub(crate) fn random_edit(&mut self, rng: &mut StdRng) -> Edit {
        let mut edit = Edit::default();
        let folder = self.some_folder(rng);
        let name = plain_name(rng);
        let is_free = !self.names.contains_key(&(folder, name.clone()));
        let named = self.some_name(rng, |_| true);
        match (rng.random_range(0..16), named) {
            (0..=2, _) | (_, None) if is_free => {
                let file = self.birth();
                edit.whole(file, &meta(Kind::File), &content(rng), rng.random_bool(0.7));
                edit.name(folder, &name, Some((file, Kind::File)));
            }
            (3, _) if is_free => {
                let dir = self.birth();
                edit.row(dir, meta(Kind::Dir), Content::Same, false);
                edit.name(folder, &name, Some((dir, Kind::Dir)));
            }
            (4, _) if is_free => {
                let link = self.birth();
                let meta = Meta { symlink: b"some/where".to_vec(), ..meta(Kind::Symlink) };
                edit.row(link, meta, Content::Same, false);
                edit.name(folder, &name, Some((link, Kind::Symlink)));
            }
            (5, Some((key, file))) if is_free && self.may_move(file, folder) => {
                edit.name(key.0, &key.1, None);
                edit.name(folder, &name, Some((file, self.files[&file].meta.kind)));
            }
            (6, Some((_, file))) if is_free && self.files[&file].meta.kind == Kind::File => {
                edit.name(folder, &name, Some((file, Kind::File)));
            }
            (7, Some((key, file))) if self.is_leaf(file) => {
                edit.name(key.0, &key.1, None);
                if self.files[&file].made.is_none() {
                    edit.filled.change.cuts.push(file);
                }
            }
            (8, Some((_, file))) => {
                let known = &self.files[&file];
                let meta = Meta { mode: rng.random_range(0..0o1000), ..known.meta.clone() };
                edit.row(file, meta, Content::Same, known.meta.kind == Kind::File);
            }
            _ => self.save(rng, &mut edit),
        }
        edit
    }

    /// Saves some file, whole, in part, open or not, or makes what is open a version.
    fn save(&mut self, rng: &mut StdRng, edit: &mut Edit) {
        let files = self.files.clone();
        let Some((_, file)) = self.some_name(rng, |it| files[it].meta.kind == Kind::File) else {
            return;
        };
        let known = &files[&file];
        let cut = rng.random_bool(0.7);
        match rng.random_range(0..5) {
            0 if known.made.is_none() => edit.filled.change.cuts.push(file),
            1 => {
                let bytes = [content(rng), vec![1]].concat();
                let offset = rng.random_range(0..=known.meta.size);
                let size = known.meta.size.max(offset + bytes.len() as u64);
                let meta = Meta { size, ..known.meta.clone() };
                let len = bytes.len() as u64;
                let extents = vec![Extent { offset, len, zero: false }];
                let hash = ContentHash::of(&bytes);
                edit.filled.payload.extend_from_slice(&bytes);
                edit.row(file, meta, Content::Extents { fresh: false, extents, hash }, cut);
            }
            2 => {
                let meta = Meta { size: known.meta.size / 2, ..known.meta.clone() };
                edit.row(file, meta, Content::Same, cut);
            }
            _ => edit.whole(file, &known.meta, &content(rng), cut),
        }
    }

    fn some_name(
        &self,
        rng: &mut StdRng,
        fits: impl Fn(&FileId) -> bool,
    ) -> Option<((FileId, Name), FileId)> {
        let fitting: Vec<_> = self.names.iter().filter(|(_, file)| fits(file)).collect();
        fitting.choose(rng).map(|(key, file)| ((*key).clone(), **file))
    }

    fn some_folder(&self, rng: &mut StdRng) -> FileId {
        let is_dir = |(_, file): &(&FileId, &File)| file.meta.kind == Kind::Dir;
        let dirs: Vec<_> = self.files.iter().filter(is_dir).map(|(id, _)| *id).collect();
        *dirs.choose(rng).expect("there is a root")
    }

    fn is_leaf(&self, file: FileId) -> bool {
        !self.names.keys().any(|(parent, _)| *parent == file)
    }

    /// A folder does not go into itself.
    fn may_move(&self, file: FileId, into: FileId) -> bool {
        let mut above = into;
        while above != FileId::ROOT {
            if above == file {
                return false;
            }
            let place = self.names.iter().find(|(_, it)| **it == above);
            let Some(((parent, _), _)) = place else { return false };
            above = *parent;
        }
        true
    }
}

impl Edit {
    /// Brings a file as it is.
    fn state(&mut self, file: FileId, known: &File) {
        match known.meta.kind {
            Kind::File => self.whole(file, &known.meta, &known.content, known.made.is_some()),
            _ => self.row(file, known.meta.clone(), Content::Same, false),
        }
        let made = known.made.clone();
        self.filled.change.made.extend(made.map(|made| (file, made)));
    }
}

/// Returns the first frame of a master.
pub(crate) fn hello(epoch: Epoch, head: Seq) -> Message {
    let settings = SetSettings::default();
    Message::Hello(Hello { set: set_name(), origin: ORIGIN, epoch, head, settings })
}

/// Returns plain attributes.
pub(crate) fn meta(kind: Kind) -> Meta {
    Meta {
        kind,
        size: 0,
        mode: if kind == Kind::Dir { 0o755 } else { 0o640 },
        owner: Owner { id: 1000, name: "anna".into() },
        group: Owner::default(),
        mtime: FileTime { secs: 1_763_600_000, nanos: 5 },
        symlink: vec![],
        rdev: 0,
        xattrs: vec![],
    }
}

/// Returns some bytes, mostly few.
pub(crate) fn content(rng: &mut StdRng) -> Vec<u8> {
    let len = match rng.random_range(0..12) {
        0 => 0,
        1 => rng.random_range(0..40_000),
        2 => rng.random_range(0..9_000),
        _ => rng.random_range(1..600),
    };
    let first: u8 = rng.random();
    (0..len).map(|at: usize| first.wrapping_add((at % 251) as u8) | 1).collect()
}

/// Returns one of a few names.
pub(crate) fn plain_name(rng: &mut StdRng) -> Name {
    let names =
        ["a", "b", "c", "report", "report.docx", "canary", "deep", "x y", "ä", "@versions~"];
    Name::new(names.choose(rng).expect("there are some").as_bytes()).expect("a name")
}

fn shown(frames: &[Frame]) -> String {
    let shown: Vec<_> = frames.iter().rev().take(3).map(|it| format!("{:?}", it.message)).collect();
    shown.join(", ").chars().take(600).collect()
}

/// Lets an honest master fill a station: mirrors, edits and pauses.
pub(crate) fn archive(rng: &mut StdRng) -> (Station, Honest) {
    let (mut station, mut master) = (Station::new(), Honest::new());
    station.pass(SECOND);
    let mut edit = Edit::default();
    let (dir, file) = (master.birth(), master.birth());
    edit.row(dir, meta(Kind::Dir), Content::Same, false);
    edit.whole(file, &meta(Kind::File), b"the only copy", true);
    edit.name(FileId::ROOT, &plain_name(rng), Some((dir, Kind::Dir)));
    edit.name(dir, &plain_name(rng), Some((file, Kind::File)));
    let _ = master.journal(&station, edit);
    master.greet(&mut station).expect("an honest master is welcome");
    master.mirror(&mut station).expect("an honest mirror is taken");
    let edits = rng.random_range(15..40);
    for at in 0..edits {
        let pause = [0, SECOND / 2, SECOND, 12 * SECOND][rng.random_range(0..4)];
        station.pass(pause);
        if at == edits / 2 && rng.random_bool(0.3) {
            master.begin_epoch(master.epoch.next());
            master.greet(&mut station).expect("a new epoch is welcome");
            master.mirror(&mut station).expect("the mirror of a new epoch is taken");
        }
        if pause > 10 * SECOND {
            master.greet(&mut station).expect("it connects again");
        }
        master.edit(&mut station, rng).expect("an honest change is taken");
    }
    if rng.random_bool(0.3) {
        master.greet(&mut station).expect("it connects again");
        master.mirror(&mut station).expect("a mirror that somebody asked for is taken");
    }
    // What is open is cut by the station itself.
    station.pass(30 * SECOND);
    station.disconnect();
    (station, master)
}
