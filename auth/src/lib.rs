//! Who is who: stations, and how one becomes a member of a cluster; users, and what lets them in.
//!
//! A station is its key and a certificate that the cluster's own CA signed; a join token lets a new station ask for one,
//! once. Everything here works on files and a database that are passed in; time is passed in too, and sockets belong to
//! the callers.

mod accounts;
mod audit;
mod binding;
mod ca;
mod certificate;
mod enrolment;
pub mod gate;
mod hex;
mod identity;
mod join;
mod limits;
mod members;
mod passwords;
mod principal;
mod revocation;
mod secrets;
mod sessions;
mod source;
mod tickets;
pub mod tls;
mod token;
mod users;

pub use accounts::{AccountError, Accounts, Login, LoginRefusal, LoginRequest};
pub use audit::{AUDIT_FILE, Audit, AuditEvent, AuditLine};
pub use binding::Binding;
pub use ca::{CA_FILE, CaError, CaPin, CaPinError, ClusterCa};
pub use certificate::{CertificateError, ClusterId, Peer, Role, Serial};
pub use enrolment::{Admission, Application, EnrolError, Enrolment};
pub use identity::{IDENTITY_FILE, IdentityError, PendingIdentity, StationIdentity};
pub use join::{Applicant, Decided, JoinDesk, JoinError, JoinedIdentity, MessageError, Move};
pub use members::{AddressError, Member, StationAddress};
pub use passwords::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};
pub use principal::{GROUPS_MAX, Principal};
pub use revocation::Revocations;
pub use secrets::SecretError;
pub use sessions::{
    Admitted, Claim, HostGrant, HostRange, HostRangeError, HostSession, IDLE_S, ResumeRefusal,
    ResumeSecret, SessionId, SessionInfo, SessionRefusal, Sessions,
};
pub use tickets::{TICKET_TTL_S, Ticket, TicketRefusal};
pub use token::{JoinToken, TOKEN_TTL_S, TokenError, TokenId, TokenInfo, TokenRefusal, Tokens};
pub use users::{User, UserName, UserNameError, UserSets};
