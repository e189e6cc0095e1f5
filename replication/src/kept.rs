//! What a set's store says to the station's half of a link: where it stands, and what it has.

use keepshare_base::{Epoch, FileId, Name, OriginId, VersionId};
use keepshare_proto::{FileLine, NameLine, Place, StateDigest, receiver::Standing};
use keepshare_versioning::{Entry, FileState, ReadError, Reader, View};

/// Returns where a store stands with an origin.
pub fn standing(view: &View, origin: OriginId) -> Result<Standing, ReadError> {
    let known = view.position(origin)?;
    Ok(match known {
        Some(known) => Standing {
            place: known.last.map(|(epoch, seq, running)| Place { epoch, seq, running }),
            fence: known.fence,
            highest: view.highest(origin)?,
            mirror: known.mirror.map(|mirror| (mirror.epoch, mirror.seq)),
        },
        None => Standing { place: None, fence: Epoch::FIRST, highest: None, mirror: None },
    })
}

/// Returns a page of the present names.
pub fn names_page(
    reader: &Reader,
    after: Option<(FileId, Name)>,
    limit: usize,
) -> Result<Vec<NameLine>, ReadError> {
    let after = after.as_ref().map(|(parent, name)| (*parent, name));
    let names = reader.view()?.names_after(after, limit)?;
    let line = |(parent, entry): (FileId, Entry)| NameLine {
        parent,
        name: entry.name,
        file: entry.file,
        kind: entry.kind,
    };
    Ok(names.into_iter().map(line).collect())
}

/// Returns a page of the present files.
pub fn files_page(
    reader: &Reader,
    after: Option<FileId>,
    limit: usize,
) -> Result<Vec<FileLine>, ReadError> {
    let files = reader.view()?.files_after(after, limit)?;
    let line = |state: FileState| FileLine {
        file: state.file,
        digest: StateDigest::of(&state.meta, state.hash.as_ref()),
        version: state
            .version()
            .filter(|id| id.station_commit().is_none())
            .map(|VersionId(at)| (at.epoch, at.seq)),
    };
    Ok(files.into_iter().map(line).collect())
}
