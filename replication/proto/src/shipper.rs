//! The master's half of the link to one destination.
//!
//! Connects, finds the last common place with the station, and from there sends changes as the journal gets them, or
//! brings the station up by a mirror. What is sent ahead of the acknowledgements is bounded, and nothing is kept here
//! for sending it again: the journal is read again. Each destination has its own [`Shipper`], so that a slow one delays
//! no other. Reading the journal, comparing trees and storing what was acknowledged is the driver's work.

mod following;
mod greeting;
mod io;
mod mirroring;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use keepshare_base::{Epoch, Seq};

pub use self::io::{
    AlarmKind, Doing, Head, Input, JournalEntry, MirrorId, Output, Page, ShipperOptions,
};
use self::{following::Following, mirroring::Mirroring};
use crate::{
    Backoff, Frame, Hello, Message, MirrorReason, MonoTime, Place, Refusal, Text,
    epochs::Disagreement,
    heard::Heard,
    restore::{Answering, Step},
};

/// After so long without sending anything, a ping goes out.
pub const PING_AFTER: Duration = Duration::from_secs(5);

/// A station that owes an answer and has space for what was sent gives it within this time, or the link is tried anew.
///
/// The time runs while nothing moves: not while bytes of what is queued still leave, nor while a part of a frame comes. What is
/// queued is bounded by the window, so a station that takes it in slowly and answers nothing is left after that at the latest.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// After so many refusals of changes, one after the other, the destination is mirrored.
const REFUSALS_BEFORE_MIRROR: u32 = 2;

/// The master's half of one link.
#[derive(Debug)]
pub struct Shipper {
    options: ShipperOptions,
    head: Option<Head>,
    acked: Option<Place>,
    /// What the destination's live tree shows, as it last said.
    live: Option<(Epoch, Seq)>,
    state: State,
    backoff: Backoff,
    /// The one read of the journal that is open. It outlives a link; a late answer is told by its place.
    reading: Option<Seq>,
    /// Mirrors begun, over all links.
    mirrors: u64,
    mirror_wanted: Option<MirrorReason>,
    /// Where the journal was when somebody asked for a mirror: what is in it goes first, a mirror has no versions.
    mirror_after: Option<(Epoch, Seq)>,
    refusals: u32,
    /// The station took the place of the last mirror for one that it is beyond.
    mirror_refused: bool,
    alarmed: Vec<AlarmKind>,
    waiting: Option<Text>,
    last_sent: MonoTime,
    heard: Heard,
    /// When the station last took a step forward, or owed none, or was seen on the way to it.
    last_step: MonoTime,
    restores: Answering,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum State {
    /// No link; `None` until the journal is known.
    Away { retry_at: Option<MonoTime> },
    /// Asked for one.
    Connecting { until: MonoTime },
    /// Said hello.
    Greeting,
    /// Asked the journal whether it has the same history up to this place.
    Comparing { place: Place, mirroring: bool },
    /// Asked what to do about a station whose history is another one.
    Judging { place: Option<Place>, disagreement: Disagreement },
    /// Sends changes.
    Following(Following),
    /// Sends what differs.
    Mirroring(Mirroring),
}

/// Why a link is given up.
type Broken = &'static str;

impl Shipper {
    /// Returns one without a link; it wants one as soon as it knows the journal.
    pub fn new(options: ShipperOptions) -> Self {
        Self {
            head: None,
            acked: options.acked,
            live: None,
            state: State::Away { retry_at: None },
            backoff: Backoff::new(options.seed),
            reading: None,
            mirrors: 0,
            mirror_wanted: None,
            mirror_after: None,
            refusals: 0,
            mirror_refused: false,
            alarmed: Vec::new(),
            waiting: None,
            last_sent: MonoTime(0),
            heard: Heard::default(),
            last_step: MonoTime(0),
            restores: Answering::default(),
            outputs: VecDeque::new(),
            options,
        }
    }

    /// Takes one input.
    pub fn handle_input(&mut self, now: MonoTime, input: Input) {
        match input {
            Input::Journal(head) => self.on_journal(now, head),
            Input::Connected => self.on_connected(now),
            Input::Received(frame) => self.on_frame(now, frame),
            Input::Heard { at } => self.on_heard(at),
            Input::Left { at } => self.last_step = self.last_step.max(at),
            Input::Disconnected => self.on_disconnected(now),
            Input::JournalHash { seq, running } => self.on_hash(seq, running),
            Input::JournalRead(entries) => self.on_read(now, entries),
            Input::JournalGone { from } => self.on_gone(now, from),
            Input::Judged(verdict) => self.on_judged(now, verdict),
            Input::MirrorWanted => self.on_mirror_wanted(now),
            Input::Moved => self.on_moved(now),
            Input::MirrorStarted { mirror, at, stamp } => {
                self.on_mirror_started(now, mirror, at, stamp);
            }
            Input::ListingTaken { mirror } => self.on_listing_taken(now, mirror),
            Input::MirrorParts { mirror, parts } => self.on_mirror_parts(now, mirror, parts),
            Input::MirrorDone { mirror } => self.on_mirror_done(now, mirror),
            Input::MirrorFailed { mirror, reason } => self.on_mirror_failed(now, mirror, reason),
            Input::Restore(input) => self.restores.handle(now, input),
            Input::TimedOut => self.on_timeout(now),
        }
        if !self.is_owed() {
            self.last_step = now;
        }
        self.drain_restores(now);
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when to give [`Input::TimedOut`], unless something else comes first.
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        match &self.state {
            State::Away { retry_at } => *retry_at,
            State::Connecting { until } => Some(*until),
            State::Greeting
            | State::Comparing { .. }
            | State::Judging { .. }
            | State::Following(_)
            | State::Mirroring(_) => {
                let link = (self.last_sent + PING_AFTER).min(self.heard.dead_at());
                let answer = self.is_owed().then_some(self.last_step + ANSWER_TIMEOUT);
                [Some(link), answer, self.restores.deadline()].into_iter().flatten().min()
            }
        }
    }

    /// Returns what it is doing, for the status page.
    pub fn doing(&self) -> Doing {
        match (&self.state, &self.waiting) {
            (State::Away { .. } | State::Connecting { .. }, _) => Doing::Away,
            (_, Some(reason)) => Doing::Waiting(reason.clone()),
            (State::Greeting | State::Comparing { .. } | State::Judging { .. }, None) => {
                Doing::Greeting
            }
            (State::Mirroring(mirroring), None) => Doing::Mirroring(mirroring.reason()),
            (State::Following(_), None) => Doing::Following,
        }
    }

    /// Returns the place through which the destination is known to have everything.
    pub fn acked(&self) -> Option<Place> {
        self.acked
    }

    /// Returns the place through which the destination's live tree shows everything, as far as it said so.
    pub fn live(&self) -> Option<(Epoch, Seq)> {
        self.live
    }

    fn on_journal(&mut self, now: MonoTime, head: Head) {
        // Threads that look at the journal may overtake each other; it never goes back while it is open.
        if self.head.is_some_and(|known| (head.epoch, head.seq) < (known.epoch, known.seq)) {
            return;
        }
        let epoch_before = self.head.replace(head).map(|before| before.epoch);
        if epoch_before == Some(head.epoch) {
            self.read_on();
            return;
        }
        (self.reading, self.mirror_refused) = (None, false);
        match self.state {
            State::Away { .. } => self.state = State::Away { retry_at: Some(now) },
            _ => self.disconnect(now, "a new epoch began", Duration::ZERO),
        }
        self.on_timeout(now);
    }

    fn on_connected(&mut self, now: MonoTime) {
        let (State::Connecting { .. }, Some(head)) = (&self.state, self.head) else { return };
        self.state = State::Greeting;
        self.heard.frame(now);
        self.waiting = None;
        // The live tree may have been lost since; the destination says it anew.
        self.live = None;
        let hello = Hello {
            set: self.options.set.clone(),
            origin: self.options.origin,
            epoch: head.epoch,
            head: head.seq,
            settings: self.options.settings,
        };
        self.send(now, Message::Hello(hello));
    }

    fn on_disconnected(&mut self, now: MonoTime) {
        if !matches!(self.state, State::Away { .. }) {
            let wait = self.backoff.failed();
            self.leave(now, wait);
        }
    }

    fn on_timeout(&mut self, now: MonoTime) {
        match self.state {
            State::Away { retry_at } => {
                if retry_at.is_some_and(|at| at <= now) {
                    self.state = State::Connecting { until: now + CONNECT_TIMEOUT };
                    self.outputs.push_back(Output::Connect);
                }
            }
            State::Connecting { until } => {
                if until <= now {
                    self.disconnect_for_a_while(now, "connecting took too long");
                }
            }
            State::Greeting
            | State::Comparing { .. }
            | State::Judging { .. }
            | State::Following(_)
            | State::Mirroring(_) => {
                self.restores.on_timeout(now);
                if self.heard.dead_at() <= now {
                    self.disconnect_for_a_while(now, "the station has gone silent");
                } else if self.is_owed() && self.last_step + ANSWER_TIMEOUT <= now {
                    self.disconnect_for_a_while(now, "the station does not answer what was sent");
                } else if self.last_sent + PING_AFTER <= now {
                    self.send(now, Message::Ping);
                }
            }
        }
    }

    fn on_frame(&mut self, now: MonoTime, frame: Frame) {
        if matches!(self.state, State::Away { .. } | State::Connecting { .. }) {
            return;
        }
        self.heard.frame(now);
        if let Err(reason) = self.on_message(now, frame) {
            self.alarm(AlarmKind::Protocol, reason);
            self.disconnect_for_a_while(now, reason);
        }
    }

    fn on_heard(&mut self, at: MonoTime) {
        if self.heard.bytes(at) {
            self.last_step = self.last_step.max(at);
        }
    }

    fn on_message(&mut self, now: MonoTime, frame: Frame) -> Result<(), Broken> {
        match frame.message {
            Message::Refused { refusal, reason } => self.on_refused(now, refusal, &reason),
            Message::Ping => self.send(now, Message::Pong),
            Message::Pong => {}
            Message::Waiting { reason } => self.waiting = Some(reason),
            Message::Resumed => self.waiting = None,
            Message::Welcome(welcome) => return self.on_welcome(&welcome),
            Message::Ack { through } => return self.on_ack(now, through),
            Message::PartAck { parts } => return self.on_part_ack(now, parts),
            Message::Resend { from } => return self.on_resend(from),
            Message::Live { through } => {
                self.live = self.head.map(|head| (head.epoch, through));
            }
            Message::ListNames(lines) => return self.on_listed(now, Page::Names(lines)),
            Message::ListFiles(lines) => return self.on_listed(now, Page::Files(lines)),
            Message::ListEnd => return self.on_listed(now, Page::End),
            Message::RestoreRequest(request) => self.restores.on_request(request),
            Message::RestoreData { request, offset } => {
                self.restores.on_data(now, request, offset, frame.payload);
            }
            Message::Hello(_)
            | Message::Change { .. }
            | Message::MirrorStart { .. }
            | Message::ListMore { .. }
            | Message::RestoreMore { .. }
            | Message::RestoreAnswer { .. } => return Err("the station says what masters say"),
        }
        Ok(())
    }

    fn on_refused(&mut self, now: MonoTime, refusal: Refusal, reason: &Text) {
        let wait = match refusal {
            Refusal::Protocol | Refusal::Unknown => {
                self.alarm(AlarmKind::Refused, reason.as_str());
                self.backoff.long()
            }
            Refusal::Order => {
                self.mirror_refused =
                    matches!(&self.state, State::Mirroring(mirroring) if mirroring.is_unanswered());
                self.alarm(AlarmKind::Protocol, reason.as_str());
                self.backoff.failed()
            }
            Refusal::Change => {
                self.alarm(AlarmKind::Refused, reason.as_str());
                self.refusals += 1;
                if self.refusals >= REFUSALS_BEFORE_MIRROR {
                    self.mirror_wanted = Some(MirrorReason::Refused);
                }
                self.backoff.failed()
            }
            Refusal::Epoch | Refusal::Busy => self.backoff.failed(),
        };
        self.disconnect(now, reason.as_str(), wait);
    }

    fn on_mirror_wanted(&mut self, now: MonoTime) {
        self.mirror_wanted = Some(MirrorReason::Asked);
        self.mirror_after = self.head.map(|head| (head.epoch, head.seq));
        self.begin_asked(now);
    }

    /// Connects anew for a mirror that was asked for, once the destination has what was in the journal then.
    fn begin_asked(&mut self, now: MonoTime) {
        let is_asked = self.mirror_wanted == Some(MirrorReason::Asked);
        let is_due = self.acked.is_none_or(|acked| self.is_mirror_due(acked));
        if is_asked && is_due && matches!(self.state, State::Following(_)) {
            self.disconnect(now, "a mirror was asked for", Duration::ZERO);
            self.on_timeout(now);
        }
    }

    /// Tells whether the mirror that is wanted may begin for a destination at this place.
    fn is_mirror_due(&self, at: Place) -> bool {
        let waits = self.mirror_wanted == Some(MirrorReason::Asked);
        let after = self.mirror_after.filter(|(epoch, _)| waits && *epoch == at.epoch);
        after.is_none_or(|(_, seq)| at.seq >= seq)
    }

    fn on_moved(&mut self, now: MonoTime) {
        self.backoff.reset();
        match &mut self.state {
            // Without a journal there is nothing to connect for.
            State::Away { retry_at } => *retry_at = retry_at.map(|_| now),
            _ => self.disconnect(now, "the station is reached elsewhere now", Duration::ZERO),
        }
        self.on_timeout(now);
    }

    /// Tells whether the station owes an acknowledgement or a page of its listing.
    fn is_owed(&self) -> bool {
        match &self.state {
            _ if self.waiting.is_some() => false,
            State::Following(following) => following.is_owed(),
            State::Mirroring(mirroring) => mirroring.is_owed(),
            State::Away { .. }
            | State::Connecting { .. }
            | State::Greeting
            | State::Comparing { .. }
            | State::Judging { .. } => false,
        }
    }

    /// Everything through `place` is durable at the destination.
    fn set_acked(&mut self, place: Place) {
        self.acked = Some(place);
        self.refusals = 0;
        self.backoff.reset();
        self.outputs.push_back(Output::Acked(place));
    }

    /// Raises an alarm, once until things are well again.
    fn alarm(&mut self, kind: AlarmKind, text: &str) {
        if !self.alarmed.contains(&kind) {
            self.alarmed.push(kind);
            self.outputs.push_back(Output::Alarm { kind, text: Text::new(text) });
        }
    }

    fn disconnect_for_a_while(&mut self, now: MonoTime, reason: &str) {
        let wait = self.backoff.failed();
        self.disconnect(now, reason, wait);
    }

    fn disconnect(&mut self, now: MonoTime, reason: &str, wait: Duration) {
        self.outputs.push_back(Output::Disconnect { reason: Text::new(reason) });
        self.leave(now, wait);
    }

    fn leave(&mut self, now: MonoTime, wait: Duration) {
        if let State::Mirroring(mirroring) = &self.state {
            self.outputs.push_back(Output::StopMirror { mirror: mirroring.id() });
        }
        self.state = State::Away { retry_at: Some(now + wait) };
        self.waiting = None;
        self.restores.on_disconnected();
    }

    fn drain_restores(&mut self, now: MonoTime) {
        for step in self.restores.take_steps() {
            match step {
                Step::Send(frame) => self.send_frame(now, frame),
                Step::Drive(output) => self.outputs.push_back(Output::Restore(output)),
            }
        }
    }

    fn send(&mut self, now: MonoTime, message: Message) {
        self.send_frame(now, message.into());
    }

    fn send_frame(&mut self, now: MonoTime, frame: Frame) {
        self.last_sent = now;
        self.outputs.push_back(Output::Send(frame));
    }
}
