//! A set's data at rest on one station.
//!
//! The row log and the packs are the truth; the index is derived from them and can be built anew at any time. [`Store`]
//! is the single writer: it checks changes, makes them durable and keeps the index that every read uses. [`Reader`]
//! gives any thread the set at any commit. [`live`] shows the newest commit as plain files, [`scrub`] looks
//! through all of it for damage, and [`set`] runs both on
//! their threads. `past` is the one reading of what a name held; `moment` says when a change was made. Time is passed
//! in; there are no sockets here.

pub mod burst;
pub mod live;
pub mod log;
pub mod pack;
pub mod retention;
pub mod rollback;
pub mod scrub;
pub mod set;

mod body;
mod check;
mod error;
mod forget;
mod index;
mod moment;
mod past;
mod reader;
mod record;
mod state;
mod store;

pub(crate) use keepshare_host::bytes;
pub use keepshare_host::{checked, disk};

pub use check::Incoming;
pub use error::{CommitError, ReadError, Refusal, StoreError};
pub use index::IndexError;
pub use moment::{Arrival, ClockAlarm, Sent};
pub use past::{NameAt, names, when};
pub use reader::{Damage, NamesFound, NamesFrom, NamesFromError, READ_BYTES_MAX, Reader, View};
pub use record::{MirrorMark, OriginState};
pub use state::{
    Aside, BodyChanges, BodyRef, CommitInfo, Ended, Entry, FileState, HistoryEntry, PointInfo,
    RestoreInfo, Touched,
};
pub use store::{
    ASIDE_MICROS, Held, OpenReport, POINTS_IN_ALL_MAX, POINTS_MAX, Store, StoreOptions, among_last,
};
