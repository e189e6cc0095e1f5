//! A drive in this machine's tree of files, made with `mount(2)`.
//!
//! Without mount(8): arguments of programs can be read by every user of the machine, and the path that is mounted is a
//! ticket. The list of mounts shows that path to everybody, too, so the ticket is used up before [`NfsMount::mount`] returns.

use std::{
    ffi::CString,
    fs, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::Path,
    thread,
};

use rustix::{
    mount::{MountFlags, UnmountFlags},
    process::Uid,
};

/// What a ticket follows in the path of a mount.
pub(crate) const LOGIN_PATH: &str = "/login/";

/// What is mounted.
#[derive(Clone)]
pub(crate) struct NfsMount<'m> {
    /// The station's host, as it was named.
    pub(crate) host: &'m str,
    /// The path there. Secret until it was used.
    pub(crate) path: &'m str,
    /// The port of NFS.
    pub(crate) port: u16,
    /// The port of its mounts.
    pub(crate) mount_port: u16,
    /// The address of this machine that the drive is for.
    pub(crate) client: IpAddr,
    /// The user of this machine whom the drive is for; none for all.
    pub(crate) uid: Option<u32>,
}

impl NfsMount<'_> {
    /// Mounts it at a folder, and has the one whom it is for look into it, which uses the ticket up. Where that does not come to
    /// the station nothing stays mounted: everybody could read a ticket that is still good.
    pub(crate) fn mount(&self, folder: &Path) -> io::Result<()> {
        let address = self.address()?;
        let data = CString::new(self.options(address)).map_err(io::Error::other)?;
        let source = format!("{}:{}", bracketed(self.host), self.path);
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount(source, folder, "nfs", flags, data.as_c_str())?;
        look(folder, self.uid).map_err(|error| match detach(folder) {
            Ok(()) => error,
            Err(detached) => io::Error::new(
                error.kind(),
                format!("{error}; what was mounted at {} stays: {detached}", folder.display()),
            ),
        })
    }

    /// Returns where the station is: an address of the kind that the login was made from, where it has both.
    fn address(&self) -> io::Result<IpAddr> {
        let host = self.host.trim_matches(['[', ']']);
        let found: Vec<_> =
            (host, self.port).to_socket_addrs()?.map(|found: SocketAddr| found.ip()).collect();
        let alike = found.iter().find(|found| found.is_ipv4() == self.client.is_ipv4());
        let address = alike.or(found.first()).copied();
        address.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the station has no address"))
    }

    /// Returns the options, as the kernel takes them (`nfs(5)`); `addr` is what mount(8) would add.
    fn options(&self, address: IpAddr) -> String {
        let Self { port, mount_port, .. } = self;
        let protocol = if address.is_ipv4() { "tcp" } else { "tcp6" };
        format!(
            "{},port={port},mountport={mount_port},addr={address},mountaddr={address}",
            options(protocol)
        )
    }
}

/// Returns the options that do not tell where the station is. Without a lock manager; nothing that is shown is older than
/// three seconds; from one of the machine's own ports, which a drive for one user needs.
pub(crate) fn options(protocol: &str) -> String {
    format!("vers=3,proto={protocol},mountvers=3,mountproto={protocol},nolock,resvport,actimeo=3")
}

/// Takes a mounted drive away.
pub(crate) fn unmount(folder: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(folder, UnmountFlags::NOFOLLOW)?)
}

/// Takes a drive away at once, though its station may not answer.
fn detach(folder: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(folder, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?)
}

/// Looks into a folder as a user of this machine: at what is in it, or at a name in it where only those may be asked for.
fn look(folder: &Path, uid: Option<u32>) -> io::Result<()> {
    let look = || {
        if let Some(uid) = uid {
            let uid = Uid::from_raw(uid);
            // Of this thread alone, which ends with it.
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        }
        let listed = fs::read_dir(folder).and_then(|mut entries| entries.next().transpose());
        listed.map(drop).or_else(|error| {
            let found = fs::symlink_metadata(folder.join("@versions"));
            found.map(drop).map_err(|_| error)
        })
    };
    thread::scope(|scope| {
        let looked = thread::Builder::new().name("look".to_owned()).spawn_scoped(scope, look)?;
        looked.join().map_err(|_| io::Error::other("looking into the drive failed"))?
    })
}

/// Writes an address of IPv6 as it stands before a path.
fn bracketed(host: &str) -> String {
    let is_bare = host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6());
    if is_bare { format!("[{host}]") } else { host.to_owned() }
}

/// Tells whether any drive is mounted.
pub(crate) fn has_drive(mounts: &[u8]) -> bool {
    mounts.split(|byte| *byte == b'\n').any(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (from, kind) = (fields.next().unwrap_or_default(), fields.nth(1));
        let has_login = from.windows(LOGIN_PATH.len()).any(|part| part == LOGIN_PATH.as_bytes());
        has_login && kind == Some(b"nfs")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A ticket that nobody has used is good for everybody who reads the list of mounts.
    #[test]
    fn a_look_that_is_refused_is_no_look() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(look(dir.path(), None).is_ok(), "an empty drive");
        assert_eq!(
            look(dir.path(), Some(65_534)).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        assert!(look(&dir.path().join("gone"), None).is_err());
    }

    fn at(host: &str) -> NfsMount<'_> {
        let client = "127.0.0.1".parse().unwrap();
        let path = "/login/0123";
        NfsMount { host, path, port: 2049, mount_port: 20048, client, uid: Some(1000) }
    }

    #[test]
    fn the_kernel_is_told_where_the_station_is() {
        let mount = at("127.0.0.1");
        let options = mount.options(mount.address().unwrap());
        assert_eq!(
            options,
            "vers=3,proto=tcp,mountvers=3,mountproto=tcp,nolock,resvport,actimeo=3,port=2049,mountport=20048,addr=127.0.0.1,mountaddr=127.0.0.1"
        );
        assert!(!options.contains("0123"), "the ticket is in the path alone");
        let v6 = at("[::1]");
        let options = v6.options(v6.address().unwrap());
        assert!(options.contains("proto=tcp6,") && options.ends_with("addr=::1,mountaddr=::1"));
        assert_eq!([bracketed("::1"), bracketed("[::1]"), bracketed("a")], ["[::1]", "[::1]", "a"]);
    }
}
