//! Why a station is not let into the cluster.

use std::net::IpAddr;

use keepshare_base::StationName;

use crate::{CaError, IdentityError, TokenError, TokenRefusal};

/// The most stations of one cluster.
pub(crate) const MEMBERS_MAX: usize = 256;

/// Why a station was not let in, or the desk could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// Its token.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// There is a station of that name.
    #[error("there is a station called {0} already")]
    NameTaken(StationName),
    /// The primary's place, which no token gives away and no command takes.
    #[error("{0} is the primary and cannot be replaced or removed")]
    Primary(StationName),
    /// The cluster is as large as it can be.
    #[error("the cluster has {MEMBERS_MAX} stations, which is the most")]
    Full,
    /// A renewal for a station or certificate that is not on record.
    #[error("{0} holds no certificate on record")]
    NotMember(StationName),
    /// A renewal by someone who showed no certificate.
    #[error("a certificate is renewed for whoever shows it, and none was shown")]
    NoCertificate,
    /// Too many wrong tokens from one address.
    #[error("{0} showed too many wrong join tokens")]
    Guesses(IpAddr),
    /// A question that is none.
    #[error(transparent)]
    Question(#[from] MessageError),
    /// The CA.
    #[error("the cluster CA refused the request")]
    Ca(#[from] CaError),
    /// The station's own identity.
    #[error("cannot renew the station's own certificate")]
    Identity(#[from] IdentityError),
    /// The tokens.
    #[error("the join tokens cannot be used")]
    Tokens(#[from] TokenError),
    /// The database.
    #[error("cannot use the database of members")]
    Database(#[source] Box<redb::Error>),
    /// A row in it that cannot be read.
    #[error("a row of the members cannot be read")]
    Row(#[from] postcard::Error),
}

macro_rules! from_redb {
    ($($error:ident)*) => {$(
        impl From<redb::$error> for EnrolError {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(TransactionError TableError StorageError CommitError);

/// Bytes that are no question or no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a message of the join protocol cannot be read")]
pub struct MessageError(#[source] pub(crate) postcard::Error);
