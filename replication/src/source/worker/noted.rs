//! What is remembered of looks beside the map: files that may be written without an event.

use std::time::{Duration, Instant};

use keepshare_base::{FileId, Kind, Name, Stamp};
use keepshare_decide::{look::Findings, turn::Settled};

use super::Worker;
use crate::source::{
    shared::lock,
    sweep::{CHANGED_FOR, Noted, STORE_BYTES_MIN},
};

/// A file that was looked at and may be written to without an event.
pub(super) struct NotedFile {
    file: FileId,
    name: Name,
    size: u64,
    age: Duration,
    scan: bool,
}

/// Returns the files among those found that may be written to without an event.
pub(super) fn noted(found: &Findings, settled: &[Settled], now: Stamp) -> Vec<NotedFile> {
    let found = found.files.iter().filter_map(|(file, at)| {
        let name = at.name.as_ref().filter(|_| at.seen.kind == Kind::File)?;
        Some((*file, name, &at.seen.signature, at.suspect))
    });
    let settled = settled.iter().map(|Settled { file, name, signature }| {
        // By a scan.
        (*file, name, signature, true)
    });
    let noted = found.chain(settled).filter_map(|(file, name, signature, scan)| {
        let changed = signature.mtime.max(signature.ctime).to_stamp();
        let age = Duration::from_micros(u64::try_from(now.micros_since(changed)).unwrap_or(0));
        let size = signature.size;
        let is_noted = size >= STORE_BYTES_MIN || age < CHANGED_FOR;
        is_noted.then(|| NotedFile { file, name: name.clone(), size, age, scan })
    });
    noted.collect()
}

impl Worker {
    /// Has files asked about whether somebody has them open for writing.
    pub(super) fn note_files(&self, noted: &[NotedFile], lost: &[FileId]) {
        if noted.is_empty() && lost.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut sweep = lock(&self.shared.sweep);
        for NotedFile { file, name, size, age, scan } in noted {
            sweep.note(now, Noted { file: *file, name, size: *size, age: *age, scan: *scan });
        }
        for file in lost {
            sweep.forget(*file);
        }
    }
}
