//! The heads of the audit logs of other stations: what is kept here, whoever has their machine cannot change.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use keepshare_base::{Stamp, StationName};
use keepshare_host::files;

use super::chain::Head;

/// What the file is called in the state folder.
pub const HEADS_FILE: &str = "audit.heads";

/// How many heads are kept of one station; of the older half every second one goes where there are more.
const HEADS_MAX: usize = 128;

/// Of how many stations heads are kept.
const STATIONS_MAX: usize = 256;

const FORMAT: u32 = 1;

/// The heads of other stations' audit logs, as they were told over time.
#[derive(Debug)]
pub struct KeptHeads {
    path: PathBuf,
    stations: Mutex<BTreeMap<StationName, Vec<KeptHead>>>,
}

/// A head, and when it was told first.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct KeptHead {
    /// The head.
    pub head: Head,
    /// RFC 3339, by the clock of whoever keeps it.
    pub seen: String,
}

#[derive(Serialize, Deserialize)]
struct HeadsFile {
    format: u32,
    stations: BTreeMap<StationName, Vec<KeptHead>>,
}

impl KeptHeads {
    /// Opens the heads of a state folder. A file that cannot be used is put aside, and told: it is a help, and no part of the station.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(HEADS_FILE);
        let stations = match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice::<HeadsFile>(&bytes) {
                Ok(file) if file.format <= FORMAT => file.stations,
                read => {
                    let why =
                        read.map_or_else(|e| e.to_string(), |f| format!("format {}", f.format));
                    tracing::error!(file = %path.display(), why, "heads of other stations' audit logs cannot be used");
                    fs::rename(&path, path.with_extension("heads.unusable"))?;
                    BTreeMap::new()
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, stations: Mutex::new(stations) })
    }

    /// Returns what is kept of a station, oldest first.
    pub fn of(&self, station: &StationName) -> Vec<KeptHead> {
        let stations = self.stations.lock().unwrap_or_else(PoisonError::into_inner);
        stations.get(station).cloned().unwrap_or_default()
    }

    /// Returns all that is kept.
    pub fn all(&self) -> Vec<(StationName, Vec<KeptHead>)> {
        let stations = self.stations.lock().unwrap_or_else(PoisonError::into_inner);
        stations.iter().map(|(name, heads)| (name.clone(), heads.clone())).collect()
    }

    /// Keeps what a station tells, durable when this returns. A head that goes back takes the place of none: that it did is what a
    /// check finds.
    pub fn keep(
        &self,
        station: &StationName,
        head: Head,
        now: Stamp,
    ) -> Result<(), files::FileError> {
        let mut kept = self.stations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stations = kept.clone();
        if !stations.contains_key(station) && stations.len() >= STATIONS_MAX {
            return Ok(());
        }
        let heads = stations.entry(station.clone()).or_default();
        if heads.last().is_some_and(|last| last.head == head) {
            return Ok(());
        }
        heads.push(KeptHead { head, seen: now.to_string() });
        if heads.len() > HEADS_MAX {
            thin(heads);
        }
        let file = HeadsFile { format: FORMAT, stations };
        let bytes = serde_json::to_vec(&file).expect("names and numbers are written");
        files::write_synced(&self.path, &bytes, 0o600)?;
        *kept = file.stations;
        Ok(())
    }
}

/// Lets every second of the older half go.
fn thin(heads: &mut Vec<KeptHead>) {
    let half = heads.len() / 2;
    let mut at = 0;
    heads.retain(|_| {
        at += 1;
        at > half || at % 2 == 1
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(n: u64) -> Head {
        Head { count: n, ..Head::START.after(&n.to_le_bytes()) }
    }

    /// Whoever cuts a log and writes on past the old head must be found: older heads stay.
    #[test]
    fn old_heads_stay_beside_new_ones_within_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let heads = KeptHeads::open(dir.path()).unwrap();
        let office: StationName = "office".parse().unwrap();
        for n in 1..1000 {
            heads.keep(&office, head(n), Stamp(5)).unwrap();
            heads.keep(&office, head(n), Stamp(6)).unwrap();
        }
        heads.keep(&office, head(3), Stamp(7)).unwrap();
        let kept = heads.of(&office);
        assert!(kept.len() <= HEADS_MAX && kept.len() > HEADS_MAX / 2, "{}", kept.len());
        assert_eq!(kept[0].head, head(1));
        let counts: Vec<u64> = kept.iter().rev().map(|kept| kept.head.count).take(3).collect();
        assert_eq!(counts, [3, 999, 998]);
        assert_eq!(KeptHeads::open(dir.path()).unwrap().of(&office), kept);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(HEADS_FILE), "{").unwrap();
        let heads = KeptHeads::open(dir.path()).unwrap();
        assert_eq!(heads.all(), []);
        assert!(dir.path().join("audit.heads.unusable").exists());
    }
}
