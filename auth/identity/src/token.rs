//! Join tokens: a way into the cluster that works once.
//!
//! A token is `v1.CA.SECRET`: the pin of the cluster's CA, by which the joining station knows whom it talks to before it
//! says anything, and 32 random bytes. The primary stores a hash of the secret only. 256 random bits need no slow hash.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use keepshare_base::{Role, Stamp, StationName};
use keepshare_host::shared::SharedDb;

use crate::CaPin;

/// How long a token is good for unless told otherwise, in seconds.
pub const TOKEN_TTL_S: u32 = 30 * 60;

/// The most tokens kept, used and expired ones included.
const TOKENS_MAX: u64 = 256;

/// How long a used or expired token stays listed, so that a refusal can be explained.
const KEPT_US: i64 = 24 * 3_600_000_000;

const TOKENS: TableDefinition<[u8; 8], &[u8]> = TableDefinition::new("join_tokens");

/// Why tokens could not be worked with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// A text that is no token.
    #[error("this is not a join token; they look like v1.<64 digits>.<64 digits>")]
    Malformed,
    /// The database.
    #[error("cannot use the database of join tokens")]
    Database(#[source] Box<redb::Error>),
    /// A row in it that cannot be read.
    #[error("a row of the join tokens cannot be read")]
    Row(#[source] postcard::Error),
    /// Too many at once.
    #[error("there are {TOKENS_MAX} join tokens already; remove some")]
    Full,
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[from] getrandom::Error),
}

/// Why a token was refused: for the primary's log, never for whoever showed it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRefusal {
    /// None that this cluster gave, or one altered or removed since.
    #[error("the join token is not known")]
    Unknown,
    /// Used before.
    #[error("the join token was used by {by} at {at}")]
    Used {
        /// When.
        at: Stamp,
        /// By which station.
        by: StationName,
    },
    /// Too old.
    #[error("the join token expired at {at}")]
    Expired {
        /// When.
        at: Stamp,
    },
    /// Made for a station of another name.
    #[error("the join token is for {0} alone")]
    OtherStation(StationName),
}

/// A join token, as an admin carries it from the primary to the new station.
#[derive(Clone, Eq, PartialEq)]
pub struct JoinToken {
    /// The CA of the cluster it is for.
    pub ca: CaPin,
    /// The secret.
    pub secret: [u8; 32],
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let rest = text.trim().strip_prefix("v1.").ok_or(TokenError::Malformed)?;
        let (ca, secret) = rest.split_once('.').ok_or(TokenError::Malformed)?;
        let digits = |text: &str| {
            let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| TokenError::Malformed)?;
            bytes.try_into().map_err(|_| TokenError::Malformed)
        };
        Ok(Self { ca: CaPin(digits(ca)?), secret: digits(secret)? })
    }
}

impl fmt::Display for JoinToken {
    /// Writes the whole token, secret included: for the admin's eyes only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1.{}.{}", self.ca, HEXLOWER.encode_display(&self.secret))
    }
}

impl fmt::Debug for JoinToken {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &TokenId::of(&self.secret)).finish_non_exhaustive()
    }
}

/// Names a token without giving it away.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct TokenId(pub [u8; 8]);

impl TokenId {
    /// Returns the id of the token with this secret.
    pub fn of(secret: &[u8; 32]) -> Self {
        let mut id = [0; 8];
        id.copy_from_slice(&blake3::derive_key("keepshare join token id v1", secret)[..8]);
        Self(id)
    }
}

impl FromStr for TokenId {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| TokenError::Malformed)?;
        bytes.try_into().map(Self).map_err(|_| TokenError::Malformed)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is known of a token without its secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenInfo {
    /// Its id.
    pub id: TokenId,
    /// The role it gives.
    pub role: Role,
    /// The one station that may use it, and may take the place of the present one of that name.
    pub station: Option<StationName>,
    /// When it ends.
    pub expires: Stamp,
    /// When and by whom it was used.
    pub used: Option<(Stamp, StationName)>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    check: [u8; 32],
    role: Role,
    station: Option<StationName>,
    expires: Stamp,
    used: Option<(Stamp, StationName)>,
}

/// Takes all join tokens back in a database that comes from a backup, durably: those that were used or removed since must not come back.
pub fn forget_tokens(db: &SharedDb) -> Result<(), TokenError> {
    let write = db.begin_write().map_err(database)?;
    write.delete_table(TOKENS).map_err(database)?;
    write.commit().map_err(database)
}

/// The join tokens of a cluster, in the primary's database.
#[derive(Clone, Debug)]
pub struct Tokens {
    db: SharedDb,
    ca: CaPin,
}

impl Tokens {
    /// Opens the tokens of the cluster with this CA.
    pub fn open(db: impl Into<SharedDb>, ca: CaPin) -> Result<Self, TokenError> {
        let db = db.into();
        let write = db.begin_write().map_err(database)?;
        write.open_table(TOKENS).map_err(database)?;
        write.commit().map_err(database)?;
        Ok(Self { db, ca })
    }

    /// Makes a token; durable when this returns.
    pub fn create(&self, now: Stamp, role: Role, ttl_s: u32) -> Result<JoinToken, TokenError> {
        self.insert(now, role, ttl_s, None)
    }

    /// Makes a token that only a station of this name can use, and that lets it take the place of a lost one.
    pub fn create_for(
        &self,
        now: Stamp,
        role: Role,
        ttl_s: u32,
        station: &StationName,
    ) -> Result<JoinToken, TokenError> {
        self.insert(now, role, ttl_s, Some(station.clone()))
    }

    /// Returns the tokens that can be used and those that could until yesterday.
    pub fn list(&self) -> Result<Vec<TokenInfo>, TokenError> {
        let read = self.db.begin_read().map_err(database)?;
        let table = read.open_table(TOKENS).map_err(database)?;
        let mut infos = Vec::new();
        for entry in table.iter().map_err(database)? {
            let (id, row) = entry.map_err(database)?;
            let Row { role, station, expires, used, .. } = decode(row.value())?;
            infos.push(TokenInfo { id: TokenId(id.value()), role, station, expires, used });
        }
        Ok(infos)
    }

    /// Takes a token back; tells whether there was one.
    pub fn remove(&self, id: TokenId) -> Result<bool, TokenError> {
        let write = self.db.begin_write().map_err(database)?;
        let was_there = {
            let mut table = write.open_table(TOKENS).map_err(database)?;
            table.remove(id.0).map_err(database)?.is_some()
        };
        write.commit().map_err(database)?;
        Ok(was_there)
    }

    fn insert(
        &self,
        now: Stamp,
        role: Role,
        ttl_s: u32,
        station: Option<StationName>,
    ) -> Result<JoinToken, TokenError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        let expires = now.plus_micros(i64::from(ttl_s) * 1_000_000);
        let row = Row { check: check(&secret), role, station, expires, used: None };
        let write = self.db.begin_write().map_err(database)?;
        {
            let mut table = write.open_table(TOKENS).map_err(database)?;
            let stale = |row: &Row| row.expires.plus_micros(KEPT_US) < now;
            let mut forgotten = Vec::new();
            for entry in table.iter().map_err(database)? {
                let (id, row) = entry.map_err(database)?;
                if stale(&decode(row.value())?) {
                    forgotten.push(id.value());
                }
            }
            for id in forgotten {
                table.remove(id).map_err(database)?;
            }
            if table.len().map_err(database)? >= TOKENS_MAX {
                return Err(TokenError::Full);
            }
            let bytes = postcard::to_stdvec(&row).map_err(TokenError::Row)?;
            table.insert(TokenId::of(&secret).0, bytes.as_slice()).map_err(database)?;
        }
        write.commit().map_err(database)?;
        Ok(JoinToken { ca: self.ca, secret })
    }
}

/// What a token that was accepted gives.
#[derive(Debug)]
pub(crate) struct Redeemed {
    pub(crate) role: Role,
    /// The token was made for this station by name.
    pub(crate) replaces: bool,
}

/// Uses the token with this secret up, in a transaction that the caller commits, or drops to leave it unused.
pub(crate) fn redeem(
    write: &WriteTransaction,
    now: Stamp,
    secret: &[u8; 32],
    name: &StationName,
) -> Result<Result<Redeemed, TokenRefusal>, TokenError> {
    let id = TokenId::of(secret).0;
    let shown = check(secret);
    let mut table = write.open_table(TOKENS).map_err(database)?;
    let Some(mut row) = table
        .get(id)
        .map_err(database)?
        .map(|row| decode(row.value()))
        .transpose()?
        // The comparison takes the same time wherever the two differ.
        .filter(|row| blake3::Hash::from(row.check) == blake3::Hash::from(shown))
    else {
        return Ok(Err(TokenRefusal::Unknown));
    };
    if let Some((at, by)) = row.used {
        return Ok(Err(TokenRefusal::Used { at, by }));
    }
    if now >= row.expires {
        return Ok(Err(TokenRefusal::Expired { at: row.expires }));
    }
    if let Some(other) = row.station.as_ref().filter(|station| *station != name) {
        return Ok(Err(TokenRefusal::OtherStation(other.clone())));
    }
    let redeemed = Redeemed { role: row.role, replaces: row.station.is_some() };
    row.used = Some((now, name.clone()));
    let bytes = postcard::to_stdvec(&row).map_err(TokenError::Row)?;
    table.insert(id, bytes.as_slice()).map_err(database)?;
    Ok(Ok(redeemed))
}

fn check(secret: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key("keepshare join token check v1", secret)
}

fn decode(bytes: &[u8]) -> Result<Row, TokenError> {
    postcard::from_bytes(bytes).map_err(TokenError::Row)
}

fn database(error: impl Into<redb::Error>) -> TokenError {
    TokenError::Database(Box::new(error.into()))
}
