//! What keeps the versions of one name, and until when at least.

use std::collections::HashMap;

use keepshare_base::{SetPath, Stamp};
use keepshare_versioning::{
    ReadError, Reader,
    retention::{Fate, Now, Policy, outlook},
    set::SetStore,
};

use crate::{
    asking::{AllKept, Kept},
    writer::now_soon,
};

/// A second, in microseconds.
const SECOND: i64 = 1_000_000;

/// Returns what keeps each version of a path by the history of its name alone; `None` where it has more than so many, or it cannot be
/// told just now.
pub fn kept(
    reader: &Reader,
    store: &SetStore,
    policy: &Policy,
    path: &SetPath,
    versions_max: usize,
) -> Option<AllKept> {
    let now = now_soon(store)?;
    read(reader, policy, now, path, versions_max).unwrap_or_else(|error| {
        tracing::debug!(%error, "what keeps versions is not told");
        None
    })
}

fn read(
    reader: &Reader,
    policy: &Policy,
    now: Now,
    path: &SetPath,
    versions_max: usize,
) -> Result<Option<AllKept>, ReadError> {
    let view = reader.view()?;
    let Some((parent, name)) = path.split_last() else { return Ok(None) };
    let Some(folder) = view.folders_at(&parent)?.into_iter().next() else { return Ok(None) };
    let outlook = outlook(&view, policy, now, (folder, name), versions_max)?;
    let kept = outlook.into_iter().flatten().map(|(shown, until)| {
        let because = match shown.fate {
            Fate::Kept(reasons) => reasons.iter().map(|reason| reason.word().to_owned()).collect(),
            Fate::Gone(_) => Vec::new(),
        };
        let until = until.and_then(|micros| i64::try_from(micros).ok());
        // To the second, so that it is the same a moment later.
        let until = until.map(|micros| now.clock.plus_micros(micros));
        let until = until.map(|until| Stamp(until.0.div_euclid(SECOND) * SECOND));
        ((shown.entry.state.file, shown.entry.state.commit), Kept { because, until })
    });
    Ok(Some(kept.collect::<HashMap<_, _>>()))
}
