//! How programs save a document.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
};

use anyhow::Result;
use keepshare_support::tree;

/// A document and how its program saves it.
#[derive(Clone, Copy, Debug)]
pub struct Document {
    /// Its name.
    pub name: &'static str,
    /// Saves content in a folder. The number tells saves apart.
    pub save: fn(folder: &Path, name: &str, content: &[u8], number: u64) -> Result<()>,
    /// What a reader of it may find in the middle of a save.
    pub shows: Shows,
}

/// What may be found under a document's name beside what was saved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shows {
    /// Nothing: each save takes the name in one step.
    Whole,
    /// A save's beginning, as it is written from its beginning on.
    Beginning,
    /// Some pages of a save and some of the one before.
    Pages,
}

/// One document for each way to save.
pub const DOCUMENTS: [Document; 6] = [
    Document { name: "budget.ods", save: writer_renames_over, shows: Shows::Whole },
    Document { name: "report.docx", save: word_moves_aside, shows: Shows::Whole },
    Document { name: "plan.xlsx", save: replace_file, shows: Shows::Whole },
    Document { name: "draft.md", save: editor_keeps_backup, shows: Shows::Beginning },
    Document { name: "letter.txt", save: in_place, shows: Shows::Beginning },
    Document { name: "drawing.raw", save: pages_in_place, shows: Shows::Pages },
];

/// How much a program writes at once.
const WRITE_BYTES: usize = 64 << 10;

/// Page size of documents whose program writes only what changed.
const PAGE_BYTES: usize = 4096;

/// As LibreOffice: a lock file beside, the new text in a temporary file, that over the document.
fn writer_renames_over(folder: &Path, name: &str, content: &[u8], number: u64) -> Result<()> {
    let lock = folder.join(format!(".~lock.{name}#"));
    fs::write(&lock, format!(",anna,office,{number};"))?;
    let temporary = folder.join(format!("lu{number}abc.tmp"));
    write(&temporary, content)?;
    fs::rename(&temporary, folder.join(name))?;
    Ok(fs::remove_file(lock)?)
}

/// As Word over SMB: the new text beside, the document aside, the new one in its place, the old one gone.
fn word_moves_aside(folder: &Path, name: &str, content: &[u8], number: u64) -> Result<()> {
    let owner = folder.join(format!("~${name}"));
    let new = folder.join(format!("~WRD{number:04}.tmp"));
    let old = folder.join(format!("~WRL{number:04}.tmp"));
    fs::write(&owner, "anna")?;
    write(&new, content)?;
    let document = folder.join(name);
    let is_there = document.exists();
    if is_there {
        fs::rename(&document, &old)?;
    }
    fs::rename(&new, &document)?;
    if is_there {
        fs::remove_file(&old)?;
    }
    Ok(fs::remove_file(owner)?)
}

/// As `ReplaceFile` of Windows does it: aside, in its place, then mode and times of the old one go to the new one.
fn replace_file(folder: &Path, name: &str, content: &[u8], number: u64) -> Result<()> {
    let (document, new) = (folder.join(name), folder.join(format!("{number:08X}.tmp")));
    let backup = folder.join(format!("{name}~RF{number:x}.TMP"));
    write(&new, content)?;
    if !document.exists() {
        return Ok(fs::rename(&new, &document)?);
    }
    fs::rename(&document, &backup)?;
    fs::rename(&new, &document)?;
    fs::set_permissions(&document, fs::metadata(&backup)?.permissions())?;
    // The time is that of the save, in the hundreds of nanoseconds that Windows knows.
    let modified = fs::metadata(&document)?.modified()?.duration_since(std::time::UNIX_EPOCH)?;
    let nanos = modified.subsec_nanos() / 100 * 100;
    tree::set_mtime(&document, i64::try_from(modified.as_secs())?, nanos)?;
    Ok(fs::remove_file(backup)?)
}

/// As vim with a backup: the old file gets the backup's name, the new one is written under the document's.
fn editor_keeps_backup(folder: &Path, name: &str, content: &[u8], _: u64) -> Result<()> {
    let (document, backup) = (folder.join(name), folder.join(format!("{name}~")));
    let is_there = document.exists();
    if is_there {
        fs::rename(&document, &backup)?;
    }
    write(&document, content)?;
    if is_there {
        fs::remove_file(backup)?;
    }
    Ok(())
}

/// As simple programs do: over the old text.
fn in_place(folder: &Path, name: &str, content: &[u8], _: u64) -> Result<()> {
    write(&folder.join(name), content)
}

/// As programs with large files do: only the pages that differ.
fn pages_in_place(folder: &Path, name: &str, content: &[u8], _: u64) -> Result<()> {
    let path = folder.join(name);
    let old = if path.exists() { fs::read(&path)? } else { Vec::new() };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    for (index, page) in content.chunks(PAGE_BYTES).enumerate() {
        let offset = index * PAGE_BYTES;
        if old.get(offset..offset + page.len()) != Some(page) {
            file.write_all_at(page, offset as u64)?;
        }
    }
    file.set_len(content.len() as u64)?;
    Ok(file.sync_all()?)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = File::create(path)?;
    for piece in content.chunks(WRITE_BYTES) {
        file.write_all(piece)?;
    }
    Ok(file.sync_all()?)
}
