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

use keepshare_auth::{Member, Role, StationAddress};
use keepshare_base::{SetName, Stamp, StationName};

use crate::{
    failure::{Failure, Outcome},
    files,
};

/// The paths inside a state folder.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

/// Held as long as a station runs: a second one on the same folder is refused.
#[derive(Debug)]
pub(crate) struct StateLock(#[expect(dead_code, reason = "the lock is the open file")] File);

/// A set that this station sends or receives.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct SetRecord {
    /// What it is called.
    pub(crate) name: SetName,
    /// What this station does with it.
    #[serde(flatten)]
    pub(crate) part: SetPart,
}

/// What a station does with a set.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub(crate) enum SetPart {
    /// Its users write here.
    Master {
        /// The folder.
        source: PathBuf,
        /// Who receives it.
        to: Vec<StationName>,
    },
    /// It is received and kept.
    Replica {
        /// Who sends it.
        from: StationName,
    },
}

#[derive(Default, Serialize, Deserialize)]
struct SetsFile {
    #[serde(default, rename = "set")]
    sets: Vec<SetRecord>,
}

#[derive(Default, Serialize, Deserialize)]
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
    /// Names the folder; [`Self::create`] makes it.
    pub(crate) fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// Makes the folder, readable by nobody else.
    pub(crate) fn create(&self) -> Outcome<()> {
        Ok(files::create_private_dir(&self.0)?)
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
        self.0.join("identity")
    }

    /// Where members and join tokens are, on the primary.
    pub(crate) fn auth_database(&self) -> PathBuf {
        self.0.join("auth.redb")
    }

    /// Where the journal of a set is, on its master.
    pub(crate) fn journal(&self, set: &SetName) -> PathBuf {
        self.0.join("journal").join(format!("{set}.redb"))
    }

    /// Where content waits for destinations that lag, on a set's master.
    pub(crate) fn spool(&self, set: &SetName) -> PathBuf {
        self.0.join("journal").join(format!("{set}.spool"))
    }

    /// Where content of a restore waits until it is whole, on a set's master.
    pub(crate) fn restores(&self, set: &SetName) -> PathBuf {
        self.0.join("journal").join(format!("{set}.restores"))
    }

    /// Where a received set is.
    pub(crate) fn set(&self, set: &SetName) -> PathBuf {
        self.0.join("sets").join(set.as_str())
    }

    /// Reads the sets.
    pub(crate) fn load_sets(&self) -> Outcome<Vec<SetRecord>> {
        Ok(read_toml::<SetsFile>(&self.0.join("sets.toml"))?.sets)
    }

    /// Writes the sets, durable when it returns.
    pub(crate) fn save_sets(&self, sets: &[SetRecord]) -> Outcome<()> {
        write_toml(&self.0.join("sets.toml"), &SetsFile { sets: sets.to_vec() })
    }

    /// Reads the members as they were when this station joined or renewed last.
    pub(crate) fn load_members(&self) -> Outcome<Vec<Member>> {
        let file: MembersFile = read_toml(&self.0.join("members.toml"))?;
        file.members.into_iter().map(MemberRecord::into_member).collect()
    }

    /// Writes the members, durable when it returns.
    pub(crate) fn save_members(&self, members: &[Member]) -> Outcome<()> {
        let members = members.iter().map(MemberRecord::of).collect();
        write_toml(&self.0.join("members.toml"), &MembersFile { members })
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
    Ok(toml::from_str(&text).with_context(|| format!("{} is not usable", path.display()))?)
}

fn write_toml(path: &Path, value: &impl Serialize) -> Outcome<()> {
    let text = toml::to_string(value).context("cannot write down what the station keeps")?;
    Ok(files::write_synced(path, format!("{HEADER}{text}").as_bytes(), 0o600)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_members_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        assert_eq!(state.load_sets().unwrap(), []);
        let sets = [
            SetRecord {
                name: "projects".parse().unwrap(),
                part: SetPart::Master {
                    source: PathBuf::from("/srv/a b"),
                    to: vec!["store".parse().unwrap()],
                },
            },
            SetRecord {
                name: "mail".parse().unwrap(),
                part: SetPart::Replica { from: "office".parse().unwrap() },
            },
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
        assert_eq!(failure.code, crate::failure::Code::Refused);
        drop(held);
        assert!(state.lock().is_ok());
    }
}
