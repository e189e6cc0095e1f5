//! `keepshare station backup` and `restore`.

use std::{fs, io::Read, path::Path};

use anyhow::Context;

use keepshare_base::{Stamp, counted};
use keepshare_control::{
    Code, Failure, Outcome,
    backup::{BackedFile, BackedUp},
    client::{Client, Piece},
    questions::StationBackup,
};
use keepshare_host::{clock, files};
use keepshare_station::{
    backup::{self, BroughtBack, CONFIG, Resting},
    config::Config,
};
use keepshare_versioning::when::machine_zone;

use crate::{
    archive::{self, Packing, Unpacked},
    asked::{config_path, own_station},
    cli::{
        Global,
        station::{Backup, Passphrase, Restore},
    },
    output::{Screen, bytes_text, safe, time_text},
    password,
};

/// How many characters a passphrase has at the least: whoever has the file may guess for as long as they like.
const PASSPHRASE_CHARS_MIN: usize = 12;

/// The longest backup that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Writes a backup of this machine's station, which may run.
pub(crate) fn back_up(options: &Backup, global: &Global, screen: &Screen) -> Outcome<()> {
    let Backup { file, force, passphrase } = options;
    if file.exists() && !force {
        return Err(Failure::refused(format!("{} is there already", file.display()))
            .hint("--force puts the new backup in its place"));
    }
    let config_path = config_path(global);
    let config = Config::load(&config_path)?;
    let config_text =
        fs::read(&config_path).with_context(|| format!("cannot read {}", config_path.display()))?;
    let passphrase = new_passphrase(passphrase)?;
    let mut packing = Packing::default();
    let mut files = match from_station(&own_station(global)?, &mut packing) {
        Err(failure) if failure.code == Code::Unavailable => {
            // It may have stopped half-way.
            packing = Packing::default();
            from_disk(&config, &mut packing)?
        }
        files => files?,
    };
    let bytes = config_text.len() as u64;
    packing.piece(&BackedUp::File(BackedFile { path: CONFIG.to_owned(), bytes }))?;
    packing.data(&config_text)?;
    files += 1;
    packing.piece(&BackedUp::End(files))?;
    let sealed = packing.seal(&passphrase)?;
    let written = match force {
        true => files::write_synced(file, &sealed, 0o600),
        false => files::write_new_synced(file, &sealed, 0o600),
    };
    written.map_err(anyhow::Error::new)?;
    let value = serde_json::json!({
        "file": file, "station": config.name.as_str(), "files": files, "bytes": sealed.len(),
    });
    screen.value(&value, |_| {
        let (name, shown) = (&config.name, file.display());
        format!(
            "Backup of station {name} in {shown}: {} in {}.\nThe files of its sets are not in it.\n",
            counted(files, "file"),
            bytes_text(sealed.len() as u64)
        )
    })
}

/// Has the station that runs give itself out, and returns how many files there were.
fn from_station(station: &Client, packing: &mut Packing) -> Outcome<u64> {
    let mut answer = station.ask(&StationBackup {})?;
    let (mut files, mut said) = (0, None);
    while let Some(piece) = answer.next_piece()? {
        match piece {
            Piece::Item(BackedUp::End(count)) => said = Some(count),
            Piece::Item(item) => {
                files += u64::from(matches!(item, BackedUp::File(_)));
                packing.piece(&item)?;
            }
            Piece::Data(bytes) => packing.data(&bytes)?,
            Piece::Progress(_) => {}
        }
    }
    match said == Some(files) {
        true => Ok(files),
        false => Err(Failure::new(Code::Failed, "the station did not give out all of itself")),
    }
}

/// Reads a station that does not run, and returns how many files there were.
fn from_disk(config: &Config, packing: &mut Packing) -> Outcome<u64> {
    let resting = Resting::open(config)?;
    packing.piece(&BackedUp::Station(resting.of.clone()))?;
    let mut files = 0;
    resting.back_up(|path, content| {
        files += 1;
        let (path, bytes) = (path.to_owned(), content.len() as u64);
        packing.piece(&BackedUp::File(BackedFile { path, bytes }))?;
        packing.data(content)
    })?;
    Ok(files)
}

/// Brings a station back from a backup, or tells what is in it.
pub(crate) fn restore(options: &Restore, global: &Global, screen: &Screen) -> Outcome<()> {
    let Restore { file, list, yes, passphrase } = options;
    let mut sealed = Vec::new();
    let mut read = || fs::File::open(file)?.take(FILE_BYTES_MAX).read_to_end(&mut sealed);
    read().with_context(|| format!("cannot read {}", file.display()))?;
    let passphrase = known_passphrase(passphrase)?;
    let unpacked = archive::open(&sealed, &passphrase)?;
    if *list {
        return show(&unpacked, screen);
    }
    let Unpacked { of, mut files } = unpacked;
    let at = files.iter().position(|(path, _)| path == CONFIG);
    let (_, config_text) = files.swap_remove(at.context("there is no config in the backup")?);
    let config_path = config_path(global);
    let config = match config_path.exists() {
        true => Config::load(&config_path)?,
        false => Config::of_text(&String::from_utf8_lossy(&config_text))
            .map_err(|failure| failure.context("the config in the backup is not usable"))?,
    };
    let (name, age) = (safe(&of.station), age(&of.time));
    let meaning = format!(
        "Station {name} comes back as it was {age}: users that were removed since can log in again, and passwords are those of then. \
         The machine that was {name} must not run any more: two with one identity harm each other."
    );
    if !yes && !password::confirm(&format!("{meaning}\nIs that meant?"))? {
        return Err(Failure::refused(meaning).hint("if that is meant, say --yes"));
    }
    let back =
        backup::restore((&config, config_path.as_path(), config_text.as_slice()), &of, &files)?;
    report(&of.station, &age, &config, &back, screen)
}

fn report(
    station: &str,
    age: &str,
    config: &Config,
    back: &BroughtBack,
    screen: &Screen,
) -> Outcome<()> {
    let BroughtBack { users, sessions_ended, kept } = back;
    let value = serde_json::json!({
        "station": station, "state": config.state, "users": users,
        "sessions_ended": sessions_ended, "kept": kept,
    });
    screen.value(&value, |_| {
        let state = config.state.display();
        let users = match users.as_slice() {
            [] => "Nobody can log in.".to_owned(),
            users => format!("Users of then: {}; keepshare user remove takes out who is not one any more.", safe(&users.join(", "))),
        };
        let mut text = format!(
            "Station {} is in {state} as it was {age}.\n{users}\n{} of then ended: drives are mounted anew, grants to machines and join \
             tokens are made anew.\n",
            safe(station),
            counted(*sessions_ended, "session"),
        );
        for path in kept {
            text += &format!("{} was there already, and stays.\n", safe(path));
        }
        text + "Bring its masters' files to where they were, then start it.\n"
    })
}

fn show(unpacked: &Unpacked, screen: &Screen) -> Outcome<()> {
    let Unpacked { of, files } = unpacked;
    let listed: Vec<_> = files.iter().map(|(path, content)| (path, content.len() as u64)).collect();
    let value = serde_json::json!({
        "station": of.station, "role": of.role, "time": of.time, "version": of.version,
        "files": listed.iter().map(|(path, bytes)| serde_json::json!({ "path": path, "bytes": bytes })).collect::<Vec<_>>(),
    });
    screen.value(&value, |_| {
        let time = time_text(&of.time, machine_zone());
        let mut text = format!(
            "Station {} ({}), as it was {time}, {}; made by release {}.\n",
            safe(&of.station),
            safe(&of.role),
            age(&of.time),
            safe(&of.version)
        );
        for (path, bytes) in &listed {
            text += &format!("  {}  {}\n", safe(path), bytes_text(*bytes));
        }
        text
    })
}

/// Returns how long ago a time is, in words.
fn age(time: &str) -> String {
    let Ok(time) = chrono::DateTime::parse_from_rfc3339(time) else { return "at some time".into() };
    let micros = clock::now().micros_since(Stamp::from(time.to_utc()));
    match micros / 60_000_000 {
        ..0 => "at a time to come, by this machine's clock".to_owned(),
        minutes @ 0..120 => format!("{} ago", counted(minutes.unsigned_abs(), "minute")),
        minutes @ 120..2880 => format!("{} ago", counted((minutes / 60).unsigned_abs(), "hour")),
        minutes => format!("{} ago", counted((minutes / 1440).unsigned_abs(), "day")),
    }
}

fn new_passphrase(how: &Passphrase) -> Outcome<String> {
    let passphrase = match from_file(how)? {
        Some(passphrase) => passphrase,
        None => password::new_password("the backup", how.passphrase_stdin)?,
    };
    if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
        return Err(Failure::usage(format!(
            "the passphrase has less than {PASSPHRASE_CHARS_MIN} characters"
        ))
        .hint("whoever has the file may guess for as long as they like: take several words"));
    }
    Ok(passphrase)
}

fn known_passphrase(how: &Passphrase) -> Outcome<String> {
    match from_file(how)? {
        Some(passphrase) => Ok(passphrase),
        None => password::password("the backup", how.passphrase_stdin),
    }
}

/// Reads the first line of the file that has the passphrase.
fn from_file(how: &Passphrase) -> Outcome<Option<String>> {
    let Some(path) = &how.passphrase_file else { return Ok(None) };
    read_first_line(path).map(Some)
}

fn read_first_line(path: &Path) -> Outcome<String> {
    let mut text = String::new();
    let mut read = || fs::File::open(path)?.take(4096).read_to_string(&mut text);
    read().with_context(|| format!("cannot read the passphrase in {}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who brings back an old backup is told how old it is.
    #[test]
    fn ages_are_told_in_words() {
        let ago = |seconds: i64| age(&clock::now().plus_micros(-seconds * 1_000_000).to_string());
        assert_eq!(ago(65), "1 minute ago");
        assert_eq!(ago(3 * 3600 + 5), "3 hours ago");
        assert_eq!(ago(40 * 86_400 + 5), "40 days ago");
        assert_eq!(ago(-600), "at a time to come, by this machine's clock");
        assert_eq!(age("whenever"), "at some time");
    }
}
