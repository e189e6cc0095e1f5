//! Reading every frame that a row names.

use keepshare_base::{CommitId, FileId, SetPath};

use super::{Cursor, Found, HurtState, Key, ROWS_PER_STEP, STEP_BYTES, Scrub, ScrubError, Stepped};
use crate::{
    FileState, ReadError, Reader, StoreError, View,
    body::plan_read,
    index::{IndexError, Rows as _, apply::body_users, dump, files},
    pack::{PackError, PackLoc, PackReader},
    record::{Body, Piece, Row},
    set::SetStore,
    store::{Holder, LOCATED, location},
};

/// The most states of one file that are told of one damaged place.
const STATES_MAX: usize = 1000;

/// A row that names a place, and the place.
#[derive(Clone, Copy, Debug)]
struct Named {
    holder: Holder,
    loc: PackLoc,
}

/// What a damaged place hurts.
#[derive(Debug)]
pub(super) struct Hurt {
    pub(super) file: FileId,
    pub(super) loc: PackLoc,
    /// The first byte of the file that it holds.
    pub(super) start: u64,
    /// The rows that name it.
    pub(super) holders: Vec<Holder>,
    /// The states that need it, newest first.
    pub(super) states: Vec<FileState>,
}

impl Scrub {
    /// Reads the frames that some rows name.
    pub(super) fn content_step(
        &self,
        set: &SetStore,
        reader: &Reader,
        table: usize,
        key: &Key,
    ) -> Result<Stepped, ScrubError> {
        if table >= LOCATED.len() {
            return Ok(Stepped { next: Some(Cursor::LIVE), ..Stepped::default() });
        }
        // The view is short: while it lives the index cannot use its room again.
        let (mut named, next) = named(&reader.view()?, table, &key.0)?;
        let (table, key) = next.map_or((table + 1, Vec::new()), |key| (table, key));
        let next = Some(Cursor::Packs { table, key: Key(key) });
        // In the order in which they are on the disk.
        named.sort_unstable_by_key(|named| (named.loc.pack, named.loc.offset));
        let mut stepped = Stepped { next, ..Stepped::default() };
        let (mut last, mut pack) = (None, None);
        for one in named {
            if pack.replace(one.loc.pack) != Some(one.loc.pack) {
                look_at_header(set, reader, one.loc.pack, &mut stepped.found)?;
            }
            if last.replace(one.loc) == Some(one.loc) {
                continue;
            }
            stepped.bytes += one.loc.frame_bytes();
            if !is_good(reader.packs(), one.loc)? {
                self.damaged(set, reader, one, &mut stepped.found)?;
            }
        }
        Ok(stepped)
    }

    /// Looks once more at a place that is damaged, tells what it hurts, and puts it right where that can be.
    fn damaged(
        &self,
        set: &SetStore,
        reader: &Reader,
        Named { holder, loc }: Named,
        found: &mut Vec<Found>,
    ) -> Result<(), ScrubError> {
        let view = reader.view()?;
        // Its content may have moved, or gone, since the rows were read.
        let row = view.ask(|rows| holder.row(rows))?;
        if row.and_then(|row| location(&row)) != Some(loc) || is_good(reader.packs(), loc)? {
            return Ok(());
        }
        let hurt = hurt(&view, holder, loc)?;
        tracing::error!(pack = loc.pack, offset = loc.offset, file = %hurt.file, "damaged content");
        let is_mended = self.mend(set, reader, &view, &hurt)?;
        for state in hurt.states {
            let path = path_of(&view, &state)?;
            found.push(Found::Content(Box::new(HurtState { state, path, is_mended })));
        }
        Ok(())
    }
}

/// Looks at the header of a pack.
fn look_at_header(
    set: &SetStore,
    reader: &Reader,
    pack: u64,
    found: &mut Vec<Found>,
) -> Result<(), ScrubError> {
    if reader.packs().has_header(pack).map_err(ScrubError::Pack)? {
        return Ok(());
    }
    let moved = set.ask_store(move |store| store.move_out_of(pack));
    match moved.ok_or(ScrubError::Closed)? {
        // A full disk is another time.
        Ok(()) | Err(StoreError::Full) => found.push(Found::Pack(pack)),
        Err(error) => return Err(ScrubError::Store(error)),
    }
    Ok(())
}

/// Returns the next rows that name a place, and where to go on in the table.
fn named(
    view: &View,
    table: usize,
    from: &[u8],
) -> Result<(Vec<Named>, Option<Vec<u8>>), ReadError> {
    let of = LOCATED[table];
    view.ask(|rows| {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for (n, row) in rows.under(of, &[], from)?.enumerate() {
            let (key, value) = row?;
            if n == ROWS_PER_STEP || bytes >= STEP_BYTES {
                return Ok((found, Some(key.value().to_vec())));
            }
            let row = dump::read(of, key.value(), value.value())?;
            if let (Some(holder), Some(loc)) = (holder_of(&row), location(&row)) {
                bytes += loc.frame_bytes();
                found.push(Named { holder, loc });
            }
        }
        Ok((found, None))
    })
}

fn holder_of(row: &Row) -> Option<Holder> {
    match row {
        Row::File { at, file, .. } => Some(Holder::State(*file, *at)),
        Row::Content { piece, .. } => Some(Holder::Piece(*piece)),
        _ => None,
    }
}

/// Tells whether what stands at a place is what was written there.
fn is_good(packs: &PackReader, loc: PackLoc) -> Result<bool, ScrubError> {
    match packs.look(loc, |_| {}) {
        Ok(()) => Ok(true),
        Err(PackError::Damaged { .. } | PackError::NewerFormat { .. }) => Ok(false),
        Err(error) => Err(ScrubError::Pack(error)),
    }
}

/// Finds what needs a place.
fn hurt(view: &View, holder: Holder, loc: PackLoc) -> Result<Hurt, ReadError> {
    view.ask(|rows| {
        let (file, start) = match holder {
            Holder::State(file, _) => (Some(file), 0),
            Holder::Piece(piece) => {
                (body_users(rows, piece.body)?.map(|(file, _)| file), piece.start())
            }
        };
        let file = file.unwrap_or(FileId::ROOT);
        let mut hurt = Hurt { file, loc, start, holders: Vec::new(), states: Vec::new() };
        if let Holder::Piece(_) = holder {
            hurt.holders.push(holder);
        }
        let mut states = files::States::new(rows);
        for (at, value) in files::all_states(rows, file)? {
            let needs = match (value.body.kept(), holder) {
                (Body::Blob(blob), Holder::State(..)) if *blob == loc => {
                    hurt.holders.push(Holder::State(file, at));
                    true
                }
                (Body::Mapped(body), Holder::Piece(piece)) if *body == piece.body => {
                    needs_piece(rows, (at, value.meta.size), piece, loc)?
                }
                _ => false,
            };
            if needs && hurt.states.len() < STATES_MAX {
                hurt.states.push(states.state(file, at, value)?);
            }
        }
        Ok(hurt)
    })
}

/// Tells whether the state of a commit shows anything of a piece's place.
fn needs_piece(
    rows: &impl crate::index::Rows,
    (at, size): (CommitId, u64),
    piece: Piece,
    loc: PackLoc,
) -> Result<bool, IndexError> {
    let end = size.min(piece.start().saturating_add(piece.grain.bytes()));
    if at < piece.at || piece.start() >= end {
        return Ok(false);
    }
    match plan_read(rows, &Body::Mapped(piece.body), at, piece.start()..end) {
        Ok(plan) => Ok(plan.needs(loc)),
        Err(crate::body::BodyError::Index(error)) => Err(error),
        Err(_) => Ok(true),
    }
}

/// Returns a path that a state has or had.
fn path_of(view: &View, state: &FileState) -> Result<SetPath, ReadError> {
    for at in [state.commit, state.cut_at, CommitId::MAX] {
        if let Some(path) = view.path_of(state.file, at)? {
            return Ok(path);
        }
    }
    let (at, links) = view.last_links(state.file)?;
    for (parent, name) in links {
        if let Some(path) = view.path_of(parent, at)? {
            return Ok(path.join(name));
        }
    }
    Ok(SetPath::default())
}
