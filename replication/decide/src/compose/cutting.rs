//! Which states are versions: the pure rule of [`keepshare_proto::cut`], for all files of a source.
//!
//! That a state is no version yet is kept in the map; here is only when its file was written, so a restart makes
//! versions a moment later.

use std::collections::HashMap;

use keepshare_base::FileId;
use keepshare_proto::{
    MonoTime,
    cut::{Cut, CutInput, CutRule, CutState},
};

/// When files were written whose states are no versions yet.
#[derive(Debug)]
pub struct Cutting {
    rule: CutRule,
    files: HashMap<FileId, CutState>,
}

impl Cutting {
    /// Begins with nothing written.
    pub fn new(rule: CutRule) -> Self {
        Self { rule, files: HashMap::new() }
    }

    /// Hears that a file was written, and perhaps closed; tells whether its state is a version.
    pub fn written(&mut self, now: MonoTime, file: FileId, closed: bool) -> bool {
        let cut = self.input(now, file, CutInput::Written).is_some();
        let cut = (closed && self.input(now, file, CutInput::Closed).is_some()) || cut;
        if cut {
            self.files.remove(&file);
        }
        cut
    }

    /// Hears that there is a state from before that is no version yet.
    pub fn was_written(&mut self, now: MonoTime, file: FileId) {
        if !self.files.contains_key(&file) {
            self.input(now, file, CutInput::Written);
        }
    }

    /// Forgets a file.
    pub fn forget(&mut self, file: FileId) {
        self.files.remove(&file);
    }

    /// Takes the files whose states are versions because time has passed.
    pub fn due(&mut self, now: MonoTime) -> Vec<FileId> {
        let rule = self.rule;
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

    /// Takes all files whose states are no versions yet: a point is made.
    pub fn point(&mut self, now: MonoTime) -> Vec<FileId> {
        let rule = self.rule;
        let each = std::mem::take(&mut self.files).into_iter();
        let is_cut = |(file, mut state): (FileId, CutState)| {
            state.handle_input(rule, now, CutInput::Point).map(|_| file)
        };
        let mut cut: Vec<FileId> = each.filter_map(is_cut).collect();
        cut.sort_unstable();
        cut
    }

    /// Tells whether time alone will make a version.
    pub fn is_waiting(&self) -> bool {
        !self.files.is_empty()
    }

    fn input(&mut self, now: MonoTime, file: FileId, input: CutInput) -> Option<Cut> {
        self.files.entry(file).or_default().handle_input(self.rule, now, input)
    }
}
