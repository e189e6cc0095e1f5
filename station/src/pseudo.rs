//! Folders in which nobody keeps files: what the system shows there is made when it is read, and changes by itself.

use std::path::Path;

use keepshare_control::{Failure, Outcome};

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
pub(crate) fn refuse(source: &Path) -> Outcome<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in there changes by itself, for ever, and is nobody's work.
    #[test]
    fn folders_of_the_system_are_no_sources() {
        for system in ["/proc", "/proc/sys", "/dev", "/dev/pts"] {
            assert!(refuse(Path::new(system)).is_err(), "{system}");
        }
        // A container may have none.
        if Path::new("/sys/kernel").exists() {
            assert!(refuse(Path::new("/sys/kernel")).is_err());
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(refuse(dir.path()).is_ok());
        // Files that are kept in memory are files; where it is no file system of its own, it is a folder of the devices.
        let memory = Path::new("/dev/shm");
        let is_own = rustix::fs::stat(memory).is_ok_and(|seen| {
            rustix::fs::stat(DEVICES).is_ok_and(|devices| devices.st_dev != seen.st_dev)
        });
        assert_eq!(refuse(memory).is_ok(), is_own);
        assert!(refuse(&dir.path().join("missing")).is_ok());
    }
}
