//! Somebody who works on a document, and remembers every save of it.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::Result;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use serde_json::Value;

use super::documents::{Document, Shows};

/// The smallest document.
const BYTES_MIN: usize = 50 << 10;

/// How often that is doubled at most: small documents are as frequent as large ones.
const DOUBLINGS_MAX: u32 = 5;

/// How many pages differ between two saves of a document that is saved by pages.
const PAGES_CHANGED_MAX: usize = 24;

/// A finished save.
#[derive(Clone, Copy, Debug)]
pub struct Save {
    /// What it left.
    pub hash: blake3::Hash,
    /// When it was begun.
    pub begun: SystemTime,
    /// When it was finished.
    pub since: SystemTime,
    /// When the next one began.
    pub until: Option<SystemTime>,
    /// Whether a master said that it had looked, while it stood.
    pub is_seen: bool,
    /// From which its content can be made again.
    seed: u64,
    len: usize,
}

/// A document and all its saves.
#[derive(Debug)]
pub struct Desk {
    /// The document.
    pub document: Document,
    folder: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    random: StdRng,
    /// What stands in the document, for the next save by pages.
    content: Vec<u8>,
    saves: Vec<Save>,
    /// The save that goes on: a reader may find it before it is finished.
    begun: Option<Save>,
    /// Counts begins and ends of saves: odd in the middle of one.
    turns: u64,
}

impl Desk {
    /// Begins with a document that is not there yet, in a folder that is.
    pub fn new(document: Document, folder: &Path, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let kept = Kept { random, content: Vec::new(), saves: Vec::new(), begun: None, turns: 0 };
        Self { document, folder: folder.to_owned(), kept: Mutex::new(kept) }
    }

    /// Saves the document once, and returns for how long it is left alone then.
    pub fn work(&self) -> Result<Duration> {
        let (seed, len) = {
            let mut kept = self.lock();
            kept.turns += 1;
            if let Some(last) = kept.saves.last_mut() {
                last.until = Some(SystemTime::now());
            }
            let least = BYTES_MIN << kept.random.random_range(0..=DOUBLINGS_MAX);
            let len = kept.random.random_range(least..2 * least);
            (kept.random.next_u64(), len)
        };
        let mut content = std::mem::take(&mut self.lock().content);
        match self.document.shows {
            Shows::Pages => change_pages(&mut content, seed, len),
            Shows::Whole | Shows::Beginning => content = text(seed, len),
        }
        let (hash, len) = (blake3::hash(&content), content.len());
        let now = SystemTime::now();
        let save = Save { hash, begun: now, since: now, until: None, is_seen: false, seed, len };
        self.lock().begun = Some(save);
        let number = self.lock().turns;
        (self.document.save)(&self.folder, self.document.name, &content, number)?;
        let mut kept = self.lock();
        kept.content = content;
        kept.begun = None;
        kept.saves.push(Save { since: SystemTime::now(), ..save });
        kept.turns += 1;
        // Mostly somebody types on, now and then there is a telephone call.
        let rest = if kept.random.random_bool(0.2) { 4000 } else { 1500 };
        Ok(Duration::from_millis(kept.random.random_range(200..rest)))
    }

    /// Returns what stands in the document now and which turn that is; nothing in the middle of a save.
    pub fn standing(&self) -> Option<(u64, blake3::Hash)> {
        let kept = self.lock();
        let last = kept.saves.last()?;
        kept.turns.is_multiple_of(2).then_some((kept.turns, last.hash))
    }

    /// Hears that the master has looked at all that stood at this turn; tells whether it still stands.
    pub fn seen(&self, turn: u64) -> bool {
        let mut kept = self.lock();
        if kept.turns != turn {
            return false;
        }
        if let Some(last) = kept.saves.last_mut() {
            last.is_seen = true;
        }
        true
    }

    /// Returns all saves so far.
    pub fn saves(&self) -> Vec<Save> {
        self.lock().saves.clone()
    }

    /// Tells whether a version with this content can be one that somebody saved. `row` says all else of it.
    pub fn could_be(&self, content: &[u8], row: &Value) -> bool {
        let hash = blake3::hash(content);
        let saves: Vec<Save> = {
            let kept = self.lock();
            kept.saves.iter().chain(&kept.begun).copied().collect()
        };
        // Most are whole, and making a text again takes longer than hashing it.
        if row["fuzzy"] == true || saves.iter().any(|save| save.hash == hash) {
            return true;
        }
        let is_own_name = row["name"].as_str().is_some_and(|n| n.ends_with(self.document.name));
        match self.document.shows {
            Shows::Pages => true,
            // The file that takes the name may be seen before, under its temporary one.
            Shows::Whole if is_own_name => false,
            Shows::Whole | Shows::Beginning => saves.iter().any(|save| {
                save.len >= content.len() && text(save.seed, save.len).starts_with(content)
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a text that no compression makes smaller.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    StdRng::seed_from_u64(seed).fill_bytes(&mut content);
    content
}

/// Changes some pages, and now and then the length.
fn change_pages(content: &mut Vec<u8>, seed: u64, len: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    if content.is_empty() || random.random_bool(0.1) {
        let kept = content.len().min(len);
        content.resize(len, 0);
        random.fill_bytes(&mut content[kept..]);
    }
    for _ in 0..random.random_range(1..=PAGES_CHANGED_MAX) {
        let offset = random.random_range(0..content.len().div_ceil(4096)) * 4096;
        let end = content.len().min(offset + 4096);
        random.fill_bytes(&mut content[offset..end]);
    }
}
