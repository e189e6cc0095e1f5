//! MOUNT: a ticket becomes a session and the handle of its drive's root; a machine that is trusted names the set.

use keepshare_auth::{SessionId, SessionRefusal, TicketRefusal};
use keepshare_base::{Kind, SetName};
use keepshare_namespace::{Denial, Node, Share};
use keepshare_nfs_wire::{
    Decoder,
    mount::{MountError, Procedure, decode_path, encode_empty_list, encode_mounted},
    record::append_record,
    rpc::{Refusal, encode_accepted},
};

use crate::{
    buffers::Answers,
    context::{ANY_PORT_HINT, Asking, ROOT},
    handle::{Named, Sealed},
};

/// Answers a call of the MOUNT program.
///
/// Nothing is told of who has mounted or of what there is to mount: paths hold tickets.
pub(crate) fn answer(
    asking: Asking<'_>,
    xid: u32,
    procedure: u32,
    mut decoder: Decoder<'_>,
    answers: &mut Answers,
) -> Result<(), Refusal> {
    let procedure = Procedure::from_number(procedure).ok_or(Refusal::ProcedureUnavailable)?;
    let mounted = match procedure {
        Procedure::Mount | Procedure::Unmount => {
            let path = decode_path(&mut decoder).map_err(|_| Refusal::GarbageArguments)?;
            (procedure == Procedure::Mount).then(|| mount(asking, path))
        }
        Procedure::Null | Procedure::Dump | Procedure::UnmountAll | Procedure::Export => None,
    };
    append_record(answers.bytes(), |encoder| {
        encode_accepted(encoder, xid);
        match (procedure, &mounted) {
            (_, Some(mounted)) => {
                encode_mounted(encoder, mounted.as_ref().map(Sealed::wire).map_err(|e| *e));
            }
            (Procedure::Dump | Procedure::Export, None) => encode_empty_list(encoder),
            _ => {}
        }
    });
    Ok(())
}

/// Finds the session that a path begins with and goes down the rest of it. Every refusal of a session looks the same
/// from outside.
fn mount(asking: Asking<'_>, path: &[u8]) -> Result<Sealed, MountError> {
    let door = asking.door;
    let (session, set, below) = enter(asking, path).ok_or(MountError::Access)?;
    let share = door.shares.by_set(&set).ok_or(MountError::Access)?;
    let node = match below.is_empty() {
        true => ROOT,
        false => walk(asking, session, &share, below)?,
    };
    let named = Named { share: share.id(), session, node };
    named.seal(|parts| door.sessions.seal(parts)).ok_or(MountError::ServerFault)
}

/// Exchanges the ticket of `/login/TICKET`, or finds the host session of `/SET`; returns what stands after it too.
fn enter<'p>(asking: Asking<'_>, path: &'p [u8]) -> Option<(SessionId, SetName, &'p [u8])> {
    let (sessions, peer) = (&asking.door.sessions, asking.client.peer);
    let Some((ticket, below)) = split(path) else {
        let (set, below) = split_set(path)?;
        let session = sessions.host_for(peer, &set, asking.now)?;
        return Some((session, set, below));
    };
    match sessions.redeem(ticket, peer, asking.now) {
        Ok((session, set)) => Some((session, set, below)),
        Err(refusal) => {
            match &refusal {
                TicketRefusal::UserPort { is_first: true } => {
                    tracing::warn!(%peer, hint = ANY_PORT_HINT, "a mount was refused: {refusal}");
                }
                _ => tracing::debug!(%peer, %refusal, "a mount was refused"),
            }
            None
        }
    }
}

/// Finds the folder at a path below the root, in the user's name: mounting it shows nothing that looking it up would not.
fn walk(
    asking: Asking<'_>,
    session: SessionId,
    share: &Share,
    path: &[u8],
) -> Result<Node, MountError> {
    // It is the client's root who mounts.
    let (Ok(admitted) | Err(SessionRefusal::UnboundRoot(admitted))) = asking.admitted(session)
    else {
        return Err(MountError::Access);
    };
    let mut node = ROOT;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let found = share.lookup(&admitted.principal, node, name, asking.now);
        let found = found.map_err(|denial| match denial {
            Denial::NotFound | Denial::Stale => MountError::NotFound,
            Denial::NotFolder => MountError::NotFolder,
            Denial::NameTooLong => MountError::NameTooLong,
            Denial::Store(_) => MountError::Io,
            _ => MountError::Access,
        })?;
        if found.attributes.kind != Kind::Dir {
            return Err(MountError::NotFolder);
        }
        node = found.node;
    }
    Ok(node)
}

/// Returns the ticket of `/login/TICKET` and what stands after it; clients add and drop slashes as they like.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let path = path.strip_prefix(b"/").unwrap_or(path).strip_prefix(b"login/")?;
    let (ticket, below) = first_of(path);
    (!ticket.is_empty()).then_some((ticket, below))
}

/// Returns the set of `/SET` and what stands after it.
fn split_set(path: &[u8]) -> Option<(SetName, &[u8])> {
    let (set, below) = first_of(path.strip_prefix(b"/").unwrap_or(path));
    Some((std::str::from_utf8(set).ok()?.parse().ok()?, below))
}

/// Returns what stands before the first slash, and what after all that follow it.
fn first_of(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
    let (first, below) = path.split_at(end);
    let start = below.iter().position(|byte| *byte != b'/').unwrap_or(below.len());
    (first, &below[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_found_however_clients_write_the_path() {
        for path in ["/login/abc", "login/abc", "/login/abc/", "/login/abc//"] {
            assert_eq!(split(path.as_bytes()), Some((&b"abc"[..], &b""[..])), "{path}");
        }
        let below = Some((&b"abc"[..], &b"Sales/@versions"[..]));
        assert_eq!(split(b"/login/abc//Sales/@versions"), below);
        for path in ["", "/", "/login", "/login/", "/login//", "/Login/abc", "/other/abc"] {
            assert_eq!(split(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn sets_are_found_like_tickets() {
        let office: SetName = "office".parse().unwrap();
        for (path, below) in [("/office", ""), ("office", ""), ("/office//Sales/a", "Sales/a")] {
            let found = Some((office.clone(), below.as_bytes()));
            assert_eq!(split_set(path.as_bytes()), found, "{path}");
        }
        for path in [&b""[..], b"/", b"//office", b"/../office", b"/Office", b"/\xff"] {
            assert_eq!(split_set(path), None, "{path:?}");
        }
    }
}
