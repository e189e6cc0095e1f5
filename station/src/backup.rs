//! What makes a station this station: its keys, users, sets and policies, given out for a backup and brought back; the data of sets is
//! none of it, nor is what only knows what was sent and seen.
//!
//! It is read in an order that lets what is newer be the truth: the station's parts of sets before the document that they follow from.
//! The database of users is read while nobody writes to it: as a crash would leave it.

use std::{fs, io, path::Path};

use anyhow::Context;

use keepshare_auth::{
    Audit, AuditEvent, AuditLine,
    audit::{AUDIT_FILE, HEADS_FILE, Lines},
};
use keepshare_base::{SetName, StationName};
use keepshare_cluster_local::{BEFORE_FILE, DOCUMENT_FILE};
use keepshare_control::{
    Failure, Outcome,
    backup::{BackupOf, FORMAT},
};
use keepshare_host::{clock, files};
use keepshare_identity::{FOLDER, IDENTITY_FILE, StationIdentity};
use keepshare_sets::database;

use crate::{
    config::Config,
    state::{StateDir, StateLock},
    station::Station,
};

/// What the config is called in a backup.
pub const CONFIG: &str = "station.toml";

/// The longest file that is given out, in bytes: the database of users is far below.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Where files wait until all of them are there.
const WAITING: &str = ".restoring";

/// What stands in there once files are being put in their place.
const PLACING: &str = "placing";

const DATABASE: &str = "auth.redb";

/// Files of the state folder, in the order in which they are read.
const TOP: [&str; 9] = [
    "sets.toml",
    "parts.toml",
    "members.toml",
    DOCUMENT_FILE,
    BEFORE_FILE,
    "pending.toml",
    "addresses.toml",
    "announced",
    HEADS_FILE,
];

/// The audit log. A full file of it gets the name of the one before it at any time: all are opened at one moment.
const LOG: [&str; 4] = ["audit.log.3", "audit.log.2", "audit.log.1", AUDIT_FILE];

/// What came of bringing a station back.
#[derive(Clone, Debug)]
pub struct BroughtBack {
    /// The users that can log in again.
    pub users: Vec<String>,
    /// How many sessions, and grants to machines, were in the backup, and are ended.
    pub sessions_ended: u64,
    /// Policies of sets that were there already, and stay.
    pub kept: Vec<String>,
}

impl Station {
    /// Gives out what makes this station this station, to `take`, file by file. Blocks; users cannot log in for as long as the database of
    /// users is read.
    pub fn back_up(&self, mut take: impl FnMut(&str, &[u8]) -> Outcome<()>) -> Outcome<()> {
        let log = self.accounts.audit().lines();
        collect(&self.state, log.context("cannot open the audit log")?, &mut take)?;
        let read = || read(&self.state.auth_database());
        let database = self.accounts.hold_still(read).context("cannot hold the list of users")?;
        take(DATABASE, &database?.unwrap_or_default())
    }

    /// Says what a backup of this station is a backup of.
    pub fn backup_of(&self) -> BackupOf {
        backup_of(&self.config.name, &self.membership.role.to_string())
    }
}

/// A station that does not run, held so that nobody starts it meanwhile.
#[derive(Debug)]
pub struct Resting {
    state: StateDir,
    /// What a backup of it is a backup of.
    pub of: BackupOf,
    _lock: StateLock,
}

impl Resting {
    /// Finds the station of a config.
    pub fn open(config: &Config) -> Outcome<Self> {
        let state = StateDir::new(&config.state);
        let identity = StationIdentity::load(&state.identity())
            .with_context(|| format!("there is no station in {}", config.state.display()))?;
        let lock = state.lock()?;
        let of = backup_of(identity.name(), &identity.peer().role.to_string());
        Ok(Self { state, of, _lock: lock })
    }

    /// Gives it out as [`Station::back_up`] does.
    pub fn back_up(&self, mut take: impl FnMut(&str, &[u8]) -> Outcome<()>) -> Outcome<()> {
        let log = Lines::in_folder(self.state.root());
        collect(&self.state, log.context("cannot open the audit log")?, &mut take)?;
        take(DATABASE, &read(&self.state.auth_database())?.unwrap_or_default())
    }
}

fn backup_of(name: &StationName, role: &str) -> BackupOf {
    BackupOf {
        format: FORMAT,
        station: name.to_string(),
        role: role.to_owned(),
        time: clock::now().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Gives out all but the database of users.
fn collect(
    state: &StateDir,
    log: Lines,
    take: &mut impl FnMut(&str, &[u8]) -> Outcome<()>,
) -> Outcome<()> {
    let root = state.root();
    for file in log.contents() {
        let (name, content) = file.context("cannot read the audit log")?;
        take(&name, &content)?;
    }
    let mut give = |path: &str| match read(&root.join(path))? {
        Some(bytes) => take(path, &bytes),
        None => Ok(()),
    };
    TOP.iter().try_for_each(|path| give(path))?;
    names(&root.join(FOLDER))?.iter().try_for_each(|name| give(&format!("{FOLDER}/{name}")))?;
    for name in names(&root.join("journal"))? {
        if name.ends_with(".points.toml") {
            give(&format!("journal/{name}"))?;
        }
    }
    for set in names(&root.join("sets"))? {
        let path = format!("sets/{set}/retention.toml");
        if let Some(bytes) = read(&root.join(&path))? {
            // One that cannot be read goes as it is: a station that is brought back says so, too, and does not thin by another policy.
            take(&path, &policy_alone(&bytes).map_or(bytes, String::into_bytes))?;
        }
    }
    Ok(())
}

/// Returns what a file of policies says of the policy: what it says of runs means versions that a copy made anew does not have, and no
/// thinning goes on by itself there before somebody has seen a plan.
fn policy_alone(bytes: &[u8]) -> Option<String> {
    let mut table: toml::Table = toml::from_str(std::str::from_utf8(bytes).ok()?).ok()?;
    table.retain(|key, _| ["format", "policy"].contains(&key));
    toml::to_string(&table).ok()
}

fn read(path: &Path) -> Outcome<Option<Vec<u8>>> {
    let read = || match fs::metadata(path) {
        Ok(about) if about.len() > FILE_BYTES_MAX => Err(io::ErrorKind::FileTooLarge.into()),
        Ok(about) if !about.is_file() => Ok(None),
        Ok(_) => fs::read(path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    Ok(read().with_context(|| format!("cannot read {}", path.display()))?)
}

/// Returns the names in a folder that are text, sorted; none where there is no folder.
fn names(dir: &Path) -> Outcome<Vec<String>> {
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let error = anyhow::Error::new(error);
            return Err(error.context(format!("cannot list {}", dir.display())).into());
        }
    };
    let mut names: Vec<String> = listed
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    Ok(names)
}

/// Returns the files of the state folder that are a station's own, but for its identity.
fn own() -> impl Iterator<Item = &'static str> {
    TOP.into_iter().chain(LOG).chain([DATABASE])
}

/// What a path of a backup is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// Of the station.
    Own,
    /// A policy of a set, which may be there with the set's copy already.
    OfSet,
}

/// Tells what a path is; none for one that no backup has.
fn kind(path: &str) -> Option<Kind> {
    let is_set = |name: &str| name.parse::<SetName>().is_ok();
    if own().any(|own| own == path) {
        return Some(Kind::Own);
    }
    match path.split('/').collect::<Vec<_>>()[..] {
        [FOLDER, name] if !name.is_empty() && !name.starts_with('.') => Some(Kind::Own),
        ["journal", name] => is_set(name.strip_suffix(".points.toml")?).then_some(Kind::OfSet),
        ["sets", set, "retention.toml"] if is_set(set) => Some(Kind::OfSet),
        _ => None,
    }
}

/// Brings a station back from a backup: all of it or nothing. Sessions, grants to machines and join tokens of then are ended. The
/// `config_text` is written to `config_path` where there is nothing yet.
pub fn restore(
    (config, config_path, config_text): (&Config, &Path, &[u8]),
    of: &BackupOf,
    backed_up: &[(String, Vec<u8>)],
) -> Outcome<BroughtBack> {
    let state = StateDir::new(&config.state);
    if config.name.as_str() != of.station {
        return Err(Failure::refused(format!(
            "the backup is of station {}, and {} is the config of {}",
            of.station,
            config_path.display(),
            config.name
        ))
        .hint("move that config away, or name another with --config"));
    }
    if let Some((path, _)) = backed_up.iter().find(|(path, _)| kind(path).is_none()) {
        return Err(Failure::refused(format!("'{path}' is nothing that a backup has")));
    }
    refuse_station(&state)?;
    files::create_private_dir(state.root()).map_err(anyhow::Error::new)?;
    let _lock = state.lock()?;
    refuse_station(&state)?;
    let waiting = state.root().join(WAITING);
    // What a restore that was cut off has put in place is put there again.
    let was_placing = waiting.join(PLACING).exists();
    let is_there = |path: &str| state.root().join(path).exists();
    if let Some(path) = own().find(|path| is_there(path) && !was_placing) {
        let shown = state.root().join(path);
        return Err(Failure::refused(format!("{} is there already", shown.display())).hint(
            "it belongs to a station that is gone: move it away first, but leave sets/ where it is",
        ));
    }
    let mut kept = Vec::new();
    let mut place = Vec::new();
    for (path, bytes) in backed_up {
        match kind(path) {
            Some(Kind::OfSet) if is_there(path) => kept.push(path.clone()),
            _ => place.push((path.clone(), bytes)),
        }
    }
    let placed = prepare(&waiting, of, &place).and_then(|(users, sessions_ended)| {
        put_in_place(&state, &waiting, (config_path, config_text), &place)?;
        Ok(BroughtBack { users, sessions_ended, kept })
    });
    if placed.is_ok() || !waiting.join(PLACING).exists() {
        // Nothing in there counts. What cannot be removed does no harm.
        let _ = fs::remove_dir_all(&waiting);
    }
    placed
}

fn refuse_station(state: &StateDir) -> Outcome<()> {
    if !state.identity().join(IDENTITY_FILE).exists() {
        return Ok(());
    }
    let shown = state.root().display();
    Err(Failure::refused(format!("there is a station in {shown} already")).hint(
        "a backup is brought back where there is none: stop that one and move its identity folder away, if it is to be replaced",
    ))
}

/// Writes all files beside their places, and makes of them what may be brought back.
fn prepare(
    waiting: &Path,
    of: &BackupOf,
    place: &[(String, &Vec<u8>)],
) -> Outcome<(Vec<String>, u64)> {
    // Not what says that it has put files in place: that stays true until all are there.
    for path in own().chain([FOLDER, "sets", "journal"]) {
        remove(&waiting.join(path)).context("cannot remove what an earlier restore left")?;
    }
    for (path, bytes) in place {
        write(&waiting.join(path), bytes)?;
    }
    let identity = StationIdentity::load(&waiting.join(FOLDER))
        .context("the identity in the backup is not usable")?;
    if identity.name().as_str() != of.station {
        return Err(Failure::refused("the identity in the backup is another station's"));
    }
    let database = database::open_auth(&waiting.join(DATABASE))?;
    let sessions_ended =
        keepshare_auth::forget_logins(&database).context("cannot end the sessions of then")?;
    keepshare_identity::forget_tokens(&database).context("cannot end the join tokens of then")?;
    let audit = Audit::open(waiting).context("cannot open the audit log of the backup")?;
    let users = {
        let accounts = keepshare_auth::Accounts::open(database, Audit::none());
        let users = accounts.and_then(|accounts| accounts.users());
        users.context("cannot read the users of the backup")?
    };
    let head = || audit.head().context("cannot write the audit log");
    let before = head()?;
    let what = format!("the backup is of {}", of.time);
    audit.write(AuditLine::done(clock::now(), AuditEvent::StationRestored).because(what).local());
    if head()? == before {
        return Err(anyhow::anyhow!("the audit log does not take the line about it").into());
    }
    Ok((users.into_iter().map(|user| user.name.to_string()).collect(), sessions_ended))
}

fn write(path: &Path, bytes: &[u8]) -> Outcome<()> {
    if let Some(dir) = path.parent() {
        files::create_private_dir(dir).map_err(anyhow::Error::new)?;
    }
    Ok(files::write_synced(path, bytes, 0o600).map_err(anyhow::Error::new)?)
}

/// Puts the files in their places, the identity last: with it the station is there.
fn put_in_place(
    state: &StateDir,
    waiting: &Path,
    (config_path, config_text): (&Path, &[u8]),
    place: &[(String, &Vec<u8>)],
) -> Outcome<()> {
    write(&waiting.join(PLACING), b"")?;
    let (mut placed, mut made) = (Vec::new(), files::Tentative::default());
    let mut put = || -> Outcome<()> {
        // The log has a line more than the backup, which may have begun a file of it.
        let mut paths: Vec<&str> = own().collect();
        let of_sets = place.iter().filter(|(path, _)| kind(path) == Some(Kind::OfSet));
        paths.extend(of_sets.map(|(path, _)| path.as_str()));
        for path in paths {
            let (from, to) = (waiting.join(path), state.root().join(path));
            if !from.exists() {
                // A restore that was cut off may have been of another backup, which had it.
                remove(&to).with_context(|| format!("cannot remove {}", to.display()))?;
                continue;
            }
            if let Some(dir) = to.parent() {
                made.dir(dir, 0o700).map_err(anyhow::Error::new)?;
            }
            rename(&from, &to)?;
            placed.push(to);
        }
        if !config_path.exists() {
            write_config(config_path, config_text)?;
            placed.push(config_path.to_owned());
        }
        // An empty folder may be there.
        let _ = fs::remove_dir(state.identity());
        rename(&waiting.join(FOLDER), &state.identity())
    };
    let put = put();
    if put.is_ok() {
        made.keep();
    } else {
        for path in placed.iter().rev() {
            let _ = fs::remove_file(path);
        }
        let _ = fs::remove_file(waiting.join(PLACING));
    }
    put
}

fn write_config(path: &Path, text: &[u8]) -> Outcome<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    Ok(files::write_new_synced(path, text, 0o644).map_err(anyhow::Error::new)?)
}

/// Removes a file, or a folder with everything in it, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

fn rename(from: &Path, to: &Path) -> Outcome<()> {
    let renamed = fs::rename(from, to).and_then(|()| files::sync_parent(to));
    Ok(renamed.with_context(|| format!("cannot put {} in its place", to.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever has the passphrase of some backup must not write anywhere else with a made-up one.
    #[test]
    fn a_backup_has_only_what_a_station_has() {
        for (path, expected) in [
            ("auth.redb", Some(Kind::Own)),
            ("audit.log.3", Some(Kind::Own)),
            ("identity/station.pem", Some(Kind::Own)),
            ("sets/plans/retention.toml", Some(Kind::OfSet)),
            ("journal/plans.points.toml", Some(Kind::OfSet)),
            ("journal/plans.redb", None),
            ("sets/../retention.toml", None),
            ("identity/..", None),
            ("identity/a/b", None),
            ("/etc/passwd", None),
            ("lock", None),
            ("", None),
        ] {
            assert_eq!(kind(path), expected, "{path}");
        }
    }

    #[test]
    fn of_policies_only_what_is_to_be_kept_comes_back() {
        let text = "format = 3\npolicy = \"last=5\"\napplied = \"last=5\"\nreviewed_micros = 9\n[[removals]]\nremoved = 1\n";
        let table: toml::Table = toml::from_str(&policy_alone(text.as_bytes()).unwrap()).unwrap();
        assert_eq!(table.keys().collect::<Vec<_>>(), ["format", "policy"]);
        assert_eq!(policy_alone(b"\xff"), None);
    }
}
