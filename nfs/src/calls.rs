//! The 22 procedures of NFSv3.
//!
//! Each begins with [`Asking::open`], before anything else of its arguments is looked at. What changes something is
//! refused as read-only, after the same checks.

mod listing;
mod looking;
mod refusing;
mod renaming;

use keepshare_nfs_wire::{
    Decoder, Encoder, Wire,
    nfs3::{Call, Procedure, Status},
    record::append_record,
    rpc::{Refusal, encode_accepted},
};

use crate::{buffers::Answers, context::Asking};

/// Answers a call of the NFS program: now, or, for a restore, when it is done.
pub(crate) fn answer(
    asking: Asking<'_>,
    xid: u32,
    procedure: u32,
    mut decoder: Decoder<'_>,
    answers: &mut Answers,
) -> Result<(), Refusal> {
    let procedure = Procedure::from_number(procedure).ok_or(Refusal::ProcedureUnavailable)?;
    let arguments = decoder.rest();
    let call = Call::decode(procedure, &mut decoder).map_err(|_| Refusal::GarbageArguments)?;
    if let Call::Rename(args) = call {
        let used = arguments.len() - decoder.rest().len();
        renaming::rename(asking, xid, args, &arguments[..used], answers);
        return Ok(());
    }
    let wanted = match call {
        Call::Read(args) => args.count,
        Call::ReadDir(args) => args.count,
        Call::ReadDirPlus(args) => args.max_count,
        _ => 0,
    };
    let transfer_max = answers.room_for(wanted, asking.client);
    let asking = Asking { transfer_max, ..asking };
    append_record(answers.bytes(), |encoder| {
        encode_accepted(encoder, xid);
        answer_now(asking, call, encoder);
    });
    Ok(())
}

fn answer_now(asking: Asking<'_>, call: Call<'_>, encoder: &mut Encoder<'_>) {
    match call {
        // Rename is answered elsewhere.
        Call::Null | Call::Rename(_) => {}
        Call::GetAttributes(object) => looking::attributes(asking, object, encoder),
        Call::Lookup(place) => looking::lookup(asking, place, encoder),
        Call::Access(args) => looking::access(asking, args, encoder),
        Call::ReadLink(link) => looking::read_link(asking, link, encoder),
        Call::Read(args) => looking::read(asking, args, encoder),
        Call::ReadDir(args) => listing::plain(asking, args, encoder),
        Call::ReadDirPlus(args) => listing::plus(asking, args, encoder),
        Call::FsStat(object) => looking::fs_stat(asking, object, encoder),
        Call::FsInfo(object) => looking::fs_info(asking, object, encoder),
        Call::PathConf(object) => looking::path_conf(asking, object, encoder),
        Call::SetAttributes(args) => refusing::change(asking, args.object, encoder),
        Call::Write(args) => refusing::change(asking, args.file, encoder),
        Call::Commit(args) => refusing::change(asking, args.file, encoder),
        Call::Create(args) => refusing::change(asking, args.place.dir, encoder),
        Call::MakeDir(args) => refusing::change(asking, args.place.dir, encoder),
        Call::Symlink(args) => refusing::change(asking, args.place.dir, encoder),
        Call::MakeNode(args) => refusing::change(asking, args.place.dir, encoder),
        Call::Remove(place) | Call::RemoveDir(place) => {
            refusing::change(asking, place.dir, encoder);
        }
        Call::Link(args) => refusing::link(asking, args, encoder),
    }
}

/// Appends a result that says why not, and what the client gets to know all the same.
fn fail<'a, F: Wire<'a>>(encoder: &mut Encoder<'_>, status: Status, known: &F) {
    encoder.value(&status);
    encoder.value(known);
}

/// Appends a result.
fn succeed<'a, T: Wire<'a>>(encoder: &mut Encoder<'_>, value: &T) {
    encoder.u32(0);
    encoder.value(value);
}
