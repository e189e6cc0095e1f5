//! A drive to mount: two stations, users, logins, and libnfs as a client that needs no kernel.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    cluster::{Cluster, SET, Wiring, free_address},
    process,
    scratch::Scratch,
    station::{Doors, Reply},
    wait::{wait_for, wait_until},
};

/// The number of user anna, and of her group.
pub const ANNA: u32 = 4001;

/// The number of user bob, and of his group.
pub const BOB: u32 = 4002;

/// How long the first mirror of a small tree may take.
const MIRRORED: Duration = Duration::from_secs(120);

/// The password of every user.
const PASSWORD: &str = "correct horse battery";

/// A replica that serves the set of a master as a drive.
#[derive(Debug)]
pub struct Drive {
    /// The stations; the drive is the store's.
    pub cluster: Cluster,
    address: SocketAddr,
}

impl Drive {
    /// Makes the stations and the set; nothing is waited for.
    pub fn new(scratch: &Scratch, source: &Path, wiring: Wiring) -> Result<Self> {
        let address = free_address()?;
        let doors = Doors { nfs: Some(address), show: "root" };
        let cluster = Cluster::with_doors(scratch, source, wiring, doors)?;
        cluster.add_set()?;
        Ok(Self { cluster, address })
    }

    /// As [`Self::new`], once everything is there and users anna and bob can log in.
    pub fn served(scratch: &Scratch, source: &Path, wiring: Wiring) -> Result<Self> {
        let drive = Self::new(scratch, source, wiring)?;
        drive.cluster.in_sync_within(MIRRORED)?;
        drive.add_user("anna", ANNA, &[])?;
        drive.add_user("bob", BOB, &[])?;
        Ok(drive)
    }

    /// Returns the port of both NFS and MOUNT.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Has `@versions` listed elsewhere, from the store's next start on.
    pub fn show(&mut self, show: &'static str) -> Result<()> {
        self.cluster.store.change_doors(Doors { nfs: Some(self.address), show })
    }

    /// Adds a user whose uid and gid are `number`; `options` are further ones of `user add`.
    pub fn add_user(&self, name: &str, number: u32, options: &[&str]) -> Result<()> {
        let number = number.to_string();
        let mut args = vec!["user", "add", name, "--uid", &number, "--gid", &number];
        args.extend(["--password-stdin"].iter().chain(options));
        self.cluster.store.call_with_input(args, PASSWORD)?.ok()?;
        Ok(())
    }

    /// Logs a user in and returns what is mounted: `/login/TICKET`. `options` say who may use it, and from where; from any
    /// port there, as neither libnfs nor a guest behind its host's network calls from one below 1024.
    pub fn log_in(&self, user: &str, options: &[&str]) -> Result<String> {
        let mut args = vec!["login", user, "--json", "--password-stdin"];
        args.extend(options);
        if !options.contains(&"--shared") {
            args.push("--any-port");
        }
        let login = self.cluster.store.call_with_input(args, PASSWORD)?.json()?;
        Ok(login["mount_path"].as_str().context("a login gives what is mounted")?.to_owned())
    }

    /// Logs a user in for all users of this machine and returns the command that mounts the drive at `at`, as it is
    /// printed for Linux, but for the name by which the station is reached.
    pub fn mount_command(&self, user: &str, server: &str, at: &str) -> Result<String> {
        let args = ["login", user, "--json", "--password-stdin", "--shared"];
        let login = self.cluster.store.call_with_input(args, PASSWORD)?.json()?;
        let command = login["commands"]["linux"].as_str().context("a login prints how to mount")?;
        let (options, _) =
            command.rsplit_once(' ').context("a mount command ends with a folder")?;
        // The folder is made first; here it is there.
        let (_, options) = options.split_once("&& sudo ").context("mounting takes root")?;
        Ok(format!("{} {at}", options.replace(" 127.0.0.1:", &format!(" {server}:"))))
    }

    /// Logs a user in for all users of this machine.
    pub fn log_in_shared(&self, user: &str) -> Result<String> {
        self.log_in(user, &["--shared"])
    }

    /// Returns what `session list` shows of a user.
    pub fn sessions(&self, user: &str) -> Result<Vec<Value>> {
        let listed = self.cluster.store.call(["session", "list", "--json"])?.json()?;
        let listed = listed.as_array().context("sessions are no array")?;
        Ok(listed.iter().filter(|session| session["user"] == user).cloned().collect())
    }

    /// Returns the versions of a path, newest first.
    pub fn versions(&self, path: &str) -> Result<Vec<Value>> {
        self.cluster.store.versions(SET, Path::new(path))
    }

    /// Returns the versions of a path, newest first, once there are so many.
    pub fn versions_within(
        &self,
        deadline: Duration,
        path: &str,
        count: usize,
    ) -> Result<Vec<Value>> {
        wait_for(deadline, &format!("{path} has {count} versions"), || {
            Ok(Some(self.versions(path)?).filter(|versions| versions.len() >= count))
        })
    }

    /// Returns the URL of a path, with which libnfs mounts its folder.
    pub fn url(&self, path: &str) -> String {
        let port = self.port();
        format!("nfs://127.0.0.1{path}?nfsport={port}&mountport={port}&version=3")
    }

    /// Runs a program of libnfs-utils as the user of this number of this machine; as who we are for none.
    pub fn libnfs<A: AsRef<OsStr>>(
        &self,
        uid: Option<u32>,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Reply> {
        let uid = uid.map(|uid| uid.to_string());
        let wrapper = uid.map(|uid| {
            ["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"].map(str::to_owned)
        });
        let wrapper = wrapper.map(Vec::from).unwrap_or_default();
        let mut command: Command = process::bound_to_us(&wrapper, Path::new(program));
        Reply::of(command.args(args).env("LC_ALL", "C.UTF-8"))
    }
}

/// Writes a file of its owner that everybody may read, and the folder that it is in.
pub fn write_as(owner: u32, path: &Path, content: &str) -> Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder)?;
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    for path in [path, folder] {
        chown(path, Some(owner), Some(owner))?;
    }
    Ok(())
}

/// Returns when the clock shows another second than now: what is saved then is told apart by a time of whole seconds.
pub fn next_second() -> Result<()> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs());
    let began = now()?;
    wait_until(Duration::from_secs(20), "another second", || now().is_ok_and(|now| now > began))
}

/// Returns a moment at which a version was there, as `versions --json` prints it. Its own time is that of its origin, and what
/// a first mirror brought was made before the history begins.
pub fn time_of(version: &Value) -> Result<&str> {
    version["arrived"].as_str().context("a version has arrived")
}
