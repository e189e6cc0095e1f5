//! `keepshare find`.

use keepshare_control::{
    Failure, Outcome,
    answers::FoundName,
    client::{Client, Piece},
    questions::{Find, Location},
};

use crate::{
    cli::find, commands::history::station_zone, output::Screen, output::Table, output::Times,
    output::bytes_text, output::safe,
};

/// Lists names that are or were in the sets of this station.
pub(crate) fn find(
    station: &Client,
    within: Option<Location>,
    options: &find::Find,
    screen: &Screen,
) -> Outcome<()> {
    let request = Find {
        set: options.set.clone(),
        within,
        pattern: options.name.clone(),
        deleted_only: options.deleted,
        since: options.since.clone(),
        after: options.after.clone(),
        limit: options.limit,
    };
    let mut answer = station.ask(&request)?;
    let mut found: Vec<FoundName> = Vec::new();
    let failed = loop {
        match answer.next_piece() {
            Ok(Some(Piece::Item(name))) => found.push(name),
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(failure) => break Some(failure),
        }
    };
    if found.is_empty() {
        if let Some(failure) = failed {
            return Err(failure);
        }
        return Err(nothing(options));
    }
    screen.value(&found, |found| {
        let untils = found.iter().filter_map(|found| found.until.as_deref());
        let times = Times::new(station_zone(station), untils);
        let mut table = Table::new(&["PATH", "KIND", ">SIZE", "CHANGED", ">VERSIONS", ""]);
        for found in found {
            let ended = match (&found.ended, &found.until) {
                (Some(ended), Some(until)) => format!("{ended} {}", times.text(until)),
                _ => String::new(),
            };
            table.row(vec![
                safe(&format!("{}:{}", found.set, found.path)),
                found.kind.clone(),
                bytes_text(found.size),
                times.text(&found.mtime),
                found.versions.to_string(),
                ended,
            ]);
        }
        let mut text = table.render(0);
        if let Some(last) = found.last().filter(|_| found.len() == options.limit) {
            text += "There may be more: --limit N shows them";
            text += &match last.after.as_str() {
                "" => ".\n".to_owned(),
                after => format!(", and --after {after} what comes next.\n"),
            };
        }
        text
    })?;
    failed.map_or(Ok(()), Err)
}

/// Says what was not found.
fn nothing(options: &find::Find) -> Failure {
    let find::Find { name, within, since, after, .. } = options;
    let mut what = match options.deleted {
        _ if after.is_some() => format!("nothing more is or was called '{name}'"),
        true => format!("nothing that is deleted was called '{name}'"),
        false => format!("nothing is or was called '{name}'"),
    };
    if let Some(within) = within {
        what += &format!(" below {}", safe(&within.to_string_lossy()));
    }
    if let Some(since) = since {
        what += &format!(" and changed since {since}");
    }
    Failure::not_found(what)
        .hint("* stands for anything, ? for one character; case does not matter")
}
