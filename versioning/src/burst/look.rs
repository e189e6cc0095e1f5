//! What changed since the last look, and whether it still reads as what it was.

use std::collections::HashSet;

use keepshare_base::{CommitId, FileId, Kind, Name, Position, SetPath, Stamp};

use super::{Rule, Tally, tally::Changed};
use crate::{
    FileState, ReadError, Reader, Touched, View,
    index::{Table, commits, commits::By, names},
};

/// How many names and files one look goes through, but for those of one commit: some hundred milliseconds where all must be read.
const ROWS_PER_LOOK: usize = 2000;

/// How much of a file is read to know what it reads as, in bytes.
const SAMPLE_BYTES: usize = 16 * 1024;

/// What is shorter tells nothing, in bytes.
const SAMPLE_BYTES_MIN: usize = 128;

/// How many bytes at the beginning of a file tell what kind it is.
const KIND_BYTES: usize = 8;

/// How many names beside one that is gone are looked at for what took its place.
const HEIRS_MAX: usize = 8;

/// How many states of a file are looked through for its first.
const STATES_MAX: usize = 16;

/// The most users who are named.
const USERS_MAX: usize = 16;

/// Looks for bursts in one set.
#[derive(Debug, Default)]
pub struct Watch {
    tally: Tally,
    /// Through which commit it looked.
    at: CommitId,
    users: Vec<String>,
}

/// What a look came to.
#[derive(Debug)]
pub struct Looked {
    /// Through which commit it looked.
    pub through: CommitId,
    /// There is more to look at.
    pub has_more: bool,
    /// What is a burst, for as long as it is one.
    pub burst: Option<Burst>,
}

/// Many files that no longer read as what they were.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Burst {
    /// The newest commit before any of it that left the set as its origin had it at one moment.
    pub good: CommitId,
    /// Its position.
    pub position: Position,
    /// When it was made, by this station's reckoning.
    pub moment: Stamp,
    /// How many files were rewritten, renamed or deleted.
    pub changed: u64,
    /// How many of them no longer read as what they were.
    pub spoiled: u64,
    /// Some of these, as they were called.
    pub shown: Vec<SetPath>,
    /// Who did it, as far as the set's origin knew.
    pub users: Vec<String>,
}

impl Watch {
    /// Begins after a commit.
    pub fn new(at: CommitId) -> Self {
        Self { at, ..Self::default() }
    }

    /// Returns through which commit it looked.
    pub fn through(&self) -> CommitId {
        self.at
    }

    /// Looks at the next commits, at a running time in microseconds. What answered a request to restore is passed over.
    pub fn look(&mut self, reader: &Reader, rule: &Rule, now: u64) -> Result<Looked, ReadError> {
        let view = reader.view()?;
        let latest = view.latest();
        self.tally.forget(rule, now);
        let step =
            |rows: &_| commits::touched_step(rows, self.at, latest, ROWS_PER_LOOK, By::NoRestore);
        let (touched, through) = view.ask(step)?;
        let before = self.at;
        let base = self.tally.base().unwrap_or(before);
        let mut look = Look {
            reader,
            view: &view,
            base,
            before,
            users: &mut self.users,
            changed: Vec::new(),
            seen: HashSet::new(),
        };
        if let Touched::Known { names, files } = touched {
            for (parent, name) in names {
                look.name(parent, name)?;
            }
            for file in files {
                look.file(file)?;
            }
        }
        let changed = look.changed;
        if self.tally.is_quiet() && changed.is_empty() {
            self.users.clear();
        }
        if through > before {
            self.tally.count(now, before, changed);
        }
        self.at = through;
        let burst = self.burst(&view, rule)?;
        Ok(Looked { through, has_more: through < latest, burst })
    }

    fn burst(&self, view: &View, rule: &Rule) -> Result<Option<Burst>, ReadError> {
        // What a name stands for is a file or a folder, and there are more files.
        let files = view.ask(|rows| rows.count(Table::Live))?;
        let Some((changed, spoiled)) = self.tally.is_burst(rule, files) else { return Ok(None) };
        let Some(good) = self.tally.good() else { return Ok(None) };
        let Some((good, value)) = view.ask(|rows| commits::whole_through(rows, good))? else {
            return Ok(None);
        };
        let path = |(parent, name): &(FileId, Name)| {
            let then = view.path_of(*parent, good)?;
            let folder = if then.is_some() { then } else { view.path_of(*parent, view.latest())? };
            Ok(folder.map(|folder| folder.join(name.clone())))
        };
        let shown: Result<Vec<Option<SetPath>>, ReadError> =
            self.tally.shown().iter().map(path).collect();
        Ok(Some(Burst {
            good,
            position: value.position,
            moment: value.moment,
            changed,
            spoiled,
            shown: shown?.into_iter().flatten().collect(),
            users: self.users.clone(),
        }))
    }
}

/// One look.
struct Look<'a> {
    reader: &'a Reader,
    view: &'a View,
    /// What files were is what they were then: what was made since is nobody's work yet.
    base: CommitId,
    /// What was looked at before.
    before: CommitId,
    users: &'a mut Vec<String>,
    changed: Vec<Changed>,
    seen: HashSet<(FileId, Name)>,
}

impl Look<'_> {
    /// Looks at a name that may stand for something else.
    fn name(&mut self, parent: FileId, name: Name) -> Result<(), ReadError> {
        let (view, latest) = (self.view, self.view.latest());
        let Some((was, Kind::File)) = view.lookup(parent, &name, self.base)? else { return Ok(()) };
        if self.seen.contains(&(parent, name.clone())) {
            return Ok(());
        }
        let spoiled = match view.lookup(parent, &name, latest)? {
            Some((file, Kind::File)) => match self.rewritten(was, file)? {
                Some(spoiled) => spoiled,
                None => return Ok(()),
            },
            // Another kind of thing has its name.
            Some(_) => None,
            None => {
                let names = view.links(was, latest)?;
                if names.is_empty() {
                    self.heir(parent, &name)?
                } else if let Some(Some(at)) = self.rewritten(was, was)? {
                    Some(at)
                } else if self.is_moved(was, &name, &names)? {
                    return Ok(());
                } else {
                    Some(view.empty_since(parent, &name)?.unwrap_or(self.before))
                }
            }
        };
        self.note(parent, name, spoiled);
        Ok(())
    }

    /// Looks at a file whose content or attributes may be others.
    fn file(&mut self, file: FileId) -> Result<(), ReadError> {
        let then = self.view.links(file, self.base)?;
        let Some((parent, name)) = then.into_iter().next() else { return Ok(()) };
        // One without a name now was looked at by its name.
        if self.seen.contains(&(parent, name.clone())) || self.view.link_count(file)? == 0 {
            return Ok(());
        }
        if let Some(spoiled) = self.rewritten(file, file)? {
            self.note(parent, name, spoiled);
        }
        Ok(())
    }

    fn note(&mut self, parent: FileId, name: Name, spoiled: Option<CommitId>) {
        self.seen.insert((parent, name.clone()));
        self.changed.push(Changed { parent, name, spoiled });
    }

    /// Tells whether a file that had a name is called alike now, or as it was once: a roll-back gives names back.
    fn is_moved(
        &self,
        file: FileId,
        was: &Name,
        now: &[(FileId, Name)],
    ) -> Result<bool, ReadError> {
        if now.iter().any(|(_, now)| is_same_extension(now, was)) {
            return Ok(true);
        }
        self.view.ask(|rows| {
            for (parent, now) in now {
                if names::had_link(rows, file, (*parent, now), self.base)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Tells from when on what a name holds no longer reads as what it held, if it does not; `None` where it is the same.
    fn rewritten(
        &mut self,
        was: FileId,
        file: FileId,
    ) -> Result<Option<Option<CommitId>>, ReadError> {
        let (then, now) = (self.view.file(was, self.base)?, self.view.file(file, CommitId::MAX)?);
        let (Some(then), Some(now)) = (then, now) else { return Ok(None) };
        let is_same_file = was == file && then.body.since == now.body.since;
        if is_same_file || (then.hash.is_some() && then.hash == now.hash) {
            return Ok(None);
        }
        let spoiled = self.is_spoiled(&then, &now)?;
        if spoiled
            && let Some(user) = &now.user
            && self.users.len() < USERS_MAX
            && !self.users.contains(user)
        {
            self.users.push(user.clone());
        }
        let at = if spoiled { Some(self.first_change(&now)?) } else { None };
        Ok(Some(at))
    }

    /// Returns the first commit after the look before from which on a file does not compress, or an earlier one.
    fn first_change(&self, now: &FileState) -> Result<CommitId, ReadError> {
        let mut at = now.commit;
        for _ in 0..STATES_MAX {
            let earlier = self.view.file(now.file, CommitId(at.0.saturating_sub(1)))?;
            match earlier.filter(|earlier| earlier.commit > self.before) {
                Some(earlier) if self.sample(&earlier)?.is_dense() => at = earlier.commit,
                // What was saved just before is good.
                _ => return Ok(at),
            }
        }
        Ok(self.before)
    }

    fn is_spoiled(&self, then: &FileState, now: &FileState) -> Result<bool, ReadError> {
        let now = self.sample(now)?;
        if !now.is_dense() {
            return Ok(false);
        }
        let then = self.sample(then)?;
        Ok(then.packs() || (then.is_dense() && !then.is_of_kind(&now)))
    }

    /// Returns when something came in place of a name that is gone: beside it, under the same name with another extension, and as what
    /// does not compress.
    fn heir(&self, parent: FileId, name: &Name) -> Result<Option<CommitId>, ReadError> {
        let stem = stem(name.as_bytes());
        let Ok(stem_name) = Name::new(stem) else { return Ok(None) };
        let latest = self.view.latest();
        let beside = self.view.list(parent, latest, Some(&stem_name), HEIRS_MAX)?;
        for entry in beside {
            let rest = entry.name.as_bytes().strip_prefix(stem);
            let Some([b'.', ..]) = rest else { break };
            let is_new = entry.kind == Kind::File
                && self.view.lookup(parent, &entry.name, self.base)?.is_none();
            if is_new
                && let Some(state) = self.view.file(entry.file, latest)?
                && self.sample(&state)?.is_dense()
            {
                return self.first_change(&state).map(Some);
            }
        }
        Ok(None)
    }

    /// Reads the beginning of a state; what cannot be read tells nothing.
    fn sample(&self, state: &FileState) -> Result<Sample, ReadError> {
        if state.expired {
            return Ok(Sample(Vec::new()));
        }
        match self.reader.read_in(self.view, state, 0, SAMPLE_BYTES) {
            Ok(bytes) => Ok(Sample(bytes)),
            Err(ReadError::Index(error)) => Err(error.into()),
            Err(_) => Ok(Sample(Vec::new())),
        }
    }
}

/// The beginning of a file.
struct Sample(Vec<u8>);

impl Sample {
    /// Tells whether it compresses as texts, tables and programs do.
    fn packs(&self) -> bool {
        self.0.len() >= SAMPLE_BYTES_MIN && self.packed_bytes() * 5 < self.0.len() * 4
    }

    /// Tells whether it does not compress, as what is encrypted does not, and photographs and archives.
    fn is_dense(&self) -> bool {
        self.0.len() >= SAMPLE_BYTES_MIN && self.packed_bytes() * 20 > self.0.len() * 19
    }

    /// Tells whether another begins as files of its kind do.
    fn is_of_kind(&self, other: &Self) -> bool {
        let both = self.0.iter().zip(&other.0).take(KIND_BYTES);
        both.filter(|(one, other)| one == other).count() >= 2
    }

    fn packed_bytes(&self) -> usize {
        // It fails for want of memory only; then it tells nothing: neither one nor the other.
        zstd::bulk::compress(&self.0, 1).map_or(self.0.len() * 9 / 10, |packed| packed.len())
    }
}

/// Returns a name without its extension; one that only begins with a dot has none.
fn stem(name: &[u8]) -> &[u8] {
    match name.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > 0 => &name[..dot],
        _ => name,
    }
}

fn is_same_extension(one: &Name, other: &Name) -> bool {
    let extension = |name: &Name| {
        let bytes = name.as_bytes();
        bytes[stem(bytes).len()..].to_ascii_lowercase()
    };
    extension(one) == extension(other)
}
