//! Somebody who works in a tree: random edits of every kind, repeatable by a seed.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

use crate::tree;

/// How many files and folders of its own an editor keeps at most; then it deletes instead of creating.
const NAMES_MAX: usize = 400;

/// The largest file it makes.
const FILE_BYTES_MAX: usize = 300_000;

/// How much the system writes at once.
const PAGE_BYTES: usize = 4096;

/// What an editor did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Edit {
    /// A new file.
    Create,
    /// Bytes in the middle of a file.
    Modify,
    /// Bytes at its end.
    Append,
    /// A file cut short or made longer.
    Truncate,
    /// A file gone.
    Delete,
    /// A file under another name, perhaps over a file there.
    Rename,
    /// A new folder.
    CreateFolder,
    /// A folder and all below it under another name.
    RenameFolder,
    /// A folder and all below it gone.
    DeleteFolder,
    /// A new file written beside an old one and renamed over it, as careful programs save.
    Replace,
    /// Two names exchanged in one step.
    Exchange,
    /// Other permission bits.
    Chmod,
    /// A new symlink.
    Symlink,
    /// A further name of a file.
    HardLink,
}

const EDITS: [(Edit, u32); 14] = [
    (Edit::Create, 12),
    (Edit::Modify, 14),
    (Edit::Append, 12),
    (Edit::Truncate, 6),
    (Edit::Delete, 6),
    (Edit::Rename, 8),
    (Edit::CreateFolder, 4),
    (Edit::RenameFolder, 4),
    (Edit::DeleteFolder, 1),
    (Edit::Replace, 12),
    (Edit::Exchange, 3),
    (Edit::Chmod, 4),
    (Edit::Symlink, 3),
    (Edit::HardLink, 4),
];

/// Edits the tree below a folder and remembers every content that any file there ever had.
///
/// The system writes page by page: a reader that comes in the middle of a write sees whole pages of it, and such contents
/// are known here too.
#[derive(Debug)]
pub struct Editor {
    root: PathBuf,
    random: StdRng,
    files: Vec<PathBuf>,
    links: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    names: u64,
    contents: HashSet<blake3::Hash>,
}

impl Editor {
    /// Returns an editor of the tree at `root`, which may hold something already.
    pub fn new(root: &Path, seed: u64) -> Result<Self> {
        let mut editor = Self {
            root: root.to_owned(),
            random: StdRng::seed_from_u64(seed),
            files: Vec::new(),
            links: Vec::new(),
            folders: vec![root.to_owned()],
            names: 0,
            contents: HashSet::from([blake3::hash(b"")]),
        };
        let snapshot = crate::Snapshot::of(root, crate::Aspects::ALL)?;
        editor.contents.extend(snapshot.contents());
        Ok(editor)
    }

    /// Does one edit and returns which.
    pub fn step(&mut self) -> Result<Edit> {
        let edit = self.choose();
        self.do_edit(edit)
            .with_context(|| format!("cannot do {edit:?} in {}", self.root.display()))?;
        Ok(edit)
    }

    /// Tells whether any file ever had this content.
    pub fn wrote(&self, content: blake3::Hash) -> bool {
        self.contents.contains(&content)
    }

    /// Returns one of the files that are there now.
    pub fn any_file(&mut self) -> Option<PathBuf> {
        let index = self.index(self.files.len())?;
        Some(self.files[index].clone())
    }

    fn choose(&mut self) -> Edit {
        let full = self.files.len() + self.links.len() + self.folders.len() > NAMES_MAX;
        let total = EDITS.iter().map(|(_, weight)| weight).sum::<u32>();
        let mut drawn = self.random.random_range(0..total);
        let mut edit = Edit::Create;
        for (candidate, weight) in EDITS {
            edit = candidate;
            if drawn < weight {
                break;
            }
            drawn -= weight;
        }
        let creates = [Edit::Create, Edit::CreateFolder, Edit::Symlink, Edit::HardLink];
        let of_folder = [Edit::RenameFolder, Edit::DeleteFolder].contains(&edit);
        let needs_file = !of_folder && (!creates.contains(&edit) || edit == Edit::HardLink);
        match edit {
            _ if full && self.files.len() < 2 => Edit::DeleteFolder,
            edit if full && creates.contains(&edit) => Edit::Delete,
            _ if of_folder && self.folders.len() < 4 => Edit::CreateFolder,
            _ if needs_file && self.files.len() < 2 => Edit::Create,
            edit => edit,
        }
    }

    fn do_edit(&mut self, edit: Edit) -> Result<()> {
        match edit {
            Edit::Create => self.create(),
            Edit::Modify => self.modify(),
            Edit::Append => self.append(),
            Edit::Truncate => self.truncate(),
            Edit::Delete => self.delete(),
            Edit::Rename => self.rename(),
            Edit::CreateFolder => self.create_folder(),
            Edit::RenameFolder => self.rename_folder(),
            Edit::DeleteFolder => self.delete_folder(),
            Edit::Replace => self.replace(),
            Edit::Exchange => self.exchange(),
            Edit::Chmod => self.chmod(),
            Edit::Symlink => self.make_symlink(),
            Edit::HardLink => self.make_hard_link(),
        }
    }

    fn create(&mut self) -> Result<()> {
        let path = self.new_path("file");
        let content = self.bytes();
        self.note_writing(&[], 0, &content);
        File::create_new(&path)?.write_all(&content)?;
        self.files.push(path);
        Ok(())
    }

    fn modify(&mut self) -> Result<()> {
        let path = self.file();
        let content = fs::read(&path)?;
        let mut patch = self.bytes();
        patch.truncate(8192);
        let offset = self.random.random_range(0..=content.len());
        self.note_writing(&content, offset, &patch);
        OpenOptions::new().write(true).open(&path)?.write_all_at(&patch, offset as u64)?;
        Ok(())
    }

    fn append(&mut self) -> Result<()> {
        let path = self.file();
        let content = fs::read(&path)?;
        let mut line = self.bytes();
        line.truncate(300);
        self.note_writing(&content, content.len(), &line);
        OpenOptions::new().append(true).open(&path)?.write_all(&line)?;
        Ok(())
    }

    fn truncate(&mut self) -> Result<()> {
        let path = self.file();
        let mut content = fs::read(&path)?;
        let len = self.random.random_range(0..=content.len() + 5000);
        content.resize(len, 0);
        self.contents.insert(blake3::hash(&content));
        OpenOptions::new().write(true).open(&path)?.set_len(len as u64)?;
        Ok(())
    }

    fn delete(&mut self) -> Result<()> {
        let list = if self.links.is_empty() || self.random.random_bool(0.8) {
            &mut self.files
        } else {
            &mut self.links
        };
        let index = self.random.random_range(0..list.len());
        fs::remove_file(list.swap_remove(index))?;
        Ok(())
    }

    fn rename(&mut self) -> Result<()> {
        let from = self.file();
        let to = if self.random.random_bool(0.3) { self.file() } else { self.new_path("moved") };
        fs::rename(&from, &to)?;
        if fs::exists(&from)? {
            // Two names of one file: the system leaves both.
            return Ok(());
        }
        self.files.retain(|path| *path != from && *path != to);
        self.files.push(to);
        Ok(())
    }

    fn create_folder(&mut self) -> Result<()> {
        let path = self.new_path("folder");
        fs::create_dir(&path)?;
        self.folders.push(path);
        Ok(())
    }

    fn rename_folder(&mut self) -> Result<()> {
        let from = self.folder_below_root();
        let to = self.new_path("moved-folder");
        if to.starts_with(&from) {
            return Ok(());
        }
        fs::rename(&from, &to)?;
        for path in self.files.iter_mut().chain(&mut self.links).chain(&mut self.folders) {
            if let Ok(below) = path.strip_prefix(&from) {
                // An empty rest would leave a slash behind.
                *path = if below.as_os_str().is_empty() { to.clone() } else { to.join(below) };
            }
        }
        Ok(())
    }

    fn delete_folder(&mut self) -> Result<()> {
        let gone = self.folder_below_root();
        fs::remove_dir_all(&gone)?;
        for list in [&mut self.files, &mut self.links, &mut self.folders] {
            list.retain(|path| !path.starts_with(&gone));
        }
        Ok(())
    }

    fn replace(&mut self) -> Result<()> {
        let path = self.file();
        let temporary = self.new_path(".tmp");
        let content = self.bytes();
        self.note_writing(&[], 0, &content);
        File::create_new(&temporary)?.write_all(&content)?;
        fs::rename(temporary, path)?;
        Ok(())
    }

    fn exchange(&mut self) -> Result<()> {
        let (a, b) = (self.file(), self.file());
        if a != b {
            tree::exchange(&a, &b)?;
        }
        Ok(())
    }

    fn chmod(&mut self) -> Result<()> {
        let path = self.file();
        let mode = [0o600, 0o640, 0o644, 0o660, 0o755][self.random.random_range(0..5)];
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    fn make_symlink(&mut self) -> Result<()> {
        let path = self.new_path("link");
        symlink(format!("to-{}", self.random.random_range(0..1000)), &path)?;
        self.links.push(path);
        Ok(())
    }

    fn make_hard_link(&mut self) -> Result<()> {
        let (from, to) = (self.file(), self.new_path("hard"));
        fs::hard_link(from, &to)?;
        self.files.push(to);
        Ok(())
    }

    /// Remembers what a file holds while `bytes` are written at `offset` over `before`, and afterwards.
    fn note_writing(&mut self, before: &[u8], offset: usize, bytes: &[u8]) {
        let mut content = before.to_vec();
        let mut written = 0;
        while written < bytes.len() {
            let to_page_end = PAGE_BYTES - (offset + written) % PAGE_BYTES;
            let end = bytes.len().min(written + to_page_end);
            content.resize(content.len().max(offset + end), 0);
            content[offset + written..offset + end].copy_from_slice(&bytes[written..end]);
            self.contents.insert(blake3::hash(&content));
            written = end;
        }
    }

    fn new_path(&mut self, word: &str) -> PathBuf {
        let folder = self.random.random_range(0..self.folders.len());
        self.names += 1;
        self.folders[folder].join(format!("{word}-{}", self.names))
    }

    fn file(&mut self) -> PathBuf {
        let index = self.random.random_range(0..self.files.len());
        self.files[index].clone()
    }

    fn folder_below_root(&mut self) -> PathBuf {
        let index = self.random.random_range(1..self.folders.len());
        self.folders[index].clone()
    }

    fn index(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.random.random_range(0..len))
    }

    /// Returns new content: mostly a little, now and then a lot, half of it text that compresses.
    fn bytes(&mut self) -> Vec<u8> {
        let most = if self.random.random_bool(0.1) { FILE_BYTES_MAX } else { 6000 };
        let mut bytes = vec![0; self.random.random_range(1..most)];
        if self.random.random_bool(0.5) {
            self.random.fill_bytes(&mut bytes);
        } else {
            let line = format!("line {}\n", self.random.next_u64());
            for (byte, letter) in bytes.iter_mut().zip(line.bytes().cycle()) {
                *byte = letter;
            }
        }
        bytes
    }
}
