//! `keepshare mount` and `unmount`: a login, and what the system needs to be told to use it.
//!
//! Only root may mount, and only Linux is mounted by us; everybody else gets the command to type.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use crate::{
    cli::{LoginOptions, Unmount},
    commands::login::{self, Commands, Who},
    failure::{Code, Failure, Outcome},
    output::Screen,
};

/// Logs in and mounts the drive.
pub(crate) fn mount(
    socket: impl FnOnce() -> Outcome<PathBuf>,
    options: &LoginOptions,
    folder: &Path,
    screen: &Screen,
) -> Outcome<()> {
    let who: Who = options.who.parse()?;
    if options.resume {
        return Err(Failure::usage("a drive that is taken along is mounted already")
            .hint("keepshare login USER@STATION --resume is enough"));
    }
    // Looked at before the password is asked for.
    let folder = prepare(folder)?;
    let answer = login::log_in(socket, &who, options)?;
    let commands = Commands::new(who.host(), &answer, Some(&folder)).ok_or_else(|| {
        Failure::refused("the station serves no network drive: nfs is off in its config")
            .hint("name an address as nfs in [doors] of its station.toml")
    })?;
    let is_mounted = can_mount();
    if is_mounted {
        run("mount", &commands.linux_arguments())?;
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
        format!(
            "Only root mounts. Type this within two minutes; the ticket in it works once:\n\n  {}\n",
            commands.here()
        )
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
        run("umount", &[folder.clone().into_os_string()])?;
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

/// Runs one of the system's own commands.
fn run(program: &str, arguments: &[std::ffi::OsString]) -> Outcome<()> {
    let ran = Command::new(program).args(arguments).output();
    let output = ran.map_err(|error| {
        Failure::new(Code::Failed, format!("cannot run {program}: {error}"))
            .hint("it is part of the system; the package nfs-common brings what NFS needs")
    })?;
    if output.status.success() {
        return Ok(());
    }
    // The path of the mount is a secret until it was used, and mount(8) repeats it.
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().map(hide_tickets).collect::<Vec<_>>().join("; ");
    let hint = match program {
        "mount" => {
            "mounting needs the package nfs-common, and a station whose nfs port is reachable from here"
        }
        _ => "close what is open there; lsof tells which programs that are",
    };
    Err(Failure::new(Code::Failed, format!("{program} failed: {said}")).hint(hint))
}

/// Leaves tickets out of a line.
fn hide_tickets(line: &str) -> String {
    let Some(at) = line.find(LOGIN_PATH) else { return line.to_owned() };
    let (before, rest) = line.split_at(at + LOGIN_PATH.len());
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c));
    let after = end.map_or("", |end| &rest[end..]);
    format!("{before}…{}", hide_tickets(after))
}

/// What a ticket follows in the path of a mount.
const LOGIN_PATH: &str = "/login/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mount_says_is_told_without_its_ticket() {
        assert_eq!(
            hide_tickets("mount.nfs: access denied by server while mounting h:/login/aB-9_x: no"),
            "mount.nfs: access denied by server while mounting h:/login/…: no"
        );
        assert_eq!(hide_tickets("a /login/x b /login/y"), "a /login/… b /login/…");
        assert_eq!(hide_tickets("no such device"), "no such device");
    }

    /// Taking away what is no drive of ours would be a surprise.
    #[test]
    fn only_a_drive_is_unmounted() {
        let mounts = b"none /tmp/tm tmpfs rw 0 0\n\
            store:/login/abc /mnt/a\\040b nfs rw,vers=3 0 0\n\
            other:/export /mnt/other nfs rw 0 0\n";
        assert!(is_drive(mounts, Path::new("/mnt/a b")));
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
