//! The loops that tie the machines of `keepshare-proto` to the world: links, journals and stores.
//!
//! `ship` is a master's half of one link, `receive` a station's half for one set. They decide nothing: they hand inputs
//! to a machine and do what it puts out. What may block runs on threads for that.

pub(crate) mod agreement;
pub(crate) mod mirror;
pub(crate) mod pump;
pub(crate) mod receive;
pub(crate) mod restores;
pub(crate) mod ship;
