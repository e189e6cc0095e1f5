//! The station under attack: the real receiver, store and live tree in one thread, and virtual time.
//!
//! What a receiver wants done is done as a station's driver does it; the store answers later, in the order in which it was asked.

use std::collections::{HashMap, VecDeque};

use keepshare_base::{Epoch, OriginId, RequestId, Seq, Stamp};
use keepshare_proto::{
    Frame, Message, MonoTime, RestoreRequest, Text,
    codec::{Clocks, DecodeError, decode_told, parse_lengths},
    receiver::{Commit, Input, Output, Receiver, ReceiverOptions, Ticket},
    restore::{StationInput, StationOutput},
};
use keepshare_replication::kept::{files_page, names_page, standing};
use keepshare_versioning::{
    Arrival, CommitError, FileState, Incoming, ReadError, Reader, Sent, Store, StoreError,
    StoreOptions, View, disk::sim::Crash,
};

use super::{folders::Folders, platter::Platter};

/// The one origin.
pub(crate) const ORIGIN: OriginId = OriginId(1);

/// A second, in microseconds.
pub(crate) const SECOND: u64 = 1_000_000;

/// What the station's clock says when its time begins: 2025-11-20.
pub(crate) const START: Stamp = Stamp(1_763_600_000_000_000);

/// So many frames may wait for a master that does not read; the rest of what it sends is not read then.
const WAITING_MAX: usize = 32 * 1024;

/// The most frames with which one message is answered at once.
const ANSWERS_MAX: usize = 64;

/// So much must be free for changes to be taken.
const RESERVE_BYTES: u64 = 16 << 20;

/// The steps of upkeep that follow each other.
const UPKEEP_STEPS: usize = 4;

/// The most changes that become durable with one sync.
const GROUP_MAX: usize = 512;

/// The most content that becomes durable with one sync, but for a single change.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// A station.
pub(crate) struct Station {
    pub(crate) platter: Platter,
    store: Option<Store>,
    pub(crate) folders: Folders,
    receiver: Receiver,
    /// Microseconds since the beginning.
    pub(crate) now: u64,
    connected: bool,
    bytes: Vec<u8>,
    clocks: Clocks,
    /// Submitted and not with the store yet.
    queue: VecDeque<(Commit, Arrival)>,
    /// What the store and readers have answered and the receiver does not know.
    answers: VecDeque<Answer>,
    /// Everything that the master may read.
    sent: Vec<Frame>,
    is_full: bool,
    /// A part of a mirror was taken, and not yet its end.
    in_mirror: bool,
    asked: HashMap<RequestId, FileState>,
    pub(crate) seen: Seen,
}

/// What happened, so that a test can tell that it did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Changes and parts that were taken.
    pub(crate) taken: u64,
    /// Changes that the store refused.
    pub(crate) refused: u64,
    /// Messages that the receiver refused.
    pub(crate) alarms: u64,
    /// Frames that are none.
    pub(crate) undecodable: u64,
    /// Mirrors that came to their end.
    pub(crate) mirrors: u64,
    /// Epochs agreed to.
    pub(crate) epochs: u64,
    /// Crashes of the station.
    pub(crate) crashes: u64,
    /// Times that the disk was full.
    pub(crate) full: u64,
}

#[expect(clippy::large_enum_variant, reason = "there are few, moved once each")]
enum Answer {
    Committed(Ticket),
    Input(Input),
}

impl Station {
    /// Returns a new one.
    pub(crate) fn new() -> Self {
        let (platter, folders) = (Platter::new(), Folders::new());
        let mut station = Self {
            store: Some(open(&platter)),
            platter,
            folders,
            receiver: new_receiver(),
            now: 0,
            connected: false,
            bytes: Vec::new(),
            clocks: Clocks::default(),
            queue: VecDeque::new(),
            answers: VecDeque::new(),
            sent: Vec::new(),
            is_full: false,
            in_mirror: false,
            asked: HashMap::new(),
            seen: Seen::default(),
        };
        station.folders.open();
        station
    }

    /// Returns what the station's clock says.
    pub(crate) fn clock(&self) -> Stamp {
        START.plus_micros(i64::try_from(self.now).expect("virtual time is short"))
    }

    /// A master connects; the newer link takes the older one's place.
    pub(crate) fn connect(&mut self) {
        self.disconnect();
        self.connected = true;
        self.sent.clear();
        self.handle(Input::Connected { peer: "office".parse().expect("a station name") });
    }

    /// The link ends.
    pub(crate) fn disconnect(&mut self) {
        if self.connected {
            self.hang_up();
            self.handle(Input::Disconnected);
        }
    }

    /// Tells whether there is a link.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Tells whether more may be read before the store has done something.
    pub(crate) fn wants_input(&self) -> bool {
        self.receiver.wants_input()
    }

    /// Takes bytes from the link.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        if !self.connected {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.bytes);
        let mut rest = bytes.as_slice();
        while self.connected {
            match next_frame(rest) {
                Ok(None) => {
                    self.bytes = rest.to_vec();
                    return;
                }
                Ok(Some((frame, clocks, used))) => {
                    rest = &rest[used..];
                    self.clocks = clocks;
                    while !self.receiver.wants_input() && self.connected {
                        self.answer_all();
                    }
                    // Whoever asks and does not read the answers only holds itself up.
                    if self.sent.len() >= WAITING_MAX {
                        return;
                    }
                    let before = self.sent.len();
                    self.handle(Input::Received(frame));
                    let answers = self.sent.len().saturating_sub(before);
                    assert!(answers <= ANSWERS_MAX, "one message has {answers} answers");
                }
                Err(error) => {
                    self.seen.undecodable += 1;
                    self.sent.push(error.answer().into());
                    self.hang_up();
                    return self.handle(Input::Disconnected);
                }
            }
        }
    }

    /// Returns what the station said since it was asked last.
    pub(crate) fn read(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.sent)
    }

    /// Does everything that waits.
    pub(crate) fn settle(&mut self) {
        while !self.is_full && !self.queue.is_empty() || !self.answers.is_empty() {
            self.answer_all();
        }
        self.follow();
    }

    /// Does one thing that waits, if any does.
    pub(crate) fn nudge(&mut self) {
        if self.answers.is_empty() {
            self.commit_group(8);
        } else {
            self.answer_one();
        }
    }

    /// Lets time pass, a second at a time where that is not too long.
    pub(crate) fn pass(&mut self, micros: u64) {
        let steps = micros.div_ceil(SECOND).clamp(1, 15);
        for _ in 0..steps {
            self.now += micros / steps;
            let due = self.receiver.poll_timeout();
            if due.is_some_and(|due| due.0 <= self.now) {
                self.handle(Input::TimedOut);
            }
            self.tick();
        }
    }

    /// The station stops without warning and starts again.
    pub(crate) fn crash(&mut self, crash: Crash, index_lost: bool) {
        self.store = None;
        self.platter = self.platter.reopen(crash);
        if index_lost {
            // Where a crash lost even its name there is none.
            let _ = self.platter.disk().remove("index.redb");
        }
        self.store = Some(open(&self.platter));
        self.folders.crash();
        self.receiver = new_receiver();
        self.connected = false;
        self.bytes.clear();
        self.queue.clear();
        self.answers.clear();
        self.sent.clear();
        self.asked.clear();
        self.is_full = false;
        self.platter.leave(None);
        self.seen.crashes += 1;
    }

    /// The disk is full from now on, or has room again.
    pub(crate) fn set_full(&mut self, is_full: bool) {
        self.platter.leave(is_full.then_some(RESERVE_BYTES - 1));
        if !is_full {
            self.tick();
        }
    }

    /// Somebody asks for a version to be written back.
    pub(crate) fn ask_for(&mut self, request: RestoreRequest, state: FileState) {
        if self.connected {
            self.asked.insert(request.request, state);
            self.handle(Input::Restore(StationInput::Ask(request)));
        }
    }

    pub(crate) fn reader(&self) -> Reader {
        self.store().reader()
    }

    /// Returns what is durable.
    pub(crate) fn view(&self) -> View {
        self.reader().view().expect("a set that can be read")
    }

    /// Makes the live tree equal to what is durable.
    pub(crate) fn follow(&mut self) {
        let reader = self.reader();
        self.folders.follow(&reader);
        let last = self.view().position(ORIGIN).expect("a place that can be read");
        let last = last.filter(|place| place.mirror.is_none()).and_then(|place| place.last);
        if let Some((epoch, through, _)) = last
            && self.folders.has_no_problem()
        {
            self.handle(Input::Live { epoch, through });
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    fn arrival(&self) -> Arrival {
        let Clocks { sent, heard } = self.clocks;
        let sent = sent.map(|clock| Sent { clock, heard });
        Arrival { clock: self.clock(), up_micros: Some(self.now), sent }
    }

    fn hang_up(&mut self) {
        self.connected = false;
        self.bytes.clear();
    }

    fn handle(&mut self, input: Input) {
        assert!(!matches!(input, Input::Stopped { .. }), "the set stopped: {input:?}");
        self.receiver.handle_input(MonoTime(self.now), input);
        while let Some(output) = self.receiver.poll_output() {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        let answer = match output {
            Output::Send(frame) => {
                if self.connected {
                    self.sent.push(frame);
                }
                return;
            }
            Output::Disconnect { .. } => return self.hang_up(),
            Output::Alarm { .. } => {
                self.seen.alarms += 1;
                return;
            }
            Output::Commit(commit) => {
                let arrival = self.arrival();
                return self.queue.push_back((commit, arrival));
            }
            Output::ReadStanding => {
                Input::Standing(standing(&self.view(), ORIGIN).expect("a set that can be read"))
            }
            Output::Fence { epoch } => self.fence(epoch),
            Output::ListNames { listing, after, limit } => {
                let lines = told(names_page(&self.reader(), after, limit));
                let end = lines.len() < limit;
                Input::NamesPage { listing, lines, end }
            }
            Output::ListFiles { listing, after, limit } => {
                let lines = told(files_page(&self.reader(), after, limit));
                let end = lines.len() < limit;
                Input::FilesPage { listing, lines, end }
            }
            Output::Restore(StationOutput::ReadVersion { request, offset, len }) => {
                let Some(state) = self.asked.get(&request) else { return };
                let bytes = told(self.reader().read(state, offset, len));
                Input::Restore(StationInput::Content { request, offset, bytes })
            }
            Output::Restore(StationOutput::Ended { request, .. }) => {
                self.asked.remove(&request);
                return;
            }
        };
        self.answers.push_back(Answer::Input(answer));
    }

    fn fence(&mut self, epoch: Epoch) -> Input {
        let clock = self.clock();
        let store = self.store.as_mut().expect("it is open");
        store.fence(clock, ORIGIN, epoch).expect("the receiver lets none through that cannot be");
        store.sync().expect("a disk that works");
        self.seen.epochs += 1;
        Input::Fenced { epoch }
    }

    fn answer_all(&mut self) {
        while !self.answers.is_empty() {
            self.answer_one();
        }
        self.commit_group(GROUP_MAX);
        if self.is_full {
            // Nothing goes on until there is room.
            self.set_full(false);
        }
    }

    fn answer_one(&mut self) {
        match self.answers.pop_front() {
            Some(Answer::Committed(mut through)) => {
                // Many become durable at once, and are acknowledged at once.
                while let Some(Answer::Committed(next)) = self.answers.front() {
                    through = *next;
                    self.answers.pop_front();
                }
                self.handle(Input::Committed { through });
            }
            Some(Answer::Input(input)) => self.handle(input),
            None => {}
        }
    }

    /// Gives the store what waits for it, up to so many changes, and makes that durable.
    fn commit_group(&mut self, limit: usize) {
        let (mut bytes, mut done) = (0, Vec::new());
        while done.len() < limit && bytes < GROUP_BYTES_MAX {
            let Some((commit, arrival)) = self.queue.pop_front() else { break };
            bytes += commit.filled.payload.len();
            let Commit { ticket, position, running, complete, filled } = commit;
            let incoming = Incoming { position, complete, running, filled };
            let store = self.store.as_mut().expect("it is open");
            match store.commit(arrival, &incoming) {
                Ok(_) => {
                    self.seen.taken += 1;
                    let was = std::mem::replace(&mut self.in_mirror, !complete);
                    self.seen.mirrors += u64::from(was && complete);
                    done.push(Answer::Committed(ticket));
                }
                Err(CommitError::Refused(refusal)) => {
                    self.seen.refused += 1;
                    let reason = Text::new(&refusal.to_string());
                    done.push(Answer::Input(Input::CommitRefused { ticket, reason }));
                }
                Err(CommitError::Full) => {
                    let Incoming { position, complete, running, filled } = incoming;
                    let commit = Commit { ticket, position, running, complete, filled };
                    self.queue.push_front((commit, arrival));
                    if !std::mem::replace(&mut self.is_full, true) {
                        self.seen.full += 1;
                        done.push(Answer::Input(Input::Full { reason: Text::new("full") }));
                    }
                    break;
                }
                Err(error) => panic!("a change could not be kept: {error:?}"),
            }
        }
        if !done.is_empty() {
            self.sync();
            self.answers.extend(done);
        }
    }

    fn sync(&mut self) {
        match self.store.as_mut().expect("it is open").sync() {
            Ok(_) | Err(StoreError::Full) => {}
            Err(error) => panic!("what was taken could not be made durable: {error:?}"),
        }
    }

    /// What a set does once a second.
    fn tick(&mut self) {
        if std::mem::take(&mut self.is_full) {
            self.answers.push_back(Answer::Input(Input::Resumed));
        }
        let arrival = Arrival { sent: None, ..self.arrival() };
        let synced = self.folders.sync();
        let store = self.store.as_mut().expect("it is open");
        store.set_live(synced);
        match store.cut_open(arrival) {
            Ok(_) | Err(CommitError::Full) => {}
            Err(error) => panic!("open states could not be made versions: {error:?}"),
        }
        self.sync();
        let store = self.store.as_mut().expect("it is open");
        match store.flush() {
            Ok(()) | Err(StoreError::Full) => {}
            Err(error) => panic!("the index could not be made durable: {error:?}"),
        }
        for _ in 0..UPKEEP_STEPS {
            match store.maintain() {
                Ok(true) => {}
                Ok(false) | Err(StoreError::Full) => break,
                Err(error) => panic!("upkeep failed: {error:?}"),
            }
        }
    }
}

fn told<T>(read: Result<T, ReadError>) -> T {
    read.expect("a set that can be read")
}

fn open(platter: &Platter) -> Store {
    let options = StoreOptions {
        cache_bytes: 2 << 20,
        reserve_bytes: RESERVE_BYTES,
        log_bytes_min: 256 << 10,
        let_go_min: 64,
    };
    Store::open(platter.disk(), options).expect("a set that can be opened").0
}

fn new_receiver() -> Receiver {
    Receiver::new(ReceiverOptions { set: set_name(), origin: ORIGIN })
}

/// What the set is called.
pub(crate) fn set_name() -> keepshare_base::SetName {
    "projects".parse().expect("a set name")
}

/// Returns the next frame, what it says of clocks, and how many bytes it takes.
fn next_frame(bytes: &[u8]) -> Result<Option<(Frame, Clocks, usize)>, DecodeError> {
    let Some((lengths, rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    let (frame_len, header_len) = parse_lengths(lengths)?;
    let Some(frame) = rest.get(..frame_len) else { return Ok(None) };
    let (frame, clocks) = decode_told(frame, header_len)?;
    Ok(Some((frame, clocks, 8 + frame_len)))
}

/// Returns the change through which everything was acknowledged in these frames.
pub(crate) fn acked(frames: &[Frame]) -> Option<Seq> {
    frames.iter().rev().find_map(|frame| match frame.message {
        Message::Ack { through } => Some(through),
        _ => None,
    })
}
