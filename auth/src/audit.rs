//! The audit log: who logged in, mounted, was refused, and what an admin did about users and sessions.
//!
//! One JSON object a line in `audit.log`, readable by its owner only. Never in it: passwords, tickets, secrets, and names
//! of users who do not exist, because people type their password there. It is bounded: at 16 MiB the file
//! becomes `audit.log.1`, and three of those are kept; a flood is counted, not written. Refusals have room for each
//! event, so that those anybody can cause hide no others; what was done has room for each event and user.
//!
//! Lines hang together in a chain, over all files. What stands behind the last whole line, as after a crash, is cut
//! by the next line, which is preceded by one that says so.

mod chain;
mod checking;
mod files;
mod kept;
mod line;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use keepshare_base::Stamp;

pub use self::{
    chain::{Head, HeadError},
    checking::{Checked, Fault, HeadFound, Lines, Restored, check},
    files::AUDIT_FILE,
    kept::{HEADS_FILE, KeptHead, KeptHeads},
    line::{AuditEvent, AuditLine},
};

use self::files::{Files, old, open_current};

/// How long the file gets, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// How many lines of one kind are written in a minute; further ones are counted in the next line of that event.
///
/// More than the sessions of one user, so that the end of them all is told.
const LINES_A_MINUTE: u32 = 120;

const MINUTE_US: i64 = 60_000_000;

/// Where the lines go; clones share one file.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<Mutex<AuditFile>>>);

#[derive(Debug)]
struct AuditFile {
    path: PathBuf,
    file: File,
    bytes_max: u64,
    /// Where it ends.
    end: files::End,
    minute: Stamp,
    /// How many lines of each kind came in this minute: no more than events, and users of the station for each.
    written: HashMap<Kind, u32>,
    unwritten: HashMap<AuditEvent, u64>,
    /// Why the last line could not be written; said in the log at once, and here with the next that can.
    failed: Option<String>,
}

/// What has room for itself: refusals of an event, or what a user did of it.
#[derive(Debug, Eq, Hash, PartialEq)]
enum Kind {
    Refused(AuditEvent),
    Done(AuditEvent, Option<String>),
}

impl Audit {
    /// Opens the audit log of a state folder.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Self::open_bounded(dir, FILE_BYTES_MAX)
    }

    /// Returns one that writes nothing, for tests.
    pub fn none() -> Self {
        Self(None)
    }

    /// Writes a line. What cannot be written is lost and said in the log: a full disk must not lock everybody out.
    pub fn write(&self, line: AuditLine) {
        if let Some(file) = self.file() {
            { file }.write(line);
        }
    }

    /// Returns the chain's head; none before the first line. What it counts is durable then.
    pub fn head(&self) -> io::Result<Option<Head>> {
        let Some(file) = self.file() else { return Ok(None) };
        file.file.sync_data()?;
        Ok(Some(file.end.head).filter(|head| head.count > 0))
    }

    /// Returns the lines as they are now, to be read while others are written.
    pub fn lines(&self) -> io::Result<Lines> {
        let Some(file) = self.file() else { return Ok(Lines::none()) };
        let head = file.end.head;
        let dir = file.path.parent().unwrap_or(Path::new("."));
        Ok(Lines::new(Files::open(dir)?, Some(head)))
    }

    fn file(&self) -> Option<MutexGuard<'_, AuditFile>> {
        Some(self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open_bounded(dir: &Path, bytes_max: u64) -> io::Result<Self> {
        let path = dir.join(AUDIT_FILE);
        let file = open_current(&path)?;
        let end = files::find_end(&path)?;
        if end.torn > 0 {
            tracing::warn!(bytes = end.torn, "the last line of the audit log is not whole");
        }
        let (written, unwritten) = (HashMap::new(), HashMap::new());
        let (minute, failed) = (Stamp(0), None);
        let file = AuditFile { path, file, bytes_max, end, minute, written, unwritten, failed };
        Ok(Self(Some(Arc::new(Mutex::new(file)))))
    }
}

impl AuditFile {
    fn write(&mut self, mut line: AuditLine) {
        if !self.has_room_for(&line) {
            *self.unwritten.entry(line.event).or_default() += 1;
            return;
        }
        line.unwritten = self.unwritten.get(&line.event).copied();
        let event = line.event;
        match self.tell_what_is_lost(line.at).and_then(|()| self.append(&line)) {
            Ok(()) => {
                self.unwritten.remove(&event);
            }
            Err(error) => {
                *self.unwritten.entry(event).or_default() += 1;
                if self.failed.is_none() {
                    tracing::error!(%error, "the audit log cannot be written");
                }
                self.failed = Some(error.to_string());
            }
        }
    }

    /// Cuts what stands behind the last whole line, and says so before anything else is said.
    fn tell_what_is_lost(&mut self, at: Stamp) -> io::Result<()> {
        if self.end.torn > 0 {
            let why = format!("the last line was not whole: {} bytes were cut", self.end.torn);
            self.cut()?;
            self.append(&AuditLine::done(at, AuditEvent::AuditTorn).because(why))?;
        }
        if let Some(why) = &self.failed {
            let why = format!("lines could not be written: {why}");
            self.append(&AuditLine::done(at, AuditEvent::AuditTorn).because(why))?;
            self.failed = None;
        }
        Ok(())
    }

    fn has_room_for(&mut self, line: &AuditLine) -> bool {
        if !(0..MINUTE_US).contains(&line.at.micros_since(self.minute)) {
            self.minute = line.at;
            self.written.clear();
        }
        let kind = match line.ok {
            true => Kind::Done(line.event, line.user.clone().filter(|_| !line.is_of_all)),
            false => Kind::Refused(line.event),
        };
        let written = self.written.entry(kind).or_default();
        *written = written.saturating_add(1);
        *written <= LINES_A_MINUTE
    }

    fn append(&mut self, line: &AuditLine) -> io::Result<()> {
        let mut text = self.end.head.link(line, self.end.bytes == 0)?;
        if self.end.bytes > 0 && self.end.bytes + text.len() as u64 + 1 > self.bytes_max {
            self.rotate()?;
            text = self.end.head.link(line, true)?;
        }
        let head = self.end.head.after(&text);
        text.push(b'\n');
        // One write: lines are whole, or the last one of a full disk is not.
        if let Err(error) = self.file.write_all(&text) {
            // Whole lines alone are gone on from; what cannot be cut now is cut before the next line.
            self.end.torn =
                self.file.metadata().map_or(1, |m| m.len().saturating_sub(self.end.bytes));
            if self.end.torn > 0 && self.cut().is_err() {
                tracing::error!("half a line of the audit log cannot be cut");
            }
            return Err(error);
        }
        self.end.head = head;
        self.end.bytes += text.len() as u64;
        Ok(())
    }

    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.end.bytes)?;
        self.end.torn = 0;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        for n in (1..=files::OLD_MAX).rev() {
            let from = if n == 1 { self.path.clone() } else { old(&self.path, n - 1) };
            match fs::rename(from, old(&self.path, n)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = open_current(&self.path)?;
        self.end.bytes = self.file.metadata()?.len();
        Ok(())
    }
}
