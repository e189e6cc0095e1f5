//! `keepshare run`: the service.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use keepshare_answers::{StationAnswers, auditing};
use keepshare_control::{Outcome, socket::Socket};
use keepshare_host::{accounts::MachineAccounts, panics};
use keepshare_station::{config::Config, station::Station};

/// Which log lines are written, as `tracing` filters are: `info`, `keepshare=debug`, …
const LOG_VARIABLE: &str = "KEEPSHARE_LOG";

/// Runs the station of a config until it is told to stop.
pub(crate) fn run(config: &Path) -> Outcome<()> {
    let config = Config::load(config)?;
    panics::remember();
    log_to_stderr("info");
    runtime()?.block_on(serve(config))
}

/// Returns the threads that stations run on.
pub(crate) fn runtime() -> Outcome<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.enable_all().build().context("cannot start threads")?)
}

/// Writes the log to standard error; `default` is what is written unless the environment says otherwise.
pub(crate) fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only tests of this crate could have set one before.
    let _ = log.with_ansi(ansi).try_init();
}

async fn serve(config: Config) -> Outcome<()> {
    let (socket, state) = (config.socket.clone(), config.state.clone());
    let station = Station::open(config).await?;
    let listener = station.bind().await?;
    let api = Socket::bind(&socket, admins_group().map(|group| (group, state.as_path())))?;
    let answers = Arc::new(StationAnswers::new(vec![Arc::clone(&station)]));
    tokio::spawn(async move { api.serve(answers).await });
    tokio::spawn(auditing::keep_heads(Arc::downgrade(&station)));
    notify(&[sd_notify::NotifyState::Ready]);
    let watchdog = tokio::spawn(feed_watchdog());
    tokio::spawn(stop_on_signal(Arc::clone(&station)));
    let ran = station.run(listener, StationAnswers::router).await;
    watchdog.abort();
    // The socket goes last: while it is there, the station can be asked.
    let _ = std::fs::remove_file(&socket);
    ran
}

/// The members of this group may do with a station that root runs what root may.
const ADMINS_GROUP: &str = "keepshare";

/// Returns the number of the group of admins; none where there is no such group, or this is somebody's own station.
fn admins_group() -> Option<u32> {
    let is_root = rustix::process::geteuid().is_root();
    is_root.then(|| MachineAccounts::of_this_machine().patient().gid(ADMINS_GROUP).known())?
}

async fn stop_on_signal(station: Arc<Station>) {
    interrupted().await;
    notify(&[sd_notify::NotifyState::Stopping]);
    station.stop();
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn interrupted() {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot listen for signals");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Tells systemd that we are alive, as often as it asks for.
async fn feed_watchdog() {
    let Some(every) = sd_notify::watchdog_enabled() else { return };
    let mut tick = tokio::time::interval(every / 2);
    loop {
        tick.tick().await;
        notify(&[sd_notify::NotifyState::Watchdog]);
    }
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
