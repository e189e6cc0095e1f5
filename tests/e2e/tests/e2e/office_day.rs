//! A day of an office: everything that people and programs do to a folder at once, and no false word about it.
//!
//! While all of them work, what the stations say is compared with what is. Now and then everybody holds, and then all of
//! it is compared: every byte, every database, every save that was made.

use std::{
    collections::HashMap,
    fmt, fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use chrono::DateTime;
use rand::{Rng, SeedableRng, rngs::StdRng};

use keepshare_e2e::{
    SOON, git, has,
    office::{
        Asker, DOCUMENTS, Database, Desk, Folders, Logs, Office, Repository, Save, Shows, Visitor,
        databases::rows_of,
    },
    office_time,
};
use keepshare_support::{
    Aspects, Cluster, Scratch, Shift, Wiring, cluster::SET, compare, in_scratch_alone, tools,
};

/// A save is a version if it still stood so long after the master had looked at a later one: as long as a writer that
/// never closes has to be quiet. A machine that is too busy to look may see two saves as one.
const STOOD: Duration = Duration::from_secs(1);

/// The same of a document that is saved in place: a file that takes long to read is left alone for up to two seconds.
const STOOD_IN_PLACE: Duration = Duration::from_secs(3);

/// How the name begins of the folder in which a master keeps what a restore replaced until nobody can write to it.
const PRIVATE_FOLDER: &str = ".keepshare-restore~";

/// Nothing is wrong all day, so nothing may be told to be; and what is told must be true.
#[test]
fn a_day_of_an_office_passes_without_a_false_word() -> Result<()> {
    let name = "a_day_of_an_office_passes_without_a_false_word";
    if !has(name, "git") || !has(name, "sqlite3") {
        return Ok(());
    }
    in_scratch_alone("office-day", spend_a_day)
}

fn spend_a_day(scratch: &mut Scratch) -> Result<()> {
    let mut random = StdRng::seed_from_u64(tools::seed("office-day"));
    let mut seed = || random.random::<u64>();
    let source = scratch.make_dir("source")?;
    let folder = |name: &str| scratch.make_dir(&format!("source/{name}"));
    let desks = folder("documents")?;
    let desks = DOCUMENTS.map(|document| Desk::new(document, &desks, seed()));
    let books = folder("books")?;
    let databases = [
        Database::create(&books, "orders.db", "delete")?,
        Database::create(&books, "mails.db", "wal")?,
    ];
    let mut repository = Repository::create(&source.join("program"), seed())?;
    let mut logs = Logs::create(&folder("logs")?, seed())?;
    let mut folders = Folders::create(&folder("projects")?, &scratch.join("project.tar"), seed())?;
    let (probes, memos) = (folder("probes")?, folder("memos")?);
    let cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;

    let office = Office { scratch, cluster: &cluster, desks: &desks };
    let shift = &Shift::new();
    let mut asker = Asker::new(&office, &probes, seed())?;
    let mut visitor = Visitor::new(&office, &memos, seed());
    let mut bookkeepers = Vec::new();
    for database in &databases {
        bookkeepers.push(database.open(seed())?);
    }
    let looked = thread::scope(|scope| {
        let mut working = Vec::new();
        for desk in &desks {
            working.push(scope.spawn(|| shift.work(|| desk.work()).context(desk.document.name)));
        }
        for mut keeper in bookkeepers {
            working.push(scope.spawn(move || shift.work(|| keeper.work()).context("a database")));
        }
        working.push(scope.spawn(|| shift.work(|| repository.work()).context("the repository")));
        working.push(scope.spawn(|| shift.work(|| logs.work()).context("the logs")));
        working.push(scope.spawn(|| shift.work(|| folders.work()).context("the folders")));
        working.push(scope.spawn(|| shift.work(|| asker.work()).context("whoever asks")));
        working.push(scope.spawn(|| shift.work(|| visitor.work()).context("whoever restores")));
        let looked = look_all_day(&office, &databases, shift);
        shift.end();
        // Who failed says more than who found that somebody did.
        let mut failed = Vec::new();
        for worker in working {
            match worker.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed.push(format!("{error:#}")),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        match looked {
            Err(error) => bail!("{error:#}\n{}", failed.join("\n")),
            Ok(_) if !failed.is_empty() => bail!("{}", failed.join("\n")),
            Ok(looked) => Ok(looked),
        }
    })?;
    eprintln!("{}; {looked}", asker.told);
    looked.at_the_end(&office)
}

/// Looks at everything, now and then and at the end of the day.
fn look_all_day(office: &Office, databases: &[Database], shift: &Shift) -> Result<Looked> {
    let (began, whole) = (Instant::now(), office_time());
    // Every minute of a long day.
    let every = if whole < Duration::from_secs(300) { 15 } else { 60 };
    let mut looked = Looked::default();
    while began.elapsed() < whole {
        let left = whole.saturating_sub(began.elapsed());
        shift.rest(left.min(Duration::from_secs(every)));
        look_while_all_work(office)?;
        shift.held(SOON, || looked.at_rest(office, databases))?;
    }
    Ok(looked)
}

/// Has each station say whether a person must act, and the replica read all it keeps.
fn look_while_all_work(office: &Office) -> Result<()> {
    let stations = office.cluster;
    for station in [&stations.office, &stations.store] {
        station.call(["status", "--check"])?.ok().context("somebody is called for nothing")?;
    }
    let checked = stations.store.call(["fsck", SET])?;
    let told = format!("{}{}", String::from_utf8_lossy(&checked.out), checked.err);
    let is_well = checked.code == Some(0) && !told.to_lowercase().contains("damage");
    ensure!(is_well, "fsck of a healthy station: {:?}: {told}", checked.code);
    Ok(())
}

/// What was seen while everybody held.
#[derive(Debug, Default)]
struct Looked {
    times: u64,
    /// All versions of documents, by name and id.
    shown: HashMap<(&'static str, String), Shown>,
    books: Vec<Books>,
    /// How many saves there were until now, and how many of them are no versions.
    saves: usize,
    missing: usize,
}

/// A version as it was shown.
#[derive(Debug)]
struct Shown {
    hash: blake3::Hash,
    /// When the replica had it: the master had looked before.
    arrived: SystemTime,
}

/// A database as it was.
#[derive(Debug)]
struct Books {
    name: &'static str,
    /// The versions of its files.
    versions: Vec<(String, String)>,
    rows: u64,
}

impl Looked {
    fn at_rest(&mut self, office: &Office, databases: &[Database]) -> Result<()> {
        let cluster = office.cluster;
        self.times += 1;
        cluster.in_sync_within(SOON * 2)?;
        for station in [&cluster.office, &cluster.store] {
            station.call(["status", "--check"])?.ok().context("somebody is called for nothing")?;
        }
        // In-sync means equal: nothing more is waited for.
        let mut told = compare::differences(cluster.source(), &cluster.live()?, Aspects::ours())?;
        // What a restore replaced waits in the master's own folder, which is not part of the set.
        told.retain(|line| !(line.starts_with(PRIVATE_FOLDER) && line.contains(": missing (")));
        if is_in_memory(cluster.source())? {
            // There a store through a memory map leaves no time, and is found when it is unmapped.
            told.retain(|line| !line.contains("-shm:"));
        }
        ensure!(told.is_empty(), "it said in-sync, but:\n{}", compare::tell(&told));
        for database in databases {
            self.look_at_database(office, database).context(database.name)?;
        }
        check_log(office).context(Logs::SERVICE)?;
        check_repository(office).context("the repository")?;
        for desk in office.desks {
            self.look_at_desk(office, desk).context(desk.document.name)?;
        }
        self.check_saves(office)
    }

    fn look_at_database(&mut self, office: &Office, database: &Database) -> Result<()> {
        let live = office.cluster.live()?.join("books");
        let copy = office.scratch.make_dir("copied")?;
        let mut versions = Vec::new();
        for name in database.files() {
            if live.join(&name).exists() {
                fs::copy(live.join(&name), copy.join(&name))?;
                let id = office.current(&format!("books/{name}"))?;
                versions.push((name, id));
            }
        }
        let rows = rows_of(&copy.join(database.name))?;
        fs::remove_dir_all(copy)?;
        let committed = database.rows();
        ensure!(rows == committed, "{rows} rows, {committed} were committed");
        self.books.push(Books { name: database.name, versions, rows });
        Ok(())
    }

    fn look_at_desk(&mut self, office: &Office, desk: &Desk) -> Result<()> {
        let name = desk.document.name;
        let path = format!("documents/{name}");
        let saves = desk.saves();
        let Some(last) = saves.last() else { return Ok(()) };
        let current = office.current(&path)?;
        for row in office.versions(&path)? {
            let id = row["version"].as_str().context("a version has an id")?.to_owned();
            let key = (name, id);
            if self.shown.contains_key(&key) {
                continue;
            }
            let content = office.show(&path, &key.1)?;
            let could_be = desk.could_be(&content, &row);
            ensure!(could_be, "nobody ever saved {} bytes as in {row}", content.len());
            let arrived = row["arrived"].as_str().context("a version arrived at some time")?;
            let arrived = DateTime::parse_from_rfc3339(arrived)?.into();
            self.shown.insert(key, Shown { hash: blake3::hash(&content), arrived });
        }
        ensure!(
            self.shown.get(&(name, current)).is_some_and(|shown| shown.hash == last.hash),
            "the last save is not current"
        );
        Ok(())
    }

    /// Checks that every save that stood long enough is a version.
    fn check_saves(&mut self, office: &Office) -> Result<()> {
        let (mut looks, mut missing) = (Vec::new(), Vec::new());
        self.saves = 0;
        for desk in office.desks {
            for save in desk.saves() {
                self.saves += 1;
                match self.version_of(desk, &save) {
                    // A new file is looked at because of what was told since it was begun, and that is told in order.
                    Some(version) if desk.document.shows == Shows::Whole => {
                        looks.push((save.begun, version.arrived));
                    }
                    Some(_) => {}
                    None => missing.push((desk.document, save)),
                }
            }
        }
        self.missing = missing.len();
        for (document, save) in missing {
            let is_whole = document.shows == Shows::Whole;
            let stood = if is_whole { STOOD } else { STOOD_IN_PLACE };
            let is_passed_over = save.until.is_some_and(|until| {
                looks.iter().any(|(begun, seen)| *begun >= save.since && *seen + stood <= until)
            });
            let name = document.name;
            ensure!(!save.is_seen, "it said in-sync, but a save of {name} is no version: {save:?}");
            ensure!(!is_passed_over, "a save of {name} is no version: {save:?}");
        }
        Ok(())
    }

    fn version_of(&self, desk: &Desk, save: &Save) -> Option<&Shown> {
        let name = desk.document.name;
        let mut versions = self.shown.iter().filter(|((of, _), _)| *of == name);
        versions.find(|(_, shown)| shown.hash == save.hash).map(|(_, shown)| shown)
    }

    /// Looks once more when everybody went home: the past is there as it was seen all day.
    fn at_the_end(&self, office: &Office) -> Result<()> {
        look_while_all_work(office)?;
        for Books { name: database, versions, rows } in &self.books {
            let then = office.scratch.make_dir("then")?;
            for (name, id) in versions {
                fs::write(then.join(name), office.show(&format!("books/{name}"), id)?)?;
            }
            let found = rows_of(&then.join(database)).with_context(|| format!("{versions:?}"))?;
            fs::remove_dir_all(then)?;
            ensure!(found == *rows, "{versions:?}: {found} rows, {rows} were there then");
        }
        let path = format!("logs/{}", Logs::SERVICE);
        let log = fs::read(office.cluster.source().join(&path))?;
        let versions = office.versions(&path)?;
        for row in &versions {
            let id = row["version"].as_str().context("a version has an id")?;
            let content = office.show(&path, id)?;
            ensure!(log.starts_with(&content), "a log was never as in {row}");
        }
        // One at least for each time that all held.
        ensure!(versions.len() as u64 >= self.times, "a log has only {} versions", versions.len());
        Ok(())
    }
}

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { times, shown, saves, missing, .. } = self;
        let versions = shown.len();
        write!(f, "everything was compared {times} times; {saves} saves, {versions} versions; ")?;
        write!(f, "{missing} saves were replaced before anybody had looked")
    }
}

/// Checks that a log that is still open is a version to its last line, as its writer is quiet.
fn check_log(office: &Office) -> Result<()> {
    let path = format!("logs/{}", Logs::SERVICE);
    let content = office.show(&path, &office.current(&path)?)?;
    ensure!(
        content == fs::read(office.cluster.source().join(&path))?,
        "its newest version is other"
    );
    Ok(())
}

fn check_repository(office: &Office) -> Result<()> {
    let copy = office.scratch.join("cloned");
    let live = office.cluster.live()?.join("program");
    tools::run(Command::new("cp").arg("-a").arg(live).arg(&copy))?;
    git(&copy, ["fsck", "--full", "--strict"])?;
    let changed = git(&copy, ["status", "--porcelain"])?;
    ensure!(changed.is_empty(), "what is checked out differs: {changed}");
    Ok(fs::remove_dir_all(copy)?)
}

fn is_in_memory(path: &Path) -> Result<bool> {
    let told = tools::run(Command::new("stat").args(["-f", "-c", "%T"]).arg(path))?;
    Ok(String::from_utf8_lossy(&told.stdout).trim() == "tmpfs")
}
