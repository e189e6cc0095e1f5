//! How far a tree is ahead of its records, for when the process ends and the machine goes on.
//!
//! Records reach the state file after everything they speak of is on the disk, which takes as long as a busy disk takes.
//! What the kernel holds outlives a process, though. So each step is noted here without waiting for any disk: after a
//! kill, or a stop that does not wait, the tree goes on from the last step, and only the one that was cut off is done
//! again. After a restart of the machine nothing here is believed. The layout is in docs/formats/live.md.

use std::{io, sync::Arc};

use keepshare_base::{CommitId, FileId, Name};
use serde::{Deserialize, Serialize};

use super::{
    identity::Identity,
    records::{Record, Retries, Stored},
};
use crate::disk::{Disk, DiskFile};

/// The file, beside the records.
const NAME: &str = "live.ahead";

/// Where it is written anew.
const NEW_NAME: &str = "live.ahead.new";

/// The longest frame that is believed, in bytes: more than all that waits in memory takes.
const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Says that a step compares the whole tree.
const EVERYTHING: u64 = u64::MAX;

/// What keeps the notes, and tells one run of the machine from the next.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The folder of the set.
    pub disk: Arc<dyn Disk>,
    /// A number that no other run of the machine has.
    pub boot: [u8; 16],
}

/// What has to be done again of a step that was cut off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Redo {
    /// Nothing.
    Nothing,
    /// What commits through this one touched.
    Through(CommitId),
    /// All that was touched since.
    All,
}

/// What the notes say.
#[derive(Debug)]
pub(super) struct Notes {
    pub(super) position: CommitId,
    pub(super) retries: Retries,
    pub(super) records: Vec<Record>,
    pub(super) redo: Redo,
}

#[derive(Debug, Serialize, Deserialize)]
struct Frame {
    boot: [u8; 16],
    tree: [u8; 20],
    /// Counts the steps that were done; the one that is begun has the next number.
    step: u64,
    what: What,
}

#[derive(Debug, Serialize, Deserialize)]
enum What {
    /// A step begins that brings the tree to this commit.
    Begin(u64),
    /// It is done.
    Done(Done),
    /// Steps from here on are not noted.
    Lost,
}

#[derive(Debug, Serialize, Deserialize)]
struct Done {
    position: u64,
    /// None where they are as before.
    retries: Option<RetriesRow>,
    records: Vec<([u8; 20], Option<[u8; 20]>)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RetriesRow {
    everything: bool,
    names: Vec<([u8; 20], Vec<u8>)>,
    files: Vec<([u8; 20], u64)>,
}

/// The notes of one tree.
#[derive(Debug)]
pub(super) struct Ahead {
    memory: Option<Memory>,
    tree: Identity,
    file: Option<Arc<dyn DiskFile>>,
    len: u64,
    /// The number of the last step that was done.
    step: u64,
    /// The retries that the notes tell of.
    told: Option<Retries>,
    /// They could not be written; it is tried again when the records were stored.
    failed: bool,
}

impl Ahead {
    /// Opens the notes of a tree, and returns what they say beyond `stored`; `None`: nothing that can be believed.
    pub(super) fn open(
        memory: Option<Memory>,
        tree: Identity,
        stored: &Stored,
    ) -> (Self, Option<Notes>) {
        let mut ahead =
            Self { memory, tree, file: None, len: 0, step: stored.step, told: None, failed: false };
        let found = ahead.read(stored).unwrap_or_else(|error| {
            tracing::debug!(%error, "the notes of the live tree cannot be read");
            None
        });
        if found.is_none() {
            ahead.discard();
        }
        (ahead, found)
    }

    /// Returns the number of the last step that was done.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    /// Tells whether the notes say all that the records do not.
    pub(super) fn is_complete(&self) -> bool {
        self.file.is_some()
    }

    /// Tells whether the notes can be begun.
    pub(super) fn can_begin(&self) -> bool {
        self.file.is_none() && self.memory.is_some() && !self.failed
    }

    /// Notes that a step begins, which compares everything or leads to a commit.
    pub(super) fn begin(&mut self, through: Option<CommitId>) {
        let through = through.map_or(EVERYTHING, |commit| commit.0);
        self.append(self.step + 1, What::Begin(through));
    }

    /// Notes that a step is done.
    pub(super) fn done(&mut self, position: CommitId, retries: &Retries, records: Vec<Record>) {
        self.step += 1;
        let said = self.say(position, retries, records);
        self.append(self.step, said);
    }

    /// Begins anew with what is not in the records yet, after those were stored.
    pub(super) fn restart(
        &mut self,
        nothing: bool,
        position: CommitId,
        retries: &Retries,
        records: Vec<Record>,
    ) {
        let Some(memory) = self.memory.clone() else { return };
        (self.told, self.failed) = (None, false);
        let before = self.file.clone().map(|file| (file, self.len));
        let begun = || -> io::Result<Arc<dyn DiskFile>> {
            let file = memory.disk.open(NEW_NAME, true)?;
            file.set_len(0)?;
            Ok(file)
        };
        match begun() {
            Ok(file) => (self.file, self.len) = (Some(file), 0),
            Err(error) => return self.fail(&error),
        }
        if !nothing {
            self.step += 1;
            let said = self.say(position, retries, records);
            self.append(self.step, said);
        }
        if self.file.is_some()
            && let Err(error) = memory.disk.rename(NEW_NAME, NAME)
        {
            self.fail(&error);
        }
        if self.failed {
            // The notes of before still have their name, and would be believed to say all.
            if let Some((file, len)) = before {
                // Where this fails, that they go is all that can be done.
                let _ = file.write_all_at(&self.lost(&memory), len);
            }
            self.discard();
        }
    }

    /// Has nothing of the notes believed any more.
    pub(super) fn discard(&mut self) {
        self.file = None;
        self.told = None;
        if let Some(memory) = &self.memory {
            for name in [NAME, NEW_NAME] {
                match memory.disk.remove(name) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(%error, "the notes of the live tree cannot be removed");
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
    }

    fn say(&mut self, position: CommitId, retries: &Retries, records: Vec<Record>) -> What {
        let changed = self.told.as_ref() != Some(retries);
        if changed {
            self.told = Some(retries.clone());
        }
        let record = |(file, identity): Record| (file.to_bytes(), identity.map(Identity::to_bytes));
        What::Done(Done {
            position: position.0,
            retries: changed.then(|| RetriesRow::of(retries)),
            records: records.into_iter().map(record).collect(),
        })
    }

    fn append(&mut self, step: u64, what: What) {
        #[cfg(test)]
        if super::beneath::trip::is_dead() {
            return;
        }
        let (Some(file), Some(memory)) = (&self.file, &self.memory) else { return };
        let bytes = encoded(&Frame { boot: memory.boot, tree: self.tree.to_bytes(), step, what });
        match file.write_all_at(&bytes, self.len) {
            Ok(()) => self.len += bytes.len() as u64,
            Err(error) => self.fail(&error),
        }
    }

    /// Notes no more until the records are stored the next time.
    fn fail(&mut self, error: &io::Error) {
        tracing::debug!(%error, "the live tree's steps cannot be noted");
        self.failed = true;
        // Where even this cannot be written, the file goes.
        let (Some(file), Some(memory)) = (self.file.take(), &self.memory) else {
            return self.discard();
        };
        if file.write_all_at(&self.lost(memory), self.len).is_err() {
            self.discard();
        }
    }

    /// Returns the frame that says that something was not noted.
    fn lost(&self, memory: &Memory) -> Vec<u8> {
        let (boot, tree) = (memory.boot, self.tree.to_bytes());
        encoded(&Frame { boot, tree, step: self.step + 1, what: What::Lost })
    }

    fn read(&mut self, stored: &Stored) -> io::Result<Option<Notes>> {
        let Some(memory) = self.memory.clone() else { return Ok(None) };
        let file = match memory.disk.open(NAME, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let end = file.len()?;
        let mut found = Notes {
            position: stored.position,
            retries: stored.retries.clone(),
            records: Vec::new(),
            redo: Redo::Nothing,
        };
        let mut frames = 0_u64;
        while let Some(frame) = next_frame(&*file, &mut self.len, end)? {
            if frame.boot != memory.boot || frame.tree != self.tree.to_bytes() {
                return Ok(None);
            }
            frames += 1;
            if frame.step <= stored.step {
                continue;
            }
            match frame.what {
                What::Begin(through) => found.begin(through),
                What::Lost => found.redo = Redo::All,
                What::Done(done) => {
                    self.step = frame.step;
                    if found.redo != Redo::All {
                        found.redo = Redo::Nothing;
                    }
                    if found.take(done).is_none() {
                        return Ok(None);
                    }
                }
            }
        }
        file.set_len(self.len)?;
        self.file = Some(file);
        // Without a frame nothing says which run of the machine it is of.
        Ok((frames > 0).then_some(found))
    }
}

impl Notes {
    fn begin(&mut self, through: u64) {
        if through == EVERYTHING {
            self.retries.everything = true;
        }
        self.redo = match self.redo {
            Redo::All => Redo::All,
            Redo::Nothing => Redo::Through(CommitId(through)),
            Redo::Through(commit) => Redo::Through(commit.max(CommitId(through))),
        };
    }

    fn take(&mut self, done: Done) -> Option<()> {
        self.position = CommitId(done.position);
        if let Some(retries) = done.retries {
            self.retries = retries.read()?;
        }
        for (file, identity) in done.records {
            let identity = match identity {
                Some(bytes) => Some(Identity::from_bytes(&bytes)?),
                None => None,
            };
            self.records.push((FileId::from_bytes(&file)?, identity));
        }
        Some(())
    }
}

impl RetriesRow {
    fn of(retries: &Retries) -> Self {
        let name = |(parent, name): &(FileId, Name)| (parent.to_bytes(), name.as_bytes().to_vec());
        let file = |(file, since): (&FileId, &CommitId)| (file.to_bytes(), since.0);
        Self {
            everything: retries.everything,
            names: retries.names.iter().map(name).collect(),
            files: retries.files.iter().map(file).collect(),
        }
    }

    fn read(self) -> Option<Retries> {
        let mut retries = Retries { everything: self.everything, ..Retries::default() };
        for (parent, name) in self.names {
            retries.names.insert((FileId::from_bytes(&parent)?, Name::new(&name).ok()?));
        }
        for (file, since) in self.files {
            retries.files.insert(FileId::from_bytes(&file)?, CommitId(since));
        }
        Some(retries)
    }
}

/// Length and checksum before each frame.
const HEAD_BYTES: usize = 8;

/// Returns a frame as it is written.
fn encoded(frame: &Frame) -> Vec<u8> {
    let payload = postcard::to_stdvec(frame).expect("frames hold nothing that cannot be encoded");
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(payload.len() + HEAD_BYTES);
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes
}

/// Reads the frame at `at` and goes on behind it; `None` at the end, and where one was cut off.
fn next_frame(file: &dyn DiskFile, at: &mut u64, end: u64) -> io::Result<Option<Frame>> {
    let mut head = [0; HEAD_BYTES];
    if end.saturating_sub(*at) < head.len() as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut head, *at)?;
    let [a, b, c, d, crc @ ..] = head;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    let from = *at + HEAD_BYTES as u64;
    if len > FRAME_BYTES_MAX || end - from < len as u64 {
        return Ok(None);
    }
    let mut payload = vec![0; len];
    file.read_exact_at(&mut payload, from)?;
    if crc32c::crc32c(&payload) != u32::from_le_bytes(crc) {
        return Ok(None);
    }
    let Ok(frame) = postcard::from_bytes(&payload) else { return Ok(None) };
    *at = from + len as u64;
    Ok(Some(frame))
}

#[cfg(test)]
mod tests;
