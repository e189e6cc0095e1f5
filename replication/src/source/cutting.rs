//! Which states are versions: the pure rule of [`keepshare_proto::cut`], for all files of a source.
//!
//! That a state is no version yet is kept in the map; here is only when its file was written, so a restart makes
//! versions a moment later.

use std::{collections::HashMap, time::Instant};

use keepshare_base::FileId;
use keepshare_proto::{
    MonoTime,
    cut::{CutInput, CutRule, CutState},
};

/// When files were written whose states are no versions yet.
#[derive(Debug)]
pub(crate) struct Cutting {
    rule: CutRule,
    began: Instant,
    files: HashMap<FileId, CutState>,
}

impl Cutting {
    /// Begins with nothing written.
    pub(crate) fn new(rule: CutRule) -> Self {
        Self { rule, began: Instant::now(), files: HashMap::new() }
    }

    /// Hears that a file was written, and perhaps closed; tells whether its state is a version.
    pub(crate) fn written(&mut self, file: FileId, closed: bool) -> bool {
        let cut = self.input(file, CutInput::Written).is_some();
        let cut = (closed && self.input(file, CutInput::Closed).is_some()) || cut;
        if cut {
            self.files.remove(&file);
        }
        cut
    }

    /// Hears that there is a state from before that is no version yet.
    pub(crate) fn was_written(&mut self, file: FileId) {
        if !self.files.contains_key(&file) {
            self.input(file, CutInput::Written);
        }
    }

    /// Forgets a file.
    pub(crate) fn forget(&mut self, file: FileId) {
        self.files.remove(&file);
    }

    /// Takes the files whose states are versions because time has passed.
    pub(crate) fn due(&mut self) -> Vec<FileId> {
        let (now, rule) = (self.now(), self.rule);
        let mut due = Vec::new();
        self.files.retain(|file, state| {
            let cut = state.handle_input(rule, now, CutInput::Tick).is_some();
            if cut {
                due.push(*file);
            }
            !cut
        });
        due
    }

    /// Tells whether time alone will make a version.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.files.is_empty()
    }

    fn input(&mut self, file: FileId, input: CutInput) -> Option<keepshare_proto::cut::Cut> {
        let (now, rule) = (self.now(), self.rule);
        self.files.entry(file).or_default().handle_input(rule, now, input)
    }

    fn now(&self) -> MonoTime {
        MonoTime(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}
