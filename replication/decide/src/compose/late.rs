//! What came too late to be a version under its name: it is journaled as a file of its own that held the name for a moment.
//!
//! The live name stands for what was restored by now, and goes on to. So the late content is found under the name that it was
//! saved under, among the versions before and after it, and what stands there now is not sent again.

use keepshare_base::{FileId, Kind, Meta, Name, NameRow};

use super::{Composer, Done};
use crate::{Known, Ledger, Touch};

/// A folder, a name in it and what stands there.
type Standing = (FileId, Name, Option<(FileId, Kind)>);

impl Composer<'_> {
    /// Journals what a restore replaced at a place as a version of a file that is known to nobody else; `late` is a name that
    /// nothing has, for where that place is none any more. Nobody knows who might get to what is `is_stray`.
    pub fn journal_replaced<L: Ledger>(
        &mut self,
        ledger: &mut L,
        file: FileId,
        done: Done,
        place: &(FileId, Name),
        is_stray: bool,
        late: &Name,
    ) -> Result<(), L::Error> {
        let closed = Touch { closed: true, ..Touch::default() };
        let mut row = self.finish(ledger, file, done, closed)?;
        let (parent, name, now) = free_place(ledger, place, late)?;
        if is_stray || parent != place.0 {
            row.iter_mut().for_each(|row| narrow(&mut row.row.meta));
        }
        let name_row = |target| NameRow { parent, name: name.clone(), target };
        let held = vec![name_row(Some((file, Kind::File)))];
        self.journal(ledger, held, row.into_iter().collect(), Vec::new())?;
        self.journal(ledger, vec![name_row(now)], Vec::new(), Vec::new())
    }
}

/// Leaves only the owner's rights to a file whose folder is not known any more: that may have been closed to all others.
fn narrow(meta: &mut Meta) {
    meta.mode &= 0o600;
    meta.xattrs.retain(|(name, _)| !name.starts_with(b"system.posix_acl_"));
}

/// Returns a place for a version that is late, and what stands there: where it was saved, unless its folder is gone or a
/// folder has taken its name, which is not moved away for it.
fn free_place<K: Known>(
    known: &K,
    (parent, name): &(FileId, Name),
    late: &Name,
) -> Result<Standing, K::Error> {
    let folder = known.record(*parent)?.filter(|record| record.meta.kind == Kind::Dir);
    let now = known.lookup(*parent, name)?;
    Ok(match (folder, now) {
        (Some(_), now) if now.is_none_or(|(_, kind)| kind != Kind::Dir) => {
            (*parent, name.clone(), now)
        }
        (folder, _) => {
            let parent = folder.map_or(FileId::ROOT, |_| *parent);
            (parent, late.clone(), None)
        }
    })
}
