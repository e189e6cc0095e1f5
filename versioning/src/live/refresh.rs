//! Bringing content and attributes of files that are there up to date.
//!
//! Small content is written anew beside the file and renamed over it, so that a reader sees the old or the new. Large
//! content is changed in place, and only where it changed; a file with several names is changed in place too, because
//! a new inode would have to take over all of them.

use rustix::fd::AsFd;

use keepshare_base::{CommitId, FileId, Kind, Name};

use super::{
    Fail, LiveError,
    beneath::{Folder, Part, Seen, see_open},
    content,
    stage::making,
    work::{About, Spot, Work},
};
use crate::{BodyChanges, FileState};

/// The largest file that is always written anew, in bytes.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

impl Work<'_> {
    /// Brings the files up to date that are known to be touched and were not just made.
    pub(super) fn refresh_files(&mut self) -> Result<(), LiveError> {
        for file in self.files.keys().copied().collect::<Vec<_>>() {
            let Some(since) = self.files.get(&file).copied() else { continue };
            self.retries.files.remove(&file);
            let result = self.refresh(file, since);
            self.note(result, || About::File(file))?;
        }
        Ok(())
    }

    /// Brings one file, folder or symlink up to date that held the content of `since`.
    pub(super) fn refresh(&mut self, file: FileId, since: CommitId) -> Result<(), Fail> {
        let Some(state) = self.wanted.file(file)? else { return Ok(()) };
        if file == FileId::ROOT || state.meta.kind == Kind::Dir {
            return Ok(self.folder_changed(file)?);
        }
        let names = self.wanted.names(file)?;
        let wanted = !names.is_empty();
        for (parent, name) in names {
            let spot = Spot::Live(parent, name.clone());
            if !self.is_at(file, &spot)? {
                continue;
            }
            let (folder, _) = self.reach(&spot)?;
            let Some(seen) = folder.see(Part::from(&name))? else { continue };
            return match state.meta.kind {
                Kind::Symlink => self.refresh_symlink(&state, parent, (&folder, &name), &seen),
                _ => self.refresh_file(&state, since, parent, (&folder, &name), &seen),
            };
        }
        // It is at none of its names: that failed and was told. It may get there as it is, with the old content.
        if wanted && !self.retries.add_file(file, since) {
            self.tree.records.forget(file)?;
        }
        Ok(())
    }

    fn refresh_file(
        &mut self,
        state: &FileState,
        since: CommitId,
        parent: FileId,
        (folder, name): (&Folder, &Name),
        seen: &Seen,
    ) -> Result<(), Fail> {
        let changes = self.changes(state, since, seen)?;
        let anew = match &changes {
            BodyChanges::Ranges(ranges) if ranges.is_empty() && seen.size == state.meta.size => {
                let file = self.open_file(state, (folder, name), false)?;
                return self.set_attributes(&file, state);
            }
            BodyChanges::Ranges(_) => state.meta.size <= SMALL_BYTES_MAX,
            BodyChanges::Whole => true,
        };
        if anew && seen.links == 1 {
            self.make(state, (folder, name, true))?;
            return Ok(self.folder_changed(parent)?);
        }
        let file = self.open_file(state, (folder, name), true)?;
        let bytes =
            content::patch(&file, seen.size, state, changes, (self.wanted.view(), self.reader))?;
        self.counts().bytes += bytes;
        self.set_attributes(&file, state)
    }

    /// Sets the attributes of an open file or folder, as far as the file system takes them.
    pub(super) fn set_attributes(&mut self, fd: impl AsFd, state: &FileState) -> Result<(), Fail> {
        let left = self.tree.attributes.set(fd, &state.meta)?;
        self.note_left_out(state.file, left);
        Ok(())
    }

    /// Returns what may differ between a state and the inode that held the content of `since`.
    fn changes(
        &self,
        state: &FileState,
        since: CommitId,
        seen: &Seen,
    ) -> Result<BodyChanges, Fail> {
        if since == CommitId(0) {
            return Ok(BodyChanges::Whole);
        }
        if self.tree.redo {
            // After a crash a file that is shorter than it ever had to be has lost more than what was touched.
            let then = self.wanted.view().file(state.file, since)?.map_or(0, |s| s.meta.size);
            if seen.size < then.min(state.meta.size) {
                return Ok(BodyChanges::Whole);
            }
        }
        Ok(self.wanted.view().body_changes(state, since)?)
    }

    /// Opens the inode of a file, and makes sure that it is the one.
    fn open_file(
        &self,
        state: &FileState,
        (folder, name): (&Folder, &Name),
        write: bool,
    ) -> Result<std::fs::File, Fail> {
        let file = folder.file(Part::from(name), write)?;
        let known = self.tree.records.file(see_open(&file)?.identity)?;
        if known == Some(state.file) { Ok(file) } else { Err(Fail::NoFolder) }
    }

    fn refresh_symlink(
        &mut self,
        state: &FileState,
        parent: FileId,
        (folder, name): (&Folder, &Name),
        seen: &Seen,
    ) -> Result<(), Fail> {
        let part = Part::from(name);
        if folder.read_symlink(part)? == state.meta.symlink {
            let left = self.tree.attributes.set_symlink(folder, part, &state.meta)?;
            self.note_left_out(state.file, left);
            return Ok(());
        }
        let others = if seen.links > 1 { self.wanted.names(state.file)? } else { Vec::new() };
        self.make(state, (folder, name, true))?;
        self.folder_changed(parent)?;
        for (other_parent, other) in others {
            if (other_parent, &other) != (parent, name) {
                let to = self.open_there(other_parent)?;
                let temporary = making(state.file);
                folder.link(part, &self.tree.stage, Part::from(&temporary))?;
                self.tree.stage.replace(Part::from(&temporary), &to, Part::from(&other))?;
                self.folder_changed(other_parent)?;
            }
        }
        Ok(())
    }
}
