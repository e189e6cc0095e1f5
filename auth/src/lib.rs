//! Who is who: stations, and how one becomes a member of a cluster.
//!
//! A station is its key and a certificate that the cluster's own CA signed; a join token lets a new station ask for one,
//! once. Everything here works on files and a database that are passed in; time is passed in too, and sockets belong to
//! the callers.

mod ca;
mod certificate;
mod enrolment;
mod files;
mod hex;
mod identity;
mod join;
mod members;
mod principal;
mod revocation;
pub mod tls;
mod token;

pub use ca::{CA_FILE, CaError, CaPin, ClusterCa};
pub use certificate::{CertificateError, ClusterId, Peer, Role, Serial};
pub use enrolment::{Admission, Application, EnrolError, Enrolment};
pub use files::FileError;
pub use identity::{IDENTITY_FILE, IdentityError, PendingIdentity, StationIdentity};
pub use join::{Applicant, JoinDesk, JoinError, JoinedIdentity, MessageError};
pub use members::{AddressError, Member, StationAddress};
pub use principal::{GROUPS_MAX, Principal};
pub use revocation::Revocations;
pub use token::{JoinToken, TOKEN_TTL_S, TokenError, TokenId, TokenInfo, TokenRefusal, Tokens};
