//! A station's half of the links that bring one set.
//!
//! Hands links and the store to a [`Receiver`] and does what it says. The store has threads of its own; reading from
//! it blocks, so it happens on others. One link at a time brings a set: a newer one takes the older one's place.

mod keeping;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use keepshare_base::{
    CommitId, Epoch, OriginId, RequestId, Seq, SetName, StationName, chain, health::ProblemKind,
};
use keepshare_host::clock;
use keepshare_proto::{
    Frame, Message, MonoTime, RestoreRequest, Text,
    codec::Clocks,
    receiver::{Input, Output, Receiver, ReceiverOptions, Standing, Ticket},
    restore::{RestoreEnd, StationInput, StationOutput},
};
use keepshare_versioning::{
    Arrival, FileState, ReadError, Sent,
    set::{SetStore, Submission},
};

pub use self::keeping::failures;
use self::keeping::watch_status;
use crate::{
    clock::{mono, sleep_until},
    drivers::{Alarms, Wanted, pump::Pump},
    kept::{files_page, names_page, standing},
    link::LinkError,
};

/// One received set, before its loop runs.
#[derive(Debug)]
pub struct Receive {
    /// Which set.
    pub set: SetName,
    /// Which source slot of it.
    pub origin: OriginId,
    /// Where it is kept.
    pub store: Arc<SetStore>,
    /// Links that bring it, each with the hello it began with.
    pub links: mpsc::Receiver<(Pump, Frame)>,
    /// Restores to ask the master for.
    pub asks: mpsc::Receiver<Ask>,
}

/// A restore in place that somebody waits for.
#[derive(Debug)]
pub struct Ask {
    /// What is asked of the master.
    pub request: RestoreRequest,
    /// Where its content is read from.
    pub state: FileState,
    /// It goes on as long as this says so.
    pub wanted: Wanted,
    /// Who waits.
    pub done: oneshot::Sender<RestoreEnd>,
}

/// How a set is being received, for the status page.
#[derive(Clone, Debug, Default)]
pub struct Receiving {
    /// The master at the other end of the link, where there is one.
    pub peer: Option<StationName>,
    /// Since when there has been no link; none where there is one.
    pub away_since: Option<MonoTime>,
    /// The newest change the master told of.
    pub head: Option<(Epoch, Seq)>,
    /// What a person must look at; taken back when things are well again.
    pub alarms: Alarms,
}

/// What the store and threads bring back.
#[expect(clippy::large_enum_variant, reason = "moved once each; most are small")]
enum Done {
    Committed(Ticket, Option<(CommitId, Epoch, Seq)>),
    Standing(Standing, CommitId),
    Unfenced(Epoch),
    Input(Input),
}

struct Driver {
    set: SetName,
    origin: OriginId,
    store: Arc<SetStore>,
    /// What the store's queue had no room for, in order.
    waiting: VecDeque<Box<Submission>>,
    receiver: Receiver,
    /// What was known when the last message came.
    arrived: Option<Arrival>,
    /// The store said that its disk is full, or fails.
    held: Option<String>,
    /// The epoch that the store has no space to agree to yet.
    unfenced: Option<Epoch>,
    /// Complete changes that are committed and not yet in the live tree, oldest first.
    unshown: VecDeque<(CommitId, Epoch, Seq)>,
    /// The last one of those that are in the live tree.
    reached: Option<(CommitId, Epoch, Seq)>,
    /// The receiver knows of that one.
    is_told: bool,
    pump: Option<Pump>,
    jobs: JoinSet<Input>,
    /// Answers of the store, as few as the receiver lets be open.
    answers: mpsc::UnboundedReceiver<Done>,
    answers_to: mpsc::UnboundedSender<Done>,
    asked: HashMap<RequestId, (FileState, Wanted, oneshot::Sender<RestoreEnd>)>,
    shown: watch::Sender<Receiving>,
}

impl Receive {
    /// Receives until `stop` says so.
    pub async fn run(self, shown: watch::Sender<Receiving>, mut stop: watch::Receiver<bool>) {
        let Self { set, origin, store, mut links, mut asks } = self;
        let mut status = watch_status(&store);
        let (answers_to, answers) = mpsc::unbounded_channel();
        let mut tick = tokio::time::interval(TICK);
        let mut driver = Driver {
            receiver: Receiver::new(ReceiverOptions { set: set.clone(), origin }),
            set,
            origin,
            store,
            waiting: VecDeque::new(),
            arrived: None,
            held: None,
            unfenced: None,
            unshown: VecDeque::new(),
            reached: None,
            is_told: false,
            pump: None,
            jobs: JoinSet::new(),
            answers,
            answers_to,
            asked: HashMap::new(),
            shown,
        };
        loop {
            driver.drain();
            let timeout = driver.receiver.poll_timeout();
            let wants_input = driver.receiver.wants_input();
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                Some((pump, hello)) = links.recv() => driver.take_link(pump, hello),
                Some(ask) = asks.recv() => driver.take_ask(ask),
                received = receive(&mut driver.pump, wants_input) => driver.received(received),
                Some(done) = driver.answers.recv() => driver.answered(done),
                Some(done) = driver.jobs.join_next() => driver.done(done),
                Ok(()) = status.changed() => driver.look_at_store(),
                _ = tick.tick() => driver.tick(),
                () = sleep_until(timeout) => driver.timed_out(),
            }
        }
    }
}

impl Driver {
    fn handle(&mut self, input: Input) {
        self.receiver.handle_input(mono(), input);
    }

    fn timed_out(&mut self) {
        if let Some(at) = self.pump.as_ref().and_then(Pump::heard_at) {
            self.handle(Input::Heard { at });
        }
        self.handle(Input::TimedOut);
    }

    fn drain(&mut self) {
        while let Some(output) = self.receiver.poll_output() {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Send(frame) => {
                if let Some(pump) = &self.pump {
                    pump.send(frame);
                }
            }
            Output::Disconnect { reason } => {
                tracing::info!(set = %self.set, %reason, "link closed");
                self.hang_up();
            }
            Output::ReadStanding => {
                let (reader, origin) = (self.store.reader(), self.origin);
                let answers = self.answers_to.clone();
                tokio::task::spawn_blocking(move || {
                    let read = reader.view().and_then(|view| {
                        Ok(Done::Standing(standing(&view, origin)?, view.latest()))
                    });
                    // A loop that has ended needs no answer.
                    let _ =
                        answers.send(read.unwrap_or_else(|error| Done::Input(unreadable(error))));
                });
            }
            Output::Fence { epoch } => self.fence(epoch),
            Output::Commit(commit) => self.commit(commit),
            Output::ListNames { listing, after, limit } => {
                let reader = self.store.reader();
                self.read(move || {
                    let lines = names_page(&reader, after, limit)?;
                    let end = lines.len() < limit;
                    Ok(Input::NamesPage { listing, lines, end })
                });
            }
            Output::ListFiles { listing, after, limit } => {
                let reader = self.store.reader();
                self.read(move || {
                    let lines = files_page(&reader, after, limit)?;
                    let end = lines.len() < limit;
                    Ok(Input::FilesPage { listing, lines, end })
                });
            }
            Output::Alarm { text } => self.alarm(text.as_str()),
            Output::Restore(output) => self.restore(output),
        }
    }

    /// Reads the store on a thread; what cannot be read ends the link, and the next one tries again.
    fn read(&mut self, read: impl FnOnce() -> Result<Input, ReadError> + Send + 'static) {
        self.jobs.spawn_blocking(move || read().unwrap_or_else(unreadable));
    }

    fn restore(&mut self, output: StationOutput) {
        match output {
            StationOutput::ReadVersion { request, offset, len } => {
                let Some((state, wanted, _)) = self.asked.get(&request) else { return };
                let (reader, state, wanted) = (self.store.reader(), state.clone(), wanted.clone());
                self.jobs.spawn_blocking(move || {
                    if !wanted.is_wanted() {
                        let reason = Text::new("nobody wants it any more");
                        return Input::Restore(StationInput::NotRead { request, reason });
                    }
                    Input::Restore(match reader.read(&state, offset, len) {
                        Ok(bytes) => StationInput::Content { request, offset, bytes },
                        Err(error) => {
                            let reason = Text::new(&chain(&error));
                            match error {
                                // It is built anew.
                                ReadError::Index(_) => StationInput::NotRead { request, reason },
                                _ => StationInput::Unreadable { request, reason },
                            }
                        }
                    })
                });
            }
            StationOutput::Ended { request, end } => {
                if let Some((_, _, done)) = self.asked.remove(&request) {
                    // Who asked may be gone.
                    let _ = done.send(end);
                }
            }
        }
    }

    fn take_link(&mut self, pump: Pump, hello: Frame) {
        if self.pump.is_some() {
            tracing::info!(set = %self.set, "a new link takes the place of an old one");
            self.hang_up();
            self.handle(Input::Disconnected);
            self.drain();
        }
        let peer = pump.peer.clone();
        tracing::info!(set = %self.set, %peer, "connected");
        if let Message::Hello(greeting) = &hello.message {
            self.saw_head(greeting.epoch, greeting.head);
        }
        self.shown.send_modify(|shown| {
            (shown.peer, shown.away_since) = (Some(peer.clone()), None);
        });
        self.pump = Some(pump);
        self.handle(Input::Connected { peer });
        self.handle(Input::Received(hello));
    }

    fn take_ask(&mut self, ask: Ask) {
        let Ask { request, state, wanted, done } = ask;
        if self.pump.is_none() {
            // Nobody waits a minute for a master that is away.
            let _ = done.send(RestoreEnd::NotAsked(Text::new("the master is not connected")));
            return;
        }
        self.asked.insert(request.request, (state, wanted, done));
        self.handle(Input::Restore(StationInput::Ask(request)));
    }

    fn received(&mut self, received: Result<Frame, LinkError>) {
        match received {
            Ok(frame) => {
                self.arrived = self.pump.as_ref().map(|pump| arrival(pump.clocks()));
                self.handle(Input::Received(frame));
            }
            Err(error) => {
                if let Some(pump) = &self.pump {
                    pump.tell_why(&error);
                }
                let error = chain(&error);
                tracing::info!(set = %self.set, %error, "link lost");
                self.hang_up();
                self.handle(Input::Disconnected);
            }
        }
    }

    fn answered(&mut self, first: Done) {
        self.submit();
        let mut committed = None;
        let mut next = Some(first);
        while let Some(done) = next {
            match done {
                // Many changes become durable at once, and are acknowledged at once.
                Done::Committed(through, place) => {
                    committed = Some(through);
                    if place.is_some() {
                        self.is_well();
                    }
                    self.unshown.extend(place);
                }
                Done::Standing(standing, latest) => {
                    self.take_committed(&mut committed);
                    let place = standing.place.map(|place| (latest, place.epoch, place.seq));
                    self.unshown.extend(place);
                    self.handle(Input::Standing(standing));
                }
                Done::Unfenced(epoch) => self.unfenced = Some(epoch),
                Done::Input(input) => {
                    self.take_committed(&mut committed);
                    self.take_input(input);
                }
            }
            next = self.answers.try_recv().ok();
        }
        self.take_committed(&mut committed);
        self.show_live();
    }

    fn take_committed(&mut self, committed: &mut Option<Ticket>) {
        if let Some(through) = committed.take() {
            self.handle(Input::Committed { through });
        }
    }

    fn take_input(&mut self, input: Input) {
        if matches!(input, Input::Disconnected) {
            self.hang_up();
        }
        self.handle(input);
    }

    fn done(&mut self, done: Result<Input, tokio::task::JoinError>) {
        match done {
            Ok(input) => self.take_input(input),
            Err(error) => {
                tracing::error!(set = %self.set, %error, "a task of a link failed");
                self.take_input(Input::Disconnected);
            }
        }
    }

    fn hang_up(&mut self) {
        self.pump = None;
        self.shown.send_modify(|shown| {
            shown.peer = None;
            shown.away_since.get_or_insert_with(mono);
        });
    }

    fn saw_head(&self, epoch: Epoch, seq: Seq) {
        self.shown.send_if_modified(|shown| {
            let newer = shown.head < Some((epoch, seq));
            if newer {
                shown.head = Some((epoch, seq));
            }
            newer
        });
    }

    /// A complete change, or a mirror to its end, is durable: what was refused before has been mended.
    fn is_well(&self) {
        self.shown.send_if_modified(|shown| shown.alarms.clear());
    }

    fn alarm(&self, text: &str) {
        if self.shown.send_if_modified(|shown| shown.alarms.raise(ProblemKind::Refused, text)) {
            tracing::error!(set = %self.set, alarm = text, "replication needs a person");
        }
    }
}

/// Returns what is known of a message that comes now.
fn arrival(clocks: Clocks) -> Arrival {
    let Clocks { sent, heard } = clocks;
    let sent = sent.map(|clock| Sent { clock, heard });
    Arrival { clock: clock::now(), up_micros: Some(clock::up_micros()), sent }
}

/// Ends the link of a set that cannot be read; the next one tries again.
fn unreadable(error: ReadError) -> Input {
    tracing::error!(error = chain(&error), "cannot read the set");
    Input::Disconnected
}

/// How often the store hears what time it is.
const TICK: Duration = Duration::from_secs(1);

async fn receive(pump: &mut Option<Pump>, wants_input: bool) -> Result<Frame, LinkError> {
    match pump {
        Some(pump) if wants_input => pump.recv().await,
        _ => std::future::pending().await,
    }
}
