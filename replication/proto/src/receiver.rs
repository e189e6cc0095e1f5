//! The station's half of the link from one master.
//!
//! Checks that what comes belongs there (set, origin, epoch, order, limits), has it committed, and acknowledges what is
//! durable. What is submitted to the store and not yet answered is bounded; beyond that the driver is told to read no
//! further. Whether a change fits the set's tree is the store's to say. A [`Receiver`] outlives its links.

mod error;
mod io;
mod listing;
mod order;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use keepshare_base::{Change, Epoch, FilledChange, Position, RunningHash, Seq, StationName};

pub use self::io::{Commit, Input, Output, ReceiverOptions, Standing, Ticket};
use self::{error::Wrong, listing::Mirroring, order::Gap};
use crate::{
    Frame, Hello, Message, MonoTime, Refusal, Text, WINDOW_BYTES_MAX, Welcome,
    heard::Heard,
    restore::{Asking, Step as RestoreStep},
    shipper::PING_AFTER,
    window::held,
};

/// How long a new link may take to say hello.
const HELLO_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// The most that waits for the store before no more is read: a master's whole window and one change beyond it, where these do
/// not take far more memory than bytes on their way.
const QUEUE_BYTES_MAX: usize = WINDOW_BYTES_MAX + 2 * crate::codec::FRAME_BYTES_MAX;

/// The station's half of one link.
#[derive(Debug)]
pub struct Receiver {
    options: ReceiverOptions,
    state: State,
    peer: Option<StationName>,
    /// Submitted to the store and not answered, oldest first; they outlive their link.
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    tickets: u64,
    full: Option<Text>,
    stopped: Option<Text>,
    /// What the live tree shows.
    live: Option<(Epoch, Seq)>,
    heard: Heard,
    /// When the master was last told that a part of a frame came, or that was last thought of.
    last_sign: MonoTime,
    restores: Asking,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one to a receiver")]
enum State {
    /// No link.
    Away,
    /// A link without a hello.
    Greeting,
    /// What earlier links left in the store must be answered first.
    Settling(Hello),
    /// The store is asked where it stands.
    Asking(Hello),
    /// The store is to agree to the hello's epoch.
    Fencing(Epoch, Standing),
    /// The master is welcome.
    Open(Open),
}

/// An agreed link.
#[derive(Debug)]
struct Open {
    epoch: Epoch,
    /// The last change of this epoch received in order; `None`: only a mirror can give one.
    received: Option<Seq>,
    /// The last durable one.
    durable: Option<Seq>,
    /// A mirror leads above it.
    floor: Seq,
    /// Where the mirror leads that broke off: one may go on with it.
    broken_off: Option<Seq>,
    gap: Option<Gap>,
    resends: u32,
    mirror: Option<Mirroring>,
}

#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    bytes: usize,
    what: What,
}

/// What a ticket stands for.
#[derive(Clone, Copy, Debug)]
enum What {
    Change(Seq),
    MirrorStart,
    Part(u64),
    Last(Seq),
}

impl Receiver {
    /// Returns one without a link.
    pub fn new(options: ReceiverOptions) -> Self {
        Self {
            options,
            state: State::Away,
            peer: None,
            pending: VecDeque::new(),
            pending_bytes: 0,
            tickets: 0,
            full: None,
            stopped: None,
            live: None,
            heard: Heard::default(),
            last_sign: MonoTime(0),
            restores: Asking::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input.
    pub fn handle_input(&mut self, now: MonoTime, input: Input) {
        if !self.wants_input() {
            // Silence is ours while we do not read.
            self.heard.frame(now);
        }
        match input {
            Input::Connected { peer } => self.on_connected(now, peer),
            Input::Received(frame) => self.on_frame(now, frame),
            Input::Heard { at } => {
                self.heard.bytes(at);
            }
            Input::Disconnected => self.leave(),
            Input::Standing(standing) => self.on_standing(now, standing),
            Input::Fenced { epoch } => self.on_fenced(now, epoch),
            Input::Committed { through } => self.on_committed(through),
            Input::CommitRefused { ticket, reason } => self.on_commit_refused(ticket, &reason),
            Input::Full { reason } => self.on_full(reason),
            Input::Resumed => self.on_resumed(),
            Input::Stopped { reason } => self.on_stopped(reason),
            Input::NamesPage { listing, lines, end } => self.on_names_page(listing, lines, end),
            Input::FilesPage { listing, lines, end } => self.on_files_page(listing, lines, end),
            Input::Live { epoch, through } => self.on_live(epoch, through),
            Input::Restore(input) => self.restores.handle(now, input),
            Input::TimedOut => self.on_timeout(now),
        }
        self.drain_restores();
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when to give [`Input::TimedOut`], unless something else comes first.
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let link = match self.state {
            State::Away => None,
            State::Greeting => Some(self.dead_at()),
            _ if !self.wants_input() => None,
            _ => Some(self.dead_at().min(self.next_sign())),
        };
        link.into_iter().chain(self.restores.deadline()).min()
    }

    /// Tells whether the driver may read from the link; while not, it must give no `Received`.
    pub fn wants_input(&self) -> bool {
        self.pending_bytes < QUEUE_BYTES_MAX
    }

    /// Tells whether a master is welcomed and brings changes.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    fn on_connected(&mut self, now: MonoTime, peer: StationName) {
        self.leave();
        self.state = State::Greeting;
        self.peer = Some(peer);
        self.heard.frame(now);
    }

    fn on_timeout(&mut self, now: MonoTime) {
        self.restores.on_timeout(now);
        if matches!(self.state, State::Away) || !self.wants_input() {
            return;
        }
        if self.dead_at() <= now {
            self.disconnect("the master has gone silent");
        } else if self.is_greeted() && self.next_sign() <= now {
            self.last_sign = now;
            // Over a slow line its pings wait behind what it sends, and there is nothing else to answer yet.
            if self.heard.is_amid_frame() {
                self.send(Message::Pong);
            }
        }
    }

    /// Returns from when on the link is dead, if nothing comes until then.
    fn dead_at(&self) -> MonoTime {
        match self.state {
            // A hello is short: parts of it are no reason to wait longer.
            State::Greeting => self.heard.last_frame() + HELLO_TIMEOUT,
            _ => self.heard.dead_at(),
        }
    }

    /// Returns when the master is to be told that what it sends arrives.
    fn next_sign(&self) -> MonoTime {
        self.heard.last_frame().max(self.last_sign) + PING_AFTER
    }

    fn on_frame(&mut self, now: MonoTime, frame: Frame) {
        if matches!(self.state, State::Away) {
            return;
        }
        self.heard.frame(now);
        if let Err(wrong) = self.on_message(now, frame) {
            let reason = wrong.to_string();
            self.alarm(&format!("what a master sent was refused: {reason}"));
            self.refuse(wrong.refusal(), &reason);
        }
    }

    fn on_message(&mut self, now: MonoTime, frame: Frame) -> Result<(), Wrong> {
        let Frame { message, payload } = frame;
        match message {
            Message::Hello(hello) => return self.on_hello(hello),
            _ if matches!(self.state, State::Greeting) => return Err(Wrong::BeforeHello),
            Message::Ping => self.send(Message::Pong),
            Message::Pong => {}
            Message::Refused { reason, .. } => self.disconnect(reason.as_str()),
            Message::Change { position, running, step, change } => {
                let filled = FilledChange { change, payload };
                return self.on_change(position, running, step, filled);
            }
            Message::MirrorStart { at, stamp, .. } => return self.on_mirror_start(at, stamp),
            Message::ListMore { pages } => self.on_list_more(pages),
            Message::RestoreMore { request, through } => {
                self.restores.on_more(now, request, through);
            }
            Message::RestoreAnswer { request, answer } => self.restores.on_answer(request, answer),
            Message::Welcome(_)
            | Message::ListNames(_)
            | Message::ListFiles(_)
            | Message::ListEnd
            | Message::Ack { .. }
            | Message::PartAck { .. }
            | Message::Resend { .. }
            | Message::Waiting { .. }
            | Message::Resumed
            | Message::Live { .. }
            | Message::RestoreRequest(_)
            | Message::RestoreData { .. } => return Err(Wrong::Side),
        }
        Ok(())
    }

    fn on_hello(&mut self, hello: Hello) -> Result<(), Wrong> {
        if !matches!(self.state, State::Greeting) {
            return Err(Wrong::SecondHello);
        }
        if hello.set != self.options.set {
            return Err(Wrong::Set(hello.set));
        }
        if hello.origin != self.options.origin {
            return Err(Wrong::Origin { got: hello.origin, ours: self.options.origin });
        }
        if let Some(reason) = self.stopped.clone() {
            self.refuse(Refusal::Busy, reason.as_str());
            return Ok(());
        }
        if let Some(reason) = self.full.clone() {
            self.send(Message::Waiting { reason });
        }
        self.state = State::Settling(hello);
        self.settle();
        Ok(())
    }

    /// Asks the store where it stands as soon as nothing submitted is open, so that the answer stays true.
    fn settle(&mut self) {
        if let State::Settling(hello) = &self.state
            && self.pending.is_empty()
        {
            self.state = State::Asking(hello.clone());
            self.outputs.push_back(Output::ReadStanding);
        }
    }

    fn on_standing(&mut self, now: MonoTime, standing: Standing) {
        let State::Asking(hello) = &self.state else { return };
        let epoch = hello.epoch;
        if !epoch.may_follow(standing.fence) {
            let wrong = Wrong::EpochBeyond(epoch);
            self.alarm(&format!("what a master sent was refused: {wrong}"));
            self.refuse(wrong.refusal(), &wrong.to_string());
        } else if epoch < standing.fence {
            // The welcome tells the master which epoch it would have to be above.
            self.send_welcome(standing);
            let reason = format!("epoch {epoch} is over, {} is agreed", standing.fence);
            self.refuse(Refusal::Epoch, &reason);
        } else if epoch > standing.fence {
            self.state = State::Fencing(epoch, standing);
            self.outputs.push_back(Output::Fence { epoch });
        } else {
            self.open(now, standing);
        }
    }

    fn on_fenced(&mut self, now: MonoTime, fenced: Epoch) {
        match &self.state {
            State::Fencing(epoch, standing) if *epoch == fenced => {
                let standing = Standing { fence: fenced, ..*standing };
                self.open(now, standing);
            }
            State::Fencing(epoch, _) | State::Open(Open { epoch, .. }) if *epoch < fenced => {
                let reason = format!("epoch {epoch} is over, {fenced} was agreed elsewhere");
                self.refuse(Refusal::Epoch, &reason);
            }
            _ => {}
        }
    }

    fn open(&mut self, now: MonoTime, standing: Standing) {
        let epoch = standing.fence;
        let here = standing.place.filter(|place| place.epoch == epoch).map(|place| place.seq);
        let of_epoch = |(of, seq): (Epoch, Seq)| (of == epoch).then_some(seq);
        let highest = standing.highest.and_then(of_epoch);
        // A tree that is a mixture of two places takes nothing but a mirror.
        let received = here.filter(|seq| *seq > Seq(0) && standing.mirror.is_none());
        self.state = State::Open(Open {
            epoch,
            received,
            durable: received,
            floor: here.max(highest).unwrap_or_default(),
            broken_off: standing.mirror.and_then(of_epoch),
            gap: None,
            resends: 0,
            mirror: None,
        });
        self.send_welcome(standing);
        if let Some((epoch, through)) = self.live {
            self.on_live(epoch, through);
        }
        self.restores.on_connected(now);
    }

    fn send_welcome(&mut self, standing: Standing) {
        let Standing { place, fence, mirror, .. } = standing;
        self.send(Message::Welcome(Welcome { place, fence, mirroring: mirror.is_some() }));
    }

    /// Hands a change to the store.
    fn submit(
        &mut self,
        what: What,
        position: Position,
        running: RunningHash,
        filled: FilledChange,
    ) -> Ticket {
        self.tickets += 1;
        let (ticket, bytes) = (Ticket(self.tickets), held(&filled));
        self.pending_bytes += bytes;
        self.pending.push_back(Pending { ticket, bytes, what });
        let complete = matches!(what, What::Change(_) | What::Last(_));
        let commit = Commit { ticket, position, running, complete, filled };
        self.outputs.push_back(Output::Commit(commit));
        ticket
    }

    fn on_committed(&mut self, through: Ticket) {
        assert!(through.0 <= self.tickets, "committed {through:?}, submitted {}", self.tickets);
        let (mut seq, mut parts) = (None, None);
        while self.pending.front().is_some_and(|pending| pending.ticket <= through)
            && let Some(pending) = self.pending.pop_front()
        {
            self.pending_bytes -= pending.bytes;
            match pending.what {
                What::Change(at) | What::Last(at) => seq = Some(at),
                What::Part(number) => parts = Some(number),
                What::MirrorStart => self.begin_listing(pending.ticket),
            }
        }
        if let State::Open(open) = &mut self.state {
            open.durable = seq.or(open.durable);
            let part_ack = parts.map(|parts| Message::PartAck { parts });
            let ack = seq.map(|through| Message::Ack { through });
            part_ack.into_iter().chain(ack).for_each(|message| self.send(message));
        }
        self.end_mirror();
        self.settle();
    }

    fn on_commit_refused(&mut self, ticket: Ticket, reason: &Text) {
        let Some(index) = self.pending.iter().position(|pending| pending.ticket == ticket) else {
            return;
        };
        if let Some(pending) = self.pending.remove(index) {
            self.pending_bytes -= pending.bytes;
        }
        if self.is_open() {
            self.alarm(&format!("the store refused a change: {reason}"));
            self.refuse(Refusal::Change, reason.as_str());
        }
        self.settle();
    }

    fn on_full(&mut self, reason: Text) {
        if self.is_greeted() {
            self.send(Message::Waiting { reason: reason.clone() });
        }
        self.full = Some(reason);
    }

    fn on_resumed(&mut self) {
        if self.full.take().is_some() && self.is_greeted() {
            self.send(Message::Resumed);
        }
    }

    fn on_stopped(&mut self, reason: Text) {
        if self.is_greeted() {
            self.refuse(Refusal::Busy, reason.as_str());
        }
        // What it had will not be answered.
        self.pending.clear();
        self.pending_bytes = 0;
        self.stopped = Some(reason);
    }

    fn on_live(&mut self, epoch: Epoch, through: Seq) {
        self.live = Some((epoch, through));
        if let State::Open(open) = &self.state
            && open.epoch == epoch
        {
            self.send(Message::Live { through });
        }
    }

    fn is_greeted(&self) -> bool {
        !matches!(self.state, State::Away | State::Greeting)
    }

    fn drain_restores(&mut self) {
        for step in self.restores.take_steps() {
            self.outputs.push_back(match step {
                RestoreStep::Send(frame) => Output::Send(frame),
                RestoreStep::Drive(output) => Output::Restore(output),
            });
        }
    }

    fn refuse(&mut self, refusal: Refusal, reason: &str) {
        self.send(Message::Refused { refusal, reason: Text::new(reason) });
        self.disconnect(reason);
    }

    fn disconnect(&mut self, reason: &str) {
        self.outputs.push_back(Output::Disconnect { reason: Text::new(reason) });
        self.leave();
    }

    fn leave(&mut self) {
        self.state = State::Away;
        self.restores.on_disconnected();
    }

    fn alarm(&mut self, text: &str) {
        let peer = self.peer.as_ref().map_or("", StationName::as_str);
        self.outputs.push_back(Output::Alarm { text: Text::new(&format!("{peer}: {text}")) });
    }

    fn send(&mut self, message: Message) {
        self.outputs.push_back(Output::Send(message.into()));
    }
}

/// Returns a change that says nothing but when.
fn empty_change(stamp: keepshare_base::Stamp) -> FilledChange {
    let change = Change { stamp, ..Change::default() };
    FilledChange { change, payload: Vec::new() }
}
