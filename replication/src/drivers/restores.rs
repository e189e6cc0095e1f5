//! A master's half of restores: old content comes over the link, is put aside, and is handed to the source when whole.
//!
//! The source writes it in place, journals it and answers repeats, so nothing here needs to survive a crash; what was
//! put aside is removed at the next start.
//!
//! What is zeros takes no space there, as a file of a few bytes may be terabytes long, and some space is left to the
//! journal, which is on the same disk.

mod points;

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc;

use self::points::{POINTS_MAX, Points};
use crate::{
    clock::mono,
    source::{self, SourceError, SourceHandle},
};
use keepshare_base::{
    Change, OriginId, Point, PointKind, PointRow, Position, RequestId, RestoreOutcome, StationName,
    chain,
};
use keepshare_host::disk::RESERVE_BYTES;
use keepshare_proto::{
    Act, NO_ROOM, RestoreAnswer, RestoreRequest, Text,
    restore::{MasterInput, MasterOutput},
    shipper::Input,
};

/// Restores of one set that come over one link.
#[derive(Debug)]
pub struct MasterRestores {
    dir: PathBuf,
    open: HashMap<RequestId, Aside>,
    /// How many bytes of the disk are left to others.
    reserve: u64,
    /// The points that were made for the station at the other end.
    points: Arc<Mutex<Points>>,
    /// What that station may have done, and who it is; all where it is this station itself.
    orders: Option<(StationName, May)>,
}

/// What another station may have a master do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum May {
    /// Nothing.
    Nothing,
    /// Write old content.
    Restore,
    /// All that a roll-back takes: make, move, link and remove, too.
    #[default]
    RollBack,
}

impl May {
    /// All of them, as they are written.
    pub const WORDS: [&str; 3] = ["nothing", "restore", "roll-back"];

    /// Returns what a word says; `None` for another one.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Nothing, Self::Restore, Self::RollBack].into_iter().find(|may| may.word() == word)
    }

    /// Returns how it is written.
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    fn lets(self, act: &Act) -> bool {
        match self {
            Self::Nothing => false,
            Self::Restore => matches!(act, Act::Write),
            Self::RollBack => true,
        }
    }
}

/// What is put aside of one request.
#[derive(Debug)]
struct Aside {
    request: RestoreRequest,
    path: PathBuf,
    file: File,
}

/// What the points of a roll-back begin with.
const ROLLBACK: &str = "rollback-";

/// The longest that a point lasts which a station asks for: 31 days, in microseconds.
const LASTS_MICROS_MAX: u64 = 31 * 86_400 * 1_000_000;

/// What of content is looked at for zeros at once: a block of the usual file systems.
const BLOCK_BYTES: usize = 4096;

impl MasterRestores {
    /// Puts content aside in `dir`, which nothing else uses.
    pub fn new(dir: PathBuf) -> io::Result<Self> {
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&dir)?,
        }
        let (reserve, points) = (RESERVE_BYTES, Arc::default());
        Ok(Self { dir, open: HashMap::new(), reserve, points, orders: None })
    }

    /// Lets the station at the other end have no more done than this.
    #[must_use]
    pub fn letting(self, station: StationName, may: May) -> Self {
        Self { orders: Some((station, may)), ..self }
    }

    /// Does what the master's half of a restore wants.
    pub fn perform(
        &mut self,
        output: MasterOutput,
        source: &SourceHandle,
        events: &mpsc::UnboundedSender<Input>,
    ) {
        match output {
            // The source answers a repeat when it is handed over, so nothing has to be looked up before.
            MasterOutput::LookUp { request } => {
                answer(events, MasterInput::Known { request, answer: None });
            }
            MasterOutput::Begin(request) => self.begin(request, events),
            MasterOutput::Content { request, offset, bytes } => {
                self.write(request, offset, bytes, events);
            }
            MasterOutput::Finish { request } => self.finish(request, source, events),
            MasterOutput::Abort { request } => {
                if let Some(aside) = self.open.remove(&request) {
                    remove(&aside.path);
                }
            }
        }
    }

    fn begin(&mut self, request: RestoreRequest, events: &mpsc::UnboundedSender<Input>) {
        let id = request.request;
        // Before anything is put aside.
        if let Some((station, _)) = self.orders.as_ref().filter(|(_, may)| !may.lets(&request.act))
        {
            let why = format!("the master's station.toml does not let {station} do that");
            tracing::warn!(request = %id, %station, "an order was refused");
            let answered = RestoreAnswer::Failed(Text::new(&why));
            answer(events, MasterInput::Done { request: id, answer: answered });
            return;
        }
        let path = self.dir.join(id.to_string());
        match self.create(&path, request.content_len()) {
            Ok(file) => {
                self.open.insert(id, Aside { request, path, file });
            }
            Err(error) => {
                remove(&path);
                answer(events, not_put_aside(id, &error));
            }
        }
    }

    fn write(
        &mut self,
        request: RequestId,
        offset: u64,
        bytes: Vec<u8>,
        events: &mpsc::UnboundedSender<Input>,
    ) {
        let Some(aside) = self.open.get(&request) else { return };
        // At most a quarter of a MiB, into the page cache.
        let written = self.write_into(&aside.file, offset, &bytes);
        match written {
            Ok(()) => {
                let through = offset + bytes.len() as u64;
                answer(events, MasterInput::Taken { request, through });
            }
            Err(error) => {
                if let Some(aside) = self.open.remove(&request) {
                    remove(&aside.path);
                }
                answer(events, not_put_aside(request, &error));
            }
        }
    }

    /// Writes content, but for whole blocks of zeros, where the file has a hole.
    fn write_into(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let write = |run: Range<usize>| -> io::Result<()> {
            if run.is_empty() {
                return Ok(());
            }
            self.check_space(run.len() as u64)?;
            file.write_all_at(&bytes[run.clone()], offset + run.start as u64)
        };
        let (mut at, mut run) = (0, 0..0);
        while at < bytes.len() {
            // Blocks as the file has them, wherever this piece of it begins.
            let in_block = usize::try_from((offset + at as u64) % BLOCK_BYTES as u64).unwrap_or(0);
            let end = bytes.len().min(at + BLOCK_BYTES - in_block);
            if bytes[at..end].iter().all(|byte| *byte == 0) {
                write(run)?;
                run = end..end;
            } else {
                run.end = end;
            }
            at = end;
        }
        write(run)
    }

    /// Makes the file, all of it a hole.
    fn create(&self, path: &Path, size: u64) -> io::Result<File> {
        self.check_space(0)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.set_len(size)?;
        Ok(file)
    }

    /// Refuses what would leave others too little space.
    fn check_space(&self, wanted: u64) -> io::Result<()> {
        let stat = rustix::fs::statvfs(&self.dir)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < self.reserve.saturating_add(wanted) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "its disk is full"));
        }
        Ok(())
    }

    fn finish(
        &mut self,
        request: RequestId,
        source: &SourceHandle,
        events: &mpsc::UnboundedSender<Input>,
    ) {
        let Some(aside) = self.open.remove(&request) else { return };
        let (source, events, points) = (source.clone(), events.clone(), self.points.clone());
        tokio::task::spawn_blocking(move || {
            let answered = restore(&aside, &source, &points);
            remove(&aside.path);
            answer(&events, MasterInput::Done { request, answer: answered });
        });
    }
}

fn restore(aside: &Aside, source: &SourceHandle, points: &Mutex<Points>) -> RestoreAnswer {
    let RestoreRequest { request, path, version, meta, user, ground, act, .. } =
        aside.request.clone();
    if let Act::Point { name, lasts_micros } = &act {
        // One at a time: each is counted before the next is made.
        let mut points = points.lock().unwrap_or_else(PoisonError::into_inner);
        return match make_point(source, &mut points, request, (name, *lasts_micros)) {
            Ok(position) => RestoreAnswer::Written(position),
            Err(error) => refused(&error),
        };
    }
    let restored = source.restore(source::RestoreRequest {
        request,
        version,
        user: user.map(|user| user.as_str().to_owned()),
        path,
        meta,
        content: aside.path.clone(),
        ground,
        act,
    });
    match restored {
        Ok(done) => match done.outcome {
            RestoreOutcome::Written if done.still_open => RestoreAnswer::StillOpen(done.position),
            RestoreOutcome::Written => RestoreAnswer::Written(done.position),
            RestoreOutcome::Equal => RestoreAnswer::Equal(done.position),
        },
        Err(error) => refused(&error),
    }
}

/// Says why nothing was changed, and whether it may be done later.
fn refused(error: &SourceError) -> RestoreAnswer {
    let why = chain(error);
    match error {
        SourceError::Full { .. } => {
            RestoreAnswer::NotNow(Text::new(&format!("{NO_ROOM} for the master's journal: {why}")))
        }
        error if error.is_for_now() => RestoreAnswer::NotNow(Text::new(&why)),
        _ => RestoreAnswer::Failed(Text::new(&why)),
    }
}

/// Makes a point that stays, and is held, for so long.
fn make_point(
    source: &SourceHandle,
    points: &mut Points,
    request: RequestId,
    (name, lasts_micros): (&Text, u64),
) -> Result<Position, SourceError> {
    if let Some(made) = points.of(request) {
        return Ok(made);
    }
    // Who may send is not who may order: a station makes the points of a roll-back, which end by themselves.
    if !name.as_str().starts_with(ROLLBACK) || lasts_micros > LASTS_MICROS_MAX {
        return Err(SourceError::Refused("that is no point of a roll-back".to_owned()));
    }
    let point = Point { name: name.as_str().to_owned(), kind: PointKind::Crash };
    let lasts = Duration::from_micros(lasts_micros);
    let lasts_micros = Some(lasts_micros);
    let row = PointRow::Made { point: point.clone(), lasts_micros };
    // What is journaled every station takes: a name from a link is not one of ours.
    Change { point: Some(row), ..Change::default() }
        .check(OriginId(0))
        .map_err(|error| SourceError::Refused(error.to_string()))?;
    if !points.has_room(mono()) {
        let text = format!(
            "{POINTS_MAX} points were made for that station and last, and no more are until one has ended"
        );
        return Err(SourceError::Refused(text));
    }
    let made = source.point(point, lasts_micros)?.position;
    points.add(mono(), request, made, lasts);
    source.of_point(PointRow::Held { point: made, lasts_micros })?;
    Ok(made)
}

fn answer(events: &mpsc::UnboundedSender<Input>, input: MasterInput) {
    // A loop that has ended needs no answer.
    let _ = events.send(Input::Restore(input));
}

/// Answers that content cannot be put aside; nothing is there of it any more.
fn not_put_aside(request: RequestId, error: &io::Error) -> MasterInput {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let why = match is_full {
        true => format!("{NO_ROOM} to put the content aside at the master: {error}"),
        false => format!("the master cannot put the content aside: {error}"),
    };
    tracing::warn!(%request, %why, "not restored");
    MasterInput::Done { request, answer: RestoreAnswer::NotNow(Text::new(&why)) }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, "cannot remove what was put aside for a restore");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use keepshare_base::{
        ContentHash, Epoch, FileId, FileTime, Kind, Meta, Owner, RestoreGround, Seq, SetPath,
        VersionId,
    };
    use keepshare_proto::Elsewhere;

    use super::*;

    const REQUEST: RequestId = RequestId([7; 32]);

    struct Bench {
        _dir: tempfile::TempDir,
        restores: MasterRestores,
        events: mpsc::UnboundedReceiver<Input>,
        events_to: mpsc::UnboundedSender<Input>,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let restores = MasterRestores::new(dir.path().join("restores")).unwrap();
            let (events_to, events) = mpsc::unbounded_channel();
            Self { _dir: dir, restores, events, events_to }
        }

        fn begin(&mut self, size: u64) {
            self.begin_act(size, Act::Write);
        }

        fn begin_act(&mut self, size: u64, act: Act) {
            let position = Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(1) };
            let owner = Owner { id: 0, name: String::new() };
            let meta = Meta {
                kind: Kind::File,
                size,
                mode: 0o644,
                owner: owner.clone(),
                group: owner,
                mtime: FileTime { secs: 0, nanos: 0 },
                symlink: Vec::new(),
                rdev: 0,
                xattrs: Vec::new(),
            };
            let request = RestoreRequest {
                request: REQUEST,
                path: SetPath::parse(b"a").unwrap(),
                version: VersionId(position),
                meta,
                hash: ContentHash([0; 32]),
                user: None,
                ground: None,
                act,
            };
            self.restores.begin(request, &self.events_to);
        }

        /// Orders an act; returns what it was answered, where nothing was begun.
        fn order(&mut self, act: Act) -> Option<String> {
            self.begin_act(1, act);
            if self.restores.open.remove(&REQUEST).is_some() {
                fs::remove_file(self.path()).unwrap();
                return None;
            }
            match self.events.try_recv().unwrap() {
                Input::Restore(MasterInput::Done {
                    answer: RestoreAnswer::Failed(why), ..
                }) => Some(why.to_string()),
                other => panic!("{other:?}"),
            }
        }

        fn write(&mut self, offset: u64, bytes: &[u8]) {
            self.restores.write(REQUEST, offset, bytes.to_vec(), &self.events_to);
        }

        fn path(&self) -> PathBuf {
            self.restores.dir.join(REQUEST.to_string())
        }

        fn is_refused(&mut self) -> bool {
            let Ok(Input::Restore(MasterInput::Done { answer, .. })) = self.events.try_recv()
            else {
                return false;
            };
            answer.is_for_room()
        }
    }

    /// A long file with a few bytes in it takes no more space here than it took its user.
    #[test]
    fn zeros_take_no_space() {
        let mut bench = Bench::new();
        let size = 64 << 20;
        bench.begin(size);
        // Pieces that begin and end inside of blocks, with data at the beginning, in the middle and at the end.
        let mut content = vec![0; usize::try_from(size).unwrap()];
        for at in [0, 5000, 40 << 20, content.len() - 1] {
            content[at] = 1;
        }
        let mut at = 0;
        for piece in content.chunks(200_001) {
            bench.write(at, piece);
            at += piece.len() as u64;
        }
        assert_eq!(fs::read(bench.path()).unwrap(), content);
        let taken = fs::metadata(bench.path()).unwrap().blocks() * 512;
        assert!(taken < 1 << 20, "{taken} bytes are taken for 4 blocks");
    }

    /// What another station orders is for this machine's admins to say, whatever it asks for.
    #[test]
    fn a_station_has_done_what_it_may() {
        let elsewhere = || Elsewhere {
            path: SetPath::parse(b"b").unwrap(),
            ground: RestoreGround { folder: FileId::ROOT, present: None, still: None },
        };
        let acts = [
            Act::Write,
            Act::Make,
            Act::SetAttributes,
            Act::Move(elsewhere()),
            Act::Link(elsewhere()),
            Act::Remove,
            Act::Point { name: Text::new("rollback-1"), lasts_micros: 1 },
        ];
        let mut bench = Bench::new();
        for act in &acts {
            assert_eq!(bench.order(act.clone()), None, "a station asks itself nothing: {act:?}");
        }
        for may in May::WORDS.map(|word| May::of_word(word).unwrap()) {
            let mut bench = Bench::new();
            bench.restores = bench.restores.letting("attic".parse().unwrap(), may);
            for act in &acts {
                let refused = bench.order(act.clone());
                let lets = match may {
                    May::Nothing => false,
                    May::Restore => *act == Act::Write,
                    May::RollBack => true,
                };
                assert_eq!(refused.is_none(), lets, "{may:?} {act:?}");
                let says = "station.toml does not let attic do that";
                assert!(refused.is_none_or(|why| why.contains(says)));
                assert!(!bench.path().exists());
            }
        }
        assert_eq!((May::default(), May::of_word("all")), (May::RollBack, None));
    }

    /// The journal needs space on that disk for everything else that is saved.
    #[test]
    fn what_would_fill_the_disk_is_refused_and_removed() {
        let mut bench = Bench::new();
        bench.restores.reserve = u64::MAX;
        bench.begin(1);
        assert!(bench.is_refused() && !bench.path().exists(), "before");

        bench.restores.reserve = RESERVE_BYTES;
        bench.begin(BLOCK_BYTES as u64 * 2);
        bench.restores.reserve = u64::MAX;
        bench.write(0, &[0; BLOCK_BYTES]);
        assert!(!bench.is_refused(), "zeros need no space");
        bench.write(BLOCK_BYTES as u64, &[1; BLOCK_BYTES]);
        assert!(bench.is_refused() && !bench.path().exists(), "while it is written");
        assert!(bench.restores.open.is_empty());
    }
}
