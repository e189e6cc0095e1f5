//! Who gets into a cluster, and who talks to whom.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod enrolment;
mod tls;
