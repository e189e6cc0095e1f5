//! What retention removes: put aside first, whence it can be brought back, and let go of later.
//!
//! What is aside is shown to nobody, and its content is kept as if it were. It is let go of after a day, or before where the
//! disk is short.

use std::ops::RangeInclusive;

use keepshare_base::{CommitId, FileId};

use super::{Room, Store};
use crate::{
    CommitError, Refusal, StoreError,
    index::{IndexError, Rows, Table, aside, files, names, values},
    moment::Arrival,
    record::{Body, FileValue, Row},
    state::Aside,
};

/// For how long what was removed can be brought back, in microseconds of running time: a day, in which somebody misses it.
pub const ASIDE_MICROS: u64 = 86_400_000_000;

/// The most versions that are brought back, or let go of, in one step.
const VERSIONS_PER_STEP: usize = 500;

/// The rows that one step looks at, in bytes, but for a single one more.
const BYTES_PER_STEP: usize = 1024 * 1024;

/// What of that which is aside is let go of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Which {
    /// What has been aside for as long as that is promised.
    Overdue,
    /// Some of the oldest, whatever its age.
    Oldest,
}

impl Store {
    /// Says what time it is, for what is aside; [`Self::commit`] does so, too.
    pub fn tick(&mut self, now: impl Into<Arrival>) {
        let now = now.into();
        self.clock.start(&now);
        self.now_micros = self.running_micros(&now);
    }

    /// Returns for how long the set has run here, in microseconds.
    pub fn running_micros(&self, now: &Arrival) -> u64 {
        self.clock.tell(now).running_micros
    }

    /// Puts those versions aside that may go, and leaves out the others: what is the newest state of a file that has a name, what
    /// is no version, and what went before. Returns those that went; all of one run say `since_micros`, the running time at which
    /// it began, and are brought back together.
    ///
    /// Works on a full disk too.
    pub fn set_aside(
        &mut self,
        now: impl Into<Arrival>,
        since_micros: u64,
        versions: &[(FileId, CommitId)],
    ) -> Result<Vec<Aside>, CommitError> {
        self.check_writable(Room::Reserve)?;
        // A set without changes has nothing else that says from where its running time goes on when it is opened again.
        let arrival = now.into().clock;
        let (mut going, mut out) = (Vec::new(), vec![Row::Clock { arrival }]);
        for (file, commit) in versions.iter().copied() {
            let value = self.asked(|rows| may_go(rows, file, commit))?;
            let Some(value) = value.filter(|value| !value.body.is_gone()) else { continue };
            going.push(Aside { since_micros, file, commit, size: value.meta.size });
            let body = Body::Aside { since_micros, was: Box::new(value.body) };
            out.push(Row::File { at: commit, file, value: FileValue { body, ..value } });
        }
        if going.is_empty() {
            return Ok(going);
        }
        self.append_own(&out)?;
        self.clock_alarm = self.clock.note(arrival).or(self.clock_alarm);
        self.removed_something()?;
        Ok(going)
    }

    /// Brings versions back that are aside since `from_micros` or later, oldest first: they are what they were. Returns them, so
    /// many at most; none where that was all.
    ///
    /// Works on a full disk too.
    pub fn bring_back(
        &mut self,
        from_micros: u64,
        limit: usize,
    ) -> Result<Vec<Aside>, CommitError> {
        self.check_writable(Room::Reserve)?;
        let limit = limit.min(VERSIONS_PER_STEP);
        let some = self.asked(|rows| some_aside(rows, from_micros..=u64::MAX, limit))?;
        let (mut back, mut out) = (Vec::new(), Vec::new());
        for (aside, value) in some {
            let Body::Aside { was, .. } = value.body else { continue };
            let value = FileValue { body: *was, ..value };
            out.push(Row::File { at: aside.commit, file: aside.file, value });
            back.push(aside);
        }
        self.append_own(&out)?;
        Ok(back)
    }

    /// Removes the content of versions at once; their rows stay and say so. Returns the last commit of it: what does not fit into
    /// one short record goes into several.
    ///
    /// The newest state of a file that has a name is refused, as is a state that is no version; then nothing is done.
    /// Works on a full disk too.
    pub fn expire(&mut self, versions: &[(FileId, CommitId)]) -> Result<CommitId, CommitError> {
        self.check_writable(Room::Reserve)?;
        let at = self.latest().next();
        let mut out = Vec::new();
        for (file, commit) in versions.iter().copied() {
            let value = self.asked(|rows| may_go(rows, file, commit))?;
            let value = value.ok_or(Refusal::Removal { file, commit })?;
            out.extend(gone(at, file, commit, value));
        }
        self.append_own(&out)?;
        self.let_go_of(versions.len())?;
        Ok(self.latest())
    }

    /// Lets go of some of what is aside, oldest first; tells whether there was any.
    pub(super) fn let_go(&mut self, which: Which) -> Result<bool, StoreError> {
        let through = match which {
            Which::Overdue => match self.now_micros.checked_sub(ASIDE_MICROS) {
                Some(through) => through,
                None => return Ok(false),
            },
            Which::Oldest => u64::MAX,
        };
        let some = self.asked(|rows| some_aside(rows, 0..=through, VERSIONS_PER_STEP))?;
        if some.is_empty() {
            return Ok(false);
        }
        let at = self.latest().next();
        let (versions, is_early) = (some.len(), which == Which::Oldest);
        let rows =
            some.into_iter().flat_map(|(aside, value)| gone(at, aside.file, aside.commit, value));
        self.append_own(&rows.collect::<Vec<_>>())?;
        tracing::debug!(versions, is_early, "what was removed cannot come back any more");
        self.let_go_of(versions)?;
        Ok(true)
    }
}

/// Returns a version whose content may be removed; `None` where it is none, or the newest state of a file that has a name.
fn may_go(
    rows: &impl Rows,
    file: FileId,
    commit: CommitId,
) -> Result<Option<FileValue>, IndexError> {
    let Some(value) = files::exactly(rows, file, commit)? else { return Ok(None) };
    let newest = files::newest(rows, file, CommitId::MAX)?.is_some_and(|(at, _)| at == commit);
    let living = file == FileId::ROOT || names::count(rows, file)? > 0;
    Ok((value.cut.is_some() && !(newest && living)).then_some(value))
}

/// Returns the rows that remove a version's content.
fn gone(at: CommitId, file: FileId, commit: CommitId, value: FileValue) -> Vec<Row> {
    let sweep = match value.body.kept() {
        Body::Mapped(body) => Some(Row::Sweep { at, body: *body }),
        Body::Inline(_) | Body::Blob(_) | Body::Expired | Body::Aside { .. } => None,
    };
    let value = FileValue { body: Body::Expired, ..value };
    // The sweep first: where only that is in the last whole record, the rest is done again, and asks for it again.
    sweep.into_iter().chain([Row::File { at: commit, file, value }]).collect()
}

/// Returns states that are aside since one of these times, oldest first: so many at most, and about as
/// many bytes as a step looks at.
fn some_aside(
    rows: &impl Rows,
    since: RangeInclusive<u64>,
    limit: usize,
) -> Result<Vec<(Aside, FileValue)>, IndexError> {
    let (mut some, mut bytes) = (Vec::new(), 0);
    for aside in aside::list(rows, *since.start(), None, limit)? {
        if !since.contains(&aside.since_micros) || bytes > BYTES_PER_STEP {
            break;
        }
        let value = files::exactly(rows, aside.file, aside.commit)?;
        let is_it = |value: &FileValue| value.body.aside_since() == Some(aside.since_micros);
        let value = value.filter(is_it).ok_or_else(|| Table::Aside.broken())?;
        bytes += values::encode(&value).len();
        some.push((aside, value));
    }
    Ok(some)
}
