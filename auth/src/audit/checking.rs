//! Whether the lines of an audit log hang together, and are what heads that were kept elsewhere say.

use std::{collections::HashMap, io, path::Path};

use super::{
    AuditEvent,
    chain::{Head, LineHash, NOTHING, Place},
    files::{Files, Raw},
};

/// The lines of an audit log, as they were at one moment.
#[derive(Debug)]
pub struct Lines {
    files: Option<Files>,
    /// What they end with, where whoever writes them says so.
    head: Option<Head>,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// How many lines there are.
    pub lines: u64,
    /// How many of them were written before lines hung together: whether those were changed is not known.
    pub before_chain: u64,
    /// The number of the first line of the chain that is still kept.
    pub first: Option<u64>,
    /// What the chain ends with; none where it has no line.
    pub head: Option<Head>,
    /// How many bytes stand behind the last whole line: as after a crash, and no fault.
    pub torn_bytes: u64,
    /// How many lines say that something of the log was lost in a crash, or on a full disk.
    pub torn_lines: u64,
    /// The first fault.
    pub fault: Option<Fault>,
    /// What was found of each head that was asked for, in their order.
    pub heads: Vec<HeadFound>,
    /// The lines that say that the station was brought back from a backup.
    pub restored: Vec<Restored>,
}

/// What is not as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// In which file.
    pub file: String,
    /// At which line of the file, from 1.
    pub line: u64,
    /// What is wrong.
    pub why: String,
}

/// What a log says of a head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeadFound {
    /// The line is what it was: so are all before it.
    Same,
    /// The line is another one than it was.
    Other,
    /// The log ends before it.
    Missing,
    /// It was in a file that is kept no more.
    Gone,
    /// It is behind a fault.
    Unjudged,
}

/// A line that says that the station was brought back from a backup: what was written after the backup is not here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Restored {
    /// The number of the line.
    pub n: u64,
    /// When, RFC 3339.
    pub time: String,
}

impl Lines {
    /// Returns no lines.
    pub(super) fn none() -> Self {
        Self { files: None, head: None }
    }

    pub(super) fn new(files: Files, head: Option<Head>) -> Self {
        Self { files: Some(files), head }
    }

    /// Returns the lines in a folder that no station runs on.
    pub fn in_folder(dir: &Path) -> io::Result<Self> {
        Ok(Self::new(Files::open(dir)?, None))
    }

    /// Hands every line to `take`, oldest first, with the file that it stands in and which line of it that is.
    pub fn each(self, mut take: impl FnMut(&[u8], &str, u64)) -> io::Result<()> {
        let Some(files) = self.files else { return Ok(()) };
        files.each(|raw| take(raw.bytes, raw.file, raw.line))
    }

    /// Returns the files that the lines stand in, each with its name, oldest first, as they were at that moment.
    pub fn contents(self) -> impl Iterator<Item = io::Result<(String, Vec<u8>)>> {
        self.files.into_iter().flat_map(Files::contents)
    }
}

/// Checks the lines, and what they say of heads that were kept elsewhere.
pub fn check(lines: Lines, heads: &[Head]) -> io::Result<Checked> {
    let mut checker = Checker {
        due: None,
        before_chain: None,
        hashes: heads.iter().map(|head| (head.count, None)).collect(),
        checked: Checked::default(),
        last: None,
    };
    if let Some(files) = lines.files {
        files.each(|raw| checker.take(raw))?;
    }
    Ok(checker.end(lines.head, heads))
}

struct Checker {
    /// The chain up to the line before; none before it begins.
    due: Option<Head>,
    /// The last line before the chain.
    before_chain: Option<LineHash>,
    /// The hashes of the lines that heads name.
    hashes: HashMap<u64, Option<LineHash>>,
    checked: Checked,
    /// The last line.
    last: Option<(String, u64)>,
}

impl Checker {
    fn take(&mut self, raw: Raw<'_>) {
        let half = std::mem::take(&mut self.checked.torn_bytes);
        // Only the last line of all may be half a one; before the chain, lines went on behind such ones.
        if let Some((file, line)) = self.last.take().filter(|_| half > 0 && self.due.is_some()) {
            self.fault(file, line, format!("half a line of {half} bytes has others behind it"));
        }
        self.last = Some((raw.file.to_owned(), raw.line));
        if !raw.is_whole {
            self.checked.torn_bytes = raw.bytes.len() as u64;
            return;
        }
        self.checked.lines += 1;
        if self.checked.fault.is_none()
            && let Err(why) = self.link(raw)
        {
            self.fault(raw.file.to_owned(), raw.line, why);
        }
    }

    /// Takes a whole line as the next of the chain.
    fn link(&mut self, raw: Raw<'_>) -> Result<(), String> {
        let place: Option<Place> = serde_json::from_slice(raw.bytes).ok();
        let Some(due) = self.due else { return self.begin(raw, place) };
        let place = place.ok_or("the line cannot be read: it was changed")?;
        let (Some(n), Some(before)) = (place.n, &place.before) else {
            return Err("the line has no place in the chain: it was put in, or changed".to_owned());
        };
        let expected = due.count.saturating_add(1);
        if n > expected {
            let last = n - 1;
            return Err(match last == expected {
                true => format!("line {expected} of the chain is missing before it"),
                false => format!("lines {expected} to {last} of the chain are missing before it"),
            });
        }
        if n < expected {
            return Err(format!(
                "it is line {n} of the chain, where {expected} is due: it was put in, moved or repeated"
            ));
        }
        if *before != due.hash.to_string() {
            return Err(format!(
                "it does not continue line {} of the chain: one of the two was changed",
                due.count
            ));
        }
        self.goes_on(raw, &place, n);
        Ok(())
    }

    /// Takes a line before the chain, or its first that is kept.
    fn begin(&mut self, raw: Raw<'_>, place: Option<Place>) -> Result<(), String> {
        let Some((place, n)) = place.and_then(|place| {
            let n = place.n?;
            Some((place, n))
        }) else {
            self.checked.before_chain += 1;
            self.before_chain = Some(LineHash::of(raw.bytes));
            return Ok(());
        };
        let is_first_of_all = self.checked.before_chain == 0 && raw.is_oldest_name && place.opens;
        let before = self.before_chain.unwrap_or(NOTHING).to_string();
        match n {
            // What was before is in files that are kept no more.
            _ if is_first_of_all => {}
            1 if place.before == Some(before) => {}
            1 => {
                let why = "the chain begins with it, behind another line than now: it or that one was changed, put in or removed";
                return Err(why.to_owned());
            }
            n => {
                return Err(format!("the chain begins with line {n}: those before it are missing"));
            }
        }
        self.checked.first = Some(n);
        self.goes_on(raw, &place, n);
        Ok(())
    }

    fn goes_on(&mut self, raw: Raw<'_>, place: &Place, n: u64) {
        let hash = LineHash::of(raw.bytes);
        if let Some(found) = self.hashes.get_mut(&n) {
            *found = Some(hash);
        }
        if is_event(place, AuditEvent::StationRestored) {
            self.checked.restored.push(Restored { n, time: place.time.clone() });
        }
        if is_event(place, AuditEvent::AuditTorn) {
            self.checked.torn_lines += 1;
        }
        self.due = Some(Head { count: n, hash });
    }

    fn fault(&mut self, file: String, line: u64, why: String) {
        self.checked.fault.get_or_insert(Fault { file, line, why });
    }

    fn end(mut self, written: Option<Head>, heads: &[Head]) -> Checked {
        self.checked.head = self.due;
        if let Some(written) = written.filter(|head| head.count > 0)
            && self.due != Some(written)
        {
            let (file, line) = self.last.clone().unwrap_or_default();
            let found = self.due.map_or(0, |head| head.count);
            let why = match found < written.count {
                true => format!(
                    "the log ends with line {found} of the chain, of which {} were written: the end was cut off",
                    written.count
                ),
                false => {
                    "the last line is not what was written: it was changed, or something was added"
                        .to_owned()
                }
            };
            self.fault(file, line, why);
        }
        self.checked.heads = heads.iter().map(|head| self.found(*head)).collect();
        self.checked
    }

    fn found(&self, head: Head) -> HeadFound {
        let Checked { first, fault, .. } = &self.checked;
        match self.hashes.get(&head.count).copied().flatten() {
            Some(hash) if hash == head.hash => HeadFound::Same,
            Some(_) => HeadFound::Other,
            None if first.is_some_and(|first| head.count < first) => HeadFound::Gone,
            None if fault.is_some() && self.due.is_some_and(|due| head.count > due.count) => {
                HeadFound::Unjudged
            }
            None => HeadFound::Missing,
        }
    }
}

fn is_event(place: &Place, event: AuditEvent) -> bool {
    serde_json::to_value(event).is_ok_and(|name| name == place.event)
}
