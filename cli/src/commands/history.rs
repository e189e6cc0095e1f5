//! `keepshare versions`, `show` and `fsck`.

use std::{
    ffi::OsStr,
    fmt::Write,
    io::{self, IsTerminal},
    os::unix::ffi::OsStrExt,
};

use chrono_tz::Tz;

use keepshare_base::{Kind, counted};
use keepshare_control::{
    Code, Failure, Outcome,
    answers::{self, FsckReport, ShownEntry, VersionInfo},
    client::{Client, Piece},
    questions::{Fsck, Location, Show, Versions, Zone},
};
use keepshare_versioning::when::{POINT, WHEN_HINT, machine_zone, split_path_time};

use crate::{
    cli,
    commands::uncut,
    output::{Screen, Table, Times, bytes_text, safe},
};

/// Lists the versions of a file or folder.
pub(crate) fn versions(
    station: &Client,
    place: Location,
    path: &OsStr,
    limit: usize,
    screen: &Screen,
) -> Outcome<()> {
    let asked = station.ask_all(&Versions { place, limit });
    let versions: Vec<VersionInfo> = asked.map_err(|failure| hint_at_time(failure, path))?;
    screen.value(&versions, |versions| render_versions(versions, station_zone(station)))
}

/// Returns the zone in which the station reads what is typed; where it does not say, the machine's, which means the same,
/// since all times are shown with their offset.
pub(super) fn station_zone(station: &Client) -> Tz {
    let named: Outcome<String> = station.ask_one(&Zone {});
    named.ok().and_then(|name| name.parse().ok()).unwrap_or_else(machine_zone)
}

/// Names the command that takes a time, where somebody gave one to this one, which lists them all.
fn hint_at_time(failure: Failure, path: &OsStr) -> Failure {
    let bytes = path.as_bytes();
    match split_path_time(bytes) {
        Some((bare, _)) if failure.code == Code::NotFound => {
            let (shown, bare) = (path.to_string_lossy(), String::from_utf8_lossy(bare));
            failure.hint(format!(
                "versions takes no time: keepshare versions '{bare}' lists them all, keepshare show '{shown}' shows that one"
            ))
        }
        _ => failure,
    }
}

fn render_versions(versions: &[VersionInfo], zone: Tz) -> String {
    let all = |version: &VersionInfo| [Some(version.time.clone()), version.until.clone()];
    let all: Vec<String> = versions.iter().flat_map(all).flatten().collect();
    let times = Times::new(zone, all.iter().map(String::as_str));
    let mut table = Table::new(&["VERSION", "TIME", ">SIZE", "USER", "EVENT", "NAME", ""]);
    for version in versions {
        let ended = match (&version.ended, &version.until) {
            (Some(ended), Some(until)) => format!("{ended} {}", times.text(until)),
            _ if version.current => "current".to_owned(),
            _ => String::new(),
        };
        table.row(vec![
            version.version.clone(),
            times.text(&version.time),
            bytes_text(version.size),
            version.user.as_deref().map_or_else(|| "–".to_owned(), safe),
            match version.cut_by.as_str() {
                "station" => format!("{}, cut by the station", version.event),
                _ => version.event.clone(),
            },
            // The set itself has no name.
            if version.name.is_empty() { ".".to_owned() } else { safe(&version.name) },
            if version.removed { format!("{ended}; its content was thinned") } else { ended },
        ]);
    }
    table.render(0)
}

/// Writes a file as it was to standard output; lists a folder as it was.
pub(crate) fn show(station: &Client, question: Show, path: &OsStr, screen: &Screen) -> Outcome<()> {
    let is_terminal = io::stdout().is_terminal();
    let asked = station.ask(&question);
    let mut answer = asked.map_err(|failure| hint_no_time(failure, path))?;
    let mut entries: Vec<ShownEntry> = Vec::new();
    let mut unshown = Vec::new();
    while let Some(piece) = answer.next_piece().map_err(|failure| hint_no_time(failure, path))? {
        match piece {
            Piece::Item(entry) => entries.push(entry),
            Piece::Data(bytes) if is_terminal => {
                unshown.extend(bytes);
                let whole = whole_characters(&unshown);
                if is_binary(&unshown[..whole]) {
                    return Err(binary(path));
                }
                screen.bytes(&unshown[..whole])?;
                unshown.drain(..whole);
            }
            Piece::Data(bytes) => screen.bytes(&bytes)?,
            Piece::Progress(_) => {}
        }
    }
    if is_binary(&unshown) {
        return Err(binary(path));
    }
    screen.bytes(&unshown)?;
    match entries.split_first() {
        Some((top, below)) if top.meta.kind == Kind::Dir => show_folder(station, below, screen),
        Some((top, _)) if top.meta.kind == Kind::File => {
            uncut::tell(&[(uncut::shown(top), top.uncut.clone())], screen);
            Ok(())
        }
        Some((top, _)) if top.meta.kind == Kind::Symlink => {
            screen.line(&safe(&String::from_utf8_lossy(&top.meta.symlink)))
        }
        _ => Ok(()),
    }
}

/// Says that what follows an `@` was taken for a part of the name, where nothing has that name.
pub(super) fn hint_no_time(failure: Failure, path: &OsStr) -> Failure {
    let shown = path.to_string_lossy();
    match shown.rsplit_once('@') {
        Some((_, time))
            if failure.code == Code::NotFound
                && !time.contains('/')
                && !time.starts_with(POINT) =>
        {
            match split_path_time(path.as_bytes()) {
                Some(_) => failure,
                None => failure
                    .hint(format!("'{time}' is not a time; {WHEN_HINT}; a point is {POINT}NAME")),
            }
        }
        _ => failure,
    }
}

/// Tells whether bytes are for no person: they hold what steers a terminal, or is shown by none. Some terminals take bytes that
/// are no UTF-8 for what they are in Latin-1, which has control characters, too.
fn is_binary(bytes: &[u8]) -> bool {
    bytes.utf8_chunks().any(|chunk| {
        let steers = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\x0c' | '\r');
        chunk.valid().chars().any(steers)
            || chunk.invalid().iter().any(|byte| matches!(byte, 0x80..=0x9f))
    })
}

/// Returns how many of the bytes are before a character that may go on in what comes next.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(&bytes[bytes.len().saturating_sub(CHARACTER_BYTES_MAX)..]) {
        Ok(_) => bytes.len(),
        Err(_) => bytes.utf8_chunks().last().map_or(0, |last| {
            let is_begun =
                std::str::from_utf8(last.invalid()).is_err_and(|error| error.error_len().is_none());
            if is_begun { bytes.len() - last.invalid().len() } else { bytes.len() }
        }),
    }
}

/// The most bytes of a character in UTF-8.
const CHARACTER_BYTES_MAX: usize = 4;

fn binary(path: &OsStr) -> Failure {
    let shown = path.to_string_lossy();
    Failure::refused(format!("{shown} is not text, and a terminal would show it as garbage"))
        .hint(format!("use > FILE: keepshare show '{shown}' > FILE"))
}

fn show_folder(station: &Client, entries: &[ShownEntry], screen: &Screen) -> Outcome<()> {
    if screen.is_json() {
        let rows: Vec<_> = entries
            .iter()
            .map(|entry| {
                serde_json::json!({
                    "name": name_of(entry),
                    "kind": answers::kind_word(entry.meta.kind),
                    "size": entry.meta.size,
                    "mtime": entry.meta.mtime.to_stamp().to_string(),
                    "uncut": entry.uncut.is_some(),
                })
            })
            .collect();
        return screen.json(&rows);
    }
    screen.bytes(render_folder(entries, station_zone(station)).as_bytes())?;
    let told: Vec<_> = entries.iter().map(|e| (uncut::shown(e), e.uncut.clone())).collect();
    uncut::tell(&told, screen);
    Ok(())
}

fn name_of(entry: &ShownEntry) -> String {
    entry.path.last().map(ToString::to_string).unwrap_or_default()
}

fn render_folder(entries: &[ShownEntry], zone: Tz) -> String {
    let times = Times::new(zone, []);
    let mut table = Table::new(&["MODIFIED", ">SIZE", "NAME"]);
    for entry in entries {
        let slash = if entry.meta.kind == Kind::Dir { "/" } else { "" };
        table.row(vec![
            times.text(&entry.meta.mtime.to_stamp().to_string()),
            bytes_text(entry.meta.size),
            format!("{}{slash}", safe(&name_of(entry))),
        ]);
    }
    table.render(0)
}

/// Checks everything; fails where anything is wrong.
pub(crate) fn fsck(station: &Client, options: cli::Fsck, screen: &Screen) -> Outcome<()> {
    let cli::Fsck { set, repair_clock } = options;
    let mut answer = station.ask(&Fsck { set, repair_clock })?;
    let bar = screen.bar();
    let mut reports: Vec<FsckReport> = Vec::new();
    while let Some(piece) = answer.next_piece()? {
        match piece {
            Piece::Item(report) => reports.push(report),
            Piece::Progress(progress) => bar.show(&progress),
            Piece::Data(_) => {}
        }
    }
    bar.finish();
    screen.value(&reports, |reports| match reports.as_slice() {
        [] => "This station receives no set: there is nothing to check.\n".to_owned(),
        reports => reports.iter().map(render_fsck).collect(),
    })?;
    if reports.iter().all(|report| report.ok) {
        return Ok(());
    }
    let is_damaged = reports.iter().any(|report| !report.damage.is_empty());
    Err(if is_damaged {
        Failure::new(Code::Failed, "something is wrong with what the station keeps")
            .hint("what is damaged is never given out, all else is; look at the disk before anything else")
    } else {
        Failure::new(Code::Failed, "a live tree is not what its set keeps")
            .hint("the history is whole; keepshare status says where the live tree is and what the station cannot write there; to have it built again from what is kept, stop the station, move the live folder aside, and start the station")
    })
}

fn render_fsck(report: &FsckReport) -> String {
    let word = if report.ok { "ok" } else { "DAMAGED" };
    let (set, states) = (&report.set, counted(report.states, "state"));
    let bytes = bytes_text(report.bytes);
    let mut text = format!("Set {set}: {word}; {states}, {bytes} verified\n");
    if let Some(commits) = report.clock_repaired {
        let _ = writeln!(text, "  the times of {} were put right", counted(commits, "change"));
    }
    if report.unhashed > 0 {
        let states = counted(report.unhashed, "state");
        let _ = writeln!(
            text,
            "  {states} with more than 1 TiB of holes: all data was verified, the hash of the whole was not compared"
        );
    }
    for line in &report.damage {
        let _ = writeln!(text, "  ! {}", safe(line));
    }
    for line in &report.live_differences {
        let _ = writeln!(text, "  ! live tree: {}", safe(line));
    }
    text
}

#[cfg(test)]
mod tests {
    use keepshare_base::{Stamp, escape_name};
    use keepshare_versioning::when::{Moment, When};

    use super::*;

    fn version(time: i64, until: Option<i64>) -> VersionInfo {
        VersionInfo {
            version: format!("v1.1.{time}"),
            time: Stamp(time).to_string(),
            arrived: String::new(),
            size: 1,
            user: None,
            event: "saved".to_owned(),
            cut_by: "master".to_owned(),
            name: "a".to_owned(),
            current: until.is_none(),
            kind: "file".to_owned(),
            mode: "0644".to_owned(),
            owner: String::new(),
            group: String::new(),
            owner_id: 0,
            group_id: 0,
            mtime: String::new(),
            hash: None,
            until: until.map(|until| Stamp(until).to_string()),
            ended: until.map(|_| "replaced".to_owned()),
            fuzzy: false,
            removed: false,
            kept_because: None,
            kept_until: None,
        }
    }

    /// A time that is shown and typed back means that version: in the hour that comes twice, where several were saved in
    /// one second, and in whatever zone the station is.
    #[test]
    fn every_time_that_is_shown_can_be_typed_back() {
        let second = 1_000_000;
        // 02:30 in Berlin, twice; then three in one second.
        let first = 1_792_888_200 * second;
        let again = first + 3600 * second;
        let stamps = [
            first + 5,
            again,
            again + 60 * second,
            again + 60 * second + 7,
            again + 61 * second - 1,
        ];
        let until = |at: usize| stamps.get(at + 1).copied();
        let versions: Vec<VersionInfo> =
            stamps.iter().enumerate().map(|(at, time)| version(*time, until(at))).collect();
        let now = Stamp(again + 3600 * second);
        for (shown_in, typed_in) in [(Tz::Europe__Berlin, Tz::Asia__Tokyo), (Tz::UTC, Tz::UTC)] {
            let text = render_versions(&versions, shown_in);
            let rows: Vec<Vec<&str>> =
                text.lines().skip(1).map(|row| row.split_whitespace().collect()).collect();
            assert_eq!(rows.len(), stamps.len(), "{text}");
            let meant = |shown: &str| {
                let when: When = shown.parse().expect(shown);
                let Moment::At(moment) = when.resolve(typed_in, now) else { panic!("{shown}") };
                stamps.iter().rposition(|stamp| Stamp(*stamp) <= moment)
            };
            for (at, row) in rows.iter().enumerate() {
                assert_eq!(meant(row[1]), Some(at), "{text}");
                if until(at).is_some() {
                    assert_eq!(meant(row[row.len() - 1]), Some(at + 1), "{text}");
                }
            }
        }
        let text = render_versions(&versions[..2], Tz::Europe__Berlin);
        assert!(text.contains(" 2026-10-25_02.30.00+0200 "), "{text}");
        assert!(text.contains(" 2026-10-25_02.30.00+0100 "), "{text}");
    }

    /// A name must not end a line, nor turn around what follows it.
    #[test]
    fn names_of_a_folder_cannot_steer_the_terminal() {
        let name = escape_name("a\u{2028}b\u{202e}c".as_bytes()).unwrap();
        let meta = keepshare_base::Meta::unknown();
        let (version, hash, same_as, damaged, uncut) = (None, None, None, None, None);
        let entry = ShownEntry { path: vec![name], meta, version, hash, same_as, damaged, uncut };
        let text = render_folder(&[entry], Tz::UTC);
        assert!(text.contains("a\\u{2028}b\\u{202e}c"), "{text}");
    }

    /// What a file holds must not set a terminal's title, or type into it.
    #[test]
    fn what_steers_a_terminal_is_no_text() {
        let texts = ["", "plain\ttext\r\n\x0c", "grüße, 日本, 🦀", "a\u{a0}b"];
        for text in texts {
            assert!(!is_binary(text.as_bytes()), "{text:?}");
        }
        assert!(!is_binary(b"gr\xfc\xdfe in Latin-1\n"));
        for steers in [
            &b"\x1b[2J"[..],
            b"\0",
            b"\x07",
            b"\x08",
            b"\x0b",
            b"\x7f",
            b"\xc2\x9b2J",
            b"\xc2\x80",
            b"a\x9b2J",
            b"\xff\x90",
        ] {
            assert!(is_binary(steers), "{steers:?}");
        }
    }

    /// Wherever content is cut into pieces.
    #[test]
    fn a_character_in_two_pieces_is_looked_at_whole() {
        for text in ["aü", "a日", "a🦀", "a\u{9b}"] {
            for cut in 1..=text.len() {
                let whole = whole_characters(&text.as_bytes()[..cut]);
                assert_eq!(whole, if cut == text.len() { cut } else { 1 }, "{text:?} cut at {cut}");
            }
        }
        assert_eq!(whole_characters(b"abc\xff"), 4, "which is none in any case");
    }
}
