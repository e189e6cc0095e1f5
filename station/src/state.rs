//! The state folder: where a station keeps its identity, its sets and everything else that is not for people to edit.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use keepshare_base::{Role, SetName, Stamp, StationAddress, StationName};
use keepshare_control::{Code, Failure, Outcome};
use keepshare_host::files;
use keepshare_identity::Member;
use keepshare_sets::{dirs::SetDirs, record::SetRecord};

use crate::config::toml_error;

/// The paths inside a state folder.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

/// Held as long as a station runs: a second one on the same folder is refused.
#[derive(Debug)]
pub(crate) struct StateLock(#[expect(dead_code, reason = "the lock is the open file")] File);

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetsFile {
    #[serde(default, rename = "set")]
    sets: Vec<SetRecord>,
}

/// A station that is reached elsewhere from here than the cluster says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rerouted {
    /// Which station.
    pub(crate) name: StationName,
    /// What is dialled.
    pub(crate) address: StationAddress,
    /// What the cluster said when somebody said this; it holds until the cluster says something else.
    pub(crate) instead_of: StationAddress,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressesFile {
    #[serde(default, rename = "station")]
    stations: Vec<Rerouted>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MembersFile {
    #[serde(default, rename = "member")]
    members: Vec<MemberRecord>,
}

#[derive(Serialize, Deserialize)]
struct MemberRecord {
    name: StationName,
    role: String,
    address: StationAddress,
    joined_micros: i64,
}

const HEADER: &str =
    "# Written by the station itself. Changes made here are lost: use keepshare set.\n\n";

impl StateDir {
    /// Names the folder.
    pub(crate) fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// Locks the folder for a running station.
    pub(crate) fn lock(&self) -> Outcome<StateLock> {
        let path = self.0.join("lock");
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(StateLock(file)),
            Err(error) if io::Error::from(error).kind() == io::ErrorKind::WouldBlock => {
                let shown = self.0.display();
                Err(Failure::refused(format!("a station is running on {shown} already"))
                    .hint("keepshare status shows it"))
            }
            Err(error) => {
                let error = anyhow::Error::new(error);
                Err(error.context(format!("cannot lock {}", path.display())).into())
            }
        }
    }

    /// Returns the folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    /// Where keys and certificates are.
    pub(crate) fn identity(&self) -> PathBuf {
        self.0.join(keepshare_identity::FOLDER)
    }

    /// Where users and sessions are, and on the primary members and join tokens.
    pub(crate) fn auth_database(&self) -> PathBuf {
        self.0.join("auth.redb")
    }

    /// Where it keeps what belongs to its sets.
    pub(crate) fn sets(&self) -> SetDirs {
        SetDirs::new(&self.0)
    }

    /// Reads this station's part of every set.
    pub(crate) fn load_sets(&self) -> Outcome<Vec<SetRecord>> {
        let former = self.former_sets_file();
        let file = if former.exists() { former } else { self.parts_file() };
        Ok(read_toml::<SetsFile>(&file)?.sets)
    }

    /// Where this station's part of every set is: what follows from the cluster's document, and the numbers of drives.
    fn parts_file(&self) -> PathBuf {
        self.0.join("parts.toml")
    }

    /// Where builds without a document kept the sets.
    fn former_sets_file(&self) -> PathBuf {
        self.0.join("sets.toml")
    }

    /// Puts the files aside whose place the document has taken, with `sets` as they are now; they stay beside it.
    pub(crate) fn put_former_aside(&self, sets: &[SetRecord]) -> Outcome<()> {
        if self.former_sets_file().exists() {
            write_toml(&self.parts_file(), &SetsFile { sets: sets.to_vec() })?;
        }
        for file in [self.former_sets_file(), self.members_file()] {
            if !file.exists() {
                continue;
            }
            let name = file.display().to_string();
            let aside = |n: u32| match n {
                0 => PathBuf::from(format!("{name}.former")),
                n => PathBuf::from(format!("{name}.former-{n}")),
            };
            let free = (0..).map(aside).find(|aside| !aside.exists());
            let aside = free.context("there is a free name")?;
            fs::rename(&file, &aside).with_context(|| format!("cannot rename {name}"))?;
            files::sync_parent(&file)
                .with_context(|| format!("cannot sync the folder of {name}"))?;
            tracing::info!(file = %aside.display(), "the cluster's document has taken its place");
        }
        Ok(())
    }

    /// Returns the sets that this station replicated before the list of its sets was lost.
    pub(crate) fn lost_sets(&self) -> Vec<SetName> {
        let is_gone = |file: PathBuf| matches!(file.try_exists(), Ok(false));
        if !is_gone(self.former_sets_file()) || !is_gone(self.parts_file()) {
            return Vec::new();
        }
        let dirs = self.sets();
        let journals = fs::read_dir(dirs.journals()).into_iter().flatten().flatten();
        let names = journals.filter_map(|entry| entry.file_name().into_string().ok());
        let sets = names.filter_map(|name| name.strip_suffix(".redb")?.parse().ok());
        // One that was refused left a journal at most.
        let mut sets: Vec<SetName> = sets.filter(|set| dirs.restores(set).exists()).collect();
        sets.sort();
        sets
    }

    /// Writes this station's part of every set, durable when it returns.
    pub(crate) fn save_sets(&self, sets: &[SetRecord]) -> Outcome<()> {
        let former = self.former_sets_file();
        let file = if former.exists() { former } else { self.parts_file() };
        write_toml(&file, &SetsFile { sets: sets.to_vec() })
    }

    /// Reads where stations are reached from here.
    pub(crate) fn load_rerouted(&self) -> Outcome<Vec<Rerouted>> {
        Ok(read_toml::<AddressesFile>(&self.0.join("addresses.toml"))?.stations)
    }

    /// Writes where stations are reached from here, durable when it returns.
    pub(crate) fn save_rerouted(&self, stations: &[Rerouted]) -> Outcome<()> {
        write_toml(&self.0.join("addresses.toml"), &AddressesFile { stations: stations.to_vec() })
    }

    /// Where the members are, elsewhere than on the primary and until there is a document.
    pub(crate) fn members_file(&self) -> PathBuf {
        self.0.join("members.toml")
    }

    /// Where it stands what the config said of this station's address when the primary heard of it last.
    fn announced_file(&self) -> PathBuf {
        self.0.join("announced")
    }

    /// Reads the address that the primary heard of last, where it was noted.
    pub(crate) fn announced(&self) -> Option<StationAddress> {
        fs::read_to_string(self.announced_file()).ok()?.trim_end().parse().ok()
    }

    /// Notes the address that the primary heard of, durable when it returns.
    pub(crate) fn set_announced(&self, address: &StationAddress) -> Outcome<()> {
        let text = format!("{address}\n");
        let written = files::write_synced(&self.announced_file(), text.as_bytes(), 0o600);
        Ok(written.map_err(anyhow::Error::new)?)
    }

    /// Reads the members as they were when this station joined or renewed last.
    pub(crate) fn load_members(&self) -> Outcome<Vec<Member>> {
        let file: MembersFile = read_toml(&self.members_file())?;
        file.members.into_iter().map(MemberRecord::into_member).collect()
    }

    /// Writes the members, durable when it returns.
    pub(crate) fn save_members(&self, members: &[Member]) -> Outcome<()> {
        let members = members.iter().map(MemberRecord::of).collect();
        write_toml(&self.members_file(), &MembersFile { members })
    }
}

impl MemberRecord {
    fn of(member: &Member) -> Self {
        let Member { name, role, address, joined } = member.clone();
        Self { name, role: role.to_string(), address, joined_micros: joined.0 }
    }

    fn into_member(self) -> Outcome<Member> {
        let role: Role = self
            .role
            .parse()
            .map_err(|_| Failure::usage(format!("'{}' is not a role", self.role)))?;
        let Self { name, address, joined_micros, .. } = self;
        Ok(Member { name, role, address, joined: Stamp(joined_micros) })
    }
}

fn read_toml<T: Default + for<'de> Deserialize<'de>>(path: &Path) -> Outcome<T> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => {
            let error = anyhow::Error::new(error);
            return Err(error.context(format!("cannot read {}", path.display())).into());
        }
    };
    toml::from_str(&text).map_err(|error| {
        let shown = path.display();
        Failure::new(Code::Failed, toml_error(&text, &error))
            .context(format!("{shown} is not usable"))
            .hint("the station writes it itself: take it from a backup")
    })
}

fn write_toml(path: &Path, value: &impl Serialize) -> Outcome<()> {
    let text = toml::to_string(value).context("cannot write down what the station keeps")?;
    let written = files::write_synced(path, format!("{HEADER}{text}").as_bytes(), 0o600);
    Ok(written.map_err(anyhow::Error::new)?)
}

#[cfg(test)]
mod tests {
    use keepshare_base::OriginId;
    use keepshare_sets::record::SetPart;

    use super::*;

    /// A station that has forgotten what it is there for must not be content.
    #[test]
    fn a_list_of_sets_that_is_lost_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        assert_eq!(state.lost_sets(), [], "a new station");
        let set: SetName = "work".parse().unwrap();
        fs::create_dir(state.sets().journals()).unwrap();
        fs::write(state.sets().journal(&set), "").unwrap();
        assert_eq!(state.lost_sets(), [], "it was refused when it was added");
        fs::create_dir(state.sets().restores(&set)).unwrap();
        assert_eq!(state.lost_sets(), [set]);
        state.save_sets(&[]).unwrap();
        assert_eq!(state.lost_sets(), []);
    }

    #[test]
    fn sets_and_members_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        assert_eq!(state.load_sets().unwrap(), []);
        let sent =
            SetPart::sent(OriginId(1), PathBuf::from("/srv/a b"), vec!["store".parse().unwrap()]);
        let received = SetPart::received(OriginId(1), "office".parse().unwrap());
        let sets = [
            SetRecord::new("projects".parse().unwrap(), sent),
            SetRecord::new("mail".parse().unwrap(), received),
        ];
        state.save_sets(&sets).unwrap();
        assert_eq!(state.load_sets().unwrap(), sets);
        let members = [Member {
            name: "office".parse().unwrap(),
            role: Role::Primary,
            address: "10.0.0.1:7846".parse().unwrap(),
            joined: Stamp(5),
        }];
        state.save_members(&members).unwrap();
        assert_eq!(state.load_members().unwrap(), members);
    }

    #[test]
    fn one_station_to_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let held = state.lock().unwrap();
        let failure = state.lock().unwrap_err();
        assert_eq!(failure.code, keepshare_control::Code::Refused);
        drop(held);
        assert!(state.lock().is_ok());
    }
}
