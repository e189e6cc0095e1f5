//! The files of an audit log, oldest first, as they are at one moment.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::chain::{Head, LineHash, Place};

/// What the file is called in the state folder.
pub const AUDIT_FILE: &str = "audit.log";

/// How many full files are kept beside it.
pub(super) const OLD_MAX: u32 = 3;

/// The longest line that is read, in bytes; ours have a path of 64 KiB at most.
const LINE_BYTES_MAX: usize = 1 << 20;

/// The files, oldest first, each with how much of it is meant: what is written later is not read.
#[derive(Debug)]
pub(super) struct Files(Vec<(String, File, u64)>);

/// A line as it stands in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    /// Its bytes, without the newline.
    pub(super) bytes: &'a [u8],
    /// It ends with a newline, and is not too long.
    pub(super) is_whole: bool,
    /// In which file.
    pub(super) file: &'a str,
    /// No file can be older than this one.
    pub(super) is_oldest_name: bool,
    /// Which line of the file, from 1.
    pub(super) line: u64,
}

impl Files {
    /// Opens the files of a folder.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let current = dir.join(AUDIT_FILE);
        let names = (1..=OLD_MAX).rev().map(|n| old(&current, n)).chain([current.clone()]);
        let mut files = Vec::new();
        for path in names {
            match File::open(&path) {
                Ok(file) => {
                    let bytes = file.metadata()?.len();
                    let name = path.file_name().unwrap_or_default();
                    files.push((name.to_string_lossy().into_owned(), file, bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self(files))
    }

    /// Returns the content of each file with its name, oldest first.
    pub(super) fn contents(self) -> impl Iterator<Item = io::Result<(String, Vec<u8>)>> {
        self.0.into_iter().map(|(name, file, bytes)| {
            let mut content = Vec::new();
            file.take(bytes).read_to_end(&mut content)?;
            Ok((name, content))
        })
    }

    /// Hands every line to `take`, oldest first. A line that is too long comes in pieces, none of them whole.
    pub(super) fn each(self, mut take: impl FnMut(Raw<'_>)) -> io::Result<()> {
        let oldest = old(Path::new(AUDIT_FILE), OLD_MAX);
        for (name, file, bytes) in self.0 {
            let is_oldest_name = oldest.as_os_str() == name.as_str();
            let mut reader = BufReader::new(file.take(bytes));
            let mut text = Vec::new();
            for line in 1.. {
                text.clear();
                (&mut reader).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut text)?;
                if text.is_empty() {
                    break;
                }
                let is_whole = text.last() == Some(&b'\n');
                let bytes = text.strip_suffix(b"\n").unwrap_or(&text);
                take(Raw { bytes, is_whole, file: &name, is_oldest_name, line });
            }
        }
        Ok(())
    }
}

/// Where a file that is being written ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// How many bytes its whole lines have.
    pub(super) bytes: u64,
    /// How many bytes stand behind them.
    pub(super) torn: u64,
    /// The chain up to there.
    pub(super) head: Head,
}

/// Finds where to go on writing: behind the last whole line, of this file or, where it has none, of the one before it.
pub(super) fn find_end(current: &Path) -> io::Result<End> {
    let bytes = read_if_any(current)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (text, torn) = bytes.split_at(whole);
    let head = match head_of(text) {
        Some(head) => head,
        None => head_of(&read_if_any(&old(current, 1))?).unwrap_or(Head::START),
    };
    Ok(End { bytes: text.len() as u64, torn: torn.len() as u64, head })
}

/// Returns the chain up to the end of a text; none where it has no line. Lines that cannot be read are counted: what follows them
/// has its own number all the same. Where no line says its place, the chain begins behind the last one.
fn head_of(text: &[u8]) -> Option<Head> {
    let text = text.strip_suffix(b"\n").filter(|text| !text.is_empty())?;
    let lines = || text.rsplit(|byte| *byte == b'\n');
    let number = |line: &[u8]| serde_json::from_slice::<Place>(line).ok()?.n;
    let count = (0_u64..).zip(lines()).find_map(|(behind, line)| Some((behind, number(line)?)));
    let count = count.map_or(0, |(behind, n)| n.saturating_add(behind));
    Some(Head { count, hash: LineHash::of(lines().next()?) })
}

fn read_if_any(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// Opens the file that is written.
pub(super) fn open_current(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Returns where a full file is.
pub(super) fn old(path: &Path, n: u32) -> PathBuf {
    path.with_extension(format!("log.{n}"))
}
