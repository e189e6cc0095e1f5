//! The stations of the cluster, as the primary records them.

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use keepshare_base::{Role, Serial, Stamp, StationAddress, StationName};

use crate::{EnrolError, Peer};

/// The most certificates of one station that have not ended; an older one is revoked.
const CERTIFICATES_MAX: usize = 8;

pub(crate) const MEMBERS: TableDefinition<&str, &[u8]> = TableDefinition::new("members");
pub(crate) const REVOKED: TableDefinition<[u8; 16], i64> = TableDefinition::new("revoked");

/// A station of the cluster.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: StationName,
    /// Its role.
    pub role: Role,
    /// Where it listens.
    pub address: StationAddress,
    /// When it joined.
    pub joined: Stamp,
}

/// A member with the certificates it holds.
#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) member: Member,
    /// Those that have not ended, oldest first.
    certificates: Vec<(Serial, Stamp)>,
}

impl Row {
    pub(crate) fn new(member: Member, peer: &Peer) -> Self {
        Self { member, certificates: vec![(peer.serial, peer.expires)] }
    }

    pub(crate) fn holds(&self, serial: Serial) -> bool {
        self.certificates.iter().any(|(held, _)| *held == serial)
    }

    /// Adds a certificate, and returns those that the station may use no longer because it has too many.
    pub(crate) fn add(&mut self, now: Stamp, peer: &Peer) -> Vec<(Serial, Stamp)> {
        self.certificates.retain(|(_, expires)| *expires > now);
        self.certificates.push((peer.serial, peer.expires));
        let surplus = self.certificates.len().saturating_sub(CERTIFICATES_MAX);
        self.certificates.drain(..surplus).collect()
    }
}

pub(crate) fn load(
    write: &WriteTransaction,
    name: &StationName,
) -> Result<Option<Row>, EnrolError> {
    let table = write.open_table(MEMBERS)?;
    table.get(name.as_str())?.map(|row| decode(row.value())).transpose()
}

pub(crate) fn store(write: &WriteTransaction, row: &Row) -> Result<(), EnrolError> {
    let bytes = postcard::to_stdvec(row)?;
    write.open_table(MEMBERS)?.insert(row.member.name.as_str(), bytes.as_slice())?;
    Ok(())
}

/// Refuses these certificates until they end by themselves, and forgets those that have.
pub(crate) fn revoke(
    write: &WriteTransaction,
    now: Stamp,
    certificates: &[(Serial, Stamp)],
) -> Result<(), EnrolError> {
    let mut table = write.open_table(REVOKED)?;
    table.retain(|_, expires| expires > now.0)?;
    for (serial, expires) in certificates {
        table.insert(serial.0, expires.0)?;
    }
    Ok(())
}

/// Removes a member and returns the certificates it held.
pub(crate) fn remove(
    write: &WriteTransaction,
    name: &StationName,
) -> Result<Option<Vec<(Serial, Stamp)>>, EnrolError> {
    let mut table = write.open_table(MEMBERS)?;
    let row = table.remove(name.as_str())?.map(|row| decode(row.value())).transpose()?;
    Ok(row.map(|row| row.certificates))
}

pub(crate) fn list(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Vec<Member>, EnrolError> {
    let mut members = Vec::new();
    for entry in table.iter()? {
        members.push(decode(entry?.1.value())?.member);
    }
    Ok(members)
}

pub(crate) fn list_with_certificates(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    now: Stamp,
) -> Result<Vec<(Member, Vec<Serial>)>, EnrolError> {
    let mut members = Vec::new();
    for entry in table.iter()? {
        let Row { member, certificates } = decode(entry?.1.value())?;
        let left = certificates.into_iter().filter(|(_, ends)| *ends > now);
        members.push((member, left.map(|(serial, _)| serial).collect()));
    }
    Ok(members)
}

fn decode(bytes: &[u8]) -> Result<Row, EnrolError> {
    Ok(postcard::from_bytes(bytes)?)
}
