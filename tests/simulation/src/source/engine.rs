//! Everything that decides about a folder, over the folder.

use std::collections::{BTreeMap, HashMap};

use keepshare_base::{Change, Content, Event, FileId, FileRow, Kind, Meta, Name, Owner, Seq};
use keepshare_decide::{
    FileRecord, Inode, Known, Ledger, Marks, Seed, Signature,
    agenda::{Agenda, NameTask},
    compose::{Composed, Composer, Done, RestoreNote, Row, When, cutting::Cutting},
    memory::Memory,
    restores::Version,
    turn::{Told, Turn},
};
use keepshare_proto::cut::CutRule;
use rand::rngs::StdRng;

use super::{
    folder::{Folder, ROOT},
    survey::{Looker, hash_of, meta},
};

/// A folder, and who decides about it.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) folder: Folder,
    pub(crate) map: Memory,
    pub(crate) agenda: Agenda,
    pub(crate) cutting: Cutting,
    pub(crate) marks: Marks,
    /// The first scan, which reads nothing, has not ended.
    pub(crate) is_silent: bool,
    /// The folder was seen not to be there.
    is_gone: bool,
    /// How often it began anew.
    pub(crate) starts: u64,
    /// Restores whose changes are to be journaled.
    pub(crate) restores: HashMap<FileId, RestoreNote>,
    /// What restores replaced and is to be journaled, and where it was.
    pub(crate) late: BTreeMap<u64, (FileId, Name)>,
    /// And as what it was.
    pub(crate) kept: BTreeMap<u64, Version>,
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
        Self {
            folder,
            map,
            agenda,
            cutting,
            marks: Marks::default(),
            is_silent: false,
            is_gone: false,
            starts: 0,
            restores: HashMap::new(),
            late: BTreeMap::new(),
            kept: BTreeMap::new(),
        }
    }

    /// One turn of the source's thread; returns the contents of what it journaled. Nothing of it happens where the folder was
    /// not there at its end: once it is again, everything is compared.
    pub(crate) fn turn(
        &mut self,
        when: When,
        random: &mut StdRng,
        haste: f64,
    ) -> Vec<(Seq, Vec<u8>)> {
        if self.is_gone {
            if !self.folder.is_away {
                self.restart();
            }
            return Vec::new();
        }
        let before = self.map.without_journal();
        let journaled = self.map.journal.len();
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
            in_itself: false,
        };
        let mut composed = Composed::default();
        let mut kept = BTreeMap::new();
        for (number, place) in std::mem::take(&mut self.late) {
            if let Some((version, journaled)) = keep(&mut turn, number, &place) {
                kept.insert(number, version);
                composed.append(journaled);
            }
        }
        let Ok(()) = turn.read_folders();
        let Ok(found) = turn.look(Vec::new(), &Seed::new(), self.is_silent);
        if self.is_silent {
            let Ok(again) = turn.learn(&found);
            composed.again = again;
        } else {
            found.lost.iter().for_each(|(file, _)| drop(self.restores.remove(file)));
            let restores = self.restores.clone();
            let Ok(more) = turn.compose(found, BTreeMap::new(), cuts, restores, |_| false);
            composed.append(more);
        }
        // Restored under a new name, and gone before anybody looked.
        self.restores.retain(|file, note| {
            let (parent, name) = &note.place;
            let mut looked = turn.told.looked.iter();
            let was_looked_at = looked.any(|(at, it)| at == parent && it.as_ref() == Some(name));
            let Ok(links) = turn.ledger.links(*file, 1);
            let is_gone = was_looked_at && links.is_empty();
            if is_gone {
                let Ok(()) = turn.ledger.remove_file(*file);
            }
            !is_gone
        });
        match turn.end() {
            Ok(true) if std::mem::take(&mut self.is_silent) => {
                let change = Change { stamp: when.stamp, ..Change::default() };
                let Ok(_) = self.map.append(&change);
                self.map.set_base(when.stamp);
            }
            Ok(_) => {}
            Err(_) => {
                let mut journal = std::mem::take(&mut self.map.journal);
                journal.truncate(journaled);
                self.map = before;
                self.map.journal = journal;
                self.is_gone = true;
                return Vec::new();
            }
        }
        assert!(
            !self.folder.is_away || self.map.journal.len() == journaled,
            "something was journaled of a folder that is not there"
        );
        for (row, _) in &composed.restored {
            self.restores.retain(|_, note| note.row.request != row.request);
        }
        self.kept.append(&mut kept);
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
        self.is_gone = false;
        self.starts += 1;
        self.restores.clear();
        self.late.clear();
        self.kept.clear();
        self.agenda.begin_scan();
        self.folder.was_silent = false;
    }

    /// Something is mounted or unmounted, which is noticed by the table of mounts.
    pub(crate) fn mount(&mut self, random: &mut StdRng) {
        let Some((folder, name)) = self.folder.mount(random) else { return };
        self.look_at_mount(folder, &name);
    }

    /// Everything is unmounted.
    pub(crate) fn unmount_all(&mut self) {
        for (folder, name) in std::mem::take(&mut self.folder.mounted) {
            self.look_at_mount(folder, &name);
        }
    }

    fn look_at_mount(&mut self, folder: u64, name: &str) {
        let Ok(parent) = self.map.by_number(folder);
        let name = Name::new(name.as_bytes()).expect("a name");
        let task = NameTask { scan: true, ..NameTask::default() };
        match parent {
            Some(parent) => self.agenda.add_name(parent, name, task),
            None => self.agenda.begin_scan(),
        }
    }

    /// Tells whether the folder was seen not to be there.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Tells whether nothing is left to do, now or later.
    pub(crate) fn rests(&self) -> bool {
        !self.is_gone
            && self.agenda.is_empty()
            && self.late.is_empty()
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
        (copy.is_silent, copy.starts) = (self.is_silent, self.starts);
        copy.restart();
        copy
    }
}

/// Journals what a restore replaced as a version; `None`: it is not there.
fn keep(
    turn: &mut Turn<'_, Memory, Looker<'_>>,
    number: u64,
    place: &(FileId, Name),
) -> Option<(Version, Composed)> {
    let thing = turn.survey.folder.things.get(&number)?;
    let (seen, payload) = (turn.survey.folder.seen(number), thing.content.clone().into_bytes());
    let attributes = meta(&seen);
    let Ok(file) = turn.ledger.new_file();
    let record = FileRecord::new(Inode::default(), Signature::default(), attributes.clone());
    let Ok(()) = turn.ledger.set_record(file, &record);
    let hash = hash_of(&payload);
    let row = FileRow {
        file,
        event: Event::Created,
        meta: attributes,
        content: Content::whole(&payload),
        hash,
        cut: false,
        fuzzy: false,
    };
    let done = Done { row: Row { row, payload }, seen, blocks: true, changed: true };
    let mut composer = Composer::new(turn.when, turn.cutting, HashMap::new());
    let late = Name::new(format!("{}~{number}", place.1).as_bytes()).expect("a name");
    let Ok(()) = composer.journal_replaced(turn.ledger, file, done, place, false, &late);
    let Ok(()) = turn.ledger.remove_file(file);
    let changes = composer.journaled().iter().map(|(seq, _)| *seq).collect();
    let Ok(composed) = composer.end(turn.ledger);
    let signature = seen.signature;
    Some((Version { file, signature, hash, is_whole: true, changes }, composed))
}
