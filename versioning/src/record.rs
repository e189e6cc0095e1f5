//! The rows of a log record.
//!
//! A record holds resulting rows, never deltas, and each row says at which commit it belongs: applying a record twice
//! gives what applying it once gives, and a snapshot of the log is made of the same rows. What can be computed from
//! rows (today's names, parents, times, counts) is not in them. The encoding is in docs/formats/records.md.

use serde::{Deserialize, Serialize};

use keepshare_base::{
    CommitId, ContentHash, Epoch, Event, FileId, Kind, Made, Meta, Name, OriginId, Point, Position,
    RestoreRow, RunningHash, Schedule, Seq, Stamp,
};

use crate::pack::PackLoc;

mod former;

/// The version of the encoding; older ones are read.
pub(crate) const FORMAT: u8 = 8;

/// The version of rows that are written as they are.
const PLAIN: u8 = 7;

/// Packed rows of before anything was put aside.
const FIRST_PACKED: u8 = 4;

/// Packed rows of before commits went.
const FORMER_PACKED: u8 = 6;

/// The rows of many files at once are packed, since one is much like the next; fewer bytes than these are not.
const PACKED_BYTES_MIN: usize = 4 * 1024;

/// The zstd level: hashes do not get shorter, whatever is tried.
const LEVEL: i32 = 1;

/// The most bytes of rows in one record.
pub(crate) const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The content that stays in its file row, in bytes.
pub(crate) const INLINE_BYTES_MAX: u64 = 512;

/// The content that is kept in one piece, in bytes; longer content is mapped.
pub(crate) const BLOB_BYTES_MAX: u64 = BLOCK_BYTES;

/// The bytes of one block of a mapped body, the unit of first copies.
pub(crate) const BLOCK_BYTES: u64 = 64 * 1024;

/// The bytes of one page of a mapped body, the unit of later changes.
pub(crate) const PAGE_BYTES: u64 = 4 * 1024;

/// The pages of one block.
pub(crate) const PAGES_PER_BLOCK: u64 = BLOCK_BYTES / PAGE_BYTES;

/// A mapped body: the commit of its birth, and which file row of that commit it came with.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub(crate) struct BodyId(pub(crate) u64);

impl BodyId {
    /// A change has at most 1024 file rows.
    const ROW_BITS: u32 = 10;

    /// Returns the id of the body that the `row`-th file row of `commit` makes.
    pub(crate) fn new(commit: CommitId, row: usize) -> Self {
        let row = row as u64;
        assert!(row < 1 << Self::ROW_BITS, "file row {row} of one change");
        assert!(commit.0 < 1 << (64 - Self::ROW_BITS), "commit {commit} is out of bounds");
        Self(commit.0 << Self::ROW_BITS | row)
    }

    /// Returns the commit that made it.
    pub(crate) fn birth(self) -> CommitId {
        CommitId(self.0 >> Self::ROW_BITS)
    }
}

/// Where a file's content is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) enum Body {
    /// Here.
    Inline(Vec<u8>),
    /// In one frame.
    Blob(PackLoc),
    /// In blocks and pages.
    Mapped(BodyId),
    /// Nowhere any more: retention removed it.
    Expired,
    /// Where it was, and shown to nobody: retention removed it, and it may come back.
    Aside {
        /// The running time of the set here when the run began that removed it, in microseconds.
        since_micros: u64,
        /// What it was; nothing that is gone.
        #[serde(deserialize_with = "there")]
        was: Box<Self>,
    },
}

impl Body {
    /// Tells whether nobody is shown it any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Expired | Self::Aside { .. })
    }

    /// Returns where its content is, shown or not.
    pub(crate) fn kept(&self) -> &Self {
        match self {
            Self::Aside { was, .. } => was,
            body => body,
        }
    }

    /// Returns the same, to be changed.
    pub(crate) fn kept_mut(&mut self) -> &mut Self {
        match self {
            Self::Aside { was, .. } => was,
            body => body,
        }
    }

    /// Returns since when it is aside; `None` where it is not.
    pub(crate) fn aside_since(&self) -> Option<u64> {
        match self {
            Self::Aside { since_micros, .. } => Some(*since_micros),
            Self::Inline(_) | Self::Blob(_) | Self::Mapped(_) | Self::Expired => None,
        }
    }
}

/// Reads a body that is there: bytes that put one aside in another, however deep, are none.
fn there<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Box<Body>, D::Error> {
    #[derive(Deserialize)]
    enum There {
        Inline(Vec<u8>),
        Blob(PackLoc),
        Mapped(BodyId),
    }
    Ok(Box::new(match There::deserialize(from)? {
        There::Inline(bytes) => Body::Inline(bytes),
        There::Blob(loc) => Body::Blob(loc),
        There::Mapped(body) => Body::Mapped(body),
    }))
}

/// A file's state.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileValue {
    pub(crate) event: Event,
    pub(crate) meta: Meta,
    pub(crate) hash: Option<ContentHash>,
    pub(crate) fuzzy: bool,
    /// The commit that made this state a version.
    pub(crate) cut: Option<CommitId>,
    /// The commit that gave the content its present bytes.
    pub(crate) since: CommitId,
    pub(crate) body: Body,
    /// Who made it a version.
    pub(crate) mark: Mark,
}

/// Who made a state a version, which is what the version is called and dated by.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) enum Mark {
    /// The change of the commit that cut it.
    Change,
    /// This change of its origin; a mirror brought it.
    Origin(Made),
    /// This station, which got no word from the origin.
    Station,
    /// Nobody yet: it, and states before it that are not kept, are open since this commit.
    Open(CommitId),
}

/// What a commit is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct CommitValue {
    /// This station's clock when it came, as it was read.
    pub(crate) arrival: Stamp,
    /// When the change was made, by this station's reckoning.
    pub(crate) moment: Stamp,
    /// The running time of the set here, in microseconds.
    pub(crate) running_micros: u64,
    pub(crate) position: Position,
    pub(crate) complete: bool,
    pub(crate) stamp: Stamp,
    pub(crate) user: Option<String>,
}

/// What a commit was before moments were kept.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct FirstCommitValue {
    pub(crate) arrival: Stamp,
    pub(crate) position: Position,
    pub(crate) complete: bool,
    pub(crate) stamp: Stamp,
    pub(crate) user: Option<String>,
}

/// A named moment. It is no more when both times have passed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct PointValue {
    pub(crate) point: Point,
    pub(crate) position: Position,
    /// When it ends, as running time of the set here in microseconds; [`u64::MAX`]: when it is removed.
    pub(crate) ends: u64,
    /// Until when it is held, likewise; 0: it is not.
    pub(crate) held: u64,
    /// This station keeps it, whatever its master says.
    pub(crate) kept_here: bool,
}

impl PointValue {
    /// Returns the row that says this of the point at a commit.
    pub(crate) fn row(self, at: CommitId, schedule: Option<Schedule>) -> Row {
        match schedule {
            Some(schedule) => Row::ScheduledPoint { at, value: self, schedule },
            None => Row::KeptPoint { at, value: self },
        }
    }

    /// Returns one that nothing is said of yet.
    pub(crate) fn new(point: Point, position: Position) -> Self {
        Self { point, position, ends: u64::MAX, held: 0, kept_here: false }
    }
}

/// Which table of a mapped body a row is in.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub(crate) enum Grain {
    /// 64 KiB.
    Block,
    /// 4 KiB.
    Page,
}

impl Grain {
    /// Returns how many bytes one unit has.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Block => BLOCK_BYTES,
            Self::Page => PAGE_BYTES,
        }
    }
}

/// A place in a mapped body, at a commit.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) body: BodyId,
    pub(crate) grain: Grain,
    /// Counts blocks or pages from the file's start.
    pub(crate) number: u64,
    pub(crate) at: CommitId,
}

impl Piece {
    /// Returns the first byte that it covers.
    pub(crate) fn start(&self) -> u64 {
        self.number * self.grain.bytes()
    }
}

/// How far an origin's changes have come to this station.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct OriginState {
    /// The last complete change's epoch; `None` before the first.
    pub last: Option<(Epoch, Seq, RunningHash)>,
    /// Changes of epochs below this one are refused.
    pub fence: Epoch,
    /// The mirror that has begun and not ended, while the set is of no one moment.
    pub mirror: Option<MirrorMark>,
}

/// A mirror that runs, or broke off and was not begun again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct MirrorMark {
    /// The commit at which it began: what was cut later, and by nothing but it, it may bring once more.
    pub began: CommitId,
    /// The epoch of the place that it leads to.
    pub epoch: Epoch,
    /// The number of that place in the epoch.
    pub seq: Seq,
}

/// One resulting row. New kinds go to the end: the place in this list is the encoding.
#[expect(clippy::large_enum_variant, reason = "most rows are of files, the largest kind")]
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) enum Row {
    /// A commit, as version 1 wrote it; its moment follows when it is applied.
    FirstCommit { at: CommitId, value: FirstCommitValue },
    /// What a name stands for from `at` on.
    Name { at: CommitId, parent: FileId, name: Name, target: Option<(FileId, Kind)> },
    /// What a file is from `at` on.
    File { at: CommitId, file: FileId, value: FileValue },
    /// A file's state at `at` is not kept.
    FileGone { at: CommitId, file: FileId },
    /// Content of a mapped body; `None`: zeros.
    Content { piece: Piece, loc: Option<PackLoc> },
    /// Content of a mapped body that nothing needs any more.
    ContentGone { piece: Piece },
    /// Older content of a body from byte `from` on reads as zeros from `at` on.
    Void { at: CommitId, body: BodyId, from: u64 },
    /// A void that hides nothing any more.
    VoidGone { at: CommitId, body: BodyId },
    /// A body may hold content that nothing needs; asked for at `at`.
    Sweep { at: CommitId, body: BodyId },
    /// A body was looked through, for what was asked through `at`.
    Swept { at: CommitId, body: BodyId },
    /// How far an origin's changes have come.
    Place { origin: OriginId, place: OriginState },
    /// A named moment, as format 4 and those before it wrote it: it stays until it is removed.
    Point { at: CommitId, point: Point, position: Position },
    /// The answer to a request to restore.
    Restore { at: CommitId, row: RestoreRow, position: Position },
    /// What the clock said.
    Clock { arrival: Stamp },
    /// A commit.
    Commit { at: CommitId, value: CommitValue },
    /// A file's state at `at`, which stays what it is, was made a version by commit `cut`. Short, however large the state's
    /// attributes are, so that one record has room for all that one change cuts.
    Cut { at: CommitId, file: FileId, cut: CommitId, mark: Mark },
    /// A named moment, and for how long it stays.
    KeptPoint { at: CommitId, value: PointValue },
    /// A point is no more.
    PointGone { at: CommitId },
    /// As [`Self::KeptPoint`], of one that is made every so often.
    ScheduledPoint { at: CommitId, value: PointValue, schedule: Schedule },
    /// A commit has no row any more: nothing that is kept came with it.
    CommitGone { at: CommitId },
}

impl Row {
    /// Tells whether it is about a byte that a file can have.
    fn is_within_files(&self) -> bool {
        match self {
            Self::Content { piece, .. } | Self::ContentGone { piece } => {
                piece.number <= u64::MAX / piece.grain.bytes()
            }
            _ => true,
        }
    }
}

/// Why the body of a record is not rows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RecordError {
    /// Written by a newer Keepshare.
    Newer(u8),
    /// Not what [`encode`] writes.
    Broken,
}

/// Returns the body of a record, as long as its rows are.
pub(crate) fn encode(rows: &[Row]) -> Vec<u8> {
    postcard::to_extend(rows, vec![PLAIN]).expect("rows hold nothing that cannot be encoded")
}

/// Returns the body of a record packed, where it is long and that pays.
pub(crate) fn packed(body: Vec<u8>) -> Vec<u8> {
    let (Some((&PLAIN, rows)), PACKED_BYTES_MIN..) = (body.split_first(), body.len()) else {
        return body;
    };
    let Ok(rows_len) = u32::try_from(rows.len()) else { return body };
    match zstd::bulk::compress(rows, LEVEL) {
        Ok(zipped) if zipped.len() < body.len() / 8 * 7 => {
            [&[FORMAT][..], &rows_len.to_le_bytes(), &zipped].concat()
        }
        Ok(_) => body,
        Err(error) => {
            tracing::debug!(%error, "a record stays as long as it is");
            body
        }
    }
}

/// Reads what [`encode`] and [`packed`] wrote.
pub(crate) fn decode(body: &[u8]) -> Result<Vec<Row>, RecordError> {
    let rows = match body {
        [FIRST_PACKED | FORMER_PACKED | FORMAT, packed @ ..] => whole(&unpacked(packed)?)?,
        // Format 2 had no cuts alone, format 4 nothing aside and no points that end, format 6 no commits that went.
        [2 | 3 | 5 | PLAIN, rows @ ..] => whole(rows)?,
        [1, rows @ ..] => former::rows(whole(rows)?),
        [format, ..] if *format > FORMAT => return Err(RecordError::Newer(*format)),
        _ => return Err(RecordError::Broken),
    };
    if rows.iter().all(Row::is_within_files) { Ok(rows) } else { Err(RecordError::Broken) }
}

/// Returns how long the rows of a body are.
pub(crate) fn rows_len(body: &[u8]) -> usize {
    match body {
        [FIRST_PACKED | FORMER_PACKED | FORMAT, a, b, c, d, ..] => {
            u32::from_le_bytes([*a, *b, *c, *d]) as usize
        }
        _ => body.len(),
    }
}

/// Returns packed rows as they were.
fn unpacked(packed: &[u8]) -> Result<Vec<u8>, RecordError> {
    let (len, zipped) = packed.split_first_chunk().ok_or(RecordError::Broken)?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > RECORD_BYTES_MAX {
        return Err(RecordError::Broken);
    }
    let rows = zstd::bulk::decompress(zipped, len).map_err(|_| RecordError::Broken)?;
    if rows.len() == len { Ok(rows) } else { Err(RecordError::Broken) }
}

/// Reads all of the bytes. Postcard allocates by what there is to read, not by a length announced.
fn whole<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    let (rows, rest) = postcard::take_from_bytes(bytes).map_err(|_| RecordError::Broken)?;
    if rest.is_empty() { Ok(rows) } else { Err(RecordError::Broken) }
}

#[cfg(test)]
mod tests {
    use keepshare_base::{FileTime, Owner, PointKind, RequestId, RestoreOutcome, VersionId};

    use super::*;

    /// One row of every kind.
    fn rows() -> Vec<Row> {
        let at = CommitId(300);
        let position = Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(7) };
        let file = FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter: 9 };
        let body = BodyId::new(at, 3);
        let name = Name::new(b"report.docx").unwrap();
        let loc = PackLoc { pack: 1, offset: 32, stored: 100, raw: 200, check: 5 };
        let piece = Piece { body, grain: Grain::Page, number: 2, at };
        let meta = Meta {
            kind: Kind::File,
            size: 5,
            mode: 0o640,
            owner: Owner { id: 1000, name: "anna".into() },
            group: Owner::default(),
            mtime: FileTime { secs: -1, nanos: 5 },
            symlink: vec![],
            rdev: 0,
            xattrs: vec![(b"user.a".to_vec(), b"b".to_vec())],
        };
        let made = Made { position, stamp: Stamp(-4), user: Some("anna".into()) };
        let value = |body| FileValue {
            event: Event::Saved,
            meta: meta.clone(),
            hash: Some(ContentHash([7; 32])),
            fuzzy: false,
            cut: Some(at),
            since: CommitId(2),
            body,
            mark: Mark::Origin(made.clone()),
        };
        let first = FirstCommitValue {
            arrival: Stamp(5),
            position,
            complete: true,
            stamp: Stamp(-4),
            user: Some("anna".into()),
        };
        let commit = CommitValue {
            arrival: Stamp(5),
            moment: Stamp(3),
            running_micros: 300,
            position,
            complete: true,
            stamp: Stamp(-4),
            user: Some("anna".into()),
        };
        let place = OriginState {
            last: Some((Epoch::FIRST, Seq(7), RunningHash([1; 32]))),
            fence: Epoch::FIRST,
            mirror: Some(MirrorMark { began: at, epoch: Epoch::FIRST, seq: Seq(8) }),
        };
        let point = Point { name: "release-7".into(), kind: PointKind::App };
        let kept = PointValue::new(point.clone(), position);
        let later = PointValue { ends: 86_400_000_000, ..kept.clone() };
        let restore = RestoreRow {
            request: RequestId([2; 32]),
            version: VersionId(position),
            outcome: RestoreOutcome::Equal,
        };
        vec![
            Row::FirstCommit { at, value: first },
            Row::Name { at, parent: FileId::ROOT, name, target: Some((file, Kind::File)) },
            Row::File { at, file, value: value(Body::Inline(b"bytes".to_vec())) },
            Row::File { at, file, value: value(Body::Blob(loc)) },
            Row::File { at, file, value: value(Body::Mapped(body)) },
            Row::File { at, file, value: value(Body::Expired) },
            Row::FileGone { at, file },
            Row::Content { piece, loc: Some(loc) },
            Row::Content { piece: Piece { grain: Grain::Block, ..piece }, loc: None },
            Row::ContentGone { piece },
            Row::Void { at, body, from: 4096 },
            Row::VoidGone { at, body },
            Row::Sweep { at, body },
            Row::Swept { at, body },
            Row::Place { origin: OriginId(1), place },
            Row::Point { at, point, position },
            Row::Restore { at, row: restore, position },
            Row::Clock { arrival: Stamp(5) },
            Row::Commit { at, value: commit },
            Row::Cut { at, file, cut: CommitId(301), mark: Mark::Station },
            Row::File { at, file, value: value(aside(Body::Inline(b"bytes".to_vec()))) },
            Row::File { at, file, value: value(aside(Body::Blob(loc))) },
            Row::File { at, file, value: value(aside(Body::Mapped(body))) },
            Row::KeptPoint { at, value: PointValue { ends: 5, held: u64::MAX, ..kept } },
            Row::PointGone { at },
            Row::ScheduledPoint {
                at,
                value: later,
                schedule: Schedule { every_micros: 3_600_000_000, keep: 24 },
            },
            Row::CommitGone { at },
        ]
    }

    /// How many rows at the end format 5 did not have, format 3 not, format 2 not, and format 1 not.
    const NEWER_THAN: [usize; 4] = [2, 7, 8, 9];

    fn aside(was: Body) -> Body {
        Body::Aside { since_micros: 700, was: Box::new(was) }
    }

    /// A record is kept for years: whoever changes its bytes changes the format and reads the old one on.
    #[test]
    fn the_encoding_stays_what_it_is() {
        let body = encode(&rows());
        assert_eq!(decode(&body), Ok(rows()));
        let hash = ContentHash::of(&body).to_string();
        assert_eq!((body.len(), &hash[..16]), (928, "0a40dbad8413c353"));
    }

    /// Logs of format 1 are read for ever: their versions are called as their commits say.
    #[test]
    fn records_of_format_1_are_read() {
        let mut then = rows();
        then.truncate(then.len() - NEWER_THAN[3]);
        let count = then.len();
        let former: Vec<_> = then.into_iter().map(former::FormerRow::of).collect();
        let body = postcard::to_extend(&former, vec![1]).unwrap();
        let hash = ContentHash::of(&body).to_string();
        assert_eq!((body.len(), &hash[..16]), (511, "80f5f3a8016e3ffc"), "not as it was written");
        let read = decode(&body).unwrap();
        assert_eq!(read.len(), count);
        for row in read {
            match row {
                Row::File { value, .. } => assert_eq!(value.mark, Mark::Change),
                Row::Place { place, .. } => assert_eq!(place.mirror, None),
                row => assert!(rows().contains(&row), "{row:?}"),
            }
        }
    }

    /// And those of format 2, whose rows are the same.
    #[test]
    fn records_of_format_2_are_read() {
        let mut then = rows();
        then.truncate(then.len() - NEWER_THAN[2]);
        let body = postcard::to_extend(&then, vec![2]).unwrap();
        let hash = ContentHash::of(&body).to_string();
        assert_eq!((body.len(), &hash[..16]), (577, "0ad3266209c5524e"), "not as it was written");
        assert_eq!(decode(&body), Ok(then));
    }

    /// And those of formats 3 and 4, which had nothing aside.
    #[test]
    fn records_of_formats_3_and_4_are_read() {
        let mut then = rows();
        then.truncate(then.len() - NEWER_THAN[1]);
        let body = postcard::to_extend(&then, vec![3]).unwrap();
        let hash = ContentHash::of(&body).to_string();
        assert_eq!((body.len(), &hash[..16]), (586, "7ad5a22f49bd1c34"), "not as it was written");
        assert_eq!(decode(&body), Ok(then.clone()));
        let many: Vec<Row> = std::iter::repeat_n(then, 100).flatten().collect();
        let long = encode(&many);
        let mut body = packed(long.clone());
        assert_eq!(body[0], FORMAT);
        body[0] = FIRST_PACKED;
        assert_eq!(rows_len(&body), long.len() - 1);
        assert_eq!(decode(&body), Ok(many));
    }

    /// And those of formats 5 and 6, whose commits all stayed.
    #[test]
    fn records_of_formats_5_and_6_are_read() {
        let mut then = rows();
        then.truncate(then.len() - NEWER_THAN[0]);
        let body = postcard::to_extend(&then, vec![5]).unwrap();
        let hash = ContentHash::of(&body).to_string();
        assert_eq!((body.len(), &hash[..16]), (894, "f5442db844995737"), "not as it was written");
        assert_eq!(decode(&body), Ok(then.clone()));
        let many: Vec<Row> = std::iter::repeat_n(then, 100).flatten().collect();
        let mut body = packed(encode(&many));
        assert_eq!(body[0], FORMAT);
        body[0] = FORMER_PACKED;
        assert_eq!(rows_len(&body), encode(&many).len() - 1);
        assert_eq!(decode(&body), Ok(many));
    }

    /// Bytes that put bodies aside in each other would take the stack, and nothing writes them.
    #[test]
    fn nothing_is_aside_twice() {
        let twice = [aside(aside(Body::Inline(vec![]))), aside(Body::Expired)];
        for body in twice {
            let mut rows = rows();
            rows.retain(|row| matches!(row, Row::File { .. }));
            rows.truncate(1);
            let Row::File { value, .. } = &mut rows[0] else { unreachable!("only files are left") };
            value.body = body;
            assert_eq!(decode(&encode(&rows)), Err(RecordError::Broken));
        }
    }

    #[test]
    fn bytes_that_are_no_record_are_told_apart() {
        let body = encode(&rows());
        let newer = [&[FORMAT + 1], &body[1..]].concat();
        assert_eq!(decode(&newer), Err(RecordError::Newer(FORMAT + 1)));
        assert_eq!(decode(&[]), Err(RecordError::Broken));
        assert_eq!(decode(&body[..body.len() - 1]), Err(RecordError::Broken));
        assert_eq!(decode(&[&body[..], &[0]].concat()), Err(RecordError::Broken));
        assert_eq!(decode(&[FORMAT, 0xff, 0xff, 0xff, 0xff, 0x0f]), Err(RecordError::Broken));
    }

    /// A million small files at once take a third of the log, and what does not get shorter stays readable as it is.
    #[test]
    fn rows_of_many_files_are_packed() {
        let many: Vec<Row> = std::iter::repeat_n(rows(), 100).flatten().collect();
        let long = encode(&many);
        let body = packed(long.clone());
        assert!(body[0] == FORMAT && body.len() < long.len() / 3, "{} bytes", body.len());
        assert_eq!(decode(&body), Ok(many));
        assert_eq!(packed(encode(&rows())), encode(&rows()), "it is short");
        let mut hash = blake3::Hasher::new().finalize_xof();
        let mut random = vec![PLAIN; 2 * PACKED_BYTES_MIN];
        hash.fill(&mut random[1..]);
        assert_eq!(packed(random.clone()), random);
        for len in [0, u32::try_from(long.len()).unwrap(), u32::MAX] {
            let other = [&[FORMAT][..], &len.to_le_bytes(), &body[5..]].concat();
            assert_eq!(decode(&other), Err(RecordError::Broken), "{len} is not its length");
        }
        for cut in [2, 5, 9, body.len() - 1] {
            assert_eq!(decode(&body[..cut]), Err(RecordError::Broken));
        }
    }

    /// Where it begins could not be counted: the index would fail at it whenever it is built.
    #[test]
    fn content_beyond_every_file_is_no_record() {
        for (grain, last) in [(Grain::Block, u64::MAX >> 16), (Grain::Page, u64::MAX >> 12)] {
            let piece = Piece { body: BodyId(1 << 10), grain, number: last, at: CommitId(1) };
            let beyond = Piece { number: last + 1, ..piece };
            assert!(decode(&encode(&[Row::Content { piece, loc: None }])).is_ok());
            let rows =
                [Row::Content { piece: beyond, loc: None }, Row::ContentGone { piece: beyond }];
            for row in rows {
                assert_eq!(decode(&encode(&[row])), Err(RecordError::Broken));
            }
        }
    }

    #[test]
    fn a_body_knows_its_birth() {
        let body = BodyId::new(CommitId(1 << 53), 1023);
        assert_eq!(body.birth(), CommitId(1 << 53));
        assert_ne!(body, BodyId::new(CommitId(1 << 53), 1022));
    }
}
