//! The folders in which a station and its users' programs keep things when nobody names others: root's for the machine, and
//! a user's at home (XDG Base Directory Specification).

use std::path::{Path, PathBuf};

use crate::accounts;

/// Where the station of the machine keeps its state.
const STATE_OF_MACHINE: &str = "/var/lib/keepshare";

/// Where a user's station keeps its state, below home.
const STATE_OF_USER: &str = ".local/state";

/// Returns where the config of a station is.
pub fn station_config() -> PathBuf {
    if is_root() {
        return PathBuf::from("/etc/keepshare/station.toml");
    }
    user_config().join("station.toml")
}

/// Returns where a station keeps its state.
pub fn station_state() -> PathBuf {
    if is_root() {
        return PathBuf::from(STATE_OF_MACHINE);
    }
    xdg("XDG_STATE_HOME", STATE_OF_USER).join("keepshare")
}

/// Returns where the stations of root, of whoever asks and of every user of the machine keep their state.
pub fn station_states() -> Vec<PathBuf> {
    let of_home = |home: PathBuf| home.join(STATE_OF_USER).join("keepshare");
    let mut states: Vec<PathBuf> = accounts::local_homes().into_iter().map(of_home).collect();
    states.extend([PathBuf::from(STATE_OF_MACHINE), station_state()]);
    states
}

/// Returns where programs keep what a user set.
pub fn user_config() -> PathBuf {
    xdg("XDG_CONFIG_HOME", ".config").join("keepshare")
}

/// Returns a folder of the user's: what this variable names, else what is called so at home.
fn xdg(variable: &str, fallback: &str) -> PathBuf {
    let named = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    named.unwrap_or_else(|| {
        let home = std::env::var_os("HOME").map_or_else(|| Path::new("/").into(), PathBuf::from);
        home.join(fallback)
    })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
