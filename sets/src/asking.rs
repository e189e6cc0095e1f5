//! What the namespace answers about the past of a set, in the control answers' words: each failure with its hint.

use std::collections::{HashMap, HashSet};

use chrono_tz::Tz;

use keepshare_base::{CommitId, FileId, Meta, SetName, SetPath, Stamp};
use keepshare_control::{
    Code, Failure, Outcome, Reply,
    answers::{self, FoundName, ShownEntry, VersionInfo, kind_word},
};
use keepshare_host::clock;
use keepshare_namespace::{
    AskError, Asking, Content, Exported, FoundPath, Interrupted, PathThen, PathVersion, Restorable,
    Share, Shown, Sought, Taker, Who,
};
use keepshare_versioning::{
    Ended, PointInfo, ReadError, names,
    when::{self, POINT, WHEN_HINT},
};

/// What keeps a version.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The policy's words; none where it goes with the next run.
    pub because: Vec<String>,
    /// When it could go at the earliest, where time alone lets it go.
    pub until: Option<Stamp>,
}

/// What keeps each version of a history.
pub type AllKept = HashMap<(FileId, CommitId), Kept>;

/// The past of one set, for whoever asks by path.
#[derive(Clone, Debug)]
pub struct Catalog {
    share: Share,
    zone: Tz,
}

impl Catalog {
    /// Returns the catalog of the set behind a share; `zone` is that of the times it tells.
    pub fn new(share: Share, zone: Tz) -> Self {
        Self { share, zone }
    }

    /// Returns the set.
    pub fn set(&self) -> &SetName {
        self.share.set()
    }

    /// Writes the versions of what is or was at `path`, newest first, with what `kept` says of them where that is only of what is told.
    pub fn versions(
        &self,
        who: Who<'_>,
        path: &SetPath,
        limit: usize,
        kept: impl FnOnce() -> Option<AllKept>,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let versions = self.ask(who).versions(path, limit.saturating_add(1));
        let mut versions = versions.map_err(|error| self.failure(path, "latest", error))?;
        let is_whole = versions.len() <= limit;
        versions.truncate(limit);
        let key = |version: &PathVersion| (version.state.file, version.state.commit);
        let told: HashSet<_> = versions.iter().map(key).collect();
        // What keeps a version says something of those around it.
        let is_told = |kept: &AllKept| kept.keys().all(|key| told.contains(key));
        let kept = is_whole.then(kept).flatten().filter(is_told).unwrap_or_default();
        versions.iter().try_for_each(|version| {
            let kept = kept.get(&key(version)).filter(|_| !version.state.expired);
            reply.item(&version_info(version, kept))
        })
    }

    /// Returns the points of the set, oldest first.
    pub fn points(&self, who: Who<'_>) -> Outcome<Vec<PointInfo>> {
        self.ask(who).points().map_err(|error| self.failure(&SetPath::default(), "latest", error))
    }

    /// Returns what `path` was at the time that was typed.
    pub fn at(&self, who: Who<'_>, path: &SetPath, typed: &str) -> Outcome<PathThen> {
        self.ask(who).at(path, typed).map_err(|error| self.failure(path, typed, error))
    }

    /// Returns the version that `path` had at the time that was typed, as it may be written back there now.
    pub fn restorable(&self, who: Who<'_>, path: &SetPath, typed: &str) -> Outcome<Restorable> {
        self.ask(who).restorable(path, typed).map_err(|error| self.failure(path, typed, error))
    }

    /// Writes what `path` was: a file with its content, a folder with what is right in it.
    pub fn show(
        &self,
        who: Who<'_>,
        (path, then): (&SetPath, &PathThen),
        reply: &mut Reply,
    ) -> Outcome<()> {
        let shown = self.ask(who).show(then, &mut Sent(reply));
        shown.map_err(|stopped| self.stopped(path, stopped))
    }

    /// Writes what `path` was with everything below it, parents first.
    pub fn export(
        &self,
        who: Who<'_>,
        (path, then): (&SetPath, &PathThen),
        with: Exported,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let sent = self.ask(who).export(then, with, &mut Sent(reply));
        sent.map_err(|stopped| self.stopped(path, stopped))
    }

    /// Writes the names that match, and returns how many there were; stops at `limit`.
    pub fn find(
        &self,
        who: Who<'_>,
        sought: &Sought,
        limit: usize,
        reply: &mut Reply,
    ) -> Outcome<usize> {
        let found =
            self.ask(who).find(sought, limit, |found| reply.item(&found_name(self.set(), found)));
        found.map_err(|stopped| match (stopped, &sought.since) {
            (Interrupted::Asked(error), Some(since)) => {
                self.failure(&SetPath::default(), since, error)
            }
            (stopped, _) => self.stopped(&SetPath::default(), stopped),
        })
    }

    fn ask<'a>(&'a self, who: Who<'a>) -> Asking<'a> {
        self.share.ask(who, clock::now())
    }

    fn stopped(&self, path: &SetPath, stopped: Interrupted<Failure>) -> Failure {
        match stopped {
            Interrupted::Asked(error) => self.failure(path, "latest", error),
            Interrupted::Taker(failure) => failure,
        }
    }

    /// Says why a question about `path` at the time `typed` has no answer.
    fn failure(&self, path: &SetPath, typed: &str, error: AskError) -> Failure {
        let set = self.set();
        match error {
            AskError::Time(error) => Failure::because(Code::Usage, error).hint(WHEN_HINT),
            AskError::NotThere => {
                let error = match typed {
                    "latest" => format!("{set}:{path} is not there now"),
                    _ => format!("{set}:{path} was not there at {typed}"),
                };
                let hint = format!("keepshare versions '{set}:{path}' lists when it was there");
                Failure::not_found(error).hint(hint)
            }
            AskError::NoVersion => {
                Failure::not_found(format!("{set}:{path} has no version {typed}"))
                    .hint(format!("keepshare versions '{set}:{path}' lists those that it has"))
            }
            AskError::NoPoint => {
                let name = typed.strip_prefix(POINT).unwrap_or(typed);
                Failure::not_found(format!("set {set} has no point '{name}'"))
                    .hint(format!("keepshare point list {set} lists those that it has"))
            }
            AskError::SeveralPoints([one, other]) => {
                let name = typed.strip_prefix(POINT).unwrap_or(typed);
                Failure::usage(format!("set {set} has several points '{name}'"))
                    .hint(format!("write which one is meant: {POINT}{one} or {POINT}{other}"))
            }
            AskError::NeverThere { near } => {
                let failure =
                    Failure::not_found(format!("{set}:{path} is not there and never was"));
                let name = path.names().last().map(ToString::to_string).unwrap_or_default();
                let find =
                    format!("keepshare find '{name}' looks in all folders, for deleted files too");
                match near {
                    Some(near) => failure.hint(format!("did you mean '{set}:{near}'? {find}")),
                    None => failure.hint(find),
                }
            }
            AskError::NotYet => Failure::not_found(format!(
                "{set}:{path} has no version yet: the first is cut within 10 s"
            ))
            .hint("it is being written; try again in a moment"),
            AskError::NoneReadable => {
                Failure::not_found(format!("{set}:{path} has no version that you may read"))
                    .hint("it is there now, and its past was not yours to read")
            }
            AskError::BeforeHistory { begin } => {
                let begin = when::typed(begin, self.zone);
                Failure::not_found(format!("the history of set {set} begins at {begin}"))
                    .hint(format!("'{set}:{path}@{begin}' is the oldest that can be asked for"))
            }
            AskError::NothingYet => Failure::not_found(format!("set {set} has no whole state yet"))
                .hint("its first mirror is on its way: keepshare status shows how far"),
            AskError::Several([one, other]) => {
                Failure::usage(format!("{set}:{path} held several files with this id"))
                    .hint(format!("write which one is meant: {one} or {other}"))
            }
            AskError::NotListable => {
                Failure::refused(format!("you may not list the folder {set}:{path}"))
                    .hint("what is in it can be asked for by its name")
            }
            AskError::NotAFile(kind) => Failure::refused(format!(
                "{path} was a {} then, and only files are restored in place",
                kind_word(kind)
            ))
            .hint("--to DIR restores folders and links"),
            AskError::NotAVersion => Failure::refused(format!(
                "what {path} was then is no version, and only versions are restored in place"
            ))
            .hint(format!("keepshare versions '{set}:{path}' lists them")),
            AskError::NoFolder(folder) => Failure::refused(format!(
                "there is no folder {set}:{folder} now"
            ))
            .hint(format!("make the folder {folder} first, or restore elsewhere with --to DIR")),
            AskError::InTheWay => {
                Failure::refused(format!("{set}:{path} is no file now, and is not replaced"))
                    .hint("--to DIR restores elsewhere")
            }
            AskError::NotWritable => Failure::refused(format!("you may not write {set}:{path}"))
                .hint("--to DIR restores elsewhere"),
            AskError::Store(error) => read_failure(error),
            error => Failure::because(Code::Failed, error),
        }
    }
}

/// Writes what is shown as it comes.
struct Sent<'r>(&'r mut Reply);

impl Taker for Sent<'_> {
    type Error = Failure;

    fn shown(&mut self, shown: Shown) -> Outcome<()> {
        let Shown { path, meta, version, hash, content, uncut } = shown;
        let version = version.map(|version| version.to_string());
        let (same_as, damaged) = match content {
            Content::Follows => (None, None),
            Content::SameAs(other) => (Some(other), None),
            Content::Missing(why) => (None, Some(why.to_string())),
        };
        let uncut = uncut.map(|uncut| answers::Uncut {
            last_version: uncut.last_version.map(|version| version.to_string()),
        });
        self.0.item(&ShownEntry { path, meta, version, hash, same_as, damaged, uncut })
    }

    fn content(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.0.data(bytes)
    }
}

/// Says why something could not be read.
pub fn read_failure(error: ReadError) -> Failure {
    let hint = match &error {
        ReadError::Damaged { .. } => {
            "keepshare fsck lists all damage; another station may have this version"
        }
        ReadError::Expired { .. } => {
            "where it was thinned within a day: keepshare retention undo SET; else an older or newer version may still be there: keepshare versions"
        }
        ReadError::Gone { .. } => "only versions are kept for ever: keepshare versions lists them",
        _ => "keepshare fsck checks the set",
    };
    Failure::because(Code::Failed, error).hint(hint)
}

fn version_info(version: &PathVersion, kept: Option<&Kept>) -> VersionInfo {
    let PathVersion { state, path, until, current } = version;
    let Meta { kind, size, mode, owner, group, mtime, .. } = &state.meta;
    let is_own = state.version().is_some_and(|id| id.station_commit().is_some());
    VersionInfo {
        version: names::id(state).to_string(),
        time: state.stamp.to_string(),
        arrived: state.arrival.to_string(),
        size: *size,
        user: state.user.clone(),
        event: state.event.word().to_owned(),
        cut_by: if is_own { "station" } else { "master" }.to_owned(),
        name: path.to_string(),
        current: *current,
        kind: kind_word(*kind).to_owned(),
        mode: format!("{mode:04o}"),
        owner: owner.to_string(),
        group: group.to_string(),
        owner_id: owner.id,
        group_id: group.id,
        mtime: mtime.to_stamp().to_string(),
        hash: state.hash.map(|hash| hash.to_string()),
        until: until.map(|(until, _)| until.to_string()),
        ended: until.map(|(_, ended)| ended.word().to_owned()),
        fuzzy: state.fuzzy,
        removed: state.expired,
        kept_because: kept.map(|kept| kept.because.clone()),
        kept_until: kept.and_then(|kept| kept.until).map(|until| until.to_string()),
    }
}

fn found_name(set: &SetName, found: FoundPath) -> FoundName {
    let FoundPath { path, kind, meta, gone, versions, changed, user, next } = found;
    FoundName {
        set: set.to_string(),
        path: path.to_string(),
        kind: kind_word(kind).to_owned(),
        size: meta.as_ref().map_or(0, |meta| meta.size),
        mtime: meta.as_ref().map_or_else(String::new, |meta| meta.mtime.to_stamp().to_string()),
        until: gone.map(|(until, _)| until.to_string()),
        ended: gone.map(|(_, ended)| ended.word().to_owned()),
        deleted: gone.is_some_and(|(_, ended)| ended == Ended::Deleted),
        versions,
        time: changed.map_or_else(String::new, |changed| changed.to_string()),
        user,
        after: format!("{set}:{next}"),
    }
}
