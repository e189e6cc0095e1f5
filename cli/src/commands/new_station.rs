//! `keepshare init` and `keepshare join`: a station that does not run yet.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
};

use anyhow::Context;

use keepshare_base::StationAddress;
use keepshare_control::{Code, Failure, Outcome};
use keepshare_host::folders;
use keepshare_identity::{JoinToken, TokenError};
use keepshare_sets::schedule::Schedules;
use keepshare_station::{
    config::{self, Config, Doors, parse_address},
    founding::{join_cluster, make_first, refuse_existing},
};
use keepshare_versioning::when::machine_zone;

use crate::{
    addresses,
    cli::{Global, Join, NewStation},
    commands::config_path,
    output::Screen,
};

/// Makes a first station: the cluster's CA, its own identity, a config.
pub(crate) fn init(options: &NewStation, global: &Global, screen: &Screen) -> Outcome<()> {
    let config_path = config_path(global);
    let config = new_config(options)?;
    let known = own_address(&config, None)?;
    let alone = known.is_none().then(|| alone_hint(&config_path));
    // One machine is enough; where others reach it can be said when there are others.
    let address = known.map_or_else(|| loopback(&config), Ok)?;
    make_first(&config, &config_path, &address)?;
    report(&config, &config_path, (&address, alone.as_deref()), screen, |run, option| {
        format!(
            "Start it with {run}; then keepshare set add NAME --source DIR{option} keeps every version of a folder,\n\
             and keepshare token create{option} invites a second station.\n"
        )
    })
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
    let address = own_address(&config, Some(&primary))?.ok_or_else(no_way_out)?;
    refuse_existing(&config, &config_path)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(join_cluster(&config, &config_path, &primary, &token, &address))?;
    report(&config, &config_path, (&address, None), screen, |run, _| {
        let name = &config.name;
        format!(
            "Start it with {run}; then, on the first station, keepshare set add NAME --source DIR --to {name}\n\
             sends it something.\n"
        )
    })
}

fn new_config(options: &NewStation) -> Outcome<Config> {
    let state = match &options.state {
        Some(state) => std::path::absolute(state)
            .with_context(|| format!("cannot tell where {} is", state.display()))?,
        None => folders::station_state(),
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
        schedules: Schedules::default(),
        orders: std::sync::Arc::default(),
    })
}

/// Returns what others dial: as configured, or where we listen, or from where we would reach the primary; none where there is
/// no way to it.
fn own_address(
    config: &Config,
    primary: Option<&StationAddress>,
) -> Outcome<Option<StationAddress>> {
    if let Some(address) = config.own_address()? {
        return Ok(Some(address));
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
    ip.map(|ip| parse_address(&SocketAddr::new(ip, config.listen.port()).to_string())).transpose()
}

/// Returns where this machine alone reaches its station.
fn loopback(config: &Config) -> Outcome<StationAddress> {
    parse_address(&SocketAddr::from((Ipv4Addr::LOCALHOST, config.listen.port())).to_string())
}

/// Says that nobody knows where others reach this machine: a guess would be dialled for ever.
fn no_way_out() -> Failure {
    Failure::refused(NO_ROUTE)
        .hint(format!("say it with --address HOST or --listen ADDRESS; {}", there_are()))
}

/// Says what to do before there are others.
fn alone_hint(config_path: &Path) -> String {
    format!(
        "{NO_ROUTE}; before another joins, put address = \"HOST\" into {} and start it anew ({})",
        config_path.display(),
        there_are()
    )
}

/// Says which addresses there are.
fn there_are() -> String {
    match addresses::own().as_slice() {
        [] => "this machine has none but its own yet, connect it to a network first".to_owned(),
        some => {
            let shown: Vec<String> = some.iter().map(ToString::to_string).collect();
            format!("this machine has {}", shown.join(", "))
        }
    }
}

const NO_ROUTE: &str =
    "there is no default route, so it is not known where other stations reach this one";

fn report(
    config: &Config,
    config_path: &Path,
    (address, hint): (&StationAddress, Option<&str>),
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
        "hint": hint,
    });
    screen.value(&value, |_| {
        let (name, path, state) = (&config.name, config_path.display(), config.state.display());
        // What is not where commands look by themselves has to be named to them.
        let option = match config_path == folders::station_config() {
            true => String::new(),
            false => format!(" --config {path}"),
        };
        let next = next(&format!("keepshare run{option}"), &option);
        format!("Station {name}, reached at {address}\n  config {path}\n  state  {state}\n\n{next}")
    })?;
    if let Some(hint) = hint {
        screen.notes(hint, &[]);
    }
    Ok(())
}
