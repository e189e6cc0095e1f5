//! Reading for the live tree: what was kept a moment ago comes from the memory that it was written from.

use std::ops::Range;

use super::{READ_BYTES_MAX, Reader, View, planned};
use crate::{
    FileState, ReadError,
    body::{Frames, ReadPlan, Stretch, plan_read},
    pack::{PackError, PackLoc, PackReader},
};

/// Packs of which what was written last is taken from memory.
struct Fresh<'a>(&'a PackReader);

impl Frames for Fresh<'_> {
    fn read(&self, loc: PackLoc) -> Result<Vec<u8>, PackError> {
        let mut bytes = vec![];
        self.0.look_fresh(loc, |seen| bytes.extend_from_slice(seen))?;
        Ok(bytes)
    }

    fn look(&self, loc: PackLoc, look: &mut dyn FnMut(&[u8])) -> Result<(), PackError> {
        self.0.look_fresh(loc, look)
    }
}

impl Reader {
    /// Shows what [`Self::read_fresh`] appends, frame by frame, each with where in the file it begins; nothing of it is copied.
    /// False where some of it is in no frame, or cannot be had so: what was shown until then is right.
    pub(crate) fn show_fresh(
        &self,
        view: &View,
        state: &FileState,
        range: Range<u64>,
        show: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<bool, ReadError> {
        let plan = view.plan_known(state, range.start, range.end.min(state.meta.size))?;
        let Some(stretches) = plan.frames() else { return Ok(false) };
        for Stretch { start, len, loc, skip } in stretches {
            let mut is_shown = false;
            let looked = self.shared.packs.look_fresh(loc, |content| {
                if let Some(bytes) = content.get(skip..skip + len) {
                    show(start, bytes);
                    is_shown = true;
                }
            });
            if looked.is_err() || !is_shown {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Appends what [`Self::read_in`] returns to `out`, of a state that `view` gave. What was kept a moment ago is taken from
    /// memory: whoever asks wants the content, and not to know whether the disk still has it.
    pub(crate) fn read_fresh(
        &self,
        view: &View,
        state: &FileState,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let end = state.meta.size.min(offset.saturating_add(len.min(READ_BYTES_MAX) as u64));
        if offset >= end {
            return Ok(());
        }
        let plan = view.plan_known(state, offset, end)?;
        let read = plan.run_into(&Fresh(&self.shared.packs), out);
        read.or_else(|_| self.read_into(state, offset, len, out))
    }
}

impl View {
    /// Plans as [`Self::plan`] does, for a state that this very view gave.
    fn plan_known(&self, state: &FileState, offset: u64, end: u64) -> Result<ReadPlan, ReadError> {
        let (file, body, commit) = (state.file, &state.body.body, state.commit);
        self.ask(|rows| planned(file, plan_read(rows, body, commit, offset..end)))?
    }
}
