//! How answers look: text for people, JSON for programs, progress on a terminal.
//!
//! This is the only place that writes to standard output. Names come from files and are shown with control characters
//! escaped (`base` does it in `Display`; [`safe`] does it for other text from outside).

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use chrono_tz::Tz;
use comfy_table::{CellAlignment, ContentArrangement, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use keepshare_base::Stamp;
use keepshare_control::{Code, Failure, Outcome, answers::Progress};
use keepshare_versioning::when;

/// Where a command writes.
pub(crate) struct Screen {
    json: bool,
}

/// Columns of text, as wide as they need to be: never wrapped, so that programs can read them too.
pub(crate) struct Table(comfy_table::Table);

/// A bar on a terminal; nothing where there is none.
pub(crate) struct Bar {
    bar: ProgressBar,
}

/// How many are named of those that a note is about.
const NOTES_MAX: usize = 10;

impl Screen {
    /// Returns a screen for text or for JSON.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Tells whether JSON is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Writes a line.
    pub(crate) fn line(&self, text: &str) -> Outcome<()> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Outcome<()> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            // The reader, such as `head`, has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => {
                Err(Failure::new(Code::Failed, format!("cannot write the output: {error}")))
            }
        }
    }

    /// Writes a value as JSON on one line.
    pub(crate) fn json(&self, value: &impl Serialize) -> Outcome<()> {
        let text = serde_json::to_string(value).map_err(anyhow::Error::new)?;
        self.line(&text)
    }

    /// Writes a value: JSON, or what `text` makes of it.
    pub(crate) fn value<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Outcome<()> {
        if self.json { self.json(value) } else { self.bytes(text(value).as_bytes()) }
    }

    /// Writes a failure to standard error.
    pub(crate) fn failure(&self, failure: &Failure) {
        let mut text = if self.json {
            let object = serde_json::json!({ "error": failure.one_line(), "hint": failure.hint });
            object.to_string()
        } else {
            let mut text = format!("error: {}", safe(&failure.chain[0]));
            for cause in &failure.chain[1..] {
                let _ = write!(text, "\n  because: {}", safe(cause));
            }
            if let Some(hint) = &failure.hint {
                let _ = write!(text, "\nhint: {}", safe(hint));
            }
            text
        };
        text.push('\n');
        // Nobody is left to tell where this fails.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Writes to standard error what a person should know: what it is, and the first of those it is about.
    ///
    /// Programs get it in the answer.
    pub(crate) fn notes(&self, what: &str, about: &[String]) {
        if self.json {
            return;
        }
        let mut text = format!("note: {}\n", safe(what));
        for one in about.iter().take(NOTES_MAX) {
            let _ = writeln!(text, "  {}", safe(one));
        }
        if let Some(more @ 1..) = about.len().checked_sub(NOTES_MAX) {
            let _ = writeln!(text, "  and {more} more");
        }
        // Nobody is left to tell where this fails.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Starts a bar.
    pub(crate) fn bar(&self) -> Bar {
        let visible = !self.json && io::stderr().is_terminal();
        let target =
            if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar { bar }
    }
}

impl Bar {
    /// Shows how far it is.
    pub(crate) fn show(&self, progress: &Progress) {
        let template = match progress.total {
            Some(_) => "{msg} [{bar:30}] {percent} % {eta}",
            None => "{spinner} {msg} {human_pos}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_message(safe(&progress.doing));
        if let Some(total) = progress.total {
            self.bar.set_length(total);
        }
        self.bar.set_position(progress.done);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Table {
    /// Returns a table with these headings; those that begin with `>` are for numbers.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings.iter().map(|heading| heading.trim_start_matches('>')));
        for (column, heading) in table.column_iter_mut().zip(headings) {
            column.set_padding((0, 2));
            if heading.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self(table)
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.0.add_row(cells);
    }

    /// Returns the text, each line indented by `indent`.
    pub(crate) fn render(&self, indent: usize) -> String {
        let line = |line: String| format!("{}{}\n", " ".repeat(indent), line.trim_end());
        self.0.lines().map(line).collect()
    }
}

/// Returns text from outside with everything escaped that could steer a terminal.
pub(crate) fn safe(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unseen(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Tells whether a character is not seen itself and changes how others are: control and format characters, and those
/// that end a line or paragraph.
fn is_unseen(c: char) -> bool {
    let is_format = matches!(
        c,
        '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0001}'..='\u{e007f}'
    );
    c.is_control() || is_format
}

/// Returns `512 B`, `1.5 KiB`, `3.0 GiB`.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths, in integers: what is shown needs no floating point.
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Returns an RFC 3339 time as the share's clock shows it, `2026-11-20 15:32:07`.
pub(crate) fn time_text(rfc3339: &str, zone: Tz) -> String {
    chrono::DateTime::parse_from_rfc3339(rfc3339).map_or_else(
        |_| rfc3339.to_owned(),
        |time| time.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// Shows times so that each can be typed back and means the same.
pub(crate) struct Times {
    zone: Tz,
    /// Seconds in which there are several.
    crowded: HashSet<i64>,
}

impl Times {
    /// Returns what shows these RFC 3339 times, by the clock in `zone` and with its offset: to the second, and to the
    /// microsecond where there is another in that second, which the second alone would mean.
    pub(crate) fn new<'a>(zone: Tz, all: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut first, mut crowded) = (HashMap::new(), HashSet::new());
        for stamp in all.into_iter().filter_map(stamp) {
            let second = stamp.0.div_euclid(1_000_000);
            if *first.entry(second).or_insert(stamp) != stamp {
                crowded.insert(second);
            }
        }
        Self { zone, crowded }
    }

    /// Returns one of them, `2026-11-20_15.32.07+0100`.
    pub(crate) fn text(&self, rfc3339: &str) -> String {
        match stamp(rfc3339) {
            Some(stamp) if self.crowded.contains(&stamp.0.div_euclid(1_000_000)) => {
                when::typed_exactly(stamp, self.zone)
            }
            Some(stamp) => when::typed(stamp, self.zone),
            None => safe(rfc3339),
        }
    }
}

fn stamp(rfc3339: &str) -> Option<Stamp> {
    let time = chrono::DateTime::parse_from_rfc3339(rfc3339).ok()?;
    Some(Stamp::from(time.to_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (10 << 30, "10.0 GiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(bytes_text(bytes), text);
        }
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", ">SIZE", "STATE"]);
        table.row(vec!["a".into(), "1.0 KiB".into(), "in-sync".into()]);
        table.row(vec!["longer".into(), "1 B".into(), "ä".into()]);
        let expected =
            "  NAME       SIZE  STATE\n  a       1.0 KiB  in-sync\n  longer      1 B  ä\n";
        assert_eq!(table.render(2), expected);
    }

    /// Letters of other scripts take two columns of a terminal, and accents of their own none.
    #[test]
    fn columns_line_up_beside_wide_letters() {
        let mut table = Table::new(&["PATH", "KIND", ""]);
        table.row(vec!["山田.txt".into(), "file".into(), "x".into()]);
        table.row(vec!["cafe\u{301}".into(), "folder".into(), String::new()]);
        let expected = "PATH      KIND\n山田.txt  file    x\ncafe\u{301}      folder\n";
        assert_eq!(table.render(0), expected);
    }

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(safe("a\x1b[2Jb\u{202e}c\n"), "a\\u{1b}[2Jb\\u{202e}c\\n");
        assert_eq!(safe("a\u{2028}b\u{2029}c\u{61c}"), "a\\u{2028}b\\u{2029}c\\u{61c}");
        assert_eq!(safe("Größe 山 e\u{301}"), "Größe 山 e\u{301}");
    }

    #[test]
    fn times_are_shown_by_the_shares_clock() {
        assert_eq!(time_text("2026-11-20T14:32:07.1Z", Tz::Europe__Berlin), "2026-11-20 15:32:07");
        assert_eq!(time_text("whenever", Tz::UTC), "whenever");
    }
}
