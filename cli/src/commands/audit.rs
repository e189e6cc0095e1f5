//! `keepshare audit`.

use std::{fmt::Write as _, path::PathBuf};

use keepshare_answers::auditing::verify_folder;
use keepshare_auth::audit::Head;
use keepshare_base::counted;
use keepshare_control::{
    Code, Failure, Outcome,
    audit::{AuditEntry, AuditHead, AuditHeadFound, AuditHeadSaid, AuditReport},
    client::Client,
    questions::{self, AuditHeads, AuditVerify},
};

use crate::{
    cli::audit::AuditShow,
    commands::history::station_zone,
    output::{Screen, Table, Times, safe},
};

/// Shows lines of the audit log, the newest last; or its head.
pub(crate) fn show(station: &Client, options: AuditShow, screen: &Screen) -> Outcome<()> {
    let AuditShow { set, user, since, event, limit, head } = options;
    if head {
        return show_head(station, screen);
    }
    let user = user.map(|user| user.to_string());
    let asked = questions::AuditShow { set, user, since, event, limit };
    let entries: Vec<AuditEntry> = station.ask_all(&asked)?;
    screen.value(&entries, |entries| {
        let times = Times::new(station_zone(station), entries.iter().map(|e| e.time.as_str()));
        let mut table = Table::new(&["TIME", "EVENT", "USER", "FROM", "SET", ""]);
        for entry in entries {
            table.row(row(entry, &times));
        }
        let mut text = table.render(0);
        if entries.len() == limit {
            text += "There may be older ones: --limit N shows them.\n";
        }
        text
    })
}

fn row(entry: &AuditEntry, times: &Times) -> Vec<String> {
    if let Some(place) = &entry.unreadable {
        let what = format!("cannot be read ({place}); keepshare audit verify says more");
        return [String::new(), "?".into(), String::new(), String::new(), String::new(), what]
            .into();
    }
    let said = |said: &Option<String>| safe(said.as_deref().unwrap_or("-"));
    let mut what = Vec::new();
    if !entry.ok {
        what.push("refused:".to_owned());
    }
    let parts = [&entry.path, &entry.version, &entry.asked, &entry.result, &entry.reason];
    what.extend(parts.into_iter().flatten().map(|part| safe(part)));
    what.extend(entry.session.iter().map(|session| format!("session {}", safe(session))));
    what.extend(
        entry.unwritten.map(|unwritten| format!("({unwritten} before it were not written)")),
    );
    let time = times.text(&entry.time);
    vec![
        time,
        safe(&entry.event),
        said(&entry.user),
        said(&entry.address),
        said(&entry.set),
        what.join(" "),
    ]
}

fn show_head(station: &Client, screen: &Screen) -> Outcome<()> {
    let heads: Vec<AuditHead> = station.ask_all(&AuditHeads {})?;
    if screen.is_json() {
        return screen.json(&heads);
    }
    let own = heads.iter().find(|head| head.seen.is_none());
    let own = own.ok_or_else(|| Failure::not_found("the audit log has no line yet"))?;
    screen.line(&safe(&own.head))
}

/// Checks the audit log, and fails where it is not as it was written.
pub(crate) fn verify(
    station: impl FnOnce() -> Outcome<Client>,
    head: Option<Head>,
    folder: Option<PathBuf>,
    screen: &Screen,
) -> Outcome<()> {
    let report = match folder {
        Some(folder) => verify_folder(&folder, head)?,
        None => station()?.ask_one(&AuditVerify { head: head.map(|head| head.to_string()) })?,
    };
    screen.value(&report, render)?;
    if report.ok {
        return Ok(());
    }
    let why = match &report.fault {
        Some(fault) => {
            format!("{}, line {}: {}", fault.file, fault.line, fault.why)
        }
        None => "the log is not what it was, by what was kept elsewhere".to_owned(),
    };
    Err(Failure::new(Code::Failed, format!("the audit log is not as it was written: {why}"))
        .hint("copy it before anything else is done, and compare it with a backup; docs/admin/users.md tells what can be concluded"))
}

fn render(report: &AuditReport) -> String {
    let AuditReport { lines, before_chain, head, torn_bytes, torn_lines, .. } = report;
    let mut text = format!("{}, ", counted(*lines, "line"));
    match (report.first, &report.fault) {
        (_, Some(_)) => text += "and a fault.\n",
        (None, None) => text += "none of which says its place: nothing can be told of them yet.\n",
        (Some(1), None) => text += "which hang together.\n",
        (Some(first), None) => {
            let _ = writeln!(
                text,
                "which hang together from line {first} of the chain on; older ones are kept no more."
            );
        }
    }
    if *before_chain > 0 {
        let _ = writeln!(
            text,
            "{before_chain} of them from before the chain: whether those were changed is not known."
        );
    }
    if *torn_bytes > 0 {
        let _ = writeln!(
            text,
            "The last line is not whole ({torn_bytes} bytes), as after a crash; the next one will say so."
        );
    }
    if *torn_lines > 0 {
        let told = counted(*torn_lines, "time");
        let _ = writeln!(
            text,
            "{told} something was lost in a crash or on a full disk: audit show --event audit-torn tells when."
        );
    }
    text += &render_heads(report);
    if let Some(head) = head {
        let _ = writeln!(text, "Head {}", safe(head));
    }
    text
}

/// Says what is known of heads, those that are not as they were each, the others together.
fn render_heads(report: &AuditReport) -> String {
    let mut text = String::new();
    let keeper = |said: &AuditHeadSaid| match &said.station {
        Some(station) => format!("{} keeps", safe(station)),
        None => "you gave".to_owned(),
    };
    let mut same: Vec<(String, u64)> = Vec::new();
    for said in &report.heads {
        let (keeper, head) = (keeper(said), safe(&said.head));
        let line = match said.found {
            AuditHeadFound::Same => {
                match same.iter_mut().find(|(known, _)| *known == keeper) {
                    Some((_, count)) => *count += 1,
                    None => same.push((keeper, 1)),
                }
                continue;
            }
            AuditHeadFound::Gone => continue,
            AuditHeadFound::Other => format!(
                "FAULT: {keeper} {head}, and that line is another one: it or one before it was written anew"
            ),
            AuditHeadFound::Missing => {
                format!("FAULT: {keeper} {head}, and the log ends before it: its end was cut off")
            }
            AuditHeadFound::Unjudged => format!("{keeper} {head}, which is behind the fault"),
            AuditHeadFound::LostInRestore => format!(
                "{keeper} {head}, which was lost when this station was brought back from a backup"
            ),
        };
        let _ = writeln!(text, "{line}.");
    }
    for (keeper, count) in same {
        let _ =
            writeln!(text, "All {} that {keeper} of it are as they were.", counted(count, "head"));
    }
    if !report.unasked.is_empty() {
        let _ = writeln!(
            text,
            "Not asked for what they keep of it: {}.",
            safe(&report.unasked.join(", "))
        );
    } else if report.heads.is_empty() {
        text += "No other station keeps a head of it: an end that was cut off would not be seen.\n";
    }
    text
}
