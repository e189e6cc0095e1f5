//! The database's errors as those of a source.

use crate::source::SourceError;

impl SourceError {
    /// Wraps an error of the database.
    pub(crate) fn journal(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Journal(Box::new(error))
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => { $(
        impl From<$error> for SourceError {
            fn from(error: $error) -> Self {
                Self::journal(error)
            }
        }
    )* };
}

from_redb!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);
