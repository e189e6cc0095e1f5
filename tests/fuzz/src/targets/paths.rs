//! Names, paths, ids and labels: everything that one text or one row of bytes stands for.

use std::{fmt, str::FromStr};

use keepshare_base::{
    CommitId, ContentHash, Epoch, FileId, Name, OriginId, Position, Role, Seq, SetName, SetPath,
    StationAddress, StationName, VersionId, escape_name, unescape_name,
};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "paths",
    run,
    examples,
    words: &[
        b"@versions",
        b"@GMT-",
        b"~",
        b"/",
        b"..",
        b".",
        b"\0",
        b"\xff",
        b"\xe2\x80\xae",
        b"[::1]",
        b":1",
    ],
    cost: 1,
};

fn run(bytes: &[u8]) -> bool {
    let as_bytes = [read_path(bytes), read_name(bytes), read_file_id(bytes)];
    let Ok(text) = std::str::from_utf8(bytes) else { return as_bytes.contains(&true) };
    let as_text = [
        reads_back::<SetName>(text, true),
        reads_back::<StationName>(text, true),
        reads_back::<StationAddress>(text, true),
        reads_back::<Role>(text, true),
        // Digits may be written large, numbers with a sign or zeros before them.
        reads_back::<ContentHash>(text, false),
        reads_back::<VersionId>(text, false),
    ];
    as_bytes.contains(&true) || as_text.contains(&true)
}

fn read_path(bytes: &[u8]) -> bool {
    let Ok(path) = SetPath::parse(bytes) else { return false };
    path.names().iter().for_each(|name| check_name(name.as_bytes()));
    assert_eq!(SetPath::parse(&path.to_bytes()), Ok(path.clone()));
    shows_harmlessly(&path);
    true
}

fn read_name(bytes: &[u8]) -> bool {
    let own = Name::new(bytes);
    if let Ok(name) = &own {
        check_name(name.as_bytes());
        assert_eq!(name.as_bytes(), bytes);
        shows_harmlessly(name);
    }
    // What a source's file system calls it.
    if let Ok(name) = escape_name(bytes) {
        check_name(name.as_bytes());
        assert_eq!(unescape_name(&name), bytes, "{name} is another name on the way back");
    }
    own.is_ok()
}

fn check_name(name: &[u8]) {
    assert!((1..=255).contains(&name.len()) && name != b"." && name != b"..");
    assert!(!name.contains(&b'/') && !name.contains(&0));
    let lower = name.to_ascii_lowercase();
    assert!(lower != b"@versions" && !lower.starts_with(b"@gmt-"));
}

fn read_file_id(bytes: &[u8]) -> bool {
    let Some(id) = FileId::from_bytes(bytes) else { return false };
    assert_eq!(id.to_bytes(), bytes);
    true
}

/// A text that is taken is shown so that it is taken again; in one form alone where there is only one.
fn reads_back<T>(text: &str, has_one_form: bool) -> bool
where
    T: FromStr<Err: fmt::Debug> + fmt::Display + fmt::Debug + PartialEq,
{
    let Ok(value) = text.parse::<T>() else { return false };
    let shown = value.to_string();
    assert_eq!(shown.parse::<T>().expect("what is shown is taken"), value);
    assert!(!has_one_form || shown == text, "{shown} was taken as {text}");
    shows_harmlessly(&value);
    true
}

/// A terminal is not steered by what is shown.
fn shows_harmlessly(value: &impl fmt::Display) {
    let shown = value.to_string();
    assert!(!shown.contains(char::is_control), "{shown:?} has control characters");
}

fn examples() -> Vec<(String, Vec<u8>)> {
    let position = Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(42) };
    let file = FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter: 7 };
    let mut examples: Vec<(&str, Vec<u8>)> = vec![
        ("path", b"sales/2026/report.docx".to_vec()),
        ("deep", b"a/".repeat(1024)),
        ("name-longest", vec![b'x'; 255]),
        ("name-no-text", b"caf\xe9".to_vec()),
        ("file-id", file.to_bytes().to_vec()),
    ];
    let texts = [
        ("version", VersionId(position).to_string()),
        ("version-of-station", VersionId::of_station(CommitId(42)).to_string()),
        ("hash", ContentHash::of(b"bytes").to_string()),
        ("label", "projects".to_owned()),
        ("address", "[::1]:7846".to_owned()),
        ("address-named", "backup.example.org:7846".to_owned()),
        ("role", Role::Primary.to_string()),
    ];
    examples.extend(texts.map(|(name, text)| (name, text.into_bytes())));
    let own: [(&str, &[u8]); 4] = [
        ("own-versions", b"@versions"),
        ("own-versions-tilde", b"@VERSIONS~~"),
        ("own-gmt", b"@GMT-2026.11.20-14.32.07"),
        ("own-gmt-tilde", b"~~@gmt-1"),
    ];
    for (name, own) in own {
        let escaped = escape_name(own).expect("a short name can be escaped");
        examples.push((name, escaped.as_bytes().to_vec()));
    }
    examples.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}
