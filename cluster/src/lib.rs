//! What a cluster agrees on: its stations and its sets, as one document that has revisions.
//!
//! The primary writes a revision, every station judges it by the same rules and acts on it. Here are the words, the bytes
//! (`docs/formats/cluster.md`) and the rules, pure: who signs and verifies is `auth/identity`, where a revision is kept is a
//! store (`cluster/local`), and what a station does about one is the station's work.

mod document;
mod judging;
mod limits;
mod pending;
mod reading;
mod rules;
mod signed;

pub use document::{
    Document, DocumentHash, Member, NotBrought, Revision, Root, Set, SetId, SetIdError, SharesGone,
    Slot,
};
pub use judging::{Refusal, Step, judge};
pub use limits::{DOCUMENT_BYTES_MAX, MEMBERS_MAX, SETS_MAX, SIGNED_BYTES_MAX};
pub use pending::{KEPT_S, Pending};
pub use reading::DocumentError;
pub use rules::RuleError;
pub use signed::{SignedDocument, SignedError};

#[cfg(test)]
mod tests;
