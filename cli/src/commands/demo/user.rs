//! The user of a demo: whoever runs it, with a password that the demo makes and keeps beside its state.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use anyhow::Context;

use keepshare_auth::{Accounts, Binding, User, UserName, UserSets};
use keepshare_control::{Code, Failure, Outcome};
use keepshare_host::{accounts::MachineAccounts, clock, files};
use keepshare_station::station::Station;

use super::set_name;

/// Who can log in to a demo.
#[derive(Debug)]
pub(super) struct DemoUser {
    pub(super) name: UserName,
    pub(super) password: String,
    /// Where.
    pub(super) https: Option<String>,
    /// Where the drive is served.
    pub(super) nfs: Option<SocketAddr>,
    /// What is mounted there, once and soon: for all users of this machine.
    pub(super) mount_path: Option<String>,
}

impl DemoUser {
    /// Adds the user, where there is none yet.
    pub(super) async fn add(state: &Path, station: &Station) -> Outcome<Self> {
        let path = state.join(PASSWORD_FILE);
        let https = station.config.doors.https.map(|at| format!("https://{at}"));
        let nfs = station.config.doors.nfs;
        let accounts = Arc::clone(&station.accounts);
        // Hashing a password takes a moment.
        let added = tokio::task::spawn_blocking(move || {
            let (name, password) = add(&accounts, &path)?;
            let mount_path = nfs.map(|at| ticket(&accounts, &name, at.ip())).transpose()?;
            Ok::<_, Failure>(Self { name, password, https, nfs, mount_path: mount_path.flatten() })
        });
        added.await.context("adding the demo's user failed")?
    }
}

fn add(accounts: &Accounts, password_file: &Path) -> Outcome<(UserName, String)> {
    let failed =
        |error| Failure::because(Code::Failed, error).context("cannot add the demo's user");
    let user = myself();
    let name = user.name.clone();
    let is_there = accounts.users().map_err(failed)?.iter().any(|user| user.name == name);
    let (password, is_new) = password(password_file)?;
    if !is_there {
        accounts.add_user(user, &password, clock::now()).map_err(failed)?;
    } else if is_new {
        accounts.set_password(&name, &password, clock::now()).map_err(failed)?;
    }
    Ok((name, password))
}

/// Returns what the demo's own drive is mounted with.
fn ticket(accounts: &Accounts, name: &UserName, from: IpAddr) -> Outcome<Option<String>> {
    let login = accounts.ticket_for(name, &set_name(), Binding::shared(from), clock::now());
    let login = login.map_err(|error| {
        Failure::because(Code::Failed, error).context("cannot log the demo's user in")
    })?;
    Ok(login.map(|login| format!("/login/{}", login.ticket.reveal())))
}

/// Returns whoever runs the demo.
fn myself() -> User {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let accounts = MachineAccounts::of_this_machine().patient();
    let account_name = accounts.shown_user(uid);
    let account = accounts.account(&account_name).known();
    let groups = account.map(|account| account.groups).unwrap_or_default();
    let groups = groups.into_iter().take(keepshare_auth::GROUPS_MAX).collect();
    let name =
        account_name.parse().unwrap_or_else(|_| FALLBACK.parse().expect("a fixed and valid name"));
    User { name, uid, gid, groups, may_write: true, sets: UserSets::All, disabled: false }
}

/// Returns the demo's password, and whether it was made just now.
fn password(path: &Path) -> Outcome<(String, bool)> {
    match fs::read_to_string(path) {
        Ok(password) => return Ok((password.trim_end().to_owned(), false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let error = anyhow::Error::new(error);
            return Err(error.context(format!("cannot read {}", path.display())).into());
        }
    }
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Code::Failed, format!("there are no random numbers: {error}"))
    })?;
    let password = format!("{:016x}", u64::from_le_bytes(bytes));
    files::write_synced(path, format!("{password}\n").as_bytes(), 0o600)
        .map_err(anyhow::Error::new)?;
    Ok((password, true))
}

/// What the user is called where the account has a name that no user can have.
const FALLBACK: &str = "demo";

/// Where a demo keeps its password, in the folder of the station that has the doors.
const PASSWORD_FILE: &str = "demo-password";
