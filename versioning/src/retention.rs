//! Which versions a set keeps, and why.
//!
//! [`judge`] looks at the history of one name and lets versions go by its [`Policy`]; [`Review`] goes through all names that a set
//! has or had. What goes is a (file, commit), and it goes only where **every** history that shows it lets it go: a file has several
//! through hard links, renames and names that were taken over.
//!
//! Nothing here reads a clock or removes anything.

mod judge;
mod policy;
mod review;
mod span;
mod until;

pub use judge::{Fate, Gone, Now, Reason, Reasons, Version, judge};
pub use policy::{KEYS, Policy, PolicyError, Step};
pub use review::{Candidate, Counts, Outlook, Review, Shown, history, outlook};
pub use span::{Span, SpanError};
pub use until::until;
