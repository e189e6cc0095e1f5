//! Times as users type them.

use super::*;

const BERLIN: Tz = Tz::Europe__Berlin;

fn at(text: &str, zone: Tz) -> String {
    let now: DateTime<Utc> = "2026-11-20T14:32:07.000001Z".parse().unwrap();
    let when: When = text.parse().unwrap_or_else(|error| panic!("{error}"));
    when.resolve(zone, now.into()).to_string()
}

/// What users are told they can type, row by row.
const TIMES: &str = include_str!("../../../../docs/user/times.md");

/// Returns the rows of the table with this heading: each cell without its marks.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, table) = TIMES.split_once(heading).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &'static str| row.split('|').map(|cell| cell.trim().trim_matches('`'));
    rows.map(|row| cells(row).skip(1).collect()).collect()
}

/// The page for users is the test: what it says is so.
#[test]
fn every_form_of_the_page_means_what_it_says() {
    let table = rows("| you type | that is | at that moment |");
    assert!(table.len() > 50, "the table was not found");
    for row in &table {
        assert_eq!(at(row[0], BERLIN), row[2], "{}", row[0]);
    }
}

/// What is not sure to be what was meant is an error, never a guess.
#[test]
fn what_the_page_calls_no_time_is_none() {
    let table = rows("| you type | because |");
    assert!(table.len() > 10, "the table was not found");
    for row in &table {
        assert!(row[0].parse::<When>().is_err(), "{} was taken", row[0]);
    }
}

/// A clock that is set for summer and winter has days of 23 and 25 hours, and times that come twice or never.
#[test]
fn a_time_of_the_clock_is_the_last_one_that_was() {
    let at = |text: &str, now: &str| {
        let now: DateTime<Utc> = now.parse().unwrap();
        text.parse::<When>().unwrap().resolve(BERLIN, now.into()).to_string()
    };
    assert_eq!(at("2:30", "2026-10-25T05:00:00Z"), "2026-10-25T01:30:59.999999Z");
    assert_eq!(at("2:30", "2026-03-29T05:00:00Z"), "2026-03-29T00:59:59.999999Z");
    assert_eq!(at("23:59", "2026-10-25T22:58:00Z"), "2026-10-24T21:59:59.999999Z");
    assert_eq!(at("0:00", "2026-11-19T23:00:00Z"), "2026-11-19T23:00:59.999999Z");
    assert_eq!(at("sunday", "2026-10-26T08:00:00Z"), "2026-10-25T22:59:59.999999Z");
    // In the hour that comes twice, before and after each of its two half hours.
    for (now, told) in [
        ("2026-10-25T00:10:00Z", "2026-10-24T00:30:59.999999Z"),
        ("2026-10-25T00:30:10Z", "2026-10-25T00:30:59.999999Z"),
        ("2026-10-25T00:40:00Z", "2026-10-25T00:30:59.999999Z"),
        ("2026-10-25T01:10:00Z", "2026-10-25T00:30:59.999999Z"),
        ("2026-10-25T01:30:10Z", "2026-10-25T01:30:59.999999Z"),
    ] {
        assert_eq!(at("2:30", now), told, "typed at {now}");
    }
    assert_eq!(at("1:59", "2026-10-25T01:10:00Z"), "2026-10-24T23:59:59.999999Z");
    assert_eq!(at("monday", "2026-10-25T23:00:00Z"), "2026-10-19T21:59:59.999999Z");
}

/// Whatever a client types, nothing overflows.
#[test]
fn the_last_second_that_can_be_counted_is_a_time() {
    for text in ["unix:8210266876799", "unix:8210266876799.999999", "9999-12-31", "999999999w"] {
        let _ = text.parse::<When>().map(|when| when.resolve(Tz::UTC, Stamp(0)));
    }
    assert!("unix:8210266876799".parse::<When>().is_ok());
}

#[test]
fn what_is_no_time_is_refused() {
    let wrong = [
        "",
        "@",
        "2026-11-",
        "2026-1",
        "0900",
        "9:00:",
        "9:00:00:00",
        "9.00.2026",
        "123:00",
        ":30",
        "1h1h",
        "1h30",
        "28.11.26",
        "28.11.2026x",
        "unix:",
        "unix:-5",
        "2026-13-01",
        "2026-02-30",
        "2026-11-20_",
        "2026-11-20_24",
        "2026-11-20_1",
        "2026-11-20_15.6",
        "2026-11-20_15.60",
        "2026-11-20_15.32.60",
        "2026-11-20_15.32:07",
        "2026-11-20_15.32.07.",
        "2026-11-20_15.32.07.1234567890",
        "2026-11-20_15.32+1500",
        "2026-11-20_15.32+0160",
        "2026-11-20x15",
        "2026-1120",
        "20261120143207",
        "2026-11-20_15.32.07 ",
        "@GMT-2026.11.20-14.32.60",
        "@GMT-2026.11.20-14.32",
        "@-5",
        "@17x",
        "1795185127",
        "h",
        "2y",
        "-2h",
        "99999999999999999999h",
        "9223372036854775807w",
        "Latest",
        "v1.1",
        "v1.1.42-",
        "v1.1.42-x",
        // Beyond the last second that can be counted.
        "unix:8210266876800",
        "unix:9223372036854775807",
        "@-1",
        "2026-11-2ö",
        "ööööö",
    ];
    for text in wrong {
        assert_eq!(text.parse::<When>(), Err(WhenError(text.to_owned())), "{text} was taken");
    }
}

/// What we print must be what we take, and must not be before what it names.
#[test]
fn a_moment_that_is_written_can_be_typed() {
    let now: DateTime<Utc> = "2026-10-25T00:30:07.25Z".parse().unwrap();
    for zone in [BERLIN, Tz::UTC, Tz::America__New_York] {
        let text = typed(now.into(), zone);
        assert_eq!(at(&text, Tz::Asia__Tokyo), "2026-10-25T00:30:07.999999Z", "{text}");
    }
    assert_eq!(typed(now.into(), BERLIN), "2026-10-25_02.30.07+0200");
    let exactly = typed_exactly(now.into(), BERLIN);
    assert_eq!(exactly, "2026-10-25_02.30.07.250000+0200");
    assert_eq!(at(&exactly, Tz::Asia__Tokyo), "2026-10-25T00:30:07.250000Z");
}

/// In autumn 02:30 comes twice; who types it wants the latest state that had it on the clock.
#[test]
fn the_second_hour_of_autumn_is_meant() {
    assert_eq!(at("2026-10-25_02.30", BERLIN), "2026-10-25T01:30:59.999999Z");
    assert_eq!(at("2026-10-25_02", BERLIN), "2026-10-25T01:59:59.999999Z");
    assert_eq!(at("2026-10-25_02.30+0200", BERLIN), "2026-10-25T00:30:59.999999Z");
}

/// What is typed in the first of the two hours is of that hour: the second is still to come, and would mean now.
#[test]
fn the_first_hour_of_autumn_is_meant_while_it_lasts() {
    let at = |text: &str, now: &str| {
        let now: DateTime<Utc> = now.parse().unwrap();
        text.parse::<When>().unwrap().resolve(BERLIN, now.into()).to_string()
    };
    for (now, told) in [
        ("2026-10-25T00:40:00Z", "2026-10-25T00:30:59.999999Z"),
        ("2026-10-25T01:10:00Z", "2026-10-25T00:30:59.999999Z"),
        ("2026-10-25T01:30:10Z", "2026-10-25T01:30:59.999999Z"),
    ] {
        assert_eq!(at("2026-10-25_02.30", now), told, "typed at {now}");
    }
    assert_eq!(at("2026-10-25_02", "2026-10-25T01:10:00Z"), "2026-10-25T01:59:59.999999Z");
    assert_eq!(at("2026-10-25", "2026-10-25T00:10:00Z"), "2026-10-25T22:59:59.999999Z");
}

/// In spring 02:30 does not come; what had happened by then had happened before the jump.
#[test]
fn the_hour_spring_leaves_out_ends_before_the_jump() {
    assert_eq!(at("2026-03-29_02.30", BERLIN), "2026-03-29T00:59:59.999999Z");
    assert_eq!(at("2026-03-29_02", BERLIN), "2026-03-29T00:59:59.999999Z");
    assert_eq!(at("2026-03-29_03", BERLIN), "2026-03-29T01:59:59.999999Z");
    // Samoa left out the whole of 30 December 2011.
    assert_eq!(at("2011-12-30", Tz::Pacific__Apia), "2011-12-30T09:59:59.999999Z");
}

#[test]
fn paths_end_where_a_time_begins() {
    let cases = [
        ("projects:a/b.txt@latest", "projects:a/b.txt"),
        ("projects:mail@home.txt@2h", "projects:mail@home.txt"),
        ("projects:a@@GMT-2026.11.20-14.32.07", "projects:a"),
        ("projects:a@GMT-2026.11.20-14.32.07", "projects:a"),
        ("projects:a@unix:1795185127", "projects:a"),
        ("projects:a@9:00", "projects:a"),
        ("projects:pkg@1.10@latest", "projects:pkg@1.10"),
        ("projects:@v1.1.3", "projects:"),
        ("/data/a b@2026-11-20 15:32", "/data/a b"),
    ];
    for (text, path) in cases {
        let split = split_path_time(text.as_bytes()).map(|(path, _)| path);
        assert_eq!(split, Some(path.as_bytes()), "{text}");
    }
    for text in
        ["projects:a", "projects:a@1795185127", "projects:mail@home.txt", "a@", "@versions", ""]
    {
        assert_eq!(split_path_time(text.as_bytes()), None, "{text}");
    }
}
