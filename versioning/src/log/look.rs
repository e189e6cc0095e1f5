//! Looking through the log on the disk while it is in use.

use std::{io, sync::Arc};

use crate::disk::{Disk, DiskFile, is_unreadable};

use super::{
    LogPosition,
    frame::{FileHeader, FrameHeader},
    open::name,
    scan::{Step, Walker},
};

/// What a look at a part of the log found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Looked {
    /// All of that part is what was written; the rest is from this byte on.
    More(u64),
    /// So is all to the end.
    End,
    /// What stands at this byte is not what was written.
    Bad(u64),
    /// The log was written anew meanwhile: there is another file.
    Anew,
}

/// The first byte that a look at a log begins with.
pub(crate) const LOOK_START: u64 = 0;

/// Looks at the frames of the log from a byte on, about `bytes_max` of them; what is behind `end` is not durable yet. Returns how many
/// bytes were read, too.
///
/// Whether a bad place could be passed at the next opening is no matter here: the log is written anew in either case.
pub(crate) fn look(
    disk: &dyn Disk,
    from: u64,
    end: &LogPosition,
    bytes_max: u64,
) -> io::Result<(Looked, u64)> {
    let file = match disk.open(&name(end.generation), false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Looked::Anew, 0)),
        opened => opened?,
    };
    let Some(header) = header(&*file, end.generation)? else { return Ok((Looked::Bad(0), 0)) };
    let start = from.max(FileHeader::BYTES as u64);
    let mut walker = Walker::new(Arc::clone(&file), header.id, start, end.offset);
    loop {
        let here = walker.offset();
        if here.saturating_sub(start) >= bytes_max {
            return Ok((Looked::More(here), here - start));
        }
        match walker.step() {
            Ok(Step::Frame { .. }) => {}
            Ok(Step::End) => return Ok((Looked::End, here.saturating_sub(start))),
            Ok(Step::Bad) => {
                return Ok((Looked::Bad(here), here - start + FrameHeader::BYTES as u64));
            }
            Err(error) if is_unreadable(&error) => return Ok((Looked::Bad(here), here - start)),
            Err(error) => return Err(error),
        }
    }
}

/// Reads the header of a log; `None` where it is not what was written.
fn header(file: &dyn DiskFile, generation: u64) -> io::Result<Option<FileHeader>> {
    let mut bytes = [0; FileHeader::BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if is_unreadable(&error) => return Ok(None),
        read => read?,
    }
    let header = FileHeader::from_bytes(&bytes).ok();
    Ok(header.filter(|header| header.generation == generation))
}
