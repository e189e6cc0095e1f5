//! `keepshare find`.

use keepshare_control::{
    Failure, Outcome,
    answers::FoundName,
    client::{Client, Piece},
    questions::Find,
};

use crate::{
    cli, commands::history::station_zone, output::Screen, output::Table, output::Times,
    output::bytes_text, output::safe,
};

/// Lists names that are or were in the sets of this station.
pub(crate) fn find(station: &Client, options: &cli::Find, screen: &Screen) -> Outcome<()> {
    let request = Find {
        set: options.set.clone(),
        pattern: options.name.clone(),
        deleted_only: options.deleted,
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
        let name = &options.name;
        let what = match options.deleted {
            true => format!("nothing that is deleted was called '{name}'"),
            false => format!("nothing is or was called '{name}'"),
        };
        return Err(Failure::not_found(what)
            .hint("* stands for anything, ? for one character; case does not matter"));
    }
    screen.value(&found, |found| {
        let untils = found.iter().filter_map(|found| found.until.as_deref());
        let times = Times::new(station_zone(station), untils);
        let mut table = Table::new(&["PATH", "KIND", ">SIZE", "CHANGED", ""]);
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
                ended,
            ]);
        }
        let mut text = table.render(0);
        if found.len() == options.limit {
            text += "There may be more: --limit N shows them.\n";
        }
        text
    })?;
    failed.map_or(Ok(()), Err)
}
