//! Who is who: stations, and how one becomes a member of a cluster; users, and what lets them in.
//!
//! A station is its key and a certificate that the cluster's own CA signed; a join token lets a new station ask for one,
//! once. Everything here works on files and a database that are passed in; time is passed in too, and sockets belong to
//! the callers.

mod account_error;
mod accounts;
mod audit;
mod binding;
mod ca;
mod certificate;
mod enrol_error;
mod enrolment;
mod identity;
mod join;
mod members;
mod passwords;
mod pem_parts;
mod principal;
mod range;
mod revocation;
mod secrets;
mod session_id;
mod sessions;
mod tickets;
pub mod tls;
mod token;
mod user_name;
mod users;

pub use account_error::{AccountError, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};
pub use accounts::{Accounts, Login, LoginRefusal, LoginRequest};
pub use audit::{AUDIT_FILE, Audit, AuditEvent, AuditLine};
pub use binding::Binding;
pub use ca::{CA_FILE, CaError, CaPin, CaPinError, ClusterCa};
pub use certificate::{CertificateError, Peer};
pub use enrol_error::{EnrolError, MessageError};
pub use enrolment::{Admission, Application, Enrolment};
pub use identity::{IDENTITY_FILE, IdentityError, PendingIdentity, StationIdentity};
pub use join::{Applicant, Decided, JoinDesk, JoinError, JoinedIdentity, Move};
pub use members::Member;
pub use principal::{GROUPS_MAX, Principal};
pub use range::{HostRange, HostRangeError};
pub use revocation::Revocations;
pub use secrets::SecretError;
pub use session_id::SessionId;
pub use sessions::{
    Admitted, Claim, HostGrant, HostSession, IDLE_S, ResumeRefusal, ResumeSecret, SessionInfo,
    SessionRefusal, Sessions,
};
pub use tickets::{TICKET_TTL_S, Ticket, TicketRefusal};
pub use token::{JoinToken, TOKEN_TTL_S, TokenError, TokenId, TokenInfo, TokenRefusal, Tokens};
pub use user_name::{UserName, UserNameError};
pub use users::{User, UserSets};
