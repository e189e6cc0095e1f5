use redb::ReadableTableMetadata as _;

use keepshare_base::{Epoch, OriginId};

use super::*;
use crate::disk::sim::Dice;

fn database() -> redb::Database {
    let backend = redb::backends::InMemoryBackend::new();
    redb::Database::builder().create_with_backend(backend).unwrap()
}

fn folder(counter: u64) -> FileId {
    FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter }
}

/// Names as people and programs give them, and some that nobody would.
fn some_name(dice: &mut Dice) -> Vec<u8> {
    let number = dice.below(2000);
    match dice.below(12) {
        0 => vec![b'x'; 1 + number % 255],
        1 => format!("Übung {number}.txt").into_bytes(),
        2 => [b"a\xff", &number.to_string().into_bytes()[..]].concat(),
        3 => format!("\u{202e}x{number}").into_bytes(),
        4 => vec![1 + u8::try_from(number % 46).unwrap(); 1 + number % 3],
        _ => format!("Report {number} final.docx").into_bytes(),
    }
}

fn is_like(text: &'static str) -> (impl Fn(&[u8]) -> bool, impl Fn(&Name) -> bool) {
    let has = move |bytes: &[u8]| {
        text.is_empty() || bytes.windows(text.len()).any(|part| part == text.as_bytes())
    };
    (has, move |name: &Name| name.to_string().contains(text))
}

fn all_like(rows: &impl Rows, text: &'static str) -> Vec<(FileId, Name)> {
    let (may_have, is_meant) = is_like(text);
    let look = Look { may_have: &may_have, is_meant: &is_meant };
    let (mut all, mut from) = (Vec::new(), Vec::new());
    loop {
        let (found, next) = like(rows, &from, &look).unwrap();
        all.extend(found);
        match next {
            Some(next) => from = next,
            None => return all,
        }
    }
}

/// Whatever names come, in whatever order and however many at once: each is found once, in order, also from any of them on.
#[test]
fn it_is_a_set_of_names() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let txn = database().begin_write().unwrap();
        let mut rows = WriteRows::new(&txn);
        rows.open_all().unwrap();
        let mut model = BTreeSet::new();
        for _ in 0..60 {
            let mut new = BTreeSet::new();
            for _ in 0..1 + dice.below(120) {
                let parent =
                    if dice.below(9) == 0 { FileId::ROOT } else { folder(dice.below(300) as u64) };
                let Ok(name) = Name::new(&some_name(&mut dice)) else { continue };
                new.insert(keys::name(parent, &name));
                model.insert((parent, name));
            }
            add(&mut rows, &new).unwrap();
        }
        for text in ["", "inal", "9", "xff", "Übung", "u{202e}", "\\"] {
            let wanted = model.iter().filter(|(_, name)| name.to_string().contains(text));
            assert!(all_like(&rows, text).iter().eq(wanted), "seed {seed}: {text}");
        }
        let (may_have, is_meant) = is_like("");
        let look = Look { may_have: &may_have, is_meant: &is_meant };
        for entry in model.iter().step_by(97) {
            let from = [&keys::name(entry.0, &entry.1)[..], &[0]].concat();
            let after = model.range(entry..).skip(1).take(FOUND_MAX);
            assert!(like(&rows, &from, &look).unwrap().0.iter().eq(after), "seed {seed}");
        }
        let mut hashers = [blake3::Hasher::new(), blake3::Hasher::new()];
        digest(&rows, &mut hashers[0]).unwrap();
        let other = database().begin_write().unwrap();
        let mut others = WriteRows::new(&other);
        others.open_all().unwrap();
        for (parent, name) in model.iter().rev() {
            add(&mut others, &BTreeSet::from([keys::name(*parent, name)])).unwrap();
        }
        digest(&others, &mut hashers[1]).unwrap();
        assert_eq!(hashers[0].finalize(), hashers[1].finalize(), "seed {seed}");
    }
}

/// A million names must not take much more than their bytes, however they came.
#[test]
fn rows_fill_their_pages() {
    let fill = |keys: &[Vec<u8>], together: usize| {
        let txn = database().begin_write().unwrap();
        let mut rows = WriteRows::new(&txn);
        rows.open_all().unwrap();
        for some in keys.chunks(together) {
            add(&mut rows, &some.iter().cloned().collect()).unwrap();
        }
        drop(rows);
        let stats = txn.open_table(Table::Called.definition()).unwrap().stats().unwrap();
        assert!(stats.stored_bytes() <= stats.leaf_pages() * 4096, "rows have more than a page");
        let bytes: usize = keys.iter().map(Vec::len).sum();
        bytes as u64 * 100 / ((stats.leaf_pages() + stats.branch_pages()) * 4096)
    };
    let key = |number: usize| {
        let name = Name::new(format!("document {number:06}.docx").as_bytes()).unwrap();
        keys::name(folder(1 + number as u64 / 1000), &name)
    };
    let mut keys: Vec<_> = (0..40_000).map(key).collect();
    assert!(fill(&keys, 500) > 100, "{} of 100", fill(&keys, 500));
    assert!(fill(&keys, 1) > 100, "folders are written once for many names: {}", fill(&keys, 1));
    keys.reverse();
    assert!(fill(&keys, 500) > 90, "{} of 100", fill(&keys, 500));
    let mut dice = Dice(1);
    for at in (1..keys.len()).rev() {
        keys.swap(at, dice.below(at + 1));
    }
    assert!(fill(&keys, 50) > 65, "{} of 100", fill(&keys, 50));
}

/// A row comes from a file: none may bring the reader down, or be taken for the end.
#[test]
fn rows_that_do_not_read_are_errors() {
    for value in [&b""[..], b"\x02", b"\0\x01", b"\0\x01\x01\x01name", b"\0\x01\x01\x01a/b\0\0"] {
        let txn = database().begin_write().unwrap();
        let mut rows = WriteRows::new(&txn);
        rows.open_all().unwrap();
        rows.put(Table::Called, &[], value).unwrap();
        let look = Look { may_have: &|_| true, is_meant: &|_| true };
        assert!(like(&rows, &[], &look).is_err(), "{value:?}");
    }
}
