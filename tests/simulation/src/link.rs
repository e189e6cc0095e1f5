//! Connections: frames in order, each side's end of them, and what goes wrong on the way.

use keepshare_base::Stamp;
use keepshare_proto::{
    Frame, Message, Step, codec,
    codec::{Clocks, Decoder},
    receiver, shipper,
};
use rand::Rng;

use crate::{
    World,
    clocks::{Arrived, Told},
    event::Event,
    sides::{Source, Store},
};

/// One connection between a master and a station. It is never used again once it ended.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) master: usize,
    pub(crate) station: usize,
    /// What arrives at the master, and when the last of it does.
    pub(crate) to_master: Way,
    /// What arrives at the station.
    pub(crate) to_station: Way,
    /// Nothing arrives any more, and nobody is told.
    pub(crate) stalled: bool,
    /// What happens to the next change on its way to the station.
    pub(crate) mishap: Option<Mishap>,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// The receiving side still holds its end.
    pub(crate) open: bool,
    pub(crate) last_arrival: u64,
    pub(crate) decoder: Decoder,
    /// What the other side's clock said in the newest frame that was read.
    heard: Option<Stamp>,
}

/// What a faulty sender does to one change; no honest connection does it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mishap {
    /// Sends it not at all.
    Gap,
    /// Sends it twice.
    Replay,
}

impl Link {
    pub(crate) fn new(master: usize, station: usize) -> Self {
        let way = || Way { open: true, ..Way::default() };
        Self { master, station, to_master: way(), to_station: way(), stalled: false, mishap: None }
    }

    pub(crate) fn way(&mut self, at_master: bool) -> &mut Way {
        if at_master { &mut self.to_master } else { &mut self.to_station }
    }
}

impl<S: Source, K: Store> World<S, K> {
    pub(crate) fn connect(&mut self, master: usize, station: usize) {
        let reachable = self.reach[master][station] && self.stations[station].up;
        if !reachable {
            // Refused at once, or not answered until the shipper loses patience.
            if self.random.random_bool(0.7) {
                self.tell_shipper(master, station, shipper::Input::Disconnected);
            }
            return;
        }
        if let Some(old) = self.stations[station].link {
            self.end_link(old, true, false);
        }
        let link = self.links.len();
        self.links.push(Link::new(master, station));
        self.masters[master].destinations[station].link = Some(link);
        self.stations[station].link = Some(link);
        let peer = format!("master-{master}").parse().expect("a station name");
        self.tell_receiver(station, receiver::Input::Connected { peer });
        self.tell_shipper(master, station, shipper::Input::Connected);
    }

    pub(crate) fn send(&mut self, link: usize, at_master: bool, frame: &Frame) {
        let bytes = codec::encode(&frame.message, &frame.payload).expect("frames here are small");
        let mut copies = 1;
        self.seen.count(&frame.message);
        let off = if at_master {
            self.stations[self.links[link].station].clock_off
        } else {
            self.clock_off
        };
        let heard = self.links[link].way(!at_master).heard;
        let clocks = Clocks { sent: Some(self.truly().plus_micros(off)), heard };
        let told = Told { clocks, off };
        let next = matches!(frame.message, Message::Change { step: Step::Next, .. });
        if next && let Some(mishap) = self.links[link].mishap.take() {
            copies = match mishap {
                Mishap::Gap => 0,
                Mishap::Replay => 2,
            };
        }
        for _ in 0..copies {
            let late = self.now + self.late();
            let way = self.links[link].way(at_master);
            way.last_arrival = late.max(way.last_arrival + 1);
            let after = way.last_arrival - self.now;
            self.schedule(after, Event::Arrive { link, at_master, bytes: bytes.clone(), told });
        }
    }

    pub(crate) fn arrive(&mut self, link: usize, at_master: bool, bytes: &[u8], told: Told) {
        if self.links[link].stalled || !self.links[link].way(at_master).open {
            return;
        }
        let way = self.links[link].way(at_master);
        way.decoder.feed(bytes);
        way.heard = told.clocks.sent;
        loop {
            let way = self.links[link].way(at_master);
            // A side may have left because of the frame before.
            if !way.open {
                return;
            }
            let frame = way.decoder.next_frame().expect("our own frames decode");
            let Some(frame) = frame else { return };
            let Link { master, station, .. } = self.links[link];
            if at_master {
                self.tell_shipper(master, station, shipper::Input::Received(frame));
            } else {
                let (truly, up) = (self.truly(), self.now);
                let kept = &mut self.stations[station];
                let arrived = Arrived::new(truly, up, kept.clock_off, told, kept.is_steady);
                kept.arrived = Some(arrived);
                self.tell_receiver(station, receiver::Input::Received(frame));
            }
        }
    }

    /// Ends a link; each side is told unless it is the one that left or is gone.
    pub(crate) fn end_link(&mut self, link: usize, tell_master: bool, tell_station: bool) {
        for (at_master, tell) in [(true, tell_master), (false, tell_station)] {
            if tell && !self.links[link].stalled {
                let after = self.late();
                self.schedule(after, Event::Ended { link, at_master });
            }
            if !tell {
                self.close_end(link, at_master);
            }
        }
    }

    pub(crate) fn close_end(&mut self, link: usize, at_master: bool) {
        let Link { master, station, .. } = self.links[link];
        self.links[link].way(at_master).open = false;
        let held = if at_master {
            &mut self.masters[master].destinations[station].link
        } else {
            &mut self.stations[station].link
        };
        if *held == Some(link) {
            *held = None;
        }
    }

    pub(crate) fn ended(&mut self, link: usize, at_master: bool) {
        if !self.links[link].way(at_master).open {
            return;
        }
        self.close_end(link, at_master);
        let Link { master, station, .. } = self.links[link];
        if at_master {
            self.tell_shipper(master, station, shipper::Input::Disconnected);
        } else {
            self.tell_receiver(station, receiver::Input::Disconnected);
        }
    }
}
