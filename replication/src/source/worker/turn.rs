//! One turn: one transaction's worth of looking and shipping.

use std::{
    collections::{BTreeMap, HashSet},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use keepshare_base::{Change, FileId, Kind, Name, Seq};

use super::{
    Attached, Later, Worker,
    noted::{NotedFile, noted, unusable_reason},
    now,
};
use crate::{
    capture::Touch,
    source::{
        FileProblem, SourceAlarm, SourceError,
        cutting::Cutting,
        folders::Folders,
        keeping::{Kept, Version},
        ledger::Tx,
        map::{FileRecord, Signature},
        owners::Owners,
        pass::Regions,
        pending::Pending,
        problems::ProblemAt,
        round::{FileTask, Findings, NameTask, Round, SeenFile},
        shared::{Phase, lock},
        ship::{Composed, Composer, STEPLESS_BYTES_MAX},
        transfer::{Row, Step, Transfer},
        tree::{self, Seen},
    },
};

/// The most names and files looked at in one turn.
const TASKS_PER_TURN: usize = 1024;

/// The most folders gone through in one turn, which ends when there are names enough for it.
const WALKS_PER_TURN: usize = 256;

/// The most content of a big file read in one turn.
const STEP_BYTES: u64 = 8 << 20;

/// Reading a big file keeps what is saved meanwhile waiting for no longer than this and one part more.
const STEP_MAX: Duration = Duration::from_millis(25);

/// So many big files are read at a time.
const TRANSFERS_MAX: usize = 64;

/// The most recently written files that are looked at again and again.
const RECENT_MAX: usize = 4096;

/// A scan is made durable once in so many turns.
const DURABLE_TURNS: u64 = 64;

/// When a name that is gone is looked at again, before its file is given up.
const SECOND_LOOK: Duration = Duration::from_millis(4);

/// When a file is compared again whose times may hide a change.
const RACY_LOOK: Duration = Duration::from_millis(12);

/// When a name whose folder could not be opened is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// What a turn works with.
struct Turn<'a, 't> {
    tx: &'a mut Tx<'t>,
    pending: &'a mut Pending,
    attached: &'a mut Attached,
    owners: &'a mut Owners,
    cutting: &'a mut Cutting,
    left: Left,
}

/// The last rows of big files, and the names that waited for them.
type Finished = (BTreeMap<FileId, Row>, Vec<(FileId, Name)>);

/// What a turn leaves to be done when it is durable.
#[derive(Default)]
struct Left {
    shipped: Composed,
    again: Vec<(FileId, Name, NameTask)>,
    walks: Vec<(FileId, bool)>,
    walks_later: Vec<(FileId, bool)>,
    looked: Vec<ProblemAt>,
    problems: Vec<(ProblemAt, FileProblem)>,
    /// Names that are replicated, but for something of them.
    partial: Vec<(ProblemAt, FileProblem)>,
    /// Folders that were looked at.
    folders: Vec<FileId>,
    /// Files that are gone.
    lost: Vec<FileId>,
    /// Files that may be written to without an event.
    noted: Vec<NotedFile>,
    /// Files that have more names than the source knows.
    linked: Vec<FileId>,
    scan_ended: bool,
    /// What restores replaced and is a version now, or cannot be one.
    kept: Vec<(String, Result<Version, String>)>,
}

impl Worker {
    /// Takes one turn, which also makes the present states of `cuts` versions.
    pub(super) fn turn(&mut self, cuts: Vec<FileId>) -> Result<(), SourceError> {
        self.turns += 1;
        self.pending.resting.retain(|_, until| *until > Instant::now());
        let durable = self.turns.is_multiple_of(DURABLE_TURNS);
        let Some(attached) = &mut self.attached else {
            return Err(SourceError::Vanished("the folder is not there".to_owned()));
        };
        let (pending, owners, marks) = (&mut self.pending, &mut self.owners, &mut self.marks);
        let cutting = &mut self.cutting;
        let left = self.ledger.write(|tx| {
            pending.resolve(marks, tx)?;
            let mut turn = Turn { tx, pending, attached, owners, cutting, left: Left::default() };
            turn.take(cuts)?;
            let Turn { tx, pending, attached, left, .. } = turn;
            tx.state.reading = pending.reading();
            tx.durable |= durable && pending.scanning;
            // Had the folder vanished meanwhile, all that was seen to be gone would be a lie.
            attached.tree.is_in_place().map_err(SourceError::Vanished)?;
            Ok(left)
        })?;
        self.publish(left);
        Ok(())
    }

    /// Shows what a turn journaled, and takes up what it left.
    fn publish(&mut self, left: Left) {
        let shared = self.shared.clone();
        let shipped = left.shipped;
        let head = self.ledger.state().head();
        if !shipped.payloads.is_empty() {
            let acked = shared.acked_by_all().unwrap_or(Seq(u64::MAX));
            let mut payloads = lock(&shared.payloads);
            for (seq, payload) in shipped.payloads {
                payloads.insert(seq, payload, acked);
            }
        }
        shared.head.send_if_modified(|shown| std::mem::replace(shown, head) != head);
        self.pending.transfers.extend(shipped.transfers);
        for (folder, scan) in left.walks {
            self.pending.add_walk(folder, scan);
        }
        let later = left.walks_later.into_iter().map(|(folder, scan)| Later::Walk(folder, scan));
        self.put_off(RETRY, later);
        for (file, touch) in shipped.again {
            self.pending.add_file(file, FileTask { touch, ..FileTask::default() });
        }
        for (file, touch, until) in shipped.put_off {
            let task = FileTask { touch, ..FileTask::default() };
            self.later.entry(until).or_default().push(Later::File(file, task));
        }
        let written = Instant::now();
        for file in shipped.open {
            if self.recent.len() < RECENT_MAX || self.recent.contains_key(&file) {
                self.recent.insert(file, written);
            }
        }
        for (file, rest) in shipped.resting {
            self.pending.resting.insert(file, Instant::now() + rest);
        }
        for (parent, name) in shipped.names_again {
            self.pending.add_name(parent, name, NameTask::default());
        }
        self.take_again(left.again);
        let verify = |file| Later::File(file, FileTask { verify: true, ..FileTask::default() });
        self.put_off(RACY_LOOK, shipped.racy.into_iter().map(verify));
        for folder in left.folders {
            if self.problems.is_closed(folder) {
                self.pending.add_walk(folder, true);
            }
        }
        self.note_files(&left.noted, &left.lost);
        self.linked.note(left.linked, &left.lost);
        self.break_restores(&left.lost, &left.problems);
        self.problems.update(left.looked, left.problems, left.partial);
        self.show_problems(left.scan_ended);
        if left.scan_ended {
            shared.set_phase(Phase::Running);
            // One that takes long is not followed by the next at once.
            self.next_scan = self.next_scan.max(Instant::now() + self.scan_began.elapsed());
        }
        self.clear_alarm(|alarm| matches!(alarm, SourceAlarm::Journal(_)));
        self.answer_restores(shipped.restored);
        for (aside, kept) in left.kept {
            self.kept_replaced(&aside, kept);
        }
    }

    fn take_again(&mut self, again: Vec<(FileId, Name, NameTask)>) {
        let (mut second, mut retry) = (Vec::new(), Vec::new());
        for (parent, name, task) in again {
            match task {
                NameTask { second: true, scan: true, .. } if self.pending.scanning => {
                    self.pending.vanished.push((parent, name));
                }
                NameTask { second: true, .. } => second.push(Later::Name(parent, name, task)),
                NameTask { delayed: true, .. } => retry.push(Later::Name(parent, name, task)),
                _ => self.pending.add_name(parent, name, task),
            }
        }
        self.put_off(SECOND_LOOK, second);
        self.put_off(RETRY, retry);
    }
}

impl<'t> Turn<'_, 't> {
    fn take(&mut self, cuts: Vec<FileId>) -> Result<(), SourceError> {
        let silent = !self.tx.state.scanned;
        let (mut ready, finished) = self.step_transfer()?;
        if !silent {
            self.step_keeping()?;
        }
        for _ in 0..WALKS_PER_TURN {
            if self.pending.names.len() >= TASKS_PER_TURN {
                break;
            }
            let Some((folder, scan)) = self.pending.next_walk() else { break };
            self.walk(folder, scan)?;
        }
        let mut names = self.pending.take_names(TASKS_PER_TURN);
        // What they stand for was read just now, and would have to be read again later.
        names
            .extend(finished.into_iter().map(|(parent, name)| (parent, name, NameTask::default())));
        let files = self.pending.take_files(TASKS_PER_TURN);
        self.note_looked(&names, &files)?;
        let mut round = Round::new(
            self.tx,
            &self.attached.tree,
            self.owners,
            &mut *self.attached.capture,
            &self.pending.reading,
            &mut self.pending.strange,
        );
        round.big_bytes = (!silent).then_some(STEPLESS_BYTES_MAX);
        round.scanning = self.pending.scanning;
        round.seed = Some(&self.pending.seed);
        let mut found = round.look(names, files)?;
        let is_folder = |seen: &SeenFile| seen.seen.kind == Kind::Dir;
        let folders = found.files.iter().filter(|(_, seen)| is_folder(seen));
        self.left.folders = folders.map(|(file, _)| *file).collect();
        self.left.lost = found.lost.iter().map(|(file, _)| *file).collect();
        self.left.noted = noted(&found, now());
        self.left.linked = std::mem::take(&mut found.linked);
        self.note_unrestored()?;
        for (parent, name, reason) in std::mem::take(&mut found.problems) {
            self.problem(parent, name, reason)?;
        }
        self.partial(std::mem::take(&mut found.partial))?;
        self.left.again = std::mem::take(&mut found.again);
        self.left.walks = std::mem::take(&mut found.walks);
        if silent {
            self.learn(&found)?;
        } else {
            self.begin_big(std::mem::take(&mut found.big))?;
            self.drop_nameless(&mut ready)?;
            self.ship(found, ready, cuts)?;
        }
        self.end_scan()
    }

    /// Reads on in the next big file; returns the last row of one that is finished, and the names that waited for it.
    fn step_transfer(&mut self) -> Result<Finished, SourceError> {
        let (mut ready, mut names) = (BTreeMap::new(), Vec::new());
        let Some(mut transfer) = self.pending.transfers.pop_front() else {
            return Ok((ready, names));
        };
        let file = transfer.file;
        if self.tx.map.record(file)?.is_none() {
            self.tx.map.clear_blocks(file, 0)?;
            self.pending.break_transfer(file);
            return Ok((ready, names));
        }
        let nobody = HashSet::new();
        let mut ship =
            Composer::new(self.tx, &self.attached.tree, self.owners, self.cutting, now(), &nobody);
        ship.exact_times = self.attached.exact_times;
        ship.restores = self.pending.restores.clone();
        let until = transfer.read_bytes() + STEP_BYTES;
        let mut problem = None;
        let began = Instant::now();
        loop {
            let budget = until.saturating_sub(transfer.read_bytes());
            match transfer.step(ship.tx, ship.owners, budget)? {
                Step::Part(row) => {
                    ship.journal_part(*row, transfer.is_between_passes())?;
                    // Between passes not before all that was told until now was heard.
                    if transfer.is_between_passes() || began.elapsed() >= STEP_MAX {
                        transfer.took += began.elapsed();
                        self.pending.transfers.push_back(transfer);
                        break;
                    }
                }
                Step::Paused => {
                    transfer.took += began.elapsed();
                    self.pending.transfers.push_back(transfer);
                    break;
                }
                Step::Done(done) => {
                    ship.rest(file, transfer.took + began.elapsed(), done.row.row.fuzzy);
                    ready.extend(ship.finish(file, *done, transfer.touch)?.map(|row| (file, row)));
                    ship.journal_late_cuts()?;
                    ship.out.racy.extend(transfer.written.then_some(file));
                    names = self.pending.end_transfer(file);
                    break;
                }
                Step::Failed(error) => {
                    if ship.tx.map.links(file, 1)?.is_empty() {
                        // It begins anew under another id.
                        ship.tx.map.clear_blocks(file, 0)?;
                        ship.tx.map.remove_file(file)?;
                    } else {
                        ship.give_up(file)?;
                    }
                    problem = Some(error.to_string());
                    break;
                }
            }
        }
        self.left.shipped.append(ship.out);
        if let Some(reason) = problem {
            let waiting = self.pending.end_transfer(file);
            let place = self.tx.map.links(file, 1)?.into_iter().chain(waiting).next();
            if let Some((parent, name)) = place {
                self.problem(parent, Some(name), reason)?;
            }
        }
        Ok((ready, names))
    }

    /// Journals on of what a restore replaced.
    fn step_keeping(&mut self) -> Result<(), SourceError> {
        let Some(mut keeping) = self.pending.keeping.pop_front() else { return Ok(()) };
        let nobody = HashSet::new();
        let mut ship =
            Composer::new(self.tx, &self.attached.tree, self.owners, self.cutting, now(), &nobody);
        let kept = match keeping.step(&mut ship)? {
            Kept::More => None,
            Kept::Done(version) => Some(Ok(version)),
            Kept::Failed(error) => Some(Err(error.to_string())),
        };
        self.left.shipped.append(ship.out);
        match kept {
            Some(kept) => self.left.kept.push((keeping.aside, kept)),
            None => self.pending.keeping.push_back(keeping),
        }
        Ok(())
    }

    /// Reads a folder, and has every name in it or in the map looked at.
    fn walk(&mut self, folder: FileId, scan: bool) -> Result<(), SourceError> {
        self.left.looked.push((folder, None));
        let Some(record) = self.tx.map.record(folder)? else { return Ok(()) };
        let mut folders = Folders::default();
        let Some(open) = folders.open(&self.tx.map, &self.attached.tree, folder)? else {
            if let Some(error) = folders.take_denied() {
                return self.problem(folder, None, error.to_string());
            }
            // Moved or gone, which shows at the names on the way to it; what is in it is still unknown.
            for (parent, name) in self.tx.map.places(folder)? {
                self.pending.add_name(parent, name, NameTask { scan, ..NameTask::default() });
            }
            if !folders.take_mounted() {
                self.left.walks_later.push((folder, scan));
            }
            return Ok(());
        };
        if let Err(error) = self.attached.capture.watch(record.inode.number, open.as_fd()) {
            self.problem(folder, None, format!("changes in it are seen by scans only: {error}"))?;
        }
        let (names, unusable) = match tree::list(open.as_fd()) {
            Ok(listed) => listed,
            Err(error) => return self.problem(folder, None, error.to_string()),
        };
        if !unusable.is_empty() {
            self.problem(folder, None, unusable_reason(&unusable))?;
        }
        // What came and went in it before it was known, or watched, left only its own times.
        self.pending.add_file(folder, FileTask::default());
        let task = NameTask { scan, ..NameTask::default() };
        for name in names {
            self.pending.add_name(folder, name, task);
        }
        let mut after: Option<Name> = None;
        loop {
            let known = self.tx.map.list(folder, after.as_ref(), TASKS_PER_TURN)?;
            let Some(last) = known.last() else { return Ok(()) };
            after = Some(last.name.clone());
            for entry in known {
                self.pending.add_name(folder, entry.name, task);
            }
        }
    }

    /// Takes what the first scan saw into the map: nothing is journaled, because nobody has anything yet.
    fn learn(&mut self, found: &Findings) -> Result<(), SourceError> {
        let mut folders = Folders::default();
        let mut partial = Vec::new();
        for (file, at) in &found.files {
            if let Some(record) = self.learn_file(&mut folders, *file, at)?
                && let Some(what) = record.meta.left_out()
            {
                partial.push((at.parent, at.name.clone(), what));
            }
        }
        self.partial(partial)
    }

    fn learn_file(
        &mut self,
        folders: &mut Folders,
        file: FileId,
        at: &SeenFile,
    ) -> Result<Option<FileRecord>, SourceError> {
        let Some(mut record) = self.tx.map.record(file)? else { return Ok(None) };
        if at.born || record.signature == at.seen.signature {
            return Ok(Some(record));
        }
        let folder = folders.open(&self.tx.map, &self.attached.tree, at.parent)?;
        let Some(folder) = folder else { return Ok(Some(record)) };
        let meta = tree::meta(self.owners, folder.as_fd(), at.name.as_ref(), &at.seen);
        if let Ok(mut meta) = meta {
            record.learn(self.owners, file, &mut meta, at.seen.signature);
            record.hash = None;
            self.tx.map.set_record(file, &record)?;
        }
        Ok(Some(record))
    }

    /// Begins to read new big files; their names wait.
    fn begin_big(&mut self, big: Vec<(FileId, Name, Seen, Touch)>) -> Result<(), SourceError> {
        let mut folders = Folders::default();
        for (parent, name, seen, touch) in big {
            if let Some(file) = self.pending.reading.get(&seen.inode.number) {
                for transfer in &mut self.pending.transfers {
                    if transfer.file == *file {
                        transfer.touched(touch);
                    }
                }
                let waiting = self.pending.waiting.entry(*file).or_default();
                if !waiting.iter().any(|(p, n)| *p == parent && *n == name) {
                    waiting.push((parent, name));
                }
                continue;
            }
            let later = NameTask { touch, delayed: true, ..NameTask::default() };
            if self.pending.transfers.len() >= TRANSFERS_MAX {
                self.left.again.push((parent, name, later));
                continue;
            }
            let Some(folder) = folders.open(&self.tx.map, &self.attached.tree, parent)? else {
                // Perhaps it is being moved: the name is looked at when that has been seen.
                self.left.again.push((parent, name, later));
                continue;
            };
            let opened = tree::open_file(folder.as_fd(), &name).and_then(|open| {
                let seen = self.attached.tree.look_at(open.as_fd())?;
                Ok((tree::meta_of_open(self.owners, open.as_fd(), &seen)?, seen, open))
            });
            let (meta, seen, open) = match opened {
                Ok(opened) => opened,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.problem(parent, Some(name), error.to_string())?;
                    continue;
                }
            };
            if seen.kind != Kind::File || self.tx.map.by_number(seen.inode.number)?.is_some() {
                self.left.again.push((parent, name, later));
                continue;
            }
            let file = self.tx.new_file()?;
            // No signature yet: were we to end here, the file would be seen to differ and be read again.
            let record = FileRecord::new(seen.inode, Signature::default(), meta);
            self.tx.map.set_record(file, &record)?;
            let begun = Transfer::begin(self.tx, self.owners, open, file, &record, true)?;
            match begun {
                Ok(mut transfer) => {
                    transfer.touch = touch;
                    self.pending.reading.insert(seen.inode.number, file);
                    self.pending.waiting.insert(file, vec![(parent, name)]);
                    self.pending.transfers.push_back(transfer);
                }
                Err(error) => {
                    self.tx.map.remove_file(file)?;
                    self.problem(parent, Some(name), error.to_string())?;
                }
            }
        }
        Ok(())
    }

    /// Forgets new files that were removed before their content was read.
    fn drop_nameless(&mut self, ready: &mut BTreeMap<FileId, Row>) -> Result<(), SourceError> {
        let files: Vec<FileId> = ready.keys().copied().collect();
        for file in files {
            if self.tx.map.links(file, 1)?.is_empty() {
                self.tx.map.remove_file(file)?;
                ready.remove(&file);
            }
        }
        Ok(())
    }

    fn ship(
        &mut self,
        found: Findings,
        ready: BTreeMap<FileId, Row>,
        cuts: Vec<FileId>,
    ) -> Result<(), SourceError> {
        let in_transfer = self.pending.transfers.iter().map(|transfer| transfer.file).collect();
        let tree = &self.attached.tree;
        let mut ship = Composer::new(self.tx, tree, self.owners, self.cutting, now(), &in_transfer);
        ship.exact_times = self.attached.exact_times;
        ship.ready = ready;
        ship.resting = Some(&self.pending.resting);
        ship.restores = self.pending.restores.clone();
        ship.journal_cuts(cuts)?;
        let mut shipped = ship.ship(found)?;
        for (parent, name, reason) in std::mem::take(&mut shipped.problems) {
            self.problem(parent, name, reason)?;
        }
        self.partial(std::mem::take(&mut shipped.partial))?;
        self.left.shipped.append(shipped);
        Ok(())
    }

    /// Ends the scan when nothing of it is left.
    fn end_scan(&mut self) -> Result<(), SourceError> {
        let is_scan = |task: &NameTask| task.scan && !task.second;
        let more = !self.pending.names.is_empty()
            || !self.pending.seconds.is_empty()
            || !self.pending.walks.is_empty()
            || self.pending.seconds_wait
            || !self.left.walks.is_empty()
            || self.left.walks_later.iter().any(|(_, scan)| *scan)
            || self.left.again.iter().any(|(_, _, task)| is_scan(task));
        if !self.pending.scanning || more {
            return Ok(());
        }
        let unseen = self.left.again.iter().filter(|(_, _, task)| task.scan && task.second);
        let unseen = unseen.map(|(parent, name, _)| (*parent, name.clone()));
        let vanished: Vec<_> =
            std::mem::take(&mut self.pending.vanished).into_iter().chain(unseen).collect();
        self.left.again.retain(|(_, _, task)| !task.scan);
        if !vanished.is_empty() {
            // All that moved has been found by now: what is still missing is gone.
            for (parent, name) in vanished {
                let task = NameTask { second: true, ..NameTask::default() };
                self.pending.add_name(parent, name, task);
            }
            return Ok(());
        }
        self.pending.scanning = false;
        self.left.scan_ended = true;
        if !self.tx.state.scanned {
            self.tx.state.scanned = true;
            self.pending.seed = std::collections::HashMap::new();
            let stamp = now();
            self.tx.append(&Change { stamp, ..Change::default() })?;
            self.tx.state.base = self.tx.state.base.or(Some(self.tx.state.here()));
        }
        Ok(())
    }

    /// Forgets files that were restored under names that were not known, and were gone before they were looked at.
    fn note_unrestored(&mut self) -> Result<(), SourceError> {
        for (file, note) in &self.pending.restores {
            let (parent, name) = &note.place;
            let looked =
                self.left.looked.iter().any(|(p, n)| p == parent && n.as_ref() == Some(name));
            let waits = self.pending.waiting.contains_key(file);
            if looked && !waits && self.tx.map.links(*file, 1)?.is_empty() {
                self.tx.map.remove_file(*file)?;
                self.left.lost.push(*file);
            }
        }
        Ok(())
    }

    fn note_looked(
        &mut self,
        names: &[(FileId, Name, NameTask)],
        files: &[(FileId, FileTask)],
    ) -> Result<(), SourceError> {
        let names = names.iter().map(|(parent, name, _)| (*parent, Some(name.clone())));
        self.left.looked.extend(names);
        for (file, _) in files {
            let links = self.tx.map.links(*file, 64)?;
            self.left.looked.extend(links.into_iter().map(|(parent, name)| (parent, Some(name))));
        }
        Ok(())
    }

    /// Takes names that are replicated, but for extended attributes that do not fit.
    fn partial(&mut self, names: Vec<(FileId, Option<Name>, String)>) -> Result<(), SourceError> {
        for (parent, name, what) in names {
            let problem = self.file_problem(parent, name.clone(), format!("without {what}"))?;
            self.left.partial.push(((parent, name), problem));
        }
        Ok(())
    }

    fn problem(
        &mut self,
        parent: FileId,
        name: Option<Name>,
        reason: String,
    ) -> Result<(), SourceError> {
        let problem = self.file_problem(parent, name.clone(), reason)?;
        let FileProblem { path, reason } = &problem;
        tracing::debug!(path, reason, "a name of the source cannot be replicated");
        self.left.problems.push(((parent, name), problem));
        Ok(())
    }

    fn file_problem(
        &self,
        parent: FileId,
        name: Option<Name>,
        reason: String,
    ) -> Result<FileProblem, SourceError> {
        let mut path = self.tx.map.path(parent)?.unwrap_or_default();
        path.extend(name);
        let path = keepshare_base::SetPath::from(path).to_string();
        Ok(FileProblem { path, reason })
    }
}
