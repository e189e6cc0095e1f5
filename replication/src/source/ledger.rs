//! One transaction of a source: map, journal and everything beside them become durable together, or not at all.

use std::collections::BTreeMap;

use keepshare_base::{
    Change, Epoch, FileId, Kind, Name, OriginId, Position, RequestId, RestoreRow, RunningHash, Seq,
};
use keepshare_decide::{FileRecord, Known, MapEntry, withhold::Stale};
use keepshare_host::shared::SharedDb;
use redb::{Durability, ReadableTable, Table, TableDefinition};

use super::{
    Head, RestoreAnswer, SourceError,
    map::{MapTx, MapView, State, decode, decode_grown, encode},
    pass::Regions,
};

mod aside;
mod errors;
mod opening;

/// The format of all tables together.
pub(crate) const FORMAT: u32 = 4;

const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
const STALE: TableDefinition<'_, &[u8], (u64, u64)> = TableDefinition::new("stale");
const ACKS: TableDefinition<'_, &str, u64> = TableDefinition::new("acks");
const RESTORES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("restores");
const SPOOL: TableDefinition<'_, u64, (u64, u64, u64)> = TableDefinition::new("spool");

/// The state's only key.
const NOW: &str = "now";

/// So much must be free on the journal's disk, in bytes: what one turn writes at most, and what redb takes at a time.
const FREE_BYTES_MIN: u64 = 8 << 20;

/// The most answers to restores that are kept; the oldest go first.
const RESTORES_MAX: u64 = 10_000;

/// The journal and map of a source, and their only writer.
#[derive(Debug)]
pub(crate) struct Ledger {
    database: SharedDb,
    state: State,
}

/// A running transaction.
pub(crate) struct Tx<'t> {
    /// The map and the journal.
    pub(crate) map: MapTx<'t>,
    /// Where the journal is.
    pub(crate) state: State,
    /// This transaction has to survive whatever comes.
    pub(crate) durable: bool,
    wrote: bool,
    stale: Table<'t, &'static [u8], (u64, u64)>,
    acks: Table<'t, &'static str, u64>,
    restores: Table<'t, &'static [u8], &'static [u8]>,
    spool: Table<'t, u64, (u64, u64, u64)>,
}

/// Where the content of a change lies in the spool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SpoolPlace {
    /// Which file.
    pub(crate) segment: u64,
    /// Where in it.
    pub(crate) offset: u64,
    /// How long.
    pub(crate) len: u64,
}

impl Ledger {
    /// Returns where the journal is.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Returns the database, for readers.
    pub(crate) fn database(&self) -> SharedDb {
        self.database.clone()
    }

    /// Tells whether the database gives nothing more before [`Self::recover`].
    pub(crate) fn has_failed(&self) -> bool {
        self.database.failed()
    }

    /// Tells whether there is too little space to write; what does not fit costs a look at everything.
    pub(crate) fn check_space(&self) -> Result<(), SourceError> {
        check_free(&self.database, FREE_BYTES_MIN)
    }

    /// Opens the database anew after a failure. What was not durable is gone: everything has to be compared.
    pub(crate) fn recover(&mut self) -> Result<(), SourceError> {
        if !self.database.failed() {
            return Ok(());
        }
        self.check_space()?;
        self.database.reopen().map_err(SourceError::journal)?;
        // Where its newest state is damaged it goes back by one, which may be before it was brought up to date.
        contained(&self.database, || Self::bring_up_to_date(&self.database))?;
        self.state = Snapshot::open(&self.database)?.state;
        Ok(())
    }

    /// Runs `work` in one transaction; all of it is done when this returns `Ok`, and nothing otherwise.
    ///
    /// It is durable if `work` says so ([`Tx::durable`], which every journaled change sets). What only the map learnt can
    /// be learnt again.
    pub(crate) fn write<T>(
        &mut self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let database = self.database.clone();
        contained(&database, || self.write_all(work))
    }

    fn write_all<T>(
        &mut self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let mut transaction = self.database.begin_write()?;
        let (done, state, durable, wrote) = {
            let mut tx = Tx::open(&transaction, self.state.clone())?;
            let done = work(&mut tx)?;
            tx.map.write()?;
            (done, tx.state, tx.durable, tx.map.wrote || tx.wrote)
        };
        if state != self.state {
            let mut table = transaction.open_table(STATE)?;
            table.insert(NOW, encode(&state).as_slice())?;
        } else if !wrote && !durable {
            transaction.abort()?;
            return Ok(done);
        }
        let durability = if durable { Durability::Immediate } else { Durability::None };
        transaction.set_durability(durability).map_err(SourceError::journal)?;
        transaction.commit()?;
        self.state = state;
        Ok(done)
    }
}

fn check_free(database: &SharedDb, needed_bytes: u64) -> Result<(), SourceError> {
    match database.free_bytes() {
        Some(free_bytes) if free_bytes < needed_bytes => {
            Err(SourceError::Full { free_bytes, needed_bytes })
        }
        _ => Ok(()),
    }
}

/// Does something with the database. redb answers some failures with a panic, which must end no thread: it becomes an
/// error, after which the database is opened anew.
pub(crate) fn contained<T>(
    database: &SharedDb,
    work: impl FnOnce() -> Result<T, SourceError>,
) -> Result<T, SourceError> {
    database.contain(work).map_err(SourceError::journal)?
}

impl<'t> Tx<'t> {
    fn open(tx: &'t redb::WriteTransaction, state: State) -> Result<Self, SourceError> {
        Ok(Self {
            map: MapTx::open(tx)?,
            state,
            durable: false,
            wrote: false,
            stale: tx.open_table(STALE)?,
            acks: tx.open_table(ACKS)?,
            restores: tx.open_table(RESTORES)?,
            spool: tx.open_table(SPOOL)?,
        })
    }

    /// Returns an id for a file that is new.
    pub(crate) fn new_file(&mut self) -> Result<FileId, SourceError> {
        let epoch = Epoch::new(self.state.epoch).ok_or(SourceError::Damaged("epoch zero"))?;
        let counter = self.state.next_file;
        self.state.next_file += 1;
        Ok(FileId { origin: OriginId(self.state.origin), epoch, counter })
    }

    /// Appends a change to the journal.
    pub(crate) fn append(&mut self, change: &Change) -> Result<Seq, SourceError> {
        self.durable = true;
        self.map.append(&mut self.state, change)
    }

    /// Drops the changes before `keep` and what was only kept for them.
    pub(crate) fn trim(&mut self, keep: Seq) -> Result<(), SourceError> {
        self.map.trim(&mut self.state, keep)?;
        self.spool.retain_in(..keep.0, |_, _| false)?;
        self.stale.retain(|_, (_, until)| until >= keep.0)?;
        Ok(())
    }

    /// Says that the content of a file after `after` cannot be given until it is sent whole.
    pub(crate) fn set_stale(&mut self, file: FileId, after: Seq) -> Result<(), SourceError> {
        let key = file.to_bytes();
        let since = self.stale.get(key.as_slice())?.map_or(after.0, |row| row.value().0);
        self.wrote = true;
        self.stale.insert(key.as_slice(), (since.min(after.0), u64::MAX))?;
        Ok(())
    }

    /// Says that a file's content is given whole from `seq` on.
    pub(crate) fn end_stale(&mut self, file: FileId, seq: Seq) -> Result<(), SourceError> {
        let key = file.to_bytes();
        let open = self.stale.get(key.as_slice())?.map(|row| row.value());
        if let Some((since, u64::MAX)) = open {
            self.stale.insert(key.as_slice(), (since, seq.0))?;
        }
        Ok(())
    }

    /// Remembers what a destination has.
    pub(crate) fn set_ack(&mut self, destination: &str, through: Seq) -> Result<(), SourceError> {
        self.wrote = true;
        self.acks.insert(destination, through.0)?;
        Ok(())
    }

    /// Remembers where content is spooled.
    pub(crate) fn set_spooled(&mut self, seq: Seq, place: SpoolPlace) -> Result<(), SourceError> {
        self.wrote = true;
        self.spool.insert(seq.0, (place.segment, place.offset, place.len))?;
        Ok(())
    }

    /// Remembers how a restore was answered.
    pub(crate) fn set_restore(
        &mut self,
        request: RequestId,
        answer: &RestoreAnswer,
    ) -> Result<(), SourceError> {
        self.wrote = true;
        self.restores.insert(request.0.as_slice(), encode(answer).as_slice())?;
        if redb::ReadableTableMetadata::len(&self.restores)? > RESTORES_MAX {
            self.forget_old_restores()?;
        }
        Ok(())
    }

    /// Returns how a restore was answered.
    pub(crate) fn restore(&self, request: RequestId) -> Result<Option<RestoreAnswer>, SourceError> {
        match self.restores.get(request.0.as_slice())? {
            Some(row) => Ok(Some(decode(row.value(), "a restore's answer")?)),
            None => Ok(None),
        }
    }

    /// Starts a new epoch with an empty journal.
    pub(crate) fn new_epoch(&mut self, epoch: Epoch) -> Result<(), SourceError> {
        self.durable = true;
        self.map.clear_journal()?;
        self.spool.retain(|_, _| false)?;
        self.stale.retain(|_, _| false)?;
        self.acks.retain(|_, _| false)?;
        self.state.epoch = epoch.number();
        self.state.next_file = opening::first_file()?;
        self.state.head = 0;
        self.state.running = RunningHash::EMPTY.0;
        self.state.journal_bytes = 0;
        self.state.journal_entries = 0;
        self.state.dropped = 0;
        self.state.dropped_running = RunningHash::EMPTY.0;
        Ok(())
    }

    fn forget_old_restores(&mut self) -> Result<(), SourceError> {
        let mut places = Vec::new();
        for row in self.restores.iter()? {
            let answer: RestoreAnswer = decode(row?.1.value(), "a restore's answer")?;
            places.push(answer.position);
        }
        places.sort_unstable();
        let keep = places[places.len() / 2];
        self.restores.retain(|_, row| {
            decode::<RestoreAnswer>(row, "a restore's answer").is_ok_and(|a| a.position >= keep)
        })?;
        Ok(())
    }
}

/// What decisions know of a source: see `keepshare_decide`.
impl Known for Tx<'_> {
    type Error = SourceError;

    fn lookup(&self, parent: FileId, name: &Name) -> Result<Option<(FileId, Kind)>, SourceError> {
        self.map.lookup(parent, name)
    }

    fn list(
        &self,
        parent: FileId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<MapEntry>, SourceError> {
        self.map.list(parent, after, limit)
    }

    fn links(&self, file: FileId, limit: usize) -> Result<Vec<(FileId, Name)>, SourceError> {
        self.map.links(file, limit)
    }

    fn record(&self, file: FileId) -> Result<Option<FileRecord>, SourceError> {
        self.map.record(file)
    }

    fn by_number(&self, number: u64) -> Result<Option<FileId>, SourceError> {
        self.map.by_number(number)
    }
}

/// What they have journaled.
impl keepshare_decide::Ledger for Tx<'_> {
    fn set_name(
        &mut self,
        parent: FileId,
        name: &Name,
        target: Option<(FileId, Kind)>,
    ) -> Result<(), SourceError> {
        self.map.set_name(parent, name, target)
    }

    fn set_record(&mut self, file: FileId, record: &FileRecord) -> Result<(), SourceError> {
        self.map.set_record(file, record)
    }

    fn remove_file(&mut self, file: FileId) -> Result<(), SourceError> {
        self.map.remove_file(file)
    }

    fn clear_blocks(&mut self, file: FileId) -> Result<(), SourceError> {
        Regions::clear_blocks(&mut self.map, file, 0)
    }

    fn new_file(&mut self) -> Result<FileId, SourceError> {
        Tx::new_file(self)
    }

    fn end_stale(&mut self, file: FileId) -> Result<(), SourceError> {
        Tx::end_stale(self, file, Seq(self.state.head).next())
    }

    fn append(&mut self, change: &Change) -> Result<Position, SourceError> {
        let epoch = Epoch::new(self.state.epoch).ok_or(SourceError::Damaged("epoch zero"))?;
        let seq = Tx::append(self, change)?;
        Ok(Position { origin: OriginId(self.state.origin), epoch, seq })
    }

    fn answer(&mut self, restore: &RestoreRow, position: Position) -> Result<(), SourceError> {
        self.set_restore(restore.request, &RestoreAnswer::journaled(restore, position))
    }
}

/// Everything of a source at one moment.
pub(crate) struct Snapshot {
    /// The map and the journal.
    pub(crate) map: MapView,
    /// Where the journal is.
    pub(crate) state: State,
    tx: redb::ReadTransaction,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("head", &self.state.head()).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Takes the last durable state.
    pub(crate) fn open(database: &SharedDb) -> Result<Self, SourceError> {
        contained(database, || {
            let tx = database.begin_read()?;
            let bytes = tx.open_table(STATE)?.get(NOW)?.map(|row| row.value().to_vec());
            let state = read_state(&bytes.ok_or(SourceError::Damaged("no state"))?)?;
            Ok(Self { map: MapView::open(&tx)?, state, tx })
        })
    }

    /// Returns the running hash right before a change; `None` where the journal does not know it.
    pub(crate) fn running_before(&self, seq: Seq) -> Result<Option<RunningHash>, SourceError> {
        match seq.0.checked_sub(1) {
            None => Ok(None),
            Some(0) => Ok(Some(RunningHash::EMPTY)),
            Some(last) if last == self.state.dropped => {
                Ok(Some(RunningHash(self.state.dropped_running)))
            }
            Some(last) => self.map.running(Seq(last)),
        }
    }

    /// Returns the files whose content cannot be given for a while.
    pub(crate) fn stale(&self) -> Result<Stale, SourceError> {
        let mut stale = Stale::new();
        for row in self.tx.open_table(STALE)?.iter()? {
            let (file, span) = row?;
            let file = FileId::from_bytes(file.value()).ok_or(SourceError::Damaged("a file id"))?;
            let (after, until) = span.value();
            stale.insert(file, (Seq(after), Seq(until)));
        }
        Ok(stale)
    }

    /// Returns what every destination has.
    pub(crate) fn acks(&self) -> Result<BTreeMap<String, Seq>, SourceError> {
        let mut acks = BTreeMap::new();
        for row in self.tx.open_table(ACKS)?.iter()? {
            let (destination, seq) = row?;
            acks.insert(destination.value().to_owned(), Seq(seq.value()));
        }
        Ok(acks)
    }

    /// Returns where content is spooled.
    pub(crate) fn spooled(&self) -> Result<BTreeMap<Seq, SpoolPlace>, SourceError> {
        let mut places = BTreeMap::new();
        for row in self.tx.open_table(SPOOL)?.iter()? {
            let (seq, place) = row?;
            let (segment, offset, len) = place.value();
            places.insert(Seq(seq.value()), SpoolPlace { segment, offset, len });
        }
        Ok(places)
    }
}

impl State {
    /// Returns the last change.
    pub(crate) fn head(&self) -> Head {
        Head {
            epoch: Epoch::new(self.epoch).unwrap_or(Epoch::FIRST),
            seq: Seq(self.head),
            running: RunningHash(self.running),
        }
    }
}

fn read_state(bytes: &[u8]) -> Result<State, SourceError> {
    let (found, _) = postcard::take_from_bytes::<u32>(bytes)
        .map_err(|_| SourceError::Damaged("the journal's state"))?;
    // Format 1 lacks the fields at the end of three kinds of rows.
    if !(1..=FORMAT).contains(&found) {
        return Err(SourceError::Format { found, known: FORMAT });
    }
    decode_grown(bytes, "the journal's state")
}
