//! nfs-ganesha, the peer beside which our door is measured.

use std::{
    fs, net::SocketAddr, os::unix::net::UnixStream, path::Path, process::Stdio, thread,
    time::Duration,
};

use anyhow::{Context, Result};

use keepshare_support::{
    Scratch, cluster::free_address, process as support, process::Process, tools, wait_until,
};

use super::client::Client;

/// Where a portmapper listens for programs of this machine. Ganesha does not start without one.
const PORTMAPPER: &str = "/run/rpcbind.sock";

/// How long a server gets to answer.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// What a folder is exported as.
pub(crate) const EXPORT: &str = "/bench";

/// A running server.
#[derive(Debug)]
pub(crate) struct Ganesha {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) mount: SocketAddr,
    /// Ended after the server, which tells it goodbye.
    _portmapper: Option<Process>,
}

impl Ganesha {
    /// Serves a folder; none where that is not possible here.
    pub(crate) fn start(scratch: &Scratch, folder: &Path) -> Result<Option<Self>> {
        if let Some(reason) = missing() {
            eprintln!("{reason}: nothing is measured beside us");
            return Ok(None);
        }
        let portmapper = portmapper()?;
        let (address, mount) = (free_address()?, free_address()?);
        let config = scratch.join("ganesha.conf");
        fs::write(&config, config_of(folder, address.port(), mount.port()))?;
        let program = tools::installed("ganesha.nfsd").context("it was there just now")?;
        let mut command = support::bound_to_us(&[], &program);
        command.arg("-F").arg("-f").arg(&config);
        command.arg("-L").arg(scratch.join("ganesha.log"));
        command.arg("-p").arg(scratch.join("ganesha.pid"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process::spawn(&mut command)?;
        let ganesha = Self { process, address, mount, _portmapper: portmapper };
        let answers = || {
            thread::sleep(Duration::from_millis(50));
            Client::connect(mount, 0).and_then(|mut client| client.mount(EXPORT)).is_ok()
        };
        wait_until(READY_DEADLINE, "nfs-ganesha answers", answers)
            .with_context(|| keepshare_support::scratch::tail(&scratch.join("ganesha.log")))?;
        Ok(Some(ganesha))
    }
}

/// Tells why there can be no ganesha here.
fn missing() -> Option<&'static str> {
    if tools::installed("ganesha.nfsd").is_none() {
        return Some("nfs-ganesha is not installed");
    }
    if !tools::is_root() {
        return Some("nfs-ganesha serves for root alone");
    }
    if tools::installed("rpcbind").is_none() {
        return Some("rpcbind is not installed, which nfs-ganesha needs");
    }
    None
}

/// Starts a portmapper where none runs.
fn portmapper() -> Result<Option<Process>> {
    let runs = || UnixStream::connect(PORTMAPPER).is_ok();
    if runs() {
        return Ok(None);
    }
    let program = tools::installed("rpcbind").context("it was there just now")?;
    // In a network of its own: it would listen on every address, and Debian's ends by a double free when told not to.
    let mut command = support::bound_to_us(&["unshare", "-n"].map(str::to_owned), &program);
    command.arg("-f");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process::spawn(&mut command)?;
    wait_until(READY_DEADLINE, "rpcbind answers", runs)?;
    Ok(Some(process))
}

/// Returns the configuration: everything that is not said is ganesha's default.
fn config_of(folder: &Path, port: u16, mount: u16) -> String {
    let folder = folder.display();
    format!(
        "NFS_CORE_PARAM {{ Protocols = 3; NFS_Port = {port}; MNT_Port = {mount}; \
         Enable_NLM = false; Enable_RQUOTA = false; Bind_addr = 127.0.0.1; \
         mount_path_pseudo = true; }}\n\
         EXPORT {{ Export_Id = 1; Path = {folder}; Pseudo = {EXPORT}; Protocols = 3; \
         Transports = TCP; Access_Type = RO; Squash = no_root_squash; SecType = sys; \
         MaxRead = 1048576; MaxWrite = 1048576; FSAL {{ Name = VFS; }} }}\n"
    )
}
