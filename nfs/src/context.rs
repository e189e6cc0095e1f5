//! What calls are judged by: whose handle, from where, in whose name.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use keepshare_auth::{Admitted, Claim, SessionId, SessionRefusal, Sessions};
use keepshare_base::{FileId, Stamp};
use keepshare_namespace::{Attributes, Cookie, Denial, Found, Listing, Node, Share};
use keepshare_nfs_wire::nfs3::{self, Handle, Status};

use crate::{
    Limits, Shares, attributes,
    buffers::Buffers,
    handle::{Named, Sealed},
    registry::{Client, Registry},
    restores::Restores,
};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) registry: Arc<Registry>,
    pub(crate) restores: Arc<Restores>,
    pub(crate) shares: Shares,
    pub(crate) sessions: Sessions,
    pub(crate) clock: fn() -> Stamp,
    pub(crate) limits: Limits,
    pub(crate) port: u16,
    pub(crate) forgeries: Forgeries,
    pub(crate) buffers: Arc<Buffers>,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'c> {
    pub(crate) door: &'c Door,
    pub(crate) client: &'c Arc<Client>,
    /// Who the client claims to be; grants nothing by itself, but where an admin trusts the client.
    pub(crate) claim: Option<Claim<'c>>,
    pub(crate) now: Stamp,
    /// The most bytes of content or names that the answer may have.
    pub(crate) transfer_max: u32,
}

/// A node that a good handle named, and in whose name it is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Opened<'c> {
    pub(crate) asking: Asking<'c>,
    pub(crate) share: Arc<Share>,
    pub(crate) session: SessionId,
    pub(crate) admitted: Admitted,
    pub(crate) node: Node,
}

impl<'c> Asking<'c> {
    /// Checks a handle: its MAC, its session, the address, the claimed uid, the share. Rights come next, and are the
    /// namespace's. From the first such call on, the ticket of the session is not taken again.
    pub(crate) fn open(self, handle: Handle<'_>) -> Result<Opened<'c>, Status> {
        let named = self.named(handle)?;
        let admitted = self.admitted(named.session).map_err(|refusal| status_of(&refusal))?;
        self.opened(named, admitted, true)
    }

    /// Checks a handle like [`Self::open`], but lets the client's root look at the drive's root, as mounting needs. What
    /// is asked like this of the root is no use of the drive yet: the answer to the mount may have been lost.
    pub(crate) fn open_to_mount(self, handle: Handle<'_>) -> Result<Opened<'c>, Status> {
        let named = self.named(handle)?;
        let admitted = match self.admitted(named.session) {
            Ok(admitted) => admitted,
            Err(SessionRefusal::UnboundRoot(admitted)) if named.node == ROOT => admitted,
            Err(refusal) => return Err(status_of(&refusal)),
        };
        let is_use = named.node != ROOT;
        self.opened(named, admitted, is_use)
    }

    /// Checks a handle like [`Self::open_to_mount`], but lets all of the client's users look at the drive's root.
    ///
    /// Linux asks for the attributes of a mounted folder before it asks whether its user may look into it, and takes
    /// every refusal there for a drive that is gone. What they may see of it is who owns it and when it changed.
    pub(crate) fn open_to_see(self, handle: Handle<'_>) -> Result<Opened<'c>, Status> {
        let opened = self.open_to_mount(handle);
        match self.claim {
            Some(claim) if claim.uid != CLIENTS_ROOT && matches!(opened, Err(Status::Access)) => {
                Self { claim: Some(Claim { uid: CLIENTS_ROOT, ..claim }), ..self }
                    .open_to_mount(handle)
                    // Where the client's root is the user who logged in, its rights are not everybody's.
                    .and_then(
                        |opened| if opened.node == ROOT { Ok(opened) } else { Err(Status::Access) },
                    )
            }
            _ => opened,
        }
    }

    fn named(self, handle: Handle<'_>) -> Result<Named, Status> {
        let named = Named::open(handle.as_bytes(), |parts| self.door.sessions.seal(parts));
        named.ok_or_else(|| {
            self.door.forgeries.note(self.client.peer.ip(), self.now);
            Status::BadHandle
        })
    }

    /// Checks a session: one that began with a login, or one of a machine that is trusted to say who calls.
    pub(crate) fn admitted(self, session: SessionId) -> Result<Admitted, SessionRefusal> {
        let (sessions, peer) = (&self.door.sessions, self.client.peer);
        let uid = self.claim.map(|claim| claim.uid);
        let checked = match sessions.check(session, peer, uid, self.now) {
            Err(SessionRefusal::Unknown) => sessions.check_host(session, peer, self.claim),
            checked => checked,
        };
        if let Err(refusal @ SessionRefusal::UserPort { is_first: true }) = &checked {
            tracing::warn!(%session, %peer, hint = ANY_PORT_HINT, "a call was refused: {refusal}");
        }
        checked
    }

    fn opened(self, named: Named, admitted: Admitted, is_use: bool) -> Result<Opened<'c>, Status> {
        let Named { share, session, node } = named;
        // A number is never given to another set; a handle that says otherwise outlived its share.
        let share = self.door.shares.by_id(share).filter(|share| *share.set() == admitted.set);
        let share = share.ok_or(Status::Stale)?;
        if self.client.showed(&self.door.sessions, session, &admitted, is_use) {
            self.door.registry.belongs(self.client, &self.door.sessions);
        }
        Ok(Opened { asking: self, share, session, admitted, node })
    }
}

impl Opened<'_> {
    /// Returns what is known of the node itself.
    pub(crate) fn attributes(&self) -> Result<nfs3::Attributes, Status> {
        self.own_attributes().map(|attributes| self.shown(self.node, &attributes))
    }

    /// Returns what is known of the node itself, as the namespace has it.
    pub(crate) fn own_attributes(&self) -> Result<Attributes, Status> {
        let principal = &self.admitted.principal;
        self.share.attributes(principal, self.node, self.asking.now).map_err(denied)
    }

    /// Returns what is known of the node itself, or nothing, beside an answer that does not need it.
    pub(crate) fn known(&self) -> Option<nfs3::Attributes> {
        self.attributes().ok()
    }

    /// Returns what a name of this folder stands for.
    pub(crate) fn lookup(&self, name: &[u8]) -> Result<Found, Status> {
        if name.len() > keepshare_base::NAME_BYTES_MAX {
            return Err(Status::NameTooLong);
        }
        let principal = &self.admitted.principal;
        self.share.lookup(principal, self.node, name, self.asking.now).map_err(denied)
    }

    /// Returns at most `limit` entries of this folder.
    pub(crate) fn list(&self, after: Cookie, limit: usize) -> Result<Listing, Status> {
        let principal = &self.admitted.principal;
        self.share.list(principal, self.node, after, limit, self.asking.now).map_err(denied)
    }

    /// Returns a node's attributes as this user gets to see them.
    pub(crate) fn shown(&self, node: Node, attributes: &Attributes) -> nfs3::Attributes {
        let mut shown = attributes::shown(attributes, self.share.id(), &self.admitted);
        if let Node::Live { file } = node {
            self.asking.door.restores.touch(self.share.id(), file, &mut shown);
        }
        shown
    }

    /// Returns the handle of another node in the same session; `None` where it has none.
    pub(crate) fn handle(&self, node: Node) -> Option<Sealed> {
        let named = Named { share: self.share.id(), session: self.session, node };
        named.seal(|parts| self.asking.door.sessions.seal(parts))
    }
}

/// What to do about a client whose kernel does not call from its own ports, or whose router changes them.
pub(crate) const ANY_PORT_HINT: &str =
    "mount with resvport, or log in with --any-port where the network in between changes ports";

/// The number of a client's own root.
const CLIENTS_ROOT: u32 = 0;

/// The root of every drive.
pub(crate) const ROOT: Node = Node::Live { file: FileId::ROOT };

/// Returns the protocol's word for a refused session.
///
/// Never one of RPC's: there are clients that try again for ever after those. A uid that may not is told so, as others
/// of the client may go on; only what has ended for everybody is stale.
fn status_of(refusal: &SessionRefusal) -> Status {
    match refusal {
        SessionRefusal::Unknown | SessionRefusal::Revoked | SessionRefusal::Expired => {
            Status::Stale
        }
        SessionRefusal::WrongAddress
        | SessionRefusal::UserPort { .. }
        | SessionRefusal::WrongUid
        | SessionRefusal::UnboundRoot(_) => Status::Access,
        _ => Status::Access,
    }
}

/// Returns the protocol's word for what the namespace did not give.
pub(crate) fn denied(denial: Denial) -> Status {
    match denial {
        Denial::Stale => Status::Stale,
        Denial::NotFound => Status::NotFound,
        Denial::NotAllowed => Status::Access,
        Denial::NotFolder => Status::NotFolder,
        Denial::IsFolder => Status::IsFolder,
        Denial::WrongKind => Status::Invalid,
        Denial::NameTooLong => Status::NameTooLong,
        Denial::BadCookie => Status::BadCookie,
        Denial::Busy => Status::TryLater,
        Denial::ReadOnly => Status::ReadOnly,
        Denial::Store(error) => {
            tracing::error!(%error, "cannot read the store");
            Status::Io
        }
        _ => Status::ServerFault,
    }
}

/// Counts handles that were not sealed here, and says so now and then.
#[derive(Debug, Default)]
pub(crate) struct Forgeries {
    count: AtomicU64,
    quiet_until: AtomicI64,
}

impl Forgeries {
    fn note(&self, address: IpAddr, now: Stamp) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let until = self.quiet_until.load(Ordering::Relaxed);
        let next = now.plus_micros(QUIET_US).0;
        // A clock that was set back does not make it quiet for longer.
        let is_quiet = now.0 < until && until <= next;
        let exchange =
            || self.quiet_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed);
        if !is_quiet && exchange().is_ok() {
            tracing::warn!(peer = %address, count, "file handles that were never given are shown");
        }
    }
}

/// How long after a warning there is no other, in microseconds.
const QUIET_US: i64 = 60_000_000;
