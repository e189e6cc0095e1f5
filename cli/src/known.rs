//! What `keepshare login` remembers on a user's machine: which station was at an address, and the secrets of its
//! logins.
//!
//! Two small files in the user's config folder, readable by the user only: `known_stations` with `HOST:PORT PIN NAME` on
//! each line, the pin of its cluster's CA and what it is called there, and `logins` with `USER@HOST:PORT SET SECRET`, the newest last. Lines that are not understood are left out when
//! a file is written again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;

use keepshare_auth::ResumeSecret;
use keepshare_base::{SetName, StationName};
use keepshare_control::{Failure, Outcome};
use keepshare_host::{files, folders};
use keepshare_identity::{CaPin, tls::SeenStation};

/// The longest such file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The most logins remembered, of one user at one station and in all; the oldest goes.
const LOGINS_MAX: (usize, usize) = (8, 200);

/// The most stations remembered; the one seen first goes.
const STATIONS_MAX: usize = 500;

/// A login that is remembered.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct RememberedLogin {
    /// `USER@HOST:PORT`.
    pub(crate) who: String,
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// What it was for.
    pub(crate) set: String,
    /// What it opens the station with.
    pub(crate) secret: ResumeSecret,
}

impl RememberedLogin {
    fn parse(line: &str) -> Option<Self> {
        let (who, rest) = line.split_once(' ')?;
        let (set, secret) = rest.split_once(' ')?;
        let (_, address) = who.split_once('@')?;
        let (who, address, set) = (who.to_owned(), address.to_owned(), set.to_owned());
        Some(Self { who, address, set, secret: ResumeSecret::parse(secret)? })
    }
}

/// The folder with both files.
#[derive(Clone, Debug)]
pub(crate) struct Known(PathBuf);

impl Known {
    /// Returns those of the user who asks.
    pub(crate) fn of_user() -> Self {
        Self(folders::user_config())
    }

    /// Returns the CA of the station that was at an address, and its name; lines of old have none.
    pub(crate) fn station(&self, address: &str) -> Outcome<Option<(CaPin, Option<StationName>)>> {
        let stations = read(&self.0.join(STATIONS_FILE))?;
        let at_address = |line: &String| {
            let mut words = line.split(' ');
            let is_that = words.next() == Some(address);
            let ca = words.next().filter(|_| is_that)?.parse().ok()?;
            let name = words.next().map(str::parse).transpose().ok()?;
            words.next().is_none().then_some((ca, name))
        };
        Ok(stations.iter().rev().find_map(at_address))
    }

    /// Remembers the station at an address, in the place of another one.
    pub(crate) fn remember_station(&self, address: &str, station: &SeenStation) -> Outcome<()> {
        let mut stations = read(&self.0.join(STATIONS_FILE))?;
        stations.retain(|line| line.split(' ').next() != Some(address));
        stations.push(format!("{address} {} {}", station.ca, station.name));
        stations.drain(..stations.len().saturating_sub(STATIONS_MAX));
        self.write(STATIONS_FILE, &stations)
    }

    /// Returns the secrets of a user's logins at a station, the newest first.
    pub(crate) fn secrets(&self, who: &str, set: Option<&str>) -> Outcome<Vec<ResumeSecret>> {
        let logins = read(&self.0.join(LOGINS_FILE))?;
        let logins = logins.iter().rev().filter_map(|line| RememberedLogin::parse(line));
        let is_meant =
            |login: &RememberedLogin| login.who == who && set.is_none_or(|set| set == login.set);
        Ok(logins.filter(is_meant).map(|login| login.secret).collect())
    }

    /// Returns the newest login, of `who` alone where that is said; rather one for `set`, though every login opens all sets
    /// of its user.
    pub(crate) fn newest(
        &self,
        who: Option<&str>,
        set: Option<&SetName>,
    ) -> Outcome<Option<RememberedLogin>> {
        let logins = read(&self.0.join(LOGINS_FILE))?;
        let logins = logins.iter().rev().filter_map(|line| RememberedLogin::parse(line));
        let mut logins: Vec<_> =
            logins.filter(|login| who.is_none_or(|who| who == login.who)).collect();
        let fitting =
            logins.iter().position(|login| Some(login.set.as_str()) == set.map(SetName::as_str));
        Ok((!logins.is_empty()).then(|| logins.swap_remove(fitting.unwrap_or(0))))
    }

    /// Returns all logins of a user at a station, the newest first.
    pub(crate) fn logins_of(&self, who: &str) -> Outcome<Vec<RememberedLogin>> {
        let logins = read(&self.0.join(LOGINS_FILE))?;
        let logins = logins.iter().rev().filter_map(|line| RememberedLogin::parse(line));
        Ok(logins.filter(|login| login.who == who).collect())
    }

    /// Forgets a login.
    pub(crate) fn forget(&self, login: &RememberedLogin) -> Outcome<()> {
        let mut logins = read(&self.0.join(LOGINS_FILE))?;
        logins.retain(|line| RememberedLogin::parse(line).as_ref() != Some(login));
        self.write(LOGINS_FILE, &logins)
    }

    /// Remembers the secret of a login.
    pub(crate) fn remember_secret(&self, who: &str, set: &str, secret: &str) -> Outcome<()> {
        let mut logins = read(&self.0.join(LOGINS_FILE))?;
        let is_own = |line: &String| line.split(' ').next() == Some(who);
        while logins.iter().filter(|line| is_own(line)).count() >= LOGINS_MAX.0 {
            let Some(oldest) = logins.iter().position(is_own) else { break };
            logins.remove(oldest);
        }
        logins.push(format!("{who} {set} {secret}"));
        logins.drain(..logins.len().saturating_sub(LOGINS_MAX.1));
        self.write(LOGINS_FILE, &logins)
    }

    fn write(&self, name: &str, lines: &[String]) -> Outcome<()> {
        files::create_private_dir(&self.0).map_err(anyhow::Error::new)?;
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let written = files::write_synced(&self.0.join(name), text.as_bytes(), 0o600);
        Ok(written.map_err(anyhow::Error::new)?)
    }
}

fn read(path: &Path) -> Outcome<Vec<String>> {
    let reading = || format!("cannot read {}", path.display());
    match fs::metadata(path) {
        Ok(meta) if meta.len() > FILE_BYTES_MAX => {
            return Err(Failure::refused(format!("{} is far too long", path.display()))
                .hint("remove it; stations will be asked about again"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(_) => {}
        Err(error) => return Err(anyhow::Error::new(error).context(reading()).into()),
    }
    let text = fs::read_to_string(path).with_context(reading)?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect())
}

const STATIONS_FILE: &str = "known_stations";
const LOGINS_FILE: &str = "logins";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secret(n: u8) -> String {
        format!("{n:02x}").repeat(32)
    }

    #[test]
    fn a_station_is_remembered_until_another_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known(dir.path().join("keepshare"));
        let seen = |n, name: &str| SeenStation { ca: CaPin([n; 32]), name: name.parse().unwrap() };
        let shown = |n, name: &str| Some((CaPin([n; 32]), Some(name.parse().unwrap())));
        assert_eq!(known.station("a:7443").unwrap(), None);
        known.remember_station("a:7443", &seen(1, "store")).unwrap();
        known.remember_station("aa:7443", &seen(2, "vault")).unwrap();
        assert_eq!(known.station("a:7443").unwrap(), shown(1, "store"));
        assert_eq!(known.station("a:744").unwrap(), None);
        known.remember_station("a:7443", &seen(3, "vault")).unwrap();
        assert_eq!(known.station("a:7443").unwrap(), shown(3, "vault"));
        let path = known.0.join(STATIONS_FILE);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    /// Lines of before stations were remembered by name.
    #[test]
    fn a_line_without_a_name_is_read_and_completed() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known(dir.path().to_owned());
        let ca = CaPin([1; 32]);
        let path = dir.path().join(STATIONS_FILE);
        fs::write(&path, format!("a:7443 {ca}\nb:7443 {ca} no/name\n")).unwrap();
        assert_eq!(known.station("a:7443").unwrap(), Some((ca, None)));
        assert_eq!(known.station("b:7443").unwrap(), None, "a name that is none is no line");
        let seen = SeenStation { ca, name: "store".parse().unwrap() };
        known.remember_station("a:7443", &seen).unwrap();
        assert_eq!(known.station("a:7443").unwrap(), Some((ca, Some(seen.name))));
    }

    #[test]
    fn the_newest_logins_are_remembered_for_their_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known(dir.path().join("keepshare"));
        known.remember_secret("ben@a:1", "office", &secret(99)).unwrap();
        for n in 0..20 {
            let set = if n % 2 == 0 { "office" } else { "mail" };
            known.remember_secret("anna@a:1", set, &secret(n)).unwrap();
        }
        let shown = |who: &str, set| -> Vec<String> {
            let secrets = known.secrets(who, set).unwrap();
            secrets.iter().map(ResumeSecret::reveal).collect()
        };
        assert_eq!(shown("anna@a:1", None), (12..20).rev().map(secret).collect::<Vec<_>>());
        assert_eq!(shown("anna@a:1", Some("mail")), [19, 17, 15, 13].map(secret));
        assert_eq!(shown("ben@a:1", None), [secret(99)]);
        assert_eq!(shown("ann@a:1", None), [] as [String; 0]);
        let mode = fs::metadata(known.0.join(LOGINS_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
