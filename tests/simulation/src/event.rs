//! What will happen, and when.

use std::cmp::Ordering;

use keepshare_proto::{receiver, shipper};

use crate::clocks::Told;

/// An event at its time; of two at one time the one scheduled first comes first.
#[derive(Debug)]
pub(crate) struct Timed {
    pub(crate) at: u64,
    pub(crate) counter: u64,
    pub(crate) event: Event,
}

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something for a master's driver of one destination, in one of its starts.
    Shipper {
        master: usize,
        station: usize,
        start: u64,
        input: Box<shipper::Input>,
    },
    /// Something for a station's driver.
    Receiver {
        station: usize,
        start: u64,
        input: Box<receiver::Input>,
    },
    /// Bytes arrive.
    Arrive {
        link: usize,
        at_master: bool,
        bytes: Vec<u8>,
        told: Told,
    },
    /// A side finds its connection ended.
    Ended {
        link: usize,
        at_master: bool,
    },
    /// A connection is asked for.
    Connect {
        master: usize,
        station: usize,
        start: u64,
    },
    MasterTimer {
        master: usize,
        station: usize,
        start: u64,
    },
    /// A mirror that could not begin yet is tried again.
    Mirror {
        master: usize,
        station: usize,
        start: u64,
        mirror: shipper::MirrorId,
    },
    /// Something is due in a master's folder.
    Work {
        master: usize,
        start: u64,
    },
    /// Somebody looks after a master that is stopped.
    Person {
        master: usize,
        start: u64,
    },
    StationTimer {
        station: usize,
        start: u64,
    },
    /// The store's sync ends.
    Synced {
        station: usize,
        start: u64,
        records: usize,
    },
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.counter) == (other.at, other.counter)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.counter).cmp(&(other.at, other.counter))
    }
}
