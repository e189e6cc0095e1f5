//! Comparing a live tree with the index without changing it.

use std::{collections::BTreeSet, fs::File, io, os::unix::fs::FileExt};

use keepshare_base::{CommitId, FileId, Kind, Name, SetPath};

use super::{
    Fail, LiveError, LiveTree,
    beneath::{Folder, Part, see_open},
    names::PAGE_ENTRIES,
};
use crate::{Entry, FileState, ReadError, Reader, View};

/// How many differences are told one by one; the rest is counted.
const DIFFERENCES_MAX: usize = 1000;

/// How much content is compared at once, in bytes.
const PIECE_BYTES: u64 = 1024 * 1024;

/// How often the tree follows new commits before it is compared as it is.
const FOLLOW_MAX: usize = 16;

/// One way in which a live tree is not what the index says.
#[derive(Debug)]
pub struct Difference {
    /// Where.
    pub path: SetPath,
    /// In which way.
    pub kind: DifferenceKind,
}

/// How something differs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DifferenceKind {
    /// The index has it, the tree has not.
    #[error("missing")]
    Missing,
    /// The tree has it, the index has not.
    #[error("not of the set")]
    Extra,
    /// It is there, but not the one that was put there.
    #[error("replaced by someone else")]
    Foreign,
    /// Owner, mode, time, or a symlink's target.
    #[error("other attributes")]
    Attributes,
    /// The content, from this byte on.
    #[error("other content from byte {0} on")]
    Content(u64),
    /// It cannot be compared: the file system fails.
    #[error("cannot be read")]
    Io(#[source] io::Error),
    /// It cannot be compared: the store fails.
    #[error("has no content in the store to compare with")]
    Store(#[source] ReadError),
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Checked {
    /// The commit that was compared with.
    pub at: CommitId,
    /// How many files, folders and symlinks were looked at.
    pub files: u64,
    /// How many bytes were compared.
    pub bytes: u64,
    /// What differs, up to a thousand.
    pub differences: Vec<Difference>,
    /// How many more differences there are.
    pub more_differences: u64,
}

impl LiveTree {
    /// Applies what is new and compares the tree with the index, with all content where `contents` says so.
    pub fn check(&mut self, reader: &Reader, contents: bool) -> Result<Checked, LiveError> {
        let mut view = reader.view()?;
        for _ in 0..FOLLOW_MAX {
            self.apply(reader, true)?;
            if view.latest() == self.reached {
                break;
            }
            view = reader.view()?;
        }
        let checked = Checked { at: view.latest(), ..Checked::default() };
        let mut check = Check { tree: self, view, reader, contents, checked };
        check.run()?;
        Ok(check.checked)
    }
}

struct Check<'a> {
    tree: &'a LiveTree,
    view: View,
    reader: &'a Reader,
    contents: bool,
    checked: Checked,
}

impl Check<'_> {
    fn run(&mut self) -> Result<(), LiveError> {
        let mut folders = vec![(FileId::ROOT, SetPath::default())];
        while let Some((id, path)) = folders.pop() {
            match self.folder(id, &path, &mut folders) {
                Err(Fail::Fatal(error)) => return Err(error),
                Err(fail) => self.differs(path, fail),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn folder(
        &mut self,
        id: FileId,
        path: &SetPath,
        folders: &mut Vec<(FileId, SetPath)>,
    ) -> Result<(), Fail> {
        let folder = self.open(path)?;
        let mut there = BTreeSet::new();
        folder.each(|part| {
            there.insert(part.as_bytes().to_vec());
            Ok::<_, io::Error>(true)
        })?;
        let mut after: Option<Name> = None;
        loop {
            let page = self.view.list(id, self.checked.at, after.as_ref(), PAGE_ENTRIES)?;
            let last = page.len() < PAGE_ENTRIES;
            after = page.last().map(|entry| entry.name.clone());
            for entry in page.into_iter().filter(|entry| entry.kind.is_live()) {
                there.remove(entry.name.as_bytes());
                let path = path.join(entry.name.clone());
                match self.entry(&folder, &entry) {
                    Err(Fail::Fatal(error)) => return Err(error.into()),
                    Err(fail) => self.differs(path, fail),
                    Ok(Some(kind)) => self.add(path, kind),
                    Ok(None) if entry.kind == Kind::Dir => folders.push((entry.file, path)),
                    Ok(None) => {}
                }
            }
            if last {
                break;
            }
        }
        for name in there {
            let name = Name::new(&name).ok();
            let path = name.map_or_else(|| path.clone(), |name| path.join(name));
            self.add(path, DifferenceKind::Extra);
        }
        Ok(())
    }

    fn entry(&mut self, folder: &Folder, entry: &Entry) -> Result<Option<DifferenceKind>, Fail> {
        self.checked.files += 1;
        let part = Part::from(&entry.name);
        let Some(seen) = folder.see(part)? else { return Ok(Some(DifferenceKind::Missing)) };
        let known = self.tree.records.file(seen.identity)?;
        if known != Some(entry.file) || seen.kind != entry.kind {
            return Ok(Some(DifferenceKind::Foreign));
        }
        let Some(state) = self.view.file(entry.file, self.checked.at)? else { return Ok(None) };
        if entry.kind == Kind::File
            && let Some(offset) = self.content(folder, part, &state)?
        {
            return Ok(Some(DifferenceKind::Content(offset)));
        }
        let target_fits =
            entry.kind != Kind::Symlink || folder.read_symlink(part)? == state.meta.symlink;
        let fits = target_fits && self.tree.attributes.fit(&seen, &state.meta);
        Ok((!fits).then_some(DifferenceKind::Attributes))
    }

    /// Returns the first byte that differs.
    fn content(
        &mut self,
        folder: &Folder,
        part: Part<'_>,
        state: &FileState,
    ) -> Result<Option<u64>, Fail> {
        let file = folder.file(part, false)?;
        let (size, now) = (state.meta.size, see_open(&file)?.size);
        if now != size {
            return Ok(Some(now.min(size)));
        }
        let mut offset = 0;
        while self.contents && offset < size {
            let want = usize::try_from(PIECE_BYTES.min(size - offset)).unwrap_or(0);
            let stored = self.reader.read(state, offset, want).map_err(Fail::Content)?;
            let live = read(&file, offset, stored.len())?;
            self.checked.bytes += stored.len() as u64;
            if let Some(at) = stored.iter().zip(&live).position(|(a, b)| a != b) {
                return Ok(Some(offset + at as u64));
            }
            if stored.is_empty() {
                return Ok(Some(offset));
            }
            offset += stored.len() as u64;
        }
        Ok(None)
    }

    fn open(&self, path: &SetPath) -> Result<std::sync::Arc<Folder>, Fail> {
        let mut folder = std::sync::Arc::clone(&self.tree.live);
        for name in path.names() {
            folder = std::sync::Arc::new(folder.folder(Part::from(name))?);
        }
        Ok(folder)
    }

    fn differs(&mut self, path: SetPath, fail: Fail) {
        let kind = match fail {
            Fail::Io(error) => DifferenceKind::Io(error),
            Fail::Content(error) => DifferenceKind::Store(error),
            Fail::NoFolder | Fail::Fatal(_) => DifferenceKind::Missing,
        };
        self.add(path, kind);
    }

    fn add(&mut self, path: SetPath, kind: DifferenceKind) {
        if self.checked.differences.len() < DIFFERENCES_MAX {
            self.checked.differences.push(Difference { path, kind });
        } else {
            self.checked.more_differences += 1;
        }
    }
}

fn read(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
