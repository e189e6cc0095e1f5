//! `keepshare mount` on a machine with a kernel that mounts.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

use keepshare_support::{Demo, KernelClient, Reply, Scratch, in_scratch, tools};

/// The user of the guest whom the drive is for.
const UID: u32 = 4001;

/// What is mounted is the user's, the ticket in the list of mounts is used up, and `unmount` takes the drive away.
#[test]
fn a_drive_is_mounted_without_a_ticket_left_to_take() -> Result<()> {
    let test = "a_drive_is_mounted_without_a_ticket_left_to_take";
    if let Some(reason) = KernelClient::hindrance() {
        tools::skip(test, reason);
        return Ok(());
    }
    in_scratch("kernel-mounting", mount_and_unmount)
}

fn mount_and_unmount(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    fs::write(source.join("a.txt"), "content")?;
    let demo = Demo::start(scratch, Some(&source))?;
    let port = demo.ready["nfs_port"].as_u64().context("the demo has a drive")?;
    let guest = KernelClient::boot(scratch, u16::try_from(port)?)?;
    let text = |key: &str| demo.ready[key].as_str().with_context(|| format!("there is {key}"));
    let https = text("https")?.rsplit_once(':').context("a port")?.1.to_owned();
    let (user, password) = (text("user")?.to_owned(), text("password")?.to_owned());
    // The guest's root is the host's, and what the host has in its temporary folders is elsewhere there.
    let program = guest.share().join("keepshare");
    fs::copy(scratch.program()?, &program)?;
    let keepshare = |command: &str| -> Result<Reply> {
        let home = "export HOME=/run/home XDG_CONFIG_HOME=/run/home; mkdir -p $HOME;";
        guest.run(&format!("{home} echo '{password}' | $SHARE/keepshare {command}"))
    };
    let login = format!("{user}@$NFS_SERVER:{https} /mnt/drive --accept-new --password-stdin");
    let refused = keepshare(&format!("mount {login} --uid {UID} --json"))?;
    ensure!(refused.code == Some(4), "the network in between changes ports: {refused:?}");
    ensure!(refused.failure()?.1.is_some_and(|hint| hint.contains("--any-port")));

    keepshare(&format!("mount {login} --uid {UID} --any-port"))?.ok()?;
    let as_user = |uid: u32, command: &str| {
        guest.run(&format!("setpriv --reuid {uid} --regid {uid} --clear-groups {command}"))
    };
    ensure!(as_user(UID, "cat /mnt/drive/a.txt")?.ok()?.out == b"content");
    ensure!(as_user(UID + 1, "cat /mnt/drive/a.txt")?.code != Some(0), "another user reads it");
    let listed = guest.run("grep /mnt/drive /proc/mounts")?.ok()?;
    let listed = String::from_utf8(listed.out)?;
    for option in ["nosuid", "nodev", "vers=3", "local_lock=all"] {
        ensure!(listed.contains(option), "{option} is missing: {listed}");
    }
    let path = listed.split(' ').next().and_then(|from| from.split_once(':'));
    let path = path.context("what is mounted")?.1.to_owned();
    let again = guest.run(&format!(
        "mkdir /mnt/again; mount -t nfs -o $NFS_OPTIONS $NFS_SERVER:{path} /mnt/again"
    ))?;
    ensure!(again.code != Some(0), "the ticket was taken twice");

    keepshare("unmount /mnt/drive")?.ok()?;
    ensure!(guest.run("grep /mnt/drive /proc/mounts")?.code != Some(0), "it is still there");
    ensure!(keepshare("unmount /mnt/drive --json")?.code == Some(3));

    keepshare(&format!("mount {login} --shared"))?.ok()?;
    ensure!(as_user(UID + 1, "cat /mnt/drive/a.txt")?.ok()?.out == b"content");
    keepshare("unmount /mnt/drive")?.ok()?;
    // What was copied for the guest is large.
    Reply::of(Command::new("rm").arg(&program))?.ok()?;
    Ok(())
}
