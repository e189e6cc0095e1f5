//! What a user sees: the live tree and its past as one tree of nodes, with rights.
//!
//! A [`Share`] answers what a door asks in the name of a [`keepshare_auth::Principal`]: look up, list, read. It keeps no
//! state per client and knows no protocol; doors turn its nodes into handles. [`Asking`] answers the same by path, for
//! users and admins. Time is passed in, and nothing here opens
//! a socket.

// The tests in here use what those beside it do.
#[cfg(test)]
extern crate self as keepshare_namespace;

mod answer;
mod asking;
mod cache;
mod chronicle;
mod config;
mod content;
mod dated;
mod former;
mod guard;
mod hashes;
mod history;
mod ids;
mod live;
mod memory;
mod names;
mod node;
mod past;
mod question;
mod reach;
mod restore;
mod rights;
mod share;
mod table;
mod versions;
mod who;
mod windows;

pub use answer::{Access, Attributes, Cookie, Denial, Found, LISTED_MAX, Listed, Listing, Room};
/// Whose rights count, as [`Logins`] tell.
pub use keepshare_auth::Principal;

pub use asking::{
    AskError, Asking, Content, Exported, FoundPath, Interrupted, Missing, PathThen, PathVersion,
    Pattern, PatternError, PlannedBack, Restorable, Shown, Sought, StepError, StepPlace, Taker,
    Uncut,
};
pub use config::{ShareConfig, ShareId, Show};
pub use node::{NameHash, Node, PastMoment};
pub use restore::{AskedBy, Restore, RestoreError, Restorer};
pub use share::Share;
pub use who::{Logins, Who};
pub use windows::shows_on_windows;
