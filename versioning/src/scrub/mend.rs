//! Having damaged content again from where the same content is.
//!
//! Nothing is taken for what was damaged but what has its hash, which the frame's header keeps.

use keepshare_base::{CommitId, Kind};

use super::{Scrub, ScrubError, content::Hurt};
use crate::{
    CommitError, FileState, ReadError, Reader, View,
    body::{ReadPlan, plan_read},
    live::read_plain,
    pack::{PackError, Sum},
    set::SetStore,
};

/// How many other states of a file are looked at for the same content.
const OTHERS_MAX: usize = 64;

impl Scrub {
    /// Puts damaged content right where the same can be had; tells whether it could. A full disk is another time.
    pub(super) fn mend(
        &self,
        set: &SetStore,
        reader: &Reader,
        view: &View,
        hurt: &Hurt,
    ) -> Result<bool, ScrubError> {
        // Without the frame's header nothing says which content it was but the hash that a master told, which nobody here has checked.
        let Some(sum) = reader.packs().sum(hurt.loc).map_err(ScrubError::Pack)? else {
            return Ok(false);
        };
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
    fn plain(&self, view: &View, hurt: &Hurt, sum: Sum) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let Some(path) = view.path_of(hurt.file, CommitId::MAX)? else { return Ok(None) };
        let range = hurt.start..hurt.start + u64::from(hurt.loc.raw);
        // What cannot be read is no help, and no fault of what is damaged.
        let bytes = read_plain(folder, &path, range).ok();
        Ok(bytes.filter(|bytes| sum.is_of(bytes)))
    }
}

/// Returns the content from another place where the same is kept for the same file.
fn kept_elsewhere(
    reader: &Reader,
    view: &View,
    hurt: &Hurt,
    sum: Sum,
) -> Result<Option<Vec<u8>>, ScrubError> {
    let (damaged, len) = (hurt.loc, hurt.loc.raw as usize);
    let others = view.versions(hurt.file)?;
    for other in others.iter().filter(|other| other.meta.kind == Kind::File).take(OTHERS_MAX) {
        let content = match shown_by(view, other, hurt)? {
            Some(place)
                if place != damaged && (place.raw, place.check) == (damaged.raw, damaged.check) =>
            {
                read_place(reader, place)?.filter(|content| sum.is_of(content))
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
