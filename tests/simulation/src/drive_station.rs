//! A station's driver: what a receiver wants done is done, a little later.

use keepshare_base::Seq;
use keepshare_proto::{Message, MonoTime, receiver};
use rand::Rng;

use crate::{
    World,
    event::Event,
    sides::{Source, Store},
};

/// How many lines a page has here, so that listings have many.
const PAGE_LINES: usize = 5;

impl<S: Source, K: Store> World<S, K> {
    pub(crate) fn tell_receiver(&mut self, station: usize, input: receiver::Input) {
        if !self.stations[station].up {
            return;
        }
        assert!(
            !matches!(input, receiver::Input::Received(_))
                || self.stations[station].receiver.wants_input(),
            "a master sent more than its window"
        );
        self.stations[station].receiver.handle_input(MonoTime(self.now), input);
        while let Some(output) = self.stations[station].receiver.poll_output() {
            self.do_for_receiver(station, output);
        }
        self.pump_store(station);
        self.set_station_timer(station);
    }

    pub(crate) fn set_station_timer(&mut self, station: usize) {
        let start = self.stations[station].start;
        let Some(due) = self.stations[station].receiver.poll_timeout() else { return };
        if self.stations[station].timer.is_none_or(|timer| due.0 < timer) {
            let at = due.0.max(self.now);
            self.stations[station].timer = Some(at);
            self.schedule(at - self.now, Event::StationTimer { station, start });
        }
    }

    pub(crate) fn do_for_receiver(&mut self, station: usize, output: receiver::Output) {
        use receiver::{Input, Output};
        let start = self.stations[station].start;
        let store = &mut self.stations[station].store;
        let answer = match output {
            Output::Send(frame) => {
                if let Message::Ack { through } = frame.message {
                    self.note_ack(station, through);
                }
                if let Some(link) = self.stations[station].link {
                    self.send(link, true, &frame);
                }
                return;
            }
            Output::Disconnect { .. } => {
                if let Some(link) = self.stations[station].link {
                    // What was sent before still arrives.
                    self.close_end(link, false);
                    let after = 60_000;
                    self.schedule(after, Event::Ended { link, at_master: true });
                }
                return;
            }
            Output::Alarm { .. } | Output::Restore(_) => return,
            Output::Commit(commit) => {
                let kept = &mut self.stations[station];
                let arrived = kept.arrived.expect("only what came is committed");
                kept.queue.push_back((commit, arrived));
                return;
            }
            Output::ReadStanding => Input::Standing(store.standing()),
            Output::Fence { epoch } => {
                store.set_fence(epoch);
                Input::Fenced { epoch }
            }
            Output::ListNames { listing, after, limit } => {
                let (lines, end) = store.names_page(after.as_ref(), limit.min(PAGE_LINES));
                Input::NamesPage { listing, lines, end }
            }
            Output::ListFiles { listing, after, limit } => {
                let (lines, end) = store.files_page(after, limit.min(PAGE_LINES));
                Input::FilesPage { listing, lines, end }
            }
        };
        let (after, input) = (self.late(), Box::new(answer));
        self.schedule(after, Event::Receiver { station, start, input });
    }

    /// An acknowledgement must never run ahead of the disk.
    pub(crate) fn note_ack(&mut self, station: usize, through: Seq) {
        let place = self.stations[station].store.standing().place;
        let place = place.expect("acknowledged with nothing durable");
        assert!(through <= place.seq, "acknowledged {through}, durable is {}", place.seq);
        let acked = Some((place.epoch, through));
        self.stations[station].acked = self.stations[station].acked.max(acked);
    }

    /// Moves what was submitted into the store and begins a sync.
    pub(crate) fn pump_store(&mut self, station: usize) {
        let before = self.stations[station].store.taken();
        let refused = self.stations[station].take_queue();
        let start = self.stations[station].start;
        for (ticket, reason) in refused {
            let input = Box::new(receiver::Input::CommitRefused { ticket, reason });
            self.schedule(1, Event::Receiver { station, start, input });
        }
        let records = self.stations[station].store.taken();
        self.seen.commits += (records - before) as u64;
        let kept = &mut self.stations[station];
        if !kept.unsynced.is_empty() && !kept.syncing {
            kept.syncing = true;
            let after = self.random.random_range(100..20_000);
            self.schedule(after, Event::Synced { station, start, records });
        }
    }

    pub(crate) fn synced(&mut self, station: usize, records: usize) {
        let kept = &mut self.stations[station];
        kept.syncing = false;
        if !kept.store.sync(records) {
            self.crash_station(station);
            return self.start_station(station);
        }
        let mut through = None;
        while kept.unsynced.front().is_some_and(|(_, end)| *end <= records) {
            through = kept.unsynced.pop_front().map(|(ticket, _)| ticket);
        }
        if let Some(through) = through {
            self.tell_receiver(station, receiver::Input::Committed { through });
        }
        self.pump_store(station);
    }
}
