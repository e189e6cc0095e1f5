//! Sending changes as the journal gets them.

use std::time::Duration;

use keepshare_base::{RunningHash, Seq};

use super::{Broken, JournalEntry, Output, Shipper, State};
use crate::{
    Frame, Message, MirrorReason, MonoTime, Place, Step,
    codec::has_room,
    window::{Window, weight},
};

/// The most that one read of the journal asks for, so that many destinations do not hold much at once.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// The most resends that a station may ask for on one link.
const RESENDS_MAX: u32 = 8;

/// How far the changes of one link have gone out.
#[derive(Debug)]
pub(super) struct Following {
    /// The next change to send.
    next: Seq,
    window: Window<RunningHash>,
    resends: u32,
}

impl Following {
    /// Tells whether something sent is not acknowledged.
    pub(super) fn is_owed(&self) -> bool {
        self.window.first().is_some()
    }
}

impl Shipper {
    /// The station has everything through `place`, which is a place of our journal.
    pub(super) fn follow(&mut self, place: Place) {
        self.alarmed.clear();
        self.state = State::Following(Following {
            next: place.seq.next(),
            window: Window::new(),
            resends: 0,
        });
        if self.acked != Some(place) {
            self.set_acked(place);
        }
        self.read_on();
    }

    /// Reads more of the journal, where there is more and room for it.
    pub(super) fn read_on(&mut self) {
        let (State::Following(following), Some(head)) = (&self.state, self.head) else { return };
        let room = following.window.room();
        if self.reading.is_none() && following.next <= head.seq && room > 0 {
            self.reading = Some(following.next);
            let bytes_max = room.min(READ_BYTES_MAX);
            self.outputs.push_back(Output::Read { from: following.next, bytes_max });
        }
    }

    pub(super) fn on_read(&mut self, now: MonoTime, entries: Vec<JournalEntry>) {
        let (Some(first), Some(head)) = (entries.first(), self.head) else { return };
        // What was asked before a new epoch began, or twice around a reconnect.
        if self.reading != Some(first.position.seq) || first.position.epoch != head.epoch {
            return;
        }
        self.reading = None;
        for entry in entries {
            let State::Following(following) = &mut self.state else { return };
            let seq = entry.position.seq;
            // Not wanted after a resend or a reconnect, or more than was asked for.
            if seq != following.next || following.window.room() == 0 {
                break;
            }
            if !has_room(&entry.filled.change) {
                return self.on_unsendable(now);
            }
            following.next = seq.next();
            following.window.push(seq.0, weight(&entry.filled), entry.running);
            self.send_change(now, entry);
        }
        self.read_on();
    }

    /// The journal dropped what the station needs next; the handshake finds what is left.
    pub(super) fn on_gone(&mut self, now: MonoTime, from: Seq) {
        if self.reading == Some(from) {
            self.reading = None;
            if matches!(self.state, State::Following(_)) {
                self.disconnect_for_a_while(now, "the journal dropped what the station lacks");
            }
        }
    }

    /// The journal has a change that no frame has room for, as builds before this one could journal: sent again and again
    /// it would hold up all that comes after it. What it did is sent by a mirror.
    fn on_unsendable(&mut self, now: MonoTime) {
        self.mirror_wanted.get_or_insert(MirrorReason::Dropped);
        self.disconnect(now, "no frame has room for a change of the journal", Duration::ZERO);
        self.on_timeout(now);
    }

    pub(super) fn on_ack(&mut self, now: MonoTime, through: Seq) -> Result<(), Broken> {
        let epoch = self.head.map(|head| head.epoch);
        match &mut self.state {
            State::Following(following) if through < following.next => {
                if let (Some(running), Some(epoch)) = (following.window.acked(through.0), epoch) {
                    self.last_step = now;
                    self.set_acked(Place { epoch, seq: through, running });
                    self.begin_asked(now);
                }
                self.read_on();
                Ok(())
            }
            State::Mirroring(_) => self.on_mirror_acked(through),
            _ => Err("the station acknowledges what was not sent"),
        }
    }

    pub(super) fn on_resend(&mut self, from: Seq) -> Result<(), Broken> {
        let State::Following(following) = &mut self.state else {
            return Err("the station asks again for what was not sent");
        };
        following.resends += 1;
        let first = following.window.first();
        if first.is_none_or(|first| from.0 < first) || from >= following.next {
            return Err("the station asks again for what it acknowledged or was not sent");
        }
        if following.resends > RESENDS_MAX {
            return Err("the station asks again and again");
        }
        following.window.rewind(from.0);
        following.next = from;
        // An answer that is on its way is for another place and will be passed over.
        self.reading = None;
        self.read_on();
        Ok(())
    }

    fn send_change(&mut self, now: MonoTime, entry: JournalEntry) {
        let JournalEntry { position, running, filled } = entry;
        let message =
            Message::Change { position, running, step: Step::Next, change: filled.change };
        self.send_frame(now, Frame { message, payload: filled.payload });
    }
}
