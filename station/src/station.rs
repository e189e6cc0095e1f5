//! A station: its identity, what the cluster agrees on, its sets and users.
//!
//! What it does while it runs is in `service`. A set that cannot be opened is a problem that is shown, and the rest goes on.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use tokio::{runtime::Handle, sync::watch, task::JoinSet};

use keepshare_auth::{Accounts, Audit};
use keepshare_base::{OriginId, SetName, StationName};
use keepshare_control::{Failure, Outcome};
use keepshare_host::shared::SharedDb;
use keepshare_identity::{Enrolment, StationIdentity};
use keepshare_replication::link::LinkOptions;
use keepshare_sets::{
    context::{Receivers, SetContext},
    database,
    parts::{Opened, Running},
    record::{SetPart, SetRecord, number},
    source_folder,
};
use keepshare_web::DrivePorts;

use crate::{
    config::Config,
    drive::Drive,
    https_door::HttpsDoor,
    membership::Membership,
    sessions,
    state::{StateDir, StateLock},
};

/// A running station.
pub struct Station {
    /// What a person set.
    pub config: Config,
    /// Where everything is.
    pub(crate) state: StateDir,
    /// What it is to its cluster.
    pub membership: Arc<Membership>,
    /// Who may log in, and who has.
    pub accounts: Arc<Accounts>,
    /// The network drive.
    pub(crate) drive: Drive,
    /// Where users log in and ask.
    pub(crate) https: Arc<HttpsDoor>,
    /// One set is added after the other, so that what was looked up before one is opened stays true.
    adding: Mutex<()>,
    /// Held for a moment only: everyone who asks for a set waits for it.
    sets: Mutex<Sets>,
    tasks: Mutex<JoinSet<()>>,
    stop: watch::Sender<bool>,
    runtime: Handle,
    _lock: StateLock,
}

#[derive(Default)]
struct Sets {
    records: Vec<SetRecord>,
    running: BTreeMap<SetName, Running>,
    closed: bool,
}

impl Station {
    /// Opens a station and all its sets; the sets run from here on.
    pub async fn open(config: Config) -> Outcome<Arc<Self>> {
        let runtime = Handle::current();
        let station = tokio::task::spawn_blocking(move || Self::open_blocking(config, runtime));
        let station = Arc::new(station.await.context("opening the station failed")??);
        let opened = Arc::clone(&station);
        tokio::task::spawn_blocking(move || opened.open_sets())
            .await
            .context("opening the sets failed")??;
        Ok(station)
    }

    fn open_blocking(config: Config, runtime: Handle) -> Outcome<Self> {
        let state = StateDir::new(&config.state);
        if matches!(
            state.identity().join(keepshare_identity::IDENTITY_FILE).try_exists(),
            Ok(false)
        ) {
            let shown = state.root().display();
            return Err(Failure::not_found(format!("there is no station in {shown}"))
                .hint("keepshare init or keepshare join makes one; the config says where it is"));
        }
        let identity = StationIdentity::load(&state.identity()).map_err(|error| {
            Failure::from(anyhow::Error::new(error).context("the identity is not usable"))
                .hint("take it from a backup, or join again under another name")
        })?;
        let lock = state.lock()?;
        if *identity.name() != config.name {
            return Err(Failure::usage(format!(
                "the config calls this station {}, its certificate {}",
                config.name,
                identity.name()
            ))
            .hint("put the name back, or join again under the new one"));
        }
        let database = database::open_auth(&state.auth_database())?;
        let accounts = open_accounts(&state, &database)?;
        let membership = Arc::new(Membership::open(&state, identity, database)?);
        let sets = Mutex::new(Sets { records: state.load_sets()?, ..Sets::default() });
        let (stop, _) = watch::channel(false);
        let tasks = Mutex::default();
        Ok(Self {
            config,
            state,
            membership,
            accounts,
            drive: Drive::default(),
            https: Arc::default(),
            adding: Mutex::default(),
            sets,
            tasks,
            stop,
            runtime,
            _lock: lock,
        })
    }

    /// Has [`Self::run`] end.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Tells when the station stops.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Returns how links behave.
    pub(crate) fn link_options(&self) -> LinkOptions {
        let bandwidth_bytes_per_s = self.config.bandwidth_bytes_per_s.unwrap_or(0);
        LinkOptions { bandwidth_bytes_per_s, ..LinkOptions::default() }
    }

    /// Runs a task that ends with the station.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn_on(task, &self.runtime);
    }

    /// Returns the sets, by name.
    pub fn sets(&self) -> Vec<(SetRecord, Running)> {
        let sets = self.lock_sets();
        let with_running =
            |record: &SetRecord| Some((record.clone(), sets.running.get(&record.name)?.clone()));
        sets.records.iter().filter_map(with_running).collect()
    }

    /// Returns a set.
    pub fn running(&self, name: &SetName) -> Option<Running> {
        self.lock_sets().running.get(name).cloned()
    }

    /// Has every version of a folder of this machine kept from now on, by the stations that are named: this one may be among
    /// them, and is the one where none is named. Blocks.
    pub fn add_source(
        self: &Arc<Self>,
        name: SetName,
        source: PathBuf,
        to: Vec<StationName>,
    ) -> Outcome<()> {
        // A new set has one slot.
        let origin = OriginId(1);
        let (here, others): (Vec<_>, Vec<_>) =
            to.into_iter().partition(|station| *station == self.config.name);
        let part = if here.is_empty() && !others.is_empty() {
            SetPart::sent(origin, source, others)
        } else {
            SetPart::kept_in_place(origin, self.config.name.clone(), source, others)
        };
        self.add_set(SetRecord::new(name, part)).map(drop)
    }

    /// Adds a set, durable and running when this returns. Blocks.
    pub(crate) fn add_set(self: &Arc<Self>, record: SetRecord) -> Outcome<Running> {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records = {
            let sets = self.lock_sets();
            if sets.closed {
                return Err(Failure::unavailable("the station is stopping"));
            }
            sets.records.clone()
        };
        if records.iter().any(|known| known.name == record.name) {
            return Err(Failure::refused(format!("there is a set '{}' already", record.name))
                .hint("keepshare set list shows the sets of this station"));
        }
        if let Some(folder) = record.part.folder() {
            source_folder::refuse(folder)?;
        }
        records.push(record);
        number(&mut records)?;
        let Some(record) = records.last().cloned() else {
            unreachable!("one was pushed just now");
        };
        // Opened first: a set that cannot run is refused, not remembered.
        let opened = Opened::open(&self.context(), &record).whole()?;
        let remembered = self.remember(&mut records, &record);
        let mut sets = self.lock_sets();
        let remembered = match sets.closed {
            true => remembered.and(Err(Failure::unavailable("the station is stopping"))),
            false => remembered,
        };
        let record = match remembered {
            Ok(record) => record,
            Err(failure) => {
                drop(sets);
                opened.close();
                return Err(failure);
            }
        };
        sets.records = records;
        Ok(self.begin(&mut sets, &record, opened))
    }

    /// Has the cluster agree on a new set, and this station remember its part; returns that part. Blocks.
    fn remember(&self, records: &mut [SetRecord], record: &SetRecord) -> Outcome<SetRecord> {
        let agreed = self.publish_set(record)?;
        for known in records.iter_mut().filter(|known| known.name == agreed.name) {
            *known = agreed.clone();
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        self.state.save_sets(records).inspect_err(|_| self.withdraw_set(&agreed))?;
        Ok(agreed)
    }

    fn open_sets(self: &Arc<Self>) -> Outcome<()> {
        let before = self.lock_sets().records.clone();
        let mut records = before.clone();
        self.agree(&mut records)?;
        number(&mut records)?;
        if records != before {
            self.state.save_sets(&records)?;
        }
        if self.membership.agreed.held().is_some() {
            self.state.put_former_aside(&records)?;
        }
        self.check_orders(&records)?;
        self.lock_sets().records.clone_from(&records);
        let context = self.context();
        for record in records {
            let opened = Opened::open(&context, &record);
            for failure in opened.running.failures() {
                tracing::error!(set = %record.name, error = %failure, "cannot open a set");
            }
            self.begin(&mut self.lock_sets(), &record, opened);
        }
        Ok(())
    }

    /// Refuses a config with orders of stations, or for sets, that are not there.
    fn check_orders(&self, records: &[SetRecord]) -> Outcome<()> {
        let masters: Vec<_> =
            records.iter().filter(|record| record.part.source.is_some()).collect();
        let is_set = |set: &SetName| masters.iter().any(|record| record.name == *set);
        let others = self.membership.others();
        let is_station = |name: &StationName| {
            let mut to = masters.iter().flat_map(|record| &record.part.source).flat_map(|s| &s.to);
            others.iter().any(|member| member.name == *name) || to.any(|to| to == name)
        };
        self.config.orders.check(&self.config.name, is_set, is_station)
    }

    /// Opens the sets again that could not be opened for lack of space, and tells whether it lacks still. Blocks.
    pub(crate) fn reopen_full_sets(&self) -> bool {
        let context = self.context();
        self.reopen_full_sets_with(|record, running| {
            Opened::reopen(&context, record, running, Failure::is_no_space)
        })
    }

    /// Opens them outside of the lock: a set may have to build its index anew, which takes minutes.
    fn reopen_full_sets_with(&self, open: impl Fn(&SetRecord, &Running) -> Opened) -> bool {
        let is_full = |(_, running): &(SetRecord, Running)| running.lacks_space();
        let mut are_full = false;
        for (record, running) in self.sets().into_iter().filter(is_full) {
            let opened = open(&record, &running);
            let mut sets = self.lock_sets();
            if sets.closed {
                drop(sets);
                opened.close();
                return false;
            }
            let running = self.begin(&mut sets, &record, opened);
            if running.failures().next().is_none() {
                tracing::info!(set = %record.name, "there is space again, the set is open");
            }
            are_full |= running.lacks_space();
        }
        are_full
    }

    /// Has what was opened of a set run, and be found by who asks for it.
    fn begin(&self, sets: &mut Sets, record: &SetRecord, opened: Opened) -> Running {
        let running = opened.start(&self.runtime);
        if let Some(copy) = running.copy() {
            let Self { config, accounts, .. } = self;
            let shown = (config.zone, config.doors.show.into());
            self.drive.add(record, copy, shown, accounts.sessions());
        }
        let known = sets.running.entry(record.name.clone()).or_default();
        known.take_over(running);
        known.clone()
    }

    /// Returns what a set needs of this station.
    fn context(&self) -> SetContext {
        SetContext {
            dirs: self.state.sets(),
            here: self.config.name.clone(),
            receivers: Arc::clone(&self.membership.peers) as Arc<dyn Receivers>,
            link: self.link_options(),
            schedules: self.config.schedules,
            zone: self.config.zone,
            logins: Arc::new(sessions::UsersHere(Arc::clone(&self.accounts))),
            orders: Arc::clone(&self.config.orders),
        }
    }

    /// Returns the sets that users can mount here: those that are kept.
    pub fn mountable(&self) -> Vec<SetName> {
        let is_kept = |(record, running): (SetRecord, Running)| running.copy().map(|_| record.name);
        self.sets().into_iter().filter_map(is_kept).collect()
    }

    /// Returns the sets that this station keeps, those that cannot be opened now among them.
    pub fn kept(&self) -> Vec<SetName> {
        let sets = self.lock_sets();
        let kept = sets.records.iter().filter(|record| record.part.copy.is_some());
        kept.map(|record| record.name.clone()).collect()
    }

    /// Returns where the drive is reached: NFS and its mounts have one port.
    pub fn drive_ports(&self) -> Option<DrivePorts> {
        self.config.doors.nfs.map(|at| DrivePorts { nfs: at.port(), mount: at.port() })
    }

    /// On the primary: the cluster's list of stations, its CA and tokens.
    pub fn enrolment(&self) -> Option<&Arc<Enrolment>> {
        self.membership.enrolment.as_ref()
    }

    /// Waits for all tasks to end, and closes the sets.
    pub(crate) async fn close(&self) {
        let running = {
            let mut sets = self.lock_sets();
            sets.closed = true;
            std::mem::take(&mut sets.running)
        };
        running.values().for_each(Running::stop);
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
        for set in running.values() {
            set.ended().await;
        }
        // Closing waits for disks.
        let closed = tokio::task::spawn_blocking(move || running.values().for_each(Running::close));
        match closed.await {
            Ok(()) => database::closed(&self.state.auth_database()),
            Err(error) => tracing::error!(%error, "closing the sets failed"),
        }
        tracing::info!(station = %self.config.name, "stopped");
    }

    fn lock_sets(&self) -> MutexGuard<'_, Sets> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Station").field("name", &self.config.name).finish_non_exhaustive()
    }
}

fn open_accounts(state: &StateDir, database: &SharedDb) -> Outcome<Arc<Accounts>> {
    let audit = Audit::open(state.root());
    let audit = audit.with_context(|| {
        format!("cannot open {}", state.root().join(keepshare_auth::AUDIT_FILE).display())
    })?;
    let accounts = Accounts::open(database.clone(), audit);
    Ok(Arc::new(accounts.context("cannot open the list of users")?))
}

mod agreeing;
#[cfg(test)]
pub(crate) mod tests;
