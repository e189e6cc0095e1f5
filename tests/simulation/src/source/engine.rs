//! Everything that decides about a folder, over the folder.

use std::collections::{BTreeMap, HashMap};

use keepshare_base::{FileId, Kind, Meta, Owner, Seq};
use keepshare_decide::{
    FileRecord, Ledger, Marks, Seed,
    agenda::Agenda,
    compose::{When, cutting::Cutting},
    memory::Memory,
    turn::{Told, Turn},
};
use keepshare_proto::cut::CutRule;
use rand::rngs::StdRng;

use super::{
    folder::{Folder, ROOT},
    survey::Looker,
};

/// A folder, and who decides about it.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) folder: Folder,
    pub(crate) map: Memory,
    pub(crate) agenda: Agenda,
    pub(crate) cutting: Cutting,
    pub(crate) marks: Marks,
}

impl Engine {
    pub(crate) fn new(folder: Folder) -> Self {
        let mut map = Memory::default();
        let root = folder.seen(ROOT);
        let meta = Meta {
            kind: Kind::Dir,
            size: 0,
            mode: root.mode,
            owner: Owner::default(),
            group: Owner::default(),
            mtime: root.signature.mtime,
            symlink: vec![],
            rdev: 0,
            xattrs: vec![],
        };
        let record = FileRecord::new(root.inode, root.signature, meta);
        let Ok(()) = map.set_record(FileId::ROOT, &record);
        Self::over(folder, map)
    }

    /// Returns one that begins with this map: nothing is known of what was to be looked at.
    fn over(folder: Folder, map: Memory) -> Self {
        let (agenda, cutting) = (Agenda::default(), Cutting::new(CutRule::default()));
        Self { folder, map, agenda, cutting, marks: Marks::default() }
    }

    /// One turn of the source's thread; returns the contents of what it journaled.
    pub(crate) fn turn(
        &mut self,
        when: When,
        random: &mut StdRng,
        haste: f64,
    ) -> Vec<(Seq, Vec<u8>)> {
        self.folder.drain(&mut self.marks);
        self.agenda.take_due(when.now);
        if std::mem::take(&mut self.marks.everything) {
            self.agenda.begin_scan();
            self.folder.was_silent = false;
        }
        let cuts = self.cutting.due(when.now);
        let Ok(()) = self.agenda.resolve(when.now, &mut self.marks, &self.map);
        let mut looker = Looker { folder: &mut self.folder, random, haste };
        let mut turn = Turn {
            ledger: &mut self.map,
            survey: &mut looker,
            agenda: &mut self.agenda,
            cutting: &mut self.cutting,
            when,
            told: Told::default(),
        };
        let Ok(()) = turn.read_folders();
        let Ok(found) = turn.look(Vec::new(), &Seed::new(), false);
        let Ok(composed) = turn.compose(found, BTreeMap::new(), cuts, HashMap::new(), |_| false);
        turn.agenda.end_scan();
        composed.again.put_on(&mut self.agenda, when.now);
        self.agenda.strangers.forget_old(when.now);
        composed.payloads.into_iter().collect()
    }

    /// The process ends and starts again: what was not durable is gone, and everything is compared.
    pub(crate) fn restart(&mut self) {
        self.folder.lose_told();
        self.marks = Marks::default();
        self.agenda = Agenda::default();
        self.cutting = Cutting::new(CutRule::default());
        self.agenda.begin_scan();
        self.folder.was_silent = false;
    }

    /// Tells whether nothing is left to do, now or later.
    pub(crate) fn rests(&self) -> bool {
        self.agenda.is_empty()
            && !self.agenda.is_busy()
            && !self.agenda.has_written()
            && !self.cutting.is_waiting()
            && self.folder.has_told_all()
    }
}

/// A copy of the folder and of what is durable.
impl Clone for Engine {
    fn clone(&self) -> Self {
        let mut copy = Self::over(self.folder.clone(), self.map.clone());
        copy.restart();
        copy
    }
}
