//! MOUNT: a ticket becomes a session and the handle of its drive's root.

use keepshare_nfs_wire::{
    Decoder,
    mount::{MountError, Procedure, decode_path, encode_empty_list, encode_mounted},
    record::append_record,
    rpc::{Refusal, encode_accepted},
};

use crate::{
    context::{Asking, ROOT},
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
    answers: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let procedure = Procedure::from_number(procedure).ok_or(Refusal::ProcedureUnavailable)?;
    let mounted = match procedure {
        Procedure::Mount | Procedure::Unmount => {
            let path = decode_path(&mut decoder).map_err(|_| Refusal::GarbageArguments)?;
            (procedure == Procedure::Mount).then(|| mount(asking, path))
        }
        Procedure::Null | Procedure::Dump | Procedure::UnmountAll | Procedure::Export => None,
    };
    append_record(answers, |encoder| {
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

/// Exchanges the ticket of `/login/TICKET`. Every refusal looks the same from outside.
fn mount(asking: Asking<'_>, path: &[u8]) -> Result<Sealed, MountError> {
    let ticket = ticket_of(path).ok_or(MountError::Access)?;
    let door = asking.door;
    let redeemed = door.sessions.redeem(ticket, asking.client.address, asking.now);
    let (session, set) = redeemed.map_err(|refusal| {
        tracing::debug!(peer = %asking.client.address, %refusal, "a mount was refused");
        MountError::Access
    })?;
    let share = door.shares.by_set(&set).ok_or(MountError::Access)?;
    let named = Named { share: share.id(), session, node: ROOT };
    named.seal(|parts| door.sessions.seal(parts)).ok_or(MountError::ServerFault)
}

/// Returns what stands after `/login/`; clients add and drop slashes as they like.
fn ticket_of(path: &[u8]) -> Option<&[u8]> {
    let path = path.strip_prefix(b"/").unwrap_or(path).strip_prefix(b"login/")?;
    let end = path.iter().rposition(|byte| *byte != b'/')?;
    Some(&path[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_found_however_clients_write_the_path() {
        for path in ["/login/abc", "login/abc", "/login/abc/", "/login/abc//"] {
            assert_eq!(ticket_of(path.as_bytes()), Some(&b"abc"[..]), "{path}");
        }
        for path in ["", "/", "/login", "/login/", "/login//", "/Login/abc", "/other/abc"] {
            assert_eq!(ticket_of(path.as_bytes()), None, "{path}");
        }
    }
}
