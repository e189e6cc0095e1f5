//! What would change something.

use keepshare_nfs_wire::{
    Encoder,
    nfs3::{Handle, LinkArgs, LinkFailed, Status, WeakCache},
};

use super::fail;
use crate::context::Asking;

/// Refuses to change a file or a folder: the drive is read-only. All procedures that answer weak cache data of one node.
pub(super) fn change(asking: Asking<'_>, object: Handle<'_>, encoder: &mut Encoder<'_>) {
    match asking.open(object).and_then(|opened| opened.attributes()) {
        Ok(known) => {
            // Nothing is said of before: it was not looked at in one step with after.
            fail(encoder, Status::ReadOnly, &WeakCache { before: None, after: Some(known) });
        }
        Err(status) => fail(encoder, status, &WeakCache::NONE),
    }
}

/// Refuses to make a further name.
pub(super) fn link(asking: Asking<'_>, args: LinkArgs<'_>, encoder: &mut Encoder<'_>) {
    let both = || {
        let file = asking.open(args.file)?.attributes()?;
        Ok((file, asking.open(args.link.dir)?.attributes()?))
    };
    match both() {
        Ok((file, dir)) => {
            let dir = WeakCache { before: None, after: Some(dir) };
            fail(encoder, Status::ReadOnly, &LinkFailed { file: Some(file), dir });
        }
        Err(status) => {
            fail(encoder, status, &LinkFailed { file: None, dir: WeakCache::NONE });
        }
    }
}
