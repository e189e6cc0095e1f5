//! Points of a copy: named moments, as this station keeps them.

use std::collections::{BTreeMap, BTreeSet};

use keepshare_base::{CommitId, PointKind, Position, Stamp, VersionId};
use keepshare_control::{
    Failure, Outcome,
    points::{PointInfo, Verdict},
};
use keepshare_host::clock;
use keepshare_namespace::Who;
use keepshare_versioning::{POINTS_IN_ALL_MAX, View, among_last, retention::Now, when::When};

use crate::{
    asking::read_failure,
    replica::Replica,
    verdicts::Judged,
    writer::{now_soon, on_writer},
};

/// The longest name of a point, in characters.
const NAME_CHARS_MAX: usize = 64;

/// Returns the points of a copy, oldest first, as somebody may know them.
pub fn list(copy: &Replica, who: Who<'_>) -> Outcome<Vec<PointInfo>> {
    let view = copy.reader().view().map_err(read_failure)?;
    let now = match now_soon(&*copy.open_store()?) {
        Some(now) => now,
        None => as_of_newest(&view)?,
    };
    let known = view.points(CommitId(0), POINTS_IN_ALL_MAX).map_err(read_failure)?;
    let among = known.iter().zip(among_last(&known));
    let last: BTreeSet<Position> =
        among.filter(|(_, is_among)| *is_among).map(|(point, _)| point.position).collect();
    let by_clock = |at: u64| {
        let left = i64::try_from(at.saturating_sub(now.running_micros)).unwrap_or(i64::MAX);
        Stamp(now.clock.0.saturating_add(left)).to_string()
    };
    let verdicts: BTreeMap<String, Judged> = copy.verdicts().known();
    let info = |point: keepshare_versioning::PointInfo| {
        let commit = view.commit_info(point.commit).map_err(read_failure)?;
        let until = point.until();
        let is_among_last = last.contains(&point.position);
        let id = VersionId(point.position).to_string();
        let judged = verdicts.get(&id);
        Ok(PointInfo {
            set: copy.catalog().set().to_string(),
            time: commit.map(|commit| commit.stamp.to_string()).unwrap_or_default(),
            kind: kind_word(point.point.kind).to_owned(),
            until: (until != u64::MAX).then(|| by_clock(until)),
            one_of_last: point.schedule.filter(|_| is_among_last).map(|schedule| schedule.keep),
            held: point.held > now.running_micros,
            held_until: (point.held > now.running_micros && point.held != u64::MAX)
                .then(|| by_clock(point.held)),
            kept_here: point.kept_here,
            point: point.point.name,
            verdict: judged.map(|judged| judged.verdict),
            checked: judged.map(|judged| judged.time.clone()),
            id,
        })
    };
    copy.catalog().points(who)?.into_iter().map(info).collect()
}

/// Returns what time it was for a copy when the newest change came: where its writer is busy, what ends when is told from there.
fn as_of_newest(view: &View) -> Outcome<Now> {
    let newest = view.commit_info(view.newest_commit().map_err(read_failure)?);
    let newest = newest.map_err(read_failure)?;
    let then = newest.map(|info| (info.running_micros, info.arrival));
    let (running_micros, clock) = then.unwrap_or((0, clock::now()));
    Ok(Now { running_micros, clock })
}

/// Has this station keep a point whatever its master says, or leave it to the master again.
pub fn keep_here(copy: &Replica, point: Position, kept: bool) -> Outcome<()> {
    on_writer(&*copy.open_store()?, move |store| {
        store.keep_point(point, kept)?;
        Ok(store.sync().map(drop)?)
    })
}

/// Ends a point at this station, at once.
pub fn drop_here(copy: &Replica, point: Position) -> Outcome<()> {
    on_writer(&*copy.open_store()?, move |store| {
        store.drop_point(point)?;
        Ok(store.sync().map(drop)?)
    })
}

/// Notes at this station what somebody found a point to be; `None`: nobody knows any more.
pub fn mark(copy: &Replica, point: Position, verdict: Option<Verdict>) -> Outcome<()> {
    let view = copy.reader().view().map_err(read_failure)?;
    let known = view.points(CommitId(0), POINTS_IN_ALL_MAX).map_err(read_failure)?;
    let ids: Vec<String> =
        known.iter().map(|point| VersionId(point.position).to_string()).collect();
    let ids = ids.iter().map(String::as_str).collect();
    copy.verdicts().note(&VersionId(point).to_string(), verdict, &ids)
}

/// Holds that a point can be called so: on every drive, and without being taken for anything else.
pub fn check_name(name: &str) -> Outcome<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    let why = if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_plain) {
        "is no name for a point: it has 1 to 64 of A-Z a-z 0-9 - _ . +"
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        "is no name for a point: it begins with a letter or a digit"
    } else if name.parse::<When>().is_ok() || name.parse::<VersionId>().is_ok() {
        "is a time or the id of a version"
    } else {
        return Ok(());
    };
    Err(Failure::usage(format!("'{name}' {why}")).hint("as in before-upgrade"))
}

/// Returns what a kind of points is called.
pub fn kind_word(kind: PointKind) -> &'static str {
    match kind {
        PointKind::App => "app",
        PointKind::Crash => "crash",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_called_by_what_can_be_typed() {
        for name in ["before-upgrade", "a", "release_7.1+b", "7-zip-and-more"] {
            check_name(name).unwrap();
        }
        let long = "x".repeat(65);
        for name in [
            "",
            "_points",
            ".hidden",
            "a b",
            "a/b",
            "ä",
            "2h",
            "yesterday",
            "2026-11-20",
            "v1.1.7",
            &long,
        ] {
            check_name(name).unwrap_err();
        }
    }
}
