//! What a master decides about its source, without touching the world.
//!
//! Whoever watches a folder hears only *where* something may have happened. What did happen, and what is to be told of it, is
//! decided here in four steps, each of which is given facts and gives back what it wants to know or to have done:
//!
//! 1. [`agenda`] says what is looked at, when and why. It is the only place where a name or a file of the folder waits.
//! 2. [`look`] takes what names and files are seen to be, brings the identity map to it, and asks for more where that
//!    contradicts itself.
//! 3. [`compose`] says which contents are to be read, which states are versions ([`compose::cutting`]), and makes changes of
//!    what was found and read.
//! 4. Whoever implements [`Ledger`] makes the map and the changes durable together.
//!
//! What becomes of what a restore in place replaces is said by [`restores`], what a destination lacks by [`mirror`], and what
//! cannot be given of a journaled change any more by [`withhold`].
//!
//! No clock, no input or output, no threads: time and facts are passed in.

pub mod agenda;
pub mod compose;
mod facts;
mod known;
pub mod look;
mod marks;
#[cfg(any(test, feature = "sim"))]
pub mod memory;
pub mod mirror;
pub mod restores;
pub mod turn;
pub mod withhold;

pub use facts::{AtName, Failure, Looked, NoFolder, Seen};
#[cfg(test)]
mod tests;

pub use known::{CutPlace, FileRecord, Inode, Known, Ledger, MapEntry, Signature, Told};
pub use marks::{MARKS_MAX, Marks, Object, Touch};

/// Which file each name stood for at a station, when the map was lost.
pub type Seed = std::collections::HashMap<
    (keepshare_base::FileId, keepshare_base::Name),
    (keepshare_base::FileId, keepshare_base::Kind),
>;

/// A name in a folder, or the folder itself.
pub type At = (keepshare_base::FileId, Option<keepshare_base::Name>);
