//! What restores replaced: it stays in the private folder until nobody can write to it any more, is looked at again, and
//! becomes a version where it is other than what was captured; then it goes. What is due is decided in
//! [`keepshare_decide::restores`].

use std::{os::fd::AsFd, sync::Arc, thread};

use keepshare_base::{FileId, Kind, Name, RequestId, Seq, SetPath, unescape_name};
use keepshare_decide::{
    Inode,
    restores::{self, Due, Times, Version, Writers},
};

use super::{Worker, placing, restore::beside};
use crate::{
    clock::mono,
    lease::{Lease, NoLease},
    source::{
        PROBLEMS_MAX, SourceError,
        aside::{Aside, Exchanged, Note},
        folders::Folders,
        keeping::{Keeping, late_name},
        shared::{Request, lock},
        tree::Tree,
        writing::{LookedAgain, Settled},
    },
};

/// So many are read, journaled, or waited for by everybody at a time.
const UNDER_WAY_MAX: usize = 64;

/// A file in the private folder.
#[derive(Debug)]
pub(super) struct Replaced {
    /// Its name there.
    name: String,
    note: Note,
    request: Option<RequestId>,
    /// What is decided about it.
    watch: restores::Replaced,
    /// What is being journaled of it.
    keeping: Option<Settled>,
    /// Its last look, which a thread takes: the answer to any other is of no use.
    look: Arc<()>,
}

impl Worker {
    /// Opens the private folder, making it where it is not there.
    pub(super) fn open_aside(&mut self) -> Result<(), SourceError> {
        if self.aside.as_ref().is_some_and(|aside| !aside.is_removed()) {
            return Ok(());
        }
        let Some(attached) = &self.attached else {
            return Err(SourceError::Vanished("the folder is not there".to_owned()));
        };
        let tree = attached.tree.clone();
        // Whoever may write to the source may remove it while it is empty.
        self.aside = None;
        let failed = |source| SourceError::Io {
            what: "cannot make a private folder in the source".to_owned(),
            source,
        };
        let aside = Aside::make(&tree).map_err(failed)?;
        tree.hide(Some(aside.inode()));
        if let Err(error) = self.ledger.set_home(Some(aside.home())) {
            aside.remove();
            tree.hide(None);
            return Err(error);
        }
        self.aside = Some(aside);
        Ok(())
    }

    /// Takes over what a process before this one left in the private folder, and in others.
    pub(super) fn find_aside(&mut self, tree: &Arc<Tree>) -> Result<(), SourceError> {
        self.clear_former(tree)?;
        let home = self.ledger.home()?;
        let notes = self.ledger.notes()?;
        let notes = self.find_torn(tree, notes)?;
        let failed = |source| SourceError::Io {
            what: "cannot open the private folder in the source".to_owned(),
            source,
        };
        let Some(aside) = Aside::find(tree, home.as_ref()).map_err(failed)? else { return Ok(()) };
        tree.hide(Some(aside.inode()));
        if home.as_ref() != Some(aside.home()) {
            self.ledger.set_home(Some(aside.home()))?;
        }
        let names = aside.names().map_err(failed)?;
        for name in names.iter().filter(|name| notes.iter().all(|(noted, _)| noted != *name)) {
            // Whoever noted it lost its journal: nobody knows what it was called.
            let known = Name::new(name.as_bytes()).map_err(|_| SourceError::Damaged("a note"))?;
            let path = SetPath::from(vec![known.clone()]);
            let place = (FileId::ROOT, known);
            let note = Note { place, path, kept: None, restored: Some(Inode::default()) };
            self.ledger.set_note(name, &note)?;
            self.add_replaced(name.clone(), note, None);
        }
        for (name, note) in notes {
            match note.restored {
                // It was being written, or it lies there because it was not exchanged yet.
                None => self.discard_in(&aside, name),
                Some(restored) => match aside.look(&name).map_err(failed)? {
                    None => self.discard_in(&aside, name),
                    Some(seen) if seen.inode == restored => self.discard_in(&aside, name),
                    Some(seen) if note.is_of_removal() => {
                        let is_it = note.kept.is_some_and(|kept| kept.inode == seen.inode);
                        if is_it && seen.kind != Kind::File {
                            self.discard_in(&aside, name);
                        } else {
                            self.add_replaced(name, note, None);
                        }
                    }
                    Some(_) => {
                        if let Some(kept) = &note.kept {
                            placing::rebind_after_crash(self, kept, restored)?;
                        }
                        self.add_replaced(name, note, None);
                    }
                },
            }
        }
        self.aside = Some(aside);
        Ok(())
    }

    /// Removes what builds before this one left in folders, and forgets what is gone.
    fn clear_former(&mut self, tree: &Tree) -> Result<(), SourceError> {
        for (folder, name) in self.ledger.former()? {
            let open = self.ledger.write(|tx| Folders::default().open(&tx.map, tree, folder))?;
            let Some(open) = open else { continue };
            let _ = rustix::fs::unlinkat(open.as_fd(), name.as_str(), rustix::fs::AtFlags::empty());
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            let now = rustix::fs::statat(open.as_fd(), name.as_str(), flags);
            if now.is_err_and(|error| error == rustix::io::Errno::NOENT) {
                self.ledger.forget_former(folder, &name)?;
            }
        }
        Ok(())
    }

    /// Watches over a file that was replaced.
    pub(super) fn add_replaced(&mut self, name: String, note: Note, request: Option<RequestId>) {
        let watch = restores::Replaced::new(mono(), note.kept);
        self.replaced.push(Replaced {
            name,
            note,
            request,
            watch,
            keeping: None,
            look: Arc::default(),
        });
        self.look_at_replaced();
    }

    /// Removes a file of ours from the private folder, now or later.
    pub(super) fn discard(&mut self, name: String) {
        if let Some(aside) = self.aside.take() {
            self.discard_in(&aside, name);
            self.aside = Some(aside);
        }
    }

    fn discard_in(&mut self, aside: &Aside, name: String) {
        if aside.discard(&name) {
            self.gone.names.push(name);
            return;
        }
        let place = (FileId::ROOT, Name::new(b"-").expect("a dash is a name"));
        let note = Note { place, path: SetPath::default(), kept: None, restored: None };
        self.add_replaced(name, note, None);
        if let Some(replaced) = self.replaced.last_mut() {
            replaced.watch.give_up();
            replaced.watch.failed(mono());
        }
    }

    /// Tells whether what a restore replaced is open by a writer.
    pub(super) fn is_still_open(&self, id: RequestId) -> bool {
        self.replaced
            .iter()
            .any(|replaced| replaced.request == Some(id) && replaced.watch.is_open())
    }

    /// Returns how many files that were replaced are being read or journaled.
    pub(super) fn unread_replaced(&self) -> usize {
        self.replaced.iter().filter(|replaced| replaced.watch.is_unread()).count()
    }

    /// Does what is due about the files that were replaced.
    pub(super) fn look_at_replaced(&mut self) {
        let Some(aside) = self.aside.take() else { return };
        let acked = self.shared.acked_by_all();
        let under_way = |replaced: &&Replaced| replaced.watch.is_under_way();
        let mut under_way = self.replaced.iter().filter(under_way).count();
        for mut replaced in std::mem::take(&mut self.replaced) {
            if let Some(acked) = acked {
                replaced.watch.acked(acked);
            }
            let was_under_way = replaced.watch.is_under_way();
            if self.look_at_one(&aside, &mut replaced, under_way < UNDER_WAY_MAX) {
                under_way += usize::from(!was_under_way && replaced.watch.is_under_way());
                self.replaced.push(replaced);
            }
        }
        self.aside = Some(aside);
        self.show_replaced();
    }

    /// Looks at one file; tells whether it is still to be watched.
    fn look_at_one(&mut self, aside: &Aside, replaced: &mut Replaced, has_room: bool) -> bool {
        match replaced.watch.due(mono(), has_room, |owed| self.is_safe(owed)) {
            Due::Nothing => true,
            Due::Look => {
                if let Err(error) = self.try_to_read(aside, replaced) {
                    tracing::warn!(%error, "cannot look at what a restore replaced");
                    replaced.watch.failed(mono());
                }
                true
            }
            Due::Remove => {
                // A long file is given back to the file system by whoever closes it last.
                let open = aside.open(&replaced.name);
                let is_gone = aside.discard(&replaced.name);
                let _ = thread::Builder::new().spawn(move || drop(open));
                if is_gone {
                    self.gone.names.push(replaced.name.clone());
                }
                !is_gone
            }
        }
    }

    /// Has a file read again where nobody can write to it any more, or where it was written to for long.
    fn try_to_read(&mut self, aside: &Aside, replaced: &mut Replaced) -> std::io::Result<()> {
        let times = self.shared.config.restores;
        let times = Times { rest: times.rest, look_every: times.look_every };
        match aside.look(&replaced.name)? {
            None => {
                replaced.watch.give_up();
                return Ok(());
            }
            Some(seen) if seen.kind != Kind::File => return self.try_to_put_back(aside, replaced),
            Some(_) => {}
        }
        let file = aside.open(&replaced.name)?;
        let now = crate::source::tree::look_at(file.as_fd())?;
        let (settled, writers) = match Lease::read(file) {
            Ok(lease) => (Settled::Leased(lease), Writers::Nobody),
            Err(none) => {
                let writers = match none {
                    NoLease::Open => Writers::Somebody,
                    NoLease::Unknown(_) => Writers::Unknown,
                };
                (Settled::Seen(aside.open(&replaced.name)?, now.signature), writers)
            }
        };
        let Some(hash) = replaced.watch.seen(mono(), &now, writers, &times) else { return Ok(()) };
        replaced.look = Arc::default();
        let (name, ticket) = (replaced.name.clone(), replaced.look.clone());
        let look = move || Request::Looked(LookedAgain::look(name, ticket, settled, hash));
        beside(&self.shared, look).map_err(|error| std::io::Error::other(error.to_string()))
    }

    /// Puts something that is no file back where it was: an exchange was cut off before that could be done.
    fn try_to_put_back(&mut self, aside: &Aside, replaced: &mut Replaced) -> std::io::Result<()> {
        let Some(attached) = &self.attached else { return Ok(()) };
        let (tree, (parent, name)) = (attached.tree.clone(), &replaced.note.place);
        let open = self.ledger.write(|tx| Folders::default().open(&tx.map, &tree, *parent));
        let folder = open.ok().flatten().ok_or(std::io::ErrorKind::NotFound)?;
        if replaced.note.is_of_removal() {
            let name = put_beside(aside, &replaced.name, folder.as_fd(), name)?;
            self.pending.agenda.add_name(*parent, name, Default::default());
            replaced.watch.give_up();
            return Ok(());
        }
        if !placing::put_back(aside, &replaced.name, folder.as_fd(), &unescape_name(name)) {
            return Err(std::io::ErrorKind::AlreadyExists.into());
        }
        self.pending.agenda.add_name(*parent, name.clone(), Default::default());
        match aside.look(&replaced.name)? {
            Some(out) if Some(out.inode) == replaced.note.restored => {
                replaced.watch.give_up();
            }
            // Whoever put it there made it: it becomes a version.
            _ => replaced.watch.is_unknown(),
        }
        Ok(())
    }

    /// Takes what another look at a file told.
    pub(super) fn looked_again(&mut self, looked: LookedAgain) {
        let LookedAgain { aside, ticket, file, differs } = looked;
        let is_it = |replaced: &&mut Replaced| Arc::ptr_eq(&replaced.look, &ticket);
        let Some(replaced) = self.replaced.iter_mut().find(is_it) else {
            return;
        };
        let state = match &file {
            Settled::Leased(_) => None,
            Settled::Seen(_, signature) => Some(*signature),
        };
        if let Err(error) = &differs {
            tracing::warn!(%error, "cannot read what a restore replaced");
        }
        if replaced.watch.looked(mono(), differs.ok(), file.is_settled(), state) {
            match file.fd().try_clone_to_owned() {
                Ok(open) => {
                    // Nobody knows what rights there were on the way to it, where nobody knows where it was.
                    let is_stray = replaced.note.restored == Some(Inode::default());
                    let place = replaced.note.place.clone();
                    self.pending.keeping.push_back(Keeping::new(aside, open, place, is_stray));
                    replaced.keeping = Some(file);
                }
                Err(_) => replaced.watch.failed(mono()),
            }
        }
        self.look_at_replaced();
    }

    /// Hears that a file that was replaced is a version now, or why not.
    pub(super) fn kept_replaced(&mut self, aside: &str, kept: Result<Version, String>) {
        let Some(replaced) = self.replaced.iter_mut().find(|replaced| replaced.name == aside)
        else {
            return;
        };
        let is_settled = replaced.keeping.take().is_some_and(|file| file.is_settled());
        if let Err(reason) = &kept {
            tracing::warn!(reason, "cannot keep what a restore replaced");
        }
        replaced.watch.journaled(mono(), kept.ok(), is_settled);
    }

    /// Hears that the content of these files cannot be given any more: what is still here is journaled anew.
    pub(super) fn keep_again(&mut self, files: &[(FileId, Seq)]) {
        self.replaced.iter_mut().for_each(|replaced| replaced.watch.forget(files));
    }

    /// Hears that a new epoch began: what was journaled before, and not everybody has, is in no journal any more.
    pub(super) fn keep_all_again(&mut self) {
        self.keep_anew(|_| true);
    }

    /// Hears that a mirror begins: it shows what is there now, and leads past what was journaled before.
    pub(super) fn keep_behind_mirror(&mut self) {
        let acked = self.shared.acked_by_all();
        self.keep_anew(|seq| acked.is_none_or(|acked| seq > acked));
    }

    fn keep_anew(&mut self, is_passed: impl Fn(Seq) -> bool) {
        self.pending.keeping.iter_mut().for_each(Keeping::begin_anew);
        self.replaced.iter_mut().for_each(|replaced| replaced.watch.pass(&is_passed));
    }

    /// Has the spool written to disk where the only other copy of something in it is about to go.
    pub(super) fn sync_spool(&self) {
        let Some(acked) = self.shared.acked_by_all() else { return };
        let owed = self.replaced.iter().flat_map(|replaced| replaced.watch.kept());
        let owed = owed.flat_map(|(_, changes)| changes);
        let owed = owed.copied().filter(|seq| *seq > acked);
        let Some(sync) = lock(&self.shared.payloads).begin_sync(owed) else { return };
        let shared = self.shared.clone();
        let work = move || {
            let done = sync.run();
            lock(&shared.payloads).end_sync(&sync, done);
        };
        if let Err(error) = thread::Builder::new().name("spool-sync".to_owned()).spawn(work) {
            tracing::warn!(%error, "cannot start a thread");
            lock(&self.shared.payloads).give_sync_up();
        }
    }

    /// Tells whether the content of these changes survives without the file: every station has it, or it is spooled, on disk
    /// and noted there.
    fn is_safe(&self, owed: &[(FileId, Vec<Seq>)]) -> bool {
        let mut changes = owed.iter().flat_map(|(_, changes)| changes);
        // Where no station is known yet, the first is mirrored, and has nothing of what was journaled before.
        let Some(acked) = self.shared.acked_by_all() else { return changes.next().is_none() };
        let payloads = lock(&self.shared.payloads);
        changes.all(|seq| *seq <= acked || payloads.is_safe(*seq))
    }

    /// Shows which files are still open.
    fn show_replaced(&self) {
        let open = self.replaced.iter().filter(|replaced| replaced.watch.is_open());
        let open = open.map(|replaced| replaced.note.path.to_string()).take(PROBLEMS_MAX);
        lock(&self.shared.status).still_open = open.collect();
    }
}

/// Puts something that is no file, and was removed by mistake, back where it was; under a name of its own where another has that by
/// now, which is nobody's to replace. Returns its name.
fn put_beside(
    aside: &Aside,
    temporary: &str,
    folder: std::os::fd::BorrowedFd<'_>,
    name: &Name,
) -> std::io::Result<Name> {
    for name in [name.clone(), late_name(name)?] {
        match aside.place(temporary, folder, &unescape_name(&name)) {
            Exchanged::Done => return Ok(name),
            Exchanged::Moved => {}
            Exchanged::Impossible(error) | Exchanged::Failed(error) => return Err(error),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}
