//! Bringing a destination up to one place of the journal, wherever it was.

use keepshare_base::{Change, FileId, FilledChange, Name, Position, Seq, Stamp};

use super::{AlarmKind, Broken, MirrorId, Output, Page, Shipper, State};
use crate::{
    Frame, Message, MirrorReason, MonoTime, PAGE_LINES_MAX, PAGES_AHEAD, Place, Step, Text,
    codec::has_room,
    window::{Window, weight},
};

/// The most parts' content that one read of the mirror asks for.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A mirror under way.
#[derive(Debug)]
pub(super) struct Mirroring {
    id: MirrorId,
    reason: MirrorReason,
    /// Where it leads; known once the driver has its view of the tree.
    at: Option<(Place, Stamp)>,
    listing: Listing,
    reading: bool,
    /// Parts sent, the last included.
    parts: u64,
    last_sent: bool,
    window: Window<()>,
}

/// The listing that comes in before the parts go out.
#[derive(Debug)]
struct Listing {
    /// Pages the station may still send.
    granted: u32,
    /// Pages used up for which none were granted yet.
    taken: u32,
    reached: Reached,
}

/// How far the listing has come; it must be in order.
#[derive(Debug, Eq, PartialEq, PartialOrd)]
enum Reached {
    Names(Option<(FileId, Name)>),
    Files(Option<FileId>),
    End,
}

impl Mirroring {
    pub(super) fn id(&self) -> MirrorId {
        self.id
    }

    pub(super) fn reason(&self) -> MirrorReason {
        self.reason
    }

    /// Tells whether the destination has said nothing of it yet, but heard where it leads.
    pub(super) fn is_unanswered(&self) -> bool {
        self.at.is_some() && self.parts == 0 && self.listing.reached == Reached::Names(None)
    }

    /// Tells whether a part sent is not acknowledged, or a page may come.
    pub(super) fn is_owed(&self) -> bool {
        let listing = self.listing.reached != Reached::End && self.listing.granted > 0;
        self.window.first().is_some() || (self.at.is_some() && listing)
    }
}

impl Shipper {
    /// Begins a mirror of a station that is at `place`.
    pub(super) fn begin_mirror(&mut self, place: Option<Place>, reason: MirrorReason) {
        let lost = self.has_lost(place);
        if lost {
            let text = "the station has less than it acknowledged; it is mirrored";
            self.alarm(AlarmKind::LostAcknowledged, text);
        }
        let reason = if lost { MirrorReason::LostAcknowledged } else { reason };
        self.mirrors += 1;
        let mirror = MirrorId(self.mirrors);
        self.state = State::Mirroring(Mirroring {
            id: mirror,
            reason,
            at: None,
            listing: Listing { granted: PAGES_AHEAD, taken: 0, reached: Reached::Names(None) },
            reading: false,
            parts: 0,
            last_sent: false,
            window: Window::new(),
        });
        self.outputs.push_back(Output::StartMirror { mirror, reason });
    }

    pub(super) fn on_mirror_started(
        &mut self,
        now: MonoTime,
        mirror: MirrorId,
        at: Place,
        stamp: Stamp,
    ) {
        let epoch = self.head.map(|head| head.epoch);
        let Some(mirroring) = self.mirroring(mirror) else { return };
        // A view of an epoch that is over, or not yet told of: the new head disconnects in a moment.
        if Some(at.epoch) != epoch || mirroring.at.is_some() {
            return;
        }
        mirroring.at = Some((at, stamp));
        let reason = mirroring.reason;
        self.send(now, Message::MirrorStart { at, stamp, reason });
    }

    pub(super) fn on_listed(&mut self, now: MonoTime, page: Page) -> Result<(), Broken> {
        self.last_step = now;
        let State::Mirroring(mirroring) = &mut self.state else {
            return Err("the station lists without being asked");
        };
        if mirroring.at.is_none() {
            return Err("the station lists without being asked");
        }
        mirroring.listing.take(&page)?;
        let mirror = mirroring.id;
        self.outputs.push_back(Output::Listing { mirror, page });
        self.read_mirror_on();
        Ok(())
    }

    pub(super) fn on_listing_taken(&mut self, now: MonoTime, mirror: MirrorId) {
        let Some(mirroring) = self.mirroring(mirror) else { return };
        let listing = &mut mirroring.listing;
        listing.taken += 1;
        if listing.reached != Reached::End && listing.taken >= PAGES_AHEAD / 2 {
            let pages = std::mem::take(&mut listing.taken);
            listing.granted += pages;
            self.send(now, Message::ListMore { pages });
        }
    }

    pub(super) fn on_mirror_parts(
        &mut self,
        now: MonoTime,
        mirror: MirrorId,
        parts: Vec<FilledChange>,
    ) {
        let Some(mirroring) = self.mirroring(mirror) else { return };
        mirroring.reading = false;
        for part in parts {
            if !has_room(&part.change) {
                let reason = "no frame has room for a part of the mirror";
                self.alarm(AlarmKind::Mirror, reason);
                return self.disconnect_for_a_while(now, reason);
            }
            self.send_part(now, part, false);
        }
        self.read_mirror_on();
    }

    pub(super) fn on_mirror_done(&mut self, now: MonoTime, mirror: MirrorId) {
        let Some(mirroring) = self.mirroring(mirror) else { return };
        let Some((_, stamp)) = mirroring.at.filter(|_| !mirroring.last_sent) else { return };
        mirroring.last_sent = true;
        mirroring.reading = false;
        let change = Change { stamp, ..Change::default() };
        self.send_part(now, FilledChange { change, payload: Vec::new() }, true);
    }

    pub(super) fn on_mirror_failed(&mut self, now: MonoTime, mirror: MirrorId, reason: Text) {
        if self.mirroring(mirror).is_some() {
            self.alarm(AlarmKind::Mirror, reason.as_str());
            self.disconnect_for_a_while(now, reason.as_str());
        }
    }

    pub(super) fn on_part_ack(&mut self, now: MonoTime, parts: u64) -> Result<(), Broken> {
        self.last_step = now;
        match &mut self.state {
            State::Mirroring(mirroring) if parts <= mirroring.parts => {
                mirroring.window.acked(parts);
                self.read_mirror_on();
                Ok(())
            }
            // The last parts' acknowledgement may come with the end's.
            State::Following(_) => Ok(()),
            _ => Err("the station acknowledges parts that were not sent"),
        }
    }

    pub(super) fn on_mirror_acked(&mut self, through: Seq) -> Result<(), Broken> {
        let State::Mirroring(mirroring) = &self.state else { return Ok(()) };
        let mirror = mirroring.id;
        match mirroring.at {
            Some((at, _)) if mirroring.last_sent && through == at.seq => {
                (self.mirror_wanted, self.mirror_after) = (None, None);
                self.outputs.push_back(Output::StopMirror { mirror });
                self.set_acked(at);
                self.follow(at);
                Ok(())
            }
            _ => Err("the station acknowledges a mirror that did not end"),
        }
    }

    /// Asks for the next parts, where there is room for them.
    fn read_mirror_on(&mut self) {
        let State::Mirroring(mirroring) = &mut self.state else { return };
        let room = mirroring.window.room();
        let ready = mirroring.listing.reached == Reached::End && !mirroring.last_sent;
        if ready && !mirroring.reading && room > 0 {
            mirroring.reading = true;
            let (mirror, bytes_max) = (mirroring.id, room.min(READ_BYTES_MAX));
            self.outputs.push_back(Output::ReadMirror { mirror, bytes_max });
        }
    }

    fn send_part(&mut self, now: MonoTime, filled: FilledChange, last: bool) {
        let State::Mirroring(mirroring) = &mut self.state else { return };
        let Some((at, _)) = mirroring.at else { return };
        mirroring.parts += 1;
        let number = mirroring.parts;
        mirroring.window.push(number, weight(&filled), ());
        let step = if last { Step::Last { number } } else { Step::Part { number } };
        let position = Position { origin: self.options.origin, epoch: at.epoch, seq: at.seq };
        let message =
            Message::Change { position, running: at.running, step, change: filled.change };
        self.send_frame(now, Frame { message, payload: filled.payload });
    }

    /// Returns the mirror that runs, if it is this one.
    fn mirroring(&mut self, mirror: MirrorId) -> Option<&mut Mirroring> {
        match &mut self.state {
            State::Mirroring(mirroring) if mirroring.id == mirror => Some(mirroring),
            _ => None,
        }
    }
}

impl Listing {
    fn take(&mut self, page: &Page) -> Result<(), Broken> {
        let in_order = match page {
            Page::Names(lines) => self.take_names(lines),
            Page::Files(lines) => self.take_files(lines),
            Page::End => {
                let open = self.reached != Reached::End;
                self.reached = Reached::End;
                return if open { Ok(()) } else { Err("the station ends its listing twice") };
            }
        };
        self.granted = self.granted.checked_sub(1).ok_or("the station lists too far ahead")?;
        if in_order { Ok(()) } else { Err("the station's listing is out of order") }
    }

    fn take_names(&mut self, lines: &[crate::NameLine]) -> bool {
        let keys: Vec<_> = lines.iter().map(|line| (line.parent, &line.name)).collect();
        let Reached::Names(reached) = &mut self.reached else { return false };
        let after = reached.as_ref().map(|(parent, name)| (*parent, name));
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return false };
        let fits = lines.len() <= PAGE_LINES_MAX
            && after.is_none_or(|after| after < *first)
            && keys.is_sorted_by(|a, b| a < b);
        let last = (last.0, last.1.clone());
        *reached = Some(last);
        fits
    }

    fn take_files(&mut self, lines: &[crate::FileLine]) -> bool {
        let after = match &self.reached {
            Reached::Names(_) => None,
            Reached::Files(after) => *after,
            Reached::End => return false,
        };
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return false };
        let fits = lines.len() <= PAGE_LINES_MAX
            && after.is_none_or(|after| after < first.file)
            && lines.is_sorted_by(|a, b| a.file < b.file);
        self.reached = Reached::Files(Some(last.file));
        fits
    }
}
