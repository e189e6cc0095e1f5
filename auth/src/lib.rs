//! Which users there are, and what lets them in: passwords, tickets, sessions, and the log of who did what.
//!
//! Everything here works on files and a database that are passed in; time is passed in too, and sockets belong to the
//! callers. Who a station is stands in `auth/identity`.

mod account_error;
mod accounts;
pub mod audit;
mod binding;
mod passwords;
mod principal;
mod range;
mod session_id;
mod sessions;
mod tickets;
mod user_name;
mod users;

use keepshare_host::shared::SharedDb;

pub use account_error::{AccountError, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};
pub use accounts::{Accounts, Bearer, Login, LoginRefusal, LoginRequest};
pub use audit::{AUDIT_FILE, Audit, AuditEvent, AuditLine};
pub use binding::Binding;
pub use principal::{GROUPS_MAX, Principal};
pub use range::{HostRange, HostRangeError};
pub use session_id::SessionId;
pub use sessions::{
    Admitted, Claim, HostGrant, HostSession, IDLE_S, ResumeRefusal, ResumeSecret, SessionInfo,
    SessionRefusal, Sessions,
};
pub use tickets::{TICKET_TTL_S, Ticket, TicketRefusal};
pub use user_name::{UserName, UserNameError};
pub use users::{User, UserSets};

/// Ends all sessions and grants to machines in a database that comes from a backup, durably, and returns how many there were: those that
/// were revoked since the backup must not come back with it.
pub fn forget_logins(db: &SharedDb) -> Result<u64, AccountError> {
    sessions::forget(db)
}
