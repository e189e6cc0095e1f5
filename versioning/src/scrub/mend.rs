//! Having damaged content again from where the same content is.
//!
//! Nothing is taken for what was damaged but what has its hash: that of the frame, whose header keeps it, or of the whole file, which its
//! master told.

use keepshare_base::{CommitId, Kind};

use super::{Scrub, ScrubError, content::Hurt};
use crate::{
    CommitError, FileState, ReadError, Reader, View,
    body::{ReadPlan, plan_read},
    live::{hash_plain, read_plain},
    pack::{PackError, Sum},
    set::SetStore,
};

/// How many other states of a file are looked at for the same content.
const OTHERS_MAX: usize = 64;

/// A file is read whole, to have one piece of it, up to this size in bytes.
const WHOLE_BYTES_MAX: u64 = 256 * 1024 * 1024;

impl Scrub {
    /// Puts damaged content right where the same can be had; tells whether it could. A full disk is another time.
    pub(super) fn mend(
        &self,
        set: &SetStore,
        reader: &Reader,
        view: &View,
        hurt: &Hurt,
    ) -> Result<bool, ScrubError> {
        let sum = reader.packs().sum(hurt.loc).map_err(ScrubError::Pack)?;
        let content = match kept_elsewhere(reader, view, hurt, sum)? {
            Some(content) => Some(content),
            None => self.plain(view, hurt, sum)?,
        };
        let Some(content) = content else { return Ok(false) };
        let (holders, loc) = (hurt.holders.clone(), hurt.loc);
        let kept = set.ask_store(move |store| store.keep_anew(&holders, loc, &content));
        match kept.ok_or(ScrubError::Closed)? {
            Ok(rows) => Ok(rows > 0),
            Err(CommitError::Full) => Ok(false),
            Err(error) => Err(ScrubError::Mend(error)),
        }
    }

    /// Returns the content from the plain file that shows the newest state, where it has it.
    fn plain(
        &self,
        view: &View,
        hurt: &Hurt,
        sum: Option<Sum>,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let Some(path) = view.path_of(hurt.file, CommitId::MAX)? else { return Ok(None) };
        let range = hurt.start..hurt.start + u64::from(hurt.loc.raw);
        if let Some(sum) = sum {
            // What cannot be read is no help, and no fault of what is damaged.
            let bytes = read_plain(folder, &path, range).ok();
            return Ok(bytes.filter(|bytes| sum.is_of(bytes)));
        }
        for state in hurt.states.iter().filter(|state| state.meta.size <= WHOLE_BYTES_MAX) {
            let Some(hash) = state.hash else { continue };
            if shown_by(view, state, hurt)? != Some(hurt.loc) {
                continue;
            }
            let read = hash_plain(folder, &path, state.meta.size, range.clone()).ok();
            if let Some((_, bytes)) = read.filter(|(whole, _)| *whole == hash) {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

/// Returns the content from another place where the same is kept for the same file.
fn kept_elsewhere(
    reader: &Reader,
    view: &View,
    hurt: &Hurt,
    sum: Option<Sum>,
) -> Result<Option<Vec<u8>>, ScrubError> {
    let (damaged, len) = (hurt.loc, hurt.loc.raw as usize);
    let others = view.versions(hurt.file)?;
    for other in others.iter().filter(|other| other.meta.kind == Kind::File).take(OTHERS_MAX) {
        let is_same = |state: &FileState| state.hash.is_some() && state.hash == other.hash;
        let place = shown_by(view, other, hurt)?;
        let content = match (sum, place) {
            (_, Some(place)) if place == damaged => continue,
            (Some(sum), Some(place))
                if (place.raw, place.check) == (damaged.raw, damaged.check) =>
            {
                read_place(reader, place)?.filter(|content| sum.is_of(content))
            }
            (None, _) if hurt.states.iter().any(is_same) => {
                let whole = hurt.states.iter().find(|state| is_same(state));
                match whole.map(|state| shown_by(view, state, hurt)).transpose()?.flatten() {
                    Some(place) if place == damaged => {
                        reader.read_in(view, other, hurt.start, len).ok()
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        if let Some(content) = content.filter(|content| content.len() == len) {
            return Ok(Some(content));
        }
    }
    Ok(None)
}

fn read_place(reader: &Reader, place: crate::pack::PackLoc) -> Result<Option<Vec<u8>>, ScrubError> {
    match reader.packs().read(place) {
        Ok(content) => Ok(Some(content)),
        Err(PackError::Damaged { .. } | PackError::NewerFormat { .. }) => Ok(None),
        Err(error) => Err(ScrubError::Pack(error)),
    }
}

/// Returns the one frame in which a state has all that the damaged one holds, from its first byte to its last; `None` where that is in
/// several, or not all of it is shown.
fn shown_by(
    view: &View,
    state: &FileState,
    hurt: &Hurt,
) -> Result<Option<crate::pack::PackLoc>, ReadError> {
    let end = hurt.start + u64::from(hurt.loc.raw);
    if end > state.meta.size || state.expired {
        return Ok(None);
    }
    let plan =
        view.ask(|rows| match plan_read(rows, &state.body.body, state.commit, hurt.start..end) {
            Ok(plan) => Ok(Some(plan)),
            Err(crate::body::BodyError::Index(error)) => Err(error),
            Err(_) => Ok(None),
        })?;
    let only = plan.as_ref().and_then(ReadPlan::frames).filter(|frames| frames.len() == 1);
    let frame = only.and_then(|frames| frames.first().copied()).filter(|frame| frame.skip == 0);
    Ok(frame.map(|frame| frame.loc).filter(|loc| loc.raw == hurt.loc.raw))
}
