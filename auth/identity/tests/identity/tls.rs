//! Who can talk to whom: both ends of a handshake, in memory.

use std::{sync::Arc, time::Duration};

use keepshare_base::{Role, Stamp, StationName};
use keepshare_identity::{
    ClusterCa, Peer, Revocations, StationIdentity,
    tls::{self, JOIN_ALPN, LINK_ALPN, StationTls},
};
use rustls::{
    ClientConfig, ClientConnection, ServerConnection,
    pki_types::{CertificateDer, ServerName, UnixTime},
    time_provider::TimeProvider,
};

const NOW_S: u64 = 1_790_000_000;
const DAY_S: u64 = 86_400;

#[derive(Debug)]
struct FixedClock(u64);

impl TimeProvider for FixedClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

fn clock(at_s: u64) -> Arc<dyn TimeProvider> {
    Arc::new(FixedClock(at_s))
}

fn now() -> Stamp {
    Stamp(i64::try_from(NOW_S * 1_000_000).unwrap())
}

fn name(text: &str) -> StationName {
    text.parse().unwrap()
}

struct Cluster {
    ca: ClusterCa,
    revocations: Revocations,
    _dir: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = ClusterCa::create(dir.path(), now()).unwrap();
        Self { ca, revocations: Revocations::default(), _dir: dir }
    }

    fn station(&self, station: &str, role: Role) -> (StationTls, Peer) {
        self.station_at(station, role, NOW_S)
    }

    fn station_at(&self, station: &str, role: Role, at_s: u64) -> (StationTls, Peer) {
        let identity = StationIdentity::create(&self.ca, now(), &name(station), role).unwrap();
        let tls = StationTls::new(&identity, self.revocations.clone(), clock(at_s)).unwrap();
        (tls, identity.peer().clone())
    }
}

/// Shakes hands and returns whom each end sees.
fn shake(
    client: Arc<ClientConfig>,
    server: &StationTls,
) -> Result<(Option<Peer>, Option<Peer>), rustls::Error> {
    let offered = client.alpn_protocols.clone();
    let server = server.server(offered.iter().map(Vec::as_slice)).expect("a protocol of ours");
    let name = ServerName::try_from("station.keepshare").unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let peer = |shown: Option<&[CertificateDer<'_>]>| Some(Peer::of(&shown?[0]).unwrap());
    Ok((peer(client.peer_certificates()), peer(server.peer_certificates())))
}

fn error(result: Result<(Option<Peer>, Option<Peer>), rustls::Error>) -> String {
    format!("{:?}", result.expect_err("the handshake should have failed"))
}

#[test]
fn members_know_each_other_by_name_and_role() {
    let cluster = Cluster::new();
    let (shop, shop_peer) = cluster.station("shop", Role::Primary);
    // A name that is no host name: the longest there is, with all that a station's may have.
    let long = format!("a{}_-", "0".repeat(61));
    let (attic, attic_peer) = cluster.station(&long, Role::Replica);
    let (seen_by_client, seen_by_server) =
        shake(attic.link_client(&name("shop")).unwrap(), &shop).unwrap();
    assert_eq!((seen_by_client, seen_by_server), (Some(shop_peer), Some(attic_peer)));
    shake(shop.link_client(&name(&long)).unwrap(), &attic).unwrap();
}

#[test]
fn a_station_of_another_cluster_is_refused_both_ways() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let (shop, _) = ours.station("shop", Role::Primary);
    let (fake, _) = theirs.station("shop", Role::Primary);
    let refused = error(shake(fake.link_client(&name("shop")).unwrap(), &shop));
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    let refused = error(shake(shop.link_client(&name("shop")).unwrap(), &fake));
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    // Not for a renewal either.
    let refused = error(shake(fake.primary_client(None).unwrap(), &shop));
    assert!(refused.contains("UnknownIssuer"), "{refused}");
}

/// One compromised station must not be able to stand in for another.
#[test]
fn whoever_dials_gets_the_station_it_asked_for_or_none() {
    let cluster = Cluster::new();
    let (shop, _) = cluster.station("shop", Role::Primary);
    let (attic, _) = cluster.station("attic", Role::Replica);
    let refused = error(shake(shop.link_client(&name("basement")).unwrap(), &attic));
    assert!(refused.contains("OtherStation"), "{refused}");
    let refused = error(shake(shop.primary_client(None).unwrap(), &attic));
    assert!(refused.contains("NotPrimary"), "{refused}");
    // Who knows the primary goes by that, and not by what a certificate says of its holder.
    shake(shop.primary_client(Some(&name("attic"))).unwrap(), &attic).unwrap();
    let refused = error(shake(attic.primary_client(Some(&name("attic"))).unwrap(), &shop));
    assert!(refused.contains("OtherStation"), "{refused}");
}

#[test]
fn a_revoked_certificate_is_refused_both_ways() {
    let cluster = Cluster::new();
    let (shop, _) = cluster.station("shop", Role::Primary);
    let (attic, peer) = cluster.station("attic", Role::Replica);
    cluster.revocations.revoke([peer.serial]);
    let refused = error(shake(attic.link_client(&name("shop")).unwrap(), &shop));
    assert!(refused.contains("Revoked"), "{refused}");
    let refused = error(shake(shop.link_client(&name("attic")).unwrap(), &attic));
    assert!(refused.contains("Revoked"), "{refused}");
    let refused = error(shake(attic.primary_client(None).unwrap(), &shop));
    assert!(refused.contains("Revoked"), "{refused}");
}

#[test]
fn a_certificate_ends_after_ninety_days_and_begins_a_day_early() {
    let cluster = Cluster::new();
    let (attic, _) = cluster.station("attic", Role::Replica);
    let dial = |at_s| {
        let (shop, _) = cluster.station_at("shop", Role::Primary, at_s);
        shake(attic.link_client(&name("shop")).unwrap(), &shop)
    };
    dial(NOW_S + 90 * DAY_S - 1).unwrap();
    dial(NOW_S - DAY_S).unwrap();
    let refused = error(dial(NOW_S + 90 * DAY_S + 1));
    assert!(refused.contains("Expired"), "{refused}");
    let refused = error(dial(NOW_S - DAY_S - 1));
    assert!(refused.contains("NotValidYet"), "{refused}");
}

#[test]
fn only_the_join_protocol_lets_a_client_in_without_a_certificate() {
    let cluster = Cluster::new();
    let (shop, shop_peer) = cluster.station("shop", Role::Primary);
    let joining = tls::join_client(cluster.ca.pin(), &clock(NOW_S)).unwrap();
    assert_eq!(shake(joining.clone(), &shop).unwrap(), (Some(shop_peer), None));

    let mut nameless = ClientConfig::clone(&joining);
    nameless.alpn_protocols = vec![LINK_ALPN.to_vec()];
    let refused = error(shake(Arc::new(nameless), &shop));
    assert!(refused.contains("NoCertificatesPresented"), "{refused}");

    assert!(shop.server([&b"h2"[..], b"http/1.1"].into_iter()).is_none());
    assert!(shop.server(std::iter::empty()).is_none());
    // Whoever offers both is asked for a certificate.
    let both = shop.server([LINK_ALPN, JOIN_ALPN].into_iter()).unwrap();
    assert_eq!(both.alpn_protocols, [LINK_ALPN]);
}

/// The man in the middle has a CA of his own, or a copy of ours without its key.
#[test]
fn a_joining_station_says_nothing_to_another_ca() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let (fake, _) = theirs.station("shop", Role::Primary);
    let joining = || tls::join_client(ours.ca.pin(), &clock(NOW_S)).unwrap();
    let refused = error(shake(joining(), &fake));
    assert!(refused.contains("OtherCa"), "{refused}");
    // A member that is not the primary cannot redeem a token, so it does not get to see one.
    let (attic, _) = ours.station("attic", Role::Replica);
    let refused = error(shake(joining(), &attic));
    assert!(refused.contains("NotPrimary"), "{refused}");
    // With the pin of what he sends as his CA he still has to be signed by it.
    let wrong_pin = tls::join_client(theirs.ca.pin(), &clock(NOW_S)).unwrap();
    let (shop, _) = ours.station("shop", Role::Primary);
    let refused = error(shake(wrong_pin, &shop));
    assert!(refused.contains("OtherCa"), "{refused}");
}
