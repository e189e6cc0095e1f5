//! From a folder to another station: what the source journals of what is done in it, and the links that carry it.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod link;
mod source;
