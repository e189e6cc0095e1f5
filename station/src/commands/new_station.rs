//! `keepshare init` and `keepshare join`: a station that does not run yet.

use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
};

use anyhow::Context;

use keepshare_auth::{
    Applicant, ClusterCa, Enrolment, JoinError, JoinToken, JoinedIdentity, Role, StationAddress,
    StationIdentity, TokenError,
};
use keepshare_base::StationName;
use keepshare_namespace::when::machine_zone;
use keepshare_replication::join::ask;

use crate::{
    addresses,
    cli::{Global, Init, Join, NewStation},
    clock,
    commands::config_path,
    config::{self, Config, Doors, Scans, parse_address},
    database,
    failure::{Code, Failure, Outcome},
    files::{self, Tentative},
    output::Screen,
    state::StateDir,
};

/// Makes a first station: the cluster's CA, its own identity, a config.
pub(crate) fn init(options: &Init, global: &Global, screen: &Screen) -> Outcome<()> {
    let config_path = config_path(global);
    let config = new_config(&options.station)?;
    let address = own_address(&config, None)?;
    make_first(&config, &config_path, &address)?;
    report(&config, &config_path, &address, screen, |run, option| {
        format!(
            "Start it with {run}; then keepshare token create{option} invites a second station.\n"
        )
    })
}

/// Writes everything a first station needs. The config comes last: with it the station exists.
pub(crate) fn make_first(
    config: &Config,
    config_path: &Path,
    address: &StationAddress,
) -> Outcome<()> {
    refuse_existing(config, config_path)?;
    let state = StateDir::new(&config.state);
    let ca_file = state.identity().join(keepshare_auth::CA_FILE);
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
    made.file(&state.identity().join(keepshare_auth::IDENTITY_FILE));
    made.file(&state.members_file());
    Ok(made)
}

/// Becomes a further station of a cluster.
pub(crate) fn join(options: &Join, global: &Global, screen: &Screen) -> Outcome<()> {
    let config_path = config_path(global);
    let token: JoinToken = options.token.parse().map_err(|error: TokenError| {
        Failure::because(Code::Usage, error)
            .hint("copy the whole token that keepshare token create gave")
    })?;
    let primary = parse_address(&options.primary)?;
    let config = new_config(&options.station)?;
    let address = own_address(&config, Some(&primary))?;
    refuse_existing(&config, &config_path)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(join_cluster(&config, &config_path, &primary, &token, &address))?;
    report(&config, &config_path, &address, screen, |run, _| {
        let name = &config.name;
        format!(
            "Start it with {run}; then, on the first station, keepshare set add NAME --source DIR --to {name}\n\
             sends it something.\n"
        )
    })
}

/// Asks the primary, and writes what it gave. The config comes last: with it the station exists.
pub(crate) async fn join_cluster(
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
        Applicant::join(token, &config.name, address, &clock::tls()).map_err(failure)?;
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

fn new_config(options: &NewStation) -> Outcome<Config> {
    let state = match &options.state {
        Some(state) => std::path::absolute(state)
            .with_context(|| format!("cannot tell where {} is", state.display()))?,
        None => config::default_state(),
    };
    let listen = match &options.listen {
        Some(listen) => config::parse_listen(listen)?,
        None => config::default_listen(),
    };
    Ok(Config {
        name: options.name.clone(),
        listen,
        address: options.address.as_deref().map(parse_address).transpose()?.map(String::from),
        socket: config::socket_in(&state),
        state,
        zone: machine_zone(),
        bandwidth_bytes_per_s: None,
        doors: Doors::default(),
        scans: Scans::default(),
    })
}

/// Returns what others dial: as configured, or where we listen, or from where we would reach the primary.
fn own_address(config: &Config, primary: Option<&StationAddress>) -> Outcome<StationAddress> {
    if let Some(address) = config.own_address()? {
        return Ok(address);
    }
    let targets = match primary {
        Some(primary) => [primary.as_str(); 2],
        // Addresses of documentation, which are nobody's: what is asked is the way out.
        None => ["192.0.2.1:9", "[2001:db8::1]:9"],
    };
    // Connecting a datagram socket sends nothing; it only asks the system which way it would go.
    let ip = ["0.0.0.0:0", "[::]:0"].iter().zip(targets).find_map(|(any, target)| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(target).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    match ip {
        Some(ip) => parse_address(&SocketAddr::new(ip, config.listen.port()).to_string()),
        None => Err(no_way_out()),
    }
}

/// Says that nobody knows where others reach this machine: a guess would be dialled for ever.
fn no_way_out() -> Failure {
    let addresses = addresses::own();
    let there_are = match addresses.as_slice() {
        [] => "this machine has none but its own yet, connect it to a network first".to_owned(),
        some => {
            let shown: Vec<String> = some.iter().map(ToString::to_string).collect();
            format!("this machine has {}", shown.join(", "))
        }
    };
    Failure::refused(
        "there is no default route, so it is not known where other stations reach this one",
    )
    .hint(format!("say it with --address HOST or --listen ADDRESS; {there_are}"))
}

fn refuse_existing(config: &Config, config_path: &Path) -> Outcome<()> {
    if config_path.exists() {
        let shown = config_path.display();
        return Err(Failure::refused(format!("there is a config {shown} already"))
            .hint("remove it to start over, or give another with --config"));
    }
    let identity = StateDir::new(&config.state).identity();
    if identity.join(keepshare_auth::IDENTITY_FILE).exists() {
        let shown = config.state.display();
        return Err(Failure::refused(format!("there is a station in {shown} already")).hint(
            "give another folder with --state, or the config it was made with to keepshare run",
        ));
    }
    Ok(())
}

fn report(
    config: &Config,
    config_path: &Path,
    address: &StationAddress,
    screen: &Screen,
    next: impl FnOnce(&str, &str) -> String,
) -> Outcome<()> {
    let value = serde_json::json!({
        "name": config.name.as_str(),
        "config": config_path,
        "state": config.state,
        "socket": config.socket,
        "listen": config.listen.to_string(),
        "address": address.as_str(),
    });
    screen.value(&value, |_| {
        let (name, path, state) = (&config.name, config_path.display(), config.state.display());
        // What is not where commands look by themselves has to be named to them.
        let option = match config_path == config::default_config() {
            true => String::new(),
            false => format!(" --config {path}"),
        };
        let next = next(&format!("keepshare run{option}"), &option);
        format!("Station {name}, reached at {address}\n  config {path}\n  state  {state}\n\n{next}")
    })
}
