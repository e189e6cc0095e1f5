//! What a station is to its cluster: what it agrees on with the others, who they are and how they are reached.

mod agreed;
pub mod announce;
pub(crate) mod hearing;
mod peers;
pub(crate) mod renewal;

use std::sync::Arc;

use anyhow::Context;

use keepshare_auth::audit::KeptHeads;
use keepshare_base::{Role, Stamp, StationName};
use keepshare_cluster::{self as cluster, Document};
use keepshare_control::{Failure, Outcome};
use keepshare_host::{clock, shared::SharedDb};
use keepshare_identity::{
    ClusterCa, Enrolment, JoinDesk, Member, Register, StationIdentity,
    tls::{StationTls, machine_clock},
};

use crate::state::StateDir;

pub(crate) use agreed::Held;
pub use peers::Peers;

use agreed::Agreed;
use hearing::Hearers;

/// What a station is to its cluster.
#[derive(Debug)]
pub struct Membership {
    /// What it is called.
    pub here: StationName,
    /// What the cluster's document says of it, and until there is one, its certificate.
    pub role: Role,
    state: StateDir,
    /// What the cluster agrees on.
    pub(crate) agreed: Arc<Agreed>,
    /// Who waits for another revision of it.
    pub(crate) hearers: Hearers,
    /// The other stations.
    pub peers: Arc<Peers>,
    /// On the primary: the cluster's list of stations, its CA and tokens.
    pub(crate) enrolment: Option<Arc<Enrolment>>,
    /// On the primary: who answers those that want to join.
    pub(crate) desk: Option<JoinDesk>,
    /// What is kept of the audit logs of the others.
    pub kept_heads: KeptHeads,
}

impl Membership {
    /// Opens what a station keeps of its cluster; on the primary the list of stations is in `database`.
    pub(crate) fn open(
        state: &StateDir,
        identity: StationIdentity,
        database: SharedDb,
    ) -> Outcome<Self> {
        let here = identity.name().clone();
        let agreed = Arc::new(Agreed::open(state, &identity)?);
        let role = agreed.role().unwrap_or(identity.peer().role);
        let enrolment = match role {
            Role::Primary => Some(open_enrolment(state, database)?),
            Role::Replica => None,
        };
        let revocations =
            enrolment.as_ref().map(|desk| desk.revocations().clone()).unwrap_or_default();
        let tls = StationTls::new(&identity, revocations, machine_clock())
            .context("the station's identity is not usable")?;
        let known = if enrolment.is_some() { Vec::new() } else { state.load_members()? };
        let (of, rerouted) = (Arc::clone(&agreed), state.load_rerouted()?);
        let peers = Arc::new(Peers::new(of, rerouted, enrolment.clone(), known, identity, tls));
        let desk = enrolment.clone().map(JoinDesk::new);
        let kept_heads = KeptHeads::open(state.root());
        let kept_heads = kept_heads.context("cannot read the heads of other audit logs")?;
        let (state, hearers) = (state.clone(), Hearers::default());
        Ok(Self { here, role, state, agreed, hearers, peers, enrolment, desk, kept_heads })
    }

    /// Returns the stations that may receive a set: all others of the cluster.
    pub(crate) fn others(&self) -> Vec<Member> {
        let mut members = self.peers.members();
        members.retain(|member| member.name != self.here);
        members
    }

    /// Returns the station of this name, where there is one.
    pub fn other(&self, name: &StationName) -> Option<Member> {
        self.others().into_iter().find(|member| member.name == *name)
    }

    /// Writes the next revision where the list of stations is another one than the document says; on the primary alone. What fails
    /// is told, too, and tried again. Blocks.
    pub(crate) fn publish_register(&self) -> Outcome<()> {
        let published = self.try_publish_register();
        let why = published.as_ref().err().map(Failure::one_line);
        if let Some(error) = &why {
            tracing::error!(%error, "cannot write the cluster's document");
        }
        self.agreed.set_unwritten(why);
        published
    }

    fn try_publish_register(&self) -> Outcome<()> {
        let Some(enrolment) = self.enrolment.as_ref().filter(|_| self.agreed.held().is_some())
        else {
            return Ok(());
        };
        let now = clock::now();
        let register = enrolment.register(now).context("cannot read the list of stations")?;
        self.agreed.publish(enrolment.ca(), now, |document| {
            write_register(document, register, now);
            Ok(())
        })?;
        Ok(())
    }
}

/// Writes down who is in the cluster. A register that came from an older backup knows less: what it does not know stays.
pub(crate) fn write_register(
    document: &mut Document,
    Register { members, refused }: Register,
    now: Stamp,
) {
    let member = |(member, mut certificates): (Member, Vec<_>)| {
        certificates.sort();
        let Member { name, role, address, joined } = member;
        cluster::Member { name, role, address, joined, certificates }
    };
    let members: Vec<cluster::Member> = members.into_iter().map(member).collect();
    document.members.retain(|known| members.iter().all(|member| member.name != known.name));
    document.members.extend(members);
    document.members.sort_by(|a, b| a.name.cmp(&b.name));
    document.revoked.extend(refused);
    document.revoked.retain(|(_, ends)| *ends > now);
    document.revoked.sort();
    document.revoked.dedup_by_key(|(serial, _)| *serial);
}

fn open_enrolment(state: &StateDir, database: SharedDb) -> Outcome<Arc<Enrolment>> {
    let ca = ClusterCa::load(&state.identity()).context("cannot read the cluster's CA")?;
    let enrolment = Enrolment::open(ca, database);
    Ok(Arc::new(enrolment.context("cannot open the list of stations")?))
}

#[cfg(test)]
mod tests {
    use keepshare_base::{ClusterId, Serial};

    use super::*;

    /// A primary whose database came from an older backup must not put out who joined since.
    #[test]
    fn a_register_that_forgot_puts_nobody_out() {
        let name = |text: &str| text.parse().unwrap();
        let mut document = Document::first(ClusterId([7; 16]), Stamp(9));
        for (station, role) in [("office", Role::Primary), ("store", Role::Replica)] {
            document.members.push(cluster::Member {
                name: name(station),
                role,
                address: "host:7846".parse().unwrap(),
                joined: Stamp(1),
                certificates: Vec::new(),
            });
        }
        document.revoked = vec![(Serial([1; 16]), Stamp(50)), (Serial([2; 16]), Stamp(5))];
        let office = Member {
            name: name("office"),
            role: Role::Primary,
            address: "elsewhere:7846".parse().unwrap(),
            joined: Stamp(1),
        };
        let members = vec![(office, vec![Serial([4; 16]), Serial([3; 16])])];
        let refused = vec![(Serial([1; 16]), Stamp(50)), (Serial([5; 16]), Stamp(60))];
        write_register(&mut document, Register { members, refused }, Stamp(10));
        assert_eq!(document.check(), Ok(()));
        assert_eq!(document.members.len(), 2);
        assert_eq!(document.members[0].address.as_str(), "elsewhere:7846");
        assert_eq!(document.members[0].certificates, [Serial([3; 16]), Serial([4; 16])]);
        let left: Vec<_> = document.revoked.iter().map(|(serial, _)| serial.0[0]).collect();
        assert_eq!(left, [1, 5], "what has ended by itself is no use");
    }
}
