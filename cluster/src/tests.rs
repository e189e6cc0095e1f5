//! Bytes, rules, and a cluster against a model that knows every revision.

use std::num::NonZeroU16;

use proptest::{collection::vec, prelude::*};

use keepshare_base::{ClusterId, OriginId, Role, Serial, SetName, Stamp, StationName};

use crate::{
    Document, DocumentError, KEPT_S, Member, Pending, Refusal, Root, RuleError, SetId,
    SignedDocument, Step, judge,
    limits::{HEADER_BYTES, SETS_MAX},
};

const CLUSTER: ClusterId = ClusterId([7; 16]);

fn member(name: &str, role: Role) -> Member {
    Member {
        name: name.parse().unwrap(),
        role,
        address: format!("{name}.example.org:7846").parse().unwrap(),
        joined: Stamp(5),
        certificates: vec![Serial([1; 16]), Serial([2; 16])],
    }
}

fn root() -> Root {
    Root(b"/srv/work".to_vec())
}

fn cluster() -> Document {
    let mut document = Document::first(CLUSTER, Stamp(9));
    document.members = vec![
        member("attic", Role::Replica),
        member("office", Role::Primary),
        member("store", Role::Replica),
    ];
    document
}

fn add(document: &mut Document, name: &str, id: u8, to: &[&str]) {
    let to = to.iter().map(|to| to.parse().unwrap()).collect();
    let master = ("office".parse().unwrap(), root());
    document.add_set(name.parse().unwrap(), SetId([id; 16]), master, to).unwrap();
}

fn with_set() -> Document {
    let mut document = cluster();
    add(&mut document, "work", 1, &["store", "attic", "store"]);
    document
}

#[test]
fn a_revision_reads_back() {
    let document = with_set();
    assert_eq!(document.check(), Ok(()));
    assert_eq!(Document::decode(&document.encode()), Ok(document.clone()));
    let signed = SignedDocument::new(document.clone(), vec![3; 72]);
    let read = SignedDocument::decode(&signed.encode()).unwrap();
    assert_eq!((read.unverified(), read.of_ca()), (&document, Some(&[3; 72][..])));
    let set = &document.sets[0];
    assert_eq!(set.destinations.len(), 2, "each once");
    assert!(set.is_kept_by(&"attic".parse().unwrap()));
    assert_eq!(set.slot_of(&"office".parse().unwrap()).unwrap().origin, OriginId(1));
}

/// A later build may know more; this one must not act on half of what that wrote.
#[test]
fn what_a_later_build_wrote_is_refused_by_number() {
    let mut bytes = with_set().encode();
    bytes[4] = 2;
    assert_eq!(Document::decode(&bytes), Err(DocumentError::Format(2)));
}

/// Two texts of one revision would have two hashes: stations that hold the same would call each other forked.
#[test]
fn a_revision_has_one_form() {
    let document = with_set();
    let good = document.encode();
    // The number 1 with a needless second byte.
    let reign_at = HEADER_BYTES + 16;
    assert_eq!(good[reign_at], 1);
    let mut body = good[HEADER_BYTES..].to_vec();
    body.splice(16..17, [0x81, 0x00]);
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    let long = [&good[..6], &length, &body].concat();
    assert!(matches!(Document::decode(&long), Err(DocumentError::Form | DocumentError::Body(_))));
    // More after the end, inside of the body and behind it.
    let mut body = good[HEADER_BYTES..].to_vec();
    body.push(0);
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    assert_eq!(Document::decode(&[&good[..6], &length, &body].concat()), Err(DocumentError::Form));
    assert_eq!(Document::decode(&[&good[..], &[0]].concat()), Err(DocumentError::Length));
}

#[test]
fn what_breaks_a_rule_is_refused() {
    fn broken(change: impl FnOnce(&mut Document)) -> RuleError {
        let mut document = with_set();
        add(&mut document, "mail", 2, &["store"]);
        change(&mut document);
        document.check().unwrap_err()
    }
    let work: SetName = "work".parse().unwrap();
    assert_eq!(broken(|d| d.members.swap(0, 1)), RuleError::Order("stations"));
    assert_eq!(broken(|d| d.members[0].role = Role::Primary), RuleError::Primaries);
    assert_eq!(broken(|d| d.members[1].role = Role::Replica), RuleError::Primaries);
    assert_eq!(broken(|d| d.sets.swap(0, 1)), RuleError::Order("sets"));
    assert_eq!(broken(|d| d.sets[1].id = d.sets[0].id), RuleError::Twice(work.clone()));
    assert_eq!(broken(|d| d.sets[1].share = d.sets[0].share), RuleError::Twice(work.clone()));
    assert_eq!(broken(|d| d.shares = 1), RuleError::GivenBefore("mail".parse().unwrap()));
    assert_eq!(broken(|d| d.sets[1].slots.clear()), RuleError::Slots(work.clone()));
    assert_eq!(
        broken(|d| d.sets[1].slots[0].origin = OriginId::SET),
        RuleError::Slots(work.clone())
    );
    assert_eq!(broken(|d| d.sets[1].slots[0].origin = OriginId(2)), RuleError::Slots(work.clone()));
    assert_eq!(
        broken(|d| d.sets[1].slots[0].root = Root(b"srv".to_vec())),
        RuleError::Root(work.clone())
    );
    let station: StationName = "cellar".parse().unwrap();
    let named = broken(|d| d.sets[1].destinations = vec![station.clone()]);
    assert_eq!(named, RuleError::NoMember { set: work, station });
    assert_eq!(broken(|d| d.revision.number = 0), RuleError::Revision);
    assert_eq!(broken(|d| d.revision.number = 2), RuleError::Before);
    let many = broken(|d| {
        let set = d.sets[0].clone();
        d.sets = vec![set; SETS_MAX + 1];
    });
    assert_eq!(many, RuleError::TooMany("sets"));
    let long = broken(|d| {
        d.shares = u16::MAX;
        d.sets = (1..=100u8)
            .map(|n| {
                let mut set = d.sets[0].clone();
                set.name = format!("set-{n:03}").parse().unwrap();
                set.id = SetId([n; 16]);
                set.share = NonZeroU16::new(u16::from(n)).unwrap();
                set.slots[0].root = Root([&b"/"[..], &[b'x'; 4000]].concat());
                set
            })
            .collect();
    });
    assert_eq!(long, RuleError::TooLong);
}

/// Handles of a drive carry the number of its set: given to another one it would open that one's files.
#[test]
fn numbers_are_given_once() {
    let first = with_set();
    let after = |change: &dyn Fn(&mut Document)| {
        let mut next = first.next(Stamp(10));
        change(&mut next);
        judge(CLUSTER, Some(&first), &next)
    };
    assert_eq!(after(&|_| {}), Ok(Step::Next));
    assert_eq!(after(&|next| next.sets.clear()), Ok(Step::Next));
    let work: SetName = "work".parse().unwrap();
    let anew = after(&|next| {
        next.sets.clear();
        next.shares = 0;
        add(next, "work", 9, &[]);
    });
    assert_eq!(anew, Err(Refusal::Rule(RuleError::GivenBefore(work.clone()))));
    let renumbered = after(&|next| {
        next.shares = 2;
        next.sets[0].share = NonZeroU16::new(2).unwrap();
    });
    assert_eq!(renumbered, Err(Refusal::Rule(RuleError::Renumbered(work.clone()))));
    let back = after(&|next| {
        next.sets.clear();
        next.shares = 0;
    });
    assert_eq!(back, Err(Refusal::Rule(RuleError::SharesBack)));
    // A slot that was given up does not come back for somebody else.
    let (mut moved, mut again) = (first.next(Stamp(10)), first.next(Stamp(10)).next(Stamp(11)));
    moved.sets[0].slots[0].origin = OriginId(2);
    moved.sets[0].origins = 2;
    again.before = moved.next(Stamp(11)).before;
    again.sets[0].origins = 2;
    assert_eq!(judge(CLUSTER, Some(&first), &moved), Ok(Step::Next));
    let refused = judge(CLUSTER, Some(&moved), &again);
    assert_eq!(refused, Err(Refusal::Rule(RuleError::GivenBefore(work))));
    // Who may write is not decided by who writes.
    let usurped = after(&|next| {
        next.members[1].role = Role::Replica;
        next.members[2].role = Role::Primary;
    });
    let store = "store".parse().unwrap();
    assert_eq!(usurped, Err(Refusal::Rule(RuleError::OtherPrimary(store))));
}

/// A primary that was restored from a backup writes on from there; whoever has more must not lose it.
#[test]
fn an_older_revision_and_another_history_are_refused() {
    let mut line = vec![with_set()];
    while line.len() < 100 {
        let next = line[line.len() - 1].next(Stamp(line.len() as i64));
        line.push(next);
    }
    let of = |at: usize| &line[at - 1];
    assert_eq!(judge(CLUSTER, None, of(3)), Ok(Step::First));
    assert_eq!(judge(CLUSTER, Some(of(3)), of(3)), Ok(Step::Known));
    assert_eq!(judge(CLUSTER, Some(of(3)), of(5)), Ok(Step::Next));
    assert_eq!(judge(CLUSTER, Some(of(3)), of(67)), Ok(Step::Next), "64 back");
    assert_eq!(judge(CLUSTER, Some(of(3)), of(68)), Ok(Step::Far));
    let (held, got) = (of(5).revision, of(3).revision);
    assert_eq!(judge(CLUSTER, Some(of(5)), of(3)), Err(Refusal::Older { held, got }));
    let mut other = of(3).next(Stamp(1000));
    add(&mut other, "mail", 2, &["store"]);
    for (held, got) in [(of(4), &other), (of(4), &other.next(Stamp(1001)))] {
        let refused = Refusal::Forked { held: held.revision, got: got.revision };
        assert_eq!(judge(CLUSTER, Some(held), got), Err(refused));
    }
    assert_eq!(judge(CLUSTER, Some(of(3)), &other), Ok(Step::Next));
    let elsewhere = ClusterId([8; 16]);
    assert_eq!(judge(elsewhere, None, of(3)), Err(Refusal::OtherCluster(CLUSTER)));
}

/// A station that has to begin anew has kept less, however it is called.
#[test]
fn what_goes_on_under_another_name_is_kept_less_and_told() {
    let store: StationName = "store".parse().unwrap();
    let old = with_set();
    let mut renamed = old.next(Stamp(2));
    renamed.sets[0].name = "another".parse().unwrap();
    let pending = Pending::after(&[], Some(&old), &renamed, &store);
    assert_eq!(pending.len(), 1, "{pending:?}");
    assert_eq!(pending[0].name, old.sets[0].name);
    let later = renamed.next(Stamp(3));
    assert_eq!(Pending::after(&pending, Some(&renamed), &later, &store), pending);
    assert_eq!(Pending::after(&pending, Some(&later), &old, &store).len(), 1, "of the other name");
}

/// Whoever is told to keep less has a day to find out that it was a mistake, or somebody's malice.
#[test]
fn what_is_kept_less_waits_a_day_and_can_be_taken_back() {
    let attic = "attic".parse().unwrap();
    let old = with_set();
    let mut less = old.next(Stamp(10));
    less.sets[0].destinations.retain(|to| *to != attic);
    let mut told = Pending::after(&[], Some(&old), &less, &attic);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].left_s(), KEPT_S);
    told[0].ran(KEPT_S - 1);
    assert_eq!(told[0].left_s(), 1);
    // Told again, it does not begin anew; a set that is gone is no other case.
    let mut gone = less.next(Stamp(11));
    gone.sets.clear();
    assert_eq!(Pending::after(&told, Some(&less), &gone, &attic), told);
    told[0].ran(1);
    assert_eq!(told[0].left_s(), 0);
    assert_eq!(Pending::after(&told, Some(&less), &old.next(Stamp(12)), &attic), []);
    let store = "store".parse().unwrap();
    assert_eq!(Pending::after(&[], Some(&old), &less, &store), [], "it is told to keep as much");
    assert_eq!(Pending::after(&[], Some(&less), &gone, &store).len(), 1);
}

/// What may happen to a cluster: the primary writes, is set back to what it was, and a station is given something.
#[derive(Clone, Debug)]
enum Event {
    Write(u8),
    SetBack(usize),
    Give { station: usize, revision: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any::<u8>().prop_map(Event::Write),
        1 => any::<usize>().prop_map(Event::SetBack),
        6 => (any::<usize>(), any::<usize>())
            .prop_map(|(station, revision)| Event::Give { station, revision }),
    ]
}

proptest! {
    /// Against a model that knows of every revision which one it was written after: a station goes only from a revision to one
    /// of those that were written after it, and takes each of these.
    #[test]
    fn stations_follow_one_history(events in vec(event(), 1..60)) {
        let mut written = vec![(with_set(), None)];
        let mut primary = 0;
        let mut stations: [Option<usize>; 3] = [None; 3];
        for (at, event) in (100..).zip(events) {
            match event {
                Event::Write(what) => {
                    let mut next = written[primary].0.next(Stamp(at));
                    match what % 3 {
                        0 => next.members[0].address = format!("a{what}:1").parse().unwrap(),
                        1 if next.shares < 40 => {
                            let name = format!("set-{}", next.shares);
                            let id = u8::try_from(next.shares).unwrap() + 50;
                            add(&mut next, &name, id, &["attic"]);
                        }
                        _ => {
                            next.sets.pop();
                        }
                    }
                    written.push((next, Some(primary)));
                    primary = written.len() - 1;
                }
                Event::SetBack(to) => primary = to % written.len(),
                Event::Give { station, revision } => {
                    let (station, given) = (station % 3, revision % written.len());
                    let held = stations[station];
                    let after = |mut of: usize, held: usize| loop {
                        if of == held { return true }
                        match written[of].1 { Some(before) => of = before, None => return false }
                    };
                    let expected = held.is_none_or(|held| after(given, held));
                    let old = held.map(|held| &written[held].0);
                    let judged = judge(CLUSTER, old, &written[given].0);
                    prop_assert_eq!(judged.is_ok(), expected, "{:?}", judged);
                    if judged.is_ok() {
                        stations[station] = Some(given);
                    }
                }
            }
        }
    }

    /// No bytes bring it down, and what is taken is written in one way.
    #[test]
    fn any_bytes_are_read_or_refused(at in any::<usize>(), bit in 0..8u8, cut in any::<usize>()) {
        let good = SignedDocument::new(with_set(), vec![3; 72]).encode();
        let mut flipped = good.clone();
        flipped[at % good.len()] ^= 1 << bit;
        if let Ok(read) = SignedDocument::decode(&flipped) {
            prop_assert_eq!(read.encode(), flipped);
        }
        prop_assert!(SignedDocument::decode(&good[..cut % good.len()]).is_err());
    }
}
