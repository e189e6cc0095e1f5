//! The primary's desk: who is let into the cluster, under which name, and who is put out again.
//!
//! One transaction uses a token up, takes the name and records the certificate; only when it is durable is there an
//! answer. Carrying the question and the answer is the business of the join protocol.

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};

use keepshare_base::{Role, Serial, Stamp, StationAddress, StationName};
use keepshare_host::shared::SharedDb;

use crate::{
    ClusterCa, EnrolError, Member, Peer, PendingIdentity, Revocations, StationIdentity, Tokens,
    enrol_error::MEMBERS_MAX,
    members::{self, MEMBERS, REVOKED, Row},
    token::{self, Redeemed},
};

/// What a station that wants to join says.
#[derive(Clone, Debug)]
pub struct Application {
    /// The token's secret.
    pub secret: [u8; 32],
    /// The name it wants.
    pub name: StationName,
    /// Where it will listen.
    pub address: StationAddress,
    /// The signing request for its key.
    pub request: Vec<u8>,
}

/// What a station that was let in gets.
#[derive(Clone, Debug)]
pub struct Admission {
    /// What its certificate says.
    pub peer: Peer,
    /// The certificate.
    pub certificate: Vec<u8>,
    /// The CA's certificate.
    pub ca: Vec<u8>,
    /// All stations of the cluster, itself included.
    pub members: Vec<Member>,
}

/// Who is in a cluster and by which certificates, as its CA has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Register {
    /// The stations by name, each with the numbers of its certificates that have not ended, oldest first.
    pub members: Vec<(Member, Vec<Serial>)>,
    /// Certificates that are refused, by number, and when they end.
    pub refused: Vec<(Serial, Stamp)>,
}

/// The CA, the tokens and the members of a cluster, on its primary.
#[derive(Debug)]
pub struct Enrolment {
    ca: ClusterCa,
    db: SharedDb,
    tokens: Tokens,
    revocations: Revocations,
}

impl Enrolment {
    /// Opens the desk, and puts what is revoked into a list that TLS can ask.
    pub fn open(ca: ClusterCa, db: impl Into<SharedDb>) -> Result<Self, EnrolError> {
        let db = db.into();
        let write = db.begin_write()?;
        write.open_table(MEMBERS)?;
        let mut revoked = Vec::new();
        for entry in write.open_table(REVOKED)?.iter()? {
            revoked.push(Serial(entry?.0.value()));
        }
        write.commit()?;
        let revocations = Revocations::default();
        revocations.revoke(revoked);
        let tokens = Tokens::open(db.clone(), ca.pin())?;
        Ok(Self { ca, db, tokens, revocations })
    }

    /// Returns the join tokens.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Returns the CA.
    pub fn ca(&self) -> &ClusterCa {
        &self.ca
    }

    /// Returns the certificates that are refused.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Returns the stations of the cluster, by name.
    pub fn members(&self) -> Result<Vec<Member>, EnrolError> {
        members::list(&self.db.begin_read()?.open_table(MEMBERS)?)
    }

    /// Returns the stations with their certificates that have not ended, and the certificates that are refused.
    pub fn register(&self, now: Stamp) -> Result<Register, EnrolError> {
        let read = self.db.begin_read()?;
        let mut refused = Vec::new();
        for entry in read.open_table(REVOKED)?.iter()? {
            let (serial, ends) = entry?;
            refused.push((Serial(serial.value()), Stamp(ends.value())));
        }
        refused.retain(|(_, ends)| *ends > now);
        let members = members::list_with_certificates(&read.open_table(MEMBERS)?, now)?;
        Ok(Register { members, refused })
    }

    /// Records the station that runs the desk itself.
    pub fn record_own(
        &self,
        now: Stamp,
        identity: &StationIdentity,
        address: &StationAddress,
    ) -> Result<(), EnrolError> {
        let write = self.db.begin_write()?;
        let peer = identity.peer();
        let row = match members::load(&write, &peer.name)? {
            Some(mut row) if row.holds(peer.serial) => {
                row.member.address = address.clone();
                row
            }
            _ => Row::new(member(now, peer, address), peer),
        };
        members::store(&write, &row)?;
        Ok(write.commit()?)
    }

    /// Records where a station is reached from now on; durable when this returns. Tells whether there is such a station.
    pub fn set_address(
        &self,
        name: &StationName,
        address: &StationAddress,
    ) -> Result<bool, EnrolError> {
        let write = self.db.begin_write()?;
        let Some(mut row) = members::load(&write, name)? else { return Ok(false) };
        row.member.address = address.clone();
        members::store(&write, &row)?;
        write.commit()?;
        Ok(true)
    }

    /// Records what a station that shows a certificate on record says of its own address, and returns all stations.
    pub fn moved(&self, peer: &Peer, address: &StationAddress) -> Result<Vec<Member>, EnrolError> {
        let write = self.db.begin_write()?;
        let mut row = members::load(&write, &peer.name)?
            .filter(|row| row.holds(peer.serial))
            .ok_or_else(|| EnrolError::NotMember(peer.name.clone()))?;
        row.member.address = address.clone();
        members::store(&write, &row)?;
        let members = members::list(&write.open_table(MEMBERS)?)?;
        write.commit()?;
        Ok(members)
    }

    /// Lets a station in against a token; durable when this returns.
    pub fn admit(&self, now: Stamp, application: &Application) -> Result<Admission, EnrolError> {
        let Application { secret, name, address, request } = application;
        // Dropped without a commit, the transaction leaves the token unused.
        let write = self.db.begin_write()?;
        let Redeemed { role, replaces } = token::redeem(&write, now, secret, name)??;
        let (peer, certificate) = self.ca.sign(now, request, name, role)?;
        let previous = take_place(&write, name)?;
        if previous.is_some() && !replaces {
            return Err(EnrolError::NameTaken(name.clone()));
        }
        if write.open_table(MEMBERS)?.len()? >= MEMBERS_MAX as u64 {
            return Err(EnrolError::Full);
        }
        let lost = previous.unwrap_or_default();
        members::revoke(&write, now, &lost)?;
        members::store(&write, &Row::new(member(now, &peer, address), &peer))?;
        let members = members::list(&write.open_table(MEMBERS)?)?;
        write.commit()?;
        self.revocations.revoke(lost.into_iter().map(|(serial, _)| serial));
        let ca = self.ca.certificate().to_vec();
        Ok(Admission { peer, certificate: certificate.to_vec(), ca, members })
    }

    /// Gives a station that shows a certificate on record the next one; durable when this returns.
    ///
    /// `peer` is what TLS verified. The certificate shown stays good until it ends, so that an answer that got lost can
    /// be asked for again.
    pub fn renew(&self, now: Stamp, peer: &Peer, request: &[u8]) -> Result<Admission, EnrolError> {
        let write = self.db.begin_write()?;
        let mut row = members::load(&write, &peer.name)?
            .filter(|row| row.holds(peer.serial))
            .ok_or_else(|| EnrolError::NotMember(peer.name.clone()))?;
        let (renewed, certificate) = self.ca.sign(now, request, &peer.name, row.member.role)?;
        let surplus = row.add(now, &renewed);
        members::revoke(&write, now, &surplus)?;
        members::store(&write, &row)?;
        let members = members::list(&write.open_table(MEMBERS)?)?;
        write.commit()?;
        self.revocations.revoke(surplus.into_iter().map(|(serial, _)| serial));
        let ca = self.ca.certificate().to_vec();
        Ok(Admission { peer: renewed, certificate: certificate.to_vec(), ca, members })
    }

    /// Gives the station that runs the desk its own next certificate, with a new key; the caller saves it.
    pub fn renew_own(
        &self,
        now: Stamp,
        identity: &StationIdentity,
    ) -> Result<StationIdentity, EnrolError> {
        let pending = PendingIdentity::generate()?;
        let Admission { certificate, ca, .. } =
            self.renew(now, identity.peer(), &pending.request()?)?;
        Ok(pending.complete(&certificate, &ca)?)
    }

    /// Puts a station out: its certificates are refused from now on. Tells whether there was one.
    pub fn remove(&self, now: Stamp, name: &StationName) -> Result<bool, EnrolError> {
        let write = self.db.begin_write()?;
        let Some(certificates) = take_place(&write, name)? else { return Ok(false) };
        members::revoke(&write, now, &certificates)?;
        write.commit()?;
        self.revocations.revoke(certificates.into_iter().map(|(serial, _)| serial));
        Ok(true)
    }
}

/// Removes a member that is not the primary, and returns the certificates it held.
fn take_place(
    write: &WriteTransaction,
    name: &StationName,
) -> Result<Option<Vec<(Serial, Stamp)>>, EnrolError> {
    match members::load(write, name)? {
        Some(row) if row.member.role == Role::Primary => Err(EnrolError::Primary(name.clone())),
        _ => members::remove(write, name),
    }
}

fn member(now: Stamp, peer: &Peer, address: &StationAddress) -> Member {
    Member { name: peer.name.clone(), role: peer.role, address: address.clone(), joined: now }
}
