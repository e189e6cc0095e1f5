//! Changes that no honest master makes, and some that one might.

use keepshare_base::{
    Content, ContentHash, Epoch, Event, Extent, FILES_PER_CHANGE_MAX, FileId, FileRow, FileTime,
    Kind, Made, Meta, NAMES_PER_CHANGE_MAX, Name, OriginId, Owner, Point, PointKind, PointRow,
    Position, RequestId, RestoreOutcome, RestoreRow, Schedule, Seq, Stamp, VersionId,
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::{
    honest::{Edit, Honest, content, meta, plain_name},
    station::{ORIGIN, START},
};

/// Every kind there is.
const KINDS: [Kind; 7] = [
    Kind::File,
    Kind::Dir,
    Kind::Symlink,
    Kind::Fifo,
    Kind::Socket,
    Kind::BlockDevice,
    Kind::CharDevice,
];

/// What a hostile master knows and has done.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Files and what kind they are: the archive's, and what came with the attack.
    pub(crate) files: Vec<(FileId, Kind)>,
    /// Names that stand or stood for something.
    pub(crate) names: Vec<(FileId, Name)>,
    /// What versions of the archive are called and dated by.
    pub(crate) mades: Vec<(FileId, Made)>,
    /// Where symlinks may lead.
    pub(crate) ways_out: Vec<Vec<u8>>,
    births: u64,
}

impl Known {
    /// Returns what the archive's own master knows.
    pub(crate) fn of(master: &Honest, ways_out: Vec<Vec<u8>>) -> Self {
        let files = &master.files;
        Self {
            files: files.iter().map(|(file, known)| (*file, known.meta.kind)).collect(),
            names: master.names.keys().cloned().collect(),
            mades: files.iter().filter_map(|(id, it)| Some((*id, it.made.clone()?))).collect(),
            ways_out,
            births: 1000,
        }
    }

    /// Returns a change for this place.
    pub(crate) fn change(&mut self, rng: &mut StdRng, at: Position) -> Edit {
        let mut edit = Edit::default();
        let rows = [0, 1, 1, 1, 2, 2, 3, 8][rng.random_range(0..8)];
        for _ in 0..rows {
            match rng.random_range(0..8) {
                0..=3 => self.file(rng, &mut edit, at),
                4 => self.new_thing(rng, &mut edit, at),
                5 => edit.filled.change.cuts.push(self.some_file(rng).0),
                _ => self.name(rng, &mut edit),
            }
        }
        edit.filled.change.stamp = stamp(rng);
        if rng.random_bool(0.2) {
            edit.filled.change.user = Some("mallory".repeat(rng.random_range(0..40)));
        }
        self.more(rng, &mut edit, at);
        edit
    }

    /// What is rare in a change.
    fn more(&mut self, rng: &mut StdRng, edit: &mut Edit, at: Position) {
        match rng.random_range(0..60) {
            0 => {
                let name = "p".repeat(rng.random_range(0..300));
                let lasts_micros = rng.random::<bool>().then(|| rng.random());
                let point = if rng.random() { at } else { Position { seq: Seq(1), ..at } };
                let every_micros = rng.random_range(0..3) << rng.random_range(0..64);
                edit.filled.change.point = Some(match rng.random_range(0..6) {
                    0 => PointRow::Held { point, lasts_micros },
                    1 => PointRow::Released { point },
                    2 => PointRow::Removed { point },
                    3 => PointRow::Unscheduled { every_micros },
                    4 => {
                        let schedule = Schedule { every_micros, keep: rng.random_range(0..9) };
                        let point = Point { name, kind: PointKind::Crash };
                        PointRow::Scheduled { point, schedule }
                    }
                    _ => {
                        PointRow::Made { point: Point { name, kind: PointKind::App }, lasts_micros }
                    }
                });
            }
            1 => {
                let (request, version) = (RequestId([7; 32]), VersionId(at));
                let row = RestoreRow { request, version, outcome: RestoreOutcome::Written };
                edit.filled.change.restore = Some(row);
            }
            2 => edit.filled.payload.push(1),
            3 => drop(edit.filled.payload.pop()),
            4 => {
                let shape = *Shape::ALL.choose(rng).expect("there are some");
                let Edit { mut filled } = wide(shape);
                let few = rng.random_range(1..1200);
                filled.change.names.truncate(few);
                filled.change.files.truncate(few / 8 + 1);
                filled.change.cuts.truncate(few);
                edit.filled.change.names.append(&mut filled.change.names);
                edit.filled.change.files.append(&mut filled.change.files);
                edit.filled.change.cuts.append(&mut filled.change.cuts);
            }
            5 => self.new_zeros(edit),
            6 => {
                // The same once more.
                let rows = edit.filled.change.files.clone();
                edit.filled.change.files.extend(rows);
            }
            _ => {}
        }
    }

    fn some_file(&self, rng: &mut StdRng) -> (FileId, Kind) {
        let odd = [
            (FileId::ROOT, Kind::Dir),
            (FileId { origin: OriginId(2), epoch: Epoch::FIRST, counter: 1 }, Kind::File),
            (FileId { origin: OriginId::SET, epoch: Epoch::FIRST, counter: 1 }, Kind::File),
            (FileId { origin: ORIGIN, epoch: Epoch::FIRST, counter: u64::MAX }, Kind::File),
            (FileId { origin: ORIGIN, epoch: Epoch::MAX, counter: 1 }, Kind::Dir),
            (FileId { origin: ORIGIN, epoch: Epoch::FIRST, counter: 0 }, Kind::File),
        ];
        if rng.random_bool(0.05) {
            return *odd.choose(rng).expect("there are some");
        }
        *self.files.choose(rng).expect("there is a root")
    }

    fn some_folder(&self, rng: &mut StdRng) -> FileId {
        let dirs: Vec<_> = self.files.iter().filter(|(_, kind)| *kind == Kind::Dir).collect();
        match dirs.choose(rng) {
            Some((dir, _)) if rng.random_bool(0.95) => *dir,
            _ => self.some_file(rng).0,
        }
    }

    /// Another state of a file that is there, most likely.
    fn file(&mut self, rng: &mut StdRng, edit: &mut Edit, at: Position) {
        let (file, kind) = self.some_file(rng);
        let kind = if rng.random_bool(0.04) { *KINDS.choose(rng).expect("some") } else { kind };
        self.row(rng, edit, (file, kind), at);
    }

    /// A file, folder or something else with a new id and a name.
    fn new_thing(&mut self, rng: &mut StdRng, edit: &mut Edit, at: Position) {
        self.births += 1;
        // The next epochs' ids are free to say, too.
        let ahead = if rng.random_bool(0.1) { rng.random_range(0..3) } else { 0 };
        let epoch = Epoch::new(at.epoch.number().saturating_add(ahead)).unwrap_or(at.epoch);
        let counter = if ahead > 0 { rng.random_range(1..6) } else { self.births };
        let file = FileId { origin: ORIGIN, epoch, counter };
        let kind = match rng.random_range(0..10) {
            0..=3 => Kind::File,
            4..=6 => Kind::Dir,
            _ => *KINDS.choose(rng).expect("there are some"),
        };
        self.row(rng, edit, (file, kind), at);
        self.files.push((file, kind));
        let (folder, name) = (self.some_folder(rng), self.some_name_of(rng));
        edit.name(folder, &name, Some((file, kind)));
        self.names.push((folder, name));
    }

    fn row(&self, rng: &mut StdRng, edit: &mut Edit, thing: (FileId, Kind), at: Position) {
        let (file, kind) = thing;
        let mut meta = self.meta(rng, kind);
        let cut = rng.random_bool(0.6);
        let event = [Event::Created, Event::Saved, Event::Restored, Event::Mirrored]
            [rng.random_range(0..4)];
        let before = edit.filled.payload.len();
        let content = match kind {
            Kind::File => some_content(rng, edit, &mut meta),
            _ if rng.random_bool(0.03) => Content::whole(b""),
            _ => Content::Same,
        };
        let bytes = &edit.filled.payload[before..];
        let hash = match rng.random_range(0..6) {
            0 => Some(ContentHash::of(b"a lie")),
            1 | 2 => Some(ContentHash::of(bytes)),
            _ => None,
        };
        let fuzzy = rng.random_bool(0.1);
        let row = FileRow { file, event, meta, content, hash, cut, fuzzy };
        if rng.random_bool(0.4) && (row.is_version() || rng.random_bool(0.1)) {
            edit.filled.change.made.push((file, self.made(rng, file, at)));
        }
        edit.filled.change.files.push(row);
    }

    /// By which change a state is said to be a version: mostly one that was before.
    fn made(&self, rng: &mut StdRng, file: FileId, at: Position) -> Made {
        let of_file: Vec<_> = self.mades.iter().filter(|(it, _)| *it == file).collect();
        if let Some((_, made)) = of_file.choose(rng)
            && rng.random_bool(0.5)
        {
            return made.clone();
        }
        let seq = match rng.random_range(0..8) {
            0 => at.seq.0,
            1 => at.seq.0.saturating_add(1),
            2 => u64::MAX,
            _ => rng.random_range(0..60),
        };
        let epoch = if rng.random_bool(0.8) { at.epoch } else { Epoch::FIRST };
        let origin = if rng.random_bool(0.98) { ORIGIN } else { OriginId(2) };
        let position = Position { origin, epoch, seq: Seq(seq) };
        Made { position, stamp: stamp(rng), user: None }
    }

    fn meta(&self, rng: &mut StdRng, kind: Kind) -> Meta {
        let mut meta = meta(kind);
        if kind == Kind::Symlink {
            meta.symlink = self.ways_out.choose(rng).cloned().unwrap_or_else(|| b"x".to_vec());
        }
        match rng.random_range(0..40) {
            0 => meta.mode = rng.random_range(0..0o10000),
            1 => meta.mode = rng.random(),
            2 => meta.mtime = FileTime { secs: i64::MIN, nanos: rng.random_range(0..1 << 30) },
            3 => meta.mtime = FileTime { secs: i64::MAX, nanos: 999_999_999 },
            4 => meta.owner = Owner { id: 0, name: "root".repeat(rng.random_range(1..80)) },
            5 => meta.xattrs = vec![(b"user.x".to_vec(), vec![1; rng.random_range(0..70_000)])],
            6 => meta.xattrs = vec![(b"security.capability".to_vec(), vec![1; 20])],
            7 => meta.xattrs = vec![(b"system.posix_acl_access".to_vec(), vec![2; 44])],
            8 => meta.rdev = rng.random(),
            9 => meta.symlink = vec![b'/'; rng.random_range(0..5000)],
            10 => meta.size = rng.random(),
            11 => meta.mode = 0,
            _ => {}
        }
        meta
    }

    /// A name that stands for something else, or for nothing.
    fn name(&mut self, rng: &mut StdRng, edit: &mut Edit) {
        let known = self.names.choose(rng).cloned();
        let (folder, name) = match known {
            Some(known) if rng.random_bool(0.6) => known,
            _ => (self.some_folder(rng), self.some_name_of(rng)),
        };
        let target = if rng.random_bool(0.35) { None } else { Some(self.some_file(rng)) };
        if let (Some((file, Kind::Dir)), true) = (target, rng.random_bool(0.7)) {
            // A folder has one name: it leaves the others, as far as they are known.
            let mine = self.names.clone();
            mine.iter().for_each(|(parent, name)| {
                if rng.random_bool(0.5) && *parent != file {
                    edit.name(*parent, name, None);
                }
            });
        }
        edit.filled.change.names.retain(|row| (row.parent, &row.name) != (folder, &name));
        edit.name(folder, &name, target);
        self.names.push((folder, name));
    }

    fn some_name_of(&self, rng: &mut StdRng) -> Name {
        match rng.random_range(0..12) {
            0 => Name::new(&vec![b'n'; rng.random_range(1..=255)]).expect("a name"),
            1 => {
                let bytes: Vec<u8> = (0..rng.random_range(1..40)).map(|_| rng.random()).collect();
                Name::new(&bytes).unwrap_or_else(|_| plain_name(rng))
            }
            _ => plain_name(rng),
        }
    }

    /// A new file of as many zeros as a change may have.
    fn new_zeros(&mut self, edit: &mut Edit) {
        self.births += 1;
        let file = FileId { origin: ORIGIN, epoch: Epoch::FIRST, counter: self.births };
        let size = keepshare_base::EXTENT_BYTES_MAX;
        let extents = vec![Extent { offset: 0, len: size, zero: true }];
        let content = Content::Extents { fresh: true, extents, hash: ContentHash::of(b"") };
        edit.row(file, Meta { size, ..meta(Kind::File) }, content, true);
        self.files.push((file, Kind::File));
    }
}

/// Of what a change has very many.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Names,
    Files,
    Cuts,
    Zeros,
    Attributes,
}

impl Shape {
    pub(crate) const ALL: [Self; 5] =
        [Self::Names, Self::Files, Self::Cuts, Self::Zeros, Self::Attributes];
}

/// Returns a change of as many small rows as one may have.
pub(crate) fn wide(shape: Shape) -> Edit {
    let mut edit = Edit::default();
    let of =
        |counter: usize| FileId { origin: ORIGIN, epoch: Epoch::FIRST, counter: counter as u64 };
    match shape {
        Shape::Names => (0..NAMES_PER_CHANGE_MAX).for_each(|at| {
            let name = Name::new(format!("{at:x}").as_bytes()).expect("a name");
            edit.name(FileId::ROOT, &name, None);
        }),
        Shape::Files => (0..FILES_PER_CHANGE_MAX).for_each(|at| {
            let small = Meta { owner: Owner::default(), ..meta(Kind::File) };
            edit.row(of(10_000 + at), small, Content::Same, false);
        }),
        Shape::Cuts => {
            edit.filled.change.cuts.extend((0..FILES_PER_CHANGE_MAX).map(|at| of(at % 30)));
        }
        Shape::Zeros => {
            let zero = |at: u64| Extent { offset: at * 8192, len: 1, zero: true };
            let extents: Vec<_> = (0..8192).map(zero).collect();
            let content = Content::Extents { fresh: false, extents, hash: ContentHash::of(b"") };
            edit.row(of(2), Meta { size: 1 << 26, ..meta(Kind::File) }, content, false);
        }
        Shape::Attributes => (0..30).for_each(|at| {
            let xattrs = (0..900).map(|n| (format!("user.{n:x}").into_bytes(), vec![])).collect();
            let many = Meta { xattrs, ..meta(Kind::File) };
            edit.row(of(10_000 + at), many, Content::Same, false);
        }),
    }
    edit
}

/// Returns some content, and sets the size that goes with it, or nearly.
fn some_content(rng: &mut StdRng, edit: &mut Edit, meta: &mut Meta) -> Content {
    let bytes = content(rng);
    let len = bytes.len() as u64;
    match rng.random_range(0..12) {
        0 => {
            meta.size = rng.random_range(0..2000);
            Content::Same
        }
        1 => {
            meta.size = [0, 1 << 20, 1 << 40, 1 << 53, (1 << 53) + 1][rng.random_range(0..5)];
            Content::Same
        }
        2 | 3 => {
            let offset =
                [rng.random_range(0..5000), 1 << 30, (1 << 53) - 1][rng.random_range(0..3)];
            meta.size = offset + len + [0, 0, 1, 5000][rng.random_range(0..4)];
            let mut extents = vec![];
            if len > 0 {
                extents.push(Extent { offset, len, zero: false });
            }
            if rng.random_bool(0.3) {
                extents.push(Extent { offset: offset + len, len: 1 << 16, zero: true });
                meta.size = meta.size.max(offset + len + (1 << 16));
            }
            if rng.random_bool(0.05) {
                extents.push(Extent { offset, len: 1, zero: true });
            }
            edit.filled.payload.extend_from_slice(&bytes);
            let hash = ContentHash::of(&bytes);
            Content::Extents { fresh: rng.random_bool(0.5), extents, hash }
        }
        4 => {
            let extents = vec![Extent { offset: u64::MAX - 1, len: u64::MAX, zero: rng.random() }];
            meta.size = 100;
            Content::Extents { fresh: true, extents, hash: ContentHash::of(b"") }
        }
        5 => {
            edit.filled.payload.extend_from_slice(&bytes);
            meta.size = len;
            let extents = vec![Extent { offset: 0, len: len.max(1), zero: false }];
            Content::Extents { fresh: true, extents, hash: ContentHash::of(b"a lie") }
        }
        _ => {
            edit.filled.payload.extend_from_slice(&bytes);
            meta.size = len;
            Content::whole(&bytes)
        }
    }
}

/// Returns some moment, of now or of no time.
pub(crate) fn stamp(rng: &mut StdRng) -> Stamp {
    match rng.random_range(0..10) {
        0 => Stamp(0),
        1 => Stamp(4_080_000_000_000_000),
        2 => Stamp(i64::MIN),
        3 => Stamp(i64::MAX),
        4 => Stamp(rng.random()),
        _ => START.plus_micros(rng.random_range(0..100_000_000)),
    }
}
