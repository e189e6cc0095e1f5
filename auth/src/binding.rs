//! Where a drive may be used from.

use std::net::{IpAddr, SocketAddr};

/// The first port that any user of a client may call from. Those below are for its kernel and its root.
const FIRST_USER_PORT: u16 = 1024;

/// Where a drive may be used from, and by whom there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Binding {
    /// The one address.
    pub address: IpAddr,
    /// The client's uid that alone may use it; none to share it between all users of the client.
    pub uid: Option<u32>,
    /// Calls from ports that any user of the client may have are taken too.
    pub any_port: bool,
}

impl Binding {
    /// Returns what the users of a client share.
    pub fn shared(address: IpAddr) -> Self {
        Self { address, uid: None, any_port: false }
    }

    /// Tells whether calls may come from this port. What all users of the client share has no port to keep.
    pub(crate) fn takes_port_of(&self, peer: SocketAddr) -> bool {
        self.uid.is_none() || self.any_port || is_reserved(peer)
    }
}

/// Tells whether only a client's kernel or its root can call from there.
///
/// A claimed uid proves nothing, nor does a handle: every user of a client can learn the handle of what is mounted there,
/// and claim any uid on a connection of their own. They cannot have one of these ports.
pub(crate) fn is_reserved(peer: SocketAddr) -> bool {
    peer.port() < FIRST_USER_PORT
}
