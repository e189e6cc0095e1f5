//! Who gets into a cluster, and who does not.

use std::{path::Path, sync::Arc};

use keepshare_base::{Role, Stamp, StationAddress, StationName};
use keepshare_identity::{
    Admission, Application, CaPin, ClusterCa, EnrolError, Enrolment, IdentityError, JoinToken,
    PendingIdentity, StationIdentity, TOKEN_TTL_S, TokenError, TokenRefusal,
};
use redb::Database;

const NOW: Stamp = Stamp(1_790_000_000_000_000);
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

fn after(micros: i64) -> Stamp {
    NOW.plus_micros(micros)
}

fn name(text: &str) -> StationName {
    text.parse().unwrap()
}

fn address() -> StationAddress {
    "10.0.0.7:7411".parse().unwrap()
}

fn open(dir: &Path) -> Enrolment {
    let ca = ClusterCa::load(dir).or_else(|_| ClusterCa::create(dir, NOW)).unwrap();
    let db = Database::create(dir.join("auth.redb")).unwrap();
    Enrolment::open(ca, Arc::new(db)).unwrap()
}

fn application(token: &JoinToken, station: &str) -> (PendingIdentity, Application) {
    let pending = PendingIdentity::generate().unwrap();
    let request = pending.request().unwrap();
    let (secret, name, address) = (token.secret, name(station), address());
    (pending, Application { secret, name, address, request })
}

fn admit(desk: &Enrolment, now: Stamp, token: &JoinToken, station: &str) -> Result<(), EnrolError> {
    desk.admit(now, &application(token, station).1).map(|_| ())
}

fn refusal(result: Result<(), EnrolError>) -> TokenRefusal {
    match result {
        Err(EnrolError::Token(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_lets_one_station_in_with_its_role_and_a_certificate_for_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path());
    let token = desk.tokens().create(NOW, Role::Replica, TOKEN_TTL_S).unwrap();
    let token: JoinToken = token.to_string().parse().unwrap();
    assert_eq!(token.ca, desk.ca().pin());

    let (pending, application) = application(&token, "basement");
    let Admission { certificate, ca, members, .. } = desk.admit(NOW, &application).unwrap();
    let identity = pending.complete(&certificate, &ca).unwrap();
    assert_eq!(CaPin::of(&ca), token.ca);
    assert_eq!((identity.name(), identity.peer().role), (&name("basement"), Role::Replica));
    assert_eq!(identity.peer().expires, after(90 * DAY));
    assert!(!identity.renewal_due(after(59 * DAY)));
    assert!(identity.renewal_due(after(61 * DAY)));
    assert!(identity.renewal_due(after(-2 * DAY)), "it was signed by a clock that was ahead");
    assert_eq!(members.len(), 1);
    assert_eq!(members, desk.members().unwrap());

    let home = tempfile::tempdir().unwrap();
    identity.save_new(home.path()).unwrap();
    assert!(identity.save_new(home.path()).is_err(), "an identity was written over");
    let loaded = StationIdentity::load(home.path()).unwrap();
    assert_eq!((loaded.peer(), loaded.ca_pin()), (identity.peer(), identity.ca_pin()));
}

#[test]
fn a_used_token_is_refused_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path());
    let token = desk.tokens().create(NOW, Role::Replica, 60).unwrap();
    admit(&desk, NOW, &token, "one").unwrap();
    let used = TokenRefusal::Used { at: NOW, by: name("one") };
    assert_eq!(refusal(admit(&desk, after(1), &token, "two")), used);
    assert_eq!(refusal(admit(&desk, after(1), &token, "one")), used);

    drop(desk);
    let desk = open(dir.path());
    assert_eq!(refusal(admit(&desk, after(2), &token, "two")), used);
    assert_eq!(desk.members().unwrap().len(), 1);
    assert_eq!(desk.tokens().list().unwrap()[0].used, Some((NOW, name("one"))));
}

#[test]
fn a_token_ends_when_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path());
    let token = desk.tokens().create(NOW, Role::Replica, 60).unwrap();
    let expired = TokenRefusal::Expired { at: after(60 * SECOND) };
    assert_eq!(refusal(admit(&desk, after(60 * SECOND), &token, "one")), expired);
    admit(&desk, after(60 * SECOND - 1), &token, "one").unwrap();

    let token = desk.tokens().create(NOW, Role::Replica, 60).unwrap();
    let id = desk.tokens().list().unwrap().iter().find(|t| t.used.is_none()).unwrap().id;
    assert!(desk.tokens().remove(id).unwrap());
    assert!(!desk.tokens().remove(id).unwrap());
    assert_eq!(refusal(admit(&desk, NOW, &token, "two")), TokenRefusal::Unknown);
}

/// Every digit counts, and so does every missing one.
#[test]
fn an_altered_or_shortened_token_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path());
    let token = desk.tokens().create(NOW, Role::Replica, 60).unwrap();
    let text = token.to_string();
    for cut in 0..text.len() {
        assert!(matches!(text[..cut].parse::<JoinToken>(), Err(TokenError::Malformed)));
        assert!(matches!(text[cut + 1..].parse::<JoinToken>(), Err(TokenError::Malformed)));
    }
    for at in 0..text.len() {
        for bit in 0..7 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let flipped = String::from_utf8(bytes).unwrap();
            let Ok(flipped) = flipped.parse::<JoinToken>() else { continue };
            // Whoever flips a digit of the pin does not get as far as the desk.
            if flipped.ca == token.ca {
                let refused = refusal(admit(&desk, NOW, &flipped, "one"));
                assert_eq!(refused, TokenRefusal::Unknown, "flipped bit {bit} of {at}");
            }
        }
    }
    admit(&desk, NOW, &token, "one").unwrap();
}

#[test]
fn a_token_of_another_cluster_is_refused() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, theirs) = (open(ours.path()), open(theirs.path()));
    let token = theirs.tokens().create(NOW, Role::Replica, 60).unwrap();
    assert_ne!(token.ca, ours.ca().pin());
    assert_eq!(refusal(admit(&ours, NOW, &token, "one")), TokenRefusal::Unknown);
}

/// A slip in the name must not cost the admin a way back to the primary for another token.
#[test]
fn what_is_refused_for_another_reason_leaves_the_token_unused() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path());
    let first = desk.tokens().create(NOW, Role::Replica, 60).unwrap();
    admit(&desk, NOW, &first, "basement").unwrap();
    let token = desk.tokens().create(NOW, Role::Replica, 60).unwrap();
    assert!(matches!(admit(&desk, NOW, &token, "basement"), Err(EnrolError::NameTaken(_))));

    for request in [vec![], vec![0x30; 400], vec![0x30; 5000]] {
        let application = Application { request, ..application(&token, "attic").1 };
        assert!(matches!(desk.admit(NOW, &application), Err(EnrolError::Ca(_))));
    }
    assert_eq!(desk.members().unwrap().len(), 1);
    admit(&desk, NOW, &token, "attic").unwrap();
}

/// Whoever copied somebody's request off the wire, or made one for a key that is not theirs, gets nothing for it.
#[test]
fn no_certificate_is_signed_for_a_key_whose_holder_did_not_ask() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ClusterCa::create(dir.path(), NOW).unwrap();
    let pending = PendingIdentity::generate().unwrap();
    let good = pending.request().unwrap();
    let key_of = |certificate: &[u8]| {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
        parsed.public_key().raw.to_vec()
    };
    let sign = |request: &[u8]| ca.sign(NOW, request, &name("one"), Role::Replica);
    let key = key_of(&sign(&good).unwrap().1);
    for bit in 0..8 * good.len() {
        let mut request = good.clone();
        request[bit / 8] ^= 1 << (bit % 8);
        // Some bits of the encoding mean nothing.
        if let Ok((_, certificate)) = sign(&request) {
            assert_eq!(key_of(&certificate), key, "bit {bit} flipped");
        }
    }
}

#[test]
fn a_lost_station_is_replaced_under_its_name_and_its_old_certificate_dies() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path());
    let token = desk.tokens().create(NOW, Role::Replica, 60).unwrap();
    let lost = desk.admit(NOW, &application(&token, "basement").1).unwrap().peer;

    let token = desk.tokens().create_for(NOW, Role::Replica, 60, &name("basement")).unwrap();
    let other = TokenRefusal::OtherStation(name("basement"));
    assert_eq!(refusal(admit(&desk, NOW, &token, "attic")), other);
    let new = desk.admit(NOW, &application(&token, "basement").1).unwrap().peer;
    assert!(desk.revocations().is_revoked(lost.serial));
    assert!(!desk.revocations().is_revoked(new.serial));

    drop(desk);
    let desk = open(dir.path());
    assert!(desk.revocations().is_revoked(lost.serial), "forgotten over a restart");
    assert_eq!(desk.members().unwrap().len(), 1);
}

#[test]
fn certificates_are_renewed_for_members_only() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path());
    let token = desk.tokens().create(NOW, Role::Replica, 60).unwrap();
    let (pending, asked) = application(&token, "basement");
    let admitted = desk.admit(NOW, &asked).unwrap();
    let old = pending.complete(&admitted.certificate, &admitted.ca).unwrap();

    let pending = PendingIdentity::generate().unwrap();
    let request = pending.request().unwrap();
    let renewed = desk.renew(after(61 * DAY), old.peer(), &request).unwrap();
    assert_eq!(renewed.peer.expires, after(151 * DAY));
    assert_eq!(renewed.peer.role, Role::Replica);
    // The answer got lost: the old certificate is as good as before.
    let again = desk.renew(after(62 * DAY), old.peer(), &request).unwrap();
    assert_ne!(again.peer.serial, renewed.peer.serial);

    assert!(desk.remove(after(63 * DAY), old.name()).unwrap());
    assert!(!desk.remove(after(63 * DAY), old.name()).unwrap());
    for serial in [old.peer().serial, renewed.peer.serial, again.peer.serial] {
        assert!(desk.revocations().is_revoked(serial));
    }
    let refused = desk.renew(after(64 * DAY), old.peer(), &request);
    assert!(matches!(refused, Err(EnrolError::NotMember(_))));
}

#[test]
fn the_primary_renews_its_own_certificate_at_its_own_desk() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path());
    let own = StationIdentity::create(desk.ca(), NOW, &name("shop"), Role::Primary).unwrap();
    desk.record_own(NOW, &own, &address()).unwrap();
    desk.record_own(after(1), &own, &"10.0.0.8:7411".parse().unwrap()).unwrap();
    let renewed = desk.renew_own(after(61 * DAY), &own).unwrap();
    assert_eq!((renewed.name(), renewed.peer().role), (own.name(), Role::Primary));
    assert_eq!(renewed.peer().expires, after(151 * DAY));
    let members = desk.members().unwrap();
    assert_eq!((members.len(), members[0].joined), (1, NOW));
    assert_eq!(members[0].address.as_str(), "10.0.0.8:7411");

    // A slip must not put out the station that everything hangs on.
    assert!(matches!(desk.remove(NOW, own.name()), Err(EnrolError::Primary(_))));
    let token = desk.tokens().create_for(NOW, Role::Replica, 60, own.name()).unwrap();
    assert!(matches!(admit(&desk, NOW, &token, "shop"), Err(EnrolError::Primary(_))));
    assert!(!desk.revocations().is_revoked(own.peer().serial));
}

#[test]
fn a_station_that_renews_without_end_keeps_a_few_certificates_only() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path());
    let token = desk.tokens().create(NOW, Role::Replica, 60).unwrap();
    let (pending, asked) = application(&token, "basement");
    let mut peers = vec![desk.admit(NOW, &asked).unwrap().peer];
    let request = pending.request().unwrap();
    for day in 1..20 {
        let last = peers.last().unwrap().clone();
        peers.push(desk.renew(after(day * DAY), &last, &request).unwrap().peer);
    }
    let good = peers.iter().filter(|p| !desk.revocations().is_revoked(p.serial)).count();
    assert_eq!(good, 8);
}

/// Whatever lands in the file by mistake, the station says so instead of starting as somebody else.
#[test]
fn an_identity_that_does_not_fit_together_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let ca = ClusterCa::create(&ours, NOW).unwrap();
    let other_ca = ClusterCa::create(&theirs, NOW).unwrap();
    assert!(ClusterCa::create(&ours, NOW).is_err(), "a CA was written over");
    assert_eq!(ClusterCa::load(&ours).unwrap().pin(), ca.pin());

    let station = name("one");
    let a = PendingIdentity::generate().unwrap();
    let b = PendingIdentity::generate().unwrap();
    let (_, for_a) = ca.sign(NOW, &a.request().unwrap(), &station, Role::Replica).unwrap();
    let mismatch = |result| assert!(matches!(result, Err(IdentityError::Mismatch(_))));
    mismatch(b.complete(&for_a, ca.certificate()));
    mismatch(a.complete(&for_a, other_ca.certificate()));

    let identity = StationIdentity::create(&ca, NOW, &station, Role::Primary).unwrap();
    identity.save(&ours).unwrap();
    let file = ours.join(keepshare_identity::IDENTITY_FILE);
    let whole = std::fs::read(&file).unwrap();
    for keep in [0, 10, whole.len() / 2, whole.len() - 200] {
        std::fs::write(&file, &whole[..keep]).unwrap();
        assert!(StationIdentity::load(&ours).is_err(), "{keep} bytes were taken");
    }
}
