//! `keepshare scrub`.

use std::fmt::Write as _;

use keepshare_base::counted;
use keepshare_control::{
    Code, Failure, Outcome,
    client::{Client, Piece},
    questions::{ScrubNow, ScrubPause, ScrubResume, ScrubShow},
    scrub::{ScrubDamage, ScrubInfo, ScrubStatus, ScrubbedPass},
};
use keepshare_versioning::when::machine_zone;

use crate::{
    cli,
    output::{Screen, bytes_text, safe, time_text},
};

/// So much of what was found is shown; `--json` has all.
const SHOWN_MAX: usize = 50;

/// Shows, begins, pauses or resumes.
pub(crate) fn scrub(station: &Client, what: cli::scrub::Scrub, screen: &Screen) -> Outcome<()> {
    use cli::scrub::Scrub;
    let infos = match what {
        Scrub::Status { set } => station.ask_all(&ScrubShow { set })?,
        Scrub::Pause { set } => station.ask_all(&ScrubPause { set })?,
        Scrub::Resume { set } => station.ask_all(&ScrubResume { set })?,
        Scrub::Now { set } => return now(station, &ScrubNow { set }, screen),
    };
    screen.value(&infos, |infos| infos.iter().map(render).collect())
}

fn now(station: &Client, asked: &ScrubNow, screen: &Screen) -> Outcome<()> {
    let mut answer = station.ask(asked)?;
    let bar = screen.bar();
    let mut infos = Vec::new();
    while let Some(piece) = answer.next_piece()? {
        match piece {
            Piece::Item(info) => infos.push(info),
            Piece::Progress(progress) => bar.show(&progress),
            Piece::Data(_) => {}
        }
    }
    bar.finish();
    screen.value(&infos, |infos: &Vec<ScrubInfo>| infos.iter().map(render).collect())?;
    let damaged: u64 =
        infos.iter().map(|info| info.status.damaged + info.status.files_damaged).sum();
    match damaged {
        0 => Ok(()),
        damaged => {
            Err(Failure::new(Code::Failed, format!("{} damaged", counted(damaged, "version")))
                .hint("docs/operations/damage.md says what to do"))
        }
    }
}

fn render(info: &ScrubInfo) -> String {
    let mut text = format!("Set {}: {}\n", info.set, status_text(&info.status));
    for damage in info.damage.iter().take(SHOWN_MAX) {
        let ScrubDamage { kind, path, version, what, is_mended, .. } = damage;
        let mark = if *is_mended { " " } else { "!" };
        let at = version.as_deref().map(|version| format!("@{version}")).unwrap_or_default();
        let place = if path.is_empty() { kind.clone() } else { format!("{kind} {path}{at}") };
        let _ = writeln!(text, "  {mark} {}: {}", safe(&place), safe(what));
    }
    let more = info.more_damage + info.damage.len().saturating_sub(SHOWN_MAX) as u64;
    if more > 0 {
        let _ = writeln!(text, "  and {more} more");
    }
    text
}

/// Returns how a scrub stands, on one line.
pub(crate) fn status_text(status: &ScrubStatus) -> String {
    let time = |time: &str| time_text(time, machine_zone());
    let last = match &status.last_pass {
        None => "not everything was looked at yet".to_owned(),
        Some(ScrubbedPass { ended, read_bytes, found, mended, .. }) => {
            let what = match (found, found - mended.min(found)) {
                (0, _) => "nothing damaged".to_owned(),
                (found, 0) => format!("{found} found and put right"),
                (found, left) => format!("{found} found, {left} not put right"),
            };
            format!("{}: {what}, {} read", time(ended), bytes_text(*read_bytes))
        }
    };
    let mut text = match (status.state.as_str(), &status.pass, &status.next_pass) {
        ("paused", _, _) => format!("{last}; paused"),
        (_, Some(pass), _) => {
            format!("{last}; now at the {}, {} %", pass.stage, pass.percent)
        }
        (_, None, Some(next)) => format!("{last}; next {}", time(next)),
        (_, None, None) => last,
    };
    if let Some(trouble) = &status.trouble {
        let _ = write!(text, "; it does not go on: {}", safe(trouble));
    }
    text
}
