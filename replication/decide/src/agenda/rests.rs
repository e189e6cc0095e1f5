//! Files that are left alone for a while, looked at again and again, or when nothing else is left.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use keepshare_base::FileId;
use keepshare_proto::MonoTime;

use super::{Agenda, FileTask};

/// How often recently written files are looked at, whatever the events said.
pub const WRITTEN_EVERY: Duration = Duration::from_secs(1);

/// For how long.
pub const WRITTEN_FOR: Duration = Duration::from_secs(30);

/// The most recently written files that are looked at again and again.
const WRITTEN_MAX: usize = 4096;

/// Files and for how long they are left alone, or looked at again and again.
#[derive(Debug, Default)]
pub(super) struct Rests {
    /// Until when they are not read.
    pub(super) resting: HashMap<FileId, MonoTime>,
    /// When they were written, and perhaps left open.
    pub(super) written: HashMap<FileId, MonoTime>,
    pub(super) next_written: MonoTime,
    /// They may have names outside; looked at when nothing else is left.
    linked: BTreeSet<FileId>,
    /// They have, or could not be watched: once is enough.
    watched: HashSet<FileId>,
}

impl Agenda {
    /// Has files looked at that were written a short while ago.
    pub(super) fn take_written(&mut self, now: MonoTime) {
        if self.rests.written.is_empty() || now < self.rests.next_written {
            return;
        }
        self.rests.next_written = now + WRITTEN_EVERY;
        self.rests.written.retain(|_, written| now < *written + WRITTEN_FOR);
        let files: Vec<FileId> = self.rests.written.keys().copied().collect();
        for file in files {
            self.add_file(file, FileTask { suspect: true, ..FileTask::default() });
        }
    }

    /// Leaves a file unread until then.
    pub fn rest(&mut self, file: FileId, until: MonoTime) {
        self.rests.resting.insert(file, until);
    }

    /// Reads a file again whenever something is told of it.
    pub fn end_rest(&mut self, file: FileId) {
        self.rests.resting.remove(&file);
    }

    /// Returns until when a file is left unread.
    pub fn resting(&self, file: FileId) -> Option<MonoTime> {
        self.rests.resting.get(&file).copied()
    }

    /// Hears that a file was written, and that its writer may go on without an event.
    pub fn was_written(&mut self, now: MonoTime, file: FileId) {
        let written = &mut self.rests.written;
        if written.len() < WRITTEN_MAX || written.contains_key(&file) {
            written.insert(file, now);
        }
    }

    /// Tells whether files are looked at again and again.
    pub fn has_written(&self) -> bool {
        !self.rests.written.is_empty()
    }

    /// Takes in files that have more names than are known (yet), and files that are gone.
    pub fn note_linked(&mut self, found: Vec<FileId>, lost: &[FileId]) {
        let Rests { linked, watched, .. } = &mut self.rests;
        linked.extend(found.into_iter().filter(|file| !watched.contains(file)));
        for file in lost {
            linked.remove(file);
            watched.remove(file);
        }
    }

    /// Returns files that may have names outside, at most `limit`, when nothing else is left to be looked at.
    pub fn linked(&self, limit: usize, may_watch: impl Fn(FileId) -> bool) -> Vec<FileId> {
        if self.is_busy() {
            return Vec::new();
        }
        self.rests.linked.iter().copied().filter(|file| may_watch(*file)).take(limit).collect()
    }

    /// Tells whether there are files that may have names outside.
    pub fn has_linked(&self) -> bool {
        !self.rests.linked.is_empty()
    }

    /// Hears that files with names outside were looked at, and which of them are watched now.
    pub fn linked_watched(&mut self, looked: &[FileId], watched: Vec<FileId>) {
        self.rests.linked.retain(|file| !looked.contains(file));
        for file in watched {
            self.rests.watched.insert(file);
            // What was written before the watch stood.
            self.add_file(file, FileTask { suspect: true, ..FileTask::default() });
        }
    }
}
