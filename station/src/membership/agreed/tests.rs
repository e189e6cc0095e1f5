use std::path::Path;

use keepshare_base::{OriginId, Serial};
use keepshare_cluster::{Member, Refusal, Root, SIGNED_BYTES_MAX, SetId};

use super::*;

const NOW: Stamp = Stamp(1_800_000_000_000_000);

/// A primary and a station of its cluster, each with a folder.
struct Pair {
    ca: ClusterCa,
    primary: Agreed,
    identity: StationIdentity,
    station: Agreed,
    dir: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = ClusterCa::create(&dir.path().join("ca"), NOW).unwrap();
        let made = |name: &str, role| {
            let identity = StationIdentity::create(&ca, NOW, &name.parse().unwrap(), role).unwrap();
            (open(&dir.path().join(name), &identity).unwrap(), identity)
        };
        let (primary, _) = made("office", Role::Primary);
        let (station, identity) = made("attic", Role::Replica);
        let pair = Self { ca, primary, identity, station, dir };
        pair.publish(|document| document.members = vec![member("attic"), member("office")]);
        pair
    }

    fn publish(&self, change: impl FnOnce(&mut Document)) -> Vec<u8> {
        let changed = |document: &mut Document| {
            change(document);
            Ok(())
        };
        assert!(self.primary.publish(&self.ca, NOW, changed).unwrap());
        self.given()
    }

    /// Returns what the primary gives.
    fn given(&self) -> Vec<u8> {
        self.primary.held().unwrap().signed.clone()
    }

    fn take(&self, bytes: &[u8]) -> Result<Step, TakeError> {
        self.station.take(bytes, &self.identity)
    }

    fn add_set(&self) -> Vec<u8> {
        self.publish(|document| {
            let master = ("office".parse().unwrap(), Root(b"/srv/work".to_vec()));
            let to = vec!["attic".parse().unwrap()];
            document.add_set("work".parse().unwrap(), SetId([1; 16]), master, to).unwrap();
        })
    }

    fn state(&self) -> std::path::PathBuf {
        self.dir.path().join("attic")
    }
}

fn member(name: &str) -> Member {
    Member {
        name: name.parse().unwrap(),
        role: if name == "office" { Role::Primary } else { Role::Replica },
        address: "host:7846".parse().unwrap(),
        joined: NOW,
        certificates: Vec::new(),
    }
}

fn open(dir: &Path, identity: &StationIdentity) -> Outcome<Agreed> {
    std::fs::create_dir_all(dir).unwrap();
    Agreed::open(&StateDir::new(dir), identity)
}

/// What was taken holds at once, and after a restart.
#[test]
fn what_the_primary_wrote_holds_and_is_remembered() {
    let pair = Pair::new();
    let watch = pair.station.watch();
    assert_eq!(pair.take(&pair.given()).unwrap(), Step::First);
    assert!(watch.has_changed().unwrap());
    assert_eq!(pair.take(&pair.add_set()).unwrap(), Step::Next);
    assert_eq!(pair.take(&pair.given()).unwrap(), Step::Known);
    let nothing_new = pair.primary.publish(&pair.ca, NOW, |_| Ok(())).unwrap();
    assert!(!nothing_new, "a revision that says the same is none");
    let again = open(&pair.state(), &pair.identity).unwrap();
    let held = again.held().unwrap();
    assert_eq!(held.document, pair.primary.held().unwrap().document);
    assert_eq!(again.role(), Some(Role::Replica));
    let set = held.document.set(&"work".parse().unwrap()).unwrap();
    let (office, attic) = ("office".parse().unwrap(), "attic".parse().unwrap());
    assert_eq!(set.slot_between(&office, &attic).unwrap().origin, OriginId(1));
    assert!(set.slot_between(&attic, &office).is_err());
    assert!(set.slot_between(&attic, &attic).is_err());
    assert_eq!(again.problems(), []);
}

/// Every member can reach every other one; none may say what the cluster agrees on.
#[test]
fn what_a_member_forged_is_refused_and_told() {
    let pair = Pair::new();
    pair.take(&pair.given()).unwrap();
    let mut forged = pair.station.held().unwrap().document.next(NOW);
    forged.members[0].role = Role::Primary;
    forged.members[1].role = Role::Replica;
    let other = tempfile::tempdir().unwrap();
    let own = ClusterCa::create(other.path(), NOW).unwrap();
    let message = SignedDocument::to_sign(&forged);
    let old = SignedDocument::decode(&pair.given()).unwrap();
    let signatures =
        [own.sign_message(&message).unwrap(), old.of_ca().unwrap().to_vec(), Vec::new()];
    for signature in signatures {
        let signed = SignedDocument::new(forged.clone(), signature).encode();
        assert!(matches!(pair.take(&signed), Err(TakeError::Unsigned)));
    }
    assert_eq!(pair.station.role(), Some(Role::Replica));
    let told = pair.station.problems();
    assert!(matches!(&told[..], [StationProblem::DocumentRefused(_)]), "{told:?}");
    // The primary's own word ends it.
    pair.take(&pair.add_set()).unwrap();
    assert_eq!(pair.station.problems(), []);
    // The CA may sign another primary, and yet no revision of this reign makes one.
    let mut usurped = pair.station.held().unwrap().document.next(NOW);
    usurped.members[0].role = Role::Primary;
    usurped.members[1].role = Role::Replica;
    let signature = pair.ca.sign_message(&SignedDocument::to_sign(&usurped)).unwrap();
    let signed = SignedDocument::new(usurped, signature).encode();
    assert!(matches!(pair.take(&signed), Err(TakeError::Refused(Refusal::Rule(_)))));
}

/// A link that breaks, or a peer that means harm, leaves what holds.
#[test]
fn what_is_cut_too_long_or_flipped_is_refused() {
    let pair = Pair::new();
    pair.take(&pair.given()).unwrap();
    let held = pair.station.held().unwrap().document.clone();
    let next = pair.add_set();
    for end in 0..next.len() {
        assert!(pair.take(&next[..end]).is_err(), "cut at {end}");
    }
    for at in 0..next.len() {
        let mut flipped = next.clone();
        flipped[at] ^= 1;
        assert!(pair.take(&flipped).is_err(), "flipped at {at}");
    }
    let long = [&next[..], &vec![0; SIGNED_BYTES_MAX]].concat();
    assert!(pair.take(&long).is_err());
    assert_eq!(pair.station.held().unwrap().document, held);
    assert_eq!(pair.take(&next).unwrap(), Step::Next);
}

/// A primary that came from an older backup writes on from there: nobody follows it back, and both ends tell.
#[test]
fn an_older_revision_and_another_history_are_refused_and_told() {
    let pair = Pair::new();
    let older = pair.given();
    pair.take(&older).unwrap();
    let file = pair.dir.path().join("office").join(DOCUMENT_FILE);
    let backup = std::fs::read(&file).unwrap();
    pair.take(&pair.add_set()).unwrap();
    assert!(matches!(pair.take(&older), Err(TakeError::Refused(Refusal::Older { .. }))));

    std::fs::write(&file, backup).unwrap();
    let name = "office".parse().unwrap();
    let identity = StationIdentity::create(&pair.ca, NOW, &name, Role::Primary).unwrap();
    let restored = open(&pair.dir.path().join("office"), &identity).unwrap();
    let attic = "attic".parse().unwrap();
    let have = Some(pair.station.held().unwrap().have());
    restored.hear_of(&attic, have);
    assert!(matches!(&restored.problems()[..], [StationProblem::DocumentLost { .. }]));
    let moved = |document: &mut Document| {
        document.members[0].address = "elsewhere:1".parse().unwrap();
        Ok(())
    };
    assert!(restored.publish(&pair.ca, NOW, moved).unwrap());
    let forked = restored.held().unwrap().signed.clone();
    assert!(matches!(pair.take(&forked), Err(TakeError::Refused(Refusal::Forked { .. }))));
    let told = pair.station.problems();
    assert!(matches!(&told[..], [StationProblem::DocumentRefused(_)]), "{told:?}");
    restored.hear_of(&attic, have);
    assert!(matches!(&restored.problems()[..], [StationProblem::DocumentLost { .. }]));

    // With what the station holds it goes on where it was.
    let copy = std::fs::read(pair.state().join(DOCUMENT_FILE)).unwrap();
    std::fs::write(&file, copy).unwrap();
    let mended = open(&pair.dir.path().join("office"), &identity).unwrap();
    mended.hear_of(&attic, have);
    assert_eq!(mended.problems(), []);
    assert!(mended.publish(&pair.ca, NOW, moved).unwrap());
    let next = mended.held().unwrap().signed.clone();
    assert_eq!(pair.take(&next).unwrap(), Step::Next);
    assert_eq!(pair.station.problems(), []);
}

/// Damage on the disk is told, and is not taken for a station that knows nothing yet.
#[test]
fn a_damaged_document_is_no_document_to_start_with() {
    let pair = Pair::new();
    pair.take(&pair.given()).unwrap();
    let file = pair.state().join(DOCUMENT_FILE);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let failure = open(&pair.state(), &pair.identity).unwrap_err();
    assert!(failure.one_line().contains("damaged"), "{failure}");
    assert!(failure.hint.is_some());
}

/// What makes a station keep less is told for a day that it runs, over restarts, and can be taken back.
#[test]
fn what_is_kept_less_is_told_for_a_day() {
    let pair = Pair::new();
    pair.take(&pair.add_set()).unwrap();
    let set = "work".parse().unwrap();
    let attic: StationName = "attic".parse().unwrap();
    assert!(pair.station.sends(&set, &attic));
    let less = pair.publish(|document| document.sets[0].destinations.clear());
    pair.take(&less).unwrap();
    assert!(!pair.station.sends(&set, &attic));
    pair.station.ran(3600).unwrap();
    let again = open(&pair.state(), &pair.identity).unwrap();
    let told = |left_s| [StationProblem::KeptLess { set: "work".parse().unwrap(), left_s }];
    assert_eq!(again.problems(), told(23 * 3600));
    again.ran(48 * 3600).unwrap();
    assert_eq!(again.problems(), told(0));
    let back = pair.publish(|document| document.sets[0].destinations.push(attic));
    again.take(&back, &pair.identity).unwrap();
    assert_eq!(again.problems(), []);
}

/// Whoever is revoked is none of the cluster's stations, whatever its certificate says.
#[test]
fn only_the_documents_stations_are_members() {
    let pair = Pair::new();
    let [attic, cellar] = ["attic", "cellar"].map(|name| name.parse().unwrap());
    assert!(pair.station.is_member(&cellar), "nothing is known yet");
    let revoked = vec![(Serial([9; 16]), NOW.plus_micros(1))];
    pair.take(&pair.publish(|document| document.revoked = revoked)).unwrap();
    assert!(pair.station.is_member(&attic) && !pair.station.is_member(&cellar));
}
