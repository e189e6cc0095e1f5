//! A master's drivers: what shippers want done is done, a little later.

use keepshare_base::Epoch;
use keepshare_proto::{
    MonoTime,
    shipper::{self, AlarmKind, Page},
};

use crate::{World, event::Event, master::Mirror};

/// How many parts a master gives at once.
const PARTS_AT_ONCE: usize = 3;

impl World {
    pub(crate) fn tell_shipper(&mut self, master: usize, station: usize, input: shipper::Input) {
        if !self.masters[master].up {
            return;
        }
        let shipper = &mut self.masters[master].destinations[station].shipper;
        shipper.handle_input(MonoTime(self.now), input);
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
                self.masters[master].source.acked.insert(station, place);
                return;
            }
            Output::Alarm { kind, .. } => {
                self.seen.lost_acknowledged += u64::from(kind == AlarmKind::LostAcknowledged);
                return;
            }
            Output::NewEpoch { above, .. } => return self.begin_epoch(master, above),
            Output::StopMirror { mirror } => {
                let kept = &mut self.masters[master].destinations[station].mirror;
                if kept.as_ref().is_some_and(|kept| kept.id == mirror) {
                    *kept = None;
                }
                return;
            }
            Output::Restore(_) => return,
            Output::ReadHash { seq } => {
                let running = self.masters[master].source.hash_at(seq);
                Input::JournalHash { seq, running }
            }
            Output::Read { from, bytes_max } => {
                match self.masters[master].source.read(from, bytes_max) {
                    Some(entries) => Input::JournalRead(entries),
                    None => Input::JournalGone { from },
                }
            }
            Output::StartMirror { mirror, .. } => self.start_mirror(master, station, mirror),
            Output::Listing { mirror, page } => {
                let Some(kept) = &mut self.masters[master].destinations[station].mirror else {
                    return;
                };
                match page {
                    Page::Names(lines) => kept.names.extend(lines),
                    Page::Files(lines) => kept.files.extend(lines),
                    Page::End => return,
                }
                Input::ListingTaken { mirror }
            }
            Output::ReadMirror { mirror, .. } => {
                let Some(kept) = &mut self.masters[master].destinations[station].mirror else {
                    return;
                };
                let Mirror { tree, names, files, stamp, .. } = kept;
                let parts = kept.parts.get_or_insert_with(|| {
                    tree.difference(names, files, *stamp, PARTS_AT_ONCE).into()
                });
                let some = parts.len().min(PARTS_AT_ONCE);
                match some {
                    0 => Input::MirrorDone { mirror },
                    _ => Input::MirrorParts { mirror, parts: parts.drain(..some).collect() },
                }
            }
        };
        let (after, input) = (self.late(), Box::new(answer));
        self.schedule(after, Event::Shipper { master, station, start, input });
    }

    pub(crate) fn start_mirror(
        &mut self,
        master: usize,
        station: usize,
        mirror: shipper::MirrorId,
    ) -> shipper::Input {
        self.seen.mirrors += 1;
        let (stamp, source) = (self.stamp(), &self.masters[master].source);
        let (at, tree) = (source.place(), source.tree.clone());
        let (names, files, parts) = (Vec::new(), Vec::new(), None);
        let kept = Mirror { id: mirror, stamp, tree, names, files, parts };
        self.masters[master].destinations[station].mirror = Some(kept);
        shipper::Input::MirrorStarted { mirror, at, stamp }
    }

    pub(crate) fn begin_epoch(&mut self, master: usize, above: Epoch) {
        let stamp = self.stamp();
        let kept = &mut self.masters[master];
        // Only who holds the origin may; and one new epoch answers all who want one above the same.
        if kept.holds && kept.source.epoch <= above {
            kept.source.begin_epoch(above, stamp);
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
