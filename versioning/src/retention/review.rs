//! All names of a set, one after the other, and what all their histories together let go.

use std::collections::{HashMap, HashSet};

use keepshare_base::{CommitId, FileId, Kind, Name, SetPath, Stamp, VersionId};

use crate::{
    ReadError, View,
    index::names,
    state::{FileState, HistoryEntry},
};

use super::{Fate, Gone, Now, Policy, Reasons, Version, judge, judge::DAY, until};

/// The most versions of which it is remembered what was said of them: 64 bytes or so each. Where a set has more, its files are gone
/// through in several parts, so that memory does not grow with it.
const REMEMBERED_MAX: usize = 400_000;

/// The most parts: sets of a hundred billion versions.
const PARTS_MAX: u64 = 1 << 18;

/// The most places at which it is looked whether what was deleted stands again.
const PLACES_MAX: usize = 256;

/// The most moves of a folder, and of those above it, that are looked at for that.
const MOVES_MAX: usize = 4096;

/// A version that every history lets go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// The file.
    pub file: FileId,
    /// The commit that brought the state.
    pub commit: CommitId,
    /// Its id.
    pub version: VersionId,
    /// When it was made, as its name tells.
    pub stamp: Stamp,
    /// Its size, in bytes.
    pub size: u64,
    /// Why it goes.
    pub gone: Gone,
    /// A folder and a name in it whose history shows it.
    pub shown: (FileId, Name),
}

/// How many versions stay and go.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Names gone through.
    pub names: u64,
    /// Versions that are kept.
    pub kept: u64,
    /// Versions that go.
    pub gone: u64,
    /// Their sizes together, in bytes.
    pub gone_bytes: u64,
    /// Versions that are kept, of those that were settled at the last run.
    pub settled_kept: u64,
    /// Settled versions that go, but for those that only came to an age at which versions lie further apart: nights do that by the way.
    pub settled_gone: u64,
}

/// What is said of a version by the histories that show it.
#[derive(Clone, Debug)]
struct Said {
    kept: Reasons,
    gone: Option<(Gone, Box<Candidate>)>,
    /// It had been here for a day at the last run, so that this has judged it before.
    is_settled: bool,
    /// A history lets it go for something else than an age that it came to since the last run.
    is_unlooked_for: bool,
}

/// A version of a history, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The version.
    pub entry: HistoryEntry,
    /// What this history says.
    pub fate: Fate,
}

/// Goes through all names that a set has or had, in steps: each may have a view of its own, so that none holds old pages for long.
///
/// A name that comes while this goes on lets nothing go that another one keeps: what it got was another name's before, whose history goes
/// on to show it.
#[derive(Debug)]
pub struct Review {
    policy: Policy,
    now: Now,
    /// When the last run was, as running time in microseconds.
    last_run: u64,
    after: Option<(FileId, Name)>,
    said: HashMap<(FileId, CommitId), Said>,
    /// Into how many parts the files are divided, and which one is gone through.
    parts: (u64, u64),
    counts: Counts,
    remembered_max: usize,
}

impl Review {
    /// Begins.
    pub fn new(policy: Policy, now: Now) -> Self {
        Self::remembering(policy, now, REMEMBERED_MAX)
    }

    /// Begins, with so many versions remembered at a time.
    pub fn remembering(policy: Policy, now: Now, remembered_max: usize) -> Self {
        let last_run = now.running_micros.saturating_sub(DAY);
        Self {
            policy,
            now,
            last_run,
            after: None,
            said: HashMap::new(),
            parts: (1, 0),
            counts: Counts::default(),
            remembered_max,
        }
    }

    /// Says when the last run was, as running time in microseconds; else it is taken to be a day ago.
    #[must_use]
    pub fn after_run(self, last_run: u64) -> Self {
        Self { last_run: last_run.min(self.now.running_micros), ..self }
    }

    /// Returns how far it is, over all parts that are done.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Goes through so many more names. Returns what goes of a part of the set when that part is done, and whether it is the last.
    pub fn step(
        &mut self,
        view: &View,
        names: usize,
    ) -> Result<Option<(Vec<Candidate>, bool)>, ReadError> {
        let after = self.after.as_ref().map(|(folder, name)| (*folder, name));
        let next = view.names_of_all(after, names)?;
        for (folder, name) in &next {
            let entries = view.whole_history(*folder, name, not_gone())?;
            let judged = judged(view, &self.policy, self.now, (*folder, name), &entries)?;
            self.hear(*folder, name, entries, judged);
            if self.said.len() > self.remembered_max && self.parts.0 < PARTS_MAX {
                self.begin_smaller();
                return Ok(None);
            }
        }
        if self.parts.1 == 0 {
            self.counts.names += next.len() as u64;
        }
        self.after = next.into_iter().next_back();
        Ok(self.after.is_none().then(|| self.end_part()))
    }

    /// Begins anew with more parts, where nothing was given out yet; goes on with a part of this part where something was.
    fn begin_smaller(&mut self) {
        let (of, part) = self.parts;
        // The files of a part are those of two parts of twice as many: the one of this number and the one `of` after it.
        self.parts = (of * 2, part);
        self.said.clear();
        self.after = None;
        if part == 0 {
            self.counts.names = 0;
        }
    }

    fn hear(&mut self, folder: FileId, name: &Name, entries: Vec<HistoryEntry>, judged: Judged) {
        let judged = judged.versions.into_iter().zip(judged.fates);
        for (entry, (version, fate)) in entries.into_iter().zip(judged) {
            let state = &entry.state;
            if !self.is_of_part(state.file) {
                continue;
            }
            let is_unlooked_for = !self.is_of_age(&version, fate);
            let is_settled = version.running_micros.saturating_add(DAY) <= self.last_run;
            let said = self.said.entry((state.file, state.commit)).or_insert_with(|| Said {
                kept: Reasons::default(),
                gone: None,
                is_settled,
                is_unlooked_for: false,
            });
            said.is_unlooked_for |= is_unlooked_for;
            match fate {
                Fate::Kept(reasons) => {
                    said.kept = said.kept.and(reasons);
                    said.gone = None;
                }
                Fate::Gone(gone) if said.kept.is_empty() && said.gone.is_none() => {
                    let candidate = Candidate {
                        file: state.file,
                        commit: state.commit,
                        version: entry.version,
                        stamp: state.stamp,
                        size: state.meta.size,
                        gone,
                        shown: (folder, name.clone()),
                    };
                    said.gone = Some((gone, Box::new(candidate)));
                }
                Fate::Gone(_) => {}
            }
        }
    }

    /// Tells whether a version goes because it came to an age since the last run at which versions lie further apart.
    fn is_of_age(&self, version: &Version, fate: Fate) -> bool {
        let age = version.age(self.now);
        let passed = self.now.running_micros - self.last_run;
        let spacing = |age| self.policy.spacing(age);
        fate == Fate::Gone(Gone::Thinned) && spacing(age.saturating_sub(passed)) < spacing(age)
    }

    fn is_of_part(&self, file: FileId) -> bool {
        let (of, part) = self.parts;
        spread(file) % of == part
    }

    /// Gives out what goes of this part, in order, and begins the next one.
    fn end_part(&mut self) -> (Vec<Candidate>, bool) {
        let mut going = Vec::new();
        for (_, said) in self.said.drain() {
            match said.gone {
                Some((_, candidate)) if said.kept.is_empty() => {
                    self.counts.gone += 1;
                    self.counts.settled_gone += u64::from(said.is_settled && said.is_unlooked_for);
                    self.counts.gone_bytes = self.counts.gone_bytes.saturating_add(candidate.size);
                    going.push(*candidate);
                }
                _ => {
                    self.counts.kept += 1;
                    self.counts.settled_kept += u64::from(said.is_settled);
                }
            }
        }
        self.after = None;
        going.sort_unstable_by_key(|candidate| (candidate.file, candidate.commit));
        (going, !self.next_part())
    }

    /// Goes to the next part; tells whether there is one. Parts are numbered by the last bits of a number, the lowest bit first: a part
    /// that was divided is done when both of its halves are.
    fn next_part(&mut self) -> bool {
        let (mut of, mut part) = self.parts;
        while of > 1 {
            if part < of / 2 {
                self.parts = (of, part + of / 2);
                return true;
            }
            (of, part) = (of / 2, part - of / 2);
        }
        false
    }
}

/// Returns a number of a file that is spread evenly.
fn spread(file: FileId) -> u64 {
    let FileId { origin, epoch, counter } = file;
    let mixed = counter ^ (u64::from(origin.0) << 32) ^ epoch.0.get().rotate_left(48);
    mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

/// Returns what a name of a folder held that is not gone yet, newest first, with what this history lets go. It is walked through to its
/// beginning; memory grows with what is kept.
pub fn history(
    view: &View,
    policy: &Policy,
    now: Now,
    folder: FileId,
    name: &Name,
) -> Result<Vec<Shown>, ReadError> {
    let entries = view.whole_history(folder, name, not_gone())?;
    let Judged { fates, .. } = judged(view, policy, now, (folder, name), &entries)?;
    Ok(entries.into_iter().zip(fates).map(|(entry, fate)| Shown { entry, fate }).collect())
}

/// Versions of a history, each with how much running time passes at least before it could go, in microseconds.
pub type Outlook = Vec<(Shown, Option<u64>)>;

/// Returns what [`history`] does, each with how much running time passes at least before it could go ([`until`]). `None` where the name
/// held more than so many versions: of a part of a history nothing can be said.
pub fn outlook(
    view: &View,
    policy: &Policy,
    now: Now,
    (folder, name): (FileId, &Name),
    versions_max: usize,
) -> Result<Option<Outlook>, ReadError> {
    let entries = view.short_history(folder, name, versions_max, not_gone())?;
    let Some(entries) = entries else { return Ok(None) };
    let Judged { versions, deleted, fates } = judged(view, policy, now, (folder, name), &entries)?;
    let until = until(policy, now, &versions, deleted, &fates);
    let shown = entries.into_iter().zip(fates).map(|(entry, fate)| Shown { entry, fate });
    Ok(Some(shown.zip(until).collect()))
}

/// Returns what picks versions of files that are not gone, each once.
fn not_gone() -> impl FnMut(&HistoryEntry) -> bool {
    let mut seen = HashSet::new();
    move |entry| {
        let state = &entry.state;
        let is_file = state.meta.kind == Kind::File;
        is_file && !state.expired && seen.insert((state.file, state.commit))
    }
}

/// A history, and what becomes of each of its versions.
struct Judged {
    versions: Vec<Version>,
    /// For how long its name has stood for nothing.
    deleted: Option<u64>,
    fates: Vec<Fate>,
}

/// Judges a history.
fn judged(
    view: &View,
    policy: &Policy,
    now: Now,
    (folder, name): (FileId, &Name),
    entries: &[HistoryEntry],
) -> Result<Judged, ReadError> {
    let mut versions = Vec::with_capacity(entries.len());
    for entry in entries {
        versions.push(version(view, entry)?);
    }
    // What a name holds it got in this order, whatever clocks said.
    let mut before = Stamp(i64::MIN);
    for version in versions.iter_mut().rev() {
        version.moment = version.moment.max(before);
        before = version.moment;
    }
    let deleted = deleted_for(view, policy, now, folder, name, entries)?;
    let fates = judge(policy, now, &versions, deleted);
    Ok(Judged { versions, deleted, fates })
}

/// Returns what matters of a version for how long it is kept.
fn version(view: &View, entry: &HistoryEntry) -> Result<Version, ReadError> {
    let state = &entry.state;
    // A version that the station cut by itself has no commit of its own.
    let by_station = VersionId(state.position).station_commit().is_some();
    let cut_at = if by_station { state.commit } else { state.cut_at };
    let info = view.commit_info(cut_at)?;
    let info = info.ok_or_else(|| ReadError::Index(crate::index::Table::Commit.broken()))?;
    // What a mirror brought was made when its origin says, as far as that is before it came.
    let is_own = by_station || state.position == info.position;
    let moment = if is_own { info.moment } else { state.stamp.min(info.moment) };
    // A name that took a file over has it since then.
    let since = match entry.since == cut_at {
        true => info.moment,
        false => view.commit_info(entry.since)?.map_or(moment, |since| since.moment),
    };
    Ok(Version {
        moment: moment.max(since),
        arrival: info.arrival,
        running_micros: info.running_micros,
        held: is_held(view, state)?,
    })
}

/// Tells whether a point shows a state under some name. A file that has none there is in no view of the point.
fn is_held(view: &View, state: &FileState) -> Result<bool, ReadError> {
    let mut from = CommitId(state.commit.0.saturating_sub(1));
    loop {
        let Some(point) = view.points(from, 1)?.pop() else { return Ok(false) };
        // Where this point has a newer state, so do all later ones.
        if !has_state(view, state, point.commit)? {
            return Ok(false);
        }
        if !view.links(state.file, point.commit)?.is_empty() {
            return Ok(true);
        }
        // A later point shows it only where it got a name again.
        let moves = view.ask(|rows| names::moves(rows, state.file, MOVES_MAX))?;
        if moves.len() >= MOVES_MAX {
            return Ok(true);
        }
        let next = moves.into_iter().map(|(_, at)| at).filter(|at| *at > point.commit).min();
        let Some(next) = next else { return Ok(false) };
        from = CommitId(next.0.saturating_sub(1));
    }
}

/// Tells whether a state is the newest of its file at a commit, or where that was no version yet, as it is while a long file is read,
/// the version before it.
fn has_state(view: &View, state: &FileState, then: CommitId) -> Result<bool, ReadError> {
    let mut at = then;
    loop {
        let Some(shown) = view.file(state.file, at)? else { return Ok(false) };
        if shown.commit <= state.commit {
            return Ok(shown.commit == state.commit);
        }
        if shown.cut && shown.cut_at <= then {
            return Ok(false);
        }
        at = CommitId(shown.commit.0 - 1);
    }
}

/// Returns for how long a name has stood for nothing, in microseconds of running time; `None` where it stands for something, or what led
/// to it does again.
fn deleted_for(
    view: &View,
    policy: &Policy,
    now: Now,
    folder: FileId,
    name: &Name,
    entries: &[HistoryEntry],
) -> Result<Option<u64>, ReadError> {
    let Some(since) = view.empty_since(folder, name)? else { return Ok(None) };
    let Some(info) = view.commit_info(since)? else { return Ok(None) };
    let gone_for = now.running_micros.saturating_sub(info.running_micros);
    let is_over = policy.deleted().is_some_and(|keep| gone_for >= keep.micros());
    // Another folder may stand at the path, and have a file of that name, whose history goes on into this one.
    if is_over && stands_again(view, folder, name, since, entries)? {
        return Ok(None);
    }
    Ok(Some(gone_for))
}

/// Tells whether something stands at a path by which this name was reached, whenever that was: that path's history goes on into this one.
fn stands_again(
    view: &View,
    folder: FileId,
    name: &Name,
    since: CommitId,
    entries: &[HistoryEntry],
) -> Result<bool, ReadError> {
    let first = entries.last().map_or(since, |entry| entry.since);
    let Some(moves) = moves_above(view, folder)? else { return Ok(true) };
    let mut at: Vec<CommitId> = entries.iter().map(|entry| entry.since).collect();
    at.push(CommitId(since.0.saturating_sub(1)));
    at.extend(moves.into_iter().filter(|at| (first..since).contains(at)));
    at.sort_unstable();
    at.dedup();
    if at.len() > PLACES_MAX {
        // Too much to look at: it is kept as if it stood.
        return Ok(true);
    }
    for at in at {
        let Some(path) = view.path_of(folder, at)? else { continue };
        let path = SetPath::from(path.names().iter().chain([name]).cloned().collect::<Vec<_>>());
        if view.resolve(&path, CommitId::MAX)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns when a folder, or one that it ever was in, got or lost a name; `None` where that is too much to look at.
fn moves_above(view: &View, folder: FileId) -> Result<Option<Vec<CommitId>>, ReadError> {
    let (mut commits, mut folders, mut next) = (Vec::new(), HashSet::from([folder]), vec![folder]);
    while let Some(folder) = next.pop() {
        let moves = view.ask(|rows| names::moves(rows, folder, MOVES_MAX))?;
        if commits.len() + moves.len() >= MOVES_MAX || folders.len() >= MOVES_MAX {
            return Ok(None);
        }
        for (parent, at) in moves {
            commits.push(at);
            if folders.insert(parent) {
                next.push(parent);
            }
        }
    }
    Ok(Some(commits))
}
