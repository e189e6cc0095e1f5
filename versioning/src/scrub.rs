//! A slow look at everything that a copy keeps, over and over.
//!
//! Bits rot where nobody reads. A *pass* reads every block of the index, every frame of the log, every frame of a pack that a row names,
//! and compares the live tree; each [`Scrub::step`] is a small part of it, after which a [`Cursor`] says where to go on, in this
//! process or the next. Damage is told with the versions that it hurts and, where what was there can be had from somewhere else, put
//! right: an index and a log from each other, content from other content that is kept or from the live tree once its hash was compared.
//! In the live tree nothing is changed: what differs may be somebody's work. How fast it goes, what is written down and who hears of it is not decided here.

use std::path::{Path, PathBuf};

use keepshare_base::{Hex, SetPath};
use serde::{Deserialize, Serialize};

use crate::{
    CommitError, FileState, ReadError, Reader, StoreError,
    checked::{self, CheckedError},
    index::{IndexError, Rows as _, Table},
    live::{LiveScrub, LiveStepped},
    log::{LOOK_START, Looked, look},
    pack::PackError,
    set::SetStore,
    store::{INDEX, Renewed},
};

mod content;
mod mend;

/// About how much one step reads, in bytes.
pub const STEP_BYTES: u64 = 4 * 1024 * 1024;

/// The blocks of the index that one step looks at.
const BLOCKS_PER_STEP: u64 = 1024;

/// The rows that one step goes through.
const ROWS_PER_STEP: usize = 4096;

/// Where a pass is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum Cursor {
    /// At this block of the index' file, after so many bad ones.
    Index {
        /// The next one.
        block: u64,
        /// How many were bad.
        bad: u64,
    },
    /// At a row of the index, all of which are read where blocks were bad: only so is known whether a bad one is in use.
    Rows {
        /// The table's number.
        table: usize,
        /// The row's key.
        key: Key,
    },
    /// At this byte of the log.
    Log {
        /// Of this generation.
        generation: u64,
        /// The next byte.
        offset: u64,
    },
    /// At a row that names content in a pack.
    Packs {
        /// The table's number, of those that do.
        table: usize,
        /// The row's key.
        key: Key,
    },
    /// At a name of the live tree.
    Live {
        /// The key of the name looked at last; empty at the beginning.
        key: Key,
    },
}

/// The key of a row, as hexadecimal digits where it is written down.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Key(Vec<u8>);

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&Hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        });
        let bytes: Option<Vec<u8>> = digits.collect();
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("not hexadecimal digits"))
    }
}

impl Cursor {
    /// The beginning of every pass.
    pub const START: Self = Self::Index { block: 0, bad: 0 };

    /// Returns what is looked at, in a word.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Index { .. } | Self::Rows { .. } => "index",
            Self::Log { .. } => "log",
            Self::Packs { .. } => "packs",
            Self::Live { .. } => "live",
        }
    }

    const LOG: Self = Self::Log { generation: 0, offset: LOOK_START };
    const PACKS: Self = Self::Packs { table: 0, key: Key(Vec::new()) };
    const LIVE: Self = Self::Live { key: Key(Vec::new()) };
}

/// Something that is not what was written.
#[derive(Debug)]
pub enum Found {
    /// Blocks of the index that are in use. It was built anew from the log.
    Index,
    /// The log at this byte. It is written anew from the index, which has all that it has.
    Log(u64),
    /// The header of a pack. What is in it is moved to another one.
    Pack(u64),
    /// Content of a state.
    Content(Box<HurtState>),
    /// Something in the live tree.
    Live {
        /// Where.
        path: SetPath,
        /// In which way.
        what: String,
    },
}

/// A state with damaged content.
#[derive(Debug)]
pub struct HurtState {
    /// The state.
    pub state: FileState,
    /// A path that it has or had.
    pub path: SetPath,
    /// The place was written anew from content with the same hash.
    pub is_mended: bool,
}

/// What a step did.
#[derive(Debug, Default)]
pub struct Stepped {
    /// About how much was read, in bytes.
    pub bytes: u64,
    /// What was found.
    pub found: Vec<Found>,
    /// Where to go on; `None`: the pass is done.
    pub next: Option<Cursor>,
}

/// Why a step came to nothing; it may be tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrubError {
    /// The index cannot be read.
    #[error("cannot read the index")]
    Index(#[from] ReadError),
    /// The index' file cannot be read.
    #[error("cannot read the file of the index")]
    Blocks(#[from] CheckedError),
    /// The disk failed.
    #[error("cannot read the disk")]
    Io(#[from] std::io::Error),
    /// A pack cannot be read, which says nothing of what is in it.
    #[error("cannot read a pack")]
    Pack(#[source] PackError),
    /// What is damaged cannot be put right for now.
    #[error("cannot put right what is damaged")]
    Mend(#[source] CommitError),
    /// The store cannot bring its index back.
    #[error("cannot bring the index back")]
    Store(#[source] StoreError),
    /// The set is being closed.
    #[error("the set is being closed")]
    Closed,
}

/// What goes through a copy, step by step.
#[derive(Debug)]
pub struct Scrub {
    /// Where files of the newest states are.
    folder: Option<PathBuf>,
    live: Option<LiveScrub>,
}

impl Scrub {
    /// Returns one that takes what it can from files in a folder, where the newest states of the set should be.
    pub fn new(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(Path::to_owned), live: None }
    }

    /// Does one step of a pass. Waits for the threads of the set, for a moment each.
    pub fn step(&mut self, set: &SetStore, at: Cursor) -> Result<Stepped, ScrubError> {
        let reader = set.reader();
        let stepped = match at.clone() {
            Cursor::Index { block, bad } => index_step(set, &reader, block, bad),
            Cursor::Rows { table, key } => rows_step(&reader, table, &key),
            Cursor::Log { generation, offset } => log_step(set, &reader, generation, offset),
            Cursor::Packs { table, key } => self.content_step(set, &reader, table, &key),
            Cursor::Live { key } => self.live_step(set, &key),
        };
        let Err(ScrubError::Index(ReadError::Index(error))) = stepped else { return stepped };
        // What cannot be read is built anew; then the same step is done again.
        let mended = set.ask_store(|store| {
            let was_broken = store.has_broken_index();
            store.sync().map(|_| was_broken)
        });
        match mended.ok_or(ScrubError::Closed)?.map_err(ScrubError::Store)? {
            true => Ok(Stepped { found: vec![Found::Index], next: Some(at), ..Stepped::default() }),
            false => Err(ReadError::Index(error).into()),
        }
    }

    fn live_step(&mut self, set: &SetStore, key: &Key) -> Result<Stepped, ScrubError> {
        let going = self.live.take().unwrap_or_else(|| LiveScrub::after(&key.0));
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        set.with_live(move |tree, reader| {
            let mut going = going;
            let stepped = tree.scrub_step(reader, &mut going, STEP_BYTES);
            // Whoever asked waits.
            let _ = answer.send((going, stepped));
        });
        // In place there is no tree to compare; one that cannot be used says so in the status.
        let Ok((going, stepped)) = answered.recv() else { return Ok(Stepped::default()) };
        let LiveStepped { bytes, differences, more } = match stepped {
            Ok(stepped) => stepped,
            Err(error) => {
                let what = format!("cannot be compared: {}", keepshare_base::chain(&error));
                let path = SetPath::default();
                let found = vec![Found::Live { path, what }];
                return Ok(Stepped { found, ..Stepped::default() });
            }
        };
        let found = differences.into_iter().map(|difference| {
            let what = keepshare_base::chain(&difference.kind);
            Found::Live { path: difference.path, what }
        });
        let found = found.collect();
        let next = more.then(|| Cursor::Live { key: Key(going.key()) });
        self.live = more.then_some(going);
        Ok(Stepped { bytes, found, next })
    }
}

/// Looks at blocks of the index' file.
fn index_step(
    set: &SetStore,
    reader: &Reader,
    block: u64,
    bad: u64,
) -> Result<Stepped, ScrubError> {
    let file = reader.packs().disk().open(INDEX, false)?;
    let scanned = checked::scan(&*file, block, BLOCKS_PER_STEP)?;
    let bad = bad + scanned.bad;
    let stepped = Stepped { bytes: scanned.bytes, ..Stepped::default() };
    if let Some(block) = scanned.next {
        return Ok(Stepped { next: Some(Cursor::Index { block, bad }), ..stepped });
    }
    if bad == 0 {
        return Ok(Stepped { next: Some(Cursor::LOG), ..stepped });
    }
    // The good bytes may still be in memory: only an index that is opened anew meets what is on the disk.
    tracing::warn!(bad, "blocks of the index are bad on the disk");
    let renewed = set.ask_store(crate::Store::read_index_anew);
    let renewed = renewed.ok_or(ScrubError::Closed)?.map_err(ScrubError::Store)?;
    Ok(match renewed {
        Renewed::Built => Stepped { found: vec![Found::Index], next: Some(Cursor::LOG), ..stepped },
        Renewed::Opened => {
            Stepped { next: Some(Cursor::Rows { table: 0, key: Key::default() }), ..stepped }
        }
    })
}

/// Reads rows of the index, whatever they say.
fn rows_step(reader: &Reader, table: usize, key: &Key) -> Result<Stepped, ScrubError> {
    let Some(of) = Table::ALL.get(table) else {
        return Ok(Stepped { next: Some(Cursor::LOG), ..Stepped::default() });
    };
    let (bytes, last) = reader.view()?.ask(|rows| {
        let mut bytes = 0;
        for (n, row) in rows.under(*of, &[], &key.0)?.enumerate() {
            let (key, value) = row?;
            if n == ROWS_PER_STEP {
                return Ok((bytes, Some(key.value().to_vec())));
            }
            bytes += (key.value().len() + value.value().len()) as u64;
        }
        Ok::<_, IndexError>((bytes, None))
    })?;
    let next = Some(match last {
        Some(key) => Cursor::Rows { table, key: Key(key) },
        None => Cursor::Rows { table: table + 1, key: Key::default() },
    });
    Ok(Stepped { bytes, next, ..Stepped::default() })
}

/// Looks at frames of the log.
fn log_step(
    set: &SetStore,
    reader: &Reader,
    generation: u64,
    offset: u64,
) -> Result<Stepped, ScrubError> {
    let Some(end) = reader.view()?.log_position()? else {
        return Ok(Stepped { next: Some(Cursor::PACKS), ..Stepped::default() });
    };
    let from = if generation == end.generation { offset } else { LOOK_START };
    let (looked, bytes) = look(&**reader.packs().disk(), from, &end, STEP_BYTES)?;
    let generation = end.generation;
    let stepped = Stepped { bytes, next: Some(Cursor::PACKS), ..Stepped::default() };
    Ok(match looked {
        Looked::More(offset) => {
            Stepped { next: Some(Cursor::Log { generation, offset }), ..stepped }
        }
        Looked::End => stepped,
        Looked::Anew => {
            // What the index says of the log is from before: it follows within a moment.
            set.ask_store(crate::Store::flush)
                .ok_or(ScrubError::Closed)?
                .map_err(ScrubError::Store)?;
            let now = reader.view()?.log_position()?;
            if now.is_some_and(|now| now.generation == generation) {
                // Its file is gone: this process has it open, and no later one would find it.
                set.with_store(crate::Store::write_log_anew);
                return Ok(Stepped { found: vec![Found::Log(0)], ..stepped });
            }
            Stepped { next: Some(Cursor::LOG), ..stepped }
        }
        Looked::Bad(offset) => {
            set.with_store(crate::Store::write_log_anew);
            Stepped { found: vec![Found::Log(offset)], ..stepped }
        }
    })
}
