//! A mirror at the station: tells what there is, then takes the parts.

use keepshare_base::{FileId, FilledChange, Name, Position, RunningHash, Seq, Stamp};

use super::{Output, Receiver, State, Ticket, What, Wrong, empty_change};
use crate::{FileLine, Message, NameLine, PAGE_LINES_MAX, PAGES_AHEAD, Place};

/// A mirror under way.
#[derive(Debug)]
pub(super) struct Mirroring {
    at: Place,
    /// Parts received.
    parts: u64,
    /// The commit that noted the mirror; names its listing.
    listing: Ticket,
    next: Next,
    /// Pages that may still be sent.
    credit: u32,
    reading: bool,
    /// The end of the mirror, until every part before it is durable: were one of them refused, the place must not move.
    last: Option<FilledChange>,
}

/// What is listed next.
#[derive(Clone, Debug)]
enum Next {
    /// Nothing before it is noted durably that a mirror runs.
    Start,
    Names(Option<(FileId, Name)>),
    Files(Option<FileId>),
    Done,
}

impl Receiver {
    pub(super) fn on_mirror_start(&mut self, at: Place, stamp: Stamp) -> Result<(), Wrong> {
        let State::Open(open) = &self.state else { return Err(Wrong::BeforeWelcome) };
        if at.epoch != open.epoch {
            return Err(Wrong::Epoch { got: at.epoch, agreed: open.epoch });
        }
        if open.mirror.is_some() {
            return Err(Wrong::SecondMirror);
        }
        if at.seq > Seq::MAX {
            return Err(Wrong::Beyond(at.seq));
        }
        let floor = open.floor.max(open.received.unwrap_or_default());
        // A place that is taken names versions already; only the mirror that broke off may be at its own.
        if at.seq <= floor && open.broken_off != Some(at.seq) {
            return Err(Wrong::MirrorBack { at: at.seq, floor });
        }
        let position = self.position(at);
        let listing = self.submit(What::MirrorStart, position, at.running, empty_change(stamp));
        if let State::Open(open) = &mut self.state {
            open.received = None;
            open.gap = None;
            open.mirror = Some(Mirroring {
                at,
                parts: 0,
                listing,
                next: Next::Start,
                credit: PAGES_AHEAD,
                reading: false,
                last: None,
            });
        }
        Ok(())
    }

    /// Everything before the mirror is durable and visible, and so is that a mirror runs.
    pub(super) fn begin_listing(&mut self, listing: Ticket) {
        if let Some(mirroring) = self.listing(listing) {
            mirroring.next = Next::Names(None);
            self.list_on();
        }
    }

    pub(super) fn on_list_more(&mut self, pages: u32) {
        if let Some(mirroring) = self.mirroring() {
            // An honest master grants what it has used up, never more than that.
            mirroring.credit = mirroring.credit.saturating_add(pages).min(PAGES_AHEAD);
            self.list_on();
        }
    }

    pub(super) fn on_names_page(&mut self, listing: Ticket, lines: Vec<NameLine>, end: bool) {
        assert!(lines.len() <= PAGE_LINES_MAX, "asked for {PAGE_LINES_MAX}, got {}", lines.len());
        let Some(mirroring) = self.listing(listing) else { return };
        mirroring.reading = false;
        let last = lines.last().map(|line| (line.parent, line.name.clone()));
        mirroring.next = if end || last.is_none() { Next::Files(None) } else { Next::Names(last) };
        if !lines.is_empty() {
            mirroring.credit = mirroring.credit.saturating_sub(1);
            self.send(Message::ListNames(lines));
        }
        self.list_on();
    }

    pub(super) fn on_files_page(&mut self, listing: Ticket, lines: Vec<FileLine>, end: bool) {
        assert!(lines.len() <= PAGE_LINES_MAX, "asked for {PAGE_LINES_MAX}, got {}", lines.len());
        let Some(mirroring) = self.listing(listing) else { return };
        mirroring.reading = false;
        let last = lines.last().map(|line| line.file);
        let done = end || last.is_none();
        mirroring.next = if done { Next::Done } else { Next::Files(last) };
        if !lines.is_empty() {
            mirroring.credit = mirroring.credit.saturating_sub(1);
            self.send(Message::ListFiles(lines));
        }
        if done {
            self.send(Message::ListEnd);
        }
        self.list_on();
    }

    pub(super) fn on_part(
        &mut self,
        position: Position,
        running: RunningHash,
        number: u64,
        filled: FilledChange,
        last: bool,
    ) -> Result<(), Wrong> {
        let mirroring = self.mirroring().ok_or(Wrong::Part(number))?;
        let at = mirroring.at;
        let listed = matches!(mirroring.next, Next::Done) && mirroring.last.is_none();
        let here = (position.seq, running) == (at.seq, at.running);
        if !listed || !here || number != mirroring.parts + 1 {
            return Err(Wrong::Part(number));
        }
        mirroring.parts = number;
        self.check(position.seq, &filled)?;
        if !last {
            self.submit(What::Part(number), position, running, filled);
        } else if let Some(mirroring) = self.mirroring() {
            mirroring.last = Some(filled);
            self.end_mirror();
        }
        Ok(())
    }

    /// Submits the end of a mirror once all its parts are durable.
    pub(super) fn end_mirror(&mut self) {
        if !self.pending.is_empty() {
            return;
        }
        let Some(mirroring) = self.mirroring() else { return };
        let (at, Some(filled)) = (mirroring.at, mirroring.last.take()) else { return };
        let position = self.position(at);
        self.submit(What::Last(at.seq), position, at.running, filled);
        if let State::Open(open) = &mut self.state {
            open.mirror = None;
            open.received = Some(at.seq);
            open.floor = at.seq;
            open.broken_off = None;
        }
    }

    /// Reads the next page, where one may be sent.
    fn list_on(&mut self) {
        let Some(mirroring) = self.mirroring() else { return };
        if mirroring.reading || mirroring.credit == 0 {
            return;
        }
        let (listing, limit) = (mirroring.listing, PAGE_LINES_MAX);
        let output = match mirroring.next.clone() {
            Next::Names(after) => Output::ListNames { listing, after, limit },
            Next::Files(after) => Output::ListFiles { listing, after, limit },
            Next::Start | Next::Done => return,
        };
        mirroring.reading = true;
        self.outputs.push_back(output);
    }

    fn position(&self, at: Place) -> Position {
        let Place { epoch, seq, .. } = at;
        Position { origin: self.options.origin, epoch, seq }
    }

    fn mirroring(&mut self) -> Option<&mut Mirroring> {
        match &mut self.state {
            State::Open(open) => open.mirror.as_mut(),
            _ => None,
        }
    }

    /// Returns the mirror that runs, if the listing is its own.
    fn listing(&mut self, listing: Ticket) -> Option<&mut Mirroring> {
        self.mirroring().filter(|mirroring| mirroring.listing == listing)
    }
}
