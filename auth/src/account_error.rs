//! Why something about users or sessions cannot be done.

use crate::{HostRange, UserName};

/// The shortest password, in characters.
pub const PASSWORD_CHARS_MIN: usize = 8;

/// The longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// The most users of a station.
pub(crate) const USERS_MAX: u64 = 10_000;

/// Why something about users or sessions could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// A user of that name is there.
    #[error("there is a user '{0}' already")]
    Exists(UserName),
    /// Too short.
    #[error("a password has at least {PASSWORD_CHARS_MIN} characters")]
    PasswordShort,
    /// Too long.
    #[error("a password has at most {PASSWORD_BYTES_MAX} bytes")]
    PasswordLong,
    /// More users, or groups or sets of a user, than there can be.
    #[error("too many: {USERS_MAX} users, 64 groups and 256 sets of a user are the most")]
    TooMany,
    /// These machines have that set already.
    #[error("there is a host session of {0} for this set already")]
    HostGranted(HostRange),
    /// More host sessions than there can be.
    #[error("there are too many host sessions")]
    TooManyHosts,
    /// Too many passwords are being checked.
    #[error("too many passwords are being checked now")]
    Busy,
    /// The hash of a password.
    #[error("a password cannot be hashed, or its stored hash is damaged")]
    Hash,
    /// The database.
    #[error("cannot use the database of users and sessions")]
    Database(#[source] Box<redb::Error>),
    /// A row in it.
    #[error("a row of the users or sessions cannot be read")]
    Row(#[from] postcard::Error),
    /// Written by a newer release.
    #[error("users and sessions are in format {0}, which is newer than this program")]
    Newer(u32),
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[from] getrandom::Error),
}

macro_rules! from_redb {
    ($($error:ident)*) => {$(
        impl From<redb::$error> for AccountError {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(TransactionError TableError StorageError CommitError);
