//! A master: the real shippers over a folder and its journal.

use keepshare_base::StationName;
use keepshare_proto::{
    SetSettings,
    epochs::Epochs,
    shipper::{Head, MirrorId, Shipper, ShipperOptions},
};

use crate::{
    sides::{Listing, Source},
    world::ORIGIN,
};

/// A master with its drivers, one for each station.
#[derive(Debug)]
pub(crate) struct Master<S: Source> {
    pub(crate) source: S,
    pub(crate) destinations: Vec<Destination<S::Mirror>>,
    /// What they say of the journal.
    pub(crate) epochs: Epochs,
    pub(crate) start: u64,
    pub(crate) up: bool,
    /// It holds the origin; another one may not begin an epoch.
    pub(crate) holds: bool,
    /// Where its shippers know the journal to be.
    pub(crate) told: Option<Head>,
    /// When it works next.
    pub(crate) works_at: Option<u64>,
}

/// One destination of a master.
#[derive(Debug)]
pub(crate) struct Destination<M> {
    pub(crate) shipper: Shipper,
    pub(crate) link: Option<usize>,
    pub(crate) timer: Option<u64>,
    /// The mirror that was asked for last, unless it was stopped; it may begin later.
    pub(crate) asked: Option<MirrorId>,
    pub(crate) mirror: Option<Mirror<M>>,
}

/// A mirror under way, and what the station has.
#[derive(Debug)]
pub(crate) struct Mirror<M> {
    pub(crate) id: MirrorId,
    pub(crate) listing: Listing,
    pub(crate) run: M,
}

impl<S: Source> Master<S> {
    pub(crate) fn new(source: S, stations: usize, seed: u64) -> Self {
        let destinations =
            (0..stations).map(|station| Destination::new(&source, station, seed)).collect();
        let epochs = Self::no_epochs(stations);
        let (told, works_at) = (None, None);
        Self { source, destinations, epochs, start: 0, up: true, holds: true, told, works_at }
    }

    fn no_epochs(stations: usize) -> Epochs {
        Epochs::new((0..stations).map(station_name))
    }

    /// Loses its memory; the journal and what it says of the destinations stay.
    pub(crate) fn crash(&mut self, seed: u64) {
        self.start += 1;
        self.up = false;
        (self.told, self.works_at) = (None, None);
        self.source.restart();
        self.epochs = Self::no_epochs(self.destinations.len());
        for station in 0..self.destinations.len() {
            self.destinations[station] = Destination::new(&self.source, station, seed);
        }
    }
}

/// Returns what a station is called.
pub(crate) fn station_name(station: usize) -> StationName {
    format!("station-{station}").parse().expect("a station name")
}

impl<M> Destination<M> {
    fn new<S: Source>(source: &S, station: usize, seed: u64) -> Self {
        let options = ShipperOptions {
            set: "projects".parse().expect("a set name"),
            origin: ORIGIN,
            settings: SetSettings::default(),
            acked: source.acked(station),
            seed: seed ^ station as u64,
        };
        Self { shipper: Shipper::new(options), link: None, timer: None, asked: None, mirror: None }
    }
}
