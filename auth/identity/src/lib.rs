//! Who a station is, and how it becomes a member of a cluster.
//!
//! A station is its key and a certificate that the cluster's own CA signed; a join token lets a new station ask for one,
//! once. Everything here works on files and a database that are passed in; time is passed in, but for
//! the clock that TLS judges certificates by, and sockets belong to the callers.

mod ca;
mod certificate;
mod enrol_error;
mod enrolment;
mod identity;
mod join;
mod members;
mod pem_parts;
mod revocation;
mod secrets;
mod signature;
pub mod tls;
mod token;

pub use ca::{CA_FILE, CaError, CaPin, CaPinError, ClusterCa};
pub use certificate::{CertificateError, Peer};
pub use enrol_error::{EnrolError, MessageError};
pub use enrolment::{Admission, Application, Enrolment, Register};
pub use identity::{FOLDER, IDENTITY_FILE, IdentityError, PendingIdentity, StationIdentity};
pub use join::{Applicant, Decided, Have, Hearing, JoinDesk, JoinError, JoinedIdentity, Move};
pub use members::Member;
pub use revocation::Revocations;
pub use secrets::SecretError;
pub use signature::SignatureError;
pub use token::{
    JoinToken, TOKEN_TTL_S, TokenError, TokenId, TokenInfo, TokenRefusal, Tokens, forget_tokens,
};
