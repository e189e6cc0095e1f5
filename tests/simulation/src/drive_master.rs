//! A master's drivers: what shippers want done is done, a little later.

use keepshare_base::Epoch;
use keepshare_proto::{
    MonoTime,
    epochs::Verdict,
    shipper::{self, AlarmKind, Doing, MirrorId, Page},
};

use crate::{
    World,
    event::Event,
    master::{Mirror, station_name},
    sides::{Listing, Source, Store},
};

/// When a mirror that cannot begin yet is tried again, in microseconds.
const AGAIN_AFTER: u64 = 5000;

/// How long until a person who is told that a master is stopped says that it is to have the set.
const PERSON_AFTER: u64 = 60 * 1_000_000;

impl<S: Source, K: Store> World<S, K> {
    pub(crate) fn tell_shipper(&mut self, master: usize, station: usize, input: shipper::Input) {
        if !self.masters[master].up {
            return;
        }
        let to = station_name(station);
        if matches!(input, shipper::Input::Disconnected) {
            self.masters[master].epochs.away(&to);
        }
        let shipper = &mut self.masters[master].destinations[station].shipper;
        shipper.handle_input(MonoTime(self.now), input);
        if matches!(shipper.doing(), Doing::Following | Doing::Mirroring(_)) {
            self.masters[master].epochs.agrees(&to);
        }
        while let Some(output) = self.masters[master].destinations[station].shipper.poll_output() {
            self.do_for_shipper(master, station, output);
        }
        self.set_master_timer(master, station);
    }

    pub(crate) fn set_master_timer(&mut self, master: usize, station: usize) {
        let start = self.masters[master].start;
        let destination = &mut self.masters[master].destinations[station];
        let Some(due) = destination.shipper.poll_timeout() else { return };
        if destination.timer.is_none_or(|timer| due.0 < timer) {
            let at = due.0.max(self.now);
            destination.timer = Some(at);
            self.schedule(at - self.now, Event::MasterTimer { master, station, start });
        }
    }

    pub(crate) fn do_for_shipper(
        &mut self,
        master: usize,
        station: usize,
        output: shipper::Output,
    ) {
        use shipper::{Input, Output};
        let start = self.masters[master].start;
        let answer = match output {
            Output::Connect if self.masters[master].epochs.fenced_by().is_some() => {
                Input::Disconnected
            }
            Output::Connect => {
                let after = self.late();
                self.schedule(after, Event::Connect { master, station, start });
                return;
            }
            Output::Disconnect { .. } => {
                if let Some(link) = self.masters[master].destinations[station].link {
                    self.end_link(link, false, true);
                }
                return;
            }
            Output::Send(frame) => {
                if let Some(link) = self.masters[master].destinations[station].link {
                    self.send(link, false, &frame);
                }
                return;
            }
            Output::Acked(place) => {
                self.masters[master].source.set_acked(station, place);
                return;
            }
            Output::Alarm { kind, .. } => {
                self.seen.lost_acknowledged += u64::from(kind == AlarmKind::LostAcknowledged);
                if matches!(kind, AlarmKind::Disagrees | AlarmKind::Fenced) {
                    self.schedule(PERSON_AFTER, Event::Person { master, start });
                }
                return;
            }
            Output::Disagrees { told, disagreement } => {
                let kept = &mut self.masters[master];
                let replaced = kept.source.is_replaced();
                let to = station_name(station);
                let verdict = kept.epochs.judge(&to, disagreement, told, replaced);
                if let Verdict::NewEpoch { above } = verdict {
                    self.begin_epoch(master, above);
                }
                // Told at once, as the real driver does: what comes of it is drained with the rest.
                let shipper = &mut self.masters[master].destinations[station].shipper;
                shipper.handle_input(MonoTime(self.now), Input::Judged(verdict));
                return;
            }
            Output::StopMirror { mirror } => {
                let kept = &mut self.masters[master].destinations[station];
                kept.asked.take_if(|asked| *asked == mirror);
                kept.mirror.take_if(|kept| kept.id == mirror);
                return;
            }
            Output::Restore(_) => return,
            Output::ReadHash { seq } => {
                let running = self.masters[master].source.hash_at(seq);
                Input::JournalHash { seq, running }
            }
            Output::Read { from, bytes_max } => {
                let read = self.masters[master].source.read(from, bytes_max);
                self.wake(master, 1);
                match read {
                    Some(entries) => Input::JournalRead(entries),
                    None => Input::JournalGone { from },
                }
            }
            Output::StartMirror { mirror, .. } => {
                self.masters[master].destinations[station].asked = Some(mirror);
                return self.start_mirror(master, station, mirror);
            }
            Output::Listing { mirror, page } => {
                let kept = self.masters[master].destinations[station].mirror.as_mut();
                let Some(kept) = kept.filter(|kept| kept.id == mirror) else { return };
                match page {
                    Page::Names(lines) => kept.listing.names.extend(lines),
                    Page::Files(lines) => kept.listing.files.extend(lines),
                    Page::End => return,
                }
                Input::ListingTaken { mirror }
            }
            Output::ReadMirror { mirror, .. } => {
                let (master_index, master) = (master, &mut self.masters[master]);
                let kept = master.destinations[station].mirror.as_mut();
                let Some(kept) = kept.filter(|kept| kept.id == mirror) else { return };
                let parts = master.source.mirror_parts(&mut kept.run, &kept.listing);
                self.wake(master_index, 1);
                if parts.is_empty() {
                    Input::MirrorDone { mirror }
                } else {
                    Input::MirrorParts { mirror, parts }
                }
            }
        };
        let (after, input) = (self.late(), Box::new(answer));
        self.schedule(after, Event::Shipper { master, station, start, input });
    }

    /// Begins a mirror, or tries so again a little later, unless it was stopped meanwhile.
    pub(crate) fn start_mirror(&mut self, master: usize, station: usize, mirror: MirrorId) {
        let (moment, kept) = (self.moment(), &mut self.masters[master]);
        let start = kept.start;
        if kept.destinations[station].asked != Some(mirror) {
            return;
        }
        let Some((at, run)) = kept.source.begin_mirror(moment) else {
            return self.schedule(AGAIN_AFTER, Event::Mirror { master, station, start, mirror });
        };
        self.seen.mirrors += 1;
        self.note_made(master);
        let head = self.masters[master].source.head();
        for station in 0..self.stations.len() {
            let input = Box::new(shipper::Input::Journal(head));
            self.schedule(1, Event::Shipper { master, station, start, input });
        }
        let (stamp, listing) = (moment.stamp, Listing::default());
        let kept = Mirror { id: mirror, listing, run };
        self.masters[master].destinations[station].mirror = Some(kept);
        let input = Box::new(shipper::Input::MirrorStarted { mirror, at, stamp });
        let after = self.late();
        self.schedule(after, Event::Shipper { master, station, start, input });
    }

    /// A person has a stopped master go on in an epoch above all that are known, where it still has the set.
    pub(crate) fn take_over(&mut self, master: usize) {
        let kept = &self.masters[master];
        let above = kept.epochs.highest().max(kept.source.head().epoch);
        self.begin_epoch(master, above);
    }

    pub(crate) fn begin_epoch(&mut self, master: usize, above: Epoch) {
        let stamp = self.stamp();
        let kept = &mut self.masters[master];
        // Only who holds the origin may; and one new epoch answers all who want one above the same.
        if kept.holds && kept.source.head().epoch <= above {
            kept.source.begin_epoch(above, stamp);
            kept.epochs.began(kept.source.head().epoch);
            self.note_made(master);
            let kept = &self.masters[master];
            self.seen.epochs += 1;
            // The other destinations hear of it as a driver's event, not inside this one's handling.
            let (head, start) = (kept.source.head(), kept.start);
            for station in 0..self.stations.len() {
                let input = Box::new(shipper::Input::Journal(head));
                self.schedule(1, Event::Shipper { master, station, start, input });
            }
        }
    }
}
