//! RENAME: a version moved onto a live name is a restore, and so is a folder of a view moved to where nothing is; everything else is
//! refused.

use std::sync::Arc;

use keepshare_base::RequestId;
use keepshare_namespace::{AskedBy, Denial, Node};
use keepshare_nfs_wire::{
    nfs3::{RenameArgs, RenameChange, Status, WeakCache},
    record::append_record,
    rpc::encode_accepted,
};

use super::fail;
use crate::{
    buffers::Answers,
    context::{Asking, Opened, denied},
    registry::Holder,
    restores::{Asker, Task, answer_bytes},
};

/// RENAME. Appends an answer only where it is not a restore that has begun; that one's is sent when it is done.
pub(super) fn rename(
    asking: Asking<'_>,
    xid: u32,
    args: RenameArgs<'_>,
    arguments: &[u8],
    answers: &mut Answers,
) {
    let opened = || Ok((asking.open(args.from.dir)?, asking.open(args.to.dir)?));
    let (from, to) = match opened() {
        Ok(opened) => opened,
        Err(status) => return refuse(xid, status, None, answers),
    };
    match restore(xid, args, (&from, &to), arguments) {
        Ok(Begun::Waits) => {}
        Ok(Begun::Repeated) => answers.bytes().extend(answer_bytes(xid, &Ok(()))),
        Err(status) => refuse(xid, status, Some((&from, &to)), answers),
    }
}

/// What became of a restore that was asked for.
enum Begun {
    /// The answer is sent when it is done.
    Waits,
    /// It was done: the answer was lost.
    Repeated,
}

fn restore(
    xid: u32,
    args: RenameArgs<'_>,
    (from, to): (&Opened<'_>, &Opened<'_>),
    arguments: &[u8],
) -> Result<Begun, Status> {
    if [args.from.name, args.to.name].iter().any(|n| n.len() > keepshare_base::NAME_BYTES_MAX) {
        return Err(Status::NameTooLong);
    }
    // Two drives, or one mounted twice: never "another device", upon which clients copy and remove.
    if (from.session, from.share.id()) != (to.session, to.share.id()) {
        return Err(Status::ReadOnly);
    }
    let asking = to.asking;
    let request = request_id(to, xid, arguments);
    let principal = &to.admitted.principal;
    let (moved, onto) = ((from.node, args.from.name), (to.node, args.to.name));
    let asker = || {
        let (client, work) = (Arc::clone(asking.client), asking.client.pulse.work());
        Asker { client, xid, work }
    };
    // A folder's name is taken as soon as it begins to come back: a repeat is told from another request first.
    if asking.door.restores.joins(request, asker) {
        return Ok(Begun::Waits);
    }
    if asking.door.restores.has_brought(request, asking.now)
        && to.share.lookup(principal, to.node, args.to.name, asking.now).is_ok()
    {
        return Ok(Begun::Repeated);
    }
    let set = to.share.set();
    let restore = to.share.restore(principal, moved, onto, request, asking.now);
    let restore = restore.map_err(|denial| match denial {
        Denial::Taken => {
            tracing::info!(share = %set, session = %to.session, "a folder of a view was moved onto a name that is taken, and nothing was done: keepshare rollback brings a folder back in its place");
            Status::ReadOnly
        }
        denial => denied(denial),
    })?;
    if restore.folder_at.is_some() && to.admitted.is_host {
        tracing::info!(share = %set, session = %to.session, "a folder of a view was moved by a machine that says who its users are, and nothing was done: users bring folders back with a login of their own");
        return Err(Status::ReadOnly);
    }
    let Node::Live { file: folder } = to.node else { return Err(Status::ReadOnly) };
    let from = asking.client.peer.ip();
    let task = Task {
        holder: Holder::of(to.session, &to.admitted, from),
        by: AskedBy { session: to.session, address: from },
        share: to.share.clone(),
        principal: principal.clone(),
        folder,
        restore,
    };
    asking.door.restores.begin(task, asker()).map(|()| Begun::Waits)
}

/// Names the request: what one client sends twice, because an answer was lost, is one. The user is part of it, as a host
/// session has many, on several machines.
fn request_id(opened: &Opened<'_>, xid: u32, arguments: &[u8]) -> RequestId {
    let mut hasher = blake3::Hasher::new_derive_key("keepshare NFS rename v1");
    hasher.update(&opened.session.0.to_le_bytes()).update(&xid.to_le_bytes());
    let user = opened.admitted.principal.user.as_bytes();
    hasher.update(&(user.len() as u64).to_le_bytes()).update(user).update(arguments);
    RequestId(*hasher.finalize().as_bytes())
}

fn refuse(
    xid: u32,
    status: Status,
    opened: Option<(&Opened<'_>, &Opened<'_>)>,
    answers: &mut Answers,
) {
    let after = |opened: &Opened<'_>| WeakCache { before: None, after: opened.known() };
    let known = match opened {
        Some((from, to)) => RenameChange { from: after(from), to: after(to) },
        None => RenameChange { from: WeakCache::NONE, to: WeakCache::NONE },
    };
    append_record(answers.bytes(), |encoder| {
        encode_accepted(encoder, xid);
        fail(encoder, status, &known);
    });
}
