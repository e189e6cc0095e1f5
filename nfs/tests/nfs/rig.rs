//! What the tests of the door share.

pub(crate) mod client;
pub(crate) mod station;
