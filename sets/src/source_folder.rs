//! Which folders can be sources. A folder of the system cannot: what is in it is made when it is read. A folder that holds a
//! station's state, or lies in one, cannot either.

use std::{
    fs,
    path::{Path, PathBuf},
};

use keepshare_control::{Failure, Outcome};
use keepshare_host::folders;

/// Refuses a source of the system's, and one in which a station keeps its state: what it writes there would be sent, and
/// written again, for ever.
pub fn refuse(source: &Path) -> Outcome<()> {
    refuse_pseudo(source)?;
    let shown = source.display();
    if let Some(state) = state_around(source) {
        let state = state.display();
        return Err(Failure::refused(format!(
            "{shown} lies in the state folder {state} of a station"
        ))
        .hint("name a folder outside of it; what a station received is replicated by its master"));
    }
    match states_inside(source).first() {
        Some(state) => {
            let state = state.display();
            Err(Failure::refused(format!("a station keeps its state inside {shown}, in {state}"))
                .hint("name folders beside it, or move that station's state out of the source"))
        }
        None => Ok(()),
    }
}

/// The file systems that show something else than files, by the numbers of statfs(2) (`linux/magic.h`).
const PSEUDO: &[(u64, &str)] = &[
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x1cd1, "devpts"),
    (0x27_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0x6265_6570, "configfs"),
    (0x6165_676c, "pstore"),
    (0xde5e_81e4, "efivarfs"),
    (0xcafe_4a11, "bpf"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x6573_5543, "fusectl"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x1980_0202, "mqueue"),
    (0x6e73_6673, "nsfs"),
    (0x9584_58f6, "hugetlbfs"),
    (0x6759_6969, "rpc_pipefs"),
];

/// Refuses a folder of the system's as a source.
fn refuse_pseudo(source: &Path) -> Outcome<()> {
    // What cannot be asked is told by whoever opens it.
    let Ok(stat) = rustix::fs::statfs(source) else { return Ok(()) };
    let number = u64::from_ne_bytes(stat.f_type.to_ne_bytes()) & u64::from(u32::MAX);
    let known = PSEUDO.iter().find(|(pseudo, _)| *pseudo == number);
    // Devices are on a tmpfs, as files may be: those of /dev/shm are.
    let what = known.map(|(_, name)| *name).or_else(|| is_among_devices(source).then_some("dev"));
    let Some(what) = what else { return Ok(()) };
    let shown = source.display();
    Err(Failure::refused(format!("{shown} is the system's ({what}) and holds no files to keep"))
        .hint("name a folder that users keep files in"))
}

/// Tells whether a folder is on the file system of `/dev`, wherever that is shown, or in `/dev` where it has none of its own.
fn is_among_devices(source: &Path) -> bool {
    let on = |path: &Path| rustix::fs::stat(path).ok().map(|seen| seen.st_dev);
    let devices = on(Path::new(DEVICES));
    devices.is_some()
        && on(source) == devices
        && (source.starts_with(DEVICES) || devices != on(Path::new("/")))
}

/// Where the system has its devices.
const DEVICES: &str = "/dev";

/// Returns the station's state folder that a folder is, or lies in, if there is one.
fn state_around(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|dir| is_state_dir(dir))
}

/// Returns the state folders inside a folder that are known without walking through it: those of the stations that run
/// on this machine, by their sockets, and those in the places where they are unless somebody names another.
pub fn states_inside(folder: &Path) -> Vec<PathBuf> {
    let sockets = fs::read_to_string(SOCKETS).unwrap_or_default();
    let running = sockets.lines().filter_map(socket_path).filter_map(Path::parent);
    let usual = folders::station_states();
    // By their names first: homes may be mounted when somebody looks at them.
    let usual = usual.iter().map(PathBuf::as_path).filter(|state| state.starts_with(folder));
    let known = running.chain(usual);
    let real = known.filter_map(|dir| dir.canonicalize().ok());
    let mut found: Vec<PathBuf> =
        real.filter(|dir| dir.starts_with(folder) && is_state_dir(dir)).collect();
    found.sort();
    found.dedup();
    found
}

/// A station has an identity before it has anything else.
fn is_state_dir(dir: &Path) -> bool {
    let identity = dir.join(keepshare_identity::FOLDER);
    [keepshare_identity::IDENTITY_FILE, keepshare_identity::CA_FILE]
        .iter()
        .any(|file| identity.join(file).exists())
}

/// Where this machine lists its Unix sockets.
const SOCKETS: &str = "/proc/net/unix";

/// Reads the path at the end of a line of [`SOCKETS`], if the socket has one.
fn socket_path(line: &str) -> Option<&Path> {
    line.find(" /").map(|at| Path::new(&line[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in there changes by itself, for ever, and is nobody's work.
    #[test]
    fn folders_of_the_system_are_no_sources() {
        for system in ["/proc", "/proc/sys", "/dev", "/dev/pts"] {
            assert!(refuse_pseudo(Path::new(system)).is_err(), "{system}");
        }
        // A container may have none.
        if Path::new("/sys/kernel").exists() {
            assert!(refuse_pseudo(Path::new("/sys/kernel")).is_err());
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(refuse_pseudo(dir.path()).is_ok());
        // Files that are kept in memory are files; where it is no file system of its own, it is a folder of the devices.
        let memory = Path::new("/dev/shm");
        let is_own = rustix::fs::stat(memory).is_ok_and(|seen| {
            rustix::fs::stat(DEVICES).is_ok_and(|devices| devices.st_dev != seen.st_dev)
        });
        assert_eq!(refuse_pseudo(memory).is_ok(), is_own);
        assert!(refuse_pseudo(&dir.path().join("missing")).is_ok());
    }

    /// A station that replicates what another one keeps makes the other one keep more, for ever.
    #[test]
    fn the_state_of_a_station_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let state = root.join("deep/down/state");
        fs::create_dir_all(state.join("identity")).unwrap();
        fs::create_dir_all(state.join("sets/office/live")).unwrap();
        assert_eq!(state_around(&state), None, "an empty folder of that name is nobody's");
        fs::write(state.join("identity/station.pem"), "").unwrap();
        assert_eq!(state_around(&state.join("sets/office/live")), Some(state.as_path()));
        assert_eq!(state_around(&root), None);
        assert_eq!(states_inside(&root), [] as [&Path; 0], "it does not run");
        let socket = std::os::unix::net::UnixListener::bind(state.join("keepshare.sock")).unwrap();
        assert_eq!(states_inside(&root), [state.as_path()]);
        assert_eq!(states_inside(&root.join("elsewhere")), [] as [&Path; 0]);
        drop(socket);
    }

    #[test]
    fn only_sockets_with_a_path_have_one() {
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 39470 /run/a b/s.sock";
        assert_eq!(socket_path(line), Some(Path::new("/run/a b/s.sock")));
        for line in
            ["Num       RefCount Protocol Flags    Type St Inode Path", "x: 0 0 1 01 5 @/a", ""]
        {
            assert_eq!(socket_path(line), None, "{line}");
        }
    }
}
