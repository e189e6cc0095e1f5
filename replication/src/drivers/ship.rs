//! A master's half of the link to one destination of a set.
//!
//! Hands the journal, the link and the mirrors to a [`Shipper`] and does what it says. Reading the journal and finding
//! what differs block, so they run on threads; this loop only waits for all of it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};

use keepshare_base::{
    Epoch, OriginId, Position, RunningHash, Seq, SetName, StationName, chain, health::Stop,
};
use keepshare_proto::{
    Frame, MonoTime, Place, SetSettings,
    epochs::{Disagreement, Verdict},
    shipper::{AlarmKind, Doing, Head, Input, JournalEntry, Output, Shipper, ShipperOptions},
};

use crate::{
    clock,
    drivers::{
        agreement::Agreement,
        alarms::{Alarms, problem_kind},
        mirror::{Mirror, MirrorShown},
        pump::Pump,
        restores::MasterRestores,
        way::Way,
    },
    link::{LinkCounts, LinkError},
    source::{SourceError, SourceHandle},
};

/// One destination of a set, before its loop runs.
#[derive(Debug)]
pub struct Ship {
    /// Which set.
    pub set: SetName,
    /// Which source slot of it.
    pub origin: OriginId,
    /// Who receives it.
    pub to: StationName,
    /// The journal.
    pub source: SourceHandle,
    /// What all destinations of the set say of the journal.
    pub agreement: Arc<Agreement>,
    /// Somebody wants this destination mirrored.
    pub mirror_wanted: Arc<Notify>,
    /// How it is reached.
    pub way: Way,
    /// Where restores put content aside.
    pub restores: MasterRestores,
}

/// How a destination is, for the status page.
#[derive(Clone, Debug, Default)]
pub struct Shipping {
    /// What the shipper is doing; none before it knows the journal.
    pub doing: Option<Doing>,
    /// The newest change that is durable there.
    pub acked: Option<Place>,
    /// The newest change that its live tree shows.
    pub live: Option<(Epoch, Seq)>,
    /// How far a mirror is.
    pub mirror: Option<MirrorShown>,
    /// What went over all links since the start.
    pub counts: LinkCounts,
    /// Since when there has been no link; none where there is one.
    pub away_since: Option<MonoTime>,
    /// Why there is no link.
    pub error: Option<String>,
    /// What a person must look at; taken back when things are well again.
    pub alarms: Alarms,
    /// Why nothing is sent to it until a person decides.
    pub stopped: Option<Stop>,
}

/// What threads and other tasks bring back.
enum Done {
    Input(Input),
    /// By the dialling of this number.
    Dialled(u64, Result<Pump, String>),
    Nothing,
}

struct Driver {
    ship: Ship,
    shipper: Shipper,
    pump: Option<Pump>,
    /// Work on threads, and connections being made.
    jobs: JoinSet<Done>,
    /// What mirrors and restores bring; the shipper asks for each, so that they stay few.
    events: mpsc::UnboundedReceiver<Input>,
    events_to: mpsc::UnboundedSender<Input>,
    mirror: Option<Mirror>,
    dialling: bool,
    fenced: watch::Receiver<Option<StationName>>,
    /// How often it was dialled; what an earlier one brings is not wanted any more.
    dials: u64,
    /// What was dialled last.
    dialled: Option<String>,
    /// What went over the links before the present one.
    past: LinkCounts,
    shown: watch::Sender<Shipping>,
}

/// How often the counts of the link are shown anew.
const SHOW_EVERY: Duration = Duration::from_millis(500);

impl Ship {
    /// Ships until `stop` says so.
    pub async fn run(self, shown: watch::Sender<Shipping>, mut stop: watch::Receiver<bool>) {
        let (mut heads, mut moves) = (self.source.watch(), self.way.moves());
        let mut driver = Driver::new(self, shown).await;
        driver.look_at_journal();
        let mut tick = tokio::time::interval(SHOW_EVERY);
        let wanted = Arc::clone(&driver.ship.mirror_wanted);
        loop {
            driver.drain();
            driver.show_progress();
            let timeout = driver.shipper.poll_timeout();
            let input = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                received = receive(&mut driver.pump) => driver.received(received),
                Some(done) = driver.jobs.join_next() => driver.done(done),
                Some(input) = driver.events.recv() => Some(input),
                Ok(()) = heads.changed() => {
                    driver.look_at_journal();
                    None
                }
                () = wanted.notified() => Some(Input::MirrorWanted),
                Ok(()) = driver.fenced.changed() => driver.stop_where_fenced(),
                Ok(()) = moves.changed() => driver.look_at_address(),
                () = clock::sleep_until(timeout) => driver.timed_out(),
                _ = tick.tick() => {
                    driver.show();
                    None
                }
            };
            if let Some(input) = input {
                driver.handle(input);
            }
        }
    }
}

impl Driver {
    async fn new(ship: Ship, shown: watch::Sender<Shipping>) -> Self {
        let (source, to) = (ship.source.clone(), ship.to.clone());
        let acked = tokio::task::spawn_blocking(move || last_acked(&source, to.as_str())).await;
        let acked = acked.ok().flatten();
        let options = ShipperOptions {
            set: ship.set.clone(),
            origin: ship.origin,
            settings: SetSettings::default(),
            acked,
            seed: clock::mono().0 ^ u64::from(std::process::id()),
        };
        let (events_to, events) = mpsc::unbounded_channel();
        Self {
            fenced: ship.agreement.fenced(),
            shipper: Shipper::new(options),
            ship,
            pump: None,
            jobs: JoinSet::new(),
            events,
            events_to,
            mirror: None,
            dialling: false,
            dials: 0,
            dialled: None,
            past: LinkCounts::default(),
            shown,
        }
    }

    fn handle(&mut self, input: Input) {
        self.shipper.handle_input(clock::mono(), input);
    }

    fn timed_out(&mut self) -> Option<Input> {
        let (heard, left) =
            self.pump.as_ref().map_or((None, None), |p| (p.heard_at(), p.left_at()));
        let heard = heard.map(|at| Input::Heard { at });
        let left = left.map(|at| Input::Left { at });
        heard.into_iter().chain(left).for_each(|input| self.handle(input));
        Some(Input::TimedOut)
    }

    fn drain(&mut self) {
        while let Some(output) = self.shipper.poll_output() {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Connect => self.dial(),
            Output::Disconnect { reason } => {
                tracing::debug!(set = %self.ship.set, peer = %self.ship.to, %reason, "link closed");
                self.show_error(Some(reason.as_str().to_owned()));
                self.hang_up();
            }
            Output::Send(frame) => {
                if let Some(pump) = &self.pump {
                    pump.send(frame);
                }
            }
            Output::ReadHash { seq } => self.read_hash(seq),
            Output::Read { from, bytes_max } => self.read(from, bytes_max),
            Output::StartMirror { mirror, reason } => {
                tracing::info!(set = %self.ship.set, peer = %self.ship.to, ?reason, "mirroring");
                let (source, events) = (self.ship.source.clone(), self.events_to.clone());
                let agreement = Arc::clone(&self.ship.agreement);
                self.mirror = Some(Mirror::start(mirror, source, agreement, events));
            }
            Output::Listing { mirror, page } => {
                if let Some(running) = self.mirror.as_mut().filter(|running| running.id() == mirror)
                {
                    running.page(page);
                }
            }
            Output::ReadMirror { mirror, bytes_max } => {
                if let Some(running) = self.mirror.as_mut().filter(|running| running.id() == mirror)
                {
                    running.read(bytes_max);
                }
            }
            Output::StopMirror { mirror } => {
                self.mirror.take_if(|running| running.id() == mirror);
            }
            Output::Disagrees { told, disagreement } => self.judge(told, disagreement),
            Output::Acked(place) => {
                self.ship.source.acked(self.ship.to.as_str(), place.epoch, place.seq);
                self.shown.send_modify(|shown| {
                    shown.alarms.clear();
                });
            }
            Output::Alarm { kind, text } => self.alarm(kind, text.as_str()),
            Output::Restore(output) => {
                self.ship.restores.perform(output, &self.ship.source, &self.events_to);
            }
        }
    }

    fn dial(&mut self) {
        if self.dialling {
            return;
        }
        let by = self.fenced.borrow().clone();
        if let Some(by) = by {
            self.stop(Stop::Fenced(by));
            return self.handle(Input::Disconnected);
        }
        self.dialling = true;
        self.dials += 1;
        let Ship { way, to, .. } = &self.ship;
        self.dialled = way.address(to);
        let (number, dialling) = (self.dials, way.clone().dial(to.clone(), self.dialled.clone()));
        self.jobs.spawn(async move { Done::Dialled(number, dialling.await) });
    }

    /// Has the destination dialled anew where it is reached elsewhere now. One that is not to be reached any more loses its link.
    fn look_at_address(&mut self) -> Option<Input> {
        let address = self.ship.way.address(&self.ship.to);
        if self.dialled.is_none() || address == self.dialled {
            return None;
        }
        self.dialling = false;
        self.dials += 1;
        Some(Input::Moved)
    }

    /// Asks the journal how it is now; it answers from a thread.
    fn look_at_journal(&mut self) {
        let source = self.ship.source.clone();
        self.jobs.spawn_blocking(move || {
            let head = source.head();
            let oldest = source.oldest().unwrap_or(head.seq.next());
            Done::Input(Input::Journal(Head { epoch: head.epoch, seq: head.seq, oldest }))
        });
    }

    fn read_hash(&mut self, seq: Seq) {
        let source = self.ship.source.clone();
        self.jobs.spawn_blocking(move || {
            let running = if seq == Seq(0) {
                Some(RunningHash::EMPTY)
            } else {
                source.running_at(seq).unwrap_or_else(|error| {
                    tracing::error!(%error, "cannot read the journal");
                    None
                })
            };
            Done::Input(Input::JournalHash { seq, running })
        });
    }

    fn read(&mut self, from: Seq, bytes_max: usize) {
        let (source, origin) = (self.ship.source.clone(), self.ship.origin);
        self.jobs.spawn_blocking(move || {
            let epoch = source.head().epoch;
            let input = match source.entries(from, bytes_max as u64) {
                // Between the two looks a new epoch may have begun, and the seqs be another journal's.
                Ok(_) if source.head().epoch != epoch => Input::JournalGone { from },
                Ok(entries) if !entries.is_empty() => {
                    let entry = |entry: crate::source::JournaledChange| JournalEntry {
                        position: Position { origin, epoch, seq: entry.seq },
                        running: entry.running,
                        filled: entry.filled,
                    };
                    Input::JournalRead(entries.into_iter().map(entry).collect())
                }
                Ok(_) => Input::JournalGone { from },
                Err(error) => {
                    if !matches!(error, SourceError::Gone(_)) {
                        tracing::error!(%error, "cannot read the journal");
                    }
                    Input::JournalGone { from }
                }
            };
            Done::Input(input)
        });
    }

    /// Finds out with the other destinations what to do about one whose history is another.
    fn judge(&mut self, told: Epoch, disagreement: Disagreement) {
        let Ship { set, to, source, agreement, way, .. } = &self.ship;
        let disagreement = way.meaning(disagreement);
        let verdict = agreement.judge(to, disagreement, told, source);
        tracing::warn!(%set, peer = %to, ?disagreement, ?verdict, "the station has another history");
        if let Verdict::NewEpoch { above } = verdict {
            self.new_epoch(above);
        }
        self.handle(Input::Judged(verdict));
    }

    /// Ends the link where another destination told that another master has the set.
    fn stop_where_fenced(&mut self) -> Option<Input> {
        let by = self.fenced.borrow_and_update().clone()?;
        (by != self.ship.to && self.pump.is_some()).then(|| {
            self.hang_up();
            Input::Disconnected
        })
    }

    fn new_epoch(&mut self, above: Epoch) {
        let (source, agreement) = (self.ship.source.clone(), Arc::clone(&self.ship.agreement));
        self.jobs.spawn_blocking(move || {
            if let Err(error) = agreement.begin_epoch(&source, above) {
                tracing::error!(%error, "cannot begin a new epoch");
            }
            // The head's watch tells the shipper.
            Done::Nothing
        });
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) -> Option<Input> {
        match done {
            Ok(Done::Input(input)) => {
                if matches!(input, Input::JournalGone { .. }) {
                    // Whether it is there for the next try is known by then.
                    self.look_at_journal();
                }
                Some(input)
            }
            Ok(Done::Nothing) => None,
            Ok(Done::Dialled(dial, _)) if dial != self.dials => None,
            Ok(Done::Dialled(_, Ok(pump))) => {
                self.dialling = false;
                self.pump = Some(pump);
                self.show_error(None);
                tracing::info!(set = %self.ship.set, peer = %self.ship.to, "connected");
                Some(Input::Connected)
            }
            Ok(Done::Dialled(_, Err(error))) => {
                self.dialling = false;
                self.ship.agreement.away(&self.ship.to);
                tracing::debug!(set = %self.ship.set, peer = %self.ship.to, %error, "not connected");
                self.show_error(Some(error));
                Some(Input::Disconnected)
            }
            Err(error) => {
                tracing::error!(%error, "a task of a link failed");
                self.hang_up();
                Some(Input::Disconnected)
            }
        }
    }

    fn received(&mut self, received: Result<Frame, LinkError>) -> Option<Input> {
        match received {
            Ok(frame) => Some(Input::Received(frame)),
            Err(error) => {
                if let Some(pump) = &self.pump {
                    pump.tell_why(&error);
                }
                let error = chain(&error);
                tracing::info!(set = %self.ship.set, peer = %self.ship.to, %error, "link lost");
                self.show_error(Some(error));
                self.ship.agreement.away(&self.ship.to);
                self.hang_up();
                Some(Input::Disconnected)
            }
        }
    }

    fn hang_up(&mut self) {
        if let Some(pump) = self.pump.take() {
            self.past = sum(self.past, pump.counts());
        }
        self.mirror = None;
    }

    /// Shows at once what the shipper reached.
    fn show_progress(&self) {
        let is_shown = {
            let shown = self.shown.borrow();
            shown.acked == self.shipper.acked()
                && shown.live == self.shipper.live()
                && shown.doing.as_ref() == Some(&self.shipper.doing())
        };
        if !is_shown {
            if matches!(self.shipper.doing(), Doing::Following | Doing::Mirroring(_)) {
                self.ship.agreement.agrees(&self.ship.to);
                self.shown.send_modify(|shown| shown.stopped = None);
            }
            self.show();
        }
    }

    /// Shows that nothing is sent until a person decides.
    fn stop(&self, why: Stop) {
        self.shown.send_modify(|shown| shown.stopped = Some(why));
    }

    fn show(&self) {
        let counts =
            sum(self.past, self.pump.as_ref().map_or_else(LinkCounts::default, Pump::counts));
        let (doing, acked) = (self.shipper.doing(), self.shipper.acked());
        let live = self.shipper.live();
        let mirror = self.mirror.as_ref().map(Mirror::shown);
        self.shown.send_modify(|shown| {
            shown.counts = counts;
            shown.away_since = match doing {
                Doing::Away => shown.away_since.or_else(|| Some(clock::mono())),
                _ => None,
            };
            shown.doing = Some(doing);
            shown.acked = acked;
            shown.live = live;
            shown.mirror = mirror;
        });
    }

    fn show_error(&self, error: Option<String>) {
        self.shown.send_modify(|shown| shown.error = error);
        self.show();
    }

    fn alarm(&self, kind: AlarmKind, text: &str) {
        match kind {
            AlarmKind::Fenced => self.stop(Stop::Fenced(self.ship.to.clone())),
            AlarmKind::Disagrees => self.stop(Stop::Disagrees(text.to_owned())),
            _ => {}
        }
        if self.shown.send_if_modified(|shown| shown.alarms.raise(problem_kind(kind), text)) {
            tracing::error!(set = %self.ship.set, peer = %self.ship.to, alarm = text, "replication needs a person");
        }
    }
}

/// Returns the place that a destination is known to have reached.
fn last_acked(source: &SourceHandle, to: &str) -> Option<Place> {
    let seq = source.acked_by(to).filter(|seq| *seq > Seq(0))?;
    let running = source.running_at(seq).ok().flatten()?;
    Some(Place { epoch: source.head().epoch, seq, running })
}

async fn receive(pump: &mut Option<Pump>) -> Result<Frame, LinkError> {
    match pump {
        Some(pump) => pump.recv().await,
        None => std::future::pending().await,
    }
}

fn sum(a: LinkCounts, b: LinkCounts) -> LinkCounts {
    LinkCounts {
        sent_bytes: a.sent_bytes + b.sent_bytes,
        received_bytes: a.received_bytes + b.received_bytes,
        sent_raw_bytes: a.sent_raw_bytes + b.sent_raw_bytes,
        received_raw_bytes: a.received_raw_bytes + b.received_raw_bytes,
        queued_bytes: b.queued_bytes,
    }
}
