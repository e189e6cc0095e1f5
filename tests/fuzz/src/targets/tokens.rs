//! What lets somebody in or is believed for its signature: tokens, secrets, numbers of sessions, the cluster's document.

use std::{fmt, str::FromStr};

use keepshare_auth::{HostRange, ResumeSecret, SessionId, Ticket, UserName};
use keepshare_base::{ClusterId, OriginId, Role, Serial, Stamp, StationName};
use keepshare_cluster::{Document, Member, Root, SetId, SignedDocument};
use keepshare_identity::{CaPin, JoinToken, TokenId};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "tokens",
    run,
    examples,
    words: &[
        b"v1.",
        b".",
        b"/",
        b"::ffff:",
        b"/128",
        b"/08",
        b" ",
        b"\n",
        &[0x80, 0],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
    ],
    cost: 1,
};

fn run(bytes: &[u8]) -> bool {
    let as_bytes = [read_document(bytes), read_signed(bytes), read_ticket(bytes)];
    let Ok(text) = std::str::from_utf8(bytes) else { return as_bytes.contains(&true) };
    let as_text = [
        // Copied with a line's end.
        reads_back::<JoinToken>(text.trim()),
        reads_back::<TokenId>(text),
        reads_back::<CaPin>(text),
        reads_back::<SessionId>(text),
        reads_back::<UserName>(text),
        reads_back::<SetId>(text),
        read_range(text),
        read_secret(text),
    ];
    as_bytes.contains(&true) || as_text.contains(&true)
}

/// There is one form of a revision, or stations that hold the same would differ.
fn read_document(bytes: &[u8]) -> bool {
    let Ok(document) = Document::decode(bytes) else { return false };
    assert_eq!(document.encode(), bytes);
    assert_eq!(document.check(), Ok(()));
    true
}

fn read_signed(bytes: &[u8]) -> bool {
    let Ok(signed) = SignedDocument::decode(bytes) else { return false };
    assert_eq!(signed.encode(), bytes);
    let _ = (signed.of_ca(), SignedDocument::to_sign(signed.unverified()));
    true
}

fn read_ticket(bytes: &[u8]) -> bool {
    let Some(ticket) = Ticket::parse(bytes) else { return false };
    assert_eq!(ticket.reveal().as_bytes(), bytes);
    true
}

fn read_secret(text: &str) -> bool {
    let Some(secret) = ResumeSecret::parse(text) else { return false };
    assert_eq!(secret.reveal(), text);
    assert!(!format!("{secret:?}").contains(text));
    true
}

/// A range has several forms: an IPv4 address may be written as IPv6.
fn read_range(text: &str) -> bool {
    let Ok(range) = text.parse::<HostRange>() else { return false };
    assert_eq!(range.to_string().parse(), Ok(range));
    true
}

fn reads_back<T: FromStr + fmt::Display>(text: &str) -> bool {
    let Ok(value) = text.parse::<T>() else { return false };
    assert_eq!(value.to_string(), text);
    true
}

fn examples() -> Vec<(String, Vec<u8>)> {
    let document = document();
    let signed = SignedDocument::new(document.clone(), vec![3; 72]);
    let token = JoinToken { ca: CaPin([1; 32]), secret: [2; 32] };
    let texts = [
        ("token", token.to_string()),
        ("token-id", TokenId::of(&token.secret).to_string()),
        ("pin", token.ca.to_string()),
        ("session", SessionId(0x0123_4567_89ab_cdef).to_string()),
        ("ticket", "0123456789abcdef".repeat(2)),
        ("secret", "0123456789abcdef".repeat(4)),
        ("user", "anna.b-c_9".to_owned()),
        ("range", "10.0.0.0/24".to_owned()),
        ("range-v6", "fd00:1::/64".to_owned()),
        ("range-mapped", "::ffff:10.0.0.7".to_owned()),
    ];
    let texts = texts.map(|(name, text)| (name.to_owned(), text.into_bytes()));
    let documents = [("document", document.encode()), ("document-signed", signed.encode())];
    texts.into_iter().chain(documents.map(|(name, bytes)| (name.to_owned(), bytes))).collect()
}

/// A cluster of three with a set, in its second revision.
fn document() -> Document {
    let station = |name: &str| name.parse::<StationName>().expect("a name");
    let member = |name: &str, role| Member {
        name: station(name),
        role,
        address: format!("{name}.example.org:7846").parse().expect("an address"),
        joined: Stamp(5),
        certificates: vec![Serial([1; 16]), Serial([2; 16])],
    };
    let mut document = Document::first(ClusterId([7; 16]), Stamp(9));
    document.members = vec![
        member("attic", Role::Replica),
        member("office", Role::Primary),
        member("store", Role::Replica),
    ];
    document.revoked = vec![(Serial([9; 16]), Stamp(99))];
    let mut next = document.next(Stamp(10));
    let slot = (station("office"), Root(b"/srv/work".to_vec()));
    let to = vec![station("attic"), station("store")];
    next.add_set("work".parse().expect("a name"), SetId([1; 16]), slot, to).expect("the first set");
    assert_eq!(next.sets[0].slots[0].origin, OriginId(1));
    next
}
