//! What the tests above the crates stand on.
//!
//! The real binary and guards around it, stations in network namespaces, a relay that can cut a connection, trees with
//! every oddity a file system allows, a seeded editor that works in them, a comparison that says what differs, and
//! clients of the drive: libnfs, and a Linux kernel of its own.
//! Guards clean up when they are dropped; what fails keeps its logs. Nothing here knows the insides of the product: it
//! is met through its command line and its files.

pub mod alone;
pub mod binary;
pub mod cluster;
pub mod compare;
pub mod drive;
pub mod editor;
pub mod kernel;
pub mod netns;
pub mod process;
pub mod relay;
pub mod scratch;
pub mod shift;
pub mod station;
pub mod tools;
pub mod tree;
pub mod wait;
pub mod wrong_clock;

pub use self::{
    alone::in_own_process,
    cluster::{Cluster, Wiring},
    compare::{Aspects, Snapshot, differences, tell},
    drive::Drive,
    editor::Editor,
    kernel::KernelClient,
    netns::Network,
    relay::Relay,
    scratch::{Scratch, in_scratch, in_scratch_alone, in_scratch_as_ordinary_user},
    shift::Shift,
    station::{Demo, Doors, Reply, Station},
    wait::{wait_for, wait_until},
    wrong_clock::WrongClock,
};
