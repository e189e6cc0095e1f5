//! Typed times, alone and behind a path.

use chrono_tz::Tz;

use keepshare_base::{CommitId, Epoch, FileId, OriginId, Position, Seq, Stamp, VersionId};
use keepshare_versioning::when::{Moment, When, split_path_time, typed, typed_exactly};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "times",
    run,
    examples,
    words: &[
        b"@",
        b"@GMT-",
        b"@@",
        b"-",
        b"_",
        b":",
        b".",
        b"Z",
        b"+14:00",
        b"-0000",
        b"99999999999999999999",
        b"9223372036854775807",
        b"0",
        b"unix:",
        b"-1.1",
        b"24",
        b"60",
        b"w",
        b"1h",
        b"\xc3\xa9",
    ],
    cost: 4,
};

/// A day on which clocks are set forward, one on which they are set back, and the ends of all time.
const NOWS: [Stamp; 5] = [
    Stamp(i64::MIN),
    Stamp(0),
    Stamp(1_774_746_000_000_000),
    Stamp(1_793_494_800_000_000),
    Stamp(i64::MAX),
];

/// Zones with all that zones have: half hours, a day that was left out, clocks that are set by half an hour.
const ZONES: [Tz; 5] =
    [Tz::UTC, Tz::Europe__Berlin, Tz::Asia__Kolkata, Tz::Pacific__Apia, Tz::Australia__Lord_Howe];

fn run(bytes: &[u8]) -> bool {
    let behind_path = split_path_time(bytes).map(|(path, when)| {
        assert!(bytes.starts_with(path) && bytes.get(path.len()) == Some(&b'@'));
        check(when);
    });
    let alone = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).map(check);
    behind_path.is_some() || alone.is_some()
}

fn check(when: When) {
    for zone in ZONES {
        for now in NOWS {
            match when.resolve(zone, now) {
                Moment::At(at) => check_stamp(at, zone),
                // An id is shown as it is typed.
                moment @ Moment::Version(..) => {
                    let again: When = moment.to_string().parse().expect("an id that is shown");
                    assert_eq!(without_root(again.resolve(zone, now)), without_root(moment));
                }
                Moment::Latest => {}
            }
        }
    }
}

/// The root folder is of no origin: an id is shown without it.
fn without_root(moment: Moment) -> Moment {
    match moment {
        Moment::Version(id, file) => Moment::Version(id, file.filter(|file| *file != FileId::ROOT)),
        other => other,
    }
}

/// A moment that is shown can be typed: to the microsecond it is the same, to the second it is in that second.
fn check_stamp(at: Stamp, zone: Tz) {
    // Years have four digits where they are typed.
    let year = at.to_utc().map(|time| time.format("%Y").to_string());
    if !year.is_some_and(|year| year.len() == 4 && ("1971".."9998").contains(&year.as_str())) {
        let _ = (typed(at, zone), typed_exactly(at, zone));
        return;
    }
    let read = |text: String| match text.parse::<When>().map(|when| when.resolve(zone, at)) {
        Ok(Moment::At(stamp)) => stamp,
        other => panic!("{text} is shown and read as {other:?}"),
    };
    assert_eq!(read(typed_exactly(at, zone)), at);
    let second = |stamp: Stamp| stamp.0.div_euclid(1_000_000);
    assert_eq!(second(read(typed(at, zone))), second(at));
}

fn examples() -> Vec<(String, Vec<u8>)> {
    let position = Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(42) };
    let file = FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter: 7 };
    let other = FileId { epoch: Epoch::FIRST.next(), ..file };
    let at = Stamp(1_763_649_127_000_001);
    let (own, zone) = (VersionId::of_station(CommitId(42)), Tz::Europe__Berlin);
    let shown = [
        Moment::Version(VersionId(position), None).to_string(),
        Moment::Version(VersionId(position), Some(file)).to_string(),
        Moment::Version(VersionId(position), Some(other)).to_string(),
        Moment::Version(own, Some(file)).to_string(),
        at.to_string(),
        typed(at, zone),
        typed_exactly(at, zone),
    ];
    let by_hand = [
        "latest",
        "now",
        "today",
        "yesterday",
        "monday",
        "9:00",
        "09.00",
        "23:59:59",
        "2026",
        "2026-11",
        "2026-11-20",
        "20261120",
        "20.11.2026",
        "2026-11-20_15.32",
        "2026-11-20 15",
        "2026-11-20T15:32:07Z",
        "2026-11-20T15:32:07.25+01:00",
        "20261120153207",
        "45s",
        "1h30m",
        "2w3d",
        "unix:1763649127",
        "unix:1763649127.25",
        "@GMT-2026.11.20-14.32.07",
        "sales/report.docx@2026-11-20",
        "a@b@@GMT-2026.11.20-14.32.07",
        "@yesterday",
    ];
    let texts = shown.into_iter().chain(by_hand.map(str::to_owned));
    let texts = texts.filter(|text| run(text.as_bytes()));
    texts.enumerate().map(|(n, text)| (format!("time-{n:02}"), text.into_bytes())).collect()
}
