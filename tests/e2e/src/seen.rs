//! Versions that a station showed: whatever it shows, it has acknowledged.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use keepshare_support::{Editor, Station, cluster::SET};
use serde_json::Value;

/// Versions that a station showed, by path and id, with all that was told of them.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<(PathBuf, String), Value>);

impl Seen {
    /// Writes down what a station shows of a file in the source.
    pub fn note(&mut self, station: &Station, source: &Path, path: Option<PathBuf>) -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        let path = path.strip_prefix(source)?.to_owned();
        for row in station.versions(SET, &path)? {
            let id = row["version"].as_str().context("a version has an id")?.to_owned();
            self.0.insert((path.clone(), id), row);
        }
        Ok(())
    }

    /// Fails unless every version is there with the bytes that somebody wrote.
    pub fn check(&self, station: &Station, editor: &Editor) -> Result<()> {
        let seen = &self.0;
        ensure!(seen.len() > 10, "only {} versions were seen: the test tested nothing", seen.len());
        let mut wrong = Vec::new();
        for ((path, id), row) in seen {
            if row["kind"] == "file"
                && let Err(error) = check_version(station, editor, path, id, row)
            {
                let same = station.versions(SET, path)?;
                let same = same.iter().filter(|row| row["version"] == *id).count();
                wrong.push(format!(
                    "  {path:?}@{id} (listed {same} times): {error:#}\n    it was {row}"
                ));
            }
        }
        let first = wrong.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
        ensure!(wrong.is_empty(), "{} of {} versions are wrong:\n{first}", wrong.len(), seen.len());
        eprintln!("{} versions that were seen are there with the right bytes", seen.len());
        Ok(())
    }
}

fn check_version(
    station: &Station,
    editor: &Editor,
    path: &Path,
    id: &str,
    row: &Value,
) -> Result<()> {
    let bytes = station.show(SET, path, id)?;
    ensure!(row["size"] == bytes.len(), "it has {} bytes", bytes.len());
    let hash = blake3::hash(&bytes);
    if let Some(told) = row["hash"].as_str() {
        ensure!(hash.to_hex().as_str() == told, "its hash is {hash}");
    }
    // Bytes of several moments are marked as such; all others were in the file at one moment.
    ensure!(row["fuzzy"] == true || editor.wrote(hash), "nobody ever wrote these bytes");
    Ok(())
}
