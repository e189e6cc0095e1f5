//! Carries a set from its master to the stations.
//!
//! `capture` tells which names and files of a source may have changed; `source` finds out what did, keeps the identity
//! map and the journal, and gives journaled changes with their content to whoever ships them. `link` carries frames
//! between two stations, and the questions by which a station joins, renews, moves and hears; `drivers` are the loops that tie
//! these to the state machines of `keepshare-proto`; `kept` says what a store has to the
//! station's half of a link.

pub mod capture;
pub mod clock;
pub mod drivers;
pub mod kept;
pub mod lease;
pub mod link;
pub mod source;
