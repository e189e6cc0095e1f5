//! Reads everything a set keeps, and tells what cannot be given back as it was.
//!
//! Every content is read and compared with its checksums and with its master's hash. It goes through all files that ever
//! were, whether or not they have a name now, so that the past of what was deleted or replaced is checked, too.

use std::ops::Range;

use keepshare_base::{FileId, Kind, SetName};
use keepshare_control::{Failure, Outcome, Reply, answers::Progress};
use keepshare_versioning::{FileState, ReadError, Reader, View};

use crate::asking::read_failure;

/// How much content is read at once.
const READ_BYTES: usize = 512 * 1024;

/// How many files are taken at once.
const PAGE: usize = 512;

/// The most damage listed.
const DAMAGE_MAX: usize = 1000;

/// How often it is told how far it is, in states.
const TELL_EVERY: u64 = 64;

/// And in bytes, of large files: whoever asked may have left, which telling finds out.
const TELL_BYTES: u64 = 256 << 20;

/// The most bytes of holes that go into a hash: a file's size costs its master nothing, and hashing takes minutes for these.
const HOLES_BYTES_MAX: u64 = 64 << 30;

/// What a check found.
#[derive(Debug, Default)]
pub struct Verified {
    /// States read.
    pub states: u64,
    /// Bytes read.
    pub bytes: u64,
    /// How many of the states have longer holes than are hashed.
    pub unhashed: u64,
    /// What is damaged.
    pub damage: Vec<String>,
}

/// Checks everything a set keeps, telling how far it is.
pub fn verify(set: &SetName, reader: &Reader, reply: &mut Reply) -> Outcome<Verified> {
    let verified = Verified::default();
    let doing = format!("verifying set {set}: states");
    let mut run = Run { reader, reply, doing, untold: 0, verified };
    let mut after = None;
    loop {
        let files = reader.view().and_then(|view| view.ever_after(after, PAGE));
        let files = files.map_err(read_failure)?;
        let Some(last) = files.last() else { return Ok(run.verified) };
        after = Some(*last);
        for file in files {
            for state in states_of(&reader.view().map_err(read_failure)?, file)? {
                run.state(&state)?;
            }
        }
    }
}

struct Run<'a> {
    reader: &'a Reader,
    reply: &'a mut Reply,
    doing: String,
    /// Bytes since it was told how far it is.
    untold: u64,
    verified: Verified,
}

impl Run<'_> {
    fn state(&mut self, state: &FileState) -> Outcome<()> {
        if state.expired {
            return Ok(());
        }
        match self.read(state) {
            Err(Unread::Damaged(what)) if self.verified.damage.len() < DAMAGE_MAX => {
                let line = format!("{} at commit {}: {what}", state.file, state.commit);
                self.verified.damage.push(line);
            }
            Err(Unread::Left(failure)) => return Err(failure),
            Ok(()) | Err(Unread::Gone | Unread::Damaged(_)) => {}
        }
        self.verified.states += 1;
        if self.verified.states.is_multiple_of(TELL_EVERY) { self.tell() } else { Ok(()) }
    }

    fn tell(&mut self) -> Outcome<()> {
        self.untold = 0;
        let (doing, done) = (self.doing.clone(), self.verified.states);
        self.reply.progress(&Progress { doing, done, total: None })
    }

    /// Notes that so many bytes were gone through.
    fn passed(&mut self, bytes: u64) -> Result<(), Unread> {
        self.untold += bytes;
        if self.untold < TELL_BYTES {
            return Ok(());
        }
        self.tell().map_err(Unread::Left)
    }

    /// Reads a state where it has data; all of it goes into the hash that its master told, while its holes are no longer
    /// than that.
    fn read(&mut self, state: &FileState) -> Result<(), Unread> {
        if state.meta.kind != Kind::File {
            return Ok(());
        }
        let mut hasher = state.hash.is_some().then(blake3::Hasher::new);
        let (mut offset, mut holes) = (0, 0);
        loop {
            let next = self.reader.view().and_then(|view| view.next_data(state, offset));
            let next = next.map_err(Unread::of)?;
            let start = next.unwrap_or(state.meta.size).max(offset);
            holes += start - offset;
            if holes > HOLES_BYTES_MAX && hasher.take().is_some() {
                self.verified.unhashed += 1;
            }
            hash_zeros(hasher.as_mut(), offset..start, |bytes| self.passed(bytes))?;
            if next.is_none() {
                break;
            }
            let bytes = self.reader.read(state, start, READ_BYTES).map_err(Unread::of)?;
            if bytes.is_empty() {
                return Err(Unread::Damaged("content is missing".to_owned()));
            }
            offset = start + bytes.len() as u64;
            self.verified.bytes += bytes.len() as u64;
            self.passed(bytes.len() as u64)?;
            if let Some(hasher) = &mut hasher {
                hasher.update(&bytes);
            }
        }
        let hash = hasher.map(|hasher| *hasher.finalize().as_bytes());
        match (state.hash, hash) {
            (Some(known), Some(hash)) if known.0 != hash => {
                Err(Unread::Damaged("the content is not what its master hashed".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// Why a state was not read to its end.
enum Unread {
    /// It went while it was read: a state that was no version, when a newer one came, or an expired version.
    Gone,
    /// What is kept is not what was kept.
    Damaged(String),
    /// Nobody waits for the answer any more.
    Left(Failure),
}

impl Unread {
    fn of(error: ReadError) -> Self {
        match error {
            ReadError::Gone { .. } | ReadError::Expired { .. } => Self::Gone,
            error => Self::Damaged(format!("{:#}", anyhow::Error::new(error))),
        }
    }
}

/// Takes the zeros of a hole into a hash, without reading any, telling how far it is.
fn hash_zeros<E>(
    hasher: Option<&mut blake3::Hasher>,
    hole: Range<u64>,
    mut passed: impl FnMut(u64) -> Result<(), E>,
) -> Result<(), E> {
    let Some(hasher) = hasher else { return Ok(()) };
    let mut left = hole.end.saturating_sub(hole.start);
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        hasher.update(&ZEROS[..len]);
        left -= len as u64;
        passed(len as u64)?;
    }
    Ok(())
}

/// A piece of a hole.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Returns all versions of a file, and what it is now.
fn states_of(view: &View, file: FileId) -> Outcome<Vec<FileState>> {
    let mut states = view.versions(file).map_err(read_failure)?;
    if let Some(now) = view.file(file, view.latest()).map_err(read_failure)?
        && !states.iter().any(|state| state.commit == now.commit)
    {
        states.push(now);
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of the largest size, all of it a hole, costs its master a row; it must not cost a station weeks.
    #[test]
    fn a_long_hole_ends_with_whoever_asked() {
        let (mut hasher, mut passed) = (blake3::Hasher::new(), 0);
        let ended = hash_zeros(Some(&mut hasher), 0..1 << 53, |bytes| {
            passed += bytes;
            if passed < 1 << 20 { Ok(()) } else { Err("left") }
        });
        assert_eq!((ended, passed), (Err("left"), 1 << 20));
        let mut zeros = blake3::Hasher::new();
        let hole: Result<(), ()> = hash_zeros(Some(&mut zeros), 5..200_000, |_| Ok(()));
        assert_eq!((hole, zeros.finalize()), (Ok(()), blake3::hash(&vec![0; 199_995])));
    }
}
