//! Which rows have room in one change.
//!
//! A station refuses a change with more of anything than a change may have, and a frame has room for so many encoded
//! bytes. Whoever puts rows together counts all of it here, so that nothing is journaled that cannot be sent. Pure.

use keepshare_base::{
    Content, EXTENT_BYTES_MAX, Event, FILES_PER_CHANGE_MAX, FileId, FileRow, Made,
    NAMES_PER_CHANGE_MAX, NameRow, PAYLOAD_BYTES_MAX,
};
use keepshare_proto::codec::{ROWS_BYTES_MAX, file_row_len, row_len};

use super::Row;
use crate::look::NameDiff;

/// The most extents put into one change, below what a change may have; one row has no more.
const EXTENTS_MAX: usize = 4096;

/// What the rows of one change come to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Load {
    names: usize,
    files: usize,
    cuts: usize,
    extents: usize,
    payload_bytes: u64,
    zeros: u64,
    row_bytes: usize,
}

/// The rows of one change.
#[derive(Debug, Default)]
pub struct Rows {
    /// Names, and what they stand for after it.
    pub names: Vec<NameRow>,
    /// Files, with their content.
    pub files: Vec<Row>,
    /// Files whose present state becomes a version.
    pub cuts: Vec<FileId>,
}

impl Load {
    /// Returns what a name row comes to.
    pub fn of_name(row: &NameRow) -> Self {
        Self { names: 1, row_bytes: row_len(row), ..Self::default() }
    }

    /// Returns what the row of a name that changed comes to.
    pub fn of_diff(diff: &NameDiff) -> Self {
        let row_bytes = row_len(&(diff.parent, &diff.name, diff.new));
        Self { names: 1, row_bytes, ..Self::default() }
    }

    /// Returns what a file row comes to.
    pub fn of_file(row: &FileRow) -> Self {
        let extents = match &row.content {
            Content::Same => 0,
            Content::Extents { extents, .. } => extents.len(),
        };
        Self {
            files: 1,
            extents,
            payload_bytes: row.content.payload_len(),
            zeros: row.content.zeros_len(),
            row_bytes: file_row_len(row),
            ..Self::default()
        }
    }

    /// Returns what it comes to that a file's state becomes a version.
    pub fn of_cut(file: FileId) -> Self {
        Self { cuts: 1, row_bytes: row_len(&file), ..Self::default() }
    }

    /// Returns what it comes to that a state was made a version by an earlier change.
    pub fn of_made(made: &(FileId, Made)) -> Self {
        Self { row_bytes: row_len(made), ..Self::default() }
    }

    /// Returns both together.
    pub fn with(self, more: Self) -> Self {
        Self {
            names: self.names + more.names,
            files: self.files + more.files,
            cuts: self.cuts + more.cuts,
            extents: self.extents + more.extents,
            payload_bytes: self.payload_bytes.saturating_add(more.payload_bytes),
            zeros: self.zeros.saturating_add(more.zeros),
            row_bytes: self.row_bytes + more.row_bytes,
        }
    }

    /// Tells whether one change has room for it.
    pub fn fits(&self) -> bool {
        self.names <= NAMES_PER_CHANGE_MAX
            && self.files <= FILES_PER_CHANGE_MAX
            && self.cuts <= FILES_PER_CHANGE_MAX
            && self.extents <= EXTENTS_MAX
            && self.payload_bytes <= PAYLOAD_BYTES_MAX
            && self.zeros <= EXTENT_BYTES_MAX
            && self.row_bytes <= ROWS_BYTES_MAX
    }

    /// Adds to it what there is room for; tells whether there is.
    pub fn add(&mut self, more: Self) -> bool {
        let both = self.with(more);
        let fits = both.fits();
        if fits {
            *self = both;
        }
        fits
    }
}

/// Puts rows that belong together into one change, or into several in order where one has no room for them.
///
/// What does not fit goes ahead: content before the names that show it, versions before what replaces them.
pub fn changes(names: Vec<NameRow>, files: Vec<Row>, cuts: Vec<FileId>) -> Vec<Rows> {
    let mut names = in_pieces(names, Load::of_name);
    let mut last = Rows { names: names.pop().unwrap_or_default(), ..Rows::default() };
    let mut load = last.names.iter().map(Load::of_name).fold(Load::default(), Load::with);
    // Beside the last of several pieces a row would come after its name.
    let fit = names.is_empty();
    let (mut cuts_ahead, mut files_ahead) = (Vec::new(), Vec::new());
    for row in files {
        // A change answers one request.
        let is_second = answers(&row) && last.files.iter().any(answers);
        if fit && !is_second && load.add(Load::of_file(&row.row)) {
            last.files.push(row);
        } else {
            files_ahead.push(row);
        }
    }
    for file in cuts {
        if fit && load.add(Load::of_cut(file)) {
            last.cuts.push(file);
        } else {
            cuts_ahead.push(file);
        }
    }
    let cuts_ahead = in_pieces(cuts_ahead, |file| Load::of_cut(*file));
    let cuts_ahead = cuts_ahead.into_iter().map(|cuts| Rows { cuts, ..Rows::default() });
    let files_ahead =
        files_ahead.into_iter().map(|row| Rows { files: vec![row], ..Rows::default() });
    let names = names.into_iter().map(|names| Rows { names, ..Rows::default() });
    cuts_ahead.chain(files_ahead).chain(names).chain([last]).collect()
}

/// Splits rows, in order, into pieces for which one change has room.
pub fn in_pieces<T>(rows: Vec<T>, load_of: impl Fn(&T) -> Load) -> Vec<Vec<T>> {
    let mut pieces: Vec<Vec<T>> = Vec::new();
    let mut load = Load::default();
    for row in rows {
        let more = load_of(&row);
        match pieces.last_mut() {
            Some(piece) if load.add(more) => piece.push(row),
            _ => {
                load = more;
                pieces.push(vec![row]);
            }
        }
    }
    pieces
}

fn answers(row: &Row) -> bool {
    row.row.event == Event::Restored
}

#[cfg(test)]
mod tests {
    use keepshare_base::{
        Change, ContentHash, Epoch, Extent, FileTime, Kind, Meta, Name, OriginId, Owner, Position,
        RequestId, RestoreOutcome, RestoreRow, RunningHash, Seq, Stamp, VersionId,
    };
    use keepshare_proto::{Message, Step, codec};
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::compose::placeholder;

    /// Returns a generator for a test, and prints its seed; `KEEPSHARE_SEED` gives another.
    fn random() -> StdRng {
        let given = std::env::var("KEEPSHARE_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| rand::rng().random());
        println!("KEEPSHARE_SEED={seed}");
        StdRng::seed_from_u64(seed)
    }

    /// Counts that are small, at the limit of something, or anything.
    fn count(rng: &mut StdRng, most: usize) -> usize {
        match rng.random_range(0..4) {
            0 => most,
            1 => rng.random_range(0..=most.min(3)),
            _ => rng.random_range(0..=most),
        }
    }

    fn last_epoch() -> Epoch {
        Epoch::new(u64::MAX).unwrap()
    }

    fn file(rng: &mut StdRng) -> FileId {
        let counter = if rng.random() { u64::MAX } else { 1 };
        let epoch = Epoch::new(if rng.random() { u64::MAX } else { 1 }).unwrap();
        FileId { origin: OriginId(u32::MAX), epoch, counter }
    }

    fn name(rng: &mut StdRng, len: usize, number: usize) -> NameRow {
        let name = format!("{number:0len$}");
        let target = rng.random_bool(0.5).then(|| (file(rng), Kind::File));
        NameRow { parent: file(rng), name: Name::new(name.as_bytes()).unwrap(), target }
    }

    /// A row whose attributes and content may be as large as any.
    fn row(rng: &mut StdRng, most: usize) -> Row {
        let xattr = |rng: &mut StdRng| {
            let value = vec![7; count(rng, most)];
            (vec![b'u'; 1 + count(rng, 20)], value)
        };
        let xattrs = (0..count(rng, 3)).map(|_| xattr(rng)).collect();
        let user = |rng: &mut StdRng| Owner { id: u32::MAX, name: "x".repeat(count(rng, 256)) };
        let (owner, group) = (user(rng), user(rng));
        let mut content = Content::Same;
        let mut payload = Vec::new();
        if rng.random() {
            let one = |n| Extent { offset: n * 8192, len: 4096, zero: n % 3 == 0 };
            let extents: Vec<Extent> = (0..count(rng, most.min(200)) as u64).map(one).collect();
            let len: u64 = extents.iter().filter(|e| !e.zero).map(|e| e.len).sum();
            payload = vec![1; usize::try_from(len).unwrap()];
            content = Content::Extents { fresh: true, extents, hash: ContentHash::of(&payload) };
        }
        let meta = Meta {
            kind: Kind::File,
            size: 1 << 40,
            mode: 0o644,
            owner,
            group,
            mtime: FileTime { secs: i64::MIN, nanos: u32::MAX },
            symlink: vec![],
            rdev: 0,
            xattrs,
        };
        let event = if rng.random_bool(0.1) { Event::Restored } else { Event::Created };
        let hash = rng.random_bool(0.5).then_some(ContentHash([9; 32]));
        let row = FileRow { file: file(rng), event, meta, content, hash, cut: true, fuzzy: false };
        Row { row, payload }
    }

    /// The frame of a change of these rows, with as much of everything else as a change can say.
    fn frame(rows: &Rows, made: Vec<(FileId, Made)>) -> Result<Vec<u8>, codec::EncodeError> {
        let end = FileId { origin: OriginId(u32::MAX), epoch: last_epoch(), counter: u64::MAX };
        let position = Position { origin: end.origin, epoch: end.epoch, seq: Seq(u64::MAX) };
        let outcome = RestoreOutcome::Written;
        let change = Change {
            stamp: Stamp(i64::MIN),
            user: Some("x".repeat(256)),
            names: rows.names.clone(),
            files: rows.files.iter().map(|row| row.row.clone()).collect(),
            cuts: rows.cuts.clone(),
            point: None,
            restore: Some(RestoreRow {
                request: RequestId([1; 32]),
                version: VersionId(position),
                outcome,
            }),
            made,
        };
        assert!(codec::has_room(&change));
        let (running, step) = (RunningHash([1; 32]), Step::Last { number: u64::MAX });
        let message = Message::Change { position, running, step, change };
        let payload = rows.files.iter().map(|row| row.payload.len()).sum();
        codec::encode_head(&message, payload)
    }

    /// A change that no frame has room for would be tried again for ever, and nothing after it would come.
    #[test]
    fn whatever_changes_together_can_be_sent() {
        let mut rng = random();
        for _ in 0..40 {
            let (len, number) = (1 + count(&mut rng, 254), count(&mut rng, 6000));
            let names: Vec<NameRow> =
                (0..number).map(|number| name(&mut rng, len.max(4), number)).collect();
            let most = count(&mut rng, 20_000);
            let number = count(&mut rng, 20_000_000 / (most + 10_000));
            let files: Vec<Row> = (0..number).map(|_| row(&mut rng, most)).collect();
            let cuts: Vec<FileId> = (0..count(&mut rng, 4000)).map(|_| file(&mut rng)).collect();
            let want = (names.clone(), files.len(), cuts.len());
            let changes = changes(names, files, cuts);
            let mut got = (Vec::new(), 0, 0);
            for rows in &changes {
                frame(rows, Vec::new()).unwrap();
                let withheld = |row: &Row| Row { row: placeholder(&row.row), payload: Vec::new() };
                let files = rows.files.iter().map(withheld).collect();
                frame(&Rows { files, names: rows.names.clone(), cuts: rows.cuts.clone() }, vec![])
                    .unwrap();
                assert!(rows.files.iter().filter(|row| answers(row)).count() <= 1);
                assert!(rows.files.is_empty() || got.0.is_empty(), "content after its name");
                got.0.extend(rows.names.clone());
                got.1 += rows.files.len();
                got.2 += rows.cuts.len();
            }
            assert_eq!(got, want, "in order, and all of it");
        }
    }

    /// The same for the parts of a mirror, which say of each version what made it.
    #[test]
    fn whatever_a_part_of_a_mirror_takes_in_can_be_sent() {
        let mut rng = random();
        for _ in 0..40 {
            let (mut load, mut rows, mut made) = (Load::default(), Rows::default(), Vec::new());
            let (most, len) = (count(&mut rng, 8000), count(&mut rng, 255).max(4));
            let user = Some("x".repeat(count(&mut rng, 256)));
            for number in 0.. {
                let name = name(&mut rng, len, number);
                let row = row(&mut rng, most);
                let made_row = Made {
                    position: Position {
                        origin: OriginId(u32::MAX),
                        epoch: last_epoch(),
                        seq: Seq(u64::MAX),
                    },
                    stamp: Stamp(i64::MIN),
                    user: user.clone(),
                };
                let made_row = (row.row.file, made_row);
                let more = Load::of_file(&row.row).with(Load::of_made(&made_row));
                let cut = Load::of_name(&name).with(Load::of_cut(row.row.file));
                if !load.add(more.with(cut)) {
                    break;
                }
                rows.cuts.push(row.row.file);
                rows.names.push(name);
                rows.files.push(row);
                made.push(made_row);
            }
            assert!(!rows.files.is_empty());
            frame(&rows, made).unwrap();
        }
    }
}
