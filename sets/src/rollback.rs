//! Roll-backs of a copy, as they are written down: what is to be done, how far it is, what came of it.
//!
//! Each has a folder of its own in the copy's: `docs/formats/rollback.md`. A roll-back is written down whole before anything is
//! done, so that whoever starts after a crash goes on; every step is done where it is not so already, and may be done twice.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, BufWriter},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use keepshare_base::{CommitId, SetPath};
use keepshare_control::{Failure, Outcome, rollback::RolledBack};
use keepshare_host::files;
use keepshare_namespace::Logins;
use keepshare_versioning::rollback::Step;

pub(crate) use done::{Done, write_line};
pub(crate) use going::Going;
pub(crate) use telling::{NOT_YOURS, count, growth_of, left, step_told, undo_of};

use telling::conflict;

mod done;
mod going;
mod telling;

/// The format of what is written down; 1 knew of no key, and of nothing that is done later.
const FORMAT: u32 = 2;

/// The format of what a user ordered, with whose rights alone it goes on.
const FORMAT_OF_USERS: u32 = 3;

/// The oldest format that is read.
const FORMER: u32 = 1;

/// What is to be done.
const PLAN: &str = "plan.jsonl";

/// How far it is.
const DONE: &str = "done.jsonl";

/// The most roll-backs that are remembered of admins.
const REMEMBERED_MAX: usize = 100;

/// The most roll-backs of one user that can be undone: more are refused, and none makes another one be forgotten.
const OF_A_USER_MAX: usize = 32;

/// The most of all users: a set has so many points of roll-backs, and half of them are left to admins.
const OF_USERS_MAX: usize = 64;

/// How much room those take that are remembered, in bytes; the newest that ended is remembered in any case.
const REMEMBERED_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The roll-backs of one copy.
#[derive(Debug)]
pub(crate) struct Rollbacks {
    dir: PathBuf,
    going: Mutex<Option<Arc<Going>>>,
    /// Knows whose login is whose, by now.
    pub(crate) logins: Arc<dyn Logins>,
    /// Held while something is planned for a user: a plan takes memory, and of users' there is one at a time.
    pub(crate) planning: Mutex<()>,
}

/// Who orders a roll-back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct By {
    /// The name, as versions and logs have it.
    pub user: String,
    /// The login with which a user ordered it, whose rights count as long as it goes on; none of an admin.
    pub login: Option<u64>,
}

/// The first line of a plan: what the roll-back is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    format: u32,
    /// Which.
    pub(crate) id: String,
    /// The folder.
    pub(crate) path: SetPath,
    /// Who ordered it.
    pub(crate) user: String,
    /// When it began, RFC 3339.
    pub(crate) began: String,
    /// The point of before.
    pub(crate) before: CommitId,
    /// How many steps follow.
    pub(crate) steps: u64,
    /// The login with whose rights alone it goes on, where a user ordered it; none of an admin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) login: Option<u64>,
    /// What the names of its requests are made of: nobody else can have asked under them. Empty in format 1.
    #[serde(default)]
    pub(crate) key: String,
    /// What is told of it before anything is done.
    pub(crate) told: RolledBack,
}

/// A line of what was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// All steps before this one were tried.
    Through(u64),
    /// The newest commit here when that was written.
    At(CommitId),
    /// This step, counted from 0, finds no room, and is tried again when all others are done.
    Later(u64),
    /// One of those was done.
    Came(u64),
    /// A step was not done.
    Left {
        /// Which, counted from 0.
        step: u64,
        /// Why not.
        why: String,
    },
    /// It is over.
    End {
        /// The point of after; where the master could not be asked any more, the last change.
        after: CommitId,
        /// Somebody ended it.
        stopped: bool,
        /// Until when it can be undone, RFC 3339.
        until: String,
    },
}

/// A roll-back as it is written down.
#[derive(Debug)]
pub(crate) struct Record {
    dir: PathBuf,
    /// What it is.
    pub(crate) header: Header,
    /// How many steps were tried.
    pub(crate) through: u64,
    /// Steps that were not done, and why.
    pub(crate) left: HashMap<u64, String>,
    /// Steps that are to be tried again.
    pub(crate) later: BTreeSet<u64>,
    /// The newest commit here when a step was written down last.
    pub(crate) at: Option<CommitId>,
    /// What came of it, where it is over: the commit after it, whether it was ended, until when it can be undone.
    pub(crate) end: Option<(CommitId, bool, String)>,
    /// How many bytes of what is written down of it are whole lines: what a crash tore is cut off.
    whole: u64,
}

impl Header {
    pub(crate) fn new(
        (id, key): (String, String),
        path: SetPath,
        By { user, login }: By,
        before: CommitId,
    ) -> Self {
        let began = rfc3339(chrono::Utc::now());
        let format = if login.is_some() { FORMAT_OF_USERS } else { FORMAT };
        let (steps, told) = (0, RolledBack::default());
        Self { format, id, path, user, began, before, steps, login, key, told }
    }

    /// Returns who ordered it.
    pub(crate) fn by(&self) -> By {
        By { user: self.user.clone(), login: self.login }
    }
}

impl Rollbacks {
    /// Returns those of the copy in this folder.
    pub(crate) fn new(copy: &Path, logins: Arc<dyn Logins>) -> Self {
        let (going, planning) = Default::default();
        Self { dir: copy.join("rollbacks"), going, logins, planning }
    }

    /// Holds that a user may have one more roll-back, where there are so many points of roll-backs.
    pub(crate) fn has_room_for(&self, user: &str, points: usize) -> Outcome<()> {
        let now = rfc3339(chrono::Utc::now());
        let of_users: Vec<_> = self.all().into_iter().filter(|one| one.counts(&now)).collect();
        let of_this = of_users.iter().filter(|record| record.header.user == user);
        let bytes: u64 = of_users.iter().map(Record::plan_bytes).sum();
        let (own, own_bytes) =
            of_this.fold((0, 0), |(count, bytes), one| (count + 1, bytes + one.plan_bytes()));
        if own < OF_A_USER_MAX
            && of_users.len() < OF_USERS_MAX
            && points < 2 * OF_USERS_MAX
            && own_bytes < REMEMBERED_BYTES_MAX / 4
            && bytes < REMEMBERED_BYTES_MAX
        {
            return Ok(());
        }
        Err(Failure::refused(format!(
            "users have {} roll-backs of this set that can be undone, {own} of them yours, and all together have {points} points",
            of_users.len()
        ))
        .hint("each makes room after its 30 days; an admin can still roll it back"))
    }

    /// Begins one, or goes on with it, where no other one goes on, or broke off.
    pub(crate) fn begin(&self, id: &str) -> Outcome<Arc<Going>> {
        let mut going = self.lock();
        let other = going.as_ref().map(|going| going.id.clone());
        if let Some(other) = other.or_else(|| self.unfinished().map(|record| record.header.id))
            && (other != id || going.is_some())
        {
            return Err(Failure::refused(format!("roll-back {other} of this set goes on"))
                .hint("one goes on at a time: whoever ordered it, or an admin, sees it with keepshare rollback --list and ends it with --stop"));
        }
        let begun = Arc::new(Going::new(id));
        *going = Some(Arc::clone(&begun));
        Ok(begun)
    }

    /// Says that the one that went on does so no more.
    pub(crate) fn ended(&self, ended: &Arc<Going>) {
        let mut going = self.lock();
        if going.as_ref().is_some_and(|going| Arc::ptr_eq(going, ended)) {
            *going = None;
        }
    }

    /// Returns the one that goes on.
    pub(crate) fn going(&self) -> Option<Arc<Going>> {
        self.lock().clone()
    }

    /// Writes down what one is and what it does, before anything is done.
    pub(crate) fn write(&self, header: Header, steps: &[Step]) -> Outcome<Record> {
        self.forget_old();
        let dir = self.dir.join(&header.id);
        files::create_private_dir(&self.dir).map_err(anyhow::Error::new)?;
        files::create_private_dir(&dir).map_err(anyhow::Error::new)?;
        let header = Header { steps: steps.len() as u64, ..header };
        let write = || -> std::io::Result<()> {
            let new = dir.join("plan.new");
            let mut out = BufWriter::new(File::create(&new)?);
            write_line(&mut out, &header)?;
            steps.iter().try_for_each(|step| write_line(&mut out, step))?;
            out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
            fs::rename(&new, dir.join(PLAN))?;
            files::sync_dir(&dir)?;
            files::sync_dir(&self.dir)
        };
        if let Err(error) = write() {
            let _ = fs::remove_dir_all(&dir);
            return Err(Failure::from(
                anyhow::Error::new(error).context("cannot write down what is to be done"),
            ));
        }
        Ok(Record::new(dir, header))
    }

    /// Reads one that somebody may know of.
    pub(crate) fn read(&self, id: &str, by: &By) -> Outcome<Record> {
        let unknown = || {
            Failure::not_found(format!("there is no roll-back '{id}' of this set"))
                .hint("keepshare rollback --list lists them")
        };
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        Record::read(self.dir.join(id))?.filter(|record| record.is_of(by)).ok_or_else(unknown)
    }

    /// Returns all that are written down, newest first; one that cannot be read is left out.
    pub(crate) fn all(&self) -> Vec<Record> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let read = |dir: PathBuf| match Record::read(dir) {
            Ok(record) => record,
            Err(failure) => {
                tracing::warn!(error = failure.one_line(), "a roll-back cannot be read");
                None
            }
        };
        let mut all: Vec<Record> = entries.filter_map(|entry| read(entry.path())).collect();
        all.sort_by(|one, other| other.header.began.cmp(&one.header.began));
        all
    }

    /// Returns those that took one back, wholly, that one, and so on.
    pub(crate) fn taken_back_by(&self, id: &str) -> Vec<String> {
        let all = self.all();
        let mut wanted = id.to_owned();
        let mut found = Vec::<String>::new();
        // Newest first: of several, the last that was ordered counts.
        while let Some(undo) = all.iter().find(|record| {
            let is_ended = matches!(record.end, Some((_, false, _)));
            let is_whole = is_ended && record.left.is_empty() && record.later.is_empty();
            is_whole
                && record.header.told.to == undo_of(&wanted)
                && !found.contains(&record.header.id)
        }) {
            wanted.clone_from(&undo.header.id);
            found.push(wanted.clone());
        }
        found
    }

    /// Returns the one that did not end.
    pub(crate) fn unfinished(&self) -> Option<Record> {
        self.all().into_iter().find(|record| record.end.is_none())
    }

    /// Forgets those that cannot be undone any more, and the oldest where there are very many, or they are very long.
    fn forget_old(&self) {
        let now = rfc3339(chrono::Utc::now());
        let (mut bytes, mut number) = (0, 0);
        for record in self.all() {
            let is_over = record.end.as_ref().is_some_and(|(_, _, until)| *until < now);
            // Of users' there are only so many: no order of theirs has what an admin did forgotten.
            if record.header.login.is_some() {
                if is_over {
                    let _ = fs::remove_dir_all(&record.dir);
                }
                continue;
            }
            number += 1;
            bytes += record.plan_bytes();
            let is_much = number > REMEMBERED_MAX || (number > 1 && bytes > REMEMBERED_BYTES_MAX);
            if is_over || (record.end.is_some() && is_much) {
                let _ = fs::remove_dir_all(&record.dir);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Going>>> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn new(dir: PathBuf, header: Header) -> Self {
        let (left, later) = Default::default();
        Self { dir, header, through: 0, left, later, at: None, end: None, whole: 0 }
    }

    fn plan_bytes(&self) -> u64 {
        fs::metadata(self.dir.join(PLAN)).map_or(0, |plan| plan.len())
    }

    /// Tells whether it is one of a user's that can still be undone.
    fn counts(&self, now: &str) -> bool {
        let is_over = self.end.as_ref().is_some_and(|(_, _, until)| until.as_str() < now);
        self.header.login.is_some() && !is_over
    }

    /// Tells whether somebody may know of it, undo it and end it: users their own, and admins all.
    pub(crate) fn is_of(&self, by: &By) -> bool {
        by.login.is_none() || (self.header.login.is_some() && self.header.user == by.user)
    }

    /// Tells whether a step was done.
    pub(crate) fn is_done(&self, step: u64) -> bool {
        step < self.through && !self.left.contains_key(&step) && !self.later.contains(&step)
    }

    /// Reads what is in a folder; `None` where nothing was to be done yet.
    fn read(dir: PathBuf) -> Outcome<Option<Self>> {
        let Ok(plan) = File::open(dir.join(PLAN)) else { return Ok(None) };
        let mut first = String::new();
        BufReader::new(plan).read_line(&mut first).map_err(anyhow::Error::new)?;
        let header: Header = serde_json::from_str(&first)
            .with_context(|| format!("{} is damaged", dir.join(PLAN).display()))?;
        let newest = if header.login.is_some() { FORMAT_OF_USERS } else { FORMAT };
        if !(FORMER..=newest).contains(&header.format) {
            return Err(Failure::refused(format!(
                "roll-back {} was written by another release",
                header.id
            )));
        }
        let mut record = Self::new(dir, header);
        let done = match fs::read(record.dir.join(DONE)) {
            Ok(done) => done,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(anyhow::Error::new(error).into()),
        };
        for line in done.split_inclusive(|byte| *byte == b'\n') {
            // What the last line said is done again where it is torn.
            let Some(Ok(said)) = line.strip_suffix(b"\n").map(serde_json::from_slice) else {
                break;
            };
            match said {
                Line::Through(through) => record.through = through,
                Line::At(commit) => record.at = Some(commit),
                Line::Later(step) => drop(record.later.insert(step)),
                Line::Came(step) => drop(record.later.remove(&step)),
                Line::Left { step, why } => drop(record.left.insert(step, why)),
                Line::End { after, stopped, until } => record.end = Some((after, stopped, until)),
            }
            record.whole += line.len() as u64;
        }
        Ok(Some(record))
    }

    /// Returns all steps, in order.
    pub(crate) fn steps(&self) -> Outcome<impl Iterator<Item = Outcome<Step>> + use<>> {
        let lines = self.lines::<serde_json::Value>(PLAN).context("the plan is gone")?.skip(1);
        Ok(lines.map(|line| {
            let step = line.and_then(|line| Ok(serde_json::from_value(line)?));
            step.map_err(|error| Failure::from(error.context("the plan is damaged")))
        }))
    }

    /// Opens what is written down of how far it is.
    pub(crate) fn open_done(&self) -> Outcome<Done> {
        let path = self.dir.join(DONE);
        let open = || -> std::io::Result<Done> {
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.set_len(self.whole)?;
            Ok(Done { file, whole: self.whole })
        };
        Ok(open().with_context(|| format!("cannot open {}", path.display()))?)
    }

    /// Writes down that it is over, after `after`.
    pub(crate) fn write_end(&mut self, after: CommitId, stopped: bool) -> Outcome<()> {
        // The point of before is held for so long.
        let began = chrono::DateTime::parse_from_rfc3339(&self.header.began);
        let began = began.map_or_else(|_| chrono::Utc::now(), |began| began.to_utc());
        let until = rfc3339(began + chrono::Duration::days(30));
        let path = self.dir.join(DONE);
        let write = || -> std::io::Result<()> {
            let mut done = OpenOptions::new().create(true).append(true).open(&path)?;
            write_line(&mut done, &Line::End { after, stopped, until: until.clone() })?;
            done.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        self.end = Some((after, stopped, until));
        Ok(())
    }

    fn lines<T: DeserializeOwned>(
        &self,
        file: &str,
    ) -> Option<impl Iterator<Item = anyhow::Result<T>> + use<T>> {
        let lines = BufReader::new(File::open(self.dir.join(file)).ok()?).lines();
        Some(lines.map(|line| Ok(serde_json::from_str(&line?)?)))
    }

    /// Tells what it did, or has done until now.
    pub(crate) fn told(&self) -> Outcome<RolledBack> {
        let Header { id, began, .. } = &self.header;
        let mut told = RolledBack {
            rollback: Some(id.clone()),
            began: Some(began.clone()),
            ..self.header.told.clone()
        };
        for (number, step) in self.steps()?.enumerate() {
            let (number, step) = (number as u64, step?);
            if number >= self.through {
                break;
            }
            match self.left.get(&number) {
                Some(why) => {
                    told.not_done += 1;
                    conflict(&mut told, step.path.to_string(), why.clone());
                }
                None if self.later.contains(&number) => told.not_done += 1,
                None => count(&mut told, &step),
            }
        }
        told.state = match &self.end {
            Some((_, true, _)) => "stopped",
            Some(_) if told.not_done > 0 => "incomplete",
            Some(_) => "done",
            None => "going-on",
        }
        .to_owned();
        told.undo_until = self.end.as_ref().map(|(_, _, until)| until.clone());
        Ok(told)
    }
}

/// Writes a time.
pub(crate) fn rfc3339(time: chrono::DateTime<chrono::Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use keepshare_base::{FileId, PresentFile, Seq, VersionId};
    use keepshare_versioning::rollback::{Doing, Present};

    use super::*;

    /// Nobody is logged in.
    #[derive(Debug)]
    struct Nobody;

    impl Logins for Nobody {
        fn principal(
            &self,
            _: u64,
            _: &keepshare_base::SetName,
        ) -> Option<Arc<keepshare_namespace::Principal>> {
            None
        }
    }

    fn by(user: &str, login: Option<u64>) -> By {
        By { user: user.to_owned(), login }
    }

    fn step(name: &str) -> Step {
        let meta_less = PresentFile { file: FileId::ROOT, mode: 0o644, uid: 1, gid: 1 };
        let version = VersionId(keepshare_base::Position {
            origin: keepshare_base::OriginId(1),
            epoch: keepshare_base::Epoch::FIRST,
            seq: Seq(1),
        });
        let what = Present { file: meta_less, still: None, version };
        let path = SetPath::parse(name.as_bytes()).unwrap();
        let doing = Doing::Remove { what, kind: keepshare_base::Kind::File };
        Step { path, folder: None, doing }
    }

    /// What was written down is read again, whatever a crash left of the last line.
    #[test]
    fn a_roll_back_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let rollbacks = Rollbacks::new(dir.path(), Arc::new(Nobody));
        let admin = by("anna", None);
        let named = ("ab".into(), String::new());
        let header = Header::new(named, SetPath::default(), admin.clone(), CommitId(7));
        let odd = SetPath::parse(b"a/\xff\n").unwrap();
        let steps = [step("a"), Step { path: odd.clone(), ..step("b") }, step("c")];
        let record = rollbacks.write(header, &steps).unwrap();
        let mut done = record.open_done().unwrap();
        done.write(&[Line::Left { step: 0, why: "it changed".into() }, Line::Later(1)]).unwrap();
        done.write(&[Line::Through(2), Line::At(CommitId(9))]).unwrap();
        done.file.write_all(b"{\"thro").unwrap();

        let record = rollbacks.read("ab", &admin).unwrap();
        assert_eq!((record.through, record.at), (2, Some(CommitId(9))));
        assert_eq!(record.later, BTreeSet::from([1]), "there was no room for it");
        let mut done = record.open_done().unwrap();
        done.write(&[Line::Through(3), Line::Came(1)]).unwrap();
        let record = rollbacks.read("ab", &admin).unwrap();
        assert_eq!((record.through, record.end.is_none()), (3, true), "after what was torn");
        assert!(rollbacks.begin("cd").is_err(), "one goes on already");
        let going = rollbacks.begin("ab").unwrap();
        assert!(rollbacks.begin("ab").is_err(), "twice");
        rollbacks.ended(&going);
        assert_eq!(record.left.get(&0).map(String::as_str), Some("it changed"));
        let read: Vec<Step> = record.steps().unwrap().map(Result::unwrap).collect();
        assert_eq!(read, steps);
        let told = record.told().unwrap();
        assert_eq!((told.removed, told.conflicts.len(), &told.state[..]), (2, 1, "going-on"));
        assert_eq!((told.not_done, record.is_done(0), record.is_done(1)), (1, false, true));
        for unknown in ["../ab", "cd"] {
            assert!(rollbacks.read(unknown, &admin).is_err(), "{unknown}");
        }
    }

    /// What a user ordered is theirs and admins' to know of, and what an admin of that name ordered is not the user's.
    #[test]
    fn a_roll_back_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let rollbacks = Rollbacks::new(dir.path(), Arc::new(Nobody));
        let (anna, bob, admin) = (by("anna", Some(7)), by("bob", Some(8)), by("anna", None));
        for (id, who) in [("aa", &anna), ("ab", &admin)] {
            let named = (id.to_owned(), String::new());
            let header = Header::new(named, SetPath::default(), who.clone(), CommitId(7));
            rollbacks.write(header, &[step("a")]).unwrap();
        }
        let knows = |who: &By| ["aa", "ab"].map(|id| rollbacks.read(id, who).is_ok());
        assert_eq!(knows(&anna), [true, false]);
        assert_eq!(knows(&by("anna", Some(9))), [true, false], "with another login of hers");
        assert_eq!(knows(&bob), [false, false]);
        assert_eq!(knows(&admin), [true, true]);
    }

    /// Users' roll-backs are so many, and make nobody else's be forgotten: whoever orders very many only keeps themselves from more.
    #[test]
    fn a_user_has_so_many_and_an_admins_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let rollbacks = Rollbacks::new(dir.path(), Arc::new(Nobody));
        let order = |id: String, who: By| {
            let header = Header::new((id, String::new()), SetPath::default(), who, CommitId(7));
            let mut record = rollbacks.write(header, &[step("a")]).unwrap();
            record.write_end(CommitId(9), false).unwrap();
        };
        order("ad".to_owned(), by("root", None));
        for number in 0..OF_A_USER_MAX {
            rollbacks.has_room_for("eve", 2 * number).unwrap();
            order(format!("e{number:x}"), by("eve", Some(1)));
        }
        assert!(rollbacks.has_room_for("eve", 2).is_err());
        rollbacks.has_room_for("bob", 2).unwrap();
        let of_orders_that_went_no_further = 2 * OF_USERS_MAX;
        assert!(rollbacks.has_room_for("bob", of_orders_that_went_no_further).is_err());
        for number in 0..OF_USERS_MAX - OF_A_USER_MAX {
            order(format!("b{number:x}"), by("bob", Some(2)));
        }
        assert!(rollbacks.has_room_for("anna", 2).is_err(), "points are left for admins");
        order("ae".to_owned(), by("root", None));
        assert!(rollbacks.read("ad", &by("root", None)).is_ok());
    }
}
