//! `keepshare set`.

use std::path::Path;

use keepshare_base::{SetName, StationName};
use keepshare_control::{
    Failure, Outcome,
    answers::{SetStatus, StatusReport},
    client::Client,
    questions::{SetAdd, SetMirror, Status},
};

use crate::{
    commands::status::{render_set, state_text},
    output::Screen,
    output::Table,
};

/// Adds a set whose master is this station.
pub(crate) fn add(
    station: &Client,
    name: SetName,
    source: &Path,
    to: Vec<StationName>,
    screen: &Screen,
) -> Outcome<()> {
    let source = match source.canonicalize() {
        Ok(source) if source.is_dir() => source,
        Ok(source) => {
            return Err(Failure::refused(format!("{} is not a folder", source.display()))
                .hint("name the folder that it lies in; only folders are replicated"));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::not_found(format!("there is no folder {}", source.display()))
                .hint("the folder must exist before it can be replicated"));
        }
        Err(error) => {
            let shown = source.display();
            return Err(anyhow::Error::new(error).context(format!("cannot open {shown}")).into());
        }
    };
    let set: SetStatus = station.ask_one(&SetAdd { name, source, to })?;
    screen.value(&set, |set| {
        format!("Set {} is being mirrored; keepshare status --watch shows how far.\n", set.name)
    })
}

/// Has a set of this station mirrored.
pub(crate) fn mirror(station: &Client, question: &SetMirror, screen: &Screen) -> Outcome<()> {
    let set: SetStatus = station.ask_one(question)?;
    screen.value(&set, |set| {
        format!(
            "Set {} is compared with what its stations have; keepshare status --watch shows how far.\n",
            set.name
        )
    })
}

/// Lists the sets of this station.
pub(crate) fn list(station: &Client, screen: &Screen) -> Outcome<()> {
    let sets = sets(station)?;
    screen.value(&sets, |sets| {
        if sets.is_empty() {
            return "No sets yet; keepshare status says how to add one.\n".to_owned();
        }
        let mut table = Table::new(&["SET", "ROLE", "STATE", "FOLDER", "STATIONS"]);
        for set in sets {
            let folder = set.source.as_ref().or(set.live.as_ref());
            let folder = folder.map(|path| path.display().to_string()).unwrap_or_default();
            let to: Vec<_> = set.destinations.iter().map(|to| to.station.as_str()).collect();
            let stations = set.from.as_ref().map_or(to.join(", "), |from| format!("from {from}"));
            table.row(vec![
                set.name.clone(),
                set.role.clone(),
                state_text(&set.health),
                folder,
                stations,
            ]);
        }
        table.render(0)
    })
}

/// Shows one set.
pub(crate) fn show(station: &Client, name: &SetName, screen: &Screen) -> Outcome<()> {
    let mut sets = sets(station)?;
    sets.retain(|set| set.name == name.as_str());
    // A demo has both of its sides.
    let Some(first) = sets.first() else {
        return Err(Failure::not_found(format!("there is no set '{name}' on this station"))
            .hint("keepshare set list shows the sets of this station"));
    };
    screen.value(first, |_| sets.iter().map(render_set).collect::<Vec<_>>().join("\n"))
}

fn sets(station: &Client) -> Outcome<Vec<SetStatus>> {
    let report: StatusReport = station.ask_one(&Status {})?;
    Ok(report.stations.into_iter().flat_map(|station| station.sets).collect())
}
