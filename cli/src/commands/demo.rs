//! `keepshare demo`: a master and a replica on this machine, or one station that is both, in one process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::task::JoinSet;

use keepshare_answers::StationAnswers;
use keepshare_base::{Role, SetName, StationName, health::State};
use keepshare_control::{
    Code, Failure, Outcome,
    answers::{HealthStatus, Progress, SetStatus},
    socket::Socket,
};
use keepshare_host::{clock, files, panics};
use keepshare_identity::TOKEN_TTL_S;
use keepshare_sets::{schedule::Schedules, source_folder};
use keepshare_station::{
    config::{self, Config, Doors, Shown, parse_address},
    founding::{join_cluster, make_first},
    station::Station,
    status::status_of_set,
};
use keepshare_versioning::when::machine_zone;

use crate::{
    cli,
    commands::run::{interrupted, log_to_stderr, runtime},
    output::Screen,
};

use user::DemoUser;

mod sample;
mod user;

/// How often it is looked whether the replica has everything.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the demo's set is called.
const SET: &str = "demo";

/// The folders of a demo.
struct Layout {
    root: PathBuf,
    source: PathBuf,
    /// The source is the sample that we make.
    is_sample: bool,
    /// One station masters the set and keeps its versions.
    is_single: bool,
    /// Gone when the demo ends.
    _temporary: Option<TemporaryDir>,
}

/// A folder that is removed with everything in it.
struct TemporaryDir(PathBuf);

/// Runs the stations until interrupted.
pub(crate) fn demo(options: &cli::Demo, screen: &Screen) -> Outcome<()> {
    panics::remember();
    log_to_stderr("error");
    let layout = Layout::prepare(options)?;
    runtime()?.block_on(run(&layout, screen))
}

async fn run(layout: &Layout, screen: &Screen) -> Outcome<()> {
    let is_new = !layout.state_of(layout.keeper()).join(CONFIG).exists();
    if layout.is_sample && !layout.source.exists() {
        sample::make(&layout.source)?;
    }
    let mut tasks = JoinSet::new();
    let stations = layout.start_stations(&mut tasks).await?;
    let Stations { master, keeper } = &stations;
    let answers = if layout.is_single { vec![keeper] } else { vec![keeper, master] };
    let answers = answers.into_iter().map(Arc::clone).collect();
    let socket = layout.root.join("keepshare.sock");
    let api = Socket::bind(&socket, None)?;
    let outcome = tokio::select! {
        () = api.serve(Arc::new(StationAnswers::new(answers))) => Ok(()),
        ended = first_end(&mut tasks) => ended,
        failed = present(layout, &stations, is_new, &socket, screen) => failed,
        () = interrupted() => Ok(()),
    };
    master.stop();
    keeper.stop();
    while let Some(ran) = tasks.join_next().await {
        ran.context("a station failed")??;
    }
    outcome
}

/// Waits for a station to end, which none should before it is told to.
async fn first_end(tasks: &mut JoinSet<Outcome<()>>) -> Outcome<()> {
    match tasks.join_next().await {
        Some(ran) => ran.context("a station failed")?,
        None => Ok(()),
    }
}

/// Brings everything up and tells about it; then there is nothing more to do.
async fn present(
    layout: &Layout,
    stations: &Stations,
    is_new: bool,
    socket: &Path,
    screen: &Screen,
) -> Outcome<()> {
    stations.add_set(&layout.source).await?;
    stations.settle(None, screen).await?;
    if is_new && layout.is_sample {
        for edit in sample::EDITS {
            let head = stations.head()?;
            edit(&layout.source)
                .with_context(|| format!("cannot edit {}", layout.source.display()))?;
            stations.settle(Some(head), screen).await?;
        }
    }
    let user = DemoUser::add(&layout.state_of(layout.keeper()), &stations.keeper).await?;
    introduce(layout, stations, &user, socket, screen)?;
    std::future::pending().await
}

/// The stations of a demo: two, or one that is both.
struct Stations {
    /// Its users write here.
    master: Arc<Station>,
    /// It keeps the versions, and has the doors.
    keeper: Arc<Station>,
}

impl Stations {
    /// Has the versions of the folder kept, where they are not yet.
    async fn add_set(&self, source: &Path) -> Outcome<()> {
        let name = set_name();
        match status_of_set(&self.master, &name) {
            Some(known) if known.source.as_deref() == Some(source) => return Ok(()),
            Some(_) => {
                return Err(Failure::refused("this demo was begun with another source")
                    .hint("give it the same --source, or another --state"));
            }
            None => {}
        }
        let (master, source) = (Arc::clone(&self.master), source.to_owned());
        let to = vec![self.keeper.config.name.clone()];
        let added = tokio::task::spawn_blocking(move || master.add_source(name, source, to)).await;
        added.context("adding the set failed")?
    }

    fn head(&self) -> Outcome<u64> {
        Ok(self.of_master()?.head.unwrap_or(0))
    }

    fn of_master(&self) -> Outcome<SetStatus> {
        let status = tokio::task::block_in_place(|| status_of_set(&self.master, &set_name()));
        status.ok_or_else(|| Failure::unavailable("the set is not open"))
    }

    fn of_keeper(&self) -> Option<SetStatus> {
        tokio::task::block_in_place(|| status_of_set(&self.keeper, &set_name()))
    }

    /// Waits until every version is kept, and something after the change `after`.
    async fn settle(&self, after: Option<u64>, screen: &Screen) -> Outcome<()> {
        let bar = screen.bar();
        loop {
            let (master, keeper) = (self.of_master()?, self.of_keeper());
            let HealthStatus { state, cause, percent, found } = master.health;
            if matches!(state, State::Alarm | State::Stopped) {
                return Err(Failure::unavailable(cause.unwrap_or_else(|| state.to_string())));
            }
            let has_all = keeper.as_ref().is_some_and(|keeper| {
                keeper.health.state.has_arrived() && keeper.durable == master.head
            });
            let is_later = after.is_none_or(|after| master.head > Some(after));
            if has_all && is_later && state.has_arrived() {
                bar.finish();
                return Ok(());
            }
            let done = percent.or(found).unwrap_or(0);
            bar.show(&Progress { doing: state.to_string(), done, total: percent.map(|_| 100) });
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Layout {
    fn prepare(options: &cli::Demo) -> Outcome<Self> {
        if let (Some(source), Some(state)) = (&options.source, &options.state) {
            check(source, state)?;
        }
        let begun = |station: &str| {
            options.state.as_ref().is_some_and(|state| state.join(station).join(CONFIG).exists())
        };
        if options.single && begun(MASTER) {
            return Err(Failure::refused("this demo was begun with two stations")
                .hint("leave --single out, or give it another --state"));
        }
        let is_single = options.single || begun(SINGLE);
        let (root, temporary) = match &options.state {
            Some(state) => {
                files::create_private_dir(state).map_err(anyhow::Error::new)?;
                (state.clone(), None)
            }
            None => {
                let dir = TemporaryDir::create()?;
                (dir.0.clone(), Some(dir))
            }
        };
        let absolute = |path: &Path| {
            path.canonicalize().with_context(|| format!("cannot open {}", path.display()))
        };
        let root = absolute(&root)?;
        let source = match &options.source {
            Some(source) => absolute(source).map_err(|error| {
                Failure::because(Code::NotFound, error).hint("--source names a folder that exists")
            })?,
            None => root.join("source"),
        };
        let is_sample = options.source.is_none();
        Ok(Self { root, source, is_sample, is_single, _temporary: temporary })
    }

    fn state_of(&self, station: &str) -> PathBuf {
        self.root.join(station)
    }

    /// Returns which station keeps the versions.
    fn keeper(&self) -> &'static str {
        if self.is_single { SINGLE } else { REPLICA }
    }

    /// Opens the config of a station, or makes one on a free port.
    fn config(&self, station: &str) -> Outcome<(Config, bool)> {
        let path = self.state_of(station).join(CONFIG);
        if path.exists() {
            let mut config = Config::load(&path)?;
            // Made before there were doors: a demo is for this machine alone.
            if config.doors == Doors::default() {
                config.doors = doors_of(station)?;
            }
            return Ok((config, false));
        }
        let state = self.state_of(station);
        let config = Config {
            name: station_name(station),
            listen: free_address()?,
            address: None,
            socket: config::socket_in(&state),
            state,
            zone: machine_zone(),
            bandwidth_bytes_per_s: None,
            doors: doors_of(station)?,
            schedules: Schedules::default(),
            orders: Arc::default(),
        };
        Ok((config, true))
    }

    async fn start_stations(&self, tasks: &mut JoinSet<Outcome<()>>) -> Outcome<Stations> {
        if self.is_single {
            let master = self.start_first(SINGLE, tasks).await?;
            return Ok(Stations { keeper: Arc::clone(&master), master });
        }
        let master = self.start_first(MASTER, tasks).await?;
        match self.start_replica(&master, tasks).await {
            Ok(keeper) => Ok(Stations { master, keeper }),
            Err(failure) => {
                master.stop();
                Err(failure)
            }
        }
    }

    async fn start_first(
        &self,
        name: &str,
        tasks: &mut JoinSet<Outcome<()>>,
    ) -> Outcome<Arc<Station>> {
        let (config, is_new) = self.config(name)?;
        if is_new {
            let path = self.state_of(name).join(CONFIG);
            make_first(&config, &path, &parse_address(&config.listen.to_string())?)?;
        }
        start(config, tasks).await
    }

    async fn start_replica(
        &self,
        master: &Station,
        tasks: &mut JoinSet<Outcome<()>>,
    ) -> Outcome<Arc<Station>> {
        let (config, is_new) = self.config(REPLICA)?;
        if is_new {
            let enrolment = master.enrolment().ok_or_else(|| {
                Failure::refused("the demo's master is not the primary of its cluster")
            })?;
            let token = enrolment.tokens().create(clock::now(), Role::Replica, TOKEN_TTL_S);
            let token = token.context("cannot make a join token")?;
            let primary = parse_address(&master.config.listen.to_string())?;
            let address = parse_address(&config.listen.to_string())?;
            let path = self.state_of(REPLICA).join(CONFIG);
            join_cluster(&config, &path, &primary, &token, &address).await?;
        }
        start(config, tasks).await
    }
}

/// Refuses what cannot be a source of a new demo before anything is made: what is left behind would have keys in it.
fn check(source: &Path, state: &Path) -> Outcome<()> {
    let absolute = std::path::absolute(state);
    let state = absolute.with_context(|| format!("cannot tell where {} is", state.display()))?;
    // Whoever opens it tells why it cannot be opened.
    let Ok(source) = source.canonicalize() else { return Ok(()) };
    if [MASTER, SINGLE].iter().any(|station| state.join(station).join(CONFIG).exists()) {
        return Ok(());
    }
    source_folder::refuse(&source)?;
    let mut above = state.ancestors().filter_map(|dir| dir.canonicalize().ok());
    if above.next().is_some_and(|dir| dir.starts_with(&source)) {
        let (source, state) = (source.display(), state.display());
        return Err(Failure::refused(format!(
            "{source} cannot be a source: the demo would keep its state in it, in {state}"
        ))
        .hint("name a folder outside of the source with --state"));
    }
    Ok(())
}

async fn start(config: Config, tasks: &mut JoinSet<Outcome<()>>) -> Outcome<Arc<Station>> {
    let station = Station::open(config).await?;
    let listener = station.bind().await?;
    let running = Arc::clone(&station);
    tasks.spawn(async move { running.run(listener, StationAnswers::router).await });
    Ok(station)
}

/// Returns the doors of a station: users meet the one that keeps the versions, and from this machine alone.
fn doors_of(station: &str) -> Outcome<Doors> {
    if station == MASTER {
        return Ok(Doors { nfs: None, https: None, show: Shown::default() });
    }
    Ok(Doors { nfs: Some(free_address()?), https: Some(free_address()?), show: Shown::default() })
}

/// Returns an address of this machine that nothing listens on.
fn free_address() -> Outcome<SocketAddr> {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    Ok(free.context("cannot listen on this machine")?)
}

/// Tells what there is, and what to try.
fn introduce(
    layout: &Layout,
    stations: &Stations,
    user: &DemoUser,
    socket: &Path,
    screen: &Screen,
) -> Outcome<()> {
    let live = stations.of_keeper().and_then(|keeper| keeper.live).unwrap_or_default();
    let health = stations.of_master()?.health;
    let value = serde_json::json!({
        "source": layout.source,
        "live": live,
        "state": layout.root,
        "set": SET,
        "nfs_addr": user.nfs.map(|at| at.ip()),
        "nfs_port": user.nfs.map(|at| at.port()),
        "mount_port": user.nfs.map(|at| at.port()),
        "mount_path": user.mount_path,
        "https": user.https,
        "user": user.name,
        "password": user.password,
        "socket": socket,
    });
    screen.value(&value, |_| {
        let (source, live, socket) = (layout.source.display(), live.display(), socket.display());
        let (running, live) = match layout.is_single {
            true => ("A station that keeps every version of a folder is running", String::new()),
            false => (
                "A master and a replica are running",
                format!("\x20 live    {live}   what the replica has\n"),
            ),
        };
        let (file, kept) = match layout.is_sample {
            true => (sample::SHOWN, "goes with the demo; --state DIR keeps it"),
            false => ("PATH", "goes with the demo; --state DIR keeps it"),
        };
        let kept = if layout._temporary.is_some() { kept } else { "is kept" };
        let well = match (health.state, &health.cause) {
            (State::InSync, _) => "and in sync.".to_owned(),
            (state, Some(cause)) => format!("{state}: {cause}."),
            (state, None) => format!("{state}."),
        };
        format!(
            "{running}, {well}\n\n\
             \x20 source  {source}   write here\n\
             {live}\
             \x20 state   {}   {kept}\n\
             \x20 user    {} with the password {}\n\n\
             In another terminal:\n\n\
             \x20 export KEEPSHARE_SOCKET={socket}\n\
             \x20 keepshare status\n\
             \x20 keepshare versions {SET}:{file}\n\
             \x20 keepshare show {SET}:{file}@VERSION\n\
             \x20 keepshare restore {SET}:{file}@VERSION\n\
             \x20 keepshare restore {SET}:@10s --to /tmp/then\n\
             \x20 keepshare mount {} DIR\n\n\
             Ctrl-C ends it.\n",
            layout.root.display(),
            user.name,
            user.password,
            user.name,
        )
    })
}

impl TemporaryDir {
    fn create() -> Outcome<Self> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| {
            Failure::new(Code::Failed, format!("there are no random numbers: {error}"))
        })?;
        let name = format!("keepshare-demo-{:016x}", u64::from_le_bytes(bytes));
        let path = std::env::temp_dir().join(name);
        files::create_private_dir(&path).map_err(anyhow::Error::new)?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "the demo's folder is left behind");
        }
    }
}

pub(super) fn set_name() -> SetName {
    SET.parse().expect("a fixed and valid name")
}

fn station_name(name: &str) -> StationName {
    name.parse().expect("a fixed and valid name")
}

/// What the stations are called, and their folders in the demo's.
const MASTER: &str = "master";
const REPLICA: &str = "replica";
const SINGLE: &str = "nas";

/// What a station's config is called in its folder.
const CONFIG: &str = "station.toml";

#[cfg(test)]
mod tests {
    use super::*;

    /// A command that is refused leaves no keys behind.
    #[test]
    fn a_refused_source_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("deep/st");
        let prepare = |source: &Path, state: &Path| {
            let (source, state) = (Some(source.to_owned()), Some(state.to_owned()));
            Layout::prepare(&cli::Demo { single: false, source, state }).map(drop)
        };
        let refused = prepare(dir.path(), &state).unwrap_err();
        assert_eq!(refused.code, Code::Refused);
        assert!(!dir.path().join("deep").exists());
        let source = dir.path().join("source");
        std::fs::create_dir(&source).unwrap();
        prepare(&source, &state).unwrap();
    }
}
