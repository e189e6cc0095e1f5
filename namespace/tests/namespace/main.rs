//! What users and admins are shown of a share, as it is and as it was.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod asking;
mod forget;
mod large;
mod model;
mod past;
mod rig;
mod rights;
mod rolling;
mod tree;
