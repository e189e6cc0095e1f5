//! Whose the folders of a live tree are.
//!
//! Making a tree equal to the index removes what is not in the index. Pointed at a folder with someone's work in it,
//! that would be a disaster. So a live folder begins empty, and a mark in its stage says from then on which folder it is
//! the stage of. A state that was copied, or restored from a backup, has a mark of another folder: there, what is right
//! is taken and what is not is set aside, never removed.

use std::{fs, io, os::unix::fs::FileExt, path::Path};

use super::{
    LiveDirs, LiveError,
    beneath::{Folder, Part},
    identity::Identity,
};

/// The name of the mark in the stage.
pub(super) const MARK: &str = "tree";

/// How a tree is ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Claim {
    /// It was made here.
    Known,
    /// It is empty and begins now: once what was recorded of another folder is forgotten, [`mark_stage`] says so.
    New,
    /// It was copied, or came from a backup: another folder was made here.
    Copied,
}

/// Checks that a stage can serve a live folder.
pub(super) fn check(live: &Folder, stage: &Folder, dirs: &LiveDirs) -> Result<(), LiveError> {
    let real = |path: &Path| fs::canonicalize(path).map_err(|source| failed(path, source));
    let (live_path, stage_path) = (real(&dirs.live)?, real(&dirs.stage)?);
    let device = |folder: &Folder| rustix::fs::fstat(folder.descriptor()).map(|stat| stat.st_dev);
    let apart = !stage_path.starts_with(&live_path) && !live_path.starts_with(&stage_path);
    if apart && device(live).ok() == device(stage).ok() {
        Ok(())
    } else {
        Err(LiveError::Stage { stage: dirs.stage.clone() })
    }
}

/// Makes sure that the live folder's path still leads to the one that is held open: that goes on working wherever somebody
/// moves it, where nobody looks for what it shows.
pub(super) fn check_place(live: &Folder, dirs: &LiveDirs) -> Result<(), LiveError> {
    let moved = |source| Err(LiveError::Moved { path: dirs.live.clone(), source });
    match live.is_at(&dirs.live) {
        Ok(true) => Ok(()),
        Ok(false) => moved(None),
        Err(error) => moved(Some(error)),
    }
}

/// Makes sure that a live folder and its stage are ours, or may be taken, as both are empty.
///
/// A stage with a mark was ours, though it may have served another folder: then this one is a copy of that. `own` says
/// that the live folder is in a place where nobody else keeps anything.
pub(super) fn claim(
    live: &Folder,
    stage: &Folder,
    dirs: &LiveDirs,
    own: bool,
) -> Result<Claim, LiveError> {
    let identity = live.see_self().map_err(|source| failed(&dirs.live, source))?.identity;
    let mark = read_mark(stage).map_err(|source| failed(&dirs.stage, source))?;
    if mark == Some(identity) {
        return Ok(Claim::Known);
    }
    if !is_empty(live).map_err(|source| failed(&dirs.live, source))? {
        return match mark {
            Some(_) => Ok(Claim::Copied),
            None if own => Ok(Claim::Copied),
            None => Err(LiveError::NotOurs { path: dirs.live.clone() }),
        };
    }
    let stage_is_empty = || is_empty(stage).map_err(|source| failed(&dirs.stage, source));
    if mark.is_none() && !own && !stage_is_empty()? {
        return Err(LiveError::NotOurs { path: dirs.stage.clone() });
    }
    Ok(Claim::New)
}

/// Says that this stage serves this live folder from now on.
pub(super) fn mark_stage(live: &Folder, stage: &Folder, dirs: &LiveDirs) -> Result<(), LiveError> {
    let identity = live.see_self().map_err(|source| failed(&dirs.live, source))?.identity;
    write_mark(stage, identity).map_err(|source| failed(&dirs.stage, source))
}

fn is_empty(folder: &Folder) -> io::Result<bool> {
    let mut empty = true;
    folder.each(|_| {
        empty = false;
        Ok::<_, io::Error>(false)
    })?;
    Ok(empty)
}

fn read_mark(stage: &Folder) -> io::Result<Option<Identity>> {
    let file = match stage.file(mark(), false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; 20];
    match file.read_exact_at(&mut bytes, 0) {
        // Cut off while it was written: then the tree was empty.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Identity::from_bytes(&bytes)),
    }
}

/// Writes the mark under another name first, so that it is there whole or not at all.
fn write_mark(stage: &Folder, identity: Identity) -> io::Result<()> {
    let temporary = Part::new(b"new-tree").expect("it is one name");
    match stage.remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = stage.make_file(temporary)?;
    file.write_all_at(&identity.to_bytes(), 0)?;
    file.sync_data()?;
    stage.replace(temporary, stage, mark())?;
    Ok(rustix::fs::fsync(stage.descriptor())?)
}

fn mark() -> Part<'static> {
    Part::new(MARK.as_bytes()).expect("it is one name")
}

fn failed(path: &Path, source: io::Error) -> LiveError {
    LiveError::Folder { path: path.to_owned(), source }
}
