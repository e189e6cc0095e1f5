//! `keepshare mount` and `unmount`: a login, and what the system needs to be told to use it.
//!
//! Only root may mount, and only Linux is mounted by us; everybody else gets the command to type.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

use keepshare_control::{Code, Failure, Outcome, client::Client};

use crate::{
    cli::{LoginOptions, Unmount},
    commands::login::{self, Commands, Wants},
    nfs_mount::{self, LOGIN_PATH, NfsMount},
    output::Screen,
    who::Who,
};

/// Logs in and mounts the drive.
pub(crate) fn mount(
    local: impl FnOnce() -> Outcome<Client>,
    options: &LoginOptions,
    folder: &Path,
    screen: &Screen,
) -> Outcome<()> {
    let who: Who = options.who.parse()?;
    if options.resume {
        return Err(Failure::usage("--resume takes a session along, and mount begins a new one")
            .hint("keepshare login USER@STATION --resume takes along what is mounted; leave --resume out to mount"));
    }
    // Looked at before the password is asked for.
    let folder = prepare(folder)?;
    let answer = login::log_in(local, &who, options, Wants::TheDrive)?;
    let no_drive = || {
        Failure::refused("the station serves no network drive: nfs is off in its config")
            .hint("name an address as nfs in [doors] of its station.toml")
    };
    let commands = Commands::new(who.host(), &answer, Some(&folder)).ok_or_else(no_drive)?;
    let is_mounted = can_mount();
    if is_mounted {
        let mount = NfsMount {
            host: who.host(),
            path: &answer.mount_path,
            port: answer.nfs_port.ok_or_else(no_drive)?,
            mount_port: answer.mount_port.ok_or_else(no_drive)?,
            client: answer.client_address,
            uid: answer.client_uid,
        };
        mount.mount(&folder).map_err(|error| not_mounted(&error, answer.client_uid.is_some()))?;
    }
    let value = serde_json::json!({
        "mounted": is_mounted,
        "folder": folder,
        "set": answer.set,
        "user": answer.user,
        "commands": (!is_mounted).then_some(&commands),
    });
    screen.value(&value, |_| {
        let shown = folder.display();
        if is_mounted {
            return format!(
                "The drive of {} is at {shown}; what was there is in {shown}/@versions.\n\
                 keepshare unmount {shown} takes it away.\n",
                answer.set
            );
        }
        let here = commands.here();
        let mut text = format!(
            "Only root mounts. Type this within two minutes; the ticket in it works once:\n\n  {here}\n"
        );
        if cfg!(target_os = "linux") {
            text += "\nWhile it runs, users of this machine can read the ticket in its list of programs. With sudo before \
                     keepshare mount there is nothing to read.\n";
        }
        text
    })
}

/// Takes a mounted drive away.
pub(crate) fn unmount(options: &Unmount, screen: &Screen) -> Outcome<()> {
    let folder = std::path::absolute(&options.folder)
        .with_context(|| format!("cannot tell where {} is", options.folder.display()))?;
    // What is mounted is never asked: a station that is away would not answer.
    let mounts = fs::read("/proc/self/mounts").unwrap_or_default();
    if cfg!(target_os = "linux") && !is_drive(&mounts, &folder) {
        return Err(Failure::not_found(format!("no drive is mounted at {}", folder.display()))
            .hint("write the folder as it was mounted; mount -t nfs lists what is"));
    }
    let is_unmounted = can_mount();
    if is_unmounted {
        nfs_mount::unmount(&folder).map_err(|error| not_unmounted(&error, &folder))?;
    }
    let value = serde_json::json!({ "unmounted": is_unmounted, "folder": folder });
    screen.value(&value, |_| {
        let shown = folder.display();
        match is_unmounted {
            true => format!("The drive at {shown} is gone; its session ends when it is revoked or long unused.\n"),
            false => format!("Only root unmounts:\n\n  sudo umount {shown}\n"),
        }
    })
}

/// Tells whether a drive is mounted at a folder, by the kernel's list of mounts (`proc_pid_mounts(5)`).
fn is_drive(mounts: &[u8], folder: &Path) -> bool {
    mounts.split(|byte| *byte == b'\n').any(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let mut next = || fields.next().unwrap_or_default();
        let (from, at, kind) = (next(), next(), next());
        let has_login = from.windows(LOGIN_PATH.len()).any(|part| part == LOGIN_PATH.as_bytes());
        kind == b"nfs" && has_login && unescape(at) == folder.as_os_str().as_bytes()
    })
}

/// Undoes `\040` and its like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), field);
    while let Some((first, after)) = rest.split_first() {
        let code = rest.get(1..4).and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(code) => {
                bytes.push(code);
                rest = &rest[4..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// Makes the folder where there is none, and says where it is from the root.
fn prepare(folder: &Path) -> Outcome<PathBuf> {
    let shown = folder.display();
    match fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(anyhow::Error::new(error)
                .context(format!("cannot make the folder {shown} to mount at"))
                .into());
        }
        _ => {}
    }
    let folder =
        folder.canonicalize().with_context(|| format!("cannot open the folder {shown}"))?;
    if !folder.is_dir() {
        return Err(Failure::refused(format!("{shown} is not a folder"))
            .hint("name an empty folder to mount at"));
    }
    if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::refused(format!("the folder {shown} is not empty"))
            .hint("name an empty one: what is in it would be hidden"));
    }
    Ok(folder)
}

fn can_mount() -> bool {
    cfg!(target_os = "linux") && rustix::process::geteuid().is_root()
}

/// Says why there is no drive, and what helps. The path is left out: it is secret.
fn not_mounted(error: &io::Error, is_bound: bool) -> Failure {
    use io::ErrorKind::{
        ConnectionRefused, HostUnreachable, NetworkUnreachable, PermissionDenied, TimedOut,
    };
    let (code, hint) = match error.kind() {
        PermissionDenied if is_bound => (
            Code::Refused,
            "a drive for one user needs calls from ports below 1024; behind a router or in a container that changes ports log \
             in with --any-port; the station's log says why",
        ),
        PermissionDenied => (
            Code::Refused,
            "the drive is for the address that the station sees: --address names it",
        ),
        ConnectionRefused | HostUnreachable | NetworkUnreachable | TimedOut => {
            (Code::Unavailable, "the station's nfs port must be reachable from here")
        }
        _ => match error.raw_os_error() {
            Some(NO_SUCH_DEVICE | NO_SUCH_PROTOCOL) => {
                (Code::Failed, "this machine's kernel has no client for NFS version 3")
            }
            _ => (
                Code::Failed,
                "dmesg may say more; the station's nfs port must be reachable from here",
            ),
        },
    };
    Failure::new(code, format!("the drive cannot be mounted: {error}")).hint(hint)
}

fn not_unmounted(error: &io::Error, folder: &Path) -> Failure {
    let shown = folder.display();
    Failure::new(Code::Failed, format!("the drive at {shown} cannot be taken away: {error}"))
        .hint("close what is open there; lsof tells which programs that are")
}

/// `ENODEV`: no such file system.
const NO_SUCH_DEVICE: i32 = rustix::io::Errno::NODEV.raw_os_error();

/// `EPROTONOSUPPORT`: not in this version.
const NO_SUCH_PROTOCOL: i32 = rustix::io::Errno::PROTONOSUPPORT.raw_os_error();

#[cfg(test)]
mod tests {
    use super::*;

    /// Taking away what is no drive of ours would be a surprise.
    #[test]
    fn only_a_drive_is_unmounted() {
        let mounts = b"none /tmp/tm tmpfs rw 0 0\n\
            store:/login/abc /mnt/a\\040b nfs rw,vers=3 0 0\n\
            other:/export /mnt/other nfs rw 0 0\n";
        assert!(is_drive(mounts, Path::new("/mnt/a b")));
        assert!(nfs_mount::has_drive(mounts));
        assert!(!nfs_mount::has_drive(b"other:/export /mnt/other nfs rw 0 0\n"));
        for other in ["/tmp/tm", "/mnt/other", "/mnt", "/mnt/a", ""] {
            assert!(!is_drive(mounts, Path::new(other)), "{other}");
        }
    }

    #[test]
    fn a_folder_that_would_be_hidden_is_not_mounted_over() {
        let dir = tempfile::tempdir().unwrap();
        assert!(prepare(&dir.path().join("new")).unwrap().is_dir());
        assert!(prepare(&dir.path().join("new")).is_ok(), "an empty one does");
        let refused = prepare(dir.path()).unwrap_err();
        assert_eq!(refused.code, Code::Refused);
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(prepare(&dir.path().join("file")).is_err());
        assert!(prepare(&dir.path().join("a/b")).is_err());
    }
}
