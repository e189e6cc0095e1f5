//! Comparing a live tree as a scrub does: in the order of the index, so that a key says how far it is.

use keepshare_base::{FileId, Kind, Name};

use super::{Again, CATCH_UP_STEPS, Checking, Difference, LiveError, LiveTree, Step};
use crate::{
    Reader,
    index::{Table, keys},
};

/// How many names one step looks at.
const STEP_NAMES: usize = 256;

/// A comparison of a scrub at work.
#[derive(Debug)]
pub(crate) struct LiveScrub {
    checking: Checking,
    /// The name that was looked at last.
    after: Option<(FileId, Name)>,
}

/// What a step of it did.
#[derive(Debug, Default)]
pub(crate) struct LiveStepped {
    /// How much was compared, in bytes.
    pub(crate) bytes: u64,
    /// What differs.
    pub(crate) differences: Vec<Difference>,
    /// There is more to compare.
    pub(crate) more: bool,
}

impl LiveScrub {
    /// Returns one that goes on after the name of a key, or begins where there is none.
    pub(crate) fn after(key: &[u8]) -> Self {
        let mut checking = Checking::new(true);
        checking.folders.clear();
        Self { checking, after: keys::read_name(Table::Live, key).ok() }
    }

    /// Returns the key after which it goes on. A file that it is in the middle of is begun anew then.
    pub(crate) fn key(&self) -> Vec<u8> {
        self.after.as_ref().map(|(parent, name)| keys::name(*parent, name)).unwrap_or_default()
    }
}

impl LiveTree {
    /// Applies what is new and compares some of the tree with the index, about so many bytes; what differs is made right with the
    /// next [`Self::apply`], and what was there is kept.
    pub(crate) fn scrub_step(
        &mut self,
        reader: &Reader,
        scrub: &mut LiveScrub,
        bytes_max: u64,
    ) -> Result<LiveStepped, LiveError> {
        let mut steps_left = CATCH_UP_STEPS;
        let Some(view) = self.catch_up(reader, &mut steps_left)? else {
            return Ok(LiveStepped { more: true, ..LiveStepped::default() });
        };
        let LiveScrub { checking, after } = scrub;
        (checking.step_bytes, checking.checked.bytes) = (bytes_max, 0);
        let (bytes_left, tree) = (bytes_max, &mut *self);
        let mut step = Step { tree, view, reader, checking, bytes_left, steps_left };
        let more = step.names(after)?;
        let bytes = checking.checked.bytes;
        let differences = std::mem::take(&mut checking.checked.differences);
        Ok(LiveStepped { bytes, differences, more })
    }
}

impl Step<'_> {
    /// Goes through the next names; false when that was all.
    fn names(&mut self, after: &mut Option<(FileId, Name)>) -> Result<bool, LiveError> {
        if let Some(Again { parent, entry, looks }) = self.checking.again.take() {
            self.entry(parent, entry, looks)?;
        } else if let Some(large) = self.checking.large.take()
            && !self.go_on(large)?
        {
            return Ok(true);
        }
        if self.checking.again.is_some() {
            return Ok(true);
        }
        if after.is_none() {
            self.names_there(FileId::ROOT)?;
        }
        let from = after.as_ref().map(|(parent, name)| (*parent, name));
        let page = self.view.names_after(from, STEP_NAMES)?;
        let is_full = page.len() == STEP_NAMES;
        for (parent, entry) in page {
            let (name, file, kind) = (entry.name.clone(), entry.file, entry.kind);
            if kind.is_live() {
                self.entry(parent, entry, 0)?;
            }
            if kind == Kind::Dir && self.checking.again.is_none() {
                self.names_there(file)?;
            }
            *after = Some((parent, name));
            // They come in the order of the index.
            self.checking.folders.clear();
            if self.bytes_left == 0
                || self.checking.large.is_some()
                || self.checking.again.is_some()
            {
                return Ok(true);
            }
        }
        Ok(is_full)
    }
}
