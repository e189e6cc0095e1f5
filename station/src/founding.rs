//! A station that is not there yet: the first of a cluster, or one that joins.

use std::path::Path;

use anyhow::Context;

use keepshare_base::{Role, StationAddress, StationName};
use keepshare_control::{Code, Failure, Outcome};
use keepshare_host::{
    clock,
    files::{self, Tentative},
};
use keepshare_identity::{
    Applicant, ClusterCa, Enrolment, JoinError, JoinToken, JoinedIdentity, StationIdentity,
    tls::machine_clock,
};
use keepshare_replication::link::join::ask;

use keepshare_sets::database;

use crate::{config::Config, state::StateDir};

/// Writes everything a first station needs. The config comes last: with it the station exists.
pub fn make_first(config: &Config, config_path: &Path, address: &StationAddress) -> Outcome<()> {
    refuse_existing(config, config_path)?;
    let state = StateDir::new(&config.state);
    let ca_file = state.identity().join(keepshare_identity::CA_FILE);
    if ca_file.exists() {
        let shown = ca_file.display();
        return Err(Failure::refused(format!("there is a cluster's CA {shown} already")).hint(
            "give another folder with --state, or remove it if no station was joined with it",
        ));
    }
    let mut made = prepare(&state, config_path)?;
    made.file(&ca_file);
    made.file(&state.auth_database());
    let now = clock::now();
    let ca = ClusterCa::create(&state.identity(), now).context("cannot make the cluster's CA")?;
    let identity = StationIdentity::create(&ca, now, &config.name, Role::Primary)
        .context("cannot make the station's identity")?;
    let database = database::open_auth(&state.auth_database())?;
    let enrolment = Enrolment::open(ca, database).context("cannot set the cluster up")?;
    enrolment.record_own(now, &identity, address).context("cannot record the station")?;
    identity.save_new(&state.identity()).context("cannot save the station's identity")?;
    config.create(config_path)?;
    made.keep();
    Ok(())
}

/// Makes the folders of a new station, and sees that its files can be written: after a token is used it is too late.
fn prepare(state: &StateDir, config_path: &Path) -> Outcome<Tentative> {
    make_folders(state, config_path).map_err(|error| {
        Failure::from(error).hint_if_none("name another folder with --state, or another --config")
    })
}

fn make_folders(state: &StateDir, config_path: &Path) -> anyhow::Result<Tentative> {
    let mut made = Tentative::default();
    made.dir(&state.identity(), 0o700)?;
    files::try_to_write_in(&state.identity())?;
    let config_dir = config_path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let config_dir = config_dir.unwrap_or(Path::new("."));
    made.dir(config_dir, 0o755)?;
    files::try_to_write_in(config_dir)?;
    made.file(&state.identity().join(keepshare_identity::IDENTITY_FILE));
    made.file(&state.members_file());
    Ok(made)
}

/// Asks the primary, and writes what it gave. The config comes last: with it the station exists.
pub async fn join_cluster(
    config: &Config,
    config_path: &Path,
    primary: &StationAddress,
    token: &JoinToken,
    address: &StationAddress,
) -> Outcome<()> {
    let state = StateDir::new(&config.state);
    let made = prepare(&state, config_path)?;
    let failure = |error| join_failure(error, &config.name);
    let applicant =
        Applicant::join(token, &config.name, address, &machine_clock()).map_err(failure)?;
    let answer = ask(primary.as_str(), applicant.tls(), applicant.question()).await;
    let answer = answer.map_err(|error| {
        Failure::because(Code::Unavailable, error)
            .context("cannot join the cluster")
            .hint("the first station must run, its address be reachable, and the token be its own")
    })?;
    let joined = applicant.complete(&answer).map_err(failure)?;
    save_joined(&state, &joined, config, config_path).map_err(|failure| {
        let failure = failure.context("the first station has let this one in, but");
        failure.hint("mend that, then join with a new token and under another --name")
    })?;
    made.keep();
    Ok(())
}

fn save_joined(
    state: &StateDir,
    joined: &JoinedIdentity,
    config: &Config,
    config_path: &Path,
) -> Outcome<()> {
    state.save_members(&joined.members)?;
    joined.identity.save_new(&state.identity()).context("cannot save the station's identity")?;
    config.create(config_path)
}

fn join_failure(error: JoinError, name: &StationName) -> Failure {
    let (code, hint) = match &error {
        JoinError::Unavailable => (
            Code::Unavailable,
            "join through the first station, the one that keepshare init made".to_owned(),
        ),
        JoinError::Refused => (
            Code::Refused,
            "keepshare token create, on the first station, makes a new one".to_owned(),
        ),
        JoinError::NameTaken => {
            (Code::Refused, format!("choose another name than {name} with --name"))
        }
        _ => (Code::Failed, "the log of the first station says more".to_owned()),
    };
    Failure::because(code, error).hint(hint).context("cannot join the cluster")
}

/// Refuses a config or a station that is there already.
pub fn refuse_existing(config: &Config, config_path: &Path) -> Outcome<()> {
    if config_path.exists() {
        let shown = config_path.display();
        return Err(Failure::refused(format!("there is a config {shown} already"))
            .hint("remove it to start over, or give another with --config"));
    }
    let identity = StateDir::new(&config.state).identity();
    if identity.join(keepshare_identity::IDENTITY_FILE).exists() {
        let shown = config.state.display();
        return Err(Failure::refused(format!("there is a station in {shown} already")).hint(
            "give another folder with --state, or the config it was made with to keepshare run",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, net::Ipv4Addr};

    use tempfile::TempDir;

    use keepshare_sets::schedule::Schedules;

    use crate::config::{Doors, socket_in};

    use super::*;

    fn station(dir: &TempDir) -> (Config, StationAddress) {
        let state = dir.path().join("state");
        let config = Config {
            name: "office".parse().unwrap(),
            listen: (Ipv4Addr::LOCALHOST, 7846).into(),
            address: None,
            socket: socket_in(&state),
            state,
            zone: chrono_tz::Tz::UTC,
            bandwidth_bytes_per_s: None,
            doors: Doors::default(),
            schedules: Schedules::default(),
            orders: std::sync::Arc::default(),
        };
        (config, "127.0.0.1:7846".parse().unwrap())
    }

    /// Whoever says init twice must not lose the key of the first cluster, whatever of it is left.
    #[test]
    fn a_station_that_is_there_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let (config, address) = station(&dir);
        let path = dir.path().join("station.toml");
        make_first(&config, &path, &address).unwrap();
        let identity = StateDir::new(&config.state).identity();
        let key = fs::read(identity.join(keepshare_identity::CA_FILE)).unwrap();
        let refused = || {
            let failure = make_first(&config, &path, &address).unwrap_err();
            assert_eq!(failure.code, Code::Refused);
            assert!(failure.hint.is_some());
            failure.one_line()
        };
        assert!(refused().contains("there is a config"));
        fs::remove_file(&path).unwrap();
        assert!(refused().contains("there is a station in"));
        fs::remove_file(identity.join(keepshare_identity::IDENTITY_FILE)).unwrap();
        assert!(refused().contains("there is a cluster's CA"));
        assert_eq!(fs::read(identity.join(keepshare_identity::CA_FILE)).unwrap(), key);
    }

    /// What is left of a try that failed would be in the way of the next.
    #[test]
    fn a_station_that_cannot_be_made_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (config, address) = station(&dir);
        fs::write(dir.path().join("file"), "").unwrap();
        let failure =
            make_first(&config, &dir.path().join("file/station.toml"), &address).unwrap_err();
        assert!(failure.hint.is_some(), "{failure:?}");
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, ["file"]);
        make_first(&config, &dir.path().join("station.toml"), &address).unwrap();
    }
}
